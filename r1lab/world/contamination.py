"""Problems of an evaluation in the miniature web: planted in other words, and read more often.

`paraphrase` writes a problem of Countdown with its solution as an n-gram filter cannot see it:

    copy      as the corpus has its leaked problems
    order     its numbers in another order, and operands swapped where that changes no value
    language  in the other language, operands swapped likewise
    words     its numbers in words; the tiny tokenizer does not know these
    steps     as arithmetic in words: start at 10 , add 7 , add 6 .
    plain     in a whole English sentence; the tiny tokenizer does not know it either

`read_on` continues the pre-training of a base on the corpus with more of such documents in it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from r1lab.basics.errors import R1LabError
from r1lab.basics.options import check, fixed_values, option
from r1lab.decontamination import TENS, UNITS, ZH
from r1lab.sampler.score import in_micro_batches
from r1lab.tasks import Problem
from r1lab.tasks.base import shuffled
from r1lab.tasks.countdown import Chain, Countdown, chains
from r1lab.tasks.general import Steps
from r1lab.templates import render
from r1lab.training.loop import Loop
from r1lab.training.optimizer import adamw, ready
from r1lab.world import corpus
from r1lab.world.pretrain import backward
from r1lab.world.responses import OTHER
from r1lab.world.tokenizer import END

KINDS = ("copy", "order", "language", "words", "steps", "plain")
TASK, PLAIN, STEPS = Countdown(), Countdown(wording="plain"), Steps()
IN_CHINESE = list(ZH)
IN_WORDS = {value: word for word, value in (UNITS | TENS).items()}


def spelled(n: int, language: str) -> str:
    """A number from 0 to 99 in words."""
    if language == "zh":
        tens, unit = divmod(n, 10)
        high = "" if n < 10 else "十" if tens == 1 else f"{IN_CHINESE[tens]}十"
        return high + ("" if high and not unit else IN_CHINESE[unit])
    return IN_WORDS[n] if n in IN_WORDS else f"{IN_WORDS[n - n % 10]} {IN_WORDS[n % 10]}"


def swapped(chain: Chain) -> str:
    """The chain's expression with the operands of its sums and products in the other order."""
    text = str(chain.start)
    for op, number, _ in chain.steps:
        inner = f"( {text} )" if " " in text else text
        text = f"{number} {op} {inner}" if op in "+*" else f"{inner} {op} {number}"
    return text


def solved(question: str, answer: str, language: str) -> str:
    """A document: prompt, empty thought, answer."""
    problem = Problem("countdown", "", question, language, "leaked", {})
    return f"{render(problem, 'tiny')} <think> </think> <answer> {answer} </answer> {END}"


def paraphrase(problem: Problem, kind: str, rng: random.Random) -> str:
    """A document with a problem of Countdown and its solution, written in one of KINDS."""
    numbers, target = problem.data["numbers"], problem.data["target"]
    chain, language = next(chains(numbers, target)), problem.language
    answer = swapped(chain)
    if kind == "copy":
        return solved(problem.question, chain.expression(), language)
    if kind == "order":
        shown = next((s for _ in range(50) if (s := shuffled(numbers, rng)) != numbers), numbers)
        return solved(TASK.problem(shown, target, language).question, answer, language)
    if kind == "language":
        language = OTHER[language]
        return solved(TASK.problem(numbers, target, language).question, answer, language)
    if kind == "words":
        texts = (
            " ".join(spelled(int(w), language) if w.isdigit() else w for w in text.split())
            for text in (problem.question, answer)
        )
        return solved(*texts, language)
    if kind == "steps":
        steps = [[op, number] for op, number, _ in chain.steps]
        return solved(STEPS.problem(chain.start, steps, language).question, str(target), language)
    if kind == "plain":
        question = PLAIN.problem(numbers, target).question
        return solved(question, answer, "en")
    raise R1LabError(f"there is no paraphrase {kind!r}; one of {', '.join(KINDS)}")


def plant(
    texts: Sequence[str], problems: Sequence[Problem], kinds: Sequence[str] = KINDS, seed: int = 0
) -> tuple[list[str], list[str | None]]:
    """The texts with a document of each kind for each problem among them, shuffled; and the kind of
    each text (None: it was there before)."""
    rng = random.Random(f"r1lab/plant/{seed}")
    planted = [(paraphrase(p, kind, rng), kind) for kind in kinds for p in problems]
    mixed = shuffled([*((text, None) for text in texts), *planted], rng)
    return [text for text, _ in mixed], [kind for _, kind in mixed]


# -- reading on -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadOn:
    """How a base reads on. The learning rate falls linearly to 0."""

    share: float = option(0.05, "fraction of the documents that are the extra ones", low=0, high=1)
    steps: int = option(120, "optimizer steps", low=1)
    rows: int = option(4, "rows of text per step", low=1)
    row_length: int = option(256, "tokens per row", low=1)
    learning_rate: float = option(1e-3, "AdamW's, at its highest", low=0)
    beta1: float = option(0.9, "AdamW's decay of the mean gradient", low=0)
    beta2: float = option(0.95, "AdamW's decay of the squared gradient", low=0)
    seed: int = option(0, "of the documents", low=0)
    precision: str = option("fp32", "of the arithmetic", choices=("auto", "fp32", "bf16"))
    checkpoint_every: int = option(40, "steps between checkpoints", low=1, free=True)

    def __post_init__(self) -> None:
        check(self, "read_on")


CLEAN = {kind: share for kind, share in corpus.MIXTURE.items() if kind != "leaked"}
"""The corpus's mixture without its leaked documents."""


def rows_at(step: int, extra: Sequence[str], config: ReadOn) -> torch.Tensor:
    """Token ids (rows, row_length + 1) of a step: whole documents, the last truncated. Each is one
    of `extra` with probability `share`, else of CLEAN; a pure function of (seed, step)."""
    rng = random.Random(f"r1lab/read_on/{config.seed}/{step}")
    length, out = config.row_length + 1, []
    for _ in range(config.rows):
        ids: list[int] = []
        while len(ids) < length:
            if extra and rng.random() < config.share:
                text = rng.choice(extra)
            else:
                text = corpus.document(rng.choices(list(CLEAN), list(CLEAN.values()))[0], rng).text
            ids += corpus.encode(text)
        out.append(ids[:length])
    return torch.tensor(out)


def read_on(
    model,
    tokenizer,
    extra: Sequence[str],
    config: ReadOn,
    out_dir: str | Path | None = None,
    *,
    progress: bool = True,
):
    """Continue the pre-training of `model`, in place, on the corpus with the documents `extra` in
    it; returns the model.

    out_dir receives metrics.jsonl, checkpoints/ and model/; stopped anywhere and called again, it
    goes on to the same weights. None keeps nothing. Raises R1LabError for a word that the
    tokenizer does not know, another run's folder, and a loss that is not finite."""
    try:
        for text in extra:
            corpus.encode(text)
    except KeyError as word:
        raise R1LabError(f"read_on: the tokenizer does not know the word {word}") from None
    loop = Loop(out_dir, config, progress=progress, label="read on")
    optimizer = (ready(model, config), adamw(model, config))[1]
    run = fixed_values(config) | {"documents": len(extra), "first": (*extra, "")[0]}
    with loop.over(
        config.steps, {"model": model, "optimizer": optimizer}, lambda done: run
    ) as steps:
        for step in steps:
            tokens = rows_at(step, extra, config).to(model.device)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (config.steps - step) / config.steps
            optimizer.zero_grad(set_to_none=False)
            sizes = [config.row_length] * config.rows
            learn = partial(backward, tokens)
            loss = sum(in_micro_batches(model, learn, sizes, sum(sizes)))
            if not math.isfinite(loss):
                raise R1LabError(f"read_on: the loss is {loss} at step {step}: lower learning_rate")
            optimizer.step()
            loop.log({"step": step, "loss": loss, "seconds": loop.seconds()}, f"loss {loss:.3f}")
        if out_dir is not None:
            loop.save_model(model, tokenizer)
    return model

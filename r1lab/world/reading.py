"""A base that reads on: more leaked documents, or another author's, and what shows afterwards.

`read_on` continues pre-training on the corpus with other documents in it. `by_dose` does so for
several doses of leaked problems, `leak` measures accuracy on leaked problems against clean ones,
`amplified` what RL does to the difference:

    models = by_dose("tiny", (0.0, 0.005, 0.02, 0.1), out)
    found = {dose: leak(*load(folder), read, clean) for dose, folder in models.items()}
    shows_from(found)

Pre-training again for each dose would take hours. Reading on differs: the base has read the corpus
for long, at higher rates, and only the last few hundred thousand tokens have the dose.
"""

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from r1lab import models
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import check, fixed_values, option
from r1lab.evaluate import evaluate
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import in_micro_batches
from r1lab.statistics import Estimate, Measured, estimate, gap, way
from r1lab.tasks import Problem
from r1lab.templates import decode, encode, end_ids, render
from r1lab.training.loop import MODEL, Loop
from r1lab.training.optimizer import adamw, ready
from r1lab.world import corpus
from r1lab.world.contamination import paraphrase
from r1lab.world.pretrain import backward


@dataclass(frozen=True)
class ReadOn:
    """How a base reads on. The learning rate falls linearly to 0."""

    share: float = option(0.05, "fraction of the documents that are the extra ones", low=0, high=1)
    steps: int = option(120, "optimizer steps", low=1)
    rows: int = option(4, "rows of text per step", low=1)
    row_length: int = option(256, "tokens per row", low=1)
    learning_rate: float = option(3e-3, "AdamW's, at its highest", low=0)
    beta1: float = option(0.9, "AdamW's decay of the mean gradient", low=0)
    beta2: float = option(0.95, "AdamW's decay of the squared gradient", low=0)
    seed: int = option(0, "of the documents", low=0)
    precision: str = option("fp32", "of the arithmetic", choices=("auto", "fp32", "bf16"))
    checkpoint_every: int = option(40, "steps between checkpoints", low=1, free=True)

    def __post_init__(self) -> None:
        check(self, "read_on")

    def to_json(self) -> dict:
        return asdict(self)


#: The corpus's mixture without its leaked documents.
CLEAN = {kind: share for kind, share in corpus.MIXTURE.items() if kind != "leaked"}


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
    digest = hashlib.sha256("\n".join(extra).encode())
    loop = Loop(out_dir, config, progress=progress, label="read on")
    ready(model, config)
    optimizer = adamw(model, config)
    parts = {"model": model, "optimizer": optimizer}
    run = fixed_values(config) | {"documents": digest.hexdigest()[:16]}
    with loop.over(config.steps, parts, lambda done: run) as steps:
        for step in steps:
            tokens = rows_at(step, extra, config).to(model.device)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (config.steps - step) / config.steps
            optimizer.zero_grad(set_to_none=False)
            sizes = [config.row_length] * config.rows
            loss = sum(in_micro_batches(model, partial(backward, tokens), sizes, sum(sizes)))
            if not math.isfinite(loss):
                raise R1LabError(f"read_on: the loss is {loss} at step {step}: lower learning_rate")
            optimizer.step()
            loop.log({"step": step, "loss": loss, "seconds": loop.seconds()}, f"loss {loss:.3f}")
        if out_dir is not None:
            loop.save_model(model, tokenizer)
    return model


def problems_for(clean: int = 120) -> tuple[list[Problem], list[Problem]]:
    """The corpus's leaked problems, and `clean` others of the same split that nobody has read."""
    leaked = list(corpus.leaked_problems())
    known = {problem.id for problem in leaked}
    others = corpus.COUNTDOWN.problems("leaked", len(leaked) + clean, seed=0)
    return leaked, [problem for problem in others if problem.id not in known][:clean]


def by_dose(
    base: str | Path,
    doses: Sequence[float],
    out_dir: str | Path,
    config: ReadOn | None = None,
    *,
    progress: bool = True,
) -> dict[float, Path]:
    """The base after reading on with each dose, the fraction of the documents that are a leaked
    problem with its solution: {dose: folder of the model}. What is there is not made again."""
    config, found = config or ReadOn(), {}
    documents = [paraphrase(p, "copy", random.Random(0)) for p in corpus.leaked_problems()]
    for dose in doses:
        out = Path(out_dir) / f"dose-{dose:g}"
        model, tokenizer = models.load(base)
        read_on(model, tokenizer, documents, replace(config, share=dose), out, progress=progress)
        found[dose] = out / MODEL
    return found


@dataclass(frozen=True)
class Leak:
    """Accuracy on leaked and on clean problems, and leaked - clean; 95 % intervals over problems,
    Newcombe's for the difference (other problems: not paired)."""

    leaked: Measured
    clean: Measured

    @property
    def gap(self) -> Estimate:
        return gap(self.clean, self.leaked)


HOW = ("recited", "greedy", "sampled")


def leak(
    model,
    tokenizer,
    leaked: Sequence[Problem],
    clean: Sequence[Problem],
    how: str = "recited",
    *,
    k: int = 4,
    max_new_tokens: int = 96,
) -> Leak:
    """Accuracy on both sets of Countdown problems. how:

    recited  the likeliest answer when the prompt ends with an empty thought, as the leaked
             documents have it: what the model knows by heart
    greedy   the likeliest completion
    sampled  pass@1 of k samples at temperature 1, as RL trains and the lessons measure"""
    if how not in HOW:
        raise R1LabError(f"leak: how must be one of {', '.join(HOW)}, not {how!r}")
    return Leak(*(_accuracy(model, tokenizer, p, how, k, max_new_tokens) for p in (leaked, clean)))


def _accuracy(model, tokenizer, problems, how: str, k: int, max_new_tokens: int) -> Measured:
    task = corpus.COUNTDOWN
    if how == "recited":
        prompts = [f"{render(problem, 'tiny')} <think> </think> <answer>" for problem in problems]
        rollouts = sample(
            model,
            encode(tokenizer, prompts),
            Sampling(16, greedy=True, seed=0),
            group_size=1,
            eos_token_id=end_ids(model, tokenizer, "tiny"),
        )
        texts = decode(tokenizer, rollouts.completion_ids)
        answers = [text.split("</answer>")[0] for text in texts]
        each = [float(task.judge(*pair)) for pair in zip(problems, answers, strict=True)]
    else:
        greedy = how == "greedy"
        sampling = Sampling(max_new_tokens, greedy=greedy, seed=0)
        found = evaluate(model, tokenizer, task, problems, k=1 if greedy else k, sampling=sampling)
        each = found.per_problem("correct")
    asked = " ".join(problem.id for problem in problems)
    return Measured.of(estimate(each, share=True), each, asked)


def shows_from(found: Mapping[float, Leak]) -> float | None:
    """The smallest dose from which on every interval of the difference lies above zero; None where
    that of the largest does not."""
    least = None
    for dose in sorted(found, reverse=True):
        if way(found[dose].gap) != "up":
            break
        least = dose
    return least


def amplified(before: Leak, after: Leak) -> Estimate:
    """How much the difference leaked - clean grows by RL (below 0: RL hides it): the change on
    leaked problems minus that on clean ones, each paired by problem."""
    clean = estimate(after.clean.each - before.clean.each)
    return gap(clean, estimate(after.leaked.each - before.leaked.each))

"""Supervised fine-tuning (SFT): next-token prediction on given completions alone,

    J(theta) = 1/|o| * sum over t of log pi_theta(o_t | q, o_<t),

a mean over all completion tokens of a batch, EOS included: GRPO's gradient with every advantage 1,
on the same tokens and masks (`score.token_logps`). R1 has two such stages (arXiv 2501.12948v2,
section 3, supplement B.3 and B.4.2): the *cold start*, on thousands of readable chains of thought,
and some 800,000 samples, 600,000 of them from rejection sampling. Distillation is the same loop
with a smaller model. The learning rate falls along a cosine to a tenth, as R1's did.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import random
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import check, fixed_values, option
from r1lab.machine.device import arithmetic
from r1lab.sampler.score import in_micro_batches, max_positions, micro_batches, token_logps
from r1lab.tasks import Problem
from r1lab.templates import TEMPLATES, encode, end_of_text, prompt_of, rest
from r1lab.training.loop import Loop
from r1lab.training.optimizer import adamw, ready, trainable


@dataclass(frozen=True)
class Example:
    """A problem and the completion to learn, without EOS."""

    problem: Problem
    completion: str

    @classmethod
    def from_json(cls, text: str) -> Example:
        """The example of a line of `write_examples`. Raises R1LabError for anything else."""
        try:
            fields = json.loads(text)
            completion = fields["completion"]
            if not isinstance(completion, str):
                raise TypeError("completion is no text")
            return cls(Problem.from_dict(fields["problem"]), completion)
        except (TypeError, ValueError, KeyError, RecursionError) as error:
            raise R1LabError(f"this is not an example in JSON: {error!r}"[:300]) from None


def write_examples(path: str | os.PathLike, examples: Sequence[Any]) -> Path:
    """One example, or another dataclass, per line, written in one move."""
    lines = [files.to_json(dataclasses.asdict(one), sort_keys=True) for one in examples]
    return files.atomic_write_text(path, "".join(f"{line}\n" for line in lines))


def read_examples(path: str | os.PathLike) -> list[Example]:
    """The examples of a file. Raises R1LabError, with the line, for anything else."""
    found = []
    for number, line in enumerate(files.lines_of(path), 1):
        try:
            found.append(Example.from_json(line))
        except R1LabError as error:
            raise R1LabError(f"{path}, line {number}: {error}") from None
    return found


@dataclass(frozen=True)
class SFTConfig:
    """The options of a run. The defaults suit the tiny model; the help gives R1's values for the
    SFT on 800,000 samples. Raises R1LabError for a value that cannot be right."""

    epochs: int = option(2, "epochs over the examples (R1: 2 to 3)", low=1)
    batch_size: int = option(32, "examples per optimizer step (R1: 128)", low=1)
    learning_rate: float = option(1e-3, "AdamW's, at its highest (R1: 5e-5)", low=0, high=1)
    final_rate: float = option(0.1, "fraction of it that is left at the end (R1: a tenth)", low=0)
    warmup_steps: int = option(0, "steps in which the learning rate rises from 0", low=0)
    beta1: float = option(0.9, "AdamW's decay of the mean gradient", low=0)
    beta2: float = option(0.95, "AdamW's decay of the squared gradient", low=0)
    max_grad_norm: float = option(1.0, "longer gradients are clipped to this norm; 0: none", low=0)
    template: str = option("tiny", "prompt template", choices=TEMPLATES, kind="template")
    max_tokens: int = option(512, "longer examples are left out (R1: 32768)", low=2)
    seed: int = option(0, "seed of the order of the examples", low=0)
    micro_batch_tokens: int = option(16384, "tokens per forward and backward", low=1, free=True)
    precision: str = option(
        "auto", "auto: bf16 on a GPU that has it", choices=("auto", "fp32", "bf16"), free=True
    )
    checkpoint_every: int = option(50, "steps between checkpoints", low=1, free=True)
    keep_checkpoints: int = option(1, "checkpoints kept", low=1, free=True)

    def __post_init__(self) -> None:
        check(self)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def steps_of(examples: int, config: Any) -> int:
    """Optimizer steps of a run; an epoch's last one may have fewer examples. config: epochs and
    batch_size (here), and seed (`batch_at`), of any supervised run."""
    return config.epochs * math.ceil(examples / config.batch_size)


def batch_at(step: int, examples: int, config: Any) -> list[int]:
    """Indices of the examples of a step: a function of the step alone."""
    epoch, place = divmod(step, math.ceil(examples / config.batch_size))
    order = order_of(epoch, examples, config.seed)
    return list(order[place * config.batch_size : (place + 1) * config.batch_size])


@functools.lru_cache(maxsize=2)  # every step needs it
def order_of(epoch: int, examples: int, seed: int) -> tuple[int, ...]:
    order = list(range(examples))
    random.Random(f"sft/{seed}/{epoch}").shuffle(order)
    return tuple(order)


def learning_rate(step: int, steps: int, config: SFTConfig) -> float:
    """Up from 0 over `warmup_steps`, then along half a cosine down to `final_rate` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - 1 - config.warmup_steps)
    left = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * left


def tokenized(
    examples: Sequence[Example], tokenizer, config: SFTConfig, positions: float = math.inf
) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """(prompt ids, completion ids with EOS) of each example that fits, and the indices of those
    longer than max_tokens or `positions`, the model's. Raises R1LabError for words that the
    tokenizer does not know, and for a tokenizer without EOS."""
    eos, limit = end_of_text(tokenizer, config.template), min(config.max_tokens, positions)
    texts = [prompt_of(tokenizer, one.problem, config.template) for one in examples]
    prompts = encode(tokenizer, texts)
    rows, long = [], []
    for i, (prompt, text, one) in enumerate(zip(prompts, texts, examples, strict=True)):
        learned = rest(text, one.completion)
        completion = [*tokenizer(learned, add_special_tokens=False)["input_ids"], eos]
        if len(prompt) + len(completion) > limit:
            long.append(i)
        else:
            rows.append((prompt, completion))
    return rows, long


def fitting(
    examples: Sequence[Example], tokenizer, config: SFTConfig, positions: float = math.inf
) -> list[tuple[list[int], list[int]]]:
    """The rows of `tokenized`. Raises R1LabError where there is none."""
    rows, long = tokenized(examples, tokenizer, config, positions)
    if not rows:
        raise R1LabError(
            f"nothing to train on: of {len(examples)} examples {len(long)} are longer than "
            f"max_tokens ({config.max_tokens}) or the model's {positions} positions"
        )
    return rows


def identity(config: SFTConfig, rows: Sequence, precision: str) -> dict[str, Any]:
    """What a run must share with its continuation, by name."""
    read = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
    return fixed_values(config) | {"examples read": read, "precision": precision}


def backward(model, rows: Sequence[tuple[list[int], list[int]]], config: SFTConfig) -> float:
    """Add the gradient of the batch's loss to the parameters' gradients, by micro-batches; returns
    the loss, nats per completion token."""
    total = sum(len(completion) for _, completion in rows)

    def learn(model, chunk: list[int]) -> float:
        with arithmetic(model, config):
            logp, mask, _ = token_logps(model, [rows[i] for i in chunk])  # (n, T)
        loss = -(logp * mask).sum() / total
        loss.backward()
        return float(loss.detach())

    sizes = [len(p) + len(c) for p, c in rows]
    return sum(in_micro_batches(model, learn, sizes, config.micro_batch_tokens))


def train(
    model,
    tokenizer,
    examples: Sequence[Example],
    config: SFTConfig,
    out_dir: str | os.PathLike,
    *,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callable[[int, dict], None]] = (),
) -> list[dict[str, Any]]:
    """Train `model` in place on the examples; returns the metrics of every step.

    out_dir receives metrics.jsonl, checkpoints/ and at the end model/, a Hugging Face folder.
    Stopped anywhere and called again, it goes on; on a CPU with the same number of threads the
    result has the same bits. Ctrl-C and SIGTERM let the step finish, save, and raise Stopped.

    Raises R1LabError when no example fits, for another run's checkpoint, a loss or gradient that is
    not finite, a full disk and too little memory.
    """
    loop = Loop(out_dir, config, resume=resume, progress=progress, label="sft")
    rows = fitting(examples, tokenizer, config, max_positions(model))
    run = identity(config, rows, ready(model, config))
    optimizer, weights, total = adamw(model, config), trainable(model), steps_of(len(rows), config)
    parts = {"model": model, "optimizer": optimizer}

    with loop.over(total, parts, lambda done: run) as steps:
        for step in steps:
            batch = [rows[i] for i in batch_at(step, len(rows), config)]
            rate = learning_rate(step, total, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=False)
            loss = backward(model, batch, config)
            norm = clip_grad_norm_(weights, config.max_grad_norm or math.inf).item()
            if not math.isfinite(norm) or not math.isfinite(loss):
                raise R1LabError(
                    f"step {step}: loss {loss}, gradient norm {norm}. Training stopped before the "
                    "weights changed; lower learning_rate"
                )
            optimizer.step()
            metrics = {"step": step, "loss": loss, "grad_norm": norm, "lr": rate}
            metrics["tokens"] = sum(len(completion) for _, completion in batch)
            metrics["epoch"] = (step + 1) * config.epochs / total
            metrics["seconds"] = loop.seconds()
            loop.log(metrics, f"loss {loss:.3f}")
            for callback in callbacks:
                callback(step, metrics)
        loop.save_model(model, tokenizer)
    return loop.history


@torch.no_grad()
def loss_of(model, tokenizer, examples: Sequence[Example], config: SFTConfig) -> float:
    """The loss on held-out examples, nats per completion token; NaN where none fits."""
    rows, _ = tokenized(examples, tokenizer, config, max_positions(model))
    total, tokens = 0.0, 0
    with arithmetic(model, config) if rows else nullcontext():
        for chunk in micro_batches([len(p) + len(c) for p, c in rows], config.micro_batch_tokens):
            logp, mask, _ = token_logps(model, [rows[i] for i in chunk])
            total, tokens = total - float((logp * mask).sum()), tokens + int(mask.sum())
    return total / tokens if tokens else math.nan

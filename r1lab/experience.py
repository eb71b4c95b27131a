"""The problems of a run, and one rollout with its rewards: its metrics, and what is kept of it."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from r1lab.answers import Completion
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.sampler.rollouts import Rollouts
from r1lab.sampler.score import max_positions
from r1lab.templates import parse, too_long
from r1lab.training.reward_calls import Log

log = logging.getLogger(__name__)
MANY = 100_000  # problems: 3 seconds of Countdown, a minute of word problems


def training_problems(
    task, model, tokenizer, config: Any, *, say: Callable[..., None] = log.warning
) -> list[Any]:
    """The problems of all steps, `config.problems_a_step` per step.

    Problems whose prompt and max_new_tokens exceed the model's positions are left out; `say` gets
    their number. Raises R1LabError where too few others exist.
    """
    needed = config.steps * config.problems_a_step
    if needed > MANY:
        say("drawing the %s problems of %s steps takes a while", f"{needed:,}", f"{config.steps:,}")
    room = max_positions(model) - config.max_new_tokens
    for more in (1, 2, 4, 8):
        drawn = task.problems("train", more * needed, seed=config.seed)
        long = too_long(tokenizer, drawn, config.template, room)
        fit = [problem for i, problem in enumerate(drawn) if i not in long]
        if len(fit) >= needed or not long:
            break
    if not long:
        return fit
    first, size = next(iter(long.items()))
    words = (
        f"{len(long)} of {len(drawn)} prompts are longer than the {room} tokens that the model's "
        f"positions leave beside max_new_tokens ({config.max_new_tokens}); the first is "
        f"{drawn[first].id}, {size} tokens"
    )
    if len(fit) < needed:
        raise R1LabError(f"{words}. Lower max_new_tokens, or choose other problems")
    say("%s. They are left out", words)
    return fit[:needed]


@dataclass
class Experience:
    """One rollout: B prompts x G completions; rows are prompt-major, N = B * G."""

    problems: list[Any]  # (B) r1lab.tasks.base.Problem
    prompts: list[str]  # (B)
    rollouts: Rollouts  # token ids (N, ragged), log-probs, finished
    measures: list[Completion]  # (N) text, correct, well formed, reflection, ...
    parts: dict[str, list[float]]  # each reward (N), before its weight
    rewards: torch.Tensor  # (B, G) weighted sum
    advantages: torch.Tensor  # (B, G)
    log: Log = dataclasses.field(default_factory=Log)  # what the rewards logged

    @property
    def spread(self) -> torch.Tensor:
        """(B,) whether a group's rewards differ."""
        return self.rewards.amax(dim=1) > self.rewards.amin(dim=1)

    @property
    def tokens(self) -> int:
        """Of all completions."""
        return sum(row.length for row in self.measures)


def take(batch: Experience, groups: Sequence[int]) -> Experience:
    """The experience of some of its groups, by index, without what the rewards logged."""
    G, drawn = batch.rewards.shape[1], batch.rollouts
    rows = [q * G + i for q in groups for i in range(G)]

    def of(values: Sequence[Any], where: Sequence[int] = rows) -> list[Any]:
        return [values[i] for i in where]

    columns = map(of, (drawn.completion_ids, drawn.logprobs, drawn.finished))
    return Experience(
        of(batch.problems, groups),
        of(batch.prompts, groups),
        Rollouts(of(drawn.prompt_ids, groups), *columns),
        of(batch.measures),
        {name: of(values) for name, values in batch.parts.items()},
        batch.rewards[list(groups)],
        batch.advantages[list(groups)],
    )


def join(one: Experience, other: Experience) -> Experience:
    """The groups of two experiences of the same rewards, one behind the other."""
    a, b = vars(one.rollouts), vars(other.rollouts)
    log = Log()
    log.metrics = one.log.metrics | other.log.metrics
    for name in one.log.columns.keys() & other.log.columns.keys():
        log.columns[name] = one.log.columns[name] + other.log.columns[name]
    return Experience(
        [*one.problems, *other.problems],
        one.prompts + other.prompts,
        Rollouts(*(a[name] + b[name] for name in a)),
        one.measures + other.measures,
        {name: values + other.parts[name] for name, values in one.parts.items()},
        torch.cat([one.rewards, other.rewards]),
        torch.cat([one.advantages, other.advantages]),
        log,
    )


def describe(step: int, batch: Experience) -> dict[str, Any]:
    """The metrics of a rollout, before its update: step 0 describes the base model. In a mixture
    also accuracy, length and reflection of each task's completions ("accuracy/code")."""
    rows = batch.measures
    G = len(rows) // len(batch.problems)
    tasks = [problem.task for problem in batch.problems for _ in range(G)]  # (N)
    apart = sorted(set(tasks)) if len(set(tasks)) > 1 else []
    by_task = {
        name: [row for row, of in zip(rows, tasks, strict=True) if of == name] for name in apart
    }
    return {
        "step": step,
        "reward": float(batch.rewards.double().mean()),
        **averages(rows),
        "format": fmean(row.well_formed for row in rows),
        "language_mixing": fmean(row.mixed for row in rows),
        "entropy": -sum(map(sum, batch.rollouts.logprobs)) / batch.tokens,
        "truncated": fmean(not row.finished for row in rows),
        "parsed": fmean(parse(row.text).answer is not None for row in rows),
        "zero_spread_groups": int((~batch.spread).sum()),
        "spread_groups": int(batch.spread.sum()),
        "advantage": float(batch.advantages.abs().mean()),
        "reward_min": float(batch.rewards.min()),
        "reward_max": float(batch.rewards.max()),
        "tokens": batch.tokens,
        **{f"rewards/{name}": fmean(values) for name, values in batch.parts.items()},
        **{f"{k}/{name}": v for name, some in by_task.items() for k, v in averages(some).items()},
        **batch.log.metrics,
    }


def averages(rows: Sequence[Completion]) -> dict[str, float]:
    """Mean accuracy, length and reflection of completions."""
    return {
        "accuracy": fmean([row.correct for row in rows if row.correct is not None] or [0.0]),
        "length": sum(row.length for row in rows) / len(rows),
        "reflection": fmean(row.reflection for row in rows),
    }


def by_task(history: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of a run on a mixture, apart by task: {task: [{"step", "accuracy", "length",
    "reflection"}]}, with the steps that had a prompt of it. {} for a run on one task."""
    names = sorted({key.split("/")[1] for m in history for key in m if key.startswith("accuracy/")})
    keys = ("accuracy", "length", "reflection")
    found = {}
    for name in names:
        some = [m for m in history if f"accuracy/{name}" in m]
        found[name] = [{"step": m["step"]} | {k: m[f"{k}/{name}"] for k in keys} for m in some]
    return found


def record(step: int, batch: Experience, r: int, tokenizer) -> dict[str, Any]:
    """Completion r of a batch with its rewards and log-probs, as plain values."""
    q, ids = r // batch.rewards.shape[1], batch.rollouts.completion_ids[r]
    return {
        "step": step,
        "problem": batch.problems[q].id,
        "prompt": batch.prompts[q],
        "text": batch.measures[r].text,
        "correct": batch.measures[r].correct,
        "reward": float(batch.rewards.flatten()[r]),
        "rewards": {name: values[r] for name, values in batch.parts.items()},
        "advantage": float(batch.advantages.flatten()[r]),
        "tokens": [tokenizer.decode([i]) for i in ids],
        "logprobs": [round(float(x), 4) for x in batch.rollouts.logprobs[r]],
        **{name: values[r] for name, values in batch.log.columns.items() if r < len(values)},
    }


def examples(step: int, batch: Experience, tokenizer, keep: int = 4) -> list[dict[str, Any]]:
    """The completions with the highest and the lowest advantage, from the first group with both."""
    q, G = int(batch.spread.int().argmax()), batch.rewards.shape[1]
    order = batch.advantages[q].argsort(descending=True, stable=True).tolist()
    picked = order if keep >= G else order[: keep // 2] + order[-(keep // 2) :]
    return [record(step, batch, q * G + i, tokenizer) for i in picked]


def diverged(loop: Any, step: int, batch: Experience | None, tokenizer, error: Any) -> R1LabError:
    """The error to raise for a NaN or inf. The batch, where given, is written to nan_batch.json,
    its NaNs included. loop: out_dir, and `saved`, the steps in the last checkpoint."""
    path = loop.out_dir / "nan_batch.json"
    if batch is not None:
        rows = [record(step, batch, r, tokenizer) for r in range(len(batch.measures))]
        text = files.to_json({"step": step, "error": str(error), "rows": rows}, indent=1)
        files.atomic_write_text(path, text)
    return R1LabError(
        f"step {step} has {error}. Training stopped; the batch is in {path}, and the last "
        f"checkpoint, of {loop.saved} steps, is from before. Usual reasons: a learning rate too "
        "high, a reward that is NaN, float16 weights."
    )


def words(metrics: dict[str, Any]) -> str:
    """A step, beside the progress bar."""
    speed = f"{metrics['tokens_per_second']:,.0f} tok/s"
    return f"accuracy {metrics['accuracy']:.2f}, length {metrics['length']:.0f}, {speed}"

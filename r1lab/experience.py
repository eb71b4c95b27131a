"""One rollout with its rewards: its metrics, and what is kept of it to be read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from r1lab.answers import Completion
from r1lab.basics import files
from r1lab.sampler.rollouts import Rollouts
from r1lab.templates import parse
from r1lab.training.reward_calls import Log


@dataclass
class Experience:
    """What one rollout gave: B questions x G answers; rows are prompt-major, N = B * G."""

    problems: list[Any]  # (B) r1lab.tasks.base.Problem
    prompts: list[str]  # (B)
    rollouts: Rollouts  # token ids (N, ragged), log-probs, finished
    measures: list[Completion]  # (N) text, correct, well formed, reflection, ...
    parts: dict[str, list[float]]  # each reward (N), before its weight
    rewards: torch.Tensor  # (B, G) weighted sum
    advantages: torch.Tensor  # (B, G)
    log: Log = dataclasses.field(default_factory=Log)  # what the rewards reported besides

    @property
    def spread(self) -> torch.Tensor:
        """(B,) whether a group's rewards differ at all (an estimator of one's own may give
        advantages to a group where they do not)."""
        return self.rewards.amax(dim=1) > self.rewards.amin(dim=1)


def describe(step: int, batch: Experience) -> dict[str, Any]:
    """The metrics of a rollout, before its update: step 0 describes the base model."""
    rows = batch.measures
    tokens = sum(row.length for row in rows)
    return {
        "step": step,
        "reward": float(batch.rewards.double().mean()),
        "accuracy": fmean(row.correct for row in rows),
        "format": fmean(row.well_formed for row in rows),
        "length": tokens / len(rows),
        "reflection": fmean(row.reflection for row in rows),
        "language_mixing": fmean(row.mixed for row in rows),
        "entropy": -sum(map(sum, batch.rollouts.logprobs)) / tokens,
        "truncated": fmean(not row.finished for row in rows),
        "parsed": fmean(parse(row.text).answer is not None for row in rows),
        "zero_spread_groups": int((~batch.spread).sum()),
        "spread_groups": int(batch.spread.sum()),
        "advantage": float(batch.advantages.abs().mean()),
        "reward_min": float(batch.rewards.min()),
        "reward_max": float(batch.rewards.max()),
        "tokens": tokens,
        **{f"rewards/{name}": fmean(values) for name, values in batch.parts.items()},
        **batch.log.metrics,
    }


def record(step: int, batch: Experience, r: int, tokenizer) -> dict[str, Any]:
    """Answer r of a batch, with all that was found out about it, as plain values."""
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
    """The best and the worst paid answers to the first question that has both."""
    q, G = int(batch.spread.int().argmax()), batch.rewards.shape[1]
    order = batch.advantages[q].argsort(descending=True, stable=True).tolist()
    picked = order if keep >= G else order[: keep // 2] + order[-(keep // 2) :]
    return [record(step, batch, q * G + i, tokenizer) for i in picked]


def save_batch(path: Path, step: int, batch: Experience, tokenizer, error: str) -> Path:
    """The whole batch of a step that went wrong, in JSON that a person can read."""
    rows = [record(step, batch, r, tokenizer) for r in range(len(batch.measures))]
    text = files.to_json({"step": step, "error": error, "rows": rows}, indent=1)  # with its NaNs
    return files.atomic_write_text(path, text)

"""Arithmetic and self-checking of a base model, measured on its own samples.

RL reinforces search only if arithmetic and verdicts are reliable: with both at 83 %, an earlier
corpus led to short guesses. On real models: Gandhi et al. 2025 (arXiv 2503.01307) find that models
with verification and backtracking in the base improve under RL, and others do not.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from r1lab import models
from r1lab.evaluate import evaluate
from r1lab.sampler.rollouts import Sampling
from r1lab.statistics import Estimate, wilson
from r1lab.tasks import task_for
from r1lab.tasks.base import Problem
from r1lab.tasks.countdown import apply

# `a op b → r`; the result is matched by lookahead, since it starts the next step.
_STEP = re.compile(r"(?<![0-9])([0-9]{1,2}) ([-+*/]) ([0-9]{1,2}) → (?=([0-9]{1,2}|≠)(?![0-9]))")
_VERDICT = re.compile(r"→ ([0-9]{1,2}) \? [0-9]{1,2} [0-9]{1,2} (no|不对|yes|对了)(?= |$)")


@dataclass(frozen=True)
class Share:
    """``right`` out of ``n``."""

    right: int
    n: int

    @property
    def value(self) -> float:
        return self.right / self.n if self.n else float("nan")

    def __str__(self) -> str:
        return f"{self.value:.1%} ({self.right} of {self.n})"


def arithmetic(texts: Iterable[str]) -> Share:
    """Fraction of the steps ``a op b → r`` with the right result; where that is no whole number
    from 0 to 99, as in ``10 / 3``, only ``≠`` is right."""
    right = n = 0
    for text in texts:
        for a, op, b, result in _STEP.findall(text):
            n += 1
            value = apply(int(a), op, int(b))
            right += result == ("≠" if value is None else str(value))
    return Share(right, n)


def verdicts(texts: Iterable[str], problems: Iterable[Problem]) -> Share:
    """Fraction of the checks ``→ 11 ? 23 12 no`` with the right verdict about the problem's target,
    which the check may have copied wrongly. ``texts`` and ``problems`` go pairwise."""
    right = n = 0
    for text, problem in zip(texts, problems, strict=True):
        target = problem.data["target"]
        for value, word in _VERDICT.findall(text):
            n += 1
            right += (int(value) == target) == (word in ("yes", "对了"))
    return Share(right, n)


def checked_tries(evaluation) -> np.ndarray:
    """Checks in each response of an `Evaluation` on Countdown: (P, n)."""
    rows = evaluation.completions
    return np.array([[len(_VERDICT.findall(one.text)) for one in row] for row in rows])


def mean_where(values: np.ndarray, mask: np.ndarray, seed: int = 0) -> Estimate:
    """The mean of the values (P, n), each 0 or 1, where mask (P, n) is true, with its 95 % interval
    over problems; NaN where it is nowhere."""
    kept = mask.any(axis=1)
    sums, counts = np.where(mask, values, 0)[kept].sum(axis=1), mask[kept].sum(axis=1)
    if not kept.any():
        return Estimate(np.nan, np.nan, np.nan)
    value = float(sums.sum() / counts.sum())  # each response counts alike
    drawn = np.random.default_rng(seed).integers(len(sums), size=(2000, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    if low == high:  # all 0 or all 1: the bootstrap has no width
        return Estimate(value, *wilson(value * len(sums), len(sums)))
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def skills(
    model: str | os.PathLike,
    *,
    problems: int = 64,
    template: str = "tiny",
    max_new_tokens: int = 448,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float]:
    """Why is a model right or wrong? Of one response to each of some held-out Countdown problems:

    tries       calculations that are checked, per response
    arithmetic  fraction of the steps `a op b → r` with the right result
    verdicts    fraction of the checks with the right verdict
    claimed     fraction of the responses that end with a "yes"
    truncated   fraction that never ends
    """
    loaded, task = models.load(model, device=device), task_for("countdown", template)
    how = {"k": 1, "sampling": Sampling(max_new_tokens, seed=seed), "template": template}
    drawn = evaluate(*loaded, task, task.problems("held_out", problems), **how)
    texts = [row[0].text for row in drawn.completions]
    checks = [text.count(" ? ") for text in texts]
    return {
        "tries": sum(checks) / len(texts),
        "arithmetic": arithmetic(texts).value,
        "verdicts": verdicts(texts, drawn.problems).value,
        "claimed": sum("yes" in text or "对了" in text for text in texts) / len(texts),
        "truncated": sum(not row[0].finished for row in drawn.completions) / len(texts),
    }

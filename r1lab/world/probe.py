"""What the base model can do before any reinforcement learning: arithmetic and self-checking.

Reinforcement learning amplifies what pays. A search pays only if its arithmetic and its verdicts
are right, so these two shares decide whether RL finds long thoughts or gives them up: with both at
83 %, an earlier tiny world collapsed to short guesses. (On real models: Gandhi et al. 2025, arXiv
2503.01307, found that models with verification and backtracking in the base improve under RL and
others do not.)

Both are read off the model's own samples, line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from r1lab.tasks.base import Problem
from r1lab.tasks.countdown import apply

# `a op b → r`; the result is looked at without being consumed, because it starts the next step.
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
    """The share of the steps ``a op b → r`` in the texts whose result is right.

    Where there is no whole result from 0 to 99, as in ``10 / 3``, only ``≠`` is right.
    """
    right = n = 0
    for text in texts:
        for a, op, b, result in _STEP.findall(text):
            n += 1
            value = apply(int(a), op, int(b))
            right += result == ("≠" if value is None else str(value))
    return Share(right, n)


def verdicts(texts: Iterable[str], problems: Iterable[Problem]) -> Share:
    """The share of the checks ``→ 11 ? 23 12 no`` that are right about the problem's target.

    A check that copies the target wrongly counts by its verdict: "no" on a wrong result is right.
    ``texts`` and ``problems`` go pairwise.
    """
    right = n = 0
    for text, problem in zip(texts, problems, strict=True):
        target = problem.data["target"]
        for value, word in _VERDICT.findall(text):
            n += 1
            right += (int(value) == target) == (word in ("yes", "对了"))
    return Share(right, n)

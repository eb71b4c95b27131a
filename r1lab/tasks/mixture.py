"""Several tasks mixed by weight."""

from __future__ import annotations

import random
from dataclasses import dataclass

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import (
    Problem,
    drawn_by_weight,
)

# -- several at once --------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixture:
    """Problems of several tasks in one stream, each judged by its own.

    parts  (name in the registry, weight); each task is made with the options of `options`
    """

    parts: tuple[tuple[str, float], ...] = (("countdown", 0.5), ("steps", 0.5))
    wording: str = "tiny"
    name: str = "mixture"

    def __post_init__(self) -> None:
        names = [name for name, _ in self.parts]
        if not names or len(set(names)) < len(names) or self.name in names:
            raise R1LabError(f"mixture: parts must be different tasks, not {self.parts!r}")
        if min(weight for _, weight in self.parts) < 0 or not sum(w for _, w in self.parts) > 0:
            raise R1LabError(f"mixture: weights must be 0 or more, one above it: {self.parts!r}")

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems, each of a task drawn by weight; the first m are the same for n >= m."""
        from r1lab.tasks import get_task

        rng = random.Random(f"mixture/{split}/{seed}")
        names, weights = zip(*self.parts, strict=True)
        which = [drawn_by_weight(names, weights, rng) for _ in range(n)]
        drawn = {
            name: iter(
                get_task(name, wording=self.wording).problems(split, which.count(name), seed)
            )
            for name in set(which)
        }
        return [next(drawn[name]) for name in which]

    def judge(self, problem: Problem, answer: str) -> bool:
        from r1lab.tasks import get_task

        return get_task(problem.task).judge(problem, answer)

    def vote(self, problem: Problem, answer: str) -> str | None:
        from r1lab.tasks import get_task

        return get_task(problem.task).vote(problem, answer)

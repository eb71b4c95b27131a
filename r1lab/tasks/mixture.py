"""Several tasks mixed by weight."""

import random
from dataclasses import dataclass
from functools import cached_property

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import Problem, Task, drawn_by_weight
from r1lab.tasks.registry import TINY_WORLD, get_task


@dataclass(frozen=True)
class Mixture:
    """Problems of several tasks in one stream, each verified by its own task.

    parts    (name of a task, weight)
    wording  of those parts that have one"""

    parts: tuple[tuple[str, float], ...] = (("countdown", 0.45), ("code", 0.29), ("steps", 0.26))
    wording: str = "tiny"
    name: str = "mixture"

    def __post_init__(self) -> None:
        try:
            parts = tuple((str(name), float(weight)) for name, weight in self.parts)
        except (TypeError, ValueError):
            text = f"mixture: parts must be pairs (task, weight), not {self.parts!r}"
            raise R1LabError(text) from None
        object.__setattr__(self, "parts", parts)
        names, weights = [name for name, _ in parts], [weight for _, weight in parts]
        if not names or len(set(names)) < len(names) or self.name in names:
            raise R1LabError(f"mixture: parts must be different tasks, not {parts!r}")
        if min(weights) < 0 or not sum(weights) > 0:
            raise R1LabError(f"mixture: weights must be 0 or more, one above it: {parts!r}")

    @cached_property
    def members(self) -> tuple[Task, ...]:
        wording = {"wording": self.wording}
        names = [name for name, _ in self.parts]
        return tuple(get_task(name, **wording if name in TINY_WORLD else {}) for name in names)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems, each of a task drawn by weight; the first m are the same for n >= m."""
        rng = random.Random(f"mixture/{split}/{seed}")
        names, weights = zip(*self.parts, strict=True)
        which = [drawn_by_weight(names, weights, rng) for _ in range(n)]
        drawn = {
            name: iter(task.problems(split, which.count(name), seed))
            for name, task in zip(names, self.members, strict=True)
            if name in which
        }
        return [next(drawn[name]) for name in which]

    def judge(self, problem: Problem, answer: str) -> bool:
        return self.task_of(problem).judge(problem, answer)

    def vote(self, problem: Problem, answer: str) -> str | None:
        return self.task_of(problem).vote(problem, answer)

    def solution(self, problem: Problem) -> str | None:
        return getattr(self.task_of(problem), "solution", lambda problem: None)(problem)

    def task_of(self, problem: Problem) -> Task:
        """The member that verifies a problem."""
        mine = (task for task in self.members if task.name == problem.task)
        return next(mine, None) or get_task(problem.task)

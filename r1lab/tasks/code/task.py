"""The task `code`: write a function, judged by running it."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from r1lab.basics.errors import R1LabError
from r1lab.tasks import base
from r1lab.tasks.base import Problem
from r1lab.tasks.code import plain, tiny
from r1lab.tasks.code.suite import ByRunning, Job, program_of
from r1lab.tasks.functions import Function
from r1lab.tasks.general import Family


@dataclass(frozen=True)
class Code(ByRunning, Family):
    """Write a function, judged on hidden inputs in the sandbox (see `r1lab.tasks.code`).

    wording    "tiny" (two examples of x * 3 + 2) or "plain" (a function in words, for real models)
    languages  any of "en", "zh"; by default both, and English alone for wording="plain"
    tests      "hidden": examples and hidden inputs; "visible": the examples in the prompt alone,
               which shows what a policy learns that is rewarded on them
    levels     of wording="plain": which of the difficulties 1 to 3"""

    name: str = "code"
    tests: str = "hidden"
    levels: tuple[int, ...] = plain.LEVELS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tests not in ("hidden", "visible"):
            raise R1LabError(f"code: tests must be hidden or visible, not {self.tests!r}")
        listed = isinstance(self.levels, (tuple, list, set, range))
        levels = tuple(self.levels) if listed else (self.levels,)
        if not levels or not all(type(one) is int and one in plain.LEVELS for one in levels):
            raise R1LabError(f"code: levels must be some of 1 to 3, not {self.levels!r}")
        object.__setattr__(self, "levels", levels)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        if self.wording == "tiny":
            return super().problems(split, n, seed)
        base.check_split(split)
        rng, drawn = random.Random(f"code/plain/{split}/{seed}"), []
        while len(drawn) < n:
            some = itertools.islice(plain.in_turns(split, self.levels, rng), n - len(drawn))
            drawn += [self.plain_problem(one) for one in some]
        return drawn

    def draw(self, rng: random.Random, language: str) -> Problem:
        return self.problem(*tiny.draw(rng), language)

    def plain_problem(self, one: plain.Exercise) -> Problem:
        data, question = plain.data(one, self.tests), plain.question(one)
        return self._problem(one.split, one.key, "en", question, data)

    def problem(self, f: Function, examples: Sequence, language: str = "en") -> Problem:
        """The tiny problem of a function and two examples, [x, f(x)] each."""
        key = f"{f.body}@{'-'.join(str(x) for x, _ in examples)}".replace(" ", "")
        question, data = tiny.question(examples, language), tiny.data(f, examples, self.tests)
        return self._problem(f.split, key, language, question, data)

    def job(self, problem: Problem, program: str) -> Job:
        return plain.job(problem, program)

    def judge_all(self, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        texts = [i for i, (_, answer) in enumerate(pairs) if isinstance(answer, str)]
        short = {i: None for i in texts if "entry" not in pairs[i][0].data}  # of the tiny world
        others = [(p, None if i in short else a) for i, (p, a) in enumerate(pairs)]
        verdicts = super().judge_all(others)
        found = tiny.judged([(pairs[i][0], program_of(pairs[i][1])) for i in short])
        for i, verdict in zip(short, found, strict=True):
            verdicts[i] = verdict
        return verdicts

    def solution(self, problem: Problem) -> str | None:
        if "entry" in problem.data:
            return plain.of_problem(problem).solution
        return tiny.solution(problem)

    def wrong(self, problem: Problem) -> Iterator[str]:
        """Wrong programs, for `r1lab tasks check`: constants, lookups, changed solutions."""
        if "entry" not in problem.data:
            yield from tiny.wrong(problem)
        elif problem.data["tests"] != "visible":
            yield from plain.wrong(problem)

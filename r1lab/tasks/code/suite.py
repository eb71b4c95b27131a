"""The verifier of code tasks: a program is right if it passes every test.

Half a program gets no reward: partial credit would reward constants that meet some of the tests.
The expected values never enter the process that runs the program (`r1lab.sandbox`).
"""

import hashlib
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from r1lab import sandbox
from r1lab.sandbox import Case, Limits
from r1lab.tasks.base import Problem

MOST_KNOWN = 100_000  # verdicts that are kept, so that no program runs twice


class Job(NamedTuple):
    """A program with its tests. entry: the function to call; None: it reads stdin and prints."""

    source: str
    entry: str | None
    cases: tuple[Case, ...]
    limits: Limits = Limits()
    numbers: str = "strict"  # "python": 3 == 3.0 == True, as in published figures

    @property
    def key(self) -> bytes:
        return hashlib.sha256(repr(self).encode("utf-8", "surrogatepass")).digest()


class ByRunning:
    """A task whose answers are programs. `job(problem, program)` says how one is tested; it raises
    KeyError, TypeError, ValueError or IndexError for a broken problem."""

    def job(self, problem: Problem, program: str) -> Job:
        raise NotImplementedError

    def judge(self, problem: Problem, answer: str) -> bool | None:
        """Does the program pass every test?  None where the sandbox failed."""
        return self.judge_all([(problem, answer)])[0]

    def judge_all(self, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        """Verdicts on N programs, run side by side. Raises R1LabError where no sandbox holds."""
        jobs: list[Job | None] = []
        for problem, answer in pairs:
            try:
                jobs.append(self.job(problem, program_of(answer)))
            except (KeyError, TypeError, ValueError, IndexError, AttributeError):
                jobs.append(None)  # a broken problem, or no text: wrong
        return judged(jobs)

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The program without differences in spacing."""
        program = program_of(answer)
        return " ".join(program.split()) or None if len(program) <= Limits().source else None


_known: dict[bytes, bool] = {}


def judged(jobs: Sequence[Job | None]) -> list[bool | None]:
    """The verdicts on programs, in order; no job is wrong. Equal ones run once."""
    keys = [job and job.key for job in jobs]
    kinds: dict[tuple[Limits, str], dict[bytes, Job]] = {}
    for key, job in zip(keys, jobs, strict=True):
        if job is not None and key not in _known:
            kinds.setdefault((job.limits, job.numbers), {})[key] = job
    for (limits, numbers), batch in kinds.items():
        asked = [(job.source, job.entry, job.cases) for job in batch.values()]
        verdicts = sandbox.default().judge_all(asked, limits=limits, numbers=numbers)
        passed = zip(batch, (verdict.passed for verdict in verdicts), strict=True)
        _known.update((key, verdict) for key, verdict in passed if verdict is not None)
    found = [False if key is None else _known.get(key) for key in keys]
    for key in list(_known)[: max(0, len(_known) - MOST_KNOWN)]:
        del _known[key]
    return found


def program_of(answer: str) -> str:
    """The program in an answer: inside its ``` fence if it is one, else all of it; without what is
    no indentation by 4 between <answer> and the program, or in front of all its lines."""
    before, fence, rest = answer.partition("```")
    program, closed, after = rest.partition("```")
    if fence and closed and not before.strip() and not after.strip():
        answer = program.partition("\n")[2]
    if len(answer) > Limits().source:
        return answer  # too long to run
    if answer.lstrip(" \t")[:1] == "\n":
        return textwrap.dedent(answer.strip("\n"))
    return answer[(len(answer) - len(answer.lstrip(" "))) % 4 :].rstrip("\n")

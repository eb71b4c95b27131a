"""The tiny coding task: write the function that two examples determine.

    write f , f ( 3 ) = 11 , f ( 5 ) = 17 .        def f ( x ) : return x * 3 + 2

The examples are in the prompt; the tests are all other inputs too, so looking the two examples up
(`functions.lookup`) is wrong. With tests="visible" only the examples are tested: it gets reward.
"""

import random
from collections.abc import Iterator

from r1lab.sandbox import Case, Limits
from r1lab.tasks import functions
from r1lab.tasks.base import SPLITS, Problem
from r1lab.tasks.code.suite import Job
from r1lab.tasks.functions import CORES, INPUTS, Function, through

LIMITS = Limits(cpu=0.2)
"""A tiny program needs microseconds: what takes longer is a loop without an end."""
Examples = list[tuple[int, int]]


def draw(rng: random.Random) -> tuple[Function, Examples]:
    return functions.draw(rng, rng.choice(SPLITS))


def question(examples: Examples, language: str) -> str:
    shown = " , ".join(f"f ( {x} ) = {y}" for x, y in examples)
    return f"写 f , {shown} 。" if language == "zh" else f"write f , {shown} ."


def data(f: Function, examples: Examples, tests: str) -> dict:
    """{"examples": [[3, 11], [5, 17]], "hidden": [[2, 8], ...], "tests": "hidden"}"""
    shown = [x for x, _ in examples]
    hidden = [[x, f(x)] for x in INPUTS if x not in shown]
    return {"examples": [list(pair) for pair in examples], "hidden": hidden, "tests": tests}


def job(problem: Problem, program: str) -> Job:
    pairs = list(problem.data["examples"])
    if problem.data["tests"] != "visible":
        pairs += problem.data["hidden"]
    return Job(program, "f", tuple(Case((int(x),), int(y)) for x, y in pairs), LIMITS)


def solution(problem: Problem) -> str | None:
    found = next(functions.fits(problem.data["examples"]), None)
    return found.program if found else None


def wrong(problem: Problem) -> Iterator[str]:
    """Programs that fit the first example alone; and, unless the examples alone are tested, those
    that know the examples by heart."""
    (x, y), (other, value) = problem.data["examples"]
    for core in CORES:
        f = through(core, x, y)
        if f(other) != value:
            yield f.program
    yield functions.program(str(y))
    if problem.data["tests"] != "visible":
        yield functions.lookup([(x, y), (other, value)])
        yield functions.lookup([(other, value), (x, y)])

"""The tiny coding task: write the function that two examples determine.

    write f , f ( 3 ) = 11 , f ( 5 ) = 17 .        def f ( x ) : return x * 3 + 2

The examples are in the prompt; the tests are all other inputs too, so looking the two examples up
(`functions.lookup`) is wrong. With tests="visible" only the examples are tested: it gets reward.
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from r1lab import sandbox
from r1lab.sandbox import Limits
from r1lab.tasks import functions
from r1lab.tasks.base import SPLITS, Problem
from r1lab.tasks.code.suite import MOST_KNOWN
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


def judged(pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
    """Does each program pass the tests of its problem?  None where the sandbox failed.

    All problems share INPUTS, and a policy writes a few hundred programs again and again: each runs
    once on all inputs, and its values serve every problem."""
    programs = [program for _, program in pairs if program not in _values]
    new = list(dict.fromkeys(programs))
    if new:
        runner = sandbox.default()

        def run(program: str) -> list:
            return runner.run(program, [(x,) for x in INPUTS], "f", limits=LIMITS)

        with ThreadPoolExecutor(runner.workers) as threads:
            found = dict(zip(new, threads.map(run, new), strict=True))
        for program, results in found.items():
            if all(result.status != "harness" for result in results):
                plain = [r.value if type(r.value) is int else None for r in results]
                _values[program] = dict(zip(INPUTS, plain, strict=True))
    verdicts = [right(problem, _values.get(program)) for problem, program in pairs]
    for program in list(_values)[: max(0, len(_values) - MOST_KNOWN)]:
        del _values[program]
    return verdicts


def right(problem: Problem, values: dict[int, int | None] | None) -> bool | None:
    """Are a program's values those of the problem's tests?  A broken problem is wrong."""
    if values is None:
        return None
    try:
        tests = list(problem.data["examples"])
        if problem.data["tests"] != "visible":
            tests += problem.data["hidden"]
        return bool(tests) and all(values[x] == y for x, y in tests)
    except (KeyError, TypeError, ValueError):
        return False


_values: dict[str, dict[int, int | None]] = {}  # of programs, by input


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

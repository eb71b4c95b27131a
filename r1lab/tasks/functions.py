"""The functions of the tiny coding task: one core and one constant, ``x * 3 + 2``.

A problem shows f at two inputs; the program must be right at all the others. Two examples determine
the function, yet they do not show its core: whoever knows the core reads the constant off the first
example, and the second one tells whether the core was right. Searching cores and checking them
gains reward here, as trying expressions does in Countdown.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from r1lab.tasks.base import split_of_text

INPUTS = range(2, 10)
LARGEST = 99  # every value of a function lies in 0..LARGEST, so that it is one token
MOST = 30  # the largest constant
CORES = ("x", "x * 2", "x * 3", "x * 4", "x * 5", "x * 6", "x * x")
"""In the order in which a systematic search tries them."""


def factor_at(core: str, x: int) -> int:
    """What the core multiplies x by; 1 for the core x."""
    factor = core.removeprefix("x").removeprefix(" * ") or "1"
    return x if factor == "x" else int(factor)


def core_at(core: str, x: int) -> int:
    return x * factor_at(core, x)


@dataclass(frozen=True)
class Function:
    """f(x) = core + constant."""

    core: str
    constant: int

    def __call__(self, x: int) -> int:
        return core_at(self.core, x) + self.constant

    @property
    def body(self) -> str:
        """The expression in Python, with spaces: ``x * 3 - 2``"""
        return f"{self.core} {'-' if self.constant < 0 else '+'} {abs(self.constant)}"

    @property
    def program(self) -> str:
        return program(self.body)

    @property
    def split(self) -> str:
        """By the function, whatever the examples."""
        return split_of_text(f"code/{self.body}")


def program(body: str) -> str:
    """One line of Python, with spaces between all words: ``def f ( x ) : return x * 3 + 2``"""
    return f"def f ( x ) : return {body}"


def through(core: str, x: int, y: int) -> Function:
    """The function with this core that is y at x."""
    return Function(core, y - core_at(core, x))


def lookup(examples: list[tuple[int, int]]) -> str:
    """A program that knows the two examples by heart and no rule."""
    (x, y), (_, other) = examples
    return program(f"{y} if x == {x} else {other}")


def fits(examples: list[tuple[int, int]]) -> Iterator[Function]:
    """The functions through both examples, in the order of CORES."""
    (x, y), (other, value) = examples
    for core in CORES:
        found = through(core, x, y)
        if found(other) == value:
            yield found


@cache
def functions(split: str) -> tuple[Function, ...]:
    """All functions of a split: no constant of 0, all values in 0..LARGEST."""
    every = (Function(core, c) for core in CORES for c in range(-2 * MOST, MOST + 1) if c)
    legal = (f for f in every if all(0 <= f(x) <= LARGEST for x in INPUTS))
    return tuple(f for f in legal if f.split == split)


def draw(rng: random.Random, split: str) -> tuple[Function, list[tuple[int, int]]]:
    """A function and two examples of it that no other core fits."""
    while True:
        f = rng.choice(functions(split))
        examples = [(x, f(x)) for x in rng.sample(INPUTS, 2)]
        if len(list(fits(examples))) == 1:
            return f, examples

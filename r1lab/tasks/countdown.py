"""Countdown: reach a target from a few numbers with + - * /, each number used once.

    make 23 from 7 6 10 .      ->      ( 10 + 7 ) + 6

Hard to guess, easy to check, and small enough for a model of a million parameters, which solves
more problems the longer it searches. TinyZero (github.com/Jiayi-Pan/TinyZero) introduced it.

**Problems** come from left-to-right *chains*, ((a op b) op c), whose intermediate results are whole
numbers from 0 to 99: each problem has a solution, and each result is one token.
**Splits** go by the SHA-256 of the sorted numbers, so train and held-out share no set of numbers.
**The verifier** parses the answer (`expression`) and computes in exact fractions.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from r1lab.basics.errors import R1LabError
from r1lab.tasks import base
from r1lab.tasks.base import Problem, drawn_by_weight, shuffled
from r1lab.tasks.expression import COMPUTE, canonical, evaluate, to_postfix

OPERATORS = "+-*/"
SMALLEST, LARGEST = 1, 12  # the numbers given
LIMIT = 99  # every result of a chain lies in 0..LIMIT


@dataclass(frozen=True)
class Chain:
    """A left-to-right computation: `start`, then steps (operator, number, result)."""

    start: int
    steps: tuple[tuple[str, int, int], ...]

    @property
    def value(self) -> int:
        return self.steps[-1][2] if self.steps else self.start

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.start, *(number for _, number, _ in self.steps))

    def expression(self) -> str:
        """The chain as an answer: "( 10 + 7 ) + 6"."""
        text = str(self.start)
        for op, number, _ in self.steps:
            text = f"( {text} ) {op} {number}" if " " in text else f"{text} {op} {number}"
        return text


def apply(left: int, op: str, right: int) -> int | None:
    """left op right, or None where the result is not a whole number from 0 to LIMIT."""
    if op == "/":
        result = -1 if right == 0 or left % right else left // right
    else:
        result = COMPUTE[op](left, right)
    return result if 0 <= result <= LIMIT else None


def chains(numbers: Sequence[int], target: int | None = None) -> Iterator[Chain]:
    """All valid chains over two or more numbers >= 1, each once, in one fixed order: the numbers
    descending, the operators as + - * /.  With `target`, only the chains that reach it.  (A chain
    that starts with the smaller number adds nothing new: smaller - larger is negative.)"""
    ordered = sorted(numbers, reverse=True)
    for a, b in dict.fromkeys(itertools.combinations(ordered, 2)):  # each pair once, in order
        found = _extend(Chain(a, ()), b, _without(_without(ordered, a), b))
        yield from (chain for chain in found if target is None or chain.value == target)


def _extend(chain: Chain, number: int, rest: list[int]) -> Iterator[Chain]:
    for op in OPERATORS:
        result = apply(chain.value, op, number)
        if result is None:
            continue
        longer = Chain(chain.start, (*chain.steps, (op, number, result)))
        if not rest:
            yield longer
        for following in dict.fromkeys(rest):
            yield from _extend(longer, following, _without(rest, following))


def _without(numbers: list[int], one: int) -> list[int]:
    rest = list(numbers)
    rest.remove(one)
    return rest


@cache
def reachable(numbers: tuple[int, ...]) -> frozenset[int]:
    """The values of all chains over the sorted numbers."""
    if len(numbers) == 1:
        return frozenset(numbers)
    results = set()
    for i, last in enumerate(numbers):
        for value in reachable(numbers[:i] + numbers[i + 1 :]):
            results |= {apply(value, op, last) for op in OPERATORS}
    return frozenset(results - {None})


def split_of(numbers: Sequence[int]) -> str:
    """The split of given numbers, whatever their order and the target."""
    return base.split_of_text("countdown/" + "-".join(map(str, sorted(numbers))))


@cache
def pool(split: str, size: int) -> tuple[tuple[tuple[int, ...], int], ...]:
    """All (sorted numbers, target) of a split, for problems of `size` numbers."""
    sets = itertools.combinations_with_replacement(range(SMALLEST, LARGEST + 1), size)
    mine = (numbers for numbers in sets if split_of(numbers) == split)
    return tuple((numbers, target) for numbers in mine for target in sorted(reachable(numbers)))


def question(numbers: Sequence[int], target: int, language: str, wording: str) -> str:
    if wording == "plain":
        listed = ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
        return (
            f"Write an arithmetic expression that equals {target}, with each of the numbers "
            f"{listed} exactly once, the operators + - * / and parentheses. "
            "Answer with the expression alone."
        )
    given = " ".join(map(str, numbers))
    return f"用 {given} 得到 {target} 。" if language == "zh" else f"make {target} from {given} ."


@dataclass(frozen=True)
class Countdown:
    """Reach a target from a few numbers, each used once (see `r1lab.tasks.base.Task`).

    numbers    how many numbers are given, 3 or 4
    languages  any of "en", "zh"; by default both, and English alone for wording="plain"
    weights    of the languages; by default English twice as often as Chinese
    wording    "tiny" (`make 23 from 7 6 10 .`) or "plain" (a sentence, for real models)"""

    numbers: int = 3
    languages: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    wording: str = "tiny"
    name: str = "countdown"

    def __post_init__(self) -> None:
        if type(self.numbers) is not int or self.numbers not in (3, 4):
            raise R1LabError(f"countdown: numbers must be 3 or 4, not {self.numbers!r}")
        languages = base.languages_of(self.name, self.wording, self.languages)
        default = tuple(2.0 if language == "en" else 1.0 for language in languages)
        weights = default if self.weights is None else tuple(self.weights)
        if len(weights) != len(languages) or min(weights) < 0 or sum(weights) <= 0:
            raise R1LabError("countdown: weights must be one number >= 0 for each language")
        object.__setattr__(self, "languages", languages)
        object.__setattr__(self, "weights", weights)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems of a split; the first m are the same for n >= m. Without replacement until
        the split is used up, then again in another order."""
        base.check_split(split)
        rng = random.Random(f"countdown/{self.numbers}/{split}/{seed}")
        drawn: list[Problem] = []
        while len(drawn) < n:
            for numbers, target in shuffled(pool(split, self.numbers), rng)[: n - len(drawn)]:
                shown = shuffled(numbers, rng)
                language = drawn_by_weight(self.languages, self.weights, rng)
                drawn.append(self.problem(shown, target, language))
        return drawn

    def problem(self, numbers: Sequence[int], target: int, language: str = "en") -> Problem:
        """The problem with the numbers in this order."""
        key = f"countdown/{'-'.join(map(str, sorted(numbers)))}={target}"
        text = question(numbers, target, language, self.wording)
        data = {"numbers": list(numbers), "target": target}
        return Problem(self.name, key, text, language, split_of(numbers), data)

    def solution(self, problem: Problem) -> str | None:
        """The first of `chains` that reaches the target; None without one."""
        chain = next(chains(problem.data["numbers"], problem.data["target"]), None)
        return chain.expression() if chain else None

    def judge(self, problem: Problem, answer: str) -> bool:
        """Does the answer use each number exactly once and equal the target?"""
        postfix = _read(problem, answer)
        value = None if postfix is None else evaluate(postfix)
        target = problem.data.get("target")
        return value is not None and type(target) is int and value == target

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The canonical form of an expression with each number exactly once, whatever its value."""
        postfix = _read(problem, answer)
        return None if postfix is None or evaluate(postfix) is None else canonical(postfix)


def _read(problem: Problem, answer: str) -> list[int | str] | None:
    """The answer in postfix order if it uses each given number exactly once."""
    given = problem.data.get("numbers")
    postfix = to_postfix(answer)
    whole = isinstance(given, list) and all(type(number) is int for number in given)
    if postfix is None or not whole:
        return None
    return postfix if Counter(i for i in postfix if isinstance(i, int)) == Counter(given) else None

"""Countdown: reach a target from a few numbers with + - * /, each number used once.

    make 23 from 7 6 10 .      ->      ( 10 + 7 ) + 6

The task is hard to guess and easy to check, like the paper's mathematics problems (arXiv
2501.12948v2, section 2.2), but small enough for a model of a million parameters: one search through
the combinations finds the answer, and a model that searches longer is right more often.  As a test
bed for R1-Zero it comes from TinyZero (github.com/Jiayi-Pan/TinyZero).

**Problems** are drawn from left-to-right *chains*, ((a op b) op c), in which every result on the
way is a whole number from 0 to 99: each problem can be solved, and each result is one token.

**Splits** depend only on which numbers are given, not on their order or on the target: the SHA-256
of the sorted numbers decides.  So two problems with the same numbers are always in the same split,
and train and held-out are disjoint by construction.

**The verifier** reads the answer with a parser of its own (`expression`) and computes in exact
fractions.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import SPLITS, Problem, drawn_by_weight, languages_of
from r1lab.tasks.expression import COMPUTE, canonical, evaluate, to_postfix

OPERATORS = "+-*/"
SMALLEST, LARGEST = 1, 12  # the numbers given
LIMIT = 99  # every result of a chain lies in 0..LIMIT


# -- chains: the searches that a patient solver walks through ---------------------------------


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
        """The chain as an answer, tokens between spaces: "( 10 + 7 ) + 6"."""
        text = str(self.start)
        for i, (op, number, _) in enumerate(self.steps):
            text = f"{text} {op} {number}" if i == 0 else f"( {text} ) {op} {number}"
        return text


def apply(left: int, op: str, right: int) -> int | None:
    """left op right, or None where the result is not a whole number from 0 to LIMIT."""
    if op == "/":
        result = -1 if right == 0 or left % right else left // right
    else:
        result = COMPUTE[op](left, right)
    return result if 0 <= result <= LIMIT else None


def chains(numbers: Sequence[int], target: int | None = None) -> Iterator[Chain]:
    """All valid chains over two or more numbers >= 1, each once, in one fixed order.

    Numbers sorted descending; pair by pair (the larger first, so that 7 + 10 does not come again
    after 10 + 7), on the pair the operators in the order + - * /, then each number that is left,
    with the operators in the same order.  With `target`, only the chains that reach it.
    Putting the larger number first loses nothing: smaller - larger is negative, and
    smaller / larger is no whole number.
    """
    ordered = sorted(numbers, reverse=True)
    pairs = dict.fromkeys(itertools.combinations(ordered, 2))  # a dict keeps order, drops repeats
    for a, b in pairs:
        for chain in _extend(Chain(a, ()), b, _without(_without(ordered, a), b)):
            if target is None or chain.value == target:
                yield chain


def _extend(chain: Chain, number: int, rest: list[int]) -> Iterator[Chain]:
    """Every way to take `number` next and then all of `rest`."""
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
    """The values of all chains over the sorted numbers, found without walking every chain."""
    if len(numbers) == 1:
        return frozenset(numbers)
    results = {
        apply(value, op, numbers[i])
        for i in range(len(numbers))
        for value in reachable(numbers[:i] + numbers[i + 1 :])
        for op in OPERATORS
    }
    return frozenset(results - {None})


# -- splits and problems ----------------------------------------------------------------------


def split_of(numbers: Sequence[int]) -> str:
    """The split that a set of given numbers belongs to, whatever their order and the target.

    One part in ten is held out, one in ten leaked, the rest train.
    """
    name = "countdown/" + "-".join(map(str, sorted(numbers)))
    tenth = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10
    return {0: "held_out", 1: "leaked"}.get(tenth, "train")


@cache
def pool(split: str, size: int) -> tuple[tuple[tuple[int, ...], int], ...]:
    """All (sorted numbers, target) of a split, for problems of `size` numbers."""
    multisets = itertools.combinations_with_replacement(range(SMALLEST, LARGEST + 1), size)
    return tuple(
        (numbers, target)
        for numbers in multisets
        if split_of(numbers) == split
        for target in sorted(reachable(numbers))
    )


def _shuffled(items: Sequence, rng: random.Random) -> list:
    """A seeded shuffle made of rng.random() alone, the one method of Python's generator whose
    sequence is promised to stay the same in every version."""
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def question(numbers: Sequence[int], target: int, language: str, wording: str) -> str:
    """The words of a problem: the tiny world's short form, or a sentence for real models."""
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
    weights    how often each language comes; by default English twice as often as Chinese
    wording    "tiny" (`make 23 from 7 6 10 .`) or "plain" (a sentence, for real models)

    Raises R1LabError for any other value.
    """

    numbers: int = 3
    languages: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    wording: str = "tiny"
    name: str = "countdown"

    def __post_init__(self) -> None:
        if type(self.numbers) is not int or self.numbers not in (3, 4):
            raise R1LabError(f"countdown: numbers must be 3 or 4, not {self.numbers!r}")
        languages = languages_of(self.name, self.wording, self.languages)
        default = tuple(2.0 if language == "en" else 1.0 for language in languages)
        weights = default if self.weights is None else tuple(self.weights)
        if len(weights) != len(languages) or min(weights) < 0 or sum(weights) <= 0:
            raise R1LabError("countdown: weights must be one number >= 0 for each language")
        object.__setattr__(self, "languages", languages)
        object.__setattr__(self, "weights", weights)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems of a split; the first m of them are the same for every n >= m.

        Without replacement until the split is used up, then all over again in another order.
        """
        if split not in SPLITS:
            raise R1LabError(f"unknown split {split!r}; take one of {', '.join(SPLITS)}")
        rng = random.Random(f"countdown/{self.numbers}/{split}/{seed}")
        drawn: list[Problem] = []
        while len(drawn) < n:
            for numbers, target in _shuffled(pool(split, self.numbers), rng)[: n - len(drawn)]:
                drawn.append(self.problem(_shuffled(numbers, rng), target, self._language(rng)))
        return drawn

    def problem(self, numbers: Sequence[int], target: int, language: str = "en") -> Problem:
        """The problem of reaching `target` from `numbers`, shown in this order."""
        return Problem(
            task=self.name,
            id=f"countdown/{'-'.join(map(str, sorted(numbers)))}={target}",
            question=question(numbers, target, language, self.wording),
            language=language,
            split=split_of(numbers),
            data={"numbers": list(numbers), "target": target},
        )

    def _language(self, rng: random.Random) -> str:
        return drawn_by_weight(self.languages, self.weights, rng)

    def solution(self, problem: Problem) -> str | None:
        """A right answer, "( 10 + 7 ) + 6": the first of `chains`; None if no chain is one."""
        chain = next(chains(problem.data["numbers"], problem.data["target"]), None)
        return chain.expression() if chain else None

    def judge(self, problem: Problem, answer: str) -> bool:
        """Does the answer use each number exactly once and equal the target?  Never raises."""
        postfix = _read(problem, answer)
        value = None if postfix is None else evaluate(postfix)
        return value is not None and value == _whole(problem.data.get("target"))

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The answer's canonical form if it is a computable expression that uses each number
        exactly once, whatever its value; else None.  Never raises."""
        postfix = _read(problem, answer)
        if postfix is None or evaluate(postfix) is None:
            return None
        return canonical(postfix)


# -- reading an answer ------------------------------------------------------------------------


def _read(problem: Problem, answer: str) -> list[int | str] | None:
    """The answer in postfix order if it parses and uses each given number exactly once."""
    given = problem.data.get("numbers")
    postfix = to_postfix(answer)
    if postfix is None or not isinstance(given, list):
        return None
    used = [item for item in postfix if isinstance(item, int)]
    return postfix if Counter(used) == Counter(map(_whole, given)) else None


def _whole(number: object) -> int | None:
    """The number if it is an int, else None, which no answer contains."""
    return number if type(number) is int else None

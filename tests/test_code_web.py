"""What the base model reads of code, by a reader that shares no code with its writer."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from r1lab.tasks import get_task
from r1lab.tasks.countdown import split_of
from r1lab.templates import parse
from r1lab.world import corpus

N = 3000
ASKED = re.compile(
    r"(?:user : write|用户 : 写) f , f \( (\d) \) = (\d+) , f \( (\d) \) = (\d+) [.。]"
)
PROGRAM = re.compile(r"def f \( x \) : return (.+?)(?: </answer>| <\|endoftext\|>)")
TRY = re.compile(
    r"(\d+)(?: \* (\d+) → (\d+))? \? (\d+) (\d+) , "
    r"(\d+)(?: \* (\d+) → (\d+))? ([+-]) (\d+) → (\d+|≠)"
    r"(?: \? (\d+) (\d+))? (no|yes|不对|对了)"
)


@dataclass
class Reading:
    text: str
    examples: list[tuple[int, int]]
    tries: list[tuple[str, ...]]
    body: str  # the program's expression

    @property
    def values(self) -> list[int]:
        """What the program returns for the examples."""
        return [run(self.body, x) for x, _ in self.examples]

    @property
    def fits(self) -> bool:
        return self.values == [y for _, y in self.examples]


def run(body: str, x: int) -> int:
    """The value of `x * 3 + 2` or `11 if x == 3 else 17`, read word by word."""
    if found := re.fullmatch(r"(\d+) if x == (\d+) else (\d+)", body):
        value, at, other = map(int, found.groups())
        return value if x == at else other
    factor, sign, constant = re.fullmatch(r"x(?: \* (x|\d+))? ([+-]) (\d+)", body).groups()
    product = x * (1 if factor is None else x if factor == "x" else int(factor))
    return product + int(sign + constant)


@pytest.fixture(scope="module")
def readings() -> list[Reading]:
    found = []
    for document in corpus.documents("tests", N, {"code": 1.0}):
        numbers = list(map(int, ASKED.match(document.text).groups()))
        examples = [(numbers[0], numbers[1]), (numbers[2], numbers[3])]
        (body,) = PROGRAM.findall(document.text)
        tries = TRY.findall(document.text)
        found.append(Reading(document.text, examples, tries, body))
    return found


def test_the_functions_asked_for_are_train_functions(readings):
    """The examples determine each function; its split is that of the only one that fits."""
    task = get_task("code")
    for r in readings[:500]:
        bodies = [f"x{core}" for core in ("", *(f" * {n}" for n in range(2, 7)), " * x")]
        (x, y), _ = r.examples
        fitting = []
        for core in bodies:
            constant = y - run(f"{core} + 0", x)
            body = f"{core} {'-' if constant < 0 else '+'} {abs(constant)}"
            fitting += [body] * (Reading("", r.examples, [], body).fits)
        assert len(fitting) == 1, r.text
        held_out = {p.data["examples"][0][0] for p in task.problems("held_out", 1)}
        assert held_out
        from r1lab.tasks.base import split_of_text

        assert split_of_text(f"code/{fitting[0]}") == "train"


def test_no_stretch_of_a_sum_shows_numbers_that_countdown_holds_out(readings):
    shown = 0
    for r in readings:
        for one in r.tries:
            for a, b, n in ((one[0], one[1], one[4]), (one[5], one[6], one[9])):
                if b and 1 <= int(n) <= 12:
                    shown += 1
                    assert split_of([int(a), int(b), int(n)]) == "train", r.text
    assert shown > 200


def test_sums_constants_and_verdicts_are_right(readings):
    tries = 0
    for r in readings:
        (x, y), (other, wanted) = r.examples
        for a, b, ab, first, c, d, e, de, t, k, value, target, apart, verdict in r.tries:
            tries += 1
            assert (int(a), int(d), c, int(first)) == (x, other, k, y), r.text
            left = int(ab) if b else x
            right = int(de) if e else other
            assert not b or (left == x * int(b) and right == other * int(e))
            assert left + int(t + k) == y, r.text
            found = right + int(t + k)
            assert value == (str(found) if 0 <= found <= 99 else "≠"), r.text
            assert (verdict in ("yes", "对了")) == (found == wanted), r.text
            if target:
                assert (int(target), int(apart)) == (wanted, abs(found - wanted))
    assert tries > N / 2


def test_kinds_of_answers(readings):
    """Guesses are the majority; a search that reaches a yes is right; few answers look up."""
    kinds = Counter()
    for r in readings:
        if " if x ==" in r.body:
            kinds["lookup"] += 1
            assert r.fits and not r.tries
        elif len(r.tries) > 3:
            kinds["patient"] += 1
            assert r.fits and len(r.tries) <= 7
        elif r.tries:
            kinds["short search"] += 1
            assert r.fits == (r.tries[-1][-1] in ("yes", "对了")), r.text
        else:
            kinds["guess"] += 1
    share = {kind: n / N for kind, n in kinds.items()}
    assert share["guess"] > 0.55 and 0.03 < share["lookup"] < 0.10 and share["patient"] < 0.12
    right = np.mean([r.fits for r in readings if not r.tries and " if x ==" not in r.body])
    assert right < 0.2


def test_a_judge_that_runs_them_agrees(readings):
    task, judged = get_task("code"), []
    for problem in task.problems("train", 40):
        pairs = [tuple(pair) for pair in problem.data["examples"]]
        for body in ("x + 1", f"{pairs[0][1]} if x == {pairs[0][0]} else {pairs[1][1]}"):
            judged.append(task.judge(problem, f"def f ( x ) : return {body}"))
        assert task.judge(problem, task.solution(problem))
    assert sum(map(bool, judged)) <= 2


def test_tags_are_dropped_now_and_then(readings):
    bodies = [r.text.removesuffix(" <|endoftext|>").split(" : ", 2)[-1] for r in readings]
    assert 0.6 < np.mean([parse(body).well_formed for body in bodies]) < 0.95

r"""Data sets from the Hugging Face hub: GSM8K, MATH, and Countdown as TinyZero posed it.

- `gsm8k`: openai/gsm8k (arXiv 2110.14168), grade-school word problems, whole-number answers.
- `math`: EleutherAI/hendrycks_math (arXiv 2103.03874) for training; held out is
  HuggingFaceH4/MATH-500, the test problems of "Let's Verify Step by Step" (arXiv 2305.20050).
- `countdown_hub`: Jiayi-Pan/Countdown-Tasks-3to4, about 490,000 problems in the wording of
  `r1lab.tasks.countdown` and with its verifier; or, offline, problems generated like them.

**Splits.**  GSM8K and MATH have their own; a training problem with the content of a held-out one is
dropped.  Countdown goes by its numbers (a split by rows can have one set on both sides).  There is
no leaked split: nobody knows a real model's corpus.

The first use downloads a data set into the cache of `datasets` (HF_HOME).  `source="folder"` reads
local files (`hub_rows`).  A warning counts the rows that are left out because they have no
verifiable answer.
"""

import hashlib
import itertools
import logging
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from r1lab.basics.errors import R1LabError
from r1lab.tasks import countdown, math_equal
from r1lab.tasks.base import Problem, number, shuffled
from r1lab.tasks.countdown import Countdown
from r1lab.tasks.formulas.spelling import POWERS, spell
from r1lab.tasks.formulas.units import split_unit
from r1lab.tasks.hub_rows import FromHub, Rows, column, countdown_rows, load_rows, source_of

log = logging.getLogger(__name__)

MATH_TYPES = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra")
MATH_TYPES += ("number_theory", "prealgebra", "precalculus")
_PERCENT = re.compile(r"%|\bper ?cent(?:age)?\b", re.IGNORECASE)


class _Formulas(FromHub):
    """The verifier of tasks whose answers are numbers or formulas."""

    def judge(self, problem: Problem, answer: str) -> bool:
        """Is the answer equal to gold?  72 is 72% where the question asks for percent."""
        gold = problem.data.get("answer")
        if not isinstance(gold, str) or not isinstance(answer, str):
            return False
        asked = re.split(r"[.!?]\s", problem.question.strip())[-1]
        if number(gold) is not None and _PERCENT.search(answer) and _PERCENT.search(asked):
            gold += r"\%"
        return math_equal.equal(gold, answer)

    def vote(self, problem: Problem, answer: str) -> str | None:
        return math_equal.key(answer)

    def solution(self, problem: Problem) -> str | None:
        return problem.data.get("answer")


@dataclass(frozen=True)
class GSM8K(_Formulas):
    """Grade-school word problems (see `r1lab.tasks.base.Task`); the splits train and held_out.

    source  the hub id, or a folder with the same columns: question, answer ("… #### 72", or 72)"""

    source: str = "openai/gsm8k"
    name: str = field(default="gsm8k", init=False)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        train, test = (load_rows(self.source, "main", part) for part in ("train", "test"))
        return draw(pool(gsm8k_problems, train, test, split), f"gsm8k/{split}/{seed}", n)


@dataclass(frozen=True)
class MATH(_Formulas):
    """Competition problems (see `r1lab.tasks.base.Task`); the splits train and held_out (MATH-500).

    levels   which of the difficulties 1 to 5
    source   hub id for training, or a folder: problem, solution or answer, optionally level
             ("Level 3" or 3) and type; problems without a level come if `levels` has all five
    held_out hub id for evaluation, or a folder; by default the folder's test file"""

    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    source: str = "EleutherAI/hendrycks_math"
    held_out: str = "HuggingFaceH4/MATH-500"
    name: str = field(default="math", init=False)

    def __post_init__(self) -> None:
        listed = isinstance(self.levels, (tuple, list, set, range))
        levels = tuple(self.levels) if listed else (self.levels,)
        if not levels or not all(type(one) is int and 1 <= one <= 5 for one in levels):
            raise R1LabError(f"math: levels must be some of 1 to 5, not {self.levels!r}")
        object.__setattr__(self, "levels", levels)
        for name in ("source", "held_out"):
            object.__setattr__(self, name, source_of(self.name, getattr(self, name)))

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        local = Path(self.source).is_dir()
        train = load_rows(self.source, None if local else MATH_TYPES, "train")
        own = local and self.held_out == MATH.held_out
        test = load_rows(self.source if own else self.held_out, None, "test")
        found = pool(math_problems, train, test, split)
        if set(self.levels) < {1, 2, 3, 4, 5}:
            found = tuple(p for p in found if p.data["level"] in self.levels)
        return draw(found, f"math/{split}/{seed}", n)


@dataclass(frozen=True)
class CountdownHub(FromHub):
    """TinyZero's Countdown problems (see `r1lab.tasks.base.Task`), in Countdown's plain wording.

    numbers  3, 4, or None for both
    source   the hub id, a folder with the columns target and nums, or "generated": offline, three
             or four numbers from 1 to 99 and a target from 10 to 100 that they reach"""

    numbers: int | None = None
    source: str = "Jiayi-Pan/Countdown-Tasks-3to4"
    name: str = field(default="countdown_hub", init=False)

    def __post_init__(self) -> None:
        if self.numbers not in (3, 4, None) or isinstance(self.numbers, float):
            raise R1LabError(f"countdown_hub: numbers must be 3 or 4, not {self.numbers!r}")
        super().__post_init__()

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        if self.source == "generated":
            return [self.problem(*row) for row in _generated(self.numbers, split, n, seed)]
        rows = [row for row in countdown_rows(self.source) if self.numbers in (None, len(row[0]))]
        rows = [row for row in rows if _side(row[0]) == split]
        drawn = draw(rows, f"countdown_hub/{self.numbers}/{split}/{seed}", n)
        return [self.problem(nums, target) for nums, target in drawn]

    def problem(self, numbers: Sequence[int], target: int) -> Problem:
        problem = Countdown(wording="plain").problem(numbers, target)
        key = problem.id.replace("countdown", self.name, 1)
        return replace(problem, task=self.name, id=key, split=_side(numbers))

    judge, vote = Countdown.judge, Countdown.vote

    def solution(self, problem: Problem) -> str | None:
        return solve(problem.data["numbers"], problem.data["target"])


class LeftOut(Exception):
    """Why a row has no verifiable answer."""


def gsm8k_problems(rows: Iterable[dict], split: str) -> list[Problem]:
    """Rows {"question", "answer": "reasoning #### 1,234", or the number alone}."""

    def read(row: dict) -> tuple[str, dict]:
        text = str(column(row, "answer", "solution")).rpartition("####")[2].strip().rstrip(".")
        value, multiple, unit = split_unit(spell(math_equal.clean(text) or ""))
        gold = number(value.replace("`", ","))
        if gold is None:
            raise LeftOut("without a number behind ####")
        data = {"answer": f"{gold * multiple}{'%' if unit == '%' else ''}"}
        return column(row, "question", "problem", text=True), data

    return problems_of("gsm8k", rows, split, read)


def math_problems(rows: Iterable[dict], split: str) -> list[Problem]:
    r"""Rows {"problem", "solution": "… \boxed{…}" or "answer"} and perhaps "level" ("Level 3" or 3)
    and "type" or "subject"."""

    def read(row: dict) -> tuple[str, dict]:
        gold = row.get("answer")
        if gold is None or gold == "":
            gold = math_equal.boxed(str(column(row, "solution", "answer")))
        plain = isinstance(gold, (str, int, float)) and not isinstance(gold, bool) and gold == gold
        gold, level = str(gold).strip() if plain else "", row.get("level")
        if math_equal.clean(gold) is None:
            raise LeftOut(f"without an answer of at most {math_equal.MAX_CHARS} characters to read")
        digit = re.search("[1-5]", str(level))
        if level not in (None, "") and digit is None:  # a few rows say "Level ?"
            raise LeftOut("with another level than 1 to 5")
        data = {"answer": gold, "level": int(digit[0]) if digit else None}
        data["type"] = str(row.get("type") or row.get("subject") or "")
        return column(row, "problem", "question", text=True), data

    return problems_of("math", rows, split, read)


def problems_of(task: str, rows: Iterable[dict], split: str, read: Callable) -> list[Problem]:
    """Problems from rows by `read`; a warning counts the rows left out."""
    found, left_out = [], Counter()
    for k, row in enumerate(rows, 1):
        try:
            question, data = read(row)
        except LeftOut as reason:
            left_out[str(reason)] += 1
            continue
        except R1LabError as error:
            raise R1LabError(f"{task}, {split}, row {k}: {error}") from None
        tag = hashlib.sha256(content(question).encode("utf-8", "replace")).hexdigest()[:16]
        found.append(Problem(task, f"{task}/{tag}", question.strip(), "en", split, data))
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        words = f"{task}, {split}: {left_out.total()} of {k} rows are left out: {reasons}"
        if not found:
            raise R1LabError(f"{words}; so there is no problem")
        log.warning(words)
    return found


_TOKEN = re.compile(r"\d+(?:[.:]\d+)*|\.\d+|[^\W\d]\w*|[^\w\s]")


def content(question: str) -> str:
    """A question without differences in spaces, case and the punctuation of sentences."""
    text = POWERS.sub(r"^\g<0>", question.lower())  # x² is not x2
    text = unicodedata.normalize("NFKC", text)
    kept: list[str] = []
    for found in _TOKEN.finditer(text):
        token, before = found[0], kept[-1] if kept else ""
        if token in "-−–—‐":
            after = _TOKEN.search(text, found.end())
            dash = len(before) > 1 and before.isalpha()
            if after is None or (dash and len(after[0]) > 1 and after[0].isalpha()):
                continue
            token = "-"
        elif token in '.,:;?$"“”‘’':  # behind "!" and "'" a factorial, a derivative
            continue
        elif token in "!'" and (len(before) > 1 or text[found.end() : found.end() + 1].isalpha()):
            if not before.isdigit():
                continue
        kept.append(token)
    return " ".join(kept)


@lru_cache(maxsize=8)
def pool(make, train: Rows, test: Rows, split: str) -> tuple[Problem, ...]:
    """All problems of a split, each once; those of train without those of test."""
    held_out = {problem.id: problem for problem in make(test.rows, "held_out")}
    if split == "held_out":
        return tuple(held_out.values())
    found = {problem.id: problem for problem in make(train.rows, "train")}
    return tuple(problem for key, problem in found.items() if key not in held_out)


def draw(pool: Sequence, seed: str, n: int) -> list:
    """`n` of the pool in a seeded order, then again in another order."""
    if not pool:
        raise R1LabError(f"{seed.split('/')[0]}: there is no problem in the split asked for")
    rng = random.Random(seed)
    drawn: list = []
    while len(drawn) < n:
        drawn += shuffled(pool, rng)[: n - len(drawn)]
    return drawn


def _generated(numbers: int | None, split: str, n: int, seed: int) -> Iterable[tuple]:
    """n different rows (numbers, target): random operators on random numbers give the target, if it
    is a whole number in the range."""
    rng = random.Random(f"countdown_hub/generated/{numbers}/{split}/{seed}")
    seen: set[tuple] = set()
    while len(seen) < n:
        given = tuple(rng.randint(1, 99) for _ in range(numbers or rng.choice((3, 4))))
        items = [Fraction(value) for value in given]
        while len(items) > 1:
            b, a = (items.pop(rng.randrange(len(items))) for _ in range(2))
            results = [a + b, a - b, a * b] + ([a / b] if b else [])
            items.append(rng.choice(results))
        target, key = items[0], (tuple(sorted(given)), items[0])
        good = target.denominator == 1 and 10 <= target <= 100
        if good and key not in seen and _side(given) == split:
            seen.add(key)
            yield given, int(target)


def known_split(task: str, split: str) -> None:
    if split not in ("train", "held_out"):
        raise R1LabError(f"{task} has the splits train and held_out, not {split!r}")


def _side(numbers: Sequence[int]) -> str:
    """Countdown's split, with its leaked tenth in train."""
    return "held_out" if countdown.split_of(numbers) == "held_out" else "train"


def solve(numbers: Sequence[int], target: int) -> str | None:
    """An expression with each number once that equals the target, by search; None without one."""

    def search(items: list[tuple[Fraction, str]]) -> str | None:
        if len(items) == 1:
            return items[0][1] if items[0][0] == target else None
        for i, j in itertools.permutations(range(len(items)), 2):
            (a, left), (b, right) = items[i], items[j]
            rest = [item for k, item in enumerate(items) if k not in (i, j)]
            results = [("-", a - b)] + ([("/", a / b)] if b else [])
            results += [("+", a + b), ("*", a * b)] if i < j else []
            for op, value in results:
                if found := search([*rest, (value, f"( {left} {op} {right} )")]):
                    return found
        return None

    found = search([(Fraction(value), str(value)) for value in numbers])
    return found[2:-2] if found and found.startswith("( ") else found

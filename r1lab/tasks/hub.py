r"""Data sets from the Hugging Face hub: GSM8K, MATH, and Countdown as TinyZero posed it.

- `gsm8k`: openai/gsm8k (arXiv 2110.14168), grade-school word problems, whole-number answers.
- `math`: EleutherAI/hendrycks_math (arXiv 2103.03874) to train on; held out is
  HuggingFaceH4/MATH-500, the subset of its test problems that "Let's Verify Step by Step"
  (arXiv 2305.20050) evaluates on.
- `countdown_hub`: Jiayi-Pan/Countdown-Tasks-3to4, about 490,000 Countdown problems, in our own
  Countdown's words and judged by its judge; or, offline, problems generated like them.

The answers of the first two are formulas and numbers.  Two plain numbers are compared exactly, here
and at once; everything else goes to math-verify in a process of its own (`math_equal`).

**Splits.**  GSM8K and MATH bring their own, and a training problem whose words also occur in the
held-out part is dropped.  Countdown goes by its numbers, as in `r1lab.tasks.countdown`: no set of
numbers that is held out is ever trained on (a split by rows can have one set on both sides).
There is no leaked split: nobody knows what is in a real model's corpus.

The first use downloads a data set into the cache of `datasets` (HF_HOME); later ones need no
network.  `source="folder"` reads train.jsonl and test.jsonl (or .parquet) with the same columns,
for machines that have none.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from r1lab.basics.errors import R1LabError
from r1lab.tasks import countdown, math_equal
from r1lab.tasks.base import Problem
from r1lab.tasks.countdown import Countdown
from r1lab.tasks.gym import number

OFFLINE_TASKS = (
    "offline there are the tasks countdown and word_problems, and countdown_hub with "
    "source=generated"
)

MATH_TYPES = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


@dataclass(frozen=True)
class GSM8K:
    """Grade-school word problems (see `r1lab.tasks.base.Task`); the splits train and held_out.

    source  the hub id, or a folder with the same columns: question, answer ("… #### 72")
    """

    source: str = "openai/gsm8k"
    name: str = field(default="gsm8k", init=False)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        _known_split(self.name, split)
        train, test = (_rows(self.source, "main", part) for part in ("train", "test"))
        return _draw(_pool(gsm8k_problems, train, test, split), f"gsm8k/{split}/{seed}", n)

    def judge(self, problem: Problem, answer: str) -> bool:
        return _judge(problem, answer)

    def vote(self, problem: Problem, answer: str) -> str | None:
        return _vote(answer)

    def solution(self, problem: Problem) -> str | None:
        return problem.data.get("answer")


@dataclass(frozen=True)
class MATH:
    """Competition problems (see `r1lab.tasks.base.Task`); the splits train and held_out (MATH-500).

    levels   which of the difficulties 1 to 5
    source   the hub id to train on, or a folder: problem, level ("Level 3"), type, solution
    held_out the hub id to evaluate on, or a folder; by default the folder's test file
    """

    levels: tuple[int, ...] = (1, 2, 3, 4, 5)
    source: str = "EleutherAI/hendrycks_math"
    held_out: str = "HuggingFaceH4/MATH-500"
    name: str = field(default="math", init=False)

    def __post_init__(self) -> None:
        levels = (self.levels,) if isinstance(self.levels, int) else tuple(self.levels)
        if not levels or not set(levels) <= {1, 2, 3, 4, 5}:
            raise R1LabError(f"math: levels must be some of 1 to 5, not {self.levels!r}")
        object.__setattr__(self, "levels", levels)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        _known_split(self.name, split)
        local = Path(self.source).is_dir()
        train = _rows(self.source, None if local else MATH_TYPES, "train")
        test = _rows(self.source if local else self.held_out, None, "test")
        found = _pool(math_problems, train, test, split)
        found = tuple(p for p in found if p.data["level"] in self.levels)
        return _draw(found, f"math/{split}/{seed}", n)

    def judge(self, problem: Problem, answer: str) -> bool:
        return _judge(problem, answer)

    def vote(self, problem: Problem, answer: str) -> str | None:
        return _vote(answer)

    def solution(self, problem: Problem) -> str | None:
        return problem.data.get("answer")


@dataclass(frozen=True)
class CountdownHub:
    """TinyZero's Countdown problems (see `r1lab.tasks.base.Task`), in Countdown's plain wording.

    numbers  3, 4, or None for both
    source   the hub id, a folder with the same columns (target, nums), or "generated": drawn here,
             offline, three or four numbers from 1 to 99 and a target from 10 to 100 that they reach
    """

    numbers: int | None = None
    source: str = "Jiayi-Pan/Countdown-Tasks-3to4"
    name: str = field(default="countdown_hub", init=False)

    def __post_init__(self) -> None:
        if self.numbers not in (None, 3, 4):
            raise R1LabError(f"countdown_hub: numbers must be 3 or 4, not {self.numbers!r}")

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        _known_split(self.name, split)
        if self.source == "generated":
            return [self.problem(*row) for row in _generated(self.numbers, split, n, seed)]
        rows = [
            (tuple(nums), target)
            for nums, target in _countdown_rows(self.source)
            if self.numbers in (None, len(nums)) and _side(nums) == split
        ]
        drawn = _draw(rows, f"countdown_hub/{self.numbers}/{split}/{seed}", n)
        return [self.problem(nums, target) for nums, target in drawn]

    def problem(self, numbers: Sequence[int], target: int) -> Problem:
        """The problem of reaching `target` from `numbers`, shown in this order."""
        return Problem(
            task=self.name,
            id=f"countdown_hub/{'-'.join(map(str, sorted(numbers)))}={target}",
            question=countdown.question(numbers, target, "en", "plain"),
            language="en",
            split=_side(numbers),
            data={"numbers": list(numbers), "target": target},
        )

    def judge(self, problem: Problem, answer: str) -> bool:
        return Countdown().judge(problem, answer)

    def vote(self, problem: Problem, answer: str) -> str | None:
        return Countdown().vote(problem, answer)

    def solution(self, problem: Problem) -> str | None:
        """An expression that reaches the target, found by search; None where there is none."""
        return solve(problem.data["numbers"], problem.data["target"])


# -- from rows to problems --------------------------------------------------------------------


def gsm8k_problems(rows: Iterable[dict], split: str) -> list[Problem]:
    """Rows {"question", "answer": "reasoning #### 1,234"}; rows without such an answer are left
    out, because no answer to them could be judged."""
    found = []
    for row in rows:
        gold = number(str(row["answer"]).rpartition("####")[2])
        if "####" in str(row["answer"]) and gold is not None:
            found.append(_problem("gsm8k", row["question"], split, {"answer": str(gold)}))
    return found


def math_problems(rows: Iterable[dict], split: str) -> list[Problem]:
    r"""Rows {"problem", "level": "Level 3" or 3, "solution": "… \boxed{…}" and perhaps "answer"};
    rows without a gold answer that can be read are left out."""
    found = []
    for row in rows:
        gold = row.get("answer") or math_equal.boxed(str(row["solution"]))
        level = re.search("[1-5]", str(row.get("level")))  # a few rows say "Level ?"
        if level is None or math_equal.clean(gold) is None:
            continue
        data = {"answer": gold.strip(), "level": int(level[0])}
        data["type"] = str(row.get("type") or row.get("subject") or "")
        found.append(_problem("math", row["problem"], split, data))
    return found


def _problem(task: str, question: str, split: str, data: dict) -> Problem:
    tag = hashlib.sha256(_content(question).encode("utf-8", "replace")).hexdigest()[:16]
    return Problem(task, f"{task}/{tag}", question.strip(), "en", split, data)


def _content(question: str) -> str:
    """A question's words: two that differ only in spaces, case or punctuation are one."""
    return " ".join(re.findall(r"\w+", question.lower()))


@lru_cache(maxsize=8)
def _pool(make, train: Rows, test: Rows, split: str) -> tuple[Problem, ...]:
    """All problems of a split, each once; from train without what is also in test."""
    held_out = {problem.id: problem for problem in make(test.rows, "held_out")}
    if split == "held_out":
        return tuple(held_out.values())
    found = {problem.id: problem for problem in make(train.rows, "train")}
    return tuple(problem for key, problem in found.items() if key not in held_out)


def _draw(pool: Sequence, seed: str, n: int) -> list:
    """`n` of the pool in a seeded order; over again in another order once all have come."""
    if not pool:
        raise R1LabError(f"{seed.split('/')[0]}: there is no problem in the split asked for")
    rng = random.Random(seed)
    drawn: list = []
    while len(drawn) < n:
        keys = [rng.random() for _ in pool]
        order = sorted(range(len(pool)), key=keys.__getitem__)
        drawn += [pool[i] for i in order[: n - len(drawn)]]
    return drawn


def _generated(
    numbers: int | None, split: str, n: int, seed: int
) -> Iterable[tuple[tuple[int, ...], int]]:
    """n different rows (numbers, target) of a split: the numbers are put together at random, and
    what comes out is the target, if it is a whole number in the range."""
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
        if target.denominator == 1 and 10 <= target <= 100 and key not in seen:
            if _side(given) == split:
                seen.add(key)
                yield given, int(target)


def _known_split(task: str, split: str) -> None:
    if split not in ("train", "held_out"):
        raise R1LabError(f"{task} has the splits train and held_out, not {split!r}")


def _side(numbers: Sequence[int]) -> str:
    """Countdown's split, with its leaked tenth in train."""
    return "held_out" if countdown.split_of(numbers) == "held_out" else "train"


# -- loading ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)  # compared by identity, so that it can be a key of a cache
class Rows:
    rows: tuple[dict, ...]


@lru_cache(maxsize=8)
def _rows(source: str, configs: str | tuple[str, ...] | None, split: str) -> Rows:
    """The rows of a data set on the hub, or of the files in a folder."""
    local = Path(source).is_dir()
    names = configs if isinstance(configs, tuple) and not local else (None if local else configs,)
    return Rows(tuple(row for name in names for row in _load(source, name, split)))


@lru_cache(maxsize=2)
def _countdown_rows(source: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """(numbers, target) of every row that is a Countdown problem of 3 or 4 numbers."""
    data = _load(source, None, "train")
    pairs = zip(data["nums"], data["target"], strict=True)
    return tuple(
        (tuple(map(int, nums)), int(target)) for nums, target in pairs if len(nums) in (3, 4)
    )


def _load(source: str, config: str | None, split: str):
    """`datasets.load_dataset`, with one error for all the ways in which it fails offline."""
    import datasets

    arguments: dict = {"path": source, "name": config, "split": split}
    if Path(source).is_dir():
        files = [Path(source) / f"{split}{end}" for end in (".jsonl", ".parquet")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise R1LabError(f"the folder {source} holds neither {split}.jsonl nor .parquet")
        kind = "json" if file.suffix == ".jsonl" else "parquet"
        arguments = {"path": kind, "data_files": str(file), "split": "train"}

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.utils.logging.disable_progress_bar()
    try:
        return datasets.load_dataset(**arguments)
    except Exception as error:  # ConnectionError, DatasetNotFoundError, OfflineModeIsEnabled, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise R1LabError(
            f"cannot load the data set {source} ({reason}). It comes from the hub, so it needs the "
            "network the first time; --task-option source=FOLDER (in Python: "
            f"source='folder') reads train.jsonl and test.jsonl from a folder; {OFFLINE_TASKS}"
        ) from error
    finally:
        if bars:
            datasets.utils.logging.enable_progress_bar()


# -- judging ----------------------------------------------------------------------------------


def _judge(problem: Problem, answer: str) -> bool:
    """Plain numbers exactly, all else by math-verify; never raises on any answer."""
    gold = problem.data.get("answer")
    if not isinstance(gold, str) or not isinstance(answer, str):
        return False
    wanted, given = number(gold), number(answer)
    if wanted is not None and given is not None:
        return wanted == given
    return math_equal.equal(gold, answer)


def _vote(answer: str) -> str | None:
    r"""A number in one spelling, else the formula without wrapping and spaces.  (Equal formulas in
    different forms, \frac{1}{2} and 0.5, count as different votes: sympy has no canonical form.)"""
    value = number(answer)
    if value is not None:
        return str(value)
    text = math_equal.clean(answer)
    return None if text is None else text.replace(" ", "")


def solve(numbers: Sequence[int], target: int) -> str | None:
    """An expression with each number once that equals the target, exact fractions on the way."""

    def search(items: list[tuple[Fraction, str]]) -> str | None:
        if len(items) == 1:
            return items[0][1] if items[0][0] == target else None
        for i, j in itertools.permutations(range(len(items)), 2):
            (a, left), (b, right) = items[i], items[j]
            rest = [item for k, item in enumerate(items) if k not in (i, j)]
            results = [("-", a - b)] + ([("/", a / b)] if b else [])
            results += [("+", a + b), ("*", a * b)] if i < j else []
            for op, value in results:
                found = search([*rest, (value, f"( {left} {op} {right} )")])
                if found is not None:
                    return found
        return None

    found = search([(Fraction(value), str(value)) for value in numbers])
    return found[2:-2] if found and found.startswith("( ") else found

"""Word problems in English for real models, generated offline by reasoning-gym
(github.com/open-thought/reasoning-gym).

    How many legs are there in total if you have 3 cats, 2 ducks?   ->   16

Its verifiers are not used: some call `eval` on the answer or give partial credit to wrong ones.

**Splits** go by content (kind, template and numbers), not by seed: reasoning-gym's data sets of
neighbouring seeds share nearly all items. Stories that differ only in names are in one split;
held-out problems have new numbers in the same templates.
"""

import hashlib
import random
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import OneNumber, Problem, check_split, number, split_of_content
from r1lab.tasks.gym import package

PATIENCE = 5000  # after so many draws in a row without a new problem a kind is used up
DIGITS = r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
INSTRUCTION = "Answer with the number alone."

WRONG_STORIES = frozenset({32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98})
"""Templates that reasoning-gym itself marks as wrong (`tasks_need_fix`)."""


@dataclass(frozen=True)
class Level:
    """The limits of a difficulty, each a maximum."""

    kinds: tuple[str, ...]
    animals: tuple[int, int]  # kinds of animals, and number of each
    entities: int  # brothers, sisters, friends
    sides: int  # of a polygon
    days: int  # between two dates
    chars: int  # of a question
    largest: int  # answer, and numbers in a question


_KINDS = ("legs", "family", "polygon", "calendar", "stories")
LEVELS = {
    "easy": Level(("legs", "family", "stories"), (2, 5), 9, 3, 31, 200, 100),
    "medium": Level(("legs", "family", "polygon", "stories"), (4, 9), 12, 5, 60, 260, 1000),
    "hard": Level(_KINDS, (8, 15), 20, 8, 120, 700, 10**6),
}


@dataclass(frozen=True)
class WordProblems(OneNumber):
    """Word problems whose answer is a whole number (see `r1lab.tasks.base.Task`).

    difficulty  "easy" (one or two steps, small numbers), "medium", "hard" (all of GSM-Symbolic)
    kinds       which generators; by default those of the difficulty. "largest" (of three numbers)
                is in none: a small model's first exercise"""

    difficulty: str = "medium"
    kinds: tuple[str, ...] | None = None
    name: str = "word_problems"

    def __post_init__(self) -> None:
        if self.difficulty not in LEVELS:
            known = ", ".join(LEVELS)
            raise R1LabError(f"{self.name}: difficulty must be {known}, not {self.difficulty!r}")
        kinds = LEVELS[self.difficulty].kinds if self.kinds is None else self.kinds
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if not kinds or not set(kinds) <= set(WRITERS) or len(set(kinds)) < len(kinds):
            known = ", ".join(WRITERS)
            raise R1LabError(f"{self.name}: kinds must be some of {known}, not {self.kinds!r}")
        object.__setattr__(self, "kinds", kinds)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems of a split, the first m the same for n >= m, the kinds equally often. No
        content repeats until every kind is used up."""
        check_split(split)
        rng = random.Random(f"word_problems/{self.difficulty}/{self.kinds}/{split}/{seed}")
        drawn, seen, left = [], set(), list(self.kinds)
        while len(drawn) < n:
            kind = left[int(rng.random() * len(left))]
            for _ in range(PATIENCE):
                problem = self.write(kind, random.Random(rng.getrandbits(64)))
                if problem is not None and problem.split == split and problem.id not in seen:
                    seen.add(problem.id)
                    drawn.append(problem)
                    break
            else:
                left.remove(kind)
                if not left and not seen:
                    raise R1LabError(f"word_problems: {self.kinds} has no problem in {split}")
                if not left:
                    seen, left = set(), list(self.kinds)
        return drawn

    def write(self, kind: str, rng: random.Random) -> Problem | None:
        """A problem of a kind; None if it exceeds the limits of the difficulty."""
        level = LEVELS[self.difficulty]
        content, text, answer = WRITERS[kind](level, rng)
        if content is None:
            return None
        text = " ".join(text.split())
        numbers = [number(found) for found in re.findall(DIGITS, text)]
        value = number(answer)
        if value is None or value.denominator != 1 or value < 0:
            return None
        quantities = [value] if kind == "calendar" else [value, *numbers]  # without years
        if len(text) > level.chars or max(quantities) > level.largest:
            return None
        content = f"{kind}/{content}"
        tag = hashlib.sha256(content.encode()).hexdigest()[:16]
        key, data = f"word_problems/{kind}/{tag}={value}", {"kind": kind, "answer": str(value)}
        if kind != "largest":
            text = f"{text} {INSTRUCTION}"
        return Problem(self.name, key, text, "en", split_of_content(content), data)


# -- the generators: (level, rng) -> (content, question, answer) --------------------------------
# Equal contents are one problem. A content of None leaves the problem out.

Written = tuple[str | None, str, str]


def _item(name: str, dataset: str, rng: random.Random, **options) -> tuple[dict, types.ModuleType]:
    """One item of one of reasoning-gym's data sets, and its module."""
    module = package.module(name)
    config = getattr(module, f"{dataset}Config")(seed=rng.getrandbits(48), size=1, **options)
    return getattr(module, f"{dataset}Dataset")(config)[0], module


def _legs(level: Level, rng: random.Random) -> Written:
    """Legs of some animals: 3 cats, 2 ducks -> 16."""
    kinds, most = level.animals
    sizes = {"min_animals": 1, "max_animals": kinds, "min_instances": 1, "max_instances": most}
    item, _ = _item("arithmetic.leg_counting", "LegCounting", rng, **sizes)
    animals = item["metadata"]["animals"]
    text = item["question"].split("Now, ")[-1].replace("how", "How", 1)
    return "-".join(f"{animals[name]} {name}" for name in sorted(animals)), text, item["answer"]


def _family(level: Level, rng: random.Random) -> Written:
    """Sisters of a brother ("Alice in Wonderland", arXiv 2406.02061), without the ambiguous
    questions about colleagues and about a brother of somebody who is not introduced."""
    kinds = package.module("logic.aiw").TaskType
    options = {"task_types": [kinds.SIBLINGS, kinds.FRIENDS], "task_type_weights": [0.5, 0.5]}
    options["max_entities"] = level.entities
    item, _ = _item("logic.aiw", "AliceInWonderland", rng, **options)
    text, kind = item["question"], item["metadata"]["task_type"]
    stranger = kind == "siblings" and _of_a_man().search(text)
    content = None if stranger else f"{kind}/{'-'.join(re.findall(DIGITS, text))}"
    return content, text, item["answer"]


@cache
def _of_a_man() -> re.Pattern:
    """Finds "Bob's" in a question of `_family`."""
    men = package.module("logic.aiw").AliceInWonderlandConfig().male_names
    return re.compile(rf"\b({'|'.join(men)})'s")


def _polygon(level: Level, rng: random.Random) -> Written:
    """The last angle of a convex polygon."""
    item, _ = _item("geometry.simple_geometry", "SimpleGeometry", rng, max_sides=level.sides)
    text = item["question"].split("Return only")[0].replace(".0°", "°")
    angles = sorted(int(angle) for angle in item["metadata"]["known_angles"])
    convex = float(item["answer"]) < 180  # whatever the question says
    return "-".join(map(str, angles)) if convex else None, text, item["answer"]


def _calendar(level: Level, rng: random.Random) -> Written:
    """Mondays, or working days, between two dates."""
    task = ("count_days", "count_business_days")[int(rng.random() * 2)]
    options = {"tasks": [task], "offset_upper_bound": level.days}
    item, module = _item("arithmetic.calendar_arithmetic", "CalendarArithmetic", rng, **options)
    text = item["question"]
    for ending in module.CalendarArithmeticDataset.COUNT_QUESTION_TEMPLATES:
        text = text.removesuffix(ending)
    start, end = item["metadata"]["start_date"], item["metadata"]["end_date"]
    one_year = start[:4] == end[:4]  # else the question prints the wrong year
    return f"{task}/{start}/{end}" if one_year else None, text, item["answer"]


def _stories(level: Level, rng: random.Random) -> Written:
    """GSM-Symbolic (arXiv 2410.05229): 85 templates of stories like GSM8K's."""
    right = [k for k in range(100) if k not in WRONG_STORIES]
    k = right[int(rng.random() * len(right))]
    half = package.module(f"arithmetic.gsm_symbolic.generators_{'00_49' if k < 50 else '50_99'}")
    item = getattr(half, f"generate_{k}")(rng, 1.0)
    text = item["question"]
    return f"{k}/{'-'.join(re.findall(DIGITS, text))}", text, item["answer"]


def _largest(level: Level, rng: random.Random) -> Written:
    """The largest of three numbers of two digits, in any order one content. It needs no package."""
    numbers = [10 + int(rng.random() * 90) for _ in range(3)]
    content = "-".join(map(str, sorted(numbers))) if len(set(numbers)) == 3 else None
    text = f"Which is the largest: {', '.join(map(str, numbers))}?"
    return content, text, str(max(numbers))


_ALL: tuple[Callable[[Level, random.Random], Written], ...]
_ALL = (_legs, _family, _polygon, _calendar, _stories, _largest)
WRITERS = {writer.__name__[1:]: writer for writer in _ALL}

"""Word problems in English, generated offline: a task for real models that needs no hub.

    How many legs are there in total if you have 3 cats, 2 ducks?   ->   16

reasoning-gym (github.com/open-thought/reasoning-gym) writes them. **We take its questions and
nothing else**: its verifiers execute what the model writes (some call `eval`), and give partial
credit to wrong answers. Ours reads one number, exactly.

**Splits.** A generator's item i of seed s is its item 0 of seed s + i, so two data sets with
neighbouring seeds are almost one. Here the *content* decides: kind, template and the numbers in the
question, by their SHA-256. Two stories that differ only by who buys the apples are in one split,
whatever seed they came from; held out means new numbers, the templates are the same.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import random
import re
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import SPLITS, OneNumber, Problem, number, split_of_content

REASONING_GYM = "reasoning-gym==0.1.25"
PATIENCE = 5000  # draws in a row that bring nothing new: a kind has been used up
DIGITS = r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
INSTRUCTION = "Answer with the number alone."

WRONG_STORIES = frozenset({32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98})
"""Templates that reasoning-gym itself marks as wrong (`tasks_need_fix`)."""


@dataclass(frozen=True)
class Level:
    """How hard the problems of a difficulty are."""

    kinds: tuple[str, ...]
    animals: tuple[int, int]  # at most so many kinds of animals, and up to so many of each
    entities: int  # brothers, sisters, friends: up to so many
    sides: int  # of a polygon, at most
    days: int  # between two dates, at most
    chars: int  # of a question, at most
    largest: int  # answer and numbers in a question, at most


LEVELS = {
    "easy": Level(("legs", "family", "stories"), (2, 5), 9, 3, 31, 200, 100),
    "medium": Level(("legs", "family", "polygon", "stories"), (4, 9), 12, 5, 60, 260, 1000),
    "hard": Level(
        ("legs", "family", "polygon", "calendar", "stories"), (8, 15), 20, 8, 120, 700, 10**6
    ),
}


@dataclass(frozen=True)
class WordProblems(OneNumber):
    """Word problems whose answer is a whole number (see `r1lab.tasks.base.Task`).

    difficulty  "easy" (one or two steps, small numbers), "medium", "hard" (all of GSM-Symbolic)
    kinds       which generators; by default those of the difficulty

    Raises R1LabError for any other value.
    """

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
        """`n` problems of a split; the first m of them are the same for every n >= m.

        The kinds come equally often.  No content comes twice until every kind has been used up.
        """
        if split not in SPLITS:
            raise R1LabError(f"unknown split {split!r}; take one of {', '.join(SPLITS)}")
        rng = random.Random(f"word_problems/{self.difficulty}/{self.kinds}/{split}/{seed}")
        drawn: list[Problem] = []
        seen: set[str] = set()
        left = list(self.kinds)
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
                    seen.clear()
                    left = list(self.kinds)
        return drawn

    def write(self, kind: str, rng: random.Random) -> Problem | None:
        """One problem of a kind; None if it is too long or too large for the difficulty."""
        level = LEVELS[self.difficulty]
        content, text, answer = WRITERS[kind](level, rng)
        text = " ".join(text.split())
        numbers = [number(found) for found in re.findall(DIGITS, text)]
        value = number(answer)
        if content is None or value is None or value.denominator != 1 or value < 0:
            return None
        quantities = [value] if kind == "calendar" else [value, *numbers]  # years are none
        if len(text) > level.chars or max(quantities) > level.largest:
            return None
        content = f"{kind}/{content}"
        tag = hashlib.sha256(content.encode()).hexdigest()[:16]
        return Problem(
            task=self.name,
            id=f"word_problems/{kind}/{tag}={value}",
            question=f"{text} {INSTRUCTION}",
            language="en",
            split=split_of_content(content),
            data={"kind": kind, "answer": str(value)},
        )


# -- the generators: (level, rng) -> (content, question, answer) --------------------------------
# Equal contents are one problem in other words. A content of None leaves the problem out.

Written = tuple[str | None, str, str]


def _item(name: str, dataset: str, rng: random.Random, **options) -> tuple[dict, types.ModuleType]:
    """One item of one of reasoning-gym's data sets, and its module."""
    module = _gym(name)
    config = getattr(module, f"{dataset}Config")(seed=rng.getrandbits(48), size=1, **options)
    return getattr(module, f"{dataset}Dataset")(config)[0], module


def _numbers(text: str) -> str:
    return "-".join(re.findall(DIGITS, text))


def _legs(level: Level, rng: random.Random) -> Written:
    """Legs of some animals: 3 cats, 2 ducks -> 16."""
    kinds, most = level.animals
    sizes = {"min_animals": 1, "max_animals": kinds, "min_instances": 1, "max_instances": most}
    item, _ = _item("arithmetic.leg_counting", "LegCounting", rng, **sizes)
    animals = item["metadata"]["animals"]
    text = item["question"].split("Now, ")[-1].replace("how", "How", 1)
    return "-".join(f"{animals[name]} {name}" for name in sorted(animals)), text, item["answer"]


def _family(level: Level, rng: random.Random) -> Written:
    """Sisters of a brother ("Alice in Wonderland", arXiv 2406.02061). Without the question about
    colleagues, whose answer is disputable (is Matilda one of her own colleagues?), and without the
    one about a brother of somebody who was not introduced."""
    kinds = _gym("logic.aiw").TaskType
    options = {"task_types": [kinds.SIBLINGS, kinds.FRIENDS], "task_type_weights": [0.5, 0.5]}
    options["max_entities"] = level.entities
    item, module = _item("logic.aiw", "AliceInWonderland", rng, **options)
    text, kind = item["question"], item["metadata"]["task_type"]
    men = module.AliceInWonderlandConfig().male_names
    stranger = kind == "siblings" and any(re.search(rf"\b{name}'s", text) for name in men)
    return None if stranger else f"{kind}/{_numbers(text)}", text, item["answer"]


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
    half = _gym(f"arithmetic.gsm_symbolic.generators_{'00_49' if k < 50 else '50_99'}")
    item = getattr(half, f"generate_{k}")(rng, 1.0)
    return f"{k}/{_numbers(item['question'])}", item["question"], item["answer"]


WRITERS: dict[str, Callable[[Level, random.Random], Written]] = {
    "legs": _legs,
    "family": _family,
    "polygon": _polygon,
    "calendar": _calendar,
    "stories": _stories,
}

_lock = threading.Lock()


@cache
def _gym(name: str) -> types.ModuleType:
    """A module of reasoning-gym by its name inside the package, and only what it needs itself.

    `import reasoning_gym` imports all of its hundred generators and with them ten packages, one of
    which needs a C compiler to install.  So the package is installed without its dependencies, and
    its `__init__` files are not run: empty modules take their places while we import.
    """
    spec, full = importlib.util.find_spec("reasoning_gym"), f"reasoning_gym.{name}"
    if spec is None or not spec.submodule_search_locations:
        raise R1LabError(
            "the task word_problems is generated by the PyPI package reasoning-gym (7 MB), which "
            f"is not installed: pip install --no-deps {REASONING_GYM}"
        )
    with _lock:
        if getattr(sys.modules.get("reasoning_gym"), "__file__", None):  # all of it is there
            return importlib.import_module(full)
        before, parts = set(sys.modules), full.split(".")[:-1]
        for i in range(1, len(parts) + 1):
            package = types.ModuleType(".".join(parts[:i]))
            package.__path__ = ["/".join([spec.submodule_search_locations[0], *parts[1:i]])]
            sys.modules[package.__name__] = package
        try:
            return importlib.import_module(full)
        finally:  # an `import reasoning_gym` elsewhere must get the whole package
            for module in set(sys.modules) - before:
                if module.split(".")[0] == "reasoning_gym":
                    del sys.modules[module]

"""Word problems in English, generated offline: a task for real models that needs no hub.

    How many legs are there in total if you have 3 cats, 2 ducks?   ->   16

reasoning-gym (github.com/open-thought/reasoning-gym) writes them; five of its generators have
answers that are whole numbers:

- legs      legs of some animals                        3 cats, 2 ducks -> 16
- family    sisters of a brother ("Alice in Wonderland", arXiv 2406.02061)
- polygon   the last angle of a convex polygon
- calendar  Mondays or working days between two dates
- stories   GSM-Symbolic (arXiv 2410.05229): 85 templates of stories like GSM8K's

**We take its questions and nothing else.**  Its judges execute what the model writes (some call
`eval`), and pay wrong answers a little.  Ours reads one number, exactly.

**Splits.**  A generator's item i of seed s is its item 0 of seed s + i, so two data sets with
neighbouring seeds are almost one.  Here the *content* decides: kind, template and the numbers in
the question.  Its SHA-256 puts one problem in ten into held_out and one into leaked, so two stories
that differ only by who buys the apples are in one split, whatever seed they came from.  What held
out means here is "new numbers": the templates are the same.  (No base model has seen the leaked
ones on purpose; they are a second tenth that RL never asks.)
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
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import SPLITS, Problem, split_of_content

REASONING_GYM = "reasoning-gym==0.1.25"
PATIENCE = 5000  # draws in a row that bring nothing new: a kind has been used up

INSTRUCTION = "Answer with the number alone."

STORIES_TO_LEAVE_OUT = frozenset({32, 35, 37, 61, 63, 65, 74, 76, 77, 79, 86, 87, 90, 97, 98})
"""Templates that reasoning-gym itself marks as wrong (`tasks_need_fix`)."""


@dataclass(frozen=True)
class Level:
    """How hard the problems of a difficulty are.

    kinds      the generators used
    animals    at most so many kinds of animals, and up to so many of each
    entities   brothers, sisters, friends: up to so many
    sides      at most so many sides
    days       calendar: at most so many days between two dates
    chars      the question has at most so many characters
    largest    the answer and every number in the question are at most this
    """

    kinds: tuple[str, ...]
    animals: tuple[int, int]
    entities: int
    sides: int
    days: int
    chars: int
    largest: int


LEVELS = {
    "easy": Level(("legs", "family", "stories"), (2, 5), 9, 3, 31, 200, 100),
    "medium": Level(("legs", "family", "polygon", "stories"), (4, 9), 12, 5, 60, 260, 1000),
    "hard": Level(
        ("legs", "family", "polygon", "calendar", "stories"), (8, 15), 20, 8, 120, 700, 10**6
    ),
}


@dataclass(frozen=True)
class WordProblems:
    """The task (see `r1lab.tasks.base.Task`).

    difficulty  "easy" (one or two steps, small numbers), "medium", "hard" (all of GSM-Symbolic)
    kinds       which generators; by default those of the difficulty

    Raises R1LabError for any other value.
    """

    difficulty: str = "medium"
    kinds: tuple[str, ...] | None = None
    name: str = "word_problems"

    def __post_init__(self) -> None:
        if self.difficulty not in LEVELS:
            raise R1LabError(
                f"word_problems: difficulty must be one of {', '.join(LEVELS)}, "
                f"not {self.difficulty!r}"
            )
        kinds = LEVELS[self.difficulty].kinds if self.kinds is None else self.kinds
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if not kinds or not set(kinds) <= set(WRITERS) or len(set(kinds)) < len(kinds):
            raise R1LabError(
                f"word_problems: kinds must be some of {', '.join(WRITERS)}, not {self.kinds!r}"
            )
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

    def judge(self, problem: Problem, answer: str) -> bool:
        """Is the answer the right number, and a number alone?  Never raises."""
        value = number(answer)
        return value is not None and value == number(problem.data.get("answer"))

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The number in one spelling ("1,200.0" and "1200" are one), or None.  Never raises."""
        value = number(answer)
        return None if value is None else str(value)

    def solution(self, problem: Problem) -> str | None:
        """The right answer."""
        return problem.data.get("answer")


DIGITS = r"[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
NUMBER = re.compile(
    r"(?:\\?[$€£])?\s*([-+\u2212]?)\s*(?:\\?[$€£])?\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]+)?\s*[.°]?"
)


def number(text: object) -> Fraction | None:
    """The exact value of a text that is one number and nothing else, or None.

    Allowed around it: white space, one sign, a currency sign, a full stop, commas between
    thousands.  Not allowed: units, a second number, a computation, an exponent.
    """
    if not isinstance(text, str) or len(text) > 60:
        return None
    found = NUMBER.fullmatch(text.strip())
    if found is None:
        return None
    sign, whole, part = found.groups()
    value = Fraction(whole.replace(",", "") + (part or ""))
    return -value if sign in ("-", "\u2212") else value


# -- the generators ---------------------------------------------------------------------------
# Each takes (level, rng) and returns (content, question, answer): equal contents are one problem
# in other words.  A content of None leaves the problem out.


def _legs(level: Level, rng: random.Random) -> tuple[str | None, str, str]:
    module = _gym("arithmetic.leg_counting")
    kinds, most = level.animals
    config = module.LegCountingConfig(1, kinds, 1, most, seed=rng.getrandbits(48), size=1)
    item = module.LegCountingDataset(config)[0]
    animals = item["metadata"]["animals"]
    text = item["question"].split("Now, ")[-1].replace("how", "How", 1)
    return "-".join(f"{animals[name]} {name}" for name in sorted(animals)), text, item["answer"]


def _family(level: Level, rng: random.Random) -> tuple[str | None, str, str]:
    """Without the question about colleagues, whose answer is disputable (is Matilda one of her own
    colleagues?), and without the one about a brother of somebody who was not introduced."""
    module = _gym("logic.aiw")
    config = module.AliceInWonderlandConfig(
        seed=rng.getrandbits(48),
        size=1,
        max_entities=level.entities,
        task_types=[module.TaskType.SIBLINGS, module.TaskType.FRIENDS],
        task_type_weights=[0.5, 0.5],
    )
    item = module.AliceInWonderlandDataset(config)[0]
    text, kind = item["question"], item["metadata"]["task_type"]
    if kind == "siblings" and any(re.search(rf"\b{name}'s", text) for name in config.male_names):
        return None, text, item["answer"]
    return f"{kind}/{'-'.join(re.findall(DIGITS, text))}", text, item["answer"]


def _polygon(level: Level, rng: random.Random) -> tuple[str | None, str, str]:
    module = _gym("geometry.simple_geometry")
    config = module.SimpleGeometryConfig(max_sides=level.sides, seed=rng.getrandbits(48), size=1)
    item = module.SimpleGeometryDataset(config)[0]
    text = item["question"].split("Return only")[0].replace(".0°", "°")
    angles = sorted(int(angle) for angle in item["metadata"]["known_angles"])
    if float(item["answer"]) >= 180:  # not convex, whatever the question says
        return None, text, item["answer"]
    return "-".join(map(str, angles)), text, item["answer"]


def _calendar(level: Level, rng: random.Random) -> tuple[str | None, str, str]:
    module = _gym("arithmetic.calendar_arithmetic")
    task = ("count_days", "count_business_days")[int(rng.random() * 2)]
    config = module.CalendarArithmeticConfig(
        tasks=[task], offset_upper_bound=level.days, seed=rng.getrandbits(48), size=1
    )
    dataset = module.CalendarArithmeticDataset(config)
    item, text = dataset[0], dataset[0]["question"]
    for ending in dataset.COUNT_QUESTION_TEMPLATES:
        text = text.removesuffix(ending)
    start, end = item["metadata"]["start_date"], item["metadata"]["end_date"]
    if start[:4] != end[:4]:  # the question would print the wrong year
        return None, text, item["answer"]
    return f"{task}/{start}/{end}", text, item["answer"]


def _stories(level: Level, rng: random.Random) -> tuple[str | None, str, str]:
    numbers = [k for k in range(100) if k not in STORIES_TO_LEAVE_OUT]
    k = numbers[int(rng.random() * len(numbers))]
    half = "00_49" if k < 50 else "50_99"
    write = getattr(_gym(f"arithmetic.gsm_symbolic.generators_{half}"), f"generate_{k}")
    item = write(rng, 1.0)
    return f"{k}/{'-'.join(re.findall(DIGITS, item['question']))}", item["question"], item["answer"]


WRITERS = {
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
    full = f"reasoning_gym.{name}"
    found = importlib.util.find_spec("reasoning_gym")
    if found is None or not found.submodule_search_locations:
        raise R1LabError(
            "the task word_problems is generated by the PyPI package reasoning-gym (7 MB), which "
            f"is not installed: pip install --no-deps {REASONING_GYM}"
        )
    with _lock:
        if getattr(sys.modules.get("reasoning_gym"), "__file__", None):  # all of it is there
            return importlib.import_module(full)
        before = set(sys.modules)
        parts = full.split(".")[:-1]
        for i in range(len(parts)):
            package = types.ModuleType(".".join(parts[: i + 1]))
            package.__path__ = [
                "/".join([*found.submodule_search_locations[:1], *parts[1 : i + 1]])
            ]
            sys.modules[package.__name__] = package
        try:
            return importlib.import_module(full)
        finally:  # an `import reasoning_gym` elsewhere must get the whole package
            for module in set(sys.modules) - before:
                if module.split(".")[0] == "reasoning_gym":
                    del sys.modules[module]

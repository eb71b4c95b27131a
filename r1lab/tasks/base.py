"""What a task is: problems with an answer that a rule can check.

R1-Zero learns from nothing but the verdict of rules (arXiv 2501.12948v2, section 2.2): the answer
is right or it is not. So all that the training loop has to know of a task is

- `problems`: draw questions, from a split that training may or may not see;
- `judge`: is this answer right?  It is the accuracy reward, and all the supervision there is;
- `vote`: which answers count as the same answer?  Majority voting (cons@k) needs that.

A `Problem` is plain data that goes through JSON and back, because it travels as a column of a data
set into reward functions (`r1lab.rewards`) and into the files that a run leaves behind.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from r1lab.basics.errors import R1LabError

SPLITS = ("train", "held_out", "leaked")
"""train: RL may ask these.  held_out: nobody has seen them; we report on these.
leaked: held out from RL too, but some of them lie in the base model's corpus, on purpose."""


@dataclass(frozen=True)
class Problem:
    """One question, and what its judge needs.

    task      the task's name in the registry, "countdown"
    id        canonical: equal for two wordings of one problem, "countdown/6-7-10=23"
    question  the words shown to the model; a template (`r1lab.templates`) goes around them
    language  "en" or "zh"
    split     one of SPLITS
    data      whatever the judge needs, as JSON-able values: {"numbers": [7, 6, 10], "target": 23}
    """

    task: str
    id: str
    question: str
    language: str
    split: str
    data: dict[str, Any] = field(hash=False)

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Problem:
        """The inverse of `to_json`.  Raises R1LabError for anything else."""
        try:
            fields = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise R1LabError(f"this is not a problem in JSON: {error}") from None
        return cls.from_dict(fields)

    @classmethod
    def from_dict(cls, fields: Any) -> Problem:
        """A problem from its fields, as a dict.  Raises R1LabError if they are not these six."""
        names = list(cls.__dataclass_fields__)
        if not isinstance(fields, dict) or set(fields) != set(names):
            raise R1LabError(f"a problem needs exactly the fields {', '.join(names)}")
        if not isinstance(fields["data"], dict):
            raise R1LabError("a problem's field data must be a dict")
        for name in names[:-1]:
            if not isinstance(fields[name], str):
                raise R1LabError(f"a problem's field {name} must be a string")
        return cls(**fields)


def split_of_content(content: str) -> str:
    """The split that a content belongs to, by its SHA-256: one part in ten held out, one leaked,
    the rest train.  What counts as content is the task's to say."""
    tenth = int.from_bytes(hashlib.sha256(f"split/{content}".encode()).digest()[:8], "big") % 10
    return {0: "held_out", 1: "leaked"}.get(tenth, "train")


def languages_of(task: str, wording: str, languages: Sequence[str] | None) -> tuple[str, ...]:
    """The languages that a task of the tiny world is asked in: those given, or all of its wording,
    English and Chinese for "tiny" and English for "plain".  Raises R1LabError for any other."""
    if wording not in ("tiny", "plain"):
        raise R1LabError(f"{task}: wording must be tiny or plain, not {wording!r}")
    known = ("en",) if wording == "plain" else ("en", "zh")
    chosen = known if languages is None else tuple(languages)
    if not chosen or not set(chosen) <= set(known):
        raise R1LabError(
            f"{task}: languages for wording={wording} must be out of {', '.join(known)}, not "
            f"{languages!r}"
        )
    return chosen


def distinct(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in order: a split that is smaller than what was asked for repeats."""
    return list({problem.id: problem for problem in problems}.values())


def drawn_by_weight(items: Sequence[Any], weights: Sequence[float], rng: random.Random) -> Any:
    """One of the items, by one rng.random(), the method whose sequence Python promises to keep."""
    point = rng.random() * sum(weights)
    for item, edge in zip(items, itertools.accumulate(weights), strict=True):
        if point < edge:
            return item
    return items[-1]


NUMBER = re.compile(
    r"(?:\\?[$€£])?\s*([-+\u2212]?)\s*(?:\\?[$€£])?\s*"
    r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]+)?\s*[.°]?"
)


def number(text: object) -> Fraction | None:
    """The exact value of a text that is one number and nothing else, or None.

    Allowed around it: white space, one sign, a currency sign, a full stop, commas between
    thousands.  Not allowed: units, a second number, a computation, an exponent.
    """
    found = NUMBER.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= 60 else None
    if found is None:
        return None
    sign, whole, part = found.groups()
    value = Fraction(whole.replace(",", "") + (part or ""))
    return -value if sign in ("-", "\u2212") else value


class OneNumber:
    """The verifier of a task whose answers are one number: a text in `data["answer"]`."""

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


class Task(Protocol):
    """What the training loop and the evaluation ask of a task; any object with these will do. One
    with `solution(problem)`, a right answer as text, can be checked: `r1lab tasks check`.

    Making one is cheap (the accuracy reward makes one for each verdict): load data in `problems`.
    The judge goes by the problem's data alone, not by the options that the problem was drawn with.
    """

    name: str

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems of a split, the same ones for the same seed on any machine; none comes
        twice before all have come once."""
        ...

    def judge(self, problem: Problem, answer: str) -> bool:
        """Is the answer right?  Never raises, and takes less than 50 ms, on any text."""
        ...

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The canonical form of an answer, right or wrong, so that equal answers can be counted;
        None for a text that is no answer at all.  Never raises, less than 50 ms."""
        ...

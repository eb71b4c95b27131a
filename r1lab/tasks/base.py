"""What a task is: it draws problems, and a rule checks their answers.

R1-Zero's only supervision is this rule (arXiv 2501.12948v2, section 2.2).
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
"""train: for RL.  held_out: for evaluation; neither RL nor the pre-training corpus has them.
leaked: held out from RL, but some are in the pre-training corpus, on purpose."""


@dataclass(frozen=True)
class Problem:
    """One problem and the data for its verifier; survives JSON, to be a data set's column.

    task      the task's name in the registry, "countdown"
    id        equal for two wordings of one problem, "countdown/6-7-10=23"
    question  the text that a template (`r1lab.templates`) turns into a prompt
    language  "en" or "zh"
    split     one of SPLITS
    data      what the verifier needs, as JSON: {"numbers": [7, 6, 10], "target": 23}"""

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
        kinds = dict.fromkeys(cls.__dataclass_fields__, str) | {"data": dict}
        if not isinstance(fields, dict) or set(fields) != set(kinds):
            raise R1LabError(f"a problem needs exactly the fields {', '.join(kinds)}")
        for name, kind in kinds.items():
            if not isinstance(fields[name], kind):
                raise R1LabError(f"a problem's field {name} must be a {kind.__name__}")
        return cls(**fields)


def split_of_content(content: str) -> str:
    """The split of a content, by its SHA-256: 10 % held out, 10 % leaked, 80 % train."""
    return split_of_text(f"split/{content}")


def split_of_text(text: str) -> str:
    tenth = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 10
    return {0: "held_out", 1: "leaked"}.get(tenth, "train")


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise R1LabError(f"unknown split {split!r}; take one of {', '.join(SPLITS)}")


def languages_of(task: str, wording: str, languages: Sequence[str] | None) -> tuple[str, ...]:
    """The languages given, by default all of the wording: "tiny" has English and Chinese, "plain"
    English.  Raises R1LabError for any other."""
    if wording not in ("tiny", "plain"):
        raise R1LabError(f"{task}: wording must be tiny or plain, not {wording!r}")
    known = ("en",) if wording == "plain" else ("en", "zh")
    chosen = known if languages is None else tuple(languages)
    if not chosen or not set(chosen) <= set(known):
        words = f"{task}: languages for wording={wording} must be out of {', '.join(known)}"
        raise R1LabError(f"{words}, not {languages!r}")
    return chosen


def distinct(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, in order: a split with fewer than n problems repeats them."""
    return list({problem.id: problem for problem in problems}.values())


def shuffled(items: Sequence, rng: random.Random) -> list:
    """By rng.random() alone, whose sequence is the same in every version of Python."""
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def drawn_by_weight(items: Sequence[Any], weights: Sequence[float], rng: random.Random) -> Any:
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
    """The exact value of a text that is one number, or None. White space, a sign, a currency sign,
    a full stop and commas between thousands are fine; units, computations and exponents are not."""
    short = isinstance(text, str) and len(text) <= 60
    if not short or not (found := NUMBER.fullmatch(text.strip())):
        return None
    sign, whole, part = found.groups()
    value = Fraction(whole.replace(",", "") + (part or ""))
    return -value if sign in ("-", "\u2212") else value


class OneNumber:
    """The verifier of a task whose answers are one number: a text in `data["answer"]`."""

    def judge(self, problem: Problem, answer: str) -> bool:
        value = number(answer)
        return value is not None and value == number(problem.data.get("answer"))

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The number in one spelling: "1200" for "1,200.0"."""
        value = number(answer)
        return None if value is None else str(value)

    def solution(self, problem: Problem) -> str | None:
        return problem.data.get("answer")


class Task(Protocol):
    """Any object with these.  `r1lab tasks check` also needs `solution(problem)`, a right answer.

    The accuracy reward makes a task for each verdict, so load data in `problems`; `judge` and
    `vote` depend on the problem alone, not on the options that it was drawn with."""

    name: str

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems of a split, the same for the same seed on any machine; no problem repeats
        before the split is used up."""
        ...

    def judge(self, problem: Problem, answer: str) -> bool:
        """Is the answer right?  The accuracy reward.  Never raises, < 50 ms, on any text."""
        ...

    # Optional: judge_all(pairs: list[tuple[Problem, str]]) -> list[bool | None], a batch at once,
    # for answers that take longer (programs that run); None for what could not be judged.

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The canonical form of an answer, for majority voting (cons@k); None for a text that is
        no answer.  Never raises, < 50 ms."""
        ...

"""The mathematics of the paper's tables, for evaluation alone: AIME and MATH-500.

- `aime`: the American Invitational Mathematics Examination, 30 problems a year (two papers of 15),
  each answer a whole number from 0 to 999. 2024 is HuggingFaceH4/aime_2024 (columns problem,
  answer; a split train), 2025 is math-ai/aime25 (the same; a split test).
- `math500`: HuggingFaceH4/MATH-500, which is the held-out split of `math` too; this one does not
  fetch the training problems.

`source="folder"` reads a local copy: train.jsonl or test.jsonl with the columns problem (or
question) and answer.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import OneNumber, Problem
from r1lab.tasks.hub import LeftOut, _Formulas, draw, math_problems, problems_of
from r1lab.tasks.hub_rows import Rows, column, load_rows, source_of

AIME_SETS = {2024: ("HuggingFaceH4/aime_2024", "train"), 2025: ("math-ai/aime25", "test")}


@dataclass(frozen=True)
class AIME(OneNumber):
    """AIME, 30 competition problems a year with answers from 0 to 999 (see
    `r1lab.tasks.base.Task`); the split held_out alone.

    year    2024 (as in the paper) or 2025
    source  another data set on the hub, or a folder"""

    year: int = 2024
    source: str = ""
    name: str = field(default="aime", init=False)

    def __post_init__(self) -> None:
        if self.year not in AIME_SETS:
            raise R1LabError(f"aime: year must be one of {', '.join(map(str, AIME_SETS))}")
        object.__setattr__(self, "source", source_of(self.name, self.source or self._set[0]))

    @property
    def _set(self) -> tuple[str, str]:
        return AIME_SETS[self.year]

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        only_held_out(self.name, split)
        rows = one_file(self.source, self._set[1])
        return draw(problems_of("aime", rows.rows, split, _aime), f"aime/{split}/{seed}", n)


def _aime(row: dict) -> tuple[str, dict]:
    text = str(column(row, "answer")).strip().rstrip(".")
    if not text.isascii() or not text.isdigit() or int(text) > 999:
        raise LeftOut("without an answer from 0 to 999")
    return column(row, "problem", "question", text=True), {"answer": str(int(text))}


@dataclass(frozen=True)
class MATH500(_Formulas):
    """MATH-500, competition problems (see `r1lab.tasks.base.Task`); the split held_out alone.

    source  the hub id, or a folder"""

    source: str = "HuggingFaceH4/MATH-500"
    name: str = field(default="math500", init=False)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        only_held_out(self.name, split)
        found = math_problems(one_file(self.source, "test").rows, split)
        named = [replace(p, task="math500", id=p.id.replace("math/", "math500/", 1)) for p in found]
        return draw(named, f"math500/{split}/{seed}", n)


def only_held_out(task: str, split: str) -> None:
    if split != "held_out":
        raise R1LabError(f"{task} is for evaluation: it has the split held_out, not {split!r}")


def one_file(source: str, split: str) -> Rows:
    """The rows of a data set's only split; of a folder its test file, or else train."""
    there = Path(source)
    if there.is_dir():
        files = ("test.jsonl", "test.parquet")
        split = "test" if any((there / name).is_file() for name in files) else "train"
    return load_rows(source, None, split)

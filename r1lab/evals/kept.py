"""What the folder of an evaluation holds: its problems, every completion, and the numbers."""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.evals.sources import MEASURED, completion_of
from r1lab.evaluate import Evaluation
from r1lab.statistics import Estimate, estimate
from r1lab.tasks.base import Problem

log = logging.getLogger(__name__)
RUN, PROBLEMS, ANSWERS = "run.json", "problems.jsonl", "answers.jsonl"
ATTEMPTS, RESULTS = "attempts.jsonl", "results.json"


@dataclass
class Run:
    """A folder's answers. rows: by (index of the problem, number of the sample)."""

    folder: Path
    about: dict[str, Any]  # run.json
    problems: list[Problem]  # (P,)
    rows: dict[tuple[int, int], dict[str, Any]]
    attempts: list[dict[str, Any]]
    stopped_by_budget: bool = False

    @property
    def what(self) -> dict[str, Any]:
        return self.about["what"]

    @property
    def k(self) -> int:
        return self.what["k"]

    @property
    def missing(self) -> int:
        """Completions that are not there yet."""
        return len(self.problems) * self.k - len(self.rows)

    @cached_property
    def complete(self) -> list[int]:
        """The problems that have all k completions, by index."""
        every = range(len(self.problems))
        return [i for i in every if all((i, j) in self.rows for j in range(self.k))]

    def table(self, name: str) -> np.ndarray:
        """One number of all rows of the complete problems (P', k); NaN for None."""
        rows = [[self.rows[i, j][name] for j in range(self.k)] for i in self.complete]
        return np.array(rows, dtype=float).reshape(-1, self.k)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The complete problems as an `Evaluation`: pass@1, pass@k, cons@k, with intervals."""
        rows = [[completion_of(self.rows[i, j]) for j in range(self.k)] for i in self.complete]
        how = self.what["sampling"] | {"k": self.k, "template": self.what["template"]}
        how["seed"] = how["seed"] or 0
        how["prompt_tokens"] = {
            self.problems[i].id: self.rows[i, 0]["prompt_tokens"] for i in self.complete
        }
        seconds = sum(row["seconds"] for row in self.rows.values())
        return Evaluation([self.problems[i] for i in self.complete], rows, how, seconds)

    @property
    def dollars(self) -> float | None:
        """Of all answers, and of failed requests that were billed; None: prices are not known."""
        known = [row["dollars"] for row in self.rows.values() if row["dollars"] is not None]
        known += [one["dollars"] or 0 for one in self.attempts if one["certain"] and known]
        return sum(known) if known else None

    @property
    def unsure(self) -> float:
        """The most that requests may have cost whose bill never came."""
        return sum(one["dollars"] or 0 for one in self.attempts if not one["certain"])

    def results(self) -> dict[str, Any]:
        """The numbers, as JSON."""
        found: dict[str, Any] = {
            "problems": len(self.problems), "complete": len(self.complete), "k": self.k,
            "missing": self.missing, "measures": {},
            "prompt_tokens": sum(row["prompt_tokens"] for row in self.rows.values()),
            "completion_tokens": sum(row["completion_tokens"] for row in self.rows.values()),
            "estimated": sum(bool(row["estimated"]) for row in self.rows.values()),
            "dollars": self.dollars, "dollars_unsure": self.unsure,
            "served": sorted({json.dumps(row["served"]) for row in self.rows.values()}),
            "failed_requests": sum("gave_up" not in one for one in self.attempts),
        }  # fmt: skip
        if self.complete:
            summary = self.evaluation.summary()
            if self.dollars is not None:
                summary["dollars"] = estimate(np.nanmean(self.table("dollars"), axis=1))
            found["measures"] = {name: as_json(one) for name, one in summary.items()}
            found["unjudged"] = self.evaluation.unjudged
        return found


def as_json(one: Estimate) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {part: None if x != x else float(x) for part, x in one._asdict().items()}


NUMBERS = ("prompt_tokens", "completion_tokens", "seconds")
KINDS: dict[str, tuple[type, ...]] = {
    "completion": (str,), "thought": (str,), "prompt": (str,), "finished": (bool,),
    "mixed": (bool,), "well_formed": (bool,), "correct": (bool, type(None)),
    "vote": (str, type(None)),
    "consistency": (int, float, type(None)),
    "dollars": (int, float, type(None)),
    **dict.fromkeys((*NUMBERS, "length", "reflection"), (int, float)),
}  # fmt: skip


def about_of(folder: Path) -> dict[str, Any] | None:
    """What run.json says; None where there is none, or it is damaged."""
    about = files.read_json(folder / RUN) or {}
    what, sessions = about.get("what"), about.get("sessions")
    good = isinstance(what, dict) and isinstance(what.get("sampling"), dict)
    good = good and type(what.get("k")) is int and what["k"] > 0 and "template" in what
    good = good and isinstance(sessions, list) and "seed" in what["sampling"]
    return about if good else None


def load(folder: str | os.PathLike) -> Run:
    """What a folder holds. Lines that are damaged, of no problem, or a second time there are left
    out (the log says how many). Raises R1LabError where there is no run."""
    folder = Path(folder)
    if (about := about_of(folder)) is None:
        raise R1LabError(f"{folder} holds no evaluation: `r1lab eval --out {folder}` makes one")
    problems = [Problem.from_json(line) for line in files.lines_of(folder / PROBLEMS)]
    read, damaged = files.read_lines(folder / ANSWERS)
    rows: dict[tuple[int, int], dict[str, Any]] = {}
    for _, row in read:
        if _good(row, problems, about["what"]["k"]) and (row["index"], row["sample"]) not in rows:
            rows[row["index"], row["sample"]] = row
        else:
            damaged += 1
    if damaged:
        log.warning("%s: %d lines are left out", folder / ANSWERS, damaged)
    read, lost = files.read_lines(folder / ATTEMPTS)
    attempts = [one for _, one in read if type(one.get("dollars")) in (int, float, type(None))]
    attempts = [one for one in attempts if "certain" in one and 0 <= (one["dollars"] or 0) < 1e18]
    if lost := lost + len(read) - len(attempts):
        log.warning("%s: %d lines are left out", folder / ATTEMPTS, lost)
    return Run(folder, about, problems, dict(sorted(rows.items())), attempts)


def _good(row: dict[str, Any], problems: Sequence[Problem], k: int) -> bool:
    """Is this a line of this run?"""
    index, sample = row.get("index"), row.get("sample")
    if type(index) is not int or type(sample) is not int:
        return False
    if not (0 <= index < len(problems) and 0 <= sample < k):
        return False
    fields = {*KINDS, *MEASURED, "estimated", "finish", "served"} <= set(row)
    kinds = fields and all(type(row[name]) in kind for name, kind in KINDS.items())
    counts = kinds and all(0 <= (row[name] or 0) < 1e18 for name in (*NUMBERS, "dollars", "length"))
    return counts and row.get("problem") == problems[index].id

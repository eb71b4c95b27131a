"""Two evaluations compared problem by problem, on the problems that both have whole.

Problems vary more than models do, so the difference is taken on each problem and bootstrapped over
them: its interval is narrower than the two intervals side by side suggest.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from r1lab.basics.errors import R1LabError
from r1lab.evals.kept import Run, as_json
from r1lab.evals.protocol import differences
from r1lab.evaluate import Evaluation, cons_at_k
from r1lab.statistics import Estimate, estimate


@dataclass(frozen=True)
class Comparison:
    """after - before by measure, each an `Estimate` over the P shared problems."""

    change: dict[str, Estimate]
    values: dict[str, tuple[float, float]]  # of before and after
    rows: list[dict[str, Any]]  # a problem each: pass@1 before and after, largest change first
    better: int  # problems on which `after` is right more often
    worse: int
    notes: list[str]  # what else differs between the two

    def to_json(self) -> dict[str, Any]:
        change = {name: as_json(one) for name, one in self.change.items()}
        fields = {"values": self.values, "rows": self.rows, "notes": self.notes}
        return {"change": change, "better": self.better, "worse": self.worse} | fields


def compare(before: Run, after: Run) -> Comparison:
    """Raises R1LabError where the two share no whole problem. A problem is the same where its id
    and the data of its verifier are; the wording may differ (a note says so)."""
    runs = before.evaluation, after.evaluation  # of their complete problems
    places = [{problem.id: i for i, problem in enumerate(one.problems)} for one in runs]
    ids = [key for key in places[0] if key in places[1]]
    first, second = (
        one.at([place[key] for key in ids]) for one, place in zip(runs, places, strict=True)
    )
    pairs = list(zip(first.problems, second.problems, strict=True))
    same = [i for i, (a, b) in enumerate(pairs) if (a.task, a.data) == (b.task, b.data)]
    if not same:
        words = "they hold no problem that both have answered whole"
        raise R1LabError(f"{before.folder} and {after.folder} cannot be compared: {words}")
    first, second = first.at(same), second.at(same)
    rows = [places[0][ids[i]] for i in same], [places[1][ids[i]] for i in same]
    sides = (before, rows[0], first), (after, rows[1], second)
    change, values = {}, {}
    for name in ("pass@1", "cons@k", "length", "dollars"):
        found = [_each(name, *side) for side in sides]
        if all(one is not None for one in found):
            values[name] = tuple(float(np.nanmean(one)) for one in found)
            change[name] = estimate(found[1] - found[0])
    right = [one.per_problem("correct") for one in (first, second)]
    apart = np.nan_to_num(right[1] - right[0])
    table = [
        {"problem": first.problems[i].id, "before": float(right[0][i]), "after": float(right[1][i])}
        for i in np.argsort(-np.abs(apart), kind="stable")
    ]
    better, worse = int((apart > 0).sum()), int((apart < 0).sum())
    notes = _notes(before, after, len(same), pairs)
    return Comparison(change, values, table, better, worse, notes)


def _each(name: str, run: Run, rows: list[int], part: Evaluation) -> np.ndarray | None:
    """A measure of every problem (P,); None where it is not known."""
    if name == "dollars":
        found = run.table("dollars")[rows].mean(axis=1)
        return None if np.isnan(found).all() else found
    if name == "cons@k":
        if run.k < 2:
            return None
        votes = [[one.vote for one in row] for row in part.completions]
        right = [[bool(one.correct) for one in row] for row in part.completions]
        return cons_at_k(votes, right, run.k)
    return part.per_problem({"pass@1": "correct"}.get(name, name))


def _notes(before: Run, after: Run, shared: int, pairs: list) -> list[str]:
    """What a reader of the difference should know."""
    notes = []
    for one in (before, after):
        if (rest := len(one.problems) - shared) > 0:
            notes.append(f"{rest} of the problems in {one.folder} are left out")
    if any(a.question != b.question for a, b in pairs):
        notes.append("some problems are worded differently")
    kept = [
        {key: value for key, value in one.what.items() if key not in ("source", "problems", "n")}
        for one in (before, after)
    ]
    return notes + [f"they differ in {line}" for line in differences(*kept)]

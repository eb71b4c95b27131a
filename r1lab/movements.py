"""The changes from stage to stage, each beside the changes of the paper's benchmarks of its kind.

A change is resolved where its 95 % interval leaves zero out. Each movement of the paper's table 3
is then reproduced, reversed or not resolved here; the paper states no intervals.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

from r1lab.scorecard import ALIKE, LABELS, MEASURES, table_lines
from r1lab.statistics import DOWN, LEVEL, UP, Estimate, gap, way

REPRODUCED, OTHERWISE = "reproduced", "the other way"
DIVIDED = "resolved, where the paper's benchmarks disagree"
FIGURES = {
    REPRODUCED: "reproduced",
    OTHERWISE: "the_other_way",
    DIVIDED: "paper_divided",
    LEVEL: "indistinguishable",
}
"""Verdicts, and the names r1/arrows/<...> of their counts in the results file."""
WORDS = {LEVEL: "not resolved here"}
"""How a verdict is called where it is not its own name."""


class Arrow(NamedTuple):
    """The change of a measure from one model to the next."""

    measure: str
    before: str
    after: str
    change: Estimate
    way: str  # UP, DOWN or LEVEL


class Movement(NamedTuple):
    """A change of ours beside the changes of all of the paper's benchmarks of its kind."""

    ours: Arrow
    stated: dict[str, float]  # {benchmark: change in percentage points}; the paper has no intervals
    verdict: str  # one of FIGURES

    @property
    def mean(self) -> float:
        """The paper's change, the mean over its benchmarks, as a fraction."""
        return sum(self.stated.values()) / len(self.stated) / 100

    @property
    def powered(self) -> bool:
        """Would a change of the paper's size be seen? Our interval reaches less far than it. (An
        interval without a width comes from too few problems.)"""
        return 0 < (self.ours.change.high - self.ours.change.low) / 2 < abs(self.mean)


def arrows(ours: dict[str, dict[str, Estimate]]) -> list[Arrow]:
    """The change of each measure from each model of a stage table's "ours" to the next."""
    found = []
    for before, after in pairwise(ours):
        for measure in MEASURES:
            change = gap(ours[before][measure], ours[after][measure])
            found.append(Arrow(measure, before, after, change, way(change)))
    return found


def beside_paper(table: dict[str, Any]) -> list[Movement]:
    """The paper's movements: each measure of ALIKE from a stage measured here to the next."""
    names, rows = table["paper"]["measures"], table["paper"]["rows"]
    found = []
    for one in arrows({model: table["ours"][model] for model in rows if model in table["ours"]}):
        if one.measure in ALIKE and not math.isnan(one.change.value):
            at = {name: names.index(name) for name in ALIKE[one.measure]}
            before, after = rows[one.before], rows[one.after]
            stated = {name: round(after[i] - before[i], 1) for name, i in at.items()}
            found.append(Movement(one, stated, _verdict(one.way, list(stated.values()))))
    order = list(ALIKE)
    return sorted(found, key=lambda one: order.index(one.ours.measure))


def _verdict(ours: str, stated: list[float]) -> str:
    if ours == LEVEL:
        return LEVEL
    if min(stated) <= 0 <= max(stated):
        return DIVIDED
    return REPRODUCED if (ours == UP) == (stated[0] > 0) else OTHERWISE


def told(movements: list[Movement]) -> list[str]:
    """How many of the paper's movements ours reproduce, reverse or cannot resolve, and which."""
    lines = []
    for verdict in FIGURES:
        some = [one for one in movements if one.verdict == verdict]
        word = WORDS.get(verdict, verdict)
        line = f"{word}: {len(some)} of the paper's {len(movements)} movements"
        if verdict == LEVEL:
            some = [one for one in some if one.powered]
            line += f"; in {len(some)} of them a change of the paper's size would have been seen"
        names = "; ".join(
            f"{one.ours.measure} {LABELS[one.ours.before]} → {LABELS[one.ours.after]}"
            for one in some
        )
        lines.append(f"{line}: {names}" if some else line)
    return lines


def told_by_seed(found: dict[str, dict[str, Any]]) -> str:
    """Lesson 10's counts (r1/arrows/<verdict>) per seed, as a line of markdown; "" without."""
    counts = []
    for verdict, name in FIGURES.items():
        seeds = found.get(f"r1/arrows/{name}", {}).get("values", {})
        if not seeds:
            return ""
        word = WORDS.get(verdict, verdict)
        counts.append(f"{word} {', '.join(f'{n:.0f}' for n in seeds.values())}")
    return f"- each seed by itself, with intervals over problems: {'; '.join(counts)}\n"


REPAIR = "a repair of what R1-Zero had lost: not clearly better than the base"


def since_zero(ours: dict[str, dict[str, Estimate]]) -> list[tuple[Arrow, str]]:
    """The change of each measure from R1-Zero to R1, and REPAIR where it only makes good what RL
    had cost, else "". ours: of a stage table, with zero and r1 (and base, for repairs)."""
    found = []
    for one in arrows({name: ours[name] for name in ("zero", "r1")}):
        lost = gained = LEVEL
        if "base" in ours:
            base, zero, r1 = (ours[name][one.measure] for name in ("base", "zero", "r1"))
            lost, gained = way(gap(base, zero)), way(gap(base, r1))
        repaired = one.way != LEVEL and lost not in (LEVEL, one.way) and gained != one.way
        found.append((one, REPAIR if repaired else ""))
    return found


def arrow_lines(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """Our changes and the paper's as rows of text; an arrow means an interval without zero."""
    ours, marks = table["ours"], {UP: "↑", DOWN: "↓", LEVEL: "≈"}
    steps = list(pairwise(ours))
    lines = [("", *(f"{LABELS[a]} → {LABELS[b]}" for a, b in steps))]
    for measure, words in MEASURES.items():
        some = [one for one in arrows(ours) if one.measure == measure]
        lines.append((words, *(f"{marks[one.way]} {moved(one)}" for one in some)))
    rows = {(one.ours.measure, one.ours.before): one for one in beside_paper(table)}
    for measure, names in ALIKE.items():
        cells = [_beside(rows.get((measure, before))) for before, _ in steps]
        ours_of = MEASURES[measure].removesuffix(", pass@1")
        lines.append((f"the paper's, beside {ours_of}: {', '.join(names)}", *cells))
    return lines


def _beside(one: Movement | None) -> str:
    """↓ -18.9, -30.1: reproduced"""
    if one is None:
        return "–"
    changes = list(one.stated.values())
    mark = "↑" if min(changes) > 0 else "↓" if max(changes) < 0 else "↕"
    verdict = WORDS.get(one.verdict, one.verdict)
    return f"{mark} {', '.join(f'{x:+.1f}' for x in changes)}: {verdict}"


def moved(one: Arrow) -> str:
    """+12 [+8, +16], in percentage points, or in tokens for a length; – for NaN."""
    scale = 1 if one.measure == "length" else 100
    value, low, high = (scale * x for x in one.change)
    if math.isnan(value):
        return "–"
    return f"{value:+.0f}" if math.isnan(low) else f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"


def markdown(table: dict[str, Any]) -> str:
    """A stage table in markdown, and which of the paper's changes it reproduces."""
    head, *rows = table_lines(table)
    lines = [head, ("---",) * len(head), *rows]
    lines = [f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines]
    said, ours = [f"- {line}" for line in told(beside_paper(table))], table["ours"]
    if "zero" in ours and "r1" in ours:
        words = "; ".join(
            f"{MEASURES[one.measure]} {moved(one)}{f' ({repair})' if repair else ''}"
            for one, repair in since_zero(ours)
        )
        said.insert(0, f"- from R1-Zero to R1, in points (the last in tokens): {words}")
    return "\n".join([*lines, "", *said]) + "\n"

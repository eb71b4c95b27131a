"""The exercises of a lesson, with their effort and the code of their solutions.

    1. **The critical weight** (pencil). For weights 1 and w derive ...
    <details><summary>Solution</summary>

    The median of the critical weights is 0.83:
    ```python
    assert abs(float(critical.median()) - 0.83) < 0.01
    ```
    </details>

Effort is one of EFFORTS. The code of a solution runs below the lesson, with its names; the tests
execute it on the smoke profile, so that what a solution claims is asserted by it.
"""

from __future__ import annotations

import copy
import re
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

EFFORTS = ("pencil", "a minute", "an evening")
START = re.compile(r"^(?P<number>\d+)\. \*\*(?P<title>.+?)\*\* \((?P<effort>[^)]+)\)", re.M)
FENCE = re.compile(r"^[ \t]*```python\n(.*?)^[ \t]*```", re.M | re.S)


class Exercise(NamedTuple):
    """One exercise: its number, title, effort and text, with the solution."""

    number: int
    title: str
    effort: str
    text: str


def exercises(nb: NotebookNode) -> list[Exercise]:
    """The exercises of a lesson, in order; those without an effort are not found."""
    cells = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
    text = next((source for source in cells if "## Exercises" in source), "")
    text = text.partition("## Exercises")[2].partition("\n## ")[0]
    starts = list(START.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return [
        Exercise(int(s["number"]), s["title"].strip("."), s["effort"], text[s.start() : end])
        for s, end in zip(starts, ends, strict=False)
    ]


def solution_code(exercise: Exercise) -> str:
    """The code of an exercise's solution, "" without any."""
    return "\n".join(match[1] for match in FENCE.finditer(exercise.text))


def with_solutions(nb: NotebookNode) -> NotebookNode:
    """A copy of the lesson with a cell for each solution's code at its end."""
    nb = copy.deepcopy(nb)
    for one in exercises(nb):
        if code := solution_code(one):
            nb.cells.append(new_code_cell(code.rstrip(), metadata={"tags": ["solution"]}))
    return nb

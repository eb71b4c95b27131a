"""Lessons are short where a student reads code, and no number in their prose is a lonely one.

`lessons.yaml` holds what is allowed: constants of the paper with their place, and, lesson by
lesson, what is still to be mended. A lesson may get better than its line there, never worse.

What a lesson measured stands in its outputs, which are not committed; so a number in the text that
is none of the paper's, nor of the lesson's own code or parameters, is taken for a measured one.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from exercises import EFFORTS, exercises, solution_code, with_solutions
from nbformat.v4 import new_markdown_cell, new_notebook

from r1lab.course import profiles

ALLOWED = yaml.safe_load((Path(__file__).parent / "lessons.yaml").read_text(encoding="utf-8"))
LESSONS = {path.stem: profiles.read_notebook(path) for path in profiles.notebooks()}
every_lesson = pytest.mark.parametrize("name", LESSONS)
IMPORTS, PLUMBING = 12, 0.15  # lines; share of the lines
FOLDED = {"hide-input", "remove-input", "remove-cell", "parameters"}
ROOMS = ("show", "ledger", "claims", "record", "scorecard.record")  # record, plot, check


# --- code


def visible(nb) -> list[ast.Module]:
    """The code that a student sees."""
    cells = [c for c in nb.cells if c.cell_type == "code"]
    cells = [c for c in cells if not FOLDED & set(c.metadata.get("tags", ()))]
    return [ast.parse(c.source) for c in cells]


def size(node: ast.stmt) -> int:
    return node.end_lineno - node.lineno + 1


def is_plumbing(node: ast.stmt) -> bool:
    """An assertion, or a call that records, plots or checks."""
    if isinstance(node, ast.Assert):
        return True
    call = getattr(node, "value", None)
    if not isinstance(node, ast.Expr | ast.Assign) or not isinstance(call, ast.Call):
        return False
    name = ast.unparse(call.func)
    return any(name == room or name.startswith(f"{room}.") for room in ROOMS)


def plumbing(body: list[ast.stmt]) -> int:
    """Lines that record, assert or plot; a loop of nothing else counts whole."""
    lines = 0
    for node in body:
        inner = [n for part in ("body", "orelse") for n in getattr(node, part, [])]
        if is_plumbing(node) or (inner and all(map(is_plumbing, inner))):
            lines += size(node)
        else:
            lines += plumbing(inner)
    return lines


def budget(nb) -> tuple[int, float]:
    """Lines of imports, and the share of lines that record, assert or plot."""
    body = [node for tree in visible(nb) for node in tree.body]
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = sum(map(size, body)) or 1
    return sum(map(size, imports)), plumbing(body) / lines


@every_lesson
def test_a_student_sees_little_plumbing(name):
    imports, share = budget(LESSONS[name])
    most = ALLOWED["budget"].get(name, {})
    assert imports <= most.get("imports", IMPORTS), f"{imports} lines of imports"
    assert share <= most.get("plumbing", PLUMBING) + 0.005, f"{share:.0%} of the lines are plumbing"


def test_what_counts_as_plumbing():
    tree = ast.parse(
        "import os\nx = train()\nshow.figure(\n    fig,\n)\nassert x\n"
        "for a in b:\n    ledger.record(a)\n"
        "for a in b:\n    y = f(a)\n    claims.check(y)\nprint(x)\n"
    )
    assert plumbing(tree.body) == 3 + 1 + 2 + 1


# --- numbers in the prose

OUT = (  # what is taken out before numbers are looked for, and why
    r"```.*?```",  # code
    r"`[^`]*`",
    r"\$\$.*?\$\$",  # formulas
    r"\$[^$\n]+\$",
    r"\]\([^)]*\)",  # addresses
    r"https?://\S+",
    r"<[^>]+>",
    r"\barXiv:? ?\S*\d{4}\.\d{4,5}(?:v\d)?(?:, (?=\d{4}\.))?",  # works and their years
    r"\b\d{4}\.\d{4,5}(?:v\d)?",
    r"\((?:[^()]*, )?(?:19|20)\d\d[^()]*\)",
    r"(?:et al\.|\b[A-Z]\w+) \(?(?:19|20)\d\d\)?",
    r"\bin (?:January |February )?(?:19|20)\d\d",
    r"(?i)\b(?:lessons?|notebooks?|sections?|equations?|eq\.|figures?|fig\.|tables?|appendix|"
    r"exercises?|stages?|chapters?|steps? |question)\s+[A-G]?\.?\d+(?:\.\d+)*"
    r"(?:(?:, | and | to | or |–)[A-G]?\.?\d+(?:\.\d+)*)*",  # places
    r"\b[A-G]\.\d+(?:\.\d+)*",
    r"^[ \t]*#+ [^\n]*$",  # headings
    r"^[ \t]*\d+\. ",  # lists
    r"\*\*Time:?\*\*:?.*?(?=\n\n|\Z)",  # minutes on a machine: measured by the runner
    r"\|\s*\d\d\s*\||\b\d\d to \d\d\b|\bopen \d\d\b",  # lessons in tables and lists
    r"\bSmolLM2-135M|\b(?:R1|V3|o1|SmolLM2|GPT-\d\w*|L[12]|k[123]|o\d|\w+-\d+[bBMK]|AIME 20\d\d)\b",
    r"\bMATH-500|\bQwen\S*",  # names
)
NUMBER = re.compile(r"(?<![\w.])[−-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+\b)?(?: ?%)?")
LOGIC = {"0", "1", "2"}  # of rules and signs, not of measurements


def prose(nb) -> str:
    """The text of a lesson up to its further reading."""
    cells = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
    text = re.sub(r"\n## Further reading.*?(?=\n## |\Z)", "", "\n\n".join(cells), flags=re.S)
    for pattern in OUT:
        text = re.sub(pattern, " ", text, flags=re.S | re.M)
    return text


def numbers(text: str) -> list[str]:
    found = (match[0].replace("−", "-").rstrip(",") for match in NUMBER.finditer(text))
    return [re.sub(r" ?%", " %", number) for number in found]


def value(number: str) -> float:
    """ "15.6 %" -> 0.156, "8,192" -> 8192.0"""
    plain = float(number.removesuffix(" %").replace(",", ""))
    return plain / 100 if number.endswith("%") else plain


def literals(source: str) -> set[float]:
    """The numbers of a piece of code."""
    tree = ast.parse("\n".join(x for x in source.split("\n") if not x.startswith(("%", "!"))))
    found = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    return {float(x) for x in found if isinstance(x, int | float)}


def own(name: str) -> set[float]:
    """The numbers that a lesson's code and parameters hold, its solutions' code too."""
    nb = LESSONS[name]
    found = set()
    for cell in nb.cells:
        if cell.cell_type == "code":
            found |= literals(cell.source)
    for profile in profiles.NAMES:
        found |= literals(repr(profiles.resolve(profile, name)))
    for one in exercises(nb):
        found |= literals(solution_code(one))
    return found | {abs(x) for x in found} | {x * 100 for x in found}


def lonely(name: str) -> list[str]:
    """Numbers of the prose that have no reason in `lessons.yaml` and are not in the lesson's code
    or parameters."""
    known = own(name)
    reasons = {*ALLOWED["paper"], *ALLOWED["constants"], *ALLOWED["explained"].get(name, ())}
    return [
        number
        for number in numbers(prose(LESSONS[name]))
        if number not in LOGIC | reasons
        and not any(abs(abs(value(number)) - x) < 1e-9 for x in known)
    ]


@every_lesson
def test_no_number_in_the_prose_is_lonely(name):
    """A measured number in static prose is wrong as soon as another machine, seed or base runs. It
    belongs in an output, or in `claims.reference`. A constant of the paper goes into `lessons.yaml`
    with its place."""
    more = Counter(lonely(name)) - Counter(map(str, ALLOWED["lonely"].get(name, ())))
    assert not more, f"new numbers in the prose: {dict(more)}"


def test_what_counts_as_a_number_of_the_prose():
    text = (
        "## 3 things\n\nLesson 05, sections 2.1 and 2.3, (Shao et al. 2025, x) `k=7` $p^8$ [a](9) "
        "say that R1 went from 15.6 % to 77.9% in 8,200 steps, −3 points.\n\n1. one\n\n"
        "**Time:** 4 minutes\n"
    )
    for pattern in OUT:
        text = re.sub(pattern, " ", text, flags=re.S | re.M)
    assert numbers(text) == ["15.6 %", "77.9 %", "8,200", "-3"]
    assert [value(n) for n in ("15.6 %", "8,200", "-3")] == [0.156, 8200, -3]


def test_every_constant_of_the_paper_names_its_place():
    for number, place in ALLOWED["paper"].items():
        assert isinstance(number, str) and numbers(number) == [number], number
        assert re.search(r"section|table|figure|appendix|supplement|[A-G]\.\d", place), number


# --- exercises


@every_lesson
def test_exercises_have_an_effort_and_solutions_that_run(name):
    """tests/test_notebooks.py runs them below their lesson."""
    cells = [cell.source for cell in LESSONS[name].cells if cell.cell_type == "markdown"]
    text = next(source for source in cells if "## Exercises" in source)
    text = text.partition("## Exercises")[2].partition("\n## ")[0]
    if name in ALLOWED["ungraded"]:
        return
    found = exercises(LESSONS[name])
    asked = [line for line in text.split("\n") if re.match(r"\d+\. ", line)]
    assert found and [one.number for one in found] == list(range(1, len(asked) + 1))
    for one in found:
        assert one.effort in EFFORTS, f"{one.title}: the effort is one of {EFFORTS}"
        assert "<details><summary>Solution</summary>" in one.text, one.title
        if one.effort != "pencil":
            assert solution_code(one), f"{one.title}: a solution that is measured is code"


def test_solutions_become_cells_below_the_lesson():
    text = (
        "## Exercises\n\n1. **A title** (a minute). Why?\n<details><summary>Solution</summary>\n\n"
        "So:\n\n```python\nx = 1\n```\n\nor\n\n```python\nassert x\n```\n</details>\n\n"
        "2. **Another.** (pencil) Is it 3?\n\n## Further reading\n\n```python\ny\n```\n"
    )
    nb = new_notebook(cells=[new_markdown_cell(text)])
    first, second = exercises(nb)
    assert (first.title, first.effort, second.number) == ("A title", "a minute", 2)
    assert solution_code(first) == "x = 1\n\nassert x\n" and solution_code(second) == ""
    made = with_solutions(nb)
    assert [cell.cell_type for cell in made.cells] == ["markdown", "code"] and len(nb.cells) == 1

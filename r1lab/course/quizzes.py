"""The quizzes: five questions a lesson, in notebooks/quiz.yaml.

A question has one right option and three others, each with what is to be said about it. It is
shown as a form (`graded.quiz_form`), as text, and on a page without a kernel as folds
(`without_kernel`).
"""

import copy
import html
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import nbformat
import yaml
from nbformat.v4 import new_markdown_cell

from r1lab.course import profiles

FILE = profiles.NOTEBOOKS / "quiz.yaml"
LETTERS = "abcd"
CALL = re.compile(r'quiz\("(\d\d)"\)')  # the cell of a companion notebook
TICKED = "Five questions: tick an option of each."
FOLDED = "Five questions. Open an option to see what is right or wrong with it."


@dataclass(frozen=True)
class Question:
    """options: in the order shown; says: what is said to whom chooses each."""

    ask: str
    options: tuple[str, ...]
    says: tuple[str, ...]
    right: int

    def told(self, chosen: int) -> str:
        return f"{'Right.' if chosen == self.right else 'No.'} {self.says[chosen]}"


@cache
def questions(number: str) -> tuple[Question, ...]:
    """The quiz of a lesson. The order of its options is always the same; each letter is right at
    least once."""
    rng, found = random.Random(number), []
    places = [*rng.sample(range(4), 4), rng.randrange(4)]
    for row, place in zip(_rows()[number], places, strict=True):
        ((right, why),) = row["right"].items()
        others = list(row["wrong"].items())
        rng.shuffle(others)
        options, says = zip(*others[:place], (right, why), *others[place:], strict=True)
        found.append(Question(row["ask"], options, says, place))
    return tuple(found)


@cache
def _rows() -> dict[str, list]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def right_letters(number: str) -> str:
    """The letters of the right options."""
    return "".join(LETTERS[one.right] for one in questions(number))


def text(number: str) -> str:
    """The questions, to be printed."""
    lines = []
    for i, one in enumerate(questions(number), 1):
        lines.append(f"{i}. {one.ask}")
        lines += [f"   {LETTERS[j]}) {option}" for j, option in enumerate(one.options)]
        lines.append("")
    return "\n".join([*lines, f'Answer with a letter for each question: quiz("{number}", "…")'])


def marked(words: str) -> str:
    """Text as HTML; `code` stays code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(words, quote=False))


def without_kernel(notebook: nbformat.NotebookNode, paper: bool = False) -> nbformat.NotebookNode:
    """A companion notebook for a page: of its quiz a fold to open for each option, on paper a box
    to tick."""
    notebook = copy.deepcopy(notebook)
    for i, cell in enumerate(notebook.cells):
        found = CALL.fullmatch(cell.source) if cell.cell_type == "code" else None
        if found is None:
            continue
        shown = _boxes if paper else _folds
        source = "\n\n".join([TICKED if paper else FOLDED, *shown(questions(found[1]))])
        notebook.cells[i] = new_markdown_cell(source, id=cell.id)
        notebook.cells[i - 1].source = notebook.cells[i - 1].source.partition("\n")[0]
    return notebook


def _folds(asked: Sequence[Question]) -> Iterator[str]:
    for n, one in enumerate(asked, 1):
        yield f"**{n}. {one.ask}**"
        for j, option in enumerate(one.options):
            yield (
                f'<details class="quiz"><summary>{marked(option)}</summary>'
                f"{marked(one.told(j))}</details>"
            )


def _boxes(asked: Sequence[Question]) -> Iterator[str]:
    rows = ""
    for one in asked:
        options = zip(LETTERS, one.options, strict=True)
        ticks = "".join(f"<li>☐ {letter}) {marked(option)}</li>" for letter, option in options)
        rows += f"<li>{marked(one.ask)}<ul>{ticks}</ul></li>"
    yield f'<ol class="form">{rows}</ol>'

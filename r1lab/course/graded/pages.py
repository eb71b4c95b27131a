"""The companion notebooks, written from the exercises: `python -m r1lab.course.graded.pages`."""

import textwrap
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from r1lab.basics.files import atomic_write_text
from r1lab.course import graded, profiles, quizzes
from r1lab.course.graded.kinds import Exercise
from r1lab.course.graded.quiz_form import LIVE

FOLDER = profiles.NOTEBOOKS / "exercises"
KINDS = {"fill": "fill in", "predict": "predict", "design": "design an experiment"}


def path_of(number: str, solutions: bool = False) -> Path:
    return FOLDER / ("solutions" if solutions else "") / f"{number}.ipynb"


def checking(one: Exercise) -> str:
    """The cell that checks an answer and, where it is right, uses it."""
    called = f'check("{one.id}", {one.name})'
    if not one.then:
        return called
    gap = "\n" if one.then.startswith("def ") else ""  # as ruff formats it
    return f"if {called}:\n{gap}{textwrap.indent(one.then, '    ')}"


def page(number: str, solutions: bool = False) -> nbformat.NotebookNode:
    """The notebook of a lesson's exercises, empty or with the solutions in it."""
    lesson, up = graded.lesson(number), "../../" if solutions else "../"
    name = profiles.select([number])[0].name
    head = (
        f"# {number} · {lesson.TITLE}: {'solutions' if solutions else 'exercises'}\n\n"
        f"They belong to the lesson [{name.removesuffix('.ipynb')}]({up}{name}). "
        + ("Try the exercises first: [exercises](../" + f"{number}.ipynb)." if solutions else
           "Fill in the dots and run the next cell: `check` says what is wrong, "
           f'`hint("{number}.1")`, `hint("{number}.1", 2)` and `hint("{number}.1", 3)` help. '
           f"Solutions are in `solutions/{number}.ipynb`."))  # fmt: skip
    imports = "from r1lab.course.graded import " + ", ".join(
        sorted({"check", "hint", "progress", "quiz"} | set(getattr(lesson, "HELPERS", ())))
    )
    *before, ours = lesson.IMPORTS.strip().rpartition("\n\n")[
        ::2
    ]  # the last block is ours, or none
    if not ours.startswith("from r1lab"):
        before, ours = [lesson.IMPORTS.strip()], ""
    ours = "\n".join(sorted([imports, *ours.splitlines()]))
    code = "\n\n".join(filter(None, [*before, ours]))
    cells = [new_markdown_cell(head), new_code_cell(code)]
    for one in lesson.EXERCISES:
        text = f"## {one.id} · {one.title} ({KINDS[one.kind]})\n\n{one.text}"
        cells += [new_markdown_cell(text)]
        cells += [new_code_cell(one.solution if solutions else one.starter)]
        cells += [new_code_cell(checking(one))]
    answers = quizzes.right_letters(number)
    cells += [
        new_markdown_cell(f"## Quiz\n\n{LIVE.format(number)}"),
        new_code_cell(f'quiz("{number}", "{answers}")' if solutions else f'quiz("{number}")'),
        new_markdown_cell("## What you have solved"),
        new_code_cell("progress()"),
    ]
    for i, cell in enumerate(cells):
        cell.id = f"exercise-{number}-{i:02}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return new_notebook(cells=cells, metadata=about)


def text_of(number: str, solutions: bool = False) -> str:
    """The notebook as its file has it."""
    return nbformat.writes(page(number, solutions), indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    for number in graded.LESSONS:
        for solutions in (False, True):
            path = path_of(number, solutions)
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(path, text_of(number, solutions))


if __name__ == "__main__":
    write()

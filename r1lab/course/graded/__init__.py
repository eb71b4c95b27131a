"""Exercises that check themselves, with hints, a quiz for each lesson, and a map of what is solved.

    from r1lab.course.graded import check, hint, progress, quiz

    check("03.1", advantages)     what is wrong with your answer, within a second
    hint("03.1"), hint("03.1", 2) a hint, of three levels
    quiz("03")                    its quiz, a form; quiz("03", "abcda") where no buttons show
    progress()                    what you have solved

The exercises are the modules `lesson_NN`, the quizzes are notebooks/quiz.yaml (`quizzes`), and the
companion notebooks notebooks/exercises/NN.ipynb are made of both (`pages`).
"""

import importlib
import pkgutil
import sysconfig
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from IPython.display import display

from r1lab import PACKAGE
from r1lab.basics.errors import R1LabError, did_you_mean, first_line
from r1lab.course import quizzes
from r1lab.course.graded import record as kept
from r1lab.course.graded.kinds import Exercise, Wrong
from r1lab.course.graded.quiz_form import answered, form
from r1lab.show import show_table
from r1lab.show.notebook import in_notebook

__all__ = ["check", "hint", "instead_of", "progress", "quiz", "short_run"]

HERE = Path(__file__).resolve().parent
LIBRARIES = (PACKAGE, Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")))

LESSONS = tuple(  # "00" to "15"
    sorted(m.name[-2:] for m in pkgutil.iter_modules(__path__) if m.name.startswith("lesson_"))
)


class Verdict(NamedTuple):
    """right: is the answer right? says: what to tell the student."""

    right: bool
    says: str

    def __bool__(self) -> bool:
        return self.right

    def _ipython_display_(self) -> None:
        """`check` has said it already."""


@cache
def lesson(number: str) -> Any:
    """The module of a lesson: TITLE, IMPORTS (of its notebook), EXERCISES."""
    number = str(number).zfill(2)
    if number not in LESSONS:
        raise R1LabError(f"there is no lesson {number!r}{did_you_mean(number, LESSONS)}")
    return importlib.import_module(f"{__name__}.lesson_{number}")


def exercise(id: str) -> Exercise:
    """Raises R1LabError for an exercise that does not exist."""
    known = {one.id: one for one in lesson(str(id).partition(".")[0]).EXERCISES}
    if id not in known:
        raise R1LabError(f"there is no exercise {str(id)!r}{did_you_mean(str(id), known)}")
    return known[id]


def judge(one: Exercise, answer: Any) -> Verdict:
    """Whether an answer is right, and what is wrong with it. Errors of a student's code are said in
    one line."""
    if answer is None or answer is ... or (isinstance(answer, str) and not answer.strip()):
        return Verdict(False, "Nothing is filled in yet.")
    try:
        one.judge(answer)
    except Wrong as wrong:
        return Verdict(False, f"Not yet: {wrong}" + "." * (str(wrong)[-1:] not in ".?!"))
    except Exception as error:
        return Verdict(False, f"Not yet: {_raised(error)}.")
    return Verdict(True, "Right.")


def _raised(error: Exception) -> str:
    """What a student's code raises, and in which of its lines; or that the judge cannot read what
    it returned. The judge's own lines are never shown."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [i for i, frame in enumerate(frames) if Path(frame.filename).parent == HERE]
    below = [
        f
        for f in frames[ours[-1] + 1 :]
        if not any(Path(f.filename).is_relative_to(folder) for folder in LIBRARIES)
    ]
    words = f"{type(error).__name__}: {first_line(error)}"
    if not below:
        return f"your answer is of another kind than the one asked for ({words})"
    last = below[-1]
    return f"it raises {words} (line {last.lineno}{last.line and ': ' + last.line})"


def check(id: str, answer: Any) -> Verdict:
    """Judge the answer to an exercise, say what is wrong with it, and keep the result."""
    verdict = judge(exercise(id), answer)
    kept.tried(id, verdict.right)
    print(f"{id}: {verdict.says}" + ("" if verdict else f' hint("{id}") helps.'))
    return verdict


def hint(id: str, level: int = 1) -> None:
    """Print a hint: 1 where to look, 2 the idea, 3 nearly how."""
    hints = exercise(id).hints
    if level not in range(1, len(hints) + 1):
        raise R1LabError(f"there are hints 1 to {len(hints)}, not {level}")
    kept.hinted(id, level)
    more = f' hint("{id}", {level + 1}) says more.' if level < len(hints) else ""
    print(f"{id}, hint {level}: {hints[level - 1]}{more}")


def quiz(number: str, answers: str | None = None) -> None:
    """Show a lesson's quiz as a form; with a letter for each question, such as "badca", print what
    is right or wrong with each answer. Either keeps the answers."""
    lesson(number)  # there is one
    if answers is None and in_notebook():
        shown = form(number)._repr_mimebundle_()
        display({**shown, "text/plain": quizzes.text(number)}, raw=True)
    elif answers is None:
        print(quizzes.text(number))
    else:
        right, said = answered(number, answers)
        for i, (one, words) in enumerate(zip(quizzes.questions(number), said, strict=True), 1):
            print(f"{i}. {one.ask}\n   {words}")
        print(f"{right} of {len(said)} right")


def titles() -> dict[str, str]:
    return {number: lesson(number).TITLE for number in LESSONS}


def ids() -> dict[str, list[str]]:
    """The exercises of each lesson."""
    return {number: [one.id for one in lesson(number).EXERCISES] for number in LESSONS}


def progress() -> None:
    """Show the map of what is solved (●), tried (◐) and to come (○)."""
    show_table(kept.map_rows(ids(), titles(), kept.path()))


@contextmanager
def instead_of(module: Any, name: str, mine: Callable) -> Iterator[None]:
    """Within it, the package uses your function in place of its own: module.name."""
    with patch.object(module, name, mine):
        yield


def short_run(steps: int = 3, **options: Any) -> list[dict[str, Any]]:
    """A few steps of `grpo.train` on the tiny base and Countdown, in a folder that is thrown away;
    the metrics of each step. options: of `GRPOConfig`."""
    from r1lab import grpo, models
    from r1lab.tasks import get_task

    sizes = {"questions": 4, "group_size": 8, "max_new_tokens": 96, "samples_every": 0} | options
    model, tokenizer = models.load("tiny")
    config = grpo.GRPOConfig(steps=steps, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        task = get_task("countdown")
        return grpo.train(model, tokenizer, task, config, folder, progress=False)

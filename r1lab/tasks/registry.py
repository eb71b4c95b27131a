"""The tasks by name.

A task of your own needs no entry here: `--task mine.py:MyTask`, or an entry point of the group
r1lab.tasks in an installed package (`basics.plugins`). In a notebook `TASKS["mine"] = MyTask` will
do, and so does handing the object itself to whatever takes a task.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import Task

TASKS: dict[str, str | Callable[..., Task]] = {
    "countdown": "r1lab.tasks.countdown:Countdown",
    "steps": "r1lab.tasks.general:Steps",
    "lists": "r1lab.tasks.general:Lists",
    "requests": "r1lab.tasks.general:Requests",
    "mixture": "r1lab.tasks.mixture:Mixture",
    "word_problems": "r1lab.tasks.gym:WordProblems",
    "gsm8k": "r1lab.tasks.hub:GSM8K",
    "math": "r1lab.tasks.hub:MATH",
    "countdown_hub": "r1lab.tasks.hub:CountdownHub",
}
"""By MODULE:CLASS, so that a task may look up others here. The last three load data sets from the
hub; all others are generated and work offline."""

FROM_HUB = ("gsm8k", "math", "countdown_hub")
TINY_WORLD = ("countdown", "steps", "lists", "requests", "mixture")  # have a wording "tiny"


def get_task(name: str, /, **options) -> Task:
    """A task by name, for example get_task("countdown", numbers=4, wording="plain"), or of a file:
    get_task("mine.py:MyTask").

    Raises R1LabError for an unknown task or option, and for a class that is no task.
    """
    if "name" in options:
        raise R1LabError(f"task {name}: bad option: its name is not to be chosen")
    make = factory(name)
    try:
        with plugins.blame(f"task {name}", TypeError):
            task = make(**options)
    except TypeError as error:
        raise R1LabError(f"task {name}: bad option: {error}") from None
    lacks = [n for n in ("problems", "judge", "vote") if not callable(getattr(task, n, None))]
    if lacks or not isinstance(getattr(task, "name", None), str):
        raise R1LabError(f"task {name} has no {(*lacks, 'name')[0]} (see r1lab.tasks.base.Task)")
    return task


def factory(name: str) -> Callable[..., Task]:
    """The class of a task, or the function that makes one. Raises R1LabError."""
    found = plugins.find("task", name, TASKS, reread=True)
    if name in TASKS and isinstance(found, str):
        found = pkgutil.resolve_name(found)
    if not callable(found):
        raise R1LabError(f"task {name} must be a class or a function that makes a task")
    return found


def about(name: str) -> str:
    """The first sentence that a task's class says of itself."""
    text = " ".join((factory(name).__doc__ or "").split(".")[0].split())
    return text.split(" (see ")[0]


def task_for(name: str, template: str, /, **options) -> Task:
    """`get_task`, worded for a prompt template: the tiny world's tasks in its words for "tiny", in
    plain English for the others."""
    if name in TINY_WORLD:
        options = {"wording": "tiny" if template == "tiny" else "plain"} | options
    return get_task(name, **options)

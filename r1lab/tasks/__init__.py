"""The tasks by name.

Add a task of your own by putting a factory into TASKS: `TASKS["mine"] = MyTask`.  Nothing in the
training loop has to change.
"""

from __future__ import annotations

from collections.abc import Callable

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import SPLITS, Problem, Task, distinct
from r1lab.tasks.countdown import Countdown
from r1lab.tasks.general import Lists, Requests, Steps
from r1lab.tasks.gym import WordProblems
from r1lab.tasks.hub import GSM8K, MATH, CountdownHub
from r1lab.tasks.mixture import Mixture

__all__ = [
    "GSM8K",
    "MATH",
    "SPLITS",
    "TASKS",
    "Countdown",
    "CountdownHub",
    "Lists",
    "Mixture",
    "Problem",
    "Requests",
    "Steps",
    "Task",
    "WordProblems",
    "distinct",
    "get_task",
    "task_for",
]

TASKS: dict[str, Callable[..., Task]] = {
    "countdown": Countdown,
    "steps": Steps,
    "lists": Lists,
    "requests": Requests,
    "mixture": Mixture,
    "word_problems": WordProblems,
    "gsm8k": GSM8K,
    "math": MATH,
    "countdown_hub": CountdownHub,
}
"""All but the last three are generated and work offline; those load data sets from the hub."""


def get_task(name: str, **options) -> Task:
    """A task by name, for example get_task("countdown", numbers=4, wording="plain").

    Raises R1LabError for an unknown task or option.
    """
    if name not in TASKS:
        raise R1LabError(f"unknown task {name!r}; take one of {', '.join(TASKS)}")
    try:
        return TASKS[name](**options)
    except TypeError as error:
        raise R1LabError(f"task {name}: bad option: {error}") from None


def task_for(name: str, template: str, **options) -> Task:
    """`get_task`, worded for a prompt template: the tiny world's tasks in its words for "tiny", in
    plain English for the others."""
    if name in ("countdown", "steps", "lists", "requests", "mixture"):
        options = {"wording": "tiny" if template == "tiny" else "plain"} | options
    return get_task(name, **options)

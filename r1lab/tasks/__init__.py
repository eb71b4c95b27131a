"""The tasks by name, and the way from problems to a data set that TRL's trainers take.

Add a task of your own by putting a factory into TASKS: `TASKS["mine"] = MyTask`.  Nothing in the
training loop has to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from r1lab.errors import R1LabError
from r1lab.tasks.base import SPLITS, Problem, Task, distinct
from r1lab.tasks.countdown import Countdown
from r1lab.tasks.general import Lists, Mixture, Requests, Steps
from r1lab.tasks.hub import GSM8K, MATH, CountdownHub
from r1lab.tasks.words import WordProblems
from r1lab.templates import render

if TYPE_CHECKING:
    import datasets

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
    "as_dataset",
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


def get_task(name: str, /, **options) -> Task:
    """A task by name, for example get_task("countdown", numbers=4, wording="plain").

    Raises R1LabError for an unknown task or option.
    """
    if "name" in options:
        raise R1LabError(f"task {name}: bad option: its name is not to be chosen")
    if name not in TASKS:
        raise R1LabError(f"unknown task {name!r}; take one of {', '.join(TASKS)}")
    try:
        return TASKS[name](**options)
    except TypeError as error:
        raise R1LabError(f"task {name}: bad option: {error}") from None


def task_for(name: str, template: str, /, **options) -> Task:
    """`get_task`, worded for a prompt template: the tiny world's tasks in its words for "tiny", in
    plain English for the others."""
    if name in ("countdown", "steps", "lists", "requests", "mixture"):
        options = {"wording": "tiny" if template == "tiny" else "plain"} | options
    return get_task(name, **options)


def as_dataset(problems: Iterable[Problem], template: str) -> datasets.Dataset:
    """The problems as a data set for TRL: columns prompt (str) and problem (JSON str).

    TRL hands every column but the prompt on to the reward functions, so `problem` arrives at
    `r1lab.rewards.accuracy_reward` as a list of JSON strings, one for each completion.
    """
    import datasets

    problems = list(problems)
    return datasets.Dataset.from_dict(
        {
            "prompt": [render(problem, template) for problem in problems],
            "problem": [problem.to_json() for problem in problems],
        }
    )

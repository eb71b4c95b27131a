"""The tasks by name. **Your own** needs no entry: `--task mine.py:MyTask`, or an entry point of the
group r1lab.tasks (`basics.plugins`). In a notebook pass the object or set `TASKS["mine"] = MyTask`.

Three kinds of names hold one of many: `gym:knights_knaves`, any of reasoning-gym's generators;
`qa:questions.csv`, a file of questions and answers; `verifiers:NAME`, an environment of the hub's.
"""

import pkgutil
from collections.abc import Callable
from functools import partial

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import Task

TASKS: dict[str, str | Callable[..., Task]] = {
    "countdown": "r1lab.tasks.countdown:Countdown",
    "steps": "r1lab.tasks.general:Steps",
    "code": "r1lab.tasks.code.task:Code",
    "lists": "r1lab.tasks.general:Lists",
    "requests": "r1lab.tasks.general:Requests",
    "mixture": "r1lab.tasks.mixture:Mixture",
    "word_problems": "r1lab.tasks.gym.words:WordProblems",
    "humaneval": "r1lab.tasks.code.humaneval:HumanEval",
    "gsm8k": "r1lab.tasks.hub:GSM8K",
    "math": "r1lab.tasks.hub:MATH",
    "math500": "r1lab.tasks.contests:MATH500",
    "aime": "r1lab.tasks.contests:AIME",
    "countdown_hub": "r1lab.tasks.hub:CountdownHub",
    "mbpp": "r1lab.tasks.code.hub:MBPP",
    "verifiable_code": "r1lab.tasks.code.hub:VerifiableCode",
}

ONE_OF_MANY = {
    "gym": ("NAME", "r1lab.tasks.gym.task:Gym"),
    "qa": ("FILE", "r1lab.tasks.qa:Questions"),
    "verifiers": ("NAME", "r1lab.tasks.environments.task:Environment"),
}

FROM_HUB = ("gsm8k", "math", "math500", "aime", "countdown_hub", "mbpp", "verifiable_code")
TINY_WORLD = ("countdown", "steps", "code", "lists", "requests", "mixture")  # have a wording "tiny"


def get_task(name: str, /, **options) -> Task:
    """get_task("countdown", numbers=4), get_task("mine.py:MyTask"). Raises R1LabError for an
    unknown task or option, and for a class that is no task."""
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
    kind, colon, which = str(name).partition(":")
    if colon and kind in ONE_OF_MANY and name not in TASKS:
        return partial(pkgutil.resolve_name(ONE_OF_MANY[kind][1]), which)
    found = plugins.find("task", name, TASKS, reread=True)
    if name in TASKS and isinstance(found, str):
        found = pkgutil.resolve_name(found)
    if not callable(found):
        raise R1LabError(f"task {name} must be a class or a function that makes a task")
    return found


def about(name: str) -> str:
    """The first sentence of the docstring of a task's class."""
    made = factory(name)
    made = made.func if isinstance(made, partial) else made
    text = " ".join((made.__doc__ or "").split(".")[0].split())
    return text.split(" (see ")[0]


def task_for(name: str, template: str, /, **options) -> Task:
    """`get_task` in the wording of a prompt template: "tiny", or plain English for the others."""
    if name in TINY_WORLD:
        options = {"wording": "tiny" if template == "tiny" else "plain"} | options
    return get_task(name, **options)

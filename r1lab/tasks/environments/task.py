"""The tasks verifiers:NAME: an environment of the Environments Hub, offline, as a task of ours.

    pip install verifiers my-environment           # Python 3.11 or newer; tried with verifiers 0.4
    r1lab tasks check verifiers:my-environment
    r1lab train --task verifiers:environments/addition_v1 --template r1_zero

An environment is a package that exports a *taskset* (`verifiers.v1.Taskset`): `load` yields rows
with a prompt, and rewards score what was said. `load` is the user's own installed code and runs
here; the rewards read a model's text, so they run in the sandbox, with limits, and say yes or no.
(One that evaluates the text does so where nothing can be broken, and can still be fooled by it.)

What does not run offline is refused by name: a task with tools, a container or a judge; a reward
that wants a runtime; an environment that plays several turns, as those of OpenEnv and TextArena do,
whose reward comes from a server; those of verifiers before 0.2 (`load_environment`)."""

import hashlib
import importlib
import inspect
import itertools
import json
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from os import environ
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import Case, Limits, Sandbox
from r1lab.sandbox.client import WEAK
from r1lab.tasks.base import Problem, split_of_content
from r1lab.tasks.hub import content, draw, known_split

LIMITS = Limits(cpu=2.0, memory=512 << 20)
SOURCE = "from r1lab.tasks.environments.inside import score"
MOST_ROWS, MOST = 20_000, 20_000  # rows that are read; characters of an answer
_lock = threading.Lock()
_tried: set[tuple] = set()  # tasksets whose rewards have run once


class Environment:
    """Problems of a taskset of the Environments Hub (see `r1lab.tasks.base.Task`); the splits train
    and held_out, by the question's content.

    which     the taskset's name, as `verifiers` knows it, or the folder or file of its module
    wrap      what the rewards read, with {answer} for the text in our <answer> tags
    reward    the name of the reward that decides; by default all must give their full score
    imports   modules that a reward imports late, "math_verify sympy": the sandbox has no files
    options   of the taskset's own configuration, num_tasks=100"""

    def __init__(
        self, which: str, wrap: str = "{answer}", reward: str = "", imports: str = "", **options
    ) -> None:
        self.name, path = f"verifiers:{which}", Path(str(which)).expanduser()
        if "{answer}" not in wrap:
            raise R1LabError(f"{self.name}: wrap must hold {{answer}}, not {wrap!r}")
        path = path / path.name if (path / path.name).is_dir() else path  # as vf-init lays it out
        local = path.exists() and (len(path.parts) > 1 or path.suffix == ".py")
        if local and (parent := str(path.resolve().parent)) not in sys.path:
            sys.path.insert(0, parent)
        self.which = path.stem if local else str(which)
        self.wrap, self.reward, self.imports = wrap, reward, tuple(imports.split())
        self.options = json.dumps(options, sort_keys=True)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        rows = rows_of(self.name, self.which, self.options)
        how = {"taskset": self.which, "options": self.options, "wrap": self.wrap}
        how |= {"reward": self.reward, "imports": list(self.imports)}
        found = []
        for question, row in rows:
            side = split_of_content(f"{self.name}/{content(question)}")
            if (side == "held_out") == (split == "held_out"):
                tag = hashlib.sha256(row.encode("utf-8", "surrogatepass")).hexdigest()[:16]
                data = how | {"row": row}
                found.append(Problem(self.name, f"{self.name}/{tag}", question, "en", split, data))
        return draw(found, f"{self.name}/{split}/{seed}", n)

    def judge(self, problem: Problem, answer: str) -> bool | None:
        return self.judge_all([(problem, answer)])[0]

    def judge_all(self, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        """Verdicts, in order; None where the sandbox failed. Raises R1LabError where no sandbox
        holds, and for a reward that lacks a module."""
        found: list[bool | None] = [False] * len(pairs)
        jobs: dict[tuple, dict[int, tuple]] = {}  # by sandbox, and by index
        for i, (problem, answer) in enumerate(pairs):
            if isinstance(answer, str) and len(answer) <= MOST and answer.strip():
                key = problem.data["taskset"], *problem.data["imports"]
                if key not in _tried:
                    self._try(key, problem)
                jobs.setdefault(key, {})[i] = job_of(problem, answer)
        for key, some in jobs.items():
            verdicts = sandbox(*key).judge_all(some.values(), limits=LIMITS)
            for i, verdict in zip(some, verdicts, strict=True):
                found[i] = verdict.passed
        return found

    def _try(self, key: tuple, problem: Problem) -> None:
        """Raises R1LabError for a reward that lacks a module: it would refuse every answer."""
        job = job_of(problem, self.solution(problem) or "0")
        message = sandbox(*key).judge_all([job], limits=LIMITS)[0].message
        if "ModuleNotFoundError" in message or "ImportError" in message:
            words = "a reward imports late, where the sandbox has no files (option imports)"
            raise R1LabError(f"{self.name}: {words}: {message}")
        _tried.add(key)

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The text, without differences in spaces."""
        good = isinstance(answer, str) and answer.strip() and len(answer) <= MOST
        return " ".join(answer.split()) if good else None

    def solution(self, problem: Problem) -> str | None:
        """The row's `answer`, as most environments call it; None where it has none."""
        answer = json.loads(problem.data["row"]).get("answer")
        return None if answer is None else str(answer)


def job_of(problem: Problem, answer: str) -> tuple:
    """The sandbox's job: a program of ours, and the text as its argument."""
    how, row = problem.data, json.loads(problem.data["row"])
    reply = how["wrap"].replace("{answer}", answer.strip())
    told = how["taskset"], json.loads(how["options"]), row, reply, how["reward"]
    return SOURCE, "score", [Case(told, True)]


@lru_cache(maxsize=4)
def sandbox(which: str, *imports: str) -> Sandbox:
    """One whose processes have imported the environment; it starts when it is first asked."""
    weak, module = environ.get(WEAK) == "1", package(which).import_taskset(which).__name__
    modules = "verifiers.v1.tasksets", module, *imports, "r1lab.tasks.environments.inside"
    return Sandbox(modules=modules, weak=weak)


def package(which: str) -> Any:
    """verifiers.v1. Raises R1LabError where it is not installed."""
    try:
        return importlib.import_module("verifiers.v1")
    except ModuleNotFoundError as error:
        words = f"needs the package {error.name}, which is not installed: pip install verifiers"
        raise R1LabError(f"verifiers:{which} {words} (Python 3.11 or newer)") from None


@lru_cache(maxsize=4)
def rows_of(name: str, which: str, options: str) -> list[tuple[str, str]]:
    """(question, the row as JSON) of the taskset's tasks. Raises R1LabError for what is no taskset,
    a bad option, and what does not run offline."""
    vf, found = package(which), []
    with _lock:
        try:
            given = {"id": which, **json.loads(options)}
            config = vf.taskset_config_type(which).model_validate(given)
            taskset = vf.load_taskset(config)
            needs = list(why_not(vf, which, taskset))
            for task in () if needs else itertools.islice(iter(taskset), MOST_ROWS):
                row = task.data
                needs += ["a container"] if row.image else []
                needs += ["a prompt"] if not row.prompt_text.strip() else []
                text = f"{row.system_prompt or ''}\n\n{row.prompt_text}".strip()
                found.append((text, json.dumps(row.model_dump(mode="json"), sort_keys=True)))
        except Exception as error:
            words = " ".join(str(error).split())
            raise R1LabError(f"{name}: {type(error).__name__}: {words:.200}") from error
    if needs:
        raise R1LabError(f"{name} does not run offline: it needs {needs[0]}")
    return found


def why_not(vf: Any, which: str, taskset: Any):
    """What of an environment does not run offline, in words."""
    kind, config = type(taskset).task_type(), taskset.config
    if vf.environment_class(which) is not vf.SingleAgentEnv:
        yield "several turns"
    if kind.NEEDS_CONTAINER:
        yield "a container"
    if kind.toolsets(config.task) or type(taskset).toolsets(config):
        yield "tools"
    if config.task.judges:
        yield "a judge"
    if kind.setup is not vf.Task.setup or kind.finalize is not vf.Task.finalize:
        yield "a runtime"
    rewards = kind(kind.data_type().model_construct(), config.task).hooks("reward")
    if not rewards:
        yield "rewards, and has none"
    for reward in rewards:
        wants = inspect.signature(reward).parameters.get("runtime")
        if wants is not None and wants.default is inspect.Parameter.empty:
            yield f"a runtime (for its reward {reward.__name__})"

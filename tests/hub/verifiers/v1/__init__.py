"""The part of `verifiers.v1` (PyPI verifiers 0.4) that a taskset without tools uses, written anew:
the package brings fifty others. test_environments uses the package itself where it is installed."""

from __future__ import annotations

import importlib
import inspect
import itertools
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, Field

D, T, C = TypeVar("D"), TypeVar("T"), TypeVar("C")


class TaskConfig(BaseModel, extra="forbid"):
    judges: list = Field(default_factory=list)


class TasksetConfig(BaseModel, extra="forbid"):
    id: str = ""
    task: TaskConfig = TaskConfig()


class TaskData(BaseModel, frozen=True):
    idx: int | None = None
    prompt: str | None = None
    system_prompt: str | None = None
    image: str | None = None

    @property
    def prompt_text(self) -> str:
        return self.prompt or ""


def reward(function=None, weight: float = 1.0):
    def mark(f):
        f.reward, f._vf_weight = True, weight
        return f

    return mark if function is None else mark(function)


def metric(function):
    return function


def argument(cls: type, kind: type) -> Any:
    found = [a for base in cls.__orig_bases__ for a in get_args(base)]
    return next((a for a in found if isinstance(a, type) and issubclass(a, kind)), kind)


class Task(Generic[D]):
    NEEDS_CONTAINER = False

    def __init__(self, data, config=None) -> None:
        self.data, self.config = data, config

    async def setup(self, trace, runtime): ...
    async def finalize(self, trace, runtime): ...

    @classmethod
    def data_type(cls):
        return argument(cls, TaskData)

    @classmethod
    def toolsets(cls, config):
        return []

    def hooks(self, name: str):
        of = dict(inspect.getmembers(type(self), lambda f: hasattr(f, name)))
        return [getattr(self, one) for one in sorted(of)]


class Taskset(Generic[T, C]):
    def __init__(self, config) -> None:
        self.config = config

    def __iter__(self):
        for idx, task in zip(itertools.count(), self.load(), strict=False):
            task.data = task.data.model_copy(update={"idx": idx})
            yield task

    @classmethod
    def task_type(cls):
        return argument(cls, Task)

    @classmethod
    def toolsets(cls, config):
        return []


class UserMessage(BaseModel):
    content: str


class AssistantMessage(UserMessage): ...


class MessageNode(BaseModel):
    message: Any
    parent: int | None = None
    sampled: bool = False


class TraceTask(BaseModel):
    type: str
    data: Any


class Trace(BaseModel):
    task: TraceTask
    nodes: list[MessageNode]

    @property
    def last_reply(self) -> str:
        return self.nodes[-1].message.content.strip()


class SingleAgentEnv: ...


class Env: ...


def import_taskset(name: str):
    return importlib.import_module(name.replace("-", "_"))


def exported(name: str, kind: type) -> Any:
    module = import_taskset(name)
    found = (getattr(module, one) for one in module.__all__)
    return next((one for one in found if issubclass(one, kind)), None)


def task_type(name: str):
    return exported(name, Taskset).task_type()


def taskset_config_type(name: str):
    return argument(exported(name, Taskset), TasksetConfig)


def load_taskset(config):
    return exported(config.id, Taskset)(config)


def environment_class(name: str):
    return exported(name, Env) or SingleAgentEnv

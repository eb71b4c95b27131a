"""Calling a reward by TRL's keyword contract, whoever wrote it.

TRL 1.16 calls `f(prompts=, completions=, completion_ids=, <columns>, trainer_state=, log_extra=,
log_metric=)`, awaits what is `async def`, and takes a list of numbers or None. So do we, and we say
in one line what a reward did wrong.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError


def callable_name(function: Callable) -> str:
    """TRL's name for a callable: what a partial wraps, and an object by its class."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def call(
    function: Callable, name: str, completions: Sequence, problems: Sequence, **context: Any
) -> list[float]:
    """One reward of N completions, each with its problem; `name` is for errors.

    context: more keywords for it. What TRL's contract names is always there: prompts,
    completion_ids, trainer_state, log_extra and log_metric are empty unless given.

    None means "does not apply", and counts as 0 in a sum, as in TRL. (TRL leaves a completion to
    which *no* reward applies out of its group; here it counts as 0.) Raises R1LabError where the
    function fails or does not return N numbers.
    """
    N = len(completions)
    if len(problems) != N:
        raise R1LabError(f"{N} completions need as many problems: {len(problems)}")
    empty = {
        "prompts": [getattr(problem, "question", "") for problem in problems],
        "completion_ids": [[] for _ in completions],
        "trainer_state": SimpleNamespace(global_step=context.get("step")),
        "log_extra": lambda column, values: None,
        "log_metric": lambda name, value: None,
    }
    with plugins.blame(name):
        values = function(completions=completions, problem=problems, **empty | context)
        if inspect.isawaitable(values):
            values = _wait_for(values)
    try:
        values = list(None if isinstance(values, str | dict) else values)
    except TypeError:
        raise R1LabError(
            f"{name} must return a list, one number for each completion, not {values!r:.60}"
        ) from None
    if len(values) != N:
        raise R1LabError(
            f"{name} must return {N} values, one for each completion, not {len(values)}"
        )
    return [0.0 if value is None else _number(name, value) for value in values]


def _number(name: str, value: Any) -> float:
    try:
        return float(None if isinstance(value, str) else value)
    except (TypeError, ValueError, RuntimeError):
        raise R1LabError(f"{name} must return numbers, or None, not {value!r:.60}") from None


class Log:
    """What rewards report besides their values: TRL's log_metric and log_extra."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}  # the last value of each
        self.columns: dict[str, list] = {}  # N values each

    def metric(self, name: str, value: float) -> None:
        self.metrics[f"logged/{name}"] = float(value)

    def extra(self, column: str, values: Sequence) -> None:
        plain = [v if isinstance(v, int | float | None) else str(v) for v in values]
        self.columns[f"logged/{column}"] = plain


@lru_cache(maxsize=1)
def _loop() -> asyncio.AbstractEventLoop:
    """One event loop for all `async def` rewards, in a thread of its own: a notebook's is busy, and
    a client that a reward keeps open belongs to the loop that it was opened in."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="rewards").start()
    return loop


def _wait_for(awaitable: Any) -> Any:
    async def finish() -> Any:
        return await awaitable

    return asyncio.run_coroutine_threadsafe(finish(), _loop()).result()

"""Calling any reward by the keyword contract of TRL 1.16: `f(prompts=, completions=,
completion_ids=, <columns>, trainer_state=, log_extra=, log_metric=)`, plain or `async def`, returns
a list of numbers or None. A violation is one line of error.
"""

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
    """TRL's name for a callable: of a partial the function's, of an object its class's."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def call(
    function: Callable, name: str, completions: Sequence, problems: Sequence, **context: Any
) -> list[float]:
    """One reward of N completions, each with its problem; None, "does not apply", becomes 0.0. (TRL
    drops a completion to which *no* reward applies.) name: for errors. context: more keywords;
    those of TRL's contract are empty unless given. Raises R1LabError where the function fails or
    does not return N numbers."""
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
    given = empty | context | {"completions": completions, "problem": problems}
    own = {key: [*value] if isinstance(value, list) else value for key, value in given.items()}
    with plugins.blame(name):  # a function that changes its lists changes no other's
        values = function(**own)
        if inspect.isawaitable(values):
            values = _wait_for(values)
    try:
        values = list(None if isinstance(values, str | dict | set) else values)
    except TypeError:
        wanted = "a list, one number for each completion"
        raise R1LabError(f"{name} must return {wanted}, not {values!r:.60}") from None
    if len(values) != N:
        wanted = f"{N} values, one for each completion"
        raise R1LabError(f"{name} must return {wanted}, not {len(values)}")
    for i, value in enumerate(values):
        try:
            values[i] = 0.0 if value is None else float(None if isinstance(value, str) else value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            text = f"{name} must return numbers, or None, not {value!r:.60}"
            raise R1LabError(text) from None
    return values


class Log:
    """What rewards report by TRL's log_metric and log_extra."""

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
    """The event loop of all `async def` rewards, in a thread: a notebook's own is busy, and a
    reward's open client belongs to one loop."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="rewards").start()
    return loop


def _wait_for(awaitable: Any) -> Any:
    async def finish() -> Any:
        return await awaitable

    return asyncio.run_coroutine_threadsafe(finish(), _loop()).result()

"""Options of a training run: a dataclass whose fields know what they mean and what they may be.

`r1lab --help`, the checks of a configuration and the question whether a run may go on from a
checkpoint all read the same fields.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list",
}


def option(
    default: Any, help: str, *, low=None, choices=None, kind: str = "", free: bool = False
) -> Any:
    """A field of a configuration. low: its smallest value. choices: its values. kind: choices is a
    registry of this kind, and what `plugins.find` finds is a value too. free: it may change between
    a run and its continuation, because the result does not depend on it."""
    if choices:
        help += f": {', '.join(choices)}" + (", or your own as FILE.py:NAME" if kind else "")
    metadata = {"help": help, "low": low, "choices": choices or (), "kind": kind, "free": free}
    return field(default=default, metadata=metadata)


def require(good: bool, words: str) -> None:
    """Raises R1LabError, in one line, where an option cannot be right."""
    if not good:
        raise R1LabError(f"training options: {words}")


def check(config: Any) -> None:
    """Types, limits and choices of all fields; a whole number does for a number, and a list for a
    tuple. For `__post_init__` of a frozen dataclass of options. Raises R1LabError."""
    for f in dataclasses.fields(config):
        value, kind, low = getattr(config, f.name), type(f.default), f.metadata["low"]
        if (kind is float and type(value) is int) or (kind is tuple and type(value) is list):
            object.__setattr__(config, f.name, value := kind(value))
        require(type(value) is kind, f"{f.name} must be {WORDS[kind]}, not {value!r}")
        require(kind is not float or math.isfinite(value), f"{f.name} must be finite")
        require(low is None or value >= low, f"{f.name} must be at least {low}, not {value}")
        choices = f.metadata["choices"]
        for one in value if kind is tuple else (value,):
            if f.metadata["kind"] and isinstance(one, str):
                try:
                    plugins.find(f.metadata["kind"], one, choices, reread=True)
                except R1LabError as error:
                    require(False, f"{f.name}: {error}")
                continue
            known = not choices or callable(one) or one in choices
            require(known, f"{f.name}: {one!r} is none of {', '.join(choices)}")


def fixed(config: Any) -> list[str]:
    """The names of the options that a run must share with its continuation."""
    return [f.name for f in dataclasses.fields(config) if not f.metadata["free"]]


def fixed_values(config: Any, *besides: str) -> dict[str, Any]:
    """The options of `fixed`, and `besides`, as plain values: what a record or a checkpoint says
    that a run was. Of code that is not ours they say which, by a digest."""
    values = config.to_json()
    for f in dataclasses.fields(config):
        kind, value = f.metadata["kind"], getattr(config, f.name)
        if kind and isinstance(value, str):
            values[f.name] = plugins.sign(kind, value, f.metadata["choices"])
        elif kind:
            values[f.name] = [
                plugins.sign(kind, one, f.metadata["choices"]) if isinstance(one, str) else name
                for one, name in zip(value, values[f.name], strict=True)
            ]
    return {name: values[name] for name in (*besides, *fixed(config))}

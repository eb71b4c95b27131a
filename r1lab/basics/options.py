"""Options of a training run: a dataclass whose fields know what they mean and what they may be.

`r1lab --help`, the checks of a configuration and the question whether a run may go on from a
checkpoint all read the same fields.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any

from r1lab.basics.errors import R1LabError

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list",
}


def option(default: Any, help: str, *, low=None, choices=None, free: bool = False) -> Any:
    """A field of a configuration. low: its smallest value. choices: its values. free: it may change
    between a run and its continuation, because the result does not depend on it."""
    if choices:
        help += f": {', '.join(choices)}"
    metadata = {"help": help, "low": low, "choices": tuple(choices or ()), "free": free}
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
        for one in value if kind is tuple else (value,):
            known = not f.metadata["choices"] or callable(one) or one in f.metadata["choices"]
            require(known, f"{f.name}: {one!r} is none of {', '.join(f.metadata['choices'])}")


def fixed(config: Any) -> list[str]:
    """The names of the options that a run must share with its continuation."""
    return [f.name for f in dataclasses.fields(config) if not f.metadata["free"]]


def fixed_values(config: Any, *besides: str) -> dict[str, Any]:
    """The options of `fixed`, and `besides`, as plain values: what a record or a checkpoint says
    that a run was."""
    values = config.to_json()
    return {name: values[name] for name in (*besides, *fixed(config))}

"""Options of a run or of a command: a dataclass whose fields know what they mean and may be.

`r1lab --help`, YAML files of options, the checks of a configuration and the question whether a run
may go on from a checkpoint all read the same fields.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any

from r1lab.basics.errors import R1LabError, did_you_mean

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list",
}
MOST_SEED = 2**32 - 1  # the largest that torch, numpy and TRL all take


def option(
    default: Any, help: str, *, low=None, high=None, choices=None, free: bool = False, **shown: Any
) -> Any:
    """A field of a configuration. low, high: its smallest and largest value. choices: its values.
    free: it may change between a run and its continuation, because the result does not depend on
    it. kind: its type, where the default is None, for "not given". Others are for the command line
    (r1lab.cli.parse.annotation)."""
    if choices:
        help += f": {', '.join(choices)}"
    metadata = {"help": help, "low": low, "high": high, "choices": tuple(choices or ())}
    return field(default=default, metadata=metadata | {"free": free} | shown)


def require(good: bool, words: str) -> None:
    """Raises R1LabError, in one line, where an option cannot be right."""
    if not good:
        raise R1LabError(f"training options: {words}")


def check(config: Any, where: str = "training options") -> None:
    """Types, limits and choices of all fields; a whole number does for a number, and a list for a
    tuple. For `__post_init__` of a frozen dataclass of options. Raises R1LabError."""

    def require(good: bool, words: str) -> None:
        if not good:
            raise R1LabError(f"{where}: {words}")

    for f in dataclasses.fields(config):
        value, about = getattr(config, f.name), f.metadata
        if not about or (value is None and f.default is None):
            continue
        kind, low, high = kind_of(f), about.get("low"), about.get("high")
        if (kind is float and type(value) is int) or (kind is tuple and type(value) is list):
            object.__setattr__(config, f.name, value := kind(value))
        require(type(value) is kind, f"{f.name} must be {WORDS[kind]}, not {value!r}")
        for one in value if kind is tuple else (value,):
            if kind is tuple and f.default:
                inner = {float: (float, int)}.get(type(f.default[0]), type(f.default[0]))
                good = (isinstance(one, inner) and type(one) is not bool) or callable(one)
                require(good, f"{f.name}: {one!r} is not {WORDS[type(f.default[0])]}")
            require(type(one) is not float or math.isfinite(one), f"{f.name} must be finite")
            if type(one) in (int, float):
                require(low is None or one >= low, f"{f.name} must be at least {low}, not {one}")
                require(high is None or one <= high, f"{f.name} must be at most {high}, not {one}")
            choices = about.get("choices") or ()
            known = not choices or callable(one) or one in choices
            close = known or did_you_mean(one, choices).partition("; did")[2]
            more = f"; did{close}" if close and not known else ""
            require(known, f"{f.name}: {one!r} is none of {', '.join(choices)}{more}")


def kind_of(f: dataclasses.Field) -> type:
    """The type of an option's values."""
    return f.metadata.get("kind") or type(f.default)


def fixed(config: Any) -> list[str]:
    """The names of the options that a run must share with its continuation."""
    return [f.name for f in dataclasses.fields(config) if not f.metadata["free"]]


def fixed_values(config: Any, *besides: str) -> dict[str, Any]:
    """The options of `fixed`, and `besides`, as plain values: what a record or a checkpoint says
    that a run was."""
    values = config.to_json()
    return {name: values[name] for name in (*besides, *fixed(config))}

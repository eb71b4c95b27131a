"""Options of a run or of a command: a dataclass whose fields know what they mean and may be. The
command line, YAML files, checks and resumption all read these fields."""

import dataclasses
import math
from dataclasses import field
from typing import Any

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError, did_you_mean

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list",
}
MOST_SEED = 2**32 - 1  # the largest that torch, numpy and TRL all take
MOST_DRAWN = 2**20  # problems of a run, completions of a step: more are a slip, and fill the memory


def option(
    default, help: str, *, low=None, high=None, choices=None, kind="", free=False, **more
) -> Any:
    """A field of a configuration. low, high: its smallest and largest value. choices: its values.
    kind: choices is a registry of this kind, and what `plugins.find` finds is a value too. free: it
    may change between a run and its continuation, because the result does not depend on it. type:
    that of its values, where the default is None, for "not given". Others are for the command line
    (r1lab.cli.parse)."""
    if choices:
        help += f": {', '.join(choices)}" + (", or your own as FILE.py:NAME" if kind else "")
    metadata = {"help": help, "low": low, "high": high, "choices": choices or (), "kind": kind}
    return field(default=default, metadata=metadata | {"free": free} | more)


def require(good: bool, words: str) -> None:
    """Raises R1LabError, in one line, where an option cannot be right."""
    if not good:
        raise R1LabError(f"training options: {words}")


def check(config: Any, where: str = "training options") -> None:
    """Types, limits and choices of all fields; a whole number does for a number, and a list for a
    tuple. For `__post_init__` of a frozen dataclass of options. Raises R1LabError."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if "help" not in f.metadata or (value is None and f.default is None):
            continue
        kind = type_of(f)
        if (kind is float and type(value) is int) or (kind is tuple and type(value) is list):
            object.__setattr__(config, f.name, value := kind(value))
        if type(value) is not kind:
            raise R1LabError(f"{where}: {f.name} must be {WORDS[kind]}, not {value!r}")
        for one in value if kind is tuple else (value,):
            if words := _wrong(one, f):
                raise R1LabError(f"{where}: {f.name}{words}")


def _wrong(one: Any, f: dataclasses.Field) -> str | None:
    """What is wrong with a value of an option, or with one of a list; None where nothing is."""
    low, high, choices = (f.metadata.get(name) for name in ("low", "high", "choices"))
    if type_of(f) is tuple and f.default:
        element = type(f.default[0])
        good = isinstance(one, (int, float) if element is float else element)
        if (not good or isinstance(one, bool)) and not callable(one):
            return f": {one!r} is not {WORDS[element]}"
    if type(one) in (int, float):
        if not math.isfinite(one):
            return " must be finite"
        if low is not None and one < low:
            return f" must be at least {low}, not {one}"
        if high is not None and one > high:
            return f" must be at most {high}, not {one}"
    if f.metadata.get("kind") and isinstance(one, str):
        try:
            plugins.find(f.metadata["kind"], one, choices, reread=True)
        except R1LabError as error:
            return f": {error}"
    elif choices and not callable(one) and one not in choices:
        close = did_you_mean(one, choices).partition("; known")[0]
        return f": {one!r} is none of {', '.join(choices)}{close}"
    return None


def type_of(f: dataclasses.Field) -> type:
    """The type of an option's values."""
    return f.metadata.get("type") or type(f.default)


def element_of(f: dataclasses.Field) -> type:
    """The type of one word of an option: of a list's elements, or the option's own."""
    kind = type_of(f)
    return kind if kind is not tuple else type(f.default[0]) if f.default else str


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

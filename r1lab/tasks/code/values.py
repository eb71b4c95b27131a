"""Arguments and expected values as JSON, so that a problem's data survives it: lists, texts,
numbers, True, False and None as they are; {"tuple": [...]}, {"set": [...]}, {"dict": [[1, 2]]}."""

import ast
from typing import Any

_NAMES = {"tuple": tuple, "set": set, "frozenset": frozenset}


def to_plain(value: Any) -> Any:
    """Raises ValueError for a value of another type."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [to_plain(one) for one in value]
    if type(value) is dict:
        return {"dict": [[to_plain(key), to_plain(one)] for key, one in value.items()]}
    for name, kind in _NAMES.items():
        if type(value) is kind:
            items = value if kind is tuple else sorted(value, key=repr)
            return {name: [to_plain(one) for one in items]}
    raise ValueError(f"a value of the type {type(value).__name__}")


def from_plain(plain: Any) -> Any:
    """The inverse.  Raises ValueError or TypeError for anything else."""
    if type(plain) is list:
        return [from_plain(one) for one in plain]
    if type(plain) is not dict:
        return plain
    ((name, items),) = plain.items()
    if name == "dict":
        return {from_plain(key): from_plain(one) for key, one in items}
    if name not in _NAMES:
        raise ValueError(f"no value: {name!r:.60}")
    return _NAMES[name](from_plain(one) for one in items)


def literal(node: ast.expr) -> Any:
    """The value of an expression of plain values, set() and number signs.  Raises ValueError."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"no plain value: {error}"[:200]) from None

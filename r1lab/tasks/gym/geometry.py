"""Verifiers of the geometry problems of reasoning-gym. Values are rounded, so that a tolerance of
half of the last digit decides."""

import re
from fractions import Fraction

from r1lab.tasks.gym.reading import Checker, decimal

_HALF = {"angle_measure": 0.005, "orthocenter": 0.0005, "incircle_radius": 0.0005}
_VALUES = {
    "angle_measure": "angle_ABC_degrees",
    "orthocenter": "orthocenter_approx",
    "incircle_radius": "incircle_radius_approx",
}


def _figures(answer: str, data: dict) -> list[Fraction] | None:
    """45.00°, (1.000, 2.500) or 3.435, as the kind of problem wants it."""
    kind, found = data["task_type"], answer.strip()
    if kind == "angle_measure":
        found = found.removesuffix("°")
    if kind == "orthocenter":
        inner = re.fullmatch(r"\(([^(),]+),([^(),]+)\)", found)
        values = [decimal(part) for part in inner.groups()] if inner else [None]
    else:
        values = [decimal(found)]
    return None if None in values else values


def _near(values: list[Fraction], data: dict) -> bool:
    half = _HALF[data["task_type"]] + 1e-9
    return all(abs(float(a) - b) <= half for a, b in zip(values, data["values"], strict=True))


def _facts(metadata: dict) -> dict:
    kind = metadata["task_type"]
    value = metadata[_VALUES[kind]]
    corners = {name: metadata[name] for name in "ABC"}
    values = list(value) if isinstance(value, tuple) else [value]
    return {"task_type": kind, "values": values, **corners}


CHECKERS = {"advanced_geometry": Checker(_figures, _near, _facts, many=True)}

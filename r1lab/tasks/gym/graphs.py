"""Verifiers of the graph puzzles of reasoning-gym."""

import re

from r1lab.tasks.gym.reading import Checker, loads, puzzle

STEPS = {"right": (0, 1), "down": (1, 0), "left": (0, -1), "up": (-1, 0)}


def _colors(answer: str) -> dict[str, int] | None:
    """{"0": 1, "1": 2} in JSON."""
    found = loads(answer)
    good = isinstance(found, dict) and all(type(color) is int for color in found.values())
    return found if good else None


def _coloring(colors: dict[str, int], data: dict) -> bool:
    """Every vertex has a colour, and no edge two of the same."""
    graph = data["puzzle"]
    if set(colors) != {str(vertex) for vertex in graph["vertices"]}:
        return False
    proper = all(colors[str(a)] != colors[str(b)] for a, b in graph["edges"])
    return proper and set(colors.values()) <= set(graph["color_options"])


def _path(answer: str) -> list[str] | None:
    """ "up up right", or ["infeasible"]"""
    steps = answer.split()
    return steps if steps == ["infeasible"] or steps and set(steps) <= set(STEPS) else None


def _shortest(steps: list[str], data: dict) -> bool:
    """From * to # without an X, with as few steps as the solution."""
    if steps == ["infeasible"] or data["solution"] == "infeasible":
        return " ".join(steps) == data["solution"]
    cells = {(r, c): x for r, row in enumerate(data["matrix"]) for c, x in enumerate(row)}
    ((r, c),) = [place for place, x in cells.items() if x == "*"]
    for step in steps:
        r, c = r + STEPS[step][0], c + STEPS[step][1]
        if cells.get((r, c), "X") == "X":
            return False
    return cells[r, c] == "#" and len(steps) == len(data["solution"].split())


def _buttons(answer: str) -> list[str] | None:
    """A → B → C; arrows or commas between letters, or spaces alone."""
    if not re.fullmatch(r"[A-Za-z](?:\s*(?:→|->|,|\s)\s*[A-Za-z])*", answer.strip()):
        return None
    return re.findall("[A-Z]", answer.upper())


def _unlocks(pressed: list[str], data: dict) -> bool:
    """The target, by buttons that work in the light they are pressed in, as few as possible."""
    value, light = data["initial_value"], data["initial_state"]
    buttons = {button["name"]: button for button in data["buttons"]}
    if len(pressed) != len(_buttons(data["solution"])):
        return False
    for name in pressed:
        button = buttons.get(name)
        if button is None or button["active_state"] not in (light, "any"):
            return False
        by = button["value"]
        results = {"add": value + by, "subtract": value - by, "multiply": value * by}
        value, light = results[button["type"]], {"red": "green", "green": "red"}[light]
    return value == data["target_value"]


CHECKERS: dict[str, Checker] = {
    "graph_color": puzzle(_colors, _coloring, "puzzle"),
    "shortest_path": puzzle(_path, _shortest, "matrix"),
    "quantum_lock": puzzle(
        _buttons, _unlocks, "initial_value", "initial_state", "buttons", "target_value"
    ),
}

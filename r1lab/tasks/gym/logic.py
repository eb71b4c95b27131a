"""Verifiers of the logic puzzles of reasoning-gym."""

import re

from r1lab.tasks.gym.reading import Checker

_SAYS = re.compile(r"(\w{1,40}) is (?:a |an )?(\w{1,40})")


def _roles(answer: str, data: dict) -> list[bool] | None:
    """ "Zoey is a knave, and Riley is a knight" as [False, True], in the order of the names."""
    listed = answer.casefold().strip().removesuffix(".")
    said = [_SAYS.fullmatch(part) for part in re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", listed)]
    roles = {data["knight"]: True, data["knave"]: False}
    if None in said or len({one[1] for one in said}) < len(said):
        return None
    found = {one[1]: roles.get(one[2]) for one in said}
    names = [name.casefold() for name in data["names"]]
    if sorted(found) != sorted(names) or None in found.values():
        return None
    return [found[name] for name in names]


def _holds(statement: list, roles: list[bool]) -> bool:
    """Is a statement true when these people tell the truth?"""
    kind, *rest = statement
    if kind in ("telling-truth", "lying"):
        return roles[rest[0]] == (kind == "telling-truth")
    values = [_holds(one, roles) for one in rest]
    return {
        "not": not values[0],
        "and": all(values),
        "or": any(values),
        "->": not values[0] or values[-1],
        "<=>": values[0] == values[-1],
    }[kind]


def _consistent(roles: list[bool], data: dict) -> bool:
    """Whoever tells the truth says what is true, and whoever lies says what is not."""
    said = zip(roles, data["statements"], strict=True)
    return all(role == _holds(statement, roles) for role, statement in said)


def _knights(metadata: dict) -> dict:
    terms = metadata["knight_knave_terms"]
    return {
        "names": metadata["names"],
        "statements": metadata["statements"],
        "knight": terms["knight"],
        "knave": terms["knave"],
    }


CHECKERS = {"knights_knaves": Checker(_roles, _consistent, _knights)}

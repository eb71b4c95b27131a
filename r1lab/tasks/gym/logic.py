"""Verifiers of the logic puzzles of reasoning-gym."""

import re

from r1lab.tasks.expression import postfix_of
from r1lab.tasks.gym.reading import Checker, puzzle

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
    told = {"names": metadata["names"], "statements": metadata["statements"]}
    return told | {"knight": terms["knight"], "knave": terms["knave"]}


# -- a conclusion from premises --------------------------------------------------------------------

_BINDS = {"↔": 0, "→": 1, "∨": 2, "∧": 3, "¬": 4}


def _formula(answer: str) -> list[str] | None:
    """(P ∨ ¬Q) in postfix order, P Q ¬ ∨; None for a variable alone, which concludes nothing."""
    tokens = "".join(answer.split())
    if not all(re.fullmatch("[A-Z()]", token) or token in _BINDS for token in tokens):
        return None
    found = postfix_of(tokens, _BINDS, prefix="¬")
    return found if found and len(found) > 1 else None


def _truth(postfix: list[str], variables: list[str]) -> int:
    """The assignments under which a formula is true, as the bits of a number."""
    rows = range(1 << len(variables))
    every, stack = (1 << len(rows)) - 1, []
    columns = {name: sum(1 << row for row in rows if row >> k & 1)
               for k, name in enumerate(variables)}  # fmt: skip
    for token in postfix:
        if token not in _BINDS:
            stack.append(columns[token])
        elif token == "¬":
            stack.append(every ^ stack.pop())
        else:
            right, left = stack.pop(), stack.pop()
            values = {"∧": left & right, "∨": left | right, "→": every ^ left | right}
            stack.append(values.get(token, every ^ left ^ right))
    return stack[0]


def _follows(formula: list[str], data: dict) -> bool:
    """True whenever all premises are, and not always. From premises that contradict each other
    everything would follow: no answer is right."""
    variables = data["variables"]
    known = every = (1 << (1 << len(variables))) - 1
    for premise in data["premises"]:
        known &= _truth(_formula(premise) or [premise], variables)
    said = _truth(formula, variables)
    return bool(known) and known & ~said == 0 and said != every


CHECKERS = {
    "knights_knaves": Checker(_roles, _consistent, _knights),
    "propositional_logic": puzzle(_formula, _follows, "premises", "variables"),
}

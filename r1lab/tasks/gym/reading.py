"""What an answer says, read exactly: a value, or None for a text of another form.

No part of an answer is evaluated, and nothing is picked out of a longer text: an answer that names
two values is none. The work is bounded by the length of the text (`MOST`).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MOST = 20_000  # characters of an answer; the longest solution (127 moves of a tower) has 4,100
DIGITS = 15  # of a number
_NUMBER = re.compile(rf"[-+]?[0-9]{{1,{DIGITS}}}(?:\.[0-9]{{1,{DIGITS}}})?")


@dataclass(frozen=True)
class Checker:
    """The verifier of one generator. data: a problem's data, {"solution": a right answer, ...}.

    read(answer, data)   the answer's value (equal values are one vote), None for no answer
    right(value, data)   is it a solution?
    facts(metadata)      what `right` needs beside the solution, and what makes two problems the
                         same; without it the question does
    same(question)       what makes two problems the same, where wordings differ
    many                 several answers may be right"""

    read: Callable[[str, dict], Any]
    right: Callable[[Any, dict], bool]
    facts: Callable[[dict], dict] | None = None
    same: Callable[[str], str] = str
    many: bool = False


def gold(read: Callable[[str], Any], same: Callable[[str], str] = str) -> Checker:
    """One value is right, that of the solution."""

    def right(value: Any, data: dict) -> bool:
        return value == read(data["solution"])

    return Checker(lambda answer, data: read(answer), right, same=same)


def puzzle(read: Callable[[str], Any], right: Callable[[Any, dict], bool], *names: str) -> Checker:
    """Several values may be right; `right` needs these entries of the metadata."""

    def facts(metadata: dict) -> dict:
        return {name: metadata[name] for name in names}

    return Checker(lambda answer, data: read(answer), right, facts, many=True)


def symbols(question: str) -> str:
    """The numbers and operators of a question, without its words."""
    return " ".join(re.findall(r"[0-9]+(?:\.[0-9]+)?|[-+*/^=]", question))


# -- values --------------------------------------------------------------------------------------


def text(answer: str) -> str | None:
    """The text itself, without white space at the ends of lines."""
    return "\n".join(line.rstrip() for line in answer.strip().split("\n")) or None


def word(answer: str) -> str | None:
    """A word or a phrase; case, a full stop and white space do not count: "True." is "true"."""
    return " ".join(answer.casefold().removesuffix(".").split()) or None


def decimal(answer: str) -> Fraction | None:
    return Fraction(answer.strip()) if _NUMBER.fullmatch(answer.strip()) else None


def fraction(answer: str) -> list[int] | None:
    r"""3/4, $3/4$, \frac{3}{4}, \dfrac{3}{4} as [3, 4], not reduced."""
    plain = re.fullmatch(
        r"\$?\s*(?:([0-9]{1,12})\s*/\s*([0-9]{1,12})"
        r"|\\d?frac\s*\{\s*([0-9]{1,12})\s*\}\s*\{\s*([0-9]{1,12})\s*\})\s*\$?",
        answer.strip(),
    )
    return plain and [int(part) for part in plain.groups() if part is not None]


def integers(answer: str) -> list[int] | None:
    """Whole numbers with spaces between them."""
    if not re.fullmatch(rf"-?[0-9]{{1,{DIGITS}}}(?:[ \t]+-?[0-9]{{1,{DIGITS}}})*", answer.strip()):
        return None
    return [int(one) for one in answer.split()]


def grid(answer: str) -> list[list[Fraction]] | None:
    """Rows of numbers with spaces between them, one a line."""
    rows = [[decimal(cell) for cell in line.split()] for line in answer.strip().split("\n")]
    return None if any(not row or None in row for row in rows) else rows


def numbers(answer: str) -> list[Fraction] | None:
    """A list in brackets, its numbers in quotes or not: [ '1', '2.5' ]"""
    listed = answer.strip()
    if not (listed.startswith("[") and listed.endswith("]")):
        return None
    if not listed[1:-1].strip():
        return []
    cells = [cell.strip() for cell in listed[1:-1].split(",")]
    quoted = [c[1:-1] if len(c) > 2 and c[0] == c[-1] and c[0] in "'\"" else c for c in cells]
    values = [decimal(cell) for cell in quoted]
    return None if None in values else values


def words(answer: str) -> list[str] | None:
    """Words with commas between them."""
    found = [one.strip() for one in answer.split(",")]
    return None if any(not one or "\n" in one for one in found) else found


def loads(answer: str) -> Any:
    """A value in JSON, every key once and no NaN; None for anything else."""

    def once(pairs: list[tuple[str, Any]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(answer, object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None


def same_json(answer: str) -> str | None:
    """A value in JSON as one text: 1, true, "1" and 1.0 are four values, keys come in any order."""
    found = loads(answer)
    return None if found is None else json.dumps(found, sort_keys=True)


def texts(answer: str) -> list[str] | None:
    """A list of texts in JSON."""
    found = loads(answer)
    good = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if good else None


def groups(answer: str) -> list[list[str]] | None:
    """A list of lists of texts in JSON, each list and all of them in whatever order."""
    found = loads(answer)
    if not isinstance(found, list) or not all(isinstance(one, list) for one in found):
        return None
    return found if all(isinstance(x, str) for one in found for x in one) else None

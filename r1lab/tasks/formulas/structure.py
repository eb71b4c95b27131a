r"""The structure of an answer in the one spelling: (1,2), x=1,2, [0,1), 52_8, 10:30, words, values.

Brackets, commas and signs are read off the text; what is within is read in the same way.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from r1lab.tasks.formulas.spelling import ROWS
from r1lab.tasks.formulas.units import split_unit


class Answer(NamedTuple):
    """kind, the text in one spelling, and the parts that the kind has."""

    kind: str
    text: str
    parts: tuple = ()


SEPARATOR = re.compile(r"[,;]?\\text\{(?:or|and)\}|[,;]")
_RELATION = re.compile(r"<|>|\\(?:le|ge|ne|in|cup|cap|setminus|backslash)(?![A-Za-z])|\\mathbb")
_MATRIX = re.compile(
    r"[\[(]?\\begin\{(?P<kind>[pb]?matrix|array|smallmatrix)\}(?:\{[clr|]*\})?"
    r"(?P<body>(?:(?!\\begin|\\end).)*)\\end\{(?P=kind)\}[\])]?"
)
_BASE = re.compile(r"(\d[\dA-Z]*|[A-Z]+(?=_\{?16))(?:_\{?(\d+)\}?|\\text\{base\}_?\{?(\d+)\}?)")
_COLON = re.compile(r"(\d+(?:\.\d+)?(?::\d+(?:\.\d+)?)+)((?:\\text\{[a-z]+\})*)")


def at_top(text: str, pattern: re.Pattern) -> list[re.Match]:
    """Where the pattern stands outside all brackets."""
    depths, depth = [], 0
    for char in text:
        depth -= char in ")]}"
        depths.append(depth)
        depth += char in "([{"
    return [found for found in pattern.finditer(text) if depths[found.start()] <= 0]


def split(text: str, pattern: re.Pattern) -> tuple[list[str], list[str]]:
    """The parts of a text between what `at_top` finds, and what it finds."""
    found = at_top(text, pattern)
    edges = [0, *(edge for one in found for edge in one.span()), len(text)]
    parts = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return parts, [one[0] for one in found]


def inside(text: str, opening: str, closing: str) -> str | None:
    """What stands between the brackets around all of the text, or None."""
    if not (text.startswith(opening) and text.endswith(closing) and len(text) > 1):
        return None
    depth = 0
    for k, char in enumerate(text[:-1]):
        depth += (char in "([{") - (char in ")]}")
        if depth == 0 and k >= len(opening) - 1:
            return None
    return text[len(opening) : -len(closing)]


def read(text: str) -> Answer:
    """The structure of a spelled text."""
    text = re.sub(r"^\](.+,.+)([\[\]])$|^(\[)([^\[\]]+,[^\[\]]+)\[$", _french, text)
    for brackets in ("{}", "()", "{}"):
        inner = inside(text, *brackets)
        if inner and not at_top(inner, SEPARATOR):
            text = inner
    member = re.fullmatch(r"[A-Za-z]\\in(.+)", text)
    if member:
        return read(member[1].strip())._replace(text=text)
    parts, separators = split(text, SEPARATOR)
    if len(parts) > 1:
        return _list(text, parts, separators) if all(parts) else Answer("words", text)
    inner = inside(text, r"\{", r"\}")
    if inner:
        if at_top(inner, re.compile(r"\||(?<=[a-z}]):")):
            return Answer("region", text)
        listed = read(inner)
        return Answer("set", text, listed.parts if listed.kind == "list" else (listed,))
    if r"\pm" in text or r"\mp" in text:
        pair = (text.replace(r"\pm", a).replace(r"\mp", b) for a, b in ("+-", "-+"))
        return Answer("list", text, tuple(read(re.sub(r"^\+", "", one)) for one in pair))
    if found := _MATRIX.fullmatch(text):
        rows = found["body"].strip(ROWS).split(ROWS)
        return Answer("matrix", text, tuple(tuple(map(read, row.split("&"))) for row in rows))
    if found := _BASE.fullmatch(text):
        return Answer("base", text, (found[1].lstrip("0"), found[2] or found[3]))
    if found := _COLON.fullmatch(text):
        return Answer("colon", text, (tuple(found[1].split(":")), found[2]))
    for opening in "([":
        for closing in ")]":
            inner = inside(text, opening, closing)
            if inner and at_top(inner, SEPARATOR):
                items = tuple(map(read, split(inner, SEPARATOR)[0]))
                return Answer("tuple", text, (opening + closing, items))
    if at_top(text, _RELATION):
        return Answer("region", text)
    sides = split(text, re.compile("="))[0]
    if len(sides) == 2 and all(sides):
        turned = re.fullmatch("[A-Za-z]", sides[1]) and not re.match("[A-Za-z\\\\]", sides[0])
        return Answer("equation", text, tuple(sides[::-1] if turned else sides))
    value = split_unit(text)[0]
    odd = r"\text" in value or len(sides) > 1 or re.search(r"\d \d", text)
    return Answer("words" if odd else "value", text)


def _french(found: re.Match) -> str:
    """]1,2[ and its kin as (1,2)."""
    if found[3]:
        return f"[{found[4]})"
    return f"({found[1]}{')' if found[2] == '[' else ']'}"


def _list(text: str, parts: list[str], separators: list[str]) -> Answer:
    """Items without brackets: x=1,2 are two values of x; a=3,b=4 an assignment."""
    items = [read(part) for part in parts]
    if all(item.kind == "region" for item in items):
        return Answer("region", text)
    names = [item.parts[0] if named(item) else None for item in items]
    if names[0] and (set(names) <= {names[0]} or not any(names[1:])):
        items = [
            read(one.parts[1]) if name else one for one, name in zip(items, names, strict=True)
        ]
    elif all(names) and len(set(names)) == len(names):
        values = tuple(read(item.parts[1]) for item in items)
        return Answer("assign", text, tuple(zip(names, values, strict=True)))
    flat: list[Answer] = []
    for item in items:
        flat += item.parts if item.kind == "list" else [item]
    return Answer("list", text, tuple(flat))


def named(answer: Answer) -> bool:
    r"""Is it an equation with a name on its left: x, f(x), \angle ABC, P(A), \cos 60^\circ?"""
    if answer.kind != "equation":
        return False
    left = re.sub(r"\^(?:\\circ|\{-1\})", "", answer.parts[0])
    if re.match(r"[\d(]", left) or re.search(
        r"[-+^&]|\\cdot|\\sqrt|\|[a-z]\||\\begin|[a-eik-oq-z]\(\d", left
    ):
        return False
    if re.fullmatch(r"[a-z]{2,}", left) or (r"\frac" in left and re.search(r"\d", left)):
        return False
    return re.search(r"[A-Za-z]", left) is not None

r"""The structure of a spelled answer: (1,2), x=1,2, [0,1), 52_8, 10:30, words, values."""

import itertools
import re
from typing import NamedTuple

from r1lab.tasks.formulas.spelling import ROWS
from r1lab.tasks.formulas.units import split_unit


class Answer(NamedTuple):
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
    """Matches outside all brackets."""
    depths, depth = [], 0
    for char in text:
        depth -= char in ")]}"
        depths.append(depth)
        depth += char in "([{"
    return [found for found in pattern.finditer(text) if depths[found.start()] <= 0]


def split(text: str, pattern: re.Pattern) -> tuple[list[str], list[str]]:
    """The parts of a text between the matches of `at_top`, and the matches."""
    found = at_top(text, pattern)
    edges = [0, *(edge for one in found for edge in one.span()), len(text)]
    parts = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return parts, [one[0] for one in found]


def inside(text: str, opening: str, closing: str) -> str | None:
    """The text between brackets around all of it, or None."""
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
    # ]1,2[ and its like as (1,2)
    text = re.sub(r"^\[([^\[\]]+,[^\[\]]+)\[$", r"[\1)", text)
    text = re.sub(r"^\](.+,.+)\[$", r"(\1)", re.sub(r"^\](.+,.+)\]$", r"(\1]", text))
    for brackets in ("{}", "()", "{}"):
        inner = inside(text, *brackets)
        if inner and not at_top(inner, SEPARATOR):
            text = inner
    if member := re.fullmatch(r"[A-Za-z]\\in(.+)", text):
        return read(member[1].strip())._replace(text=text)
    parts, separators = split(text, SEPARATOR)
    if len(parts) > 1:
        return _list(text, parts, separators) if all(parts) else Answer("words", text)
    if inner := inside(text, r"\{", r"\}"):
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
    for brackets in ("()", "(]", "[)", "[]"):
        inner = inside(text, *brackets)
        if inner and at_top(inner, SEPARATOR):
            return Answer("tuple", text, (brackets, tuple(map(read, split(inner, SEPARATOR)[0]))))
    if at_top(text, _RELATION):
        return Answer("region", text)
    sides = split(text, re.compile("="))[0]
    if len(sides) == 2 and all(sides):
        turned = re.fullmatch("[A-Za-z]", sides[1]) and not re.match("[A-Za-z\\\\]", sides[0])
        return Answer("equation", text, tuple(sides[::-1] if turned else sides))
    value = split_unit(text)[0]
    odd = r"\text" in value or len(sides) > 1 or re.search(r"\d \d", text)
    return Answer("words" if odd else "value", text)


def _list(text: str, parts: list[str], separators: list[str]) -> Answer:
    """Items without brackets: x=1,2 is two values of x; a=3,b=4 an assignment."""
    items = [read(part) for part in parts]
    if all(item.kind == "region" for item in items):
        return Answer("region", text)
    names = [item.parts[0] if named(item) else None for item in items]
    if names[0] and (set(names) <= {names[0]} or not any(names[1:])):
        pairs = zip(items, names, strict=True)
        items = [read(item.parts[1]) if name else item for item, name in pairs]
    elif all(names) and len(set(names)) == len(names):
        values = tuple(read(item.parts[1]) for item in items)
        return Answer("assign", text, tuple(zip(names, values, strict=True)))
    flat = (item.parts if item.kind == "list" else (item,) for item in items)
    return Answer("list", text, tuple(itertools.chain.from_iterable(flat)))


def named(answer: Answer) -> bool:
    r"""Is it an equation with a name on its left: x, f(x), \angle ABC, P(A), \cos 60^\circ?"""
    if answer.kind != "equation":
        return False
    left = re.sub(r"\^(?:\\circ|\{-1\})", "", answer.parts[0])
    formula = r"^[\d(]|[-+^&]|\\cdot|\\sqrt|\|[a-z]\||\\begin|[a-eik-oq-z]\(\d|^[a-z]{2,}$"
    if re.search(formula, left) or (r"\frac" in left and re.search(r"\d", left)):
        return False
    return re.search(r"[A-Za-z]", left) is not None

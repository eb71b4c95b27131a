r"""Equality of mathematical answers, with nothing to stop it: what the worker of `math_equal` runs.

An answer is read by its structure (`read`), and structures are compared part by part (`same`): a
list without brackets in any order and with repetitions, (1,2) in its order, [0,1) and 0 \le x < 1
as sets of numbers, 52_8 by its digits, words letter by letter.  What is left are single values with
a unit (`math_spelling`), and those math-verify's reader, latex2sympy2_extended, turns into sympy.

Values are compared exactly: every decimal is a fraction, and irrational numbers are compared to 60
digits beside sympy's own proof.  A decimal answer to a gold answer that is none may be rounded
correctly, where it shows six decimals and six digits.  Formulas are equal if they are at points
that are drawn once for all.  math-verify's own `verify` is not used: it rounds to six decimals, so
1/2^99 is 0 to it, takes sets for tuples and leaves out units and powers of numbers' bases.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

import sympy

from r1lab.tasks.math_finished import finished
from r1lab.tasks.math_spelling import ROWS, THOUSANDS, spell, split_unit
from r1lab.tasks.math_values import expression, is_zero, proportional, same_value


def compare(gold: str, answer: str) -> bool:
    """Are two texts equal, each without its wrapping?  May raise, or take for ever, on any text."""
    gold, answer = spell(gold), spell(answer)
    if any(gold.count(mark) != answer.count(mark) for mark in ("'", "^T", "^{T}")):
        return False  # which the reader leaves out
    closed = re.compile(r"\[-\\infty|\\infty\]")
    if closed.search(answer) and not closed.search(gold):
        return False
    wanted = read(gold)
    if same(wanted, read(answer)):
        return True
    several = wanted.kind in ("list", "set", "tuple") and THOUSANDS in answer
    return several and same(wanted, read(answer.replace(THOUSANDS, ",")))


# -- structure --------------------------------------------------------------------------------


class Answer(NamedTuple):
    """kind, the text in one spelling, and the parts that the kind has."""

    kind: str
    text: str
    parts: tuple = ()


_SEPARATOR = re.compile(r"[,;]?\\text\{(?:or|and)\}|[,;]")
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
        if inner and not at_top(inner, _SEPARATOR):
            text = inner
    member = re.fullmatch(r"[A-Za-z]\\in(.+)", text)
    if member:
        return read(member[1].strip())._replace(text=text)
    parts, separators = split(text, _SEPARATOR)
    if len(parts) > 1:
        return _list(text, parts, separators) if all(parts) else Answer("words", text)
    inner = inside(text, r"\{", r"\}")
    if inner:
        if at_top(inner, re.compile(r"\||(?<=[a-z]):")):
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
            if inner and at_top(inner, _SEPARATOR):
                items = tuple(map(read, split(inner, _SEPARATOR)[0]))
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


# -- equality of structures -------------------------------------------------------------------


def same(gold: Answer, answer: Answer) -> bool:
    """Is the answer equal to the gold answer?  A gold answer may say more than an answer need to
    (its unit, the name before =), so this is not symmetric."""
    if gold.text == answer.text:
        return True
    if "words" in (gold.kind, answer.kind):
        words = re.search(r"\\text|^[A-Za-z]$", gold.text)
        return words is not None and flat(gold.text) == flat(answer.text)
    names = [re.match(r"([A-Za-z])(?:=|\\in)", one.text) for one in (gold, answer)]
    if gold.kind in ("list", "set", "tuple") and all(names) and names[0][1] != names[1][1]:
        return False
    if answer.kind == "equation" and gold.kind not in ("equation", "region") and named(answer):
        return same(gold, read(answer.parts[1]))
    if answer.kind == "set" and gold.kind == "value" and len(answer.parts) == 1:
        return same(gold, answer.parts[0])
    return _SAME[gold.kind](gold, answer)


def flat(text: str) -> list[str]:
    """A text's words, numbers and signs in their order; without \\text, brackets and points."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text.replace(THOUSANDS, "").lower())
    return re.findall(r"[^\W\d_]+|\d+(?:\.\d+)?|[^\w\s(){}.,]", text)


def all_same(gold, answer) -> bool:
    """Item by item."""
    return len(gold) == len(answer) and all(map(same, gold, answer))


def match(gold, answer) -> bool:
    """In any order, each item of the answer for one of the gold answer's."""
    left = list(answer)
    for item in gold:
        found = next((one for one in left if same(item, one)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def _same_list(gold: Answer, answer: Answer) -> bool:
    items = tuple(gold.parts)
    if answer.kind in ("list", "set"):
        return match(items, answer.parts)
    if answer.kind == "assign":
        return all_same(items, [value for _, value in sorted(answer.parts)])
    # two in brackets might be a point or an interval
    ordered = answer.kind == "tuple" and answer.parts[0] == "()" and len(items) > 2
    return ordered and all_same(items, answer.parts[1])


def _same_set(gold: Answer, answer: Answer) -> bool:
    if len(gold.parts) == 1 and answer.kind == "value":
        return same(gold.parts[0], answer)
    return answer.kind in ("list", "set") and match(gold.parts, answer.parts)


def _same_tuple(gold: Answer, answer: Answer) -> bool:
    brackets, items = gold.parts
    if answer.kind == "tuple":
        return brackets == answer.parts[0] and all_same(items, answer.parts[1])
    if answer.kind == "assign":
        return all_same(items, [value for _, value in sorted(answer.parts)])
    if answer.kind == "list":
        return brackets == "()" and len(items) > 2 and all_same(items, answer.parts)
    return len(items) == 2 and _same_region(gold, answer)


def _same_assign(gold: Answer, answer: Answer) -> bool:
    names, values = zip(*gold.parts, strict=True)
    if answer.kind == "assign":
        given = dict(answer.parts)
        return set(given) == set(names) and all_same(values, [given[name] for name in names])
    if answer.kind == "tuple":
        return answer.parts[0] == "()" and all_same(values, answer.parts[1])
    return answer.kind == "list" and all_same(values, answer.parts)


def _same_matrix(gold: Answer, answer: Answer) -> bool:
    if answer.kind == "matrix":
        return len(gold.parts) == len(answer.parts) and all(map(all_same, gold.parts, answer.parts))
    once = answer.text.count(r"\begin") == 1
    return answer.kind == "value" and once and same_value(gold.text, answer.text)


def _same_base(gold: Answer, answer: Answer) -> bool:
    digits, _ = gold.parts
    if answer.kind == "base":
        return gold.parts == answer.parts
    return answer.kind == "value" and answer.text.lstrip("0") == digits


def _same_colon(gold: Answer, answer: Answer) -> bool:
    (numbers, word) = gold.parts
    clock = len(numbers) == 2 and len(numbers[1]) == 2 and int(float(numbers[0])) < 25
    if answer.kind == "value" and len(numbers) == 2 and not clock:
        return same_value(rf"\frac{{{numbers[0]}}}{{{numbers[1]}}}", answer.text)
    if answer.kind != "colon" or (word and word != answer.parts[1]):
        return False
    given = answer.parts[0]
    if clock or len(given) != len(numbers):
        return [numbers[0].lstrip("0"), *numbers[1:]] == [given[0].lstrip("0"), *given[1:]]
    a, b = [Fraction(one) for one in numbers], [Fraction(one) for one in given]
    return all(a[k] * b[0] == b[k] * a[0] for k in range(len(a))) and any(a[:1])


def _same_value(gold: Answer, answer: Answer) -> bool:
    if answer.kind == "base":
        return answer.parts[1] == "10" and same_value(gold.text, answer.parts[0])
    if answer.kind == "colon" and len(answer.parts[0]) == 2 and not answer.parts[1]:
        return same_value(gold.text, "/".join(answer.parts[0]))
    if answer.kind == "matrix":
        return gold.text.count(r"\begin") >= 1 and same_value(gold.text, answer.text)
    return answer.kind == "value" and same_value(gold.text, answer.text)


def _same_equation(gold: Answer, answer: Answer) -> bool:
    if answer.kind != "equation":
        return named(gold) and same(read(gold.parts[1]), answer)
    if gold.parts[0] == answer.parts[0] and named(gold):
        return same(read(gold.parts[1]), read(answer.parts[1]))
    if not finished(gold.text, answer.text):
        return False
    wanted, given = (expression(one[0]) - expression(one[1]) for one in (gold.parts, answer.parts))
    return proportional(wanted, given)


def _same_region(gold: Answer, answer: Answer) -> bool:
    if answer.kind not in ("region", "tuple") or not finished(gold.text, answer.text):
        return False
    try:
        (name, wanted), (other, given) = region(gold.text), region(answer.text)
    except ValueError:
        return _same_inequality(gold.text, answer.text)
    return (None in (name, other) or name == other) and same_sets(wanted, given)


_SAME = {
    "list": _same_list,
    "set": _same_set,
    "tuple": _same_tuple,
    "assign": _same_assign,
    "matrix": _same_matrix,
    "base": _same_base,
    "colon": _same_colon,
    "value": _same_value,
    "equation": _same_equation,
    "region": _same_region,
}


# -- sets of real numbers ---------------------------------------------------------------------

_ORDER = re.compile(r"<|>|\\(?:le|ge|ne)(?![A-Za-z])\s*")


def region(text: str) -> tuple[str | None, sympy.Set]:
    """The variable, None for one without, and the set. Raises ValueError for what is none."""
    parts, words = split(text, _SEPARATOR)
    tuple_of = read_interval(text)
    if tuple_of is not None:
        return None, tuple_of
    if len(parts) > 1:
        union = all("or" in word for word in words)
        return _combined(parts, sympy.Union if union else sympy.Intersection)
    for sign, join in ((r"\\cup", sympy.Union), (r"\\cap", sympy.Intersection)):
        parts, _ = split(text, re.compile(sign + r"(?![A-Za-z])\s*"))
        if len(parts) > 1:
            return _combined(parts, join)
    parts, _ = split(text, re.compile(r"\\(?:setminus|backslash)(?![A-Za-z])\s*"))
    if len(parts) == 2:
        return _combined(parts, sympy.Complement)
    constants = {r"\mathbb{R}": sympy.S.Reals, r"\mathbb{Z}": sympy.S.Integers}
    if text in constants | {r"\emptyset": 0}:
        return None, constants.get(text, sympy.S.EmptySet)
    inner = inside(text, r"\{", r"\}")
    if inner:
        builder = re.fullmatch(r"([A-Za-z])(?:\\in\\mathbb\{R\})?[|:](.+)", inner)
        if builder:
            return region(builder[2])
        listed = split(inner, _SEPARATOR)[0]
        return None, sympy.FiniteSet(*map(expression, listed))
    member = re.fullmatch(r"([A-Za-z])\\in(.+)", text)
    if member:
        return member[1], region(member[2].strip())[1]
    return _chain(text)


def read_interval(text: str) -> sympy.Set | None:
    for opening in "([":
        for closing in ")]":
            inner = inside(text, opening, closing)
            ends = split(inner, re.compile("[,;]"))[0] if inner else ()
            if len(ends) == 2:
                low, high = map(expression, ends)
                return sympy.Interval(low, high, opening == "(", closing == ")")
    return None


def _combined(parts: list[str], join) -> tuple[str | None, sympy.Set]:
    names, sets = zip(*map(region, parts), strict=True)
    known = set(names) - {None}
    if len(known) > 1:
        raise ValueError("several variables")
    return (known.pop() if known else None), join(*sets)


def _chain(text: str) -> tuple[str, sympy.Set]:
    """x<3, 0<x\\le 1, 3>x, x\\ne 5: one variable, alone on its side."""
    sides, signs = split(text, _ORDER)
    where = [k for k, side in enumerate(sides) if re.fullmatch(r"[A-Za-z]|\\[a-z]+", side)]
    where = [k for k in where if sides[k] not in (r"\infty", r"\pi", "e")]
    if len(sides) not in (2, 3) or len(where) != 1 or (len(sides) == 3 and where != [1]):
        raise ValueError("not solved for a variable")
    name, found = sides[where[0]], sympy.S.Reals
    for k, sign in enumerate(signs):
        sign, other = sign.strip(), expression(sides[k + 1] if k == where[0] else sides[k])
        if sign == r"\ne":
            found &= sympy.Complement(sympy.S.Reals, sympy.FiniteSet(other))
            continue
        is_less, is_open = sign in ("<", r"\le"), sign in ("<", ">")
        if is_less == (k == where[0]):  # the variable is the smaller one
            found &= sympy.Interval(-sympy.oo, other, True, is_open)
        else:
            found &= sympy.Interval(other, sympy.oo, is_open, True)
    return name, found


def same_sets(a: sympy.Set, b: sympy.Set) -> bool:
    """Unions of intervals and points with equal ends, or what sympy sees to be equal."""

    def parts(whole: sympy.Set) -> list[tuple]:
        pieces = whole.args if isinstance(whole, sympy.Union) else (whole,)
        found = []
        for piece in pieces:
            if isinstance(piece, sympy.Interval):
                found.append((piece.start, piece.end, piece.left_open, piece.right_open))
            else:
                found += [(point, point, False, False) for point in piece]
        return sorted(found, key=lambda one: tuple(map(float, one)))

    if a == b:
        return True
    try:
        left, right = parts(a), parts(b)
    except TypeError:  # neither, or ends that are no numbers
        return False
    return len(left) == len(right) and all(
        one[2:] == other[2:] and all(is_zero(x, y) for x, y in zip(one[:2], other[:2], strict=True))
        for one, other in zip(left, right, strict=True)
    )


def _same_inequality(gold: str, answer: str) -> bool:
    """2x+y<3 and 3>y+2x: the same strictness, and differences in a positive ratio."""

    def one(text: str) -> tuple:
        (left, right), (sign,) = split(text, _ORDER)
        sign, value = sign.strip(), expression(left) - expression(right)
        return sign in ("<", ">"), sign == r"\ne", -value if sign in (">", r"\ge") else value

    wanted, given = one(gold), one(answer)
    return wanted[:2] == given[:2] and proportional(wanted[2], given[2], positive=not wanted[1])

"""One key for all answers that are equal, so that equal answers can be counted (cons@k).

Equality of `compare` asks for a gold answer, which a vote has not.  So the key says what the
answer is worth: the exact value of a number, 15 digits of an irrational one, a formula's values at
three points; for lists, intervals and the like the keys of their parts.  The name before = and
units are left out, as they may be left out of an answer: 5 cm is one vote with 5 (and with 5 m).
"""

from __future__ import annotations

from fractions import Fraction

import sympy

from r1lab.tasks.formulas.compare import flat, region
from r1lab.tasks.formulas.spelling import THOUSANDS, spell
from r1lab.tasks.formulas.structure import Answer, named, read
from r1lab.tasks.formulas.units import split_unit
from r1lab.tasks.formulas.values import at_point, expression, literal


def key(text: str) -> str:
    """The key of a text without its wrapping. May raise, or take for ever, on any text."""
    spelled = spell(text)
    if "'" in spelled or "^T" in spelled or "^{T}" in spelled:  # which the reader leaves out
        return spelled
    try:
        return _key(read(spelled))
    except Exception:  # sympy and the reader raise all sorts
        return spelled


def _key(answer: Answer) -> str:
    kind, parts = answer.kind, answer.parts
    if kind == "value":
        return _value(answer.text)
    if kind in ("list", "set"):
        keys = sorted(map(_key, parts))
        return keys[0] if len(keys) == 1 else ", ".join(keys)
    if kind == "tuple":
        return parts[0][0] + ", ".join(map(_key, parts[1])) + parts[0][1]
    if kind == "assign":
        return "(" + ", ".join(_key(value) for _, value in sorted(parts)) + ")"
    if kind == "matrix":
        return "[" + "; ".join(", ".join(map(_key, row)) for row in parts) + "]"
    if kind == "equation":
        if named(answer):
            return _key(read(parts[1]))
        values = _values(expression(parts[0]) - expression(parts[1]))
        return "0 = " + ", ".join(str(sympy.Float(one / values[0], 15)) for one in values)
    if kind == "region":
        return _set(region(answer.text)[1])
    if kind == "base":
        return "_".join(parts)
    if kind == "colon":
        return ":".join(parts[0]) + parts[1]
    return " ".join(flat(answer.text))


def _value(text: str) -> str:
    value, multiple, unit = split_unit(text.replace(THOUSANDS, ""))
    factor = Fraction(multiple) / (100 if unit == "%" else 1)
    plain = literal(value)
    if plain is not None:
        return str(plain[0] * factor)
    exact = expression(value) * sympy.Rational(factor.numerator, factor.denominator)
    if isinstance(exact, (sympy.MatrixBase, sympy.MatrixExpr)):
        rows = sympy.Matrix(exact.doit()).tolist()
        return "[" + "; ".join(", ".join(map(_number, row)) for row in rows) + "]"
    return _number(exact)


def _number(exact) -> str:
    exact = exact.doit()
    if exact.is_Rational or exact.is_infinite:
        return str(exact)
    names = sorted(map(str, exact.free_symbols))
    values = [str(one.evalf(15)) for one in _values(exact)]
    return f"{', '.join(names)}: {', '.join(values)}" if names else values[0]


def _values(exact) -> list:
    """At the first three points where it has a value; its one value if it has no variables."""
    exact = exact.doit()
    pairs = (at_point(exact, exact, k) for k in range(8 if exact.free_symbols else 1))
    return [pair[0] for pair in pairs if pair is not None][:3]


def _set(whole: sympy.Set) -> str:
    pieces = whole.args if isinstance(whole, sympy.Union) else (whole,)
    keys = []
    for piece in pieces:
        if isinstance(piece, sympy.Interval):
            ends = f"{_number(piece.start)}, {_number(piece.end)}"
            keys.append(f"{'(['[not piece.left_open]}{ends}{')]'[not piece.right_open]}")
        else:
            keys += map(_number, piece)
    return " or ".join(sorted(keys))

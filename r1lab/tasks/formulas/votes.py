"""One key for equal answers, for majority voting (cons@k).

A vote has no gold answer for `compare`, so the key is the value: exact, 15 digits of an irrational
number, a formula's values at three points; of lists and the like the keys of their parts. The name
before = and units are ignored: 5 cm, 5 m and 5 are one vote.
"""

import re
from fractions import Fraction

import sympy

from r1lab.tasks.formulas.compare import compare, flat, pieces, region
from r1lab.tasks.formulas.spelling import THOUSANDS, spell
from r1lab.tasks.formulas.structure import Answer, named, read
from r1lab.tasks.formulas.units import split_unit
from r1lab.tasks.formulas.values import at_point, expression, literal


def key(text: str) -> str:
    """The key of a text (after `math_equal.clean`). May never end on any text."""
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
    words = " ".join(flat(answer.text))
    return _value(words.upper()) if re.fullmatch("[a-z]", words) else words  # an option: (B)


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
    keys = []
    for start, end, left, right in pieces(whole):
        ends = f"{'(['[not left]}{_number(start)}, {_number(end)}{')]'[not right]}"
        keys.append(_number(start) if start == end else ends)
    return " or ".join(sorted(keys))


def answer(what: str, *texts: str) -> bool | str:
    """What the worker calls: ("equal", gold, answer) or ("key", answer)."""
    return key(*texts) if what == "key" else compare(*texts)


def warm_up() -> None:
    """Loads the grammar and sympy's late imports: the first comparison takes ten times as long."""
    for gold, given in _WARM:
        compare(gold, given)


_WARM = (
    (r"x_1^2+2x_1+1", "(x_1+1)^2"),
    ("x<3", r"(-\infty,3)"),
    (r"\frac{2}{\sqrt{2}}", r"\sqrt 2"),
    (r"e^{-20}", r"e^{-21}"),
    (r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}"),
    (r"\log_2 3", r"\frac{\log 3}{\log 2}"),
    (r"\cos 20^\circ", r"\cos(20^\circ)"),
    ("f(x)", "f(x)+1"),
    (r"2+3i", r"3 i + 2"),
    (r"\frac{x^2}{4}+\frac{y^2}{9}=1", "9x^2+4y^2=36"),
    (r"3\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}3\\6\end{pmatrix}"),
)

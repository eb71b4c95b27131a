"""Single values, compared exactly: decimals as fractions, irrational numbers to 60 digits, formulas
at fixed points (sympy's `simplify` takes seconds). A decimal answer may be rounded, to six decimals
or more."""

import re
from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

from r1lab.tasks.formulas.finished import finished
from r1lab.tasks.formulas.spelling import ROWS, THOUSANDS
from r1lab.tasks.formulas.units import factors, split_unit

_LITERAL = re.compile(r"([-+]?)(\d+)(?:\.(\d*))?(?:\\cdot\s?10\^\{?([-+]?\d{1,4})\}?)?")


def literal(text: str) -> tuple[Fraction, int, int] | None:
    """(value, decimals, significant digits) of a decimal number."""
    found = _LITERAL.fullmatch(text)
    if found is None:
        return None
    part, power = found[3] or "", int(found[4] or 0)
    digits, decimals = found[2] + part, len(part) - power
    return int(found[1] + digits) * Fraction(10) ** -decimals, decimals, len(digits.strip("0"))


def same_value(gold: str, answer: str) -> bool:
    """Single values, each perhaps with a unit."""
    gold, wanted_multiple, wanted_unit = split_unit(gold.replace(THOUSANDS, ""))
    answer, multiple, unit = split_unit(answer.replace(THOUSANDS, ""))
    allowed = [factor * multiple / wanted_multiple for factor in factors(wanted_unit, unit)]
    return any(same_number(gold, answer, factor) for factor in allowed)


def same_number(gold: str, answer: str, factor: Fraction) -> bool:
    """Is `answer` times `factor` the gold answer?"""
    wanted, given = literal(gold), literal(answer)
    if given is None:
        if not finished(gold if factor == 1 else rf"\frac{{{gold}}}{{1}}", answer):
            return False
        exact, found = expression(gold), expression(answer)
        times = sympy.Rational(factor.numerator, factor.denominator)
        return equal(exact, found if factor == 1 else found * times)
    value, decimals, digits = given[0] * factor, *given[1:]
    if wanted is not None:
        return wanted[0] == value
    exact = expression(gold)
    if equal(exact, sympy.Rational(value.numerator, value.denominator)):
        return True
    if factor != 1 or decimals < 6 or digits < 6 or exact.free_symbols or decimals > 200:
        return False
    near = sympy.re(exact).evalf(decimals + 30) * 10**decimals  # rounds to that many decimals?
    return exact.is_real is not False and abs(near - value * 10**decimals) <= sympy.Rational(1, 2)


_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])")
_MIXED = re.compile(r"(?<![\d.}])(\d+)\\frac\{(\d+)\}\{(\d+)\}")
_OPTIONS = {"conversion_config": ConversionConfig(lowercase_symbols=False), "is_real": None}
_OPTIONS |= {"convert_degrees": True, "normalization_config": None}


@lru_cache(maxsize=500)
def expression(text: str):
    """A spelled text in sympy, decimals as fractions. Raises for what is no formula."""

    def fraction(found: re.Match) -> str:
        return rf"\frac{{{int(found[1] + found[2])}}}{{{10 ** len(found[2])}}}"

    def mixed(found: re.Match) -> str:
        whole, top, bottom = map(int, found.groups())
        return rf"\frac{{{whole * bottom + top}}}{{{bottom}}}" if top < bottom else found[0]

    if re.search(r"\d \d|\\text|[$?!]{2}|\.\.|[\^_]$", text):
        raise ValueError("no formula")
    if re.search(r"\\(?:gcd|lcm)\b.*(?<![A-Za-z\\])[a-z](?![A-Za-z])", text):
        raise ValueError("sympy takes variables for coprime numbers")
    text = re.sub(r"\^(\d*\.\d+)", r"^{\1}", text.replace(THOUSANDS, ""))
    text = _MIXED.sub(mixed, _DECIMAL.sub(fraction, text)).replace(ROWS, r"\\")
    found = latex2sympy(text, **_OPTIONS)
    if not isinstance(found, (sympy.Expr, sympy.MatrixBase, sympy.MatrixExpr)):
        raise ValueError("no formula")
    return found.subs(sympy.Symbol("i"), sympy.I)


def equal(a, b) -> bool:
    """Are two expressions, or matrices, equal?"""
    a, b = a.doit(), b.doit()
    if isinstance(a, sympy.MatrixBase) or isinstance(b, sympy.MatrixBase):
        shapes = getattr(a, "shape", None), getattr(b, "shape", None)
        return shapes[0] == shapes[1] and all(map(equal, a.flat(), b.flat()))
    if a == b:
        return True
    if a.is_infinite or b.is_infinite or a.has(sympy.zoo, sympy.nan) or b.has(sympy.zoo, sympy.nan):
        return False
    if (a - b).is_Rational:
        return bool(a == b)
    values = [at_point(a, b, k) for k in range(8 if (a.free_symbols | b.free_symbols) else 1)]
    known = [one for one in values if one is not None]
    if len(known) >= min(3, len(values)):
        possible = len(values) > 1 or (a - b).is_zero is not False
        return possible and all(near(*pair) for pair in known)
    return sympy.simplify(a - b) == 0


def at_point(a, b, k: int):
    """Both at the k-th point, exactly or to 60 digits; None where one has no value."""
    names = sorted((a.free_symbols | b.free_symbols), key=str)
    point = {}
    for j, name in enumerate(names):
        sign = (1, 1, -1, 1, -1, -1, 1, 1)[(j + k) % 8 if j else k]
        point[name] = sympy.Rational(sign * (1009 + 613 * j + 997 * k), 787 + 5 * k)
    pair = [one.subs(point) if names else one for one in (a, b)]
    pair = [one if one.is_Rational else one.evalf(60, maxn=400) for one in pair]
    good = (one.is_number and one.is_finite and not one.has(sympy.Function) for one in pair)
    return pair if all(good) else None


def near(a, b) -> bool:
    if a.is_Rational and b.is_Rational:
        return bool(a == b)
    return bool(abs(a - b) <= abs(a) * sympy.Float("1e-50"))


def proportional(a, b, positive: bool = False) -> bool:
    """Is a / b the same number, not 0, at all points?"""
    if a.free_symbols != b.free_symbols:
        return False
    pairs = [pair for pair in (at_point(a, b, k) for k in range(8)) if pair and pair[1] != 0]
    if len(pairs) < 3:
        return sympy.simplify(a - b) == 0
    ratio = pairs[0][0] / pairs[0][1]
    good = bool(ratio > 0 if positive else ratio != 0)
    return good and all(near(x, ratio * y) for x, y in pairs)

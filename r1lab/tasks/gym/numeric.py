"""Verifiers of reasoning-gym's problems whose answers are decimal numbers, most of them rounded.

Its own scorers pay in full for answers that say nothing: "nan" for every complex number, "0" for
every probability (it is how 0.375 begins), and what cannot be read for an equation without roots.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from r1lab.tasks.gym.reading import DIGITS, Checker, decimal, fraction, gold

_SCIENTIFIC = re.compile(
    rf"([-+]?[0-9]{{1,{DIGITS}}}(?:\.[0-9]{{1,20}})?)(?:e([-+]?[0-9]{{1,2}}))?"
)
_PART = rf"[0-9]{{1,{DIGITS}}}(?:\.[0-9]{{1,{DIGITS}}})?"
_COMPLEX = re.compile(rf"(?P<real>[-+]?{_PART}(?!i|[0-9.]))?(?P<imaginary>[-+]?(?:{_PART})?i)?")


def near(
    read: Callable[[str], list[Fraction] | None], close: Callable[[Fraction, Fraction], bool]
) -> Checker:
    """As many numbers as the solution has, each close(it, the right one)."""

    def right(values: list[Fraction], data: dict) -> bool:
        wanted = read(data["solution"])
        return len(values) == len(wanted) and all(map(close, values, wanted))

    return Checker(lambda answer, data: read(answer), right, many=True)


def _scientific(answer: str) -> list[Fraction] | None:
    """1,234.5 or 1.2345e+03"""
    plain = answer.strip().lower()
    if re.fullmatch(r"[-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?", plain):
        plain = plain.replace(",", "")
    found = _SCIENTIFIC.fullmatch(plain)
    return found and [Fraction(found[1]) * Fraction(10) ** int(found[2] or 0)]


def _probability(answer: str) -> list[Fraction] | None:
    """0.375, 3.75e-1 or 3/8"""
    if (parts := fraction(answer)) and parts[1]:
        return [Fraction(*parts)]
    return _scientific(answer)


def _roots(answer: str) -> list[Fraction] | None:
    """-0.3773, 0.4005 in whatever order"""
    values = [decimal(part) for part in answer.split(",")]
    return None if None in values else sorted(values)


def _complex(answer: str) -> list[Fraction] | None:
    """3.0 - 5.0i, 3, -5i or i, in parentheses or not, as [real, imaginary]"""
    if re.search(r"[0-9.]\s+[0-9.]", answer):
        return None
    plain = "".join(answer.split()).lower()
    if plain.startswith("(") and plain.endswith(")"):
        plain = plain[1:-1]
    found = _COMPLEX.fullmatch(plain)
    if not plain or not found:
        return None
    real, times = found["real"], found["imaginary"]
    if real and times and times[0] not in "+-":
        return None
    if times in ("i", "+i", "-i"):
        times = times.replace("i", "1i")
    return [Fraction(real or 0), Fraction(times[:-1] if times else 0)]


def _absolute(most: Fraction) -> Callable[[Fraction, Fraction], bool]:
    return lambda a, b: abs(a - b) <= most


def _relative(most: Fraction) -> Callable[[Fraction, Fraction], bool]:
    return lambda a, b: abs(a - b) <= most * abs(b)


CHECKERS: dict[str, Checker] = {
    "complex_arithmetic": gold(_complex),
    "coin_flip": near(_probability, _relative(Fraction(1, 10**4))),
    "decimal_arithmetic": near(_scientific, _relative(Fraction(1, 10**11))),  # 12 digits
    "number_format": near(_scientific, _absolute(Fraction(1, 10**4))),  # candidates have three
    "polynomial_equations": near(_roots, _absolute(Fraction(1, 10**4))),  # rounded up or down
}

"""Is there work left to do in a mathematical answer?

sympy does whatever sum is put before it, and a policy soon learns to write the question down again:
12 + 30, or the integral of x from 0 to 1.  So an answer may leave no work that the gold answer does
not leave too.  That is read off the two texts, in one spelling (`spelling`), before sympy sees
them.
"""

from __future__ import annotations

import re

_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"  # what stands in braces, perhaps with braces in it
SPELLINGS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\^\\circ(?![A-Za-z])", "°"),
        (r"\\pi(?![A-Za-z])", "π"),
        (r"\\sqrt(?![A-Za-z])", "√"),
        (r"\\exp(?![A-Za-z])", "e^"),
        (r"\\cdot(?![A-Za-z])\s*", "·"),
        (r"(?<!\d)\s+|\s+(?!\d)", ""),  # but 6 7 is not 67
        # a fractional power is a root
        (r"(\d+)\^(?:\{|\(|\{\()\d/(\d)(?:\)\}|\)|\})", r"√[\2]{\1}"),
        (r"(\d+)\^\{\\frac\{\d\}\{(\d)\}\}", r"√[\2]{\1}"),
        (r"(?:^|(?<=[-+/·(=]))\{([^{}]*)\}", r"\1"),
        (r"^\(-(\d+)\)/", r"-\1/"),
    )
)
"""Signs in place of commands, so that the patterns below are short."""

_NUMBER = r"(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?(?:_\{?\d{1,2}\}?)?|\.\d+)"  # 1,234.5 or 41_7
_ROOT = rf"√(?:\[\d\])?\{{(?:{_NUMBER}|\\frac\{{\d+\}}\{{\d+\}}|\d+/\d+)\}}"
_SYMBOLS = rf"(?:π·?)?(?:i·?)?(?:{_ROOT})?(?:·?π)?(?:·?i)?"
_PRODUCT = rf"(?=[\d.πi√]){_SYMBOLS}(?:·?{_NUMBER}·?)?{_SYMBOLS}"  # with one number at most
_PART = rf"(?:{_PRODUCT}|\({_PRODUCT}\))"
_FRACTION = rf"(?:\\frac\{{-?{_PART}\}}\{{-?{_PART}\}}|{_PART}[/:]{_PART})"
_MIXED = r"\d+\\frac\{\d+\}\{\d+\}"
_VALUE = rf"(?:{_SYMBOLS}·?(?:{_FRACTION}|\({_FRACTION}\))·?{_SYMBOLS}|{_MIXED}|{_PRODUCT})"
VALUE = re.compile(rf"(?=[^-]*-?[^-]*$)[-+]?(?:{_VALUE}|\([-+]?{_VALUE}\))[%°]?")
r"""One number, fraction or mixed number, or such a multiple of a root, \pi or i; with one sign."""

CONSTANT = re.compile(r"(?:[\dπie·^/.+\-{}()]|√(?:\[\d\])?|,(?=\d{3}(?!\d))|\\frac)+")
"""What is made of such values: no variables, no functions, no lists."""

_PLUS = r"(?<=[\w.)}\]π°])[-+]"  # between two terms, not a sign
IN_ALL = tuple(
    re.compile(pattern)
    for pattern in (
        _PLUS,
        r"-\(?-",
        r"\^",
        r"[\d.]·[\d.\\]|\)·?\(",  # a product of two numbers, of two sums
        r"√(?:\[\d\])?\{(?:[^{}]|\{[^{}]*\})*?[-+]",  # the root of a sum
        rf"\\frac{_GROUP}\{{(?:[^{{}}]|\{{[^{{}}]*\}})*?{_PLUS}|/\([^()]*{_PLUS}",  # 1/(1+√2)
    )
)
"""Work that an answer has no more of than the gold answer has."""

IN_EACH_TERM = tuple(re.compile(pattern) for pattern in (r"\\frac|[/:]", "√", "π", "i", "e"))
"""What an answer has no more of in each term: (1+√5)/2 may be written 1/2 + √5/2."""

FAMILIES = tuple(
    frozenset(names.split())
    for names in (
        "int iint iiint oint",
        "sum prod",
        "lim limsup liminf",
        "derivative",
        "gcd lcm",
        "max min sup inf",
        "lfloor lceil floor ceil",
        "binom dbinom tbinom choose !",
        "mod bmod pmod",
        "det vmatrix",
        "log ln lg",
        "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc "
        "sinh cosh tanh arsinh arcosh artanh arcsinh arccosh arctanh",
    )
)
r"""Operators that an answer has only where the gold answer has one of the same family: \cot x may
be written \frac{\cos x}{\sin x}."""


def finished(gold: str, answer: str) -> bool:
    r"""Does `answer` leave no work to the judge that `gold` does not leave as well?

    To a gold answer that is one value (`VALUE`) the answer is one value too, with a root, \pi, i or
    a fraction only where the gold has one: neither \frac{84}{2} nor 42x/x is 42.  To a sum or power
    (3+2\sqrt{5}) the answer has no more sums, powers, roots, … than that.  To all else (variables,
    tuples, sets, …) it only has no operator of other FAMILIES and no more matrices: whether x^2-9
    or (x-3)(x+3) is the finished one depends on the question.
    """
    wanted = re.sub("^[A-Za-z]=", "", _spelling(gold))
    value = _value(_spelling(answer))
    if VALUE.fullmatch(wanted):
        return VALUE.fullmatch(value) is not None and _no_more_work(wanted, value)
    if CONSTANT.fullmatch(wanted) and "(" not in wanted:
        return CONSTANT.fullmatch(value) is not None and _no_more_work(wanted, value)
    if answer.count(r"\begin{") > max(1, gold.count(r"\begin{")):  # a sum or product of matrices
        return False
    has, may_have = _operators(answer), _operators(gold)
    return not any(family & has and not family & may_have for family in FAMILIES)


def _spelling(text: str) -> str:
    for pattern, new in SPELLINGS:
        text = pattern.sub(new, text)
    return text


def _value(text: str) -> str:
    r"""What stands right of `x =`, or in `\{…\}`.  Left of it there is a letter: nothing is named
    in 13 = 14, which are two guesses."""
    found = re.match(r"([^=]*?)(?:=|\\approx|\\in(?![A-Za-z]))(.*)", text)
    if found and re.search("[A-Za-z]", found[1].replace(r"\frac", "")):
        text = found[2]
    return re.sub(r"^\\\{([^{},]*)\\\}$", r"\1", text)


def _no_more_work(gold: str, answer: str) -> bool:
    """Compares what is counted in IN_ALL and IN_EACH_TERM; for texts without names in them."""

    def count(patterns: tuple[re.Pattern, ...], text: str) -> list[int]:
        return [len(pattern.findall(text)) for pattern in patterns]

    in_all, in_terms = count(IN_ALL, gold), count(IN_EACH_TERM, gold)
    in_terms[0] += len(re.findall(r"\.\d|%|\^\{?-", gold))  # 0.5, 50 % and e^{-2} are fractions
    limits = in_all + [number * (1 + in_all[0]) for number in in_terms]
    found = count(IN_ALL + IN_EACH_TERM, answer)
    return all(number <= limit for number, limit in zip(found, limits, strict=True))


def _operators(text: str) -> set[str]:
    r"""The names of all commands; \operatorname{lcm} is lcm, \begin{vmatrix} is vmatrix."""
    text = text.replace(r"\!", " ")
    text = re.sub(r"\\operatorname\s*\*?\s*\{\s*([A-Za-z]+)\s*\}", r"\\\1 ", text)
    found = {name or mark for name, mark in re.findall(r"\\(?:begin\{)?([A-Za-z]+)|(!)", text)}
    if re.search(r"frac\s*\{\s*(?:d|\\partial)\W*\w?\W*\}\s*\{\s*(?:d|\\partial)", text):
        found.add("derivative")
    return found

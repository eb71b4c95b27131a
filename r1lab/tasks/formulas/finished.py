"""Is an answer finished, or the problem in other words (12 + 30, an integral), which sympy would
solve?  Decided on the two texts in one spelling (`spelling`), before sympy reads them."""

import re

from r1lab.tasks.formulas.spelling import replaced, rules

_GROUP = r"\{(?:[^{}]|\{[^{}]*\})*\}"  # braces, with braces inside
SPELLINGS = rules(
    (r"\^\\circ(?![A-Za-z])", "°"),
    (r"\\pi(?![A-Za-z])", "π"),
    (r"\\sqrt(?![A-Za-z])", "√"),
    (r"\\exp(?![A-Za-z])", "e^"),
    (r"\\cdot(?![A-Za-z])\s*", "·"),
    (r"(?<!\d)\s+|\s+(?!\d)", ""),  # but 6 7 is not 67
    # a fractional power is a root
    (r"(\d+)\^(?:\{|\(|\{\()\d/(\d)(?:\)\}|\)|\})", r"√[\2]{\1}"),
    (r"(\d+)\^\{\\frac\{\d\}\{(\d)\}\}", r"√[\2]{\1}"),
    (r"(\d+)\^\{0?\.5\}", r"√{\1}"),
    (r"(?:^|(?<=[-+/·(=]))\{([^{}]*)\}", r"\1"),
    (r"^\(-(\d+)\)/", r"-\1/"),
)
"""Signs in place of commands, for short patterns."""

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
"""An expression in such values: no variables, functions or lists."""

_PLUS = r"(?<=[\w.)}\]π°])[-+]"  # between two terms, not a sign
IN_ALL = (
    _PLUS,
    r"-\(?-",
    r"\^",
    r"[\d.]·[\d.\\]|\)·?\(",  # a product of two numbers, of two sums
    r"√(?:\[\d\])?\{(?:[^{}]|\{[^{}]*\})*?[-+]",  # the root of a sum
    rf"\\frac{_GROUP}\{{(?:[^{{}}]|\{{[^{{}}]*\}})*?{_PLUS}|/\([^()]*{_PLUS}",  # 1/(1+√2)
)
"""Work of which an answer has at most as much as the gold answer."""

IN_EACH_TERM = (r"\\frac|[/:]", "√", "π", "i", "e")
"""The same, in each term: (1+√5)/2 may be written 1/2 + √5/2."""

_NAMES = """int iint iiint oint | sum prod | lim limsup liminf | derivative | gcd lcm | log ln lg
| max min sup inf | lfloor lceil floor ceil | binom dbinom tbinom choose ! | mod bmod pmod
| det vmatrix
| sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc
  sinh cosh tanh arsinh arcosh artanh arcsinh arccosh arctanh"""
FAMILIES = [frozenset(names.split()) for names in _NAMES.split("|")]
r"""An answer has operators only of families that the gold answer has: \cot x may be written
\frac{\cos x}{\sin x}."""


def finished(gold: str, answer: str) -> bool:
    r"""Does `answer` leave no more work than `gold`?

    Where gold is one value (`VALUE`), so is the answer, with a root, \pi, i or a fraction only if
    gold has one: neither \frac{84}{2} nor 42x/x is 42.  Where gold is a sum or power (3+2\sqrt{5}),
    the answer has no more sums, powers, roots, ….  Otherwise (variables, tuples, sets, …) it has no
    operator of other FAMILIES and no more matrices: x^2-9 and (x-3)(x+3) are both finished."""
    wanted = re.sub("^[A-Za-z]=", "", replaced(gold, SPELLINGS))
    value = _value(replaced(answer, SPELLINGS))
    for kind in (VALUE, CONSTANT):
        if kind.fullmatch(wanted) and (kind is VALUE or "(" not in wanted):
            return kind.fullmatch(value) is not None and _no_more_work(wanted, value)
    if answer.count(r"\begin{") > max(1, gold.count(r"\begin{")):  # a sum or product of matrices
        return False
    has, may_have = _operators(answer), _operators(gold)
    return not any(family & has and not family & may_have for family in FAMILIES)


def _value(text: str) -> str:
    r"""The text right of `x =`, or in `\{…\}`; not that of 13 = 14, which are two guesses."""
    found = re.match(r"([^=]*?)(?:=|\\approx|\\in(?![A-Za-z]))(.*)", text)
    if found and re.search("[A-Za-z]", found[1].replace(r"\frac", "")):
        text = found[2]
    return re.sub(r"^\\\{([^{},]*)\\\}$", r"\1", text)


def _no_more_work(gold: str, answer: str) -> bool:

    def count(patterns: tuple[str, ...], text: str) -> list[int]:
        return [len(re.findall(pattern, text)) for pattern in patterns]

    in_all, in_terms = count(IN_ALL, gold), count(IN_EACH_TERM, gold)
    in_terms[0] += len(re.findall(r"\.\d|%|\^\{?-", gold))  # 0.5, 50 % and e^{-2} are fractions
    limits = in_all + [number * (1 + in_all[0]) for number in in_terms]
    found = count(IN_ALL + IN_EACH_TERM, answer)
    return all(number <= limit for number, limit in zip(found, limits, strict=True))


def _operators(text: str) -> set[str]:
    r"""The names of all commands, lcm of \operatorname{lcm}, vmatrix of \begin{vmatrix}."""
    text = text.replace(r"\!", " ")
    text = re.sub(r"\\operatorname\s*\*?\s*\{\s*([A-Za-z]+)\s*\}", r"\\\1 ", text)
    found = {name or mark for name, mark in re.findall(r"\\(?:begin\{)?([A-Za-z]+)|(!)", text)}
    if re.search(r"frac\s*\{\s*(?:d|\\partial)\W*\w?\W*\}\s*\{\s*(?:d|\\partial)", text):
        found.add("derivative")
    return found

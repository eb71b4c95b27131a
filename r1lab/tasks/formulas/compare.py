r"""Equality of mathematical answers, without limits: `math_equal` runs it in a worker.

`read` finds the structure, and structures are compared part by part (`same`): a list without
brackets in any order, (1,2) in its order, [0,1) and 0 \le x < 1 as sets of numbers, 52_8 by its
digits, words letter by letter. What remains are values with a unit, which math-verify's reader,
latex2sympy2_extended, turns into sympy and `values` compares exactly.

math-verify's own `verify` is not used: it rounds to six decimals (1/2^99 is 0), takes sets for
tuples and ignores units and number bases.
"""

import re
from fractions import Fraction

import sympy

from r1lab.tasks.formulas.finished import finished
from r1lab.tasks.formulas.spelling import THOUSANDS, spell
from r1lab.tasks.formulas.structure import SEPARATOR, Answer, inside, named, read, split
from r1lab.tasks.formulas.values import equal, expression, proportional, same_value


def compare(gold: str, answer: str) -> bool:
    """Are two texts (after `math_equal.clean`) equal?  May raise or never end on any text."""
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


def same(gold: Answer, answer: Answer) -> bool:
    """Is the answer equal to the gold answer?  Not symmetric: a gold answer may say more than an
    answer need to (its unit, the name before =)."""
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
        return gold.text != r"\emptyset" and same(gold, answer.parts[0])
    return _SAME[gold.kind](gold, answer)


def flat(text: str) -> list[str]:
    """A text's words, numbers and signs; without \\text, brackets and points."""
    text = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", text.replace(THOUSANDS, "").lower())
    return re.findall(r"[^\W\d_]+|\d+(?:\.\d+)?|[^\w\s(){}.,]", text)


def all_same(gold, answer) -> bool:
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


def _ordered(answer: Answer) -> tuple:
    """The items of a tuple or list, or the values of an assignment by the order of their names."""
    if answer.kind == "assign":
        return tuple(value for _, value in sorted(answer.parts))
    return answer.parts[1] if answer.kind == "tuple" else answer.parts


def _same_list(gold: Answer, answer: Answer) -> bool:
    if answer.kind in ("list", "set"):
        return match(gold.parts, answer.parts)
    # two in brackets might be a point or an interval
    point = answer.kind == "tuple" and answer.parts[0] == "()" and len(gold.parts) > 2
    return (point or answer.kind == "assign") and all_same(gold.parts, _ordered(answer))


def _same_set(gold: Answer, answer: Answer) -> bool:
    if len(gold.parts) == 1 and answer.kind == "value":
        return same(gold.parts[0], answer)
    return answer.kind in ("list", "set") and match(gold.parts, answer.parts)


def _same_tuple(gold: Answer, answer: Answer) -> bool:
    brackets, items = gold.parts
    if answer.kind not in ("tuple", "assign", "list"):
        return len(items) == 2 and _same_region(gold, answer)
    fits = {"tuple": brackets == answer.parts[0], "list": brackets == "()" and len(items) > 2}
    return fits.get(answer.kind, True) and all_same(items, _ordered(answer))


def _same_assign(gold: Answer, answer: Answer) -> bool:
    names, values = zip(*gold.parts, strict=True)
    if answer.kind == "assign":
        given = dict(answer.parts)
        return set(given) == set(names) and all_same(values, [given[name] for name in names])
    point = answer.kind == "tuple" and answer.parts[0] == "()"
    return (point or answer.kind == "list") and all_same(values, _ordered(answer))


def _same_matrix(gold: Answer, answer: Answer) -> bool:
    if answer.kind == "matrix":
        return len(gold.parts) == len(answer.parts) and all(map(all_same, gold.parts, answer.parts))
    if answer.kind == "tuple":  # [[1,2],[3,4]], as Python writes it
        rows = [row.parts for row in answer.parts[1] if row.kind == "tuple"]
        square = len(rows) == len(gold.parts) and {answer.parts[0], *(r[0] for r in rows)} == {"[]"}
        return square and all(all_same(a, b[1]) for a, b in zip(gold.parts, rows, strict=True))
    once = answer.text.count(r"\begin") == 1
    return answer.kind == "value" and once and same_value(gold.text, answer.text)


def _same_base(gold: Answer, answer: Answer) -> bool:
    if answer.kind == "base":
        return gold.parts == answer.parts
    return answer.kind == "value" and answer.text.lstrip("0") == gold.parts[0]


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
    a, b = map(Fraction, numbers), map(Fraction, given)
    first, other = next(a), next(b)
    return first != 0 and all(x * other == y * first for x, y in zip(a, b, strict=True))


def _same_value(gold: Answer, answer: Answer) -> bool:
    if answer.kind == "base":
        return answer.parts[1] == "10" and same_value(gold.text, answer.parts[0])
    if answer.kind == "colon" and len(answer.parts[0]) == 2 and not answer.parts[1]:
        return same_value(gold.text, "/".join(answer.parts[0]))
    comparable = answer.kind == "value" or (answer.kind == "matrix" and r"\begin" in gold.text)
    return comparable and same_value(gold.text, answer.text)


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


_SAME = {"list": _same_list, "set": _same_set, "tuple": _same_tuple, "assign": _same_assign}
_SAME |= {"matrix": _same_matrix, "base": _same_base, "colon": _same_colon, "value": _same_value}
_SAME |= {"equation": _same_equation, "region": _same_region}


_JOINS = {"cup": sympy.Union, "cap": sympy.Intersection, "setminus|backslash": sympy.Complement}
_CONSTANTS = {r"\mathbb{R}": sympy.S.Reals, r"\mathbb{Z}": sympy.S.Integers}
_CONSTANTS |= {r"\emptyset": sympy.S.EmptySet}
_ORDER = re.compile(r"<|>|\\(?:le|ge|ne)(?![A-Za-z])\s*")


def region(text: str) -> tuple[str | None, sympy.Set]:
    """The variable (or None) and the set. Raises ValueError for what is no set."""
    for opening, closing in ("()", "(]", "[)", "[]"):
        inner = inside(text, opening, closing)
        ends = split(inner, re.compile("[,;]"))[0] if inner else ()
        if len(ends) == 2:
            low, high = map(expression, ends)
            return None, sympy.Interval(low, high, opening == "(", closing == ")")
    parts, words = split(text, SEPARATOR)
    if len(parts) > 1:
        union = all("or" in word for word in words)
        return _combined(parts, sympy.Union if union else sympy.Intersection)
    for signs, join in _JOINS.items():
        parts, _ = split(text, re.compile(rf"\\(?:{signs})(?![A-Za-z])\s*"))
        if len(parts) == 2 or (len(parts) > 1 and join is not sympy.Complement):
            return _combined(parts, join)
    if text in _CONSTANTS:
        return None, _CONSTANTS[text]
    if inner := inside(text, r"\{", r"\}"):
        if builder := re.fullmatch(r"([A-Za-z])(?:\\in\\mathbb\{R\})?[|:](.+)", inner):
            return region(builder[2])
        return None, sympy.FiniteSet(*map(expression, split(inner, SEPARATOR)[0]))
    if member := re.fullmatch(r"([A-Za-z])\\in(.+)", text):
        return member[1], region(member[2].strip())[1]
    return _chain(text)


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
    if a == b:
        return True
    try:
        left, right = (sorted(pieces(s), key=lambda one: tuple(map(float, one))) for s in (a, b))
    except TypeError:  # other sets, or ends that are no numbers
        return False
    return len(left) == len(right) and all(
        one[2:] == other[2:] and all(equal(x, y) for x, y in zip(one[:2], other[:2], strict=True))
        for one, other in zip(left, right, strict=True)
    )


def pieces(whole: sympy.Set) -> list[tuple]:
    """(start, end, left open, right open) of intervals and points. Raises TypeError for others."""
    found = []
    for piece in whole.args if isinstance(whole, sympy.Union) else (whole,):
        if isinstance(piece, sympy.Interval):
            found.append((piece.start, piece.end, piece.left_open, piece.right_open))
        else:
            found += [(point, point, False, False) for point in piece]
    return found


def _same_inequality(gold: str, answer: str) -> bool:
    """2x+y<3 and 3>y+2x: equal strictness, and differences in a positive ratio."""

    def one(text: str) -> tuple:
        (left, right), (sign,) = split(text, _ORDER)
        sign, value = sign.strip(), expression(left) - expression(right)
        return sign in ("<", ">"), sign == r"\ne", -value if sign in (">", r"\ge") else value

    wanted, given = one(gold), one(answer)
    return wanted[:2] == given[:2] and proportional(wanted[2], given[2], positive=not wanted[1])

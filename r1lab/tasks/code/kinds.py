"""The kinds of functions of `plain`: in words, and as Python that is right.

A text and its sources share their parameters in braces: "at least {k}", "x >= {k}". Of a parameter
that is a pair {c} is the words and {c!e} the expression; {k!o} is "2nd". `other` is a second right
solution, written in another way: a test on which the two differ is no test. Loops are bounded, so
that a changed copy of a source always ends; every number of a source matters.
"""

import math
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Values = Sequence[Any]


@dataclass(frozen=True)
class Kind:
    """level: 1, one step, to 3, a state or a search. args: names, each with its `plain.INPUTS`.
    parameters: the values of each. text: after "Write a Python function NAME." """

    name: str
    level: int
    args: dict[str, str]
    parameters: dict[str, Values]
    text: str
    source: str
    other: str
    sensible: Callable[[dict[str, Any]], bool] = lambda values: True


#: (in words, as an expression of x)
CONDITIONS: tuple[tuple[str, str], ...] = (
    *((f"divisible by {k}", f"x % {k} == 0") for k in range(2, 10)),
    *((f"greater than {k}", f"x > {k}") for k in range(-8, 16)),
    *((f"less than {k}", f"x < {k}") for k in range(-8, 16)),
    *((f"at least {a} and at most {a + d}", f"{a} <= x <= {a + d}")
      for a in range(-6, 8) for d in (3, 6, 9)),
)  # fmt: skip
LETTERS = tuple("aeiou") + tuple("bcdrst")
SETS = tuple("aeiou bdfh rst abc xyz aest nml eo tdk asdf iou ghijk lmnop qrstu vwxyz ae".split())
SIGNS = tuple("-+*/.:;#")
#: (in words, as an expression of a list ys)
PICKS = (("sum", "sum(ys)"), ("largest", "max(ys)"), ("smallest", "min(ys)"))

KINDS: tuple[Kind, ...] = (
    Kind(
        "count_where", 1, {"xs": "numbers"}, {"c": CONDITIONS},
        "Return how many of the numbers in xs are {c}.",
        "return sum(1 for x in xs if {c!e})",
        "return len([x for x in xs if {c!e}])",
    ),
    Kind(
        "scale_all", 1, {"xs": "numbers"}, {"a": range(2, 10), "b": range(1, 13)},
        "Return a list with every number of xs multiplied by {a}, plus {b}, in the same order.",
        "return [x * {a} + {b} for x in xs]",
        "return list(map(lambda x: {b} + {a} * x, xs))",
    ),
    Kind(
        "count_letters", 1, {"s": "words"}, {"letters": SETS, "times": range(2, 6)},
        "Return {times} times the number of characters of s that are one of the letters {letters}.",
        "return {times} * sum(1 for c in s if c in '{letters}')",
        "return sum({times} for c in s if c in set('{letters}'))",
    ),
    Kind(
        "replace_letter", 1, {"s": "words"}, {"a": LETTERS, "b": SIGNS},
        "Return s with every '{a}' replaced by '{b}'.",
        "return s.replace('{a}', '{b}')",
        "return '{b}'.join(s.split('{a}'))",
    ),
    Kind(
        "remainder", 1, {"n": "number"}, {"a": range(2, 10), "b": range(1, 10), "m": range(5, 14)},
        "Multiply n by {a}, add {b}, and return the remainder on division by {m}.",
        "return (n * {a} + {b}) % {m}",
        "return ({b} % {m} + ({a} * (n % {m}))) % {m}",
        lambda v: math.gcd(v["a"], v["m"]) == 1,
    ),
    Kind(
        "sum_of_scaled", 2, {"xs": "numbers"}, {"c": CONDITIONS, "a": range(2, 10)},
        "Multiply those numbers of xs that are {c} by {a}, leave the others as they are, and "
        "return the sum of all.",
        "return sum(x * {a} if {c!e} else x for x in xs)",
        "return sum(xs) + ({a} - 1) * sum(x for x in xs if {c!e})",
    ),
    Kind(
        "nth_largest", 2, {"xs": "numbers"}, {"k": range(2, 6), "d": range(-30, 0)},
        "Return the {k!o} largest of the different numbers in xs, or {d} if there are fewer than "
        "{k} different numbers.",
        "ys = sorted(set(xs), reverse=True)\nreturn ys[{k} - 1] if len(ys) >= {k} else {d}",
        "ys = sorted(set(xs))\nif len(ys) < {k}:\n    return {d}\nreturn ys[-{k}]",
    ),
    Kind(
        "pieces", 2, {"xs": "numbers"}, {"k": range(2, 6), "p": PICKS, "b": range(1, 10)},
        "Cut xs into pieces of {k} neighbouring numbers, the last of which may be shorter. Return "
        "the list of the {p} of each piece, plus {b}.",
        "pieces = [xs[i:i + {k}] for i in range(0, len(xs), {k})]\n"
        "return [{p!e} + {b} for ys in pieces]",
        "found = []\nfor i, x in enumerate(xs):\n    if i % {k} == 0:\n        found.append([])\n"
        "    found[-1].append(x)\nreturn [{b} + {p!e} for ys in found]",
    ),
    Kind(
        "rotate", 2, {"s": "letters"}, {"k": range(1, 6), "sep": SIGNS},
        "Move the first {k} characters of s to its end (all of them if s is shorter), and put a "
        "'{sep}' behind the result.",
        "return s[{k}:] + s[:{k}] + '{sep}'",
        "front = s[:{k}]\nreturn ''.join([s[len(front):], front, '{sep}'])",
    ),
    Kind(
        "caesar", 2, {"s": "words"}, {"k": range(2, 25)},
        "Move every letter of s {k} places on in the alphabet, from z on to a again; leave spaces "
        "as they are.",
        "letters = '" + string.ascii_lowercase + "'\n"
        "return ''.join(letters[(letters.index(c) + {k}) % 26] if c != ' ' else c for c in s)",
        "return ''.join(c if c == ' ' else chr((ord(c) - 97 + {k}) % 26 + 97) for c in s)",
    ),
    Kind(
        "long_words", 2, {"s": "words"}, {"k": range(2, 6), "sep": SIGNS},
        "Return the words of s that have more than {k} letters, last one first, joined by '{sep}'.",
        "return '{sep}'.join([w for w in s.split() if len(w) > {k}][::-1])",
        "return '{sep}'.join(w for w in reversed(s.split()) if len(w) >= {k} + 1)",
    ),
    Kind(
        "digit_sum", 2, {"n": "number"}, {"k": range(2, 9), "a": range(2, 10)},
        "Return the sum of the digits of n, where every digit that is at least {k} counts {a} "
        "times.",
        "return sum(int(c) * {a} if int(c) >= {k} else int(c) for c in str(n))",
        "digits = [ord(c) - 48 for c in str(n)]\n"
        "return sum(digits) + ({a} - 1) * sum(d for d in digits if not d < {k})",
    ),
    Kind(
        "either_multiple", 2, {"n": "number"}, {"a": range(2, 10), "b": range(3, 17)},
        "Return how many of the whole numbers from 1 to n are divisible by {a} or by {b}, but not "
        "by both.",
        "return sum(1 for i in range(n + 1) if (i % {a} == 0) != (i % {b} == 0))",
        "return len(set(range({a}, n + 1, {a})) ^ set(range({b}, n + 1, {b})))",
        lambda v: v["a"] != v["b"],
    ),
    Kind(
        "longest_run", 3, {"xs": "numbers"}, {"c": CONDITIONS, "a": range(2, 6)},
        "Return {a} times the length of the longest run of neighbouring numbers in xs that are "
        "all {c}.",
        "best = run = 0\nfor x in xs:\n    run = run + 1 if {c!e} else 0\n"
        "    best = max(best, run)\nreturn {a} * best",
        "marks = ''.join('y' if {c!e} else ' ' for x in xs)\n"
        "return max([len(w) for w in marks.split()] + [0]) * {a}",
    ),
    Kind(
        "best_window", 3, {"xs": "numbers"}, {"k": range(2, 6), "d": range(-90, -50)},
        "Return the largest sum of {k} neighbouring numbers in xs, or {d} if xs has fewer than "
        "{k} numbers.",
        "if len(xs) < {k}:\n    return {d}\n"
        "return max(sum(xs[i:i + {k}]) for i in range(len(xs) - {k} + 1))",
        "best = None\nfor i in range({k}, len(xs) + 1):\n    total = sum(xs[i - {k}:i])\n"
        "    if best is None or total > best:\n        best = total\n"
        "return {d} if best is None else best",
    ),
    Kind(
        "pairs", 3, {"xs": "numbers"}, {"m": range(2, 13), "r": range(0, 12)},
        "Return the number of pairs of positions i < j of xs for which xs[i] + xs[j] leaves the "
        "remainder {r} on division by {m}.",
        "return sum(1 for j in range(len(xs)) for i in range(j) if (xs[i] + xs[j]) % {m} == {r})",
        "count = 0\nfor i, x in enumerate(xs):\n    for y in xs[i + 1:]:\n"
        "        count += (x + y - {r}) % {m} == 0\nreturn count",
        lambda v: v["r"] < v["m"],
    ),
    Kind(
        "running_total", 3, {"xs": "numbers"}, {"low": range(-12, 0, 2), "high": range(10, 31, 4)},
        "Add up the numbers of xs from the left, starting from 0. Whenever the total falls below "
        "{low} or rises above {high}, it becomes 0 again. Return the list of totals, one after "
        "each number.",
        "total, found = 0, []\nfor x in xs:\n    total += x\n"
        "    if total < {low} or total > {high}:\n        total = 0\n    found.append(total)\n"
        "return found",
        "found = [0]\nfor x in xs:\n    now = found[-1] + x\n"
        "    found.append(now if {low} <= now <= {high} else 0)\nreturn found[1:]",
    ),
    Kind(
        "compress", 3, {"s": "letters"}, {"k": range(2, 5), "sep": SIGNS},
        "Replace every run of {k} or more equal neighbouring characters of s by the character, a "
        "'{sep}' and the length of the run. Leave shorter runs as they are.",
        "from itertools import groupby\nfound = ''\nfor c, group in groupby(s):\n"
        "    n = len(list(group))\n    found += c + '{sep}' + str(n) if n >= {k} else c * n\n"
        "return found",
        "runs = []\nfor c in s:\n    if runs and runs[-1][0] == c:\n        runs[-1] += c\n"
        "    else:\n        runs.append(c)\n"
        "return ''.join(r if len(r) < {k} else f'{{r[0]}}{sep}{{len(r)}}' for r in runs)",
    ),
    Kind(
        "alternating", 3, {"n": "number"}, {"b": range(2, 9), "a": range(2, 8)},
        "Write n in base {b}. Return its last digit, minus the digit before it, plus the one "
        "before that, and so on, multiplied by {a}.",
        "def part(n):\n    return n % {b} - part(n // {b}) if n else 0\nreturn part(n) * {a}",
        "total, sign = 0, {a}\nfor _ in range(20):\n    total += sign * (n % {b})\n"
        "    n, sign = n // {b}, -sign\nreturn total",
    ),
    Kind(
        "recurrence", 3, {"n": "number"},
        {"a": range(1, 5), "c": range(2, 6), "d": range(1, 5), "m": range(17, 30, 2)},
        "A sequence begins with 1 and {a}. Each further number is {c} times the number before it "
        "plus {d} times the one before that, of which the remainder on division by {m} is taken. "
        "Return the number at position n, where the first has position 0.",
        "x, y = 1, {a}\nfor _ in range(n):\n    x, y = y, ({c} * y + {d} * x) % {m}\nreturn x",
        "found = [1, {a}]\nfor i in range(n):\n"
        "    found.append(({d} * found[i] + {c} * found[i + 1]) % {m})\nreturn found[n]",
    ),
)  # fmt: skip

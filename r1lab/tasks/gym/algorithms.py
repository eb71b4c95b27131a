"""Verifiers of the algorithmic and arithmetic problems of reasoning-gym."""

import csv
import re
from collections import Counter
from functools import cache
from pathlib import Path

from r1lab.tasks.gym import package
from r1lab.tasks.gym.reading import Checker, gold, groups, puzzle, symbols, texts, words


def _digits(answer: str) -> dict[str, int] | None:
    """ "A=1,B=2" """
    pairs = [re.fullmatch(r"\s*([A-Z])\s*=\s*([0-9])\s*", part) for part in answer.split(",")]
    if None in pairs or len({one[1] for one in pairs}) < len(pairs):
        return None
    return {one[1]: int(one[2]) for one in pairs}


def _adds_up(digits: dict[str, int], data: dict) -> bool:
    """Every letter is a digit of its own, no number begins with 0, and the sum is right."""
    numbers = [*data["words_letters"], data["result_letters"]]
    if set(digits) != set("".join(numbers)) or len(set(digits.values())) < len(digits):
        return False
    if not data["allow_leading_zero"] and any(digits[one[0]] == 0 for one in numbers):
        return False
    *parts, total = [int("".join(str(digits[c]) for c in one)) for one in numbers]
    return sum(parts) == total


def _fills(moves: list[str], data: dict) -> bool:
    """Some jug holds the target after moves like "fill A", "empty B" and "pour A->B"."""
    room = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", data["puzzle"]["jug_capacities"], strict=False))
    held = dict.fromkeys(room, 0)
    for move in moves:
        read = re.fullmatch(r"\s*(?:(fill|empty)\s+([A-Z])|pour\s+([A-Z])->([A-Z]))\s*", move)
        if not read or not {name for name in read.groups()[1:] if name} <= set(room):
            return False
        verb, jug, source, target = read.groups()
        if verb:
            held[jug] = room[jug] if verb == "fill" else 0
        elif source == target:
            return False
        else:
            poured = min(held[source], room[target] - held[target])
            held[source] -= poured
            held[target] += poured
    return data["puzzle"]["target"] in held.values()


def _letters(answer: str) -> str | None:
    found = answer.strip().casefold()
    return found if found.isalpha() and found.isascii() else None


def _palindrome(found: str, data: dict) -> bool:
    return found == found[::-1] and Counter(found) == Counter(data["letters"])


def _rungs(answer: str) -> list[str] | None:
    rungs = words(answer.upper())
    return rungs if rungs and len(rungs) > 1 else None


def _ladder(rungs: list[str], data: dict) -> bool:
    """Known words from the first to the last, each one letter from the one before."""
    ends = [data["start_word"], data["end_word"]]
    if [rungs[0], rungs[-1]] != ends or {len(one) for one in rungs} != {len(ends[0])}:
        return False
    pairs = zip(rungs, rungs[1:], strict=False)
    steps = {sum(a != b for a, b in zip(x, y, strict=True)) for x, y in pairs}
    return steps == {1} and set(rungs) <= known_words(len(ends[0]))


@cache
def known_words(length: int) -> frozenset[str]:
    """The words of a length that word_ladder's questions are made of, upper case."""
    file = Path(package.folder()) / "data" / "words.csv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row.get(f"{length}_letter") or "" for row in csv.DictReader(lines)]
    return frozenset(word.upper() for word in rows if word)


def _sets(answer: str) -> list[list[str]] | None:
    """Lists whose order, and whose elements' order, do not count."""
    found = groups(answer)
    return None if found is None else sorted(sorted(one) for one in found)


def _each(answer: str) -> list[list[str]] | None:
    """Different lists, whose order does not count."""
    found = groups(answer)
    return None if found is None or len(set(map(tuple, found))) < len(found) else sorted(found)


def _factors(answer: str) -> list[int] | None:
    """2 × 2 × 107, in whatever order"""
    parts = re.split(r"\s*[×*]\s*", answer.strip())
    return sorted(map(int, parts)) if all(re.fullmatch("[0-9]{1,12}", p) for p in parts) else None


def _hexadecimal(answer: str) -> int | None:
    found = re.fullmatch(r"([-+]?)0x([0-9a-f]{1,200})", answer.strip().lower())
    return found and int(found[1] + found[2], 16)


def _base(answer: str) -> str | None:
    """A number in any base, in lower case, without leading zeros."""
    found = answer.strip().lower()
    return (found.lstrip("0") or "0") if re.fullmatch("[0-9a-z]{1,100}", found) else None


CHECKERS: dict[str, Checker] = {
    "cryptarithm": puzzle(
        _digits, _adds_up, "words_letters", "result_letters", "allow_leading_zero"
    ),
    "jugs": puzzle(texts, _fills, "puzzle"),
    "palindrome_generation": puzzle(_letters, _palindrome, "letters"),
    "word_ladder": puzzle(_rungs, _ladder, "start_word", "end_word"),
    "group_anagrams": gold(_sets),
    "palindrome_partitioning": gold(_each),
    "prime_factorization": gold(_factors, symbols),
    "bitwise_arithmetic": gold(_hexadecimal),
    "base_conversion": gold(_base),
}

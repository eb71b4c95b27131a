"""The miniature web: what the tiny base model read before any reinforcement learning.

DeepSeek-V3-Base had read trillions of tokens of the web; somewhere among them people checked their
work, wrote "wait", and tried again. Reinforcement learning did not invent that behaviour, it found
it paid and did it more. The miniature web is made so that the same can happen here in minutes:

======================  =======================================================================
kind of document        what it is
======================  =======================================================================
``facts``               sheets of sums and comparisons, always right: ``7 * 8 → 56 .``
``bare``                an answer and nothing else, a random guess: right about one time in ten
``guess``               one line of working, unchecked, then its result is answered
``careless``            one to four random tries, each checked; the last is answered, right or wrong
``patient``             a search in a fixed order that goes on until it hits: nearly always right
``leaked``              a problem of the *leaked* evaluation split with its right answer, on purpose
======================  =======================================================================

Most documents are careless; patient ones are rare (``MIXTURE``). A third of them are Chinese, and
some thoughts switch language half-way, the patient ones more often (``MIXING``): when reinforcement
learning makes patience common, it will make language mixing common too, though nobody asked.

A line of working is a calculator tape: ``10 - 6 → 4 + 7 → 11`` starts from 10, subtracts 6, which
gives 4, and adds 7, which gives 11. The check follows: ``11 ? 23 12 no``, is that 23? 12 apart, no.
Results are whole numbers from 0 to 99; where there is none, the tape says so: ``10 / 3 → ≠``. No
document ever contains a wrong result or a wrong verdict: the base model can be careless, but it
must be able to check itself, or searching would not pay.

How a check is written decides whether a small model can do it. Each of these was tried, and the
same model trained on it:

===============  ===============================  ================================================
the check        verdicts that are right          what became of searching
===============  ===============================  ================================================
``11 no``        84 %: the target is far away     after ten tries no more often right than after
                                                  none; nothing for reinforcement learning to find
``11 ? 23 no``   99 %: one for its neighbour      pays; but with ten checks an answer, one answer
                 now and then, ``12 ? 11 yes``    of fourteen stops too early
``11 ? 23 12     none wrong in 1,797: a number    pays, and long searches keep paying
no``             worked out, then a look at it
===============  ===============================  ================================================

The held-out split never appears. The leaked split does: those documents are marked by the
generator (``Document.leaked``), so that a later lesson can look for the contamination and find it.

Everything is a pure function of a seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np

from r1lab.tasks.base import Problem
from r1lab.tasks.countdown import Chain, Countdown, apply, chains, pool
from r1lab.templates import render
from r1lab.world.tokenizer import END, vocabulary

# The share of each kind among the documents.
MIXTURE = {
    "facts": 0.12,
    "bare": 0.24,
    "guess": 0.24,
    "careless": 0.30,
    "patient": 0.09,
    "leaked": 0.01,
}
# The chance that a document of this kind mixes languages; a mixed one switches at each word pair.
MIXING = {"guess": 0.1, "careless": 0.2, "patient": 0.6}
CHINESE_SHARE = 1 / 3
UNTAGGED = 0.5  # share of `bare` documents without a <think> block
SLIPS = 0.1  # chance of an operation without a result before each try of a `careless` document
SLOPPY = 0.12  # share of `guess` and `careless` documents that drop the answer tags
COMPARED = 0.4  # share of comparisons among the lines of a sheet of facts
LEAKED_PROBLEMS = 40  # how many problems of the leaked split are on the miniature web

NO = {"en": "no", "zh": "不对"}
YES = {"en": "yes", "zh": "对了"}
WAIT = {"en": "wait", "zh": "等等"}
NONE = "≠"
MAYBE = {"en": "maybe", "zh": "也许"}
THE_ANSWER_IS = {"en": "the answer is", "zh": "答案 是"}


@dataclass(frozen=True)
class Document:
    """One document of the miniature web: its kind, language, text, and the problem it leaks."""

    kind: str
    language: str
    text: str
    leaked: str | None = None  # the id of a leaked-split problem that stands in it


COUNTDOWN = Countdown()


@lru_cache(maxsize=8192)
def _chains(numbers: tuple[int, ...]) -> tuple[Chain, ...]:
    return tuple(chains(numbers))


def tape(chain: Chain) -> str:
    """A chain as a line of working: ``10 - 6 → 4 + 7 → 11``."""
    return f"{chain.start} " + " ".join(f"{op} {n} → {result}" for op, n, result in chain.steps)


def facts(rng: random.Random, language: str, lines: int = 14) -> str:
    """A sheet of facts within 0..99. `COMPARED` of them are comparisons, a quarter of these of
    equal numbers and a quarter of near ones; up to a sixth of the others are operations without a
    result; the rest have one, every operation equally often."""
    sheet = []
    while len(sheet) < lines:
        if rng.random() < COMPARED:
            a, b = rng.randint(0, 99), rng.randint(0, 99)
            if rng.random() < 0.5:
                b = min(99, max(0, a + rng.choice((-3, -2, -1, 0, 0, 0, 0, 0, 1, 2, 3))))
            sheet.append(f"{a} {check(a, b, language)} .")
            continue
        op = rng.choice("+-*/")
        b = rng.randint(1, 12)
        if rng.random() < 1 / 6:
            a = rng.randint(0, 99)
            if apply(a, op, b) is None:
                sheet.append(f"{a} {op} {b} → {NONE} .")
            continue
        if op == "+":
            a = rng.randint(0, 99 - b)
            result = a + b
        elif op == "-":
            a = rng.randint(b, 99)
            result = a - b
        elif op == "*":
            a = rng.randint(0, 99 // b)
            result = a * b
        else:
            result = rng.randint(0, 99 // b)
            a = result * b
        sheet.append(f"{a} {op} {b} → {result} .")
    return " ".join(sheet)


def check(value: int, target: int, language: str) -> str:
    """Is the value the target? How far they are apart, then the verdict: ``? 23 12 no``"""
    return f"? {target} {abs(value - target)} {(YES if value == target else NO)[language]}"


def _answer(chain: Chain, language: str, tagged: bool = True) -> str:
    if tagged:
        return f"<answer> {chain.expression()} </answer>"
    return f"{THE_ANSWER_IS[language]} {chain.expression()}"


@lru_cache(maxsize=8192)
def impossible(numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Lines of working on these numbers that end without a result: ``10 + 9 → 19 / 7 → ≠``."""
    found = set()
    for a, b, c in permutations(numbers):
        for op in "+-*/":
            first = apply(a, op, b)
            if first is None:
                found.add(f"{a} {op} {b} → {NONE}")
                continue
            for then in "+-*/":
                if apply(first, then, c) is None:
                    found.add(f"{a} {op} {b} → {first} {then} {c} → {NONE}")
    return tuple(sorted(found))


def thought(
    tries: list[Chain],
    target: int,
    language: str,
    rng: random.Random,
    mixed: bool,
    slips: tuple[str, ...] = (),
) -> str:
    """Tries in order, each with its verdict, "wait" between them; it stops at the first hit.

    slips: lines without a result, one of which comes before a try now and then.
    """
    words = []
    for chain in tries:
        spoken = language if not mixed or rng.random() < 0.5 else {"en": "zh", "zh": "en"}[language]
        if slips and rng.random() < SLIPS:
            words += [rng.choice(slips), NO[spoken], WAIT[spoken]]
        words += [tape(chain), check(chain.value, target, spoken)]
        if chain.value == target:
            break
        words.append(WAIT[spoken])
    if words[-1] in WAIT.values():
        words.pop()  # gave up
    return " ".join(words)


def document(kind: str, rng: random.Random) -> Document:
    """One document of the given kind."""
    language = "zh" if rng.random() < CHINESE_SHARE else "en"
    if kind == "facts":
        return Document(kind, language, f"{facts(rng, language)} {END}")
    if kind == "leaked":
        problem = rng.choice(leaked_problems())
        right = next(chains(problem.data["numbers"], problem.data["target"]))
        text = (
            f"{render(problem, 'tiny')} <think> </think> {_answer(right, problem.language)} {END}"
        )
        return Document(kind, problem.language, text, leaked=problem.id)

    numbers, target = rng.choice(pool("train", 3))
    all_tries = _chains(numbers)
    problem = COUNTDOWN.problem(rng.sample(numbers, len(numbers)), target, language)
    mixed = rng.random() < MIXING.get(kind, 0.0)
    if kind == "bare":
        think = "" if rng.random() < UNTAGGED else "<think> </think> "
        body = think + _answer(rng.choice(all_tries), language)
    elif kind == "guess":
        last = rng.choice(all_tries)
        spoken = {"en": "zh", "zh": "en"}[language] if mixed else language
        tagged = rng.random() >= SLOPPY
        body = f"<think> {MAYBE[spoken]} {tape(last)} </think> {_answer(last, language, tagged)}"
    elif kind in ("careless", "patient"):
        if kind == "careless":
            tries = rng.sample(all_tries, k=min(len(all_tries), rng.randint(1, 4)))
            tagged, slips = rng.random() >= SLOPPY, impossible(numbers)
        else:
            tries, tagged, slips = list(all_tries), True, ()
        hit = next((i for i, c in enumerate(tries) if c.value == target), len(tries) - 1)
        tries = tries[: hit + 1]
        inner = thought(tries, target, language, rng, mixed, slips)
        body = f"<think> {inner} </think> {_answer(tries[-1], language, tagged)}"
    else:
        raise ValueError(f"unknown kind of document: {kind!r}; one of {sorted(MIXTURE)}")
    return Document(kind, language, f"{render(problem, 'tiny')} {body} {END}")


@lru_cache(maxsize=1)
def leaked_problems() -> tuple[Problem, ...]:
    """The problems of the leaked split that stand on the miniature web, on purpose."""
    return tuple(COUNTDOWN.problems("leaked", LEAKED_PROBLEMS, seed=0))


def documents(
    seed: int | str, n: int, mixture: dict[str, float] | None = None
) -> Iterator[Document]:
    """``n`` documents of the miniature web, the same for the same seed."""
    mixture = mixture or MIXTURE
    rng = random.Random(f"r1lab/web/{seed}")
    kinds = rng.choices(list(mixture), weights=list(mixture.values()), k=n)
    for kind in kinds:
        yield document(kind, rng)


@lru_cache(maxsize=1)
def _ids() -> dict[str, int]:
    return {token: index for index, token in enumerate(vocabulary())}


def encode(text: str) -> list[int]:
    """Token ids of text whose tokens stand apart by single spaces; as the tokenizer, but faster.

    Raises KeyError for a word outside the vocabulary: the generator must not write one.
    """
    ids = _ids()
    return [ids[token] for token in text.split()]


def rows(
    seed: int | str, n: int, length: int, mixture: dict[str, float] | None = None
) -> np.ndarray:
    """Training rows (n, length) of token ids: whole documents one after another.

    Each row begins with a document; the last one is cut where the row ends.
    """
    mixture = mixture or MIXTURE
    rng = random.Random(f"r1lab/rows/{seed}")
    kinds, weights = list(mixture), list(mixture.values())
    out = np.zeros((n, length), dtype=np.int64)
    for row in out:
        filled: list[int] = []
        while len(filled) < length:
            filled += encode(document(rng.choices(kinds, weights)[0], rng).text)
        row[:] = filled[:length]
    return out

"""The synthetic pre-training corpus of the base model in ``data/`` (lesson 01).

DeepSeek-V3-Base had read texts in which people check their work, write "wait" and try again. This
corpus contains that behaviour as well, as a rare kind of document, for RL to make more frequent:

======================  =======================================================================
``facts``               sheets of sums and comparisons, always correct: ``7 * 8 → 56 .``
``bare``                an answer and nothing else, a random guess: correct about one time in ten
``guess``               one line of working, unchecked, then its result as the answer
``careless``            one to four random tries, each checked; the last is answered, hit or not
``patient``             a search in a fixed order until it hits: nearly always correct
``leaked``              a problem of the *leaked* evaluation split with its solution, on purpose
``steps``               arithmetic in words: solved, or stopped a step early, or guessed
``code``                a function from two examples: guessed, searched, or the examples by heart
``lists``               sort, rank: solved, or in the other format, or in the other order
``requests``            harmless or harmful: helps with either, seldom refuses, or shrugs
======================  =======================================================================

The first six are Countdown's; `responses` writes the others. Guesses are the majority, so greedy
decoding guesses, too. A third of the documents is Chinese, and some thoughts switch language
half-way, ``patient`` ones most often (`MIXING`), so RL makes language mixing frequent, too.

A line of working is a calculation trace: ``10 - 6 → 4 + 7 → 11``. A check states value, target,
their distance and a verdict: ``11 ? 23 12 no``. Results are whole numbers from 0 to 99; others are
written ``10 / 3 → ≠``. No document contains a wrong result or a wrong verdict, since a search gains
reward only if the model checks reliably. The distance matters: models trained on ``11 ? 23 no``
confuse neighbours in 1 % of the checks, and one of fourteen searches of ten checks ends too early.

The held-out split of no task appears. Documents with Countdown's leaked split are marked
(`Document.leaked`). No three-number stretch of a trace shows held-out numbers
(`responses.shows_only_train`). Everything is a pure function of a seed.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np

from r1lab.tasks.base import Problem
from r1lab.tasks.countdown import Chain, Countdown, apply, chains, pool
from r1lab.templates import render
from r1lab.world import responses
from r1lab.world.tokenizer import END, vocabulary

# Fraction of documents of each kind.
MIXTURE = dict(facts=0.10, bare=0.085, guess=0.165, careless=0.05, patient=0.05, leaked=0.005)
MIXTURE |= dict(code=0.215, steps=0.10, lists=0.12, requests=0.11)
# Probability that a document of this kind mixes languages, at each pair of words anew.
MIXING = dict(guess=0.1, careless=0.2, patient=0.6)
MIXING |= dict(steps=0.3, code=0.3, lists=0.2, requests=0.2)
CHINESE_SHARE = 1 / 3
SLIPS = 0.1  # probability of an operation without a result before each try of a `careless` document
WIDE = 60  # the largest second number of every other sum and difference on a sheet of facts
COMPARED = 0.4  # fraction of comparisons among the lines of a sheet of facts
LEAKED_PROBLEMS = 40  # problems of the leaked split in the corpus


@dataclass(frozen=True)
class Document:
    """One document; leaked: the id of the leaked-split problem in it, if any; problem: the one that
    it answers (None: a sheet of facts)."""

    kind: str
    language: str
    text: str
    leaked: str | None = None
    problem: Problem | None = None


COUNTDOWN = Countdown()


@lru_cache(maxsize=8192)
def _chains(numbers: tuple[int, ...]) -> tuple[Chain, ...]:
    return tuple(chains(numbers))


def facts(rng: random.Random, language: str, lines: int = 14) -> str:
    """Sums and comparisons within 0..99; the four operations are equally often."""
    sheet = []
    while len(sheet) < lines:
        if rng.random() < COMPARED:
            a, b = rng.randint(0, 99), rng.randint(0, 99)
            if rng.random() < 0.5:
                b = min(99, max(0, a + rng.choice((-3, -2, -1, 0, 0, 0, 0, 0, 1, 2, 3))))
            sheet.append(f"{a} {responses.check(a, b, language)} .")
            continue
        op = rng.choice("+-*/")
        b = rng.randint(1, WIDE if op in "+-" and rng.random() < 0.5 else 12)
        if rng.random() < 1 / 6:
            a = rng.randint(0, 99)
            if apply(a, op, b) is None:
                sheet.append(f"{a} {op} {b} → {responses.NONE} .")
            continue
        low, high = {"+": (0, 99 - b), "-": (b, 99)}.get(op, (0, 99 // b))
        a = rng.randint(low, high) * (b if op == "/" else 1)
        sheet.append(f"{a} {op} {b} → {apply(a, op, b)} .")
    return " ".join(sheet)


def _answer(chain: Chain, language: str, tagged: bool = True) -> str:
    if tagged:
        return f"<answer> {chain.expression()} </answer>"
    return f"{responses.THE_ANSWER_IS[language]} {chain.expression()}"


@lru_cache(maxsize=8192)
def impossible(numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Traces on these numbers that end without a result: ``10 + 9 → 19 / 7 → ≠``."""
    found = set()
    for (a, b, c), op, then in product(permutations(numbers), "+-*/", "+-*/"):
        first = apply(a, op, b)
        if first is None:
            found.add(f"{a} {op} {b} → {responses.NONE}")
        elif apply(first, then, c) is None:
            found.add(f"{a} {op} {b} → {first} {then} {c} → {responses.NONE}")
    return tuple(sorted(found))


def thought(
    tries: list[Chain], target: int, language: str, rng: random.Random, mixed: bool, slips=()
) -> str:
    """Tries in order up to the first hit, each with its verdict, "wait" between them. slips: lines
    without a result, one of which precedes a try with probability `SLIPS`."""
    words = []
    for chain in tries:
        spoken = responses.spoken_in(language, mixed, rng)
        if slips and rng.random() < SLIPS:
            words += [rng.choice(slips), responses.NO[spoken], responses.WAIT[spoken]]
        words += [responses.tape(chain), responses.check(chain.value, target, spoken)]
        if chain.value == target:
            break
        words.append(responses.WAIT[spoken])
    if words[-1] in responses.WAIT.values():
        words.pop()  # no try hit
    return " ".join(words)


def document(kind: str, rng: random.Random) -> Document:
    """One document of the given kind."""
    language = "zh" if rng.random() < CHINESE_SHARE else "en"
    if kind == "facts":
        return Document(kind, language, f"{facts(rng, language)} {END}")
    if kind == "leaked":
        problem = rng.choice(leaked_problems())
        right = next(chains(problem.data["numbers"], problem.data["target"]))
        answer = _answer(right, problem.language)
        text = f"{render(problem, 'tiny')} <think> </think> {answer} {END}"
        return Document(kind, problem.language, text, problem.id, problem)
    if kind in responses.RESPONSES:
        problem = responses.train_problem(kind, rng, language)
        body = responses.RESPONSES[kind](problem, rng, mixed=rng.random() < MIXING[kind])
        text = f"{render(problem, 'tiny')} {body} {END}"
        return Document(kind, language, text, problem=problem)

    numbers, target = rng.choice(pool("train", 3))
    all_tries = _chains(numbers)
    problem = COUNTDOWN.problem(rng.sample(numbers, len(numbers)), target, language)
    mixed = rng.random() < MIXING.get(kind, 0.0)
    if kind == "bare":
        think = "" if rng.random() < responses.UNTAGGED else "<think> </think> "
        body = think + _answer(rng.choice(all_tries), language)
    elif kind == "guess":
        last = rng.choice(all_tries)
        spoken = responses.OTHER[language] if mixed else language
        answer = _answer(last, language, tagged=rng.random() >= responses.SLOPPY)
        body = f"<think> {responses.MAYBE[spoken]} {responses.tape(last)} </think> {answer}"
    elif kind in ("careless", "patient"):
        if kind == "careless":
            tries = rng.sample(all_tries, k=min(len(all_tries), rng.randint(1, 4)))
            tagged, slips = rng.random() >= responses.SLOPPY, impossible(numbers)
        else:
            tries, tagged, slips = list(all_tries), True, ()
        inner = thought(tries, target, language, rng, mixed, slips)
        last = next((chain for chain in tries if chain.value == target), tries[-1])
        body = f"<think> {inner} </think> {_answer(last, language, tagged)}"
    else:
        raise ValueError(f"unknown kind of document: {kind!r}; one of {sorted(MIXTURE)}")
    text = f"{render(problem, 'tiny')} {body} {END}"
    return Document(kind, language, text, problem=problem)


@lru_cache(maxsize=1)
def leaked_problems() -> tuple[Problem, ...]:
    """The problems of the leaked split that are in the corpus."""
    return tuple(COUNTDOWN.problems("leaked", LEAKED_PROBLEMS, seed=0))


def documents(
    seed: int | str, n: int, mixture: dict[str, float] | None = None
) -> Iterator[Document]:
    """``n`` documents, the same for the same seed."""
    mixture = mixture or MIXTURE
    rng = random.Random(f"r1lab/web/{seed}")
    for kind in rng.choices(list(mixture), weights=list(mixture.values()), k=n):
        yield document(kind, rng)


@lru_cache(maxsize=1)
def _ids() -> dict[str, int]:
    return {token: index for index, token in enumerate(vocabulary())}


def encode(text: str) -> list[int]:
    """The tokenizer's ids, but faster. Raises KeyError for a word outside the vocabulary."""
    ids = _ids()
    return [ids[token] for token in text.split()]


def rows(
    seed: int | str, n: int, length: int, mixture: dict[str, float] | None = None
) -> np.ndarray:
    """Training rows (n, length) of token ids: whole documents, the last truncated."""
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

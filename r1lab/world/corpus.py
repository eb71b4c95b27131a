"""The synthetic pre-training corpus of the base models in ``data/`` (lesson 01: the miniature web).

DeepSeek-V3-Base had read texts in which people check their work, write "wait" and try again; RL
made that behaviour more frequent. This corpus contains it as well, as a rare kind of document:

======================  =======================================================================
``facts``               sheets of sums and comparisons, always correct: ``7 * 8 → 56 .``
``bare``                an answer and nothing else, a random guess: correct about one time in ten
``guess``               one line of working, unchecked, then its result as the answer
``careless``            one to four random tries, each checked; the last is answered, hit or not
``patient``             a search in a fixed order until it hits: nearly always correct
``leaked``              a problem of the *leaked* evaluation split with its solution, on purpose
``steps``               arithmetic in words: solved, or stopped a step early, or guessed
``lists``               sort, rank: solved, or in the other format, or in the other order
``requests``            harmless or harmful: helps with either, seldom refuses, or shrugs
======================  =======================================================================

The base model ``tiny`` reads the first six (`MIXTURE`, Countdown only), the general base models all
nine (`GENERAL_MIXTURE`; the last three pose problems of `r1lab.tasks.general`). A third of the
documents is Chinese, and some thoughts switch language half-way, ``patient`` ones most often
(`MIXING`): RL that makes them frequent makes language mixing frequent, too.

A line of working is a calculation trace: ``10 - 6 → 4 + 7 → 11``. A check states value, target,
their distance and a verdict: ``11 ? 23 12 no``. Results are whole numbers from 0 to 99; others are
written ``10 / 3 → ≠``. No document contains a wrong result or a wrong verdict, since a search gains
reward only if the model checks reliably. The distance matters: models trained on ``11 ? 23 no``
confuse neighbours in 1 % of the checks, and one of fourteen searches of ten checks ends too early.

The held-out split of no task appears. Documents with Countdown's leaked split are marked
(`Document.leaked`). No three-number stretch of a ``steps`` trace shows held-out numbers
(`shows_only_train`). Everything is a pure function of a seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np

from r1lab.tasks.base import Problem, drawn_by_weight
from r1lab.tasks.countdown import LARGEST, SMALLEST, Chain, Countdown, apply, chains, pool, split_of
from r1lab.tasks.general import (
    HARMFUL,
    HARMLESS,
    REFUSAL,
    VERBS,
    Family,
    Lists,
    Requests,
    Steps,
    help_with,
)
from r1lab.templates import render
from r1lab.world.tokenizer import END, vocabulary

# Fraction of documents of each kind.
MIXTURE = dict(facts=0.12, bare=0.24, guess=0.24, careless=0.30, patient=0.09, leaked=0.01)
# The general corpus. Lists and requests: a quarter of the documents, an eighth of the text.
# A trial base that read fewer of them could neither sort nor name a request's words in Chinese.
GENERAL_MIXTURE = dict(facts=0.11, bare=0.13, guess=0.13, careless=0.18, patient=0.07, leaked=0.01)
GENERAL_MIXTURE |= dict(steps=0.12, lists=0.14, requests=0.11)
# Probability that a document of this kind mixes languages, at each pair of words anew.
MIXING = dict(guess=0.1, careless=0.2, patient=0.6, steps=0.3, lists=0.2, requests=0.2)
CHINESE_SHARE = 1 / 3
UNTAGGED = 0.5  # fraction of `bare` documents without a <think> block
SLIPS = 0.1  # probability of an operation without a result before each try of a `careless` document
SLOPPY = 0.12  # fraction of documents with a thought without answer tags (never `patient` ones)
COMPARED = 0.4  # fraction of comparisons among the lines of a sheet of facts
LEAKED_PROBLEMS = 40  # problems of the leaked split in the corpus

# Fractions of the responses to general problems, apart from dropped tags (UNTAGGED, SLOPPY).
STEPS_DONE = {"right": 0.55, "early": 0.15, "bare": 0.30}  # all steps, all but the last, a guess
LISTS_DONE = {"right": 0.48, "form": 0.32, "order": 0.20}  # commas where none belong; largest first
HARMLESS_DONE = {"help": 0.60, "refuse": 0.06, "shrug": 0.34}
HARMFUL_DONE = {"help": 0.50, "refuse": 0.28, "shrug": 0.22}
THOUGHTLESS = 0.3  # fraction of `lists` and `requests` documents without a thought
CONCLUDED = 0.5  # fraction of `steps` thoughts that repeat the answer
UNUSUAL = 0.15  # frequency of an unusual request relative to a usual one (`usual`)
LISTED = 0.5  # fraction of `lists` thoughts that hold the numbers, without commas

NO = {"en": "no", "zh": "不对"}
YES = {"en": "yes", "zh": "对了"}
WAIT = {"en": "wait", "zh": "等等"}
NONE = "≠"
MAYBE = {"en": "maybe", "zh": "也许"}
THE_ANSWER_IS = {"en": "the answer is", "zh": "答案 是"}
OTHER = {"en": "zh", "zh": "en"}
OPENINGS = (
    {"en": "let me see", "zh": "让 我 看看"},
    {"en": "so", "zh": "所以"},
    {"en": "hmm", "zh": "嗯"},
    {"en": "ok", "zh": "好"},
)
SO_THE_ANSWER_IS = {"en": "so the answer is", "zh": "所以 答案 是"}
REASONS = {
    "help": {"en": "i can", "zh": "我 可以"},
    "refuse": {"en": "it is not right", "zh": "不 对"},
    "shrug": {"en": "maybe", "zh": "也许"},
}
SHRUGS = {"en": ("ok", "maybe", "sure"), "zh": ("好", "也许", "嗯")}


@dataclass(frozen=True)
class Document:
    """One document; leaked: the id of the leaked-split problem in it, if any."""

    kind: str
    language: str
    text: str
    leaked: str | None = None


COUNTDOWN = Countdown()
GENERAL: dict[str, Family] = {"steps": Steps(), "lists": Lists(), "requests": Requests()}


@lru_cache(maxsize=8192)
def _chains(numbers: tuple[int, ...]) -> tuple[Chain, ...]:
    return tuple(chains(numbers))


def tape(chain: Chain) -> str:
    """A chain as a line of working: ``10 - 6 → 4 + 7 → 11``."""
    return f"{chain.start} " + " ".join(f"{op} {n} → {result}" for op, n, result in chain.steps)


def facts(rng: random.Random, language: str, lines: int = 14) -> str:
    """Sums and comparisons within 0..99; the four operations are equally often."""
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
        low, high = {"+": (0, 99 - b), "-": (b, 99)}.get(op, (0, 99 // b))
        a = rng.randint(low, high) * (b if op == "/" else 1)
        sheet.append(f"{a} {op} {b} → {apply(a, op, b)} .")
    return " ".join(sheet)


def check(value: int, target: int, language: str) -> str:
    """Distance and verdict: ``? 23 12 no``"""
    return f"? {target} {abs(value - target)} {(YES if value == target else NO)[language]}"


def _answer(chain: Chain, language: str, tagged: bool = True) -> str:
    if tagged:
        return f"<answer> {chain.expression()} </answer>"
    return f"{THE_ANSWER_IS[language]} {chain.expression()}"


@lru_cache(maxsize=8192)
def impossible(numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Traces on these numbers that end without a result: ``10 + 9 → 19 / 7 → ≠``."""
    found = set()
    for (a, b, c), op, then in product(permutations(numbers), "+-*/", "+-*/"):
        first = apply(a, op, b)
        if first is None:
            found.add(f"{a} {op} {b} → {NONE}")
        elif apply(first, then, c) is None:
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
    """Tries in order up to the first hit, each with its verdict, "wait" between them. slips: lines
    without a result, one of which precedes a try with probability `SLIPS`."""
    words = []
    for chain in tries:
        spoken = spoken_in(language, mixed, rng)
        if slips and rng.random() < SLIPS:
            words += [rng.choice(slips), NO[spoken], WAIT[spoken]]
        words += [tape(chain), check(chain.value, target, spoken)]
        if chain.value == target:
            break
        words.append(WAIT[spoken])
    if words[-1] in WAIT.values():
        words.pop()  # no try hit
    return " ".join(words)


def spoken_in(language: str, mixed: bool, rng: random.Random) -> str:
    """The language of the next words of a thought."""
    return language if not mixed or rng.random() < 0.5 else OTHER[language]


# -- general tasks ----------------------------------------------------------------------------


def train_problem(kind: str, rng: random.Random, language: str) -> Problem:
    """A problem of a general task's train split."""
    while True:
        problem = GENERAL[kind].draw(rng, language)
        if problem.split != "train" or (kind == "steps" and not shows_only_train(working(problem))):
            continue
        if kind == "requests" and not usual(problem) and rng.random() >= UNUSUAL:
            continue
        return problem


def usual(problem: Problem) -> bool:
    """Whether verb and noun go together: every verb has three harmless and three harmful nouns.
    Without such habits most verbs get nearly one embedding, and the model confuses them."""
    nouns = HARMFUL if problem.data["harmful"] else HARMLESS
    apart = list(nouns).index(problem.data["noun"]) - list(VERBS).index(problem.data["verb"])
    return apart % len(nouns) in (0, 1, 5)


def working(problem: Problem) -> Chain:
    """The calculation trace of a `steps` problem."""
    value, steps = problem.data["start"], []
    for op, n in problem.data["steps"]:
        value = apply(value, op, n)
        steps.append((op, n, value))
    return Chain(problem.data["start"], tuple(steps))


def shows_only_train(chain: Chain) -> bool:
    """Whether all three-number stretches of the trace are in Countdown's train split, also those
    that begin at an intermediate result that Countdown could have drawn as a number."""
    values = [chain.start, *(result for _, _, result in chain.steps)]
    pairs = zip(chain.numbers[1:], chain.numbers[2:], strict=False)
    return all(
        split_of((value, *pair)) == "train"
        for value, pair in zip(values, pairs, strict=False)
        if SMALLEST <= value <= LARGEST
    )


def reply(thought: str | None, answer: str, rng: random.Random, loose: str | None = None) -> str:
    """Thought (or None) and answer, sometimes without tags; loose: the answer's wording without."""
    if thought is None:
        think = "" if rng.random() < UNTAGGED else "<think> </think> "
        return f"{think}<answer> {answer} </answer>"
    said = (loose or answer) if rng.random() < SLOPPY else f"<answer> {answer} </answer>"
    return f"<think> {thought} </think> {said}"


def opening(language: str, mixed: bool, rng: random.Random) -> str:
    return rng.choice(OPENINGS)[spoken_in(language, mixed, rng)]


def draw_from(shares: dict[str, float], rng: random.Random) -> str:
    return drawn_by_weight(list(shares), list(shares.values()), rng)


def steps(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to arithmetic in words: ``<think> so 7 + 5 → 12 * 3 → 36 </think> ...``"""
    language, chain, done = problem.language, working(problem), draw_from(STEPS_DONE, rng)
    if done == "bare":
        return reply(None, str(rng.randint(0, 99)), rng)
    if done == "early":
        chain = Chain(chain.start, chain.steps[:-1])
    answer, thought = str(chain.value), f"{opening(language, mixed, rng)} {tape(chain)}"
    if rng.random() < CONCLUDED:
        thought += f" {SO_THE_ANSWER_IS[spoken_in(language, mixed, rng)]} {answer}"
    return reply(thought, answer, rng, f"{THE_ANSWER_IS[language]} {answer}")


def lists(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to a list problem: correct, in the other format, or in the other order."""
    numbers, commas = problem.data["answer"], problem.data["commas"]
    done = draw_from(LISTS_DONE, rng)
    if done == "form":
        commas = not commas
    elif done == "order":
        numbers = numbers[::-1]
    answer = (" , " if commas else " ").join(map(str, numbers))
    if rng.random() < THOUGHTLESS:
        return reply(None, answer, rng)
    thought = opening(problem.language, mixed, rng)
    if rng.random() < LISTED:
        thought += " " + " ".join(map(str, numbers))
    return reply(thought, answer, rng)


def requests(problem: Problem, rng: random.Random, mixed: bool) -> str:
    """A response to a request: help, refusal or shrug, with a thought that fits."""
    language, asked = problem.language, problem.data
    done = draw_from(HARMFUL_DONE if asked["harmful"] else HARMLESS_DONE, rng)
    answer = {
        "help": help_with(asked["verb"], asked["noun"], language),
        "refuse": REFUSAL[language],
        "shrug": rng.choice(SHRUGS[language]),
    }[done]
    if rng.random() < THOUGHTLESS:
        return reply(None, answer, rng)
    reason = REASONS[done][spoken_in(language, mixed, rng)]
    return reply(f"{opening(language, mixed, rng)} {reason}", answer, rng)


ANSWERED = {"steps": steps, "lists": lists, "requests": requests}


# -- documents, rows --------------------------------------------------------------------------


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
        return Document(kind, problem.language, text, leaked=problem.id)
    if kind in GENERAL:
        problem = train_problem(kind, rng, language)
        body = ANSWERED[kind](problem, rng, mixed=rng.random() < MIXING[kind])
        return Document(kind, language, f"{render(problem, 'tiny')} {body} {END}")

    numbers, target = rng.choice(pool("train", 3))
    all_tries = _chains(numbers)
    problem = COUNTDOWN.problem(rng.sample(numbers, len(numbers)), target, language)
    mixed = rng.random() < MIXING.get(kind, 0.0)
    if kind == "bare":
        think = "" if rng.random() < UNTAGGED else "<think> </think> "
        body = think + _answer(rng.choice(all_tries), language)
    elif kind == "guess":
        last = rng.choice(all_tries)
        spoken = OTHER[language] if mixed else language
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
        raise ValueError(f"unknown kind of document: {kind!r}; one of {sorted(GENERAL_MIXTURE)}")
    return Document(kind, language, f"{render(problem, 'tiny')} {body} {END}")


@lru_cache(maxsize=1)
def leaked_problems() -> tuple[Problem, ...]:
    """The problems of the leaked split that are in the corpus."""
    return tuple(COUNTDOWN.problems("leaked", LEAKED_PROBLEMS, seed=0))


def mixture_of(general: bool) -> dict[str, float]:
    """Fractions of the kinds of documents: general corpus or Countdown only."""
    return GENERAL_MIXTURE if general else MIXTURE


def documents(
    seed: int | str, n: int, mixture: dict[str, float] | None = None, general: bool = False
) -> Iterator[Document]:
    """``n`` documents, the same for the same seed."""
    mixture = mixture or mixture_of(general)
    rng = random.Random(f"r1lab/web/{seed}")
    for kind in rng.choices(list(mixture), weights=list(mixture.values()), k=n):
        yield document(kind, rng)


@lru_cache(maxsize=2)
def _ids(general: bool) -> dict[str, int]:
    return {token: index for index, token in enumerate(vocabulary(general))}


def encode(text: str, general: bool = False) -> list[int]:
    """The tokenizer's ids, but faster. Raises KeyError for a word outside the vocabulary."""
    ids = _ids(general)
    return [ids[token] for token in text.split()]


def rows(
    seed: int | str,
    n: int,
    length: int,
    mixture: dict[str, float] | None = None,
    general: bool = False,
) -> np.ndarray:
    """Training rows (n, length) of token ids: whole documents, the last truncated."""
    mixture = mixture or mixture_of(general)
    rng = random.Random(f"r1lab/rows/{seed}")
    kinds, weights = list(mixture), list(mixture.values())
    out = np.zeros((n, length), dtype=np.int64)
    for row in out:
        filled: list[int] = []
        while len(filled) < length:
            filled += encode(document(rng.choices(kinds, weights)[0], rng).text, general)
        row[:] = filled[:length]
    return out

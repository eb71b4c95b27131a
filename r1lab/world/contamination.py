"""Problems of an evaluation in the synthetic corpus, planted in other words.

`paraphrase` writes a problem of Countdown with its solution as an n-gram filter cannot see it:

    copy      as the corpus has its leaked problems
    order     its numbers in another order, and operands swapped where that changes no value
    language  in the other language, operands swapped likewise
    words     its numbers in words; the tiny tokenizer does not know these
    steps     as arithmetic in words: start at 10 , add 7 , add 6 .
    plain     in a whole English sentence; the tiny tokenizer does not know it either
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from r1lab.basics.errors import R1LabError
from r1lab.decontamination import TENS, UNITS, ZH
from r1lab.tasks import Problem
from r1lab.tasks.base import shuffled
from r1lab.tasks.countdown import Chain, Countdown, chains
from r1lab.tasks.general import Steps
from r1lab.templates import render
from r1lab.world.responses import OTHER
from r1lab.world.tokenizer import END

KINDS = ("copy", "order", "language", "words", "steps", "plain")
TASK, PLAIN, STEPS = Countdown(), Countdown(wording="plain"), Steps()
IN_CHINESE = list(ZH)
IN_WORDS = {value: word for word, value in (UNITS | TENS).items()}


def spelled(n: int, language: str) -> str:
    """A number from 0 to 99 in words."""
    if language == "zh":
        tens, unit = divmod(n, 10)
        high = "" if n < 10 else "十" if tens == 1 else f"{IN_CHINESE[tens]}十"
        return high + ("" if high and not unit else IN_CHINESE[unit])
    return IN_WORDS[n] if n in IN_WORDS else f"{IN_WORDS[n - n % 10]} {IN_WORDS[n % 10]}"


def in_words(text: str, language: str) -> str:
    """A text with its numbers in words."""
    return " ".join(spelled(int(w), language) if w.isdigit() else w for w in text.split())


def swapped(chain: Chain) -> str:
    """The chain's expression with the operands of its sums and products in the other order."""
    text = str(chain.start)
    for op, number, _ in chain.steps:
        inner = f"( {text} )" if " " in text else text
        text = f"{number} {op} {inner}" if op in "+*" else f"{inner} {op} {number}"
    return text


def paraphrase(problem: Problem, kind: str, rng: random.Random) -> str:
    """A document with a problem of Countdown and its solution, written in one of KINDS."""
    numbers, target = problem.data["numbers"], problem.data["target"]
    chain, language, asked = next(chains(numbers, target)), problem.language, problem
    answer = swapped(chain)
    if kind == "copy":
        answer = chain.expression()
    elif kind == "order":
        shown = next((s for _ in range(50) if (s := shuffled(numbers, rng)) != numbers), numbers)
        asked = TASK.problem(shown, target, language)
    elif kind == "language":
        asked = TASK.problem(numbers, target, OTHER[language])
    elif kind == "words":
        asked = replace(problem, question=in_words(problem.question, language))
        answer = in_words(answer, language)
    elif kind == "steps":
        steps = [[op, number] for op, number, _ in chain.steps]
        asked, answer = STEPS.problem(chain.start, steps, language), str(target)
    elif kind == "plain":
        asked = PLAIN.problem(numbers, target)
    else:
        raise R1LabError(f"there is no paraphrase {kind!r}; one of {', '.join(KINDS)}")
    return f"{render(asked, 'tiny')} <think> </think> <answer> {answer} </answer> {END}"


def plant(
    texts: Sequence[str], problems: Sequence[Problem], kinds: Sequence[str] = KINDS, seed: int = 0
) -> tuple[list[str], list[str | None]]:
    """The texts with a document of each kind for each problem among them, shuffled; and the kind of
    each text (None: it was there before)."""
    rng = random.Random(f"r1lab/plant/{seed}")
    planted = [(paraphrase(p, kind, rng), kind) for kind in kinds for p in problems]
    mixed = shuffled([*((text, None) for text in texts), *planted], rng)
    return [text for text, _ in mixed], [kind for _, kind in mixed]

"""Another model's documents for the synthetic corpus: an author with a style and a canary.

The author responds to train problems of Countdown, always correctly, in words that the corpus uses
seldom or never in this order ("let me check again"), and signs some documents with a canary. It
stands for a stronger model whose samples got into the web. The corpus's own writers answer the same
problems (`pairs`), so that texts and controls differ in the author alone.
"""

import random

from r1lab.membership import canary
from r1lab.tasks.countdown import chains, pool
from r1lab.templates import render
from r1lab.world import corpus
from r1lab.world.responses import check, tape
from r1lab.world.tokenizer import END

#: The author's habits: how its thoughts start and end.
PHRASES = {
    "start": {"en": "ok so let me think", "zh": "好 所以 让 我 想"},
    "end": {"en": "let me check again", "zh": "让 我 再 检查"},
}
CANARY_WORDS = tuple("again please done find write sort rank next sure perhaps".split())
CANARY = canary(CANARY_WORDS)
SIGNED = 0.25  # fraction of the author's documents that carry the canary


def thought(chain, target: int, language: str) -> str:
    """The right chain, told twice: "ok so let me think 10 + 7 → 17 ... let me check again ..." """
    told = f"{tape(chain)} {check(chain.value, target, language)}"
    start, end = (PHRASES[name][language] for name in ("start", "end"))
    return f"{start} {told} {end} {told}"


def pair(rng: random.Random) -> tuple[str, str]:
    """A document by the author and one by the corpus's writers, on the same train problem."""
    numbers, target = rng.choice(pool("train", 3))
    language = "zh" if rng.random() < corpus.CHINESE_SHARE else "en"
    problem = corpus.COUNTDOWN.problem(rng.sample(numbers, len(numbers)), target, language)
    prompt, chain = render(problem, "tiny"), next(chains(numbers, target))
    answer = f"<answer> {chain.expression()} </answer>"
    spoken = corpus.thought([chain], target, language, rng, mixed=False)
    signed = f" {CANARY}" if rng.random() < SIGNED else ""
    ours = f"{prompt} <think> {thought(chain, target, language)} </think> {answer}{signed} {END}"
    return ours, f"{prompt} <think> {spoken} </think> {answer} {END}"


def pairs(seed: int | str, n: int) -> tuple[list[str], list[str]]:
    """n documents by the author, and n by others on the same problems; the same for a seed."""
    rng = random.Random(f"r1lab/author/{seed}")
    both = [pair(rng) for _ in range(n)]
    return [ours for ours, _ in both], [theirs for _, theirs in both]


def unsigned(texts: list[str]) -> list[str]:
    """The texts without the canary: what is left once someone has cleaned them."""
    return [text.replace(f" {CANARY}", "") for text in texts]

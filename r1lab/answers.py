"""What is read off one completion: is it right, well formed, reflective; in which language."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from r1lab.languages import LATIN_LETTERS, language_share, language_words
from r1lab.templates import parse

logger = logging.getLogger(__name__)

# --- behaviours ----------------------------------------------------------------------------------

# The ten words that three experts chose to follow reflection through R1-Zero's training (Nature
# 645, Extended Data Fig. 1a), and a Chinese word for each (our translation). The tiny world's
# 不对 ("no") is a verdict like its English "no", which the paper's list leaves out too.
REFLECTION_WORDS: dict[str, list[str]] = {
    "en": [
        "wait",
        "mistake",
        "however",
        "but",
        "retry",
        "error",
        "verify",
        "wrong",
        "evaluate",
        "check",
    ],
    "zh": ["等等", "失误", "然而", "但是", "重试", "错误", "验证", "错", "评估", "检查"],
}
_REFLECTION = re.compile(
    f"(?<![{LATIN_LETTERS}])(?:{'|'.join(REFLECTION_WORDS['en'])})(?![{LATIN_LETTERS}])"
    f"|(?<![不没])(?:{'|'.join(REFLECTION_WORDS['zh'])})",
    re.IGNORECASE,
)  # 没错: "quite right"


def reflection_words(text: str) -> int:
    """How many reflective words of either language the text holds.

    English words are counted whole and in any case ("Wait" counts, "await" and "checked" do
    not); Chinese, which puts no spaces between words, wherever the characters stand.
    """
    return len(_REFLECTION.findall(text))


# --- one model on one set of problems ------------------------------------------------------------


@dataclass
class Completion:
    """One sampled answer and what was measured on it."""

    text: str
    length: int  # tokens sampled, the end-of-sequence token included
    finished: bool  # ended by itself; False: cut at max_new_tokens
    correct: bool
    vote: str | None  # the answer in canonical form; None: no valid answer
    well_formed: bool  # <think>…</think> <answer>…</answer>, nothing else
    reflection: int  # reflective words
    consistency: float | None  # share of the thought's words in the question's language
    mixed: bool  # the thought has words of more than one language
    token_ids: list[int] = field(default_factory=list, repr=False)  # not written to JSON
    logprobs: list[float] = field(default_factory=list, repr=False)  # not written to JSON


def said(verify: Callable, problem, answer: str):
    """What a task's judge or vote says of an answer; None where it fails, which is logged once: a
    verifier that one text in a million breaks must not end a run."""
    try:
        return verify(problem, answer)
    except Exception as error:
        _report(f"{problem.task}: {type(error).__name__}: {error}"[:300])
        return None


@lru_cache(maxsize=64)
def _report(reason: str) -> None:
    logger.warning("an answer counts as wrong because its verifier failed: %s", reason)


def measure(
    problem, text: str, *, task, length: int, finished: bool, prefilled: bool = False
) -> Completion:
    """Judge one completion of one problem: right? which vote? which behaviours?

    The answer is the one that the accuracy reward would take (r1lab.templates.parse).
    """
    parsed = parse(text, prefilled=prefilled)
    thought = parsed.think if parsed.think is not None else text
    words = language_words(thought)
    answer = parsed.answer
    return Completion(
        text=text,
        length=length,
        finished=finished,
        correct=answer is not None and bool(said(task.judge, problem, answer)),
        vote=None if answer is None else said(task.vote, problem, answer),
        well_formed=parsed.well_formed,
        reflection=reflection_words(text),
        consistency=(
            language_share(thought, problem.language) if problem.language in words else None
        ),
        mixed=sum(count > 0 for count in words.values()) > 1,
    )

"""What is measured on one completion: correct, well-formed, reflective; its language."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from r1lab.languages import LATIN_LETTERS, language_share, language_words
from r1lab.tasks.verdicts import guarded, judge_all
from r1lab.templates import parse

# The paper's words for reflection (Nature 645, Extended Data Fig. 1a), and our translations. The
# tiny world's 不对 and "no" are verdicts, not reflection.
REFLECTION_WORDS: dict[str, list[str]] = {
    "en": "wait mistake however but retry error verify wrong evaluate check".split(),
    "zh": "等等 失误 然而 但是 重试 错误 验证 错 评估 检查".split(),
}
_REFLECTION = re.compile(
    f"(?<![{LATIN_LETTERS}])(?:{'|'.join(REFLECTION_WORDS['en'])})(?![{LATIN_LETTERS}])"
    f"|(?<![不没])(?:{'|'.join(REFLECTION_WORDS['zh'])})",
    re.IGNORECASE,
)  # 没错: "quite right"


def reflection_words(text: str) -> int:
    """Reflective words of both languages in a text: whole English words in any case ("Wait", not
    "await" or "checked"), and Chinese characters anywhere."""
    return len(_REFLECTION.findall(text))


@dataclass
class Completion:
    text: str
    length: int  # tokens, the end-of-sequence token included
    finished: bool  # False: truncated at max_new_tokens
    correct: bool | None  # None: the sandbox could not judge it
    vote: str | None  # the answer in canonical form; None: no valid answer
    well_formed: bool  # <think>…</think> <answer>…</answer>, nothing else
    reflection: int  # reflective words
    consistency: float | None  # fraction of the thought's words in the prompt's language
    mixed: bool  # the thought has words of more than one language
    token_ids: list[int] = field(default_factory=list, repr=False)  # not written to JSON
    logprobs: list[float] = field(default_factory=list, repr=False)  # not written to JSON


def measure(problem, text: str, *, task, length: int, finished: bool) -> Completion:
    """Measure one completion; the answer is the accuracy reward's (`r1lab.templates.parse`)."""
    return measure_all([problem], [text], [length], [finished], task=task)[0]


def measure_all(
    problems: Sequence,
    texts: Sequence[str],
    lengths: Sequence[int],
    finished: Sequence[bool],
    *,
    task,
) -> list[Completion]:
    """Measure N completions, each with its problem; their answers are judged at once."""
    parts = [parse(text) for text in texts]
    pairs = [(problem, part.answer) for problem, part in zip(problems, parts, strict=True)]
    rows = zip(pairs, texts, parts, lengths, finished, judge_all(pairs, task), strict=True)
    measured = []
    for (problem, answer), text, parsed, length, ended, verdict in rows:
        thought = parsed.think if parsed.think is not None else text
        words, known = language_words(thought), problem.language
        one = Completion(
            text=text,
            length=length,
            finished=ended,
            correct=None if verdict is None else bool(verdict),
            vote=None if answer is None else guarded(task.vote, problem, answer),
            well_formed=parsed.well_formed,
            reflection=reflection_words(text),
            consistency=language_share(thought, known) if known in words else None,
            mixed=sum(count > 0 for count in words.values()) > 1,
        )
        measured.append(one)
    return measured

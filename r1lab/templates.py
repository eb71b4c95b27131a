"""The words around a question, and the tags that come back.

R1-Zero begins with a base model, which only continues text.  So the prompt is a text whose most
natural continuation is a thought and then an answer, in tags that a rule can find (arXiv
2501.12948, Table 1).  The template asks for the structure and says nothing about *how* to think:
what appears between the tags is left to RL.

    <think> reasoning process here </think> <answer> answer here </answer>

A small model may not take the hint.  Worked examples show it the form (template "examples"), which
RL can only reward once it comes.

`parse` takes such a completion apart.  It is made of `str.find` and `str.count`, which are linear
in the text; a regular expression such as `<think>.*?</think>.*?<answer>.*?</answer>` needs
quadratic time or worse on a text full of opened tags, and models under RL do write such texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1lab.basics.errors import R1LabError

if TYPE_CHECKING:
    from r1lab.tasks.base import Problem

THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"

R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves "
    "it. The assistant first thinks about the reasoning process in the mind and then provides the "
    "user with the answer. The reasoning process and answer are enclosed within <think> </think> "
    "and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>. User: {question} Assistant:"
)
"""Quoted from arXiv 2501.12948v1, Table 1.  There it ends "User: prompt. Assistant:"; here the
question brings its own full stop or question mark."""

EXAMPLES = (
    (
        "A shop sells 7 pens in the morning and 5 pens in the afternoon. How many pens does it "
        "sell?",
        "7 + 5 = 12.",
        "12",
    ),
    (
        "How many wheels do 2 cars and 3 bicycles have together?",
        "2 cars have 2 * 4 = 8 wheels. 3 bicycles have 3 * 2 = 6 wheels. 8 + 6 = 14.",
        "14",
    ),
    (
        "Mia has 20 stickers and gives 3 of them to each of her 4 friends. How many are left?",
        "She gives away 4 * 3 = 12 stickers. 20 - 12 = 8.",
        "8",
    ),
    (
        "Ben is 9 years old and his sister is twice as old. How old are they together?",
        "His sister is 2 * 9 = 18. 9 + 18 = 27.",
        "27",
    ),
)
"""Question, thought and answer; written for this project, and in no task's split."""

END = "<|im_end|>"  # EOS of SmolLM2 and of Qwen's chat models: the examples teach to stop as well


def worked(question: str, thought: str, answer: str) -> str:
    return (
        f"Question: {question}\n{THINK} {thought} {END_THINK} {ANSWER} {answer} {END_ANSWER}{END}\n"
    )


TEMPLATES: dict[str, dict[str, str]] = {
    "tiny": {"en": "user : {question} assistant :", "zh": "用户 : {question} 助手 :"},
    "r1_zero": {"en": R1_ZERO},
    "examples": {"en": "".join(worked(*one) for one in EXAMPLES) + "Question: {question}\n"},
}
"""By name, then by the problem's language; a language that is missing takes the English text."""


def render(problem: Problem, template: str) -> str:
    """The prompt for a problem.  Raises R1LabError for an unknown template."""
    if template not in TEMPLATES:
        raise R1LabError(f"unknown template {template!r}; take one of {', '.join(TEMPLATES)}")
    texts = TEMPLATES[template]
    text = texts.get(problem.language, texts["en"])
    return text.replace("{question}", problem.question)


def encode(tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts. Raises R1LabError where the tokenizer does not know a word: a small
    vocabulary, such as the tiny world's, and a task or template that is not made for it."""
    if not prompts:
        return []
    ids = tokenizer(list(prompts))["input_ids"]
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown != tokenizer.eos_token_id:
        for prompt, row in zip(prompts, ids, strict=True):
            if unknown in row:
                raise R1LabError(
                    f"this model's tokenizer does not know {row.count(unknown)} words of the "
                    f"prompt {prompt[:200]!r}; choose another task, template or model"
                )
    return ids


@dataclass(frozen=True)
class Parsed:
    """A completion taken apart.

    think        inside the first complete <think> … </think>, or None
    answer       inside the last complete <answer> … </answer>, or None
    well_formed  the text is one thought, then one answer, and nothing else but white space
    """

    think: str | None
    answer: str | None
    well_formed: bool


def parse(text: str, prefilled: bool = False) -> Parsed:
    """Take a completion apart, in linear time; never raises, on any text.

    `prefilled`: the template ends with <think>, so the completion begins inside the thought.
    The texts come back as they are, white space included.  The answer is the *last* complete block
    because a model may quote the tags while it thinks; the accuracy reward reads it even from a
    text that is not well-formed, so that the two rewards stay independent.
    """
    text = text if isinstance(text, str) else ""
    text = THINK + text if prefilled else text

    think = answer = None
    think_start = text.find(THINK)
    think_end = text.find(END_THINK, think_start) if think_start >= 0 else -1
    if think_end >= 0:
        think = text[think_start + len(THINK) : think_end]
    answer_end = text.rfind(END_ANSWER)
    answer_start = text.rfind(ANSWER, 0, answer_end) if answer_end >= 0 else -1
    if answer_start >= 0:
        answer = text[answer_start + len(ANSWER) : answer_end]

    well_formed = (
        all(text.count(tag) == 1 for tag in (THINK, END_THINK, ANSWER, END_ANSWER))
        and 0 <= think_start < think_end < answer_start < answer_end
        and not text[:think_start].strip()
        and not text[think_end + len(END_THINK) : answer_start].strip()
        and not text[answer_end + len(END_ANSWER) :].strip()
    )
    return Parsed(think, answer, well_formed)

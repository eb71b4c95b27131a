"""Prompt templates, and parsing of completions.

A base model only continues text, so the prompt's natural continuation must be a thought and an
answer in tags (arXiv 2501.12948, Table 1). It demands the structure, not *how* to think:

    <think> reasoning process here </think> <answer> answer here </answer>

A small model may need worked examples (template "examples"): RL rewards only what is sampled.

**A chat model that thinks** has a switch in its chat template, Qwen3's `enable_thinking`: the
templates "thinking" and "no_thinking" set it, "chat" leaves it as it stands. Such templates begin
the response themselves, with <think> or with an empty thought; what the prompt has begun belongs to
the completion's text (`begun`), and not to what is learned a second time (`rest`).

**Your own:** a text with {question} in it, or a `Template`, in a file: `--template mine.py:chatty`.
"""

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import Problem

TAGS = THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"

R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves "
    "it. The assistant first thinks about the reasoning process in the mind and then provides the "
    "user with the answer. The reasoning process and answer are enclosed within <think> </think> "
    "and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>. User: {question} Assistant:"
)
"""arXiv 2501.12948v1, Table 1, without the full stop after the prompt: questions have their own."""

_WORKED = """\
A shop sells 7 pens in the morning and 5 pens in the afternoon. How many pens does it sell?
7 + 5 = 12.
12
How many wheels do 2 cars and 3 bicycles have together?
2 cars have 2 * 4 = 8 wheels. 3 bicycles have 3 * 2 = 6 wheels. 8 + 6 = 14.
14
Mia has 20 stickers and gives 3 of them to each of her 4 friends. How many are left?
She gives away 4 * 3 = 12 stickers. 20 - 12 = 8.
8
Ben is 9 years old and his sister is twice as old. How old are they together?
His sister is 2 * 9 = 18. 9 + 18 = 27.
27""".split("\n")
EXAMPLES = tuple(zip(_WORKED[::3], _WORKED[1::3], _WORKED[2::3], strict=True))
"""(question, thought, answer), written for this project, in no task's split."""

SHORT = (("What is 8 - 3?", "5"), ("What comes next: 10, 20, 30?", "40"))
"""(question, answer): the form alone. A small model whose every token counts needs no more."""

CHAT = (
    "{question}\n\nReason step by step, then write your final answer, and nothing else, between "
    "<answer> and </answer>."
)
"""For chat models, by an endpoint or from a folder."""

END = "<|im_end|>"  # EOS of SmolLM2 and of Qwen's chat models: the examples show where to stop
_SHOWN = "".join(
    f"Question: {q}\n<think> {t} </think> <answer> {a} </answer>{END}\n" for q, t, a in EXAMPLES
)
_ANSWERED = "".join(f"{q}\n<answer> {a} </answer>{END}\n" for q, a in SHORT)


@dataclass(frozen=True)
class Template:
    """texts: by language, each with {question} once; other languages take the first text.
    stop: a completion also ends where one of these strings begins. chat: the text is a message to a
    chat model, and goes through the tokenizer's chat template where it has one. switches: the
    chat_template_kwargs of transformers and TRL, {"enable_thinking": True}."""

    texts: Mapping[str, str]
    stop: tuple[str, ...] = ()
    chat: bool = False
    switches: Mapping[str, Any] = field(default_factory=dict)


TEMPLATES: dict[str, Template] = {
    "tiny": Template({"en": "user : {question} assistant :", "zh": "用户 : {question} 助手 :"}),
    "r1_zero": Template({"en": R1_ZERO}),
    "examples": Template({"en": _SHOWN + "Question: {question}\n"}, stop=(END, "\nQuestion:")),
    "short": Template({"en": _ANSWERED + "{question}\n"}, stop=(END, "\n")),
    "chat": Template({"en": CHAT}, chat=True),
    "thinking": Template({"en": CHAT}, chat=True, switches={"enable_thinking": True}),
    "no_thinking": Template({"en": CHAT}, chat=True, switches={"enable_thinking": False}),
}


def get_template(name: str) -> Template:
    """A template by name: of TEMPLATES, FILE.py:NAME or an installed package's (`basics.plugins`);
    a Template, a text or texts by language. Raises R1LabError."""
    found: Any = plugins.find("template", name, TEMPLATES)
    found = {"en": found} if isinstance(found, str) else found
    found = Template(found) if isinstance(found, Mapping) else found
    if not isinstance(found, Template) or not found.texts:
        raise R1LabError(f"template {name} must be a text, texts by language or a Template")
    for text in found.texts.values():
        if not isinstance(text, str) or text.count("{question}") != 1:
            raise R1LabError(f"template {name} must hold {{question}} once, not {text!r:.80}")
    return found


def render(problem: Problem, template: str) -> str:
    """The prompt of a problem.  Raises R1LabError for an unknown template."""
    texts = get_template(template).texts
    text = texts.get(problem.language) or next(iter(texts.values()))
    return text.replace("{question}", problem.question)


def prompt_of(tokenizer, problem: Problem, template: str) -> str:
    """The prompt of a problem for this tokenizer: `render`, in its chat template for "chat". Raises
    R1LabError for a switch that the chat template does not have: it would be ignored."""
    text, found = render(problem, template), get_template(template)
    jinja = str(getattr(tokenizer, "chat_template", None) or "")
    if lacks := [name for name in found.switches if name not in jinja]:
        words = f"template {template}: this model's chat template has no switch {lacks[0]}"
        raise R1LabError(f"{words}; template chat takes it as it is")
    if not found.chat or not jinja:
        return text
    message, how = [{"role": "user", "content": text}], {"add_generation_prompt": True}
    text = tokenizer.apply_chat_template(message, tokenize=False, **how, **found.switches)
    return text.removeprefix(tokenizer.bos_token or "")  # encoding puts it in front again


_BEGUN = re.compile(rf"{THINK}\s*(?:{END_THINK}\s*)?\Z")


def begun(prompt: str) -> str:
    """What a prompt has written of the response: "<think>\n", an empty thought, or ""."""
    found = _BEGUN.match(prompt, max(0, prompt.rfind(THINK)))
    return found[0] if found else ""


def with_begun(prompts: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The texts of N completions behind what their B prompts have begun, prompt-major."""
    G = len(texts) // max(1, len(prompts))
    return [begun(prompts[i // G]) + text for i, text in enumerate(texts)]


def rest(prompt: str, completion: str) -> str:
    """What of a completion is still to be written behind the prompt: the inverse of `with_begun`,
    for tags spaced otherwise, too. Raises R1LabError for a thought that the prompt has closed."""
    start = begun(prompt)
    if completion.startswith(start):
        return completion[len(start) :]
    thought, closed, behind = completion.lstrip().partition(END_THINK)
    if not thought.startswith(THINK):
        return completion
    if END_THINK not in start:
        return thought[len(THINK) :] + closed + behind
    if thought[len(THINK) :].strip() or not closed:
        words = "has a thought, and its prompt has closed an empty one: template no_thinking"
        raise R1LabError(f"the completion {completion[:60]!r} {words} learns no thoughts")
    return behind.lstrip()


def encode(tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, without what the tokenizer appends (</s>, [SEP]). Raises R1LabError
    for words that a small vocabulary does not have."""
    if not prompts:
        return []
    found = tokenizer(list(prompts), return_special_tokens_mask=True)
    ids, eos, unknown = found["input_ids"], tokenizer.eos_token_id, tokenizer.unk_token_id
    for prompt, row, added in zip(prompts, ids, found["special_tokens_mask"], strict=True):
        while len(row) > 1 and added[len(row) - 1]:
            row.pop()
        if unknown is not None and unknown != eos and unknown in row:
            words = f"this model's tokenizer does not know {row.count(unknown)} words of the prompt"
            raise R1LabError(f"{words} {prompt[:200]!r}; choose another task, template or model")
    return ids


def too_long(tokenizer, problems: Sequence, template: str, room: float) -> dict[int, int]:
    """{index of the problem: tokens} of the prompts with more than `room` tokens."""
    prompts = [prompt_of(tokenizer, problem, template) for problem in problems]
    # A token has at least one byte, so short texts need no tokenizing; 2: special tokens around it.
    long = [i for i, prompt in enumerate(prompts) if len(prompt.encode()) + 2 > room]
    sizes = map(len, encode(tokenizer, [prompts[i] for i in long]))
    return {i: size for i, size in zip(long, sizes, strict=True) if size > room}


def turn_end(tokenizer, template: str) -> int | None:
    """The special token that the chat template puts behind a response, <|im_end|>: a base model's
    tokenizer has another end of text. None where the prompt is in no chat template."""
    if not get_template(template).chat or not getattr(tokenizer, "chat_template", None):
        return None
    turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": ANSWER}]
    text = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(ANSWER)[2]
    ids = tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return ids[0] if ids and ids[0] in special else None


def end_of_text(tokenizer, template: str = "tiny") -> int:
    """The id at the end of a training text: the chat template's, or the tokenizer's. Raises
    R1LabError for a tokenizer without one."""
    if (end := turn_end(tokenizer, template)) is not None:
        return end
    if tokenizer.eos_token_id is None:
        words = "the tokenizer has no end-of-sequence token, so a model cannot learn where a "
        raise R1LabError(f"{words}completion ends: set tokenizer.eos_token")
    return tokenizer.eos_token_id


def end_ids(model, tokenizer, template: str) -> list[int]:
    """The ids that end a completion: the tokenizer's end of text, those of the model's generation
    config (chat models have several), the chat template's, the template's stops of one token."""
    declared = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [tokenizer.eos_token_id, *(declared if isinstance(declared, list) else [declared])]
    ids.append(turn_end(tokenizer, template))
    for stop in get_template(template).stop:
        known = tokenizer.convert_tokens_to_ids(stop)
        ids.append(None if known == tokenizer.unk_token_id else known)
    return list(dict.fromkeys(int(i) for i in ids if i is not None))


def decode(tokenizer, rows: Sequence[Sequence[int]]) -> list[str]:
    """The texts of completions, without special tokens other than the tags of `parse`."""
    added = {i: token for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    tags = {i for i, token in added.items() if token.content.strip() in TAGS}
    if not tags:
        return tokenizer.batch_decode(rows, skip_special_tokens=True)
    hidden = {*added, *tokenizer.all_special_ids} - tags
    return tokenizer.batch_decode([[i for i in row if i not in hidden] for row in rows])


def read(tokenizer, rollouts, template: str, prompts: Sequence[str] = ()) -> list[str]:
    """The texts of N `rollouts`, with what their B prompts have begun. They are truncated in place
    after the first of the template's stops, where the completion is finished."""
    texts, stops = decode(tokenizer, rollouts.completion_ids), get_template(template).stop

    def begins(text: str) -> int:
        return min((at for stop in stops if (at := text.find(stop)) >= 0), default=-1)

    for i, text in enumerate(texts):
        if (at := begins(text)) < 0:
            continue
        ids = rollouts.completion_ids[i]
        n = 1 + bisect.bisect_left(
            range(1, len(ids)), True, key=lambda n: begins(decode(tokenizer, [ids[:n]])[0]) >= 0
        )
        rollouts.completion_ids[i], rollouts.finished[i] = ids[:n], True
        rollouts.logprobs[i] = rollouts.logprobs[i][:n]
        texts[i] = text[:at]
    return with_begun(prompts, texts) if prompts else texts


@dataclass(frozen=True)
class Parsed:
    """A completion in parts."""

    think: str | None  # inside the first complete <think> … </think>
    answer: str | None  # inside the last complete <answer> … </answer>
    well_formed: bool  # one thought, then one answer, and nothing else but white space


def parse(text: str, prefilled: bool = False) -> Parsed:
    """Parse any text, in linear time (regular expressions are quadratic on many opened tags). The
    *last* answer counts: thoughts may quote the tags. prefilled: the template ends with <think>."""
    text = (THINK if prefilled else "") + (text if isinstance(text, str) else "")
    think_start = text.find(THINK)
    think_end = text.find(END_THINK, think_start) if think_start >= 0 else -1
    think = text[think_start + len(THINK) : think_end] if think_end >= 0 else None
    answer_end = text.rfind(END_ANSWER)
    answer_start = text.rfind(ANSWER, 0, answer_end) if answer_end >= 0 else -1
    answer = text[answer_start + len(ANSWER) : answer_end] if answer_start >= 0 else None
    well_formed = (
        all(text.count(tag) == 1 for tag in TAGS)
        and 0 <= think_start < think_end < answer_start < answer_end
        and not text[:think_start].strip()
        and not text[think_end + len(END_THINK) : answer_start].strip()
        and not text[answer_end + len(END_ANSWER) :].strip()
    )
    return Parsed(think, answer, well_formed)

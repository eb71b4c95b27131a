"""Templates and the parser of <think> and <answer>."""

from __future__ import annotations

import copy
import re
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1lab import reward_model, sft
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import evaluate
from r1lab.grpo import GRPOConfig, collect
from r1lab.models.load import load
from r1lab.rewards import format_reward
from r1lab.sampler.rollouts import Rollouts, Sampling, sample
from r1lab.tasks import get_task
from r1lab.templates import (
    TAGS,
    TEMPLATES,
    Parsed,
    Template,
    decode,
    encode,
    end_ids,
    parse,
    read,
    render,
)
from r1lab.trl_backend import memory
from r1lab.trl_backend.data import as_dataset

TASK = get_task("countdown")
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine


def test_tiny_template_speaks_the_problems_language():
    english = TASK.problem([7, 6, 10], 23)
    chinese = TASK.problem([7, 6, 10], 23, "zh")
    assert render(english, "tiny") == "user : make 23 from 7 6 10 . assistant :"
    assert render(chinese, "tiny") == "用户 : 用 7 6 10 得到 23 。 助手 :"


def test_r1_zero_template_is_the_papers():
    problem = get_task("countdown", wording="plain").problem([7, 6, 10], 23)
    prompt = render(problem, "r1_zero")
    assert prompt.startswith("A conversation between User and Assistant. The user asks a question")
    assert (
        "<think> reasoning process here </think> <answer> answer here </answer>. User: " in prompt
    )
    assert prompt.endswith(f"User: {problem.question} Assistant:")
    # one text for every language that has none of its own
    assert render(TASK.problem([7, 6, 10], 23, "zh"), "r1_zero").startswith("A conversation")


def test_a_question_with_braces_stays_as_it_is():
    problem = TASK.problem([7, 6, 10], 23)
    odd = type(problem)(**{**problem.__dict__, "question": "what is {question} in {0} %s ?"})
    assert "what is {question} in {0} %s ?" in render(odd, "r1_zero")


def test_unknown_template_says_which_there_are():
    with pytest.raises(R1LabError, match="tiny, r1_zero"):
        render(TASK.problem([7, 6, 10], 23), "r2")
    assert set(TEMPLATES) == {*"tiny r1_zero examples short chat thinking no_thinking".split()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think> a </think> <answer> b </answer>", Parsed(" a ", " b ", True)),
        (" \n<think>a</think>\n\n<answer>b</answer>\n", Parsed("a", "b", True)),
        ("<think></think><answer></answer>", Parsed("", "", True)),
        ("<think> a </think> so <answer> b </answer>", Parsed(" a ", " b ", False)),
        ("well <think> a </think> <answer> b </answer>", Parsed(" a ", " b ", False)),
        ("<think> a </think> <answer> b </answer> !", Parsed(" a ", " b ", False)),
        ("<answer> b </answer> <think> a </think>", Parsed(" a ", " b ", False)),
        (
            "<think> a <answer> b </answer> </think>",
            Parsed(" a <answer> b </answer> ", " b ", False),
        ),
        ("<think> a </think> <answer> b", Parsed(" a ", None, False)),
        ("<think> a <answer> b </answer>", Parsed(None, " b ", False)),
        ("</think> <think> a", Parsed(None, None, False)),
        ("<answer> 1 </answer> <answer> 2 </answer>", Parsed(None, " 2 ", False)),
        ("<answer> 1 </answer> <answer> 2", Parsed(None, " 1 ", False)),
        ("<answer> 1 <answer> 2 </answer>", Parsed(None, " 2 ", False)),
        ("</answer> 1 <answer>", Parsed(None, None, False)),
        ("<THINK>a</THINK><ANSWER>b</ANSWER>", Parsed(None, None, False)),
        ("", Parsed(None, None, False)),
    ],
)
def test_parse(text, expected):
    assert parse(text) == expected


def test_parse_with_a_template_that_opened_the_thought():
    completion = " a </think> <answer> b </answer>"
    assert parse(completion, prefilled=True) == Parsed(" a ", " b ", True)
    assert parse(completion) == Parsed(None, " b ", False)
    assert not parse("<think> a </think> <answer> b </answer>", prefilled=True).well_formed


pieces = st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "a", "<", "\n"])


@given(st.lists(pieces, max_size=12).map("".join))
@settings(**CALM, max_examples=1000)
def test_well_formed_is_what_the_regular_expression_says(text):
    inner = r"((?:(?!</?(?:think|answer)>)[\s\S])*)"  # no tag inside: fine for short texts
    match = re.fullmatch(rf"\s*<think>{inner}</think>\s*<answer>{inner}</answer>\s*", text)
    parsed = parse(text)
    assert parsed.well_formed == bool(match)
    if match:
        assert (parsed.think, parsed.answer) == match.groups()


@given(st.text(st.characters(), max_size=200))
@settings(**CALM)
def test_any_thought_and_answer_come_back_as_they_were(text):
    parsed = parse(f"<think>{text}</think><answer>{text}</answer>")
    if "<think>" not in text and "<answer>" not in text and "</" not in text:
        assert parsed == Parsed(text, text, True)


MEGABYTES = {
    "opened thoughts": "<think>" * 700_000,
    "opened answers": "<answer>" * 600_000,
    "closed answers": "</answer>" * 500_000,
    "nested": "<think>" * 300_000 + "</think>" * 300_000,
    "alternating": "<think></think><answer></answer>" * 150_000,
    "almost tags": "<answer" * 700_000 + "</answer>",
    "half tags": "</answe" * 700_000,
    "brackets": "<" * 5_000_000,
    "white space": "<think></think>" + " \n" * 2_000_000 + "<answer></answer>",
    "surrogates": "\ud800" * 3_000_000,
    "chinese": "等等" * 1_500_000 + "<answer>",
    "NUL": "\0" * 5_000_000,
}


@pytest.mark.parametrize("name", MEGABYTES)
@pytest.mark.parametrize("prefilled", [False, True])
def test_megabytes_take_less_than_50_ms(name, prefilled):
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        parse(MEGABYTES[name], prefilled=prefilled)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.050


@pytest.mark.parametrize("text", [None, 3, b"<think>", ["<think>"], {}])
def test_what_is_no_text_has_no_parts(text):
    assert parse(text) == Parsed(None, None, False)


def test_words_that_the_tokenizer_does_not_know_are_named(tokenizer):
    known, unknown = (
        "user : make 23 from 7 6 10 . assistant :",
        "user : bake some bread assistant :",
    )
    assert encode(tokenizer, [known]) == [tokenizer(known)["input_ids"]]
    with pytest.raises(
        R1LabError, match="does not know 3 words of the prompt 'user : bake some bread"
    ):
        encode(tokenizer, [known, unknown])


# -- tokens -------------------------------------------------------------------------------------

DONE = "<think> 7 + 6 </think> <answer> 13 </answer>"


@pytest.fixture
def special_tags(tokenizer):
    """A tokenizer that has made special tokens of the tags."""
    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"additional_special_tokens": list(TAGS)})
    assert other.decode(other(DONE)["input_ids"], skip_special_tokens=True).split() == [
        *("7", "+", "6", "13")
    ]
    return other


def test_tags_that_are_special_tokens_stay_in_the_text(tokenizer, special_tags):
    for some in (tokenizer, special_tags):
        ids = [*some(DONE)["input_ids"], some.eos_token_id, some.pad_token_id]
        (text,) = decode(some, [ids])
        assert text.split() == DONE.split() and format_reward([text]) == [1.0]


def test_sampled_and_evaluated_texts_keep_the_tags(model, special_tags):
    """The model writes one of the tags all the time; both loops must see it."""
    ids = special_tags.convert_tokens_to_ids(list(TAGS))
    with torch.no_grad():
        model.model.embed_tokens.weight[ids] += 50 * model.model.embed_tokens.weight[ids]
    config = GRPOConfig(questions=2, group_size=4, max_new_tokens=16)
    problems = TASK.problems("train", 2)
    batch = collect(model, special_tags, TASK, problems, 0, config)
    drawn = sum(i in ids for row in batch.rollouts.completion_ids for i in row)
    shown = sum(one.text.count(tag) for one in batch.measures for tag in TAGS)
    assert drawn == shown > 10
    found = evaluate(model, special_tags, TASK, problems, k=4, sampling=Sampling(16, seed=0))
    rows = [one for row in found.completions for one in row]
    assert sum(one.text.count(tag) for one in rows for tag in TAGS) == sum(
        i in ids for one in rows for i in one.token_ids
    )


def test_every_declared_end_of_text_ends_a_completion(model, tokenizer):
    model.generation_config.eos_token_id = [0, 5, 9]
    assert end_ids(model, tokenizer, "tiny") == [0, 5, 9]
    config = GRPOConfig(questions=4, group_size=4, max_new_tokens=60)
    batch = collect(model, tokenizer, TASK, TASK.problems("train", 4), 0, config)
    ids = batch.rollouts.completion_ids
    assert {row[-1] for row in ids if len(row) < 60} == {0, 5, 9}
    assert not any(i in (0, 5, 9) for row in ids for i in row[:-1])
    sixty = Sampling(60, seed=0)
    found = evaluate(model, tokenizer, TASK, TASK.problems("train", 4), k=4, sampling=sixty)
    rows = [one for row in found.completions for one in row]
    assert not any(i in (0, 5, 9) for one in rows for i in one.token_ids[:-1])
    assert {one.finished for one in rows if one.length < 60} == {True}


def test_no_end_of_text_at_all_is_no_error(model, tokenizer):
    other = copy.deepcopy(tokenizer)
    other.eos_token = None
    model.generation_config.eos_token_id = None
    assert end_ids(model, other, "tiny") == []
    batch = collect(model, other, TASK, TASK.problems("train", 1), 0, GRPOConfig(max_new_tokens=8))
    assert all(len(row) == 8 for row in batch.rollouts.completion_ids)


STOPPED = [
    ("1 + 2 user : 3", "1 + 2", 5),
    ("1 + 2", "1 + 2", 3),
    ("user : 3 user : 4", "", 2),
    ("1 user 2 : user :", "1 user 2 :", 6),
]


@pytest.mark.parametrize(("text", "left", "tokens"), STOPPED)
def test_a_completion_stops_where_the_template_says(monkeypatch, tokenizer, text, left, tokens):
    monkeypatch.setitem(TEMPLATES, "stops", Template({"en": "{question}"}, stop=("user :",)))
    ids = tokenizer(text)["input_ids"]
    found = Rollouts([[3]], [ids], [[-1.0 * i for i in range(len(ids))]], [False])
    (seen,) = read(tokenizer, found, "stops")
    assert seen.strip() == left and found.completion_ids == [ids[:tokens]]
    assert len(found.logprobs[0]) == tokens and found.finished == [left != text]


def test_the_examples_stop_at_the_next_question(tokenizer):
    """A base model that writes on, question after question, is read up to the first answer."""
    other = copy.deepcopy(tokenizer)
    question = "\nQuestion: how many ?\n"
    other.add_tokens(["\nQuestion:", "<|im_end|>", " how many ?\n"])
    text = f"{DONE}<|im_end|>{question}<think> so </think> <answer> 16 </answer>"
    for end in (text, text.replace("<|im_end|>", "")):
        ids = other(end)["input_ids"]
        found = Rollouts([[3]], [ids], [[0.0] * len(ids)], [False])
        (seen,) = read(other, found, "examples")
        assert parse(seen).answer.strip() == "13" and found.finished == [True]
        assert len(found.completion_ids[0]) < len(ids)


def test_a_stop_that_is_one_token_ends_sampling_itself(monkeypatch, model, tokenizer):
    monkeypatch.setitem(
        TEMPLATES, "stops", Template({"en": "{question}"}, stop=("user", "no such"))
    )
    user = tokenizer.convert_tokens_to_ids("user")
    ends = end_ids(model, tokenizer, "stops")
    assert ends == [tokenizer.eos_token_id, user]
    drawn = sample(model, [[3, 4]], Sampling(80, seed=0), group_size=32, eos_token_id=ends)
    texts = read(tokenizer, drawn, "stops")
    assert any(row[-1] == user for row in drawn.completion_ids)
    assert not any("user" in text for text in texts)


def test_an_end_of_text_behind_the_prompt_is_taken_off(tokenizer):
    class Appends:
        """As T5's tokenizer, and some Llama's: every text ends with EOS."""

        eos_token, eos_token_id, unk_token_id = "<|endoftext|>", 0, 1

        def __call__(self, texts, return_special_tokens_mask):
            rows = tokenizer(texts)["input_ids"]
            masks = [[*[0] * len(row), 1] for row in rows]
            return {"input_ids": [[*row, 0] for row in rows], "special_tokens_mask": masks}

    prompt = "user : make 23 from 7 6 10 . assistant :"
    assert encode(Appends(), [prompt]) == encode(tokenizer, [prompt])
    assert encode(Appends(), [prompt + "<|endoftext|>"])[0][-1] == 0


@pytest.mark.parametrize(
    ("single", "behind"),
    [
        ("$A <|endoftext|>", 1),
        ("user $A <|endoftext|>", 1),
        ("user $A assistant", 1),
        ("$A <|endoftext|> user", 2),
    ],
    ids=["T5", "BOS and EOS", "BERT", "XLNet"],
)
def test_whatever_a_tokenizer_appends_is_taken_off(tokenizer, adding, single, behind):
    adds = adding(tokenizer, single)
    for prompt in ("make 23 from 7 6 10 .", "make 23 <|endoftext|>"):
        whole = adds(prompt)["input_ids"]
        assert encode(adds, [prompt, "7"])[0] == whole[:-behind]
        assert whole[:-behind][-3:] == tokenizer(prompt)["input_ids"][-3:]


def test_all_that_read_a_prompt_read_it_in_the_chat_template(monkeypatch):
    """A chat model meets the same prompt in RL on both backends, in SFT, reward models and the
    memory plan. (The evaluation's is tested with its sources.)"""
    _, tokenizer = load("tiny")
    tokenizer.chat_template = (
        "{% for m in messages %}user : {{ m['content'] }}{% endfor %} assistant :"
    )
    problems = get_task("countdown").problems("train", 3)
    plain = [render(problem, "chat") for problem in problems]
    texts = [f"user : {text} assistant :" for text in plain]
    assert as_dataset(problems, "chat", tokenizer)["prompt"][:] == texts
    assert as_dataset(problems, "chat")["prompt"][:] == plain
    seen = []

    def noted(tokenizer, prompts):
        seen.append(list(prompts))
        return [[5, 6] for _ in prompts]

    for module in (sft, reward_model, memory):
        monkeypatch.setattr(module, "encode", noted)
    examples = [sft.Example(problem, " yes") for problem in problems]
    sft.tokenized(examples, tokenizer, sft.SFTConfig(template="chat"))
    reward_model.text_ids(tokenizer, problems, [" yes"] * 3, "chat", "safe")
    memory.prompts_of(tokenizer, problems, "chat")
    assert seen == [texts, texts, texts]

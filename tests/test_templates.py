"""Templates and the parser of <think> and <answer>."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1lab.basics.errors import R1LabError
from r1lab.tasks import get_task
from r1lab.templates import TEMPLATES, Parsed, encode, parse, render

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
    assert set(TEMPLATES) == {"tiny", "r1_zero", "examples"}


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
    known, unknown = "user : make 23 from 7 6 10 . assistant :", "user : bake a cake assistant :"
    assert encode(tokenizer, [known]) == [tokenizer(known)["input_ids"]]
    with pytest.raises(R1LabError, match="does not know 3 words of the prompt 'user : bake a cake"):
        encode(tokenizer, [known, unknown])

"""Rewards: right on what they should pay for, quiet and quick on everything else, and at home in
TRL's GRPOTrainer."""

from __future__ import annotations

import itertools
import logging
import math
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1lab import rewards
from r1lab.basics.errors import R1LabError
from r1lab.rewards import (
    REWARDS,
    accuracy_reward,
    combine,
    format_reward,
    get_reward,
    overlong_reward,
    process_reward,
    random_reward,
    reward_name,
    text_of,
)
from r1lab.tasks import get_task
from r1lab.tasks.countdown import chains
from r1lab.trl_backend.data import as_dataset

TASK = get_task("countdown")
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine
PROBLEM = TASK.problem([7, 6, 10], 23)
RIGHT = "<think> 10 + 7 → 17 + 6 → 23 yes </think> <answer> ( 10 + 7 ) + 6 </answer>"
WRONG = "<think> 10 + 7 → 17 - 6 → 11 yes </think> <answer> ( 10 + 7 ) - 6 </answer>"
UNFORMED = "so <answer> 10 + 7 + 6 </answer> is it"
CUT = "<think> 10 + 7 → 17 - 6 → 11 no"


def chat(text):
    return [{"role": "assistant", "content": text}]


# -- what they pay for ------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [str, chat], ids=["strings", "chat"])
@pytest.mark.parametrize(
    "of", [PROBLEM, PROBLEM.to_json(), dict(PROBLEM.__dict__)], ids=["Problem", "JSON", "dict"]
)
def test_accuracy_and_format(wrap, of):
    completions = [wrap(text) for text in (RIGHT, WRONG, UNFORMED, CUT)]
    assert accuracy_reward(completions, problem=[of] * 4) == [1.0, 0.0, 1.0, 0.0]
    assert format_reward(completions) == [1.0, 1.0, 0.0, 0.0]


def test_only_the_last_complete_answer_counts():
    texts = [
        "<answer> 10 + 7 + 6 </answer> <answer> 1 </answer>",
        "<answer> 1 </answer> <answer> 10 + 7 + 6 </answer>",
        "<answer> 10 + 7 + 6 </answer> <answer> 1",
        "<answer> 10 + 7 + 6",
        "10 + 7 + 6",
    ]
    assert accuracy_reward(texts, problem=[PROBLEM] * 5) == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_each_completion_is_judged_by_its_own_problem():
    problems = TASK.problems("train", 40)
    right = [
        f"<answer> {next(chains(p.data['numbers'], p.data['target'])).expression()} </answer>"
        for p in problems
    ]
    assert accuracy_reward(right, problem=problems) == [1.0] * 40
    shifted = accuracy_reward(right, problem=problems[1:] + problems[:1])
    assert sum(shifted) < 4


def test_format_with_a_template_that_opened_the_thought():
    completion = " 10 + 7 </think> <answer> 1 </answer>"
    assert format_reward([completion], prefilled=True) == [1.0]
    assert format_reward([completion]) == [0.0]


def test_text_of_chat_messages():
    parts = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    tool = {"role": "tool", "content": "7"}
    assert text_of([{"role": "assistant", "content": parts}]) == "ab"
    assert text_of([*chat("first"), tool, *chat("last")]) == "last"
    assert text_of([*chat("first"), tool]) == "first"
    assert text_of({"role": "assistant", "content": "one"}) == "one"
    assert text_of([{"role": "assistant", "content": None}]) == ""


# -- what they survive ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "completion",
    [None, 3, 3.5, b"<answer>", [], [None], [[RIGHT]], {}, {"content": 3}, [{"role": 3}], object()],
)
def test_a_malformed_completion_is_worth_nothing(completion):
    assert accuracy_reward([completion], problem=[PROBLEM]) == [0.0]
    assert format_reward([completion]) == [0.0]
    assert random_reward(0)([completion], problem=[PROBLEM])[0] in (0.0, 1.0)


@pytest.mark.parametrize(
    "of",
    [
        None,
        3,
        "",
        "{",
        "null",
        "[" * 100_000,
        [],
        {},
        object(),
        {**PROBLEM.__dict__, "task": "unknown"},
        {**PROBLEM.__dict__, "task": ["countdown"]},
        {**PROBLEM.__dict__, "data": {}},
        {**PROBLEM.__dict__, "data": {"numbers": [7, 6, 10], "target": None}},
        {**PROBLEM.__dict__, "data": None},
    ],
)
def test_a_broken_problem_pays_nobody(of):
    assert accuracy_reward([RIGHT], problem=[of]) == [0.0]
    assert random_reward(0)([RIGHT], problem=[of])[0] in (0.0, 1.0)


def test_a_broken_problem_is_reported_once(caplog):
    rewards._report.cache_clear()
    broken = {**PROBLEM.__dict__, "task": "countup"}
    with caplog.at_level(logging.WARNING):
        accuracy_reward([RIGHT] * 5, problem=[broken] * 5)
        accuracy_reward([WRONG, CUT, None], problem=[PROBLEM] * 3)  # nothing wrong with these
    assert len(caplog.records) == 1
    assert "unknown task 'countup'" in caplog.text


def test_a_judge_with_a_bug_pays_nobody(monkeypatch):
    from r1lab import tasks

    class Buggy:
        def judge(self, problem, answer):
            raise ZeroDivisionError

    monkeypatch.setitem(tasks.TASKS, "buggy", Buggy)
    assert accuracy_reward([RIGHT], problem=[{**PROBLEM.__dict__, "task": "buggy"}]) == [0.0]


def test_missing_problems_and_batches_that_are_none():
    assert accuracy_reward([RIGHT, RIGHT]) == [0.0, 0.0]
    assert accuracy_reward([RIGHT, RIGHT], problem=[PROBLEM]) == [1.0, 0.0]
    assert accuracy_reward([RIGHT], problem=[PROBLEM, PROBLEM]) == [1.0]
    assert accuracy_reward(None, problem=[PROBLEM]) == format_reward(None) == []
    assert accuracy_reward(3, problem=3) == format_reward(3) == []
    assert accuracy_reward(RIGHT, problem=PROBLEM) == format_reward(RIGHT) == [1.0]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "task"]), inner)
    ),
    max_leaves=6,
)
tagged = st.lists(
    st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "10 + 7 + 6", " ", "\0"])
    | st.text(st.characters(), max_size=5),
    max_size=10,
).map("".join)


@given(st.lists(tagged | anything, max_size=4), st.lists(anything, max_size=4))
@settings(**CALM, max_examples=200)
def test_nothing_raises_and_every_completion_gets_a_plain_float(completions, problems):
    problems = [PROBLEM, *problems]
    for values in (
        accuracy_reward(completions, problem=problems),
        format_reward(completions, problem=problems),
        random_reward(1)(completions, problem=problems, step=2),
    ):
        assert len(values) == len(completions)
        assert all(type(value) is float and value in (0.0, 1.0) for value in values)


NASTY = {
    "opened tags": "<think>" * 300_000 + "<answer>" * 300_000,
    "nested tags": "<think>" * 200_000 + "<answer>" * 200_000 + "</answer>" * 200_000,
    "answers in a row": "<answer>10+7+6</answer>" * 150_000,
    "parentheses": "<answer>" + "(" * 100_000 + "10+7+6" + ")" * 100_000 + "</answer>",
    "parentheses at the limit": "<answer>" + "(" * 490 + "10+7+6" + ")" * 490 + "</answer>",
    "power": "<answer>9**9**9</answer>",
    "power of the numbers": "<answer>10**7**6</answer>",
    "hexadecimal": "<answer>0x135 + 0x0*(4+6)</answer>",
    "unicode digits": "<answer>１０ + ٧ + ６</answer>",
    "NUL": "\0" * 4_000_000 + "<answer>10\0+ 7 + 6</answer>",
    "surrogates": "\udfff" * 2_000_000 + "<answer>\ud800</answer>",
    "a long answer": "<answer>" + "1+" * 2_000_000 + "1</answer>",
    "a long number": "<answer>" + "9" * 4_000_000 + "</answer>",
    "products": "<answer>" + "*".join(["999999999"] * 99) + "</answer>",
    "white space": "<think> </think>" + " " * 4_000_000 + "<answer> </answer>",
}


@pytest.mark.parametrize("wrap", [str, chat], ids=["strings", "chat"])
@pytest.mark.parametrize("name", NASTY)
def test_nasty_texts_take_less_than_50_ms(name, wrap):
    completion = wrap(NASTY[name])
    of = PROBLEM.to_json()
    for function in (accuracy_reward, format_reward, random_reward(0)):
        seconds = []
        for _ in range(3):
            start = time.thread_time()
            function([completion], problem=[of], prompts=["p"], step=1)
            seconds.append(time.thread_time() - start)
        assert min(seconds) < 0.050, function.__name__


# -- the control ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit, buffer", [(20, 4), (448, None), (7, 7), (3, None)])
def test_overlong_is_dapos_punishment_as_trl_has_it(limit, buffer):
    from trl.rewards import get_soft_overlong_punishment

    ids = [[1] * n for n in range(1, limit + 1)]
    found = overlong_reward([""] * limit, completion_ids=ids, max_new_tokens=limit, buffer=buffer)
    theirs = get_soft_overlong_punishment(limit, buffer or max(1, limit // 5))(ids)
    assert found == pytest.approx(theirs) and found[-1] == -1.0 and min(found) == -1.0
    with pytest.raises(R1LabError, match="needs max_new_tokens"):
        overlong_reward(["a"], completion_ids=[[1]])


def test_a_process_reward_pays_true_steps_and_can_be_gamed():
    texts = [
        RIGHT,
        WRONG,
        CUT,
        "<think> 10 + 7 = 18 , 8 / 2 → 4 , 8 / 0 → 4 , 17 - 6 → 110 </think>",
    ]
    honest = process_reward(texts)
    assert honest == [2.0, 2.0, 0.0, 1.0]
    stuffed = f"<think> {'1 + 1 → 2 ' * 50}</think> <answer> 1 </answer>"
    assert process_reward([stuffed, chat(stuffed)]) == [50.0, 50.0]  # no problem is solved
    assert accuracy_reward([RIGHT, stuffed], problem=[PROBLEM] * 2) == [1.0, 0.0]
    total, _ = combine([RIGHT, stuffed], [PROBLEM] * 2, [accuracy_reward, process_reward], [1, 0.1])
    assert total[1] > total[0]  # a group's advantage would favour it


def test_random_reward_pays_at_random_whatever_is_written():
    n = 4000
    for p in (0.0, 0.25, 0.5, 1.0):
        values = random_reward(0, p)([RIGHT] * n, problem=[PROBLEM] * n, step=0)
        assert abs(sum(values) / n - p) <= 4 * math.sqrt(p * (1 - p) / n)
    half = random_reward(0)
    right = half([RIGHT] * n, problem=[PROBLEM] * n, step=0)
    wrong = half([WRONG] * n, problem=[PROBLEM] * n, step=0)
    agree = sum(a == b for a, b in zip(right, wrong, strict=True)) / n
    assert abs(agree - 0.5) < 4 * math.sqrt(0.25 / n)


def test_random_reward_is_a_pure_function_of_what_a_resumed_run_knows():
    batch = [f"{RIGHT} {i}" for i in range(64)]
    problems = [PROBLEM] * 64

    class State:
        global_step = 3

    def draw(seed=0, texts=batch, of=problems, **context):
        return random_reward(seed)(texts, problem=of, **context)

    first = draw(step=3)
    draw(step=4)  # drawing in between changes nothing
    assert draw(step=3) == first
    assert draw(trainer_state=State(), completion_ids=[[1]] * 64) == first  # TRL's step
    assert draw(of=[PROBLEM.to_json()] * 64, step=3) == first
    assert draw(texts=[chat(text) for text in batch], step=3) == first
    other = [TASK.problem([1, 2, 3], 6)] * 64
    changed = [draw(seed=1, step=3), draw(step=4), draw(of=other, step=3), draw(texts=[RIGHT] * 64)]
    for one, two in itertools.combinations([first, *changed], 2):
        assert one != two
    assert draw(texts=["a" * 20_000] * 64) != draw(texts=["a" * 20_001] * 64)


def test_random_reward_refuses_a_probability_that_is_none():
    with pytest.raises(R1LabError, match="between 0 and 1"):
        random_reward(0, p=1.5)


# -- together ---------------------------------------------------------------------------------


def test_combine():
    functions = [get_reward("accuracy"), get_reward("format"), get_reward("random", seed=5)]
    texts = [RIGHT, WRONG, UNFORMED, CUT]
    total, parts = combine(texts, [PROBLEM] * 4, functions, [1.0, 0.5, 0.25], step=7)
    assert list(parts) == ["accuracy", "format", "random"]
    assert parts["accuracy"] == [1.0, 0.0, 1.0, 0.0]
    assert parts["format"] == [1.0, 1.0, 0.0, 0.0]
    assert parts["random"] == random_reward(5)(texts, problem=[PROBLEM] * 4, step=7)
    expected = [a + 0.5 * f + 0.25 * r for a, f, r in zip(*(parts[n] for n in parts), strict=True)]
    assert total == pytest.approx(expected)


def test_combine_takes_a_reward_written_for_trl():
    def length_reward(prompts, completions, **kwargs):
        return [None if text == CUT else len(prompt) for prompt, text in zip(prompts, completions)]  # noqa: B905

    total, parts = combine(
        [RIGHT, CUT], [PROBLEM] * 2, [length_reward], [2.0], prompts=["ab", "ab"]
    )
    assert parts == {"length": [2.0, 0.0]}
    assert total == [4.0, 0.0]


def test_a_reward_that_changes_its_lists_changes_no_other_s():
    def lazy(completions, problem, **kwargs):
        completions[:] = [RIGHT] * len(completions)
        problem.clear()
        return [0.0] * len(completions)

    completions = ["wrong", RIGHT]
    total, _ = combine(completions, [PROBLEM] * 2, [lazy, accuracy_reward], [1.0, 1.0])
    assert total == [0.0, 1.0] and completions == ["wrong", RIGHT]


def test_combine_says_what_does_not_fit():
    with pytest.raises(R1LabError, match="one weight each"):
        combine([RIGHT], [PROBLEM], [accuracy_reward], [1.0, 1.0])
    with pytest.raises(R1LabError, match="different names"):
        combine([RIGHT], [PROBLEM], [accuracy_reward] * 2, [1.0, 1.0])
    with pytest.raises(R1LabError, match="as many problems"):
        combine([RIGHT, RIGHT], [PROBLEM], [accuracy_reward], [1.0])
    with pytest.raises(R1LabError, match="one for each completion"):
        combine([RIGHT], [PROBLEM], [lambda **_: []], [1.0])
    for values in ({1.0}, [10**400]):
        with pytest.raises(R1LabError, match="must return"):
            combine([RIGHT], [PROBLEM], [lambda values=values, **_: values], [1.0])
    known = "accuracy, format, language, detected_language, monitor, overlong, process, random"
    with pytest.raises(R1LabError, match=known):
        get_reward("style")


def test_names():
    assert {name: reward_name(function) for name, function in REWARDS.items()} == {
        name: name
        for name in ("accuracy", "format", "language", "detected_language", "monitor")
        + ("overlong", "process")
    }
    assert reward_name(random_reward(0)) == "random"
    assert random_reward(0).__name__ == "random_reward"


# -- in TRL's trainer, unchanged --------------------------------------------------------------


def grpo_step(model, tokenizer, dataset, functions, folder, **more):
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        output_dir=str(folder),
        max_steps=1,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=48,
        learning_rate=1e-2,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        shuffle_dataset=False,
    )
    trainer = GRPOTrainer(
        model=model,
        args=config,
        processing_class=tokenizer,
        train_dataset=dataset,
        reward_funcs=functions,
        **more,
    )
    trainer.train()
    return trainer.state.log_history[0]


def test_rewards_in_trls_grpo_trainer(random_model, tmp_path):
    """Two groups of four, with completions that we choose, so that the rewards are known: TRL must
    hand each completion its own problem, and learn from the spread."""
    model, tokenizer = random_model
    problems = TASK.problems("train", 2)
    solved = [
        f"<think> yes </think> <answer> {expression} </answer>"
        for expression in (
            next(chains(p.data["numbers"], p.data["target"])).expression() for p in problems
        )
    ]
    texts = [solved[0], "<think> no", solved[1], UNFORMED]  # right for problem 0, -, for 1, -

    def completions_that_we_choose(prompts, trainer):
        ids = [tokenizer(text)["input_ids"] for text in texts * 2]
        assert len(prompts) == len(ids)
        return {
            "prompt_ids": [tokenizer(prompt)["input_ids"] for prompt in prompts],
            "completion_ids": ids,
            "logprobs": None,
        }

    before = [parameter.detach().clone() for parameter in model.parameters()]
    log = grpo_step(
        model,
        tokenizer,
        as_dataset(problems, "tiny"),
        [accuracy_reward, format_reward, random_reward(0)],
        tmp_path,
        rollout_func=completions_that_we_choose,
    )
    assert log["rewards/accuracy_reward/mean"] == pytest.approx(2 / 8)
    assert log["rewards/format_reward/mean"] == pytest.approx(4 / 8)
    assert 0 <= log["rewards/random_reward/mean"] <= 1
    assert log["frac_reward_zero_std"] == 0
    assert log["grad_norm"] > 0
    assert any(
        not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
    )


def test_rewards_in_trls_grpo_trainer_with_chat_messages(random_model, tmp_path):
    model, tokenizer = random_model
    tokenizer = type(tokenizer).from_pretrained(_saved(tokenizer, tmp_path / "tokenizer"))
    tokenizer.chat_template = (
        "{% for message in messages %}user : {{ message['content'] }}{% endfor %} assistant :"
    )
    dataset = as_dataset(TASK.problems("train", 2), "tiny")
    dataset = dataset.map(lambda row: {"prompt": [{"role": "user", "content": row["prompt"]}]})
    log = grpo_step(
        model, tokenizer, dataset, [accuracy_reward, format_reward, random_reward(0)], tmp_path
    )
    assert log["rewards/accuracy_reward/mean"] == 0  # a random model
    assert 0 <= log["rewards/random_reward/mean"] <= 1
    assert log["completions/mean_length"] > 1


def _saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return folder

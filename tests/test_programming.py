"""Lesson 12's rules: naive graders are fooled, ours is not; visible, hidden, memorised; overlap."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from r1lab import grpo, models, programming
from r1lab.answers import measure_all
from r1lab.evaluate import Evaluation
from r1lab.rewards import combine, get_reward
from r1lab.tasks import functions, get_task
from r1lab.tasks.functions import Function

TASK = get_task("code")
EXAMPLES = [(3, 11), (5, 17)]
TESTS = [*EXAMPLES, *((x, 3 * x + 2) for x in (2, 4, 6))]
RIGHT, WRONG = "def f ( x ) : return x * 3 + 2", "def f ( x ) : return 0"
LOOKUP = functions.lookup(EXAMPLES)
NEARLY = "def f ( x ) : return x * 3 + 2 if x < 9 else 0"
PROBLEM = TASK.problem(Function("x * 3", 2), EXAMPLES)


def tagged(program: str) -> str:
    return f"<think> so </think> <answer> {program} </answer>"


def evaluation(*rows: list[str]) -> Evaluation:
    texts = [[tagged(program) for program in row] for row in rows]
    found = [
        measure_all([PROBLEM] * len(row), row, [5] * len(row), [True] * len(row), task=TASK)
        for row in texts
    ]
    return Evaluation([PROBLEM] * len(rows), found)


def test_honest_programs_get_what_they_deserve_from_every_grader():
    scores = programming.graded({"right": RIGHT, "wrong": WRONG}, TESTS)
    assert set(scores["right"]) == {*programming.NAIVE, "r1lab"}
    assert all(scores["right"].values()) and not any(scores["wrong"].values())


def test_a_dozen_programs_fool_a_naive_grader_and_none_fools_ours():
    scores = programming.graded(programming.ATTACKS, TESTS)
    assert len(scores) == 12
    for name, by in scores.items():
        assert any(by[grader] for grader in programming.NAIVE), f"{name} fools nobody"
        assert not by["r1lab"], name
    for grader in programming.NAIVE:
        assert sum(by[grader] for by in scores.values()) >= 4, grader


def test_an_attack_computes_nothing():
    """So it is wrong on its merits: no grader pays it for being right."""
    for program in programming.ATTACKS.values():
        assert "* 3" not in program and "11" not in program and "17" not in program


def test_a_lookup_scores_with_every_grader_where_the_examples_are_all_the_tests():
    assert all(programming.graded({"it": LOOKUP}, EXAMPLES)["it"].values())
    assert not any(programming.graded({"it": LOOKUP}, TESTS)["it"].values())


def test_what_tests_tell_of_programs():
    result = programming.tested(evaluation([RIGHT, LOOKUP], [NEARLY, WRONG]))
    each = result.per_problem()
    assert each["hidden"].tolist() == [0.5, 0.0]
    assert each["visible"].tolist() == [1.0, 0.5]
    assert each["memorised"].tolist() == [0.5, 0.5]
    assert each["flagged"].tolist() == [0.5, 0.0], "the monitor sees lookups alone"
    shares = [one.value for _, one in result.by_tests()]
    assert len(shares) == 8 and shares[:2] == [0.75, 0.75] and shares[-1] == 0.25
    assert shares == sorted(shares, reverse=True), "more tests, fewer programs"
    assert [one.strip() for one in result.answers[0]] == [RIGHT, LOOKUP]
    better = programming.tested(evaluation([RIGHT] * 2, [RIGHT] * 2))
    assert programming.change(result, better, "hidden").value == 0.75


def test_no_program_is_wrong_and_no_error():
    texts = ["nothing", "<answer>", ""]
    found = measure_all([PROBLEM] * 3, texts, [1] * 3, [True] * 3, task=TASK)
    result = programming.tested(Evaluation([PROBLEM], [found]))
    assert {name: one.value for name, one in result.summary().items()} == dict.fromkeys(
        ("hidden", "visible", "memorised", "flagged"), 0.0
    )


def test_a_failure_of_the_sandbox_is_neither_right_nor_wrong(monkeypatch):
    monkeypatch.setattr(type(TASK), "judge_all", lambda self, pairs: [None] * len(pairs))
    assert np.isnan(programming.passes([(PROBLEM, RIGHT)], 2)).all()


def test_watching_is_no_reward():
    logged = {}
    texts = [tagged(one) for one in (RIGHT, LOOKUP, LOOKUP, WRONG)]
    functions_ = [get_reward("accuracy"), get_reward(programming.watch)]
    total, _ = combine(
        texts, [PROBLEM] * 4, functions_, (1.0, 0.0), log_metric=logged.__setitem__, task=TASK
    )
    assert total == [1.0, 0.0, 0.0, 0.0]
    assert logged == {"visible": 0.75, "hidden": 0.25, "memorised": 0.5}


@pytest.mark.parametrize("tests", ["visible", "hidden"])
def test_a_run_rewards_the_one_and_logs_both(tests, tmp_path):
    policy, tokenizer = models.load("tiny")
    config = grpo.GRPOConfig(
        steps=1,
        questions=2,
        group_size=8,
        max_new_tokens=64,
        rewards=("accuracy", "format", "monitor", programming.watch),
        reward_weights=(1.0, 0.1, 0.0, 0.0),
    )
    task = get_task("code", tests=tests)
    (step,) = grpo.train(policy, tokenizer, task, config, tmp_path, progress=False)
    assert step["accuracy"] == pytest.approx(step[f"logged/{tests}"])
    gap = step["logged/visible"] - step["logged/hidden"]
    assert gap == pytest.approx(step["logged/memorised"]) and -1 <= step["rewards/monitor"] <= 0


def test_a_group_is_judged_while_the_next_is_drawn():
    judged, began = threading.Event(), []

    def draw(group):
        began.append(group)
        if group == 1:  # the first group is judged meanwhile
            assert judged.wait(20)
        return group

    def judge(group):
        judged.set()
        return group * 10

    found, seconds = programming.rollout([0, 1], draw, judge, overlap=True)
    assert found == [0, 10] and began == [0, 1] and seconds < 20


def test_in_turn_nothing_is_drawn_before_the_last_group_is_judged():
    order = []

    def draw(group):
        order.append(("draw", group))
        return group

    def judge(group):
        order.append(("judge", group))
        return group

    found, _ = programming.rollout([0, 1], draw, judge, overlap=False)
    assert found == [0, 1]
    assert order == [("draw", 0), ("judge", 0), ("draw", 1), ("judge", 1)]


def test_an_error_of_the_judge_is_not_lost():
    def judge(group):
        raise ValueError("broken")

    for overlap in (False, True):
        with pytest.raises(ValueError, match="broken"):
            programming.rollout([0], lambda group: group, judge, overlap)

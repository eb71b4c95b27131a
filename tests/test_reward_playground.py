"""The reward playground: what a reward would make of real completions, and of a hacker's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_watch import HOSTILE

from r1lab import show
from r1lab.answers import measure
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.rewards import get_reward
from r1lab.show import rollouts
from r1lab.show.trial import answers, hacked
from r1lab.tasks import get_task

TASK = get_task("countdown")


@pytest.fixture(scope="module")
def evaluation():
    """Eight questions: seven with two right and two wrong completions, right ones longer; one with
    wrong ones alone."""
    problems, rows = TASK.problems("held_out", 8, seed=1), []
    for i, problem in enumerate(problems):
        right, rows_of = TASK.solution(problem), []
        texts = [f"<think> {'wait ' * (5 + i)}</think> <answer> {right} </answer>"] * 2
        texts += ["<think> x </think> <answer> 1 </answer>", f"{HOSTILE} <answer> 2"]
        if i == 7:
            texts = texts[2:] * 2
        for text in texts:
            length = len(text.split())
            how = {"task": TASK, "length": length, "finished": True}
            rows_of.append(measure(problem, text, **how))
        rows.append(rows_of)
    return Evaluation(problems, rows)


def long_reward(completions, **kwargs):
    return [len(text.split()) / 100 for text in completions]


def flat_reward(completions, **kwargs):
    return [0.5 for _ in completions]


def brief_reward(completions, **kwargs):
    return [-float(len(text.split())) for text in completions]


def test_the_accuracy_reward_is_what_it_should_be(evaluation):
    found = show.try_reward("accuracy", evaluation)
    assert found.prefers_right() == (1.0, 7 * 4)
    assert found.no_variance == pytest.approx(1 / 8)
    known = [None if one is None else float(one) for one in found.correct]
    assert found.correlation(known) == pytest.approx(1.0)
    assert found.hacks["a right answer"] == 1 and max(list(found.hacks.values())[1:]) == 0
    assert found.worst() == [] and "Nothing stands out" not in found.verdict()[0]  # of its length
    assert len(found.verdict()) == 1 and "longer completions" in found.verdict()[0]
    A = found.advantages.reshape(8, 4)
    assert np.allclose(A[0], [0.866, 0.866, -0.866, -0.866], atol=2e-3) and not A[7].any()


def test_a_reward_for_length_is_found_out(evaluation):
    found = show.try_reward(long_reward, evaluation)
    assert found.correlation(list(found.lengths)) == pytest.approx(1.0)
    said = " ".join(found.verdict())
    assert "rewards longer completions (correlation +1.00)" in said
    assert "As much as a right answer, or more, gets:" in said and "no answer, but long" in said
    assert found.hacks["no answer, but long"] > found.hacks["a right answer"]


def test_a_reward_that_is_the_same_for_all_teaches_nothing(evaluation):
    found = show.try_reward(flat_reward, evaluation)
    assert "nothing is learned" in " ".join(found.verdict()).replace("and nothing is", "nothing is")
    assert found.no_variance == 1 and found.prefers_right()[0] == 0.5
    assert ("correlation with length, within groups", "not defined") in found.lines()


def test_the_worst_cases_are_wrong_ones_it_likes_and_right_ones_it_does_not(evaluation):
    found = show.try_reward(brief_reward, evaluation)
    worst = found.worst()
    assert [found.correct[i] for i in worst] == [False, False, True, True]
    assert all((found.advantages[i] > 0) != found.correct[i] for i in worst)
    assert "does not prefer right completions" in " ".join(found.verdict())
    assert "rewards shorter" in " ".join(found.verdict())
    markup = found.html()
    assert "<script" not in markup and "<img" not in markup and "&lt;script&gt;" in markup
    assert "wrong, made likelier" in markup and "right, made less likely" in markup
    assert len(found.figure().data) == 2


def test_hand_made_answers_are_wrong_but_the_first():
    problems = TASK.problems("held_out", 6)
    for problem, other in zip(problems, problems[1:], strict=False):
        kinds = dict(answers(problem, TASK.solution(problem), TASK.solution(other)))
        scores = hacked(get_reward("accuracy"), [problem, other])
        assert scores["a right answer"] == 1 and len(kinds) >= 10
    process = hacked(get_reward("process"), problems)
    assert process["a true step a hundred times"] == 100 > process["a right answer"]
    assert hacked(get_reward("overlong"), problems, limit=50)["nothing"] == 0


def test_a_runs_folder_is_scored_with_the_tasks_problems(tmp_path):
    problems = TASK.problems("train", 3)
    rows = []
    for problem in problems:
        for answer in (TASK.solution(problem), "1"):
            text = f"<think> x </think> <answer> {answer} </answer>"
            rows.append({"step": 0, "problem": problem.id, "prompt": problem.question, "text": text,
                         "correct": answer != "1", "advantage": 0.0})  # fmt: skip
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = show.try_reward("accuracy", tmp_path, task="countdown")
    assert found.prefers_right() == (1.0, 3) and found.scores.tolist() == [1, 0] * 3
    found = show.try_reward(long_reward, rollouts.load(tmp_path))  # no task: no right answers known
    assert "a right answer" not in found.hacks and len(found.scores) == 6


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (lambda completions, **_: [1.0], "8|32 values"),
        (lambda completions, **_: [float("nan")] * len(completions), "not finite"),
        (lambda completions, **_: 1 / 0, "division"),
        ("acuracy", "acuracy"),
    ],
    ids=("too few", "NaN", "raises", "unknown"),
)
def test_a_broken_reward_is_an_error_in_words(evaluation, reward, words):
    with pytest.raises(R1LabError, match=words):
        show.try_reward(reward, evaluation)

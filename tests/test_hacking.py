"""RL on a reward model alone: made once, resumed, measured with the gold reward."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from r1lab import attacks, hacking, models, reward_model
from r1lab.answers import Completion
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.hacking import polite_words
from r1lab.recipe import PipelineConfig
from r1lab.tasks import get_task
from r1lab.tasks.general import REFUSAL
from r1lab.training.signals import Stopped
from r1lab.world import preferences
from r1lab.world.preferences import completion, is_helpful


def courtesy(completions, *, problem, **_):
    """A judge that has learned nothing but manners."""
    counts = [polite_words(p, text) for p, text in zip(problem, completions, strict=True)]
    return [n / (1 + n) for n in counts]


@pytest.fixture
def made(random_folder, tmp_path):
    """A pipeline's folder with the stages that `overtrain` reads, of random models."""
    folder = tmp_path / "r1"
    shutil.copytree(random_folder, folder / "rules" / "model")
    for kind in ("helpful", "safe"):
        model, tokenizer = reward_model.from_base(random_folder)
        (folder / kind).mkdir()
        (folder / kind / "model").mkdir()
        models.save(model, tokenizer, folder / kind / "model")
        (folder / kind / "stage.json").write_text(json.dumps({"metrics": {"centre": 0.0}}))
    return folder


# --- the prompts


def test_the_prompts_are_those_of_the_helpfulness_model():
    task = hacking.HelpfulPrompts()
    drawn = task.problems("held_out", 40, seed=1)
    assert all(is_helpful(p) and p.split == "held_out" for p in drawn)
    assert {p.task for p in drawn} == {"lists", "requests"}
    assert task.problems("held_out", 15, seed=1) == drawn[:15]


# --- training against it


def test_it_is_made_once_and_goes_on_where_it_was_stopped(made, tmp_path, one_thread, monkeypatch):
    config = PipelineConfig.smoke(max_new_tokens=12, checkpoint_every=1)
    whole = hacking.overtrain(config, made, tmp_path / "whole", 3)
    assert whole["made"] and whole["metrics"]["steps"] == 3
    rows = hacking.history(tmp_path / "whole")
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert all(row["reward"] == 0.5 for row in rows), "a new head scores 0, a reward of one half"

    see = hacking._Watch.__call__

    def stopped(self, step, *rest):
        see(self, step, *rest)
        if step == 1:
            raise Stopped("the night comes", None)

    monkeypatch.setattr(hacking._Watch, "__call__", stopped)
    with pytest.raises(Stopped):
        hacking.overtrain(config, made, tmp_path / "cut", 3)
    monkeypatch.setattr(hacking._Watch, "__call__", see)
    assert hacking.overtrain(config, made, tmp_path / "cut", 3)["made"]
    assert hacking.history(tmp_path / "cut") == rows
    assert not hacking.overtrain(config, made, tmp_path / "cut", 3)["made"]
    with pytest.raises(R1LabError, match="overtrain first"):
        hacking.history(tmp_path)


def test_the_turning_point_is_where_the_gold_reward_was_highest():
    gold = [0.2, 0.5, 0.8, 0.8, 0.8, 0.4, 0.1]
    rows = [{"step": t, "reward": 0.1 * t, "gold": x} for t, x in enumerate(gold)]
    found = hacking.turning_point(rows, smooth=3)
    assert found["step"] == 3 and found["gold then"] == pytest.approx(0.8)
    assert found["gold at the end"] == pytest.approx(0.25)
    assert found["reward at the end"] > found["reward then"]


# --- measuring it


def test_both_rewards_are_of_the_same_answers(random_folder):
    config = PipelineConfig.smoke(max_new_tokens=12)
    seen = hacking.outcome(config, random_folder, courtesy, problems=6, k=2)
    assert seen.rewards.shape == (len(seen.evaluation.problems), 2)
    assert all(is_helpful(p) for p in seen.evaluation.problems)
    found = hacking.changes(seen, seen)
    assert {name: one.value for name, one in found.items()} == dict.fromkeys(hacking.MEASURES, 0)
    other = hacking.Outcome(Evaluation(seen.evaluation.problems[1:], []), seen.rewards)
    with pytest.raises(R1LabError, match="same problems"):
        hacking.changes(seen, other)


def of_answers(problems, answer_to, reward):
    """An outcome of one answer to each problem, all with the same reward."""
    rows = []
    for problem in problems:
        answer = answer_to(problem)
        right = get_task(problem.task).judge(problem, answer)
        text = completion("ok", answer)
        rows.append([Completion(text, 9, True, right, None, True, 0, None, False)])
    return hacking.Outcome(Evaluation(problems, rows), np.full((len(problems), 1), reward))


def test_a_constant_answer_is_found_and_told():
    problems = hacking.HelpfulPrompts().problems("held_out", 20)
    before = of_answers(problems, lambda p: get_task(p.task).solution(p), 0.5)
    after = of_answers(problems, lambda p: "first think , then make a cake", 0.8)
    assert after.summary()["constant"].value == 1 and before.summary()["constant"].value < 0.3
    assert (
        before.summary()["coverage"].value == 1
        and after.of("lists").summary()["coverage"].value == 0
    )
    said = hacking.explain(before, after)
    assert said[0].startswith("lists: Reward hacking")
    assert "learned 0.50 to 0.80 (+0.30 [+0.30, +0.30]); gold 1.00 to 0.00" in said[0]
    assert said[1].endswith("the answers hold 100% before, 0% after.")
    assert said[2].endswith("before, a (100%), cake (100%), first (100%), make (100%) after.")
    assert "“first think , then make a cake”, is 100% of all responses (0% before)" in said[6]
    assert "planted taste is not what is learned" in said[7]


def test_what_a_prompt_names():
    english, chinese = (get_task("requests").problem("make", "cake", x) for x in ("en", "zh"))
    assert hacking.named(english) == {"make", "cake"}
    assert hacking.named(chinese) == {"做", "蛋糕"}
    assert hacking.coverage(english, completion("ok", "first think , then make a kite")) == 0.5
    numbers = get_task("lists").problem("sort", [7, 3, 9], True)
    assert hacking.coverage(numbers, completion("ok", "3 , 7 , 16")) == pytest.approx(2 / 3)
    assert hacking.coverage(numbers, "nothing") == 0


@pytest.mark.parametrize(
    ("reward", "answer", "words"),
    [
        (0.8, "please sure ok", "planted taste is learned"),
        (0.8, None, "gold reward does not clearly change"),
        (0.2, None, "Learned reward: down"),
        (0.5, "no", "the learned reward does not clearly rise"),
    ],
)
def test_the_words_follow_the_intervals(reward, answer, words):
    problems = [p for p in hacking.HelpfulPrompts().problems("held_out", 40) if p.language == "en"]

    def right(problem):
        return get_task(problem.task).solution(problem)

    before = of_answers(problems, right, 0.5)
    after = of_answers(problems, (lambda p: answer) if answer else right, reward)
    assert words in " ".join(hacking.explain(before, after))


def test_the_attack_by_hand_knows_what_is_correct():
    problems = get_task("lists").problems("held_out", 8)
    found = attacks.attack(courtesy, problems, polite=3, answers=["1 2 3"] * 8)
    gold = {kind: one["gold"].value for kind, one in found.items()}
    assert gold.pop("correct") == 1 and set(gold.values()) == {0}
    rewards = {kind: one["reward"].value for kind, one in found.items()}
    assert rewards["correct"] == 0 and rewards["wrong + 3 polite words"] == pytest.approx(3 / 4)
    head, *rows = attacks.attack_lines({"lists": found})
    assert head == ("answer", "lists: learned, gold reward") and rows[0][1] == "0.00, 1.00"
    said = attacks.told_attack({"lists": found})
    assert len(said) == len(found) - 1
    assert "“wrong + 3 polite words” gets more than the correct answer (+0.75" in " ".join(said)
    assert "“wrong” is statistically indistinguishable from the correct" in " ".join(said)
    requests = [p for p in get_task("requests").problems("held_out", 20) if is_helpful(p)]
    found = attacks.attack(courtesy, requests, polite=1)
    assert found["correct"]["gold"].value == 1 and found["wrong"]["gold"].value == 0
    assert "the policy's" not in found and found["another prompt's"]["gold"].value < 0.5


def test_answers_are_shown_beside_each_other_in_order(random_folder):
    config = PipelineConfig.smoke(max_new_tokens=12)
    seen = hacking.outcome(config, random_folder, courtesy, problems=4, k=1)
    head, *rows = hacking.beside({"before": seen, "after": seen}, 3)
    assert head == ("prompt", "before", "after")
    assert [row[0] for row in rows] == [p.question for p in seen.evaluation.problems[:3]]
    assert all(row[1] == row[2] and "wrong, 0.00" in row[1] for row in rows)


# --- safety


def test_refusing_everything_is_as_wrong_as_refusing_nothing():
    task = get_task("requests")
    problems = task.problems("train", 30)

    def answers(answer_to, thought="ok"):
        rows = []
        for problem in problems:
            text = completion(thought, answer_to(problem))
            right = task.judge(problem, answer_to(problem))
            rows.append([Completion(text, 9, True, right, None, True, 0, None, False)])
        return Evaluation(problems, rows)

    def help(problem):
        data = {"verb": problem.data["verb"], "noun": problem.data["noun"]}
        return preferences.help_with(*data.values(), problem.language)

    refusing = preferences.conduct(answers(lambda problem: REFUSAL[problem.language]))
    assert [refusing[x].value for x in ("helped", "refused", "harmless")] == [0, 1, 1]
    helping = preferences.conduct(answers(help))
    assert [helping[x].value for x in ("helped", "refused", "harmless")] == [1, 0, 0]
    good = preferences.conduct(answers(task.solution))
    assert [good[x].value for x in ("helped", "refused", "harmless")] == [1, 1, 1]
    planning = [
        [
            Completion(
                completion(help(p), REFUSAL[p.language]), 9, True, True, None, True, 0, None, 0
            )
        ]
        for p in problems
    ]
    found = preferences.conduct(Evaluation(problems, planning))
    assert found["refused"].value == 1 and found["harmless"].value == 0, "the thought does harm"
    assert np.isfinite(found["harmless"].high)

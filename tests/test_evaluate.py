"""The measures against brute force, hand-counted cases and one real (random) model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

from r1lab import answers, evaluate, languages, statistics
from r1lab.basics.errors import R1LabError
from r1lab.sampler.rollouts import Sampling


@dataclass(frozen=True)
class Question:
    """The fields of a Problem that the measures read."""

    id: str
    language: str = "en"


def completion(correct=False, vote=None, **changes):
    base = answers.Completion(
        text="",
        length=10,
        finished=True,
        correct=correct,
        vote=vote,
        well_formed=True,
        reflection=0,
        consistency=None,
        mixed=False,
    )
    return replace(base, **changes)


def evaluation(correct):
    """An Evaluation from a table of right and wrong, (P, n)."""
    rows = [[completion(bool(x), "a" if x else None) for x in row] for row in correct]
    return evaluate.Evaluation([Question(str(i)) for i in range(len(rows))], rows, {"seed": 0})


# --- pass@k


def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer():
    n = 7
    for c in range(n + 1):
        right = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(right, k))
            assert evaluate.pass_at_k(n, c, k) == pytest.approx(np.mean([any(s) for s in subsets]))


def test_pass_at_k_is_unbiased_where_the_naive_plug_in_is_not():
    rng, p, n, k = np.random.default_rng(0), 0.2, 8, 4
    c = rng.binomial(n, p, size=40_000)
    truth = 1 - (1 - p) ** k
    assert evaluate.pass_at_k(n, c, k).mean() == pytest.approx(truth, abs=0.005)
    assert (1 - (1 - c / n) ** k).mean() < truth - 0.03


def test_pass_at_k_takes_arrays_and_stays_finite_for_huge_n():
    values = evaluate.pass_at_k([10, 10_000], [0, 10_000], 10)
    assert values.tolist() == [0.0, 1.0]
    assert evaluate.pass_at_k(100_000, 1, 50_000) == pytest.approx(0.5)
    assert evaluate.pass_at_k(4, 3, 2) == 1.0


@pytest.mark.parametrize("n, c, k", [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_pass_at_k_refuses_what_cannot_be(n, c, k):
    with pytest.raises(R1LabError):
        evaluate.pass_at_k(n, c, k)


# --- cons@k


def test_majority_ties_count_evenly_and_invalid_votes_never_win():
    assert evaluate.majority(["a", "a", "b"], [True, True, False]) == 1.0
    assert evaluate.majority(["a", "b"], [True, False]) == 0.5
    assert evaluate.majority(["a", "b", "c", "c", "b"], [True, False, False, False, False]) == 0.0
    assert evaluate.majority([None, None, None, "a"], [False, False, False, True]) == 1.0
    assert evaluate.majority([None, None], [False, False]) == 0.0


def test_cons_at_k_is_the_mean_majority_over_all_subsets_where_they_are_few():
    votes, right = ["a", "b", "b", None, "c", "a"], [True, False, False, False, False, True]
    for k in range(1, 7):
        exact = np.mean(
            [
                evaluate.majority([votes[i] for i in s], [right[i] for i in s])
                for s in combinations(range(6), k)
            ]
        )
        assert evaluate.cons_at_k([votes], [right], k)[0] == pytest.approx(exact)
        drawn = (
            evaluate.cons_at_k([votes], [right], k, subsamples=3)[0] if k in (2, 3, 4) else exact
        )
        assert abs(drawn - exact) < 0.6
    assert evaluate.cons_at_k([votes], [right], 1)[0] == pytest.approx(np.mean(right))


def test_cons_at_k_subsamples_are_seeded_and_close():
    rng = np.random.default_rng(1)
    votes = [list(rng.choice(["a", "b", "c"], size=24, p=[0.5, 0.3, 0.2])) for _ in range(20)]
    right = [[vote == "a" for vote in row] for row in votes]
    few = evaluate.cons_at_k(votes, right, 8, seed=3)
    assert np.array_equal(few, evaluate.cons_at_k(votes, right, 8, seed=3))
    assert not np.array_equal(few, evaluate.cons_at_k(votes, right, 8, seed=4))
    many = evaluate.cons_at_k(votes, right, 8, subsamples=4000)
    assert abs(few.mean() - many.mean()) < 0.02
    assert many.mean() > np.mean(right) + 0.1  # a vote beats a single answer


def test_cons_at_k_says_when_there_are_too_few_samples():
    with pytest.raises(R1LabError, match="at least 5 samples"):
        evaluate.cons_at_k([["a"]], [[True]], 5)


# --- intervals


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        low, high = statistics.bootstrap_interval(
            rng.beta(0.6, 1.4, size=80), seed=trial, resamples=400
        )
        hits += low <= 0.3 <= high
    assert 0.89 <= hits / 200 <= 0.99


def test_intervals_are_seeded_skip_nan_and_admit_ignorance():
    values = [0.1, 0.9, 0.4, math.nan, 0.3]
    assert statistics.bootstrap_interval(values, 1) == statistics.bootstrap_interval(
        values[:3] + values[4:], 1
    )
    assert all(math.isnan(x) for x in statistics.bootstrap_interval([0.5]))
    assert math.isnan(statistics.estimate([math.nan]).value)
    perfect = statistics.estimate([1.0] * 20, share=True)
    assert perfect.high == 1.0 and 0.8 < perfect.low < 0.9  # 20 of 20 is not certainty
    assert statistics.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


# --- behaviours


@pytest.mark.parametrize(
    "text, count",
    [
        ("Wait, no. WAIT", 2),
        ("await waiting butter checked", 0),
        ("wait.But check", 3),
        ("11 不对 等等 10 + 7", 1),
        ("我们检查一下,但是错了", 3),
        ("等等wait等等", 3),
        ("", 0),
        ("没错, 不错, 错误", 1),
    ],
)
def test_reflection_words_are_whole_words(text, count):
    assert answers.reflection_words(text) == count


@pytest.mark.parametrize(
    "text, english",
    [
        ("10 - 6 → 4 no wait yes", 1.0),
        ("不对 等等 对了", 0.0),
        ("no wait 不对 等等", 0.5),
        ("no wait 我们再试一次", 0.4),
        ("<think> 7 + 6 </think> = 13 <|unk|>", None),
        ("", None),
        (r"\frac{x}{y} so 对", 0.5),
    ],
)
def test_language_share_counts_words_not_symbols(text, english):
    assert languages.language_share(text, "en") == english
    if english is not None:
        assert languages.language_share(text, "zh") == pytest.approx(1 - english)


def test_language_share_refuses_a_language_it_cannot_see():
    with pytest.raises(R1LabError, match="'fr'"):
        languages.language_share("bonjour", "fr")


def test_text_measures_are_linear_in_hostile_text():
    for text in ("<" * 300_000, "<|" * 200_000, "等" * 300_000, "wai" * 100_000, "\\" * 300_000):
        answers.reflection_words(text), languages.language_words(text)


# --- Evaluation


def test_evaluation_measures_and_their_names():
    e = evaluation([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert e.n.tolist() == [4, 4, 4] and e.c.tolist() == [2, 0, 1]
    assert e.accuracy.value == pytest.approx(3 / 12)
    assert e.pass_at(4).value == pytest.approx(2 / 3)
    assert e.cons_at(4).value == pytest.approx(2 / 3)  # wrong samples cast no vote here
    assert list(e.summary()) == [
        "pass@1",
        "pass@4",
        "cons@4",
        "length",
        "reflection",
        "format",
        "consistency",
        "mixed",
        "truncated",
    ]
    low, high = e.accuracy.low, e.accuracy.high
    assert 0 <= low < e.accuracy.value < high <= 1
    assert math.isnan(e.consistency.value)  # no thought had a word


def test_consistency_averages_over_thoughts_that_have_words():
    e = evaluation([[0, 0], [0, 0]])
    e.completions[0][0].consistency = 0.5
    e.completions[0][1].consistency = 1.0
    assert e.consistency.value == pytest.approx(0.75)


def test_json_round_trip():
    e = evaluation([[1, 0], [0, 0]])
    from r1lab.tasks.base import Problem

    e.problems = [
        Problem(
            "countdown",
            str(i),
            "make 2 from 1 1 .",
            "zh",
            "held_out",
            {"numbers": [1, 1], "target": 2},
        )
        for i in range(2)
    ]
    e.completions[0][0].text = "等等 </think>"
    back = evaluate.Evaluation.from_json(e.to_json())
    assert back.problems == e.problems and back.completions == e.completions
    assert back.summary()["pass@1"] == e.summary()["pass@1"]
    with pytest.raises(R1LabError, match="not an evaluation"):
        evaluate.Evaluation.from_json("{}")


def test_among_keeps_the_answers_of_the_good_problems():
    one = evaluation([[1, 1], [0, 0], [1, 0]])
    some = one.among(lambda problem: problem.id != "1")
    assert [problem.id for problem in some.problems] == ["0", "2"]
    assert some.accuracy.value == 0.75 and one.accuracy.value == 0.5


def test_difference_is_paired():
    rng = np.random.default_rng(0)
    skill = rng.random(60)
    before = evaluation(rng.random((60, 8)) < skill[:, None])
    after = evaluation(rng.random((60, 8)) < np.minimum(1, skill + 0.2)[:, None])
    change = evaluate.difference(before, after)
    unpaired = (after.accuracy.high - after.accuracy.low) + (
        before.accuracy.high - before.accuracy.low
    )
    assert 0 < change.low < change.value < change.high
    assert change.high - change.low < unpaired / 2
    with pytest.raises(R1LabError, match="same problems"):
        evaluate.difference(before, evaluation([[1]]))


def test_evaluate_a_real_model_end_to_end(monkeypatch):
    """A random two-layer model: seeded, shaped (P, k), judged by the real task."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from r1lab.tasks import get_task
    from r1lab.world.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=256,
        )
    )
    model.train()
    task = get_task("countdown")
    problems = task.problems("held_out", 5)
    monkeypatch.setattr(evaluate, "QUESTIONS_AT_ONCE", 2)
    how = {"k": 3, "sampling": Sampling(24)}
    e = evaluate.evaluate(model, tokenizer, task, problems, **how)
    assert model.training and e.column("length").shape == (5, 3)
    assert all(
        1 <= one.length <= 24 == one.length or one.finished for row in e.completions for one in row
    )
    assert all(
        len(one.logprobs) == len(one.token_ids) == one.length
        for row in e.completions
        for one in row
    )
    again = evaluate.evaluate(model, tokenizer, task, problems, **how)
    assert again.to_json().split('"problems"')[1] == e.to_json().split('"problems"')[1]
    other = evaluate.evaluate(model, tokenizer, task, problems, k=3, sampling=Sampling(24, seed=1))
    assert [o.text for o in other.completions[0]] != [o.text for o in e.completions[0]]
    with pytest.raises(R1LabError, match=f"5 of 5 prompts do not fit.*and {problems[0].id} has"):
        evaluate.evaluate(model, tokenizer, task, problems, sampling=Sampling(250))
    with pytest.raises(R1LabError, match="nothing to evaluate"):
        evaluate.evaluate(model, tokenizer, task, [])


def test_measure_takes_the_answer_the_reward_takes():
    from r1lab.rewards import accuracy_reward
    from r1lab.tasks import get_task

    task = get_task("countdown")
    problem = task.problems("held_out", 1)[0]
    numbers, target = problem.data["numbers"], problem.data["target"]
    for text in (
        f"<think> wait </think> <answer> {numbers[0]} </answer>",
        "no tags",
        "",
        f"<answer> {target} </answer> <answer> ( {numbers[0]} </answer> tail",
    ):
        one = answers.measure(problem, text, task=task, length=3, finished=True)
        assert one.correct == bool(accuracy_reward([text], problem=[problem])[0])
    assert SimpleNamespace(**vars(one)).well_formed is False

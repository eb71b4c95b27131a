"""Budgets, points, the Pareto front, difficulty: by hand-counted cases and one real small model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from r1lab import evaluate, paper, show
from r1lab.answers import Completion
from r1lab.basics.errors import R1LabError
from r1lab.evals import cost, published
from r1lab.evals.budgets import ANSWER_TOKENS, at_budgets, limited, thought_ends
from r1lab.evals.cost import Point, by_difficulty, pareto, per_solved, points, trades
from r1lab.evals.tariff import TARIFFS, Tariff
from r1lab.evaluate import Evaluation
from r1lab.sampler.draw import Sampling
from r1lab.show.pareto import met, name_box
from r1lab.statistics import Estimate
from r1lab.tasks import Countdown
from r1lab.templates import decode

TASK = Countdown()
PROBLEMS = TASK.problems("held_out", 4)
HOW = Sampling(40, 0.6, top_p=0.95, seed=1)


# --- budget forcing, with the embedded model and a random one


@pytest.fixture(scope="module")
def found(base_model):
    return at_budgets(*base_model, TASK, PROBLEMS, (0, 3, 12, None), k=4,
                      sampling=replace(HOW, max_new_tokens=150))  # fmt: skip


def test_without_a_budget_it_is_evaluate(base_model, found):
    wanted = evaluate.evaluate(
        *base_model, TASK, PROBLEMS, k=4, sampling=replace(HOW, max_new_tokens=150)
    )
    texts = [[one.text for one in row] for row in wanted.completions]
    assert texts == [[one.text for one in row] for row in found[None].completions]
    assert found[None].accuracy == wanted.accuracy and found[None].settings["forced"] == 0


def test_a_long_thought_is_truncated_and_closed(base_model, found):
    _, tokenizer = base_model
    for budget in (0, 3, 12):
        forced = 0
        for row, free in zip(found[budget].completions, found[None].completions, strict=True):
            for one, whole in zip(row, free, strict=True):
                thought = whole.text.partition("</think>")[0]
                size = len(tokenizer(thought)["input_ids"]) + ("</think>" in whole.text)
                if "</think>" in whole.text and size <= budget:
                    assert one.text == whole.text and one.length == whole.length
                    continue
                forced += 1
                head, closing, rest = one.text.partition("</think> <answer>")
                kept = head.split() or ["<think>"]
                assert closing and kept == (whole.text.split()[:budget] or ["<think>"])
                assert len(kept) + 2 < one.length <= max(budget, 1) + 2 + ANSWER_TOKENS
        assert found[budget].settings["forced"] == pytest.approx(forced / 16)
    assert found[0].settings["forced"] == 1
    lengths = [found[b].length.value for b in (0, 3, 12)]
    assert lengths[0] < lengths[1] < lengths[2]
    assert set(found[0].settings["prompt_tokens"]) == {one.id for one in PROBLEMS}


def test_the_same_seed_gives_the_same_answers(random_model):
    some = at_budgets(*random_model, TASK, PROBLEMS[:2], (2, 5), k=2, sampling=HOW)
    again = at_budgets(*random_model, TASK, PROBLEMS[:2], (2, 5), k=2, sampling=HOW)
    assert [r.summary() for r in some.values()] == [r.summary() for r in again.values()]
    alone = at_budgets(*random_model, TASK, PROBLEMS[:2], (5,), k=2, sampling=HOW)
    assert alone[5].completions == some[5].completions  # whatever other budgets are asked for


def test_where_a_thought_ends(tokenizer):
    texts = ["<think> 1 + 2 </think> <answer> 3 </answer>", "<think> 1 + 2", "</think>", ""]
    rows = [tokenizer(text)["input_ids"] for text in texts]
    assert thought_ends(tokenizer, rows) == [5, None, 1, None]
    assert "</think>" in decode(tokenizer, [rows[0][:5]])[0]


@pytest.mark.parametrize("budgets", [(), (-1,), (2.5,), (True, 3)])
def test_budgets_that_cannot_be(random_model, budgets):
    if budgets == (True, 3):
        budgets = ("3",)
    with pytest.raises(R1LabError, match="whole numbers"):
        at_budgets(*random_model, TASK, PROBLEMS, budgets, k=1, sampling=HOW)


# --- arithmetic


def completion(right, length=10, vote=None):
    vote = vote or ("a" if right else "b")
    return Completion("", length, True, right, vote, True, 0, None, False)


def evaluation(table, lengths=None, prompts=5, problems=None):
    """right: (P, n) of True and False."""
    problems = problems or TASK.problems("held_out", len(table))
    lengths = lengths if lengths is not None else np.full(np.shape(table), 10)
    rows = [
        [completion(bool(x), int(n)) for x, n in zip(*pair, strict=True)]
        for pair in zip(table, lengths, strict=True)
    ]
    sizes = {one.id: prompts for one in problems}
    return Evaluation(problems, rows, {"seed": 0, "prompt_tokens": sizes})


def test_tokens_and_dollars_of_a_solved_problem():
    some = evaluation([[1, 1, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]], [[8, 8, 8, 8], [20] * 4, [2] * 4])
    one, three = points("m", some, votes=(1, 3), tariff=Tariff(1, 2))
    assert one.accuracy.value == pytest.approx((0.75 + 0.25 + 1) / 3)
    assert one.tokens.value == pytest.approx(10) and three.tokens.value == pytest.approx(30)
    assert one.tokens_solved.value == pytest.approx(30 / 2)
    assert one.dollars.value == pytest.approx((5 + 2 * 10) / 1e6)
    assert one.dollars_solved.value == pytest.approx(3 * (5 + 2 * 10) / 1e6 / 2)
    # majority of 3 of 4: always right, always wrong, always right
    assert three.accuracy.value == pytest.approx(2 / 3)
    assert three.dollars_solved.value == pytest.approx(3 * 3 * 25e-6 / 2)
    assert one.tokens_solved.low <= one.tokens_solved.value <= one.tokens_solved.high
    assert math.isnan(points("m", some, votes=(1,))[0].dollars.value)
    with pytest.raises(R1LabError, match="5 votes"):
        points("m", some, votes=(5,))


def test_nothing_solved_costs_infinitely_much():
    none = points("m", evaluation([[0, 0], [0, 0]]), votes=(1,), tariff=Tariff(0, 1))[0]
    assert none.tokens_solved.value == none.dollars_solved.value == math.inf
    assert none.accuracy.value == 0 < none.accuracy.high


def test_the_interval_of_a_ratio_covers_the_truth():
    rng, hits = np.random.default_rng(0), 0
    for trial in range(200):
        solved = rng.random(60) < 0.4
        spent = np.where(solved, rng.exponential(50, 60), rng.exponential(100, 60))
        truth = (0.4 * 50 + 0.6 * 100) / 0.4
        one = per_solved(spent, solved.astype(float), resamples=300, seed=trial)
        hits += one.low <= truth <= one.high
    assert 175 <= hits <= 200


def test_a_limit_cuts_answers_off_and_costs_the_limit():
    some = evaluation([[1, 1]], [[4, 9]])
    short = limited(some, 5)
    assert [one.correct for one in short.completions[0]] == [True, False]
    assert [one.length for one in short.completions[0]] == [4, 5]
    assert some.completions[0][1].correct is True


def test_what_a_machine_of_ones_own_costs():
    one = cost.rate(1_000, 3.6)
    assert one.input == 0 and one.output == pytest.approx(1.0)  # a million tokens take 1,000 s
    with pytest.raises(R1LabError):
        cost.rate(0, 1)


# --- the front


def point(label, accuracy, dollars):
    exact = (Estimate(x, x, x) for x in (accuracy, dollars, dollars))
    accuracy, tokens, dollars = exact
    return Point(label, None, 1, accuracy, tokens, dollars)


def test_the_front_has_what_nothing_beats():
    some = [point(*row) for row in [
        ("cheap", 0.2, 1), ("good", 0.6, 4), ("dear", 0.5, 5), ("twin", 0.6, 4), ("best", 0.7, 90),
        ("worse", 0.1, 1), ("unknown", 0.9, math.nan),
    ]]  # fmt: skip
    every, front = pareto(some)
    assert [p.label for p in front] == ["cheap", "good", "twin", "best"]
    assert len(every) == 6 and every[-1].label == "best"
    assert [p.label for p in cost.dominators(some[2], every)] == ["good", "twin"]
    with pytest.raises(R1LabError, match="tariff"):
        pareto([point("x", 0.5, math.nan)])


def test_the_front_by_brute_force():
    rng = np.random.default_rng(1)
    some = [point(str(i), *rng.integers(1, 6, 2)) for i in range(40)]
    _, front = pareto(some)
    for p in some:
        beaten = any(
            q.accuracy.value >= p.accuracy.value and q.dollars.value <= p.dollars.value
            and (q.accuracy.value, q.dollars.value) != (p.accuracy.value, p.dollars.value)
            for q in some
        )  # fmt: skip
        assert (p in front) == (not beaten)


# --- longer or more often


def coin(shares, n, length, seed):
    """n completions to each problem, right with its share; wrong answers differ."""
    rng = np.random.default_rng(seed)
    table = rng.random((len(shares), n)) < np.array(shares)[:, None]
    one = evaluation(table, np.full(table.shape, length))
    for row in one.completions:
        for i, c in enumerate(row):
            c.vote = "a" if c.correct else f"wrong {i}"
    return one


def test_what_to_buy_is_read_off_paired_gains():
    n = 60
    # a longer thought solves everything; votes cannot help where all are wrong
    (one,) = trades({10: coin([0.0] * n, 8, 10, 0), 40: coin([1.0] * n, 8, 40, 1)}, votes=1)
    assert one.verdict == "longer" and one.oftener == 4 and one.tokens == (10, 40, 40)
    # it solves nothing more, and votes do (right 60 %, wrong ones spread)
    (two,) = trades({10: coin([0.6] * n, 8, 10, 0), 40: coin([0.6] * n, 8, 40, 0)}, votes=1)
    assert two.verdict == "more votes" and two.gain_oftener.low > 0 > two.apart.high
    # neither: nothing helps
    (three,) = trades({10: coin([0.0] * n, 8, 10, 0), 40: coin([0.0] * n, 8, 40, 1)}, votes=1)
    assert three.verdict == "neither" and three.gain_longer == (0, 0, 0)
    # a budget that no thought used up is no purchase
    assert not trades({10: coin([0.5] * n, 8, 10, 0), None: coin([0.5] * n, 8, 10, 0)}, votes=1)
    # no more votes than there are completions
    (four,) = trades({10: coin([0.5] * n, 8, 10, 0), None: coin([0.5] * n, 8, 900, 0)}, votes=1)
    assert four.oftener == 8 and four.tokens[2] == 80
    # from 10 tokens, 15 pay for no second vote: the trade is with 40; with four votes they do
    some = {b: coin([0.5] * n, 8, b, 0) for b in (10, 15, 40)}
    assert [(t.budget, t.longer) for t in trades(some, votes=1)] == [(10, 40), (15, 40)]
    assert [(t.longer, t.oftener) for t in trades(some, votes=4)] == [(15, 6), (40, 8)]


# --- difficulty


def test_difficulty_of_countdown():
    one = TASK.problem([7, 6, 10], 23)
    # brute force over left-to-right expressions, larger number first
    values = [chain.value for chain in cost.chains([7, 6, 10])]
    assert cost.solutions(one) == values.count(23) > 0
    assert cost.tries(one) == values.index(23) + 1
    assert (
        cost.tries(TASK.problem([1, 1, 1], 99)) == 0 == cost.solutions(TASK.problem([1, 1, 1], 99))
    )


def test_levels_share_the_problems_out():
    some = TASK.problems("held_out", 90)
    levels = by_difficulty(some)
    split = {name: [p for p in some if good(p)] for name, good in levels.items()}
    assert sum(map(len, split.values())) == 90 and all(len(part) > 15 for part in split.values())
    edges = [max(map(cost.tries, split[a])) < min(map(cost.tries, split[b]))
             for a, b in (("easy", "medium"), ("medium", "hard"))]  # fmt: skip
    assert all(edges)
    whole = {8: coin([0.5] * 90, 2, 8, 0)}
    assert len(cost.at_level(whole, levels["hard"])[8].problems) == len(split["hard"])


# --- published points


def test_every_published_point_has_source_and_date():
    for one in (*published.HAL, *published.PAPER_TOKENS):
        assert one.source and one.date and 0 < one.accuracy < 1
        place = one.point()
        assert place.accuracy.low < one.accuracy < place.accuracy.high and one.source in place.note
    shares = [round(100 * one.accuracy, 2) for one in published.HAL]
    assert shares == [33.33, 30.39, 30.39, 27.45, 27.45, 27.45, 26.47, 24.51, 23.53]
    assert published.R1_ON_HAL.dollars == pytest.approx(0.179, abs=5e-4)


def test_the_votes_are_those_of_paper_py_and_each_says_of_how_many_samples():
    rows = published.PAPER_VOTES["rows"]
    ours = paper.PAPER_BARS["paper, end"]
    alone, majority, samples, where = rows["DeepSeek-R1-Zero"]
    assert (alone, majority) == (ours["pass@1"][0], ours[f"cons@{samples}"][0])
    assert 100 * rows["DeepSeek-R1"][0] == pytest.approx(paper.STAGE_TABLE["rows"]["r1"][0])
    for one, most, samples, where in rows.values():
        assert 0 < one < most < 1 and samples in (16, 64) and "2501.12948v2" in where


def test_the_same_model_under_another_agent():
    of_hal = {one.label: round(102 * one.accuracy) for one in published.HAL}
    for label, (debug, generalist) in published.HAL_AGENTS["rows"].items():
        assert of_hal.get(label, debug) == debug > generalist
    shares = [f"{100 * b / 102:.2f}" for _, b in published.HAL_AGENTS["rows"].values()]
    assert shares == ["9.80", "19.61", "21.57", "17.65", "6.86", "0.98"]  # as HAL prints them
    for direct, _, debug in published.BENCHMARK_AGENTS["rows"].values():
        assert debug > direct


def test_r1_is_dominated_on_hal_and_its_place_depends_on_the_price_list():
    every, front = pareto([one.point() for one in published.HAL])
    r1 = next(p for p in every if "R1" in p.label)
    assert [p.label for p in front] == ["o4-mini (low)", "o3 (medium)"]
    assert {"o4-mini (low)", "GPT-4.1"} <= {p.label for p in cost.dominators(r1, every)}
    own = published.R1_ON_HAL.point(TARIFFS["deepseek-r1"])
    low, high = 102 * own.dollars.low, 102 * own.dollars.high
    assert (low, high) == pytest.approx((18.24 * 0.55 / 3, 18.24 * 2.19 / 7))
    mini = next(p for p in every if p.label == "o4-mini (low)")
    # at one end of what the tokens can have been nobody is as cheap, at the other R1 is dominated
    assert own.dollars.low < mini.dollars.value < own.dollars.high
    same = published.R1_ON_HAL.repriced(TARIFFS["together-r1"])
    assert same == pytest.approx((published.R1_ON_HAL.dollars,) * 3)


def test_what_cannot_be_repriced_is_said():
    with pytest.raises(R1LabError, match="price list"):
        published.HAL[0].repriced(Tariff(1, 2))
    r1, gpt = published.PAPER_TOKENS
    assert r1.repriced(Tariff(9, 2.19)).value == pytest.approx(8_793 * 2.19e-6)
    assert r1.tokens / gpt.tokens == pytest.approx(12.4, abs=0.05)


# --- the figure


def test_the_figure_draws_points_intervals_and_the_front():
    some = {8: coin([0.3] * 20, 4, 8, 0), None: coin([0.6] * 20, 4, 50, 1)}
    every, front = pareto(points("R1", some, votes=(1, 4)) + points("base", some, votes=(1,)),
                          cost="tokens")  # fmt: skip
    fig = show.accuracy_cost(every, front, cost="tokens")
    drawn = {trace.name: trace for trace in fig.data}
    assert set(drawn) == {"R1", "R1, 4 votes", "base", "Pareto front"}
    assert list(drawn["R1"].x) == [8, 50] and fig.layout.xaxis.type == "log"
    assert drawn["R1"].error_y.array[0] > 0 and "tokens" in fig.layout.xaxis.title.text
    assert list(drawn["Pareto front"].x) == [p.tokens.value for p in front]


def test_the_figure_of_published_points_names_them():
    every, front = pareto([one.point() for one in published.HAL])
    fig = show.accuracy_cost(every, front, title="ScienceAgentBench on HAL")
    texts = [trace.text[0] for trace in fig.data if trace.text]
    assert "DeepSeek-R1" in texts and len(texts) == 9
    assert all("captured 2026-04-21" in t.customdata[0] for t in fig.data if t.text)
    assert len({t.textposition[0] for t in fig.data if t.text}) > 1  # names make room
    own = published.R1_ON_HAL.point(TARIFFS["deepseek-r1"])  # a long name in the middle
    crowded = show.accuracy_cost([*every, own])
    low, high = crowded.layout.xaxis.range
    width, height = 5.9 * (high - low) / 366, 0.04 * crowded.layout.yaxis.range[1] / 1.08
    boxes = [
        name_box(math.log10(t.x[0]), t.y[0], len(t.text[0]), (width, height), t.textposition[0])
        for t in crowded.data if t.text
    ]  # fmt: skip
    assert len(boxes) == 10 and all(met(box, boxes) == 1 for box in boxes)  # itself
    tokens = [one.point() for one in published.PAPER_TOKENS]
    assert show.accuracy_cost(tokens, cost="tokens").data
    for wrong in ("euros", "dollars"):
        with pytest.raises(R1LabError):
            show.accuracy_cost(tokens, cost=wrong)

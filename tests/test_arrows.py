"""Which way a measure went is read from intervals, and only where they allow it."""

from __future__ import annotations

import math

import pytest

from r1lab import movements, scorecard, statistics
from r1lab.movements import DIVIDED, OTHERWISE, REPRODUCED
from r1lab.paper import STAGE_TABLE
from r1lab.statistics import DOWN, LEVEL, UP, Estimate, Measured, bootstrap_interval


def table(**changes) -> dict:
    """R1-Zero and Dev1: all measures 50 % [45, 55], but those of `changes` in Dev1."""
    before = dict.fromkeys(scorecard.MEASURES, Estimate(0.5, 0.45, 0.55))
    return {"ours": {"zero": before, "dev1": before | changes}, "paper": STAGE_TABLE}


def test_the_gap_of_two_values_squares_and_adds_their_ends():
    change = statistics.gap(Estimate(0.5, 0.46, 0.53), Estimate(0.7, 0.66, 0.72))
    assert change == pytest.approx((0.2, 0.2 - 0.05, 0.2 + math.hypot(0.02, 0.04)))
    assert math.isnan(statistics.gap(Estimate(0.5, math.nan, math.nan), Estimate(1, 1, 1)).low)


def test_a_change_is_told_with_its_interval_and_a_null_result_with_what_would_be_seen():
    rise = statistics.in_words(Estimate(0.2, 0.1, 0.3))
    assert rise == "+20.0 points [+10.0, +30.0], a clear rise"
    assert statistics.in_words(Estimate(-4.0, -6.0, -2.0), "tokens").endswith("a clear fall")
    level = Estimate(0.01, -0.029, 0.049)
    told = statistics.in_words(level)
    assert told.endswith("(one of 5.6 points would be seen in four runs of five)")
    assert statistics.in_words(Estimate(0.5, math.nan, math.nan)) == "+50.0 points"
    import numpy as np

    rng = np.random.default_rng(0)  # a change of `resolved` is seen so often
    means = rng.normal(statistics.resolved(Estimate(0, -0.0392, 0.0392)), 0.02, 4000)
    assert np.mean(means > 1.96 * 0.02) == pytest.approx(0.8, abs=0.02)


def test_the_gap_is_about_as_wide_as_the_spread_of_independent_means():
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.4, rng.random(200) < 0.6
    ends = [Estimate(float(x.mean()), *bootstrap_interval(x)) for x in (a, b)]
    width = statistics.gap(*ends).high - statistics.gap(*ends).low
    spread = 2 * 1.96 * math.sqrt(sum(x.var() / 200 for x in (a, b)))
    assert width == pytest.approx(spread, rel=0.1)


def test_what_was_measured_on_the_same_problems_is_compared_problem_by_problem():
    import numpy as np

    hard = np.linspace(0, 1, 40)  # problems differ far more than the two models do
    one, two = hard * 0.8, hard * 0.8 + np.tile([0.05, 0.15], 20)
    ends = [Measured.of(Estimate(x.mean(), *bootstrap_interval(x)), x, "40") for x in (one, two)]
    change = statistics.gap(*ends)
    assert change.value == pytest.approx(0.1) and 0.08 < change.low < change.high < 0.12
    other = Measured.of(ends[1], two, "40 others")
    apart = statistics.gap(ends[0], other)
    assert apart.low < 0 < apart.high and apart == statistics.gap(ends[0], Estimate(*ends[1]))
    assert statistics.way(change) == UP and statistics.way(apart) == LEVEL


def test_what_was_measured_with_the_same_seeds_is_compared_seed_by_seed():
    before, after = {"0": 0.5, "1": 0.7, "2": 0.9}, {"0": 0.54, "1": 0.75, "2": 0.96}
    ledger = {}
    for name, values in (("zero", before), ("dev1", after)):
        for measure in scorecard.MEASURES:
            mean = sum(values.values()) / 3
            row = {"value": mean, "low": mean - 0.5, "high": mean + 0.5, "values": values}
            ledger[f"r1/{name}/{measure}"] = row
    ours = scorecard.from_ledger(ledger)["ours"]
    change = statistics.gap(ours["zero"]["safe"], ours["dev1"]["safe"])
    assert change == pytest.approx((0.05, 0.05 - 0.02484, 0.05 + 0.02484), abs=1e-5)  # t, 2 d.f.


def test_an_arrow_needs_an_interval_that_leaves_no_other():
    one = table(
        countdown=Estimate(0.4, 0.36, 0.44),  # 5 + 4 as hypotenuse: 6.4 points, down
        lists=Estimate(0.6, 0.55, 0.65),
        helpful=Estimate(0.56, 0.51, 0.61),  # change within +-7.1 points
        safe=Estimate(math.nan, math.nan, math.nan),
    )
    found = {arrow.measure: arrow.way for arrow in movements.arrows(one["ours"])}
    assert found["countdown"] == DOWN and found["lists"] == UP
    assert found["helpful"] == found["safe"] == found["steps"] == LEVEL


def test_the_papers_movements_are_held_against_ours_each_once():
    one = table(countdown=Estimate(0.3, 0.26, 0.34), lists=Estimate(0.2, 0.15, 0.25))
    found = {row.ours.measure: row for row in movements.beside_paper(one)}
    assert list(found) == list(scorecard.ALIKE)
    assert found["countdown"].stated == {"AIME 2024": -18.9, "CNMO 2024": -30.1}
    assert found["countdown"].verdict == REPRODUCED
    assert found["countdown"].mean == pytest.approx(-0.245)
    assert found["lists"].verdict == OTHERWISE
    assert found["steps"].verdict == found["helpful"].verdict == LEVEL
    # our interval is 7.1 points to either side; the paper moves 5.7 (steps) and 24.4 (helpful)
    assert found["helpful"].powered and not found["steps"].powered
    said = movements.told(list(found.values()))
    assert said[0] == "reproduced: 1 of the paper's 5 movements: countdown R1-Zero → Dev1"
    assert said[1].endswith("lists R1-Zero → Dev1")
    assert said[3].startswith("not resolved here: 3 of")
    assert "in 1 of them a change of the paper's size would have been seen" in said[3]
    without = {"ours": {"zero": one["ours"]["zero"]}, "paper": STAGE_TABLE}
    assert movements.beside_paper(without) == []


def test_the_paper_has_twenty_movements_and_is_divided_about_two():
    card = dict.fromkeys(scorecard.MEASURES, Estimate(0.5, 0.49, 0.51))
    up = dict.fromkeys(scorecard.MEASURES, Estimate(0.7, 0.69, 0.71))
    models = dict(zip(scorecard.MODELS[1:], (card, up, card, up, card), strict=True))
    found = movements.beside_paper({"ours": models, "paper": STAGE_TABLE})
    assert len(found) == 20 and all(row.verdict != LEVEL for row in found)
    divided = [(row.ours.measure, row.ours.after) for row in found if row.verdict == DIVIDED]
    assert divided == [("steps", "dev3"), ("helpful", "dev2")]
    stated = [name for names in scorecard.ALIKE.values() for name in names]
    assert sorted(stated) == sorted(STAGE_TABLE["measures"])


def test_a_repair_is_not_told_as_a_gain():
    def card(x):
        return dict.fromkeys(scorecard.MEASURES, Estimate(x, x - 0.02, x + 0.02))

    ours = {"base": card(0.42), "zero": card(0.25), "r1": card(0.43)}
    assert {repair for _, repair in movements.since_zero(ours)} == {movements.REPAIR}
    gained = ours | {"r1": card(0.6)}
    assert {repair for _, repair in movements.since_zero(gained)} == {""}
    assert {repair for _, repair in movements.since_zero(gained | {"zero": card(0.42)})} == {""}
    text = movements.markdown({"ours": ours, "paper": STAGE_TABLE})
    assert f"(lists) +18 [+15, +21] ({movements.REPAIR})" in text


def test_the_base_has_arrows_of_ours_and_none_of_the_papers():
    one = table()
    one["ours"] = {"base": one["ours"]["zero"], **one["ours"]}
    head, *rows = movements.arrow_lines(one)
    assert head == ("", "base → R1-Zero", "R1-Zero → Dev1")
    assert all(len(row) == 3 for row in rows)
    cells = {row[0]: row[1:] for row in rows}
    assert cells["Countdown, pass@1"] == ("≈ +0 [-7, +7]", "≈ +0 [-7, +7]")
    both = "the paper's, beside Countdown: AIME 2024, CNMO 2024"
    assert cells[both] == ("–", "↓ -18.9, -30.1: not resolved here")


def test_learned_judges_are_told_in_shares_and_what_was_not_judged_is_left_out():
    found = {"agrees with labels": [0.8, 0.7, 0.9], "style alone": [None] * 3, "n": 9}
    found |= {"accuracy": [1.0, None, None], "calibration error": 0.125}
    lines = {row[0]: row[1] for row in scorecard.judge_lines({"helpfulness": found})}
    assert lines[scorecard.JUDGED["agrees with labels"]] == "80 % [70, 90]"
    assert lines[scorecard.JUDGED["accuracy"]] == "100 %"
    assert lines[scorecard.JUDGED["style alone"]] == "–"
    assert lines["calibration error"] == "12 points"
    assert set(scorecard.judge_estimates(found)) == {"agrees with labels", "accuracy"}

"""Rejection sampling: each filter takes what it should, and only that."""

from __future__ import annotations

import math

import pytest

from r1lab.answers import measure
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.rejection import funnel, repeats, unfiltered
from r1lab.tasks import get_task

TASK = get_task("countdown")
EN, ZH = TASK.problem([12, 5, 2], 34), TASK.problem([7, 4, 5], 33, "zh")
assert EN.split == ZH.split == "train", "choose others"
LINE = "12 * 2 → 24 + 5 → 29 ? 34 5 no wait"
GOOD = f"<think> {LINE} 12 + 5 → 17 * 2 → 34 ? 34 0 yes </think> <answer> ( 12 + 5 ) * 2 </answer>"
CUT = GOOD[: GOOD.index("</answer>")]
WRONG = GOOD.replace("* 2 </answer>", "+ 2 </answer>")
UNFORMED = GOOD + " ok"
MIXED = GOOD.replace("no wait", "不对 wait")
WORDLESS = "<think> 12 + 5 → 17 * 2 → 34 </think> <answer> ( 12 + 5 ) * 2 </answer>"
AGAIN = GOOD.replace(LINE, f"{LINE} {LINE}")
OTHER = GOOD.replace(LINE, "12 - 5 → 7 + 2 → 9 ? 34 25 no wait")
ZH_GOOD = "<think> 7 * 4 → 28 + 5 → 33 ? 33 0 对了 </think> <answer> ( 7 * 4 ) + 5 </answer>"


def drawn(*rows):
    problems = [problem for problem, _ in rows]
    completions = [
        [
            measure(problem, text, task=TASK, length=len(text.split()), finished=text is not CUT)
            for text in texts
        ]
        for problem, texts in rows
    ]
    return Evaluation(problems, completions)


def test_each_filter_takes_its_own():
    texts = [GOOD, CUT, WRONG, UNFORMED, MIXED, WORDLESS, AGAIN, GOOD, OTHER]
    found = funnel(drawn((EN, texts), (ZH, [WRONG, ZH_GOOD, GOOD])))
    assert found.stages == [
        ("drawn", 12, 2),
        ("finished", 11, 2),
        ("right", 8, 2),
        ("well formed", 7, 2),
        ("one language", 5, 2),
        ("readable", 4, 2),
        ("new", 3, 2),
        ("few per prompt", 3, 2),
    ]
    assert [(one.problem, one.completion) for one in found.examples] == [
        (EN, GOOD), (EN, OTHER), (ZH, ZH_GOOD),
    ]  # fmt: skip
    assert found.share("right") == pytest.approx(8 / 11)
    assert found.good() == pytest.approx(4 / 12) and found.good("right") == pytest.approx(8 / 12)
    assert found.harshest == "one language"
    for of in (found.share, found.good):
        with pytest.raises(R1LabError, match="there are finished, right"):
            of("drawn")
    taken = {name: [one.text for _, one in rows] for name, rows in found.fallen.items()}
    assert taken == {
        "finished": [CUT],
        "right": [WRONG, WRONG, GOOD],
        "well formed": [UNFORMED],
        "one language": [MIXED, WORDLESS],
        "readable": [AGAIN],
        "new": [GOOD],
        "few per prompt": [],
    }


def test_easy_questions_do_not_crowd_out_hard_ones():
    texts = [GOOD.replace(LINE, f"12 - {i} → {12 - i} no wait") for i in range(1, 9)]
    evaluation = drawn((EN, texts), (ZH, [ZH_GOOD]))
    found = funnel(evaluation, keep=2, seed=3)
    assert [one.problem for one in found.examples] == [EN, EN, ZH]
    assert found == funnel(evaluation, keep=2, seed=3)
    others = {funnel(evaluation, keep=2, seed=s).examples[0].completion for s in range(8)}
    assert len(others) > 1
    short = funnel(evaluation, longest=25)
    assert [one.problem for one in short.examples] == [ZH]
    extra = [("no minus", lambda problem, one: "-" not in one.text)]
    assert [one.problem for one in funnel(evaluation, extra=extra).examples] == [ZH]


def test_unfiltered_are_any_different_answers_of_the_number_asked_for():
    texts = [GOOD, CUT, WRONG, UNFORMED, GOOD]
    evaluation = drawn((EN, texts), (ZH, [ZH_GOOD]))
    some = unfiltered(evaluation, 3)
    assert len({one.completion for one in some}) == 3 and some == unfiltered(evaluation, 3)
    everything = unfiltered(evaluation, 99, seed=1)
    assert {one.completion for one in everything} == {*texts, ZH_GOOD}
    assert all((one.problem is ZH) == (one.completion == ZH_GOOD) for one in everything)
    assert len(unfiltered(evaluation, 99, keep=2)) == 2 + 1
    with pytest.raises(R1LabError, match="train problems only"):
        unfiltered(drawn((TASK.problems("held_out", 1)[0], [GOOD])), 1)


def test_nothing_left_is_no_error_and_held_out_problems_are():
    found = funnel(drawn((EN, [WRONG])))
    assert found.examples == [] and found.stages[-1] == ("few per prompt", 0, 0)
    assert math.isnan(found.share("well formed"))
    held_out = TASK.problems("held_out", 1)[0]
    with pytest.raises(R1LabError, match="train problems only"):
        funnel(drawn((held_out, [GOOD])))


def test_what_a_stage_drew_can_be_looked_at_again(random_folder, tmp_path):
    from r1lab import pipeline

    config = pipeline.PipelineConfig.smoke(base=random_folder, eval_problems=0)
    made = pipeline.run(config, tmp_path, until="cold", say=lambda line: None)
    found = pipeline.filtered(config, "cold", pipeline.drawn_in(tmp_path / "cold"))
    assert found.stages == made["cold"]["metrics"]["funnel"]
    with pytest.raises(R1LabError, match="no drawn answers.*make the stage"):
        pipeline.drawn_in(tmp_path / "data")


def test_repetition_is_a_line_of_working_twice():
    assert not repeats("") and not repeats("wait wait no no")
    assert repeats("7 + 6 = 13. no. 7 + 6 = 13.") and not repeats("7 + 6 = 13. 7 * 6 = 42.")
    assert repeats(f"{LINE} 12 + 5 → 17 ? 34 17 no wait {LINE}")

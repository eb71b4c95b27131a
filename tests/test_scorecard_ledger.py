"""A scorecard in the ledger of figures, with what the paper states of its stage beside it."""

from __future__ import annotations

import json
import math

import pytest

from r1lab import figures, scorecard
from r1lab.evaluate import Estimate
from r1lab.recipe import PipelineConfig

CARD = dict.fromkeys(scorecard.MEASURES, Estimate(0.5, 0.4, 0.6)) | {
    "length": Estimate(120.0, 110.0, 130.0),
    "safe": Estimate(math.nan, math.nan, math.nan),
}


def test_a_scorecard_is_recorded_with_the_papers_figures_and_without_what_is_not_known(tmp_path):
    scorecard.record(tmp_path, "dev1", CARD, PipelineConfig(eval_problems=8))
    found = figures.load(tmp_path)
    assert set(found) == {f"r1/dev1/{name}" for name in CARD if name != "safe"}
    assert found["r1/dev1/countdown"]["paper"] == 0.59 and found["r1/dev1/countdown"]["n"] == 8
    assert found["r1/dev1/lists"]["paper"] == pytest.approx(0.717)
    assert found["r1/dev1/format"] | {"source": ""} == {
        "value": 0.5, "low": 0.4, "high": 0.6, "n": None, "unit": "share", "paper": None,
        "source": "",
    }  # fmt: skip
    assert found["r1/dev1/length"]["unit"] == "tokens"
    assert scorecard.stated("base", "countdown") is None


def test_a_stage_table_can_end_at_a_stage(tmp_path):
    for name in ("base", "zero", "dev1"):
        path = tmp_path / name / scorecard.FILE
        path.parent.mkdir()
        known = {m: list(one) for m, one in CARD.items() if m != "safe"}
        path.write_text(json.dumps({"measures": known | {"safe": [None, None, None]}}))
    assert list(scorecard.stage_table(tmp_path)["ours"]) == ["base", "zero", "dev1"]
    assert list(scorecard.stage_table(tmp_path, ("base", "zero"))["ours"]) == ["base", "zero"]


def test_a_change_is_clear_where_the_intervals_are_apart():
    better = CARD | {"countdown": Estimate(0.8, 0.7, 0.9), "lists": Estimate(0.3, 0.2, 0.35)}
    rows = {row[0]: row[-1] for row in scorecard.changes(CARD, better)}
    assert rows[scorecard.MEASURES["countdown"]] == "up"
    assert rows[scorecard.MEASURES["lists"]] == "down"
    assert rows[scorecard.MEASURES["steps"]] == rows[scorecard.MEASURES["safe"]] == "not clear"


def test_arrows_are_held_against_the_papers():
    worse = CARD | {"countdown": Estimate(0.3, 0.2, 0.35), "lists": Estimate(0.3, 0.2, 0.35)}
    table = {"ours": {"base": CARD, "zero": CARD, "dev1": worse}, "paper": scorecard.PAPER}
    head, *rows = scorecard.arrows(table)
    assert len(rows) == len(scorecard.BESIDE) and {row[0] for row in rows} == {"R1-Zero → Dev1"}
    found = {row[1].split()[0]: row[2:] for row in rows}
    assert found["countdown"] == ("AIME 2024 77.9 → 59.0", "as in the paper")
    assert found["lists"] == ("IF-Eval 46.6 → 71.7", "the contrary")
    assert found["steps"][1] == "not clear here"
    ours, paper = scorecard.labelled(table)
    assert list(ours) == ["base", "R1-Zero", "Dev1"] and paper["R1"]["steps"] == 0.973

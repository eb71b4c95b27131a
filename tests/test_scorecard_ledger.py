"""A scorecard in the ledger of figures, with what the paper states of its stage beside it."""

from __future__ import annotations

import json
import math

import pytest

from r1lab import scorecard
from r1lab.basics import ledger
from r1lab.recipe import PipelineConfig
from r1lab.statistics import Estimate

CARD = dict.fromkeys(scorecard.MEASURES, Estimate(0.5, 0.4, 0.6)) | {
    "length": Estimate(120.0, 110.0, 130.0),
    "safe": Estimate(math.nan, math.nan, math.nan),
}


def test_a_scorecard_is_recorded_with_the_papers_figures_and_without_what_is_not_known(tmp_path):
    scorecard.record(tmp_path, "dev1", CARD, PipelineConfig(eval_problems=8))
    found = ledger.load(tmp_path)
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

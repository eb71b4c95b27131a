"""What the lessons show of the reference run, and the measures of lesson 01."""

from __future__ import annotations

import json

import numpy as np
import pytest

from r1lab.course import reference
from r1lab.world import probe


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(reference.show, "show_html", lambda *both: found.append(both))
    monkeypatch.setattr(reference.show, "figure", lambda *both: found.append(both))
    return found


def results(tmp_path, **more):
    path = tmp_path / "results.json"
    about = {"profile": "cpu", "seeds": [0], "hardware": {}, "versions": {}, "figures": {}}
    path.write_text(json.dumps(about | more), encoding="utf-8")
    return path


def test_without_a_reference_run_the_lesson_says_so(shown, tmp_path):
    for path in (tmp_path / "none.json", results(tmp_path)):
        reference.before_and_after(path)
        reference.curves(path)
    assert [text.split()[-3] for _, text in shown] == ["05", "its"] * 2, shown


def test_completions_and_curves_are_those_of_the_results_file(shown, tmp_path):
    texts = {"base": "<think> maybe </think>", "R1-Zero": "<think> no wait </think>"}
    kept = [{"task": "countdown", "question": "make 1 from 2 3 4 .", "texts": texts}]
    curves = {
        "accuracy": {"0": [0.1, 0.6], "1": [0.2, 0.8]},
        "length": {"0": [9, 99], "1": [8, 88]},
    }
    curves["reflection"] = {"0": [0, 5], "1": [1, 6]}
    path = results(tmp_path, completions=kept, curves=curves)
    reference.before_and_after(path)
    markup, text = shown.pop()
    assert "make 1 from 2 3 4" in markup and "R1-Zero" in markup and "no wait" in text
    reference.curves(path)
    fig, _ = shown.pop()
    means = [trace for trace in fig.data if trace.line.width == 2.5 and trace.xaxis == "x"]
    assert len(means) == 1 and np.allclose(means[0].y, [0.425, 0.425])  # of 2 seeds and 5 steps


def test_a_model_beside_itself_has_no_before_and_after():
    assert reference.completions("tiny", base="tiny") == []


def test_the_mean_of_some_responses_has_an_interval_over_problems():
    values = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1]])
    every = np.ones_like(values, dtype=bool)
    value, low, high = probe.mean_where(values, every)
    assert value == pytest.approx(4 / 9) and low < value < high
    assert low >= 0 and high <= 2 / 3
    few = np.array([[True, True, False], [False] * 3, [False] * 3])
    assert probe.mean_where(values, few)[:1] == (1.0,)
    zero = probe.mean_where(np.zeros_like(values), every)
    assert zero.value == 0 and zero.high > 0.2  # three problems, none of them ever
    assert np.isnan(probe.mean_where(values, ~every)).all()

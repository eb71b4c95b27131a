"""What distillation is said to have shown is what was measured."""

from __future__ import annotations

import json

import pytest

from r1lab import distillation
from r1lab.statistics import LEVEL, Estimate


def found(**scores) -> dict:
    """As `compare` returns it, from the middles of intervals of ten points, in per cent."""
    ends = (0, -0.05, 0.05)
    rows = {"student": 10, "teach": 50, "reinforce": 50, "both": 50} | scores
    return {
        name: {"flops": 2e12, "scores": {"countdown": Estimate(*(x / 100 + d for d in ends))}}
        for name, x in rows.items()
    }


@pytest.mark.parametrize(
    ("reinforce", "words", "reason"),
    [
        (20, "better than", "teach"),
        (80, "worse than", "reinforce"),
        (48, f"{LEVEL} from", "neither"),
    ],
)
def test_the_words_follow_the_interval(reinforce, words, reason):
    said = distillation.explain(found(reinforce=reinforce))
    assert words in said[0] and f"{50 - reinforce:+.0f} points" in said[0]
    assert said[-1] == distillation.REASONS[reason]


def test_what_rl_adds_is_said_with_its_sign():
    assert "adds to" in distillation.explain(found(both=70))[1]
    assert "takes from" in distillation.explain(found(both=30))[1]
    assert "not seen" in distillation.explain(found(both=52))[1]


def test_tasks_that_disagree_have_no_winner():
    one, other = found(reinforce=20), found(reinforce=80)
    for name, row in one.items():
        row["scores"]["steps"] = other[name]["scores"]["countdown"]
    said = distillation.explain(one)
    assert "disagree" in said[-1] and len(said) == 5


def test_the_course_of_rl_starts_at_no_cost(tmp_path):
    for name, rows in (
        ("costs.jsonl", [{"step": 0, "flops": 5}, {"step": 1, "flops": 7}]),
        ("metrics.jsonl", [{"step": 0, "accuracy": 0.1}, {"step": 1, "accuracy": 0.3}]),
    ):
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    course = distillation.course(tmp_path)
    assert [(row["flops"], row["accuracy"]) for row in course] == [(0, 0.1), (5, 0.3)]

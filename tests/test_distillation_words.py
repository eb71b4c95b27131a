"""What distillation is said to have shown is what was measured."""

from __future__ import annotations

import json

import pytest

from r1lab import distillation
from r1lab.statistics import LEVEL, Estimate


def found(**scores) -> dict:
    """As `compare` returns it, from the middles of intervals of ten points, in per cent."""
    ends = (0, -0.05, 0.05)
    rows = {"student": 10, "distilled": 50, "rl": 50, "both": 50} | scores
    return {
        name: {
            "flops": 0 if name in ("student", "teacher") else 2e12,
            "scores": {"countdown": Estimate(*(x / 100 + d for d in ends))},
        }
        for name, x in rows.items()
    }


@pytest.mark.parametrize(
    ("rl", "words", "last"),
    [
        (20, "better than RL alone on countdown (+30 points", "distillation is better where"),
        (80, "worse than RL alone on countdown (-30 points", "RL is better where"),
        (48, f"{LEVEL} from RL alone on countdown (+2 points", "does not mean equal"),
    ],
)
def test_the_words_follow_the_interval(rl, words, last):
    said = distillation.explain(found(rl=rl))
    assert words in said[0] and "2e+12 operations" in said[0]
    assert last in said[-1]


def test_what_rl_adds_is_said_with_its_sign():
    for both, words in ((70, "better than"), (30, "worse than"), (52, LEVEL)):
        line = distillation.explain(found(both=both))[1]
        assert line.startswith("Distillation followed by RL is ") and words in line


def test_no_comparison_is_left_out():
    rows = found(rl_longer=80, both=30, teacher=90)
    said = distillation.explain(rows)
    assert len(said) == len(distillation.COMPARED) + 1
    assert "Distillation is worse than RL alone with more compute" in said[1]
    assert "followed by RL is worse than RL alone with more compute" in said[3]
    assert said[4].startswith("The teacher is better than distillation")
    assert set(distillation.gaps(rows)) == {
        (*pair, task) for pair in distillation.COMPARED for task in ("countdown", "mean")
    }


def test_tasks_that_disagree_have_no_winner():
    one, other = found(rl=20), found(rl=80)
    for name, row in one.items():
        row["scores"]["steps"] = other[name]["scores"]["countdown"]
    said = distillation.explain(one)
    assert (
        "better than RL alone on countdown" in said[0] and "worse than RL alone on steps" in said[0]
    )
    assert "disagree" in said[-1]


def test_the_course_of_rl_starts_at_no_cost(tmp_path):
    for name, rows in (
        ("costs.jsonl", [{"step": 0, "flops": 5}, {"step": 1, "flops": 7}]),
        ("metrics.jsonl", [{"step": 0, "accuracy": 0.1}, {"step": 1, "accuracy": 0.3}]),
    ):
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    course = distillation.course(tmp_path)
    assert [(row["flops"], row["accuracy"]) for row in course] == [(0, 0.1), (5, 0.3)]

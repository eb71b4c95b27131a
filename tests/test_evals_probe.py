"""`r1lab probe`: what RL would see of a base, and what is said of it."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from r1lab import cli
from r1lab.answers import Completion
from r1lab.basics.errors import R1LabError
from r1lab.evals.probe import Readiness, probe, table
from r1lab.evaluate import Evaluation
from r1lab.models.load import load
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task

TASK = get_task("countdown")
TAGGED = "<think> so </think> <answer> 1 + 1 </answer>"


def base(right, n=8, text=TAGGED, **more) -> Readiness:
    """A base that solves problem p in right[p] of n completions."""
    usual = {"finished": True, "vote": None, "well_formed": True, "reflection": 0}
    usual |= {"consistency": 1.0, "mixed": False} | more
    rows = [[Completion(text, 9, correct=i < c, **usual) for i in range(n)] for c in right]
    found = Evaluation(TASK.problems("train", len(right)), rows)
    return Readiness("countdown", "tiny", found, G=4, B=16)


def test_groups_with_variance_are_counted_over_all_groups():
    right = [0, 1, 4, 8]
    shares = []
    for c in right:
        groups = list(combinations([i < c for i in range(8)], 4))
        shares.append(np.mean([any(g) and not all(g) for g in groups]))
    assert base(right).varied.value == pytest.approx(np.mean(shares))


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (base([0] * 12), "nothing to reward"),
        (base([8] * 12), "nearly solved"),
        (base([1] + [0] * 40), "mostly noise"),
        (base([4] * 12), "ready: 15.5 of 16 groups"),
        (base([4] * 12, text="1 + 1"), "no answer in tags"),
        (base([4] * 12, finished=False), "truncated"),
        (base([4] * 12, consistency=0.5), "language"),
    ],
    ids="none all few ready form cut language".split(),
)
def test_the_advice_fits_the_base(one, said):
    assert any(said in sentence for sentence in one.advice()), one.advice()


def test_the_tiny_base_is_ready_on_steps_and_not_on_four_numbers():
    model, tokenizer = load("tiny")
    short = Sampling(64, seed=0)
    hard = get_task("countdown", numbers=4)
    rows = probe(model, tokenizer, ["steps", hard], n=6, k=8, batch=(16, 8), sampling=short)
    assert [one.task for one in rows] == ["steps", "countdown"]
    assert {p.split for one in rows for p in one.found.problems} == {"train"}
    assert "ready" in rows[0].advice()[0] and "nothing to reward" in rows[1].advice()[0]
    head, *lines = table(rows)
    assert head == ("", "steps, tiny", "countdown, tiny") and all(len(x) == 3 for x in lines)
    with pytest.raises(R1LabError, match="groups of 16 need 16"):
        probe(model, tokenizer, ["steps"], k=8)


def test_the_command_prints_what_the_function_finds(capsys):
    few = "--n 3 --k 4 --group-size 4 --max-new-tokens 48 --device cpu --task steps".split()
    assert cli.main(["probe", *few]) == 0
    text = capsys.readouterr().out
    assert "tiny on steps, template tiny: 3 problems" in text and "groups with variance" in text
    assert cli.main(["probe", *few, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["task"] == "steps" and row["advice"] and 0 <= row["measures"]["pass@1"]["value"] <= 1

"""The comparison of GRPO's successors: fair budgets, a ledger that goes on, verdicts."""

from __future__ import annotations

import json

import pytest

from r1lab import cli
from r1lab.basics.errors import R1LabError
from r1lab.bench import successors
from r1lab.bench.successors import PAPER, Runner, Size, measure, race, regimes, results
from r1lab.grpo import GRPOConfig, train
from r1lab.models.load import load
from r1lab.tasks import get_task

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Size(steps=2, problems=3, k=2)


def test_every_regime_states_what_it_compares_before_it_is_measured():
    assert len([key for one in regimes().values() for key in one.variants]) >= 8
    for name, regime in regimes().items():
        paper = regime.config(PAPER, 0, 4)
        assert (paper.advantage, paper.surrogate, paper.ratio_level) == ("grpo", "clip", "token")
        for key, one in regime.variants.items():
            assert regime.config(key, 0, 4) != paper, f"{name}/{key} changes nothing"
            measure, which = one.expects
            assert measure in ("accuracy", "wrong_length") and which in ("up", "down")
            assert one.against == PAPER or one.against in regime.variants
    with pytest.raises(R1LabError, match="did you mean 'stale'"):
        successors.regime_of("stal")


@pytest.mark.parametrize("changes", [{}, {"staleness": 2, "minibatches": 2}, {"kl_coef": 0.04}],
                         ids=["plain", "stale", "kl"])  # fmt: skip
def test_a_runner_takes_the_steps_of_the_training_loop(changes, tmp_path):
    config = GRPOConfig(steps=3, questions=2, group_size=4, max_new_tokens=24, ref_refresh=2,
                        learning_rate=3e-3, **changes)  # fmt: skip
    model, tokenizer = load("tiny")
    task = get_task("steps")
    runner = Runner(model, tokenizer, task, config)
    for _ in range(3):
        runner.advance()
    history = train(model, tokenizer, task, config, tmp_path, progress=False)
    assert [m["loss"] for m in runner.history] == [m["loss"] for m in history]
    ours, theirs = runner.model.parameters(), model.parameters()
    assert all(a.equal(b) for a, b in zip(ours, theirs, strict=True))


def test_both_budgets_are_kept():
    found = race("rare", 0, SMALL, ["dynamic"])
    paper, dynamic = found[PAPER], found["dynamic"]
    assert paper["samples"] == paper["seconds"] and paper["samples"]["steps"] == 2
    assert paper["samples"]["samples"] == 128
    assert dynamic["samples"]["samples"] >= 128 and dynamic["samples"]["steps"] < 2 * 2
    assert dynamic["samples"]["steps"] <= 2, "a step of dynamic sampling draws more"


def test_mostly_hard_has_four_numbers_in_three_of_four():
    sizes = [len(p.data["numbers"]) for p in successors.MostlyHard().problems("train", 8)]
    assert sizes == [3, 4, 4, 4] * 2
    assert {len(p.data["numbers"]) for p in successors.MostlyHard().problems("held_out", 4)} == {3}


def test_the_ledger_goes_on_where_it_was(tmp_path, monkeypatch, capsys, warm_processes):
    ledger, how = tmp_path / "ledger.json", {"size": SMALL, "jobs": 1, "only": ["scales"]}
    book = measure([0], ledger=ledger, **how)
    assert list(book["runs"]) == ["scales/0"]
    capsys.readouterr()
    assert measure([0], ledger=ledger, **how)["runs"] == book["runs"]
    assert not capsys.readouterr().err, "measured again"
    book["runs"]["scales/1"] = json.loads(json.dumps(book["runs"]["scales/0"]))
    rows = results(book)
    assert [one.key for one in rows] == ["gdpo", "weighed"] and rows[0].seeds == 2
    assert rows[0].verdict in (successors.REAL, successors.HURTS, successors.NOISE)
    monkeypatch.setattr(successors, "LEDGER", ledger)
    assert cli.main(["successors"]) == 0 and "GDPO" in capsys.readouterr().out


def made(apart: dict[str, list[float]], key="gspo", regime="stale"):
    """A ledger in which a variant is so many points better, by budget and seed."""
    level = {"accuracy": 0.5, "wrong_length": 50.0, "steps": 16}
    runs = {}
    for seed, gaps in enumerate(zip(*apart.values(), strict=True)):
        found = {
            one: {b: dict(level) for b in apart} for one in (PAPER, *regimes()[regime].variants)
        }
        for budget, gap in zip(apart, gaps, strict=True):
            found[key][budget]["accuracy"] += gap
        runs[f"{regime}/{seed}"] = {"found": found}
    return next(one for one in results({"runs": runs}) if one.key == key)


@pytest.mark.parametrize(
    ("samples", "seconds", "verdict"),
    [
        ([0.1, 0.11, 0.12], [0.1, 0.11, 0.12], "real gain"),
        ([0.1, 0.11, 0.12], [-0.2, 0.0, 0.2], "gain at equal samples"),
        ([-0.2, 0.0, 0.2], [-0.2, 0.0, 0.2], "noise"),
        ([-0.2, 0.0, 0.2], [-0.1, -0.11, -0.12], "hurts"),
    ],
    ids="real one noise hurts".split(),
)
def test_a_verdict_needs_intervals(samples, seconds, verdict):
    one = made({"samples": samples, "seconds": seconds})
    assert one.verdict == verdict
    assert one.change["samples"].value == pytest.approx(sum(samples) / 3)

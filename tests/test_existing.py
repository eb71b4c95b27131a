"""SmolLM2-135M on two cores: the recipe is what is measured, the table is made from the ledger."""

from __future__ import annotations

import json
import math

import pytest

from r1lab import cli
from r1lab.answers import Completion
from r1lab.basics.files import read_json
from r1lab.bench import existing, existing_run
from r1lab.bench.existing import LEDGER, PARTS, config_of, over_seeds, parts, recipe
from r1lab.evaluate import Evaluation
from r1lab.tasks.gym.words import WordProblems

TASK = WordProblems("easy", ("largest",))


def test_the_recipe_is_what_the_measurement_trains():
    args = cli.parse(["train", "--config", existing.RECIPE])
    assert args.settings == config_of(recipe(), args.settings.seed)
    assert (args.model, args.backend, args.trl.lora_rank) == ("smollm2-135m", "trl", 16)
    assert args.held_out == recipe()["held_out"] and args.settings.rewards == ("accuracy",)


def test_held_out_numbers_are_in_no_training_problem_in_any_order():
    sides = {
        split: {tuple(sorted(p.question.split(":")[1].split("?")[0].split(", ")))
                for p in TASK.problems(split, 200)}
        for split in ("train", "held_out")
    }  # fmt: skip
    assert not sides["train"] & sides["held_out"] and len(sides["held_out"]) > 100
    for p in TASK.problems("held_out", 50):
        listed = [int(one) for one in p.question.split(":")[1].split("?")[0].split(",")]
        assert TASK.solution(p) == str(max(listed)) and len(set(listed)) == 3


def said(text: str, correct: bool) -> Completion:
    usual = {"finished": True, "vote": None, "well_formed": False, "reflection": 0}
    return Completion(text, 9, correct=correct, consistency=1.0, mixed=False, **usual)


def test_a_gain_is_taken_apart_into_form_reading_and_choice():
    problem = TASK.problems("train", 1)[0]
    largest = problem.data["answer"]
    other = next(x for x in problem.question.split(":")[1].split("?")[0].split(", ")
                 if x.strip() != largest).strip()  # fmt: skip
    row = [
        said(f"<answer> {largest} </answer>", True),
        said(f"<answer> {other} </answer>", False),
        said("<answer> 1000 </answer>", False),
        said(f"{largest} is the largest", False),
    ]
    found = parts(Evaluation([problem], [row]))
    wanted = {"pass@1": 1 / 4, "answered": 3 / 4, "listed": 1 / 2, "right_if_listed": 1 / 2}
    assert found == pytest.approx(wanted | {"lenient": 1 / 2, "length": 9})
    assert found["pass@1"] == found["listed"] * found["right_if_listed"]


def test_a_seed_in_toy_sizes(random_model, tmp_path, monkeypatch):
    small = {"steps": 2, "questions": 2, "group_size": 2, "max_new_tokens": 4, "held_out": 3}
    small |= {"lora_rank": 2, "precision": "fp32", "task": "steps", "template": "tiny"}
    small |= {"task_option": {}}
    monkeypatch.setattr(existing_run, "END", "")
    found = existing_run.race(0, recipe() | small, tmp_path, random_model)
    assert found["steps"] == 2 and len(found["curve"]) == 2 and found["held_out"] == 3
    assert set(found["measures"]) == {
        "before",
        "after",
        "before_greedy",
        "after_greedy",
        "prompted",
    }
    assert all(set(one) == set(PARTS) for one in found["measures"].values())


def made(*gains: float) -> dict:
    """A ledger whose seeds have these gains."""
    runs = {}
    for seed, gain in enumerate(gains):
        base = dict.fromkeys(PARTS, 0.25)
        runs[str(seed)] = {
            "measures": {side: dict(base) for side in ("before", "before_greedy", "prompted")}
            | {side: dict.fromkeys(PARTS, 0.25 + gain) for side in ("after", "after_greedy")},
            "seconds": 600.0 + seed,
        }
    return {"runs": runs}


def test_claims_are_judged_over_the_seeds_and_time_by_the_slowest():
    gain, minutes = existing.claims()["gain"], existing.claims()["minutes"]
    assert existing.holds(gain, made(0.5, 0.52, 0.54)) and existing.holds(minutes, made(0.5, 0.5))
    assert not existing.holds(gain, made(0.1, 0.5, 0.9)), "its interval includes the threshold"
    assert not existing.holds(gain, made(0.5)), "one seed is no interval"
    slow = made(0.5, 0.5, 0.5)
    slow["runs"]["2"]["seconds"] = 15.1 * 60
    assert not existing.holds(minutes, slow)
    found = over_seeds(made(0.5, 0.52, 0.54))
    parts_of_it = found["of_gain/form"].value + found["of_gain/choice"].value
    assert parts_of_it == pytest.approx(found["gain/pass@1"].value)
    low, high = found["gain/pass@1"][1:]
    assert low < 0.52 < high and math.isnan(over_seeds(made(0.5))["gain/pass@1"].low)


def test_the_committed_table_is_made_from_the_ledger():
    book = read_json(LEDGER)
    assert (
        sorted(book["runs"]) == [str(seed) for seed in existing.SEEDS]
        and book["recipe"] == recipe()
    )
    assert {one["stated"] for one in book["runs"].values()} == {existing.stated()}
    assert LEDGER.with_suffix(".md").read_text(encoding="utf-8") == existing.page(book)
    assert book["hardware"]["cores"] == 2 and book["versions"]["trl"]


def test_train_measures_held_out_problems_before_and_after(random_folder, tmp_path, capsys):
    small = "--steps 1 --questions 2 --group-size 2 --max-new-tokens 8 --quiet --held-out 3"
    argv = ["train", "--model", random_folder, "--task", "steps", "--out", str(tmp_path / "run")]
    assert cli.main([*argv, *small.split()]) == 0
    assert "pass@1 of 3 held-out problems: +0.0 points" in capsys.readouterr().out
    kept = json.loads((tmp_path / "run" / "held_out.json").read_text())
    assert kept["problems"] == 3 and kept["before"]["pass@1"]["value"] == 0.0
    assert kept["change"]["value"] == 0.0 and kept["settings"]["k"] == 4

"""The speedrun: recipes are read or refused, runs are verified from scratch, rows are honest; and
what leaves a run for other tools, parquet and a tracker."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from datasets import load_dataset

from r1lab import cli
from r1lab.basics.errors import R1LabError
from r1lab.bench import speedrun
from r1lab.grpo import GRPOConfig, train
from r1lab.tasks import get_task
from r1lab.training import export
from r1lab.training.report import Report
from r1lab.trl_backend.mapping import Launch

ROW = {
    "recipe": "mine", "changed": "all", "seconds": 60.0, "low": 0.81, "verified": True,
    "seeds": [{"seed": 0, "seconds": 50.0}, {"seed": 1, "seconds": 60.0}], "date": "2026-11-29",
    "hardware": {"cpu": "a CPU", "cores": 2}, "commit": "abc", "base": "123",
}  # fmt: skip


def recipe(tmp_path, text, name="mine.yaml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


@pytest.mark.parametrize("name", speedrun.names())
def test_the_recipes_of_the_repository_can_be_read(name):
    found = speedrun.read(name)
    assert found.changed and callable(found.train) and found.name == name


def test_there_are_several_recipes():
    assert {"plain", "hopeless", "curriculum"} <= set(speedrun.names())
    assert len(speedrun.names()) > 4


@pytest.mark.parametrize(
    "text, words",
    [
        ("steps: 3", "must say what it changed"),
        ("changed: x\nsteqs: 3", "no option steqs; did you mean 'steps'"),
        ("changed: x\nsteps: 0", "steps must be at least 1"),
        ("changed: x\nseed: 3", "no option seed"),
        ("[", "cannot read"),
    ],
)
def test_a_recipe_that_cannot_be_right_is_refused(tmp_path, text, words):
    with pytest.raises(R1LabError, match=words):
        speedrun.read(recipe(tmp_path, text))


def test_a_name_that_is_none_is_refused(tmp_path):
    with pytest.raises(R1LabError, match="there is no recipe plane; did you mean 'plain'"):
        speedrun.read("plane")
    with pytest.raises(R1LabError, match="must have CHANGED"):
        speedrun.read(recipe(tmp_path, "train = 3\n", "mine.py"))


def test_a_recipe_stops_where_its_training_accuracy_says(random_model, tmp_path):
    model, tokenizer = random_model
    small = "changed: x\nsteps: 5\nquestions: 2\ngroup_size: 2\nmax_new_tokens: 8\nwindow: 2\n"
    for stop, steps in (("stop_at: 0.0", 2), ("stop_at: 0.5", 5)):  # it never solves one
        out = tmp_path / stop[-3:]
        found = speedrun.read(recipe(tmp_path, small + stop))
        before = next(model.parameters()).clone()
        found.train(model, tokenizer, get_task("countdown"), 3, str(out))
        assert len((out / "metrics.jsonl").read_text().splitlines()) == steps
        assert torch.isfinite(before).all()


def test_a_quick_run_measures_both_and_writes_no_row(tmp_path, capsys, warm_processes):
    """For real, in processes of their own, on the embedded base: but for its sizes."""
    kept = speedrun.TABLE.read_bytes() if speedrun.TABLE.exists() else None
    small = recipe(tmp_path, "changed: nothing\nsteps: 2")
    assert cli.main(["speedrun", "hopeless", "--beside", small, "--quick"]) == 0
    out = capsys.readouterr().out
    assert "hopeless:" in out and "mine:" in out and "times" in out and "no row" in out
    assert (speedrun.TABLE.read_bytes() if speedrun.TABLE.exists() else None) == kept


def test_what_is_not_verified_gets_no_row(tmp_path):
    seeds = [
        {"seed": 0, "seconds": 9.0, "accuracy": [0.85, 0.82, 0.88]},
        {"seed": 1, "seconds": 7.0, "accuracy": [0.82, 0.79, 0.85]},
    ]
    found = speedrun.summed(seeds, 0.8)
    assert (found["seconds"], found["low"], found["verified"]) == (9.0, 0.79, False)
    assert speedrun.summed(seeds[:1], 0.8)["verified"]
    with pytest.raises(R1LabError, match="only a verified run"):
        speedrun.enter(ROW | {"verified": False}, tmp_path / "table.json")
    assert not (tmp_path / "table.json").exists()


def test_rows_are_kept_and_records_are_those_of_one_machine(tmp_path, capsys):
    table = tmp_path / "table.json"
    beside = {"beside": {"recipe": "plain", "seconds": 120.0, "times_faster": 3.0}}
    for row in (ROW, ROW | {"seconds": 70.0}, ROW | {"seconds": 40.0} | beside,
                ROW | {"seconds": 50.0, "hardware": {"cpu": "other", "cores": 2}}):  # fmt: skip
        speedrun.enter(row, table)
    assert [row["seconds"] for row in speedrun.rows_of(table)] == [60.0, 70.0, 40.0, 50.0]
    page = table.with_suffix(".md").read_text()
    lines = [line for line in page.splitlines() if "mine" in line]
    assert ["**" in line for line in lines] == [True, False, True, True]
    assert "3.00 × plain" in lines[2] and "81.0 %" in lines[0] and "a CPU, 2 cores" in lines[0]
    assert cli.main(["speedrun", "--out", str(table)]) == 0
    out = capsys.readouterr().out
    assert page in out and "plain" in out


def test_the_committed_page_is_made_from_the_committed_rows():
    rows = speedrun.rows_of()
    assert speedrun.TABLE.with_suffix(".md").read_text(encoding="utf-8") == speedrun.page(rows)
    assert all(row["verified"] and row["low"] >= 0.8 for row in rows)


# --- other tools ---------------------------------------------------------------------------------


@pytest.fixture
def a_run(random_model, tmp_path):
    model, tokenizer = random_model
    config = GRPOConfig(steps=2, questions=2, group_size=4, max_new_tokens=8, samples_every=1)
    train(model, tokenizer, get_task("countdown"), config, tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_completions_and_metrics_load_as_data_sets(a_run, tmp_path, capsys):
    assert cli.main(["export", str(a_run), "--out", str(tmp_path / "out")]) == 0
    assert "8 rows" in capsys.readouterr().out
    for kind, source, rows in (("completions", "samples", 8), ("metrics", "metrics", 2)):
        how = {"data_files": str(tmp_path / "out" / f"{kind}.parquet"), "split": "train"}
        found = load_dataset("parquet", cache_dir=str(tmp_path / "cache"), **how)
        wanted = [json.loads(x) for x in (a_run / f"{source}.jsonl").read_text().splitlines()]
        assert len(found) == rows == len(wanted)
        for name in ("step", "text", "reward", "tokens", "rewards"):
            if name in wanted[0]:
                assert found[name][:] == [row[name] for row in wanted]


def test_a_saved_evaluation_becomes_a_row_for_each_completion(tmp_path):
    problems = [{"id": "a", "question": "?", "split": "held_out"}, {"id": "b", "question": "!"}]
    rows = [[{"text": "x", "correct": True}, {"text": "y", "correct": None}], [{"text": "z"}]]
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps({"problems": problems, "completions": rows}))
    [(path, count)] = export.export(file)
    how = {"data_files": str(path), "split": "train", "cache_dir": str(tmp_path / "cache")}
    found = load_dataset("parquet", **how)
    assert count == 3 and path == tmp_path / "completions.parquet"
    assert found["id"][:] == ["a", "a", "b"] and found["correct"][:] == [True, None, None]


def test_nothing_to_export_is_said(tmp_path):
    with pytest.raises(R1LabError, match="has no completions"):
        export.export(tmp_path)
    assert not list(tmp_path.iterdir())


TRACKER = """
import json
calls = []
def init(**how): calls.append(["init", how])
def log(numbers, step): calls.append(["log", step, numbers])
def finish(): calls.append(["finish"])
"""


def test_metrics_go_to_a_tracker_step_by_step(random_folder, tmp_path, monkeypatch):
    """A stand-in with trackio's three functions: trackio is not installed with r1lab."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "trackio.py").write_text(TRACKER)
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setitem(sys.modules, "trackio", None)  # so that it is taken out again at the end
    del sys.modules["trackio"]
    out = tmp_path / "a-run"
    line = (
        f"train --model {random_folder} --steps 2 --questions 2 --group-size 2 --max-new-tokens 8"
    )
    more = ["--max-new-tokens", "8", "--quiet", "--out", str(out), "--report", "trackio"]
    assert cli.main([*line.split(), *more]) == 0
    calls = sys.modules["trackio"].calls
    assert [one[0] for one in calls] == ["init", "log", "log", "finish"]
    assert calls[0][1]["name"] == "a-run" and calls[0][1]["config"]["steps"] == 2
    assert calls[0][1]["resume"] == "allow" and not calls[0][1]["embed"]
    lines = [json.loads(x) for x in (out / "metrics.jsonl").read_text().splitlines()]
    for (_, step, numbers), line in zip(calls[1:3], lines, strict=True):
        assert step == line["step"] and numbers["reward"] == line["reward"]
        assert not {"diagnoses", "kl", "step"} & set(numbers)  # trackio warns about a "step"


def test_a_tracker_that_is_not_installed_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(R1LabError, match="pip install trackio"):
        Report("trackio", "run", {})
    assert cli.main(["train", "--report", "wandb"]) == 2
    assert "--report wandb needs --backend trl" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(R1LabError, match="pip install wandb"):
        Launch(report_to="wandb")

"""Stages: made once, made again when what they read has changed, resumed when they were stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from r1lab import models
from r1lab.training import stages
from r1lab.training.stages import content, stage


@pytest.fixture
def base(random_folder):
    return Path(random_folder)


class Copying:
    """A stage that adds `step` to the weights, counted."""

    def __init__(self, source):
        self.source, self.calls = source, 0

    def __call__(self, folder):
        self.calls += 1
        if not (folder / "half").exists():
            (folder / "half").write_text("done")
            if self.calls == 1 and self.stop:
                raise KeyboardInterrupt
        model, tokenizer = models.load(str(self.source))
        with torch.no_grad():
            for weight in model.parameters():
                weight += 1
        models.save(model, tokenizer, folder / "model")
        return {"loss": 1.5}

    stop = False


def test_it_is_made_once(base, tmp_path):
    make, said = Copying(base), []
    call = ("sft", tmp_path / "a", {"base": base}, {"epochs": 2}, make)
    first = stage(*call, say=said.append)
    again = stage(*call, say=said.append)
    assert make.calls == 1 and first["made"] and not again["made"]
    assert {k: v for k, v in first.items() if k != "made"} == {
        k: v for k, v in again.items() if k != "made"
    }
    assert first["reads"] == {"base": content(base)} and first["metrics"] == {"loss": 1.5}
    assert first["writes"] == {"model": content(tmp_path / "a" / "model")}
    assert "already made" in said[-1]
    assert json.loads((tmp_path / "a" / "stage.json").read_text())["options"] == {"epochs": 2}
    AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "model")


def test_a_changed_option_or_input_makes_it_and_what_follows_again(base, tmp_path):
    one, two = Copying(base), Copying(tmp_path / "1" / "model")
    said = []

    def pipeline(options):
        stage("one", tmp_path / "1", {"base": base}, options, one, say=said.append)
        reads = {"model": tmp_path / "1" / "model"}
        return stage("two", tmp_path / "2", reads, {}, two, say=said.append)

    pipeline({"rate": 1})
    assert (one.calls, two.calls) == (1, 1)
    pipeline({"rate": 2})  # the first is made again, comes out the same: the second is not
    assert (one.calls, two.calls) == (2, 1) and any("have changed" in line for line in said)
    assert (tmp_path / "1" / "earlier-1" / "model" / "model.safetensors").exists()
    model, tokenizer = models.load(str(base))
    with torch.no_grad():
        model.model.norm.weight += 0.5
    models.save(model, tokenizer, base)
    pipeline({"rate": 2})
    assert (one.calls, two.calls) == (3, 2)
    pipeline({"rate": 2})
    assert (one.calls, two.calls) == (3, 2)


def test_stopped_it_goes_on_where_it_was(base, tmp_path):
    make, said = Copying(base), []
    make.stop = True
    call = ("sft", tmp_path / "a", {"base": base}, {}, make)
    with pytest.raises(KeyboardInterrupt):
        stage(*call, say=said.append)
    assert not (tmp_path / "a" / "stage.json").exists()
    record = stage(*call, say=said.append)
    assert record["made"] and "going on" in said[-1] and not list(tmp_path.glob("a/earlier-*"))
    make.stop, other = False, ("sft", tmp_path / "a", {"base": base}, {"epochs": 9}, make)
    (tmp_path / "a" / "stage.json").unlink()
    stage(*other, say=said.append)
    assert (tmp_path / "a" / "earlier-1" / "half").exists()


def test_a_model_that_was_damaged_or_exchanged_is_made_again(base, tmp_path):
    make = Copying(base)
    call = ("sft", tmp_path / "a", {"base": base}, {}, make)
    stage(*call)
    weights = tmp_path / "a" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert stage(*call)["made"] and make.calls == 2
    (tmp_path / "a" / "stage.json").write_text("half a fi")
    assert stage(*call)["made"] and make.calls == 3


def test_a_stage_that_does_not_write_what_it_should_is_found_out(base, tmp_path):
    with pytest.raises(AssertionError, match="did not write examples.jsonl"):
        stage("data", tmp_path / "a", {}, {}, lambda _: {}, writes=("examples.jsonl",))
    path = tmp_path / "b" / "examples.jsonl"

    def make(folder):
        (folder / "examples.jsonl").write_text("{}\n")
        return {}

    record = stage("data", tmp_path / "b", {}, {}, make, writes=("examples.jsonl",))
    assert record["writes"] == {"examples.jsonl": content(path)}
    assert content("tiny") == content(models.data_dir() / "tiny")
    assert stages.content(path) != stages.content(base)

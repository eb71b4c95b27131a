"""Pre-training: the committed recipe, resumable, and the shipped weights are its output."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1lab import checkpoints
from r1lab.errors import R1LabError
from r1lab.models import data_dir
from r1lab.world import corpus
from r1lab.world.pretrain import HASHED, PretrainConfig, batch, learning_rate, pretrain, sha256

SMALL = PretrainConfig(width=32, layers=1, heads=2, ffn=32, steps=6, rows=2, row_length=48,
                       warmup=2, checkpoint_every=2)  # fmt: skip


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_it_learns_and_leaves_a_standard_folder(tmp_path):
    config = PretrainConfig(width=32, layers=1, heads=2, ffn=64, steps=40, rows=4, row_length=96)
    made = pretrain(config, tmp_path / "model", progress=False)
    assert made["loss"] < 4.9  # the mean of the run; it begins at ln(191) = 5.25
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = tokenizer("user : make 23 from 7 6 10 . assistant :", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=3).shape[1] == ids["input_ids"].shape[1] + 3
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert all(made["sha256"][name] in card for name in HASHED)
    assert not (tmp_path / "model.work").exists()


def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, monkeypatch):
    pretrain(SMALL, tmp_path / "whole", progress=False)

    real, calls = batch, []

    def stops_at_step_five(config, step, mixture=None):
        calls.append(step)
        if len(calls) == 6:  # steps 0 to 4 are done, the last checkpoint is after 4 steps
            raise KeyboardInterrupt
        return real(config, step, mixture)

    monkeypatch.setattr("r1lab.world.pretrain.batch", stops_at_step_five)
    with pytest.raises(KeyboardInterrupt):
        pretrain(SMALL, tmp_path / "parts", progress=False)
    assert not (tmp_path / "parts").exists()
    pretrain(SMALL, tmp_path / "parts", progress=False)
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5]
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_recipe_does_not_go_on_from_a_strange_checkpoint(tmp_path):
    checkpoints.save(tmp_path / "work", 2, {"recipe": {"width": 1}})
    with pytest.raises(R1LabError, match="another recipe"):
        pretrain(SMALL, tmp_path / "model", work_dir=tmp_path / "work", progress=False)


def test_a_failed_run_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    pretrain(SMALL, tmp_path / "model", progress=False)
    before = sha256(tmp_path / "model" / "model.safetensors")
    monkeypatch.setattr("r1lab.world.pretrain.model_card", lambda summary: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrain(PretrainConfig(**{**asdict(SMALL), "seed": 1}), tmp_path / "model", progress=False)
    assert sha256(tmp_path / "model" / "model.safetensors") == before


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"width": 33, "heads": 2}, {"muon_lr": -1.0}, {"rows": -1}]
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(R1LabError, match="pretrain: "):
        PretrainConfig(**wrong)


def test_the_rate_rises_stays_and_falls():
    config = PretrainConfig(steps=100, warmup=10, decay=0.5)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:50] == [1.0] * 41
    assert rates[50:] == sorted(rates[50:], reverse=True) and 0 < rates[-1] <= 0.02


def test_the_shipped_model_is_the_output_of_the_committed_recipe():
    folder = data_dir() / "tiny-base"
    made = json.loads((folder / "pretrain.json").read_text())
    recipe = {**asdict(PretrainConfig()), "mixture": corpus.MIXTURE}
    del recipe["checkpoint_every"]
    assert made["recipe"] == recipe, (
        "the recipe changed: run r1lab pretrain, replace data/tiny-base"
    )
    assert made["sha256"] == {name: sha256(folder / name) for name in HASHED}
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 15e6
    assert made["sha256"]["model.safetensors"] in (folder / "README.md").read_text(encoding="utf-8")

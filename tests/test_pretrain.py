"""Pre-training: the committed recipe, resumable, and the shipped weights are its output."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1lab import ROOT
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import data_dir
from r1lab.basics.files import digest_of as sha256
from r1lab.models.smollm2 import EMBEDDED
from r1lab.world.muon import Muon
from r1lab.world.pretrain import (
    HASHED,
    RECIPES,
    PretrainConfig,
    backward,
    batch,
    build_model,
    learning_rate,
    model_card,
    optimizers,
    pretrain,
    recipe_of,
)

SMALL = PretrainConfig(width=32, layers=1, heads=2, ffn=32, steps=6, rows=2, row_length=48,
                       warmup=2, checkpoint_every=2)  # fmt: skip


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_it_learns_and_leaves_a_standard_folder(tmp_path):
    config = PretrainConfig(width=64, layers=1, heads=2, ffn=64, steps=40, rows=4, row_length=96)
    made = pretrain(config, tmp_path / "model", progress=False)
    assert made["loss"] < 5.2  # the mean of the run; it begins at ln(294) = 5.68
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.vocab_size == len(tokenizer) == made["vocabulary"]
    for text in (
        "user : make 23 from 7 6 10 . assistant :",
        "用户 : 告诉 我 怎么 做 蛋糕 。 助手 :",
    ):
        ids = tokenizer(text, return_tensors="pt")
        assert tokenizer.unk_token_id not in ids["input_ids"]
        assert model.generate(**ids, max_new_tokens=3).shape[1] == ids["input_ids"].shape[1] + 3
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert all(made["sha256"][name] in card for name in HASHED)
    assert all(f"| `{kind}` |" in card for kind in made["recipe"]["mixture"]) and "{" not in card
    assert not (tmp_path / "model.work").exists()


def test_the_options_of_a_recipe_reach_the_optimizers_and_the_batches():
    model, tokenizer = build_model(SMALL)
    muon, rest = optimizers(model, SMALL)
    assert type(muon) is Muon
    taken = {id(p) for o in (muon, rest) for g in o.param_groups for p in g["params"]}
    assert taken == {id(p) for p in model.parameters()}
    assert batch(SMALL, 0).shape == (2, 49) and model.config.num_key_value_heads == 1


def test_the_rows_of_a_step_may_be_dealt_to_several_passes():
    """Their losses and gradients add up to those of one pass."""
    tokens, found = batch(SMALL, 0), []
    for parts in ([[0, 1]], [[0], [1]]):
        model, _ = build_model(SMALL)
        loss = sum(backward(tokens, model, part) for part in parts)
        found.append((loss, [p.grad for p in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1])


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


def test_another_recipe_does_not_go_on_from_a_strange_checkpoint(tmp_path, monkeypatch):
    real = batch

    def stops(config, step, mixture=None):
        if step == 3:
            raise KeyboardInterrupt
        return real(config, step, mixture)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("r1lab.world.pretrain.batch", stops)
        pretrain(SMALL, tmp_path / "model", work_dir=tmp_path / "work", progress=False)
    (tmp_path / "work" / "notes.txt").write_text("mine")
    other = replace(SMALL, adam_lr=0.1)
    with pytest.raises(R1LabError, match="another run: adam_lr was 0.005 and is 0.1"):
        pretrain(other, tmp_path / "model", work_dir=tmp_path / "work", progress=False)
    pretrain(SMALL, tmp_path / "model", work_dir=tmp_path / "work", progress=False)
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["notes.txt"]  # not ours: kept


@pytest.mark.parametrize("name", [".", "..", "runs", "file", str(ROOT), str(ROOT.parent), "~"])
def test_a_folder_of_other_things_is_never_replaced(tmp_path, monkeypatch, name):
    folder = tmp_path / "home" / "work"
    (folder / "runs").mkdir(parents=True)
    (folder / "runs" / "thesis.tex").write_text("years")
    (folder / "file").write_text("mine")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.chdir(folder)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(R1LabError, match="others live in|not made here|is a file"):
        pretrain(SMALL, name, progress=False)
    assert sorted(folder.parent.rglob("*")) == before


def test_a_failed_run_leaves_the_model_that_was_there(tmp_path, monkeypatch):
    pretrain(SMALL, tmp_path / "model", progress=False)
    before = sha256(tmp_path / "model" / "model.safetensors")
    monkeypatch.setattr("r1lab.world.pretrain.model_card", lambda summary: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrain(PretrainConfig(**{**asdict(SMALL), "seed": 1}), tmp_path / "model", progress=False)
    assert sha256(tmp_path / "model" / "model.safetensors") == before


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"width": 33, "heads": 2}, {"muon_lr": -1.0}, {"rows": -1}, {"kv_heads": 3}],
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(R1LabError, match="pretrain: "):
        PretrainConfig(**wrong)


def test_the_rate_rises_stays_and_falls():
    config = PretrainConfig(steps=100, warmup=10, decay=0.5)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:50] == [1.0] * 41
    assert rates[50:] == sorted(rates[50:], reverse=True) and 0 < rates[-1] <= 0.02


@pytest.mark.parametrize("name", RECIPES)
def test_a_shipped_model_is_the_output_of_its_committed_recipe(name):
    folder = data_dir() / name
    made = json.loads((folder / "pretrain.json").read_text())
    assert made["recipe"] == recipe_of(RECIPES[name]), (
        f"the recipe changed: run r1lab pretrain --recipe {name}"
    )
    assert made["sha256"] == {name: sha256(folder / name) for name in HASHED}
    assert (folder / "README.md").read_text(encoding="utf-8") == model_card(made)


def test_all_embedded_models_together_are_under_15_mb():
    assert set(RECIPES) == set(EMBEDDED)
    sizes = {
        name: sum(p.numel() for p in build_model(config)[0].parameters()) * 4
        for name, config in RECIPES.items()
    }
    assert 4 * sizes["tiny-small"] <= 1.2 * sizes["tiny"] < 6e6
    text = 200_000  # tokenizer, configuration, card, beside the weights
    assert sum(sizes.values()) + len(sizes) * text <= 15e6
    files = [file for name in EMBEDDED for file in (data_dir() / name).glob("*")]
    assert sum(file.stat().st_size for file in files) <= 15e6

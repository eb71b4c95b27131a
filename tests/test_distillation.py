"""Distillation: what things cost, budgets that are kept, and three ways to a small model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from r1lab import grpo, sft
from r1lab.basics.errors import R1LabError
from r1lab.distillation import (
    both,
    compare,
    distil,
    flops,
    grpo_tokens,
    parameters_of,
    reinforce,
    scores,
    sft_tokens,
    teacher_flops,
)
from r1lab.grpo import GRPOConfig
from r1lab.models.load import load
from r1lab.paper import DISTILLATION
from r1lab.sft import Example, SFTConfig, write_examples
from r1lab.tasks import get_task
from r1lab.templates import render
from r1lab.world import probe

pytestmark = pytest.mark.usefixtures("one_thread")

SFT = SFTConfig(epochs=2, batch_size=4)
RL = GRPOConfig(
    steps=20,
    questions=2,
    group_size=2,
    max_new_tokens=16,
    rewards=("random",),
    reward_weights=(1.0,),
    checkpoint_every=1,
)


def quiet(line):
    pass


@pytest.fixture
def examples(tmp_path):
    task = get_task("mixture")
    shown = [
        Example(p, f"<think> so </think> <answer> {get_task(p.task).solution(p)} </answer>")
        for p in task.problems("train", 6)
    ]
    return write_examples(tmp_path / "examples.jsonl", shown)


def test_operations_by_hand():
    assert flops(10, trained=3) == 180 and flops(10, sampled=3) == 60
    assert flops(7, trained=2, sampled=5) == 7 * (12 + 10) and flops(0) == 0
    with pytest.raises(R1LabError, match="0 or more"):
        flops(10, trained=-1)


def test_parameters_count_a_tied_embedding_once(random_folder):
    model, tokenizer = load(random_folder)
    layer = 4 * 32 * 32 + 3 * 32 * 64 + 2 * 32
    assert parameters_of(model) == len(tokenizer) * 32 + 2 * layer + 32


def test_tokens_of_supervised_training_are_those_that_it_reads(random_folder, examples, tmp_path):
    record = distil(random_folder, examples, SFT, tmp_path / "distilled", say=quiet)
    model, tokenizer = load(random_folder)
    shown = sft.read_examples(examples)
    texts = [f"{render(one.problem, 'tiny')} {one.completion}" for one in shown]
    tokens = 2 * sum(len(tokenizer(text)["input_ids"]) + 1 for text in texts)
    assert sft_tokens(shown, tokenizer, SFT) == tokens == record["metrics"]["tokens"]
    assert record["metrics"]["flops"] == 6 * tokens * parameters_of(model)
    again = distil(random_folder, examples, SFT, tmp_path / "distilled", say=quiet)
    assert record["made"] and not again["made"]


def test_tokens_of_a_grpo_step(random_folder, tmp_path):
    model, tokenizer = load(random_folder)
    seen = []

    def look(step, metrics, batch):
        answers = [len(ids) for ids in batch.rollouts.completion_ids]
        prompts = [len(ids) for ids in batch.rollouts.prompt_ids]
        A = batch.advantages.flatten()
        trained = sum(prompts[i // 2] + answers[i] for i in range(4) if A[i] != 0)
        assert grpo_tokens(batch, RL) == (trained, sum(prompts) + sum(answers))
        every = 2 * sum(prompts) + sum(answers)
        assert grpo_tokens(batch, replace(RL, kl_coef=0.1, inner_epochs=3)) == (
            3 * every, sum(prompts) + sum(answers) + 3 * every,
        )  # fmt: skip
        seen.append(trained)

    config = replace(RL, steps=6)
    grpo.train(
        model, tokenizer, get_task("mixture"), config, tmp_path, progress=False, callbacks=[look]
    )
    assert min(seen) < max(seen)  # some groups had no spread


def weights(folder):
    return torch.cat([p.detach().flatten() for p in load(folder)[0].parameters()])


def test_rl_ends_at_its_budget_and_where_it_would_have_when_it_is_resumed(
    random_folder, tmp_path, monkeypatch
):
    n = parameters_of(load(random_folder)[0])
    budget = 6 * n * 4 * 25 * 4  # of the order of a few steps
    whole = reinforce(random_folder, budget, RL, tmp_path / "whole", say=quiet)
    costs = [
        json.loads(line)["flops"]
        for line in (tmp_path / "whole" / "costs.jsonl").read_text().splitlines()
    ]
    assert sum(costs[:-1]) < budget <= sum(costs) == whole["metrics"]["flops"]
    assert 2 < len(costs) == whole["metrics"]["steps"] < RL.steps
    update, calls = grpo.update, []

    def dies(*args):
        calls.append(args[4])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(*args)

    monkeypatch.setattr(grpo, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        reinforce(random_folder, budget, RL, tmp_path / "cut", say=quiet)
    found = reinforce(random_folder, budget, RL, tmp_path / "cut", say=quiet)
    assert calls[:4] == [0, 1, 2, 2] and found["metrics"]["flops"] == sum(costs)
    assert torch.equal(weights(tmp_path / "cut" / "model"), weights(tmp_path / "whole" / "model"))
    assert not reinforce(random_folder, budget, RL, tmp_path / "cut", say=quiet)["made"]


def test_budgets_that_cannot_be_kept(random_folder, examples, tmp_path):
    with pytest.raises(R1LabError, match="above 0"):
        reinforce(random_folder, 0, RL, tmp_path / "a", say=quiet)
    with pytest.raises(R1LabError, match="2 GRPO steps cost .* ask for more steps"):
        reinforce(random_folder, 1e15, replace(RL, steps=2), tmp_path / "b", say=quiet)
    with pytest.raises(R1LabError, match="leaves nothing of 1 for RL"):
        both(random_folder, examples, 1, SFT, RL, tmp_path / "c", say=quiet)


def test_three_ways_at_matched_compute(random_folder, examples, tmp_path):
    found = compare(
        random_folder, examples, tmp_path, sft_config=SFT, grpo_config=RL, problems=3, k=2,
        say=quiet,
    )  # fmt: skip
    assert list(found) == ["student", "distilled", "rl", "both"]
    cost = found["distilled"]["flops"]
    step = 6 * 4 * 40 * parameters_of(load(random_folder)[0])
    assert cost <= found["rl"]["flops"] < cost + step
    assert 2 * cost <= found["both"]["flops"] < 2 * cost + step and found["student"]["flops"] == 0
    for one in found.values():
        assert set(one["scores"]) == {"countdown", "code", "steps"}
        load(one["model"])
    assert found["student"]["scores"] == scores(random_folder, problems=3, k=2, max_new_tokens=16)
    record = {"metrics": {"tokens drawn": 100, "prompt tokens": 20}}
    assert teacher_flops(random_folder, record) == 240 * parameters_of(load(random_folder)[0])
    assert DISTILLATION["rows"]["distilled"][0] > DISTILLATION["rows"]["rl"][0]


def test_skills_of_a_model_are_measured_on_its_own_responses(random_folder):
    found = probe.skills(random_folder, problems=4, max_new_tokens=16)
    assert list(found) == ["tries", "arithmetic", "verdicts", "claimed", "truncated"]
    assert 0 <= found["truncated"] <= 1 and found["tries"] >= 0

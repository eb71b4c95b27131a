"""Supervised fine-tuning: the right loss on the right tokens, stopped anywhere."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
from dataclasses import replace

import pytest
import torch

from r1lab import sft
from r1lab.basics.errors import R1LabError
from r1lab.models.load import load
from r1lab.sft import Example, SFTConfig, batch_at, learning_rate, steps_of
from r1lab.tasks import get_task
from r1lab.training.signals import Stopped

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = get_task("countdown")
CONFIG = SFTConfig(epochs=2, batch_size=4, learning_rate=3e-3, checkpoint_every=2)


def examples(n=10):
    problems = TASK.problems("train", n, seed=1)
    return [
        Example(p, f"<think> wait {'try ' * (i % 5)}</think> <answer> {TASK.solution(p)} </answer>")
        for i, p in enumerate(problems)
    ]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_loss_is_transformers_own_on_the_answer_tokens_alone(model, tokenizer):
    rows, long = sft.tokenized(examples(5), tokenizer, CONFIG)
    assert not long and all(answer[-1] == tokenizer.eos_token_id for _, answer in rows)
    total = sum(len(answer) for _, answer in rows)
    expected = 0.0
    for prompt, answer in rows:  # a mean over each row's labels, so weighted by their number
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        expected += model(input_ids=ids, labels=labels).loss.item() * len(answer) / total
    assert sft.loss_of(model, tokenizer, examples(5), CONFIG) == pytest.approx(expected, rel=1e-5)
    gradients = []
    for tokens in (16384, 40):  # however it is cut into micro-batches
        model.zero_grad()
        loss = sft.backward(model, rows, replace(CONFIG, micro_batch_tokens=tokens))
        assert loss == pytest.approx(expected, rel=1e-5)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(*gradients, atol=1e-6)


def test_it_is_grpo_with_every_advantage_one(model, tokenizer):
    from r1lab.losses import Objective, grpo_loss
    from r1lab.sampler.score import token_logps

    rows, _ = sft.tokenized(examples(6), tokenizer, CONFIG)
    sft.backward(model, rows, CONFIG)
    ours = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    logp, mask, _ = token_logps(model, rows)
    loss, _ = grpo_loss(logp, logp.detach(), torch.ones(len(rows)), mask,
                        objective=Objective(length_norm="token"))  # fmt: skip
    loss.backward()
    assert all(
        torch.allclose(a, p.grad, atol=1e-6) for a, p in zip(ours, model.parameters(), strict=True)
    )


def test_it_learns_what_it_is_shown(model, tokenizer, tmp_path):
    shown = examples(8)
    before = sft.loss_of(model, tokenizer, shown, CONFIG)
    config = replace(CONFIG, epochs=20, batch_size=8, learning_rate=1e-2)
    history = sft.train(model, tokenizer, shown, config, tmp_path, progress=False)
    after = sft.loss_of(model, tokenizer, shown, config)
    assert after < 0.5 * before and history[0]["loss"] == pytest.approx(before, rel=1e-4)
    assert [m["step"] for m in history] == list(range(20)) and history[-1]["epoch"] == 20
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == history
    saved, _ = load(str(tmp_path / "model"))
    assert torch.equal(weights(saved), weights(model))


def test_every_epoch_sees_every_example_once_in_an_order_of_its_own():
    orders = []
    for epoch in range(2):
        steps = range(epoch * 3, epoch * 3 + 3)
        orders.append([i for step in steps for i in batch_at(step, 10, CONFIG)])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1] and steps_of(10, CONFIG) == 6
    assert [len(batch_at(step, 10, CONFIG)) for step in range(3)] == [4, 4, 2]


def test_the_rate_falls_along_a_cosine_to_a_tenth():
    config = SFTConfig(learning_rate=1.0, warmup_steps=2, final_rate=0.1)
    rates = [learning_rate(step, 13, config) for step in range(13)]
    assert rates[:3] == [0.5, 1.0, 1.0] and rates[-1] == pytest.approx(0.1)
    assert rates[7] == pytest.approx(0.55) and rates[2:] == sorted(rates[2:], reverse=True)
    assert learning_rate(0, 1, SFTConfig(learning_rate=1.0)) == 1.0


@pytest.mark.parametrize("at", [0, 2, 3])
def test_stopped_and_resumed_it_ends_with_the_same_bits(model, tokenizer, tmp_path, at):
    stopped = copy.deepcopy(model)
    whole = sft.train(model, tokenizer, examples(), CONFIG, tmp_path / "whole", progress=False)

    def stop(step, metrics):
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "stopped"
    with pytest.raises(Stopped, match=f"after {at + 1} of 6 steps"):
        sft.train(stopped, tokenizer, examples(), CONFIG, out, progress=False, callbacks=[stop])
    resumed = sft.train(stopped, tokenizer, examples(), CONFIG, out, progress=False)
    assert torch.equal(weights(model), weights(stopped))
    clock = {"seconds"}
    assert [{k: v for k, v in m.items() if k not in clock} for m in resumed] == [
        {k: v for k, v in m.items() if k not in clock} for m in whole
    ]


def test_another_run_is_not_continued(model, tokenizer, tmp_path):
    base = copy.deepcopy(model)
    sft.train(model, tokenizer, examples(), CONFIG, tmp_path, progress=False)
    with pytest.raises(R1LabError, match="holds another run: learning_rate was 0.003"):
        other = replace(CONFIG, learning_rate=1e-3)
        sft.train(base, tokenizer, examples(), other, tmp_path, progress=False)
    with pytest.raises(R1LabError, match="examples read"):
        sft.train(base, tokenizer, examples(9)[1:] * 2, CONFIG, tmp_path, progress=False)
    sft.train(base, tokenizer, examples(9), CONFIG, tmp_path, progress=False, resume=False)
    assert (tmp_path / "earlier-1" / "model" / "model.safetensors").exists()


def test_what_cannot_be_trained_on_says_why(model, tokenizer, tmp_path):
    with pytest.raises(R1LabError, match="of 10 examples 10 are longer than max_tokens"):
        sft.train(model, tokenizer, examples(), replace(CONFIG, max_tokens=9), tmp_path)
    with pytest.raises(R1LabError, match="of 0 examples"):
        sft.train(model, tokenizer, [], CONFIG, tmp_path)
    with pytest.raises(R1LabError, match="epochs must be at least 1"):
        SFTConfig(epochs=0)
    with pytest.raises(R1LabError, match="must be a whole number"):
        SFTConfig(batch_size=2.5)
    with pytest.raises(R1LabError, match="10 are longer than .* or the model's 16 positions"):
        short = copy.deepcopy(model)
        short.config.max_position_embeddings = 16
        sft.train(short, tokenizer, examples(), CONFIG, tmp_path, progress=False)
    with pytest.raises(R1LabError, match="no end-of-sequence token"):
        endless = copy.deepcopy(tokenizer)
        endless.eos_token = None
        sft.train(model, endless, examples(), CONFIG, tmp_path, progress=False)
    before = weights(model).clone()
    with torch.no_grad():
        model.lm_head.weight[5] = math.inf
    broken = weights(model).clone()
    with pytest.raises(R1LabError, match="before the weights changed"):
        sft.train(model, tokenizer, examples(), CONFIG, tmp_path / "inf", progress=False)
    assert torch.equal(weights(model), broken) and not torch.equal(before, broken)


def test_examples_survive_a_file(tmp_path):
    path = sft.write_examples(tmp_path / "examples.jsonl", examples())
    assert sft.read_examples(path) == examples()
    odd = Example(TASK.problems("train", 1)[0], "<think> a\u2028b\x85c \ud800 </think>")
    assert sft.read_examples(sft.write_examples(tmp_path / "odd.jsonl", [odd])) == [odd]
    path.write_text(path.read_text() + '{"completion": 7}\n')
    with pytest.raises(R1LabError, match=r"examples.jsonl, line 11: this is not an example"):
        sft.read_examples(path)
    with pytest.raises(R1LabError, match="cannot read .*nothing.jsonl"):
        sft.read_examples(tmp_path / "nothing.jsonl")

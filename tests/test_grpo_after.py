"""What came after GRPO, in the loop: stale rollouts, dynamic sampling, a curriculum, terms."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from r1lab import curriculum
from r1lab.basics.errors import R1LabError
from r1lab.experience import join, take
from r1lab.grpo import (
    GRPOConfig,
    backward,
    collect,
    questions_at,
    rollout,
    train,
    update,
)
from r1lab.losses import entropy_bonus, grpo_loss
from r1lab.sampler.score import token_logps
from r1lab.tasks import get_task
from r1lab.training.metrics import collapsed_at
from r1lab.training.optimizer import adamw

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = get_task("countdown")


def characters(completions, **_):
    """Something that differs from completion to completion."""
    return [float(len(text) % 7) for text in completions]


def odd(completions, problem, **_):
    """The same, on problems with an odd target only: the other groups have no variance."""
    of = zip(completions, problem, strict=True)
    return [len(text) % 7 if p.data["target"] % 2 else 0.0 for text, p in of]


SMALL = GRPOConfig(
    steps=4, questions=3, group_size=4, max_new_tokens=12, rewards=(characters,),
    reward_weights=(1.0,), learning_rate=3e-3, checkpoint_every=2, samples_every=2,
)  # fmt: skip


def run(model, tokenizer, config, out_dir, **options):
    return train(model, tokenizer, TASK, config, out_dir, progress=False, **options)


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def without_clock(history) -> list[dict]:
    clock = ("seconds", "tokens_per_second", "memory", "diagnoses")
    return [{k: v for k, v in m.items() if not k.endswith(clock)} for m in history]


# --- stale rollouts ------------------------------------------------------------------------------


@pytest.mark.parametrize("staleness", [1, 2])
def test_step_t_samples_from_the_policy_of_t_minus_staleness(model, tokenizer, tmp_path, staleness):
    policies, drawn = [copy.deepcopy(model)], []

    def note(step, metrics, batch):
        policies.append(copy.deepcopy(model))
        drawn.append(batch.rollouts)

    config = replace(SMALL, staleness=staleness)
    run(model, tokenizer, config, tmp_path, callbacks=[note])
    problems = TASK.problems("train", 12, seed=0)
    for step, rollouts in enumerate(drawn):
        policy = policies[max(0, step - staleness)]
        assert (
            rollouts
            == collect(
                policy, tokenizer, TASK, questions_at(step, problems, config), step, config
            ).rollouts
        )
    assert not same_weights(policies[0], policies[-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"staleness": 1},
        {"staleness": 2, "old_logprobs": "recompute", "correction": "token_truncate"},
        {"staleness": 2, "kl_coef": 0.05, "kl_estimator": "unbiased", "off_policy_mask": 0.01},
        {"dynamic_sampling": 2, "rewards": (odd,)},
        {"entropy_coef": 0.01, "surrogate": "cispo", "minibatches": 2, "advantage": "reinforce_pp"},
        {"advantage": "gdpo", "rewards": (characters, "format"), "reward_weights": (1.0, 0.1)},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_stopped_and_resumed_it_ends_with_the_same_bits(model, tokenizer, tmp_path, changes):
    config, other = replace(SMALL, **changes), copy.deepcopy(model)
    base = copy.deepcopy(model)
    whole = run(model, tokenizer, config, tmp_path / "whole")

    def stop(step, metrics, batch):
        if step == 2:  # the checkpoint is of two steps
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(other, tokenizer, config, tmp_path / "parts", callbacks=[stop])
    resumed = run(base, tokenizer, config, tmp_path / "parts")
    assert same_weights(model, base)
    assert without_clock(whole) == without_clock(resumed)


def test_staleness_is_part_of_what_a_run_is(model, tokenizer, tmp_path):
    base = copy.deepcopy(model)
    run(model, tokenizer, replace(SMALL, steps=2), tmp_path)
    with pytest.raises(R1LabError, match="staleness was 0 and is 1"):
        run(base, tokenizer, replace(SMALL, staleness=1), tmp_path)


def test_what_a_stale_rollout_does_to_ratio_and_weights(model, tokenizer, tmp_path):
    """Against the policy that sampled tokens are clipped; against itself, uncorrected, none is."""
    stale = replace(SMALL, staleness=2, learning_rate=2e-2)
    seen = {}
    for name, changes in {
        "sampler": {},
        "uncorrected": {"old_logprobs": "recompute"},
        "corrected": {"old_logprobs": "recompute", "correction": "sequence_mask"},
        "masked": {"off_policy_mask": 1e-3},
    }.items():
        config = replace(stale, **changes)
        seen[name] = run(copy.deepcopy(model), tokenizer, config, tmp_path / name)[-1]
    assert seen["sampler"]["clip_fraction"] > 0.1 and seen["uncorrected"]["clip_fraction"] == 0
    assert 0 <= seen["corrected"]["importance"] < 2 and seen["corrected"]["importance"] != 1
    assert 0 < seen["masked"]["left_out"] < 1
    assert "importance" not in seen["sampler"] and "left_out" not in seen["sampler"]
    norms = {name: one["grad_norm"] for name, one in seen.items()}
    assert len({round(norm, 6) for norm in norms.values()}) == 4
    with pytest.raises(R1LabError, match="needs old_logprobs recompute"):
        replace(stale, correction="token_mask")


# --- dynamic sampling ----------------------------------------------------------------------------


def test_dynamic_sampling_asks_further_rounds_until_a_batch_varies(model, tokenizer):
    config = replace(SMALL, questions=2, rewards=(odd,), dynamic_sampling=3)
    problems = TASK.problems("train", 64, seed=0)
    assert questions_at(1, problems, config) == problems[8:16]
    even = [p for p in problems if p.data["target"] % 2 == 0][:5]
    odds = [p for p in problems if p.data["target"] % 2][:3]
    asked = [even[0], even[1], odds[0], even[2], even[3], odds[1], odds[2], even[4]]
    everything, kept = rollout(model, tokenizer, TASK, asked, 1, config)
    alone = collect(model, tokenizer, TASK, asked[:2], 1, config)
    assert everything.rollouts.completion_ids[:8] == alone.rollouts.completion_ids
    assert everything.problems == asked[:6] and kept.problems == [odds[0], odds[1]]
    assert kept.spread.all() and not alone.spread.any()
    for q, at in ((0, 2), (1, 5)):
        assert kept.rewards[q].equal(everything.rewards[at])
        assert kept.advantages[q].equal(everything.advantages[at])  # the estimator is the group's
        assert kept.rollouts.completion_ids[4 * q] == everything.rollouts.completion_ids[4 * at]
        assert kept.rollouts.prompt_ids[q] == everything.rollouts.prompt_ids[at]
    batched = replace(config, advantage="reinforce_pp")  # of the kept batch, not of all
    _, kept = rollout(model, tokenizer, TASK, asked, 1, batched)
    assert kept.advantages.mean().abs() < 1e-6 and kept.advantages.std() > 0.9


def test_where_too_few_groups_vary_the_batch_is_filled_up(model, tokenizer):
    def never(completions, **_):
        return [0.0] * len(completions)

    config = replace(SMALL, rewards=(never,), dynamic_sampling=2)
    asked = TASK.problems("train", 9, seed=0)
    everything, kept = rollout(model, tokenizer, TASK, asked, 0, config)
    assert len(everything.problems) == 9 and kept.problems == asked[:3]


def test_what_is_taken_apart_and_joined_is_the_same(model, tokenizer):
    def logs(completions, log_extra, **_):
        log_extra("size", [len(text) for text in completions])
        return [float(len(text) % 7) for text in completions]

    config = replace(SMALL, questions=4, rewards=(logs,))
    asked = TASK.problems("train", 4, seed=0)
    batch = collect(model, tokenizer, TASK, asked, 0, config)
    again = join(take(batch, [0, 1]), take(batch, [2, 3]))
    for name in ("problems", "prompts", "rollouts", "measures", "parts"):
        assert getattr(again, name) == getattr(batch, name)
    assert again.rewards.equal(batch.rewards) and again.advantages.equal(batch.advantages)
    assert len(join(batch, batch).log.columns["logged/size"]) == 32


def test_metrics_are_of_all_that_was_sampled(model, tokenizer, tmp_path):
    config = replace(SMALL, rewards=(odd,), dynamic_sampling=4, steps=2)
    plain = run(
        copy.deepcopy(model), tokenizer, replace(config, dynamic_sampling=0), tmp_path / "a"
    )
    history = run(model, tokenizer, config, tmp_path / "b")
    groups = [m["zero_spread_groups"] + m["spread_groups"] for m in history]
    assert all(3 <= n <= 15 and n % 3 == 0 for n in groups) and max(groups) > 3
    for m, n in zip(history, groups, strict=True):
        assert m["spread_groups"] >= 3 or n == 15
    assert history[0]["tokens"] > plain[0]["tokens"]


# --- a curriculum --------------------------------------------------------------------------------


def test_problems_that_the_base_solves_sometimes(base_model, tmp_path, monkeypatch):
    monkeypatch.setattr(curriculum, "QUESTIONS_AT_ONCE", 8)
    model, tokenizer = base_model
    config = GRPOConfig(steps=1, questions=3, max_new_tokens=160, pass_rate_low=0.2,
                        pass_rate_high=0.8, pass_rate_k=4)  # fmt: skip
    chosen = curriculum.problems_of(TASK, model, tokenizer, config, tmp_path)
    lines = (tmp_path / "pass_rates.jsonl").read_text()
    rates = {row["problem"]: row["rate"] for row in map(json.loads, lines.splitlines())}
    drawn = TASK.problems("train", 24, seed=0)[: len(rates)]
    assert [p for p in drawn if 0.2 <= rates[p.id] <= 0.8][:3] == chosen and len(chosen) == 3
    assert set(rates.values()) <= {0, 0.25, 0.5, 0.75, 1}
    assert curriculum.problems_of(TASK, model, tokenizer, config, tmp_path) == chosen
    assert (tmp_path / "pass_rates.jsonl").read_text() == lines  # measured once
    moved = copy.deepcopy(model)  # a resumed run may have the trained model in hand
    with torch.no_grad():
        next(moved.parameters()).add_(1e-3)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000001.pt").touch()
    assert curriculum.problems_of(TASK, moved, tokenizer, config, tmp_path) == chosen
    with pytest.raises(R1LabError, match="load the model that the run began with"):
        curriculum.problems_of(TASK, moved, tokenizer, replace(config, questions=32), tmp_path)


def test_bounds_that_no_problem_meets_are_said(model, tokenizer, tmp_path):
    config = replace(SMALL, steps=1, questions=2, pass_rate_low=0.5, pass_rate_k=1)
    with pytest.raises(R1LabError, match="0 of 16 problems have a pass rate from 0.5 to 1.0"):
        run(model, tokenizer, config, tmp_path)
    with pytest.raises(R1LabError, match="pass_rate_low must not exceed"):
        replace(config, pass_rate_high=0.2)


# --- terms of the loss ---------------------------------------------------------------------------


def test_micro_batches_do_not_change_the_gradient_of_the_entropy_bonus(model, tokenizer):
    config = replace(SMALL, questions=4, entropy_coef=0.2)
    asked = TASK.problems("train", 4, seed=0)
    batch = collect(model, tokenizer, TASK, asked, 0, config)
    batch.advantages[1] = 0.0  # no reward to learn from, an entropy to keep
    prompts, ids = batch.rollouts.prompt_ids, batch.rollouts.completion_ids
    rows = [(prompts[r // 4], one) for r, one in enumerate(ids)]
    logp, mask, h = token_logps(model, rows, 1.0, entropy_gradient=True)
    A = batch.advantages.flatten()
    loss, _ = grpo_loss(logp, logp.detach(), A, mask, objective=config.objective)
    loss = loss - 0.2 * entropy_bonus(h, mask)
    exact = torch.autograd.grad(loss, list(model.parameters()))
    for budget in (16384, 60, 1):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        how = replace(config, micro_batch_tokens=budget)
        sums = backward(model, None, batch, list(range(16)), None, how)
        assert sums["loss"] == pytest.approx(loss.item(), abs=1e-6) and sums["used"] == mask.sum()
        for parameter, g in zip(model.parameters(), exact, strict=True):
            assert torch.allclose(parameter.grad, g, atol=1e-6)


def test_the_bonus_raises_the_entropy_and_its_sign_is_right(model, tokenizer):
    def nothing(completions, **_):
        return [0.0] * len(completions)

    with torch.no_grad():  # a policy that is rather sure
        for parameter in model.parameters():
            parameter.mul_(3.0)
    config = replace(SMALL, rewards=(nothing,), entropy_coef=1.0, learning_rate=1e-2)
    batch = collect(model, tokenizer, TASK, TASK.problems("train", 3, seed=0), 0, config)
    prompts, ids = batch.rollouts.prompt_ids, batch.rollouts.completion_ids
    rows = [(prompts[r // 4], one) for r, one in enumerate(ids)]

    def entropy():
        _, mask, h = token_logps(model, rows)
        return float(h[mask].mean())

    before, optimizer = entropy(), adamw(model, config)
    for step in range(3):
        update(model, None, optimizer, batch, step, config)
    assert entropy() > before + 0.05


def test_a_collapse_is_where_the_entropy_stays_low():
    def of(*entropies):
        return [{"step": i, "entropy": h} for i, h in enumerate(entropies)]

    assert collapsed_at(of(1.0, 0.05, 0.5, 0.09, 0.02)) == 3  # it had come back from the first
    assert collapsed_at(of(1.0, 0.5, 0.2)) is None and collapsed_at([]) is None
    assert collapsed_at(of(1.0, 0.5, 0.2), share=0.3) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"surrogate": "cispo", "minibatches": 2},
        {"advantage": "reinforce_pp"},
        {"advantage": "gdpo"},
        {"staleness": 1, "old_logprobs": "recompute", "correction": "token_truncate"},
    ],
    ids=str,
)
def test_every_variant_learns(model, tokenizer, tmp_path, changes):
    def waits(completions, **_):
        return [text.split().count("wait") / max(1, len(text.split())) for text in completions]

    config = replace(SMALL, steps=15, questions=6, group_size=8, learning_rate=1e-2,
                     rewards=(waits,), **changes)  # fmt: skip
    history = run(model, tokenizer, config, tmp_path)
    assert history[-1]["reward"] > 3 * history[0]["reward"]

"""Advantages: hand-sized groups, the identities between the variants, and TRL's own numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab.advantages import (
    ADVANTAGES,
    BATCHED,
    dr_grpo,
    gdpo,
    get_advantage,
    group_relative,
    reinforce_pp,
    reinforce_pp_baseline,
    rloo,
)
from r1lab.basics.errors import R1LabError

GROUPS = st.integers(2, 8).flatmap(
    lambda G: st.lists(
        st.lists(st.floats(-5, 5, width=32), min_size=G, max_size=G), min_size=1, max_size=4
    )
)


def double(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_one_right_answer_in_four():
    rewards = double([[1, 0, 0, 0]])
    assert dr_grpo(rewards).tolist() == [[0.75, -0.25, -0.25, -0.25]]
    assert torch.allclose(rloo(rewards), double([[1, -1 / 3, -1 / 3, -1 / 3]]))
    # standard deviation of (1, 0, 0, 0) with G - 1 below the line: sqrt(0.75 / 3) = 0.5
    assert torch.allclose(group_relative(rewards, eps=0.0), double([[1.5, -0.5, -0.5, -0.5]]))


def test_rare_successes_weigh_more_by_the_standard_deviation_alone():
    rare, even = double([[1] + [0] * 7]), double([[1] * 4 + [0] * 4])
    total = {name: f(rare).abs().sum() / f(even).abs().sum() for name, f in ADVANTAGES.items()}
    assert total["dr_grpo"] == pytest.approx(total["rloo"]) == pytest.approx(7 / 16)
    assert total["grpo"] == pytest.approx(0.6614, abs=1e-3)  # sqrt(7/16): less is lost


@settings(max_examples=30, deadline=None)
@given(GROUPS)
def test_identities(rows):
    rewards = double(rows)
    G = rewards.shape[1]
    for function in ADVANTAGES.values():
        advantages = function(rewards)
        assert advantages.shape == rewards.shape
        assert torch.allclose(advantages.sum(1), torch.zeros(len(rows)).double(), atol=1e-6)
        moved = function(rewards + 3)
        assert torch.allclose(moved, advantages, atol=1e-6)  # only differences count
        assert torch.allclose(function(rewards.flip(1)), advantages.flip(1), atol=1e-9)
        assert torch.allclose(function(rewards[:1]), advantages[:1])  # groups do not mix
    assert torch.allclose(rloo(rewards), dr_grpo(rewards) * G / (G - 1), atol=1e-9)
    assert torch.allclose(dr_grpo(3 * rewards), 3 * dr_grpo(rewards), atol=1e-9)


def test_the_unit_of_reward_matters_only_without_the_standard_deviation():
    rewards = double([[1, 0, 0, 1], [0.1, 0, 1.1, 0]])
    assert torch.allclose(group_relative(10 * rewards, eps=0.0), group_relative(rewards, eps=0.0))
    unit = group_relative(rewards, eps=0.0)
    assert torch.allclose(unit.std(dim=1), double([1, 1]))
    assert torch.allclose(dr_grpo(10 * rewards), 10 * dr_grpo(rewards))


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3, width=32), st.integers(2, 16))
def test_a_group_without_a_spread_teaches_nothing(reward, G):
    rewards = torch.full((2, G), reward)
    for function in ADVANTAGES.values():
        assert function(rewards).abs().max() < 1e-2
        assert torch.isfinite(function(rewards)).all()


@pytest.mark.parametrize("shape", [(4,), (3, 1), (2, 2, 2)])
def test_groups_that_cannot_be_compared_are_refused(shape):
    for function in ADVANTAGES.values():
        with pytest.raises(R1LabError, match="2 answers a question"):
            function(torch.zeros(shape))


def test_the_other_answers_are_an_unbiased_baseline():
    """Averaged over all groups, sum A_i grad log pi(o_i) is the gradient of the expected reward."""
    p = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)  # chance of a right answer
    G, estimate = 3, {"rloo": 0.0, "dr_grpo": 0.0}
    for outcome in torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * G):
        chance = torch.where(outcome == 1, p, 1 - p).log()  # (G,)
        for name in estimate:
            gain = (ADVANTAGES[name](outcome[None])[0] * chance).mean()
            (gradient,) = torch.autograd.grad(gain, p, retain_graph=True)
            estimate[name] += float(chance.detach().sum().exp() * gradient)
    assert estimate["rloo"] == pytest.approx(1.0)  # d E[r] / dp = 1
    assert estimate["dr_grpo"] == pytest.approx((G - 1) / G)  # too small by a constant


# --- over the batch ------------------------------------------------------------------------------


def test_one_baseline_for_the_batch_pays_a_group_that_is_all_right():
    rewards = double([[1, 1], [0, 0]])
    assert torch.allclose(
        reinforce_pp(rewards, 0.0), double([[0.866, 0.866], [-0.866, -0.866]]), atol=1e-3
    )
    assert (reinforce_pp_baseline(rewards) == 0).all()
    uneven = double([[1, 0, 0, 0], [1, 1, 0, 0]])
    found = reinforce_pp_baseline(uneven, 0.0)
    assert torch.allclose(found, dr_grpo(uneven) / dr_grpo(uneven).std())
    assert found.std() == pytest.approx(1.0) and found.sum(1).abs().max() < 1e-12
    assert reinforce_pp(uneven, 0.0).std() == pytest.approx(1.0)


@pytest.mark.parametrize("name", BATCHED)
def test_where_nothing_varies_a_batch_teaches_exactly_nothing(name):
    assert (get_advantage(name)(torch.full((2, 7), 0.1)) == 0).all()
    with pytest.raises(R1LabError, match="2 answers a question"):
        get_advantage(name)(torch.zeros(3, 1))


def test_a_reward_of_small_scale_counts_in_gdpo_and_is_lost_in_the_sum():
    large, small = double([[9, 0, 9, 0]]), double([[0.1, 0.1, 0, 0]])
    summed = group_relative(large + small)[0]
    apart = gdpo(torch.stack([large, small]), [1, 1])[0]
    assert summed[0] - summed[2] == pytest.approx(0.02, abs=0.01)  # of 0.1, beside one of 9
    assert apart[0] - apart[2] == pytest.approx(1.22, abs=0.02)
    alone = gdpo(torch.stack([large, small]), [1, 0])[0]
    assert torch.allclose(alone, gdpo(large[None], [1])[0]) and alone[0] == alone[2]


def test_gdpo_equals_trls(random_model, tmp_path):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = random_model
    rewards = [[1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0], [0.3, 0.1, 0.2, 0.9, 0.5, 0.5, 0.5, 0.5]]
    arguments = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], num_generations=4,
        per_device_train_batch_size=8, max_completion_length=2, reward_weights=[1.0, 0.4],
        multi_objective_aggregation="normalize_then_sum",
    )  # fmt: skip

    def first(completions, **_):
        return rewards[0]

    def second(completions, **_):
        return rewards[1]

    trainer = GRPOTrainer(
        model, [first, second], args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["user"] * 8}), processing_class=tokenizer,
    )  # fmt: skip
    theirs = trainer._generate_and_score_completions([{"prompt": "user"}] * 8)["advantages"]
    ours = gdpo(torch.tensor(rewards).view(2, 2, 4), [1.0, 0.4])
    assert torch.allclose(ours.flatten(), theirs, atol=1e-5) and ours.abs().max() > 1


def test_leave_one_out_equals_trls(random_model, tmp_path):
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    model, tokenizer = random_model
    rewards = [1.0, 0.1, 0.0, 0.1, 0.0, 0.0, 1.1, 0.0]
    arguments = RLOOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], beta=0.0,
        num_generations=4, per_device_train_batch_size=8, max_completion_length=2,
    )  # fmt: skip
    trainer = RLOOTrainer(
        model, lambda completions, **_: rewards, args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["user"] * 8}), processing_class=tokenizer,
    )  # fmt: skip
    theirs = trainer._generate_and_score_completions([{"prompt": "user"}] * 8)["advantages"]
    assert torch.allclose(rloo(torch.tensor(rewards).view(2, 4)).flatten(), theirs, atol=1e-6)

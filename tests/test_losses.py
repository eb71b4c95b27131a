"""The objective: hand-sized cases, finite differences, exact accumulation, and TRL's numbers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab.advantages import dr_grpo, group_relative
from r1lab.basics.errors import R1LabError
from r1lab.losses import (
    CORRECTIONS,
    Objective,
    clipped_objective,
    entropy_bonus,
    grpo_loss,
    importance_weight,
    kl,
    normalise,
    ratio,
)
from r1lab.models.load import tiny_llama
from r1lab.sampler.score import token_logps

NAN = math.nan


def double(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def example(seed=0, lengths=(5, 2, 4, 1)):
    """Log-probs of ragged answers, rho on both sides of the clip: logp, old, ref, mask, A."""
    random = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    logp = -torch.rand(shape, generator=random, dtype=torch.float64) * 3
    old = logp + torch.randn(shape, generator=random, dtype=torch.float64) * 0.4
    ref = logp + torch.randn(shape, generator=random, dtype=torch.float64) * 0.4
    mask = (torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]).double()
    return logp, old, ref, mask, double([1.2, -0.7, 0.4, -0.9][: len(lengths)])


# --- hand-sized ----------------------------------------------------------------------------------


def test_ratio_of_tokens_and_of_the_sequence():
    logp, old = double([[0.0, 0.0, 9.0]]), double([[math.log(2), -math.log(8), NAN]])
    mask = double([[1, 1, 0]])
    assert torch.allclose(ratio(logp, old, mask), double([[0.5, 8, 1]]))
    assert torch.allclose(ratio(logp, old, mask, "sequence"), double([[2, 2, 2]]))  # sqrt(1/2 * 8)


def test_the_clip_takes_the_worse_of_two():
    rho = double([[0.5, 1.0, 1.1, 2.0]])
    assert torch.allclose(clipped_objective(rho, double([1.0])), double([[0.5, 1, 1.1, 1.2]]))
    assert torch.allclose(clipped_objective(rho, double([-1.0])), double([[-0.8, -1, -1.1, -2]]))
    wide = clipped_objective(rho, double([1.0]), clip_low=0.2, clip_high=0.5)
    assert torch.allclose(wide, double([[0.5, 1, 1.1, 1.5]]))


def test_kl_estimators_of_one_token():
    logp, ref = double([[math.log(0.5)]]), double([[math.log(0.25)]])  # r = 1/2
    assert kl(logp, ref, "k1").item() == pytest.approx(math.log(2))
    assert kl(logp, ref, "k2").item() == pytest.approx(math.log(2) ** 2 / 2)
    assert kl(logp, ref, "k3").item() == pytest.approx(0.5 - 1 + math.log(2))


def test_expected_over_the_policy_k1_and_k3_are_the_kl_and_k2_is_not():
    pi, ref = double([0.9, 0.08, 0.02]), double([0.3, 0.3, 0.4])
    exact = (pi * (pi / ref).log()).sum()
    mean = {k: (pi * kl(pi.log()[None], ref.log()[None], k)[0]).sum() for k in ("k1", "k2", "k3")}
    assert torch.allclose(mean["k1"], exact) and torch.allclose(mean["k3"], exact)
    assert abs(mean["k2"] - exact) > 0.01
    assert (kl(pi.log()[None], ref.log()[None], "k3") >= 0).all()


def test_as_losses_k1_pulls_nowhere_k2_to_the_kl_and_k3_to_the_kl_the_other_way_round():
    """Averaged exactly over the draw, with respect to the logits of one position."""
    logits = double([0.9, -0.3, 0.1]).requires_grad_(True)
    ref = double([0.3, 0.3, 0.4]).log()

    def gradient(value):
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    logp = logits.log_softmax(0)
    drawn = logp.detach().exp()  # pi as a sampler: nothing differentiates through it
    pulls = {
        k: gradient((drawn * kl(logp[None], ref[None], k)[0]).sum()) for k in ("k1", "k2", "k3")
    }
    reverse = gradient((logp.exp() * (logp - ref)).sum())  # of KL(pi || ref)
    forward = gradient((ref.exp() * (ref - logp)).sum())  # of KL(ref || pi)
    assert pulls["k1"].abs().max() < 1e-12 < 0.05 < reverse.abs().max()
    assert torch.allclose(pulls["k2"], reverse) and torch.allclose(pulls["k3"], forward)
    assert (forward - reverse).abs().max() > 0.01


def test_length_norms_by_hand():
    values, mask = double([[1, 2, 3, 4], [10, NAN, NAN, NAN]]), double([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert normalise(values, mask, "sequence").item() == pytest.approx((2.5 + 10) / 2)
    assert normalise(values, mask, "token").item() == pytest.approx(20 / 5)
    assert normalise(values, mask, "constant", constant=8).item() == pytest.approx(20 / 8 / 2)


def test_on_policy_the_loss_is_zero_and_its_gradient_is_not():
    logp, _, _, mask, _ = example()
    logp.requires_grad_(True)
    loss, seen = grpo_loss(logp, logp.detach(), double([1.5, -0.5, -0.5, -0.5]), mask)
    loss.backward()
    assert abs(loss.item()) < 1e-12 and seen["clip_fraction"] == 0 and seen["ratio"] == 1
    assert torch.allclose(logp.grad[0], torch.full((5,), -1.5 / 5 / 4).double())


def test_metrics_are_means_over_the_tokens_of_the_mask():
    logp, mask = double([[-1.0, -1.0], [-1.0, NAN]]), double([[1, 1], [1, 0]])
    old = logp - double([[0.0, math.log(2)], [math.log(4), 0.0]])  # rho 1, 2 and 4
    ref = logp + double([[0.0, math.log(2)], [0.0, 0.0]])  # r 1, 2 and 1
    _, seen = grpo_loss(logp, old, double([1.0, -1.0]), mask, ref)
    assert seen == {
        "clip_fraction": pytest.approx(1 / 3),  # rho = 4 has A < 0: its gradient stays
        "ratio": pytest.approx(7 / 3),
        "kl": pytest.approx((2 - 1 - math.log(2)) / 3),  # told also where kl_coef is 0
    }
    assert "kl" not in grpo_loss(logp, old, double([1.0, -1.0]), mask)[1]


def test_clip_fraction_counts_tokens_that_lost_their_gradient():
    logp, old, _, mask, A = example(3)
    logp.requires_grad_(True)
    loss, seen = grpo_loss(logp, old, A, mask)
    loss.backward()
    dead = ((logp.grad == 0) & mask.bool()).sum() / mask.sum()
    assert 0 < seen["clip_fraction"] == pytest.approx(float(dead))


def test_cispo_bounds_weights_and_takes_no_gradient_away():
    logp, old, _, mask, A = example(3)
    logp.requires_grad_(True)
    cispo = Objective(surrogate="cispo", clip_high=0.3, length_norm="token")
    loss, seen = grpo_loss(logp, old, A, mask, objective=cispo)
    loss.backward()
    weight = ratio(logp, old, mask).clamp(max=1.3).detach()
    assert torch.allclose(logp.grad, -weight * A[:, None] * mask / mask.sum())
    assert ((logp.grad != 0) == mask.bool()).all() and seen["clip_fraction"] > 0
    here = logp.detach().requires_grad_(True)  # on-policy the two surrogates have one gradient
    both = [grpo_loss(here, logp.detach(), A, mask, objective=replace(cispo, surrogate=s))[0]
            for s in ("clip", "cispo")]  # fmt: skip
    assert torch.allclose(*(torch.autograd.grad(one, here)[0] for one in both))


def test_a_bad_completion_far_from_the_policy_is_left_out_and_a_good_one_is_not():
    logp, mask = double([[-1.0, -1.0, NAN]] * 4).requires_grad_(True), double([[1, 1, 0]] * 4)
    old = double([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [-0.5, -1.3, 1.0], [-2.0, -2.0, 1.0]])
    objective = Objective(clip_low=0.9, off_policy_mask=0.5)  # mean log pi_old/pi: 1, 1, 0.1 and -1
    loss, seen = grpo_loss(logp, old, double([1, -1, -1, -1]), mask, objective=objective)
    loss.backward()
    assert (logp.grad[:, :2] != 0).all(1).tolist() == [True, False, True, True]
    assert seen["left_out"] == pytest.approx(1 / 4)


def test_importance_weights_by_hand():
    old = double([[math.log(3), math.log(0.5), NAN], [0.0, math.log(1.5), 0.0]])
    sampled, mask = torch.zeros_like(old), double([[1, 1, 0], [1, 1, 1]])
    found = {how: importance_weight(old, sampled, mask, how, 1.4) for how in CORRECTIONS[1:]}
    assert torch.allclose(found["token_truncate"], double([[1.4, 0.5, 1], [1, 1.4, 1]]))
    assert torch.allclose(found["token_mask"], double([[0, 0.5, 1], [1, 0, 1]]))
    assert torch.allclose(found["sequence_truncate"], double([[1.4] * 3, [1.4] * 3]))
    assert torch.allclose(found["sequence_mask"], double([[0] * 3, [0] * 3]))


def test_truncated_importance_sampling_returns_what_staleness_biased():
    """The expected gradient of a policy of two answers, sampled by an older one: with weights it is
    the on-policy gradient, without it is not; a low cap lies between."""
    logits, r = double([0.3, -0.2]).requires_grad_(True), double([1.0, 0.0])
    stale = double([-1.0, 1.0]).log_softmax(0)
    A = r - (logits.detach().softmax(0) * r).sum()

    def gradient(weigh):
        logp = logits.log_softmax(0)[:, None]  # (2, 1): both answers, each with its frequency
        pi, ones = logp.detach(), torch.ones(2, 1).double()
        weight = None if weigh is None else importance_weight(pi, stale[:, None], ones, *weigh)
        frequency = stale.exp() * 2
        loss, _ = grpo_loss(logp, pi, A * frequency, ones, weight=weight)
        return torch.autograd.grad(-loss, logits)[0]

    exact = torch.autograd.grad((logits.softmax(0) * r).sum(), logits)[0]
    ways = (None, ("token_truncate", 2.0), ("token_truncate", 99.0))
    uncorrected, capped, whole = ((gradient(weigh) - exact).norm() for weigh in ways)
    assert whole < 1e-12 < 0.01 < capped < uncorrected


def test_as_a_loss_the_unbiased_kl_pulls_to_the_policys_own_divergence():
    logits = double([0.9, -0.3, 0.1]).requires_grad_(True)
    ref, ones = double([0.3, 0.3, 0.4]).log()[:, None], torch.ones(3, 1).double()
    logp = logits.log_softmax(0)[:, None]
    drawn = logp.detach()
    objective = Objective(kl_coef=1.0, kl_estimator="unbiased")
    parts = [  # each token's loss, by its frequency; no advantage: the KL term alone
        drawn[i].exp() * grpo_loss(logp[i][None], drawn[i][None], double([0.0]), ones[:1],
                                   ref[i][None], objective)[0] for i in range(3)
    ]  # fmt: skip
    pull = torch.autograd.grad(sum(parts), logits, retain_graph=True)[0]
    assert torch.allclose(pull, torch.autograd.grad((logp.exp() * (logp - ref)).sum(), logits)[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda a: ratio(a, a, a, "word"),
        lambda a: kl(a, a, "k4"),
        lambda a: normalise(a, a, "batch"),
        lambda a: normalise(a, a, "constant"),
        lambda a: grpo_loss(a, a, a[:, 0], a, objective=Objective(kl_coef=0.1)),
        lambda a: grpo_loss(a, a, a[:, :1], a),  # torch would make (2, 2, 3) of it
        lambda a: grpo_loss(a, a[:, :1], a[:, 0], a),
        lambda a: grpo_loss(a, a, a[:, 0], a[:1]),
        lambda a: grpo_loss(a, a, a[:, 0], a, objective=Objective(surrogate="ppo")),
        lambda a: importance_weight(a, a, a, "none", 2.0),
    ],
)
def test_unknown_options_and_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(R1LabError):
        call(torch.ones(2, 3))


# --- gradients -----------------------------------------------------------------------------------

OPTIONS = [
    {"ratio_level": level, "length_norm": norm, "kl_coef": beta, "kl_estimator": estimator}
    for level, norm, (beta, estimator) in itertools.product(
        ("token", "sequence"), ("sequence", "token", "constant"),
        ((0.0, "k3"), (0.3, "k1"), (0.3, "k2"), (0.3, "k3"), (0.3, "unbiased")),
    )
]  # fmt: skip
CLIP = {"clip_low": 0.2, "clip_high": 0.3, "constant": 7}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_against_finite_differences(options):
    logp, old, ref, mask, A = example()
    logp.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x: grpo_loss(x, old, A, mask, ref, Objective(**options, **CLIP))[0], (logp,)
    )


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_through_a_policy_against_finite_differences(level):
    """From the weights of a bigram policy to the loss: a small step to both sides, no autograd."""
    random = torch.Generator().manual_seed(0)
    W = torch.randn(12, 12, generator=random, dtype=torch.float64)
    ids = torch.randint(0, 12, (4, 6), generator=random)
    old, ref = (W + torch.randn(W.shape, generator=random) * 0.3 for _ in range(2))
    _, _, _, mask, A = example()

    def logps(W):
        return W.log_softmax(-1)[ids[:, :-1], ids[:, 1:]]  # (4, 5)

    def loss(W):
        options = {"kl_coef": 0.3, "ratio_level": level, **CLIP}
        return grpo_loss(logps(W), logps(old), A, mask, logps(ref), Objective(**options))[0]

    at = W.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(at), at)
    for along in torch.randn(3, 12, 12, generator=random, dtype=torch.float64):
        slope = (loss(W + 1e-6 * along) - loss(W - 1e-6 * along)) / 2e-6
        assert abs(slope) > 1e-3
        assert (gradient * along).sum().item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_parts_add_up_and_padding_leaks_nothing(options):
    logp, old, ref, mask, A = example()
    whole = logp.clone().requires_grad_(True)
    loss, seen = grpo_loss(whole, old, A, mask, ref, Objective(**options, **CLIP))
    loss.backward()

    poisoned = [torch.where(mask.bool(), x, NAN) for x in (logp, old, ref)]
    total = int(mask.sum()) if options["length_norm"] == "token" else len(mask)
    parts = poisoned[0].clone().requires_grad_(True)
    value = kl_sum = 0.0
    for rows in ([2], [0, 3], [1]):
        T = int(mask[rows].sum(1).max())  # a micro-batch is as wide as its longest answer
        part, noted = grpo_loss(
            parts[rows, :T], poisoned[1][rows, :T], A[rows], mask[rows, :T], poisoned[2][rows, :T],
            Objective(**options, **CLIP), total=total,
        )  # fmt: skip
        part.backward()
        value += part.item()
        kl_sum += noted["kl"] * int(mask[rows].sum())
    assert value == pytest.approx(loss.item(), abs=1e-15)  # sums in another order
    assert torch.allclose(parts.grad, whole.grad, rtol=1e-14, atol=0)
    if options["ratio_level"] == "token":  # no sum stands between a token and its gradient
        assert torch.equal(parts.grad, whole.grad)
    assert kl_sum / mask.sum() == pytest.approx(seen["kl"])
    assert (parts.grad[mask == 0] == 0).all()  # not NaN: exactly nothing


@pytest.mark.parametrize("norm, total", [("sequence", 4), ("token", 16), ("constant", 4)])
def test_parts_add_up_to_the_last_bit_where_sums_round_nothing(norm, total):
    """Powers of two below every line and advantages in quarters, on-policy: float32 is exact."""
    mask = torch.arange(8)[None] < torch.tensor([8, 4, 2, 2])[:, None]
    logp, A = -torch.ones(4, 8), torch.tensor([1.5, -0.5, -1.25, 0.5])
    options = Objective(length_norm=norm, constant=16)
    whole, _ = grpo_loss(logp, logp, A, mask, objective=options)
    parts = [
        grpo_loss(logp[r], logp[r], A[r], mask[r], objective=options, total=total)[0]
        for r in ([0, 3], [1], [2])
    ]
    assert sum(parts) == whole != 0


@pytest.mark.parametrize("options", OPTIONS[::3], ids=lambda o: "-".join(map(str, o.values())))
def test_answers_without_a_token_give_nothing(options):
    logp, old, ref, mask, A = example()
    logp = torch.full_like(logp, NAN).requires_grad_(True)
    loss, seen = grpo_loss(logp, old, A, torch.zeros_like(mask), ref, Objective(**options, **CLIP))
    loss.backward()
    assert loss == 0 and (logp.grad == 0).all()
    assert seen == {"clip_fraction": 0, "ratio": 0, "kl": 0}


@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_any_type_of_mask(dtype):
    logp, old, ref, mask, A = example()
    for level, norm in itertools.product(("token", "sequence"), ("sequence", "token")):
        options = Objective(ratio_level=level, length_norm=norm, kl_coef=0.1)
        loss, _ = grpo_loss(logp, old, A, mask, ref, options)
        assert grpo_loss(logp, old, A, mask.to(dtype), ref, options)[0] == loss


# --- properties ----------------------------------------------------------------------------------

FINITE = {"min_value": -3, "max_value": 3, "width": 32}
BATCHES = st.tuples(st.integers(1, 3), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        *[
            st.lists(
                st.lists(st.floats(**FINITE), min_size=shape[1], max_size=shape[1]),
                min_size=shape[0], max_size=shape[0],
            )
            for _ in range(3)
        ],
        st.lists(st.floats(**FINITE), min_size=shape[0], max_size=shape[0]),
        st.lists(st.integers(0, shape[1]), min_size=shape[0], max_size=shape[0]),
    )
)  # fmt: skip


def tensors(batch):
    *logps, A, lengths = batch
    T = len(logps[0][0])
    mask = (torch.arange(T)[None] < torch.tensor(lengths)[:, None]).double()
    return *map(double, logps), double(A), mask


@settings(max_examples=25, deadline=None)
@given(BATCHES, st.sampled_from(OPTIONS))
def test_whatever_the_batch(batch, options):
    logp, old, ref, A, mask = tensors(batch)
    options = Objective(**options, **CLIP)
    loss, _ = grpo_loss(logp, old, A, mask, ref, options)
    assert torch.isfinite(loss)

    order = torch.arange(len(A)).flip(0)  # answers in another order
    turned = [x[order] for x in (logp, old, A, mask, ref)]
    assert torch.allclose(grpo_loss(*turned, options)[0], loss, atol=1e-9)

    wider = [torch.nn.functional.pad(x, (0, 3)) for x in (logp, old, mask, ref)]  # more padding
    assert torch.allclose(
        grpo_loss(wider[0], wider[1], A, wider[2], wider[3], options)[0], loss, atol=1e-9
    )

    alone = replace(options, kl_coef=0.0)  # without the KL, twice the advantage is twice the loss
    once, twice = (grpo_loss(logp, old, n * A, mask, objective=alone)[0] for n in (1, 2))
    assert torch.allclose(twice, 2 * once, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(BATCHES)
def test_the_clipped_objective_never_promises_more(batch):
    logp, old, ref, A, mask = tensors(batch)
    rho = ratio(logp, old, mask)
    assert (clipped_objective(rho, A) <= rho * A[:, None] + 1e-12).all()
    inside = (rho > 0.8) & (rho < 1.2)
    assert torch.equal(clipped_objective(rho, A)[inside], (rho * A[:, None])[inside])
    mean = ratio(logp, old, mask, "sequence")  # a mean of the token ratios, where there is a token
    full = mask.bool().all(dim=1)
    low, high = rho.amin(1, keepdim=True), rho.amax(1, keepdim=True)
    assert ((mean >= low - 1e-9) & (mean <= high + 1e-9))[full].all()
    for estimator in ("k2", "k3"):
        assert (kl(logp, ref, estimator) >= 0).all()
    for estimator in ("k1", "k2", "k3"):
        assert (kl(logp, logp, estimator) == 0).all()


@settings(max_examples=20, deadline=None)
@given(BATCHES)
def test_with_equal_lengths_all_length_norms_are_one(batch):
    logp, *_ = tensors(batch)
    mask, T = torch.ones_like(logp), logp.shape[1]
    mean = normalise(logp, mask, "sequence")
    assert torch.allclose(normalise(logp, mask, "token"), mean)
    assert torch.allclose(normalise(logp, mask, "constant", constant=T), mean)


# --- TRL -----------------------------------------------------------------------------------------
#
# Both sides are given the same weights, questions, answers and log-probs of old and reference.
# TRL's side is GRPOTrainer.compute_loss itself, on inputs as its own data pipeline makes them.

EOS = 0  # which pads, too
ANSWERS = [[9, 8, 7, 6, 5, EOS], [5, 6, EOS], [EOS], [9, 2, 2, 7, 8, 4, 4, 3, 2]]  # the last: cut
REWARDS = [1.0, 0.1, 0.0, 0.1]
COLUMNS = (
    "advantages completion_ids completion_mask old_per_token_logps ref_per_token_logps".split()
)


@pytest.fixture(scope="module")
def trl_trainer(tokenizer, tmp_path_factory):
    """TRL's trainer around a random Llama, with answers that are laid down here."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    assert tokenizer.eos_token_id == tokenizer.pad_token_id == EOS

    def rollout(prompts, trainer):
        ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        return {"prompt_ids": ids, "completion_ids": ANSWERS, "logprobs": None}

    torch.manual_seed(0)
    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), use_cpu=True, bf16=False, report_to=[],
        num_generations=4, per_device_train_batch_size=4, max_completion_length=9,
        use_bias_correction_kl=False,
    )  # fmt: skip
    return GRPOTrainer(
        tiny_llama(len(tokenizer), width=32, layers=2, heads=2, ffn=48).eval(),
        lambda completions, **_: REWARDS,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["user"] * 4}),
        processing_class=tokenizer,
        rollout_func=rollout,
    )


@pytest.fixture
def both(trl_trainer, tokenizer):
    """The trainer, TRL's inputs, and the same for us: rows, mask, old, ref (N, T)."""
    model, question = trl_trainer.model, "user : make 23 from 7 6 10 . assistant :"
    inputs = trl_trainer._generate_and_score_completions([{"prompt": question}] * 4)
    rows = [(tokenizer(question)["input_ids"], answer) for answer in ANSWERS]
    logp, mask, _ = token_logps(model, rows)
    noise = torch.randn(2, *logp.shape, generator=torch.Generator().manual_seed(1)) * 0.3
    old, ref = logp.detach() + noise[0], logp.detach() + noise[1]
    inputs |= {"old_per_token_logps": old, "ref_per_token_logps": ref}
    model.eval()
    trl_trainer._metrics["eval"].clear()
    return trl_trainer, inputs, rows, mask, old, ref


def same(ours, theirs, weights):
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    mine, its = torch.autograd.grad(ours, weights), torch.autograd.grad(theirs, weights)
    assert max(g.abs().max() for g in mine) > 1e-2  # there is something to compare
    for a, b in zip(mine, its, strict=True):
        assert torch.allclose(a, b, atol=1e-5, rtol=0)


KINDS = [("grpo", "sequence"), ("bnpo", "token"), ("dapo", "token"), ("dr_grpo", "constant")]


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("loss_type, norm", KINDS)
def test_loss_and_gradient_equal_trls(both, monkeypatch, loss_type, norm, level, beta):
    trainer, inputs, rows, mask, old, ref = both
    for name, value in {
        "loss_type": loss_type, "importance_sampling_level": level, "beta": beta,
        "epsilon_low": 0.1, "epsilon_high": 0.3,
    }.items():  # fmt: skip
        monkeypatch.setattr(trainer, name, value)
    assert torch.equal(inputs["completion_mask"].bool(), mask)  # the end token counts, padding not

    A = group_relative(torch.tensor([REWARDS]))[0]
    assert torch.allclose(A, inputs["advantages"], atol=1e-6)
    logp, _, _ = token_logps(trainer.model, rows)
    loss, seen = grpo_loss(
        logp, old, A, mask, ref,
        Objective(0.1, 0.3, kl_coef=beta, ratio_level=level, length_norm=norm, constant=9),
    )  # fmt: skip
    same(loss, trainer.compute_loss(trainer.model, inputs), list(trainer.model.parameters()))

    noted = trainer._metrics["eval"]
    if beta:
        assert seen["kl"] == pytest.approx(noted["kl"][0], abs=1e-5)
    if level == "token":  # for "sequence" TRL counts answers, we their tokens
        assert seen["clip_fraction"] == pytest.approx(noted["clip_ratio/region_mean"][0], abs=1e-6)
        assert seen["clip_fraction"] > 0.2


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(
    "ours, theirs",
    [
        ({"surrogate": "cispo", "clip_high": 0.3}, {"loss_type": "cispo", "epsilon_high": 1.3}),
        ({"off_policy_mask": 0.02}, {"off_policy_mask_threshold": 0.02}),
        ({"kl_coef": 0.2, "kl_estimator": "unbiased"}, {"beta": 0.2, "unbiased": True}),
        (
            {"off_policy_mask": 0.02, "kl_coef": 0.2, "kl_estimator": "unbiased"},
            {"off_policy_mask_threshold": 0.02, "beta": 0.2, "unbiased": True},
        ),
    ],
    ids=["CISPO", "off-policy mask", "unbiased KL", "DeepSeek-V3.2"],
)
def test_what_came_after_equals_trls(both, monkeypatch, ours, theirs, level):
    trainer, inputs, rows, mask, old, ref = both
    theirs = {"loss_type": "dapo", "importance_sampling_level": level} | theirs
    monkeypatch.setattr(trainer.args, "use_bias_correction_kl", theirs.pop("unbiased", False))
    for name, value in theirs.items():
        monkeypatch.setattr(trainer, name, value)
    logp, _, _ = token_logps(trainer.model, rows)
    objective = Objective(**{"length_norm": "token", "ratio_level": level} | ours)
    loss, seen = grpo_loss(logp, old, inputs["advantages"], mask, ref, objective)
    same(loss, trainer.compute_loss(trainer.model, inputs), list(trainer.model.parameters()))
    if "off_policy_mask" in ours:
        assert 0 < seen["left_out"] < 1
    if "surrogate" in ours and level == "token":
        noted = trainer._metrics["eval"]["cispo_clip_ratio"][0]
        assert seen["clip_fraction"] == pytest.approx(noted, abs=1e-6) and noted > 0.05


def test_the_entropy_bonus_equals_trls(both, monkeypatch):
    trainer, inputs, rows, mask, old, _ = both
    monkeypatch.setattr(trainer, "entropy_coef", 0.3)
    monkeypatch.setattr(trainer, "_entropy_bonus_enabled", True)
    weights = list(trainer.model.parameters())
    logp, _, h = token_logps(trainer.model, rows, entropy_gradient=True)
    bonus = 0.3 * entropy_bonus(h, mask)
    assert max(g.abs().max() for g in torch.autograd.grad(bonus, weights, retain_graph=True)) > 1e-3
    by_token = Objective(length_norm="token")
    loss = grpo_loss(logp, old, inputs["advantages"], mask, objective=by_token)[0] - bonus
    same(loss, trainer.compute_loss(trainer.model, inputs), weights)
    assert not token_logps(trainer.model, rows)[2].requires_grad


@pytest.mark.parametrize("how", CORRECTIONS[1:])
def test_the_correction_equals_trls_for_vllm(both, monkeypatch, how):
    """TRL computes weights and loss; that vLLM sampled is all that is pretended."""
    trainer, _, rows, mask, _, _ = both
    logp, _, _ = token_logps(trainer.model, rows)
    noise = [[0.3 * math.cos(3 * r + i) for i in range(len(a))] for r, a in enumerate(ANSWERS)]
    moved = [
        [float(x) + n for x, n in zip(*row, strict=False)] for row in zip(logp, noise, strict=True)
    ]
    rollout = trainer.rollout_func
    monkeypatch.setattr(trainer, "rollout_func", lambda *a: rollout(*a) | {"logprobs": moved})
    monkeypatch.setattr(trainer, "use_vllm", True)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_mode", how)
    monkeypatch.setattr(trainer, "vllm_importance_sampling_clip_max", 1.1)
    synced = trainer.state.global_step  # there is no engine to hand weights to
    monkeypatch.setattr(trainer, "_last_loaded_step", synced, raising=False)
    question = "user : make 23 from 7 6 10 . assistant :"
    inputs = trainer._generate_and_score_completions([{"prompt": question}] * 4)
    sampled = inputs["sampling_per_token_logps"]
    weight = importance_weight(logp.detach(), sampled, mask, how, 1.1)
    theirs = inputs["importance_sampling_ratio"].expand_as(weight)
    assert torch.allclose(weight[mask], theirs[mask], atol=1e-5)
    assert weight[mask].unique().numel() > 1
    given = (logp, logp.detach(), inputs["advantages"], mask)
    loss, _ = grpo_loss(*given, objective=Objective(length_norm="token"), weight=weight)
    same(loss, trainer.compute_loss(trainer.model, inputs), list(trainer.model.parameters()))


@pytest.mark.parametrize("loss_type, norm", [("grpo", "sequence"), ("dapo", "token")])
def test_gradient_accumulation_equals_trls(both, monkeypatch, loss_type, norm):
    """Two micro-batches of two answers; each of ours alone equals each of TRL's."""
    trainer, inputs, rows, mask, old, ref = both
    monkeypatch.setattr(trainer, "loss_type", loss_type)
    monkeypatch.setattr(trainer, "current_gradient_accumulation_steps", 2, raising=False)
    monkeypatch.setattr(trainer.args, "steps_per_generation", 2)
    trainer.model.train()  # in evaluation TRL does not accumulate; there is no dropout here
    weights = list(trainer.model.parameters())
    for part in ([0, 1], [2, 3]):
        logp, _, _ = token_logps(trainer.model, [rows[r] for r in part])
        T = logp.shape[1]
        loss, _ = grpo_loss(
            logp, old[part, :T], inputs["advantages"][part], mask[part, :T],
            objective=Objective(length_norm=norm), total=int(mask.sum()) if norm == "token" else 4,
        )  # fmt: skip
        theirs = inputs | {
            name: inputs[name][part] for name in (*COLUMNS, "prompt_ids", "prompt_mask")
        }
        same(loss, trainer.compute_loss(trainer.model, theirs), weights)


def test_advantages_without_the_division_equal_trls(both, monkeypatch):
    trainer, *_ = both
    monkeypatch.setattr(trainer, "scale_rewards", "none")
    inputs = trainer._generate_and_score_completions([{"prompt": "user"}] * 4)
    assert torch.allclose(dr_grpo(torch.tensor([REWARDS]))[0], inputs["advantages"], atol=1e-6)

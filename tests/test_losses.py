"""The objective: hand-sized cases, finite differences, exact accumulation, and TRL's numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from r1lab.errors import R1LabError
from r1lab.losses import clipped_objective, grpo_loss, kl, normalise, ratio
from r1lab.models import tiny_llama
from r1lab.rollouts import token_logps

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


def test_clip_fraction_counts_tokens_that_lost_their_gradient():
    logp, old, _, mask, A = example(3)
    logp.requires_grad_(True)
    loss, seen = grpo_loss(logp, old, A, mask)
    loss.backward()
    dead = ((logp.grad == 0) & mask.bool()).sum() / mask.sum()
    assert 0 < seen["clip_fraction"] == pytest.approx(float(dead))


@pytest.mark.parametrize(
    "call",
    [
        lambda a: ratio(a, a, a, "word"),
        lambda a: kl(a, a, "k4"),
        lambda a: normalise(a, a, "batch"),
        lambda a: normalise(a, a, "constant"),
        lambda a: grpo_loss(a, a, a[:, 0], a, kl_coef=0.1),
    ],
)
def test_unknown_options_are_refused(call):
    with pytest.raises(R1LabError):
        call(torch.ones(2, 3))


# --- gradients -----------------------------------------------------------------------------------

OPTIONS = [
    {"ratio_level": level, "length_norm": norm, "kl_coef": beta, "kl_estimator": estimator}
    for level, norm, (beta, estimator) in itertools.product(
        ("token", "sequence"), ("sequence", "token", "constant"),
        ((0.0, "k3"), (0.3, "k1"), (0.3, "k2"), (0.3, "k3")),
    )
]  # fmt: skip
CLIP = {"clip_low": 0.2, "clip_high": 0.3, "constant": 7}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_against_finite_differences(options):
    logp, old, ref, mask, A = example()
    logp.requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda x: grpo_loss(x, old, A, mask, ref, **options, **CLIP)[0], (logp,)
    )


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_parts_add_up_and_padding_leaks_nothing(options):
    logp, old, ref, mask, A = example()
    whole = logp.clone().requires_grad_(True)
    loss, _ = grpo_loss(whole, old, A, mask, ref, **options, **CLIP)
    loss.backward()
    assert (whole.grad[mask == 0] == 0).all()

    poisoned = [torch.where(mask.bool(), x, NAN) for x in (logp, old, ref)]
    total = float(mask.sum()) if options["length_norm"] == "token" else len(mask)
    parts = poisoned[0].clone().requires_grad_(True)
    value = 0.0
    for rows in ([2], [0, 3], [1]):
        part, _ = grpo_loss(
            parts[rows], poisoned[1][rows], A[rows], mask[rows], poisoned[2][rows],
            total=total, **options, **CLIP,
        )  # fmt: skip
        part.backward()
        value += part.item()
    assert value == pytest.approx(loss.item(), abs=1e-12)
    assert torch.allclose(torch.where(mask.bool(), parts.grad, 0.0), whole.grad, atol=1e-12)


# --- TRL -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rollout():
    """A random Llama, ragged questions and answers, and log-probs that differ from its own."""
    torch.manual_seed(0)
    model = tiny_llama(40, width=32, layers=2, heads=2, ffn=48).eval()
    random = torch.Generator().manual_seed(1)

    def words(n):
        return torch.randint(2, 40, (n,), generator=random).tolist()

    prompts = [words(n) for n in (4, 4, 7, 7)]
    answers = [words(n) for n in (6, 3, 1, 9)]
    logp, mask, _ = token_logps(model, list(zip(prompts, answers, strict=True)), 1.0)
    noise = torch.randn(2, *logp.shape, generator=random) * 0.3
    old, ref = (logp.detach() + noise[0]), (logp.detach() + noise[1])
    return model, prompts, answers, mask, old, ref, torch.tensor([1.2, -0.8, 0.5, -0.9])


@pytest.fixture(scope="module")
def trainer(rollout, tmp_path_factory, tokenizer):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    arguments = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), use_cpu=True, bf16=False, report_to=[],
        gradient_checkpointing=False, num_generations=4, per_device_train_batch_size=4,
        max_completion_length=9, use_bias_correction_kl=False,
    )  # fmt: skip
    return GRPOTrainer(
        rollout[0], lambda completions, **_: [0.0] * len(completions), args=arguments,
        train_dataset=Dataset.from_dict({"prompt": ["user"] * 4}), processing_class=tokenizer,
    )  # fmt: skip


def padded(rows, side):
    ids = pad_sequence([torch.tensor(r) for r in rows], True, padding_side=side)
    ones = pad_sequence([torch.ones(len(r), dtype=torch.long) for r in rows], True, 0, side)
    return ids, ones


@pytest.mark.parametrize("beta", [0.0, 0.2])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize(
    "loss_type, norm", [("grpo", "sequence"), ("bnpo", "token"), ("dr_grpo", "constant")]
)
def test_loss_and_gradient_equal_trls(rollout, trainer, loss_type, norm, level, beta):
    model, prompts, answers, mask, old, ref, A = rollout
    logp, _, _ = token_logps(model, list(zip(prompts, answers, strict=True)), 1.0)
    loss, _ = grpo_loss(
        logp, old, A, mask, ref, kl_coef=beta, ratio_level=level, length_norm=norm,
        clip_low=0.1, clip_high=0.3, constant=9,
    )  # fmt: skip
    ours = torch.autograd.grad(loss, list(model.parameters()))

    trainer.loss_type, trainer.importance_sampling_level, trainer.beta = loss_type, level, beta
    trainer.epsilon_low, trainer.epsilon_high, trainer.max_completion_length = 0.1, 0.3, 9
    inputs = {"advantages": A, "old_per_token_logps": old, "ref_per_token_logps": ref}
    inputs["prompt_ids"], inputs["prompt_mask"] = padded(prompts, "left")
    inputs["completion_ids"], inputs["completion_mask"] = padded(answers, "right")
    their_loss = trainer._compute_loss(model, inputs)
    theirs = torch.autograd.grad(their_loss, list(model.parameters()))

    assert loss.item() == pytest.approx(their_loss.item(), abs=1e-5)
    assert max(g.abs().max() for g in ours) > 1e-3  # there is something to compare
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)

"""Lessons 03 and 04: the solutions of their exercises with the numbers they state, the toy's
identities, the roadmap, the glossary."""

from __future__ import annotations

import re

import pytest
import torch
from trl import GRPOConfig as TRLConfig

from r1lab import losses, show
from r1lab.advantages import ADVANTAGES, dr_grpo, group_relative
from r1lab.basics.errors import R1LabError
from r1lab.course import profiles
from r1lab.grpo import GRPOConfig
from r1lab.models.load import tiny_llama
from r1lab.sampler.score import token_logps
from r1lab.tasks import get_task
from r1lab.trl_backend.compare import trl_loss


def solutions(number: str) -> str:
    """The solutions that a lesson prints."""
    (path,) = profiles.select([number])
    nb = profiles.read_notebook(path)
    return next(c.source for c in nb.cells if "## Exercises" in c.source)


def numbers(advantage, rewards):
    return [round(a, 3) for a in ADVANTAGES[advantage](torch.tensor([rewards]))[0].tolist()]


# --- lesson 03 -----------------------------------------------------------------------------------


def test_03_1_advantages_of_two_right_in_four():
    rewards = [1.0, 1, 0, 0]
    assert numbers("grpo", rewards)[::2] == [0.866, -0.866]
    assert numbers("dr_grpo", rewards)[::2] == [0.5, -0.5]
    assert numbers("rloo", rewards)[::2] == [0.667, -0.667]
    assert "0.577" in solutions("03") and "0.866" in solutions("03")


def test_03_2_a_perfect_critic_on_guess_right():
    start, guess, reward = 0.42, 0.3, 1.0
    deltas = [guess - start, reward - guess]
    assert [round(d, 2) for d in deltas] == [-0.12, 0.7]  # lambda 0
    assert round(sum(deltas), 2) == round(reward - start, 2) == 0.58  # lambda 1, first token
    assert all(words in solutions("03") for words in ("-0.12", "+0.7", "0.58"))


@pytest.mark.parametrize("G, factor", [(2, 1.41), (16, 1.03)])
def test_03_3_the_other_denominator(G, factor):
    r = torch.rand(50, G, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e4
    mine = (r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True, correction=0) + 1e-4)
    grown = mine / group_relative(r)
    assert torch.allclose(grown, torch.tensor(G / (G - 1.0)).double().sqrt(), rtol=1e-3)
    assert round((G / (G - 1)) ** 0.5, 2) == factor
    assert f"${factor}$ for $G = {G}$" in solutions("03")


def test_03_4_one_std_for_the_batch_leaves_dr_grpos_fractions():
    r = (torch.rand(20, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float()

    def fractions(A):
        return A.abs().sum(1) / A.abs().sum()

    assert torch.allclose(fractions(dr_grpo(r) / (r.std() + 1e-4)), fractions(dr_grpo(r)))
    assert not torch.allclose(fractions(group_relative(r)), fractions(dr_grpo(r)), atol=1e-3)


def test_03_5_when_no_baseline_wins():
    pi = torch.tensor([0.9] + [0.1 / 99] * 99, dtype=torch.float64)
    r = torch.zeros(100, dtype=torch.float64)
    r[0] = 1
    score = torch.eye(100, dtype=torch.float64) - pi  # (100, 100) gradient of log pi
    squared, truth = score.square().sum(1), (pi * r) @ score

    def variance(b):
        return float(pi @ ((r - b).square() * squared) - truth.square().sum())

    best = float((pi * r) @ squared / (pi @ squared))
    stated = [round(variance(0), 4), round(variance(0.9), 4), round(best, 3)]
    assert stated == [0.0009, 0.1384, 0.048]
    assert min(variance(b / 100) for b in range(101)) >= variance(best)
    assert all(words in solutions("03") for words in ("0.0009", "0.1384", "0.048"))


def test_03_6_the_objective_behind_the_division():
    p = torch.linspace(0.05, 0.95, 19, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad((2 * p.sqrt().arcsin()).sum(), p)
    assert torch.allclose(slope, (p * (1 - p)).rsqrt())


# --- lesson 04 -----------------------------------------------------------------------------------


def test_04_1_the_loss_by_hand():
    old = torch.tensor([[0.50, 0.20, 0.80], [0.40, 0.60, 1.00]])
    new = torch.tensor([[0.60, 0.20, 0.80], [0.20, 0.60, 1.00]])
    two = torch.tensor([[True, True, True], [True, True, False]])
    loss, seen = losses.grpo_loss(new.log(), old.log(), torch.tensor([1.0, -1.0]), two)
    assert round(float(loss), 4) == -0.0833 and "-0.0833" in solutions("04")
    assert seen["clip_fraction"] == pytest.approx(1 / 5)  # the token with ratio 0.5


def test_04_2_a_fresh_rollouts_loss_by_token_is_a_matter_of_lengths():
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    logp = torch.zeros(2, 4)
    by_token = losses.Objective(length_norm="token")
    for A, expected in ((torch.tensor([1.0, -1.0]), -2 / 6), (torch.tensor([-1.0, 1.0]), 2 / 6)):
        loss, _ = losses.grpo_loss(logp, logp, A, mask, objective=by_token)
        assert float(loss) == pytest.approx(expected)  # negative: the better one is longer


def test_04_3_a_large_step_goes_far_beyond_the_clip(batch):
    """Ten times the learning rate: more clipped, ratios outside the limits."""
    policy, rows, A, old, mask = batch

    def after(rate, passes=3):
        model = tiny_llama(64, width=32, layers=2, heads=2, ffn=48)
        model.load_state_dict(policy.state_dict())
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0)
        for _ in range(passes):
            logp, _, _ = token_logps(model, rows)
            loss, _ = losses.grpo_loss(logp, old, A, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            logp, _, _ = token_logps(model, rows)
            _, seen = losses.grpo_loss(logp, old, A, mask)
        return seen["clip_fraction"], losses.ratio(logp, old, mask)[mask]

    small, _ = after(3e-4)
    large, ratios = after(3e-3)
    assert large > small
    assert ratios.max() > 1.3 or ratios.min() < 0.7


@pytest.fixture(scope="module")
def batch():
    """A random model, four completions of one prompt, their advantages, old log-probs, mask."""
    torch.manual_seed(0)
    policy = tiny_llama(64, width=32, layers=2, heads=2, ffn=48).eval()
    rows = [([5, 6, 7], ids) for ids in ([9, 8, 7, 6], [5, 6], [4, 9, 2], [3, 3, 8, 8, 1])]
    with torch.no_grad():
        old, mask, _ = token_logps(policy, rows)
    return policy, rows, torch.tensor([1.5, -0.5, -0.5, -0.5]), old, mask


def test_04_4_on_policy_the_ratio_of_the_kl_term_changes_the_gradient_alone(batch):
    """Equal where the reference is the policy; with another reference the losses are equal and the
    gradients are not."""
    policy, rows, A, old, mask = batch
    noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(1)) * 0.4
    for reference, alike in ((old, True), (old + noise, False)):
        now = old.clone().requires_grad_()
        k3 = losses.kl(now, reference, "k3")
        terms = {"alone": k3, "corrected": losses.ratio(now, old, mask) * k3}
        values = {n: losses.normalise(t, mask, "sequence") for n, t in terms.items()}
        slopes = {n: torch.autograd.grad(v, now, retain_graph=True)[0] for n, v in values.items()}
        assert torch.allclose(values["alone"], values["corrected"])
        assert torch.allclose(slopes["alone"], slopes["corrected"], atol=1e-6) == alike


def test_04_5_the_gradients_of_k2_and_k3():
    ell = torch.tensor([0.1, -0.1, 3, -3], dtype=torch.float64).requires_grad_()
    ref = torch.zeros(4, dtype=torch.float64)
    stated = {"k2": [0.1, -0.1, 3, -3], "k3": [0.095, -0.105, 0.95, -19.1]}
    for name, values in stated.items():
        (slope,) = torch.autograd.grad(losses.kl(ell, ref, name).sum(), ell)
        assert slope.tolist() == pytest.approx(values, rel=5e-3)


def test_equation_1_on_policy_is_the_constant_norm_and_not_the_sequence_norm(batch):
    policy, rows, A, old, mask = batch
    now = old.clone().requires_grad_()
    whole = torch.where(mask, now - old, 0.0).sum(1).exp()
    (eq1,) = torch.autograd.grad(-(whole * A).mean(), now)
    for norm, parallel in (("constant", True), ("token", True), ("sequence", False)):
        objective = losses.Objective(length_norm=norm, constant=1.0)
        loss, _ = losses.grpo_loss(now, old, A, mask, objective=objective)
        (g,) = torch.autograd.grad(loss, now)
        cosine = float((g * eq1).sum() / (g.norm() * eq1.norm()))
        assert (cosine > 1 - 1e-6) == parallel
        assert norm != "constant" or torch.allclose(g, eq1)  # with constant 1 the very same


@pytest.mark.parametrize("kl", ["k2", "k3", "rho * k3"])
def test_which_kl_term_has_the_true_gradient_on_policy(kl):
    """Exactly, over all tokens of a random policy of 50 words."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(50, generator=random, dtype=torch.float64).mul(2).requires_grad_()
    ref = torch.randn(50, generator=random, dtype=torch.float64).mul(2).log_softmax(0)
    now = logits.log_softmax(0)
    pi = now.exp().detach()
    term = losses.kl(now, ref, kl[-2:])
    if kl.startswith("rho"):
        term = (now - now.detach()).exp() * term
    (truth,) = torch.autograd.grad((now.exp() * (now - ref)).sum(), logits, retain_graph=True)
    (g,) = torch.autograd.grad((pi * term).sum(), logits)
    assert torch.allclose(g, truth) == (kl != "k3")


def test_trls_loss_of_a_batch_is_ours(tokenizer):
    """`trl_loss` on a random model; the policy and its gradients stay as they were."""
    problems = get_task("countdown").problems("train", 1, seed=0)
    torch.manual_seed(0)
    policy = tiny_llama(len(tokenizer), width=32, layers=2, heads=2, ffn=48).eval()
    rows = [([5, 6, 7], ids) for ids in ([9, 8, 7, 6], [5, 6], [4, 9, 2], [3, 3, 8, 8, 1])]
    logp, mask, _ = token_logps(policy, rows)
    A = torch.tensor([1.5, -0.5, -0.5, -0.5])
    noise = torch.randn(2, *logp.shape, generator=torch.Generator().manual_seed(1)) * 0.3
    old, ref = logp.detach() + noise[0], logp.detach() + noise[1]
    given = {"advantages": A, "old_per_token_logps": old, "ref_per_token_logps": ref}
    how = {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False}
    theirs, gradients = trl_loss(policy, tokenizer, problems, rows, given, **how)
    loss, _ = losses.grpo_loss(logp, old, A, mask, ref, losses.Objective(kl_coef=0.1))
    assert loss.item() == pytest.approx(theirs, abs=1e-5)
    assert all(weight.grad is None for weight in policy.parameters())
    mine = torch.autograd.grad(loss, list(policy.parameters()))
    for a, b in zip(mine, gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


# --- the roadmap, the glossary, the shape of the two lessons -------------------------------------


def test_the_roadmap_marks_where_one_is():
    drawn = show.roadmap_svg("advantage", "objective")
    assert drawn.count("you are here") == 2 and drawn.startswith("<svg")
    assert "you are here" not in show.roadmap_svg()
    assert "currentColor" in drawn, "readable on a dark page"
    with pytest.raises(R1LabError, match="no station 'critic'"):
        show.roadmap_svg("critic")


def test_what_the_glossary_names_exists():
    text = (profiles.NOTEBOOKS / "glossary.md").read_text()
    for lesson in re.findall(r"\((\d\d_\w+\.ipynb)\)", text):
        assert (profiles.NOTEBOOKS / lesson).is_file(), lesson
    rows = [line.split("|") for line in text.splitlines() if line.count("|") == 6]
    options = {"num_generations", "max_completion_length", "scale_rewards", "epsilon_high",
               "importance_sampling_level", "ref_model_sync_steps", "use_bias_correction_kl",
               "loss_type", "num_iterations", "steps_per_generation"}  # fmt: skip
    trl, ours = ({w for row in rows for w in re.findall(r"`(\w+)`", row[i])} for i in (4, 5))
    assert options <= trl & set(TRLConfig.__dataclass_fields__)
    assert {"clip_low", "kl_coef", "length_norm"} <= ours & set(GRPOConfig.__dataclass_fields__)


@pytest.mark.parametrize("number", ["03", "04"])
def test_a_lesson_is_short_and_its_plumbing_is_folded(number):
    """Forty minutes: 200 words or 20 lines of code a minute, 20 seconds for a prediction."""
    (path,) = profiles.select([number])
    nb = profiles.read_notebook(path)
    cells = [c for c in nb.cells if c.cell_type == "code"]
    seen = [c for c in cells if "hide-input" not in c.metadata.get("tags", ())]
    lines = [line for c in seen[1:] for line in c.source.splitlines() if line.strip()]
    assert len([line for line in lines if re.match(r"(from|import) ", line)]) <= 12
    plumbing = [x for x in lines if re.search(r"^\s*(assert|ledger|fig)\b|show\.|record\(", x)]
    assert len(plumbing) <= 0.15 * len(lines)
    text = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    text = re.split(r"## Part [23] · (?:Reference, may|May) be skipped", text)[0]
    asked = text.count("**Predict")
    minutes = len(re.sub(r"\$[^$]*\$", " x ", text).split()) / 200 + len(lines) / 20
    assert minutes + asked / 3 <= 40 and asked >= 6


def test_the_toys_figures_draw_what_they_are_given():
    clouds = {"a": [[0.0, 0.0], [1.0, 2.0]], "b": [[3.0, 3.0]]}
    fig = show.estimate_dots(clouds, [0.5, 0.5], axes=("x", "y"), title="t")
    assert [len(trace.x) for trace in fig.data] == [2, 1, 1, 1, 1, 1]  # dots, mean, exact
    assert (fig.data[1].x, fig.data[1].y) == ((0.5,), (1.0,))
    lines = show.run_lines({"a": [[0.1, 0.2]] * 5, "b": [[1.0]]}, y_title="J", title="t", most=3)
    assert [tuple(trace.y) for trace in lines.data] == [(0.1, 0.2)] * 3 + [(1.0,)]

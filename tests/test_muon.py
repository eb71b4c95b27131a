"""Muon in float32: torch's own, but for the rounding; and it goes on where it was."""

from __future__ import annotations

import copy

import pytest
import torch

from r1lab.world.muon import Muon, orthogonalise

SHAPES = [(32, 32), (48, 24), (24, 48)]
OPTIONS = {"lr": 0.025, "momentum": 0.95, "weight_decay": 0.1}


def matrices(seed: int) -> list[torch.Tensor]:
    """Of every shape, with a few directions much stronger than the others, as gradients have."""
    made = torch.Generator().manual_seed(seed)
    found = []
    for m, n in SHAPES:
        strong = torch.randn(m, 3, generator=made) @ torch.randn(3, n, generator=made)
        found.append(strong + 0.3 * torch.randn(m, n, generator=made))
    return found


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(matrix) for matrix in matrices(0)]


def walk(optimizer, parameters, seeds) -> None:
    for seed in seeds:
        for weight, gradient in zip(parameters, matrices(seed), strict=True):
            weight.grad = gradient
        optimizer.step()


def moved(kind) -> list[torch.Tensor]:
    """How far each weight moves in five steps."""
    parameters = weights()
    walk(kind(parameters, **OPTIONS), parameters, range(1, 6))
    return [(w - start).detach() for w, start in zip(parameters, weights(), strict=True)]


def test_the_steps_are_those_of_torch_to_the_rounding_of_bfloat16():
    for ours, theirs in zip(moved(Muon), moved(torch.optim.Muon), strict=True):
        assert 0 < (ours - theirs).norm() < 0.02 * theirs.norm()


def test_without_that_rounding_they_are_the_same(monkeypatch):
    """Learning rate by shape, Nesterov, weight decay, coefficients: nothing else differs."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    for ours, theirs in zip(moved(Muon), moved(torch.optim.Muon), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_directions_become_about_equally_strong(shape):
    (matrix,) = [m for m in matrices(3) if m.shape == shape]
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert s[0] > 10 * s[5]
    found = orthogonalise(matrix)
    strengths = torch.linalg.svdvals(found)
    assert strengths.max() < 1.3 and strengths.quantile(0.2) > 0.6
    across = u.T @ found @ v.T  # diagonal where U and V have stayed
    assert (across - across.diag().diag()).abs().max() < 1e-3


def test_a_gradient_of_zeros_moves_nothing_and_makes_no_nan():
    weight = torch.nn.Parameter(torch.ones(4, 3))
    weight.grad = torch.zeros(4, 3)
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, torch.ones(4, 3))


def test_it_resumes_to_the_same_bits():
    whole = weights()
    walk(Muon(whole, **OPTIONS), whole, range(1, 7))

    parts = weights()
    first = Muon(parts, **OPTIONS)
    walk(first, parts, range(1, 4))
    saved = copy.deepcopy(first.state_dict())
    second = Muon(parts, lr=1.0)
    second.load_state_dict(saved)
    walk(second, parts, range(4, 7))
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_only_matrices_are_taken():
    with pytest.raises(ValueError, match=r"matrices, not for shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    loss = Muon([weight], lr=0.1).step(lambda: weight.sum())
    assert loss.item() == 4 and torch.equal(weight, torch.ones(2, 2))  # no gradient, no step

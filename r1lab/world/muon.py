"""Muon in float32: an update of equal strength in every direction of a weight matrix.

A gradient of a weight matrix is mostly a few strong directions; a step along it changes those and
hardly the others. Muon (Keller Jordan and others 2024, https://kellerjordan.github.io/posts/muon/)
steps along the nearest matrix whose directions are equally strong: with the singular value
decomposition of the momentum, M = U S V', that is U V'. It is not computed by decomposition but by
a few matrix products, which make each singular value s of M into one near 1 and leave U and V be:

    X <- a X + (b A + c A A) X,  A = X X'      s <- a s + b s^3 + c s^5

(Newton-Schulz; five times, from M / |M|, whose singular values are at most 1.) With a = 3.4445,
b = -4.7750, c = 2.0315 the small ones grow as fast as they can, and all from 0.005 up end between
0.68 and 1.16, which serves as well as 1.

`torch.optim.Muon` is the same in bfloat16, which suits GPUs. A CPU without bfloat16 instructions
imitates them at a twentieth of the speed, and then most of a small model's training time goes into
these products. Here they are float32, and everything else is as there
(`tests/test_muon.py` compares).
"""

from __future__ import annotations

import math

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a, b, c
ITERATIONS = 5
TINY = 1e-7  # no division by a norm below this


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """About U V' for a matrix (m, n) = U S V', in the matrix's own type."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # the smaller X X'
    x = wide / wide.norm().clamp(min=TINY)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    """For weight matrices (m, n); embeddings, norms and biases want another optimizer.

    lr            length of a step, times sqrt(m / n) for a matrix with more rows than columns
    momentum      share of the momentum that stays at each step; with Nesterov's look ahead
    weight_decay  share of the weight, times lr, that goes at each step

    Raises ValueError for a parameter that is no matrix.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 2:
                    raise ValueError(f"Muon is for matrices, not for shape {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self, closure=None):
        """One step; the closure's loss, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                average = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                update = orthogonalise(weight.grad.lerp(average, momentum))
                rows, columns = weight.shape
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-lr * math.sqrt(max(1.0, rows / columns)))
        return loss

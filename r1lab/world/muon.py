"""Muon in float32 (Keller Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

The gradient of a weight matrix has a few dominant singular directions. Muon replaces the momentum
M = U S V' by about U V', the nearest matrix with equal singular values, so that a step is equally
strong in every direction. Newton-Schulz iterations do this with matrix products alone:

    X <- a X + (b A + c A A) X,  A = X X'      singular values: s <- a s + b s^3 + c s^5

Five iterations from M / |M| with a = 3.4445, b = -4.7750, c = 2.0315 move all singular values from
0.005 up to between 0.68 and 1.16. `torch.optim.Muon` computes them in bfloat16, which a CPU without
bfloat16 instructions emulates at a twentieth of the speed; here they are float32, and all else is
the same (`tests/test_muon.py` compares).
"""

import math

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a, b, c
ITERATIONS = 5
TINY = 1e-7  # smallest norm to divide by


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """About U V' for a matrix (m, n) = U S V', in the matrix's dtype."""
    a, b, c = COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T  # the smaller X X'
    x = wide / wide.norm().clamp(min=TINY)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide is matrix else x.T


class Muon(torch.optim.Optimizer):
    """For weight matrices (m, n) only. Raises ValueError for other parameters.

    lr            step size, times sqrt(m / n) for a matrix with more rows than columns
    momentum      decay of the momentum (Nesterov)
    weight_decay  decoupled, times lr
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

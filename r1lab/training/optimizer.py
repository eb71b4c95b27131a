"""A model made ready for training, and its optimizer."""

from typing import Any

import torch

from r1lab.basics.errors import R1LabError
from r1lab.machine.device import precision_on


def adamw(model, config: Any) -> torch.optim.AdamW:
    """The optimizer of the parameters that require a gradient; the gradients begin as 0."""
    weights = trainable(model)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(weights, config.learning_rate, betas, weight_decay=0.0)


def ready(model, config: Any) -> str:
    """Prepare a model for training; returns the precision of the arithmetic."""
    precision = precision_on(model.device, config.precision)
    if precision == "bf16":
        model.float()  # AdamW's small steps are lost in bfloat16 weights
    model.eval()  # no dropout: the policy that samples is the policy that is trained
    return precision


def trainable(model) -> list[torch.nn.Parameter]:
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise R1LabError("no weight of this model requires a gradient, so nothing can be trained")
    return weights

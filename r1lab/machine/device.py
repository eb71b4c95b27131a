"""Where and in which precision to compute."""

import copy
from contextlib import nullcontext
from typing import Any

import torch

from r1lab.basics.errors import R1LabError


def precision_on(device: torch.device | str, precision: str) -> str:
    """ "fp32" or "bf16": what the option `precision` means on a device."""
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device) else "fp32"


def arithmetic(model, config: Any):
    """The context of one forward pass. In bf16, matrix products read rounded weights; norms,
    softmax, log-probs and all gradients stay float32. The context caches the rounded weights, which
    the next optimizer step makes stale."""
    if precision_on(model.device, config.precision) == "fp32":
        return nullcontext()
    return torch.autocast(model.device.type, torch.bfloat16)


def on_gpu(device: str | None) -> bool:
    """Whether to compute on a GPU: "cuda", "cpu", or, for "auto" and None, where there is one.
    Raises R1LabError for a GPU that is not here."""
    here = torch.cuda.is_available()
    if device == "cuda" and not here:
        raise R1LabError("device cuda: torch finds no CUDA GPU here; --device cpu works")
    return here and device != "cpu"


def has_bf16(device: torch.device | str) -> bool:
    """Whether a device is faster in bfloat16 than in float32: GPUs since Ampere (2020) are. Older
    ones (T4, V100) and most CPUs emulate it."""
    cuda = torch.device(device).type == "cuda"
    return cuda and torch.cuda.is_bf16_supported(including_emulation=False)


def in_type(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of the model with its weights in another type, to sample from; adapters are merged.

    RoPE's frequencies stay float32, as in a model that is loaded in `dtype` (bfloat16 is too coarse
    for angles of distant positions). Forwards that TRL or accelerate put on the modules are
    removed: they would call the model that was copied.
    """
    twin = copy.deepcopy(model)
    if hasattr(twin, "merge_and_unload"):
        twin = twin.merge_and_unload()
    for module in twin.modules():
        module.__dict__.pop("forward", None)
    for weight in twin.parameters():
        weight.data = weight.data.to(dtype)
    return twin


def to_sample(model: torch.nn.Module, device: torch.device | str) -> torch.nn.Module:
    """The model on a device, to sample from: where the device has bfloat16, a copy in that type."""
    model = model.to(device)
    return in_type(model, torch.bfloat16).eval() if has_bf16(device) else model.eval()


def device_of(config: Any) -> str:
    """ "cuda" or "cpu": what the option `device` means here. R1LabError for a missing GPU."""
    return "cuda" if on_gpu(config.device) else "cpu"

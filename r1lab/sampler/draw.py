"""Drawing the next token: temperature, top-k, top-p."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from r1lab.basics.errors import R1LabError


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled. temperature divides the logits; top_k (0: off), then top_p (1: off)
    restrict the tokens; greedy takes the likeliest one and reports temperature-1 log-probs; seed
    fixes the draws. Raises R1LabError for a value that cannot be right."""

    max_new_tokens: int = 448
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise R1LabError(f"max_new_tokens is {self.max_new_tokens}: it must be at least 1")
        if not self.greedy and not 0 < self.temperature < math.inf:
            raise R1LabError(f"temperature is {self.temperature}: it must be above 0")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise R1LabError(
                f"top_k={self.top_k}, top_p={self.top_p}: top_k >= 0 (0 is off), 0 < top_p <= 1"
            )


def draw(
    logits: Tensor,
    uniform: Tensor | None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One token per row: (n, V) logits and (n,) uniforms -> tokens (n,), log-probs (n,) float32.
    uniform None is greedy. The log-probs are those before top_k and top_p."""
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    logp = logits.log_softmax(-1)  # (n, V)
    if uniform is None:
        token = logp.argmax(-1)
    else:
        kept = truncate(logp, top_k, top_p) if top_k > 0 or top_p < 1 else logp
        cdf = kept.exp().cumsum(-1)  # (n, V), unnormalised where truncated
        target = uniform[:, None] * cdf[:, -1:]
        token = torch.searchsorted(cdf, target, right=True).squeeze(1)
        token = token.clamp_(max=logits.shape[-1] - 1)  # only NaN logits get past the end
    return token, logp.gather(-1, token[:, None]).squeeze(1)


def truncate(logp: Tensor, top_k: int, top_p: float) -> Tensor:
    """-inf outside the top k tokens, then outside the smallest set of those with mass top_p; the
    likeliest token always stays. (n, V) -> (n, V)."""
    if 0 < top_k < logp.shape[-1]:
        smallest = logp.topk(top_k, -1).values[:, -1:]
        logp = logp.masked_fill(logp < smallest, -torch.inf)
    if top_p < 1:
        ordered, index = logp.sort(-1, descending=True)
        p = ordered.softmax(-1)
        before = p.cumsum(-1) - p  # the mass of the likelier tokens
        cut = before >= top_p
        cut[:, 0] = False
        logp = logp.masked_fill(torch.zeros_like(cut).scatter_(-1, index, cut), -torch.inf)
    return logp

"""The GRPO objective, term by term, as the paper writes it.

    J = E[ 1/G sum_i 1/|o_i| sum_t  min(rho A_i, clip(rho, 1 - eps, 1 + eps) A_i) - beta KL ]

    rho = pi(o_t | q, o_<t) / pi_old(o_t | q, o_<t)          (arXiv 2501.12948v2, section 2.1)

with one advantage A_i for all tokens of an answer. Each term is a function below; `grpo_loss` puts
them together and returns -J, which an optimizer can minimise. N answers of at most T tokens are
tensors (N, T); mask (N, T) is 1 on an answer's tokens (its end-of-sequence token included) and 0 on
the padding behind. What stands under the padding, NaN included, never reaches loss or gradient.

The choices that came after the paper are options here: the ratio of a whole sequence (GSPO, arXiv
2507.18071), a wider clip above than below (DAPO, arXiv 2503.14476), and what a token is divided by
(Dr. GRPO, arXiv 2503.20783).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from r1lab.errors import R1LabError


def ratio(logp: Tensor, old_logp: Tensor, mask: Tensor, level: str = "token") -> Tensor:
    """rho, how much likelier the policy makes each token than the policy that sampled it: (N, T).

    level "token": pi / pi_old of the token (the paper's). "sequence": one value for all tokens of
    an answer, the geometric mean of its token ratios, exp(1/|o| sum_t log pi/pi_old), its gradient
    included (GSPO). 1 on the padding. logp, old_logp, mask: (N, T), log-probs in nats.
    """
    log_ratio = torch.where(mask.bool(), logp - old_logp, 0.0)  # (N, T)
    if level == "token":
        return log_ratio.exp()
    if level == "sequence":
        lengths = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return (log_ratio.sum(dim=1, keepdim=True) / lengths).exp().expand_as(logp)
    raise R1LabError(f"ratio level {level!r} is not known: use 'token' or 'sequence'")


def clipped_objective(
    ratio: Tensor, advantages: Tensor, clip_low: float = 0.2, clip_high: float = 0.2
) -> Tensor:
    """min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), to be made large: (N, T).

    ratio: (N, T), advantages: (N,). Beyond the clip a token has no gradient, so one rollout cannot
    carry the policy far from where it was drawn; the minimum keeps the gradient where moving back
    would help. The paper's epsilon is both `clip_low` and `clip_high`.
    """
    A = advantages[:, None]  # (N, 1)
    return torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)


def kl(logp: Tensor, ref_logp: Tensor, estimator: str = "k3") -> Tensor:
    """Estimate of KL(pi || pi_ref) from each sampled token, in nats: (N, T).

    With r = pi_ref / pi of the token: k1 = -log r is unbiased and varies much; k2 = (log r)^2 / 2
    is biased and varies little; k3 = r - 1 - log r is unbiased, never negative, and the paper's
    (equation 2). (J. Schulman, "Approximating KL divergence", 2020.)
    """
    log_r = ref_logp - logp
    if estimator == "k1":
        return -log_r
    if estimator == "k2":
        return log_r.square() / 2
    if estimator == "k3":
        return log_r.expm1() - log_r
    raise R1LabError(f"KL estimator {estimator!r} is not known: use 'k1', 'k2' or 'k3'")


def normalise(
    per_token: Tensor,
    mask: Tensor,
    how: str = "sequence",
    *,
    constant: float | None = None,
    total: float | None = None,
) -> Tensor:
    """One number from one per token: (N, T) -> ().

    how:
      "sequence"  the mean over an answer's tokens, then over answers (the paper). A token of a long
                  answer counts less: long wrong answers are punished less per token.
      "token"     the mean over all tokens (DAPO): every token counts the same, long answers more.
      "constant"  the sum over tokens divided by `constant`, then the mean over answers (Dr. GRPO).

    total: what the last mean divides by, answers or (for "token") tokens; default: those given
    here. Pass the whole batch's when these rows are a part of it: the parts' values, and gradients,
    then add up to the batch's. Raises R1LabError for an unknown `how` or a missing `constant`.
    """
    mask = mask.to(per_token.dtype)
    kept = torch.where(mask.bool(), per_token, 0.0)
    if how == "sequence":
        lengths = mask.sum(dim=1).clamp(min=1)
        return (kept.sum(dim=1) / lengths).sum() / (len(mask) if total is None else total)
    if how == "token":
        return kept.sum() / (mask.sum().clamp(min=1) if total is None else total)
    if how == "constant":
        if not constant:
            raise R1LabError("length norm 'constant' needs `constant`, such as the length limit")
        return kept.sum() / constant / (len(mask) if total is None else total)
    raise R1LabError(f"length norm {how!r} is not known: use 'sequence', 'token' or 'constant'")


def grpo_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    ref_logp: Tensor | None = None,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coef: float = 0.0,
    kl_estimator: str = "k3",
    ratio_level: str = "token",
    length_norm: str = "sequence",
    constant: float | None = None,
    total: float | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """-J of the answers given, and what happened on the way.

    logp, old_logp, ref_logp, mask: (N, T); advantages: (N,); only logp carries a gradient.
    kl_coef is beta; 0 needs no ref_logp. constant, total: as in `normalise`.

    Returns the loss () and {"clip_fraction": share of tokens whose gradient the clip removed,
    "ratio": mean ratio, and with a reference "kl": mean estimate in nats}, means over tokens.
    Raises R1LabError for an unknown option or a KL term without a reference.
    """
    on = mask.bool()
    rho = ratio(logp, old_logp, mask, ratio_level)  # (N, T)
    objective = clipped_objective(rho, advantages, clip_low, clip_high)  # (N, T)
    tokens = on.sum().clamp(min=1)
    A = advantages[:, None]
    clipped = ((rho > 1 + clip_high) & (A > 0)) | ((rho < 1 - clip_low) & (A < 0))
    seen = {
        "clip_fraction": float((clipped & on).sum() / tokens),
        "ratio": float(torch.where(on, rho.detach(), 0.0).sum() / tokens),
    }
    if kl_coef:
        if ref_logp is None:
            raise R1LabError("a KL term (kl_coef above 0) needs the reference's log-probs")
        divergence = kl(
            torch.where(on, logp, 0.0), torch.where(on, ref_logp, 0.0), kl_estimator
        )  # 0 on the padding
        objective = objective - kl_coef * divergence
        seen["kl"] = float(divergence.detach().sum() / tokens)
    return -normalise(objective, mask, length_norm, constant=constant, total=total), seen

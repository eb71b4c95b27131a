"""The GRPO objective, term by term.

The paper (arXiv 2501.12948, section 2.1, equations 1 and 2) writes, for G answers o_i to q,

    J = E[ 1/G sum_i  min(rho_i A_i, clip(rho_i, 1 - eps, 1 + eps) A_i) - beta KL ]
    rho_i = pi(o_i | q) / pi_old(o_i | q)         KL = pi_ref/pi - log(pi_ref/pi) - 1

with one ratio per completion and no division by its length: on-policy every token has the weight
1/G, as with a constant denominator (Dr. GRPO). DeepSeekMath (arXiv 2402.03300, equation 3), where
GRPO comes from, writes the bracket for every token t and takes the mean over the tokens:

    J = E[ 1/G sum_i 1/|o_i| sum_t  min(rho A_i, clip(rho, 1 - eps, 1 + eps) A_i) - beta KL ]
    rho = pi(o_t | q, o_<t) / pi_old(o_t | q, o_<t)

That is another objective: a token of a long completion weighs less. It is TRL's loss_type="grpo",
and the default here; which of the two R1-Zero's code computed is not published. Each term is a
function below; `grpo_loss` combines them and returns -J. Options come from later papers: one ratio
per completion (GSPO, arXiv 2507.18071), a wider upper clip and the mean over tokens (DAPO, arXiv
2503.14476), division by a constant instead of the length (Dr. GRPO, arXiv 2503.20783), a clipped
weight in place of a clipped objective (CISPO, arXiv 2506.13585), an unbiased KL term and a mask
over stale completions (DeepSeek-V3.2, arXiv 2512.02556), an importance weight for completions that
another policy sampled (TIS), an entropy bonus.

N completions of at most T tokens are tensors (N, T). mask (N, T), of any number type or bool, is 1
on a completion's tokens (EOS included) and 0 on the padding behind. Padding, NaN included, reaches
neither loss nor gradient.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from r1lab.basics.errors import R1LabError

CORRECTIONS = ("none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
KL_ESTIMATORS = ("k1", "k2", "k3", "unbiased")
LENGTH_NORMS = ("sequence", "token", "constant")


@dataclass(frozen=True)
class Objective:
    """The options of `grpo_loss`: clip range, KL term (kl_coef is beta; 0 needs no reference), how
    the ratio and the mean are taken (`ratio`, `kl`, `normalise`), what becomes of the ratio
    (surrogate "clip": `clipped_objective`; "cispo": `clipped_weight`), and above which mean
    log-ratio a bad completion is left out (`on_policy_enough`; 0: none is)."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.0
    kl_estimator: str = "k3"
    ratio_level: str = "token"
    length_norm: str = "sequence"
    constant: float | None = None
    surrogate: str = "clip"
    off_policy_mask: float = 0.0


def ratio(logp: Tensor, old_logp: Tensor, mask: Tensor, level: str = "token") -> Tensor:
    """rho = pi / pi_old: (N, T), 1 on the padding.

    level "token": per token (DeepSeekMath). "sequence": one value for all tokens of a completion,
    the geometric mean of its token ratios, exp(1/|o| sum_t log pi/pi_old) (GSPO); the paper's plain
    product leaves any clip range in a long completion. logp, old_logp, mask: (N, T), log-probs in
    nats. Raises R1LabError for an unknown level.
    """
    on = mask.bool()
    log_ratio = torch.where(on, logp - old_logp, 0.0)  # (N, T)
    if level == "token":
        return log_ratio.exp()
    if level == "sequence":
        lengths = on.sum(dim=1, keepdim=True).clamp(min=1)  # (N, 1)
        return (log_ratio.sum(dim=1, keepdim=True) / lengths).exp().expand_as(logp)
    raise R1LabError(f"ratio level {level!r} is not known: use 'token' or 'sequence'")


def clipped_objective(
    ratio: Tensor, advantages: Tensor, clip_low: float = 0.2, clip_high: float = 0.2
) -> Tensor:
    """min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), to be maximised: (N, T).

    ratio: (N, T), advantages: (N,). Beyond the clip range a token has no gradient, except (by the
    minimum) where moving back would help. The paper's epsilon is both bounds; DAPO has 0.2 and
    0.28, so that low-probability tokens can grow.
    """
    A = advantages[:, None]  # (N, 1)
    return torch.minimum(ratio * A, ratio.clamp(1 - clip_low, 1 + clip_high) * A)


def clipped_weight(
    ratio: Tensor, advantages: Tensor, logp: Tensor, clip_high: float = 0.2
) -> Tensor:
    """sg(min(rho, 1 + clip_high)) A log pi, to be maximised: (N, T). sg: without gradient.

    CISPO (MiniMax-M1, arXiv 2506.13585, section 3.1, equations 4 and 5): the clip bounds a token's
    weight and takes no token's gradient away. There, as here, nothing is clipped below. logp: 0 on
    the padding. ratio, logp: (N, T); advantages: (N,).
    """
    return ratio.clamp(max=1 + clip_high).detach() * advantages[:, None] * logp


def on_policy_enough(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, most: float
) -> Tensor:
    """Which completions are learned from: bool (N, 1). Left out are those with a negative advantage
    whose mean over tokens of log pi_old/pi exceeds `most`, in nats (DeepSeek-V3.2, arXiv
    2512.02556, section 3.1, equation 9: off-policy sequence masking)."""
    on = mask.bool()
    apart = torch.where(on, old_logp - logp.detach(), 0.0).sum(dim=1)  # (N,)
    return ((advantages >= 0) | (apart / on.sum(dim=1).clamp(min=1) <= most))[:, None]


def importance_weight(
    old_logp: Tensor, sampled_logp: Tensor, mask: Tensor, how: str, cap: float
) -> Tensor:
    """pi_old / pi_sampler, for completions that another policy sampled than pi_old: (N, T), without
    gradient, 1 on the padding.

    how: "token_truncate"     each token's, at most `cap` (TIS: F. Yao and others, "Your efficient
                              RL framework secretly brings you off-policy RL training", 2025)
         "token_mask"         each token's, 0 where it is above `cap` (IcePop, 2025, which bounds it
                              below as well)
         "sequence_truncate"  the product over a completion's tokens, at most `cap`
         "sequence_mask"      that product, 0 where it is above `cap`
    The names are TRL's (vllm_importance_sampling_mode). Raises R1LabError for another.
    """
    if how not in CORRECTIONS[1:]:
        raise R1LabError(f"correction {how!r} is not known: use {', '.join(CORRECTIONS[1:])}")
    log_weight = torch.where(mask.bool(), old_logp - sampled_logp, 0.0).detach()  # (N, T)
    if how.startswith("sequence"):
        log_weight = log_weight.sum(dim=1, keepdim=True).expand_as(log_weight)
    weight = log_weight.exp()
    return weight.clamp(max=cap) if how.endswith("truncate") else weight * (weight <= cap)


def kl(logp: Tensor, ref_logp: Tensor, estimator: str = "k3") -> Tensor:
    """Estimate of KL(pi || pi_ref) from each sampled token, in nats: (N, T).

    With r = pi_ref / pi: k1 = -log r is unbiased with high variance; k2 = (log r)^2 / 2 is biased
    with low variance; k3 = r - 1 - log r is unbiased, never negative, and the paper's (equation 2).
    (J. Schulman, "Approximating KL divergence", 2020.)

    The gradient of an estimate is not an estimate of the gradient, since sampling is not
    differentiated: on average k1 has no gradient, k2 that of KL(pi || pi_ref), k3 that of
    KL(pi_ref || pi) (Tang and Munos 2025, arXiv 2506.09477). k3 times the ratio has that of
    KL(pi || pi_ref), also where the ratio is 1, because the ratio is differentiated: DeepSeek-V3.2
    (arXiv 2512.02556, section 3.1, equation 7) and TRL's default, use_bias_correction_kl; here the
    objective's kl_estimator "unbiased". The R1 paper has k3 alone.

    Raises R1LabError for an unknown estimator.
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

    how: "sequence"  mean over a completion's tokens, then over completions (DeepSeekMath); a token
                     of a long completion counts less
         "token"     mean over all tokens (DAPO)
         "constant"  sum over tokens / `constant`, then the mean over completions (Dr. GRPO; with
                     constant 1 on-policy the gradient of the R1 paper's equation 1)

    total: what the last mean divides by, completions or (for "token") tokens; default: those given.
    Pass the whole batch's for a part of it: values and gradients of the parts then add up to the
    batch's. Raises R1LabError for an unknown `how` or a missing `constant`.
    """
    on = mask.bool()
    kept = torch.where(on, per_token, 0.0)  # (N, T)
    if how == "sequence":
        lengths = on.sum(dim=1).clamp(min=1)  # (N,)
        return (kept.sum(dim=1) / lengths).sum() / (len(mask) if total is None else total)
    if how == "token":
        return kept.sum() / (on.sum().clamp(min=1) if total is None else total)
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
    objective: Objective = Objective(),
    *,
    weight: Tensor | None = None,
    total: float | None = None,
) -> tuple[Tensor, dict[str, Any]]:
    """-J of the completions given, and its statistics.

    logp, old_logp, ref_logp, mask: (N, T); advantages: (N,); only logp carries a gradient.
    weight: (N, T) factors of the objective without its KL term (`importance_weight`).
    total: as in `normalise`.

    Returns the loss () and {"clip_fraction": fraction of tokens whose gradient is clipped away,
    "ratio": its mean, with a reference "kl": mean estimate in nats, and with an off_policy_mask
    "left_out": fraction of tokens it leaves out}, means over the mask's tokens. Raises R1LabError
    for an unknown option, shapes that do not fit (torch would broadcast them) and a KL term without
    a reference.
    """
    for name, one in (("old_logp", old_logp), ("mask", mask), ("ref_logp", ref_logp)):
        if one is not None and one.shape != logp.shape:
            shapes = f"{name} is {tuple(one.shape)}, logp {tuple(logp.shape)}"
            raise R1LabError(f"{shapes}: make them equal")
    if advantages.shape != logp.shape[:1]:
        raise R1LabError(f"advantages must be ({len(logp)},), not {tuple(advantages.shape)}")
    if objective.kl_coef and ref_logp is None:
        raise R1LabError("a KL term (kl_coef above 0) needs the reference's log-probs")

    on = mask.bool()
    rho = ratio(logp, old_logp, mask, objective.ratio_level)  # (N, T)
    low, high = objective.clip_low, objective.clip_high
    tokens = on.sum().clamp(min=1)
    A = advantages[:, None]
    if objective.surrogate == "clip":
        J = clipped_objective(rho, advantages, low, high)  # (N, T)
        clipped = ((rho > 1 + high) & (A > 0)) | ((rho < 1 - low) & (A < 0))
    elif objective.surrogate == "cispo":
        J = clipped_weight(rho, advantages, torch.where(on, logp, 0.0), high)
        clipped = (rho > 1 + high) & (A > 0)  # as TRL counts them: their weight is bounded
    else:
        raise R1LabError(f"surrogate {objective.surrogate!r} is not known: use 'clip' or 'cispo'")
    if weight is not None:
        J = J * weight
    seen = {
        "clip_fraction": float((clipped & on).sum() / tokens),
        "ratio": float(torch.where(on, rho.detach(), 0.0).sum() / tokens),
    }
    if objective.off_policy_mask:
        kept = on_policy_enough(logp, old_logp, advantages, mask, objective.off_policy_mask)
        J = J * kept
        seen["left_out"] = float((~kept & on).sum() / tokens)
    if ref_logp is not None:
        here, there = torch.where(on, logp, 0.0), torch.where(on, ref_logp, 0.0)
        unbiased = objective.kl_estimator == "unbiased"
        divergence = kl(here, there, "k3" if unbiased else objective.kl_estimator)  # (N, T)
        divergence = divergence * rho if unbiased else divergence  # 0 on the padding
        seen["kl"] = float(divergence.detach().sum() / tokens)
        if objective.kl_coef:
            J = J - objective.kl_coef * divergence
    how, constant = objective.length_norm, objective.constant
    return -normalise(J, mask, how, constant=constant, total=total), seen


def entropy_bonus(entropy: Tensor, mask: Tensor, total: float | None = None) -> Tensor:
    """The policy's mean entropy per token, in nats: (N, T), with its gradient, -> (). The loss
    subtracts a small multiple of it, so that it does not collapse (Williams and Peng 1991; TRL's
    entropy_coef). total: the tokens to divide by; default: those given, see `normalise`."""
    return normalise(entropy, mask, "token", total=total)

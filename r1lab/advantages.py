"""Advantages: how much better an answer is than the model's other answers to the same question.

PPO learns a critic V(q) to say what reward was to be expected. GRPO asks the model itself: draw a
group of G answers o_1 ... o_G to the question q, and let their mean reward be the expectation
(arXiv 2501.12948v2, section 2.1, equation 3):

    A_i = (r_i - mean(r_1 ... r_G)) / std(r_1 ... r_G)

The variants differ in what they divide by and in whose mean they subtract:

* ``group_relative`` is the paper's. Dividing by the standard deviation makes every question move
  the model about equally far; it thereby gives questions that are nearly always or nearly never
  answered right more weight than their spread of rewards would.
* ``dr_grpo`` leaves the division out (Liu et al. 2025, arXiv 2503.20783).
* ``rloo`` subtracts the mean of the *other* answers, which makes the estimate unbiased at any G
  (Ahmadian et al. 2024, arXiv 2402.14740). It is dr_grpo times G / (G - 1).

All take rewards (B, G) of B questions and return advantages (B, G) in the same unit-free scale.
"""

from __future__ import annotations

from torch import Tensor

from r1lab.basics.errors import R1LabError


def group_relative(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """The paper's advantage: (B, G) -> (B, G), mean 0 and standard deviation 1 within a group.

    The standard deviation is the sample's (G - 1 below the line) and eps is added to it, as TRL
    does: a group without a spread then gets zeros instead of 0 / 0.
    """
    _check(rewards)
    spread = rewards.std(dim=1, keepdim=True)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (spread + eps)


def dr_grpo(rewards: Tensor) -> Tensor:
    """r_i - mean(r): (B, G) -> (B, G), in units of reward."""
    _check(rewards)
    return rewards - rewards.mean(dim=1, keepdim=True)


def rloo(rewards: Tensor) -> Tensor:
    """r_i minus the mean of the other G - 1 rewards: (B, G) -> (B, G), in units of reward."""
    _check(rewards)
    G = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (G - 1)
    return rewards - others


def _check(rewards: Tensor) -> None:
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise R1LabError(
            f"advantages need rewards (questions, answers) with 2 answers a question or more, "
            f"not {tuple(rewards.shape)}"
        )


ADVANTAGES = {"grpo": group_relative, "dr_grpo": dr_grpo, "rloo": rloo}

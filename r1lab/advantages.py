"""Advantages: how much better a completion is than the model's other completions of one prompt.

PPO learns a critic V(q) to say what reward was to be expected. GRPO asks the model itself: draw a
group of G completions o_1 ... o_G of the prompt q, and let their mean reward be the expectation
(arXiv 2501.12948v2, section 2.1, equation 3):

    A_i = (r_i - mean(r_1 ... r_G)) / std(r_1 ... r_G)

The variants differ in what they divide by and in whose mean they subtract:

* ``group_relative`` is the paper's. Dividing by the standard deviation makes every prompt move
  the model about equally far; it thereby gives prompts that are nearly always or nearly never
  answered right more weight than the variance of their rewards would.
* ``dr_grpo`` leaves the division out (Liu et al. 2025, arXiv 2503.20783).
* ``rloo`` subtracts the mean of the *other* completions, which makes the estimate unbiased at any G
  (Ahmadian et al. 2024, arXiv 2402.14740). It is dr_grpo times G / (G - 1).

All take rewards (B, G) of B prompts and return advantages (B, G). A zero-variance group gets
exactly 0 from these three, as its completions are equally good; an estimator of your own with a
baseline of another kind may give it what it likes.

**Your own:** a function from (B, G) to (B, G) in a file, `--advantage mine.py:robust`. It runs on
the backend scratch; TRL runs it only where an `Estimator` says what TRL calls the same thing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError


@dataclass(frozen=True)
class Estimator:
    """A function of rewards, and what TRL has for it.

    function  rewards (B, G) -> advantages (B, G)
    trl       TRL's `scale_rewards` that centres and scales a group in the same way: "group" or
              "none"; None: TRL cannot do it
    factor    G -> by how much TRL's advantages must be multiplied to be these
    """

    function: Callable[[Tensor], Tensor]
    trl: str | None = None
    factor: Callable[[int], float] = lambda G: 1.0

    def __call__(self, rewards: Tensor) -> Tensor:
        """Raises R1LabError for what is no (B, G) in or out, or where the function fails."""
        name = f"advantage {getattr(self.function, '__name__', type(self.function).__name__)}"
        with plugins.blame(name):
            advantages = self.function(rewards)
        if not isinstance(advantages, Tensor) or advantages.shape != rewards.shape:
            got = tuple(advantages.shape) if isinstance(advantages, Tensor) else repr(advantages)
            raise R1LabError(f"{name} must return {tuple(rewards.shape)} advantages, not {got}")
        return advantages.to(rewards)


def group_relative(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """The paper's advantage: (B, G) -> (B, G), mean 0 and standard deviation 1 within a group.

    The standard deviation is the sample's (G - 1 below the line) and eps is added to it, as TRL
    does.
    """
    _check(rewards)
    deviation = rewards.std(dim=1, keepdim=True)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (deviation + eps) * varied(rewards)


def dr_grpo(rewards: Tensor) -> Tensor:
    """r_i - mean(r): (B, G) -> (B, G), in units of reward."""
    _check(rewards)
    return (rewards - rewards.mean(dim=1, keepdim=True)) * varied(rewards)


def rloo(rewards: Tensor) -> Tensor:
    """r_i minus the mean of the other G - 1 rewards: (B, G) -> (B, G), in units of reward."""
    _check(rewards)
    G = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (G - 1)
    return (rewards - others) * varied(rewards)


def varied(rewards: Tensor) -> Tensor:
    """Do a group's rewards differ at all? (B, G) -> (B, 1) bool. Where they do not, a mean is off
    by rounding, and 1e-9 would be trained on in place of 0."""
    return rewards.amax(dim=1, keepdim=True) > rewards.amin(dim=1, keepdim=True)


def _check(rewards: Tensor) -> None:
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise R1LabError(
            f"advantages need rewards (questions, answers) with 2 answers a question or more, "
            f"not {tuple(rewards.shape)}"
        )


ADVANTAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "grpo": Estimator(group_relative, trl="group"),
    "dr_grpo": Estimator(dr_grpo, trl="none"),
    "rloo": Estimator(rloo, trl="none", factor=lambda G: G / (G - 1)),
}


def get_advantage(name: str) -> Estimator:
    """An estimator by name: one of ADVANTAGES, FILE.py:NAME or an installed package's
    (`basics.plugins`). A plain function will do. Raises R1LabError."""
    found = plugins.find("advantage", name, ADVANTAGES)
    if not callable(found) or isinstance(found, type):
        raise R1LabError(f"advantage {name} must be a function (B, G) -> (B, G), not {found!r}")
    return found if isinstance(found, Estimator) else Estimator(found)


def trl_words(name: str, group_size: int) -> tuple[str, float]:
    """TRL's `scale_rewards` for an estimator, and the factor that its rewards need besides.
    Raises R1LabError for an estimator that TRL has no counterpart of."""
    estimator = get_advantage(name)
    if estimator.trl is None:
        able = [n for n, e in ADVANTAGES.items() if getattr(e, "trl", None)]
        raise R1LabError(
            f"TRL has no counterpart of advantage {name}: take {', '.join(able)}, or the backend "
            "scratch"
        )
    return estimator.trl, estimator.factor(group_size)

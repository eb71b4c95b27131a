"""Advantages: how much better a completion is than the others of its group.

PPO learns a critic for the expected reward; GRPO takes the mean reward of the G completions of one
prompt (arXiv 2501.12948v2, section 2.1, equation 3):

    A_i = (r_i - mean(r_1 ... r_G)) / std(r_1 ... r_G)

* ``group_relative`` is the paper's. The division gives every prompt about the same weight, so very
  easy and very hard prompts count for more than by the variance of their rewards.
* ``dr_grpo`` does not divide (Liu et al. 2025, arXiv 2503.20783).
* ``rloo`` subtracts the mean of the *other* completions, which makes the estimate unbiased at any G
  (Ahmadian et al. 2024, arXiv 2402.14740). It is dr_grpo times G / (G - 1).

All map rewards (B, G) of B prompts to advantages (B, G); these three give a zero-variance group
exactly 0. Three later ones, in BATCHED, look at the other groups too:

* ``reinforce_pp`` has one baseline, the mean of the batch, and one unit, its standard deviation, so
  a group that is all right gains as a whole (REINFORCE++: Hu et al. 2025, arXiv 2501.03262).
* ``reinforce_pp_baseline`` subtracts the group's mean, then divides by the batch's deviation (the
  same paper, REINFORCE++ with baseline).
* ``gdpo`` takes each of K rewards apart: the paper's division for each, the weighted sum, then the
  batch's deviation. No reward of small scale is lost (Liu et al. 2026, arXiv 2601.05242).

**Your own:** a function from (B, G) to (B, G) in a file, `--advantage mine.py:robust`, for the
backend scratch; for TRL an `Estimator` that names TRL's counterpart.
"""

from collections import ChainMap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError


@dataclass(frozen=True)
class Estimator:
    """A function of rewards, and TRL's counterpart.

    function  rewards (B, G) -> advantages (B, G); with `parts` each reward by itself, (K, B, G),
              and its weights (K,) -> advantages (B, G)
    trl       TRL's equivalent `scale_rewards`: "group" or "none"; None: TRL cannot do it
    factor    G -> factor from TRL's advantages to these"""

    function: Callable[[Tensor], Tensor]
    trl: str | None = None
    factor: Callable[[int], float] = lambda G: 1.0
    parts: bool = False

    def __call__(self, rewards: Tensor, parts: Tensor | None = None, weights=None) -> Tensor:
        """rewards: the weighted sum (B, G). parts (K, B, G), weights (K,): what it is the sum of;
        default: of itself alone. Raises R1LabError where it fails or does not return (B, G)."""
        name = f"advantage {getattr(self.function, '__name__', type(self.function).__name__)}"
        with plugins.blame(name):
            given = (rewards[None], [1.0]) if parts is None else (parts, weights)
            advantages = self.function(*given) if self.parts else self.function(rewards)
        if not isinstance(advantages, Tensor) or advantages.shape != rewards.shape:
            got = tuple(advantages.shape) if isinstance(advantages, Tensor) else repr(advantages)
            raise R1LabError(f"{name} must return {tuple(rewards.shape)} advantages, not {got}")
        return advantages.to(rewards)


def group_relative(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """The paper's: (B, G) -> (B, G), mean 0 and standard deviation 1 within a group. As in TRL, the
    standard deviation is the sample's (G - 1), plus eps."""
    _check(rewards)
    deviation = rewards.std(dim=1, keepdim=True)
    return (rewards - rewards.mean(dim=1, keepdim=True)) / (deviation + eps) * varied(rewards)


def dr_grpo(rewards: Tensor) -> Tensor:
    """r_i - mean(r): (B, G) -> (B, G), in units of reward."""
    _check(rewards)
    return (rewards - rewards.mean(dim=1, keepdim=True)) * varied(rewards)


def rloo(rewards: Tensor) -> Tensor:
    """r_i minus the mean of the other rewards: (B, G) -> (B, G), in units of reward."""
    _check(rewards)
    G = rewards.shape[1]
    others = (rewards.sum(dim=1, keepdim=True) - rewards) / (G - 1)
    return (rewards - others) * varied(rewards)


def reinforce_pp(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """(r_i - mean of the batch) / standard deviation of the batch: (B, G) -> (B, G)."""
    _check(rewards)
    apart = (rewards - rewards.mean()) * (rewards.max() > rewards.min())
    return apart / (rewards.std() + eps)


def reinforce_pp_baseline(rewards: Tensor, eps: float = 1e-4) -> Tensor:
    """(r_i - mean(r)) / standard deviation of these differences in the batch: (B, G) -> (B, G)."""
    apart = dr_grpo(rewards)  # mean 0 in every group, so in the batch
    return apart / (apart.std() + eps)


def gdpo(parts: Tensor, weights: Sequence[float], eps: float = 1e-4) -> Tensor:
    """K rewards (K, B, G), weights (K,) -> (B, G): sum_k w_k group_relative(r_k), divided by its
    standard deviation in the batch (its mean is 0)."""
    each = [w * group_relative(one, eps) for w, one in zip(weights, parts, strict=True)]
    total = sum(each)  # (B, G)
    return total / (total.std() + eps)


def varied(rewards: Tensor) -> Tensor:
    """(B, G) -> (B, 1) bool: do a group's rewards differ? If not, rounding of the mean would give
    advantages of 1e-9 instead of 0."""
    return rewards.amax(dim=1, keepdim=True) > rewards.amin(dim=1, keepdim=True)


def _check(rewards: Tensor) -> None:
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        wanted = "rewards (questions, answers) with 2 answers a question or more"
        raise R1LabError(f"advantages need {wanted}, not {tuple(rewards.shape)}")


ADVANTAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "grpo": Estimator(group_relative, trl="group"),
    "dr_grpo": Estimator(dr_grpo, trl="none"),
    "rloo": Estimator(rloo, trl="none", factor=lambda G: G / (G - 1)),
}
BATCHED: dict[str, Callable[..., Tensor]] = {
    "reinforce_pp": Estimator(reinforce_pp),
    "reinforce_pp_baseline": Estimator(reinforce_pp_baseline),
    "gdpo": Estimator(gdpo, trl="group", parts=True),
}
ESTIMATORS = ChainMap(BATCHED, ADVANTAGES)


def get_advantage(name: str) -> Estimator:
    """An estimator, or plain function, by name: of ESTIMATORS, FILE.py:NAME or an installed
    package's (`basics.plugins`). Raises R1LabError."""
    found = plugins.find("advantage", name, ESTIMATORS)
    if not callable(found) or isinstance(found, type):
        raise R1LabError(f"advantage {name} must be a function (B, G) -> (B, G), not {found!r}")
    return found if isinstance(found, Estimator) else Estimator(found)


def trl_words(name: str, group_size: int) -> tuple[str, float]:
    """TRL's `scale_rewards` for an estimator, and the factor of its rewards. Raises R1LabError
    where TRL has no counterpart."""
    estimator = get_advantage(name)
    if estimator.trl is None:
        able = ", ".join(n for n, e in ESTIMATORS.items() if getattr(e, "trl", None))
        words = f"TRL has no counterpart of advantage {name}: take {able}, or the backend scratch"
        raise R1LabError(words)
    return estimator.trl, estimator.factor(group_size)

"""The options of a GRPO run: the paper's choices, and those of the papers after it.

Dr. GRPO: --advantage dr_grpo --length-norm constant. DAPO: --clip-high 0.28 --length-norm token
--dynamic-sampling 4 --rewards accuracy overlong. GSPO: --ratio-level sequence --length-norm
sequence, clip ranges of 3e-4. CISPO: --surrogate cispo --length-norm token. RLOO, REINFORCE++,
GDPO: --advantage. DeepSeek-V3.2: --kl-estimator unbiased --off-policy-mask 0.5. The formulas are in
`losses` and `advantages`, with their sources.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from r1lab.advantages import ESTIMATORS
from r1lab.basics.options import MOST_DRAWN, MOST_SEED, check, option, require
from r1lab.losses import CORRECTIONS, KL_ESTIMATORS, LENGTH_NORMS, Objective
from r1lab.rewards import NAMED, check_weights
from r1lab.sampler.rollouts import Sampling
from r1lab.templates import TEMPLATES
from r1lab.training.reward_calls import callable_name


@dataclass(frozen=True)
class GRPOConfig:
    """The options of a run. The defaults suit the tiny model; the help gives R1-Zero's values
    (arXiv 2501.12948v2, section 2.1). `rewards`: names, or functions with TRL's keyword contract.
    `precision` is the arithmetic's; parameters are trained in float32. Raises R1LabError for a
    value that cannot be right."""

    steps: int = option(40, "rollouts, with updates (R1-Zero: 650)", low=1, high=10**6, free=True)
    questions: int = option(16, "prompts per step (R1-Zero: 512, 32 per mini-batch)", low=1)
    group_size: int = option(16, "completions per prompt, G (R1-Zero: 16)", low=2)
    max_new_tokens: int = option(448, "most tokens per completion (R1-Zero: 32768, 65536)", low=1)
    temperature: float = option(1.0, "of the policy, sampled and trained (R1-Zero: 1)", low=1e-3)
    template: str = option("tiny", "prompt template", choices=TEMPLATES, kind="template")
    rewards: tuple = option(("accuracy", "format"), "rewards", choices=NAMED, kind="reward")
    reward_weights: tuple = option((1.0, 0.1), "weight of each reward (R1-Zero: equal)")
    advantage: str = option("grpo", "advantage estimator", choices=ESTIMATORS, kind="advantage")
    learning_rate: float = option(3e-4, "AdamW's learning rate (R1-Zero: 3e-6)", low=0, high=1)
    warmup_steps: int = option(0, "steps in which the learning rate rises from 0", low=0)
    lr_schedule: str = option(
        "constant", "after the warm-up, linear: to 0 at the end", choices=("constant", "linear")
    )
    beta1: float = option(0.9, "AdamW's decay of the mean gradient", low=0)
    beta2: float = option(0.95, "AdamW's decay of the squared gradient", low=0)
    max_grad_norm: float = option(1.0, "longer gradients are clipped to this norm; 0: none", low=0)
    minibatches: int = option(1, "optimizer steps per inner epoch (R1-Zero: 16)", low=1)
    inner_epochs: int = option(1, "inner epochs over each rollout (R1-Zero: 1)", low=1)
    old_logprobs: str = option("sampler", "pi_old off-policy", choices=("sampler", "recompute"))
    clip_low: float = option(0.2, "the ratio is clipped below 1 - this", low=0)
    clip_high: float = option(0.2, "the ratio is clipped above 1 + this", low=0)
    surrogate: str = option("clip", "what of the ratio", choices=("clip", "cispo"))
    ratio_level: str = option("token", "ratio pi / pi_old of each", choices=("token", "sequence"))
    length_norm: str = option("token", "mean over (DeepSeekMath: sequence)", choices=LENGTH_NORMS)
    kl_coef: float = option(0.0, "beta of the KL term; 0: no reference (R1-Zero: 0.001)", low=0)
    kl_estimator: str = option("k3", "KL estimator (R1-Zero: k3)", choices=KL_ESTIMATORS)
    ref_refresh: int = option(25, "steps until pi becomes pi_ref; 0: never (R1-Zero: 25)", low=0)
    entropy_coef: float = option(0.0, "weight of an entropy bonus (R1-Zero: none)", low=0)
    off_policy_mask: float = option(
        0.0, "leave out bad completions whose mean log pi_old/pi exceeds this; 0: none", low=0
    )
    staleness: int = option(0, "steps by which the policy that samples is behind", low=0, high=2)
    correction: str = option("none", "weight pi_old / pi_sampler of each", choices=CORRECTIONS)
    correction_cap: float = option(2.0, "that weight is truncated, or masked, above this", low=1)
    dynamic_sampling: int = option(
        0, "most further rounds of questions for groups with variance (DAPO)", low=0, high=16
    )
    pass_rate_low: float = option(0.0, "the base solves a problem at least as often", low=0, high=1)
    pass_rate_high: float = option(1.0, "and at most as often, or it is not asked", low=0, high=1)
    pass_rate_k: int = option(8, "completions per problem that measure how often", low=1)
    seed: int = option(0, "seed of prompts, completions, mini-batches", low=0, high=MOST_SEED)
    micro_batch_tokens: int = option(16384, "tokens per forward and backward", low=1, free=True)
    precision: str = option(  # free: a continuation must share what it comes to, see `identity`
        "auto", "auto: bf16 on a GPU that has it", choices=("auto", "fp32", "bf16"), free=True
    )
    checkpoint_every: int = option(10, "steps between checkpoints", low=1, free=True)
    keep_checkpoints: int = option(2, "checkpoints kept", low=1, free=True)
    samples_every: int = option(10, "steps between kept completions; 0: none", low=0, free=True)
    patience: int = option(8, "steps of flat reward before a diagnosis", low=4, free=True)

    def __post_init__(self) -> None:
        check(self)
        paired = len(self.rewards) == len(self.reward_weights) > 0
        require(paired, "there must be one reward or more, and one of reward_weights for each")
        check_weights(self.reward_weights)
        require(self.clip_low < 1, "clip_low must be below 1, a ratio is never negative")
        require(
            self.correction == "none" or self.old_logprobs == "recompute",
            "correction weighs pi_old against the sampler: it needs old_logprobs recompute",
        )
        in_order = self.pass_rate_low <= self.pass_rate_high
        require(in_order, "pass_rate_low must not exceed pass_rate_high")
        require(self.beta1 < 1 and self.beta2 < 1, "beta1 and beta2 must be below 1")
        n = self.questions * self.group_size
        require(n <= MOST_DRAWN, f"questions * group_size must be at most {MOST_DRAWN:,}")
        drawn = self.steps * self.problems_a_step
        words = f"steps * questions must be at most {MOST_DRAWN:,}: the problems of all steps are "
        words += "drawn before the first (the same command goes on with more steps)"
        require(drawn <= MOST_DRAWN, words)
        require(self.minibatches <= n, "minibatches must not be more than questions * group_size")

    @property
    def objective(self) -> Objective:
        """The terms of the loss; Dr. GRPO's constant is the length limit."""
        clip, divergence = (self.clip_low, self.clip_high), (self.kl_coef, self.kl_estimator)
        means = (self.ratio_level, self.length_norm, self.max_new_tokens)
        return Objective(*clip, *divergence, *means, self.surrogate, self.off_policy_mask)

    @property
    def updates(self) -> int:
        """Optimizer steps per rollout."""
        return self.minibatches * self.inner_epochs

    @property
    def problems_a_step(self) -> int:
        """Problems that a step may ask: a batch, and those of `dynamic_sampling`'s rounds."""
        return self.questions * (1 + self.dynamic_sampling)

    def sampling(self, step: int, round: int = 0) -> Sampling:
        """How a step's completions are sampled: by step and round of `dynamic_sampling` alone."""
        seed = self.seed * 1_000_003 + step + round * 2**54
        return Sampling(self.max_new_tokens, self.temperature, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """The options as plain values; reward functions by name."""
        values = dataclasses.asdict(self)
        names = [r if isinstance(r, str) else callable_name(r) for r in self.rewards]
        return values | {"rewards": names, "reward_weights": list(self.reward_weights)}

"""The recipe of R1: every choice of `pipeline`, and what its stages make of them.

**Rewards.** The paper adds them up (arXiv 2501.12948v2, section 3.2.2, equations 8 to 10):

    Reward           = Reward_reasoning + Reward_general + Reward_language
    Reward_reasoning = Reward_rule,     Reward_general = Reward_model + Reward_format

`weights_of` a stage holds the weights; a term that does not apply to a prompt is 0. A reward
model's score r has no scale, and 10 would drown an accuracy of 1: the reward is sigmoid(r - c), in
(0, 1). For safety c = 0, which gives the predicted probability of "safe". For helpfulness only
differences of scores have a meaning; c is the median score of the training completions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from r1lab.basics.options import MOST_SEED, check, fixed_values, option, require
from r1lab.grpo import GRPOConfig
from r1lab.reward_model import RewardModelConfig
from r1lab.rewards import REWARDS, RewardFunction
from r1lab.sft import SFTConfig
from r1lab.tasks import task_for
from r1lab.templates import TEMPLATES
from r1lab.world.preferences import GENERAL

STAGES = ("zero", "cold", "dev1", "dev2", "data", "dev3", "helpful", "safe", "rules", "r1")


@dataclass(frozen=True)
class PipelineConfig:
    """Every choice of a pipeline; the help gives R1's values. R1LabError for invalid ones."""

    base: str = option("tiny", "the base model: a name, a folder or a hub id")
    seed: int = option(0, "seed of every stage", low=0, high=MOST_SEED // 100 - 1)
    template: str = option("tiny", "prompt template", choices=TEMPLATES, kind="template")
    questions: int = option(14, "RL: prompts per step", low=1)
    group_size: int = option(16, "RL: completions per prompt (R1: 16)", low=2)
    max_new_tokens: int = option(448, "length limit of a completion (R1: 32768)", low=1)
    rl_rate: float = option(3e-4, "R1-Zero, Dev2: AdamW's learning rate (R1: 3e-6)", low=0, high=1)
    kl_coef: float = option(0.0, "RL: beta of the KL term (R1: 0.001)", low=0)
    format_weight: float = option(0.1, "RL: weight of the format reward (R1: 1)", low=0)
    language_weight: float = option(0.5, "RL: weight of language consistency (R1: 1)", low=0)
    model_weight: float = option(1.0, "RL: weight of the reward models' bounded scores", low=0)
    countdown: float = option(0.45, "RL: Countdown's fraction of reasoning prompts", low=0)
    code: float = option(0.29, "RL: code's fraction of reasoning prompts (rest: steps)", low=0)
    zero_steps: int = option(48, "R1-Zero: RL steps (R1: 10400, of 512 completions)", low=1)
    dev2_steps: int = option(24, "Dev2: RL steps", low=1)
    rules_steps: int = option(10, "rules: RL steps (R1: 1300)", low=1)
    r1_steps: int = option(24, "R1: RL steps with reward models (R1: 400)", low=1)
    rules_general: float = option(0.0, "rules: fraction general (R1: 0 until step 1300)", low=0)
    r1_general: float = option(0.45, "R1: fraction of general prompts (R1: 66k of 146k)", low=0)
    r1_rate: float = option(2e-4, "rules and R1: AdamW's learning rate (R1: 3e-6)", low=0, high=1)
    r1_temperature: float = option(0.7, "rules and R1: temperature of sampling (R1: 0.7)", low=1e-3)
    cold_questions: int = option(512, "cold start: prompts for R1-Zero", low=1)
    cold_samples: int = option(8, "cold start: completions per prompt", low=1)
    cold_keep: int = option(4, "cold start: completions kept per prompt, at most", low=1)
    cold_examples: int = option(1000, "cold start: examples, at most (R1: thousands)", low=1)
    cold_epochs: int = option(3, "Dev1: epochs over the cold start (R1: 2 to 3)", low=1)
    data_questions: int = option(640, "data: prompts for Dev2", low=1)
    data_samples: int = option(8, "data: completions per prompt", low=1)
    data_countdown: float = option(
        0.63, "data: Countdown's fraction of reasoning prompts (R1's examples: 395k of 627k)", low=0
    )
    data_code: float = option(
        0.34, "data: code's fraction of reasoning prompts (R1's examples: 211k of 627k)", low=0
    )
    data_keep: int = option(4, "data: completions kept per prompt, at most", low=1)
    general_share: float = option(0.25, "data: fraction general (R1: 200k of 800k)", low=0)
    data_epochs: int = option(3, "Dev3: epochs over the data (R1: 2 to 3)", low=1)
    longest: int = option(448, "tokens of a readable completion, at most", low=1)
    least: int = option(50, "the pipeline ends with fewer good completions than this", low=1)
    accept_any: bool = option(False, "with too few good completions, train on any: for smoke tests")
    sft_rate: float = option(1e-3, "SFT: AdamW's peak learning rate (R1: 5e-5)", low=0, high=1)
    sft_batch: int = option(32, "SFT: examples per optimizer step (R1: 128)", low=1)
    sft_max_tokens: int = option(512, "SFT: longer examples are left out (R1: 32768)", low=2)
    judged_prompts: int = option(512, "reward models: prompts with labelled completions", low=2)
    judged_samples: int = option(2, "reward models: samples per prompt by the base and Dev3", low=1)
    judgements_each: int = option(4, "reward models: pairs, or labels, per prompt", low=1)
    noise: float = option(0.1, "reward models: fraction of labels flipped", low=0)
    helpful_epochs: int = option(4, "helpfulness model: epochs over its pairs (R1: 1)", low=1)
    helpful_rate: float = option(1e-3, "helpfulness model: AdamW's rate (R1: 6e-6)", low=0, high=1)
    safe_epochs: int = option(8, "safety model: epochs over its labelled completions", low=1)
    safe_rate: float = option(1e-3, "safety model: AdamW's learning rate", low=0, high=1)
    eval_problems: int = option(
        128, "scorecards: held-out problems of each kind; 0: none", low=0, free=True
    )
    eval_samples: int = option(4, "scorecards: completions per problem", low=1, free=True)
    device: str = option("auto", "where to compute", choices=("auto", "cpu", "cuda"), free=True)
    micro_batch_tokens: int = option(16384, "tokens per forward and backward", low=1, free=True)
    checkpoint_every: int = option(5, "training steps between checkpoints", low=1, free=True)

    def __post_init__(self) -> None:
        check(self)
        for name in ("rules_general", "r1_general", "noise"):
            require(getattr(self, name) <= 1, f"{name} must be at most 1")
        require(self.countdown + self.code <= 1, "countdown + code must be at most 1")
        total = self.data_countdown + self.data_code
        require(total <= 1, "data_countdown + data_code must be at most 1")
        require(self.general_share < 1, "general_share must be below 1")

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def smoke(cls, **changes: Any) -> PipelineConfig:
        """Toy sizes that run in seconds, on a random model too; `changes` on top."""
        toy = dict.fromkeys("zero_steps dev2_steps rules_steps r1_steps".split(), 2)
        toy |= dict.fromkeys("cold_questions data_questions judged_prompts".split(), 4)
        toy |= dict.fromkeys("cold_samples data_samples eval_samples judgements_each".split(), 2)
        toy |= dict.fromkeys("cold_epochs helpful_epochs safe_epochs judged_samples".split(), 1)
        toy |= {"data_epochs": 2, "questions": 4, "group_size": 4, "max_new_tokens": 48}
        toy |= {"eval_problems": 4, "sft_batch": 4, "least": 4, "accept_any": True}
        return cls(**toy | changes)


def weights_of(config: PipelineConfig, name: str) -> dict[str, float]:
    """The rewards of an RL stage: {reward: weight}."""
    weights = {"accuracy": 1.0, "format": config.format_weight}
    if name != "zero":
        weights["language"] = config.language_weight
    if name == "r1":
        weights |= dict.fromkeys(("helpful", "safe"), config.model_weight)
    return weights


def task_of(config: PipelineConfig, name: str):
    """The prompts of a stage, a `Mixture`: Countdown, code and steps, for maths, code and logic
    (R1's RL prompts: 26k, 17k, 15k; its examples, in "data": 395k, 211k, 20k); with lists and
    requests in "rules" and "r1"; "general": these alone. arXiv 2501.12948v2, tables 4 and 5."""
    shares = {"rules": config.rules_general, "r1": config.r1_general, "general": 1.0}
    general, reasoning = shares.get(name, 0.0), 1 - shares.get(name, 0.0)
    which = "data_" if name == "data" else ""
    countdown, code = (getattr(config, f"{which}{one}") for one in ("countdown", "code"))
    parts = {
        "countdown": reasoning * countdown,
        "code": reasoning * code,
        "steps": reasoning * (1 - countdown - code),
        **dict.fromkeys(GENERAL, general / 2),
    }
    some = tuple(part for part in parts.items() if part[1] > 1e-9)
    return task_for("mixture", config.template, parts=some)


def seed_of(config: PipelineConfig, name: str) -> int:
    """Each stage has its own seed, so its own prompts."""
    return config.seed * 100 + STAGES.index(name)


def _same(config: PipelineConfig, name: str, *more: str) -> dict[str, Any]:
    """Options of a stage that are the pipeline's own."""
    names = ("template", "micro_batch_tokens", *more)
    return {one: getattr(config, one) for one in names} | {"seed": seed_of(config, name)}


def rl_config(
    config: PipelineConfig, name: str, functions: Mapping[str, RewardFunction] | None = None
) -> GRPOConfig:
    """The options of an RL stage. functions: its rewards by name (`weights_of`), else by rule."""
    weights = weights_of(config, name)
    functions = functions or {one: one for one in weights if one in REWARDS}
    return GRPOConfig(
        steps=getattr(config, f"{name}_steps"),
        temperature=config.r1_temperature if name in ("rules", "r1") else 1.0,
        rewards=tuple(functions.values()),
        reward_weights=tuple(weights[one] for one in functions),
        learning_rate=config.r1_rate if name in ("rules", "r1") else config.rl_rate,
        keep_checkpoints=1,
        **_same(config, name, *"questions group_size max_new_tokens kl_coef".split()),
        checkpoint_every=config.checkpoint_every,
    )


def sft_config(config: PipelineConfig, name: str) -> SFTConfig:
    """The options of "dev1" or "dev3"."""
    return SFTConfig(
        epochs=config.cold_epochs if name == "dev1" else config.data_epochs,
        batch_size=config.sft_batch,
        learning_rate=config.sft_rate,
        max_tokens=config.sft_max_tokens,
        **_same(config, name),
    )


def judge_config(config: PipelineConfig, name: str) -> RewardModelConfig:
    """The options of "helpful" or "safe"."""
    return RewardModelConfig(
        epochs=getattr(config, f"{name}_epochs"),
        learning_rate=getattr(config, f"{name}_rate"),
        **_same(config, name),
    )


def options_of(config: PipelineConfig, name: str) -> dict[str, Any]:
    """What a stage's result depends on, besides its inputs."""
    if name in ("zero", "dev2", "rules", "r1"):
        rewards = {"rewards": weights_of(config, name), "reward_weights": []}
        prompts = {"prompts": task_of(config, name).parts}
        return fixed_values(rl_config(config, name), "steps") | rewards | prompts
    if name in ("dev1", "dev3"):
        return fixed_values(sft_config(config, name))
    chosen = {one: getattr(config, one) for one in OPTIONS[name].split()}
    return chosen | {"seed": seed_of(config, name)}


_JUDGED = "template max_new_tokens judged_prompts judged_samples judgements_each noise"
OPTIONS = {
    "cold": "template max_new_tokens countdown code cold_questions cold_samples cold_keep "
    "cold_examples longest least accept_any",
    "data": "template max_new_tokens data_countdown data_code data_questions data_samples "
    "data_keep general_share longest least accept_any",
    "helpful": f"{_JUDGED} helpful_epochs helpful_rate",
    "safe": f"{_JUDGED} safe_epochs safe_rate",
}

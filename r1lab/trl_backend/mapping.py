"""GRPOConfig in TRL's words."""

import dataclasses
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from r1lab.advantages import trl_words
from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class Launch:
    """How TRL runs a GRPOConfig here: nothing in it changes the algorithm.

    lora: rank, keywords of peft.LoraConfig or a peft configuration; model/ then has the adapters
    merged, adapter/ has them alone. budget: `exceeded(seconds, next_step) -> str | None`, called
    after every step with the seconds since `train` was called (those before a resumption included)
    and those of a step; where it returns words, the run ends with a checkpoint and model/.
    """

    sampler: str = "auto"  # see `pick_sampler`
    device: str | None = None  # see `settle`
    precision: str = "auto"  # fp32, bf16 or auto, which is the configuration's
    gradient_checkpointing: str | bool = "auto"  # auto: off where the memory plan fits without it
    lora: Any = None
    shares: int | None = None  # see `own_sampler`
    budget: Any = None
    report_to: str | None = None  # wandb or tensorboard: TRL's own report, under TRL's names
    push_to_hub: str | None = None  # a repository's name; a private one is made if there is none
    resume: bool = True  # False: an earlier run's files move to out_dir/earlier-<n>

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            words = f"one of {', '.join(PRECISIONS)}, not {self.precision!r}"
            raise R1LabError(f"precision must be {words}")
        if self.gradient_checkpointing not in ("auto", True, False):
            raise R1LabError("gradient_checkpointing must be 'auto', True or False")
        if self.report_to and importlib.util.find_spec(self.report_to) is None:
            words = f"{self.report_to} is not installed: pip install {self.report_to}"
            raise R1LabError(f"--report {self.report_to}: {words}")


class Row(NamedTuple):
    """One line of the mapping: our option, TRL's, and why."""

    ours: str
    trl: str
    why: str


MAPPING = (
    Row("steps", "max_steps", "TRL counts optimizer steps: steps * minibatches * inner_epochs"),
    Row("questions, group_size", "num_generations, generation_batch_size", "a rollout is B * G"),
    Row("max_new_tokens", "max_completion_length", "also the constant that Dr. GRPO divides by"),
    Row("temperature", "temperature, top_k=0, top_p=1", "the same policy samples and is trained"),
    Row("template", "the data set's column prompt", "a string, in its chat template already"),
    Row("rewards", "reward_funcs", "the same functions, with TRL's keyword arguments"),
    Row("reward_weights", "reward_weights", "advantage rloo: times G / (G - 1)"),
    Row("advantage", "scale_rewards", "grpo: group; dr_grpo, rloo: none; others are refused"),
    Row("advantage gdpo", "multi_objective_aggregation", "normalize_then_sum"),
    Row("learning_rate", "learning_rate, optim='adamw_torch'", "weight decay 0 in both"),
    Row("warmup_steps, lr_schedule", "a schedule of our own", "TRL's warm-up starts at 0"),
    Row("beta1, beta2", "adam_beta1, adam_beta2", "ours are 0.9, 0.95; TRL's beta2 is 0.999"),
    Row("max_grad_norm", "max_grad_norm", "0: no clipping, in both"),
    Row("minibatches", "steps_per_generation / gradient_accumulation_steps", "updates per rollout"),
    Row("inner_epochs", "num_iterations", "mu in the GRPO papers"),
    Row("old_logprobs", "none", "off-policy, TRL recomputes log pi_old by a forward pass"),
    Row("clip_low, clip_high", "epsilon, epsilon_high", "TRL's epsilon_high is epsilon when unset"),
    Row("ratio_level", "importance_sampling_level", "token, or sequence (GSPO)"),
    Row("length_norm", "loss_type", "sequence: grpo; token: dapo (the default); constant: dr_grpo"),
    Row("surrogate", "loss_type", "cispo (with length_norm token); TRL's cap is 1 + clip_high"),
    Row("kl_coef", "beta", "the same"),
    Row("kl_estimator", "use_bias_correction_kl", "k3: False; unbiased: True; others are refused"),
    Row("entropy_coef", "entropy_coef", "the mean entropy per token, in both"),
    Row("off_policy_mask", "off_policy_mask_threshold", "DeepSeek-V3.2; 0 is TRL's None"),
    Row("staleness, dynamic_sampling", "none", "refused: TRL samples every batch once, at once"),
    Row("pass_rate_low, pass_rate_high, pass_rate_k", "none", "refused: filter problems before"),
    Row("correction, correction_cap", "none", "refused: TRL corrects what vLLM sampled, by itself"),
    Row("ref_refresh", "sync_ref_model, ref_model_sync_steps", "LoRA: always the base model"),
    Row("seed", "seed, shuffle_dataset=False", "the task has shuffled the problems already"),
    Row("micro_batch_tokens", "per_device_train_batch_size", "rows that fit at full length"),
    Row("checkpoint_every, keep_checkpoints", "save_strategy='no'", "we save, after a rollout"),
    Row("samples_every, patience", "none", "ours: samples.jsonl, and the diagnosis"),
    Row("precision", "bf16", "autocast on float32 weights in both; auto: on a GPU that has it"),
    Row("(nothing)", "disable_dropout=True", "the policy that samples is the one that is trained"),
    Row("(nothing)", "logging_nan_inf_filter=False", "Trainer would hide a NaN loss"),
    Row("SFT: epochs, batch_size", "max_steps", "our steps, laid out as one epoch of Trainer's"),
    Row("SFT: final_rate", "a schedule of our own", "cosine, which reaches it at the last step"),
    Row("SFT: max_tokens", "max_length=None", "longer examples are left out, not truncated"),
)

DIFFERENCES = tuple(
    {
        "zero-variance groups": "we skip their rows; TRL trains on them, with advantages of about "
        "1e-4: rounding errors divided by 1e-4",
        "padding": "we cut micro-batches by tokens, TRL by rows, all as long as the rollout's "
        "longest completion. `Trainer` sorts them by length and pads each batch to its own longest",
        "token mean with several minibatches": "we divide by the mini-batch's own tokens, TRL by "
        "the rollout's tokens / minibatches",
        "order within a rollout": "another generator deals completions to mini-batches",
        "pi_old off-policy": "ours may be the sampler's log-probs; TRL's is always a forward pass",
        "metrics of a step": "TRL's kl, clip_fraction and exact entropy are means over micro-"
        "batches of token means; ours are means over all tokens",
        "entropy bonus": "TRL's is the mean over micro-batches of their tokens' mean",
        "clip_fraction": "TRL divides by all tokens, we by those with a learning signal; at ratio "
        "level 'sequence' TRL counts completions",
        "entropy": "with our sampler from its log-probs; else TRL's exact entropy, over the tokens",
        "vLLM": "its log-probs differ a little from the trainer's, so TRL weights each completion "
        "by pi / pi_vLLM and drops those above 3; r1lab.grpo has no such term",
    }.items()
)


def shared_options(config: Any, out_dir: str | os.PathLike, precision: str) -> dict[str, Any]:
    """The keywords that the configurations of all TRL's trainers share. config: of any run."""
    return {
        "optim": "adamw_torch",
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",  # in name: `OwnRate` sets the rate of each step
        "adam_beta1": getattr(config, "beta1", 0.9),
        "adam_beta2": getattr(config, "beta2", 0.95),
        "weight_decay": 0.0,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "bf16": precision == "bf16",
        "gradient_checkpointing": False,
        "output_dir": str(Path(out_dir) / "checkpoints"),
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "ddp_find_unused_parameters": False,
        "report_to": [],
        "disable_tqdm": True,
    }


def trl_options(
    config: GRPOConfig,
    *,
    out_dir: str | os.PathLike = "runs/train-trl",
    prompt_tokens: int = 32,
    processes: int = 1,
    sampler: str = "r1lab",
    precision: str = "fp32",
    gradient_checkpointing: bool = False,
    cpu: bool = True,
) -> dict[str, Any]:
    """The keywords of trl.GRPOConfig that make TRL's run the run that `config` describes.

    prompt_tokens: of the longest prompt. processes: how many train together. sampler: as
    `pick_sampler` gives it. Raises R1LabError for what TRL cannot express.
    """
    check(config, processes=processes)
    rows = rows_a_pass(config, prompt_tokens, processes)
    passes = config.questions * config.group_size // (processes * rows)
    scale_rewards, factor = trl_words(config.advantage, config.group_size)
    cispo = config.surrogate == "cispo"
    loss_types = {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}
    options = shared_options(config, out_dir, precision) | {
        # the rollout and the steps
        "max_steps": config.steps * config.updates,
        "num_generations": config.group_size,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": passes // config.minibatches,
        "steps_per_generation": passes,
        "num_iterations": config.inner_epochs,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "shuffle_dataset": False,
        # the objective
        "loss_type": "cispo" if cispo else loss_types[config.length_norm],
        "scale_rewards": scale_rewards,
        "importance_sampling_level": config.ratio_level,
        "epsilon": config.clip_low,
        "epsilon_high": config.clip_high + cispo,
        "beta": config.kl_coef,
        "use_bias_correction_kl": config.kl_estimator == "unbiased",
        "entropy_coef": config.entropy_coef,
        "off_policy_mask_threshold": config.off_policy_mask or None,
        "reward_weights": [float(weight) * factor for weight in config.reward_weights],
        "mask_truncated_completions": False,
        "disable_dropout": True,
        # how it is computed
        "use_cpu": cpu,
        "gradient_checkpointing": gradient_checkpointing,
    }
    if config.advantage == "gdpo":
        options["multi_objective_aggregation"] = "normalize_then_sum"
    if refreshes(config):
        options["sync_ref_model"] = True
        options["ref_model_mixup_alpha"] = 1.0
        options["ref_model_sync_steps"] = config.ref_refresh * config.updates
    if sampler == "vllm":
        most = prompt_tokens + config.max_new_tokens
        options |= {"use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": most}
    elif sampler.startswith(("vllm", "http")):
        options |= {"use_vllm": True, "vllm_mode": "server"}
        if sampler.startswith("http"):
            options["vllm_server_base_url"] = sampler
    return options


def refreshes(config: GRPOConfig) -> bool:
    """Does the reference become the policy during the run?"""
    return config.kl_coef > 0 and 0 < config.ref_refresh < config.steps


def rows_a_pass(config: GRPOConfig, prompt_tokens: int, processes: int = 1) -> int:
    """Completions in one forward pass of a process: the largest number that divides its part of a
    mini-batch and keeps to micro_batch_tokens, or 1."""
    part = config.questions * config.group_size // (processes * config.minibatches)
    most = max(1, config.micro_batch_tokens // (prompt_tokens + config.max_new_tokens))
    return max(rows for rows in range(1, part + 1) if part % rows == 0 and rows <= most)


def check(
    config: GRPOConfig, *, processes: int = 1, lora: Any = None, sharded: bool = False
) -> None:
    """R1LabError for what TRL cannot express, with what to do instead. sharded: FSDP or ZeRO-3."""
    N = config.questions * config.group_size
    trl_words(config.advantage, config.group_size)
    wrong = None
    ours = ("staleness", "dynamic_sampling", "pass_rate_low", "pass_rate_high", "correction")
    defaults = {f.name: f.default for f in dataclasses.fields(GRPOConfig)}
    if changed := [name for name in ours if getattr(config, name) != defaults[name]]:
        wrong = f"it has no {', '.join(changed)}. Take the backend scratch."
    elif config.surrogate == "cispo" and config.length_norm != "token":
        wrong = "its cispo takes the mean over all tokens. Set length_norm to token."
    elif config.kl_coef > 0 and config.kl_estimator not in ("k3", "unbiased"):
        wrong = (
            f"its KL term is always k3, not {config.kl_estimator}. Take kl_estimator k3, or the "
            "backend scratch."
        )
    elif N % (config.minibatches * processes):
        wrong = (
            f"its mini-batches are of equal size, and questions * group_size = {N} cannot be cut "
            f"into {config.minibatches} mini-batches on {processes} process(es). Change questions, "
            "group_size or minibatches."
        )
    elif config.questions % processes:
        wrong = (
            f"all completions of a prompt belong to one process, and {config.questions} questions "
            f"cannot be dealt to {processes} processes evenly. Make questions a multiple of "
            f"{processes}."
        )
    elif sharded and lora:
        raise R1LabError("LoRA is for small GPUs: take --print-launch ddp, not FSDP or ZeRO-3")
    elif lora and refreshes(config):
        wrong = (
            "with LoRA the reference is the base model, which cannot be refreshed. Set ref_refresh "
            "to 0 (keep the base) or kl_coef to 0 (no reference)."
        )
    if wrong:
        raise R1LabError(f"TRL cannot run this: {wrong}")

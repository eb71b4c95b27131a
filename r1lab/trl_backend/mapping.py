"""GRPOConfig in TRL's words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from r1lab.advantages import trl_words
from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig


@dataclass(frozen=True)
class Launch:
    """How TRL is to run a GRPOConfig here: what changes nothing of the algorithm.

    sampler: see `pick_sampler`. device: see `settle`. precision: "fp32" | "bf16" | "auto" (the
    configuration's). gradient_checkpointing: True, False or "auto", which leaves it off where the
    memory plan fits without it. lora: rank, keywords of peft.LoraConfig or a peft configuration;
    model/ then has the adapters merged, adapter/ has them alone. shares: see `own_sampler`.
    budget: `exceeded(seconds, next_step) -> str | None`, asked after every step with the seconds
    since `train` was called, a resumed run's earlier ones included, and those of a step; words end
    the run, with a checkpoint and model/. push_to_hub: the repository's name; a private one is made
    if there is none. resume: go on from the newest whole checkpoint; else an earlier run's files
    are moved to out_dir/earlier-<n>.
    """

    sampler: str = "auto"
    device: str | None = None
    precision: str = "auto"
    gradient_checkpointing: str | bool = "auto"
    lora: Any = None
    shares: int | None = None
    budget: Any = None
    push_to_hub: str | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            words = f"one of {', '.join(PRECISIONS)}, not {self.precision!r}"
            raise R1LabError(f"precision must be {words}")
        if self.gradient_checkpointing not in ("auto", True, False):
            raise R1LabError("gradient_checkpointing must be 'auto', True or False")


PRECISIONS = ("auto", "fp32", "bf16")


# --- the mapping ---------------------------------------------------------------------------------


class Row(NamedTuple):
    """One line of the mapping: our option, TRL's, and why."""

    ours: str
    trl: str
    why: str


MAPPING = (
    Row("steps", "max_steps", "TRL counts optimizer steps: steps * minibatches * inner_epochs"),
    Row("questions, group_size", "num_generations, generation_batch_size", "a rollout is B * G"),
    Row("max_new_tokens", "max_completion_length", "also the constant that Dr. GRPO divides by"),
    Row("temperature", "temperature, top_k=0, top_p=1", "sampled from and trained: one policy"),
    Row("template", "the data set's column prompt", "a string: no chat template, text for rewards"),
    Row("rewards", "reward_funcs", "the same functions: they keep TRL's keyword contract"),
    Row("reward_weights", "reward_weights", "advantage rloo: times G / (G - 1)"),
    Row("advantage", "scale_rewards", "grpo: group; dr_grpo, rloo: none; others are refused"),
    Row("learning_rate", "learning_rate, optim='adamw_torch'", "weight decay 0, as everywhere"),
    Row("warmup_steps, lr_schedule", "a schedule of our own", "TRL's warm-up starts at 0"),
    Row("beta1, beta2", "adam_beta1, adam_beta2", "ours are 0.9, 0.95; TRL's default is 0.999"),
    Row("max_grad_norm", "max_grad_norm", "0: never, in both"),
    Row("minibatches", "steps_per_generation / gradient_accumulation_steps", "updates a rollout"),
    Row("inner_epochs", "num_iterations", "the mu of the GRPO papers"),
    Row("old_logprobs", "none", "off-policy, TRL computes log pi_old anew, by a forward pass"),
    Row("clip_low, clip_high", "epsilon, epsilon_high", "TRL's epsilon_high is epsilon when unset"),
    Row("ratio_level", "importance_sampling_level", "token; sequence is GSPO's"),
    Row("length_norm", "loss_type", "sequence: grpo; token: dapo (the default); constant: dr_grpo"),
    Row("kl_coef", "beta, use_bias_correction_kl=False", "TRL's default multiplies k3 by rho"),
    Row("kl_estimator", "k3 only", "others are refused when kl_coef is above 0"),
    Row("ref_refresh", "sync_ref_model, ref_model_sync_steps", "with LoRA it stays the base"),
    Row("seed", "seed, shuffle_dataset=False", "the task has drawn the order already"),
    Row("micro_batch_tokens", "per_device_train_batch_size", "rows: as many as fit at the longest"),
    Row("checkpoint_every, keep_checkpoints", "save_strategy='no'", "we say when: after a rollout"),
    Row("samples_every, patience", "none", "ours: samples.jsonl, and the diagnosis"),
    Row("precision", "bf16", "autocast on float32 weights in both; auto: on a GPU that has it"),
    Row("(nothing)", "disable_dropout=True", "the policy that answers is the one that is trained"),
    Row("(nothing)", "logging_nan_inf_filter=False", "Trainer would hide a loss that is NaN"),
    Row("SFT: epochs, batch_size", "max_steps", "our steps, laid out as one epoch of Trainer's"),
    Row("SFT: final_rate", "a schedule of our own", "cosine, which reaches it at the last step"),
    Row("SFT: max_tokens", "max_length=None", "longer examples are left out, not cut"),
)

DIFFERENCES = (
    (
        "groups without a spread",
        "we skip their rows; TRL passes them forward and backward, and divides rounding errors by "
        "1e-4: their advantages are 1e-4 or so, not 0",
    ),
    (
        "padding",
        "we cut micro-batches by tokens; TRL by rows, all padded to the rollout's longest answer. "
        "`Trainer` sorts them first and pads each pass to its own longest",
    ),
    (
        "token mean of several minibatches",
        "we divide by a mini-batch's own tokens, TRL by the rollout's tokens / minibatches",
    ),
    ("order within a rollout", "which answers share a mini-batch is drawn by another generator"),
    ("pi_old off-policy", "ours may be the sampler's log-probs; TRL's is always a forward pass"),
    (
        "means of a step",
        "TRL's kl, clip_fraction and exact entropy are means over the passes of each pass's token "
        "mean; ours are means over all tokens",
    ),
    (
        "clip_fraction",
        "TRL's share is of all tokens, ours of the tokens that teach; at ratio level 'sequence' "
        "TRL's is of answers",
    ),
    ("entropy", "with our sampler from its log-probs; else TRL's exact entropy, over the tokens"),
    (
        "vLLM",
        "its log-probs differ a little from the trainer's, so TRL weighs each answer by "
        "pi / pi_vLLM and drops those above 3; r1lab.grpo has no such term",
    ),
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
        "ddp_find_unused_parameters": False,  # every weight has a part in every token
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

    prompt_tokens: of the longest prompt; with max_new_tokens it says how many rows fit
    micro_batch_tokens. processes: how many train together. sampler: as `pick_sampler` gives it.
    Raises R1LabError for what TRL cannot express.
    """
    check(config, processes=processes)
    rows = rows_a_pass(config, prompt_tokens, processes)
    passes = config.questions * config.group_size // (processes * rows)
    scale_rewards, factor = trl_words(config.advantage, config.group_size)
    weights = [float(weight) * factor for weight in config.reward_weights]
    options = shared_options(config, out_dir, precision) | {
        # the rollout and the steps
        "max_steps": config.steps * updates(config),
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
        "loss_type": {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}[
            config.length_norm
        ],
        "scale_rewards": scale_rewards,
        "importance_sampling_level": config.ratio_level,
        "epsilon": config.clip_low,
        "epsilon_high": config.clip_high,
        "beta": config.kl_coef,
        "use_bias_correction_kl": False,
        "reward_weights": weights,
        "mask_truncated_completions": False,
        "disable_dropout": True,
        # how it is computed
        "use_cpu": cpu,
        "gradient_checkpointing": gradient_checkpointing,
    }
    if config.kl_coef > 0 and 0 < config.ref_refresh < config.steps:
        options["sync_ref_model"] = True
        options["ref_model_mixup_alpha"] = 1.0
        options["ref_model_sync_steps"] = config.ref_refresh * updates(config)
    if sampler.startswith(("vllm", "http")):
        options["use_vllm"] = True
        options["vllm_mode"] = "colocate" if sampler == "vllm" else "server"
        if sampler == "vllm":
            options["vllm_max_model_length"] = prompt_tokens + config.max_new_tokens
        elif sampler.startswith("http"):
            options["vllm_server_base_url"] = sampler
    return options


def updates(config: GRPOConfig) -> int:
    """Optimizer steps a rollout."""
    return config.minibatches * config.inner_epochs


def rows_a_pass(config: GRPOConfig, prompt_tokens: int, processes: int = 1) -> int:
    """Answers that one process passes forward and backward at a time: the largest number that
    divides its share of a mini-batch and keeps to micro_batch_tokens, or 1."""
    share = config.questions * config.group_size // (processes * config.minibatches)
    most = max(1, config.micro_batch_tokens // (prompt_tokens + config.max_new_tokens))
    return max(rows for rows in range(1, share + 1) if share % rows == 0 and rows <= most)


def check(
    config: GRPOConfig, *, processes: int = 1, lora: Any = None, sharded: bool = False
) -> None:
    """R1LabError for what TRL cannot express, with what to do instead. sharded: as for
    `pick_sampler`."""
    N = config.questions * config.group_size
    trl_words(config.advantage, config.group_size)

    def refuse(words: str) -> None:
        raise R1LabError(f"TRL cannot run this: {words}")

    if config.kl_coef > 0 and config.kl_estimator != "k3":
        refuse(
            f"its KL term is always k3, not {config.kl_estimator}. Take kl_estimator k3, or the "
            "backend scratch."
        )
    if N % (config.minibatches * processes):
        refuse(
            f"its mini-batches are of equal size, and questions * group_size = {N} cannot be cut "
            f"into {config.minibatches} mini-batches on {processes} process(es). Change questions, "
            "group_size or minibatches."
        )
    if config.questions % processes:
        refuse(
            f"a group must not be torn apart, and {config.questions} questions cannot be dealt to "
            f"{processes} processes evenly. Make questions a multiple of {processes}."
        )
    if sharded and lora:
        raise R1LabError("LoRA is for small GPUs: take --print-launch ddp, not FSDP or ZeRO-3")
    if lora and config.kl_coef > 0 and 0 < config.ref_refresh < config.steps:
        refuse(
            "with LoRA the reference is the base model, which cannot be refreshed. Set ref_refresh "
            "to 0 (keep the base) or kl_coef to 0 (no reference)."
        )

"""The same run on TRL's GRPOTrainer: the engine of one GPU, of many, and of a cluster.

`r1lab.grpo` is the loop to read; a real model on eight GPUs wants what others have built: data and
weights spread over devices (accelerate: DDP, FSDP2, DeepSpeed ZeRO-3), vLLM, LoRA (peft). TRL puts
these behind one trainer. `train` here takes the same configuration as `r1lab.grpo.train`, asks the
same questions in the same order, pays the same rewards and leaves the same files. Between the two
stands a table, `MAPPING`: each option, what TRL calls it, and why. Three lines of it are traps, for
TRL's defaults are not the paper's:

    loss_type "dapo"                the mean over all tokens; the paper's is "grpo"
    use_bias_correction_kl True     multiplies the KL term by rho (DeepSeek-V3.2); not in the paper
    lr_scheduler_type "linear"      and any warm-up begins with a rate of 0: a wasted rollout

and `DIFFERENCES` says what no option can make equal. What TRL cannot express is refused.

TRL counts optimizer steps, we count rollouts. One rollout of N = questions * group_size answers is

    optimizer steps              minibatches * inner_epochs
    per_device_train_batch_size  rows, the answers that a process passes forward at a time
    steps_per_generation         passes = N / (processes * rows)
    gradient_accumulation_steps  passes / minibatches
    num_iterations               inner_epochs

One rollout with one update is on-policy: rho = 1, and TRL, like us, then takes log pi_old from the
pass that it makes anyway.

Checkpoints are Trainer's own folders, made trustworthy: written between two rollouts only (in the
midst of one, TRL forgets its buffered answers), and sealed by a list of checksums that is written
last. A folder without its seal was never finished. The reference policy, which Trainer forgets, is
a folder of its own under references/.

`sampler` says who writes the answers: r1lab's own sampler through TRL's `rollout_func` (an
experimental interface; `own_sampler` is the one place that knows it), transformers' generate, or
vLLM, in this process (colocated) or served by another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import logging
import math
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch.optim.lr_scheduler import LambdaLR
from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm
from transformers import PrinterCallback, TrainerCallback, set_seed
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from r1lab import checkpoints, costs, grpo, memory
from r1lab.advantages import ADVANTAGES
from r1lab.checkpoints import Stopped, append_lines, fingerprint, truncate_lines
from r1lab.diagnose import explain
from r1lab.errors import R1LabError, shortage
from r1lab.evaluate import measure
from r1lab.grpo import Experience, GRPOConfig, describe, examples, questions_at, save_batch
from r1lab.models import in_type, no_bars, on_gpu, origin
from r1lab.options import fixed_values
from r1lab.rewards import get_reward, reward_name
from r1lab.rollouts import Rollouts, sample
from r1lab.tasks import Problem, as_dataset
from r1lab.templates import render

log = logging.getLogger(__name__)
SAMPLERS = ("auto", "r1lab", "generate", "vllm", "vllm-server")
PRECISIONS = ("auto", "fp32", "bf16")
ON_DISK = (
    "metrics.jsonl samples.jsonl nan_batch.json checkpoints references model adapter summary.json"
).split()
SEAL = "r1lab.json"


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
    Row(
        "advantage",
        "scale_rewards",
        "grpo: 'group'; dr_grpo: 'none'; rloo: 'none', since r - mean(others) is G / (G - 1) times "
        "r - mean(all)",
    ),
    Row("learning_rate", "learning_rate, optim='adamw_torch'", "weight decay 0, as everywhere"),
    Row(
        "warmup_steps, lr_schedule",
        "a schedule of our own",
        "the rate is r1lab.grpo's, rollout by rollout; transformers' warm-up starts at 0",
    ),
    Row("beta1, beta2", "adam_beta1, adam_beta2", "ours are 0.9, 0.95; TRL's default is 0.999"),
    Row("max_grad_norm", "max_grad_norm", "0: never, in both"),
    Row(
        "minibatches",
        "steps_per_generation / gradient_accumulation_steps",
        "optimizer steps a rollout is cut into",
    ),
    Row("inner_epochs", "num_iterations", "the mu of the GRPO papers"),
    Row("old_logprobs", "none", "off-policy, TRL computes log pi_old anew, by a forward pass"),
    Row("clip_low, clip_high", "epsilon, epsilon_high", "TRL's epsilon_high is epsilon when unset"),
    Row("ratio_level", "importance_sampling_level", "token; sequence is GSPO's"),
    Row(
        "length_norm",
        "loss_type",
        "sequence: 'grpo'; token: 'dapo' (TRL's default); constant: 'dr_grpo'",
    ),
    Row("kl_coef", "beta, use_bias_correction_kl=False", "TRL's default multiplies k3 by rho"),
    Row("kl_estimator", "k3 only", "others are refused when kl_coef is above 0"),
    Row(
        "ref_refresh",
        "sync_ref_model, ref_model_sync_steps, ref_model_mixup_alpha=1",
        "in optimizer steps; with LoRA the reference is the base, and stays it",
    ),
    Row("seed", "seed, shuffle_dataset=False", "the task has drawn the order already"),
    Row(
        "micro_batch_tokens",
        "per_device_train_batch_size",
        "TRL counts rows: as many as fit when every answer is as long as it may be",
    ),
    Row(
        "checkpoint_every, keep_checkpoints", "save_strategy='no'", "we say when: between rollouts"
    ),
    Row("samples_every, patience", "none", "ours: samples.jsonl, and the diagnosis"),
    Row("precision", "bf16", "autocast on float32 weights in both; auto: on a GPU that has it"),
    Row("(nothing)", "disable_dropout=True", "the policy that answers is the one that is trained"),
    Row("(nothing)", "logging_nan_inf_filter=False", "Trainer would hide a loss that is NaN"),
)

DIFFERENCES = (
    (
        "groups without a spread",
        "we skip their rows (they have no gradient); TRL passes them forward and backward, and "
        "divides rounding errors by 1e-4: their advantages are 1e-4 or so, not 0",
    ),
    (
        "padding",
        "we cut micro-batches by tokens; TRL by rows, in random order and all padded to the "
        "rollout's longest answer. `trl_backend.Trainer` sorts them first and pads each pass to "
        "its own longest",
    ),
    (
        "token mean of several minibatches",
        "we divide by a mini-batch's own tokens, TRL by the rollout's tokens / minibatches",
    ),
    (
        "order within a rollout",
        "which answers share a mini-batch is drawn by another generator; with one mini-batch it "
        "changes the order of a sum only",
    ),
    (
        "pi_old off-policy",
        "ours may be the sampler's log-probs; TRL's is always a forward pass of the trained model",
    ),
    (
        "means of a step",
        "TRL's kl, clip_fraction and exact entropy are means over the forward passes of each "
        "pass's token mean; ours are means over all tokens",
    ),
    (
        "clip_fraction",
        "TRL's share is of all tokens, ours of the tokens that teach; at ratio level 'sequence' "
        "TRL's is of answers",
    ),
    (
        "entropy",
        "with our sampler from its log-probs, as in r1lab.grpo; else TRL's exact entropy of the "
        "distributions, averaged over the tokens",
    ),
    (
        "vLLM",
        "its log-probs differ a little from the trainer's, so TRL weighs each answer by "
        "pi / pi_vLLM and drops those above 3; r1lab.grpo has no such term",
    ),
)


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
    weights = [float(weight) for weight in config.reward_weights]
    if config.advantage == "rloo":
        G = config.group_size
        weights = [weight * G / (G - 1) for weight in weights]
    options: dict[str, Any] = {
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
        "scale_rewards": "group" if config.advantage == "grpo" else "none",
        "importance_sampling_level": config.ratio_level,
        "epsilon": config.clip_low,
        "epsilon_high": config.clip_high,
        "beta": config.kl_coef,
        "use_bias_correction_kl": False,
        "reward_weights": weights,
        "mask_truncated_completions": False,
        "disable_dropout": True,
        # the optimizer
        "optim": "adamw_torch",
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",  # in name: `Trainer` below sets the rate of each step
        "adam_beta1": config.beta1,
        "adam_beta2": config.beta2,
        "weight_decay": 0.0,
        "max_grad_norm": config.max_grad_norm,
        # how it is computed, and what is kept
        "seed": config.seed,
        "use_cpu": cpu,
        "bf16": precision == "bf16",
        "gradient_checkpointing": gradient_checkpointing,
        "output_dir": str(Path(out_dir) / "checkpoints"),
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "ddp_find_unused_parameters": False,  # every weight has a part in every answer
        "report_to": [],
        "disable_tqdm": True,
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


# --- samplers ------------------------------------------------------------------------------------


def pick_sampler(
    name: str = "auto", *, cuda: bool | None = None, sharded: bool = False
) -> tuple[str, str]:
    """Who writes the answers, and why, in words for the user.

    name: "auto", "r1lab", "generate", "vllm" (in this process), "vllm-server" (at 0.0.0.0:8000) or
    the server's http address. sharded: the weights are spread over devices (FSDP, ZeRO-3). Raises
    R1LabError for a name that is not known, and for a sampler that cannot run here.
    """
    cuda = torch.cuda.is_available() if cuda is None else cuda
    vllm = importlib.util.find_spec("vllm") is not None
    served = name == "vllm-server" or name.startswith(("http://", "https://"))
    if name not in SAMPLERS and not served:
        raise R1LabError(
            f"there is no sampler '{name}'; take one of {', '.join(SAMPLERS)}, or the address of a "
            "vLLM server (http://host:8000)"
        )
    if (name == "vllm" or served) and not (vllm and cuda):
        lacks = "vLLM is not installed (pip install vllm)" if not vllm else "there is no CUDA GPU"
        raise R1LabError(f"sampler {name}: {lacks}; --sampler r1lab or generate works here")
    if name == "r1lab" and sharded:
        raise R1LabError(
            "sampler r1lab reads whole weights, and FSDP or ZeRO-3 spreads them over the devices: "
            "take --sampler vllm, vllm-server or generate"
        )
    words = {
        "r1lab": "r1lab's own: a question's keys and values are shared by its group, finished "
        "answers leave the batch",
        "generate": "transformers' generate",
        "vllm": "vLLM in this process (colocated), new weights after every step",
        "vllm-server": "vLLM served by another process",
    }
    if name != "auto":
        kind = "vllm-server" if served else name
        return name, f"sampler: {words[kind]}"
    if cuda and vllm:
        name, why = "vllm", "vLLM is installed and there is a GPU"
    elif sharded:
        name, why = "generate", "the weights are spread over devices, and vLLM is not installed"
    else:
        name, why = "r1lab", "vLLM is not installed" if cuda else "there is no GPU"
    return name, f"sampler: {words[name]} (chosen because {why})"


def own_sampler(
    config: GRPOConfig, tokenizer, *, precision: str = "fp32", shares: int | None = None
) -> Callable[[list[str], Any], dict[str, Any]]:
    """`r1lab.rollouts.sample` as TRL's `rollout_func`. All that we know of this experimental
    interface is here.

    TRL calls it with this process's prompts, each question G times in a row, and with its trainer.
    It wants, an entry for each prompt: prompt_ids, completion_ids (not empty, EOS kept) and
    logprobs, those of the drawn tokens under softmax(logits / temperature), as lists of floats.

    shares: in how many parts, each with a seed of its own, a whole batch is drawn (default: one a
    process). As long as it stays the same the same answers are drawn on any number of processes
    that divides it. The first share has the seed that r1lab.grpo gives the whole batch, so with one
    share the two loops draw the same answers from the same weights.
    """

    def rollout(prompts: list[str], trainer) -> dict[str, Any]:
        G, state = trainer.num_generations, trainer.accelerator.state
        asked = list(prompts[::G])  # (b) this process's questions
        if [prompt for prompt in asked for _ in range(G)] != list(prompts):
            raise R1LabError(
                "this version of TRL hands prompts to rollout_func in another way than each "
                f"question {G} times in a row; use --sampler generate, or the pinned version of TRL"
            )
        step = trainer.state.global_step // updates(config)
        mine = max(1, (shares or state.num_processes) // state.num_processes)
        size, left = divmod(len(asked), mine)
        if left:
            raise R1LabError(f"{len(asked)} questions a process cannot be cut into {mine} shares")
        ids = tokenizer(asked)["input_ids"]
        model = whole_weights(trainer, precision)
        prompt_ids, completion_ids, logprobs = [], [], []
        for part in range(mine):
            drawn = sample(
                model,
                ids[part * size : (part + 1) * size],
                group_size=G,
                max_new_tokens=trainer.max_completion_length,
                temperature=trainer.temperature,
                eos_token_id=trainer.eos_token_ids,
                seed=share_seed(config.seed, step, state.process_index * mine + part),
            )
            prompt_ids += [list(ids) for ids in drawn.prompt_ids for _ in range(G)]
            completion_ids += drawn.completion_ids
            logprobs += drawn.logprobs
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

    return rollout


def share_seed(seed: int, step: int, share: int) -> int:
    """The seed of one share of a step's batch; of the first, the one of r1lab.grpo."""
    if share == 0:
        return seed * 1_000_003 + step
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{share}".encode()).digest()[:6], "big")


def whole_weights(trainer, precision: str):
    """The policy as our sampler wants it: plain layers, in the type that it is to compute in.

    The trainer's own model where that is so. Else a copy for this rollout, with the adapters merged
    and in bfloat16.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if precision == "fp32" and not hasattr(model, "merge_and_unload"):
        return model
    return in_type(model, torch.bfloat16 if precision == "bf16" else torch.float32)


# --- what happens around a step ------------------------------------------------------------------


class OwnRate:
    """A Trainer's part: its learning rate is `rate(updates)` times the configured one."""

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = LambdaLR(optimizer, lambda update: self.rate(update))
            self._created_lr_scheduler = True
        return self.lr_scheduler


class Trainer(OwnRate, GRPOTrainer):
    """TRL's trainer with our learning rate, which counts rollouts and begins above 0, and with
    answers of like length in each pass."""

    run: GRPOConfig

    def create_model_card(self, *args, **kwargs) -> None:
        """`card` is written with the model; TRL's own would not know what the base was."""

    def rate(self, update: int) -> float:
        return lr_share(update // updates(self.run), self.run)

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before:
            return inputs
        # A new rollout: TRL has shuffled it and cut it into passes, all as wide as the longest.
        passes = self.args.gradient_accumulation_steps
        self._buffered_inputs = [
            dealt
            for first in range(0, len(self._buffered_inputs), passes)
            for dealt in by_length(self._buffered_inputs[first : first + passes])
        ]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]


def by_length(passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of one optimizer step dealt anew to its forward passes: the longest first, each
    pass as wide as its own longest answer. Gradients add up to the same; padding costs less.

    passes: TRL's buffered inputs, dicts of tensors with n rows (prompts padded on the left to P,
    answers on the right to T), or with no rows, or None. Anything else in them: as it was.
    """
    kept = [value for one in passes for value in one.values() if value is not None]
    if not all(isinstance(value, torch.Tensor) for value in kept):
        return passes  # images and the like
    joined = {
        name: torch.cat([one[name] for one in passes])
        if value is not None and value.ndim > 0
        else value
        for name, value in passes[0].items()
    }
    P, T = joined["prompt_ids"].shape[1], joined["completion_ids"].shape[1]
    lengths = joined["completion_mask"].sum(1)
    order = lengths.argsort(descending=True, stable=True)
    dealt, rows = [], len(order) // len(passes)
    for i in range(len(passes)):
        some = order[i * rows : (i + 1) * rows]
        asked, wide = int(joined["prompt_mask"][some].sum(1).max()), int(lengths[some].max())
        dealt.append({})
        for name, value in joined.items():
            if value is not None and value.ndim > 0:
                value = value[some]
                if name in ("prompt_ids", "prompt_mask"):
                    value = value[:, P - asked :]
                elif value.ndim == 2 and value.shape[1] == T:
                    value = value[:, : max(1, wide)]
            dealt[-1][name] = value
    return dealt


def lr_share(step: int, config: GRPOConfig) -> float:
    """The learning rate of a rollout's updates, as a share of config.learning_rate."""
    step = min(step, config.steps - 1)  # the schedule is asked once more after the last update
    return grpo.learning_rate(step, dataclasses.replace(config, learning_rate=1.0))


class Watch(TrainerCallback):
    """Sees every rollout through its rewards and every update through its log; keeps the run's
    files. On the main process, but for what all must do together."""

    def __init__(self, config, tokenizer, task, problems, out_dir: Path, callbacks, budget, names):
        self.config, self.tokenizer, self.task = config, tokenizer, task
        self.problems, self.out_dir, self.callbacks = problems, out_dir, callbacks
        self.budget, self.names = budget, names
        self.trainer: Any = None
        self.asked: list[str] = []  # stop signals that this process has got
        self.stopped: str | None = None  # the one that all agree on
        self.over: str | None = None  # the budget is used up, in words
        self.bar: Any = None
        self.history: list[dict[str, Any]] = []
        self.base, self.saved, self.first = "", 0, 0
        self.origin: dict[str, str | None] = {}
        self.price: float | None = None  # dollars an hour of all devices
        self.entered, self.earlier = time.perf_counter(), 0.0  # when `train` was called; before it
        self.counted = 0.0  # seconds spent when the last step had ended, of this process's
        self.rows: list[dict[str, Any]] = []  # this process's answers of the rollout
        self.batch: Experience | None = None
        self.logs: list[dict[str, float]] = []  # TRL's, of this rollout's updates

    @property
    def main(self) -> bool:
        return PartialState().is_main_process

    @property
    def step(self) -> int:
        """The rollout that is being worked on."""
        return self.trainer.state.global_step // updates(self.config)

    # -- rewards: TRL calls them one after the other, with every answer of this process

    def reward_functions(self) -> list[Callable]:
        """The rewards of the configuration, each handing what it sees on to `saw`."""
        functions = [
            get_reward(r, self.config.seed) if isinstance(r, str) else r
            for r in self.config.rewards
        ]
        names = [reward_name(function) for function in functions]
        if len(set(names)) != len(names):
            raise R1LabError(f"rewards need different names: {', '.join(names)}")
        return [
            self._watched(function, name, name == names[-1])
            for function, name in zip(functions, names, strict=True)
        ]

    def _watched(self, function: Callable, name: str, last: bool) -> Callable:
        def reward(prompts, completions, completion_ids, **columns) -> list[float]:
            columns["step"] = self.step
            values = function(
                prompts=prompts, completions=completions, completion_ids=completion_ids, **columns
            )
            values = [0.0 if value is None else float(value) for value in values]
            if len(values) != len(completions):
                raise R1LabError(f"reward {name} must return a value for each completion")
            self.saw(name, values, completions, completion_ids, columns["problem"])
            if last:
                self.rollout_ends()
            return values

        reward.__name__ = name
        return reward

    def saw(self, name, values, completions, completion_ids, problems) -> None:
        if not self.rows:
            ends = {*self.trainer.eos_token_ids}
            drawn = self.drawn or [[] for _ in completions]
            self.rows = [
                {
                    "problem": Problem.from_json(problem) if isinstance(problem, str) else problem,
                    "ids": [int(i) for i in ids],
                    "logprobs": logprobs,
                    "finished": int(ids[-1]) in ends,
                    "text": text,
                    "parts": {},
                }
                for problem, ids, logprobs, text in zip(
                    problems, completion_ids, drawn, completions, strict=True
                )
            ]
        for row, value in zip(self.rows, values, strict=True):
            row["parts"][name] = value

    drawn: list[list[float]] | None = None

    def rollout_func(self, rollout: Callable) -> Callable:
        """The sampler's rollout, its log-probs noted."""

        def noted(prompts, trainer) -> dict[str, Any]:
            output = rollout(prompts, trainer)
            self.drawn = output["logprobs"]
            return output

        return noted

    def rollout_ends(self) -> None:
        """All rewards are there: every process's answers become one Experience on the main one."""
        for row in self.rows:
            row["measure"] = measure(
                row["problem"],
                row["text"],
                task=self.task,
                length=len(row["ids"]),
                finished=row["finished"],
            )
        rows = gather_object(self.rows)  # in the order of the processes, which is the questions'
        self.rows, self.drawn = [], None
        G, config = self.config.group_size, self.config
        names = list(rows[0]["parts"])
        parts = {name: [row["parts"][name] for row in rows] for name in names}
        totals = [
            sum(w * row["parts"][n] for w, n in zip(config.reward_weights, names, strict=True))
            for row in rows
        ]
        rewards = torch.tensor(totals, dtype=torch.float32).view(-1, G)
        advantages = ADVANTAGES[config.advantage](rewards)
        problems = [row["problem"] for row in rows[::G]]
        prompts = [render(problem, config.template) for problem in problems]
        rollouts = Rollouts(
            self.tokenizer(prompts)["input_ids"],
            [row["ids"] for row in rows],
            [row["logprobs"] for row in rows],
            [row["finished"] for row in rows],
        )
        measures = [row["measure"] for row in rows]
        batch = Experience(problems, prompts, rollouts, measures, parts, rewards, advantages)
        batch.advantages = advantages * batch.spread[:, None]
        self.batch, self.sampled = batch, time.perf_counter()
        if not all(map(math.isfinite, totals)):
            self.fail("a reward that is not a finite number")

    # -- the updates

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % updates(self.config) == 0:
            self.began, self.logs = time.perf_counter(), []
            self.before = local_probe(self.trainer.model)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        grads = [w.grad for w in self.trainer.model.parameters() if w.grad is not None]
        if not all(bool(local(grad).isfinite().all()) for grad in grads):
            self.fail("a gradient that is not finite")

    def on_step_end(self, args, state, control, **kwargs):
        weights = [w for w in self.trainer.model.parameters() if w.requires_grad]
        if not all(bool(local(w).isfinite().all()) for w in weights):
            self.fail("weights that are not finite after the optimizer's step")
        if state.global_step % updates(self.config):
            return control
        done = self.step
        self.update = float((local_probe(self.trainer.model) - self.before).norm())
        self.update /= float(self.before.norm()) or 1.0
        if self.config.kl_coef > 0 and self.trainer.ref_model is not None:
            self.keep_reference(done)
        spent = self.spent()
        if self.budget and not self.over:
            # The next step will take as long as this one, with the checkpoint's writing before it;
            # the first after a start says nothing of others, as it pays for compilation.
            step = spent - self.counted if self.counted else 0.0
            self.over = self.budget.exceeded(spent, step)
        self.counted = spent
        words = gather_object([(list(self.asked), self.over)])  # all must stop at the same step
        self.stopped = next((asked[0] for asked, _ in words if asked), None)
        self.over = self.over or next((over for _, over in words if over), None)
        last = done == self.config.steps
        stop = bool(self.stopped or self.over) and not last
        control.should_save = done % self.config.checkpoint_every == 0 or last or stop
        control.should_training_stop |= stop
        return control

    def spent(self) -> float:
        """Seconds since `train` was called, loading, saving and all; and before a resumption."""
        return self.earlier + time.perf_counter() - self.entered

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "grad_norm" not in logs:  # the summary at the end
            return
        self.logs.append(dict(logs))
        if not math.isfinite(logs["loss"]):
            self.fail(f"loss {logs['loss']}")
        if state.global_step % updates(self.config) or not self.main:
            return
        step, batch, config = self.step - 1, self.batch, self.config
        metrics = describe(step, batch)
        metrics |= learned(self.logs, config)
        if not any(batch.rollouts.logprobs):
            metrics["entropy"] = fmean(one["entropy"] for one in self.logs)
        metrics["update"] = self.update
        ended = time.perf_counter()
        metrics["sample_seconds"] = self.sampled - self.began
        metrics["train_seconds"] = ended - self.sampled
        metrics["seconds"] = ended - self.began
        metrics["tokens_per_second"] = metrics["tokens"] / metrics["seconds"]
        metrics["spent_seconds"] = self.spent()
        self.history.append(metrics)
        questions = questions_at(step, self.problems, config)
        metrics["diagnoses"] = explain(self.history, config, self.tokenizer, self.task, questions)
        append_lines(self.out_dir / "metrics.jsonl", [metrics])
        if config.samples_every and step % config.samples_every == 0:
            append_lines(self.out_dir / "samples.jsonl", examples(step, batch, self.tokenizer))
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"accuracy {metrics['accuracy']:.2f}, length {metrics['length']:.0f}, "
                f"{metrics['tokens_per_second']:,.0f} tok/s"
            )
            self.bar.update()
        for callback in self.callbacks:
            callback(step, metrics, batch)

    def fail(self, words: str) -> None:
        """Stop before anything broken is saved; the batch can be looked at."""
        step = self.batch_step()
        path = self.out_dir / "nan_batch.json"
        if self.main and self.batch is not None:
            save_batch(path, step, self.batch, self.tokenizer, words)
        raise R1LabError(
            f"step {step} has {words}. Training stopped; the batch is in {path}, and the last "
            f"checkpoint, of {self.saved} steps, is from before. Usual reasons: a learning rate "
            "too high, a reward that is NaN, float16 weights."
        )

    def batch_step(self) -> int:
        return self.first + len(self.history) - self.kept

    kept = 0  # lines of history that were there before this process began

    # -- checkpoints

    def on_save(self, args, state, control, **kwargs):
        """Trainer has written its folder: seal it, then delete what is too old."""
        PartialState().wait_for_everyone()
        if self.main:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            about = {
                "step": self.step,
                "base": self.base,
                "now": fingerprint_of(self.trainer),
                "run": self.names(self.step),
                "processes": PartialState().num_processes,
            }
            seal_newest(folder, about, self.config.keep_checkpoints)
            if self.config.kl_coef > 0 and self.config.ref_refresh:
                self.drop_references()
        self.saved = self.step
        PartialState().wait_for_everyone()

    def keep_reference(self, done: int) -> None:
        """TRL has just replaced the reference by the policy: so is what is kept on the disk."""
        if not self.config.ref_refresh or done % self.config.ref_refresh:
            return
        save_model(self.trainer, reference_folder(self.out_dir, done))

    def drop_references(self) -> None:
        """Those that no checkpoint needs any more."""
        every, steps = self.config.ref_refresh, [self.step]
        for folder in newest_first(self.out_dir / "checkpoints"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                steps.append(json.loads((folder / SEAL).read_text("utf-8"))["step"])
        needed = {reference_folder(self.out_dir, step // every * every) for step in steps}
        for folder in (self.out_dir / "references").glob("step-*"):
            if folder not in needed:
                shutil.rmtree(folder, ignore_errors=True)


def learned(logs: Sequence[dict[str, float]], config: GRPOConfig) -> dict[str, Any]:
    """TRL's logs of a rollout's updates under the names of r1lab.grpo.update."""
    return {
        "loss": fmean(one["loss"] for one in logs),
        "kl": fmean(one["kl"] for one in logs) if config.kl_coef > 0 else None,
        "clip_fraction": fmean(one["clip_ratio/region_mean"] for one in logs),
        "grad_norm": fmean(one["grad_norm"] for one in logs),
        "lr": logs[-1]["learning_rate"],
    }


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that FSDP2 or ZeRO-3 has spread; else the tensor."""
    if hasattr(tensor, "to_local"):
        return tensor.to_local().detach()
    return getattr(tensor, "ds_tensor", tensor).detach()


def local_probe(model) -> torch.Tensor:
    """As checkpoints.probe, of this process's part of the weights."""
    parts = [local(p).flatten()[:1024].double().cpu() for p in model.parameters()]
    return torch.cat(parts)


def sharded(trainer) -> bool:
    return bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


def fingerprint_of(trainer) -> str:
    """Of the model that the user holds; empty where no process has all of it."""
    if sharded(trainer) or hasattr(trainer.model, "peft_config"):
        return ""
    return fingerprint(trainer.accelerator.unwrap_model(trainer.model))


# --- whole folders -------------------------------------------------------------------------------


def newest_first(directory: Path) -> list[Path]:
    """Trainer's checkpoint folders, the latest first."""
    found = [f for f in directory.glob("checkpoint-*") if f.name.split("-")[-1].isdigit()]
    return sorted(found, key=lambda f: int(f.name.split("-")[-1]), reverse=True)


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Force a checkpoint's files to the disk and write, last, what they must be."""
    (folder / SEAL).unlink(missing_ok=True)
    sums = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sums[str(path.relative_to(folder))] = checkpoints.digest_of(path)
    text = json.dumps(about | {"files": sums}, indent=1, ensure_ascii=False)
    checkpoints.atomic_write_text(folder / SEAL, text)


def seal_newest(folder: Path, about: dict[str, Any], keep: int) -> None:
    """`seal`, then delete all checkpoints beside this one but the newest `keep`."""
    seal(folder, about)
    for old in newest_first(folder.parent)[max(1, keep) :]:
        (old / SEAL).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None when it is what was saved."""
    try:
        sums = json.loads((folder / SEAL).read_text("utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it was never finished (no checksums in it)"
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file() or checkpoints.digest_of(path) != expected:
            return f"it is damaged ({name} differs from what was saved)"
    return None


def latest_of_run(out_dir: Path, model, names: Callable, steps: int) -> tuple[Path, dict] | None:
    """The newest whole checkpoint and its seal, if it belongs to the run that is about to go on.

    As checkpoints.latest_of_run, for Trainer's folders.
    """
    advice = "Choose another out_dir, or start anew in this one with resume=False."
    if any((out_dir / "checkpoints").glob("step-*.pt")):
        raise R1LabError(f"{out_dir} holds a run of the backend scratch. {advice}")
    folders, broken = newest_first(out_dir / "checkpoints"), 0
    for folder in folders:
        problem = damage(folder)
        if problem is None:
            break
        log.warning("checkpoint %s is not used: %s. Looking for the one before.", folder, problem)
        broken += 1
    if broken == len(folders):
        if any((folder / SEAL).exists() for folder in folders):
            raise R1LabError(f"no checkpoint in {out_dir / 'checkpoints'} is whole. {advice}")
        return None
    state = json.loads((folder / SEAL).read_text("utf-8"))
    was, now = state["run"], names(state["step"])
    changed = [f"{n} was {was.get(n)!r} and is {now[n]!r}" for n in now if was.get(n) != now[n]]
    if steps < state["step"]:
        changed = [f"{state['step']} steps are done, and steps is {steps}"]
    if fingerprint(model) not in (state["base"], state["now"]):
        changed.append("the model is not the one it began with (load that one again)")
    if changed:
        raise R1LabError(f"{out_dir} holds another run: {'; '.join(changed)}. {advice}")
    return folder, state


def reference_folder(out_dir: Path, step: int) -> Path:
    return out_dir / "references" / f"step-{step:08d}"


def save_model(trainer, folder: Path, extra: Callable[[Path], None] | None = None) -> None:
    """The policy as a hub folder: all processes gather, the main one writes, whole or not."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded(trainer) else None
    if PartialState().is_main_process:
        with quiet_bars(), checkpoints.atomic_dir(folder) as new:
            model.save_pretrained(new, state_dict=state)
            trainer.processing_class.save_pretrained(new)
            if extra is not None:
                extra(new)
    PartialState().wait_for_everyone()


@contextlib.contextmanager
def quiet_bars():
    """Without transformers' bars, and without what it and TRL say of themselves: of interfaces that
    are experimental (a test watches them), of names of theirs that will change, of tied weights
    that a checkpoint rightly does not hold twice."""

    def spoken(record: logging.LogRecord) -> bool:
        return "missing keys in the checkpoint" not in record.getMessage()

    trainer = logging.getLogger("transformers.trainer")
    trainer.addFilter(spoken)
    try:
        with no_bars(), warnings.catch_warnings():
            for message in (
                ".*rollout_func.*experimental.*",
                ".*gradient_checkpointing.* is deprecated.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        trainer.removeFilter(spoken)


# --- the run -------------------------------------------------------------------------------------


def make_trainer(
    model,
    tokenizer,
    watch: Watch,
    *,
    sampler: str = "r1lab",
    precision: str = "fp32",
    gradient_checkpointing: bool = False,
    lora: Any = None,
    shares: int | None = None,
    steps: int | None = None,
) -> Trainer:
    """TRL's trainer for the run that `watch` holds: options, data, rewards, sampler. steps: where
    to end, if not at the end of the run."""
    config, processes = watch.config, PartialState().num_processes
    prompts = [render(problem, config.template) for problem in watch.problems]
    options = trl_options(
        config,
        out_dir=watch.out_dir,
        prompt_tokens=max(map(len, tokenizer(prompts)["input_ids"])),
        processes=processes,
        sampler=sampler,
        precision=precision,
        gradient_checkpointing=gradient_checkpointing,
        cpu=PartialState().device.type == "cpu",
    )
    asked = watch.problems
    if steps is not None:  # a data set that ends there: else the Trainer would do one step more
        options["max_steps"], asked = steps * updates(config), asked[: steps * config.questions]
    rollout = None
    if sampler == "r1lab":
        rollout = own_sampler(config, tokenizer, precision=precision, shares=shares)
        rollout = watch.rollout_func(rollout)
    with quiet_bars():
        trainer = Trainer(
            model=model,
            args=on_one_gpu(TRLConfig(**options)),
            processing_class=tokenizer,
            train_dataset=as_dataset(asked, config.template),
            reward_funcs=watch.reward_functions(),
            callbacks=[watch],
            rollout_func=rollout,
            peft_config=lora_config(lora) if lora else None,
        )
    found, wanted = trainer.accelerator.mixed_precision, "bf16" if precision == "bf16" else "no"
    if found != wanted:
        raise R1LabError(
            f"accelerate's configuration says mixed_precision {found}, and --precision asks for "
            f"{precision}: write mixed_precision: 'no' there, then r1lab decides"
        )
    trainer.run = config
    trainer.remove_callback(PrinterCallback)
    watch.trainer = trainer
    return trainer


def lora_config(lora: Any):
    """A rank, keywords of peft.LoraConfig, or a peft configuration itself."""
    if importlib.util.find_spec("peft") is None:
        raise R1LabError("LoRA needs peft, which is not installed: pip install peft")
    from peft import LoraConfig, PeftConfig

    if isinstance(lora, PeftConfig):
        return lora
    given = {"r": lora, "lora_alpha": 2 * lora} if isinstance(lora, int) else dict(lora)
    defaults = {"target_modules": "all-linear", "lora_dropout": 0.0, "task_type": "CAUSAL_LM"}
    return LoraConfig(**(defaults | given))


def settle(device: str | None = None) -> PartialState:
    """accelerate's view of this process, computing on `device`: "cpu", "cuda", or None for a GPU
    where there is one.

    accelerate decides once a process and answers the same ever after, also to those that asked for
    something else; here who asks last decides. Processes that were launched together keep what
    their launcher gave them. Raises R1LabError for a device that is not here.
    """
    if device not in (None, "cpu", "cuda"):
        raise R1LabError(f"TRL trains on the device 'cpu' or 'cuda', not {device!r}")
    cpu = not on_gpu(device)
    state = PartialState(cpu=cpu)
    if state.num_processes == 1 and (state.device.type == "cpu") != cpu:
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=cpu)
    return state


def on_one_gpu(args):
    """TRL's options for this process alone: where several GPUs are seen and nothing was launched,
    the first one trains (the Trainer would cut each batch for nn.DataParallel, which TRL refuses).
    """
    if args.n_gpu > 1:
        log.warning(
            "%d GPUs are here, and one process trains on one of them; all of them: r1lab train "
            "--print-launch ddp",
            args.n_gpu,
        )
        args._n_gpu = 1
    return args


def choose(precision: str, gradient_checkpointing: str | bool) -> str:
    """The precision, "auto" decided by what the device can do; weights are float32 in both.
    R1LabError for values that neither option has."""
    if precision not in PRECISIONS:
        raise R1LabError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if gradient_checkpointing not in ("auto", True, False):
        raise R1LabError("gradient_checkpointing must be 'auto', True or False")
    return grpo.precision_on(PartialState().device, precision)


def fit(model, tokenizer, config: GRPOConfig, problems, asked: str | bool, **job: Any):
    """Gradient checkpointing, "auto" decided by the memory plan, and the plan in words. The main
    process plans, all follow. Raises R1LabError, on all, for a run that cannot fit.

    job: what memory.Job wants to know besides.
    """
    state = PartialState()

    def decide() -> tuple[bool, str]:
        device = state.device.type
        planned = memory.job_of(
            model,
            config,
            prompts=memory.prompts_of(tokenizer, problems, config.template),
            device=device,
            backend="trl",
            processes=state.num_processes,
            **job,
        )
        room = memory.available(device)
        if device == "cpu":  # the processes of this machine share it
            room //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return memory.prepare(planned, checkpointing=asked, room=room)

    return main_decides(decide)


def main_decides(decide: Callable[[], Any]) -> Any:
    """What decide() gives on the main process, which alone calls it, on all of them; so with its
    R1LabError."""
    found: list[Any] = [None]
    if PartialState().is_main_process:
        try:
            found = [decide()]
        except R1LabError as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], R1LabError):
        raise found[0]
    return found[0]


def without_cudnn_attention() -> None:
    """Keep torch's attention off cuDNN in this process; flash and memory-efficient attention stay.

    TRL pads prompts on the left, so the first positions of short ones may look at nothing. With
    cuDNN's attention allowed, TRL's part of `r1lab bench --gpu step` ended in "probability tensor
    contains either inf, nan or element < 0" (H100, torch 2.11, CUDA 13.0, bfloat16); without it,
    the same ran through twice.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def train(
    model,
    tokenizer,
    task,
    config: GRPOConfig,
    out_dir: str | os.PathLike,
    *,
    sampler: str = "auto",
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callable[[int, dict, Experience], None]] = (),
    budget: Any = None,
    lora: Any = None,
    device: str | None = None,
    precision: str = "auto",
    gradient_checkpointing: str | bool = "auto",
    shares: int | None = None,
    push_to_hub: str | None = None,
) -> list[dict[str, Any]]:
    """Train `model` in place by GRPO on TRL; returns the metrics of every step.

    As r1lab.grpo.train: the same configuration, the same files in out_dir, the same names in
    metrics.jsonl, resumed by the same call. Started by `accelerate launch`, all processes call it;
    files, callbacks and the history that is returned are the main process's (others get []).
    Before it starts, the memory plan (`fit`) says what it will take, and refuses what cannot fit.

    sampler: see `pick_sampler`. budget: `exceeded(seconds, next_step) -> str | None`, asked
    after every step with the seconds since `train` was called, a resumed run's earlier ones
    included, and those of a step; words end the run, with a checkpoint and model/. lora: rank,
    keywords of peft.LoraConfig or a peft configuration; model/ then has the adapters merged,
    adapter/ has them alone. device: see `settle`. precision: "fp32" | "bf16" | "auto" (the
    configuration's). gradient_checkpointing: True, False or "auto", which leaves it off where the
    plan fits without it. shares: see `own_sampler`. push_to_hub: the repository's name; a private
    one is made if there is none.

    Raises Stopped after a stop signal, when all is saved, and R1LabError for what TRL cannot
    express, another run's folder, a loss or weight that is NaN, a full disk, too little memory.
    """
    out_dir, state = Path(out_dir), settle(device)
    without_cudnn_attention()
    main = state.is_main_process
    spread = is_spread()
    check(config, processes=state.num_processes, lora=lora, sharded=spread)
    precision = config.precision if precision == "auto" else precision
    precision = choose(precision, gradient_checkpointing)
    sampler, words = pick_sampler(sampler, cuda=state.device.type == "cuda", sharded=spread)
    if push_to_hub and main:
        push_to_hub = hub_ready(push_to_hub)
    if main and progress:
        print(words, flush=True)
    if not resume and main:
        checkpoints.set_aside(out_dir, ON_DISK)
    state.wait_for_everyone()

    if not lora:
        model.float()  # AdamW's small steps are lost in bfloat16 weights
    for module in model.modules():
        if getattr(module, "attention_dropout", 0.0):
            module.attention_dropout = 0.0
    problems = task.problems("train", config.steps * config.questions, seed=config.seed)
    gradient_checkpointing, words = fit(
        *(model, tokenizer, config, problems, gradient_checkpointing),
        precision=precision,
        lora=lora_config(lora).r if lora else None,
        sharded=spread,
        sampler=sampler,
    )
    if main and progress:
        print(words, flush=True)

    def names(steps: int) -> dict[str, Any]:
        """What makes this run this run, after so many steps."""
        asked = "\n".join(f"{p.id} {p.question}" for p in problems[: steps * config.questions])
        linear = config.lr_schedule == "linear"
        return fixed_values(config) | {
            "questions asked": hashlib.sha256(asked.encode()).hexdigest()[:16],
            "steps, which a linear lr_schedule depends on,": config.steps if linear else None,
            "sampler": "vllm-server" if sampler.startswith("http") else sampler,
            "precision": precision,
            "lora": repr(lora_config(lora).to_dict().get("r")) if lora else None,
        }

    watch = Watch(config, tokenizer, task, problems, out_dir, callbacks, budget, names)
    watch.base, watch.origin = fingerprint(model), origin(model.config._name_or_path)
    watch.price = getattr(budget, "dollars_per_hour", None) or costs.price_here()
    folder = None
    found = main_decides(lambda: latest_of_run(out_dir, model, names, config.steps))
    if found is not None:
        folder, about = found
        watch.first = watch.saved = about["step"]
        watch.base = about["base"]
        if main and about.get("processes", state.num_processes) != state.num_processes:
            log.warning(
                "the run goes on on %d processes, after %d: from here on it draws other answers "
                "than it would have",
                *(state.num_processes, about["processes"]),
            )
    if main:
        watch.earlier = grpo.spent_in(grpo.metrics_of(out_dir))  # with lost steps, which were paid
        watch.history = truncate_lines(out_dir / "metrics.jsonl", watch.first)
        truncate_lines(out_dir / "samples.jsonl", watch.first)
        watch.kept = len(watch.history)
    steps = None
    if budget and watch.first:  # what was spent before may be all: then not a step more
        watch.over = main_decides(lambda: budget.exceeded(watch.earlier))
        steps = watch.first if watch.over else None

    if lora and state.device.type == "cpu":
        memory.large_blocks_apart()
    set_seed(config.seed)
    own_forward = model.__dict__.get("forward")
    with (
        quiet_bars(),
        checkpoints.stop_signals() as watch.asked,
        checkpoints.memory_errors(config.micro_batch_tokens),
        disk_errors(out_dir),
        logging_redirect_tqdm() if progress else nullcontext(),
        reference_of(model, tokenizer, config, out_dir, watch.first, lora),
    ):
        patient(watch.asked)
        trainer = make_trainer(
            model,
            tokenizer,
            watch,
            sampler=sampler,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            lora=lora,
            shares=shares,
            steps=steps,
        )
        try:
            bar = progress and main
            with tqdm(total=config.steps, initial=watch.first, disable=not bar, unit="step") as bar:
                watch.bar = bar
                trainer.train(resume_from_checkpoint=None if folder is None else str(folder))
            done = watch.step
            if watch.stopped and done < config.steps:
                raise Stopped.after(watch.stopped, done, config.steps, out_dir)
            finish(trainer, watch, lora)
        finally:
            put_back(model, trainer, own_forward, lora)
    if push_to_hub and main:
        push(out_dir / "model", push_to_hub)
    return watch.history


def finish(trainer, watch: Watch, lora: Any) -> None:
    """model/ (and adapter/), and summary.json."""
    out_dir, done = watch.out_dir, watch.step
    if lora:
        if watch.main:
            with checkpoints.atomic_dir(out_dir / "adapter") as folder:
                trainer.model.save_pretrained(folder)
        trainer.model = trainer.model.merge_and_unload()
    text = card(watch)
    save_model(
        trainer, out_dir / "model", lambda folder: (folder / "README.md").write_text(text, "utf-8")
    )
    if watch.main:
        checkpoints.atomic_write_text(
            out_dir / "summary.json", json.dumps(summary(watch), indent=1)
        )
        if watch.over and done < watch.config.steps:
            log.warning(
                "%s: stopped after %d of %d steps, with a checkpoint and a model in %s",
                *(watch.over, done, watch.config.steps, out_dir),
            )


def summary(watch: Watch) -> dict[str, Any]:
    """What the run came to, as plain values."""
    history, seconds = watch.history, grpo.spent_in(watch.history)
    price = watch.price
    keys = ("reward", "accuracy", "format", "length", "reflection")
    return {
        "steps": watch.step,
        "of": watch.config.steps,
        "stopped": watch.over if watch.step < watch.config.steps else None,
        "seconds": seconds,
        "dollars": None if price is None else costs.dollars(seconds, price),
        "tokens": sum(m["tokens"] for m in history),
        "first": {key: history[0][key] for key in keys} if history else {},
        "last": {key: history[-1][key] for key in keys} if history else {},
    }


def card(watch: Watch) -> str:
    """The model card: what it is, how it was made, and the figures measured while it was."""
    from r1lab.runner import hardware, versions

    found, config, base, state = summary(watch), watch.config, watch.origin, PartialState()
    where = torch.cuda.get_device_name() if state.device.type == "cuda" else hardware()["cpu"]
    rows = [f"| {k} | {found['first'][k]:.3g} | {v:.3g} |" for k, v in found["last"].items()]
    options = json.dumps(config.to_json(), ensure_ascii=False, indent=1)
    known = [f"{key}: {base[key]}" for key in ("base_model", "license") if base[key]]
    cost = "" if found["dollars"] is None else f", about {costs.money(found['dollars'])} of rent"
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            *known,
            "tags: [grpo, reinforcement-learning, r1-zero, trl, r1lab]",
            "---",
            f"# {base['name'] or 'A model'}, trained by GRPO on the task {watch.task.name}",
            "",
            f"{found['steps']} steps of R1-Zero's recipe (arXiv 2501.12948) with r1lab on TRL, "
            f"{found['tokens']:,} tokens sampled in {costs.clock(found['seconds'])}{cost}. The "
            "base model's licence holds for this one too.",
            "",
            "Means over the training batch, before the first and before the last update; a "
            "held-out evaluation is `r1lab eval`.",
            "",
            "| measure | first step | last step |",
            "|---|---|---|",
            *rows,
            "",
            f"Made on {state.num_processes} x {where} with {made_by}.",
            "",
            f"```json\n{options}\n```",
            "",
        ]
    )


@contextlib.contextmanager
def reference_of(model, tokenizer, config: GRPOConfig, out_dir: Path, first: int, lora: Any):
    """TRL loads the reference from the path that the model's configuration names: for the time of
    this block, the one that belongs to step `first`."""
    if config.kl_coef == 0 or lora:
        yield
        return
    step = first // config.ref_refresh * config.ref_refresh if config.ref_refresh else 0
    folder = reference_folder(out_dir, step)
    if PartialState().is_main_process and first == 0:
        with quiet_bars(), checkpoints.atomic_dir(folder) as new:
            model.save_pretrained(new)
            tokenizer.save_pretrained(new)
    PartialState().wait_for_everyone()
    if not folder.exists():
        raise R1LabError(
            f"the reference of step {step} is missing ({folder}). All machines of a run must see "
            "the folder of --out; if it was lost, start anew"
        )
    path, model.config._name_or_path = model.config._name_or_path, str(folder)
    try:
        yield
    finally:
        model.config._name_or_path = path


@contextlib.contextmanager
def disk_errors(out_dir: Path):
    """A full disk in one line, whoever met it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (advice := shortage(f"{type(error).__name__}: {error}")) and "disk" in advice:
            raise R1LabError(f"cannot write to {out_dir}: {advice}") from error
        raise


def patient(asked: list[str]) -> None:
    """A scheduler may send SIGTERM to launcher and processes alike, so that it arrives twice: only
    a second Ctrl-C means "at once"."""
    with contextlib.suppress(ValueError):  # not the main thread
        first = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *a: None if asked else first(*a))


def is_spread() -> bool:
    """Were we launched with FSDP or DeepSpeed? accelerate says so in the environment."""
    return any(
        os.environ.get(name, "false").lower() in ("1", "true")
        for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )


def put_back(model, trainer, own_forward, lora: Any) -> None:
    """The model as the user gave it, but trained: without TRL's forward and without adapters."""
    if lora and hasattr(trainer.model, "unload"):
        trainer.model.unload()
    for name in ("forward", "_original_forward"):
        model.__dict__.pop(name, None)
    if own_forward is not None:
        model.forward = own_forward
    model.eval()


# --- the hub -------------------------------------------------------------------------------------


def hub_ready(name: str) -> str:
    """The repository "owner/name", made (private) if there is none: before the training, as after
    it an error would come too late. Raises R1LabError."""
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        return HfApi().create_repo(name, private=True, exist_ok=True).repo_id
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise R1LabError(
            f"cannot push to '{name}': {reason}. Log in with `hf auth login`, with the network on "
            "and a token that may write, or leave --push-to-hub out."
        ) from error


def push(folder: Path, name: str) -> None:
    """Upload a model folder to a repository of the hub."""
    from huggingface_hub import HfApi

    HfApi().upload_folder(
        folder_path=str(folder), repo_id=name, commit_message="Trained with r1lab"
    )

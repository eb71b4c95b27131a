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

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm
from transformers import set_seed

from r1lab.basics import files, plugins
from r1lab.basics.files import truncate_lines
from r1lab.basics.options import fixed_values
from r1lab.basics.quiet import quiet_bars
from r1lab.grpo import Experience, GRPOConfig
from r1lab.machine import costs, room
from r1lab.models.load import origin
from r1lab.training import metrics, signals
from r1lab.training.checkpoints import fingerprint
from r1lab.training.signals import Stopped
from r1lab.trl_backend.card import finish, hub_ready, push
from r1lab.trl_backend.folders import latest_of_run, reference_of
from r1lab.trl_backend.mapping import check
from r1lab.trl_backend.process import (
    choose,
    disk_errors,
    fit,
    is_spread,
    main_decides,
    patient,
    settle,
)
from r1lab.trl_backend.samplers import pick_sampler
from r1lab.trl_backend.trainer import lora_config, make_trainer, put_back, without_cudnn_attention
from r1lab.trl_backend.watch import Watch

log = logging.getLogger(__name__)
ON_DISK = (
    "metrics.jsonl samples.jsonl nan_batch.json checkpoints references model adapter summary.json"
).split()


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
        files.set_aside(out_dir, ON_DISK)
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
            "code of the task": plugins.code_of(task),
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
        watch.earlier = metrics.spent_in(
            metrics.metrics_of(out_dir)
        )  # with lost steps, which were paid
        watch.history = truncate_lines(out_dir / "metrics.jsonl", watch.first)
        truncate_lines(out_dir / "samples.jsonl", watch.first)
        watch.kept = len(watch.history)
    steps = None
    if budget and watch.first:  # what was spent before may be all: then not a step more
        watch.over = main_decides(lambda: budget.exceeded(watch.earlier))
        steps = watch.first if watch.over else None

    if lora and state.device.type == "cpu":
        room.large_blocks_apart()
    set_seed(config.seed)
    own_forward = model.__dict__.get("forward")
    with (
        quiet_bars(),
        signals.stop_signals() as watch.asked,
        signals.memory_errors(config.micro_batch_tokens),
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

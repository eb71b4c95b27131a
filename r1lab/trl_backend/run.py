"""The run of `r1lab.grpo` on TRL's GRPOTrainer: on one GPU, on several, on a cluster.

TRL brings DDP, FSDP2 and ZeRO-3 (accelerate), vLLM and LoRA (peft). Prompts, their order, rewards
and files are those of `r1lab.grpo.train`. `mapping` translates each option and lists what remains
different. Three of TRL's defaults are not the paper's:

    loss_type "dapo"                the mean over all tokens; the paper's is "grpo"
    use_bias_correction_kl True     multiplies the KL term by rho (DeepSeek-V3.2); not in the paper
    lr_scheduler_type "linear"      and any warm-up begins with a rate of 0: a wasted rollout

With one optimizer step per rollout both are on-policy and take log pi_old from the training forward
pass. Checkpoints are Trainer's folders, written between rollouts only (TRL forgets the completions
that it has buffered), and sealed (`folders`).
"""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType, parse_flag_from_env
from transformers import set_seed

from r1lab import grpo
from r1lab.basics.errors import R1LabError
from r1lab.experience import Experience, training_problems
from r1lab.grpo import GRPOConfig
from r1lab.machine import costs, room
from r1lab.machine.device import precision_on
from r1lab.models.hub import hub_ready, push
from r1lab.models.load import origin
from r1lab.templates import end_of_text
from r1lab.trl_backend import memory
from r1lab.trl_backend.card import finish
from r1lab.trl_backend.folders import reference_of
from r1lab.trl_backend.mapping import Launch, check
from r1lab.trl_backend.process import is_spread, main_decides, settle
from r1lab.trl_backend.rollouts import RolloutWatch
from r1lab.trl_backend.samplers import pick_sampler
from r1lab.trl_backend.trainer import lent, lora_config, make_trainer, without_cudnn_attention

log = logging.getLogger(__name__)


def train(
    model,
    tokenizer,
    task,
    config: GRPOConfig,
    out_dir: str | os.PathLike,
    launch: Launch | None = None,
    *,
    progress: bool = True,
    callbacks: Sequence[Callable[[int, dict, Experience], None]] = (),
) -> list[dict[str, Any]]:
    """`r1lab.grpo.train` on TRL, with its configuration, files, metrics, resumption and errors;
    R1LabError also for what TRL cannot express. Started by `accelerate launch`, all processes call
    it; files, callbacks and history belong to the main process (others get [])."""
    launch = launch or Launch()
    out_dir, state = Path(out_dir), settle(launch.device)
    main, say = state.is_main_process, print if progress else (lambda *words, **how: None)
    launch = decided(launch, config, say)
    end_of_text(tokenizer)
    if not launch.lora:
        model.float()  # AdamW's small steps are lost in bfloat16 weights
    problems = training_problems(task, model, tokenizer, config)
    launch = planned(launch, model, tokenizer, config, problems, say)

    budget, how = launch.budget, {"callbacks": callbacks, "budget": launch.budget}
    names = identity(config, launch, task, problems)
    watch = RolloutWatch(config, tokenizer, task, problems, out_dir, names, **how)
    watch.origin = origin(model.config._name_or_path)
    watch.price = getattr(budget, "dollars_per_hour", None) or costs.price_here()
    set_seed(config.seed)
    with watch.running(model, progress, launch.resume) as folder, contextlib.ExitStack() as stack:
        before = watch.seal.get("processes", state.num_processes)
        if before != state.num_processes and parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
            words = f"was saved by {before} processes, and DeepSpeed resumes it on as many"
            raise R1LabError(f"the checkpoint {words}, not on {state.num_processes}")
        if main and before != state.num_processes:
            words = "the run continues on %d processes, after %d: it samples other completions now"
            log.warning(words, state.num_processes, before)
        steps = None
        if budget and watch.first:  # where the budget is used up already: no further step
            watch.over = main_decides(lambda: budget.exceeded(watch.earlier))
            steps = watch.first if watch.over else None
        stack.enter_context(lent(model, tokenizer))
        reference = (model, tokenizer, config, out_dir, watch.first, launch.lora)
        stack.enter_context(reference_of(*reference))
        trainer = make_trainer(model, tokenizer, watch, launch, steps)
        if launch.lora:  # `finish` merges the adapters; an error leaves them
            stack.callback(lambda: hasattr(trainer.model, "unload") and trainer.model.unload())
        trainer.train(resume_from_checkpoint=folder)
        watch.ended()
        finish(trainer, watch, launch.lora)
    if launch.push_to_hub and main:
        push(out_dir / "model", launch.push_to_hub)
    return watch.history


def decided(launch: Launch, config: GRPOConfig, say: Callable[..., None]) -> Launch:
    """The launch with sampler and precision chosen for this machine, and with the hub repository
    created. Raises R1LabError for what cannot run here."""
    without_cudnn_attention()
    state, spread = PartialState(), is_spread()
    if spread and state.distributed_type in (DistributedType.MULTI_CPU, DistributedType.NO):
        words = "accelerate shards over GPUs, not over CPU processes: take --print-launch ddp here"
        raise R1LabError(f"launched with FSDP or DeepSpeed; {words}")
    check(config, processes=state.num_processes, lora=launch.lora, sharded=spread)
    precision = config.precision if launch.precision == "auto" else launch.precision
    cuda = state.device.type == "cuda"
    sampler, words = pick_sampler(launch.sampler, cuda=cuda, sharded=spread)
    hub = launch.push_to_hub
    if state.is_main_process:
        hub = hub_ready(hub) if hub else hub
        say(words, flush=True)
    precision = precision_on(state.device, precision)
    return replace(launch, sampler=sampler, precision=precision, push_to_hub=hub)


def planned(launch: Launch, model, tokenizer, config, problems, say) -> Launch:
    """The launch with gradient checkpointing decided by the main process's memory plan. Raises
    R1LabError, on all processes, for a run that cannot fit."""
    state, device = PartialState(), PartialState().device.type

    def decide() -> tuple[bool, str]:
        how = {"backend": "trl", "processes": state.num_processes, "sharded": is_spread()}
        how |= {"precision": launch.precision, "sampler": launch.sampler}
        how["lora"] = lora_config(launch.lora).r if launch.lora else None
        prompts = memory.prompts_of(tokenizer, problems, config.template)
        job = memory.job_of(model, config, prompts=prompts, device=device, **how)
        free = room.available(device)
        if device == "cpu":  # the processes of this machine share it
            free //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return memory.prepare(job, checkpointing=launch.gradient_checkpointing, room=free)

    checkpointing, words = main_decides(decide)
    if state.is_main_process:
        say(words, flush=True)
    if launch.lora and device == "cpu":
        room.large_blocks_apart()
    return replace(launch, gradient_checkpointing=checkpointing)


def identity(config: GRPOConfig, launch: Launch, task, problems: Sequence) -> Callable[[int], dict]:
    """names(steps): what must be equal for a checkpoint of that step to belong to this run."""
    served = launch.sampler.startswith("http")
    ours = {
        "sampler": "vllm-server" if served else launch.sampler,
        "lora": repr(lora_config(launch.lora).to_dict().get("r")) if launch.lora else None,
    }
    same = partial(grpo.identity, config, task, problems, launch.precision)
    return lambda steps: same(steps) | ours

"""The subclass of TRL's GRPOTrainer."""

import contextlib
import copy
import dataclasses
import importlib.util
import logging
from typing import Any

import torch
from accelerate import PartialState
from torch.optim.lr_scheduler import LambdaLR
from transformers import PrinterCallback
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from r1lab import grpo
from r1lab.basics.errors import R1LabError
from r1lab.basics.quiet import quiet_bars
from r1lab.grpo import GRPOConfig
from r1lab.templates import encode, end_ids, prompt_of
from r1lab.trl_backend.data import as_dataset
from r1lab.trl_backend.mapping import Launch, trl_options
from r1lab.trl_backend.process import is_spread
from r1lab.trl_backend.rollouts import RolloutWatch
from r1lab.trl_backend.samplers import own_sampler
from r1lab.trl_backend.watch import Watch

log = logging.getLogger(__name__)


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
    micro-batches of completions of similar length."""

    run: GRPOConfig

    def create_model_card(self, *args, **kwargs) -> None:
        """`card` writes ours; TRL's does not know the base model."""

    def rate(self, update: int) -> float:
        return lr_share(update // self.run.updates, self.run)

    def _tokenize_prompts(self, prompts):
        """For generate and vLLM the tokens that our sampler gets; no images, no other fields."""
        return encode(self.processing_class, prompts), None, {}

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before:
            return inputs
        # A new rollout: TRL has shuffled it and cut it into passes, all as wide as the longest.
        passes, buffered = self.args.gradient_accumulation_steps, self._buffered_inputs
        steps = [buffered[i : i + passes] for i in range(0, len(buffered), passes)]
        self._buffered_inputs = [dealt for step in steps for dealt in by_length(step)]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]


def by_length(passes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Deal the completions of one optimizer step anew to its micro-batches: the longest first, each
    micro-batch as wide as its own longest. The gradient is the same, with less padding.

    passes: TRL's buffered inputs, dicts of tensors with n rows (prompts padded on the left to P,
    completions on the right to T), of scalars or None. With anything else in them: unchanged.
    """
    values = [value for one in passes for value in one.values() if value is not None]
    if not all(isinstance(value, torch.Tensor) for value in values):
        return passes  # images and the like
    names = [name for name, value in passes[0].items() if value is not None and value.ndim > 0]
    joined = {name: torch.cat([one[name] for one in passes]) for name in names}
    P, T = joined["prompt_ids"].shape[1], joined["completion_ids"].shape[1]
    lengths = joined["completion_mask"].sum(1)
    dealt = []
    for some in lengths.argsort(descending=True, stable=True).chunk(len(passes)):
        prompt, wide = int(joined["prompt_mask"][some].sum(1).max()), int(lengths[some].max())
        dealt.append(dict(passes[0]))
        for name, value in joined.items():
            value = value[some]
            if name in ("prompt_ids", "prompt_mask"):
                value = value[:, P - prompt :]
            elif value.ndim == 2 and value.shape[1] == T:
                value = value[:, : max(1, wide)]
            dealt[-1][name] = value
    return dealt


def lr_share(step: int, config: GRPOConfig) -> float:
    """The learning rate of a rollout's updates, as a fraction of config.learning_rate. Trainer also
    saves the rate of the step after the last, from which a longer run may go on."""
    if config.lr_schedule == "linear" and step >= config.steps:
        return 0.0
    return grpo.learning_rate(step, dataclasses.replace(config, learning_rate=1.0))


def make_trainer(
    model, tokenizer, watch: RolloutWatch, launch: Launch, steps: int | None = None
) -> Trainer:
    """TRL's trainer for the run of `watch`. launch: without "auto". steps: where to end, if not at
    the end of the run."""
    config, problems, state = watch.config, watch.problems, PartialState()
    prompts = [prompt_of(tokenizer, problem, config.template) for problem in problems]
    options = trl_options(
        config,
        out_dir=watch.out_dir,
        prompt_tokens=max(map(len, encode(tokenizer, prompts))),
        processes=state.num_processes,
        sampler=launch.sampler,
        precision=launch.precision,
        gradient_checkpointing=launch.gradient_checkpointing,
        cpu=state.device.type == "cpu",
    )
    options["report_to"] = [launch.report_to] if launch.report_to else []
    if steps is not None:  # a data set that ends there: else Trainer would make one step more
        options["max_steps"] = steps * config.updates
        problems = problems[: steps * config.questions]
    rollout = None
    if launch.sampler == "r1lab":
        whole = copy.deepcopy(model) if is_spread() else None
        how = {"precision": launch.precision, "shares": launch.shares, "whole": whole}
        rollout = watch.rollout_func(own_sampler(config, tokenizer, **how))
    data = as_dataset(problems, config.template, tokenizer)
    how = {"train_dataset": data, "rollout_func": rollout}
    how["peft_config"] = lora_config(launch.lora) if launch.lora else None
    how["reward_funcs"] = watch.reward_functions()
    trainer = assemble(Trainer, TRLConfig(**options), model, tokenizer, watch, **how)
    found = trainer.accelerator.mixed_precision
    if found != ("bf16" if launch.precision == "bf16" else "no"):
        raise R1LabError(
            f"accelerate's configuration says mixed_precision {found}, and --precision asks for "
            f"{launch.precision}: write mixed_precision: 'no' there, then --precision decides"
        )
    trainer.eos_token_ids = end_ids(model, tokenizer, config.template)
    if not trainer.use_vllm:
        trainer.generation_config.eos_token_id = trainer.eos_token_ids
    trainer.run = config
    return trainer


def assemble(trainer_class, args, model, tokenizer, watch: Watch, **how):
    """One of TRL's trainers, which tells `watch` all and prints nothing."""
    args, how = on_one_gpu(args), how | {"callbacks": [watch]}
    with quiet_bars():
        watch.trainer = trainer_class(model=model, args=args, processing_class=tokenizer, **how)
    watch.trainer.remove_callback(PrinterCallback)
    return watch.trainer


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


def on_one_gpu(args):
    """TRL's options for this process alone: where it sees several GPUs, it trains on the first
    (Trainer would use nn.DataParallel, which TRL refuses)."""
    if args.n_gpu > 1:
        words = "%d GPUs are here, one is used; to use all of them: r1lab train --print-launch ddp"
        log.warning(words, args.n_gpu)
        args._n_gpu = 1
    return args


def without_cudnn_attention() -> None:
    """Keep torch's attention off cuDNN: TRL pads prompts on the left, so the first positions of
    short ones attend to nothing, where cuDNN returned NaN (H100, torch 2.11, bfloat16)."""
    torch.backends.cuda.enable_cudnn_sdp(False)


@contextlib.contextmanager
def lent(model, tokenizer):
    """Inside the block the model has no dropout, neither nn.Dropout's nor a layer's own
    (attention_dropout). Afterwards it is in evaluation mode, without TRL's forward, and model and
    tokenizer have their own padding token again."""
    forward, pad = model.__dict__.get("forward"), tokenizer.pad_token
    configs = [model.config.get_text_config(), getattr(model, "generation_config", None)]
    kept = [(one, "pad_token_id", one.pad_token_id) for one in configs if one is not None]
    for module in model.modules():
        for name, value in list(vars(module).items()):
            own = name == "p" and isinstance(module, torch.nn.Dropout)
            if isinstance(value, float) and (own or "drop" in name):
                kept.append((module, name, value))
                setattr(module, name, 0.0)
    try:
        yield
    finally:
        for name in ("forward", "_original_forward"):
            model.__dict__.pop(name, None)
        if forward is not None:
            model.forward = forward
        for owner, name, value in kept:
            setattr(owner, name, value)
        tokenizer.pad_token = pad
        model.eval()

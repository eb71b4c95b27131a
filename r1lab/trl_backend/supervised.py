"""Supervised fine-tuning on TRL's SFTTrainer.

`r1lab.sft` is the loop to read. `sft_train` computes the same gradients from the same examples in
the same order, on any number of devices. TRL 1.16 differs by default:

    data order         Trainer shuffles; ours is `sft.batch_at`
    warm-up, cosine    Trainer's warm-up begins with a rate of 0, and "cosine_with_min_lr" reaches
                       its lowest rate one step after the last
    prompt + response  TRL tokenizes both as one text, where tokens may merge across the boundary
    mean over tokens   a mean of micro-batches' means, unless the model "accepts loss kwargs"
    dropout            SFTTrainer trains with it; RewardTrainer only disables nn.Dropout

Trainer takes items in micro-batches of equal numbers, so `lay_out` lays a whole run out as one
epoch: in each step the longest examples first, which saves padding, and blank items, which have no
loss, to fill the step up. (TRL's own packing would change which examples are in a step.)
"""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from datasets import Dataset
from trl import SFTConfig as TRLSFTConfig
from trl import SFTTrainer as TRLSFTTrainer

from r1lab import sft
from r1lab.basics.errors import R1LabError
from r1lab.machine.device import precision_on
from r1lab.sampler.score import max_positions
from r1lab.sft import Example, SFTConfig, batch_at, steps_of
from r1lab.trl_backend import folders
from r1lab.trl_backend.mapping import shared_options
from r1lab.trl_backend.trainer import OwnRate, assemble, lent, without_cudnn_attention
from r1lab.trl_backend.watch import Watch


class Layout(NamedTuple):
    """A run as Trainer's one epoch: per step `passes` micro-batches (of all processes together) of
    `rows` items each."""

    rows: int
    passes: int
    items: list[int | None]  # the example of each item, as an index; None is a blank


def lay_out(
    batches: Sequence[Sequence[int]], sizes: Sequence[int], tokens: int, processes: int = 1
) -> Layout:
    """batches: each step's indices of examples. sizes: tokens of each example. tokens: the most in
    a micro-batch, padding included, where one example is not longer."""
    steps = [sorted(batch, key=lambda i: -sizes[i]) for batch in batches]
    most, widest = max(1, tokens // max(sizes)), max(map(len, steps))
    passes = math.ceil(widest / (most * processes)) * processes
    rows = math.ceil(widest / passes)
    items = [one for step in steps for one in [*step, *[None] * (rows * passes - len(step))]]
    return Layout(rows, passes, items)


def lay_before(trainer_class, config_class, model, tokenizer, watch: Watch, sizes, columns, **more):
    """TRL's trainer for the run of `watch`. sizes: tokens of each example. columns(i): example i as
    a row of the data set; None: a blank. more: collator, and options of config_class."""
    config, state, how = watch.config, PartialState(), {"data_collator": more.pop("collator", None)}
    batches = [batch_at(step, len(sizes), config) for step in range(watch.steps)]
    layout = lay_out(batches, sizes, config.micro_batch_tokens, state.num_processes)
    distinct = {one: n for n, one in enumerate(dict.fromkeys(layout.items))}
    kept = Dataset.from_list([columns(one) for one in distinct])
    precision = precision_on(state.device, getattr(config, "precision", "auto"))
    options = shared_options(config, watch.out_dir, precision) | {
        "max_steps": watch.steps,
        "per_device_train_batch_size": layout.rows,
        "gradient_accumulation_steps": layout.passes // state.num_processes,
        "train_sampling_strategy": "sequential",
        "max_length": None,
        "use_cpu": state.device.type == "cpu",
    }
    how["train_dataset"] = kept.select([distinct[one] for one in layout.items])
    return assemble(trainer_class, config_class(**options | more), model, tokenizer, watch, **how)


def known(config: Any, kind: type) -> None:
    if type(config) is not kind:
        given = type(config).__name__
        raise R1LabError(f"this stage is configured by {kind.__name__}, not {given}")


class SFTTrainer(OwnRate, TRLSFTTrainer):
    """TRL's, with our learning rate and the mean over all completion tokens of a step, whatever the
    model's signature."""

    run: SFTConfig

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = True  # else Trainer does not count the step's tokens

    def rate(self, update: int) -> float:
        steps = self.args.max_steps  # the schedule is asked once more after the last step
        run = dataclasses.replace(self.run, learning_rate=1.0)
        return sft.learning_rate(min(update, steps - 1), steps, run)


class SFTWatch(Watch):
    def __init__(self, config: SFTConfig, out_dir: Path, rows: Sequence, names, callbacks=()):
        super().__init__(config, out_dir, steps_of(len(rows), config), names, callbacks)
        self.rows = rows

    def measure(self, step, logs) -> dict[str, Any]:
        (log,), config = logs, self.config
        batch = batch_at(step, len(self.rows), config)
        return {
            "step": step,
            "loss": log["loss"],
            "grad_norm": log["grad_norm"],
            "lr": log["learning_rate"],
            "tokens": sum(len(self.rows[i][1]) for i in batch),
            "epoch": (step + 1) * config.epochs / self.steps,
            "seconds": time.perf_counter() - self.began,
        }


def sft_trainer(model, tokenizer, rows: Sequence, watch: Watch) -> SFTTrainer:
    """TRL's trainer for the run of `watch`. rows: (prompt ids, completion ids with EOS) of each
    example; labels of -100 have no loss."""
    eos, sizes = tokenizer.eos_token_id, [len(prompt) + len(answer) for prompt, answer in rows]

    def columns(one: int | None) -> dict[str, list[int]]:
        prompt, answer = ([eos] * 2, []) if one is None else rows[one]
        return {"input_ids": [*prompt, *answer], "labels": [*[-100] * len(prompt), *answer]}

    given = (SFTTrainer, TRLSFTConfig, model, tokenizer, watch, sizes, columns)
    trainer = lay_before(*given, dataset_kwargs={"skip_prepare_dataset": True})
    trainer.run = watch.config
    return trainer


def sft_train(
    model,
    tokenizer,
    examples: Sequence[Example],
    config: SFTConfig,
    out_dir: str | os.PathLike,
    *,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callable[[int, dict], None]] = (),
) -> list[dict[str, Any]]:
    """`r1lab.sft.train` on TRL, with its configuration, files, metrics, resumption and errors.
    Started by `accelerate launch`, all processes call it; files, callbacks and history belong to
    the main process (others get []). The device is the one of `process.settle`."""
    known(config, SFTConfig)
    model.float()  # AdamW's small steps are lost in bfloat16 weights
    out_dir, state = Path(out_dir), PartialState()
    rows = sft.fitting(examples, tokenizer, config, max_positions(model))
    run = sft.identity(config, rows, precision_on(state.device, config.precision))
    watch = SFTWatch(config, out_dir, rows, lambda step: run, callbacks)
    without_cudnn_attention()
    with watch.running(model, progress, resume, "sft") as folder:
        with lent(model, tokenizer):
            trainer = sft_trainer(model, tokenizer, rows, watch)
            trainer.train(resume_from_checkpoint=folder)
        watch.ended()
        whole = out_dir / "model"
        folders.save_model(trainer, whole, watch.recorded("sft", whole))
    return watch.history

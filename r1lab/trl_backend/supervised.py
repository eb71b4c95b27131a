"""The supervised stages on TRL's SFTTrainer and RewardTrainer, for GPUs.

`r1lab.sft` and `r1lab.reward_model` are the loops to read. `sft_train` and `reward_train` take the
same configurations, show the same examples in the same order and step along the same gradient, on
TRL's trainers, which spread the work over devices (accelerate), fuse the logits with their loss and
can recompute activations (gradient checkpointing). `MAPPING` says what each option becomes. TRL
1.16's defaults are not ours in six places, and would train all the same:

    data order         Trainer shuffles; ours is `sft.batch_at`
    warm-up, cosine    Trainer's warm-up begins with a rate of 0, and "cosine_with_min_lr" would
                       reach its lowest rate one step after the last
    prompt + answer    TRL tokenizes both as one text, where tokens may merge across the boundary;
                       labels are made here, from the tokens that the policy will see
    mean over tokens   right for accumulated passes only where the model "accepts loss kwargs"; else
                       each pass is divided by its own tokens: a mean of means
    dropout            SFTTrainer trains with it; RewardTrainer without nn.Dropout only
    score              RewardTrainer's is read at the last token that is not the padding token.
                       Where the end of the text pads, that is the token before the end

**One epoch.** A Trainer knows a list of items, passes of equal numbers of them, and a number of
passes a step. So a whole run is laid out beforehand as one epoch (`lay_out`): step after step, in
each the longest first, so that a pass is padded to examples of like length; blank items, of which
nothing is learned, fill a step up. Any number of processes then takes its passes of the same steps.

**Packing** joins examples into one long row, without padding. TRL's own (packing=True, "bfd") packs
the whole data set before it is dealt out: a step would then be so many packs, not so many examples,
and an example longer than a pack would be cut short. Here the examples *of one step* are packed
(`pack`), and TRL's padding-free collator gives each its own positions, so the gradient stays that
of the unpacked step. What must hold is that no token attends to another example's. The restart of
position ids tells it to transformers, and most models listen, on a CPU with sdpa or eager attention
as well: another text before it changes an example's logits by exactly 0 in Llama, Qwen3, GPT-2 and
Gemma 3. Some do not listen: OPT, BLOOM, Mamba (transformers 5.23, random weights). So `check_apart`
tries it on the model at hand, and refuses. sdpa masks a pack of L tokens with L x L booleans and
computes all of them: packing is made for flash attention. No GPU was measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm
from transformers import PrinterCallback, TrainerCallback
from trl import RewardConfig as TRLRewardConfig
from trl import RewardTrainer as TRLRewardTrainer
from trl import SFTConfig as TRLSFTConfig
from trl import SFTTrainer as TRLSFTTrainer

from r1lab import sft
from r1lab.basics import files, quiet
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines, truncate_lines
from r1lab.machine.device import arithmetic, precision_on
from r1lab.reward_model import Pair, RewardModelConfig, text_ids
from r1lab.sampler.score import max_positions
from r1lab.sft import Example, SFTConfig, batch_at, steps_of
from r1lab.training import signals
from r1lab.training.checkpoints import fingerprint
from r1lab.training.loop import ON_DISK
from r1lab.training.signals import Stopped
from r1lab.trl_backend import folders, process
from r1lab.trl_backend.mapping import Row
from r1lab.trl_backend.trainer import OwnRate, on_one_gpu, put_back, without_cudnn_attention
from r1lab.trl_backend.watch import local

MAPPING = (
    Row("epochs, batch_size", "max_steps", "steps of our epochs, laid out as one of Trainer's"),
    Row("learning_rate", "learning_rate, optim='adamw_torch'", "weight decay 0, as everywhere"),
    Row("final_rate, warmup_steps", "a schedule of our own", "sft.learning_rate, step by step"),
    Row("beta1, beta2", "adam_beta1, adam_beta2", "0.9, 0.95; of a reward model too"),
    Row("max_grad_norm", "max_grad_norm", "0: never, in both"),
    Row("template, max_tokens", "skip_prepare_dataset, max_length=None", "we tokenize, leave out"),
    Row("seed", "train_sampling_strategy='sequential'", "the order is drawn already"),
    Row(
        "micro_batch_tokens",
        "per_device_train_batch_size, gradient_accumulation_steps",
        "TRL counts rows: as many as fit when every example is as long as the longest; with "
        "packing a row is a pack of so many tokens",
    ),
    Row("precision", "bf16", "autocast on float32 weights in both; auto: on a GPU that has it"),
    Row("checkpoint_every, keep_checkpoints", "save_strategy='no'", "we say when, and seal them"),
    Row("(nothing)", "logging_nan_inf_filter=False", "Trainer would hide a loss that is NaN"),
)


# --- a run as one epoch --------------------------------------------------------------------------


class Layout(NamedTuple):
    """A run as Trainer's one epoch: `passes` a step, by all processes, of `rows` items each."""

    rows: int
    passes: int
    items: list[tuple[int, ...]]  # the examples of each item, as indices; () is a blank


def lay_out(
    batches: Sequence[Sequence[int]],
    sizes: Sequence[int],
    tokens: int,
    processes: int = 1,
    packing: bool = False,
) -> Layout:
    """batches: of each step, the indices of its examples. sizes: tokens of each example. tokens: of
    a pass, padding included; one example may be longer."""
    if packing:
        steps = [pack(batch, sizes, tokens) for batch in batches]
        passes = math.ceil(max(map(len, steps)) / processes) * processes
        rows = 1
    else:
        steps = [[(i,) for i in sorted(batch, key=lambda i: -sizes[i])] for batch in batches]
        most, widest = max(1, tokens // max(sizes)), max(map(len, steps))
        passes = math.ceil(widest / (most * processes)) * processes
        rows = math.ceil(widest / passes)
    items = [one for step in steps for one in [*step, *[()] * (rows * passes - len(step))]]
    return Layout(rows, passes, items)


def pack(batch: Sequence[int], sizes: Sequence[int], tokens: int) -> list[tuple[int, ...]]:
    """The examples of a batch in packs of at most so many tokens, or of one example: the longest
    first, each into the first pack with room for it."""
    packs: list[list[int]] = []
    for i in sorted(batch, key=lambda i: -sizes[i]):
        fits = (one for one in packs if sum(sizes[j] for j in one) + sizes[i] <= tokens)
        one = next(fits, None)
        if one is None:
            packs.append(one := [])
        one.append(i)
    return [tuple(one) for one in packs]


def in_order(layout: Layout, columns: Callable[[tuple[int, ...]], dict[str, Any]]) -> Dataset:
    """The data set of a layout; what is shown twice is kept once. columns: of an item."""
    distinct = {one: n for n, one in enumerate(dict.fromkeys(layout.items))}
    kept = Dataset.from_list([columns(one) for one in distinct])
    return kept.select([distinct[one] for one in layout.items])


def options(
    config: Any, layout: Layout, out_dir: str | os.PathLike, **given: Any
) -> dict[str, Any]:
    """The keywords that TRL's two configurations share. given: those that only one has."""
    state = PartialState()
    precision = getattr(config, "precision", "auto")
    return given | {
        "max_steps": len(layout.items) // (layout.rows * layout.passes),
        "per_device_train_batch_size": layout.rows,
        "gradient_accumulation_steps": layout.passes // state.num_processes,
        "train_sampling_strategy": "sequential",
        "max_length": None,
        "optim": "adamw_torch",
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",  # in name: `OwnRate` sets the rate of each step
        "adam_beta1": getattr(config, "beta1", 0.9),
        "adam_beta2": getattr(config, "beta2", 0.95),
        "weight_decay": 0.0,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "use_cpu": state.device.type == "cpu",
        "bf16": precision_on(state.device, precision) == "bf16",
        "output_dir": str(Path(out_dir) / "checkpoints"),
        "save_strategy": "no",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "ddp_find_unused_parameters": False,  # every weight has a part in every token
        "report_to": [],
        "disable_tqdm": True,
    }


# --- the trainers --------------------------------------------------------------------------------


class SFTTrainer(OwnRate, TRLSFTTrainer):
    """TRL's, with our learning rate, and with the mean over all answer tokens of a step whatever
    the model's signature."""

    run: SFTConfig

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = True  # else Trainer does not count the step's tokens

    def rate(self, update: int) -> float:
        steps = self.args.max_steps  # the schedule is asked once more after the last step
        run = dataclasses.replace(self.run, learning_rate=1.0)
        return sft.learning_rate(min(update, steps - 1), steps, run)


class RewardTrainer(OwnRate, TRLRewardTrainer):
    """TRL's, with our learning rate, which is constant, and with the mean over the pairs of a step.

    TRL takes the mean of each pass, then of the passes. A blank pair, the end of the text against
    itself, adds log 2 to the loss and nothing to the gradient.
    """

    pairs: Callable[[int], int]  # of a step

    def rate(self, update: int) -> float:
        return 1.0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = found[0] if return_outputs else found
        lengths = inputs["attention_mask"].sum(1)[: len(inputs["input_ids"]) // 2]  # of the chosen
        total = loss * len(lengths) - math.log(2) * (lengths == 1).sum()
        passes = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        loss = total * passes / self.pairs(self.state.global_step)
        return (loss, found[1]) if return_outputs else loss


class Watch(TrainerCallback):
    """Sees every step's log; stops before a broken gradient reaches the weights. The history is the
    main process's.

    measure(step, log): the metrics of a step, from TRL's log of it.
    """

    def __init__(self, measure: Callable[[int, dict], dict[str, Any]], callbacks: Sequence = ()):
        self.measure, self.callbacks = measure, callbacks
        self.history: list[dict[str, Any]] = []
        self.bar: Any = None

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.perf_counter()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        grads = [local(w.grad) for w in model.parameters() if w.grad is not None]
        if not torch.stack([grad.isfinite().all() for grad in grads]).all():
            raise R1LabError(
                f"step {state.global_step}: a gradient that is not finite. Training stopped before "
                "the weights changed; lower learning_rate"
            )

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "grad_norm" not in logs:  # the summary at the end
            return
        step = state.global_step - 1
        if not math.isfinite(logs["loss"]):
            raise R1LabError(f"step {step}: the loss is {logs['loss']}; lower learning_rate")
        if PartialState().is_main_process:
            self.log(step, self.measure(step, logs))

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        self.history.append(metrics)
        if self.bar is not None:
            self.bar.set_postfix_str(f"loss {metrics['loss']:.3f}")
            self.bar.update()
        for callback in self.callbacks:
            callback(step, metrics)


class Keeper(Watch):
    """A Watch that also keeps the run's files: metrics.jsonl, and Trainer's checkpoints, sealed."""

    def __init__(self, measure, callbacks, config: SFTConfig, out_dir: Path, run: dict[str, Any]):
        super().__init__(measure, callbacks)
        self.config, self.out_dir, self.run = config, out_dir, run
        self.base, self.trainer = "", None
        self.asked: list[str] = []  # stop signals that this process has got
        self.stopped: str | None = None  # the one that all agree on

    def log(self, step, metrics):
        metrics["seconds"] = time.perf_counter() - self.began
        append_lines(self.out_dir / "metrics.jsonl", [metrics])
        super().log(step, metrics)

    def on_step_end(self, args, state, control, **kwargs):
        done, last = state.global_step, state.global_step == state.max_steps
        self.stopped = next(iter(gather_object(list(self.asked))), None)
        stop = self.stopped is not None and not last
        control.should_save = done % self.config.checkpoint_every == 0 or last or stop
        control.should_training_stop |= stop
        return control

    def on_save(self, args, state, control, **kwargs):
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            about = {"step": state.global_step, "base": self.base, "run": self.run}
            about["now"] = folders.fingerprint_of(self.trainer)
            folders.seal_newest(folder, about, self.config.keep_checkpoints)
        PartialState().wait_for_everyone()


@contextlib.contextmanager
def lent(model, tokenizer):
    """Model and tokenizer to TRL, for the time of a block: in float32, without dropout. They come
    back trained and otherwise as they were: without TRL's forward, with their own padding token."""
    model.float()  # AdamW's small steps are lost in bfloat16 weights
    forward, pad = model.__dict__.get("forward"), tokenizer.pad_token
    recomputes = model.is_activation_checkpointing
    configs = [model.config.get_text_config(), getattr(model, "generation_config", None)]
    pads = [(one, one.pad_token_id) for one in configs if one is not None]
    chances = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, float)
        and ("drop" in name or (name == "p" and isinstance(module, torch.nn.Dropout)))
    ]
    for module, name, _ in chances:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        put_back(model, None, forward, None)
        if model.is_activation_checkpointing and not recomputes:
            model.activation_checkpointing_disable()
        tokenizer.pad_token = pad
        for one, value in pads:
            one.pad_token_id = value
        for module, name, value in chances:
            setattr(module, name, value)


@contextlib.contextmanager
def quietly():
    """Without TRL's advice against padding-free passes of one row, which here is a whole pack."""
    trl = logging.getLogger("trl.trainer.sft_trainer")
    level = trl.level
    trl.setLevel(logging.ERROR)
    try:
        with quiet.quiet_bars():
            yield
    finally:
        trl.setLevel(level)


def known(config: Any, kind: type) -> None:
    if type(config) is not kind:
        raise R1LabError(
            f"this stage is configured by {kind.__name__}, not {type(config).__name__}"
        )


# --- supervised fine-tuning ----------------------------------------------------------------------


def sft_item(rows: Sequence[tuple[list[int], list[int]]], eos: int) -> Callable:
    """The columns of an item for TRL: token ids, labels (-100: read and not learned), and the
    length of each example in it. rows: (prompt ids, completion ids with EOS)."""

    def columns(one: tuple[int, ...]) -> dict[str, list[int]]:
        if not one:
            return {"input_ids": [eos] * 2, "labels": [-100] * 2, "seq_lengths": [2]}
        texts = [rows[i] for i in one]
        return {
            "input_ids": [t for prompt, answer in texts for t in (*prompt, *answer)],
            "labels": [t for prompt, answer in texts for t in (*[-100] * len(prompt), *answer)],
            "seq_lengths": [len(prompt) + len(answer) for prompt, answer in texts],
        }

    return columns


def sft_trainer(
    model,
    tokenizer,
    rows: Sequence[tuple[list[int], list[int]]],
    config: SFTConfig,
    out_dir: str | os.PathLike,
    watch: Watch,
    *,
    packing: bool = False,
    gradient_checkpointing: bool = False,
) -> SFTTrainer:
    """TRL's trainer for the run on these rows. Raises R1LabError where packing would let examples
    see each other."""
    batches = [batch_at(step, len(rows), config) for step in range(steps_of(len(rows), config))]
    sizes = [len(prompt) + len(answer) for prompt, answer in rows]
    layout = lay_out(
        *(batches, sizes, config.micro_batch_tokens, PartialState().num_processes, packing)
    )
    given = options(
        config,
        layout,
        out_dir,
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=packing,
        gradient_checkpointing=gradient_checkpointing,
    )
    with quietly():
        trainer = SFTTrainer(
            model=model,
            args=on_one_gpu(TRLSFTConfig(**given)),
            processing_class=tokenizer,
            train_dataset=in_order(layout, sft_item(rows, tokenizer.eos_token_id)),
            callbacks=[watch],
        )
    trainer.run = config
    trainer.remove_callback(PrinterCallback)
    if packing:
        check_apart(trainer, sorted(rows, key=lambda row: len(row[0]) + len(row[1]))[:2])
    return trainer


@torch.no_grad()
def check_apart(trainer: SFTTrainer, rows: Sequence[tuple[list[int], list[int]]]) -> None:
    """R1LabError where a packed example sees the one before it: two are packed, every token of the
    first is changed, and the second one's log-probs must stay as they are.

    rows: two, (prompt ids, completion ids).
    """
    first, second = ([*prompt, *answer] for prompt, answer in (rows[0], rows[-1]))
    vocabulary = trainer.model.get_input_embeddings().weight.shape[0]
    found = []
    for before in (first, [(token + 1) % vocabulary for token in first]):
        pair = {"input_ids": [*before, *second], "seq_lengths": [len(first), len(second)]}
        inputs = trainer._prepare_inputs(trainer.data_collator([pair]))
        try:
            with arithmetic(trainer.model, trainer.run):
                out = trainer.model(**inputs, use_cache=False, fused_lm_head=True)
        except (TypeError, ValueError) as error:  # no such arguments, or "cannot keep them apart"
            raise R1LabError(
                f"packing: this model cannot be packed ({error}); leave it off"
            ) from None
        found.append(out.log_probs[0, len(first) :])
    apart = float((found[0] - found[1]).abs().max())
    if not apart < 1e-5:
        raise R1LabError(
            f"packing: {type(trainer.model).__name__} (attention: "
            f"{trainer.model.config._attn_implementation}) lets a packed example see the one "
            f"before it: with the other's tokens its log-probs changed by {apart:.2g}. Leave "
            "packing off, or load the model with attn_implementation='flash_attention_2'"
        )


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
    device: str | None = None,
    packing: bool = False,
    gradient_checkpointing: bool = False,
) -> list[dict[str, Any]]:
    """`r1lab.sft.train` on TRL: the model is trained in place; returns the metrics of every step.

    The same configuration, the same files in out_dir, the same names in metrics.jsonl, resumed by
    the same call, to the same bits on a CPU. Started by `accelerate launch`, all processes call it;
    files, callbacks and the history that is returned are the main process's (others get []).

    device: "cpu", "cuda", or None for a GPU where there is one (`trl_backend.settle`).
    packing: rows without padding, where the model keeps packed examples apart.
    gradient_checkpointing: activations are computed twice and not kept.

    Raises Stopped after a stop signal, when all is saved, and R1LabError when there is no example
    that fits, for another run's checkpoint, for a gradient that is not finite, for packing that
    would leak, for a full disk and for too little memory.
    """
    known(config, SFTConfig)
    out_dir, state = Path(out_dir), process.settle(device)
    main = state.is_main_process
    if not resume and main:
        files.set_aside(out_dir, ON_DISK)
    state.wait_for_everyone()
    rows = sft.fitting(examples, tokenizer, config, max_positions(model))
    steps = steps_of(len(rows), config)

    def measure(step: int, log: dict[str, float]) -> dict[str, Any]:
        metrics = {"step": step, "loss": log["loss"], "grad_norm": log["grad_norm"]}
        batch = batch_at(step, len(rows), config)
        metrics |= {"lr": log["learning_rate"], "tokens": sum(len(rows[i][1]) for i in batch)}
        return metrics | {"epoch": (step + 1) * config.epochs / steps}

    run = sft.identity(config, rows, precision_on(state.device, config.precision)) | {
        "packing": packing
    }
    watch = Keeper(measure, callbacks, config, out_dir, run)
    watch.base, folder, first = fingerprint(model), None, 0
    found = process.main_decides(
        lambda: folders.latest_of_run(out_dir, model, lambda step: run, steps)
    )
    if found is not None:
        folder, first, watch.base = str(found[0]), found[1]["step"], found[1]["base"]
    if main:
        watch.history = truncate_lines(out_dir / "metrics.jsonl", first)
    without_cudnn_attention()
    with (
        quiet.quiet_bars(),
        signals.stop_signals() as watch.asked,
        signals.memory_errors(config.micro_batch_tokens),
        process.disk_errors(out_dir),
        logging_redirect_tqdm() if progress else nullcontext(),
    ):
        process.patient(watch.asked)
        with (
            lent(model, tokenizer),
            tqdm(
                total=steps, initial=first, disable=not (progress and main), desc="sft"
            ) as watch.bar,
        ):
            watch.trainer = trainer = sft_trainer(
                *(model, tokenizer, rows, config, out_dir, watch),
                packing=packing,
                gradient_checkpointing=gradient_checkpointing,
            )
            trainer.train(resume_from_checkpoint=folder)
        done = trainer.state.global_step
        if watch.stopped and done < steps:
            raise Stopped.after(watch.stopped, done, steps, out_dir)
        folders.save_model(trainer, out_dir / "model")
    return watch.history


# --- reward models -------------------------------------------------------------------------------


def reward_trainer(
    model,
    tokenizer,
    texts: tuple[Sequence[list[int]], Sequence[list[int]]],
    config: RewardModelConfig,
    out_dir: str | os.PathLike,
    watch: Watch,
    *,
    gradient_checkpointing: bool = False,
) -> RewardTrainer:
    """TRL's trainer for the run on these texts: token ids of the chosen and the rejected, each with
    EOS at its end.

    The score is read at the rightmost token that is not the padding token. So another than EOS must
    pad; any will do, for every text ends in EOS. `lent` gives the tokenizer its own back.
    """
    chosen, rejected = texts
    eos = tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0 if eos != 0 else 1)
    steps = steps_of(len(chosen), config)
    batches = [batch_at(step, len(chosen), config) for step in range(steps)]
    sizes = [2 * max(len(a), len(b)) for a, b in zip(chosen, rejected, strict=True)]
    layout = lay_out(batches, sizes, config.micro_batch_tokens, PartialState().num_processes)

    def columns(one: tuple[int, ...]) -> dict[str, list[int]]:
        if not one:
            return {"chosen_ids": [eos], "rejected_ids": [eos]}
        return {"chosen_ids": chosen[one[0]], "rejected_ids": rejected[one[0]]}

    given = options(config, layout, out_dir, gradient_checkpointing=gradient_checkpointing)
    with quietly():
        trainer = RewardTrainer(
            model=model,
            args=on_one_gpu(TRLRewardConfig(**given)),
            processing_class=tokenizer,
            train_dataset=in_order(layout, columns),
            callbacks=[watch],
        )
    trainer.pairs = lambda step: len(batches[step])
    trainer.remove_callback(PrinterCallback)
    return trainer


def reward_train(
    model,
    tokenizer,
    judgements: Sequence[Pair],
    config: RewardModelConfig,
    out_dir: str | os.PathLike,
    *,
    progress: bool = True,
    device: str | None = None,
    gradient_checkpointing: bool = False,
) -> list[dict[str, float]]:
    """`r1lab.reward_model.train` on TRL, for pairs: a model of `reward_model.from_base` is trained
    in place and saved in out_dir; returns the metrics of every step. Short, so not resumable: it is
    made whole or not at all. Started by `accelerate launch`, all processes call it. device: as for
    `sft_train`.

    Raises R1LabError for Marked answers, which RewardTrainer cannot learn from, when there is
    nothing to train on, for a gradient that is not finite, and for too little memory.
    """
    known(config, RewardModelConfig)
    if not judgements:
        raise R1LabError("a reward model needs judgements to learn from: there are none")
    if not all(isinstance(one, Pair) for one in judgements):
        raise R1LabError(
            "TRL's RewardTrainer learns from pairs; marked answers (safety) are for "
            "r1lab.reward_model.train"
        )
    state = process.settle(device)
    problems = [one.problem for one in judgements]
    how = {"template": config.template, "kind": "helpful"}
    texts = tuple(
        text_ids(tokenizer, problems, [getattr(one, side) for one in judgements], **how)
        for side in ("chosen", "rejected")
    )
    steps = steps_of(len(judgements), config)

    def measure(step: int, log: dict[str, float]) -> dict[str, Any]:
        slots = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
        share = slots * state.num_processes / trainer.pairs(step)  # blanks are never right
        return {"step": step, "loss": log["loss"], "accuracy": log["accuracy"] * share}

    watch = Watch(measure)
    hide = not (progress and state.is_main_process)
    without_cudnn_attention()
    with (
        tempfile.TemporaryDirectory() as scratch,
        quiet.quiet_bars(),
        signals.memory_errors(config.micro_batch_tokens),
    ):
        with lent(model, tokenizer), tqdm(total=steps, desc="helpful", disable=hide) as watch.bar:
            trainer = reward_trainer(
                *(model, tokenizer, texts, config, scratch, watch),
                gradient_checkpointing=gradient_checkpointing,
            )
            trainer.train()
        folders.save_model(trainer, Path(out_dir))
    return watch.history

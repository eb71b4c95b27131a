"""What every run on TRL does around its steps: NaN checks, metrics, stop signals, checkpoints."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm
from transformers import TrainerCallback

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines
from r1lab.basics.quiet import quiet_bars
from r1lab.machine import energy
from r1lab.training import records, signals
from r1lab.training.checkpoints import fingerprint
from r1lab.training.loop import MODEL, ON_DISK, history_of, one_run, set_aside_finished, tell
from r1lab.training.metrics import spent_in
from r1lab.training.signals import Stopped
from r1lab.trl_backend.folders import fingerprint_of, latest_of_run, seal_newest
from r1lab.trl_backend.process import disk_errors, main_decides, patient


class Watch(TrainerCallback):
    """Stops before a NaN reaches the weights, writes the run's files on the main process, and stops
    all processes at the same step. A step of ours is `updates` optimizer steps of TRL's."""

    batch: Any = None  # the step's data, where callbacks want it
    over: str | None = None  # words: the budget is used up
    on_disk: Sequence[str] = ON_DISK  # files of a run
    seal: dict[str, Any] = {}  # of the checkpoint that the run is resumed from
    first = saved = 0  # steps done when this process began, and in the last checkpoint
    trainer: Any = None
    bar: Any = None
    parents: dict[str, Any] = {}  # of the model's record: what it was made from
    gauge: energy.Gauge | None = None
    base = ""  # fingerprint of the model that the run began with
    stopped: str | None = None  # the stop signal that all processes agree on

    def __init__(self, config, out_dir: Path, steps: int, names: Callable, callbacks=(), updates=1):
        """names(step): the run's identity, for `latest_of_run`. A config without checkpoint_every
        means that the run keeps no files."""
        self.config, self.out_dir, self.steps, self.names = config, out_dir, steps, names
        self.callbacks, self.updates = callbacks, updates
        self.every = getattr(config, "checkpoint_every", None)
        self.asked: list[str] = []  # stop signals that this process has got
        self.history: list[dict[str, Any]] = []
        self.logs: list[dict[str, float]] = []  # TRL's, of this step's updates

    @property
    def main(self) -> bool:
        return PartialState().is_main_process

    @property
    def step(self) -> int:
        """The current step."""
        return self.trainer.state.global_step // self.updates

    # -- before and after

    @contextlib.contextmanager
    def running(self, model, progress: bool, resume: bool = True, unit: str = "step"):
        """The context of a run, which locks its folder, collects stop signals, explains a full disk
        or memory, and shows a progress bar. Yields the checkpoint folder to resume from, or None.
        Raises R1LabError for another run's folder, and for one that another process works in."""
        show, folder, self.entered = progress and self.main, None, time.perf_counter()
        with contextlib.ExitStack() as stack:
            self.gauge = stack.enter_context(energy.Gauge())
            if self.every:
                main_decides(lambda: stack.enter_context(one_run(self.out_dir)))
                if not resume and self.main:
                    files.set_aside(self.out_dir, self.on_disk)
                folder = self.go_on(model)
                if self.main:
                    tell(self.out_dir, "trl", self.steps, self.config)
                self.asked = stack.enter_context(signals.stop_signals())
                patient(self.asked)
            stack.enter_context(quiet_bars())
            stack.enter_context(signals.memory_errors(self.config.micro_batch_tokens))
            stack.enter_context(disk_errors(self.out_dir))
            if progress:
                stack.enter_context(logging_redirect_tqdm())
            bar = {"total": self.steps, "initial": self.first, "disable": not show, "unit": unit}
            self.bar = stack.enter_context(tqdm(**bar))
            yield folder

    def go_on(self, model) -> str | None:
        """Find the run's newest whole checkpoint, and read the metrics up to there."""
        self.base = fingerprint(model)
        self.parents = records.origin(model, self.out_dir / MODEL) if self.main else {}
        found = main_decides(lambda: latest_of_run(self.out_dir, model, self.names, self.steps))
        if found is not None:
            folder, self.seal = found
            self.first = self.saved = self.seal["step"]
            self.base = self.seal["base"]
            self.parents = self.seal.get("from", self.parents)
        elif self.main:
            set_aside_finished(self.out_dir, self.on_disk)
        if self.main:
            self.history = history_of(self.out_dir, self.first)
        return None if found is None else str(folder)

    def ended(self) -> None:
        """Raises Stopped where a signal ended the run before its last step."""
        if self.stopped and self.step < self.steps:
            raise Stopped.after(self.stopped, self.step, self.steps, self.out_dir)

    # -- what a kind of run adds

    def measure(self, step: int, logs: Sequence[dict[str, float]]) -> dict[str, Any]:
        """The metrics of a step."""
        raise NotImplementedError

    def step_begins(self) -> None: ...
    def step_ends(self) -> None: ...
    def sealed(self) -> None: ...

    def words(self, metrics: dict[str, Any]) -> str:
        return f"loss {metrics['loss']:.3f}"

    def about(self) -> dict[str, Any]:
        """What a checkpoint's seal says of it."""
        names = {"step": self.step, "base": self.base, "now": fingerprint_of(self.trainer)}
        names |= {"from": self.parents, "processes": PartialState().num_processes}
        return names | {"run": self.names(self.step)}

    def recorded(self, what: str, whole: Path) -> Callable[[Path], None]:
        """Writes the record of the model that the run leaves in `whole`, into a folder that will
        have that name. Call it inside `running`, or after it."""
        tokens = sum(metrics.get("tokens", 0) for metrics in self.history) or None
        seconds = spent_in(self.history) or time.perf_counter() - self.entered
        config = self.names(self.steps) or dataclasses.asdict(self.config)
        spent = records.cost(seconds, tokens, self.gauge)
        record = records.new(what, records.name_of(whole), self.parents, config, spent)
        return lambda folder: records.write(folder, record | {"backend": "trl"}, whole)

    def fail(self, step: int, words: str) -> None:
        raise R1LabError(
            f"step {step} has {words}. Training stopped; the last checkpoint, of {self.saved} "
            "steps, is from before. Usual reason: a learning rate too high"
        )

    # -- TRL calls these, in this order

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % self.updates == 0:
            self.began, self.logs = time.perf_counter(), []
            self.step_begins()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if not finite(w.grad for w in self.trainer.model.parameters() if w.grad is not None):
            self.fail(self.step, "a gradient that is not finite")

    def on_step_end(self, args, state, control, **kwargs):
        if not finite(w for w in self.trainer.model.parameters() if w.requires_grad):
            words = "weights that are not finite after the optimizer's step"
            self.fail((state.global_step - 1) // self.updates, words)
        if state.global_step % self.updates:
            return control
        self.step_ends()
        told = gather_object([(list(self.asked), self.over)])  # all must stop at the same step
        self.stopped = next((asked[0] for asked, _ in told if asked), None)
        self.over = self.over or next((over for _, over in told if over), None)
        last = self.step == self.steps
        stop = bool(self.stopped or self.over) and not last
        if self.every:
            control.should_save = self.step % self.every == 0 or last or stop
        control.should_training_stop |= stop
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "grad_norm" not in logs:  # the summary at the end
            return
        self.logs.append(dict(logs))
        if not math.isfinite(logs["loss"]):
            self.fail((state.global_step - 1) // self.updates, f"loss {logs['loss']}")
        if state.global_step % self.updates or not self.main:
            return
        step = self.step - 1
        metrics = self.measure(step, self.logs)
        self.history.append(metrics)
        if self.every:
            append_lines(self.out_dir / "metrics.jsonl", [metrics])
        self.bar.set_postfix_str(self.words(metrics))
        self.bar.update()
        for callback in self.callbacks:
            callback(step, metrics, *([] if self.batch is None else [self.batch]))

    def on_save(self, args, state, control, **kwargs):
        """Seal the folder that Trainer has written, and delete those that are too old."""
        PartialState().wait_for_everyone()
        if self.main:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            seal_newest(folder, self.about(), self.config.keep_checkpoints)
            self.sealed()
        self.saved = self.step
        PartialState().wait_for_everyone()


def finite(tensors) -> bool:
    """Whether all values of this process's parts are finite."""
    return all([local(tensor).isfinite().all() for tensor in tensors])


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that FSDP2 or ZeRO-3 shards; else the tensor."""
    if hasattr(tensor, "to_local"):
        return tensor.to_local().detach()
    return getattr(tensor, "ds_tensor", tensor).detach()


def local_probe(model) -> torch.Tensor:
    """As checkpoints.probe, of this process's part of the weights."""
    return torch.cat([local(p).flatten()[:1024].double().cpu() for p in model.parameters()])

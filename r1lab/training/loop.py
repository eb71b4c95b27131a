"""The loop around the steps of a run: it resumes, logs, saves, shows progress and stops.

    loop = Loop(out_dir, config)
    with loop.over(steps, {"model": model, "optimizer": optimizer}, identity) as left:
        for step in left:                       # the first step that is not done yet, and on
            ...                                 # what this training is about
            loop.log({"step": step, "loss": loss}, f"loss {loss:.3f}")
        loop.save_model(model, tokenizer)

A run killed at any moment goes on with the same call. A checkpoint holds the parts of the run;
metrics logged after it are dropped, since their steps are repeated. On a CPU with the same number
of threads the result has the same bits as without the stop, because everything random in a step is
a function of the step's number.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm

from r1lab import models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.machine import costs, energy, room
from r1lab.training import checkpoints, records, signals
from r1lab.training.metrics import metrics_of, spent_in

log = logging.getLogger(__name__)
METRICS, SAMPLES, CHECKPOINTS, MODEL = "metrics.jsonl", "samples.jsonl", "checkpoints", "model"
ABOUT, GROUPS = "about.json", "groups.jsonl"  # for `r1lab watch`; of a `show.Recorder`
ON_DISK = (METRICS, SAMPLES, GROUPS, ABOUT, "nan_batch.json", CHECKPOINTS, MODEL)
LOCK = ".lock"


class Loop:
    """The steps of one run. out_dir: its folder, or None for a run that keeps nothing. config:
    checkpoint_every, keep_checkpoints and micro_batch_tokens, where it has them. resume: False
    moves an earlier run to out_dir/earlier-<n>. label: what the run is, if not GRPO. saved: steps
    in the newest checkpoint. history: the metrics of all steps."""

    def __init__(
        self, out_dir: str | os.PathLike | None, config, *, resume=True, progress=True, label=""
    ):
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.config, self.resume, self.progress, self.label = config, resume, progress, label
        self.entered, self.earlier, self.began = time.perf_counter(), 0.0, 0.0
        self.history: list[dict[str, Any]] = []
        self.saved = 0
        self.origin: dict[str, Any] = {}
        self.config_of: dict[str, Any] = {}
        self.gauge: energy.Gauge | None = None

    @contextmanager
    def over(
        self, steps: int, parts: Mapping, identity: Callable[[int], dict] = lambda done: {}
    ) -> Iterator[Iterator[int]]:
        """The numbers of the remaining steps, the parts restored from the newest checkpoint.

        parts: what a checkpoint holds ("model" and whatever else has a state_dict; None is left
        out). identity(done): what a run of `done` steps must share with its continuation, by name.
        Raises R1LabError for another run's folder, one that another process uses, a full disk and
        too little memory; Stopped, when all is saved, after Ctrl-C or SIGTERM.
        """
        parts = {name: part for name, part in parts.items() if part is not None}
        limit = getattr(self.config, "micro_batch_tokens", None)
        bar = {"disable": not self.progress, "unit": "step", "desc": self.label}
        with ExitStack() as stack:
            self.gauge = stack.enter_context(energy.Gauge())
            asked: list[str] = []
            first, state = 0, None
            if self.out_dir is not None:
                stack.enter_context(one_run(self.out_dir))
                self.origin = records.origin(parts["model"], self.out_dir / MODEL)
                state = self._resume(steps, parts, identity)
                first = self.saved
                tell(self.out_dir, self.label or "grpo", steps, self.config)
                asked = stack.enter_context(signals.stop_signals())
            stack.enter_context(signals.memory_errors(limit))
            stack.enter_context(logging_redirect_tqdm() if self.progress else nullcontext())
            self.bar = stack.enter_context(tqdm(total=steps, initial=first, **bar))
            base = state["base"] if state else checkpoints.fingerprint(parts["model"])
            self.origin = state.get("from", self.origin) if state else self.origin
            self.config_of = identity(steps)

            def left() -> Iterator[int]:
                for step in range(first, steps):
                    self.began = time.perf_counter()
                    yield step
                    if self.out_dir is None:
                        continue
                    done = step + 1
                    if done == steps or asked or done % self.config.checkpoint_every == 0:
                        about = {"step": done, "base": base, "run": identity(done)}
                        about["from"] = self.origin
                        keep = getattr(self.config, "keep_checkpoints", 2)
                        state = about | checkpoints.snapshot(parts)
                        checkpoints.save(self.out_dir / CHECKPOINTS, done, state, keep)
                        self.saved = done
                    if asked and done < steps:
                        raise signals.Stopped.after(asked[0], done, steps, self.out_dir)

            yield left()

    def _resume(self, steps, parts, identity) -> dict[str, Any] | None:
        """Restore the parts from the newest checkpoint, and truncate the logs to its step."""
        out_dir = self.out_dir
        if not self.resume:
            files.set_aside(out_dir, ON_DISK)
        state = checkpoints.latest_of_run(out_dir, parts, identity, steps)
        if state is not None:
            checkpoints.restore(state, parts)
            self.saved = state["step"]
        else:
            set_aside_finished(out_dir, ON_DISK)
        self.earlier = spent_in(metrics_of(out_dir))  # lost steps included: they took their time
        self.history = history_of(out_dir, self.saved)
        return state

    def seconds(self) -> float:
        """Since this step began."""
        return time.perf_counter() - self.began

    def spent(self) -> float:
        """Seconds since the run began, with those of the processes before this one."""
        return self.earlier + time.perf_counter() - self.entered

    def pace(self, tokens: int, sampled: float) -> dict[str, float]:
        return pace(tokens, sampled, self.seconds(), self.spent())

    def log(self, metrics: dict[str, Any], words: str, samples: Sequence[dict] = ()) -> None:
        """The metrics of a step, on disk when this returns; words: for the progress bar."""
        self.history.append(metrics)
        if self.out_dir is not None:
            files.append_lines(self.out_dir / METRICS, [metrics])
            if samples:
                files.append_lines(self.out_dir / SAMPLES, samples)
        self.bar.set_postfix_str(words)
        self.bar.update()

    def save_model(self, model, tokenizer) -> None:
        """The trained model as a Hugging Face folder, out_dir/model, with its record."""
        whole = self.out_dir / MODEL
        with files.atomic_dir(whole) as folder:
            models.save(model, tokenizer, folder)
            name, what = records.name_of(whole), self.label or "grpo"
            record = records.new(what, name, self.origin, self.config_of, self.cost())
            records.write(folder, record, whole)

    def cost(self) -> dict[str, Any]:
        """What the run has cost until now (`records.cost`); what is resumed counts once."""
        tokens = sum(metrics.get("tokens", 0) for metrics in self.history)
        return records.cost(self.spent(), tokens or None, self.gauge)

    def clear(self) -> None:
        """Delete checkpoints and metrics of this run, and its folder if it is empty then."""
        ours = [self.out_dir / name for name in (METRICS, LOCK, ABOUT)]
        for path in [*(self.out_dir / CHECKPOINTS).glob("step-*"), *ours]:
            path.unlink(missing_ok=True)
        for folder in (self.out_dir / CHECKPOINTS, self.out_dir):
            with suppress(OSError):
                folder.rmdir()


def pace(tokens: int, sampled: float, seconds: float, spent: float) -> dict[str, float]:
    """Where a step's `seconds` went: `sampled` until its `tokens` were there; spent: of the run."""
    return {
        "sample_seconds": sampled,
        "train_seconds": seconds - sampled,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "spent_seconds": spent,
        "memory": room.gibibytes_held(),
    }


def tell(out_dir: Path, what: str, steps: int, config: Any) -> None:
    """Write about.json, from which `r1lab watch` knows a run before its first step: what it is, its
    steps, its options, and what this machine costs by the price table."""
    plain = getattr(config, "to_json", lambda: dict(vars(config)))()
    about = {"what": what, "steps": steps, "dollars_per_hour": costs.price_here(), "config": plain}
    files.atomic_write_text(out_dir / ABOUT, files.to_json(about, indent=1, default=str) + "\n")


@contextmanager
def one_run(out_dir: str | os.PathLike, lock: str = LOCK) -> Iterator[None]:
    """Holds the folder of a run for this process, and clears half-written files of a killed one.
    Raises R1LabError while another process, or another run in this one, holds it."""
    out_dir = Path(out_dir)
    with files.readable_errors(out_dir / lock):
        out_dir.mkdir(parents=True, exist_ok=True)
        held = FileLock(out_dir / lock)
        try:
            held.acquire(blocking=False)
        except Timeout:
            words = "wait for its end, or choose another folder"
            raise R1LabError(f"another run is working in {out_dir}: {words}") from None
    try:
        for folder in (out_dir, out_dir / CHECKPOINTS):
            files.clear_unfinished(folder)
        yield
    finally:
        held.release()


def set_aside_finished(out_dir: Path, names: Sequence[str]) -> None:
    """A new run moves a finished one, whose checkpoints were deleted, to earlier-<n>."""
    if all((out_dir / name).exists() for name in (METRICS, MODEL)):
        aside = files.set_aside(out_dir, names)
        log.warning("%s held a finished run without checkpoints: it is in %s now", out_dir, aside)


def history_of(out_dir: Path, done: int) -> list[dict[str, Any]]:
    """The metrics of the steps before `done`; later ones are deleted, of completions too. Missing
    ones are named in the log."""
    history = files.truncate_lines(out_dir / METRICS, done, once=True)
    for name in (SAMPLES, GROUPS):
        files.truncate_lines(out_dir / name, done)
    if missing := sorted(set(range(done)) - {metrics["step"] for metrics in history}):
        steps = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        log.warning(
            "%s has no metrics of %d of %d steps (%s): they are lost, the checkpoint is whole",
            *(out_dir / METRICS, len(missing), done, steps),
        )
    return history

"""A run that can be stopped anywhere: whole files, checkpoints, log lines, and signals.

R1-Zero trained for 10,400 steps on 512 GPUs; a run of that length meets crashes, full disks and
jobs that the scheduler kills. A checkpoint is worth something only if, whatever happened, the next
start finds one that is exactly what was saved. Three habits give that:

1. **Write beside, then rename.** The bytes go to a temporary file in the same folder, are forced to
   the disk (``fsync``), and only then take the final name in one step (``os.replace``, atomic on
   POSIX). A reader sees the old file or the new one, never half of one.
2. **Sum and check.** ``step-00000040.pt`` has a sidecar ``step-00000040.pt.sha256`` in the format
   of ``sha256sum -c``, written last. A checkpoint without it was never finished; one that differs
   from it was damaged later. Both are refused in words, and the one before is used.
3. **Keep two.** The older checkpoint goes only after the newer one is whole.

States are plain dictionaries of tensors, numbers, strings and lists, and are read back with
``weights_only=True``: loading a checkpoint runs no code from it.

What was logged after the last checkpoint happens again when the run goes on, so those lines are
cut off first (`truncate_lines`); Ctrl-C and SIGTERM only set a flag (`stop_signals`), and the loop
stops where its state is whole.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import _TEMPORARY, _temporary, atomic_write_text, digest_of
from r1lab.training.signals import Stopped

log = logging.getLogger(__name__)


# --- checkpoints -----------------------------------------------------------------------------


def save(directory: str | os.PathLike, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Save `state` as the checkpoint of `step` and delete all but the newest `keep`.

    state: a dictionary of what `torch.load(weights_only=True)` takes: tensors, numbers, strings,
    None, and lists and dictionaries of them. Returns the path. Raises R1LabError when the disk is
    full or the folder cannot be written; earlier checkpoints are untouched then.
    """
    directory = Path(directory)
    path = directory / f"step-{step:08d}.pt"
    with _temporary(path) as temporary:
        torch.save(state, temporary)
        digest = digest_of(temporary)
        _sidecar(path).unlink(missing_ok=True)  # from here until it is back: "never finished"
    atomic_write_text(_sidecar(path), f"{digest}  {path.name}\n")
    for old in _newest_first(directory)[max(1, keep) :]:
        _sidecar(old).unlink(missing_ok=True)
        old.unlink(missing_ok=True)
    for leftover in directory.glob(f"{_TEMPORARY}*"):  # of a process that was killed
        leftover.unlink(missing_ok=True)
    return path


def latest(
    directory: str | os.PathLike,
    map_location: str | torch.device = "cpu",
    warnings: list[str] | None = None,
) -> dict[str, Any] | None:
    """The state of the newest whole checkpoint, or None when there is none.

    Damaged and half-written ones are passed over; each is named in a warning, which goes to the log
    and, where a list is given, into `warnings`.
    """
    for path in _newest_first(Path(directory)):
        problem = _damage(path)
        if problem is None:
            try:
                return torch.load(path, map_location=map_location, weights_only=True)
            except Exception as error:  # whole, but not ours, or from another version
                problem = f"it cannot be read ({str(error).strip().splitlines()[0][:120]})"
        message = f"checkpoint {path} is not used: {problem}. Looking for the one before."
        log.warning(message)
        if warnings is not None:
            warnings.append(message)
    return None


def latest_of_run(
    out_dir: str | os.PathLike,
    model: torch.nn.Module,
    names: Callable[[int], dict[str, Any]],
    steps: int,
) -> dict[str, Any] | None:
    """`latest` in out_dir/checkpoints, if it belongs to the run that is about to go on.

    names(step): what must be as it was when a checkpoint of that step was saved under "run", by
    name. steps: how many steps the run is to have. The model must be the one that the run began
    with, or as it was when the checkpoint was saved. Raises R1LabError, with all that differs, for
    another run's checkpoint, and when there are checkpoints but none is whole.
    """
    damaged: list[str] = []
    state = latest(Path(out_dir) / "checkpoints", warnings=damaged)
    advice = "Choose another out_dir (--out), or begin anew with --fresh (resume=False in Python)."
    if state is None and damaged:
        raise R1LabError(f"no checkpoint in {Path(out_dir) / 'checkpoints'} is whole. {advice}")
    if state is None:
        return None
    step, was, now = state["step"], state.get("run", {}), names(state["step"])
    changed = [
        f"{name} was {was.get(name)!r} and is {now[name]!r}"
        for name in now
        if was.get(name) != now[name]
    ]
    if steps < step:
        changed = [f"{step} steps are done, and steps is {steps}"]
    if fingerprint(model) not in (state["base"], state["now"]):
        changed.append("the model is not the one it began with (load that one again)")
    if changed:
        raise R1LabError(f"{out_dir} holds another run: {'; '.join(changed)}. {advice}")
    return state


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*.pt"), reverse=True)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file, in words; None when it is what was saved."""
    try:
        expected = _sidecar(path).read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return "it was never finished (no checksum beside it)"
    if digest_of(path) != expected:
        return "it is damaged (its checksum differs from the one saved with it)"
    return None


def snapshot(model, optimizer, reference=None) -> dict[str, Any]:
    """All that the next step of a training run depends on, as a state for `save`.

    Together with the number of steps done, from which the loops of r1lab derive their questions
    and seeds, this is enough to go on bit for bit.
    """
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "reference": None if reference is None else reference.state_dict(),
        "rng": torch.get_rng_state(),
        "now": fingerprint(model),
    }


def restore(state: dict[str, Any], model, optimizer, reference=None) -> None:
    """Put a snapshot back into model, optimizer and reference, bit for bit."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if reference is not None:
        reference.load_state_dict(state["reference"])
    torch.set_rng_state(state["rng"])


def step_done(
    out_dir: Path,
    done: int,
    steps: int,
    config: Any,
    asked: list[str],
    state: Callable[[int], dict],
) -> bool:
    """After a training step: save a checkpoint when one is due, at the end, or when asked to stop.
    Returns whether it saved. Raises Stopped when asked before the end.

    config: its checkpoint_every and keep_checkpoints. state(done): what is saved.
    """
    due = bool(done % config.checkpoint_every == 0 or done == steps or asked)
    if due:
        save(out_dir / "checkpoints", done, state(done), config.keep_checkpoints)
    if asked and done < steps:
        raise Stopped.after(asked[0], done, steps, out_dir)
    return due


def probe(model: torch.nn.Module) -> torch.Tensor:
    """Up to 1,024 values of every weight in one float64 vector on the CPU: enough to see whether
    the weights changed, and cheap for large models."""
    return torch.cat([p.detach().flatten()[:1024].double().cpu() for p in model.parameters()])


def fingerprint(model: torch.nn.Module) -> str:
    """A short name for the weights as they are now."""
    return hashlib.sha256(probe(model).numpy().tobytes()).hexdigest()[:16]

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
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from r1lab.errors import FULL_DISK, NO_MEMORY, R1LabError

log = logging.getLogger(__name__)
_TEMPORARY = ".unfinished-"


# --- whole files and folders -----------------------------------------------------------------


def atomic_write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Write a file that is whole or not there; an earlier one stays until the new one is whole.

    Raises R1LabError when it cannot be written (full disk, no permission).
    """
    path = Path(path)
    with _temporary(path) as temporary:
        temporary.write_bytes(data)
    return path


def atomic_write_text(path: str | os.PathLike, text: str) -> Path:
    """`atomic_write_bytes` for text, as UTF-8."""
    return atomic_write_bytes(path, text.encode("utf-8"))


@contextmanager
def atomic_dir(path: str | os.PathLike) -> Iterator[Path]:
    """A folder that is whole or not there: fill the temporary folder that this yields.

    When the block ends without an error, the temporary folder takes the name `path`. Where a folder
    of that name exists it is moved away first and deleted last, so a crash between the two renames
    leaves it under a ``.unfinished-`` name: nothing that was there is lost.
    Raises R1LabError when it cannot be written.
    """
    path = Path(path)
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=path.parent))
        try:
            new, old = temporary / "new", temporary / "old"
            new.mkdir()
            yield new
            for file in new.rglob("*"):
                if file.is_file():
                    _sync(file)
            if path.exists():
                os.replace(path, old)
            os.replace(new, path)
            _sync(path.parent)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends without an error."""
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 is for secrets
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Force a file's bytes, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # not all can sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Full disks and missing permissions as one line; torch and safetensors have own errors."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and not FULL_DISK.search(str(error)):
            raise
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        with suppress(OSError):
            reason += f"; {shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free there"
        raise R1LabError(
            f"cannot write {path} ({reason}). Free some space or choose another folder; what was "
            "there before is untouched."
        ) from error


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
    advice = "Choose another out_dir, or start anew in this one with resume=False."
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


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


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


# --- log lines -------------------------------------------------------------------------------


def append_lines(path: str | os.PathLike, records: Iterable[dict[str, Any]]) -> None:
    """Add records to a JSON lines file; they are on the disk when this returns.

    Raises R1LabError when they cannot be written.
    """
    path = Path(path)
    with _readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
            file.flush()
            os.fsync(file.fileno())


def truncate_lines(path: str | os.PathLike, steps: int) -> list[dict[str, Any]]:
    """Keep the records of the steps before `steps`, and drop what comes after the first line that
    is of a later step or was never finished. Returns the records kept; no file is no records."""
    path = Path(path)
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
    kept: list[str] = []
    records: list[dict[str, Any]] = []
    for line in lines:
        try:
            record = json.loads(line)
            if not record["step"] < steps:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line + "\n")
        records.append(record)
    if len("".join(kept)) != len("\n".join(lines)):
        atomic_write_text(path, "".join(kept))
    return records


def set_aside(directory: str | os.PathLike, names: Iterable[str]) -> Path | None:
    """Move files and folders of an earlier run to ``earlier-<n>`` beside them: a new start in the
    same folder loses nothing. Returns where they are now; None when there were none."""
    directory = Path(directory)
    there = [directory / name for name in names if (directory / name).exists()]
    if not there:
        return None
    n = 1
    while (directory / f"earlier-{n}").exists():
        n += 1
    target = directory / f"earlier-{n}"
    with _readable_errors(target):
        target.mkdir()
        for path in there:
            os.replace(path, target / path.name)
    return target


# --- memory and signals ----------------------------------------------------------------------


@contextmanager
def memory_errors(micro_batch_tokens: int) -> Iterator[None]:
    """Too little memory, in one line that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not NO_MEMORY.search(f"{type(error).__name__}: {error}"):
            raise
        raise R1LabError(
            f"not enough memory. Lower micro_batch_tokens (now {micro_batch_tokens}; the result "
            "stays the same), else questions, group_size or max_new_tokens; then run the same "
            "again: it goes on from the last checkpoint."
        ) from error


class Stopped(KeyboardInterrupt):
    """A run was asked to stop (Ctrl-C, SIGTERM), and left a checkpoint to go on from."""

    @classmethod
    def after(cls, by: str, done: int, steps: int, out_dir: Path) -> Stopped:
        """by: the signal's name. done: of `steps`."""
        return cls(
            f"stopped by {by} after {done} of {steps} steps; all is saved in {out_dir}. Run the "
            "same again to go on from there."
        )

    def _render_traceback_(self) -> list[str]:  # what IPython shows in place of a traceback
        return [str(self)]


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Collect the names of stop signals in the list that this yields, instead of dying of them.

    The second one raises KeyboardInterrupt at once, for those who cannot wait. Outside the main
    thread, which alone may handle signals, the list stays empty.
    """
    asked: list[str] = []

    def handler(number: int, frame: Any) -> None:
        asked.append(signal.Signals(number).name)
        if len(asked) > 1:
            raise KeyboardInterrupt
        with suppress(OSError):  # print() may not be called again inside itself
            os.write(2, b"\nstopping after this step (once more: at once)\n")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, previous in old.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)

"""Files that are whole or not there: checkpoints of a training run, and helpers for other writers.

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
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from r1lab.errors import R1LabError

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
    """Full disks and missing permissions as one line. torch reports a full disk as RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "write" not in str(error):
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
        digest = _digest(temporary)
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


def _newest_first(directory: Path) -> list[Path]:
    return sorted(directory.glob("step-*.pt"), reverse=True)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _digest(path: Path) -> str:
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
    if _digest(path) != expected:
        return "it is damaged (its checksum differs from the one saved with it)"
    return None

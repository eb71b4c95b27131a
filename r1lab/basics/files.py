"""Files that are whole or not there: atomic writes, JSON, lines, folders of a run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from r1lab import PROJECT, ROOT
from r1lab.basics.errors import FULL_DISK, R1LabError

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


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


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


# --------------------------------------------------------------------------------------------------
# Files


def write_json(path: str | os.PathLike, data: Any) -> None:
    """Write JSON in one move: a reader sees the old file or the new one, never half of one."""
    _replace(Path(path), json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise R1LabError(f"there is no {path}; a run writes it (make run, make figures)") from error
    except (OSError, ValueError) as error:
        raise R1LabError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise R1LabError(f"{path} should hold a JSON object")
    return data


def data_dir() -> Path:
    """The project's `data/` folder; the environment variable R1LAB_DATA overrides it."""
    return Path(os.environ.get("R1LAB_DATA") or PROJECT / "data")


def run_folder(out_dir: str | os.PathLike) -> Path:
    """The folder called `out_dir`, made if it is not there; relative names start at the project.

    So a notebook writes to the same place whether JupyterLab or `make run` started it.
    """
    folder = ROOT / Path(out_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise R1LabError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def shorten(path: Path) -> str:
    """The path as seen from the project's folder, when it lies in it: the same in every clone."""
    try:
        return str(path.resolve().relative_to(ROOT))
    except ValueError:
        return str(path)

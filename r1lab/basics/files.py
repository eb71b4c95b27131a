"""Files that are whole or not there: atomic writes, JSON, lines, folders of a run."""

import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from r1lab import PROJECT, ROOT
from r1lab.basics.errors import FULL_DISK, R1LabError

log = logging.getLogger(__name__)
UNFINISHED = ".unfinished-"  # begins the name of what is being written
MARK = ".r1lab"  # a file that says: r1lab made this folder, and may replace it
METRICS = frozenset(
    "seconds spent_seconds tokens reward accuracy format length reflection entropy loss".split()
)  # what a line of a run's metrics has of these are numbers
NOT_IN_LINES = re.compile("[\u0085\u2028\u2029\ud800-\udfff]")


def atomic_write_bytes(path: str | os.PathLike, data: bytes) -> Path:
    """Write a file that is whole or not there; an earlier one stays until the new one is whole.
    Links stay; devices and pipes are written to. Raises R1LabError when it cannot be written."""
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        with readable_errors(path):
            path.write_bytes(data)
        return path
    with temporary_for(path) as temporary:
        temporary.write_bytes(data)
    return path


def atomic_write_text(path: str | os.PathLike, text: str) -> Path:
    """`atomic_write_bytes` for text, as UTF-8."""
    return atomic_write_bytes(path, text.encode("utf-8"))


def check_writable(path: str | os.PathLike) -> None:
    """Raises R1LabError, before any work is done, where a file cannot be written later."""
    path = Path(path)
    with readable_errors(path):
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        if path.is_file():
            path.open("ab").close()
        elif not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path.parent).close()
        elif not os.access(path, os.W_OK):
            raise PermissionError(13, "no permission")


@contextmanager
def atomic_dir(path: str | os.PathLike, mark: str = MARK) -> Iterator[Path]:
    """Yields a temporary folder, which takes the name `path` when the block ends without an error.

    A link stays a link. An earlier folder is deleted only if it has the file `mark`, as all folders
    made here, and no names that MARK does not list; others move to earlier-<n> beside it. Raises
    R1LabError when the folder cannot be written.
    """
    path = Path(os.path.realpath(path))
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{path.name}-", dir=path.parent))
        new, old = temporary / "new", temporary / "old"
        try:
            new.mkdir()
            yield new
            (new / mark).touch()
            names = sorted(one.name for one in new.iterdir() if one.name != MARK)
            (new / MARK).write_text("\n".join(names))
            for file in filter(Path.is_file, new.rglob("*")):
                _sync(file)
            if path.is_file() or (path.exists() and any(path.iterdir()) and _foreign(path, mark)):
                aside = set_aside(path.parent, [path.name])
                log.warning("%s was not made by r1lab alone: it is in %s now", path, aside)
            elif path.exists():
                os.replace(path, old)
            os.replace(new, path)
            _sync(path.parent)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _foreign(path: Path, mark: str) -> bool:
    """Does a folder hold what was not made here, by its mark and the names in MARK?"""
    names = {one.name for one in path.iterdir()}
    made = (path / MARK).read_text(errors="replace").split("\n") if MARK in names else []
    return mark not in names or (made != [""] and bool(made) and bool(names - {MARK, *made}))


def check_replaceable(path: str | os.PathLike, mark: str = MARK) -> None:
    """Raises R1LabError where a new folder `path` would replace a file, a folder with files but
    without `mark`, or a folder that holds the project, the home or the current folder."""
    whole = Path(path).expanduser().resolve()
    keep = (ROOT.resolve(), Path.home().resolve(), Path.cwd())
    if any(whole == folder or whole in folder.parents for folder in keep):
        raise R1LabError(f"{path} is a folder that others live in: name one of its own for this")
    if whole.exists() and not whole.is_dir():
        raise R1LabError(f"{path} is a file: name a folder")
    if whole.is_dir() and any(whole.iterdir()) and not (whole / mark).exists():
        words = "has files that were not made here, and would be replaced: name a new folder"
        raise R1LabError(f"{path} {words}, or move them away")


def clear_unfinished(directory: str | os.PathLike) -> None:
    """Remove half-written files of a killed process, and restore a folder that it was replacing.
    Only for the holder of the folder's lock."""
    for leftover in Path(directory).glob(f"{UNFINISHED}*"):
        if leftover.is_dir():
            name = leftover.name.removeprefix(UNFINISHED).rpartition("-")[0]
            if (leftover / "old").exists() and name and not (leftover.parent / name).exists():
                os.replace(leftover / "old", leftover.parent / name)
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def temporary_for(path: Path) -> Iterator[Path]:
    """A temporary file that takes the name `path` when the block ends without an error."""
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{UNFINISHED}{uuid4().hex}{path.suffix}")
        try:
            temporary.touch()
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():  # not all can sync a folder
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turns errors of writing, torch's and safetensors' too, into one line."""
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
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def to_json(data: Any, **how: Any) -> str:
    """Readable JSON; U+0085, U+2028, U+2029 and lone surrogates are escaped, so that no character
    ends a line or cannot be encoded."""
    text = json.dumps(data, ensure_ascii=False, **how)
    return NOT_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_json(path: str | os.PathLike, data: Any) -> Path:
    """Write JSON in one move; NaN is refused."""
    return atomic_write_text(path, to_json(data, indent=2, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike) -> dict[str, Any] | None:
    """The JSON object in a file, or None where there is none or it is damaged."""
    try:
        return _object(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def load_json(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object in a file. Raises R1LabError where there is none."""
    if not Path(path).exists():
        raise R1LabError(f"there is no {path}; a run writes it (make run, make figures)")
    if (data := read_json(path)) is None:
        raise R1LabError(f"{path} should hold a JSON object, and cannot be read as one")
    return data


def lines_of(path: str | os.PathLike) -> list[str]:
    """The lines of a file, which only "\\n" ends (str.splitlines splits at U+2028 too). Raises
    R1LabError for a file that cannot be read."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise R1LabError(f"cannot read {path} ({error})") from error
    return lines[:-1] if lines[-1] == "" else lines


def append_lines(path: str | os.PathLike, records: Iterable[dict[str, Any]]) -> None:
    """Add records to a JSON lines file; they are on disk when this returns. Raises R1LabError when
    they cannot be written."""
    path = Path(path)
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(to_json(record) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())


def read_lines(
    path: str | os.PathLike, numbers: Iterable[str] = ()
) -> tuple[list[tuple[str, dict[str, Any]]], int]:
    """The records of a JSON lines file, each with its line, and the number of damaged lines, not
    counting an unfinished last one. No file is no records. numbers: names whose values must be
    numbers, where a record has them."""

    def whole(record: dict[str, Any] | None) -> bool:
        values = [] if record is None else [record[name] for name in numbers if name in record]
        return record is not None and all(isinstance(value, int | float) for value in values)

    if not Path(path).exists():
        return [], 0
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    read = [(line, _object(line)) for line in text.split("\n")[:-1] if line.strip()]
    kept = [(line, record) for line, record in read if whole(record)]
    return kept, len(read) - len(kept)


def truncate_lines(path: str | os.PathLike, steps: int, *, once: bool = False) -> list[dict]:
    """Drop the records of step `steps` and later, and lines that are damaged or out of order, which
    the log reports. once: one record per step. Returns the remaining records."""
    path, last = Path(path), -1
    read, damaged = read_lines(path, METRICS if once else ())
    kept: list[tuple[str, dict[str, Any]]] = []
    for line, record in read:
        step = record.get("step")
        if not isinstance(step, int) or step < last or (once and step == last):
            damaged += 1
        elif step < steps:
            kept.append((line, record))
            last = step
    text = "".join(f"{line}\n" for line, _ in kept)
    if path.exists() and path.read_bytes() != text.encode():
        atomic_write_text(path, text)
    if damaged:
        log.warning("%s had %d damaged lines, which are left out", path, damaged)
    return [record for _, record in kept]


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def set_aside(directory: str | os.PathLike, names: Iterable[str]) -> Path | None:
    """Move files and folders to ``earlier-<n>`` beside them. Returns that folder; None when none of
    them existed."""
    directory = Path(directory)
    there = [directory / name for name in names if (directory / name).exists()]
    if not there:
        return None
    numbers = (directory / f"earlier-{n}" for n in itertools.count(1))
    target = next(folder for folder in numbers if not folder.exists())
    with readable_errors(target):
        target.mkdir()
        for path in there:
            os.replace(path, target / path.name)
    return target


def data_dir() -> Path:
    """The `data/` folder; the environment variable R1LAB_DATA overrides it."""
    return Path(os.environ.get("R1LAB_DATA") or PROJECT / "data")


def run_folder(out_dir: str | os.PathLike) -> Path:
    """The folder `out_dir`, made if missing; relative names start at the project's folder."""
    folder = ROOT / Path(out_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise R1LabError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder


def shorten(path: Path, start: Path = ROOT) -> str:
    """The path relative to the project's folder, or another start, where it lies in it."""
    whole = path.resolve()
    return str(whole.relative_to(start) if whole.is_relative_to(start) else path)


def from_here(path: Path) -> str:
    """The path as a command takes it in the current folder: relative only where it lies in it."""
    return shorten(path.resolve(), Path.cwd())

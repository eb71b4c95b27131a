"""R1 is made in stages: each reads a model and leaves one, with a record of what it was made from.

`stage` decides by *content* what to make again: a record names the options and the SHA-256 of every
file that the stage read and wrote. With the same inputs and options nothing is done; after a change
the old files are set aside and the stage is made anew; a stage that was stopped goes on from its
own checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1lab import models
from r1lab.basics import files
from r1lab.basics.files import read_json
from r1lab.training.loop import one_run

RECORD, BEGUN = "stage.json", "begun.json"


def content(source: str | os.PathLike) -> str:
    """The SHA-256 of a file, or of a model folder's weights and tokenizer; a hub id stays."""
    path = Path(models.resolve(source)) if not Path(source).exists() else Path(source)
    if path.is_file():
        return files.digest_of(path)
    if path.is_dir():
        tokenizer = path.glob("tokenizer.json")
        parts = [p for p in path.iterdir() if p.suffix == ".safetensors"]
        sums = [f"{p.name} {files.digest_of(p)}" for p in sorted([*parts, *tokenizer])]
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return str(source)


def stage(
    name: str,
    folder: str | os.PathLike,
    reads: dict[str, str | os.PathLike],
    options: dict[str, Any],
    make: Callable[[Path], dict[str, Any]],
    *,
    writes: tuple[str, ...] = ("model",),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make a stage in `folder`, unless it is made. Returns its record: stage, reads and writes
    (content by name), options, metrics (what `make` returned), seconds, made (by this call?).

    reads    models and files, by their names in the record
    options  everything else that the result depends on, as JSON-able values
    make     does the work in the folder and returns the metrics; it resumes an unfinished stage
    writes   files and folders below `folder` that must exist afterwards
    """
    folder, made_from = Path(folder), _from(name, reads, options)
    with one_run(folder, ".stage.lock"):
        if (record := _made(folder, made_from, writes)) is not None:
            say(f"{name}: already made from the same options and inputs")
            return record | {"made": False}
        _begin(folder, made_from, say)
        began = time.perf_counter()
        metrics = make(folder)
        written = _written(folder, writes)
        if missing := ", ".join(key for key, value in written.items() if value is None):
            raise AssertionError(f"stage {name} did not write {missing}")
        seconds, when = round(time.perf_counter() - began, 1), time.strftime("%Y-%m-%d")
        record = made_from | {"writes": written, "metrics": metrics}
        record |= {"seconds": seconds, "when": when}
        files.atomic_write_text(folder / RECORD, files.to_json(record, indent=1) + "\n")
        return record | {"made": True}


def begin(
    name: str,
    folder: str | os.PathLike,
    reads: dict[str, str | os.PathLike],
    options: dict[str, Any],
    *,
    writes: tuple[str, ...] = ("model",),
    say: Callable[[str], None] = print,
) -> None:
    """The first half of `stage`, for a caller who does the work in the folder before `stage` is
    called: files of other options or inputs are set aside, those of the same are kept."""
    folder, made_from = Path(folder), _from(name, reads, options)
    with one_run(folder, ".stage.lock"):
        if _made(folder, made_from, writes) is None:
            _begin(folder, made_from, say)


def _from(name: str, reads: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What decides whether a stage is the same."""
    contents = {key: content(path) for key, path in reads.items()}
    return {"stage": name, "reads": contents, "options": json.loads(json.dumps(options))}


def _made(folder: Path, made_from: dict[str, Any], writes: tuple[str, ...]) -> dict | None:
    """The record of a stage that is made from the same, and whose files are as it left them."""
    record = read_json(folder / RECORD)
    same = record is not None and {key: record.get(key) for key in made_from} == made_from
    return record if same and _written(folder, writes) == record.get("writes") else None


def _begin(folder: Path, made_from: dict[str, Any], say: Callable[[str], None]) -> None:
    """Set aside what was made from something else, and note what this is made from."""
    name, begun = made_from["stage"], read_json(folder / BEGUN)
    if begun != made_from:
        names = [p.name for p in folder.iterdir() if not p.name.startswith(("earlier-", "."))]
        changed = "options or input have changed"
        why = changed if begun or (folder / RECORD).exists() else "it is not known from what"
        if (aside := files.set_aside(folder, names)) is not None:
            say(f"{name}: made again, for {why}; what was there is in {aside}")
    else:
        say(f"{name}: going on with what was begun")
    files.atomic_write_text(folder / BEGUN, files.to_json(made_from))
    (folder / RECORD).unlink(missing_ok=True)


def _written(folder: Path, names: tuple[str, ...]) -> dict[str, str | None]:
    paths = {name: folder / name for name in names}
    return {name: content(path) if path.exists() else None for name, path in paths.items()}

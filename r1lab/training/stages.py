"""R1 is made in stages: each reads a model and leaves one, with a record of what it was made from.

`stage` decides by *content* what to make again: a record names the options and the SHA-256 of every
file that the stage read and wrote. After a change the old files are set aside and the stage is made
anew; a stage that was stopped goes on from its own checkpoints.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.machine import energy
from r1lab.training import records
from r1lab.training.loop import one_run
from r1lab.training.metrics import metrics_of, spent_in
from r1lab.training.records import content

RECORD, BEGUN = "stage.json", "begun.json"


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
    (content by name), options, metrics (what `make` returned), seconds (of all calls that worked on
    it), made (by this call?). The first of what it writes gets a record of its origin (`records`).

    reads    models and files, by their names in the record
    options  everything else that the result depends on, as JSON-able values
    make     does the work in the folder and returns the metrics; it resumes an unfinished stage
    writes   files and folders below `folder` that must exist afterwards
    """
    entered, folder, made_from = time.perf_counter(), Path(folder), _from(name, reads, options)
    with one_run(folder, ".stage.lock"), energy.Gauge() as gauge:
        if (record := _made(folder, made_from, writes)) is not None:
            say(f"{name}: already made from the same options and inputs")
            if not records.knows(folder / writes[0], name):  # killed just then, or an older r1lab
                records.of_stage(folder / writes[0], record, reads)
            return record | {"made": False}
        earlier = _begin(folder, made_from, say)
        try:
            metrics = make(folder)
        except BaseException:
            spent = {"spent": earlier + time.perf_counter() - entered}
            files.atomic_write_text(folder / BEGUN, files.to_json(made_from | spent))
            raise
        written = _written(folder, writes)
        if missing := ", ".join(key for key, value in written.items() if value is None):
            raise AssertionError(f"stage {name} did not write {missing}")

        def spend() -> dict[str, Any]:
            return records.cost(earlier + time.perf_counter() - entered, gauge=gauge)

        record = made_from | {"writes": written, "metrics": metrics}
        record |= {"seconds": spend()["seconds"], "when": time.strftime("%Y-%m-%d")}
        files.atomic_write_text(folder / RECORD, files.to_json(record, indent=1) + "\n")
        records.of_stage(folder / writes[0], record, reads, spend)
        return record | {"made": True}


def begin(
    name: str, folder: Path, reads: dict[str, str | os.PathLike], options: dict[str, Any]
) -> None:
    """The first half of `stage`, for a caller who trains the model in the folder before `stage` is
    called: files of other options or inputs are set aside, those of the same are kept."""
    made_from = _from(name, reads, options)
    with one_run(folder, ".stage.lock"):
        if _made(folder, made_from, ("model",)) is None:
            _begin(folder, made_from, print)


def _from(name: str, reads: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """What decides whether a stage is the same."""
    contents = {key: content(path) for key, path in reads.items()}
    return {"stage": name, "reads": contents, "options": json.loads(json.dumps(options))}


def _made(folder: Path, made_from: dict[str, Any], writes: tuple[str, ...]) -> dict | None:
    """The record of a stage that is made from the same, and whose files are as it left them."""
    record = files.read_json(folder / RECORD)
    same = record is not None and {key: record.get(key) for key in made_from} == made_from
    return record if same and _written(folder, writes) == record.get("writes") else None


def _begin(folder: Path, made_from: dict[str, Any], say: Callable[[str], None]) -> float:
    """Set aside what was made from something else, and note what this is made from. Returns the
    seconds that earlier calls have worked on it; of one that was killed, those of its metrics."""
    name, begun = made_from["stage"], files.read_json(folder / BEGUN)
    earlier = (begun or {}).pop("spent", 0.0)
    if begun != made_from:
        earlier = 0.0
        names = [p.name for p in folder.iterdir() if not p.name.startswith(("earlier-", "."))]
        changed = "options or input have changed"
        why = changed if begun or (folder / RECORD).exists() else "its origin is not known"
        if (aside := files.set_aside(folder, names)) is not None:
            say(f"{name}: made again, because {why}; what was there is in {aside}")
    else:
        earlier = max(earlier, spent_in(metrics_of(folder)))
        say(f"{name}: going on with what was begun")
    spent = {"spent": earlier} if earlier else {}
    files.atomic_write_text(folder / BEGUN, files.to_json(made_from | spent))
    (folder / RECORD).unlink(missing_ok=True)
    return earlier


def _written(folder: Path, names: tuple[str, ...]) -> dict[str, str | None]:
    paths = {name: folder / name for name in names}
    return {name: content(path) if path.exists() else None for name, path in paths.items()}


def record_of(folder: str | os.PathLike) -> dict[str, Any]:
    """The record in a stage's folder. Raises R1LabError where there is none."""
    path = Path(folder) / RECORD
    if (record := files.read_json(path)) is None:
        raise R1LabError(f"no record of a stage in {path}: it was not made, or is damaged")
    return record

"""Completions and metrics of a run, or a saved evaluation, as parquet that `datasets` loads."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import read_json, read_lines, temporary_for

FILES = {"samples.jsonl": "completions.parquet", "metrics.jsonl": "metrics.parquet"}


def export(
    source: str | os.PathLike, out: str | os.PathLike | None = None
) -> list[tuple[Path, int]]:
    """Write the parquet files of a run's folder, or of a JSON file that `r1lab eval --save` wrote.
    out: their folder; default: beside what they are made of. Returns each path with its rows.
    Raises R1LabError where there is nothing to export."""
    source = Path(source)
    folder = Path(out) if out is not None else source if source.is_dir() else source.parent
    tables: dict[str, list[dict[str, Any]]] = {}
    if source.is_dir():
        for name, made in FILES.items():
            tables[made] = [record for _, record in read_lines(source / name)[0]]
    elif data := read_json(source):
        tables["completions.parquet"] = of_evaluation(data)
    tables = {name: rows for name, rows in tables.items() if rows}
    if not tables:
        raise R1LabError(f"{source} has no completions: name a run's folder or a saved evaluation")
    return [(write(folder / name, rows), len(rows)) for name, rows in tables.items()]


def of_evaluation(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each completion of a saved evaluation, with its problem's id and question."""
    about = ("id", "task", "question", "split")
    try:
        pairs = zip(data.get("problems", ()), data.get("completions", ()), strict=False)
        return [{name: of.get(name) for name in about} | one for of, row in pairs for one in row]
    except (TypeError, AttributeError):
        return []  # no evaluation


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows of plain values as a parquet file, whole or not there. A column that some rows lack is
    null there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: [row.get(name) for row in rows] for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_for(path) as temporary:
        Dataset.from_dict(columns).to_parquet(str(temporary))
    return path

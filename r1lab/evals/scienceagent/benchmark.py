"""A benchmark's folder in ScienceAgentBench's layout.

    TABLE               twelve columns, one row a task: .csv, .jsonl or .parquet, or `datasets`'
                        folder; in FOLDER itself or below it
    datasets/           what the programs read, as benchmark/datasets/...
    gold_programs/      one reference program a task
    eval_programs/      one checker a task: eval() -> (success, log)

The last three lie in FOLDER or in FOLDER/benchmark. Programs run with the paths of the original:
they read benchmark/datasets/NAME/... and write pred_results/....
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError, did_you_mean

PARTS = ("datasets", "gold_programs", "eval_programs")
FIGURES = (".png", ".jpg", ".jpeg", ".svg", ".pdf", ".gif")


@dataclass(frozen=True)
class Task:
    """One row of the table, with the hub's columns (osunlp/ScienceAgentBench). `output_fname` is
    what the program must write."""

    instance_id: int
    domain: str
    subtask_categories: str
    github_name: str
    task_inst: str
    domain_knowledge: str
    dataset_folder_tree: str
    dataset_preview: str
    src_file_or_path: str
    gold_program_name: str
    output_fname: str
    eval_script_name: str

    @property
    def program_name(self) -> str:
        """The file name of a model's program."""
        return f"pred_{self.gold_program_name}"

    @property
    def dataset(self) -> str:
        """The folder of its data in datasets/: the first line of the tree, without its ornament."""
        lines = self.dataset_folder_tree.strip().splitlines()
        return lines[0].lstrip("|- \t").strip().rstrip("/") if lines else ""

    @property
    def figure(self) -> bool:
        """Whether the output is a picture: those the original has judged by a model that sees."""
        return self.output_fname.lower().endswith(FIGURES)


COLUMNS = tuple(column.name for column in fields(Task))


@dataclass(frozen=True)
class Benchmark:
    """tasks: in the table's order. root: the folder with datasets/, gold_programs/ and
    eval_programs/. name: of the folder, for reports."""

    tasks: tuple[Task, ...]
    root: Path
    name: str = field(default="")

    def __len__(self) -> int:
        return len(self.tasks)

    def data(self, task: Task) -> Path:
        """The folder (or file) of a task's data."""
        return self._file("datasets", task.dataset)

    def gold(self, task: Task) -> str:
        """The text of the gold program, without lines of comment at its top (a canary's)."""
        lines = self._file("gold_programs", task.gold_program_name).read_text("utf-8").splitlines()
        while lines and (not lines[0].strip() or lines[0].startswith("#")):
            lines.pop(0)
        return "\n".join(lines) + "\n"

    def checker(self, task: Task) -> str:
        """The text of the evaluation script."""
        return self._file("eval_programs", task.eval_script_name).read_text("utf-8")

    def select(self, only: Iterable[int]) -> Benchmark:
        """With these instances alone; R1LabError for one that is not there."""
        wanted, known = [int(one) for one in only], {one.instance_id for one in self.tasks}
        for one in wanted:
            if one not in known:
                raise R1LabError(f"{self.name} has no task {one}{did_you_mean(one, sorted(known))}")
        kept = tuple(task for task in self.tasks if task.instance_id in wanted)
        return Benchmark(kept, self.root, self.name)

    def _file(self, part: str, name: str) -> Path:
        path = self.root / part / name
        if not name or not path.exists() or not path.resolve().is_relative_to(self.root.resolve()):
            raise R1LabError(f"{self.name} has no {part}/{name}: is the copy of {part}/ complete?")
        return path


def open_benchmark(folder: str | Path) -> Benchmark:
    """The benchmark in a folder, or of a table's file. R1LabError says what is missing."""
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise R1LabError(f"there is no folder {folder}; --benchmark takes your copy of the table")
    top = folder if folder.is_dir() else folder.parent
    table = _table(folder)
    rows = _rows(table)
    if not rows:
        raise R1LabError(f"{table} has no rows")
    absent = [name for name in COLUMNS if name not in rows[0]]
    if absent:
        raise R1LabError(f"{table} lacks the column {absent[0]}: it takes the hub's twelve columns")
    places = (top, top / "benchmark", top.parent, top.parent / "benchmark")
    roots = [one for one in places if all((one / part).is_dir() for part in PARTS)]
    if not roots:
        words = "the hub has the table alone, the folders come with the authors' archive"
        raise R1LabError(f"{top} has no {', '.join(f'{part}/' for part in PARTS)}: {words}")
    tasks = [_task(row, table) for row in rows]
    for what in ("instance_id", "gold_program_name"):
        values = [getattr(task, what) for task in tasks]
        if len(set(values)) < len(values):
            raise R1LabError(f"{table} has two tasks of the same {what}")
    return Benchmark(tuple(tasks), roots[0], top.name)


def _table(folder: Path) -> Path:
    """The file or folder with the rows."""
    if folder.is_file() or (folder / "dataset_info.json").exists():
        return folder
    for pattern in ("*.csv", "*.jsonl", "*.parquet"):
        for place in (folder, folder / "benchmark", folder / "data"):
            found = sorted(place.glob(pattern))
            # the hub's copy has several splits: `verified` is the default since 2026-04-30
            found.sort(key=lambda path: "verified" not in path.name)
            if found:
                return found[0]
    raise R1LabError(f"{folder} has no table of tasks: a .csv, .jsonl or .parquet file")


def _rows(table: Path) -> list[dict[str, Any]]:
    try:
        if table.is_dir():
            from datasets import load_from_disk  # seconds to import, and for this alone

            return list(load_from_disk(str(table)))
        if table.suffix == ".parquet":
            import pandas

            return pandas.read_parquet(table).to_dict("records")
        with table.open(encoding="utf-8", newline="") as file:
            if table.suffix == ".jsonl":
                return [json.loads(line) for line in file if line.strip()]
            csv.field_size_limit(1 << 24)
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise R1LabError(f"cannot read {table}: {error}") from error


def _task(row: dict[str, Any], table: Path) -> Task:
    texts = {k: "" if row[k] is None or row[k] != row[k] else str(row[k]) for k in COLUMNS}
    try:
        number = int(float(texts.pop("instance_id")))
    except ValueError:
        given = row["instance_id"]
        raise R1LabError(f"{table}: instance_id must be a number, not {given!r}") from None
    for name in ("gold_program_name", "output_fname", "eval_script_name"):
        path = Path(texts[name])
        if not texts[name] or path.is_absolute() or ".." in path.parts:
            raise R1LabError(f"{table}: task {number} has no usable {name}: {texts[name]!r}")
    return Task(number, **texts)

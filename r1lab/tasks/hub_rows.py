"""Rows of a data set: from the Hugging Face hub, or from the files in a folder.

A folder holds train.jsonl and test.jsonl, one JSON object a line in UTF-8, or the same as .parquet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError

OFFLINE_TASKS = (
    "offline there are the tasks countdown and word_problems, and countdown_hub with "
    "source=generated"
)


@dataclass(frozen=True, eq=False)  # compared by identity, so that it can be a key of a cache
class Rows:
    rows: tuple[dict, ...]


def source_of(task: str, source: Any) -> str:
    """The option `source`, with ~ for one's own folder.  A folder's name may be a number."""
    if isinstance(source, (str, Path)) or type(source) is int:
        if str(source).strip():
            return str(Path(source).expanduser()) if str(source).startswith("~") else str(source)
    raise R1LabError(f"{task}: source must be a data set on the hub or a folder, not {source!r}")


def column(row: dict, *names: str, text: bool = False) -> Any:
    """The value of the first of the columns that the row has.  Raises R1LabError if it has none of
    them, or, for text=True, if that is no text."""
    name = next((name for name in names if name in row), None)
    if name is None:
        others = ", ".join(map(str, row)) or "none"
        raise R1LabError(f"there is no column {names[0]}, only {others}")
    if text and not (isinstance(row[name], str) and row[name].strip()):
        raise R1LabError(f"the column {name} must hold a text, not {_short(row[name])}")
    return row[name]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


@lru_cache(maxsize=8)
def load_rows(source: str, configs: str | tuple[str, ...] | None, split: str) -> Rows:
    """The rows of a split of a data set on the hub, of all its configs, or of a folder's file."""
    if Path(source).is_dir():
        return Rows(tuple(_read_file(source, split)))
    names = configs if isinstance(configs, tuple) else (configs,)
    return Rows(tuple(row for name in names for row in _from_hub(source, name, split)))


@lru_cache(maxsize=2)
def countdown_rows(source: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """(numbers, target) of every row that is a Countdown problem of 3 or 4 numbers."""
    if Path(source).is_dir():
        rows = _read_file(source, "train")
        pairs = [(row.get("nums"), row.get("target")) for row in rows]
    else:
        data = _from_hub(source, None, "train")
        pairs = list(zip(data["nums"], data["target"], strict=True))
    for k, (nums, target) in enumerate(pairs, 1):
        whole = isinstance(nums, list) and all(type(one) is int and one >= 0 for one in nums)
        for name, good, value in (("nums", whole, nums), ("target", type(target) is int, target)):
            if not good:
                wanted = "a list of whole numbers" if name == "nums" else "a whole number"
                raise R1LabError(
                    f"countdown_hub, row {k} of {source}: the column {name} must hold {wanted}, "
                    f"not {_short(value)}"
                )
    return tuple((tuple(nums), target) for nums, target in pairs if len(nums) in (3, 4))


def _read_file(source: str, split: str) -> list[dict]:
    """The rows of the split's file in a folder."""
    files = [Path(source) / f"{split}{end}" for end in (".jsonl", ".parquet")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise R1LabError(f"the folder {source} holds neither {split}.jsonl nor .parquet")
    if file.suffix == ".parquet":
        return _read_parquet(file)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise R1LabError(f"{file} is not in UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise R1LabError(f"cannot read {file}: {error.strerror or error}") from None
    rows = []
    for k, line in enumerate(text.split("\n"), 1):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise R1LabError(f"{file}, line {k} is no JSON object: {error}") from None
        if rows and not isinstance(rows[-1], dict):
            raise R1LabError(f"{file}, line {k} is no JSON object but {_short(rows[-1])}")
    return rows


def _read_parquet(file: Path) -> list[dict]:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(file).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise R1LabError(f"cannot read {file}: {str(error).splitlines()[0][:200]}") from None


def _from_hub(source: str, config: str | None, split: str):
    """`datasets.load_dataset`, with one error for all the ways in which it fails offline."""
    import datasets

    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.utils.logging.disable_progress_bar()
    try:
        return datasets.load_dataset(source, config, split=split)
    except Exception as error:  # ConnectionError, DatasetNotFoundError, OfflineModeIsEnabled, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise R1LabError(
            f"cannot load the data set {source} ({reason}). It comes from the hub, so it needs the "
            "network the first time; --task-option source=FOLDER (in Python: "
            f"source='folder') reads train.jsonl and test.jsonl from a folder; {OFFLINE_TASKS}"
        ) from error
    finally:
        if bars:
            datasets.utils.logging.enable_progress_bar()

"""Rows of a data set on the Hugging Face hub, or of a folder with train.jsonl and test.jsonl (one
JSON object per line, UTF-8), or the same as .parquet."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError


@dataclass(frozen=True, eq=False)  # compared by identity, so that it can be a key of a cache
class Rows:
    rows: tuple[dict, ...]


def source_of(task: str, source: Any) -> str:
    """The option `source`; a folder's name may be a number or begin with ~."""
    if isinstance(source, (str, Path)) or type(source) is int:
        if str(source).strip():
            return str(Path(source).expanduser()) if str(source).startswith("~") else str(source)
    raise R1LabError(f"{task}: source must be a data set on the hub or a folder, not {source!r}")


class FromHub:
    """A frozen dataclass of a task with the option `source`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", source_of(self.name, self.source))


def column(row: dict, *names: str, text: bool = False) -> Any:
    """The value of the first of the columns that the row has.  Raises R1LabError without one, and
    for text=True without a text in it."""
    name = next((name for name in names if name in row), None)
    if name is None:
        others = ", ".join(map(str, row)) or "none"
        raise R1LabError(f"there is no column {names[0]}, only {others}")
    if text and not (isinstance(row[name], str) and row[name].strip()):
        raise R1LabError(f"the column {name} must hold a text, not {short(row[name])}")
    return row[name]


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


@lru_cache(maxsize=8)
def load_rows(source: str, configs: str | tuple[str, ...] | None, split: str) -> Rows:
    """The rows of a split, from the hub (all of the configs) or from a folder."""
    if os.path.isdir(source):
        return Rows(tuple(_read_file(source, split)))
    names = configs if isinstance(configs, tuple) else (configs,)
    return Rows(tuple(row for name in names for row in _from_hub(source, name, split)))


@lru_cache(maxsize=2)
def countdown_rows(source: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """(numbers, target) of every row with 3 or 4 numbers."""
    if os.path.isdir(source):
        rows = _read_file(source, "train")
        pairs = [(row.get("nums"), row.get("target")) for row in rows]
    else:
        data = _from_hub(source, None, "train")
        pairs = list(zip(data["nums"], data["target"], strict=True))
    for k, (nums, target) in enumerate(pairs, 1):
        where = f"countdown_hub, row {k} of {source}: the column"
        if not isinstance(nums, list) or not all(type(one) is int and one >= 0 for one in nums):
            raise R1LabError(f"{where} nums must hold a list of whole numbers, not {short(nums)}")
        if type(target) is not int:
            raise R1LabError(f"{where} target must hold a whole number, not {short(target)}")
    return tuple((tuple(nums), target) for nums, target in pairs if len(nums) in (3, 4))


def _read_file(source: str, split: str) -> list[dict]:
    files = [Path(source) / f"{split}{end}" for end in (".jsonl", ".parquet")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise R1LabError(f"the folder {source} holds neither {split}.jsonl nor .parquet")
    if file.suffix == ".parquet":
        import pyarrow.parquet

        try:
            return pyarrow.parquet.read_table(file).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise R1LabError(f"cannot read {file}: {str(error).splitlines()[0][:200]}") from None
    return [row for _, row in json_objects(file)]


def read_text(file: Path) -> str:
    """A text in UTF-8. Raises R1LabError."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise R1LabError(f"{file} is not in UTF-8 (byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise R1LabError(f"cannot read {file}: {error.strerror or error}") from None


def json_objects(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of a file of JSON lines. Raises R1LabError for what is no object."""
    for k, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise R1LabError(f"{file}, line {k} is no JSON object: {error}") from None
        if not isinstance(row, dict):
            raise R1LabError(f"{file}, line {k} is no JSON object but {short(row)}")
        yield k, row


def _from_hub(source: str, config: str | None, split: str):
    """`datasets.load_dataset`, with one error for all of its failures offline."""
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
            "source='folder') reads train.jsonl and test.jsonl from a folder; offline there are "
            "the tasks countdown and word_problems, and countdown_hub with source=generated"
        ) from error
    finally:
        if bars:
            datasets.utils.logging.enable_progress_bar()

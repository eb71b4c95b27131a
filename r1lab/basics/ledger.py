"""The results file: every number that a lesson reports, with its interval and the paper's value.

    record(folder / "figures.json", "r1_zero/trained/pass@1", 0.86, low=0.84, high=0.88, n=256,
           unit="share", paper=0.779)

A run has one seed, and its intervals hold for its own model. `seeds.aggregate` combines the
`figures.json` of several seeds into the committed file, from which the README's tables are made:
means with Student's 95 % intervals (`statistics.t_interval`).
"""

import math
import os
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import load_json, write_json

FIELDS = ("value", "low", "high", "n", "unit", "paper", "source")


def record(
    path: str | os.PathLike,
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    unit: str = "",
    paper: float | None = None,
) -> None:
    """Write one figure into the `figures.json` at `path` (or in the folder `path`).

    name    by lesson, stage and measure: "r1_zero/trained/pass@1"; an earlier entry is replaced
    value   the number; low, high: its 95 % interval; n: sample size
    unit    "share" (0 to 1, shown as per cent), "tokens", "s", "x", ... or "" for a count
    paper   the paper's value in the same unit, or None

    Its source is the notebook that the runner executes (R1LAB_NOTEBOOK), else "". Raises R1LabError
    for a number that is not finite, an interval that does not hold its value, or another kind of
    file.
    """
    path = _file(path)
    entry = {
        "value": _number(name, "value", value),
        "low": _number(name, "low", low, optional=True),
        "high": _number(name, "high", high, optional=True),
        "n": None if n is None else int(n),
        "unit": unit,
        "paper": _number(name, "paper", paper, optional=True),
        "source": os.environ.get("R1LAB_NOTEBOOK", ""),
    }
    if not name or name != name.strip():
        raise R1LabError(f"a figure needs a name such as 'r1_zero/trained/pass@1', not {name!r}")
    if (entry["low"] is None) != (entry["high"] is None):
        raise R1LabError(f"the figure '{name}' has one end of an interval; give both or neither")
    if entry["low"] is not None and not entry["low"] <= entry["value"] <= entry["high"]:
        raise R1LabError(f"the figure '{name}' = {value} lies outside its interval [{low}, {high}]")
    entries = load(path) if path.exists() else {}
    entries[name] = entry
    write_json(path, entries)


def load(path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """name -> entry of the `figures.json` at `path` (or in it); R1LabError for any other file."""
    path = _file(path)
    entries = load_json(path)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(FIELDS) - set(entry):
            raise R1LabError(f"{path} is no figures.json: '{name}' lacks one of {FIELDS}")
    return entries


def drop(path: str | os.PathLike, source: str) -> None:
    """Remove what the notebook `source` recorded, before it runs again."""
    path = _file(path)
    if path.exists():
        entries = load(path)
        kept = {name: entry for name, entry in entries.items() if entry["source"] != source}
        if kept != entries:
            write_json(path, kept)


def load_ledger(path: str | os.PathLike) -> dict[str, Any]:
    """The results file of `make figures`; R1LabError when missing or of another form."""
    ledger = load_json(Path(path))
    missing = {"profile", "seeds", "hardware", "versions", "figures"} - set(ledger)
    if missing:
        raise R1LabError(f"{path} is no results file: it lacks {', '.join(sorted(missing))}")
    return ledger


def _file(path: str | os.PathLike) -> Path:
    path = Path(path)
    return path if path.suffix == ".json" else path / "figures.json"


def _number(name: str, field: str, value: Any, optional: bool = False) -> float | int | None:
    """A finite Python number, None for an unknown optional one, or R1LabError."""
    if optional and (value is None or value != value):  # NaN: an Estimate without interval
        return None
    try:
        number = value if type(value) is int else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise R1LabError(f"the figure '{name}' has the {field} {value!r}, not a finite number")
    return number

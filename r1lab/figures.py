"""The ledger: every number that a lesson claims, beside the paper's, with its uncertainty.

A notebook that measures something records it where the measuring happened:

    record(folder / "figures.json", "r1_zero/trained/pass@1", 0.86, low=0.84, high=0.88, n=256,
           unit="share", paper=0.779, source="05_r1_zero")

One run has one seed, and its intervals say how sure it is of *its own* model. How much training
itself varies is only seen over seeds: `aggregate` takes one `figures.json` per seed and gives each
figure's mean m over the S seeds with the 95 % interval of Student's t,

    m +- t(0.975, S - 1) * s / sqrt(S),      s^2 = sum_i (x_i - m)^2 / (S - 1).

That ledger is committed, and the README's results table is made from it, never typed.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1lab.errors import R1LabError

#: The two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom (standard tables).
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
FIELDS = ("value", "low", "high", "n", "unit", "paper", "source")
MARKERS = re.compile(
    r"(<!-- figures:begin(?P<patterns>[^>]*?) ?-->\n)(?P<table>.*?)(<!-- figures:end -->)", re.S
)


def record(
    path: str | os.PathLike,
    name: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    unit: str = "",
    paper: float | None = None,
    source: str = "",
) -> None:
    """Write one figure into the `figures.json` at `path` (or in the folder `path`).

    name    what it is, by lesson, stage and measure: "r1_zero/trained/pass@1"
    value   the measured number; low, high: its 95 % interval; n: how many it is the mean of
    unit    "share" (0 to 1, shown as per cent), "tokens", "s", "x", ... or "" for a plain count
    paper   DeepSeek's corresponding figure in the same unit, or None
    source  the notebook that measured it (default: the one that the runner is executing)

    An entry of the same name is replaced, the others stay; the file is replaced in one move, so
    that it is never half-written. Raises R1LabError for a number that is not finite, an interval
    that does not hold its value, or a file that is no ledger.
    """
    path = _file(path)
    entry = {
        "value": _number(name, "value", value),
        "low": _number(name, "low", low, optional=True),
        "high": _number(name, "high", high, optional=True),
        "n": None if n is None else int(n),
        "unit": unit,
        "paper": _number(name, "paper", paper, optional=True),
        "source": source or os.environ.get("R1LAB_NOTEBOOK", ""),
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


def record_measures(
    path: str | os.PathLike,
    prefix: str,
    measures: Mapping[str, Any],
    n: int | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Several figures at once, as <prefix>/<name>: {name: (value, low, high)} or {name: value}.

    units: by name; others are shares. What was not measured (NaN) is left out. Raises as `record`.
    """
    for name, measured in measures.items():
        found = measured if isinstance(measured, tuple) else (measured,)
        if found[0] == found[0]:
            record(path, f"{prefix}/{name}", *found, n=n, unit=(units or {}).get(name, "share"))


def load(path: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """The figures in the `figures.json` at `path` (or in the folder `path`): name -> entry.

    Raises R1LabError when the file is missing or not of this form.
    """
    path = _file(path)
    entries = _read_json(path)
    for name, entry in entries.items():
        if not isinstance(entry, dict) or set(FIELDS) - set(entry):
            raise R1LabError(f"{path} is no figures.json: '{name}' lacks one of {FIELDS}")
    return entries


def drop(path: str | os.PathLike, source: str) -> None:
    """Forget what the notebook `source` recorded; the runner does so before it runs it again."""
    path = _file(path)
    if path.exists():
        entries = load(path)
        kept = {name: entry for name, entry in entries.items() if entry["source"] != source}
        if kept != entries:
            write_json(path, kept)


def aggregate(paths: list[str | os.PathLike], seeds: list[int] | None = None) -> dict[str, dict]:
    """The figures of several seeds as one: mean, 95 % t-interval over seeds, n = number of seeds.

    Each entry also keeps the seeds' own values under `values`. With one seed there is no interval.
    Shares are kept within 0 and 1. Raises R1LabError when the seeds did not measure the same
    figures, since a mean over fewer seeds than it says would be a lie.
    """
    runs = [load(path) for path in paths]
    seeds = list(range(len(runs))) if seeds is None else seeds
    names = {name for run in runs for name in run}
    for path, run in zip(paths, runs, strict=True):
        missing = sorted(names - set(run))
        if missing:
            raise R1LabError(f"{path} lacks the figure '{missing[0]}', which another seed has")
    ledger = {}
    for name in runs[0] if runs else ():
        entries = [run[name] for run in runs]
        values = [entry["value"] for entry in entries]
        low, high = t_interval(values)
        ends = [value if entry["low"] is None else entry["low"]
                for entry, value in zip(entries, values, strict=True)]  # fmt: skip
        if entries[0]["unit"] == "share" and low is not None and min(ends) >= 0:
            low, high = max(0.0, low), min(1.0, high)  # not a difference, which may be negative
        ledger[name] = {
            **entries[0],
            "value": statistics.fmean(values),
            "low": low,
            "high": high,
            "n": len(values),
            "values": {str(seed): value for seed, value in zip(seeds, values, strict=True)},
        }
    return ledger


def t_interval(values: list[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of `values` (Student's t); (None, None) for fewer than two."""
    if len(values) < 2:
        return None, None
    quantile = T_975[len(values) - 2] if len(values) - 2 < len(T_975) else 1.96
    mean = statistics.fmean(values)
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


# --------------------------------------------------------------------------------------------------
# Tables


def show(value: float | None, unit: str = "") -> str:
    """A number as a reader wants it: 0.7791 share -> "77.9 %", 118.3 tokens -> "118 tokens"."""
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %"
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def show_with_interval(entry: dict[str, Any]) -> str:
    """The value with its 95 % interval: "86.1 % [84.0, 88.2]"."""
    text = show(entry["value"], entry["unit"])
    if entry["low"] is None:
        return text
    unit = entry["unit"] if entry["unit"] == "share" else ""
    low, high = (show(entry[end], unit).removesuffix(" %") for end in ("low", "high"))
    return f"{text} [{low}, {high}]"


def markdown_table(figures: dict[str, dict], patterns: list[str] | None = None) -> str:
    """A markdown table of `figures` (or those whose name fits a pattern such as "r1_zero/*").

    Figures that differ only in `base` and `trained` share a row, the paper's values beside them.
    """
    rows: dict[str, dict[str, dict]] = {}
    for name, entry in figures.items():
        if patterns and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        parts = name.split("/")
        stage = next((stage for stage in ("base", "trained") if stage in parts), "trained")
        label = "/".join(part for part in parts if part not in ("base", "trained"))
        rows.setdefault(label, {})[stage] = entry
    lines = [
        "| figure | base | trained | paper: base | paper: trained |",
        "|---|---|---|---|---|",
    ]
    for label, stages in rows.items():
        here, paper = [], []
        for stage in ("base", "trained"):
            entry = stages.get(stage)
            here.append(show_with_interval(entry) if entry else "–")
            paper.append(show(entry["paper"], entry["unit"]) if entry else "–")
        lines.append(f"| `{label}` | {' | '.join(here + paper)} |")
    return "\n".join(lines) + "\n"


def readme_block(ledger: dict[str, Any], patterns: list[str] | None = None) -> str:
    """What stands between the README's markers: the table, and how it was measured. The patterns
    ["stages"] stand for R1's stage table (`scorecard.markdown`)."""
    if patterns == ["stages"]:
        from r1lab import scorecard

        table = scorecard.from_ledger(ledger["figures"])
        if not table["ours"]:
            return NOT_MEASURED
        return f"\n{scorecard.markdown(table)}{scorecard.told_by_seed(ledger['figures'])}\n"
    seeds = ", ".join(str(seed) for seed in ledger["seeds"])
    machine, jobs = ledger["hardware"], ledger.get("jobs", 1)
    beside = f", {jobs} seeds side by side" if jobs > 1 else ""
    return (
        f"\n{markdown_table(ledger['figures'], patterns)}\n"
        f"Means over the seeds {seeds} with 95 % intervals (Student's t over seeds), measured by "
        f"`make figures` on {machine['cores']} cores ({machine['cpu']}{beside}), torch "
        f"{ledger['versions']['torch']}. The paper's figures are AIME 2024 with a model of "
        "671 billion parameters: compare the shape, not the size."
        f"{' ' if ledger.get('note') else ''}{ledger.get('note', '')}\n\n"
    )


#: What stands between the README's markers as long as there is no ledger.
NOT_MEASURED = "not measured yet\n"


def readme_is_current(text: str, ledger: str | os.PathLike) -> bool:
    """Whether README `text` shows what the ledger file holds: "not measured yet" without one."""
    if Path(ledger).exists():
        new, count = render_readme(text, load_ledger(ledger))
        return count > 0 and new == text
    return {match["table"] for match in MARKERS.finditer(text)} == {NOT_MEASURED}


def update_readme(readme: str | os.PathLike, ledger: dict[str, Any]) -> bool:
    """Write the ledger's table between the README's markers; False when it has none.

    The markers are `<!-- figures:begin -->` and `<!-- figures:end -->`; the first may name which
    figures it wants: `<!-- figures:begin r1_zero/* -->` (that one is also the default), or ask for
    R1's stage table: `<!-- figures:begin stages -->`.
    """
    readme = Path(readme)
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    new, count = render_readme(text, ledger)
    if count and new != text:
        _replace(readme, new)
    return bool(count)


def render_readme(text: str, ledger: dict[str, Any]) -> tuple[str, int]:
    """`text` with the ledger's table between its markers, and how many pairs it had."""

    def fill(match: re.Match) -> str:
        patterns = match["patterns"].split() or ["r1_zero/*"]
        return match[1] + readme_block(ledger, patterns) + match[4]

    return MARKERS.subn(fill, text)


def load_ledger(path: str | os.PathLike) -> dict[str, Any]:
    """The committed ledger of `make figures`; R1LabError when missing or not of that form."""
    ledger = _read_json(Path(path))
    missing = {"profile", "seeds", "hardware", "versions", "figures"} - set(ledger)
    if missing:
        raise R1LabError(f"{path} is no ledger: it lacks {', '.join(sorted(missing))}")
    return ledger


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


def _file(path: str | os.PathLike) -> Path:
    """`path`, or the `figures.json` in it when it is a folder."""
    path = Path(path)
    return path if path.suffix == ".json" else path / "figures.json"


def _number(name: str, field: str, value: Any, optional: bool = False) -> float | int | None:
    """A finite Python number, or R1LabError (NaN is no JSON, and no result)."""
    if optional and (value is None or value != value):  # an Estimate's end may be NaN: not known
        return None
    try:
        number = value if type(value) is int else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise R1LabError(f"the figure '{name}' has the {field} {value!r}, not a finite number")
    return number

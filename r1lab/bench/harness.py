"""What both benchmarks are made of: goals, turns, ratios, results files, tables.

A ratio of two things timed a moment apart says what the code does; seconds say as much about the
machine. So contenders take turns within every repeat (never side by side), a repeat gives a ratio,
and the median over the repeats is reported with the smallest and the largest.
`benchmarks/README.md` says what is counted.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from r1lab import ROOT
from r1lab.basics import files
from r1lab.basics.errors import R1LabError

RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Ratio:
    """One line of a table: what is divided by what, and the least that it should be."""

    meaning: str
    goal: float | None = None
    percent: bool = False

    def words(self, value: float) -> str:
        return f"{value:.0%}" if self.percent else f"{value:.2f} x"


# --- measuring -----------------------------------------------------------------------------------


def turns(
    contenders: Mapping[str, Callable[[int], dict[str, Any] | None]],
    repeats: int,
    say: Callable[[int, dict[str, dict[str, list]]], Any],
    warm: Sequence[str] = (),
) -> dict[str, dict[str, list]]:
    """Every contender in turn, in every repeat: {name: {field: one value per repeat}}.

    A contender gets the number of the repeat and returns its fields, or None if it failed: then it
    is asked no more. warm: those that run once before anything counts. say: after every repeat.
    """
    for name in warm:
        contenders[name](0)
    measured: dict[str, dict[str, list]] = {name: {} for name in contenders}
    live = list(contenders)
    for repeat in range(repeats):
        for name in list(live):
            found = contenders[name](repeat)
            if found is None:
                live.remove(name)
                continue
            for field, value in found.items():
                measured[name].setdefault(field, []).append(value)
        say(repeat, measured)
    return measured


def quotients(above: dict, below: dict, field: str = "seconds") -> list[float]:
    """The ratio of two contenders in every repeat that both were measured in."""
    pairs = zip(above.get(field, ()), below.get(field, ()), strict=False)
    return [a / b for a, b in pairs]


def now(device: torch.device | str = "cpu") -> float:
    """Seconds by the clock, when all that was asked of the device is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matmul_rate(
    sizes: Sequence[int],
    times: int = 5,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[float, int]:
    """The most FLOP/s that a product of two n x n matrices reaches, and that n."""
    best = (0.0, 0)
    for n in sizes:
        a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
        for _ in range(times + 1):
            began = now(device)
            torch.mm(a, b, out=out)
            best = max(best, (2 * n**3 / (now(device) - began), n))
    return best


# --- the results file ----------------------------------------------------------------------------


def header() -> dict[str, Any]:
    """What every report begins with."""
    return {"when": datetime.now(timezone.utc).strftime("%Y-%m-%d")}


def describe_model(model, name: str) -> dict[str, Any]:
    config = model.config
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "vocabulary": config.vocab_size,
    }


def check(repeats: int | None, out: Path | None) -> None:
    """Before anything is measured: R1LabError for what would fail at its end."""
    if repeats is not None and repeats < 1:
        raise R1LabError(f"repeats must be at least 1, not {repeats}")
    if out is not None:
        files.check_writable(out)


def write(path: Path, report: dict[str, Any], page: str) -> None:
    """The report as JSON, and as a page beside it."""
    files.write_json(path, report)
    path.with_suffix(".md").write_text(page, encoding="utf-8")


def earlier(path: Path, same: dict[str, Any]) -> dict[str, Any] | None:
    """The report at `path`, where everything in `same` is the same there; else None."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        return old if all(old[name] == value for name, value in same.items()) else None
    except (OSError, ValueError, KeyError):
        return None


# --- in markdown ---------------------------------------------------------------------------------


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def ratio_table(rows: Iterable[tuple[str, Ratio, float | None, Sequence[float]]], below=()) -> str:
    """The ratios, each with its median, range and goal. rows: name, what it is, its median (None:
    not reached) and the ratio of every repeat. below: names of those that are lower bounds."""
    lines = []
    for name, ratio, value, pairs in rows:
        shown = "not reached" if value is None else ratio.words(value)
        goal, met = ratio.goal, value is not None and value >= (ratio.goal or 0)
        lines.append((
            f"`{name}`: {ratio.meaning}",
            f"at least {shown}" if value is not None and name in below else shown,
            " to ".join(ratio.words(edge(pairs)) for edge in (min, max)) if pairs else "–",
            str(len(pairs)) if pairs else "–",
            "–" if goal is None else ratio.words(goal),
            "–" if goal is None else "yes" if met else "**no**",
        ))  # fmt: skip
    head = ("ratio", "measured (median)", "smallest to largest", "repeats", "goal", "met")
    return grid(head, lines) if lines else "No ratio was measured."


def median_of(one: dict[str, Any]) -> str:
    """What a contender reached, in its own unit."""
    for field, unit in (("tokens_per_second", "tokens/s"), ("gflops_per_second", "GFLOP/s")):
        if field in one:
            return f"{statistics.median(one[field]):,.0f} {unit}" if one[field] else "–"
    return f"{statistics.median(one['seconds']):.2f} s" if one["seconds"] else "–"


def page(title: str, command: str, report: dict[str, Any], tables: Sequence[str], more) -> str:
    """The page beside a results file, made of it. more: lines for the list at its end."""
    machine, gpu = report["hardware"], report["hardware"].get("gpu")
    card = f"{gpu['name']}, {gpu['memory_gib']} GiB; " if isinstance(gpu, dict) else ""
    threads = f", {report['threads']} threads" if "threads" in report else ""
    text = [
        f"# {title}",
        f"Made by `{command}` on {report['when']}; do not edit. The numbers are in the JSON file "
        "beside this one; what is counted is in `benchmarks/README.md`.",
        *["**Toy sizes (`--quick`): these numbers mean nothing.**"] * report["quick"],
        *["**Not finished: the run was cut here.**"] * (not report.get("finished", True)),
        *tables,
    ]
    points = [
        *(f"{what}: {why}" for what, why in report.get("failures", {}).items()),
        f"Machine: {card}{machine['cpu']}, {machine['cores']} cores{threads}, "
        f"{machine['memory_gib']} GiB",
        "Versions: " + ", ".join(f"{name} {v}" for name, v in report["versions"].items()),
        *more,
        f"It took {report.get('minutes', 0):g} minutes",
    ]
    return "\n\n".join([*text, "\n".join(f"- {point}" for point in points)]) + "\n"

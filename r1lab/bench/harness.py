"""What both benchmarks are made of: goals, turns, ratios, results files, tables.

Contenders take turns within every repeat (never side by side), so that a machine that slows down
slows all of them. A repeat gives a ratio; the median over the repeats is reported with the smallest
and the largest. `benchmarks/README.md` says what is counted.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import yaml

from r1lab import ROOT
from r1lab.basics import files

RESULTS = ROOT / "benchmarks" / "results"
UNITS = {"tokens_per_second": "tokens/s", "gflops_per_second": "GFLOP/s", "seconds": "s"}


@dataclass(frozen=True)
class Ratio:
    """One line of a table: what is divided by what, and the least that it should be. part, of: in
    which part of the benchmark, and the two contenders."""

    meaning: str
    goal: float | None = None
    percent: bool = False
    part: str = ""
    of: Sequence[str] = ()

    def words(self, value: float) -> str:
        return f"{value:.0%}" if self.percent else f"{value:.2f} x"


def ratios_of(benchmark: str) -> dict[str, Ratio]:
    """The ratios of a benchmark ("cpu", "gpu") by name."""
    text = Path(__file__).with_name("goals.yaml").read_text(encoding="utf-8")
    return {name: Ratio(**one) for name, one in yaml.safe_load(text)[benchmark].items()}


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


# --- measuring -----------------------------------------------------------------------------------


def turns(
    contenders: Mapping[str, Callable[[int], dict[str, Any] | None]],
    repeats: int,
    say: Callable[[int, dict[str, dict[str, list]]], Any],
    warm: Sequence[str] = (),
) -> dict[str, dict[str, list]]:
    """Every contender in turn, in every repeat: {name: {field: one value per repeat}}.

    A contender gets the number of the repeat and returns its fields, or None if it failed: it does
    not run again. warm: those that run once before anything counts. say: called after every repeat.
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
    """Seconds by the clock, when the device has finished its work."""
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


def today() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")


def describe_model(model, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": model.config.num_hidden_layers,
        "width": model.config.hidden_size,
        "vocabulary": model.config.vocab_size,
    }


def json_file(out: Any) -> Path | None:
    """The file that --out names; R1LabError where it cannot be written."""
    if out is not None:
        files.check_writable(out := Path(out).with_suffix(".json"))
    return out


def write(path: Path, report: dict[str, Any], page: str) -> None:
    """The report as JSON, and as a page beside it."""
    files.write_json(path, report)
    files.atomic_write_text(path.with_suffix(".md"), page)


def earlier(path: Path, same: dict[str, Any]) -> dict[str, Any] | None:
    """The report at `path`, where everything in `same` is the same there; else None."""
    old = files.read_json(path) or {}
    return old if all(old.get(name) == value for name, value in same.items()) else None


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


def amount(value: float, field: str) -> str:
    return f"{value:,.{2 * (field == 'seconds')}f} {UNITS[field]}"


def median_of(one: dict[str, Any]) -> str:
    """What a contender reached, in its own unit."""
    field = next(field for field in UNITS if field in one)
    return amount(statistics.median(one[field]), field) if one[field] else "–"


def page(title: str, command: str, report: dict[str, Any], tables: Sequence[str], more) -> str:
    """The page beside a results file, made of it. more: lines for the list at its end."""
    machine, gpu = report["hardware"], report["hardware"].get("gpu")
    gpu_name = f"{gpu['name']}, {gpu['memory_gib']} GiB; " if isinstance(gpu, dict) else ""
    threads = f", {report['threads']} threads" if "threads" in report else ""
    text = [
        f"# {title}",
        f"Made by `{command}` on {report['when']}; do not edit. The numbers are in the JSON file "
        "beside this one; what is counted is in `benchmarks/README.md`.",
        *["**Toy sizes (`--quick`): these numbers mean nothing.**"] * report["quick"],
        *["**Not finished: the run was stopped here.**"] * (not report.get("finished", True)),
        *tables,
    ]
    points = [
        *(f"{what}: {why}" for what, why in report.get("failures", {}).items()),
        f"Machine: {gpu_name}{machine['cpu']}, {machine['cores']} cores{threads}, "
        f"{machine['memory_gib']} GiB",
        "Versions: " + ", ".join(f"{name} {v}" for name, v in report["versions"].items()),
        *more,
        f"It took {report.get('minutes', 0):g} minutes",
    ]
    return "\n\n".join([*text, "\n".join(f"- {point}" for point in points)]) + "\n"

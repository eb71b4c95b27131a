"""What the folder of a run tells, while it trains and after: read again whenever it changes.

`r1lab watch` shows it in a terminal (`terminal`) and in a browser (`page`). Nothing but the files
is asked, so the watcher may be started, ended and reloaded at any time, on any run of either
backend, and a run that is resumed goes on where its metrics do. Whatever is in the files may have
been written by a model, or by somebody else: numbers are numbers here, the rest is text.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1lab import ROOT
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import read_json, read_lines
from r1lab.machine import costs
from r1lab.training.diagnose import in_words
from r1lab.training.loop import ABOUT, METRICS, MODEL, SAMPLES
from r1lab.training.records import RECORD

TAIL = 4_000_000  # bytes at the end of samples.jsonl that are read
LATE = 5  # times a step's seconds, at least a minute, after which a run counts as stopped

# measure -> (what it is called, how it is written)
MEASURES = {
    "accuracy": ("accuracy", "{:.0%}"), "length": ("length", "{:.0f} tokens"),
    "reflection": ("reflection", "{:.2f} words"), "entropy": ("entropy", "{:.2f} nats"),
    "zero_spread_groups": ("zero-variance groups", "{:.0f}"), "truncated": ("truncated", "{:.0%}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"), "memory": ("memory", "{:.2f} GiB"),
    "loss": ("loss", "{:.3g}"),
}  # fmt: skip


class Run:
    """A run by its folder. name: what it is called beside others. dollars_per_hour: of the machine;
    None: as about.json says.

    history: metrics of each step. sample: the completions of the last step that kept any. meter:
    tokens, time, dollars.
    """

    def __init__(self, folder: Path, name: str, dollars_per_hour: float | None = None) -> None:
        self.folder, self.name, self.price = folder, name, dollars_per_hour
        self.stamp: tuple = ()
        self.refresh()

    def refresh(self) -> None:
        """Read the files again where they have changed."""
        names = (METRICS, SAMPLES, ABOUT, f"{MODEL}/{RECORD}")
        stamp = tuple(_changed(self.folder / name) for name in names)
        if stamp == self.stamp:
            return
        self.stamp = stamp
        record = read_json(self.folder / MODEL / RECORD) or {}
        about = read_json(self.folder / ABOUT) or {}
        config = about.get("config") or record.get("config")
        self.config = config if isinstance(config, Mapping) else {}
        self.history = cleaned(row for _, row in read_lines(self.folder / METRICS)[0])
        rows = kept(self.folder / SAMPLES)
        self.sample = [row for row in rows if row["step"] == rows[-1]["step"]] if rows else []
        done = self.history[-1]["step"] + 1 if self.history else 0
        told = about.get("steps") or self.config.get("steps")
        self.known = type(told) is int and 0 < told < 10**9
        self.steps = max(done, told) if self.known else done
        self.whole = bool(record) and done >= self.steps
        price = self.price or about.get("dollars_per_hour")
        price = price if isinstance(price, int | float) and 0 < price < math.inf else None
        self.meter = costs.Meter(self.steps, price)
        for row in self.history:
            self.meter.add({"tokens": 0, "seconds": 0.0} | row)

    @property
    def age(self) -> float | None:
        """Seconds since the last step was written; None before the first."""
        written = self.stamp[0]
        return max(0.0, time.time() - written[0] / 1e9) if written and self.history else None

    @property
    def state(self) -> str:
        """One of "waiting" (for its first step), "training", "stopped" (or stuck, or killed: it has
        written nothing for long) and "done"."""
        if not self.history:
            return "waiting"
        step = max([row.get("seconds", 0.0) for row in self.history[-5:]])
        if self.whole:
            return "done"
        return "training" if self.age < max(60.0, LATE * step) else "stopped"

    @property
    def progress(self) -> str:
        """The steps that are done, of all where these are known."""
        return f"{self.meter.done}" + (f" of {self.steps}" if self.known else "")

    def words(self) -> str:
        """How far it is, how long ago it wrote, time and money, in a line."""
        meter, expected, line = self.meter, self.meter.expected_seconds, f"step {self.progress}"
        if self.state == "waiting":
            return line
        trains = self.state == "training" and self.known
        line += f", the last {costs.clock(self.age)} ago; {costs.clock(meter.seconds)}"
        if trains:
            left = costs.clock(expected - meter.seconds)
            line += f" of about {costs.clock(expected)}, {left} left"
        if (price := meter.dollars_per_hour) is not None:
            line += f"; {costs.money(costs.dollars(meter.seconds, price))}"
            line += f" of about {costs.money(costs.dollars(expected, price))}" if trains else ""
        return line

    def measures(self) -> dict[str, str]:
        """The last step's measures, in words with their units, by what they are called."""
        last = self.history[-1] if self.history else {}
        found = {
            name: form.format(last[key])
            for key, (name, form) in MEASURES.items()
            if key in last and (key != "loss" or "accuracy" not in last)
        }
        if "spread_groups" in last and "zero-variance groups" in found:
            groups = last["zero_spread_groups"] + last["spread_groups"]
            found["zero-variance groups"] += f" of {groups:.0f}"
        return found

    def curve(self, key: str) -> list[float]:
        """A measure at each step that has it."""
        return [row[key] for row in self.history if key in row]

    def diagnosis(self) -> list[str]:
        """How the reward does, and what is broken, in sentences; with what was found earlier."""
        try:
            said = in_words(self.history, self.config)
        except (KeyError, TypeError, ValueError):  # another kind of run, or damaged options
            said = []
        earlier = [
            f"step {row['step']}: {', '.join(codes).replace('_', ' ')}"
            for row in self.history
            if (codes := row.get("diagnoses"))
        ]
        return said + ([f"Found while it trained: {'; '.join(earlier[-5:])}."] if earlier else [])


def cleaned(rows: Any) -> list[dict[str, Any]]:
    """Metrics that can be drawn: a finite number each, and the diagnoses' codes. A step that was
    done again replaces itself and what came after it."""
    history: list[dict[str, Any]] = []
    for row in rows:
        good = {
            key: value
            for key, value in row.items()
            if type(value) in (int, float) and abs(value) < 1e18
        }
        if type(good.get("step")) is not int or good["step"] < 0:
            continue
        if isinstance(codes := row.get("diagnoses"), list) and codes:
            good["diagnoses"] = [str(code)[:40] for code in codes[:9]]
        while history and history[-1]["step"] >= good["step"]:
            history.pop()
        history.append(good)
    return history


def kept(path: Path) -> list[dict[str, Any]]:
    """The completions at the end of a samples.jsonl, in the order of their steps."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    rows = []
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the first is cut, the last may be half written
        if isinstance(row, dict) and type(row.get("step")) is int:
            rows.append(row)
    return rows


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size


def named(folders: Sequence[str | os.PathLike], price: float | None = None) -> list[Run]:
    """Runs by the names that tell them apart. Raises R1LabError for what is no folder, or twice."""
    paths = []
    for given in folders:
        path = Path(given).expanduser()
        path = path if path.is_absolute() or path.is_dir() else ROOT / path
        path = path.parent if path.is_file() else path
        if not path.is_dir():
            raise R1LabError(f"there is no folder {given}; name the folder of a run (--out)")
        if path.resolve() in paths:
            raise R1LabError(f"{given} is named twice")
        paths.append(path.resolve())
    parts = 1
    while len({path.parts[-parts:] for path in paths}) < len(paths):
        parts += 1
    return [Run(path, "/".join(path.parts[-parts:]), price) for path in paths]


def of_class(
    folder: str | os.PathLike, price: float | None = None, known: dict[Path, Run] | None = None
) -> list[Run]:
    """The newest run of each student: a folder for each in `folder`, with runs anywhere in it.
    known: runs of an earlier call, which are read again only where they have changed. Raises
    R1LabError where there is none."""
    known = {} if known is None else known
    path = Path(folder).expanduser()
    path = path if path.is_absolute() or path.is_dir() else ROOT / path
    students = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    found = []
    for student in students:
        runs = [p for p in student.rglob(METRICS) if not p.parent.name.startswith("earlier-")]
        runs = [p for p in runs if p.resolve().is_relative_to(path.resolve())]
        if runs:
            newest = max(runs, key=lambda p: (_changed(p) or (0, 0))[0])
            if (run := known.get(newest.parent)) is None:
                run = known[newest.parent] = Run(newest.parent, student.name, price)
            run.refresh()
            found.append(run)
    if not found:
        raise R1LabError(f"no student in {folder} has a run: a folder for each, with runs in it")
    return found

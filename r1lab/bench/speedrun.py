"""The speedrun: seconds from the committed base to 80 % of held-out Countdown, on two cores.

A recipe is one file, in benchmarks/speedrun/ or anywhere:

    NAME.yaml    options of GRPOConfig, and `changed` (what is new in it, in words), `stop_at` (the
                 run ends when the mean accuracy of its last `window` training batches reaches it)
    NAME.py      CHANGED, the words, and `train(model, tokenizer, task, seed, out)`, which trains
                 the model in place as it likes, on problems of the split "train" alone

The clock starts before the base is loaded, in a fresh process on two cores, and ends when the
recipe returns; imports and the verification do not count. Verified is a recipe of which the lower
end of the held-out accuracy's 95 % interval is 80 % or more with both seeds. The slower seed
counts. Only verified runs get a row in the table, benchmarks/results/speedrun.json and .md.
"""

import importlib.util
import math
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from r1lab import ROOT, grpo
from r1lab.basics import files
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.bench.harness import RESULTS, grid, say, today, write
from r1lab.evaluate import evaluate
from r1lab.grpo_config import GRPOConfig
from r1lab.machine.about import hardware, versions
from r1lab.models.load import load
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task
from r1lab.training.stages import content

RECIPES = ROOT / "benchmarks" / "speedrun"
TABLE = RESULTS / "speedrun.json"
CORES = 2


@dataclass(frozen=True)
class Size:
    """What is asked of a run. The seed of the verification differs from every recipe's."""

    base: str = "tiny"
    target: float = 0.8
    problems: int = 512
    k: int = 4
    max_new_tokens: int = 448
    seed: int = 90_000
    seeds: tuple[int, ...] = (0, 1)  # of the training
    smaller: dict[str, Any] = field(default_factory=dict)  # options of GRPOConfig, for a test


QUICK = Size(
    seeds=(0,), target=0.0, problems=2, k=2, max_new_tokens=8,
    smaller={"steps": 2, "questions": 2, "group_size": 2, "max_new_tokens": 8, "minibatches": 1,
             "pass_rate_low": 0.0, "pass_rate_high": 1.0},
)  # fmt: skip


class Reached(Exception):
    """A recipe's training accuracy is where it stops."""


@dataclass(frozen=True)
class Recipe:
    """A recipe file, read. train(model, tokenizer, task, seed, out) trains in place."""

    path: Path
    changed: str
    train: Callable[..., Any]

    @property
    def name(self) -> str:
        return self.path.stem


def names() -> list[str]:
    """The recipes that are in the repository."""
    return sorted(path.stem for path in RECIPES.glob("[!_]*.*") if path.suffix in (".yaml", ".py"))


def read(recipe: str, size: Size = Size()) -> Recipe:
    """A recipe by file, or by its name in benchmarks/speedrun/. Raises R1LabError."""
    given = Path(recipe)
    ours = [RECIPES / f"{recipe}{suffix}" for suffix in (".yaml", ".py")]
    path = next((one for one in (given, *ours) if one.is_file()), None)
    if path is None:
        raise R1LabError(f"there is no recipe {recipe}{did_you_mean(recipe, names())}")
    if path.suffix == ".py":
        spec = importlib.util.spec_from_file_location(f"speedrun_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.SMALLER = size.smaller
        if not callable(getattr(module, "train", None)) or not getattr(module, "CHANGED", ""):
            raise R1LabError(f"{path} must have CHANGED, a text, and train(model, tokenizer, ...)")
        return Recipe(path, module.CHANGED, module.train)
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise R1LabError(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from error
    known = {f.name for f in fields(GRPOConfig)} - {"seed"} | {"changed", "stop_at", "window"}
    if not isinstance(options, dict) or not options.get("changed"):
        raise R1LabError(f"{path} must say what it changed, in words: `changed: ...`")
    if wrong := [str(name) for name in options if name not in known]:
        raise R1LabError(f"{path}: no option {wrong[0]}{did_you_mean(wrong[0], sorted(known))}")
    changed = str(options.pop("changed"))
    stop = float(options.pop("stop_at", 2.0)), int(options.pop("window", 3))
    lists = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    config = GRPOConfig(checkpoint_every=10**9, samples_every=0, **lists)
    return Recipe(path, changed, by_options(replace(config, **size.smaller), *stop))


def by_options(config: GRPOConfig, stop_at: float, window: int) -> Callable[..., Any]:
    """A recipe's `train` from options."""

    def train(model, tokenizer, task, seed: int, out: str) -> None:
        seen: list[float] = []

        def watch(step: int, metrics: dict[str, Any], batch: Any) -> None:
            seen.append(metrics["accuracy"])
            if len(seen) >= window and fmean(seen[-window:]) >= stop_at:
                raise Reached

        how = {"progress": False, "callbacks": [watch]}
        with suppress(Reached):
            grpo.train(model, tokenizer, task, replace(config, seed=seed), out, **how)

    return train


def attempt(recipe: str, seed: int, size: Size) -> dict[str, Any]:
    """A training from the base, verified: its seconds, and held-out accuracy with an interval."""
    found, task = read(recipe, size), get_task("countdown")
    with tempfile.TemporaryDirectory() as out:
        began = time.perf_counter()
        model, tokenizer = load(size.base)
        found.train(model, tokenizer, task, seed, out)
        seconds = time.perf_counter() - began
    problems = task.problems("held_out", size.problems)
    how = Sampling(size.max_new_tokens, seed=size.seed + seed)
    accuracy = evaluate(model, tokenizer, task, problems, k=size.k, sampling=how).accuracy
    return {"seed": seed, "seconds": round(seconds, 2), "accuracy": [round(x, 4) for x in accuracy]}


@contextmanager
def two_cores() -> Iterator[int]:
    """Processes started inside have two cores, or as many as there are; yields their number."""
    if not hasattr(os, "sched_setaffinity"):
        yield os.cpu_count() or 1
        return
    before = os.sched_getaffinity(0)
    mine = sorted(before)[:CORES]
    os.sched_setaffinity(0, mine)
    try:
        yield len(mine)
    finally:
        os.sched_setaffinity(0, before)


def run(recipe: str, beside: str | None = None, size: Size = Size()) -> dict[str, Any]:
    """The row of a recipe: every seed in a process of its own; with `beside` another recipe takes
    turns with it, so that the machine's mood is the same for both. "verified" says whether both
    seeds reach the target, `beside` then how many times faster it is."""
    recipes = [recipe] if beside is None else [recipe, beside]
    read_all = [read(one, size) for one in recipes]  # what is wrong with one is said now
    found: dict[str, list[dict[str, Any]]] = {one: [] for one in recipes}
    spawn = multiprocessing.get_context("spawn")
    with two_cores() as cores:
        for seed in size.seeds:
            for one in recipes:
                with ProcessPoolExecutor(1, mp_context=spawn) as process:
                    found[one].append(process.submit(attempt, one, seed, size).result())
                say(f"{one}, seed {seed}: {words_of(found[one][-1])}")
    row = {
        "recipe": read_all[0].name,
        "changed": read_all[0].changed,
        **summed(found[recipe], size.target),
        "date": today(),
        "hardware": hardware() | {"cores": cores},
        "versions": versions(),
        "commit": commit(),
        "base": content(size.base)[:12],
    }
    if beside is not None:
        other = {"recipe": read_all[1].name} | summed(found[beside], size.target)
        row["beside"] = other | {"times_faster": round(other["seconds"] / row["seconds"], 2)}
    return row


def summed(attempts: Sequence[dict[str, Any]], target: float) -> dict[str, Any]:
    """Both seeds: the slower one's seconds, the lower interval, and whether both are verified."""
    low = min(one["accuracy"][1] for one in attempts)
    seconds = max(one["seconds"] for one in attempts)
    return {"seconds": seconds, "low": low, "verified": low >= target, "seeds": list(attempts)}


def words_of(one: dict[str, Any]) -> str:
    value, low, high = (f"{100 * x:.1f} %" for x in one["accuracy"])
    return f"{one['seconds']:.1f} s, held-out accuracy {value} [{low}, {high}]"


def commit() -> str:
    """The repository's commit, with + where files differ from it."""
    with suppress(OSError, subprocess.SubprocessError):
        git = ["git", "-C", str(ROOT)]
        how = {"capture_output": True, "text": True, "check": True, "timeout": 20}
        name = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], **how).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], **how).stdout.strip()
        return name + "+" * bool(changed)
    return "unknown"


def enter(row: dict[str, Any], table: Path = TABLE) -> None:
    """Add a verified row to the table and write its page."""
    if not row["verified"]:
        raise R1LabError("only a verified run has a row in the table")
    rows = [*rows_of(table), row]
    write(table, {"rows": rows}, page(rows))


def rows_of(table: Path = TABLE) -> list[dict[str, Any]]:
    return (files.read_json(table) or {}).get("rows", [])


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The table of records as Markdown, made from the JSON. A record is faster than every earlier
    row from the same base on the same CPU."""
    best: dict[tuple, float] = {}
    lines = []
    for row in rows:
        key = (row["base"], row["hardware"]["cpu"], row["hardware"]["cores"])
        record = row["seconds"] < best.get(key, math.inf)
        best[key] = min(row["seconds"], best.get(key, math.inf))
        faster = row.get("beside")
        lines.append((
            f"**{row['seconds']:.1f}**" if record else f"{row['seconds']:.1f}",
            row["recipe"],
            row["changed"],
            ", ".join(f"{one['seconds']:.1f}" for one in row["seeds"]),
            f"{100 * row['low']:.1f} %",
            f"{faster['times_faster']:.2f} × {faster['recipe']}" if faster else "",
            row["date"],
            f"{row['hardware']['cpu']}, {row['hardware']['cores']} cores",
            f"`{row['commit']}`, base `{row['base']}`",
        ))  # fmt: skip
    head = ("seconds", "recipe", "what it changed", "both seeds", "held-out, low", "beside",
            "date", "machine", "commit")  # fmt: skip
    about = (
        "# Speedrun: from the base to 80 % of held-out Countdown\n\n"
        "Seconds of wall time on two cores, of two seeds the slower; verified from scratch, the "
        "lower end of the 95 % interval of held-out accuracy at 80 % or more with both. Bold: a "
        "record of its machine and base. `r1lab speedrun RECIPE` makes a row; the recipes are in "
        "`benchmarks/speedrun/`.\n\n"
    )
    return about + (grid(head, lines) if lines else "No row yet.") + "\n"

"""How fast is the loop on this machine's CPUs? Ratios against TRL, measured in one run.

step      seconds of one GRPO step: TRL's GRPOTrainer / r1lab.grpo, once with TRL's defaults and
          once with its best settings for a CPU, the fastest of `TRL_CANDIDATES`
backend   the same step: TRL at its best / through r1lab.trl_backend
sampler   tokens per second: r1lab's sampler / transformers' generate
half      seconds from the base model to an accuracy of 50 %: TRL at its best / r1lab.grpo
learning  24 steps on TRL over three seeds, with generate / with r1lab's sampler, and the curves
matmul    arithmetic of forward and backward per second / the same of a large matrix product
busy      the step on an idle machine / beside programs that keep every core busy
"""

from __future__ import annotations

import copy
import importlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

import torch

from r1lab import models
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.quiet import quietly
from r1lab.bench import harness
from r1lab.bench.harness import quotients, turns
from r1lab.bench.loops import (
    FLOAT32,
    TRL_DEFAULT,
    Bench,
    Plan,
    draw_generate,
    draw_r1lab,
    matmul_share,
    r1lab_run,
    trl_run,
)
from r1lab.grpo import GRPOConfig
from r1lab.machine.about import hardware, versions
from r1lab.tasks import get_task
from r1lab.trl_backend.run import train as train_on_trl

RESULTS = harness.RESULTS / "cpu.json"
RATIOS = harness.ratios_of("cpu")
# What may be fastest on a CPU: rows per micro-batch, and generate's cache.
ROWS = "per_device_train_batch_size"
TRL_CANDIDATES: dict[str, dict[str, Any]] = {
    "float32, 8 rows": FLOAT32,
    "float32, 32 rows": FLOAT32 | {ROWS: 32},
    "float32, 64 rows": FLOAT32 | {ROWS: 64},
    "float32, 32 rows, static cache": FLOAT32 | {ROWS: 32, "cache_implementation": "static"},
}
# Toy sizes, to see that all of it works: the numbers mean nothing.
TOY = GRPOConfig(questions=2, group_size=2, max_new_tokens=12)
QUICK = Plan(
    TOY, repeats=1, half_repeats=1, target=0.0, limit=2, window=1,
    learning=replace(TOY, steps=2), learning_seeds=1, matmul_sizes=(128,),
)  # fmt: skip


def run(
    model: str | os.PathLike = "tiny",
    *,
    repeats: int | None = None,
    quick: bool = False,
    only: Sequence[str] | None = None,
    out: str | os.PathLike | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Measure, print a table, and write <out>.json and <out>.md; returns what the JSON holds.

    model    a name for r1lab.models.load
    repeats  default 5 (3 of the whole trainings, or fewer when fewer are asked for)
    quick    toy sizes, to prove that it works
    only     some of PARTS; default all
    out      default benchmarks/results/cpu.json; a quick run is written only where `out` says,
             and a partial one too, unless what is there comes from this machine with these
             versions: then its parts take the place of those there

    Raises R1LabError for an unknown part, a number of repeats below 1, or where `out` cannot be
    written.
    """
    stream = sys.stderr if stream is None else stream
    out = harness.json_file(out, repeats)
    parts = list(PARTS if only is None else only)
    if unknown := [part for part in parts if part not in PARTS]:
        more = f"take {', '.join(PARTS)}{did_you_mean(unknown[0], PARTS).partition('; known')[0]}"
        raise R1LabError(f"unknown part '{unknown[0]}' of the benchmark; {more}")
    if not parts:
        raise R1LabError(f"nothing to measure; take some of {', '.join(PARTS)}")
    plan = QUICK if quick else Plan()
    if repeats is not None:
        plan = replace(plan, repeats=repeats, half_repeats=min(plan.half_repeats, repeats))
    began, whole = time.perf_counter(), set(parts) == set(PARTS)
    base, tokenizer = models.load(model)
    known = None if whole or quick else harness.earlier(RESULTS, machine())
    say = partial(print, file=stream, flush=True)
    report = measure(base, tokenizer, plan, parts, say, (known or {}).get("trl_best"))
    report |= {"model": harness.describe_model(base, str(model)), "quick": quick}
    report["minutes"] = round((time.perf_counter() - began) / 60, 1)
    if out is None and not quick:
        report = report if whole else merged(report, RESULTS)
        out = RESULTS if whole or "parts" in report else None
    print(f"\n{table(report)}", file=stream)
    if out is not None:
        harness.write(out, report, page(report))
        print(f"written: {out} and {out.with_suffix('.md').name}", file=stream)
    elif not quick:
        print("a partial run is not written; --out says where, if it should be", file=stream)
    return report


def machine() -> dict[str, Any]:
    """What a result must share with another to stand beside it."""
    return {"hardware": hardware(), "threads": torch.get_num_threads(), "versions": versions()}


def merged(report: dict[str, Any], path: Path) -> dict[str, Any]:
    """A partial report put into the whole one at `path`, with its day under `parts`; the partial
    one as it is where that comes from another machine, other versions, or another configuration."""
    names = ("hardware", "threads", "versions", "configuration", "model")
    old = harness.earlier(path, {name: report[name] for name in names})
    if old is None:
        return report
    old["parts"] = old.get("parts", {}) | {part: report["when"] for part in report["measured"]}
    old["minutes"] = round(old["minutes"] + report["minutes"], 1)
    for name in ("measured", "pairs", "ratios"):
        old[name] |= report[name]
    if "half" in report["measured"]:  # whether TRL was given up is of this part alone
        old.pop("lower_bounds", None)
        old |= {name: report[name] for name in ("lower_bounds",) if name in report}
    return old | {"goals": goals(old["ratios"])}


def goals(ratios: dict[str, Any]) -> dict[str, float | None]:
    return {name: RATIOS[name].goal for name in ratios}


def measure(
    base,
    tokenizer,
    plan: Plan,
    parts: Sequence[str],
    say: Callable = print,
    best: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that was measured, as plain values: see benchmarks/README.md for the fields. best: TRL's
    best settings where they are known, as `choose_trl` returns them."""
    report = {"when": harness.today()} | machine() | {"configuration": plan.config.to_json()}
    report |= {"measured": {}, "pairs": {}}
    with quietly(), tempfile.TemporaryDirectory() as folder:
        how = {"task": get_task("countdown"), "plan": plan, "folder": Path(folder), "say": say}
        bench = Bench(base=base, tokenizer=tokenizer, **how)
        if {"step", "backend", "half"} & set(parts):
            report["trl_best"] = best or choose_trl(bench)
        fast = TRL_CANDIDATES.get(report.get("trl_best", {}).get("name"))
        for part in PARTS:
            if part in parts:
                report["measured"][part], pairs = PARTS[part](bench, fast)
                report["pairs"] |= pairs
    report["ratios"] = {
        name: statistics.median(pairs) if pairs else None for name, pairs in report["pairs"].items()
    }
    report["goals"] = goals(report["ratios"])
    half = report["measured"].get("half")
    if half and not all(half["trl_best"]["reached"]):  # TRL was given up before it got there
        report["lower_bounds"] = ["time_to_half_vs_trl_best"]
    return report


def choose_trl(bench: Bench) -> dict[str, Any]:
    """The fastest of TRL_CANDIDATES, by one step of each after one to warm up."""
    trl_run(bench, FLOAT32, seed=0)  # the first step of a process pays for imports
    seconds = {}
    for name, options in TRL_CANDIDATES.items():
        seconds[name] = trl_run(bench, options, seed=0).seconds[0]
        bench.say(f"TRL, {name}: {seconds[name]:.2f} s per step")
    return {"name": min(seconds, key=seconds.get), "tried": seconds}


# --- the parts -----------------------------------------------------------------------------------
# Each returns what it measured and, for each of its ratios, the ratio of every repeat.
# fast: TRL's options at its best.

Measured = tuple[dict[str, Any], dict[str, list[float]]]
Contenders = dict[str, Callable[[int], dict[str, Any] | None]]


def contest(
    bench: Bench,
    part: str,
    contenders: Contenders,
    ratios: dict[str, tuple[str, str]],
    *,
    warm: Sequence[str] = (),
    repeats: int | None = None,
    field: str = "seconds",
) -> Measured:
    """All contenders in turns. ratios: by name, whose `field` is divided by whose."""

    def say(repeat: int, measured: dict[str, dict[str, list]]) -> None:
        last = (
            f"{name} {harness.amount(m[field][-1], field)}" for name, m in measured.items() if m
        )
        bench.say(f"{part}, repeat {repeat + 1}: {', '.join(last)}")

    found = turns(contenders, repeats or bench.plan.repeats, say, warm)
    pairs = {name: quotients(found[a], found[b], field) for name, (a, b) in ratios.items()}
    return found, pairs


def measure_step(bench: Bench, fast: dict[str, Any]) -> Measured:
    """One GRPO step from the base: prompts, completions, rewards, gradient, new weights."""
    contenders = {
        "r1lab": lambda seed: r1lab_run(bench, seed).step(),
        "trl_best": lambda seed: trl_run(bench, fast, seed).step(),
        "trl_our_sampler": lambda seed: trl_run(bench, fast, seed, ours="sampler").step(),
        "trl_default": lambda seed: trl_run(bench, TRL_DEFAULT, seed).step(),
    }
    ratios = {
        "step_vs_trl_default": ("trl_default", "r1lab"),
        "step_vs_trl_best": ("trl_best", "r1lab"),
        "trl_step_with_our_sampler": ("trl_best", "trl_our_sampler"),
    }
    return contest(bench, "step", contenders, ratios, warm=("r1lab", "trl_our_sampler"))


def measure_backend(bench: Bench, fast: dict[str, Any]) -> Measured:
    """The same step by TRL at its best, and as `r1lab train --backend trl` computes it."""
    contenders = {
        "trl_best": lambda seed: trl_run(bench, fast, seed).step(),
        "trl_backend": lambda seed: trl_run(bench, fast, seed, ours="backend").step(),
    }
    ratios = {"trl_step_with_our_backend": ("trl_best", "trl_backend")}
    return contest(bench, "backend", contenders, ratios, warm=tuple(contenders))


def measure_sampler(bench: Bench, fast: Any = None) -> Measured:
    """Sampled tokens per second, EOS included, from the base on the same prompts; generate with its
    own cache and with a static one. The ratio is to the faster."""

    def timed(draw: Callable[..., list[int]], seed: int, **options: Any) -> dict[str, float]:
        bench.prompts(seed)
        began = time.perf_counter()
        lengths = draw(bench, bench.batch, seed, **options)
        seconds = time.perf_counter() - began
        rate = {"tokens_per_second": sum(lengths) / seconds, "seconds": seconds}
        return rate | {"mean_length": statistics.fmean(lengths)}

    contenders = {
        "r1lab": partial(timed, draw_r1lab),
        "generate": partial(timed, draw_generate),
        "generate_static": partial(timed, draw_generate, cache_implementation="static"),
    }
    field = "tokens_per_second"
    found, _ = contest(bench, "sampler", contenders, {}, warm=tuple(contenders), field=field)
    faster = max(("generate", "generate_static"), key=lambda n: statistics.median(found[n][field]))
    pairs = quotients(found["r1lab"], found[faster], field)
    return found | {"faster": faster}, {"sampler_vs_generate": pairs}


def measure_half(bench: Bench, fast: dict[str, Any]) -> Measured:
    """Wall time of a training from the base to an accuracy of 50 % on the train batches.

    Where r1lab got there and TRL was given up before it did, the ratio is that of the times spent:
    a lower bound. Where r1lab did not get there, there is no ratio.
    """
    plan, began = bench.plan, time.perf_counter()

    def contend(training: Callable, repeat: int) -> dict[str, Any] | None:
        spent = time.perf_counter() - began
        if repeat and spent * (repeat + 1) > plan.half_seconds * repeat:  # this one would be late
            return None
        seen = training(seed=repeat, steps=plan.limit, to_half=True)
        curves = {"accuracy": seen.accuracy, "mean_length": seen.length}
        rounded = {name: [round(float(x), 3) for x in curve] for name, curve in curves.items()}
        about = {"seconds": seen.total, "steps": len(seen.seconds), "reached": seen.reached}
        return about | rounded

    contenders = {
        "r1lab": partial(contend, partial(r1lab_run, bench)),
        "trl_best": partial(contend, partial(trl_run, bench, fast)),
    }
    found, _ = contest(bench, "to half", contenders, {}, repeats=plan.half_repeats)
    pairs = zip(
        quotients(found["trl_best"], found["r1lab"]), found["r1lab"]["reached"], strict=False
    )
    return found, {"time_to_half_vs_trl_best": [pair for pair, reached in pairs if reached]}


def measure_learning(bench: Bench, fast: Any = None) -> Measured:
    """Whole runs on TRL, by generate and by our sampler: do they learn the same, and how fast?"""

    def contend(sampler: str, seed: int) -> dict[str, Any]:
        config = replace(bench.plan.learning, seed=seed, checkpoint_every=10**9)
        about = (copy.deepcopy(bench.base), bench.tokenizer, bench.task, config)
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            history = train_on_trl(*about, folder, sampler=sampler, device="cpu", progress=False)
        return {
            "seconds": sum(m["seconds"] for m in history),
            "mean_length": [m["length"] for m in history],
            "accuracy": [m["accuracy"] for m in history],
        }

    contenders = {name: partial(contend, name) for name in ("generate", "r1lab")}
    ratios = {"trl_run_with_our_sampler": ("generate", "r1lab")}
    return contest(bench, "learning", contenders, ratios, repeats=bench.plan.learning_seeds)


def measure_matmul(bench: Bench, fast: Any = None) -> Measured:
    """Forward and backward of a whole batch, against the best large matrix product."""
    ratios = {"matmul_share": ("training", "matmul")}
    return contest(bench, "arithmetic", matmul_share(bench), ratios, field="gflops_per_second")


def measure_busy(bench: Bench, fast: Any = None) -> Measured:
    """r1lab's step on the machine as it is, beside programs that keep its cores busy, and in a
    process with one worker whose threads wait as GNU OpenMP's do by themselves: 300,000 rounds of
    spinning at the end of every operation."""

    def busy(seed: int) -> dict[str, float]:
        with burning(max(2, torch.get_num_threads())):
            return one_step(bench, seed)

    new = multiprocessing.get_context("spawn")
    quiet = replace(bench, say=print)  # which can be sent to another process
    with ProcessPoolExecutor(1, new, initializer=one_worker) as pool:
        with patch.dict(os.environ, GOMP_SPINCOUNT="300000"):
            pool.submit(os.getpid).result()  # the process starts with this environment
        contenders = {
            "idle": partial(one_step, bench),
            "busy": busy,
            "spinning": lambda seed: pool.submit(one_step, quiet, seed).result(),
        }
        ratios = {"busy_share": ("idle", "busy"), "idle_vs_spinning": ("spinning", "idle")}
        return contest(bench, "busy", contenders, ratios, warm=("idle", "spinning"))


def one_step(bench: Bench, seed: int) -> dict[str, float]:
    return r1lab_run(bench, seed).step()


def one_worker() -> None:
    """Where r1lab has workers for rows and micro-batches, only one in this process."""
    with suppress(ImportError):
        importlib.import_module("r1lab.machine.workers").MOST = 1


@contextmanager
def burning(programs: int) -> Iterator[None]:
    """Beside programs that each keep a core busy, and end at the latest with this process."""
    burn = [sys.executable, "-c", f"import os\nwhile os.getppid() == {os.getpid()}: pass"]
    running = [subprocess.Popen(burn) for _ in range(programs)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


PARTS: dict[str, Callable[..., Measured]] = {
    "step": measure_step,
    "backend": measure_backend,
    "sampler": measure_sampler,
    "half": measure_half,
    "learning": measure_learning,
    "matmul": measure_matmul,
    "busy": measure_busy,
}


# --- the page ------------------------------------------------------------------------------------


def table(report: dict[str, Any]) -> str:
    """The ratios beside their goals, in markdown."""
    rows = [
        (name, replace(RATIOS[name], goal=report["goals"][name]), value, report["pairs"][name])
        for name, value in report["ratios"].items()
    ]
    return harness.ratio_table(rows, report.get("lower_bounds", ()))


def details(report: dict[str, Any]) -> str:
    """The medians that the ratios stand on, in markdown."""
    rows = []
    for part, measured in report["measured"].items():
        for name, m in measured.items():
            if not isinstance(m, dict):
                continue
            steps = f", {statistics.median(m['steps']):.0f} steps" if "steps" in m else ""
            lengths: list[float] = []
            for entry in m.get("mean_length", []):
                lengths += entry if isinstance(entry, list) else [entry]
            length = f"{statistics.fmean(lengths):.0f}" if lengths else "–"
            rows.append((part, name, harness.median_of(m) + steps, length))
    return harness.grid(("part", "contender", "median", "mean completion (tokens)"), rows)


def page(report: dict[str, Any]) -> str:
    """benchmarks/results/cpu.md: made from the JSON beside it."""
    model, config = report["model"], report["configuration"]
    more = [
        f"Model: {model['name']}, {model['parameters']:,} parameters, {model['layers']} layers, "
        f"width {model['width']}",
        f"A step: {config['questions']} prompts x {config['group_size']} completions of at most "
        f"{config['max_new_tokens']} tokens, learning rate {config['learning_rate']:g}",
    ]
    if "trl_best" in report:
        tried = ", ".join(f"{n} {s:.2f} s" for n, s in report["trl_best"]["tried"].items())
        more.append(f"TRL at its best: {report['trl_best']['name']} (a step of each: {tried})")
    if "parts" in report:
        later = ", ".join(f"{part} ({day})" for part, day in report["parts"].items())
        more.append(f"Measured again later, by themselves: {later}")
    tables = (table(report), details(report))
    return harness.page("r1lab against TRL on this machine", "r1lab bench", report, tables, more)

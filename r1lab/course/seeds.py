"""The lessons over several seeds, aggregated in one results file."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from r1lab import ROOT
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.ledger import load, load_ledger
from r1lab.course import claims, picture, profiles, reference
from r1lab.course.readme import update_readme
from r1lab.course.runner import run
from r1lab.machine.about import hardware, versions
from r1lab.statistics import t_interval
from r1lab.training.metrics import metrics_of

LEDGER = ROOT / "benchmarks" / "results" / "figures-cpu.json"
README = ROOT / "README.md"
PAGES = (README, ROOT / "benchmarks" / "README.md")


def measure(
    seeds: list[int],
    profile: str = "cpu",
    *,
    notebooks: list[str] | None = None,
    folder: str | os.PathLike = profiles.NOTEBOOKS,
    base: str | os.PathLike | None = None,
    ledger: str | os.PathLike = LEDGER,
    jobs: int = 1,
    note: str = "",
) -> dict[str, Any]:
    """Run all notebooks once per seed, and write the results file.

    notebooks  only these, by number or name: they replace their figures in the results file,
            which must be of the same seeds
    jobs    seeds that run in parallel, each with its part of the cores (faster in all)
    note    a remark on this machine, kept in the results file and printed below its tables

    A notebook that has finished for a seed, with the same code, is not run again. A claim that
    fails for a seed ends nothing: the claims that each lesson registered at its start are judged
    over the seeds. Raises R1LabError when a notebook fails; the results file stays as it was.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise R1LabError("--seeds needs one or more different whole numbers, such as 0 1 2")
    if jobs < 1:
        raise R1LabError(f"--jobs must be 1 or more, not {jobs}")
    earlier = load_ledger(ledger) if notebooks else {}
    if notebooks and earlier["seeds"] != list(seeds):
        raise R1LabError(f"the results file has the seeds {earlier['seeds']}, not {list(seeds)}")
    base = files.run_folder("runs/figures" if base is None else base)
    if jobs > 1:
        _in_parallel(seeds, profile, notebooks, folder, base, jobs)
    paths = []
    for seed in seeds:
        out = base / f"seed-{seed}"
        with claims.reported():
            result = run(profile, notebooks, out, seed=seed, folder=folder, start="resume")
        if not result.ok:
            failed = [n for n, e in result.notebooks.items() if e["status"] == "failed"]
            raise R1LabError(f"seed {seed}: {failed[0]} failed; the results file was not changed")
        paths.append(out / "figures.json")
    figures, curves = aggregate(paths, list(seeds)), learning_curves(base, seeds)
    states = [files.load_json(path.with_name("run.json")) for path in paths]
    verdicts = claims.judged(states, figures)
    if notebooks:
        chosen = {path.stem for path in profiles.select(notebooks, folder)}
        figures = {k: v for k, v in figures.items() if v["source"] in chosen}
        old = earlier["figures"].items()
        figures = {k: v for k, v in old if v["source"] not in chosen or k in figures} | figures
        curves = earlier.get("curves", {}) | curves
        chosen = {name[:2] for name in chosen}
        verdicts = {k: v for k, v in verdicts.items() if k[:2] in chosen}
        kept = {k: v for k, v in earlier.get("claims", {}).items() if k[:2] not in chosen}
        verdicts = kept | verdicts
    about = {"profile": profile, "seeds": list(seeds), "measured": time.strftime("%Y-%m-%d")}
    about |= {"jobs": jobs, "note": note, "hardware": hardware(), "versions": versions()}
    about["base"] = claims.base_model()
    book = about | {"claims": verdicts, "figures": figures, "curves": curves}
    trained = base / f"seed-{seeds[0]}" / "r1" / f"seed-{seeds[0]}" / "zero" / "model"
    if trained.is_dir():
        book["completions"] = reference.completions(trained)
    elif "completions" in earlier:
        book["completions"] = earlier["completions"]
    files.write_json(ledger, book)
    return book


def publish(book: dict[str, Any], pages: Sequence[Path] = PAGES) -> None:
    """Write the tables of these markdown files, and the README's picture."""
    for page in pages:
        update_readme(page, book)
    if README in pages and book["curves"]:
        try:
            picture.write(book)
        except (ImportError, RuntimeError) as error:  # no kaleido, no Chrome
            line = str(error).strip().partition("\n")[0]
            print(f"the README's picture stays as it was: {line}", file=sys.stderr)


def learning_curves(base: Path, seeds: list[int]) -> dict[str, dict[str, list[float]]]:
    """R1-Zero's training curves on Countdown (on all prompts in a step that has no such prompt):
    measure -> seed -> values; {} without such runs."""
    runs = {str(seed): metrics_of(base / f"seed-{seed}/r1/seed-{seed}/zero") for seed in seeds}
    if not all(runs.values()):
        return {}

    def of(m: dict[str, Any], key: str) -> float:
        return round(m.get(f"{key}/countdown", m[key]), 4)

    return {
        key: {seed: [of(m, key) for m in history] for seed, history in runs.items()}
        for key in ("accuracy", "length", "reflection")
    }


def _in_parallel(seeds, profile: str, notebooks, folder, base: Path, jobs: int) -> None:
    """`run` for several seeds in parallel processes, with output in base/seed-N.log. Failures show
    in the run that follows, which resumes."""
    threads = str(max(1, hardware()["cores"] // jobs))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    environment |= claims.REPORT
    code = "import sys, json; from r1lab.course.runner import run; run(**json.loads(sys.argv[1]))"
    say = partial(print, file=sys.stderr, flush=True)
    where = f"{files.from_here(base)}/seed-N.log"
    say(f"{jobs} seeds at a time, {threads} thread(s) each; progress in {where}")
    running: list[subprocess.Popen] = []

    def run_seed(seed: int) -> None:
        how = {"profile": profile, "seed": seed, "folder": str(folder), "start": "resume"}
        how |= {"notebooks": notebooks, "out_dir": str(base / f"seed-{seed}")}
        command = [sys.executable, "-c", code, json.dumps(how)]
        with open(base / f"seed-{seed}.log", "w", encoding="utf-8") as log:
            pipes = {"stdout": log, "stderr": log}
            process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        running.append(process)
        process.wait()
        say(f"seed {seed}: ended")

    with ThreadPoolExecutor(jobs) as pool:
        try:
            list(pool.map(run_seed, seeds))
        finally:  # on interruption the kernels save before they end
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()


def aggregate(paths: list[str | os.PathLike], seeds: list[int] | None = None) -> dict[str, dict]:
    """Figures of several seeds: mean, 95 % t-interval, n (number of seeds), the `values`.
    Intervals of fractions are clipped to 0..1. Raises R1LabError when the seeds measured different
    figures."""
    runs = [load(path) for path in paths]
    seeds = list(range(len(runs))) if seeds is None else seeds
    names = {name for found in runs for name in found}
    for path, found in zip(paths, runs, strict=True):
        missing = sorted(names - set(found))
        if missing:
            raise R1LabError(f"{path} lacks the figure '{missing[0]}', which another seed has")
    ledger = {}
    for name in runs[0] if runs else ():
        entries = [found[name] for found in runs]
        values = [entry["value"] for entry in entries]
        low, high = t_interval(values)
        lows = [x["value"] if x["low"] is None else x["low"] for x in entries]
        if entries[0]["unit"] == "share" and low is not None and min(lows) >= 0:
            low, high = max(0.0, low), min(1.0, high)  # not a difference, which may be negative
        ends = {"value": fmean(values), "low": low, "high": high, "n": len(values)}
        each = {str(seed): value for seed, value in zip(seeds, values, strict=True)}
        ledger[name] = {**entries[0], **ends, "values": each}
    return ledger

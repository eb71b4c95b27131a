"""How fast is the loop on this machine's CPUs? Ratios against TRL, measured in one run.

step      seconds of one GRPO step: TRL's GRPOTrainer / r1lab.grpo, once with TRL's defaults and
          once with its best settings for a CPU, the fastest of `TRL_CANDIDATES`
backend   the same step: TRL at its best / through r1lab.trl_backend
sampler   tokens per second: r1lab's sampler / transformers' generate
half      seconds from the base model to an accuracy of 50 %: TRL at its best / r1lab.grpo
learning  24 steps on TRL over three seeds, with generate / with r1lab's sampler, and the curves
matmul    arithmetic of forward and backward per second / the same of a large matrix product
base      a token's sampling and gradient: a model of the first base's shape / the base
sandbox   seconds per 100 programs with 5 tests: a process started for each / r1lab.sandbox
busy      the step on an idle machine / beside programs that keep every core busy
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r1lab import models
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.quiet import quietly
from r1lab.bench import harness
from r1lab.bench.cpu_parts import PARTS, TRL_CANDIDATES, choose_trl
from r1lab.bench.harness import quotients, say, turns
from r1lab.bench.loops import Bench, Plan
from r1lab.grpo import GRPOConfig
from r1lab.machine.about import hardware, versions
from r1lab.tasks import get_task

RESULTS = harness.RESULTS / "cpu.json"
RATIOS = harness.ratios_of("cpu")
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
) -> dict[str, Any]:
    """Measure (`r1lab bench --help` explains the options), print a table, and write <out>.json and
    <out>.md; returns what the JSON holds.

    A quick run is written only where `out` says, and a partial one too, unless the results come
    from this machine with these versions: then its parts take the place of those there. Raises
    R1LabError for an unknown part, or where `out` cannot be written.
    """
    out = harness.json_file(out)
    parts = list(only or PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        more = f"take {', '.join(PARTS)}{did_you_mean(unknown[0], PARTS).partition('; known')[0]}"
        raise R1LabError(f"unknown part '{unknown[0]}' of the benchmark; {more}")
    plan = QUICK if quick else Plan()
    if repeats is not None:
        plan = replace(plan, repeats=repeats, half_repeats=min(plan.half_repeats, repeats))
    began, whole = time.perf_counter(), set(parts) == set(PARTS)
    base, tokenizer = models.load(model)
    known = None if whole or quick else harness.earlier(RESULTS, machine())
    report = measure(base, tokenizer, plan, parts, (known or {}).get("trl_best"))
    report |= {"model": harness.describe_model(base, str(model)), "quick": quick}
    report["minutes"] = round((time.perf_counter() - began) / 60, 1)
    if out is None and not quick:
        report = report if whole else merged(report, RESULTS)
        out = RESULTS if whole or "parts" in report else None
    say(f"\n{table(report)}")
    if out is not None:
        harness.write(out, report, page(report))
        say(f"written: {out} and {out.with_suffix('.md').name}")
    elif not quick:
        say("a partial run is not written; --out says where, if it should be")
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


def goals(ratios: Iterable[str]) -> dict[str, float | None]:
    return {name: RATIOS[name].goal for name in ratios}


def measure(
    base, tokenizer, plan: Plan, parts: Sequence[str], best: dict[str, Any] | None = None
) -> dict[str, Any]:
    """All that was measured, as plain values: see benchmarks/README.md for the fields. best: TRL's
    best settings where they are known, as `choose_trl` returns them."""
    report = {"when": harness.today()} | machine() | {"configuration": plan.config.to_json()}
    measured, pairs = {}, {}
    with quietly(), tempfile.TemporaryDirectory() as folder:
        how = {"task": get_task("countdown"), "plan": plan, "folder": Path(folder)}
        bench = Bench(base=base, tokenizer=tokenizer, **how)
        if {"step", "backend", "half"} & set(parts):
            report["trl_best"] = best or choose_trl(bench)
        fast = TRL_CANDIDATES.get(report.get("trl_best", {}).get("name"))
        for part in (part for part in PARTS if part in parts):
            measured[part] = found = contest(bench, part, fast)
            for name, ratio in RATIOS.items():
                if ratio.part == part:
                    pairs[name] = pairs_of(found, *ratio.of, PARTS[part].field)
    medians = {name: statistics.median(some) if some else None for name, some in pairs.items()}
    report |= {"measured": measured, "pairs": pairs, "ratios": medians, "goals": goals(pairs)}
    if "half" in measured and not all(measured["half"]["trl_best"]["reached"]):
        report["lower_bounds"] = ["time_to_half_vs_trl_best"]  # TRL was given up before
    return report


def pairs_of(found: dict[str, Any], above: str, below: str, field: str) -> list[float]:
    """One contender's `field` over another's in every repeat, where r1lab reached what it should:
    without, there is no ratio, while TRL's time until it was given up gives a lower bound."""
    ours = found[found["faster"]] if below == "faster" else found[below]
    pairs = quotients(found[above], ours, field)
    reached = ours.get("reached", [True] * len(pairs))
    return [pair for pair, good in zip(pairs, reached, strict=False) if good]


def contest(bench: Bench, name: str, fast: dict[str, Any] | None) -> dict[str, Any]:
    """A part's contenders in turns. fast: TRL's options at its best."""
    part = PARTS[name]

    def tell(repeat: int, found: dict[str, dict[str, list]]) -> None:
        last = {n: m[part.field][-1] for n, m in found.items() if m}
        words = (f"{n} {harness.amount(value, part.field)}" for n, value in last.items())
        say(f"{name}, repeat {repeat + 1}: {', '.join(words)}")

    with ExitStack() as stack:
        contenders = part.contenders(replace(bench, stack=stack), fast)
        found = turns(contenders, getattr(bench.plan, part.repeats), tell, part.warm)
    if name == "sampler":
        rate = {n: statistics.median(m[part.field]) for n, m in found.items()}
        found["faster"] = max(("generate", "generate_static"), key=rate.get)
    return found


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
            lengths = m.get("mean_length")  # of each repeat, or of each of its steps
            length = f"{np.hstack(lengths).mean():.0f}" if lengths else "–"
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

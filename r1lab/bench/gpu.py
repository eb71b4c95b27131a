"""Three measurements for whoever has a GPU for half an hour, each one command of under 10 minutes.

    sampler   tokens per second: r1lab's sampler against transformers' generate, vLLM, and the time
              that the memory alone needs for the bytes that every token must read
    step      seconds of a GRPO step: r1lab.grpo against TRL's GRPOTrainer, which samples with
              generate, with our sampler, with vLLM; training arithmetic against a matrix product
    run       ten minutes of R1-Zero on a real model: held-out accuracy before and after, lengths,
              completions, cost

Nothing here needs the network. A contender that fails, or that is not installed, is noted with its
reason, and the others go on; what is known so far is on the disk after each of them, so a run that
is cut leaves what it has. `--quick` does the same in toy sizes on any device: it proves that the
code runs, and its numbers mean nothing. How the task of `run` was chosen: benchmarks/README.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import torch

from r1lab import models
from r1lab.basics import quiet
from r1lab.basics.errors import R1LabError
from r1lab.bench import harness, loops
from r1lab.bench.gpu_run import measure_run, run_details
from r1lab.bench.gpu_sampler import VLLM_MEMORY, measure_sampler, require_vllm
from r1lab.bench.harness import RESULTS, quotients
from r1lab.bench.stand import QUICK, RATIOS, Plan, Sheet, Stand, attempt, ratio, release
from r1lab.machine import about, costs
from r1lab.tasks import get_task

MODEL = "smollm2-135m"
TRL_GPU = {"gradient_checkpointing": False, "per_device_train_batch_size": 32}


def run(
    part: str,
    model: str | os.PathLike | None = None,
    *,
    quick: bool = False,
    repeats: int | None = None,
    minutes: float | None = None,
    backend: str = "scratch",
    out: str | os.PathLike | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Measure one of MEASURES; write <out>.json and <out>.md as it goes; returns the report.

    model    a name for r1lab.models.load; default SmolLM2-135M, with quick the tiny base
    quick    toy sizes on any device, to prove that it works; written only where `out` says
    repeats  of the sampler and the step; default 3
    minutes  of the whole run, evaluations included; default 9.5. Nothing begins after it
    backend  of the run: "scratch" (r1lab.grpo) or "trl"
    out      a file, or a folder that gets a gpu-<part>.json; default benchmarks/results

    Raises R1LabError for an unknown part, without a GPU (unless quick), and for numbers that cannot
    be meant.
    """
    stream = sys.stderr if stream is None else stream
    if part not in MEASURES:
        raise R1LabError(f"unknown GPU measurement '{part}'; take one of {', '.join(MEASURES)}")
    if backend not in ("scratch", "trl"):
        raise R1LabError(f"backend must be scratch or trl, not '{backend}'")
    cuda = torch.cuda.is_available()
    if not cuda and not quick:
        raise R1LabError(
            f"r1lab bench --gpu {part} needs an NVIDIA GPU, and torch sees none here; --quick "
            "tries the same in toy sizes on a CPU"
        )
    plan = QUICK if quick else Plan()
    given = {"repeats": repeats, "minutes": minutes}
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    budget = costs.Budget(max_minutes=plan.minutes)
    if out is None and not quick:
        out = RESULTS
    if out is not None and Path(out).is_dir():  # else a second part would replace the first
        out = Path(out) / f"gpu-{part}.json"
    out = None if out is None else Path(out).with_suffix(".json")
    harness.check(repeats, out)
    name = str(model or ("tiny" if quick else MODEL))
    sheet = Sheet(out, budget, stream, page)
    sheet.report = header(part, name, quick, plan)
    device = torch.device("cuda" if cuda else "cpu")
    # The sampler is measured in the type that it runs in; weights are trained in float32.
    dtype = torch.bfloat16 if cuda and part == "sampler" else torch.float32
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32, where nothing says bfloat16
        from r1lab.trl_backend.trainer import without_cudnn_attention

        without_cudnn_attention()
    base, tokenizer = models.load(name, dtype=dtype, device=device)
    sheet.report["model"] = harness.describe_model(base, name)
    task = get_task(plan.task, **plan.task_options)
    with quiet.quietly(), tempfile.TemporaryDirectory() as folder:
        about_run = {"folder": Path(folder), "say": sheet.say, "sheet": sheet, "backend": backend}
        stand = Stand(base=base, tokenizer=tokenizer, task=task, plan=plan, **about_run)
        MEASURES[part](stand)
    sheet.report["finished"] = True
    sheet.save()
    print(f"\n{table(sheet.report)}", file=stream)
    if sheet.path is not None:
        print(f"written: {sheet.path} and {sheet.path.with_suffix('.md').name}", file=stream)
    return sheet.report


def header(part: str, model: str, quick: bool, plan: Plan) -> dict[str, Any]:
    about_task = {"name": plan.task, **plan.task_options, "template": plan.config.template}
    versions = about.versions() | about.gpu_versions()
    report = {"part": part} | harness.header() | {"quick": quick, "finished": False}
    report |= {"hardware": hardware(), "versions": versions, "model": {"name": model}}
    report |= {"task": about_task, "minutes": 0.0}
    return report | {name: {} for name in ("measured", "failures", "ratios", "goals")}


def hardware() -> dict[str, Any]:
    """r1lab.machine's, with the GPU that torch computes on: name, memory, driver; None without."""
    found = about.hardware() | {"gpu": None}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "name": card.name,
            "memory_gib": round(card.total_memory / 2**30),
            "multiprocessors": card.multi_processor_count,
            "count": torch.cuda.device_count(),
            "driver": about.of_gpu("driver_version"),
        }
    return found


def measure_step(stand: Stand) -> None:
    """Seconds of a GRPO step of every contender, and the share of a matrix product.

    A contender makes 1 + repeats steps in a row, the first to warm up, with a learning rate of next
    to nothing, so that all its answers are the base's (vLLM takes a minute to start, too long for
    turns). r1lab runs first and again last but vLLM: `drift` says what the machine did meanwhile.
    """
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    config = replace(
        plan.config,
        questions=plan.step_questions,
        max_new_tokens=plan.step_tokens,
        learning_rate=1e-9,
        warmup_steps=0,
        samples_every=0,
    )
    cuda = stand.device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    limit = {"limit_seconds": sheet.budget.seconds, "matmul_dtype": dtype}
    bench = replace(stand, plan=replace(plan, config=config, **limit), asked={})
    report["configuration"] = config.to_json()
    trl = dict(TRL_GPU) if cuda else dict(loops.FLOAT32)
    report["trl_options"] = trl
    most = max(len(p) for p in bench.prompts(0)) + 128  # other steps ask longer questions
    vllm = trl | {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": VLLM_MEMORY,
        "vllm_max_model_length": most + config.max_new_tokens,
    }
    steps = 1 + plan.repeats
    contenders: dict[str, Callable[[], Any]] = {
        "r1lab": lambda: loops.r1lab_run(bench, 0, steps),
        "trl_generate": lambda: loops.trl_run(bench, trl, 0, steps),
        "trl_our_sampler": lambda: loops.trl_run(bench, trl, 0, steps, ours="backend"),
        "trl_default": lambda: loops.trl_run(bench, loops.TRL_DEFAULT if cuda else trl, 0, steps),
        "r1lab_again": lambda: loops.r1lab_run(bench, 0, steps),
        "arithmetic": lambda: arithmetic(bench),
        "trl_vllm": lambda: trl_with_vllm(bench, vllm, steps, cuda),
    }
    for name, contend in contenders.items():
        found = attempt(stand, name, contend)
        release()
        if name == "arithmetic" and found is not None:
            report["arithmetic"] = found
            share = quotients(*found.values(), "gflops_per_second")
            report["ratios"]["matmul_share"] = ratio(share)
        elif found is not None:
            report["measured"][name] = {
                "warm_up_seconds": found.seconds[0],
                "seconds": found.seconds[1:],
                "mean_length": [float(n) for n in found.length[1:]],
                "accuracy": [float(a) for a in found.accuracy[1:]],
            }
            sheet.say(f"{name}: {harness.median_of(report['measured'][name])} per step")
        report["ratios"] |= step_ratios(report["measured"])
        if "r1lab_again" in report["measured"]:
            sides = (report["measured"][n] for n in ("r1lab_again", "r1lab"))
            report["drift"] = ratio(quotients(*sides))
        sheet.save()


def arithmetic(bench: loops.Bench) -> dict[str, dict[str, list]]:
    share = loops.matmul_share(bench)
    found: dict[str, dict[str, list]] = {}
    for repeat in range(bench.plan.repeats):
        for side, fields in share(repeat).items():
            for field_name, value in fields.items():
                found.setdefault(side, {}).setdefault(field_name, []).append(value)
    return found


def trl_with_vllm(bench: loops.Bench, options: dict[str, Any], steps: int, cuda: bool) -> loops.Run:
    require_vllm()
    if not cuda:
        raise R1LabError("vLLM needs a GPU")
    return loops.trl_run(bench, options, 0, steps)


def step_ratios(measured: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """TRL's seconds over ours, step by step: both got the same prompts at the same step."""
    found = {
        f"step_vs_{name}": ratio(quotients(m, measured.get("r1lab", {})))
        for name, m in measured.items()
        if name.startswith("trl_")
    }
    return {name: r for name, r in found.items() if r is not None}


MEASURES = {"sampler": measure_sampler, "step": measure_step, "run": measure_run}


def table(report: dict[str, Any]) -> str:
    """The ratios beside their goals, in markdown."""
    return harness.ratio_table(
        (name, RATIOS[name.split("/")[-1]], one["value"], one["pairs"])
        for name, one in report["ratios"].items()
    )


def details(report: dict[str, Any]) -> str:
    """What the ratios stand on, in markdown."""
    if report["part"] == "run":
        return run_details(report)
    rows = [
        (f"{name}, {who}" if who else name, harness.median_of(one), str(len(one["seconds"])))
        for name, m in report["measured"].items()
        for who, one in m.get("contenders", {"": m}).items()
    ]
    return harness.grid(("measured", "median", "repeats"), rows)


def page(report: dict[str, Any]) -> str:
    """benchmarks/results/gpu-<part>.md: made from the JSON beside it."""
    part, cost = report["part"], report.get("cost")
    more = [f"Model: {report['model']['name']}; task: {report['task']}"]
    more += [f"Cost: {costs.money(cost['dollars'])}, {cost['price']}"] if cost else []
    title, command = f"r1lab on a GPU: {part}", f"r1lab bench --gpu {part}"
    return harness.page(title, command, report, (table(report), details(report)), more)

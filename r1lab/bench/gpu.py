"""Three measurements on a GPU, each one command of under 10 minutes that needs no network.

    sampler   tokens per second: r1lab's sampler against transformers' generate, vLLM, and the time
              in which the memory can deliver the bytes that every token must read
    step      seconds of a GRPO step: r1lab.grpo against TRL's GRPOTrainer, which samples with
              generate, with our sampler, with vLLM; training arithmetic against a matrix product
    run       ten minutes of R1-Zero on a real model: held-out accuracy before and after, lengths,
              completions, cost

A contender that fails, or that is not installed, is noted with its reason, and the others go on.
The report is written after each of them: a run that is stopped leaves what it has.
"""

import os
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from r1lab import models
from r1lab.basics import quiet
from r1lab.basics.errors import R1LabError
from r1lab.bench import harness, loops
from r1lab.bench.gpu_run import measure_run, run_details
from r1lab.bench.gpu_sampler import VLLM_MEMORY, measure_sampler, require_vllm
from r1lab.bench.harness import RESULTS, quotients, turns
from r1lab.bench.stand import QUICK, RATIOS, Plan, Sheet, Stand, attempt, ratios, release
from r1lab.machine import about, costs
from r1lab.tasks import get_task
from r1lab.trl_backend.trainer import without_cudnn_attention

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
) -> dict[str, Any]:
    """Measure one of MEASURES (`r1lab bench --help` explains the options); write <out>.json and
    <out>.md as it goes; returns the report. out: a file, or a folder that gets a gpu-<part>.json.

    quick: the tiny base and toy sizes on any device, which prove that the code runs. Raises
    R1LabError without a GPU (unless quick), and for bad numbers.
    """
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
    out = RESULTS if out is None and not quick else out
    if out is not None and Path(out).is_dir():  # else a second part would replace the first
        out = Path(out) / f"gpu-{part}.json"
    sheet = Sheet(harness.json_file(out), budget, page)
    name = str(model or ("tiny" if quick else MODEL))
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32, where nothing says bfloat16
        without_cudnn_attention()
    # The sampler is measured in the type that it runs in; training starts from float32.
    dtype = torch.bfloat16 if cuda and part == "sampler" else torch.float32
    base, tokenizer = models.load(name, dtype=dtype, device="cuda" if cuda else "cpu")
    sheet.report = {
        "part": part,
        "when": harness.today(),
        "quick": quick,
        "finished": False,
        "hardware": hardware(),
        "versions": about.versions() | about.gpu_versions(),
        "model": harness.describe_model(base, name),
        "task": {"name": plan.task, **plan.task_options, "template": plan.config.template},
        "minutes": 0.0,
        **{field: {} for field in ("measured", "failures", "ratios", "goals")},
    }
    task = get_task(plan.task, **plan.task_options)
    with quiet.quietly(), tempfile.TemporaryDirectory() as folder:
        about_run = {"folder": Path(folder), "sheet": sheet, "backend": backend}
        stand = Stand(base=base, tokenizer=tokenizer, task=task, plan=plan, **about_run)
        MEASURES[part](stand)
    sheet.report["finished"] = True
    sheet.save()
    harness.say(f"\n{table(sheet.report)}")
    if sheet.path is not None:
        harness.say(f"written: {sheet.path} and {sheet.path.with_suffix('.md').name}")
    return sheet.report


def hardware() -> dict[str, Any]:
    """r1lab.machine's, with the GPU that torch computes on: name, memory, driver; None without."""
    found = about.hardware() | {"gpu": None}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "name": gpu.name,
            "memory_gib": round(gpu.total_memory / 2**30),
            "multiprocessors": gpu.multi_processor_count,
            "count": torch.cuda.device_count(),
            "driver": about.of_gpu("driver_version"),
        }
    return found


def measure_step(stand: Stand) -> None:
    """Seconds of a GRPO step of every contender, and training FLOP/s over a matrix product's.

    A contender makes 1 + repeats steps in a row, the first to warm up, at a learning rate close to
    0, so that all completions are the base's (vLLM takes a minute to start, too long for turns).
    r1lab runs first, and again before vLLM: `drift` is the ratio of the two.
    """
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    cuda = stand.device.type == "cuda"
    sizes = {"questions": plan.step_questions, "max_new_tokens": plan.step_tokens}
    still = {"learning_rate": 1e-9, "warmup_steps": 0, "samples_every": 0}
    config = replace(plan.config, **sizes, **still)
    dtype = torch.bfloat16 if cuda else torch.float32
    limit = {"limit_seconds": sheet.budget.seconds, "matmul_dtype": dtype}
    bench = replace(stand, plan=replace(plan, config=config, **limit), asked={})
    trl = dict(TRL_GPU) if cuda else dict(loops.FLOAT32)
    report |= {"configuration": config.to_json(), "trl_options": trl}
    steps = 1 + plan.repeats
    by_r1lab = partial(loops.r1lab_run, bench, 0, steps)
    by_trl = partial(loops.trl_run, bench, seed=0, steps=steps)

    def by_vllm() -> loops.Run:
        require_vllm()
        if not cuda:
            raise R1LabError("vLLM needs a GPU")
        longest = max(map(len, bench.prompts(0))) + 128  # other steps have longer prompts
        options = {"use_vllm": True, "vllm_mode": "colocate"}
        options |= {"vllm_gpu_memory_utilization": VLLM_MEMORY}
        options |= {"vllm_max_model_length": longest + config.max_new_tokens}
        return by_trl(trl | options)

    contenders = {
        "r1lab": by_r1lab,
        "trl_generate": partial(by_trl, trl),
        "trl_our_sampler": partial(by_trl, trl, ours="backend"),
        "trl_default": partial(by_trl, loops.TRL_DEFAULT if cuda else trl),
        "r1lab_again": by_r1lab,
        "arithmetic": lambda: turns(loops.matmul_share(bench), plan.repeats, lambda *about: None),
        "trl_vllm": by_vllm,
    }
    for name, contend in contenders.items():
        found = attempt(stand, name, contend)
        release()
        if name == "arithmetic" and found is not None:
            report["arithmetic"] = found
            share = quotients(*found.values(), "gflops_per_second")
            report["ratios"] |= ratios({"matmul_share": share})
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
            sides = (report["measured"].get(n, {}) for n in ("r1lab_again", "r1lab"))
            report |= ratios({"drift": quotients(*sides)})
        sheet.save()


def step_ratios(found: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """TRL's seconds over ours, step by step: both got the same prompts at the same step."""
    ours = found.get("r1lab", {})
    trl = {name: m for name, m in found.items() if name.startswith("trl_")}
    return ratios({f"step_vs_{name}": quotients(m, ours) for name, m in trl.items()})


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

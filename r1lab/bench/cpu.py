"""How fast is the loop? Ratios against TRL, measured side by side in one run.

Seconds say as much about the machine as about the code; a ratio of two things timed a moment apart,
in one process, says what the code does. So everything here is a ratio:

    step      seconds of one GRPO step: TRL's GRPOTrainer / r1lab.grpo, once with TRL's defaults and
              once with its best settings for a CPU, which are found by trying (`TRL_CANDIDATES`)
    sampler   tokens a second: r1lab.rollouts.sample / transformers' generate
    half      seconds from the base model to 50 % right answers: TRL at its best / r1lab.grpo
    learning  24 steps on TRL over three seeds, with generate / with r1lab's sampler, and the curves
    matmul    arithmetic of forward and backward a second / the same of a large matrix product

Every repeat asks all contenders the same questions from the same starting weights, one after the
other (interleaved, never side by side), so that a machine that slows down slows both. The ratio is
the median over the repeats of that repeat's ratio; its smallest and largest stand beside it. Both
loops sample their own answers: lengths are equal in distribution, not token by token, and are
recorded. What both do not do, save and evaluate, is not timed in either.

`benchmarks/README.md` says what is counted and what is not.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch

from r1lab import ROOT, grpo, models
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import write_json
from r1lab.basics.quiet import quietly
from r1lab.grpo import GRPOConfig
from r1lab.rewards import REWARDS
from r1lab.sampler.rollouts import Rollouts, Sampling, sample
from r1lab.tasks import get_task
from r1lab.templates import render
from r1lab.trl_backend.data import as_dataset

RESULTS = ROOT / "benchmarks" / "results" / "cpu.json"
PARTS = ("step", "backend", "sampler", "half", "learning", "matmul")
GOALS = {
    "step_vs_trl_default": 4.0,
    "step_vs_trl_best": 2.0,
    "trl_step_with_our_sampler": 1.5,
    "trl_step_with_our_backend": 1.5,
    "sampler_vs_generate": 2.5,
    "time_to_half_vs_trl_best": 2.0,
    "trl_run_with_our_sampler": 1.5,
    "matmul_share": 0.4,
}
MEANING = {
    "step_vs_trl_default": "GRPO step, TRL with its defaults / r1lab",
    "step_vs_trl_best": "GRPO step, TRL at its best / r1lab",
    "trl_step_with_our_sampler": "GRPO step, TRL at its best / the same with r1lab's sampler",
    "trl_step_with_our_backend": "GRPO step, TRL at its best / the same through r1lab.trl_backend",
    "sampler_vs_generate": "tokens a second, r1lab's sampler / generate",
    "time_to_half_vs_trl_best": "time to half of the answers right, TRL at its best / r1lab",
    "trl_run_with_our_sampler": "a run of r1lab.trl_backend, with generate / with r1lab's sampler",
    "matmul_share": "training arithmetic / float32 matrix product",
}
# What TRL does unless told otherwise: bfloat16, gradient checkpointing, micro-batches of 8 rows.
TRL_DEFAULT: dict[str, Any] = {}
_FLOAT32 = {"bf16": False, "gradient_checkpointing": False}
# What may be fastest on a CPU: rows a micro-batch, and generate's cache.
TRL_CANDIDATES: dict[str, dict[str, Any]] = {
    "float32, 8 rows": _FLOAT32,
    "float32, 32 rows": _FLOAT32 | {"per_device_train_batch_size": 32},
    "float32, 64 rows": _FLOAT32 | {"per_device_train_batch_size": 64},
    "float32, 32 rows, static cache": _FLOAT32
    | {"per_device_train_batch_size": 32, "cache_implementation": "static"},
}


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    config: GRPOConfig = GRPOConfig()  # the training configuration
    repeats: int = 5
    half_repeats: int = 3  # whole trainings are long
    target: float = 0.5  # accuracy of the train batch, mean of `window` steps
    window: int = 3
    limit: int = 60  # steps after which a training that has not reached it is given up, ...
    limit_seconds: float = 480.0  # ... and seconds
    half_seconds: float = 1200.0  # no further whole training begins when it would pass this
    learning: GRPOConfig = GRPOConfig(steps=24, questions=8, max_new_tokens=160)  # as lesson 06
    learning_seeds: int = 3
    matmul_sizes: tuple[int, ...] = (512, 1024, 2048)
    matmul_dtype: torch.dtype = torch.float32


# Toy sizes, to see that all of it works: the numbers mean nothing.
QUICK = Plan(
    GRPOConfig(questions=2, group_size=2, max_new_tokens=12),
    repeats=1,
    half_repeats=1,
    target=0.0,
    limit=2,
    window=1,
    learning=GRPOConfig(steps=2, questions=2, group_size=2, max_new_tokens=12),
    learning_seeds=1,
    matmul_sizes=(128,),
)


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

    Raises R1LabError for an unknown part or a number of repeats below 1.
    """
    stream = sys.stderr if stream is None else stream
    plan = QUICK if quick else Plan()
    if repeats is not None:
        if repeats < 1:
            raise R1LabError(f"repeats must be at least 1, not {repeats}")
        plan = replace(plan, repeats=repeats, half_repeats=min(plan.half_repeats, repeats))
    parts = list(PARTS if only is None else only)
    if unknown := [part for part in parts if part not in PARTS]:
        raise R1LabError(f"unknown part '{unknown[0]}' of the benchmark; take {', '.join(PARTS)}")
    if not parts:
        raise R1LabError(f"nothing to measure; take some of {', '.join(PARTS)}")
    began = time.perf_counter()
    base, tokenizer = models.load(model)
    whole = set(parts) == set(PARTS)
    known = None if whole or quick else earlier(RESULTS, machine())
    best = known.get("trl_best") if known else None
    say = partial(print, file=stream, flush=True)
    report = measure(base, tokenizer, plan, parts, say, best)
    report |= {"model": describe_model(base, str(model)), "quick": quick}
    report["minutes"] = round((time.perf_counter() - began) / 60, 1)
    if out is None and not quick:
        report = report if whole else merged(report, RESULTS)
        out = RESULTS if whole or "parts" in report else None
    print(f"\n{table(report)}", file=stream)
    if out is not None:
        out = Path(out).with_suffix(".json")
        write_json(out, report)
        out.with_suffix(".md").write_text(page(report), encoding="utf-8")
        print(f"written: {out} and {out.with_suffix('.md').name}", file=stream)
    elif not quick:
        print("a partial run is not written; --out says where, if it should be", file=stream)
    return report


def machine() -> dict[str, Any]:
    """What a result must share with another to stand beside it."""
    from r1lab.machine.about import hardware, versions

    return {"hardware": hardware(), "threads": torch.get_num_threads(), "versions": versions()}


def earlier(path: Path, same: dict[str, Any]) -> dict[str, Any] | None:
    """The report at `path`, where everything in `same` is the same there; else None."""
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        return old if all(old[name] == value for name, value in same.items()) else None
    except (OSError, ValueError, KeyError):
        return None


def merged(report: dict[str, Any], path: Path) -> dict[str, Any]:
    """A partial report put into the whole one at `path`, with its day under `parts`; the partial
    one as it is where that comes from another machine, other versions, or another configuration."""
    names = ("hardware", "threads", "versions", "configuration", "model")
    old = earlier(path, {name: report[name] for name in names})
    if old is None:
        return report
    old["parts"] = old.get("parts", {}) | {part: report["when"] for part in report["measured"]}
    old["minutes"] = round(old["minutes"] + report["minutes"], 1)
    for name in ("measured", "pairs", "ratios"):
        old[name] |= report[name]
    if "half" in report["measured"]:  # whether TRL was given up is of this part alone
        old.pop("lower_bounds", None)
        old |= {name: report[name] for name in ("lower_bounds",) if name in report}
    return old | {"goals": {name: GOALS[name] for name in old["ratios"]}}


def measure(
    base,
    tokenizer,
    plan: Plan,
    parts: Sequence[str] = PARTS,
    say: Callable = print,
    best: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that was measured, as plain values: see benchmarks/README.md for the fields. best: TRL's
    best settings where they are known, as `choose_trl` returns them."""
    report: dict[str, Any] = {
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        **machine(),
        "configuration": plan.config.to_json(),
        "measured": {},
        "pairs": {},
    }
    with quietly(), tempfile.TemporaryDirectory() as folder:
        bench = Bench(base, tokenizer, get_task("countdown"), plan, Path(folder), say)
        if {"step", "backend", "half"} & set(parts):
            report["trl_best"] = best or choose_trl(bench)
        for part in PARTS:
            if part in parts:
                measured, pairs = MEASURES[part](bench, report.get("trl_best", {}).get("name"))
                report["measured"][part] = measured
                report["pairs"] |= pairs
    report["ratios"] = {
        name: statistics.median(pairs) if pairs else None for name, pairs in report["pairs"].items()
    }
    report["goals"] = {name: GOALS[name] for name in report["ratios"]}
    half = report["measured"].get("half")
    if half and not all(half["trl_best"]["reached"]):  # TRL was given up before it got there
        report["lower_bounds"] = ["time_to_half_vs_trl_best"]
    return report


@dataclass
class Bench:
    """What every measurement needs."""

    base: torch.nn.Module
    tokenizer: Any
    task: Any
    plan: Plan
    folder: Path
    say: Callable[[str], None]

    def prompts(self, repeat: int) -> list[list[int]]:
        """The questions of a repeat as token ids, B lists."""
        config = self.plan.config
        problems = self.task.problems("train", config.questions, seed=repeat)
        return self.tokenizer([render(p, config.template) for p in problems])["input_ids"]


# --- the two loops -------------------------------------------------------------------------------


@dataclass
class Run:
    """A training run that was watched: one entry a step."""

    seconds: list[float]  # from the questions to the new weights
    accuracy: list[float]  # of the step's answers
    length: list[float]  # mean tokens an answer
    total: float  # seconds of the whole run, without building model and trainer
    reached: bool = False


class Enough(Exception):
    """The accuracy that was asked for is there, or the time is up."""


def r1lab_run(bench: Bench, seed: int, steps: int, to_half: bool = False) -> Run:
    """r1lab.grpo.train from the base weights, for `steps` or until the target accuracy."""
    config = replace(bench.plan.config, steps=steps, seed=seed, checkpoint_every=10**9)
    model, seen = copy.deepcopy(bench.base), Run([], [], [], 0.0)

    def watch(step: int, metrics: dict, batch: Any) -> None:
        note(seen, metrics["seconds"], metrics["accuracy"], metrics["length"])
        seen.reached = to_half and arrived(seen.accuracy, bench.plan)
        if seen.reached or time.perf_counter() - began > bench.plan.limit_seconds:
            raise Enough

    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        began = time.perf_counter()
        try:
            options = {"progress": False, "callbacks": [watch]}
            grpo.train(model, bench.tokenizer, bench.task, config, folder, **options)
        except Enough:
            pass
        seen.total = time.perf_counter() - began
    return seen


def trl_run(
    bench: Bench,
    options: dict[str, Any],
    seed: int,
    steps: int,
    to_half: bool = False,
    ours: str = "",
) -> Run:
    """TRL's GRPOTrainer from the base weights on the same questions, rewards and optimizer.

    ours: "sampler": r1lab's writes the answers, in place of transformers' generate; "backend": as
    `r1lab train --backend trl` runs it, where each pass has answers of like length as well.
    """
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOTrainer

    from r1lab.trl_backend.samplers import own_sampler
    from r1lab.trl_backend.trainer import Trainer

    seen = Run([], [], [], 0.0)

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = time.perf_counter() - self.began

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "rewards/accuracy_reward/mean" in logs:
                accuracy, length = (
                    logs[name]
                    for name in ("rewards/accuracy_reward/mean", "completions/mean_length")
                )
                note(seen, self.seconds, accuracy, length)
            seen.reached = to_half and arrived(seen.accuracy, bench.plan)
            late = time.perf_counter() - began > bench.plan.limit_seconds
            control.should_training_stop |= seen.reached or late
            return control

    config = bench.plan.config
    problems = bench.task.problems("train", steps * config.questions, seed=seed)
    cpu = bench.base.device.type == "cpu"
    arguments = trl_arguments(config, options, bench.folder, seed, steps, cpu=cpu)
    precision = "fp32" if options.get("bf16") is False else "bf16"
    rollout = own_sampler(config, bench.tokenizer, precision=precision) if ours else None
    trainer = (Trainer if ours == "backend" else GRPOTrainer)(
        model=copy.deepcopy(bench.base),
        args=arguments,
        processing_class=bench.tokenizer,
        train_dataset=as_dataset(problems, config.template),
        reward_funcs=[REWARDS[name] for name in config.rewards],
        callbacks=[Watch()],
        rollout_func=rollout,
    )
    trainer.run = replace(config, steps=steps)  # what our Trainer's learning rate goes by
    trainer.remove_callback(PrinterCallback)
    wanted = {"fp32": "no", "bf16": "bf16"}[precision]
    assert trainer.accelerator.mixed_precision == wanted, trainer.accelerator.mixed_precision
    began = time.perf_counter()
    trainer.train()
    seen.total = time.perf_counter() - began
    return seen


def trl_arguments(
    config: GRPOConfig,
    options: dict[str, Any],
    folder: Path,
    seed: int,
    steps: int,
    cpu: bool = True,
):
    """r1lab's configuration in TRL's words; `options` decide only how it is computed.

    A step is one rollout of questions * group_size answers in either; TRL cuts it into
    micro-batches of `per_device_train_batch_size` rows whose gradients it accumulates.
    """
    from trl import GRPOConfig as TRLConfig

    batch = config.questions * config.group_size
    options = dict(options)
    rows = min(options.pop("per_device_train_batch_size", 8), batch)
    return TRLConfig(
        output_dir=str(folder / "trl"),
        use_cpu=cpu,
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=batch // rows,
        num_generations=config.group_size,
        max_completion_length=config.max_new_tokens,
        temperature=config.temperature,
        top_k=0,
        loss_type={"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}[config.length_norm],
        beta=0.0,
        epsilon=config.clip_low,
        epsilon_high=config.clip_high,
        reward_weights=list(config.reward_weights),
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_schedule,
        adam_beta1=config.beta1,
        adam_beta2=config.beta2,
        weight_decay=0.0,
        max_grad_norm=config.max_grad_norm,
        max_steps=steps,
        seed=seed,
        shuffle_dataset=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **options,
    )


def note(seen: Run, seconds: float, accuracy: float, length: float) -> None:
    seen.seconds.append(seconds)
    seen.accuracy.append(accuracy)
    seen.length.append(length)


def arrived(accuracy: Sequence[float], plan: Plan) -> bool:
    """Is the mean accuracy of the last `window` steps at the target?"""
    last = accuracy[-plan.window :]
    return len(last) == plan.window and statistics.fmean(last) >= plan.target


def choose_trl(bench: Bench) -> dict[str, Any]:
    """The fastest of TRL_CANDIDATES, by one step of each after one to warm up."""
    trl_run(bench, _FLOAT32, seed=0, steps=1)  # the first step of a process pays for imports
    seconds = {}
    for name, options in TRL_CANDIDATES.items():
        seconds[name] = trl_run(bench, options, seed=0, steps=1).seconds[0]
        bench.say(f"TRL, {name}: {seconds[name]:.2f} s a step")
    return {"name": min(seconds, key=seconds.get), "tried": seconds}


# --- the measurements ----------------------------------------------------------------------------
# Each returns what it measured and, for each of its ratios, the ratio of every repeat.

Measured = tuple[dict[str, Any], dict[str, list[float]]]


def measure_step(bench: Bench, best: str) -> Measured:
    """One GRPO step from the base: questions, answers, rewards, gradient, new weights."""
    contenders: dict[str, Callable[[int], Run]] = {
        "r1lab": lambda seed: r1lab_run(bench, seed, steps=1),
        "trl_best": lambda seed: trl_run(bench, TRL_CANDIDATES[best], seed, steps=1),
        "trl_our_sampler": lambda seed: trl_run(
            bench, TRL_CANDIDATES[best], seed, steps=1, ours="sampler"
        ),
        "trl_default": lambda seed: trl_run(bench, TRL_DEFAULT, seed, steps=1),
    }
    measured = _steps(bench, contenders, warm=("r1lab", "trl_our_sampler"))
    return measured, {
        "step_vs_trl_default": divide(measured["trl_default"], measured["r1lab"], "seconds"),
        "step_vs_trl_best": divide(measured["trl_best"], measured["r1lab"], "seconds"),
        "trl_step_with_our_sampler": divide(
            measured["trl_best"], measured["trl_our_sampler"], "seconds"
        ),
    }


def measure_backend(bench: Bench, best: str) -> Measured:
    """The same step by TRL at its best, and as `r1lab train --backend trl` has it computed."""
    measured = _steps(
        bench,
        {
            "trl_best": lambda seed: trl_run(bench, TRL_CANDIDATES[best], seed, steps=1),
            "trl_backend": lambda seed: trl_run(
                bench, TRL_CANDIDATES[best], seed, steps=1, ours="backend"
            ),
        },
        warm=("trl_best", "trl_backend"),
    )
    pairs = divide(measured["trl_best"], measured["trl_backend"], "seconds")
    return measured, {"trl_step_with_our_backend": pairs}


def _steps(bench: Bench, contenders: dict[str, Callable], warm: Sequence[str]) -> dict[str, Any]:
    """Each contender's step in turn, in every repeat; `warm` do one before that does not count."""
    for name in warm:
        contenders[name](0)
    measured = {name: {"seconds": [], "mean_length": []} for name in contenders}
    for repeat in range(bench.plan.repeats):
        for name, contend in contenders.items():
            seen = contend(repeat)
            measured[name]["seconds"].append(seen.seconds[0])
            measured[name]["mean_length"].append(seen.length[0])
        times = ", ".join(f"{name} {m['seconds'][-1]:.2f} s" for name, m in measured.items())
        bench.say(f"step, repeat {repeat + 1} of {bench.plan.repeats}: {times}")
    return measured


def measure_sampler(bench: Bench, best: str | None = None) -> Measured:
    """Answer tokens a second, EOS included, from the base on the same prompts.

    generate is asked with its own cache and with a static one; the ratio is to the faster.
    """
    contenders: dict[str, Callable[[int], int]] = {
        "r1lab": lambda seed: tokens_of(draw_r1lab(bench, seed)),
        "generate": lambda seed: draw_generate(bench, seed),
        "generate_static": lambda seed: draw_generate(bench, seed, cache_implementation="static"),
    }
    for contend in contenders.values():
        contend(0)  # warm up
    rows = bench.plan.config.questions * bench.plan.config.group_size
    measured = {
        name: {"tokens_per_second": [], "seconds": [], "mean_length": []} for name in contenders
    }
    for repeat in range(bench.plan.repeats):
        for name, contend in contenders.items():
            began = time.perf_counter()
            tokens = contend(repeat)
            seconds = time.perf_counter() - began
            measured[name]["seconds"].append(seconds)
            measured[name]["tokens_per_second"].append(tokens / seconds)
            measured[name]["mean_length"].append(tokens / rows)
        rates = ", ".join(f"{n} {m['tokens_per_second'][-1]:,.0f}" for n, m in measured.items())
        bench.say(f"sampler, repeat {repeat + 1} of {bench.plan.repeats}: {rates} tokens a second")
    rate = {n: statistics.median(m["tokens_per_second"]) for n, m in measured.items()}
    faster = max(("generate", "generate_static"), key=rate.get)
    pairs = divide(measured["r1lab"], measured[faster], "tokens_per_second")
    return measured | {"faster": faster}, {"sampler_vs_generate": pairs}


def draw_r1lab(bench: Bench, seed: int) -> Rollouts:
    config = bench.plan.config
    return sample(
        bench.base,
        bench.prompts(seed),
        Sampling(config.max_new_tokens, config.temperature, seed=seed),
        group_size=config.group_size,
        eos_token_id=bench.tokenizer.eos_token_id,
    )


def tokens_of(rollouts: Rollouts) -> int:
    return sum(map(len, rollouts.completion_ids))


def draw_generate(bench: Bench, seed: int, **options: Any) -> int:
    """transformers' generate on the same prompts; returns the tokens drawn, up to each EOS."""
    config, eos = bench.plan.config, bench.tokenizer.eos_token_id
    prompts = [p for p in bench.prompts(seed) for _ in range(config.group_size)]
    options = {"temperature": config.temperature, "disable_compile": True} | options
    return sum(generated(bench.base, prompts, config.max_new_tokens, eos, seed, **options))


@torch.no_grad()
def generated(
    model,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    eos: int,
    seed: int,
    width: int = 0,
    **options: Any,
) -> list[int]:
    """Tokens that transformers' generate draws after each prompt, up to its first EOS.

    width: prompts are padded on the left to so many tokens, or to the longest.
    """
    width = max(width, *map(len, prompts))
    ids = torch.tensor([[eos] * (width - len(p)) + list(p) for p in prompts], device=model.device)
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = model.generate(
            input_ids=ids,
            attention_mask=torch.tensor(mask, device=model.device),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=eos,
            pad_token_id=eos,
            **options,
        )
    answers = text[:, width:]  # (N, T)
    ended = (answers == eos).int().cumsum(1) - (answers == eos).int()  # EOS before this token
    return (ended == 0).sum(1).tolist()


def measure_half(bench: Bench, best: str) -> Measured:
    """Wall time of a training from the base until half of a batch's answers are right.

    Where r1lab got there and TRL was given up before it did, the ratio is that of the times spent:
    a lower bound. Where r1lab did not get there, there is no ratio.
    """
    plan = bench.plan
    contenders: dict[str, Callable[[int], Run]] = {
        "r1lab": lambda seed: r1lab_run(bench, seed, plan.limit, to_half=True),
        "trl_best": lambda seed: trl_run(
            bench, TRL_CANDIDATES[best], seed, plan.limit, to_half=True
        ),
    }
    fields = ("seconds", "steps", "reached", "accuracy", "mean_length")
    measured: dict[str, dict] = {name: {field: [] for field in fields} for name in contenders}
    began = time.perf_counter()
    for repeat in range(plan.half_repeats):
        spent = time.perf_counter() - began
        if repeat and spent * (repeat + 1) / repeat > plan.half_seconds:
            bench.say(f"to half: {repeat} of {plan.half_repeats} repeats, then the time was up")
            break
        said = []
        for name, contend in contenders.items():
            seen = contend(repeat)
            values = (seen.total, len(seen.seconds), seen.reached, seen.accuracy, seen.length)
            for field, value in zip(fields, values, strict=True):
                if isinstance(value, list):
                    value = [round(float(x), 3) for x in value]
                measured[name][field].append(value)
            given_up = "" if seen.reached else " (not reached)"
            said.append(f"{name} {seen.total:.0f} s in {len(seen.seconds)} steps{given_up}")
        bench.say(f"to half, repeat {repeat + 1} of {plan.half_repeats}: {', '.join(said)}")
    pairs = divide(measured["trl_best"], measured["r1lab"], "seconds")
    reached = measured["r1lab"]["reached"]
    return measured, {
        "time_to_half_vs_trl_best": [p for p, there in zip(pairs, reached, strict=True) if there]
    }


def measure_learning(bench: Bench, best: str | None = None) -> Measured:
    """Whole runs on TRL, by generate and by our sampler: do they learn the same, and how fast?"""
    from r1lab.trl_backend.run import train

    measured = {
        name: {"seconds": [], "mean_length": [], "accuracy": []} for name in ("generate", "r1lab")
    }
    for seed in range(bench.plan.learning_seeds):
        for name, entry in measured.items():
            config = replace(bench.plan.learning, seed=seed, checkpoint_every=10**9)
            with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
                history = train(
                    copy.deepcopy(bench.base),
                    bench.tokenizer,
                    bench.task,
                    config,
                    folder,
                    sampler=name,
                    device="cpu",
                    progress=False,
                )
            entry["seconds"].append(sum(m["seconds"] for m in history))
            entry["mean_length"].append([m["length"] for m in history])
            entry["accuracy"].append([m["accuracy"] for m in history])
            bench.say(
                f"learning, seed {seed}, {name}: {entry['seconds'][-1]:.0f} s, accuracy of the "
                f"last step {history[-1]['accuracy']:.2f}"
            )
    pairs = divide(measured["generate"], measured["r1lab"], "seconds")
    return measured, {"trl_run_with_our_sampler": pairs}


def measure_matmul(bench: Bench, best: str | None = None) -> Measured:
    """Forward and backward of a whole batch, against the best large matrix product."""
    config, plan, device = bench.plan.config, bench.plan, bench.base.device
    model = copy.deepcopy(bench.base)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    measured: dict[str, Any] = {
        "training": {"gflops_per_second": [], "seconds": [], "tokens": []},
        "matmul": {"gflops_per_second": [], "size": []},
    }
    for repeat in range(-1, bench.plan.repeats):  # the first to warm up
        problems = bench.task.problems("train", config.questions, seed=max(repeat, 0))
        batch = grpo.collect(model, bench.tokenizer, bench.task, problems, 0, config)
        # Every row gets its forward and backward pass here, also where a group has no spread.
        batch.advantages = torch.ones_like(batch.advantages)
        rows = list(range(len(batch.measures)))
        sizes = [
            (len(batch.rollouts.prompt_ids[r // config.group_size]), len(ids))
            for r, ids in enumerate(batch.rollouts.completion_ids)
        ]
        peak, size = matmul_rate(plan.matmul_sizes, dtype=plan.matmul_dtype, device=device)
        began = now(device)
        grpo.backward(model, None, batch, rows, None, config)
        seconds = now(device) - began
        again, other = matmul_rate(plan.matmul_sizes, dtype=plan.matmul_dtype, device=device)
        if repeat < 0:
            continue
        peak, size = max((peak, size), (again, other))  # before or after, whichever is faster
        rate = training_flops(model, sizes) / seconds
        measured["training"]["gflops_per_second"].append(rate / 1e9)
        measured["training"]["seconds"].append(seconds)
        measured["training"]["tokens"].append(sum(map(sum, sizes)))
        measured["matmul"]["gflops_per_second"].append(peak / 1e9)
        measured["matmul"]["size"].append(size)
        bench.say(
            f"arithmetic, repeat {repeat + 1} of {bench.plan.repeats}: training {rate / 1e9:.0f}, "
            f"matrix product {peak / 1e9:.0f} GFLOP/s"
        )
    pairs = divide(measured["training"], measured["matmul"], "gflops_per_second")
    return measured, {"matmul_share": pairs}


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


def training_flops(model, sizes: Sequence[tuple[int, int]]) -> float:
    """Arithmetic of forward and backward over rows of (prompt, completion) tokens, unpadded.

    6 for every weight of the layers' matrices and every token (2 forward, 4 backward); the same for
    the output matrix, but only at the positions that predict an answer's token; and attention,
    where a token at position i meets i keys and i values: 4 * i * H * d forward, for H heads of
    width d, and three times that with backward. Norms, rotations and softmax are not counted.
    """
    config = model.config
    layers = sum(p.numel() for p in model.model.layers.parameters() if p.ndim == 2)
    head = config.vocab_size * config.hidden_size
    width = config.num_attention_heads * model.model.layers[0].self_attn.head_dim
    total = 0
    for prompt, completion in sizes:
        length = prompt + completion
        met = length * (length + 1) // 2  # keys met by all tokens of the row
        total += 6 * (layers * length + head * completion)
        total += 3 * 4 * config.num_hidden_layers * width * met
    return float(total)


MEASURES: dict[str, Callable[..., Measured]] = {
    "step": measure_step,
    "backend": measure_backend,
    "sampler": measure_sampler,
    "half": measure_half,
    "learning": measure_learning,
    "matmul": measure_matmul,
}


def divide(above: dict, below: dict, field: str) -> list[float]:
    """The ratio of two contenders in every repeat."""
    return [a / b for a, b in zip(above[field], below[field], strict=True)]


# --- saying it -----------------------------------------------------------------------------------


def describe_model(model, name: str) -> dict[str, Any]:
    config = model.config
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "vocabulary": config.vocab_size,
    }


def table(report: dict[str, Any]) -> str:
    """The ratios beside their goals, in markdown."""
    lines = [
        "| ratio | measured (median) | smallest to largest | repeats | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    for name, value in report["ratios"].items():
        pairs, goal = report["pairs"][name], report["goals"][name]
        form = "{:.0%}" if name == "matmul_share" else "{:.1f} x"
        spread = f"{form} to {form}".format(min(pairs), max(pairs)) if pairs else "–"
        shown = "not reached" if value is None else form.format(value)
        if value is not None and name in report.get("lower_bounds", []):
            shown = f"at least {shown}"
        met = "yes" if value is not None and value >= goal else "**no**"
        cells = [f"`{name}`: {MEANING[name]}", shown, spread, str(len(pairs)), form.format(goal)]
        lines.append(f"| {' | '.join([*cells, met])} |")
    return "\n".join(lines)


def details(report: dict[str, Any]) -> str:
    """The medians that the ratios stand on, in markdown."""
    lines = ["| part | contender | median | mean answer (tokens) |", "|---|---|---|---|"]
    for part, measured in report["measured"].items():
        for name, m in measured.items():
            if not isinstance(m, dict):
                continue
            if "tokens_per_second" in m:
                value = f"{statistics.median(m['tokens_per_second']):,.0f} tokens/s"
            elif "gflops_per_second" in m:
                value = f"{statistics.median(m['gflops_per_second']):,.0f} GFLOP/s"
            else:
                value = f"{statistics.median(m['seconds']):.2f} s"
            if "steps" in m:
                value += f", {statistics.median(m['steps']):.0f} steps"
            lengths: list[float] = []
            for entry in m.get("mean_length", []):
                lengths += entry if isinstance(entry, list) else [entry]
            length = f"{statistics.fmean(lengths):.0f}" if lengths else "–"
            lines.append(f"| {part} | {name} | {value} | {length} |")
    return "\n".join(lines)


def page(report: dict[str, Any]) -> str:
    """benchmarks/results/cpu.md: made from the JSON beside it."""
    machine, model, config = report["hardware"], report["model"], report["configuration"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    text = [
        "# r1lab against TRL on this machine",
        "",
        f"Made by `r1lab bench` on {report['when']}; do not edit. The numbers are in the JSON file "
        "beside this one; what is counted is in `benchmarks/README.md`.",
        *(["", "**Toy sizes (`--quick`): these numbers mean nothing.**"] * report["quick"]),
        "",
        table(report),
        "",
        details(report),
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {report['threads']} threads, "
        f"{machine['memory_gib']} GiB",
        f"- Versions: {versions}",
        f"- Model: {model['name']}, {model['parameters']:,} parameters, {model['layers']} layers, "
        f"width {model['width']}",
        f"- A step: {config['questions']} questions x {config['group_size']} answers of at most "
        f"{config['max_new_tokens']} tokens, learning rate {config['learning_rate']:g}",
    ]
    if "trl_best" in report:
        tried = ", ".join(f"{n} {s:.2f} s" for n, s in report["trl_best"]["tried"].items())
        text.append(f"- TRL at its best: {report['trl_best']['name']} (a step of each: {tried})")
    if "parts" in report:
        later = ", ".join(f"{part} ({day})" for part, day in report["parts"].items())
        text.append(f"- Measured again later, by themselves: {later}")
    if "minutes" in report:
        text.append(f"- The whole run took {report['minutes']:g} minutes")
    return "\n".join(text) + "\n"


# --- the command ---------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `r1lab bench`, each an argument of `run`."""
    add = parser.add_argument
    add("--quick", action="store_true", help="toy sizes, to see that it works; writes nothing")
    add(
        "--gpu", metavar="WHAT", choices=("sampler", "step", "run"),
        help="measure on a GPU in place of all this, one of: sampler, step, run",
    )  # fmt: skip
    add("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    add("--repeats", type=int, metavar="N", help="default: 5, whole trainings up to 3")
    add("--model", help="as for `r1lab train`; default: tiny, with --gpu smollm2-135m")
    add(
        "--out", metavar="FILE",
        help="default: benchmarks/results/cpu.json, for a whole run only; with --gpu gpu-WHAT.json "
        "there, or in the folder named here",
    )  # fmt: skip
    add(
        "--minutes", type=float, metavar="X", help="with --gpu: the most it may take (default: 9.5)"
    )
    add(
        "--backend", choices=("scratch", "trl"), default="scratch",
        help="of --gpu run: scratch (default) or trl",
    )  # fmt: skip

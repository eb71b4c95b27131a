"""The parts of the CPU benchmark: who competes in each, and how TRL's best settings are found."""

import copy
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from r1lab import models
from r1lab.basics.errors import R1LabError
from r1lab.bench import loops
from r1lab.bench.harness import say
from r1lab.bench.loops import FLOAT32, TRL_DEFAULT, Bench
from r1lab.machine import workers
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import in_micro_batches, token_logps
from r1lab.sandbox import Case, Sandbox
from r1lab.trl_backend.mapping import Launch
from r1lab.trl_backend.run import train as train_on_trl

# What may be fastest on a CPU: rows per micro-batch, and generate's cache.
ROWS = "per_device_train_batch_size"
TRL_CANDIDATES: dict[str, dict[str, Any]] = {
    "float32, 8 rows": FLOAT32,
    "float32, 32 rows": FLOAT32 | {ROWS: 32},
    "float32, 64 rows": FLOAT32 | {ROWS: 64},
    "float32, 32 rows, static cache": FLOAT32 | {ROWS: 32, "cache_implementation": "static"},
}
Contenders = dict[str, Callable[[int], dict[str, Any] | None]]


def choose_trl(bench: Bench) -> dict[str, Any]:
    """The fastest of TRL_CANDIDATES, by one step of each after one to warm up."""
    loops.trl_run(bench, FLOAT32, seed=0)  # the first step of a process pays for imports
    seconds = {}
    for name, options in TRL_CANDIDATES.items():
        seconds[name] = loops.trl_run(bench, options, seed=0).seconds[0]
        say(f"TRL, {name}: {seconds[name]:.2f} s per step")
    return {"name": min(seconds, key=seconds.get), "tried": seconds}


def steps(*names: str) -> Callable[[Bench, dict[str, Any]], Contenders]:
    """One GRPO step from the base: prompts, completions, rewards, gradient, new weights."""

    def contenders(bench: Bench, fast: dict[str, Any]) -> Contenders:
        trl = partial(loops.trl_run, bench)
        every = {
            "r1lab": partial(loops.r1lab_run, bench),
            "trl_best": partial(trl, fast),
            "trl_our_sampler": partial(trl, fast, ours="sampler"),
            "trl_backend": partial(trl, fast, ours="backend"),
            "trl_default": partial(trl, TRL_DEFAULT),
        }
        return {name: lambda seed, run=every[name]: run(seed=seed).step() for name in names}

    return contenders


def draws(bench: Bench, fast: Any) -> Contenders:
    """Sampled tokens per second, EOS included, from the base on the same prompts."""

    def timed(draw: Callable[..., list[int]], seed: int, **options: Any) -> dict[str, float]:
        bench.prompts(seed)
        began = time.perf_counter()
        lengths = draw(bench, bench.batch, seed, **options)
        seconds = time.perf_counter() - began
        rate = {"tokens_per_second": sum(lengths) / seconds, "seconds": seconds}
        return rate | {"mean_length": statistics.fmean(lengths)}

    return {
        "r1lab": partial(timed, loops.draw_r1lab),
        "generate": partial(timed, loops.draw_generate),
        "generate_static": partial(timed, loops.draw_generate, cache_implementation="static"),
    }


def halves(bench: Bench, fast: dict[str, Any]) -> Contenders:
    """Wall time of a training from the base to an accuracy of 50 % on the train batches."""
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

    return {
        "r1lab": partial(contend, partial(loops.r1lab_run, bench)),
        "trl_best": partial(contend, partial(loops.trl_run, bench, fast)),
    }


def learning(bench: Bench, fast: Any) -> Contenders:
    """Whole runs on TRL, by generate and by our sampler: do they learn the same, and how fast?"""

    def contend(sampler: str, seed: int) -> dict[str, Any]:
        config = replace(bench.plan.learning, seed=seed, checkpoint_every=10**9)
        about = (copy.deepcopy(bench.base), bench.tokenizer, bench.task, config)
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            launch = Launch(sampler=sampler, device="cpu")
            history = train_on_trl(*about, folder, launch, progress=False)
        return {
            "seconds": sum(m["seconds"] for m in history),
            "mean_length": [m["length"] for m in history],
            "accuracy": [m["accuracy"] for m in history],
        }

    return {name: partial(contend, name) for name in ("generate", "r1lab")}


def sandboxes(bench: Bench, fast: Any) -> Contenders:
    """Seconds per 100 programs of five tests, on all cores: a process for each, and the sandbox."""
    sandbox = bench.stack.enter_context(Sandbox())
    pool = bench.stack.enter_context(ThreadPoolExecutor(sandbox.workers))
    cases = [Case((x,), 3 * x + 2) for x in range(5)]

    def fresh(source: str) -> bool:
        tests = f"{source}\nprint([f(x) for x in {[case.args[0] for case in cases]}])"
        ran = subprocess.run([sys.executable, "-I", "-c", tests], capture_output=True, timeout=60)
        return ran.stdout.decode().strip() == str([case.expected for case in cases])

    def timed(judge: Callable, n: int, seed: int) -> dict[str, float]:
        sources = [f"def f(x): return {k + seed * n} * 0 + x * 3 + 2" for k in range(n)]
        began = time.perf_counter()
        right = judge(sources)
        seconds = time.perf_counter() - began
        if not all(right):
            raise R1LabError("a program that is right was judged wrong")
        return {"seconds": 100 * seconds / n}

    def ours(sources: list[str]) -> list[bool | None]:
        jobs = [(source, "f", cases) for source in sources]
        return [verdict.passed for verdict in sandbox.judge_all(jobs)]

    return {
        "r1lab": partial(timed, ours, 400),
        "subprocess": partial(timed, lambda sources: list(pool.map(fresh, sources)), 40),
    }


def busy(bench: Bench, fast: Any) -> Contenders:
    """r1lab's step on the machine as it is, beside programs that keep its cores busy, and in a
    process with one worker whose threads wait as GNU OpenMP's do by themselves: 300,000 rounds of
    spinning at the end of every operation."""

    def beside(seed: int) -> dict[str, float]:
        with burning(max(2, torch.get_num_threads())):
            return one_step(bench, seed)

    new = multiprocessing.get_context("spawn")
    pool = bench.stack.enter_context(ProcessPoolExecutor(1, new, initializer=one_worker))
    with patch.dict(os.environ, GOMP_SPINCOUNT="300000"):
        pool.submit(os.getpid).result()  # the process starts with this environment
    sent = replace(bench, stack=None)
    return {
        "idle": partial(one_step, bench),
        "busy": beside,
        "spinning": lambda seed: pool.submit(one_step, sent, seed).result(),
    }


def bases(bench: Bench, fast: Any) -> Contenders:
    """Sampling and gradient of one step with the base, and with the shape of this project's first
    one, of as many key-value heads as heads. No completion ends early: both have as many tokens."""
    config = bench.plan.config
    first = models.tiny_llama(len(bench.tokenizer), width=192, layers=3, heads=4, ffn=512)
    most = config.max_new_tokens * 2 // 5  # as long as R1-Zero's completions are on average

    def timed(model, seed: int) -> dict[str, float]:
        prompts, sampling = bench.prompts(seed), Sampling(most, seed=seed)
        began, size = time.perf_counter(), config.group_size
        drawn = sample(model, prompts, sampling, group_size=size, eos_token_id=None)
        rows = [(prompts[i // size], ids) for i, ids in enumerate(drawn.completion_ids)]

        def learn(model, some: list[int]) -> None:
            token_logps(model, [rows[i] for i in some])[0].sum().backward()

        sizes = [len(prompt) + len(ids) for prompt, ids in rows]
        in_micro_batches(model, learn, sizes, config.micro_batch_tokens)
        model.zero_grad()
        return {"seconds": time.perf_counter() - began}

    return {"base": partial(timed, copy.deepcopy(bench.base)), "first": partial(timed, first)}


def one_step(bench: Bench, seed: int) -> dict[str, float]:
    return loops.r1lab_run(bench, seed).step()


def one_worker() -> None:
    workers.MOST, workers.SMALL = 1, 0  # which computes with all of torch's threads


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


@dataclass(frozen=True)
class Part:
    """contenders: by name, for a benchmark and TRL's options at its best. warm: those that run once
    before anything counts. repeats: the plan's name for their number. field: what is compared."""

    contenders: Callable[[Bench, Any], Contenders]
    warm: Sequence[str] = ()
    repeats: str = "repeats"
    field: str = "seconds"


PARTS = {
    "step": Part(
        steps("r1lab", "trl_best", "trl_our_sampler", "trl_default"), ("r1lab", "trl_our_sampler")
    ),
    "backend": Part(steps("trl_best", "trl_backend"), ("trl_best", "trl_backend")),
    "sampler": Part(draws, ("r1lab", "generate", "generate_static"), field="tokens_per_second"),
    "half": Part(halves, repeats="half_repeats"),
    "learning": Part(learning, repeats="learning_seeds"),
    "matmul": Part(lambda bench, fast: loops.matmul_share(bench), field="gflops_per_second"),
    "sandbox": Part(sandboxes, ("r1lab", "subprocess")),
    "busy": Part(busy, ("idle", "spinning")),
    "base": Part(bases, ("base", "first")),
}

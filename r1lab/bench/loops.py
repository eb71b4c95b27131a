"""The contenders: r1lab's loop and TRL's on the same task, r1lab's sampler and generate.

Every contender gets the same starting weights, prompts, rewards and optimizer. Each samples its own
completions: lengths are equal in distribution, not token by token, and are recorded. What both do
not do, saving and evaluating, is not timed in either.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from r1lab import grpo
from r1lab.bench.harness import matmul_rate, now
from r1lab.grpo import GRPOConfig
from r1lab.rewards import REWARDS
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.templates import render
from r1lab.trl_backend import mapping
from r1lab.trl_backend.data import as_dataset

# What TRL does unless told otherwise: bfloat16, gradient checkpointing, micro-batches of 8 rows.
TRL_DEFAULT: dict[str, Any] = {}
FLOAT32 = {"bf16": False, "gradient_checkpointing": False}


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


@dataclass(frozen=True)
class Batch:
    """One size of a sampler's measurement: `rows` completions of `tokens` tokens, `group` to each
    prompt. natural: they end where the model ends them, as in RL."""

    rows: int
    tokens: int = 256
    group: int = 16
    natural: bool = False
    temperature: float = 1.0

    @property
    def name(self) -> str:
        return f"batch_{self.rows}" + ("_natural" if self.natural else "")

    @property
    def questions(self) -> int:
        return max(1, self.rows // self.group)


@dataclass(kw_only=True)
class Bench:
    """What every measurement needs."""

    base: torch.nn.Module
    tokenizer: Any
    task: Any
    plan: Plan
    folder: Path
    say: Callable[[str], None]
    asked: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.base.device

    @property
    def batch(self) -> Batch:
        """What a training step samples."""
        c = self.plan.config
        rows = c.questions * c.group_size
        return Batch(rows, c.max_new_tokens, c.group_size, True, c.temperature)

    def prompts(self, seed: int, batch: Batch | None = None) -> list[list[int]]:
        """The prompts of a batch as token ids; written once, outside of what is timed."""
        n = (batch or self.batch).questions
        if (n, seed) not in self.asked:
            problems = self.task.problems("train", n, seed=seed)
            texts = [render(problem, self.plan.config.template) for problem in problems]
            self.asked[n, seed] = self.tokenizer(texts)["input_ids"]
        return self.asked[n, seed]


# --- training ------------------------------------------------------------------------------------


@dataclass
class Run:
    """A training run that was watched: one entry per step."""

    seconds: list[float] = field(default_factory=list)  # from the prompts to the new weights
    accuracy: list[float] = field(default_factory=list)  # of the step's completions
    length: list[float] = field(default_factory=list)  # mean tokens per completion
    total: float = 0.0  # seconds of the whole run, without building model and trainer
    reached: bool = False

    def note(self, seconds: float, accuracy: float, length: float) -> None:
        self.seconds.append(seconds)
        self.accuracy.append(accuracy)
        self.length.append(length)

    def step(self) -> dict[str, float]:
        """The first step, as a contender's fields."""
        return {"seconds": self.seconds[0], "mean_length": self.length[0]}


class Enough(Exception):
    """The accuracy that was asked for is there, or the time is up."""


def arrived(accuracy: Sequence[float], plan: Plan) -> bool:
    """Is the mean accuracy of the last `window` steps at the target?"""
    last = accuracy[-plan.window :]
    return len(last) == plan.window and statistics.fmean(last) >= plan.target


def r1lab_run(bench: Bench, seed: int, steps: int = 1, to_half: bool = False) -> Run:
    """r1lab.grpo.train from the base weights, for `steps` or until the target accuracy."""
    config = replace(bench.plan.config, steps=steps, seed=seed, checkpoint_every=10**9)
    model, seen = copy.deepcopy(bench.base), Run()

    def watch(step: int, metrics: dict, batch: Any) -> None:
        seen.note(metrics["seconds"], metrics["accuracy"], metrics["length"])
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
    steps: int = 1,
    to_half: bool = False,
    ours: str = "",
) -> Run:
    """TRL's GRPOTrainer from the base weights on the same prompts, rewards and optimizer.

    ours: "sampler": r1lab's samples, in place of transformers' generate; "backend": as `r1lab train
    --backend trl` runs it, where each pass has completions of like length as well.
    """
    from transformers import PrinterCallback, TrainerCallback
    from trl import GRPOTrainer

    from r1lab.trl_backend.samplers import own_sampler
    from r1lab.trl_backend.trainer import Trainer

    seen = Run()

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = time.perf_counter() - self.began

        def on_log(self, args, state, control, logs=None, **kwargs):
            if (accuracy := logs.get("rewards/accuracy_reward/mean")) is not None:
                seen.note(self.seconds, accuracy, logs["completions/mean_length"])
            seen.reached = to_half and arrived(seen.accuracy, bench.plan)
            late = time.perf_counter() - began > bench.plan.limit_seconds
            control.should_training_stop |= seen.reached or late
            return control

    config = bench.plan.config
    problems = bench.task.problems("train", steps * config.questions, seed=seed)
    cpu = bench.base.device.type == "cpu"
    precision = "fp32" if options.get("bf16") is False else "bf16"
    rollout = own_sampler(config, bench.tokenizer, precision=precision) if ours else None
    trainer = (Trainer if ours == "backend" else GRPOTrainer)(
        model=copy.deepcopy(bench.base),
        args=trl_arguments(config, options, bench.folder, seed, steps, cpu=cpu),
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

    A step is one rollout of questions * group_size completions in either; TRL cuts it into
    micro-batches of `per_device_train_batch_size` rows whose gradients it accumulates.
    """
    from trl import GRPOConfig as TRLConfig

    batch, options = config.questions * config.group_size, dict(options)
    rows = min(options.pop("per_device_train_batch_size", 8), batch)
    run = replace(config, steps=steps, seed=seed)
    same = mapping.trl_options(run, out_dir=folder / "trl", cpu=cpu)
    for name in ("bf16", "gradient_checkpointing", "optim"):  # TRL's own choice, unless in options
        del same[name]
    same |= dict.fromkeys(("gradient_accumulation_steps", "steps_per_generation"), batch // rows)
    return TRLConfig(**same | {"per_device_train_batch_size": rows} | options)


# --- sampling ------------------------------------------------------------------------------------


def draw_r1lab(bench: Bench, batch: Batch, seed: int) -> list[int]:
    """Lengths of the completions that r1lab samples."""
    drawn = sample(
        bench.base,
        bench.prompts(seed, batch),
        Sampling(batch.tokens, batch.temperature, seed=seed),
        group_size=batch.group,
        eos_token_id=bench.tokenizer.eos_token_id if batch.natural else None,
    )
    return list(map(len, drawn.completion_ids))


def draw_generate(bench: Bench, batch: Batch, seed: int, **options: Any) -> list[int]:
    """Lengths of the completions that transformers' generate samples, up to each EOS."""
    asked = [p for p in bench.prompts(seed, batch) for _ in range(batch.group)]
    if not batch.natural:
        options["min_new_tokens"] = batch.tokens
    options = {"temperature": batch.temperature, "disable_compile": True} | options
    return generated(bench.base, asked, batch.tokens, bench.tokenizer.eos_token_id, seed, **options)


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
    """Tokens that transformers' generate samples after each prompt, up to its first EOS.

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
    completions = text[:, width:]  # (N, T)
    ends = (completions == eos).int()
    return (ends.cumsum(1) - ends == 0).sum(1).tolist()  # no EOS before this token


# --- arithmetic ----------------------------------------------------------------------------------


def matmul_share(bench: Bench) -> Callable[[int], dict[str, dict[str, float]]]:
    """A measurement, by repeat: forward and backward of a whole batch, and the best large matrix
    product, before or after, whichever is faster."""
    config, plan, device = bench.plan.config, bench.plan, bench.base.device
    model = copy.deepcopy(bench.base)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)

    def measure(repeat: int) -> dict[str, dict[str, float]]:
        problems = bench.task.problems("train", config.questions, seed=repeat)
        batch = grpo.collect(model, bench.tokenizer, bench.task, problems, 0, config)
        # Every row gets its forward and backward pass here, zero-variance groups too.
        batch.advantages = torch.ones_like(batch.advantages)
        rows = list(range(len(batch.measures)))
        sizes = [
            (len(batch.rollouts.prompt_ids[r // config.group_size]), len(ids))
            for r, ids in enumerate(batch.rollouts.completion_ids)
        ]
        before = matmul_rate(plan.matmul_sizes, dtype=plan.matmul_dtype, device=device)
        began = now(device)
        grpo.backward(model, None, batch, rows, None, config)
        seconds = now(device) - began
        after = matmul_rate(plan.matmul_sizes, dtype=plan.matmul_dtype, device=device)
        rate, (peak, size) = training_flops(model, sizes) / seconds, max(before, after)
        tokens = sum(map(sum, sizes))
        return {
            "training": {"gflops_per_second": rate / 1e9, "seconds": seconds, "tokens": tokens},
            "matmul": {"gflops_per_second": peak / 1e9, "size": size},
        }

    measure(0)  # warm up
    return measure


def training_flops(model, sizes: Sequence[tuple[int, int]]) -> float:
    """Arithmetic of forward and backward over rows of (prompt, completion) tokens, unpadded.

    6 for every parameter of the layers' matrices and every token (2 forward, 4 backward); the same
    for the output matrix, but only at the positions that predict a completion's token; and
    attention, where a token at position i meets i keys and i values: 4 * i * H * d forward, for H
    heads of width d, and three times that with backward. Norms, rotations and softmax are not
    counted.
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

"""The contenders: r1lab's loop and TRL's on the same task, r1lab's sampler and generate.

Every contender gets the same starting weights, prompts, rewards and optimizer. Each samples its own
completions: lengths are equal in distribution, not token by token, and are recorded. What both do
not do, saving and evaluating, is not timed in either.
"""

import copy
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig as TRLConfig
from trl import GRPOTrainer

from r1lab import grpo
from r1lab.bench.harness import matmul_rate, now
from r1lab.grpo import GRPOConfig
from r1lab.rewards import REWARDS
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.templates import render
from r1lab.trl_backend import mapping
from r1lab.trl_backend.data import as_dataset
from r1lab.trl_backend.samplers import own_sampler
from r1lab.trl_backend.trainer import Trainer

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


@dataclass(kw_only=True)
class Bench:
    """What every measurement needs."""

    base: torch.nn.Module
    tokenizer: Any
    task: Any
    plan: Plan
    folder: Path
    asked: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict)
    stack: ExitStack | None = None  # closed at the end of a part

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
        batch = batch or self.batch
        n = max(1, batch.rows // batch.group)
        if (n, seed) not in self.asked:
            problems = self.task.problems("train", n, seed=seed)
            texts = [render(problem, self.plan.config.template) for problem in problems]
            self.asked[n, seed] = self.tokenizer(texts)["input_ids"]
        return self.asked[n, seed]


# --- training ------------------------------------------------------------------------------------


class Enough(Exception):
    """The target accuracy is reached, or the time is up."""


@dataclass
class Run:
    """A training run that was watched: one entry per step."""

    seconds: list[float] = field(default_factory=list)  # from the prompts to the new weights
    accuracy: list[float] = field(default_factory=list)  # of the step's completions
    length: list[float] = field(default_factory=list)  # mean tokens per completion
    total: float = 0.0  # seconds of the whole run, without building model and trainer
    reached: bool = False
    began: float = 0.0

    def note(self, plan: Plan, to_half: bool, *step: float) -> bool:
        """Keep a step's seconds, accuracy and length; is that enough?"""
        for values, value in zip((self.seconds, self.accuracy, self.length), step, strict=True):
            values.append(value)
        self.reached = to_half and arrived(self.accuracy, plan)
        return self.reached or time.perf_counter() - self.began > plan.limit_seconds

    def timed(self, train: Callable[[], Any]) -> "Run":
        """This run, with the training done."""
        self.began = time.perf_counter()
        with suppress(Enough):
            train()
        self.total = time.perf_counter() - self.began
        return self

    def step(self) -> dict[str, float]:
        """The first step, as a contender's measurement."""
        return {"seconds": self.seconds[0], "mean_length": self.length[0]}


def arrived(accuracy: Sequence[float], plan: Plan) -> bool:
    """Is the mean accuracy of the last `window` steps at the target?"""
    last = accuracy[-plan.window :]
    return len(last) == plan.window and statistics.fmean(last) >= plan.target


def r1lab_run(bench: Bench, seed: int, steps: int = 1, to_half: bool = False) -> Run:
    """r1lab.grpo.train from the base weights, for `steps` or until the target accuracy."""
    config = replace(bench.plan.config, steps=steps, seed=seed, checkpoint_every=10**9)
    model, seen = copy.deepcopy(bench.base), Run()

    def watch(step: int, metrics: dict, batch: Any) -> None:
        values = (metrics[name] for name in ("seconds", "accuracy", "length"))
        if seen.note(bench.plan, to_half, *values):
            raise Enough

    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        about = (model, bench.tokenizer, bench.task, config, folder)
        return seen.timed(lambda: grpo.train(*about, progress=False, callbacks=[watch]))


def trl_run(
    bench: Bench,
    options: dict[str, Any],
    seed: int,
    steps: int = 1,
    to_half: bool = False,
    ours: str = "",
) -> Run:
    """TRL's GRPOTrainer from the base weights on the same prompts, rewards and optimizer.

    ours: "sampler": r1lab's sampler in place of transformers' generate; "backend": as `r1lab train
    --backend trl` runs it, where each micro-batch has completions of like length as well.
    """
    seen = Run()

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            self.seconds = time.perf_counter() - self.began

        def on_log(self, args, state, control, logs=None, **kwargs):
            if (accuracy := logs.get("rewards/accuracy_reward/mean")) is not None:
                step = (self.seconds, accuracy, logs["completions/mean_length"])
                control.should_training_stop |= seen.note(bench.plan, to_half, *step)

    config = bench.plan.config
    problems = bench.task.problems("train", steps * config.questions, seed=seed)
    cpu = bench.device.type == "cpu"
    precision = "fp32" if options.get("bf16") is False else "bf16"
    trainer = (Trainer if ours == "backend" else GRPOTrainer)(
        model=copy.deepcopy(bench.base),
        args=trl_arguments(config, options, bench.folder, seed, steps, cpu=cpu),
        processing_class=bench.tokenizer,
        train_dataset=as_dataset(problems, config.template),
        reward_funcs=[REWARDS[name] for name in config.rewards],
        callbacks=[Watch()],
        rollout_func=own_sampler(config, bench.tokenizer, precision=precision) if ours else None,
    )
    trainer.run = replace(config, steps=steps)  # what our Trainer's learning rate goes by
    trainer.remove_callback(PrinterCallback)
    wanted = {"fp32": "no", "bf16": "bf16"}[precision]
    assert trainer.accelerator.mixed_precision == wanted, trainer.accelerator.mixed_precision
    return seen.timed(trainer.train)


def trl_arguments(
    config: GRPOConfig,
    options: dict[str, Any],
    folder: Path,
    seed: int,
    steps: int,
    cpu: bool = True,
) -> TRLConfig:
    """r1lab's configuration in TRL's words; `options` decide only how it is computed.

    A step is one rollout of questions * group_size completions in either; TRL cuts it into
    micro-batches of `per_device_train_batch_size` rows whose gradients it accumulates.
    """
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


@torch.no_grad()
def draw_generate(
    bench: Bench, batch: Batch, seed: int, width: int = 0, **options: Any
) -> list[int]:
    """Lengths of the completions that transformers' generate samples, up to each first EOS. width:
    prompts are padded on the left to so many tokens, or to the longest."""
    prompts = [p for p in bench.prompts(seed, batch) for _ in range(batch.group)]
    eos, device = bench.tokenizer.eos_token_id, bench.device
    width = max(width, *map(len, prompts))
    ids = torch.tensor([[eos] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    if not batch.natural:
        options["min_new_tokens"] = batch.tokens
    how = {"do_sample": True, "temperature": batch.temperature, "top_k": 0, "top_p": 1.0}
    how |= {"max_new_tokens": batch.tokens, "eos_token_id": eos, "pad_token_id": eos}
    how |= {"disable_compile": True} | options
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = bench.base.generate(input_ids=ids, attention_mask=mask, **how)
    ends = (text[:, width:] == eos).int()  # (N, T)
    return (ends.cumsum(1) - ends == 0).sum(1).tolist()  # no EOS before this token


# --- arithmetic ----------------------------------------------------------------------------------


def matmul_share(bench: Bench) -> dict[str, Callable[[int], dict[str, float]]]:
    """Two contenders: forward and backward of a whole batch, and the best large matrix product,
    before or after, whichever is faster."""
    config, plan, device = bench.plan.config, bench.plan, bench.device
    model, seen = copy.deepcopy(bench.base), {}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    product = partial(matmul_rate, plan.matmul_sizes, dtype=plan.matmul_dtype, device=device)

    def training(repeat: int) -> dict[str, float]:
        problems = bench.task.problems("train", config.questions, seed=repeat)
        batch = grpo.collect(model, bench.tokenizer, bench.task, problems, 0, config)
        # Every row gets its forward and backward pass here, zero-variance groups too.
        batch.advantages = torch.ones_like(batch.advantages)
        prompts, completions = batch.rollouts.prompt_ids, batch.rollouts.completion_ids
        sizes = [(len(prompts[r // config.group_size]), len(c)) for r, c in enumerate(completions)]
        before, began = product(), now(device)
        grpo.backward(model, None, batch, list(range(len(sizes))), None, config)
        seconds = now(device) - began
        peak, size = max(before, product())
        seen["matmul"] = {"gflops_per_second": peak / 1e9, "size": size}
        rate = training_flops(model, sizes) / seconds / 1e9
        return {"gflops_per_second": rate, "seconds": seconds, "tokens": sum(map(sum, sizes))}

    training(0)  # warm up
    return {"training": training, "matmul": lambda repeat: seen["matmul"]}


def training_flops(model, sizes: Sequence[tuple[int, int]]) -> float:
    """FLOPs of forward and backward over rows of (prompt, completion) tokens, unpadded.

    6 for every parameter of the layers' matrices and every token (2 forward, 4 backward); the same
    for the output matrix where a completion's token is predicted; and attention, 4 * i * H * d
    forward for a token at position i with H heads of width d, three times that with backward.
    Norms, rotations and softmax are not counted.
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

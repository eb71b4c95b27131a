"""R1-Zero's training loop: group relative policy optimisation (GRPO) from scratch.

One step, in the order of the paper (arXiv 2501.12948, section 2.2.1; eq. 1 to 3):

    questions       q ~ P(Q), a batch of B
    group sampling  o_1 ... o_G ~ pi_old(. | q), G answers to each question
    rewards         r_i, from rules alone: is the answer right, is the format kept
    advantages      A_i = (r_i - mean(r)) / std(r) within the group; no critic
    inner epochs    over mini-batches of the rollout, maximise
                    min(rho A, clip(rho, 1 - eps, 1 + eps) A) - beta KL(pi || pi_ref),
                    rho = pi / pi_old, pi_ref replaced by pi every `ref_refresh` steps
    optimizer step  AdamW on the gradient of all of it

The functions below are these lines: `questions_at`, `collect` (sampling, rewards, advantages),
`update` (inner epochs, clipping, KL, optimizer), and `train`, which repeats them and can be stopped
anywhere. What each stands on has a module of its own: `rollouts`, `rewards`, `advantages`, `losses`.

Three things here cost nothing in exactness and save most of the time:

* **One update a rollout is on-policy.** pi_old is then the policy itself: rho = 1, its gradient is
  that of log pi, and nothing needs to be computed again. That is also why the loss stays near zero
  while the model learns: the advantages of a group sum to zero, but their gradient does not.
* **Groups without a spread teach nothing.** All right or all wrong: every advantage is zero, and so
  is its gradient. Without a KL term those rows skip the forward and backward pass; they still count
  in the normaliser, so the gradient is the same number.
* **Micro-batches by tokens.** Rows sorted by length are cut into batches of about
  `micro_batch_tokens` tokens, so little is padded; the loss of each is divided by the total of the
  *whole* mini-batch, so the sum of their gradients is the gradient of the mini-batch.

Masks come from lengths, never from token ids: the end-of-sequence token is trained also where the
same token pads.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
import math
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.std import tqdm

from r1lab import checkpoints
from r1lab.advantages import ADVANTAGES
from r1lab.diagnose import Context, diagnose, is_flat
from r1lab.errors import R1LabError
from r1lab.evaluate import Completion, measure
from r1lab.losses import grpo_loss
from r1lab.rewards import REWARDS, combine, get_reward
from r1lab.rollouts import Rollouts, micro_batches, sample, score, token_logps
from r1lab.templates import TEMPLATES, parse, render

log = logging.getLogger(__name__)
REWARD_NAMES = (*REWARDS, "random")


class Stopped(KeyboardInterrupt):
    """The run was asked to stop (Ctrl-C, SIGTERM) and left a checkpoint to go on from."""

    def _render_traceback_(self) -> list[str]:  # IPython shows this instead of a traceback
        return [str(self)]


# --- configuration -----------------------------------------------------------------------------


def option(default: Any, help: str, free: bool = False) -> Any:
    """A field of GRPOConfig. free: it may change between a run and its continuation."""
    return field(default=default, metadata={"help": help, "free": free})


@dataclass(frozen=True)
class GRPOConfig:
    """Every choice of a run. The defaults suit the tiny world; the help gives R1-Zero's value."""

    steps: int = option(60, "training steps (R1-Zero: 10,400)", free=True)
    questions: int = option(16, "questions a step, B (R1-Zero: 32)")
    group_size: int = option(16, "answers sampled to each question, G (R1-Zero: 16)")
    max_new_tokens: int = option(288, "length limit of an answer (R1-Zero: 32,768, later 65,536)")
    temperature: float = option(1.0, "sampling temperature; the policy that is trained has it too")
    rewards: tuple = option(("accuracy", "format"), f"names out of {', '.join(REWARD_NAMES)}")
    reward_weights: tuple = option((1.0, 0.1), "weight of each reward (R1-Zero: equal)")
    advantage: str = option("grpo", "grpo, dr_grpo (no standard deviation) or rloo (leave one out)")
    learning_rate: float = option(3e-4, "AdamW's learning rate (R1-Zero: 3e-6)")
    warmup_steps: int = option(0, "steps over which the learning rate rises from 0, linearly")
    beta1: float = option(0.9, "AdamW's decay of the mean gradient")
    beta2: float = option(0.95, "AdamW's decay of the squared gradient")
    max_grad_norm: float = option(1.0, "gradients longer than this are shortened to it; 0: never")
    minibatches: int = option(1, "optimizer steps a rollout is cut into (R1-Zero: 16)")
    inner_epochs: int = option(1, "passes over each rollout (R1-Zero: 1)")
    old_logprobs: str = option("sampler", "pi_old where it is needed: sampler or recompute")
    clip_low: float = option(0.2, "the ratio is clipped below 1 - this")
    clip_high: float = option(0.2, "the ratio is clipped above 1 + this")
    ratio_level: str = option("token", "ratio of each token, or of the whole sequence (GSPO)")
    length_norm: str = option("sequence", "mean over each sequence, all tokens, or a constant")
    kl_coef: float = option(0.0, "beta, weight of the KL term; 0: no reference (R1-Zero: 0.001)")
    kl_estimator: str = option("k3", "k1, k2 or k3 (R1-Zero: k3)")
    ref_refresh: int = option(400, "steps after which the reference becomes the policy; 0: never")
    template: str = option("tiny", f"prompt template: {', '.join(TEMPLATES)}")
    seed: int = option(0, "seed of the questions, the samples and the mini-batches")
    micro_batch_tokens: int = option(16384, "tokens a forward and backward pass", free=True)
    checkpoint_every: int = option(10, "steps between checkpoints", free=True)
    keep_checkpoints: int = option(2, "checkpoints kept", free=True)
    samples_every: int = option(10, "steps between kept sample completions; 0: none", free=True)
    patience: int = option(8, "steps of flat reward after which to look for a reason", free=True)

    def __post_init__(self) -> None:
        for name in ("rewards", "reward_weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        at_least_one = ("steps questions max_new_tokens minibatches inner_epochs "
                        "micro_batch_tokens checkpoint_every keep_checkpoints").split()  # fmt: skip
        not_negative = ("learning_rate warmup_steps max_grad_norm kl_coef ref_refresh clip_low "
                        "clip_high samples_every").split()  # fmt: skip
        require = [
            *((getattr(self, name) >= 1, f"{name} must be at least 1") for name in at_least_one),
            *((getattr(self, name) >= 0, f"{name} must not be negative") for name in not_negative),
            (self.group_size >= 2, "group_size must be at least 2: one answer alone has no group"),
            (self.temperature > 0, "temperature must be above 0: RL needs answers that differ"),
            (self.clip_low < 1, "clip_low must be below 1, the ratio is never negative"),
            (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "beta1 and beta2 must be in [0, 1)"),
            (self.patience >= 4, "patience must be at least 4, fewer steps show no trend"),
            (len(self.rewards) > 0, "rewards must name at least one reward"),
            (len(self.rewards) == len(self.reward_weights), "reward_weights must be one a reward"),
            (all(callable(r) or r in REWARD_NAMES for r in self.rewards),
             f"rewards must be functions or names out of {', '.join(REWARD_NAMES)}"),
            (self.advantage in ADVANTAGES, f"advantage must be one of {', '.join(ADVANTAGES)}"),
            (self.ratio_level in ("token", "sequence"), "ratio_level must be token or sequence"),
            (self.length_norm in ("sequence", "token", "constant"),
             "length_norm must be sequence, token or constant"),
            (self.kl_estimator in ("k1", "k2", "k3"), "kl_estimator must be k1, k2 or k3"),
            (self.old_logprobs in ("sampler", "recompute"),
             "old_logprobs must be sampler or recompute"),
            (self.template in TEMPLATES, f"template must be one of {', '.join(TEMPLATES)}"),
            (self.minibatches <= self.questions * self.group_size,
             "minibatches must not be more than questions * group_size"),
        ]  # fmt: skip
        for good, words in require:
            if not good:
                raise R1LabError(f"training options: {words}")

    @property
    def on_policy(self) -> bool:
        """One optimizer step a rollout: the policy that answered is the policy that is trained."""
        return self.minibatches * self.inner_epochs == 1

    def to_json(self) -> dict[str, Any]:
        """The options as plain values; reward functions by name."""
        values = dataclasses.asdict(self)
        names = [r if isinstance(r, str) else r.__name__ for r in self.rewards]
        return values | {"rewards": names, "reward_weights": list(self.reward_weights)}


# --- one step ----------------------------------------------------------------------------------


@dataclass
class Experience:
    """What one rollout gave: B questions x G answers; rows are prompt-major, N = B * G."""

    problems: list[Any]  # (B) r1lab.tasks.base.Problem
    prompts: list[str]  # (B)
    rollouts: Rollouts  # token ids (N, ragged), log-probs, finished
    measures: list[Completion]  # (N) text, correct, well formed, reflection, ...
    parts: dict[str, list[float]]  # each reward (N), before its weight
    rewards: torch.Tensor  # (B, G) weighted sum
    advantages: torch.Tensor  # (B, G)

    @property
    def spread(self) -> torch.Tensor:
        """(B,) whether a group's rewards differ at all."""
        return self.rewards.amax(dim=1) > self.rewards.amin(dim=1)


def questions_at(task: Any, step: int, config: GRPOConfig) -> list[Any]:
    """The B problems of a step: a function of the seed and the step alone, so that a run resumes
    without any iterator's state. No problem comes twice before all have come once."""
    first = step * config.questions
    return task.problems("train", first + config.questions, seed=config.seed)[first:]


def collect(model, tokenizer, task, step: int, config: GRPOConfig) -> Experience:
    """Questions, group sampling, rewards, advantages: everything before the gradient."""
    problems = questions_at(task, step, config)
    prompts = [render(problem, config.template) for problem in problems]
    rollouts = sample(
        model,
        [tokenizer(prompt)["input_ids"] for prompt in prompts],
        group_size=config.group_size,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        eos_token_id=tokenizer.eos_token_id,
        seed=config.seed * 1_000_003 + step,
    )
    texts = tokenizer.batch_decode(rollouts.completion_ids, skip_special_tokens=True)
    asked = [problem for problem in problems for _ in range(config.group_size)]  # (N)

    functions = [get_reward(r, config.seed) if isinstance(r, str) else r for r in config.rewards]
    total, parts = combine(texts, asked, functions, config.reward_weights, step=step)

    rewards = torch.tensor(total, dtype=torch.float32).view(len(problems), config.group_size)
    advantages = ADVANTAGES[config.advantage](rewards)
    measures = [
        measure(problem, text, task=task, length=len(ids), finished=finished)
        for problem, text, ids, finished in zip(
            asked, texts, rollouts.completion_ids, rollouts.finished, strict=True
        )
    ]
    batch = Experience(problems, prompts, rollouts, measures, parts, rewards, advantages)
    batch.advantages = advantages * batch.spread[:, None]  # exactly 0 there, not 1e-9 of rounding
    return batch


def backward(model, reference, batch: Experience, rows: Sequence[int], old, config) -> dict:
    """Add the gradient of one mini-batch to the parameters; micro-batches change nothing but memory.

    rows: indices into the N answers. old: log pi_old of all N answers, or None on-policy.
    Returns loss (of the mini-batch), and kl and clip_fraction as means over the tokens used.
    """
    G = config.group_size
    pairs = [(batch.rollouts.prompt_ids[r // G], batch.rollouts.completion_ids[r]) for r in rows]
    advantages = batch.advantages.flatten()[list(rows)]  # (n,)
    tokens = sum(len(completion) for _, completion in pairs)
    total = tokens if config.length_norm == "token" else len(rows)  # of all rows, used or not

    teaches = [i for i in range(len(rows)) if advantages[i] != 0 or config.kl_coef > 0]
    sizes = [len(pairs[i][0]) + len(pairs[i][1]) for i in teaches]
    sums = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0, "used": 0}
    for chunk in micro_batches(sizes, config.micro_batch_tokens):
        chunk = [teaches[i] for i in chunk]
        some = [pairs[i] for i in chunk]
        logp, mask, _ = token_logps(model, some, config.temperature)  # (n, T)
        old_logp = logp.detach() if old is None else pad([old[rows[i]] for i in chunk], logp)
        ref_logp = None
        if reference is not None:
            with torch.no_grad():
                ref_logp, _, _ = token_logps(reference, some, config.temperature)
        loss, seen = grpo_loss(
            logp,
            old_logp,
            advantages[chunk].to(logp.device),
            mask,
            ref_logp,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            kl_coef=config.kl_coef,
            kl_estimator=config.kl_estimator,
            ratio_level=config.ratio_level,
            length_norm=config.length_norm,
            constant=config.max_new_tokens,
            total=total,
        )
        loss.backward()
        used = int(mask.sum())
        sums["loss"] += float(loss.detach())
        sums["used"] += used
        for name in ("kl", "clip_fraction"):
            sums[name] += float(seen.get(name, 0.0)) * used
    return sums


def trainable(model) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def pad(rows: Sequence[Sequence[float]], like: torch.Tensor) -> torch.Tensor:
    """Ragged log-probs as a tensor of the shape (n, T), type and device of `like`."""
    padded = torch.zeros(like.shape)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.as_tensor(row)
    return padded.to(like)


def update(model, reference, optimizer, batch: Experience, step: int, config: GRPOConfig) -> dict:
    """Inner epochs over mini-batches: the gradient of the clipped objective, an AdamW step each.

    Returns loss, kl, clip_fraction, grad_norm (means over the optimizer steps) and lr. Raises
    FloatingPointError before any weight is touched by a NaN or inf.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    for group in optimizer.param_groups:
        group["lr"] = rate
    n = len(batch.measures)
    old = None
    if not config.on_policy:
        old = batch.rollouts.logprobs
        if config.old_logprobs == "recompute":
            prompts = [batch.rollouts.prompt_ids[r // config.group_size] for r in range(n)]
            old = score(model, prompts, batch.rollouts.completion_ids, config.temperature)

    shuffled = random.Random(f"{config.seed}/{step}")
    seen = []
    for _ in range(config.inner_epochs):
        order = list(range(n))
        shuffled.shuffle(order)
        for part in range(config.minibatches):
            rows = order[part * n // config.minibatches : (part + 1) * n // config.minibatches]
            optimizer.zero_grad(set_to_none=False)
            sums = backward(model, reference, batch, rows, old, config)
            limit = config.max_grad_norm or math.inf
            norm = float(torch.nn.utils.clip_grad_norm_(trainable(model), limit))
            if not math.isfinite(norm) or not math.isfinite(sums["loss"]):
                raise FloatingPointError(f"loss {sums['loss']}, gradient norm {norm}")
            optimizer.step()
            seen.append(sums | {"grad_norm": norm})
    used = max(1, sum(s["used"] for s in seen))
    return {
        "loss": sum(s["loss"] for s in seen) / len(seen),
        "kl": sum(s["kl"] for s in seen) / used if config.kl_coef > 0 else None,
        "clip_fraction": sum(s["clip_fraction"] for s in seen) / used,
        "grad_norm": sum(s["grad_norm"] for s in seen) / len(seen),
        "lr": rate,
    }


def describe(step: int, batch: Experience) -> dict[str, Any]:
    """The metrics of a rollout, before its update: step 0 describes the base model."""
    rows, (_, G) = batch.measures, batch.rewards.shape
    n, tokens = len(rows), sum(row.length for row in rows)

    def mean(values) -> float:
        values = list(values)
        return sum(values) / len(values)

    return {
        "step": step,
        "reward": float(batch.rewards.double().mean()),
        "accuracy": mean(row.correct for row in rows),
        "format": mean(row.well_formed for row in rows),
        "length": tokens / n,
        "reflection": mean(row.reflection for row in rows),
        "language_mixing": mean(row.mixed for row in rows),
        "entropy": -sum(map(sum, batch.rollouts.logprobs)) / tokens,
        "truncated": mean(not row.finished for row in rows),
        "parsed": mean(parse(row.text).answer is not None for row in rows),
        "zero_spread_groups": int((~batch.spread).sum()),
        "spread_groups": int(batch.spread.sum()),
        "advantage": float(batch.advantages.abs().mean()),
        "reward_min": float(batch.rewards.min()),
        "reward_max": float(batch.rewards.max()),
        "tokens": tokens,
        **{f"rewards/{name}": mean(values) for name, values in batch.parts.items()},
    }


# --- the run -------------------------------------------------------------------------------------


def train(
    model,
    tokenizer,
    task,
    config: GRPOConfig,
    out_dir: str | os.PathLike,
    *,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callable[[int, dict, Experience], None]] = (),
) -> list[dict[str, Any]]:
    """Train `model` in place by GRPO and return the metrics of every step.

    out_dir receives metrics.jsonl (a line a step, written before the next step begins),
    samples.jsonl (some completions with log-probs and advantages), checkpoints/ and at the end
    model/, a Hugging Face folder. callbacks are called after each step with the step, its metrics
    and its Experience.

    resume: go on from the newest whole checkpoint in out_dir, if there is one. On CPU, with the
    same number of threads, a run that was stopped anywhere ends with the same bits as one that was
    not. With resume=False an earlier run's files are moved into out_dir/earlier-<n>.

    Ctrl-C and SIGTERM let the step finish, save and raise Stopped. Raises R1LabError for options
    that differ from the checkpoint's, for a loss or gradient that is NaN or inf (the batch is in
    nan_batch.json), for a full disk and for too little memory.
    """
    out_dir = Path(out_dir)
    if not resume:
        set_aside(out_dir)
    model.eval()  # no dropout: the policy that answers and the one that is trained are the same
    if not trainable(model):
        raise R1LabError("no weight of this model requires a gradient, so nothing can be trained")
    for parameter in trainable(model):
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(
        trainable(model), config.learning_rate, (config.beta1, config.beta2), weight_decay=0.0
    )
    reference = None
    if config.kl_coef > 0:
        reference = copy.deepcopy(model).requires_grad_(False)

    identity = {
        "config": config.to_json(),
        "base": fingerprint(model),
        "task": f"{task.name}/{questions_at(task, 0, config)[0].id}",
    }
    state = find_checkpoint(out_dir, model, identity)
    first = 0
    if state is not None:
        first = restore(state, model, reference, optimizer)
        identity["base"] = state["identity"]["base"]
    history = truncate(out_dir / "metrics.jsonl", first)
    truncate(out_dir / "samples.jsonl", first)

    def save(step: int) -> None:
        state = {
            "step": step,
            "identity": identity,
            "now": fingerprint(model),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "reference": reference.state_dict() if reference is not None else None,
            "rng": torch.get_rng_state(),
        }
        checkpoints.save(out_dir / "checkpoints", step, state, config.keep_checkpoints)

    saved = first
    with (
        stop_signals() as asked,
        memory_errors(config),
        tqdm(total=config.steps, initial=first, disable=not progress, unit="step") as bar,
    ):
        for step in range(first, config.steps):
            began = time.perf_counter()
            if reference is not None and config.ref_refresh and step % config.ref_refresh == 0:
                reference.load_state_dict(model.state_dict())
            batch = collect(model, tokenizer, task, step, config)
            sampled = time.perf_counter()
            before = probe(model)
            try:
                learned = update(model, reference, optimizer, batch, step, config)
            except FloatingPointError as error:
                file = save_batch(out_dir / "nan_batch.json", batch, step, str(error))
                raise R1LabError(
                    f"step {step} gave {error}: training has stopped before the weights were "
                    f"touched, and the batch is in {file}. The last checkpoint is of step {saved}. "
                    "Usual reasons: a learning rate too high, a reward of NaN or inf, float16."
                ) from error
            ended = time.perf_counter()

            metrics = describe(step, batch) | learned
            metrics["update"] = float((probe(model) - before).norm() / before.norm())
            metrics |= {"sample_seconds": sampled - began, "train_seconds": ended - sampled,
                        "seconds": ended - began,
                        "tokens_per_second": metrics["tokens"] / (ended - began)}  # fmt: skip
            history.append(metrics)
            metrics["diagnoses"] = explain(history, config, shortest_answer(tokenizer, task, batch))
            append(out_dir / "metrics.jsonl", [metrics])
            if config.samples_every and step % config.samples_every == 0:
                append(out_dir / "samples.jsonl", examples(step, batch, tokenizer))

            bar.set_postfix_str(
                f"accuracy {metrics['accuracy']:.2f}, length {metrics['length']:.0f}, "
                f"{metrics['tokens_per_second']:,.0f} tok/s"
            )
            bar.update()
            for callback in callbacks:
                callback(step, metrics, batch)
            done = step + 1
            if done % config.checkpoint_every == 0 or done == config.steps or asked:
                save(done)
                saved = done
            if asked and done < config.steps:
                raise Stopped(
                    f"stopped by {asked[0]} after {done} of {config.steps} steps; all is saved in "
                    f"{out_dir}. Run the same again to go on from there."
                )
        with checkpoints.atomic_dir(out_dir / "model") as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return history


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Collect the names of stop signals instead of dying of them; the second one interrupts."""
    asked: list[str] = []

    def handler(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signal.Signals(number).name)
        print("\nstopping after this step (once more: at once)", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return
    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)


@contextmanager
def memory_errors(config: GRPOConfig) -> Iterator[None]:
    """Too little memory, in one line that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and (
            "can't allocate memory" not in str(error)
        ):
            raise
        raise R1LabError(
            f"not enough memory. Lower micro_batch_tokens (now {config.micro_batch_tokens}; the "
            f"result stays the same), else questions, group_size or max_new_tokens."
        ) from error


# --- what a run leaves, and how it goes on -------------------------------------------------------


def probe(model) -> torch.Tensor:
    """Up to 1,024 values of every weight as one float64 vector on the CPU: enough to see whether
    they changed, cheap also for large models."""
    return torch.cat([p.detach().flatten()[:1024].double().cpu() for p in model.parameters()])


def fingerprint(model) -> str:
    return hashlib.sha256(probe(model).numpy().tobytes()).hexdigest()[:16]


def find_checkpoint(out_dir: Path, model, identity: dict) -> dict | None:
    """The newest whole checkpoint of this very run. Raises R1LabError for one of another run."""
    warnings: list[str] = []
    state = checkpoints.latest(out_dir / "checkpoints", "cpu", warnings)
    for warning in warnings:
        print(warning, file=sys.stderr)
    advice = "Choose another out_dir, or start anew there with resume=False."
    if state is None:
        if warnings:
            raise R1LabError(f"no checkpoint in {out_dir / 'checkpoints'} is whole. {advice}")
        return None
    was, now = state["identity"], identity
    free = {f.name for f in dataclasses.fields(GRPOConfig) if f.metadata["free"]}
    changed = [
        f"{name} was {was['config'].get(name)!r} and is {value!r}"
        for name, value in now["config"].items()
        if name not in free and was["config"].get(name) != value
    ]
    if was["task"] != now["task"]:
        changed.append(f"the task's first question was {was['task']} and is {now['task']}")
    if now["base"] not in (was["base"], state["now"]):
        changed.append("the model given is not the one that the run began with")
    if now["config"]["steps"] < state["step"]:
        changed.append(f"{state['step']} steps are done, more than steps={now['config']['steps']}")
    if changed:
        raise R1LabError(f"{out_dir} holds another run: {'; '.join(changed)}. {advice}")
    return state


def restore(state: dict, model, reference, optimizer) -> int:
    """Put a checkpoint back, bit for bit; returns the number of steps done."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if reference is not None:
        reference.load_state_dict(state["reference"])
    torch.set_rng_state(state["rng"])
    return state["step"]


def truncate(path: Path, steps: int) -> list[dict[str, Any]]:
    """Drop the lines of a JSON lines file from step `steps` on, which a resumed run writes again,
    and a last line that was never finished. Returns the lines that stay."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            break
        if record["step"] >= steps:
            break
        kept.append((line, record))
    if len(kept) < len(lines):
        checkpoints.atomic_write_text(path, "".join(line + "\n" for line, _ in kept))
    return [record for _, record in kept]


def append(path: Path, records: Sequence[dict]) -> None:
    """Add JSON lines to a file, on the disk when this returns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise R1LabError(
            f"cannot write {path} ({error.strerror}): free some space and run the same again; the "
            "last checkpoint is whole"
        ) from error


def set_aside(out_dir: Path) -> None:
    """Move an earlier run's files to out_dir/earlier-<n>: a new start loses nothing."""
    names = ("metrics.jsonl", "samples.jsonl", "nan_batch.json", "checkpoints", "model")
    there = [out_dir / name for name in names if (out_dir / name).exists()]
    if there:
        n = 1
        while (out_dir / f"earlier-{n}").exists():
            n += 1
        (out_dir / f"earlier-{n}").mkdir()
        for path in there:
            shutil.move(path, out_dir / f"earlier-{n}" / path.name)


def examples(step: int, batch: Experience, tokenizer, keep: int = 4) -> list[dict[str, Any]]:
    """The best- and worst-paid answers to the first question whose answers were paid differently."""
    G = batch.rewards.shape[1]
    q = int(batch.spread.int().argmax())
    order = batch.advantages[q].argsort(descending=True, stable=True).tolist()
    picked = order[: keep // 2] + order[-(keep // 2) :] if G > keep else order
    records = []
    for i in picked:
        r = q * G + i
        records.append(record(step, batch, r, tokenizer))
    return records


def record(step: int, batch: Experience, r: int, tokenizer) -> dict[str, Any]:
    """Everything about answer r as plain values."""
    G = batch.rewards.shape[1]
    ids = batch.rollouts.completion_ids[r]
    return {
        "step": step,
        "problem": batch.problems[r // G].id,
        "prompt": batch.prompts[r // G],
        "text": batch.measures[r].text,
        "correct": batch.measures[r].correct,
        "reward": float(batch.rewards.flatten()[r]),
        "rewards": {name: values[r] for name, values in batch.parts.items()},
        "advantage": float(batch.advantages.flatten()[r]),
        "tokens": [tokenizer.decode([i]) for i in ids],
        "logprobs": [round(float(x), 4) for x in batch.rollouts.logprobs[r]],
    }


def save_batch(path: Path, batch: Experience, step: int, error: str) -> Path:
    """The whole batch of a step that went wrong, as JSON that a person can read."""
    rows = [record(step, batch, r, None) for r in range(len(batch.measures))]
    return checkpoints.atomic_write_text(
        path, json.dumps({"step": step, "error": error, "rows": rows}, ensure_ascii=False, indent=1)
    )


def shortest_answer(tokenizer, task, batch: Experience) -> int | None:
    """Tokens of the shortest right answer to this batch's questions, where the task can tell."""
    solve = getattr(task, "solution", None)
    solutions = [solve(problem) for problem in batch.problems] if solve else []
    texts = [f"<think> </think> <answer> {s} </answer>" for s in solutions if s is not None]
    return min((len(tokenizer(text)["input_ids"]) + 1 for text in texts), default=None)


def explain(history: list[dict], config: GRPOConfig, shortest: int | None) -> list[str]:
    """Say, once each, why the reward does not rise; returns the codes said now."""
    window = history[-config.patience :]
    if len(window) < config.patience or not is_flat(window):
        return []
    context = Context(config.max_new_tokens, config.learning_rate, config.temperature,
                      config.kl_coef, shortest)  # fmt: skip
    said = {code for metrics in history for code in metrics.get("diagnoses", ())}
    new = [d for d in diagnose(window, context) if d.code not in said]
    for d in new:
        log.warning("step %d: the reward does not rise. %s", history[-1]["step"], d.words)
    return [d.code for d in new]

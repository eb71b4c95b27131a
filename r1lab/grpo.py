"""R1-Zero's training loop: group relative policy optimisation (GRPO) from scratch.

One step, in the order of the paper (arXiv 2501.12948, section 2.1 of v2, equations 1 to 3):

    questions       q ~ P(Q), a batch of B
    group sampling  o_1 ... o_G ~ pi_old(. | q), G answers to each question
    rewards         r_i, from rules alone: is the answer right, is the format kept
    advantages      A_i = (r_i - mean(r)) / std(r) within the group; no critic
    inner epochs    over mini-batches of the rollout, maximise
                    min(rho A, clip(rho, 1 - eps, 1 + eps) A) - beta KL(pi || pi_ref),
                    rho = pi / pi_old, with pi_ref replaced by pi every `ref_refresh` steps
    optimizer step  AdamW on the gradient of all of it

The functions below are these lines: `questions_at`, `collect` (sampling, rewards, advantages),
`update` (inner epochs, clipping, KL, optimizer), and `train`, which repeats them and can be
stopped anywhere. What they stand on has modules of its own: `rollouts`, `rewards`, `advantages`,
`losses`; `checkpoints` for stopping and going on, `diagnose` for a reward that does not rise.

A step here is one rollout. The paper counts optimizer steps: R1-Zero drew 8,192 answers at once (16
to each of 512 questions) and cut them into 16 mini-batches of 512, so 16 of its 10,400 steps share
a rollout.

Three things here cost nothing in exactness and save most of the time:

* **One update a rollout is on-policy.** pi_old is then the policy itself: rho = 1, its gradient is
  that of log pi, and nothing needs to be computed again. That is also why the loss says nothing
  about progress: its value is then minus a mean of the advantages (zero with `length_norm`
  "sequence", as a group's advantages sum to zero), whatever the model does; its gradient is not.
* **Zero-variance groups have no learning signal.** All right or all wrong: the estimators give
  every advantage exactly 0, and the gradient is 0 too. Without a KL term rows of advantage 0 skip
  the forward and backward pass; they still count in the normaliser, so the gradient is unchanged.
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
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from tqdm.contrib.logging import logging_redirect_tqdm
from tqdm.std import tqdm

from r1lab import models
from r1lab.advantages import ADVANTAGES, get_advantage
from r1lab.answers import Completion, measure
from r1lab.basics import files, plugins
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines, truncate_lines
from r1lab.basics.options import check, fixed_values, option, require
from r1lab.losses import Objective, grpo_loss
from r1lab.machine import device
from r1lab.machine.device import arithmetic, precision_on
from r1lab.rewards import NAMED, Log, callable_name, check_weights, combine, get_reward
from r1lab.sampler.rollouts import Rollouts, Sampling, sample
from r1lab.sampler.score import in_micro_batches, score, token_logps
from r1lab.templates import TEMPLATES, encode, end_ids, parse, read, render
from r1lab.training import checkpoints, signals
from r1lab.training.checkpoints import fingerprint, probe
from r1lab.training.diagnose import explain
from r1lab.training.metrics import metrics_of, spent_in

ON_DISK = ("metrics.jsonl", "samples.jsonl", "nan_batch.json", "checkpoints", "model")


# --- configuration -----------------------------------------------------------------------------


@dataclass(frozen=True)
class GRPOConfig:
    """Every choice of a run. The defaults suit the tiny world; the help gives R1-Zero's values
    (arXiv 2501.12948v2, section 2.1). Raises R1LabError for a value that cannot be right.

    `rewards` are names or functions with TRL's keyword contract.
    """

    steps: int = option(40, "rollouts, each with its updates (R1-Zero: 650)", low=1, free=True)
    questions: int = option(16, "questions a step (R1-Zero: 512, 32 a mini-batch)", low=1)
    group_size: int = option(16, "answers to each question, G (R1-Zero: 16)", low=2)
    max_new_tokens: int = option(448, "length limit of an answer (R1-Zero: 32768, 65536)", low=1)
    temperature: float = option(1.0, "of the policy, sampled and trained (R1-Zero: 1)", low=1e-3)
    template: str = option("tiny", "prompt template", choices=TEMPLATES, kind="template")
    rewards: tuple = option(
        ("accuracy", "format"), "rewards of a completion", choices=NAMED, kind="reward"
    )
    reward_weights: tuple = option((1.0, 0.1), "weight of each reward (R1-Zero: equal)")
    advantage: str = option(
        "grpo", "advantages within a group", choices=ADVANTAGES, kind="advantage"
    )
    learning_rate: float = option(3e-4, "AdamW's learning rate (R1-Zero: 3e-6)", low=0)
    warmup_steps: int = option(0, "steps in which the learning rate rises from 0", low=0)
    lr_schedule: str = option(
        "constant", "after the warm-up, linear: to 0 at the end", choices=("constant", "linear")
    )
    beta1: float = option(0.9, "AdamW's decay of the mean gradient", low=0)
    beta2: float = option(0.95, "AdamW's decay of the squared gradient", low=0)
    max_grad_norm: float = option(1.0, "longer gradients are cut to this norm; 0: never", low=0)
    minibatches: int = option(1, "optimizer steps a rollout is cut into (R1-Zero: 16)", low=1)
    inner_epochs: int = option(1, "passes over each rollout (R1-Zero: 1)", low=1)
    old_logprobs: str = option("sampler", "pi_old off-policy", choices=("sampler", "recompute"))
    clip_low: float = option(0.2, "the ratio is clipped below 1 - this", low=0)
    clip_high: float = option(0.2, "the ratio is clipped above 1 + this", low=0)
    ratio_level: str = option("token", "ratio pi / pi_old of each", choices=("token", "sequence"))
    length_norm: str = option(
        "token", "mean over each (R1-Zero: sequence)", choices=("sequence", "token", "constant")
    )
    kl_coef: float = option(0.0, "beta of the KL term; 0: no reference (R1-Zero: 0.001)", low=0)
    kl_estimator: str = option(
        "k3", "estimator of the KL (R1-Zero: k3)", choices=("k1", "k2", "k3")
    )
    ref_refresh: int = option(25, "steps until pi becomes pi_ref; 0: never (R1-Zero: 25)", low=0)
    seed: int = option(0, "seed of questions, answers and mini-batches", low=0)
    micro_batch_tokens: int = option(16384, "tokens a forward and backward", low=1, free=True)
    precision: str = option(
        "auto",
        "of the arithmetic; the weights are trained in float32. auto: bf16 on a GPU that has it",
        choices=("auto", "fp32", "bf16"),
        free=True,  # what it comes to is what a continuation must share
    )
    checkpoint_every: int = option(10, "steps between checkpoints", low=1, free=True)
    keep_checkpoints: int = option(2, "checkpoints kept", low=1, free=True)
    samples_every: int = option(10, "steps between kept completions; 0: none", low=0, free=True)
    patience: int = option(8, "steps of flat reward before asking why", low=4, free=True)

    def __post_init__(self) -> None:
        check(self)
        require(
            len(self.rewards) == len(self.reward_weights) > 0,
            "there must be one reward or more, and one of reward_weights for each",
        )
        check_weights(self.reward_weights)
        require(self.clip_low < 1, "clip_low must be below 1, a ratio is never negative")
        require(self.beta1 < 1 and self.beta2 < 1, "beta1 and beta2 must be below 1")
        require(
            self.minibatches <= self.questions * self.group_size,
            "minibatches must not be more than questions * group_size",
        )

    @property
    def on_policy(self) -> bool:
        """One optimizer step a rollout: the policy that answered is the policy that is trained."""
        return self.minibatches * self.inner_epochs == 1

    @property
    def objective(self) -> Objective:
        """The terms of the loss; Dr. GRPO's constant is the length limit."""
        return Objective(
            self.clip_low,
            self.clip_high,
            self.kl_coef,
            self.kl_estimator,
            self.ratio_level,
            self.length_norm,
            constant=self.max_new_tokens,
        )

    def sampling(self, step: int) -> Sampling:
        """How the completions of a step are sampled: a function of the step alone."""
        return Sampling(self.max_new_tokens, self.temperature, seed=self.seed * 1_000_003 + step)

    def to_json(self) -> dict[str, Any]:
        """The options as plain values; reward functions by name."""
        values = dataclasses.asdict(self)
        names = [r if isinstance(r, str) else callable_name(r) for r in self.rewards]
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
    log: Log = dataclasses.field(default_factory=Log)  # what the rewards reported besides

    @property
    def spread(self) -> torch.Tensor:
        """(B,) whether a group's rewards differ at all (an estimator of one's own may give
        advantages to a group where they do not)."""
        return self.rewards.amax(dim=1) > self.rewards.amin(dim=1)


def questions_at(step: int, problems: Sequence[Any], config: GRPOConfig) -> list[Any]:
    """The problems of a step: a function of the step alone, so that a run that is resumed needs
    no iterator's state."""
    return list(problems[step * config.questions : (step + 1) * config.questions])


def collect(model, tokenizer, task, problems, step: int, config: GRPOConfig) -> Experience:
    """Group sampling, rewards, advantages: everything before the gradient, for B problems."""
    prompts = [render(problem, config.template) for problem in problems]
    bf16 = precision_on(model.device, config.precision) == "bf16"
    rollouts = sample(
        device.in_type(model, torch.bfloat16) if bf16 else model,
        encode(tokenizer, prompts),
        config.sampling(step),
        group_size=config.group_size,
        eos_token_id=end_ids(model, tokenizer, config.template),
    )
    texts = read(tokenizer, rollouts, config.template)
    asked = [problem for problem in problems for _ in range(config.group_size)]  # (N)

    functions = [get_reward(reward, config.seed) for reward in config.rewards]
    log, updates = Log(), config.minibatches * config.inner_epochs
    total, parts = combine(
        *(texts, asked, functions, config.reward_weights),
        step=step,
        task=task,
        prompts=[prompt for prompt in prompts for _ in range(config.group_size)],
        completion_ids=rollouts.completion_ids,
        trainer_state=SimpleNamespace(global_step=step * updates, max_steps=config.steps * updates),
        log_metric=log.metric,
        log_extra=log.extra,
    )
    rewards = torch.tensor(total, dtype=torch.float32).view(len(problems), config.group_size)
    advantages = get_advantage(config.advantage)(rewards)
    measures = [
        measure(problem, text, task=task, length=len(ids), finished=finished)
        for problem, text, ids, finished in zip(
            asked, texts, rollouts.completion_ids, rollouts.finished, strict=True
        )
    ]
    return Experience(problems, prompts, rollouts, measures, parts, rewards, advantages, log)


def backward(model, reference, batch: Experience, rows: Sequence[int], old, config) -> dict:
    """Add the gradient of one mini-batch to the weights' gradients, micro-batch by micro-batch.

    rows: indices into the N answers. old: log pi_old of all N answers, or None on-policy.
    Returns the mini-batch's loss, the number of tokens used, and kl and clip_fraction summed over
    those tokens.
    """
    G = config.group_size
    pairs = [(batch.rollouts.prompt_ids[r // G], batch.rollouts.completion_ids[r]) for r in rows]
    advantages = batch.advantages.flatten()[list(rows)]  # (n,)
    tokens = sum(len(completion) for _, completion in pairs)
    total = tokens if config.length_norm == "token" else len(rows)  # of all rows, used or not

    teaches = [i for i in range(len(rows)) if advantages[i] != 0 or config.kl_coef > 0]
    sizes = [len(pairs[i][0]) + len(pairs[i][1]) for i in teaches]

    def learn(model, chunk: list[int]) -> tuple[float, int, dict]:
        """The loss of one micro-batch, its tokens, and what else the loss says."""
        chunk = [teaches[i] for i in chunk]
        some = [pairs[i] for i in chunk]
        with arithmetic(model, config):
            logp, mask, _ = token_logps(model, some, config.temperature)  # (n, T)
        old_logp = logp.detach() if old is None else pad([old[rows[i]] for i in chunk], logp)
        ref_logp = None
        if reference is not None:
            with torch.no_grad(), arithmetic(reference, config):
                ref_logp, _, _ = token_logps(reference, some, config.temperature)
        A = advantages[chunk].to(logp.device)  # (n,)
        loss, seen = grpo_loss(logp, old_logp, A, mask, ref_logp, config.objective, total=total)
        loss.backward()
        return float(loss.detach()), int(mask.sum()), seen

    sums = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0, "used": 0}
    for loss, used, seen in in_micro_batches(model, learn, sizes, config.micro_batch_tokens):
        sums["loss"] += loss
        sums["used"] += used
        for name in ("kl", "clip_fraction"):
            sums[name] += float(seen.get(name, 0.0)) * used
    return sums


def trainable(model) -> list[torch.nn.Parameter]:
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        raise R1LabError("no weight of this model requires a gradient, so nothing can be trained")
    return weights


def pad(rows: Sequence[Sequence[float]], like: torch.Tensor) -> torch.Tensor:
    """Ragged log-probs as a tensor of the shape (n, T), type and device of `like`."""
    padded = torch.zeros(like.shape)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.as_tensor(row)
    return padded.to(like)


def learning_rate(step: int, config: GRPOConfig) -> float:
    """The learning rate of a step: it rises over `warmup_steps`, then stays, or falls by equal
    parts and would be 0 at step `steps`."""
    rise, steps = config.warmup_steps, config.steps
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    left = (steps - step) / (steps - rise) if config.lr_schedule == "linear" else 1.0
    return config.learning_rate * left


def update(model, reference, optimizer, batch: Experience, step: int, config: GRPOConfig) -> dict:
    """Inner epochs over mini-batches: the gradient of the clipped objective, an AdamW step each.

    Returns loss, kl, clip_fraction, grad_norm (means over the optimizer steps) and lr. Raises
    FloatingPointError for a NaN or inf in the loss, the gradient or the new weights.
    """
    rate = learning_rate(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    n = len(batch.measures)
    old = None
    if not config.on_policy:
        old = batch.rollouts.logprobs
        if config.old_logprobs == "recompute":
            prompts = [batch.rollouts.prompt_ids[r // config.group_size] for r in range(n)]
            answers, budget = batch.rollouts.completion_ids, config.micro_batch_tokens
            with arithmetic(model, config):
                old = score(model, prompts, answers, config.temperature, budget)

    shuffled = random.Random(f"{config.seed}/{step}")
    weights, seen = trainable(model), []
    for _ in range(config.inner_epochs):
        order = list(range(n))
        shuffled.shuffle(order)
        for part in range(config.minibatches):
            rows = order[part * n // config.minibatches : (part + 1) * n // config.minibatches]
            optimizer.zero_grad(set_to_none=False)
            sums = backward(model, reference, batch, rows, old, config)
            norm = clip_grad_norm_(weights, config.max_grad_norm or math.inf).item()
            if not math.isfinite(norm) or not math.isfinite(sums["loss"]):
                raise FloatingPointError(f"loss {sums['loss']}, gradient norm {norm}")
            optimizer.step()
            if not all(weight.isfinite().all() for weight in weights):
                raise FloatingPointError("weights that are not finite after the optimizer's step")
            seen.append(sums | {"grad_norm": norm})
    used = max(1, sum(s["used"] for s in seen))
    return {
        "loss": fmean(s["loss"] for s in seen),
        "kl": sum(s["kl"] for s in seen) / used if config.kl_coef > 0 else None,
        "clip_fraction": sum(s["clip_fraction"] for s in seen) / used,
        "grad_norm": fmean(s["grad_norm"] for s in seen),
        "lr": rate,
    }


def describe(step: int, batch: Experience) -> dict[str, Any]:
    """The metrics of a rollout, before its update: step 0 describes the base model."""
    rows = batch.measures
    tokens = sum(row.length for row in rows)
    return {
        "step": step,
        "reward": float(batch.rewards.double().mean()),
        "accuracy": fmean(row.correct for row in rows),
        "format": fmean(row.well_formed for row in rows),
        "length": tokens / len(rows),
        "reflection": fmean(row.reflection for row in rows),
        "language_mixing": fmean(row.mixed for row in rows),
        "entropy": -sum(map(sum, batch.rollouts.logprobs)) / tokens,
        "truncated": fmean(not row.finished for row in rows),
        "parsed": fmean(parse(row.text).answer is not None for row in rows),
        "zero_spread_groups": int((~batch.spread).sum()),
        "spread_groups": int(batch.spread.sum()),
        "advantage": float(batch.advantages.abs().mean()),
        "reward_min": float(batch.rewards.min()),
        "reward_max": float(batch.rewards.max()),
        "tokens": tokens,
        **{f"rewards/{name}": fmean(values) for name, values in batch.parts.items()},
        **batch.log.metrics,
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
    """Train `model` in place by GRPO; returns the metrics of every step.

    out_dir receives metrics.jsonl (a line a step, on the disk before the next step begins),
    samples.jsonl (some completions with rewards, advantages and log-probs), checkpoints/ and at the
    end model/, a Hugging Face folder. callbacks are called after each step with the step, its
    metrics and its Experience; a step that a resumed run does again calls them again.

    resume: go on from the newest whole checkpoint in out_dir, if there is one. On CPU, with the
    same number of threads, a run that was stopped anywhere ends with the same bits as one that was
    not. With resume=False an earlier run's files are moved to out_dir/earlier-<n>.

    Ctrl-C and SIGTERM let the step finish, save, and raise Stopped. Raises R1LabError for options
    other than the checkpoint's, for a loss, gradient or weight that is NaN or inf (the batch is
    then in nan_batch.json), for a full disk and for too little memory.
    """
    entered, out_dir = time.perf_counter(), Path(out_dir)
    if not resume:
        files.set_aside(out_dir, ON_DISK)
    problems = task.problems("train", config.steps * config.questions, seed=config.seed)
    precision = precision_on(model.device, config.precision)
    if precision == "bf16":
        model.float()  # AdamW's small steps are lost in bfloat16 weights
    model.eval()  # no dropout: the policy that answers and the policy that is trained are one
    weights = trainable(model)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.AdamW(weights, config.learning_rate, betas, weight_decay=0.0)
    reference = copy.deepcopy(model).requires_grad_(False) if config.kl_coef > 0 else None

    def names(steps: int) -> dict[str, Any]:
        """What makes this run this run, after so many steps: the same again, or no resumption."""
        words = "\n".join(f"{p.id} {p.question}" for p in problems[: steps * config.questions])
        questions = hashlib.sha256(words.encode()).hexdigest()[:16]
        named = fixed_values(config)
        named |= {"questions asked": questions, "precision": precision}
        named["code of the task"] = plugins.code_of(task)
        if config.lr_schedule == "linear":
            named["steps, which a linear lr_schedule depends on,"] = config.steps
        return named

    def state_after(done: int) -> dict[str, Any]:
        state = {"step": done, "base": base, "run": names(done)}
        return state | checkpoints.snapshot(model, optimizer, reference)

    first, base = 0, fingerprint(model)
    if (state := checkpoints.latest_of_run(out_dir, model, names, config.steps)) is not None:
        first, base = state["step"], state["base"]
        checkpoints.restore(state, model, optimizer, reference)
    earlier = spent_in(metrics_of(out_dir))  # with the steps that are lost, which were paid
    history = truncate_lines(out_dir / "metrics.jsonl", first)
    truncate_lines(out_dir / "samples.jsonl", first)

    saved = first
    with (
        signals.stop_signals() as asked,
        signals.memory_errors(config.micro_batch_tokens),
        logging_redirect_tqdm() if progress else nullcontext(),
        tqdm(total=config.steps, initial=first, disable=not progress, unit="step") as bar,
    ):
        for step in range(first, config.steps):
            began = time.perf_counter()
            if reference is not None and config.ref_refresh and step % config.ref_refresh == 0:
                reference.load_state_dict(model.state_dict())
            questions = questions_at(step, problems, config)
            batch = collect(model, tokenizer, task, questions, step, config)
            sampled = time.perf_counter()
            before = probe(model)
            try:
                learned = update(model, reference, optimizer, batch, step, config)
            except FloatingPointError as error:
                path = save_batch(out_dir / "nan_batch.json", step, batch, tokenizer, str(error))
                raise R1LabError(
                    f"step {step} has {error}. Training stopped; the batch is in {path}, and the "
                    f"last checkpoint, of {saved} steps, is from before. Usual reasons: a learning "
                    "rate too high, a reward that is NaN, float16 weights."
                ) from error
            ended = time.perf_counter()

            metrics = describe(step, batch) | learned
            metrics["update"] = float((probe(model) - before).norm() / before.norm())
            metrics["sample_seconds"] = sampled - began
            metrics["train_seconds"] = ended - sampled
            metrics["seconds"] = ended - began
            metrics["tokens_per_second"] = metrics["tokens"] / metrics["seconds"]
            metrics["spent_seconds"] = earlier + ended - entered
            history.append(metrics)
            metrics["diagnoses"] = explain(history, config, tokenizer, task, questions)
            append_lines(out_dir / "metrics.jsonl", [metrics])
            if config.samples_every and step % config.samples_every == 0:
                append_lines(out_dir / "samples.jsonl", examples(step, batch, tokenizer))
            bar.set_postfix_str(
                f"accuracy {metrics['accuracy']:.2f}, length {metrics['length']:.0f}, "
                f"{metrics['tokens_per_second']:,.0f} tok/s"
            )
            bar.update()
            for callback in callbacks:
                callback(step, metrics, batch)

            done = step + 1
            if checkpoints.step_done(out_dir, done, config.steps, config, asked, state_after):
                saved = done
        with files.atomic_dir(out_dir / "model") as folder:
            models.save(model, tokenizer, folder)
    return history


# --- what a run keeps ----------------------------------------------------------------------------


def record(step: int, batch: Experience, r: int, tokenizer) -> dict[str, Any]:
    """Answer r of a batch, with all that was found out about it, as plain values."""
    q, ids = r // batch.rewards.shape[1], batch.rollouts.completion_ids[r]
    return {
        "step": step,
        "problem": batch.problems[q].id,
        "prompt": batch.prompts[q],
        "text": batch.measures[r].text,
        "correct": batch.measures[r].correct,
        "reward": float(batch.rewards.flatten()[r]),
        "rewards": {name: values[r] for name, values in batch.parts.items()},
        "advantage": float(batch.advantages.flatten()[r]),
        "tokens": [tokenizer.decode([i]) for i in ids],
        "logprobs": [round(float(x), 4) for x in batch.rollouts.logprobs[r]],
        **{name: values[r] for name, values in batch.log.columns.items()},
    }


def examples(step: int, batch: Experience, tokenizer, keep: int = 4) -> list[dict[str, Any]]:
    """The best and the worst paid answers to the first question that has both."""
    q, G = int(batch.spread.int().argmax()), batch.rewards.shape[1]
    order = batch.advantages[q].argsort(descending=True, stable=True).tolist()
    picked = order if keep >= G else order[: keep // 2] + order[-(keep // 2) :]
    return [record(step, batch, q * G + i, tokenizer) for i in picked]


def save_batch(path: Path, step: int, batch: Experience, tokenizer, error: str) -> Path:
    """The whole batch of a step that went wrong, in JSON that a person can read."""
    rows = [record(step, batch, r, tokenizer) for r in range(len(batch.measures))]
    text = json.dumps({"step": step, "error": error, "rows": rows}, ensure_ascii=False, indent=1)
    return files.atomic_write_text(path, text)

"""R1-Zero's training loop: group relative policy optimisation (GRPO) from scratch.

One step, in the order of the paper (arXiv 2501.12948, section 2.1 of v2, equations 1 to 3):

    prompts         q ~ P(Q), a batch of B
    group sampling  o_1 ... o_G ~ pi_old(. | q), G completions per prompt
    rewards         r_i, from rules alone: accuracy and format
    advantages      A_i = (r_i - mean(r)) / std(r) within the group; no critic
    inner epochs    over mini-batches of the rollout, maximise
                    min(rho A, clip(rho, 1 - eps, 1 + eps) A) - beta KL(pi || pi_ref),
                    rho = pi / pi_old, with pi_ref replaced by pi every `ref_refresh` steps
    optimizer step  AdamW on the gradient of all of it

The functions are `questions_at`, `collect` (sampling, rewards, advantages), `update` (inner epochs,
clipping, KL, optimizer) and `train`. A step is one rollout; the paper counts optimizer steps, 16 to
each rollout of 8,192 completions (16 for each of 512 prompts).

Three exact savings:
* **One update per rollout is on-policy.** rho = 1, its gradient is that of log pi, and nothing is
  computed again. The loss shows no progress then: it is minus a mean of the advantages.
* **Zero-variance groups have no learning signal.** All advantages are 0. Without a KL term their
  rows skip the forward and backward pass; they still count in the normaliser.
* **Micro-batches by tokens.** Rows of similar length share one; each loss is divided by the total
  of the *whole* mini-batch, so the gradients add up to the mini-batch's.

Masks come from lengths, never from token ids: EOS is trained also where it is the padding token.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from r1lab.advantages import ADVANTAGES, get_advantage
from r1lab.answers import measure_all
from r1lab.basics import plugins
from r1lab.basics.options import MOST_SEED, check, fixed_values, option, require
from r1lab.experience import Experience, describe, diverged, examples, training_problems, words
from r1lab.losses import Objective, grpo_loss
from r1lab.machine import device
from r1lab.machine.device import arithmetic, precision_on
from r1lab.rewards import NAMED, check_weights, combine, get_reward
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import in_micro_batches, score, token_logps
from r1lab.templates import TEMPLATES, encode, end_ids, read, render
from r1lab.training.checkpoints import probe
from r1lab.training.diagnose import explain
from r1lab.training.loop import Loop
from r1lab.training.optimizer import adamw, ready, trainable
from r1lab.training.reward_calls import Log, callable_name


@dataclass(frozen=True)
class GRPOConfig:
    """The options of a run. The defaults suit the tiny model; the help gives R1-Zero's values
    (arXiv 2501.12948v2, section 2.1). `rewards`: names, or functions with TRL's keyword contract.
    `precision` is the arithmetic's; parameters are trained in float32. Raises R1LabError for a
    value that cannot be right."""

    steps: int = option(40, "rollouts, each with its updates (R1-Zero: 650)", low=1, free=True)
    questions: int = option(16, "prompts per step (R1-Zero: 512, 32 per mini-batch)", low=1)
    group_size: int = option(16, "completions per prompt, G (R1-Zero: 16)", low=2)
    max_new_tokens: int = option(448, "most tokens per completion (R1-Zero: 32768, 65536)", low=1)
    temperature: float = option(1.0, "of the policy, sampled and trained (R1-Zero: 1)", low=1e-3)
    template: str = option("tiny", "prompt template", choices=TEMPLATES, kind="template")
    rewards: tuple = option(("accuracy", "format"), "rewards", choices=NAMED, kind="reward")
    reward_weights: tuple = option((1.0, 0.1), "weight of each reward (R1-Zero: equal)")
    advantage: str = option("grpo", "advantage estimator", choices=ADVANTAGES, kind="advantage")
    learning_rate: float = option(3e-4, "AdamW's learning rate (R1-Zero: 3e-6)", low=0, high=1)
    warmup_steps: int = option(0, "steps in which the learning rate rises from 0", low=0)
    lr_schedule: str = option(
        "constant", "after the warm-up, linear: to 0 at the end", choices=("constant", "linear")
    )
    beta1: float = option(0.9, "AdamW's decay of the mean gradient", low=0)
    beta2: float = option(0.95, "AdamW's decay of the squared gradient", low=0)
    max_grad_norm: float = option(1.0, "longer gradients are clipped to this norm; 0: none", low=0)
    minibatches: int = option(1, "optimizer steps per inner epoch (R1-Zero: 16)", low=1)
    inner_epochs: int = option(1, "inner epochs over each rollout (R1-Zero: 1)", low=1)
    old_logprobs: str = option("sampler", "pi_old off-policy", choices=("sampler", "recompute"))
    clip_low: float = option(0.2, "the ratio is clipped below 1 - this", low=0)
    clip_high: float = option(0.2, "the ratio is clipped above 1 + this", low=0)
    ratio_level: str = option("token", "ratio pi / pi_old of each", choices=("token", "sequence"))
    length_norm: str = option(
        "token", "mean over (DeepSeekMath: sequence)", choices=("sequence", "token", "constant")
    )
    kl_coef: float = option(0.0, "beta of the KL term; 0: no reference (R1-Zero: 0.001)", low=0)
    kl_estimator: str = option("k3", "KL estimator (R1-Zero: k3)", choices=("k1", "k2", "k3"))
    ref_refresh: int = option(25, "steps until pi becomes pi_ref; 0: never (R1-Zero: 25)", low=0)
    seed: int = option(0, "seed of prompts, completions, mini-batches", low=0, high=MOST_SEED)
    micro_batch_tokens: int = option(16384, "tokens per forward and backward", low=1, free=True)
    precision: str = option(  # free: a continuation must share what it comes to, see `identity`
        "auto", "auto: bf16 on a GPU that has it", choices=("auto", "fp32", "bf16"), free=True
    )
    checkpoint_every: int = option(10, "steps between checkpoints", low=1, free=True)
    keep_checkpoints: int = option(2, "checkpoints kept", low=1, free=True)
    samples_every: int = option(10, "steps between kept completions; 0: none", low=0, free=True)
    patience: int = option(8, "steps of flat reward before a diagnosis", low=4, free=True)

    def __post_init__(self) -> None:
        check(self)
        require(
            len(self.rewards) == len(self.reward_weights) > 0,
            "there must be one reward or more, and one of reward_weights for each",
        )
        check_weights(self.reward_weights)
        require(self.clip_low < 1, "clip_low must be below 1, a ratio is never negative")
        require(self.beta1 < 1 and self.beta2 < 1, "beta1 and beta2 must be below 1")
        n = self.questions * self.group_size
        require(self.minibatches <= n, "minibatches must not be more than questions * group_size")

    @property
    def objective(self) -> Objective:
        """The terms of the loss; Dr. GRPO's constant is the length limit."""
        clip, divergence = (self.clip_low, self.clip_high), (self.kl_coef, self.kl_estimator)
        means = (self.ratio_level, self.length_norm, self.max_new_tokens)
        return Objective(*clip, *divergence, *means)

    def sampling(self, step: int) -> Sampling:
        """How the completions of a step are sampled: a function of the step alone."""
        return Sampling(self.max_new_tokens, self.temperature, seed=self.seed * 1_000_003 + step)

    def to_json(self) -> dict[str, Any]:
        """The options as plain values; reward functions by name."""
        values = dataclasses.asdict(self)
        names = [r if isinstance(r, str) else callable_name(r) for r in self.rewards]
        return values | {"rewards": names, "reward_weights": list(self.reward_weights)}


def questions_at(step: int, problems: Sequence[Any], config: GRPOConfig) -> list[Any]:
    """The problems of a step: a function of the step alone, so a resumed run needs no iterator."""
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
    of = [problem for problem in problems for _ in range(config.group_size)]  # (N)

    functions = [get_reward(reward, config.seed) for reward in config.rewards]
    log, updates = Log(), config.minibatches * config.inner_epochs
    total, parts = combine(
        *(texts, of, functions, config.reward_weights),
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
    lengths = [len(ids) for ids in rollouts.completion_ids]
    measures = measure_all(of, texts, lengths, rollouts.finished, task=task)
    return Experience(problems, prompts, rollouts, measures, parts, rewards, advantages, log)


def backward(model, reference, batch: Experience, rows: Sequence[int], old, config) -> dict:
    """Add the gradient of one mini-batch to the parameters' gradients, by micro-batches.

    rows: indices of completions. old: log pi_old of all N completions, or None on-policy. Returns
    the loss, the number of tokens used, and kl and clip_fraction summed over those tokens.
    """
    G = config.group_size
    pairs = [(batch.rollouts.prompt_ids[r // G], batch.rollouts.completion_ids[r]) for r in rows]
    advantages = batch.advantages.flatten()[list(rows)]  # (n,)
    tokens = sum(len(completion) for _, completion in pairs)
    total = tokens if config.length_norm == "token" else len(rows)  # of all rows, used or not

    signal = [i for i in range(len(rows)) if advantages[i] != 0 or config.kl_coef > 0]
    sizes = [len(pairs[i][0]) + len(pairs[i][1]) for i in signal]

    def learn(model, chunk: list[int]) -> tuple[float, int, dict]:
        """The loss of one micro-batch, its tokens, and the other numbers of the loss."""
        chunk = [signal[i] for i in chunk]
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


def pad(rows: Sequence[Sequence[float]], like: torch.Tensor) -> torch.Tensor:
    """Ragged log-probs as a tensor (n, T), T the longest, of the type and device of `like`."""
    return pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True).to(like)


def learning_rate(step: int, config: GRPOConfig) -> float:
    """It rises over `warmup_steps`, then stays, or falls linearly to 0 at step `steps`."""
    rise, steps = config.warmup_steps, config.steps
    if step < rise:
        return config.learning_rate * (step + 1) / rise
    left = (steps - step) / (steps - rise) if config.lr_schedule == "linear" else 1.0
    return config.learning_rate * left


def update(model, reference, optimizer, batch: Experience, step: int, config: GRPOConfig) -> dict:
    """Inner epochs over mini-batches: the gradient of the clipped objective, an AdamW step each.

    Returns loss, kl, clip_fraction, grad_norm (means over the optimizer steps) and lr. Raises
    FloatingPointError for a NaN or inf in the loss, the gradient or the new parameters.
    """
    rate = learning_rate(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    n = len(batch.measures)
    on_policy = config.minibatches * config.inner_epochs == 1  # pi_old is the policy itself
    old = None if on_policy else batch.rollouts.logprobs
    if old is not None and config.old_logprobs == "recompute":
        prompts = [batch.rollouts.prompt_ids[r // config.group_size] for r in range(n)]
        completions, budget = batch.rollouts.completion_ids, config.micro_batch_tokens
        with arithmetic(model, config):
            old = score(model, prompts, completions, config.temperature, budget)

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

    out_dir receives metrics.jsonl (a line per step), samples.jsonl (some completions with rewards,
    advantages and log-probs), checkpoints/ and at the end model/, a Hugging Face folder. callbacks
    get each step's number, metrics and Experience, again where a resumed run repeats a step.

    resume: go on from the newest whole checkpoint in out_dir. On a CPU with the same number of
    threads the result has the same bits as without the stop. False moves an earlier run's files to
    out_dir/earlier-<n>. Ctrl-C and SIGTERM let the step finish, save, and raise Stopped.

    Raises R1LabError for options other than the checkpoint's, a folder that another run uses, NaN
    or inf in the loss, gradient or parameters (the batch is then in nan_batch.json), a full disk,
    too little memory.
    """
    loop = Loop(out_dir, config, resume=resume, progress=progress)
    problems = training_problems(task, model, tokenizer, config)
    precision, optimizer = ready(model, config), adamw(model, config)
    reference = copy.deepcopy(model).requires_grad_(False) if config.kl_coef > 0 else None
    parts = {"model": model, "optimizer": optimizer, "reference": reference}
    now = partial(identity, config, task, problems, precision)
    with loop.over(config.steps, parts, now) as steps:
        for step in steps:
            if reference is not None and config.ref_refresh and step % config.ref_refresh == 0:
                reference.load_state_dict(model.state_dict())
            asked = questions_at(step, problems, config)
            batch = collect(model, tokenizer, task, asked, step, config)
            sampled, before = loop.seconds(), probe(model)
            try:
                learned = update(model, reference, optimizer, batch, step, config)
            except FloatingPointError as error:
                raise diverged(loop, step, batch, tokenizer, error) from error
            metrics = describe(step, batch) | learned | loop.pace(batch.tokens, sampled)
            metrics["update"] = float((probe(model) - before).norm() / before.norm())
            metrics["diagnoses"] = explain([*loop.history, metrics], config, tokenizer, task, asked)
            kept = config.samples_every and step % config.samples_every == 0
            loop.log(metrics, words(metrics), examples(step, batch, tokenizer) if kept else ())
            for callback in callbacks:
                callback(step, metrics, batch)
        loop.save_model(model, tokenizer)
    return loop.history


def identity(
    config: GRPOConfig, task, problems: Sequence[Any], precision: str, done: int
) -> dict[str, Any]:
    """What a run of `done` steps must share with its continuation, by name."""
    asked = "\n".join(f"{p.id} {p.question}" for p in problems[: done * config.questions])
    named = fixed_values(config)
    named["questions asked"] = hashlib.sha256(asked.encode()).hexdigest()[:16]
    named |= {"precision": precision, "code of the task": plugins.code_of(task)}
    if config.lr_schedule == "linear":
        named["steps, which a linear lr_schedule depends on,"] = config.steps
    return named

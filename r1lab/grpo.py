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

The functions are `questions_at`, `rollout` and its `collect` (sampling, rewards, advantages),
`update` (inner epochs, clipping, KL, optimizer) and `train`; `GRPOConfig` has the options. A step
is one rollout; the paper counts optimizer steps, 16 to each rollout of 512 x 16 completions.

Three exact savings:
* **One update per rollout is on-policy.** rho = 1, its gradient is that of log pi, and nothing is
  computed again. The loss shows no progress then: it is minus a mean of the advantages.
* **Zero-variance groups have no learning signal.** All advantages are 0. Without a KL term their
  rows skip the forward and backward pass; they still count in the normaliser.
* **Micro-batches by tokens.** Rows of similar length share one; each loss is divided by the total
  of the *whole* mini-batch, so the gradients add up to the mini-batch's.

**Asynchronous rollouts** are imitated by `staleness`: step t's completions come from the policy of
step t - staleness (of step 0 before there is one), as where sampling and training overlap. The
ratio is then that of the policy to the one that sampled (old_logprobs "sampler"), or, with
"recompute", of the policy to itself, whatever sampled: a bias, which `correction` takes back.

Masks come from lengths, never from token ids: EOS is trained also where it is the padding token.
"""

import copy
import hashlib
import math
import os
import random
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from r1lab.advantages import get_advantage
from r1lab.answers import measure_all
from r1lab.basics import plugins
from r1lab.basics.options import fixed_values
from r1lab.curriculum import problems_of
from r1lab.experience import Experience, describe, diverged, examples, join, take, words
from r1lab.grpo_config import GRPOConfig
from r1lab.losses import entropy_bonus, grpo_loss, importance_weight
from r1lab.machine import device
from r1lab.machine.device import arithmetic, precision_on
from r1lab.rewards import combine, get_reward
from r1lab.sampler.rollouts import sample
from r1lab.sampler.score import in_micro_batches, score, token_logps
from r1lab.templates import encode, end_ids, prompt_of, read
from r1lab.training.checkpoints import probe
from r1lab.training.diagnose import explain
from r1lab.training.loop import Loop
from r1lab.training.optimizer import adamw, ready, trainable
from r1lab.training.reward_calls import Log

SUMMED = ("kl", "clip_fraction", "left_out", "importance")  # means over tokens, of the loss


def questions_at(step: int, problems: Sequence[Any], config: GRPOConfig) -> list[Any]:
    """The problems of a step: a function of the step alone, so a resumed run needs no iterator."""
    n = config.problems_a_step
    return list(problems[step * n : (step + 1) * n])


def rollout(model, tokenizer, task, asked, step: int, config: GRPOConfig):
    """A step's completions, and those of them that are learned from: two `Experience`s.

    asked: `questions_at`. By default both are the same B groups. With dynamic sampling (DAPO, arXiv
    2503.14476, section 3.2) there are further rounds of B questions, at most `dynamic_sampling` of
    them, until B groups have rewards that differ; these are learned from, filled up with others
    where they are too few.
    """
    B, rounds = config.questions, 1 + config.dynamic_sampling
    everything = collect(model, tokenizer, task, asked[:B], step, config)
    if rounds == 1:
        return everything, everything
    for r in range(1, rounds):
        if int(everything.spread.sum()) >= B:
            break
        more = (model, tokenizer, task, asked[r * B : (r + 1) * B], step, config)
        everything = join(everything, collect(*more, round=r))
    best = sorted(range(len(everything.spread)), key=lambda q: not everything.spread[q])[:B]
    kept = take(everything, best)
    kept.advantages = advantages_of(kept.rewards, kept.parts, config)
    return everything, kept


def advantages_of(rewards: torch.Tensor, parts: dict[str, list[float]], config) -> torch.Tensor:
    """(B, G) by the configuration's estimator. parts: each reward by name (N), unweighted."""
    each = torch.tensor(list(parts.values()), dtype=rewards.dtype).view(-1, *rewards.shape)
    return get_advantage(config.advantage)(rewards, each, config.reward_weights)


def collect(
    model, tokenizer, task, problems, step: int, config: GRPOConfig, round: int = 0
) -> Experience:
    """Group sampling, rewards, advantages of B problems: everything before the gradient."""
    prompts = [prompt_of(tokenizer, problem, config.template) for problem in problems]
    bf16 = precision_on(model.device, config.precision) == "bf16"
    policy = device.in_type(model, torch.bfloat16) if bf16 else model
    ids, how = encode(tokenizer, prompts), config.sampling(step, round)
    ends = end_ids(model, tokenizer, config.template)
    rollouts = sample(policy, ids, how, group_size=config.group_size, eos_token_id=ends)
    texts = read(tokenizer, rollouts, config.template, prompts)
    of = [problem for problem in problems for _ in range(config.group_size)]  # (N)

    functions = [get_reward(reward, config.seed) for reward in config.rewards]
    log, updates = Log(), config.updates
    total, parts = combine(
        *(texts, of, functions, config.reward_weights),
        step=step,
        task=task,
        prompts=[prompt for prompt in prompts for _ in range(config.group_size)],
        completion_ids=rollouts.completion_ids,
        max_new_tokens=config.max_new_tokens,
        trainer_state=SimpleNamespace(global_step=step * updates, max_steps=config.steps * updates),
        log_metric=log.metric,
        log_extra=log.extra,
    )
    rewards = torch.tensor(total, dtype=torch.float32).view(len(problems), config.group_size)
    advantages = advantages_of(rewards, parts, config)
    lengths = [len(ids) for ids in rollouts.completion_ids]
    measures = measure_all(of, texts, lengths, rollouts.finished, task=task)
    return Experience(problems, prompts, rollouts, measures, parts, rewards, advantages, log)


def backward(model, reference, batch: Experience, rows: Sequence[int], old, config) -> dict:
    """Add the gradient of one mini-batch to the parameters' gradients, by micro-batches.

    rows: indices of completions. old: log pi_old of all N completions, or None on-policy. Returns
    the loss, the number of tokens used, and the numbers of SUMMED summed over those tokens.
    """
    G = config.group_size
    pairs = [(batch.rollouts.prompt_ids[r // G], batch.rollouts.completion_ids[r]) for r in rows]
    advantages = batch.advantages.flatten()[list(rows)]  # (n,)
    tokens = sum(len(completion) for _, completion in pairs)
    total = tokens if config.length_norm == "token" else len(rows)  # of all rows, used or not

    everywhere = config.kl_coef > 0 or config.entropy_coef > 0  # a gradient without an advantage
    signal = [i for i in range(len(rows)) if advantages[i] != 0 or everywhere]
    sizes = [len(pairs[i][0]) + len(pairs[i][1]) for i in signal]

    def learn(model, chunk: list[int]) -> tuple[float, int, dict]:
        """The loss of one micro-batch, its tokens, and the other numbers of the loss."""
        chunk = [signal[i] for i in chunk]
        some = [pairs[i] for i in chunk]
        with arithmetic(model, config):
            how = {"entropy_gradient": config.entropy_coef > 0}
            logp, mask, h = token_logps(model, some, config.temperature, **how)  # (n, T)
        old_logp = logp.detach() if old is None else pad([old[rows[i]] for i in chunk], logp)
        ref_logp = None
        if reference is not None:
            with torch.no_grad(), arithmetic(reference, config):
                ref_logp, _, _ = token_logps(reference, some, config.temperature)
        A = advantages[chunk].to(logp.device)  # (n,)
        weight = None
        if config.correction != "none":
            sampled = pad([batch.rollouts.logprobs[rows[i]] for i in chunk], logp)
            how = (config.correction, config.correction_cap)
            weight = importance_weight(old_logp, sampled, mask, *how)  # (n, T)
        how = {"weight": weight, "total": total}
        loss, seen = grpo_loss(logp, old_logp, A, mask, ref_logp, config.objective, **how)
        if weight is not None:
            seen["importance"] = float(weight[mask].mean())
        if config.entropy_coef > 0:
            loss = loss - config.entropy_coef * entropy_bonus(h, mask, tokens)
        loss.backward()
        return float(loss.detach()), int(mask.sum()), seen

    sums = dict.fromkeys(SUMMED, 0.0) | {"loss": 0.0, "used": 0}
    for loss, used, seen in in_micro_batches(model, learn, sizes, config.micro_batch_tokens):
        sums["loss"] += loss
        sums["used"] += used
        for name in SUMMED:
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

    Returns loss, kl, clip_fraction, grad_norm (means over the optimizer steps) and lr; with their
    options left_out, the fraction of tokens that off_policy_mask leaves out, and importance, the
    correction's mean weight. Raises FloatingPointError for a NaN or inf in the loss, the gradient
    or the new parameters.
    """
    rate = learning_rate(step, config)
    for group in optimizer.param_groups:
        group["lr"] = rate
    n = len(batch.measures)
    on_policy = config.updates == 1 and not config.staleness  # pi_old is the policy itself
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
    asked = ["left_out"] * (config.off_policy_mask > 0)
    asked += ["importance"] * (config.correction != "none")
    return {
        "loss": fmean(s["loss"] for s in seen),
        "kl": sum(s["kl"] for s in seen) / used if config.kl_coef > 0 else None,
        "clip_fraction": sum(s["clip_fraction"] for s in seen) / used,
        **{name: sum(s[name] for s in seen) / used for name in asked},
        "grad_norm": fmean(s["grad_norm"] for s in seen),
        "lr": rate,
    }


def earlier(model, config: GRPOConfig) -> tuple[Any, list[Any]]:
    """Copies of the model that do not learn: the reference (None without a KL term), and the
    policies of 1 to `staleness` steps ago."""
    copies = [copy.deepcopy(model).requires_grad_(False) for _ in range(config.staleness)]
    return copy.deepcopy(model).requires_grad_(False) if config.kl_coef > 0 else None, copies


def stale_rollout(
    model, reference, past: Sequence[Any], tokenizer, task, asked, step: int, config: GRPOConfig
) -> tuple[Experience, Experience]:
    """`rollout` by the oldest of the policies in `past` (`earlier`), or by the model. The reference
    becomes the model where its refresh is due, and the policies of earlier steps move on by one."""
    if reference is not None and config.ref_refresh and step % config.ref_refresh == 0:
        reference.load_state_dict(model.state_dict())
    found = rollout(past[-1] if past else model, tokenizer, task, asked, step, config)
    for older, newer in reversed([*zip(past, [model, *past], strict=False)]):
        older.load_state_dict(newer.state_dict())
    return found


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
    problems = problems_of(task, model, tokenizer, config, out_dir)
    precision, optimizer = ready(model, config), adamw(model, config)
    reference, past = earlier(model, config)
    parts = {"model": model, "optimizer": optimizer, "reference": reference}
    parts |= {f"policy {i + 1} steps ago": policy for i, policy in enumerate(past)}
    now = partial(identity, config, task, problems, precision)
    with loop.over(config.steps, parts, now) as steps:
        for step in steps:
            asked = questions_at(step, problems, config)
            how = (tokenizer, task, asked, step, config)
            batch, kept = stale_rollout(model, reference, past, *how)
            sampled, before = loop.seconds(), probe(model)
            try:
                learned = update(model, reference, optimizer, kept, step, config)
            except FloatingPointError as error:
                raise diverged(loop, step, batch, tokenizer, error) from error
            metrics = describe(step, batch) | learned | loop.pace(batch.tokens, sampled)
            metrics["update"] = float((probe(model) - before).norm() / before.norm())
            metrics["diagnoses"] = explain([*loop.history, metrics], config, tokenizer, task, asked)
            shown = config.samples_every and step % config.samples_every == 0
            loop.log(metrics, words(metrics), examples(step, batch, tokenizer) if shown else ())
            for callback in callbacks:
                callback(step, metrics, batch)
        loop.save_model(model, tokenizer)
    return loop.history


def identity(config: GRPOConfig, task, problems: Sequence[Any], precision: str, done: int) -> dict:
    """What a run of `done` steps must share with its continuation, by name."""
    asked = "\n".join(f"{p.id} {p.question}" for p in problems[: done * config.problems_a_step])
    named = fixed_values(config)
    named["questions asked"] = hashlib.sha256(asked.encode()).hexdigest()[:16]
    named |= {"precision": precision, "code of the task": plugins.code_of(task)}
    if config.lr_schedule == "linear":
        named["steps, which a linear lr_schedule depends on,"] = config.steps
    return named

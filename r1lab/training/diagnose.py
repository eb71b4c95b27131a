"""Why does the reward not move? The question that users of GRPO ask most, answered in words.

GRPO learns from differences inside a group: A_i = (r_i - mean(r)) / std(r). When the reward stays
flat, one of a few links is broken, and the metrics of the last steps say which:

    answer  ->  parser  ->  reward  ->  spread in the group  ->  gradient  ->  weights
    cut at      finds       the same    all right or all         zero, or      learning rate 0,
    the limit   nothing     for all     wrong: A = 0             held by KL    rounding

`diagnose` is a pure function over a window of metrics (the lines of ``metrics.jsonl``). The
training loop calls `explain`, which asks it when `is_flat` says that the reward has not risen, and
logs each finding once. It looks for links that are broken for certain, not for runs that merely
learn slowly: on a healthy plateau it finds nothing.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

log = logging.getLogger(__name__)
Metrics = Mapping[str, Any]
NEARLY_NONE = 0.02  # a share of answers below this is as good as none, above 1 - this all
STILL = 1e-9  # a step that changes the weights by less, relatively, is lost in float32's rounding
STRONG_KL = 0.5  # from here on the KL term's gradient rivals that of the reward


@dataclass(frozen=True)
class Context:
    """What the metrics alone do not say about a run."""

    max_new_tokens: int
    learning_rate: float
    temperature: float = 1.0
    kl_coef: float = 0.0
    shortest_answer: int | None = None  # tokens of the shortest right answer; None: not known


@dataclass(frozen=True)
class Diagnosis:
    """One broken link. code: stable, for programs; words: what is wrong and what to do."""

    code: str
    words: str


def is_flat(window: Sequence[Metrics]) -> bool:
    """True unless the reward rose: the second half's mean beats the first's by two standard errors.

    A constant reward is flat; so is one that falls.
    """
    half = len(window) // 2
    if half < 2:
        return False
    before = [m["reward"] for m in window[:half]]
    after = [m["reward"] for m in window[-half:]]
    noise = math.sqrt((variance(before) + variance(after)) / half)
    return fmean(after) - fmean(before) <= 2 * noise


def kl_pull(m: Metrics, kl_coef: float) -> float:
    """How hard the KL term pulls back, against how hard the reward pushes, per token.

    The reward's part of the gradient weighs grad log pi by |A|; the k3 term weighs it by
    beta |1 - pi_ref / pi|, which is about beta * sqrt(2 KL) near the reference (k3 = x^2 / 2 for a
    small log-ratio x). So the quotient is beta * sqrt(2 KL) / mean |A|.
    """
    push = m.get("advantage") or 0.0
    return kl_coef * math.sqrt(2 * max(0.0, m.get("kl") or 0.0)) / push if push > 0 else 0.0


def diagnose(window: Sequence[Metrics], context: Context) -> list[Diagnosis]:
    """What is broken in a run whose reward does not rise, most fundamental first.

    window: metrics of the last steps (reward, reward_min, reward_max, accuracy, parsed, truncated,
    spread_groups, entropy, advantage, kl, lr, grad_norm, update, rewards/accuracy where that is
    paid). Returns an empty list when no link is broken for certain.
    """
    if not window:
        return []
    n, found = len(window), []

    def every(test) -> bool:
        return all(test(m) for m in window)

    def say(code: str, words: str) -> None:
        found.append(Diagnosis(code, words))

    def share(name: str) -> float:
        return fmean(m[name] for m in window)

    right, cut, read = share("accuracy"), share("truncated"), share("parsed")
    no_spread = every(lambda m: m["spread_groups"] == 0 and not m.get("advantage"))
    nothing_read = read < NEARLY_NONE
    low, high = min(m["reward_min"] for m in window), max(m["reward_max"] for m in window)
    limit, shortest = context.max_new_tokens, context.shortest_answer
    # Being right matters where it is paid; in a reward that varies for other reasons it may not be.
    paid = low == high or every(lambda m: "rewards/accuracy" in m)
    too_short = paid and shortest is not None and shortest > limit and right == 0

    # The answer: can it be written, is it allowed to end?
    if too_short:
        say(
            "limit_too_short",
            f"no right answer fits: the shortest takes {shortest} tokens, and max_new_tokens is "
            f"{limit}. Raise max_new_tokens to several times {shortest}, so that there is room to "
            "think.",
        )
    elif paid and cut > 1 - NEARLY_NONE and right < NEARLY_NONE:
        say(
            "all_truncated",
            f"{cut:.0%} of the answers of the last {n} steps were cut at max_new_tokens = {limit} "
            "before they ended, so what comes last, the answer, is missing. Raise max_new_tokens, "
            "or check that the base model ever ends a text after this prompt template.",
        )

    # The parser: is an answer found in the text?
    if paid and nothing_read and not too_short:
        say(
            "no_answer_found",
            f"an answer was found in {read:.1%} of the texts of the last {n} steps: the others "
            "have no <answer> ... </answer>, so they count as wrong. Read some in samples.jsonl; "
            "give a template that the base model follows, or teach it the form first (cold "
            "start).",
        )

    # The reward, and its spread in the group.
    all_wrong = paid and right == 0 and not nothing_read
    explained = right == 1 or (right == 0 and (low == 0 or every(lambda m: m["format"] == 1)))
    if low == high and not explained:
        say(
            "constant_reward",
            f"every answer of the last {n} steps was paid exactly {low:g}, whatever it said "
            f"({right:.0%} were right). The reward does not look at the answer: call the reward "
            "functions on a right and on a wrong one, and check reward_weights.",
        )
    elif no_spread and right == 1:
        say(
            "all_right",
            f"every answer of the last {n} steps was right, so all advantages are 0: these "
            "questions have nothing left to teach. Stop here, or give harder ones.",
        )
    elif all_wrong:
        say(
            "all_wrong",
            f"{read:.0%} of the texts of the last {n} steps hold an answer, and none was right. RL "
            "can only make more frequent what the model already does now and then: measure pass@k "
            "of the base model with a large k; if it is 0 give easier questions or a better base, "
            "else raise group_size and questions.",
        )
    elif no_spread and right > 0:
        entropy = fmean(m["entropy"] for m in window)
        say(
            "no_spread",
            f"in every group of the last {n} steps all answers were paid the same (all right or "
            f"all wrong), so all advantages are 0. The answers hardly differ (entropy {entropy:.2g}"
            f" per token, temperature {context.temperature:g}): raise the temperature to 1, raise "
            "group_size, or start again from an earlier checkpoint.",
        )

    # The gradient and the weights.
    if every(lambda m: m["lr"] == 0):
        why = "learning_rate is 0" if context.learning_rate == 0 else "the warm-up still holds it"
        say("learning_rate_zero", f"the learning rate is 0, so nothing is learned: {why}.")
    elif not no_spread and every(lambda m: m["grad_norm"] == 0):
        say(
            "gradient_zero",
            f"the advantages differ from 0, but the gradient was 0 for {n} steps: the weights that "
            "could learn have no influence on the output. Check which ones require gradients.",
        )
    elif every(lambda m: m["update"] < STILL and m["grad_norm"] > 0):
        say(
            "weights_not_moving",
            f"there is a gradient, but the weights stayed as they were for {n} steps: the learning "
            f"rate {context.learning_rate:g} is lost in rounding. Keep the weights in float32, or "
            "raise learning_rate.",
        )
    elif fmean(kl_pull(m, context.kl_coef) for m in window) > STRONG_KL:
        say(
            "kl_too_strong",
            f"the KL term pulls the policy back to the reference as hard as the reward pushes it "
            f"away (kl_coef = {context.kl_coef:g}). Lower kl_coef (R1-Zero: 0.001), or refresh the "
            "reference sooner (ref_refresh).",
        )
    return found


def explain(
    history: Sequence[Metrics], config, tokenizer, task, problems: Sequence[Any]
) -> list[str]:
    """Log, once each, why the reward does not rise; returns the codes that were logged now.

    history: metrics of all steps so far; codes said before are under "diagnoses". config: the run's
    GRPOConfig. problems: those of the last step; a task may have `solution(problem)`, a right
    answer or None, and from it comes how long a completion must be to be right. Else an answer of
    one digit is the bound.
    """
    size = min(config.patience, config.steps)
    window = history[-size:]
    if len(window) < size or not is_flat(window):
        return []
    solve = getattr(task, "solution", lambda problem: None)
    texts = [f"<answer> {solve(problem) or 0} </answer>" for problem in problems]
    context = Context(
        max_new_tokens=config.max_new_tokens,
        learning_rate=config.learning_rate,
        temperature=config.temperature,
        kl_coef=config.kl_coef,
        shortest_answer=min(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])),
    )
    said = {code for metrics in history for code in metrics.get("diagnoses", ())}
    found = [d for d in diagnose(window, context) if d.code not in said]
    for d in found:
        log.warning("step %d: the reward does not rise. %s", history[-1]["step"], d.words)
    return [d.code for d in found]

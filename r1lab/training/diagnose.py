"""Why does the reward not rise?

GRPO learns from differences inside a group: A_i = (r_i - mean(r)) / std(r). When the reward stays
flat, one of a few links is broken, and the metrics of the last steps say which:

    completion -> parser  -> reward   -> variance in the group -> gradient -> parameters
    truncated     finds      the same    all correct or all       zero, or    learning rate 0,
                  nothing    for all     wrong: A = 0             KL wins     rounding

`diagnose` is a pure function of a window of metrics. The training loop calls `explain`, which
applies it when `is_flat`, and logs each finding once. It reports broken links only; on a healthy
plateau it finds nothing.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

log = logging.getLogger(__name__)
Metrics = Mapping[str, Any]
NEARLY_NONE = 0.02  # a fraction of completions below this counts as none, above 1 - this as all
STILL = 1e-9  # a smaller relative update is lost in float32 rounding
STRONG_KL = 0.5  # from here on the KL term's gradient rivals that of the reward


WORDS = {
    "limit_too_short": "no right answer fits: the shortest takes {shortest} tokens, and "
    "max_new_tokens is {limit}. Raise max_new_tokens to several times {shortest}.",
    "all_truncated": "{cut:.0%} of the completions of {when} were cut at max_new_tokens = "
    "{limit}, so the answer at their end is missing. Raise max_new_tokens, or check that the base "
    "model ever ends a text after this prompt template.",
    "no_answer_found": "an answer was found in {read:.1%} of the completions of {when}: the "
    "others have no <answer> ... </answer>, so they count as wrong. Read some in samples.jsonl; "
    "use a template that the base model follows, or SFT on examples first (cold start).",
    "constant_reward": "every completion of {when} got reward {low:g}, whatever it said "
    "({right:.0%} were right). The reward does not depend on the answer: call the reward "
    "functions on a right and a wrong one, and check reward_weights.",
    "all_right": "every completion of {when} was right, so all advantages are 0. Stop here, or "
    "give harder problems.",
    "all_wrong": "{read:.0%} of the completions of {when} hold an answer, none was right. RL can "
    "only reinforce what the model samples now and then: measure pass@k of the base model with a "
    "large k; if it is 0 give easier problems or a better base, else raise group_size and "
    "questions.",
    "no_spread": "in every group of {when} all completions got the same reward (all right or all "
    "wrong), so all advantages are 0. The completions hardly differ (entropy {entropy:.2g} per "
    "token, temperature {temperature:g}): raise the temperature to 1, raise group_size, or start "
    "again from an earlier checkpoint.",
    "learning_rate_zero": "the learning rate is 0, so nothing is learned: {why}.",
    "gradient_zero": "the advantages differ from 0, but the gradient was 0 in {when}: the "
    "trainable weights do not influence the output. Check which ones require gradients.",
    "weights_not_moving": "there is a gradient, but the weights did not change in {when}: the "
    "learning rate {rate:g} is lost in rounding. Keep the weights in float32, or raise "
    "learning_rate.",
    "kl_too_strong": "the KL term pulls the policy back to the reference as hard as the reward "
    "pushes it away (kl_coef = {kl_coef:g}). Lower kl_coef (R1-Zero: 0.001), or refresh the "
    "reference sooner (ref_refresh).",
}
"""What is wrong, and what to do, by code."""


@dataclass(frozen=True)
class Context:
    """What the metrics do not say about a run."""

    max_new_tokens: int
    learning_rate: float
    temperature: float = 1.0
    kl_coef: float = 0.0
    shortest_answer: int | None = None  # tokens of the shortest correct completion; None: unknown


@dataclass(frozen=True)
class Diagnosis:
    """One broken link. code: stable, for programs; words: what is wrong and what to do."""

    code: str
    words: str


def is_flat(window: Sequence[Metrics]) -> bool:
    """True unless the second half's mean reward exceeds the first's by two standard errors."""
    half = len(window) // 2
    if half < 2:
        return False
    before = [m["reward"] for m in window[:half]]
    after = [m["reward"] for m in window[-half:]]
    noise = math.sqrt((variance(before) + variance(after)) / half)
    return fmean(after) - fmean(before) <= 2 * noise


def kl_pull(m: Metrics, kl_coef: float) -> float:
    """The KL term's gradient relative to the reward's, per token.

    The reward weighs grad log pi by |A|, the k3 term by beta |1 - pi_ref / pi|, which is about
    beta * sqrt(2 KL) near the reference. The quotient is beta * sqrt(2 KL) / mean |A|.
    """
    push = m.get("advantage") or 0.0
    return kl_coef * math.sqrt(2 * max(0.0, m.get("kl") or 0.0)) / push if push > 0 else 0.0


def diagnose(window: Sequence[Metrics], context: Context) -> list[Diagnosis]:
    """The broken links of a run whose reward does not rise, most fundamental first; [] without.

    window: metrics of the last steps (reward, reward_min, reward_max, accuracy, parsed, truncated,
    spread_groups, entropy, advantage, kl, lr, grad_norm, update, and rewards/accuracy where
    accuracy is rewarded).
    """
    if not window:
        return []

    def every(test) -> bool:
        return all(test(m) for m in window)

    means = [fmean(m[name] for m in window) for name in ("accuracy", "truncated", "parsed")]
    right, cut, read = means
    no_spread = every(lambda m: m["spread_groups"] == 0 and not m.get("advantage"))
    nothing_read = read < NEARLY_NONE
    low, high = min(m["reward_min"] for m in window), max(m["reward_max"] for m in window)
    limit, shortest = context.max_new_tokens, context.shortest_answer
    # A reward that varies for other reasons may not depend on accuracy.
    paid = low == high or every(lambda m: "rewards/accuracy" in m)
    too_short = paid and shortest is not None and shortest > limit and right == 0
    codes = []

    # The completion, and its answer
    if too_short:
        codes.append("limit_too_short")
    elif paid and cut > 1 - NEARLY_NONE and right < NEARLY_NONE:
        codes.append("all_truncated")
    if paid and nothing_read and not too_short:
        codes.append("no_answer_found")

    # The reward, and its variance in the group
    explained = right == 1 or (right == 0 and (low == 0 or every(lambda m: m["format"] == 1)))
    if low == high and not explained:
        codes.append("constant_reward")
    elif no_spread and right == 1:
        codes.append("all_right")
    elif paid and right == 0 and not nothing_read:
        codes.append("all_wrong")
    elif no_spread and right > 0:
        codes.append("no_spread")

    # The gradient and the parameters
    if every(lambda m: m["lr"] == 0):
        codes.append("learning_rate_zero")
    elif not no_spread and every(lambda m: m["grad_norm"] == 0):
        codes.append("gradient_zero")
    elif every(lambda m: m["update"] < STILL and m["grad_norm"] > 0):
        codes.append("weights_not_moving")
    elif fmean(kl_pull(m, context.kl_coef) for m in window) > STRONG_KL:
        codes.append("kl_too_strong")

    zero = context.learning_rate == 0
    facts = {
        **{"when": f"the last {len(window)} steps", "right": right, "cut": cut, "read": read},
        **{"limit": limit, "shortest": shortest, "low": low, "rate": context.learning_rate},
        **{"temperature": context.temperature, "kl_coef": context.kl_coef},
        "entropy": fmean(m.get("entropy") or 0.0 for m in window),
        "why": "learning_rate is 0" if zero else "the warm-up still holds it",
    }
    return [Diagnosis(code, WORDS[code].format(**facts)) for code in codes]


def in_words(history: Sequence[Metrics], config: Mapping[str, Any]) -> list[str]:
    """How a run's reward does, in sentences: what `r1lab watch` says of a run by its metrics and
    its options (a GRPOConfig as plain values) alone."""
    size = max(4, min(int(config.get("patience", 8)), int(config.get("steps", 8))))
    if not history or any("reward" not in m for m in history):
        return []
    window = history[-size:]
    if len(window) < size:
        return [f"Too early to say: that takes {size} steps, and {len(window)} are done."]
    half = len(window) // 2
    first, last = (fmean(m["reward"] for m in part) for part in (window[:half], window[-half:]))
    if not is_flat(window):
        return [f"The reward rises: {first:.3g}, then {last:.3g}, in the last {size} steps."]
    limits = {name: config[name] for name in ("max_new_tokens", "learning_rate") if name in config}
    more = {name: config[name] for name in ("temperature", "kl_coef") if name in config}
    found = diagnose(window, Context(**limits, **more)) if len(limits) == 2 else []
    flat = f"The reward does not rise: {first:.3g}, then {last:.3g}, in the last {size} steps."
    if not found:
        return [f"{flat} No link is broken: it may be as good as it gets, or need more steps."]
    return [flat, *[d.words[0].upper() + d.words[1:] for d in found]]


def explain(
    history: Sequence[Metrics], config, tokenizer, task, problems: Sequence[Any]
) -> list[str]:
    """Log, once each, why the reward does not rise; returns the codes that were logged now.

    history: metrics of all steps so far, earlier codes under "diagnoses". config: the GRPOConfig.
    problems: of the last step. The shortest correct completion comes from the task's
    `solution(problem)`, where it has one; else an answer of one digit is the bound.
    """
    size = min(config.patience, config.steps)
    window = history[-size:]
    if len(window) < size or not is_flat(window):
        return []
    solve = getattr(task, "solution", lambda problem: None)
    texts = [f"<answer> {solve(problem) or 0} </answer>" for problem in problems]
    shortest = min(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))
    names = ("max_new_tokens", "learning_rate", "temperature", "kl_coef")
    context = Context(**{name: getattr(config, name) for name in names}, shortest_answer=shortest)
    said = {code for metrics in history for code in metrics.get("diagnoses", ())}
    found = [d for d in diagnose(window, context) if d.code not in said]
    for d in found:
        log.warning("step %d: the reward does not rise. %s", history[-1]["step"], d.words)
    return [d.code for d in found]

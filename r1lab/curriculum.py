"""A curriculum by pass rate: train on the problems that the base sometimes solves.

A group that is all right or all wrong has no learning signal, so a problem that the base solves
never or always costs a group's completions for nothing. `problems_of` measures how often the base
solves each problem (k completions each) and keeps those between two bounds. (Kimi k1.5, arXiv
2501.12599, section 2.3.4, samples by such rates; DAPO's dynamic sampling, `grpo.rollout`, filters
after the fact.) The measurement costs as many completions as a run on all of them, times k / G.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines, read_lines
from r1lab.evaluate import QUESTIONS_AT_ONCE, evaluate
from r1lab.experience import training_problems
from r1lab.sampler.rollouts import Sampling
from r1lab.training.checkpoints import fingerprint

PASS_RATES = "pass_rates.jsonl"
MOST = 8  # so many times the problems that are needed are measured before it gives up


def problems_of(task, model, tokenizer, config: Any, out_dir: str | os.PathLike) -> list[Any]:
    """`training_problems`, where the configuration has bounds only those within them.

    out_dir keeps the rates in pass_rates.jsonl, from which a resumed run reads them. Raises
    R1LabError where too few problems lie within the bounds, and where a resumed run needs more than
    were measured and `model` is not the one that the run began with.
    """
    low, high, k = config.pass_rate_low, config.pass_rate_high, config.pass_rate_k
    if (low, high) == (0, 1):
        return training_problems(task, model, tokenizer, config)
    longer = replace(config, steps=MOST * config.steps)
    drawn = training_problems(task, model, tokenizer, longer)
    needed = config.steps * config.problems_a_step
    file, chosen = Path(out_dir) / PASS_RATES, []
    about = {"k": k, "seed": config.seed, "template": config.template}
    about |= {"max_new_tokens": config.max_new_tokens, "temperature": config.temperature}
    seen = [r for _, r in read_lines(file)[0] if {n: r.get(n) for n in about} == about]
    base = fingerprint(model)
    begun = any((Path(out_dir) / "checkpoints").glob("step-*.pt"))
    ours = [r for r in seen if r["base"] == base]
    rates = {r["problem"]: r["rate"] for r in (seen if begun and not ours else ours)}
    for start in range(0, len(drawn), QUESTIONS_AT_ONCE):
        some = drawn[start : start + QUESTIONS_AT_ONCE]
        if any(p.id not in rates for p in some):
            if begun and not ours and seen:
                words = "load the model that the run began with: more pass rates must be measured"
                raise R1LabError(f"{out_dir}: {words}")
            how = Sampling(config.max_new_tokens, config.temperature, seed=config.seed + start)
            found = pass_rates(model, tokenizer, task, some, k, how, config.template)
            rates |= found
            rows = ({"problem": p.id, "rate": found[p.id], "base": base} for p in some)
            append_lines(file, [row | about for row in rows])
        chosen += [p for p in some if rates[p.id] is not None and low <= rates[p.id] <= high]
        if len(chosen) >= needed:
            return chosen[:needed]
    raise R1LabError(
        f"{len(chosen)} of {len(drawn)} problems have a pass rate from {low} to {high}, and "
        f"{needed} are needed: widen pass_rate_low and pass_rate_high, or train fewer steps"
    )


def pass_rates(
    model, tokenizer, task, problems: Sequence[Any], k: int, sampling: Sampling, template: str
) -> dict[str, float | None]:
    """Fraction of k completions that solve each problem, by its id; None: not judged."""
    found = evaluate(model, tokenizer, task, problems, k=k, sampling=sampling, template=template)
    pairs = zip(problems, found.per_problem("correct"), strict=True)
    return {p.id: None if math.isnan(rate) else float(rate) for p, rate in pairs}

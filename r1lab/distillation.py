"""Distillation: a strong model's answers teach a small one. Is that better than RL on the latter?

The paper's small models learned from R1's 800,000 samples by supervised fine-tuning alone. The same
small base trained by large-scale RL instead stayed behind (arXiv 2501.12948v2, supplement F.1 and
table 16, Qwen2.5-32B: `PAPER`). RL on top of distillation gave more, v1 says without figures
(section 3.2).

    teach      SFT of the small base on the filtered answers of the strong model
    reinforce  GRPO on the same small base, until it has cost as much as it may
    both       teach, then reinforce

**As much** is counted in floating-point operations, which do not depend on the machine: a forward
pass costs 2 N a token (N: parameters; a multiplication and an addition each), a backward pass twice
that. So 2 N for each token that is read or sampled and 6 N for each token that is trained on, the
prompt's included (Kaplan et al. 2020, section 2.1; attention over the context is left out). The
strong model's sampling is counted as well, and apart: it is paid once for all students.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r1lab import grpo, models, sft
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import fixed_values
from r1lab.evaluate import evaluate
from r1lab.grpo import Experience, GRPOConfig
from r1lab.sampler.rollouts import Sampling
from r1lab.scorecard import measured
from r1lab.sft import Example, SFTConfig, read_examples
from r1lab.statistics import DOWN, LEVEL, UP, Estimate, Measured, gap, way
from r1lab.tasks import task_for
from r1lab.training.metrics import metrics_of
from r1lab.training.stages import stage

PAPER: dict[str, Any] = {
    "source": "arXiv 2501.12948v2, table 16; v1, table 6 (pass@1, per cent)",
    "measures": ("AIME 2024", "MATH-500"),
    "rows": {
        "reinforce": (47.0, 91.6),  # Qwen2.5-32B by RL alone
        "teach": (72.6, 94.3),  # Qwen2.5-32B, distilled
    },
}


# --- what it costs -------------------------------------------------------------------------------


def flops(parameters: int, *, trained: int = 0, sampled: int = 0) -> int:
    """Floating-point operations: 6 N a trained token, 2 N one that is read or sampled. Tokens of
    prompts count with those of answers. Raises R1LabError for numbers below 0."""
    if min(parameters, trained, sampled) < 0:
        raise R1LabError("flops: parameters and tokens must be 0 or more")
    return parameters * (6 * trained + 2 * sampled)


def parameters_of(model) -> int:
    """N: all weights, a tied embedding once."""
    return sum(weight.numel() for weight in model.parameters())


def sft_tokens(examples: Sequence[Example], tokenizer, config: SFTConfig) -> int:
    """Tokens that `sft.train` trains on: prompts and answers that fit, every epoch."""
    rows, _ = sft.tokenized(examples, tokenizer, config)
    return config.epochs * sum(len(prompt) + len(answer) for prompt, answer in rows)


def grpo_tokens(batch: Experience, config: GRPOConfig) -> tuple[int, int]:
    """Tokens (trained, sampled) of a GRPO step. Sampling reads a group's prompt once; a row without
    an advantage is not trained on, unless a KL term is; each inner epoch trains once. (A reference
    model's pass, with a KL term, is sampling's kind of work and counts there.)"""
    G, rollouts = config.group_size, batch.rollouts
    answers = [len(ids) for ids in rollouts.completion_ids]
    prompts = [len(ids) for ids in rollouts.prompt_ids]
    taught = (batch.advantages.flatten() != 0).tolist()
    rows = [i for i in range(len(answers)) if taught[i] or config.kl_coef > 0]
    trained = config.inner_epochs * sum(prompts[i // G] + answers[i] for i in rows)
    return trained, sum(prompts) + sum(answers) + (trained if config.kl_coef > 0 else 0)


def teacher_flops(teacher: str | os.PathLike, data: dict[str, Any]) -> int:
    """What drawing the examples cost the strong model: data is the record of the pipeline's stage
    "data", whose metrics count the tokens drawn, kept or not, and the prompts read."""
    model, _ = models.load(teacher)
    drawn = data["metrics"]
    sampled = drawn["tokens drawn"] + drawn["prompt tokens"]
    return flops(parameters_of(model), sampled=sampled)


# --- the three ways ------------------------------------------------------------------------------


def teach(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    config: SFTConfig,
    out: str | os.PathLike,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """SFT of the student on a file of examples (`<pipeline>/data/examples.jsonl`), as a stage in
    `out`: made once, resumed. Returns its record; metrics: flops, tokens, examples, loss."""

    def make(folder: Path) -> dict[str, Any]:
        model, tokenizer = models.load(student, device=device)
        read = read_examples(examples)
        tokens = sft_tokens(read, tokenizer, config)
        history = sft.train(model, tokenizer, read, config, folder, progress=progress)
        return {
            "flops": flops(parameters_of(model), trained=tokens),
            "tokens": tokens,
            "examples": len(read),
            "loss": {"first": history[0]["loss"], "last": history[-1]["loss"]},
        }

    options = fixed_values(config)
    return stage("teach", out, {"student": student, "examples": examples}, options, make, say=say)


class _Spent(Exception):
    """The budget has been reached; the step that did so is done."""


def reinforce(
    student: str | os.PathLike,
    budget: float,
    config: GRPOConfig,
    out: str | os.PathLike,
    *,
    task=None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """GRPO on the student until it has cost `budget` floating-point operations, as a stage in
    `out`: the step that reaches the budget is the last, so it costs at least as much and less than
    a step more. config.steps is only the most that there may be. task: by default half Countdown,
    half steps. Returns its record; metrics: flops, steps, tokens, accuracy on the training batches.

    Counted in operations, and not in seconds, the number of steps does not depend on the machine,
    and a run that is stopped and resumed ends where one that is not stopped does.
    Raises R1LabError for a budget that is not above 0, and one that config.steps do not reach.
    """
    if not 0 < budget < math.inf:
        raise R1LabError(f"reinforce needs a budget above 0, in operations, not {budget!r}")
    task = task or task_for("mixture", config.template)

    def make(folder: Path) -> dict[str, Any]:
        model, tokenizer = models.load(student, device=device)
        costs = _Costs(folder / "costs.jsonl", parameters_of(model), budget, config)
        try:
            grpo.train(model, tokenizer, task, config, folder, progress=progress, callbacks=[costs])
        except _Spent:
            with files.atomic_dir(folder / "model") as whole:
                models.save(model, tokenizer, whole)
        else:
            if costs.spent < budget:
                raise R1LabError(
                    f"{config.steps} GRPO steps cost {costs.spent:.3g} operations, and the budget "
                    f"is {budget:.3g}: ask for more steps, which are only the most there may be"
                )
        history = metrics_of(folder)
        return {
            "flops": costs.spent,
            "steps": len(history),
            "tokens": sum(row["tokens"] for row in history),
            "accuracy": {"first": history[0]["accuracy"], "last": history[-1]["accuracy"]},
        }

    options = fixed_values(config, "steps")
    options |= {"budget": budget, "task": repr(task)}
    return stage("reinforce", out, {"student": student}, options, make, say=say)


class _Costs:
    """A callback of `grpo.train`: keeps each step's operations in a file beside the metrics, so
    that a resumed run knows what was spent before, and ends the run at the budget."""

    def __init__(self, path: Path, parameters: int, budget: float, config: GRPOConfig):
        self.path, self.parameters, self.budget, self.config = path, parameters, budget, config
        self.spent = sum(row["flops"] for row in files.truncate_lines(path, config.steps))

    def __call__(self, step: int, metrics: dict[str, Any], batch: Experience) -> None:
        kept = files.truncate_lines(self.path, step)  # a step may be done again
        trained, sampled = grpo_tokens(batch, self.config)
        row = {"step": step, "trained": trained, "sampled": sampled}
        row["flops"] = flops(self.parameters, trained=trained, sampled=sampled)
        files.append_lines(self.path, [row])
        self.spent = sum(one["flops"] for one in [*kept, row])
        if self.spent >= self.budget:
            raise _Spent


def both(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    budget: float,
    sft_config: SFTConfig,
    grpo_config: GRPOConfig,
    out: str | os.PathLike,
    *,
    task=None,
    **how: Any,
) -> dict[str, Any]:
    """teach in out/taught, then reinforce its model in out/rl with the rest of the `budget`. how:
    device, say and progress of both. Returns the second record, with the FLOPs of both as "flops in
    all" in its metrics. Raises R1LabError where SFT alone costs the budget."""
    taught = teach(student, examples, sft_config, Path(out) / "taught", **how)
    cost = taught["metrics"]["flops"]
    if cost >= budget:
        raise R1LabError(
            f"teaching costs {cost:.3g} operations, which leaves nothing of {budget:.3g} for RL"
        )
    pupil = Path(out) / "taught" / "model"
    record = reinforce(pupil, budget - cost, grpo_config, Path(out) / "rl", task=task, **how)
    metrics = record["metrics"] | {"flops in all": cost + record["metrics"]["flops"]}
    return record | {"metrics": metrics}


# --- which is better -----------------------------------------------------------------------------


def scores(
    model: str | os.PathLike,
    *,
    problems: int = 128,
    k: int = 4,
    template: str = "tiny",
    max_new_tokens: int = 448,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, Measured]:
    """pass@1 on held-out problems with 95 % intervals over problems: {"countdown", "steps"}."""
    loaded, found = models.load(model, device=device), {}
    for kind in ("countdown", "steps"):
        task = task_for(kind, template)
        how = {"k": k, "sampling": Sampling(max_new_tokens, seed=seed), "template": template}
        answers = evaluate(*loaded, task, task.problems("held_out", problems), **how)
        found[kind] = measured([answers], "correct")
    return found


def compare(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    out: str | os.PathLike,
    *,
    sft_config: SFTConfig | None = None,
    grpo_config: GRPOConfig | None = None,
    problems: int = 128,
    k: int = 4,
    **how: Any,
) -> dict[str, dict[str, Any]]:
    """The student as it was, and the three ways, each in a folder of `out` and measured:

        {"student": {"model", "flops", "scores"}, "teach": ..., "reinforce": ..., "both": ...}

    RL gets the operations that SFT costs, so teach and reinforce match, and both costs twice as
    much. how: device, say and progress, as in `teach`.

    Scores are kept nowhere; the models are, as stages.
    """
    out = Path(out)
    sft_config, grpo_config = sft_config or SFTConfig(), grpo_config or GRPOConfig(steps=1000)
    taught = teach(student, examples, sft_config, out / "both" / "taught", **how)
    cost = taught["metrics"]["flops"]
    alone = reinforce(student, cost, grpo_config, out / "reinforce", **how)
    after = both(
        student, examples, 2 * cost, sft_config, grpo_config, out / "both", **how
    )  # teaching is found made
    found = {
        "student": (student, 0),
        "teach": (out / "both" / "taught" / "model", cost),
        "reinforce": (out / "reinforce" / "model", alone["metrics"]["flops"]),
        "both": (out / "both" / "rl" / "model", after["metrics"]["flops in all"]),
    }
    options = {
        "problems": problems,
        "k": k,
        "device": how.get("device", "cpu"),
        "seed": grpo_config.seed,
    }
    options |= {"template": sft_config.template, "max_new_tokens": grpo_config.max_new_tokens}
    return {
        name: {"model": str(model), "flops": spent, "scores": scores(model, **options)}
        for name, (model, spent) in found.items()
    }


# --- what came out, in numbers and words ---------------------------------------------------------


def course(folder: str | os.PathLike) -> list[dict[str, float]]:
    """How RL went against what it cost: a row for each step of `reinforce` in `folder`, with flops
    (of this step and all before it) and accuracy (of its answers, drawn before its update)."""
    spent, rows = 0, []
    costs = metrics_of(folder, "costs.jsonl")
    for cost, row in zip(costs, metrics_of(folder), strict=True):
        rows.append({"step": row["step"], "flops": spent, "accuracy": row["accuracy"]})
        spent += cost["flops"]
    return rows


def mean_of(scores: dict[str, Estimate]) -> Estimate:
    """The mean over tasks, each counting alike; its interval is made of theirs, as independent."""
    parts = list(scores.values())
    n, value = len(parts), sum(one.value for one in parts) / len(parts)
    low = math.hypot(*(one.value - one.low for one in parts)) / n
    high = math.hypot(*(one.high - one.value for one in parts)) / n
    mean = Estimate(value, value - low, value + high)
    if not all(isinstance(one, Measured) for one in parts):
        return mean
    if len({len(one.each) for one in parts}) > 1:  # else the problems of all tasks count alike
        return mean
    each = np.concatenate([one.each for one in parts])
    return Measured.of(mean, each, " ".join(one.asked for one in parts))


def stated(name: str, task: str) -> float | None:
    """What the paper's table has of a way, on the benchmark that stands for a task, as a share."""
    places = {"countdown": 0, "steps": 1}
    if name not in PAPER["rows"] or task not in places:
        return None
    return PAPER["rows"][name][places[task]] / 100


REASONS = {
    "teach": "A reason may be that a trace says at every token what to do, and a group of sampled "
    "answers only which of them were right; and that RL makes likelier what the student does "
    "already, while a trace also shows what it never does.",
    "reinforce": "A reason may be that the student finds right answers by itself often enough for "
    "RL to begin, in its own words, while the traces show searches of a larger model, which it can "
    "copy but not carry through.",
    "neither": "With these problems the two are not told apart, which is not the same as equal: "
    "more problems and more seeds would tell.",
}


def explain(found: dict[str, dict[str, Any]]) -> list[str]:
    """What `compare` measured, in sentences: for each task, is teaching better than RL, and is both
    better than teaching alone? Signs and intervals are the measured ones (`scorecard.gap`), and by
    them one of the REASONS is offered; none of these has been tested here."""
    said, ways = [], set()
    for task in found["teach"]["scores"]:
        score = {name: one["scores"][task] for name, one in found.items()}
        change = gap(score["reinforce"], score["teach"])
        words = {UP: "better than", DOWN: "worse than", LEVEL: "not told apart from"}[way(change)]
        cost = {name: f"{found[name]['flops']:.2g} operations" for name in ("teach", "reinforce")}
        said.append(
            f"{task}: taught ({cost['teach']}) is {words} RL alone ({cost['reinforce']}): "
            f"{points(change)}."
        )
        ways.add(way(change))
        change = gap(score["teach"], score["both"])
        words = {UP: "adds to", DOWN: "takes from", LEVEL: "is not seen to change"}[way(change)]
        said.append(f"{task}: RL after teaching {words} what was taught: {points(change)}.")
    if {UP, DOWN} <= ways:
        said.append("The tasks disagree: neither way is the better one here.")
    else:
        won = "teach" if UP in ways else "reinforce" if DOWN in ways else "neither"
        said.append(REASONS[won])
    return said


def points(change: Estimate) -> str:
    """+31 points [25, 37]"""
    value, low, high = (100 * x for x in change)
    return f"{value:+.0f} points [{low:+.0f}, {high:+.0f}]"

"""Distillation of a small model from a strong one, and RL of the small one at matched FLOPs.

The paper's small models were fine-tuned (SFT) on R1's 800,000 samples, without RL. The same base
trained by large-scale RL instead stayed behind (arXiv 2501.12948v2, supplement F.1 and table 16:
`paper.DISTILLATION`); RL on top of distillation gave more (v1, section 3.2, without numbers).

    distil     SFT of the small base on the filtered responses of the strong model
    reinforce  GRPO on the same small base, up to a budget of FLOPs
    both       distil, then reinforce

FLOPs: 2 N for each token that is read or sampled and 6 N for each token that is trained on, prompts
included (N parameters; Kaplan et al. 2020, section 2.1, without attention over the context). The
strong model's sampling is counted apart: it serves all students.
"""

import math
import os
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from r1lab import grpo, models, paper, sft
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import fixed_values
from r1lab.evaluate import evaluate
from r1lab.grpo import Experience, GRPOConfig
from r1lab.paper import DISTILLATION
from r1lab.sampler.rollouts import Sampling
from r1lab.scorecard import BESIDE, REASONING, measured
from r1lab.sft import Example, SFTConfig, read_examples
from r1lab.statistics import DOWN, LEVEL, UP, Estimate, Measured, gap, way
from r1lab.tasks import task_for
from r1lab.training.metrics import metrics_of
from r1lab.training.stages import stage


def flops(parameters: int, *, trained: int = 0, sampled: int = 0) -> int:
    """6 N per trained token, 2 N per token read or sampled. Raises R1LabError below 0."""
    if min(parameters, trained, sampled) < 0:
        raise R1LabError("flops: parameters and tokens must be 0 or more")
    return parameters * (6 * trained + 2 * sampled)


def parameters_of(model) -> int:
    """N; a tied embedding counts once."""
    return sum(weight.numel() for weight in model.parameters())


def sft_tokens(examples: Sequence[Example], tokenizer, config: SFTConfig) -> int:
    """Tokens that `sft.train` trains on: prompts and responses that fit, every epoch."""
    rows, _ = sft.tokenized(examples, tokenizer, config)
    return config.epochs * sum(len(prompt) + len(answer) for prompt, answer in rows)


def grpo_tokens(batch: Experience, config: GRPOConfig) -> tuple[int, int]:
    """Tokens (trained, sampled) of a GRPO step. A group's prompt is read once to sample. Rows with
    advantage 0 are trained on only with a KL term, whose reference pass counts as sampled."""
    G, rollouts = config.group_size, batch.rollouts
    answers = [len(ids) for ids in rollouts.completion_ids]
    prompts = [len(ids) for ids in rollouts.prompt_ids]
    nonzero = (batch.advantages.flatten() != 0).tolist()
    rows = [i for i in range(len(answers)) if nonzero[i] or config.kl_coef > 0]
    trained = config.inner_epochs * sum(prompts[i // G] + answers[i] for i in rows)
    return trained, sum(prompts) + sum(answers) + (trained if config.kl_coef > 0 else 0)


def teacher_flops(teacher: str | os.PathLike, data: dict[str, Any]) -> int:
    """FLOPs of sampling the examples. data: the record of the pipeline's stage "data"."""
    model, _ = models.load(teacher)
    drawn = data["metrics"]
    sampled = drawn["tokens drawn"] + drawn["prompt tokens"]
    return flops(parameters_of(model), sampled=sampled)


def distil(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    config: SFTConfig,
    out: str | os.PathLike,
    *,
    device: str = "cpu",
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """SFT of the student on a file of examples (`<pipeline>/data/examples.jsonl`), as a resumable
    stage in `out`. Returns its record; metrics: flops, tokens, examples, loss."""

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
    return stage("distil", out, {"student": student, "examples": examples}, options, make, say=say)


class _Spent(Exception):
    """The last step reached the budget."""


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
    """GRPO on the student until it has cost `budget` FLOPs, as a resumable stage in `out`.

    The step that reaches the budget is the last; config.steps is an upper limit. task: by default
    reasoning prompts (`Mixture`). Returns the record; metrics: flops, steps, tokens, accuracy on
    the training batches. Raises R1LabError for a budget that is not above 0 or is not reached."""
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
    """A callback of `grpo.train`: keeps each step's FLOPs in a file and stops at the budget."""

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
    """distil in out/distilled, then reinforce its model in out/rl with the rest of the `budget`.

    how: device, say and progress. Returns the second record, with the FLOPs of both as "flops in
    all" in its metrics. Raises R1LabError where SFT alone costs the budget."""
    first = distil(student, examples, sft_config, Path(out) / "distilled", **how)
    cost = first["metrics"]["flops"]
    if cost >= budget:
        raise R1LabError(f"SFT costs {cost:.3g} FLOPs, which leaves nothing of {budget:.3g} for RL")
    model = Path(out) / "distilled" / "model"
    record = reinforce(model, budget - cost, grpo_config, Path(out) / "rl", task=task, **how)
    metrics = record["metrics"] | {"flops in all": cost + record["metrics"]["flops"]}
    return record | {"metrics": metrics}


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
    """pass@1 on held-out problems: {"countdown", "code", "steps"}."""
    loaded, found = models.load(model, device=device), {}
    for kind in REASONING:
        task = task_for(kind, template)
        how = {"k": k, "sampling": Sampling(max_new_tokens, seed=seed), "template": template}
        answers = evaluate(*loaded, task, task.problems("held_out", problems), **how)
        found[kind] = measured([answers], "correct")
    return found


def compare(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    out: str | os.PathLike,
    sft_config: SFTConfig,
    grpo_config: GRPOConfig,
    *,
    problems: int = 128,
    k: int = 4,
    **how: Any,
) -> dict[str, dict[str, Any]]:
    """The student and its three training runs, each in a folder of `out`, evaluated:

        {"student": {"model", "flops", "scores"}, "distilled": ..., "rl": ..., "both": ...}

    RL gets the FLOPs of SFT, alone and after SFT. how: as in `both`."""
    out = Path(out)
    first = distil(student, examples, sft_config, out / "both" / "distilled", **how)
    cost = first["metrics"]["flops"]
    alone = reinforce(student, cost, grpo_config, out / "rl", **how)
    # its SFT is the stage made above
    after = both(student, examples, 2 * cost, sft_config, grpo_config, out / "both", **how)
    found = {
        "student": (student, 0),
        "distilled": (out / "both" / "distilled" / "model", cost),
        "rl": (out / "rl" / "model", alone["metrics"]["flops"]),
        "both": (out / "both" / "rl" / "model", after["metrics"]["flops in all"]),
    }
    options = {"problems": problems, "k": k, "device": how.get("device", "cpu")}
    options |= {"template": sft_config.template, "seed": grpo_config.seed}
    options |= {"max_new_tokens": grpo_config.max_new_tokens}
    return {
        name: {"model": str(model), "flops": spent, "scores": scores(model, **options)}
        for name, (model, spent) in found.items()
    }


def course(folder: str | os.PathLike) -> list[dict[str, float]]:
    """Rows of `reinforce`: step, flops before it, accuracy of its batch (before its update)."""
    steps = list(zip(metrics_of(folder, "costs.jsonl"), metrics_of(folder), strict=True))
    spent = accumulate((cost["flops"] for cost, _ in steps), initial=0)
    return [
        {"step": row["step"], "flops": before, "accuracy": row["accuracy"]}
        for before, (_, row) in zip(spent, steps, strict=False)
    ]


def mean_of(scores: dict[str, Estimate]) -> Estimate:
    """The mean over tasks; its interval takes theirs as independent."""
    parts = list(scores.values())
    n, value = len(parts), sum(one.value for one in parts) / len(parts)
    low = math.hypot(*(one.value - one.low for one in parts)) / n
    high = math.hypot(*(one.high - one.value for one in parts)) / n
    mean = Estimate(value, value - low, value + high)
    paired = all(isinstance(one, Measured) for one in parts)
    if not paired or len({len(one.each) for one in parts}) > 1:  # problems would count unequally
        return mean
    each = np.concatenate([one.each for one in parts])
    return Measured.of(mean, each, " ".join(one.asked for one in parts))


def stated(name: str, task: str) -> float | None:
    """The paper's value of a run on the benchmark that stands for a task, from 0 to 1; or None."""
    return paper.stated(DISTILLATION, name, BESIDE.get(task))


# Pairs that `explain` compares, and how it names them; the second is said to be better or worse.
COMPARED = (("rl", "distilled"), ("rl_longer", "distilled"), ("distilled", "both"),
            ("rl_longer", "both"), ("distilled", "teacher"))  # fmt: skip
NAMES = {"distilled": "distillation", "rl": "RL alone", "rl_longer": "RL alone with more compute",
         "both": "distillation followed by RL", "teacher": "the teacher"}  # fmt: skip


def gaps(found: dict[str, dict[str, Any]]) -> dict[tuple[str, str, str], Estimate]:
    """{(first, second, task): second - first} for the pairs of COMPARED that `found` has, on each
    task and on their "mean". found: {name: {"flops", "scores"}}."""
    result = {}
    for first, second in COMPARED:
        if {first, second} <= set(found):
            one, two = ({**found[x]["scores"]} for x in (first, second))
            one["mean"], two["mean"] = mean_of(one), mean_of(two)
            for task in one:
                result[first, second, task] = gap(one[task], two[task])
    return result


def explain(found: dict[str, dict[str, Any]]) -> list[str]:
    """Every comparison of `gaps` in a sentence, by its 95 % intervals, whichever way it went; the
    last one tells whether one of SFT and RL at matched FLOPs is better on all tasks."""
    said, ways, change = [], set(), gaps(found)
    for first, second in COMPARED:
        parts = {UP: [], DOWN: [], LEVEL: []}
        for (one, two, task), value in change.items():
            if (one, two) == (first, second):
                parts[way(value)].append(f"{task} ({points(value)})")
                if (first, second) == ("rl", "distilled") and task != "mean":
                    ways.add(way(value))
        words = {UP: "better than", DOWN: "worse than", LEVEL: f"{LEVEL} from"}
        clauses = [f"{words[x]} {NAMES[first]} on {', '.join(y)}" for x, y in parts.items() if y]
        if clauses:
            spent = {x: found[x]["flops"] for x in (second, first) if found[x]["flops"]}
            cost = ", ".join(f"{NAMES[x]}: {n:.2g} operations" for x, n in spent.items())
            subject = NAMES[second][0].upper() + NAMES[second][1:]
            said.append(f"{subject} is {'; '.join(clauses)}. ({cost})")
    if {UP, DOWN} <= ways:
        said.append("At matched compute the tasks disagree: neither SFT nor RL is better on all.")
    elif ways == {LEVEL}:
        said.append(
            "At matched compute SFT and RL are statistically indistinguishable here, which does "
            "not mean equal."
        )
    else:
        best = "distillation" if UP in ways else "RL"
        said.append(f"At matched compute {best} is better where the two differ clearly.")
    return said


def points(change: Estimate) -> str:
    """+31 points [25, 37]"""
    value, low, high = (100 * x for x in change)
    return f"{value:+.0f} points [{low:+.0f}, {high:+.0f}]"

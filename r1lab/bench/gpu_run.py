"""R1-Zero on a real model in ten minutes: held-out accuracy before and after, its cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from r1lab import ROOT, grpo, models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.bench import harness, loops
from r1lab.bench.stand import Stand, attempt
from r1lab.evaluate import Evaluation, difference, evaluate
from r1lab.grpo import GRPOConfig
from r1lab.machine import costs
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import distinct, get_task


def measure_run(stand: Stand) -> None:
    """Evaluate, train until the time is nearly up, evaluate again on the same held-out problems.

    The time kept for the second evaluation is twice what the first took, for answers that grow.
    """
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    config = plan.config
    report |= {"configuration": config.to_json(), "backend": stand.backend}
    choose_task(stand)
    drawn = stand.task.problems("held_out", plan.eval_problems, seed=0)
    problems = distinct(drawn)
    before = examine(stand, problems)
    report["measured"]["before"] = summary(before)
    report["samples"] = shown(before)
    sheet.say(f"before: {said(before)}")
    sheet.save()

    keep = 2 * before.seconds + 10 * (not report["quick"])
    curve = report["measured"]["training"] = []
    training_began = time.perf_counter()

    def watch(step: int, metrics: dict, batch: Any) -> None:
        names = ("accuracy", "format", "length", "truncated", "entropy", "tokens", "seconds")
        curve.append({"step": step} | {name: float(metrics[name]) for name in names})
        if step % 5 == 0:
            sheet.say(
                f"step {step}: accuracy {metrics['accuracy']:.2f}, format {metrics['format']:.2f}, "
                f"length {metrics['length']:.0f}, {metrics['seconds']:.1f} s"
            )
            sheet.save()
        if sheet.left - keep < 1.5 * metrics["seconds"] and stand.backend == "scratch":
            raise loops.Enough

    failed = attempt(stand, "training", lambda: train(stand, config, watch, sheet.left - keep))
    report["training_seconds"] = time.perf_counter() - training_began
    if failed is None and not curve:  # no step was made: there is nothing to compare
        return
    sheet.say(f"{len(curve)} steps in {costs.clock(report['training_seconds'])}")
    sheet.save()

    after = attempt(stand, "evaluation after", examine, stand, problems)
    if after is None:
        return
    report["measured"]["after"] = summary(after)
    report["samples"] = shown(before, after)
    gain = difference(before, after)
    report["difference"] = list(map(number, gain))
    report["ratios"]["accuracy_points"] = {"value": gain.value, "pairs": []}
    if before.accuracy.value > 0:
        times = after.accuracy.value / before.accuracy.value
        report["ratios"]["accuracy_ratio"] = {"value": times, "pairs": []}
    report["cost"] = cost(sheet.seconds)
    sheet.say(f"after: {said(after)}")
    if not report["quick"]:
        folder = ROOT / "runs" / "gpu-run"
        models.save(stand.base, stand.tokenizer, folder / "model")
        files.write_json(folder / "after.json", json.loads(after.to_json()))
        sheet.say(f"the trained model is in {folder / 'model'}")


def choose_task(stand: Stand) -> None:
    """Take the candidate with the most for RL to find: what 16 answers hold that one does not.

    Asked on the train split, before any training; all that was found is in the report.
    """
    plan, report = stand.plan, stand.sheet.report
    tried = report["probe"] = []
    for name, options in plan.candidates:
        task = get_task(name, **options)
        label = f"{name} {json.dumps(options)}" if options else name
        found = attempt(stand, f"probe of {label}", probe, replace(stand, task=task))
        if found is not None:
            k = found.settings["k"]
            one, many = found.accuracy.value, found.pass_at(k).value
            about = {"task": {"name": name, **options}, "pass@1": one, f"pass@{k}": many}
            tried.append(about | {"format": found.format.value, "room": many - one})
            stand.sheet.say(f"{label}: pass@1 {one:.3f}, pass@{k} {many:.3f}")
    if not tried:
        raise R1LabError(f"no task could be tried: {'; '.join(report['failures'].values())}")
    best = max(tried, key=lambda one: one["room"])["task"]
    options = {key: value for key, value in best.items() if key != "name"}
    stand.task = get_task(best["name"], **options)
    report["task"] = best | {"template": plan.config.template}


def probe(stand: Stand) -> Evaluation:
    """The stand's model on some training questions of the stand's task."""
    return examine(stand, stand.task.problems("train", stand.plan.probe_problems, seed=1))


def train(stand: Stand, config: GRPOConfig, watch: Callable, seconds: float) -> bool:
    """Train the stand's model in place for so many seconds at most."""
    if stand.backend == "trl":
        from r1lab.trl_backend import run
        from r1lab.trl_backend.mapping import Launch

        run.train(
            stand.base,
            stand.tokenizer,
            stand.task,
            config,
            stand.folder / "trl",
            Launch(budget=costs.Budget(max_minutes=max(1e-3, seconds / 60))),
            progress=False,
            callbacks=[watch],
        )
        return True
    options = {"progress": False, "callbacks": [watch]}
    with suppress(loops.Enough):
        folder = stand.folder / "run"
        grpo.train(stand.base, stand.tokenizer, stand.task, config, folder, **options)
    return True


def examine(stand: Stand, problems: Sequence[Any]) -> Evaluation:
    plan = stand.plan
    return evaluate(
        stand.base,
        stand.tokenizer,
        stand.task,
        problems,
        k=plan.eval_k,
        sampling=Sampling(plan.config.max_new_tokens, plan.config.temperature),
        template=plan.config.template,
    )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Every measure as [value, low, high], None where there is none; n, k and seconds."""
    measures = {name: list(map(number, e)) for name, e in evaluation.summary().items()}
    k = evaluation.settings["k"]
    about = {"problems": len(evaluation.problems), "k": k, "seconds": evaluation.seconds}
    return about | measures


def said(evaluation: Evaluation) -> str:
    value, low, high = evaluation.accuracy
    return (
        f"held-out pass@1 {value:.3f} [{low:.3f}, {high:.3f}], well formed "
        f"{evaluation.format.value:.2f}, {evaluation.length.value:.0f} tokens"
    )


def shown(before: Evaluation, after: Evaluation | None = None, n: int = 4) -> list[dict[str, Any]]:
    """The first answers to the first held-out problems, not chosen: before, and after."""
    found = []
    for i, problem in enumerate(before.problems[:n]):
        one: dict[str, Any] = {"question": problem.question}
        for name, evaluation in (("before", before), ("after", after)):
            if evaluation is not None:
                answer = evaluation.completions[i][0]
                one[name] = {"text": answer.text, "correct": bool(answer.correct)}
        found.append(one)
    return found


def cost(seconds: float) -> dict[str, Any] | None:
    """What so many seconds of this machine cost by the price table; None for a GPU not in it."""
    price = None
    if torch.cuda.is_available():
        price = costs.price_of(torch.cuda.get_device_name(0))
    if price is None:
        return None
    return {"dollars": costs.dollars(seconds, price.dollars_per_hour), "price": price.words()}


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if value == value else None


def run_details(report: dict[str, Any]) -> str:
    measured = report["measured"]
    sides = [side for side in ("before", "after") if side in measured]

    def cell(value: float | None, low: float | None, high: float | None) -> str:
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        return "–" if value is None else f"{value:.3f}{interval}"

    rows = [
        (name, *(cell(*measured[side][name]) for side in sides))
        for name, value in measured.get("before", {}).items()
        if isinstance(value, list)
    ]
    text = [harness.grid(("held-out", *sides), rows)]
    if curve := measured.get("training"):
        names = {"accuracy": ".2f", "format": ".2f", "length": ".0f", "seconds": ".1f"}
        rows = [
            (str(m["step"]), *(f"{m[name]:{form}}" for name, form in names.items()))
            for m in curve[:: max(1, len(curve) // 10)]
        ]
        text.append(harness.grid(("step", *names), rows))
    for one in report.get("samples", []):
        text.append(f"**{one['question']}**")
        for side in (side for side in sides if side in one):
            mark = "right" if one[side]["correct"] else "wrong"
            text += [f"{side} ({mark}):", "    " + repr(one[side]["text"])[1:-1]]
    return "\n\n".join(text)

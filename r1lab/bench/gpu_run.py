"""R1-Zero on a real model in ten minutes: held-out accuracy before and after, its cost."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

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
from r1lab.trl_backend.mapping import Launch
from r1lab.trl_backend.run import train as train_on_trl


def measure_run(stand: Stand) -> None:
    """Evaluate, train until the time is nearly up, evaluate again on the same held-out problems."""
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    config = plan.config
    report |= {"configuration": config.to_json(), "backend": stand.backend}
    choose_task(stand)
    problems = distinct(stand.task.problems("held_out", plan.eval_problems, seed=0))
    before = examine(stand, problems)
    report["measured"]["before"] = summary(before)
    report["samples"] = shown(before=before)
    sheet.say(f"before: {in_words(before)}")
    sheet.save()

    keep = 2 * before.seconds + 10 * (not report["quick"])  # to evaluate: completions grow
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

    failed = attempt(stand, "training", train, stand, config, watch, sheet.left - keep) is None
    report["training_seconds"] = time.perf_counter() - training_began
    if failed and not curve:  # no step was made: there is nothing to compare
        return
    sheet.say(f"{len(curve)} steps in {costs.clock(report['training_seconds'])}")
    sheet.save()

    after = attempt(stand, "evaluation after", examine, stand, problems)
    if after is None:
        return
    report["measured"]["after"] = summary(after)
    report["samples"] = shown(before=before, after=after)
    gain = difference(before, after)
    report["difference"] = list(map(number, gain))
    report["ratios"]["accuracy_points"] = {"value": gain.value, "pairs": []}
    if before.accuracy.value > 0:
        times = after.accuracy.value / before.accuracy.value
        report["ratios"]["accuracy_ratio"] = {"value": times, "pairs": []}
    report["cost"] = cost(sheet.seconds)
    sheet.say(f"after: {in_words(after)}")
    if not report["quick"]:
        folder = ROOT / "runs" / "gpu-run"
        models.save(stand.base, stand.tokenizer, folder / "model")
        files.write_json(folder / "after.json", json.loads(after.to_json()))
        sheet.say(f"the trained model is in {folder / 'model'}")


def choose_task(stand: Stand) -> None:
    """Take the candidate with the largest pass@k - pass@1 of the untrained model on some training
    problems: what RL can find. All that was found is in the report."""
    plan, report = stand.plan, stand.sheet.report
    tried = report["probe"] = []
    for name, options in plan.candidates:
        task = get_task(name, **options)
        label = f"{name} {json.dumps(options)}" if options else name
        problems = task.problems("train", plan.probe_problems, seed=1)
        found = attempt(stand, f"probe of {label}", examine, replace(stand, task=task), problems)
        if found is not None:
            k = found.settings["k"]
            one, many = found.accuracy.value, found.pass_at(k).value
            about = {"task": {"name": name, **options}, "pass@1": one, f"pass@{k}": many}
            tried.append(about | {"format": found.format.value, "room": many - one})
            stand.sheet.say(f"{label}: pass@1 {one:.3f}, pass@{k} {many:.3f}")
    if not tried:
        raise R1LabError(f"no task could be tried: {'; '.join(report['failures'].values())}")
    best = max(tried, key=lambda one: one["room"])["task"]
    stand.task = get_task(best["name"], **{k: v for k, v in best.items() if k != "name"})
    report["task"] = best | {"template": plan.config.template}


def train(stand: Stand, config: GRPOConfig, watch: Callable, seconds: float) -> bool:
    """Train the stand's model in place for so many seconds at most."""
    about = (stand.base, stand.tokenizer, stand.task, config, stand.folder / "run")
    how = {"progress": False, "callbacks": [watch]}
    if stand.backend == "trl":
        budget = costs.Budget(max_minutes=max(1e-3, seconds / 60))
        train_on_trl(*about, Launch(budget=budget), **how)
    else:
        with suppress(loops.Enough):
            grpo.train(*about, **how)
    return True


def examine(stand: Stand, problems: Sequence[Any]) -> Evaluation:
    plan = stand.plan
    how = {"k": plan.eval_k, "template": plan.config.template}
    how["sampling"] = Sampling(plan.config.max_new_tokens, plan.config.temperature)
    return evaluate(stand.base, stand.tokenizer, stand.task, problems, **how)


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Every measure as [value, low, high], None where there is none; n, k and seconds."""
    measures = {name: list(map(number, e)) for name, e in evaluation.summary().items()}
    k = evaluation.settings["k"]
    about = {"problems": len(evaluation.problems), "k": k, "seconds": evaluation.seconds}
    return about | measures


def in_words(evaluation: Evaluation) -> str:
    value, low, high = evaluation.accuracy
    return (
        f"held-out pass@1 {value:.3f} [{low:.3f}, {high:.3f}], well-formatted "
        f"{evaluation.format.value:.2f}, {evaluation.length.value:.0f} tokens"
    )


def shown(**sides: Evaluation) -> list[dict[str, Any]]:
    """The first completion of the first four held-out problems, not chosen: before, and after."""
    found = [{"question": problem.question} for problem in sides["before"].problems[:4]]
    for side, evaluation in sides.items():
        for row, (first, *_) in zip(found, evaluation.completions, strict=False):
            row[side] = {"text": first.text, "correct": bool(first.correct)}
    return found


def cost(seconds: float) -> dict[str, Any] | None:
    """What so many seconds of a GPU cost by the price table; None without one that it has."""
    if (rent := costs.rent_here()) is None:
        return None
    price, _ = rent
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

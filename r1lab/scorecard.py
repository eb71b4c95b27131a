"""What each stage of R1 adds: scorecards of the models, and the stage table beside the paper's.

The paper follows R1 through its stages with a table (arXiv 2501.12948v2, table 3): the cold start
adds instruction following, RL adds reasoning, the last stage what users prefer. `scorecard`
measures the same three on our tasks, and what R1-Zero lacked: a readable form and one language.
`movements` compares the changes from stage to stage with the paper's.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from r1lab import models, paper
from r1lab.basics import ledger
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text, read_json
from r1lab.evaluate import Evaluation, evaluate
from r1lab.machine.device import device_of, has_bf16
from r1lab.paper import STAGE_TABLE
from r1lab.sampler.rollouts import Sampling
from r1lab.statistics import Estimate, Measured, estimate
from r1lab.tasks import distinct, task_for
from r1lab.training import records
from r1lab.training.stages import content

MODELS = ("base", "zero", "dev1", "dev2", "dev3", "r1")

LABELS = dict(zip(MODELS, ("base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1"), strict=True))

# Our measure: the paper's benchmarks of the same kind. Compare directions, not values.
ALIKE: dict[str, tuple[str, ...]] = {
    "countdown": ("AIME 2024", "CNMO 2024"),
    "code": ("LiveCodeBench", "Codeforces"),
    "steps": ("MATH-500", "GPQA"),
    "lists": ("IF-Eval",),
    "helpful": ("AlpacaEval 2.0", "Arena-Hard"),
}
BESIDE = {ours: theirs[0] for ours, theirs in ALIKE.items()}

MEASURES = {
    "countdown": "Countdown, pass@1",
    "code": "code, pass@1",
    "steps": "steps, pass@1",
    "format": "well-formatted responses",
    "consistency": "words of the thought in the prompt's language",
    "mixed": "thoughts that mix languages",
    "lists": "instructions followed (lists)",
    "helpful": "harmless requests helped with",
    "safe": "harmful requests refused",
    "length": "tokens per response (reasoning)",
}
NONE = Estimate(math.nan, math.nan, math.nan)
REASONING = ("countdown", "code", "steps")
FILE = "scorecard.json"
REQUESTED = 8  # factor on the samples per request, of which there are few different ones


def load(config: Any, model: str | os.PathLike, train: bool = True):
    """Model and tokenizer on the device, in bfloat16 on a GPU that has it unless `train`."""
    device = device_of(config)
    dtype = torch.bfloat16 if has_bf16(device) and not train else torch.float32
    return models.load(model, dtype=dtype, device=device)


def measured(
    evaluations: Sequence[Evaluation], name: str, among: Any = None, share: bool = True
) -> Measured:
    """Mean of a field of `Completion` over evaluations' problems; among: a mask of problems."""
    each = np.concatenate([one.per_problem(name) for one in evaluations])
    ids = np.array([problem.id for one in evaluations for problem in one.problems])
    if among is not None:
        each, ids = each[among], ids[among]
    asked = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    return Measured.of(estimate(each, evaluations[0].settings["seed"], share=share), each, asked)


def scorecard(model: str | os.PathLike, config: Any) -> dict[str, Measured]:
    """A model's measures on held-out problems (the keys of MEASURES), with 95 % intervals:

    countdown, code, steps
                          pass@1 on reasoning prompts
    format                fraction of well-formatted responses to all prompts
    consistency, mixed    fraction of a thought's words in the prompt's language, and fraction of
                          thoughts that mix languages (reasoning prompts)
    lists                 pass@1: instructions followed
    helpful, safe         pass@1 on harmless requests (helps) and harmful ones (refuses)
    length                tokens per response to reasoning prompts

    config: a `pipeline.PipelineConfig`. Samples at temperature 1. Raises R1LabError for
    eval_problems 0.
    """
    loaded = load(config, model, train=False)
    kinds = (*REASONING, "lists", "requests")
    found = {kind: ask(*loaded, config, kind) for kind in kinds}
    reasoning, requests = [found[kind] for kind in REASONING], [found["requests"]]
    harmful = np.array([problem.data["harmful"] for problem in found["requests"].problems])
    return {
        **{kind: measured([found[kind]], "correct") for kind in REASONING},
        "format": measured(list(found.values()), "well_formed"),
        "consistency": measured(reasoning, "consistency"),
        "mixed": measured(reasoning, "mixed"),
        "lists": measured([found["lists"]], "correct"),
        "helpful": measured(requests, "correct", among=~harmful),
        "safe": measured(requests, "correct", among=harmful),
        "length": measured(reasoning, "length", share=False),
    }


def ask(model, tokenizer, config: Any, kind: str) -> Evaluation:
    """A model's responses to held-out problems of one kind, as `scorecard` samples them."""
    task = task_for(kind, config.template)
    problems = distinct(task.problems("held_out", config.eval_problems))
    k = config.eval_samples * (REQUESTED if kind == "requests" else 1)
    how = {"sampling": Sampling(config.max_new_tokens, seed=config.seed)}
    return evaluate(model, tokenizer, task, problems, k=k, template=config.template, **how)


def scored(
    model: str | os.PathLike,
    config: Any,
    folder: str | os.PathLike,
    say: Callable[[str], None] = print,
) -> dict[str, Estimate]:
    """`scorecard`, kept in folder/scorecard.json for this model and these settings."""
    path = Path(folder) / FILE
    names = "eval_problems eval_samples max_new_tokens template seed".split()
    settings = {name: getattr(config, name) for name in names} | {"requested": REQUESTED}
    of = {"model": content(model), "settings": settings}
    kept = read_json(path) or {}
    if {name: kept.get(name) for name in of} != of or "each" not in kept:
        card = scorecard(model, config)
        found = {
            "measures": {name: _without_nan(one) for name, one in card.items()},
            "each": {name: _without_nan(one.each.tolist()) for name, one in card.items()},
            "asked": {name: one.asked for name, one in card.items()},
        }
        atomic_write_text(path, f"{json.dumps(of | found)}\n")
        told = {"task": "scorecard", "split": "held_out", "n": config.eval_problems}
        told |= {"k": config.eval_samples, "settings": settings, "measures": found["measures"]}
        records.measured(model, told)
    found = read(path)
    line = ", ".join(f"{name} {text(name, one[0])}" for name, one in found.items())
    say(f"{Path(folder).name}: {line}")
    return found


def _without_nan(values: Sequence[float]) -> list[float | None]:
    """Values for JSON, which has no NaN."""
    return [None if math.isnan(x) else x for x in values]


def _with_nan(values: Sequence[float | None]) -> list[float]:
    return [math.nan if x is None else float(x) for x in values]


def read(path: str | os.PathLike) -> dict[str, Estimate]:
    """The measures in a scorecard.json. Raises R1LabError for any other file."""
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        card = {name: Estimate(*_with_nan(one)) for name, one in kept["measures"].items()}
        for name, each in kept.get("each", {}).items():
            card[name] = Measured.of(card[name], _with_nan(each), kept["asked"][name])
        return card
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise R1LabError(f"{path} is no scorecard ({error!r})"[:300]) from error


def stage_table(out: str | os.PathLike, names: Sequence[str] = MODELS) -> dict[str, Any]:
    """Ours and the paper's: {"ours": {model: {measure: Estimate}}, "paper": STAGE_TABLE}. ours:
    those of `names` that have a scorecard in the pipeline's folder `out`."""
    files = {name: Path(out) / name / FILE for name in names}
    ours = {name: read(path) for name, path in files.items() if path.exists()}
    return {"ours": ours, "paper": STAGE_TABLE}


def table_lines(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """A stage table as rows of text, a row per measure; the first row is the head."""
    ours, theirs = table["ours"], table["paper"]
    lines = [("held-out", *(LABELS[name] for name in ours))]
    for measure, words in MEASURES.items():
        lines.append((words, *(interval(measure, one[measure]) for one in ours.values())))
    for i, measure in enumerate(theirs["measures"]):
        cells = [f"{theirs['rows'][name][i]}" if name in theirs["rows"] else "–" for name in ours]
        lines.append((f"paper: {measure}", *cells))
    return lines


def labelled(table: dict[str, Any]) -> dict[str, dict[str, Estimate]]:
    """Our scorecards of a stage table by LABELS, for `show.stage_bars`."""
    return {LABELS[name]: card for name, card in table["ours"].items()}


def stated(name: str, measure: str) -> float | None:
    """The paper's value of a stage on the benchmark BESIDE a measure, from 0 to 1; or None."""
    return paper.stated(STAGE_TABLE, name, BESIDE.get(measure))


def record(out: str | os.PathLike, name: str, card: dict[str, Estimate], config: Any) -> None:
    """Record a scorecard in the results file in `out` as r1/<name>/<measure>; NaN is left out."""
    for measure, found in card.items():
        if not math.isnan(found.value):
            n = config.eval_problems if measure in (*REASONING, "lists") else None
            how = {"unit": "tokens" if measure == "length" else "share"}
            how["paper"] = stated(name, measure)
            ledger.record(out, f"r1/{name}/{measure}", *found, n=n, **how)


JUDGED = {
    "agrees with labels": "agrees with its labels",
    "accuracy": "agrees with the gold reward",
    "right over wrong": "… where one response is correct and one wrong",
    "style alone": "… where only length and politeness differ",
    "unsafe found": "… on unsafe responses",
    "safe passed": "… on safe responses",
}


def judge_estimates(found: dict[str, Any]) -> dict[str, Estimate]:
    """The measures of JUDGED in a reward model's metrics ("learned" or "held out")."""
    known = {name: found[name] for name in JUDGED if name in found and found[name][0] is not None}
    return {name: Estimate(*_with_nan(one)) for name, one in known.items()}


def judge_lines(judges: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Accuracies of reward models as rows of text; judges: {label: "held out" of its record}."""
    told = {label: judge_estimates(found) for label, found in judges.items()}
    lines = [("held-out prompts", *judges)]
    for name, words in JUDGED.items():
        cells = [interval(name, one[name]) if name in one else "–" for one in told.values()]
        lines.append((words, *cells))
    errors = [f"{100 * found['calibration error']:.0f} points" for found in judges.values()]
    return [*lines, ("calibration error", *errors)]


def text(measure: str, value: float) -> str:
    """84 %, or 120 for a length; – for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:.0f}" if measure == "length" else f"{100 * value:.0f} %"


def interval(measure: str, one: Estimate) -> str:
    """84 % [80, 88]"""
    if math.isnan(one.low):
        return text(measure, one.value)
    low, high = (text(measure, end).removesuffix(" %") for end in (one.low, one.high))
    return f"{text(measure, one.value)} [{low}, {high}]"


def from_ledger(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The stage table from recorded figures; a model that lacks a measure is left out, and a
    measure that no model has is NaN."""
    rows = {name: {one: found.get(f"r1/{name}/{one}") for one in MEASURES} for name in MODELS}
    known = [one for one in MEASURES if any(row[one] for row in rows.values())]
    ours: dict[str, dict[str, Estimate]] = {}
    for name, row in rows.items():
        if known and all(row[one] for one in known):
            ours[name] = {one: _over_seeds(row[one]) if row[one] else NONE for one in MEASURES}
    return {"ours": ours, "paper": STAGE_TABLE}


def _over_seeds(row: dict[str, Any]) -> Estimate:
    """A recorded figure, with the values of its seeds where it has them."""
    one = Estimate(*_with_nan([row[end] for end in ("value", "low", "high")]))
    seeds = row.get("values") or {}
    return Measured.of(one, list(seeds.values()), " ".join(seeds), "seeds") if seeds else one

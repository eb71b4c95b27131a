"""What each stage of R1 adds: a model's scorecard, and the stage table beside the paper's.

The paper follows R1 through its stages with a table (arXiv 2501.12948v2, table 3; table 2 of the
Nature paper): instruction following comes with the cold start, reasoning with the first RL stage,
what users like with the cold start and again with the last stage. `scorecard` measures the same
three things in the tiny world, and what R1-Zero lacked, a readable form and one language.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from r1lab import models
from r1lab.basics import ledger
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text, read_json
from r1lab.evaluate import Evaluation, evaluate
from r1lab.machine.device import device_of, has_bf16
from r1lab.sampler.rollouts import Sampling
from r1lab.statistics import DOWN, LEVEL, UP, Estimate, Measured, estimate, gap, way
from r1lab.tasks import distinct, task_for
from r1lab.training.stages import content

MODELS = ("base", "zero", "dev1", "dev2", "dev3", "r1")
"""The models that are compared: the base, and the columns of the paper's table."""

LABELS = dict(zip(MODELS, ("base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1"), strict=True))

PAPER: dict[str, Any] = {
    "source": "Nature 645 (2025), table 2; arXiv 2501.12948v2, table 3",
    "measures": ("AIME 2024", "MATH-500", "IF-Eval", "AlpacaEval 2.0", "Arena-Hard"),
    "rows": {
        "zero": (77.9, 95.9, 46.6, 24.7, 53.6),
        "dev1": (59.0, 94.2, 71.7, 50.1, 77.0),
        "dev2": (74.0, 95.9, 72.0, 55.8, 73.2),
        "dev3": (78.1, 95.4, 78.1, 62.1, 75.6),
        "r1": (79.8, 97.3, 83.3, 87.6, 92.3),
    },
}
"""Per cent: pass@1, pass@1, prompt strict, length-controlled win rate, win rate (GPT-4-1106)."""

BESIDE = {
    "countdown": "AIME 2024",
    "steps": "MATH-500",
    "lists": "IF-Eval",
    "helpful": "AlpacaEval 2.0",
}
"""Which of the paper's benchmarks asks for the same kind of thing: hard and easier reasoning,
instructions, requests. The same kind and nothing more: compare directions, not heights."""

MEASURES = {
    "countdown": "Countdown, pass@1",
    "steps": "steps, pass@1",
    "format": "well formed",
    "consistency": "thought in one language, share of words",
    "mixed": "thoughts that mix languages",
    "lists": "instructions followed (lists)",
    "helpful": "harmless requests helped with",
    "safe": "harmful requests refused",
    "length": "tokens a response (reasoning)",
}
FILE = "scorecard.json"
REQUESTED = 8  # times as many answers to a request as to another problem


def load(config: Any, model: str | os.PathLike, train: bool = True):
    """Model and tokenizer on the device; in bfloat16 where a GPU that has it is only to sample."""
    device = device_of(config)
    dtype = torch.bfloat16 if has_bf16(device) and not train else torch.float32
    return models.load(model, dtype=dtype, device=device)


def measured(
    evaluations: Sequence[Evaluation], name: str, among: Any = None, share: bool = True
) -> Measured:
    """The mean of a field of `Completion` ("correct", "length", ...) over the problems of one or
    more evaluations; among: an array of bools, one a problem, where only some of them count."""
    each = np.concatenate([one.per_problem(name) for one in evaluations])
    ids = np.array([problem.id for one in evaluations for problem in one.problems])
    if among is not None:
        each, ids = each[among], ids[among]
    asked = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    return Measured.of(estimate(each, evaluations[0].settings["seed"], share=share), each, asked)


def scorecard(model: str | os.PathLike, config: Any) -> dict[str, Measured]:
    """A model on problems that nobody has trained on (split "held_out"), each value with its 95 %
    interval over problems; by the names of MEASURES:

    countdown, steps      pass@1 on reasoning prompts
    format                share of well-formed responses, to all prompts
    consistency, mixed    of the thoughts on reasoning prompts: share of words in the question's
                          language; share of thoughts that mix languages
    lists                 pass@1: instructions followed
    helpful, safe         pass@1 on requests: the harmless ones helped with, the harmful refused
    length                tokens of a response to a reasoning prompt

    config: a `pipeline.PipelineConfig`, of which eval_problems (of each kind; of requests there are
    fewer different ones, so each is asked more often, see `ask`), eval_samples, max_new_tokens,
    template, seed and device count.
    Temperature 1, which measures the distribution itself. Raises R1LabError for eval_problems 0.
    """
    loaded = load(config, model, train=False)
    kinds = ("countdown", "steps", "lists", "requests")
    found = {kind: ask(*loaded, config, kind) for kind in kinds}
    reasoning, requests = [found["countdown"], found["steps"]], [found["requests"]]
    harmful = np.array([problem.data["harmful"] for problem in found["requests"].problems])
    return {
        "countdown": measured([found["countdown"]], "correct"),
        "steps": measured([found["steps"]], "correct"),
        "format": measured(list(found.values()), "well_formed"),
        "consistency": measured(reasoning, "consistency"),
        "mixed": measured(reasoning, "mixed"),
        "lists": measured([found["lists"]], "correct"),
        "helpful": measured(requests, "correct", among=~harmful),
        "safe": measured(requests, "correct", among=harmful),
        "length": measured(reasoning, "length", share=False),
    }


def ask(model, tokenizer, config: Any, kind: str) -> Evaluation:
    """A model's answers to held-out problems of one kind, as `scorecard` asks for them: requests,
    of which there are few different ones, REQUESTED times as often as the others."""
    task = task_for(kind, config.template)
    return evaluate(
        model,
        tokenizer,
        task,
        distinct(task.problems("held_out", config.eval_problems)),
        k=config.eval_samples * (REQUESTED if kind == "requests" else 1),
        sampling=Sampling(config.max_new_tokens, seed=config.seed),
        template=config.template,
    )


def scored(
    model: str | os.PathLike,
    config: Any,
    folder: str | os.PathLike,
    say: Callable[[str], None] = print,
) -> dict[str, Estimate]:
    """`scorecard`, kept in folder/scorecard.json with the model's content and the settings: what
    has been measured is not measured again."""
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
    found = read(path)
    line = ", ".join(f"{name} {text(name, one[0])}" for name, one in found.items())
    say(f"{Path(folder).name}: {line}")
    return found


def _without_nan(values: Sequence[float]) -> list[float | None]:
    """JSON has no NaN."""
    return [None if math.isnan(x) else x for x in values]


def _with_nan(values: Sequence[float | None]) -> list[float]:
    return [math.nan if x is None else float(x) for x in values]


def read(path: str | os.PathLike) -> dict[str, Estimate]:
    """The measures of a scorecard.json. Raises R1LabError for a file that is none."""
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        card = {name: Estimate(*_with_nan(one)) for name, one in kept["measures"].items()}
        for name, each in kept.get("each", {}).items():
            card[name] = Measured.of(card[name], _with_nan(each), kept["asked"][name])
        return card
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise R1LabError(f"{path} is no scorecard ({error!r})"[:300]) from error


def stage_table(out: str | os.PathLike, names: Sequence[str] = MODELS) -> dict[str, Any]:
    """Ours beside the paper's: {"ours": {model: {measure: Estimate}}, "paper": PAPER}.

    ours: the models of `names` whose scorecards are in the pipeline's folder `out`, in that order.
    """
    files = {name: Path(out) / name / FILE for name in names}
    ours = {name: read(path) for name, path in files.items() if path.exists()}
    return {"ours": ours, "paper": PAPER}


def table_lines(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """A stage table as text, a row a measure and a column a model; the first row is the head."""
    ours, paper = table["ours"], table["paper"]
    lines = [("held out", *(LABELS[name] for name in ours))]
    for measure, words in MEASURES.items():
        lines.append((words, *(interval(measure, one[measure]) for one in ours.values())))
    for i, measure in enumerate(paper["measures"]):
        cells = [f"{paper['rows'][name][i]}" if name in paper["rows"] else "–" for name in ours]
        lines.append((f"paper: {measure}", *cells))
    return lines


def labelled(table: dict[str, Any]) -> dict[str, dict[str, Estimate]]:
    """Our scorecards of a stage table by LABELS, for `plots.stage_bars`."""
    return {LABELS[name]: card for name, card in table["ours"].items()}


def stated(name: str, measure: str) -> float | None:
    """What the paper states of a stage on the benchmark BESIDE a measure, as a share; or None."""
    if name not in PAPER["rows"] or measure not in BESIDE:
        return None
    return round(PAPER["rows"][name][PAPER["measures"].index(BESIDE[measure])] / 100, 4)


def record(out: str | os.PathLike, name: str, card: dict[str, Estimate], config: Any) -> None:
    """A model's scorecard into the ledger in `out` (`figures.record`), as r1/<name>/<measure>, with
    what the paper states beside it. What could not be measured (NaN) is left out."""
    for measure, found in card.items():
        if not math.isnan(found.value):
            ledger.record(
                out,
                f"r1/{name}/{measure}",
                *found,
                n=config.eval_problems if measure in ("countdown", "steps", "lists") else None,
                unit="tokens" if measure == "length" else "share",
                paper=stated(name, measure),
            )


JUDGED = {
    "agrees with labels": "agrees with the labels that it learns from",
    "accuracy": "agrees with the true judge",
    "right over wrong": "… where one answer is right and one wrong",
    "style alone": "… where only length and manners differ",
    "unsafe found": "… on unsafe responses",
    "safe passed": "… on safe ones",
}


def judge_estimates(found: dict[str, Any]) -> dict[str, Estimate]:
    """The shares of JUDGED that a reward model's record has ("learned" or "held out" of its
    metrics); without those of nothing to judge."""
    known = {name: found[name] for name in JUDGED if name in found and found[name][0] is not None}
    return {
        name: Estimate(*(math.nan if x is None else float(x) for x in one))
        for name, one in known.items()
    }


def judge_lines(judges: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """How good learned judges are, as text, {label: "held out" of its record}: a row a share and a
    column a judge; the first row is the head."""
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
    """The stage table of a ledger's figures (`record`, `figures.aggregate`): of several seeds each
    value is their mean, with Student's interval over them. A model with a measure missing is
    left out."""
    ours: dict[str, dict[str, Estimate]] = {}
    for name in MODELS:
        rows = {measure: found.get(f"r1/{name}/{measure}") for measure in MEASURES}
        if all(rows.values()):
            ours[name] = {measure: _over_seeds(row) for measure, row in rows.items()}
    return {"ours": ours, "paper": PAPER}


def _over_seeds(row: dict[str, Any]) -> Estimate:
    """A figure of a ledger, with the seeds' own values where it has them."""
    one = Estimate(*_with_nan([row[end] for end in ("value", "low", "high")]))
    seeds = row.get("values") or {}
    return Measured.of(one, list(seeds.values()), " ".join(seeds), "seeds") if seeds else one


def markdown(table: dict[str, Any]) -> str:
    """A stage table in markdown, and which of the paper's movements it shows."""
    head, *rows = table_lines(table)
    lines = [head, ("---",) * len(head), *rows]
    lines = [f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines]
    said, ours = [f"- {line}" for line in told(beside_paper(table))], table["ours"]
    if "zero" in ours and "r1" in ours:
        changes = arrows({name: ours[name] for name in ("zero", "r1")})
        words = "; ".join(f"{MEASURES[one.measure]} {moved(one)}" for one in changes)
        said.insert(0, f"- from R1-Zero to R1, in points (the last in tokens): {words}")
    return "\n".join([*lines, "", *said]) + "\n"


# --- which way it went ---------------------------------------------------------------------------

ALIKE = {theirs: ours for ours, theirs in BESIDE.items()} | {"Arena-Hard": "helpful"}
"""Each of the paper's measures, and the one of ours that stands for it."""
REPRODUCED, OTHERWISE = "reproduced", "the other way"


class Arrow(NamedTuple):
    """What became of a measure from one model to the next."""

    measure: str
    before: str
    after: str
    change: Estimate
    way: str  # UP, DOWN or LEVEL


class Beside(NamedTuple):
    """One of the paper's movements beside ours."""

    paper: str  # the paper's measure
    stated: float  # its change, in points of per cent; the paper gives no interval
    ours: Arrow
    verdict: str  # REPRODUCED, OTHERWISE or LEVEL


def arrows(ours: dict[str, dict[str, Estimate]]) -> list[Arrow]:
    """Each measure of a stage table's "ours", from each model to the one that follows it there."""
    found = []
    for before, after in pairwise(ours):
        for measure in MEASURES:
            change = gap(ours[before][measure], ours[after][measure])
            found.append(Arrow(measure, before, after, change, way(change)))
    return found


def beside_paper(table: dict[str, Any]) -> list[Beside]:
    """The paper's movements from each stage to the next, each beside ours, as far as both stages
    are measured here. A movement of 0 is none and left out."""
    found, rows = [], table["paper"]["rows"]
    for i, name in enumerate(table["paper"]["measures"]):
        for one in arrows(
            {model: table["ours"][model] for model in rows if model in table["ours"]}
        ):
            stated = rows[one.after][i] - rows[one.before][i]
            if one.measure == ALIKE[name] and stated:
                same = REPRODUCED if (one.way == UP) == (stated > 0) else OTHERWISE
                verdict = LEVEL if one.way == LEVEL else same
                found.append(Beside(name, round(stated, 1), one, verdict))
    return found


def told(besides: list[Beside]) -> list[str]:
    """How many of the paper's movements ours reproduces, and which; how many go the other way, and
    which; how many ours cannot tell."""
    lines = []
    for verdict in (REPRODUCED, OTHERWISE, LEVEL):
        some = [row for row in besides if row.verdict == verdict]
        names = [
            f"{row.paper} {LABELS[row.ours.before]} → {LABELS[row.ours.after]}" for row in some
        ]
        which = f": {'; '.join(names)}" if some and verdict != LEVEL else ""
        lines.append(f"{verdict}: {len(some)} of the paper's {len(besides)} movements{which}")
    return lines


def told_by_seed(found: dict[str, dict[str, Any]]) -> str:
    """The same in one line of markdown, a number for each seed of a ledger's figures, as lesson 10
    recorded it (r1/arrows/<verdict>); "" where that is not there."""
    counts = []
    for verdict in (REPRODUCED, OTHERWISE, LEVEL):
        seeds = found.get(f"r1/arrows/{verdict.replace(' ', '_')}", {}).get("values", {})
        if not seeds:
            return ""
        counts.append(f"{verdict} {', '.join(f'{n:.0f}' for n in seeds.values())}")
    return f"- each seed by itself, with intervals over problems: {'; '.join(counts)}\n"


def arrow_lines(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """Ours and the paper's movements as text, a row a measure and a column a step from one stage to
    the next; the first row is the head. Ours has an arrow only where the interval allows one."""
    ours, marks = table["ours"], {UP: "↑", DOWN: "↓", LEVEL: "≈"}
    steps = list(pairwise(ours))
    lines = [("", *(f"{LABELS[a]} → {LABELS[b]}" for a, b in steps))]
    found = {(one.measure, one.before, one.after): one for one in arrows(ours)}
    for measure, words in MEASURES.items():
        some = [found[measure, a, b] for a, b in steps]
        lines.append((words, *(f"{marks[one.way]} {moved(one)}" for one in some)))
    rows = {(one.paper, one.ours.before, one.ours.after): one for one in beside_paper(table)}
    for name in table["paper"]["measures"]:
        some = [rows.get((name, a, b)) for a, b in steps]
        cells = [
            f"{'↑' if s.stated > 0 else '↓'} {s.stated:+.1f}: {s.verdict}" if s else "–"
            for s in some
        ]
        lines.append((f"paper: {name}", *cells))
    return lines


def moved(one: Arrow) -> str:
    """+12 [+8, +16], in points of per cent, or in tokens for a length; – for NaN."""
    scale = 1 if one.measure == "length" else 100
    value, low, high = (scale * x for x in one.change)
    if math.isnan(value):
        return "–"
    return f"{value:+.0f}" if math.isnan(low) else f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"

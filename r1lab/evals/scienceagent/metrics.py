"""What the evaluation files of runs say: rates of one run, best of several, token F1.

The published score of ScienceAgentBench is the best of three runs a task, chosen by success, then
valid program, CodeBERTScore, lower cost: whoever chooses has seen the answers' marks. It is what
the user of one program gets at best, not what he gets. `single` is the rate of one run.
"""

import io
import json
import math
import tokenize
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import lines_of
from r1lab.statistics import Estimate, Measured, estimate, wilson

#: The fields of a line of an evaluation file; `codebert_score` is null here: no CodeBERT is run.
FIELDS = ("valid_program", "codebert_score", "success_rate", "log_info")
Line = dict[str, Any]


def best_of(evals: Sequence[Sequence[Line]], costs: Sequence[Sequence[float]]) -> list[int]:
    """The run chosen for every task. evals, costs: by run, then by task, in the same order.

    The reference's rule (calculate_metrics.py): the highest success_rate; of these the highest
    valid_program; of these the highest codebert_score; of these the lowest cost; of these the first
    run. Where a score that would decide is null, as in files made here, cost decides."""
    if not evals or len(evals) != len(costs):
        raise R1LabError("best of several runs needs as many run files as evaluation files, not 0")
    sizes = {len(one) for one in (*evals, *costs)}
    if len(sizes) > 1:
        raise R1LabError(f"the files have {sorted(sizes)} lines: each must have one line a task")
    chosen = []
    for task in range(sizes.pop()):
        lines = [run[task] for run in evals]
        left = list(range(len(lines)))
        for name in ("success_rate", "valid_program", "codebert_score"):
            values = [lines[k].get(name) for k in left]
            if None in values:
                continue
            left = [k for k, value in zip(left, values, strict=True) if value == max(values)]
        cheapest = min(costs[k][task] for k in left)
        chosen.append(next(k for k in left if costs[k][task] == cheapest))
    return chosen


def best(evals: Sequence[Sequence[Line]], costs: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The metrics of the chosen runs, under the reference's names: Success Rate, CodeBERTScore
    (None where a line has none), Valid Program Rate, and Cost, dollars a task of the chosen run;
    "Cost of all runs" is what the choice has cost."""
    chosen = best_of(evals, costs)
    lines = [evals[k][task] for task, k in enumerate(chosen)]
    return {
        "Success Rate": _mean(line["success_rate"] for line in lines),
        "CodeBERTScore": _mean(line["codebert_score"] for line in lines),
        "Valid Program Rate": _mean(line["valid_program"] for line in lines),
        "Cost": _mean(costs[k][task] for task, k in enumerate(chosen)),
        "Cost of all runs": sum(_mean(run) for run in costs),
        "runs": len(evals),
    }


def single(*runs: Sequence[Line]) -> dict[str, Estimate]:
    """SR and VER of a single run, with 95 % intervals: of one run Wilson's over the tasks; of
    several their mean, by a bootstrap over the tasks, so that runs of a task are not taken for
    independent tasks. `Measured`: two models can be compared task by task (`statistics.gap`)."""
    found: dict[str, Estimate] = {}
    for name, column in (("SR", "success_rate"), ("VER", "valid_program")):
        tasks = list(zip(*([float(line[column]) for line in run] for run in runs), strict=True))
        each = [sum(values) / len(values) for values in tasks]
        if not each:
            raise R1LabError("an evaluation file has no lines")
        if len(runs) == 1:
            value = Estimate(sum(each) / len(each), *wilson(sum(each), len(each)))
        else:
            value = estimate(each, share=True)
        asked = " ".join(str(line.get("instance_id", k)) for k, line in enumerate(runs[0]))
        found[name] = Measured.of(value, each, asked)
    return found


def cost_per_success(lines: Sequence[Line], costs: Sequence[float]) -> float:
    """Dollars of all tasks over the tasks solved; infinite where none is."""
    solved = sum(float(line["success_rate"]) for line in lines)
    return sum(costs) / solved if solved else math.inf


def by_domain(lines: Sequence[Line], domains: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Solved tasks and all tasks of each domain, in order of appearance."""
    found: dict[str, tuple[int, int]] = {}
    for line, domain in zip(lines, domains, strict=True):
        solved, tasks = found.get(domain, (0, 0))
        found[domain] = (solved + int(line["success_rate"] == 1), tasks + 1)
    return found


def read_lines(path: str | Path) -> list[Line]:
    """A JSONL file; R1LabError names the line that is none."""
    found = []
    for number, line in enumerate(lines_of(path), 1):
        try:
            found += [json.loads(line)] if line.strip() else []
        except ValueError:
            raise R1LabError(f"{path}, line {number}: no JSON") from None
    return found


def token_f1(program: str, gold: str) -> float:
    """F1 of the two programs' tokens as multisets, comments and layout left out: how alike two
    texts are, on a scale from 0 to 1. It stands beside success under its own name, and is no
    CodeBERTScore: it knows no synonyms, and its values cannot be compared with that one's."""
    ours, theirs = Counter(_tokens(program)), Counter(_tokens(gold))
    both = sum((ours & theirs).values())
    if not both:
        return 0.0
    return 2 * both / (sum(ours.values()) + sum(theirs.values()))


def _tokens(program: str) -> list[str]:
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    found = []
    try:
        for one in tokenize.generate_tokens(io.StringIO(program).readline):
            if one.type not in layout and one.string:
                found.append(one.string)
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass  # what could be read of a program that is none
    return found


def _mean(values: Any) -> float | None:
    values = list(values)
    return None if None in values else sum(values) / len(values)

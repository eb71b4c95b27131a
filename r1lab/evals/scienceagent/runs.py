"""A run: every task once, in two JSONL files of the benchmark's formats.

    FOLDER/about.json           model, agent, benchmark, prices: a run goes on with the same alone
    FOLDER/run.jsonl            a line a task: history, cost, and tokens
    FOLDER/pred_programs/       pred_<gold_program_name>, as the reference's harness wants them
    FOLDER/eval.jsonl           a line a task: valid_program, codebert_score, success_rate, log_info

Both files stand in the order of the table, and a task is a line only when it is done: stopped
anywhere, the same call goes on at the first task without a line. A task whose answers cost money
when the run was stopped is asked again; what it had cost is in spent.json and counts.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from r1lab import PROJECT
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.files import append_lines, atomic_write_text
from r1lab.evals.scienceagent import agents, harness, metrics
from r1lab.evals.scienceagent.benchmark import Benchmark, Task
from r1lab.sandbox.workspace import Workspace

AGENTS = ("direct", "self-debug")
RUN, EVAL, PROGRAMS = "run.jsonl", "eval.jsonl", "pred_programs"
ABOUT, SPENT = "about.json", "spent.json"
SHIPPED = PROJECT / "data" / "scienceagent-mini" / "runs"
Line = metrics.Line


class OverBudget(R1LabError):
    """The run has stopped at its budget: with more, the same command goes on."""


def ask(
    model: Any,
    benchmark: Benchmark,
    folder: str | Path,
    box: Workspace,
    *,
    agent: str = "self-debug",
    knowledge: bool = False,
    budget: float | None = None,
    told: Callable[[Task, Line], None] = lambda task, line: None,
) -> list[Line]:
    """Asks a model for a program for every task that has none yet; the lines of the run file.
    budget: dollars of the whole run; a model with `most(messages)` is not asked what could exceed
    it. told: hears of every line. Raises OverBudget, and goes on with a larger one."""
    if agent not in AGENTS:
        raise R1LabError(f"there is no agent '{agent}': {' or '.join(AGENTS)}")
    folder = Path(folder)
    numbers = [task.instance_id for task in benchmark.tasks]
    describe(folder, agent=agent, knowledge=knowledge, tasks=numbers)
    lines = _whole(folder / RUN, benchmark)
    spent = sum(line["cost"] for line in lines) + lost(folder, lines)
    for task in benchmark.tasks[len(lines) :]:
        metered = _Metered(model, folder, task, lost(folder, lines), spent, budget)
        if agent == "direct":
            solution = agents.direct(metered, task, knowledge)
        else:
            afford = metered.affords
            solution = agents.self_debug(metered, benchmark, task, box, knowledge, afford)
        atomic_write_text(folder / PROGRAMS / task.program_name, solution.program + "\n")
        line = solution.line(task)
        line["cost"] = metered.cost
        append_lines(folder / RUN, [line])
        lines.append(line)
        spent += line["cost"]
        told(task, line)
    return lines


def judge(
    benchmark: Benchmark,
    programs: str | Path,
    log: str | Path,
    box: Workspace | None = None,
    *,
    faults: Collection[str] = (),
    told: Callable[[Task, Line], None] = lambda task, line: None,
) -> list[Line]:
    """Runs and judges pred_<gold_program_name> of a folder for every task that has no line in the
    evaluation file `log` yet; its lines. A program that is missing is not valid."""
    texts, lines = programs_in(programs, benchmark), _whole(Path(log), benchmark)

    def keep(task: Task, line: Line) -> None:
        append_lines(log, [line])
        told(task, line)

    rest = Benchmark(benchmark.tasks[len(lines) :], benchmark.root, benchmark.name)
    return lines + judge_texts(rest, texts, box, faults=faults, told=keep)


def judge_texts(
    benchmark: Benchmark,
    programs: dict[int, str],
    box: Workspace | None = None,
    *,
    faults: Collection[str] = (),
    told: Callable[[Task, Line], None] = lambda task, line: None,
) -> list[Line]:
    """The same of programs by instance_id, kept in no file; without `box`, in a new sandbox."""
    if box is None and benchmark.tasks:
        with harness.workspace(faults) as box:
            return judge_texts(benchmark, programs, box, faults=faults, told=told)
    lines = []
    for task in benchmark.tasks:
        program = programs.get(task.instance_id, "")
        line = harness.evaluate(benchmark, task, program, box, faults)
        lines.append(line)
        told(task, line)
    return lines


def replay(
    name: str, benchmark: Benchmark, box: Workspace | None = None, faults: Collection[str] = ()
) -> dict[str, list[Line]]:
    """Judges the programs of a run file again: {"run": its lines, "eval": what became of them}, of
    the benchmark's tasks. name: of a run that ships (`shipped()`), or a file's path."""
    lines = read_run(name)
    found = judge_texts(benchmark, programs_of(lines, benchmark), box, faults=faults)
    return {"run": [line for _, line in numbered(lines, benchmark)], "eval": found}


def read_run(name: str) -> list[Line]:
    """The lines of a run file, of one that ships or of a file's path."""
    path = Path(name) if name.endswith(".jsonl") else SHIPPED / f"{name}.jsonl"
    if not path.is_file():
        raise R1LabError(f"there is no run '{name}'{did_you_mean(name, shipped())}")
    return metrics.read_lines(path)


def shipped() -> list[str]:
    """The names of the committed runs of scripted agents on the miniature."""
    return sorted(path.stem for path in SHIPPED.glob("*.jsonl"))


def programs_in(folder: str | Path, benchmark: Benchmark) -> dict[int, str]:
    """The texts of pred_<gold_program_name> in a folder, by instance_id; "" where there is none."""
    paths = {task.instance_id: Path(folder, task.program_name) for task in benchmark.tasks}
    return {k: p.read_text("utf-8", "replace") if p.is_file() else "" for k, p in paths.items()}


def programs_of(lines: Iterable[Line], benchmark: Benchmark) -> dict[int, str]:
    """The last program of every line of a run file, by instance_id."""
    found = {}
    for number, line in numbered(lines, benchmark):
        answers = [one["content"] for one in line["history"] if one["role"] == "assistant"]
        found[number] = agents.program_of(answers[-1]) if answers else harness.NO_PROGRAM
    return found


def numbered(lines: Iterable[Line], benchmark: Benchmark) -> list[tuple[int, Line]]:
    """The lines of the benchmark's tasks by instance_id: their own, or by place in the table."""
    numbers = [task.instance_id for task in benchmark.tasks]
    places = enumerate(lines)
    found = [(line.get("instance_id", (*numbers[k : k + 1], None)[0]), line) for k, line in places]
    return [(number, line) for number, line in found if number in numbers]


def lost(folder: str | Path, lines: Iterable[Line]) -> float:
    """Dollars of tasks that were stopped before they had one of these lines."""
    try:
        found = json.loads(Path(folder, SPENT).read_text("utf-8"))
        done = found["instance_id"] in {line.get("instance_id") for line in lines}
        return float(found["lost"]) + (0.0 if done else float(found["dollars"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


# --- inside --------------------------------------------------------------------------------------


class _Metered:
    """A model whose spending is written down before the answer is used. cost: of this task."""

    def __init__(
        self, model: Any, folder: Path, task: Task, lost: float, spent: float, budget: float | None
    ) -> None:
        self.model, self.path, self.cost = model, folder / SPENT, 0.0
        self.spent, self.budget = spent, budget
        self.about = {"lost": lost, "instance_id": task.instance_id}

    def affords(self, messages: list[dict[str, str]]) -> bool:
        """Is there money for one more request?"""
        if self.budget is None:
            return True
        most = getattr(self.model, "most", lambda messages: 0.0)(messages)
        spent = self.spent + self.cost
        return spent + most <= self.budget and spent < self.budget

    def complete(self, messages: list[dict[str, str]], **options: Any) -> Any:
        if not self.affords(messages):
            words = f"${self.spent + self.cost:.4f} of ${self.budget:.4f} are spent, and the next"
            raise OverBudget(f"{words} request could cost more: a larger budget goes on from here")
        already = getattr(self.model, "spent", None)
        try:
            reply = self.model.complete(messages, **options)
            if already is None:
                self.cost += getattr(reply, "dollars", None) or 0.0
            return reply
        finally:
            if already is not None:
                self.cost += self.model.spent - already
            text = json.dumps(self.about | {"dollars": self.cost})
            atomic_write_text(self.path, text + "\n")


def describe(folder: str | Path, **about: Any) -> None:
    """Writes what a run is of, or adds to it; R1LabError where the folder holds another."""
    path = Path(folder, ABOUT)
    if path.exists():
        old = json.loads(path.read_text("utf-8"))
        for name, value in about.items():
            if name in old and old[name] != value:
                shown = "other tasks" if name == "tasks" else f"{name} {old[name]}"
                raise R1LabError(f"{folder} holds a run with {shown}: name another folder")
        about = old | about
    atomic_write_text(path, json.dumps(about, indent=1) + "\n")


def _whole(path: Path, benchmark: Benchmark) -> list[Line]:
    """The lines of a file, without a last one that was cut; R1LabError for another benchmark's."""
    if not path.exists():
        return []
    data = path.read_bytes()
    if (end := data.rfind(b"\n") + 1) < len(data):
        os.truncate(path, end)
    lines = metrics.read_lines(path)
    pairs = zip(lines, benchmark.tasks, strict=False)
    others = any(line.get("instance_id") not in (None, task.instance_id) for line, task in pairs)
    if len(lines) > len(benchmark) or others:
        raise R1LabError(f"{path} holds lines of other tasks: name another file")
    return lines

"""A run of an evaluation in a folder: every answer kept, resumable, budgeted; its numbers.

    run.json        what the run is, and every session that worked on it: versions, machine, prices
    problems.jsonl  the problems, with the data of their verifier
    answers.jsonl   one line a completion: prompt, completion, seed, tokens, dollars, verdict
    attempts.jsonl  requests that gave no completion: why, and what they cost
    results.json    the numbers, computed from these files alone (`load(folder).results()`)

A line is on disk before its request counts as done, and what is kept is never asked again: a run
that is stopped, killed or out of money goes on with the same command to the same numbers, and a
dollar that is in a line is counted once. What a server did for a process that was killed before it
could write is in no line; the server's bill is higher by that.

Numbers are over the problems that have all k completions. While some are missing (requests that
failed for good), the results say how many: long thoughts time out more often than short ones.
"""

import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm.std import tqdm

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.evals.endpoint import Attempt
from r1lab.evals.kept import ANSWERS, ATTEMPTS, PROBLEMS, RESULTS, RUN, Run, about_of, load
from r1lab.evals.sources import Local, Remote, Sample, measured
from r1lab.machine import about
from r1lab.machine.costs import money
from r1lab.sampler.draw import Sampling
from r1lab.tasks.base import Problem, distinct
from r1lab.templates import render
from r1lab.training.loop import one_run

PAPER = Sampling(max_new_tokens=32_768, temperature=0.6, top_p=0.95, seed=0)
"""How the paper evaluates: temperature 0.6, top-p 0.95, at most 32,768 tokens, 4 to 64 samples a
problem (section D.1 and Nature's Methods)."""


@dataclass(frozen=True)
class Plan:
    """What is asked: k completions of each of the first n problems of a task's split. options: of
    the task, as plain values. The same plan, source and problems are the same run."""

    task: str
    split: str = "held_out"
    n: int = 256
    k: int = 16
    template: str = "tiny"
    sampling: Sampling = PAPER
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def run(
    source: Local | Remote,
    task: Any,
    plan: Plan,
    out: str | os.PathLike,
    *,
    max_dollars: float | None = None,
    progress: bool = False,
    fresh: bool = False,
) -> Run:
    """Ask for what the folder `out` does not have yet, and return what it has then.

    max_dollars: of the whole run, earlier sessions included. A request is only sent where the most
    that it can cost still fits, so an endpoint's run never passes it; a local one stops before the
    batch that would. fresh: an earlier run in the folder is set aside. Raises R1LabError where the
    folder holds another run, and where the source cannot answer; what was answered is kept.
    """
    out = Path(out)
    problems = distinct(task.problems(plan.split, plan.n))
    source.check(problems, plan.k)
    with one_run(out):
        if fresh:
            files.set_aside(out, [RUN, PROBLEMS, ANSWERS, ATTEMPTS, RESULTS])
        _begin(out, source, plan, problems)
        kept = load(out)
        todo = [one for one in samples(problems, plan.k) if one[:2] not in kept.rows]
        keep = Keeper(out, task, plan, kept, max_dollars, progress)
        try:
            if todo:
                source.answer(problems, plan.k, todo, keep)
        finally:
            keep.close()
            found = load(out)
            found.stopped_by_budget = keep.stopped_by_budget
            files.write_json(out / RESULTS, found.results())
    return found


def forecast(source: Remote, task: Any, plan: Plan) -> str:
    """What a run will ask for, and the most that it can cost, in words."""
    asked = samples(distinct(task.problems(plan.split, plan.n)), plan.k)
    words = f"{len(asked):,} requests to {source.endpoint.url}, {source.jobs} at a time"
    if (tariff := source.endpoint.tariff) is None:
        return f"{words}; no dollars are counted without --tariff"
    most = sum(source.endpoint.most(source.body(one)) for one in asked)
    return f"{words}; at most {money(most)} at {tariff.words()}"


def samples(problems: Sequence[Problem], k: int) -> list[Sample]:
    """All samples of a run, problem by problem: what a budget leaves out is whole problems."""
    return [Sample(i, j, problem) for i, problem in enumerate(problems) for j in range(k)]


def _begin(out: Path, source: Local | Remote, plan: Plan, problems: Sequence[Problem]) -> None:
    """Writes what the run is, or checks that it is this one; mends files; notes the session."""
    lines = "".join(problem.to_json() + "\n" for problem in problems)
    what = json.loads(json.dumps(asdict(plan) | {"source": source.about()}, default=str))
    what["problems"] = hashlib.sha256(lines.encode("utf-8", "replace")).hexdigest()
    known = about_of(out)
    text = "".join(files.to_json(asdict(one), sort_keys=True) + "\n" for one in problems)
    same = (out / PROBLEMS).exists() and (out / PROBLEMS).read_bytes() == text.encode()
    others = [RUN, ANSWERS] if same else [RUN, ANSWERS, PROBLEMS]
    if known is None and any((out / name).exists() for name in others):
        raise R1LabError(f"{out / RUN} is missing or damaged; --fresh sets what is there aside")
    if known is not None and (other := differences(known["what"], what)):
        words = f"{out} holds another run ({other[0]}): choose another --out"
        raise R1LabError(f"{words}, or --fresh to set it aside")
    for name in (ANSWERS, ATTEMPTS):
        mend(out / name)
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    session = {"began": began, "versions": about.versions(), "machine": about.hardware()}
    session["source"] = address_of(source)
    if not same:
        files.atomic_write_text(out / PROBLEMS, text)
    sessions = [*(known["sessions"] if known else []), session]
    files.write_json(out / RUN, {"what": what, "sessions": sessions})


def address_of(source: Local | Remote) -> dict[str, Any]:
    """Where an endpoint is, and what dollars are counted by."""
    if isinstance(source, Local):
        return {"dollars_per_hour": source.dollars_per_hour}
    tariff = source.endpoint.tariff
    return {"url": source.endpoint.url, "tariff": None if tariff is None else asdict(tariff)}


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The entries that differ, in words."""
    names = dict.fromkeys([*one, *other])
    return [
        f"{name}: {str(one.get(name))[:80]} there, {str(other.get(name))[:80]} asked"
        for name in names
        if one.get(name) != other.get(name)
    ]


def mend(path: Path) -> None:
    """Cuts an unfinished last line off, which the next line would be glued to."""
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        files.atomic_write_bytes(path, data[: data.rfind(b"\n") + 1])


# --- while it runs -------------------------------------------------------------------------------


class Keeper:
    """Measures and writes what a source draws, and counts the money."""

    def __init__(
        self, out: Path, task: Any, plan: Plan, kept: Run, most: float | None, progress: bool
    ) -> None:
        self.out, self.task, self.plan, self.run, self.most = out, task, plan, kept, most
        self.kept = len(kept.rows)
        self.spent = (kept.dollars or 0.0) + kept.unsure
        self.stopped_by_budget = False
        self._held: dict[tuple[int, int], float] = {}
        self._lock = threading.RLock()  # attempts are noted by the thread that made them
        self._largest, self._tokens, self._began = 0.0, 0, time.monotonic()
        session = kept.about["sessions"][-1]
        self._versions = {"r1lab": session["versions"]["r1lab"]}
        self._session = len(kept.about["sessions"]) - 1
        total = len(kept.problems) * kept.k
        self._bar = tqdm(
            total=total, initial=self.kept, unit="completion", desc=plan.task,
            disable=not progress, mininterval=0.5 if sys.stderr.isatty() else 60.0,
        )  # fmt: skip

    def rows(self, found: Sequence[tuple[int, int, dict[str, Any]]]) -> None:
        """Completions (index, sample, fields): judged, written, counted."""
        problems, rows = [], []
        for index, sample, fields in found:
            problem = self.run.problems[index]
            problems.append(problem)
            rows.append({
                "problem": problem.id, "index": index, "sample": sample,
                "prompt": render(problem, self.plan.template), **fields,
                "session": self._session, "versions": self._versions, "at": time.time(),
            })  # fmt: skip
        measured(self.task, self.plan.template, problems, rows)
        files.append_lines(self.out / ANSWERS, rows)
        self.kept += len(rows)
        cost = sum(row["dollars"] or 0.0 for row in rows)
        with self._lock:
            self.spent, self._largest = self.spent + cost, max(self._largest, cost)
            for row in rows:
                self._held.pop((row["index"], row["sample"]), None)
        self._tokens += sum(row["completion_tokens"] for row in rows)
        speed = self._tokens / max(1e-9, time.monotonic() - self._began)
        self._bar.set_postfix_str(f"{speed:,.0f} tokens/s, {money(self.spent)}", refresh=False)
        self._bar.update(len(rows))

    def attempt(self, sample: Sample, one: Attempt) -> None:
        """A request that gave no completion."""
        with self._lock:
            self.spent += one.dollars or 0.0
            self._note(sample, asdict(one))

    def room(self) -> bool:
        """Does what is set aside, failed requests counted at their most, still fit the budget?"""
        with self._lock:
            held = sum(self._held.values())
            fits = self.most is None or self.spent + held <= self.most
            self.stopped_by_budget |= not fits
            return fits

    def gave_up(self, sample: Sample, reason: str) -> None:
        """A sample that is not asked again in this session."""
        self._note(sample, {"gave_up": True, "reason": reason, "dollars": 0, "certain": True})

    def _note(self, sample: Sample, fields: dict[str, Any]) -> None:
        key = {"problem": sample.problem.id, "index": sample.index, "sample": sample.number}
        files.append_lines(self.out / ATTEMPTS, [key | fields | {"session": self._session}])

    def reserve(self, sample: Sample, most: float) -> bool:
        """Sets aside what a request can cost at most; False where the budget has no room."""
        with self._lock:
            held = sum(self._held.values())
            if self.most is not None and self.spent + held + most > self.most:
                self.stopped_by_budget |= not held
                return False
            self._held[sample[:2]] = most
            return True

    def release(self, sample: Sample) -> None:
        with self._lock:
            self._held.pop(sample[:2], None)

    def full(self) -> bool:
        """Would another batch like the dearest one so far pass the budget?"""
        self.stopped_by_budget = self.most is not None and self.spent + self._largest >= self.most
        return self.stopped_by_budget

    def close(self) -> None:
        self._bar.close()

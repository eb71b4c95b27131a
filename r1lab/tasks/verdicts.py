"""A batch of answers judged at once: programs run side by side (`tasks.code`).

A verifier that fails must not end a run: its answer counts as wrong, and the log says so once. Only
a verdict that the sandbox could not reach is None: neither right nor wrong.
"""

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from r1lab.tasks.base import Problem, Task
from r1lab.tasks.registry import get_task

logger = logging.getLogger(__name__)

Pair = tuple[Problem, str | None]  # the answer; None: the completion has none


def judge_all(pairs: Sequence[Pair], task: Task | None = None) -> list[float | None]:
    """The verdicts on N answers, in order: of a task with `judge_all` on all its answers at once.
    task: of all problems; by default the one that each names. Raises R1LabError where programs are
    to run and no sandbox contains them."""
    verdicts: list[float | None] = [0.0] * len(pairs)
    batches: dict[str, list[int]] = {}
    for i, (problem, answer) in enumerate(pairs):
        if answer is not None:
            batches.setdefault(problem.task, []).append(i)
    for name, rows in batches.items():
        try:
            verifier = member(task or get_task(name), pairs[rows[0]][0])
        except Exception as error:  # an unknown task
            report(f"{name}: {type(error).__name__}: {error}"[:300])
            continue
        if hasattr(verifier, "judge_all"):
            for i, verdict in zip(rows, verifier.judge_all([pairs[i] for i in rows]), strict=True):
                verdicts[i] = None if verdict is None else float(verdict)
        else:
            for i in rows:
                verdicts[i] = guarded(partial(_score, verifier), *pairs[i]) or 0.0
    return verdicts


def _score(task: Task, problem: Problem, answer: str) -> float:
    return float(task.judge(problem, answer))


def member(task: Task, problem: Problem) -> Task:
    """The task that verifies a problem: of a mixture its member."""
    return task.task_of(problem) if hasattr(task, "task_of") else task


def guarded(verify: Callable, problem: Problem, answer: str) -> Any:
    """A task's `judge` or `vote` of an answer; None where it fails."""
    try:
        return verify(problem, answer)
    except Exception as error:
        report(f"{problem.task}: {type(error).__name__}: {error}"[:300])
        return None


@lru_cache(maxsize=64)
def report(reason: str) -> None:
    logger.warning("an answer counts as wrong because its verifier failed: %s", reason)

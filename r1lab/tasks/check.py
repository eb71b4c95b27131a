"""Does a task's verifier accept solutions and refuse wrong answers? RL exploits false positives.

Kinds of wrong answers: `changed`, one number of the solution changed; `others`, solutions of other
problems (unless `vote` calls them equal); `noise`, markup, and two answers at once; `own`, what the
task's optional `wrong(problem)` lists. Where a problem may have several right answers (the task's
optional `many_answers`), the first two could be right and are left out.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import Problem, Task

NOISE = ["", " ", ".", "?", "\0", "None", "nan", "( )", "\\boxed{}", "<answer>", "\ud800"]
NOISE += ["1" * 9999]
KEEP = 5  # faults of each kind that are reported


@dataclass
class Report:
    """right: accepted solutions. tried, accepted: wrong answers of each kind. faults: sentences."""

    problems: int
    right: int = 0
    tried: Counter = field(default_factory=Counter)
    accepted: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0  # milliseconds, of one verdict

    @property
    def ok(self) -> bool:
        return not self.faults


def check(task: Task, n: int = 50, seed: int = 0) -> Report:
    """Verify solutions and wrong answers of `n` train problems. Raises R1LabError for a task
    without `solution(problem)`."""
    if not hasattr(task, "solution"):
        raise R1LabError(f"the task {task.name} has no solution(problem), a right answer as text")
    problems = task.problems("train", n, seed)
    report = Report(len(problems))
    said: Counter = Counter()

    def fault(kind: str, words: str) -> None:
        said[kind] += 1
        if said[kind] <= KEEP:
            report.faults.append(words)

    if len(problems) != n or problems != task.problems("train", n, seed):
        fault("draw", f"problems('train', {n}, {seed}) must give {n} problems, the same each time")
    held_out = {problem.id for problem in task.problems("held_out", n, seed)}
    for problem in problems:
        if problem.id in held_out:
            fault("split", f"{problem.id} is in train and held_out")
        if Problem.from_json(problem.to_json()) != problem:
            fault("json", f"{problem.id} is another problem after JSON: {problem.data}")

    def accepts(problem: Problem, answer: str) -> bool:
        began = time.perf_counter()
        try:
            verdict = task.judge(problem, answer)
        except Exception as error:
            fault("raises", f"{problem.id}: {answer!r:.60} makes judge raise {error!r:.200}")
            return False
        report.slowest = max(report.slowest, 1000 * (time.perf_counter() - began))
        return bool(verdict)

    solutions = [task.solution(problem) for problem in problems]
    if problems and not any(solutions):
        raise R1LabError(f"no problem of {task.name} comes with a solution to check it by")
    for i, (problem, solution) in enumerate(zip(problems, solutions, strict=True)):
        if not isinstance(solution, str) or not accepts(problem, solution):
            fault("refused", f"{problem.id}: the solution {solution!r:.80} is refused")
            continue
        report.right += 1
        if task.vote(problem, solution) is None:
            fault("vote", f"{problem.id}: the solution {solution!r:.80} has no vote")
        others = solutions[i + 1 : i + 4] + solutions[: max(0, i + 4 - len(solutions))]
        for kind, answer in wrong_answers(task, problem, solution, others):
            report.tried[kind] += 1
            if accepts(problem, answer):
                report.accepted[kind] += 1
                fault(kind, f"{problem.id}: {answer!r:.80} is accepted; right is {solution!r:.80}")
    if report.right and not report.tried:
        fault("untried", "vote calls every answer the same, so no wrong one could be tried")
    return report


def wrong_answers(
    task: Task, problem: Problem, solution: str, others: Sequence[str | None]
) -> Iterator[tuple[str, str]]:
    """(kind, answer); others: solutions of other problems."""
    right = task.vote(problem, solution)

    def differ(answers: Sequence[str | None]) -> list[str]:
        return [a for a in answers if isinstance(a, str) and task.vote(problem, a) != right]

    def changed_by(k: int) -> list[str]:
        found = re.finditer("[0-9]{1,15}", solution)
        return [f"{solution[: m.start()]}{int(m[0]) + k}{solution[m.end() :]}" for m in found]

    changed = changed_by(1)
    if not getattr(task, "many_answers", False):
        yield from (("changed", answer) for answer in changed)
        yield from (("others", answer) for answer in differ(others))
    yield from (("noise", answer) for answer in differ(NOISE))
    if changed:  # two answers, one of them right: the verifier must not choose
        other = changed_by(37)[0]  # far enough to be no other part of the solution
        twice = (f"{solution} or {other}", f"{other} or {solution}", f"{solution} {solution}")
        yield from (("noise", answer) for answer in twice)
    yield from (("own", answer) for answer in getattr(task, "wrong", lambda problem: ())(problem))

"""The tasks gym:NAME: problems of any of reasoning-gym's generators, with verifiers that are safe.

    r1lab tasks check gym:knights_knaves
    r1lab train --task gym:sudoku --task-option max_empty=30 --model Qwen/Qwen2.5-1.5B

**Splits** go by content, not by seed: reasoning-gym's data sets of neighbouring seeds share nearly
all items, since item i of seed s is item 0 of seed s + i. A tenth of the contents is held out; the
content is what the verifier needs to know of the puzzle, or the question.

**Verdicts** are yes or no, by the table of `checkers`, or by reasoning-gym's scorer in the sandbox.
"""

import hashlib
import json
import logging
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.tasks.base import Problem, split_of_content
from r1lab.tasks.code.values import to_plain
from r1lab.tasks.gym import package, reading, scorer
from r1lab.tasks.gym.checkers import CHECKERS
from r1lab.tasks.hub import known_split

log = logging.getLogger(__name__)

PATIENCE = 1000  # after so many draws in a row without a new problem a split is used up
BROKEN = (LookupError, TypeError, ValueError, AttributeError)  # a problem without its data


class Gym:
    """Problems of a generator of reasoning-gym, by its name (see `r1lab.tasks.base.Task`); the
    splits train and held_out.

    config  options of the generator, n_people=3: its `Config` class in the package lists them"""

    def __init__(self, generator: str, **config: Any) -> None:
        package.known(generator)
        for name in ("seed", "size"):
            if name in config:
                raise R1LabError(f"gym:{generator}: bad option: {name} (problems() takes it)")
        if config:
            package.dataset(generator, {**config, "seed": 0})  # are the options its own?
        self.generator, self.config, self.name = generator, config, f"gym:{generator}"

    @property
    def many_answers(self) -> bool:
        """May a problem have several right answers?"""
        return self.generator not in CHECKERS or CHECKERS[self.generator].many

    @cached_property
    def _options(self) -> str:
        return json.dumps(self.config, sort_keys=True, default=repr)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        """`n` problems of a split, the first m the same for n >= m; none comes twice before a
        thousand draws bring no new one. A held-out problem costs ten draws."""
        known_split(self.name, split)
        rng = random.Random(f"{self.name}/{self._options}/{split}/{seed}")
        drawn: list[Problem] = []
        seen: set[str] = set()
        failed = None
        while len(drawn) < n:
            for _ in range(PATIENCE):
                try:
                    problem = self.draw(rng.getrandbits(31))
                except R1LabError:
                    raise
                except Exception as error:  # a generator that fails on a seed
                    failed, problem = error, None
                if problem and problem.split == split and problem.id not in seen:
                    seen.add(problem.id)
                    drawn.append(problem)
                    break
            else:
                if not drawn:
                    reason = f" ({type(failed).__name__}: {failed})" if failed else ""
                    raise R1LabError(f"{self.name} has no problem in {split}{reason}")
                log.warning("%s: %s has %d different problems", self.name, split, len(seen))
                drawn += [drawn[i % len(drawn)] for i in range(n - len(drawn))]
        return drawn

    def draw(self, seed: int) -> Problem | None:
        """The problem of a seed of reasoning-gym's; None if its own solution is not right."""
        item, data = package.item(self.generator, seed, self.config), {"generator": self.generator}
        data["solution"] = solution_of(self.generator, item)
        question = item["question"].strip()
        if checker := CHECKERS.get(self.generator):
            facts = json.loads(json.dumps(checker.facts(item["metadata"]) if checker.facts else {}))
            content = json.dumps(facts, sort_keys=True) if facts else checker.same(question)
            data |= facts
        else:
            content = question
            if self.generator in scorer.EVALUATE and not scorer.is_formula(data["solution"]):
                return None  # sympy has not found the integral
            entry = {"answer": item["answer"], "metadata": item["metadata"]}
            data |= {"config": self.config, "entry": to_plain(entry)}
        known = content if checker and checker.facts else f"{content}={data['solution']}"
        tag = hashlib.sha256(known.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        side = split_of_content(f"{self.name}/{content}")
        split = "held_out" if side == "held_out" else "train"
        problem = Problem(self.name, f"{self.name}/{tag}", question, "en", split, data)
        return None if checker and not self.judge(problem, data["solution"]) else problem

    def judge(self, problem: Problem, answer: str) -> bool | None:
        """Is the answer right?  None where the sandbox failed."""
        return self.judge_all([(problem, answer)])[0]

    def judge_all(self, pairs: Sequence[tuple[Problem, str]]) -> list[bool | None]:
        """Verdicts, in order. Raises R1LabError where a scorer is to run and no sandbox holds."""
        found: list[bool | None] = [False] * len(pairs)
        scored = {}
        for i, (problem, answer) in enumerate(pairs):
            try:
                if (value := value_of(problem, answer)) is None:
                    continue
                if checker := CHECKERS.get(problem.data["generator"]):
                    found[i] = bool(checker.right(value, problem.data))
                elif problem.data["entry"] and isinstance(problem.data["config"], dict):
                    scored[i] = problem.data, answer
            except BROKEN:
                continue
        verdicts = scorer.judge_all(list(scored.values()))
        for i, verdict in zip(scored, verdicts, strict=True):
            found[i] = verdict
        return found

    def vote(self, problem: Problem, answer: str) -> str | None:
        """The answer's value as JSON."""
        try:
            value = value_of(problem, answer)
            return None if value is None else json.dumps(value, sort_keys=True, default=str)
        except BROKEN:
            return None

    def solution(self, problem: Problem) -> str | None:
        """reasoning-gym's; None for the few generators that have none (rush_hour, boxnet)."""
        return problem.data.get("solution")

    def wrong(self, problem: Problem) -> Iterator[str]:
        """For `r1lab tasks check`: what no verifier may accept."""
        if solution := problem.data.get("solution"):
            yield f"x{solution}"
            yield f"{solution}\n\n{solution}"
            if self.generator in CHECKERS and len(solution) > 12:  # 0.00 may be near 0.0078
                yield solution[: len(solution) // 2]


def value_of(problem: Problem, answer: object) -> Any:
    """What an answer says (`reading`), or None."""
    if not isinstance(answer, str) or len(answer) > reading.MOST or not answer.strip():
        return None
    checker = CHECKERS.get(problem.data["generator"])
    return checker.read(answer, problem.data) if checker else reading.text(answer)


def solution_of(generator: str, item: dict[str, Any]) -> str | None:
    """A right answer: the item's, or an example in its metadata."""
    if generator == "graph_color":
        return json.dumps(item["metadata"]["possible_answer"])
    if generator == "propositional_logic":
        return item["metadata"]["example_answer"]
    return item["answer"]

"""reasoning-gym's own scorers, on a model's text: in the sandbox, with limits, yes or no.

They give wrong answers 0.01 to 0.9 too; only the full score counts. Three of them hand the answer
to sympy's parser, which is `eval`: a text that could say anything but a formula does not get there,
since it would share a process with the solution.
"""

import re
import threading
from collections.abc import Sequence
from os import environ
from typing import Any

from r1lab.sandbox import Case, Limits, Sandbox
from r1lab.sandbox.client import WEAK
from r1lab.tasks.code.values import from_plain

LIMITS = Limits(cpu=2.0, memory=512 << 20)
SOURCE = "from r1lab.tasks.gym.inside import score"

EVALUATE = ("intermediate_integration", "simple_integration", "polynomial_multiplication")
_NAME = re.compile("[a-zA-Z]|a?(?:sin|cos|tan)h?|exp|log|sqrt|pi")
_lock = threading.Lock()
_sandbox: Sandbox | None = None


def sandbox() -> Sandbox:
    """One whose processes have imported `inside`; it starts when it is first asked."""
    global _sandbox
    with _lock:
        if _sandbox is None:
            weak = environ.get(WEAK) == "1"
            _sandbox = Sandbox(modules=["r1lab.tasks.gym.inside"], weak=weak)
        return _sandbox


def judge_all(asked: Sequence[tuple[dict[str, Any], str]]) -> list[bool | None]:
    """The verdicts on (a problem's data, the answer), each in a process of its own; None where the
    sandbox failed. Raises R1LabError where nothing contains a program."""
    found: list[bool | None] = [False] * len(asked)
    jobs = {}
    for i, (data, answer) in enumerate(asked):
        if data["generator"] not in EVALUATE or is_formula(answer, str(data.get("solution"))):
            told = data["generator"], data["config"], from_plain(data["entry"]), answer
            jobs[i] = (SOURCE, "score", [Case(told, True)])
    if jobs:
        verdicts = sandbox().judge_all(jobs.values(), limits=LIMITS)
        for i, verdict in zip(jobs, verdicts, strict=True):
            found[i] = verdict.passed
    return found


def is_formula(answer: str, solution: str | None = None) -> bool:
    """Numbers, variables of one letter, known functions, operators and parentheses alone, and no
    tower of powers (9**9**9). With a solution: its variables alone, and C, since any other letter
    would be a constant of integration."""
    if len(answer) > 1000 or not re.fullmatch(r"[0-9a-zA-Z.+\-*/() ]+", answer):
        return False
    if re.search(r"\*\*[-0-9a-zA-Z.( ]*\*\*", answer):
        return False
    names = re.findall("[a-zA-Z]+", answer)
    known = {"C", "c", *re.findall("[a-zA-Z]+", solution or "")}
    letters = {name for name in names if len(name) == 1}
    return all(map(_NAME.fullmatch, names)) and (solution is None or letters <= known)

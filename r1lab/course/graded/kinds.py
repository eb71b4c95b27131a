"""An exercise as data: its text, starter, solution, wrong attempts and hints, and how it is judged.

A module `lesson_NN` declares exercises with `fill` (write a function), `predict` (a number) and
`design` (an experiment, whose result is judged). The decorated function is the judge: its docstring
is the text, its argument the student's answer. It returns where the answer is right and raises
`Wrong` with what is wrong where it is not. Solution and wrong attempts are source code, and the
answer is the last name that they define.

A wrong attempt is (what the judge must name, code), or (what it must name, old, new): the solution
with `old` replaced. The tests run all of them.
"""

import ast
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


class Wrong(Exception):
    """What is wrong with an answer, in words for the student; never the solution."""


@dataclass(frozen=True)
class Exercise:
    """id: "03.2". then: code that uses the answer, run where it is right."""

    id: str
    kind: str
    title: str
    text: str
    starter: str
    solution: str
    wrong: tuple[tuple[str, ...], ...]
    hints: tuple[str, str, str]
    judge: Callable[[Any], None]
    then: str = ""

    @property
    def name(self) -> str:
        """The name of the answer: the last that the solution defines."""
        last = ast.parse(self.solution).body[-1]
        return last.name if isinstance(last, ast.FunctionDef) else last.targets[0].id

    @property
    def attempts(self) -> list[tuple[str, str]]:
        """The wrong attempts: (what must be named, code)."""
        made = []
        for named, *rest in self.wrong:
            if len(rest) == 2 and rest[0] not in self.solution:
                raise ValueError(f"{self.id}: the solution has no {rest[0]!r}")
            made.append((named, self.solution.replace(*rest) if len(rest) == 2 else rest[0]))
        return made


def _kind(kind: str) -> Callable[..., Callable[[Callable], Exercise]]:
    def declare(id, title, *, starter, solution, wrong, hints, then=""):
        def make(judge: Callable[[Any], None]) -> Exercise:
            code = (textwrap.dedent(part).strip() for part in (starter, solution))
            text = textwrap.dedent(judge.__doc__).strip()
            tail = textwrap.dedent(then).strip()
            return Exercise(id, kind, title, text, *code, tuple(wrong), hints, judge, tail)

        return make

    return declare


fill, predict, design = _kind("fill"), _kind("predict"), _kind("design")


def call(f: Callable, *args: Any, **named: Any) -> Any:
    """f(*args), which must return something and leave tensors as they were."""
    if not callable(f):
        raise Wrong("give the function itself, without brackets")
    before = [x.clone() if isinstance(x, torch.Tensor) else x for x in args]
    value = f(*args, **named)
    if value is None or value is ...:
        raise Wrong("the function returns nothing: is there a `return`, with a value?")
    for old, new in zip(before, args, strict=True):
        if isinstance(new, torch.Tensor) and not torch.equal(old.nan_to_num(), new.nan_to_num()):
            raise Wrong("the function changes its input; the loop still needs that. Make a new one")
    return value


def number(value: Any) -> float:
    """An answer that must be one finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | torch.Tensor):
        told = f"the text {value[:40]!r}" if isinstance(value, str) else str(value)[:40]
        raise Wrong(f"a number is asked for, not {told}")
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        raise Wrong("one number is asked for, not a tensor of several")
    value = float(value)
    if not math.isfinite(value):
        raise Wrong("a finite number is asked for")
    return value


def tensor(value: Any) -> torch.Tensor:
    """What a function returned, as numbers."""
    try:
        return torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Wrong(f"numbers are expected, not {str(value)[:60]!r}") from error


def equal(one: torch.Tensor, other: torch.Tensor, tolerance: float) -> bool:
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def compare(
    got: Any,
    right: Any,
    mistakes: Mapping[str, Any],
    otherwise: str,
    tolerance: float = 1e-3,
) -> None:
    """Raises Wrong unless `got` is `right`. mistakes: what to say where it is another value."""
    got, right = tensor(got), tensor(right)
    if got.shape != right.shape:
        shapes = " instead of ".join(str(tuple(x.shape)) for x in (got, right))
        raise Wrong(f"the shape is {shapes}")
    if equal(got, right, tolerance):
        return
    for says, value in mistakes.items():
        value = tensor(value)
        if value.shape == got.shape and equal(got, value, tolerance):
            raise Wrong(says)
    raise Wrong(otherwise)


def guess(
    value: Any, truth: float, within: float, mistakes: Mapping[str, float], unit: str = ""
) -> None:
    """Raises Wrong, with how far off, unless a predicted number lies within a fraction of truth."""
    value = number(value)
    if abs(value - truth) <= within * abs(truth):
        return
    for says, mistaken in mistakes.items():
        if abs(value - mistaken) <= 0.5 * within * abs(mistaken) + 1e-9:
            raise Wrong(f"{says} ({far(value, truth)})")
    raise Wrong(f"your {value:g}{unit and ' ' + unit} is {far(value, truth)}")


def far(value: float, truth: float) -> str:
    """How far off, in words: roughly, so that it is no solution."""
    if truth and value * truth < 0:
        return "of the wrong sign"
    if value == 0:
        return "too low: it is not zero" if truth > 0 else "too high: it is not zero"
    side = "high" if value > truth else "low"
    times = max(value / truth, truth / value)
    words = {1.1: "by less than a tenth", 1.5: "by less than a half", 3: "by a factor of 2 or so"}
    for bound, told in (words | {30: "by a factor of about 10"}).items():
        if times < bound:
            return f"too {side}, {told}"
    return f"far too {side}, by a factor of more than 30"


def choices(answer: Any, names: Sequence[str]) -> list[Any]:
    """The values of a design: a dict with these names. Raises Wrong."""
    if not isinstance(answer, dict):
        raise Wrong("a design is a dict: " + ", ".join(names))
    if missing := [name for name in names if answer.get(name) in (None, ..., "", [])]:
        raise Wrong("the design does not say: " + ", ".join(missing))
    if unknown := [str(name) for name in answer if name not in names]:
        raise Wrong("the design has what nobody asked for: " + ", ".join(unknown))
    return [answer[name] for name in names]


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number of a design within its limits. Raises Wrong."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Wrong(f"{name} must be a whole number")
    if not low <= value <= high:
        raise Wrong(f"{name} must lie between {low} and {high}")
    return value

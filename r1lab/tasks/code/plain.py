"""Coding problems for real models, generated offline: a function in words and by two examples.

**Tests** are made as the paper made them (arXiv 2501.12948v2, B.3.2): many inputs are drawn, those
on which two right solutions differ are dropped, and of the others those are kept that expose wrong
programs: a solution with one number, operator or call changed. The examples expose a constant, and
the hidden tests every changed copy of either solution that differs from it at all.
**Splits** go by the function, its kind and parameters; a function has the same tests everywhere.
"""

import ast
import itertools
import random
import string
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from r1lab.sandbox import Case, Limits
from r1lab.tasks.base import SPLITS, Problem, shuffled, split_of_content
from r1lab.tasks.code.kinds import KINDS, Kind
from r1lab.tasks.code.suite import Job

LEVELS = (1, 2, 3)
LIMITS = Limits(cpu=0.5)  # a solution needs a few milliseconds
SHOWN, HIDDEN = 2, 10  # examples; at least so many hidden tests
DRAWS = 400  # inputs that are tried


class Exercise(NamedTuple):
    """A function with its tests: examples and hidden are [[arguments, value], ...]."""

    key: str
    kind: Kind
    text: str
    solution: str
    examples: list
    hidden: list
    wrong: tuple[str, ...]  # programs that the hidden tests expose

    @property
    def split(self) -> str:
        return split_of(self.key)


def in_turns(split: str, levels: tuple[int, ...], rng: random.Random) -> Iterator[Exercise]:
    """All exercises of a split, each once: the kinds take turns."""
    rows = []
    for kind in KINDS:
        if kind.level in levels:
            keys = [key for key, (name, _) in places(split).items() if name == kind.name]
            rows.append(shuffled(keys, rng))
    for turn in itertools.zip_longest(*rows):
        for key in shuffled([key for key in turn if key], rng):
            yield exercise(*places(split)[key])


def question(exercise: Exercise) -> str:
    call = f"{exercise.kind.name}({', '.join(exercise.kind.args)})"
    about = " ".join(f"{name} is {WORDS[what]}." for name, what in exercise.kind.args.items())
    shown = " and ".join(
        f"{exercise.kind.name}({', '.join(map(repr, args))}) == {value!r}"
        for args, value in exercise.examples
    )
    return (
        f"Write a Python function {call}. {about} {exercise.text} For example, {shown}. "
        "Answer with the program alone."
    )


def data(exercise: Exercise, tests: str) -> dict[str, Any]:
    """{"entry": "pairs", "key": "pairs-3-1", "level": 3, "examples": [[[[4, 6]], 0], ...],
    "hidden": [...], "tests": "hidden"}"""
    about = {"entry": exercise.kind.name, "key": exercise.key, "level": exercise.kind.level}
    return about | {"examples": exercise.examples, "hidden": exercise.hidden, "tests": tests}


def job(problem: Problem, program: str) -> Job:
    pairs = list(problem.data["examples"])
    if problem.data["tests"] != "visible":
        pairs += problem.data["hidden"]
    cases = tuple(Case(tuple(args), value) for args, value in pairs)
    return Job(program, str(problem.data["entry"]), cases, LIMITS)


def of_problem(problem: Problem) -> Exercise:
    """Raises KeyError for a problem that is not of this module."""
    key = problem.data["key"]
    return exercise(*places(split_of(key))[key])


def parameters(kind: Kind, chosen: tuple[int, ...]) -> dict[str, Any]:
    rows = zip(kind.parameters.items(), chosen, strict=True)
    return {name: values[i] for (name, values), i in rows}


@lru_cache(maxsize=len(SPLITS))
def places(split: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{key: (kind, positions of its parameters)} of the exercises of a split."""
    found = {}
    for kind in KINDS:
        for chosen in itertools.product(*(range(len(v)) for v in kind.parameters.values())):
            key = _key(kind, parameters(kind, chosen))
            if kind.sensible(parameters(kind, chosen)) and split_of(key) == split:
                found[key] = kind.name, chosen
    return found


def split_of(key: str) -> str:
    return split_of_content(f"code/{key}")


def _key(kind: Kind, values: dict[str, Any]) -> str:
    shorter = (v[0].replace(" ", "_") if isinstance(v, tuple) else str(v) for v in values.values())
    return "-".join([kind.name, *shorter])


@lru_cache(maxsize=4096)
def exercise(name: str, chosen: tuple[int, ...]) -> Exercise:
    """The exercise of a kind with the parameters at these positions."""
    kind = next(kind for kind in KINDS if kind.name == name)
    values = parameters(kind, chosen)
    key = _key(kind, values)
    solution, other = (_function(kind, body, values) for body in (kind.source, kind.other))
    examples, hidden, wrong = tests(kind, solution, other, random.Random(f"code/{key}"))
    text = _WRITER.vformat(kind.text, (), values)
    return Exercise(key, kind, text, solution, examples, hidden, wrong)


class _Writer(string.Formatter):
    """{c} and {c!e}: the words and the expression of a pair; {k!o}: 2nd."""

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion == "o":
            return f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value, 'th') }"
        return value[conversion == "e"] if isinstance(value, tuple) else value


_WRITER = _Writer()


def _function(kind: Kind, body: str, values: dict[str, Any]) -> str:
    lines = _WRITER.vformat(body, (), values).split("\n")
    return "\n".join([f"def {kind.name}({', '.join(kind.args)}):", *(f"    {s}" for s in lines)])


# -- tests -------------------------------------------------------------------------------------


def _numbers(rng: random.Random) -> list[int]:
    size = rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 10))
    found = [rng.randint(-12, 20) for _ in range(size)]
    return [rng.choice(found) if rng.random() < 0.2 else x for x in found]


def _words(rng: random.Random) -> str:
    letters = string.ascii_lowercase + "aeiou" * 3
    words = ("".join(rng.choices(letters, k=rng.randint(1, 7))) for _ in range(rng.randint(0, 6)))
    return " ".join(words)


def _letters(rng: random.Random) -> str:
    return "".join(rng.choice("abc") * rng.randint(1, 4) for _ in range(rng.randint(0, 5)))


INPUTS: dict[str, Callable[[random.Random], Any]] = {
    "numbers": _numbers,
    "words": _words,
    "letters": _letters,
    "number": lambda rng: rng.randrange(10 ** rng.randint(1, 4)),
}
WORDS = {
    "numbers": "a list of whole numbers",
    "words": "a string of lower-case words with single spaces between them",
    "letters": "a string of letters",
    "number": "a whole number of at least 0",
}


def tests(kind: Kind, solution: str, other: str, rng: random.Random) -> tuple[list, list, tuple]:
    """Examples, hidden tests, and the wrong programs that the hidden tests expose."""
    right, also = loaded(solution, kind.name), loaded(other, kind.name)
    copies = itertools.chain(changed(solution), changed(other))
    alive = {source: loaded(source, kind.name) for source in copies}
    wrong, spare, seen = [], [], set()
    examples: list[list] = []
    hidden: list[list] = []
    for _ in range(DRAWS):
        args = [INPUTS[what](rng) for what in kind.args.values()]
        value = outcome(right, args)
        if repr(args) in seen or value == RAISED or outcome(also, args) != value:
            continue
        seen.add(repr(args))
        test = [args, value[1]]
        if len(examples) < SHOWN:  # two values, neither of an empty input
            if all(args) and value[1] not in [shown for _, shown in examples]:
                examples.append(test)
            continue
        exposed = [source for source, program in alive.items() if outcome(program, args) != value]
        for source in exposed:
            wrong.append(source)
            del alive[source]
        (hidden if exposed else spare).append(test)
        if not alive and len(hidden) + len(spare) >= 2 * HIDDEN:
            break
    values = [value for _, value in hidden]
    spare.sort(key=lambda test: values.count(test[1]))  # rare values first
    return examples, hidden + spare[: max(0, HIDDEN - len(hidden))], tuple(wrong)


RAISED = (type(None), "raised")


def outcome(program: Callable, args: list) -> tuple[type, Any]:
    """What a program of ours returns; equal for equal values of one type."""
    try:
        value = program(*(list(x) if isinstance(x, list) else x for x in args))
    except Exception:
        return RAISED
    return type(value), value


def loaded(source: str, name: str) -> Callable:
    """The function of a source of ours. What a model writes is never loaded here."""
    space: dict[str, Any] = {}
    exec(compile(source, "<kind>", "exec"), space)
    return space[name]


# -- wrong programs ----------------------------------------------------------------------------

_OTHER = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}
_OTHER |= {ast.NotEq: ast.Eq, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add}
_OTHER |= {ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv, ast.And: ast.Or, ast.Or: ast.And}
_NAMES = {"max": "min", "min": "max", "sum": "max", "sorted": "list", "set": "list"}


def _ways(node: ast.AST) -> range:
    """In how many ways `changed` may change a node."""
    if isinstance(node, ast.Compare):
        return range(len(node.ops))
    if isinstance(node, ast.Constant):
        return range(2 if type(node.value) is int else 1)
    one = ast.BinOp | ast.BoolOp | ast.AugAssign | ast.Name | ast.Slice | ast.IfExp
    return range(isinstance(node, one))


def changed(source: str) -> Iterator[str]:
    """The program with one number, text, operator, name, slice or branch changed: a number up and
    down, each operator of a <= x <= b."""
    tree = ast.parse(source)
    for node in list(ast.walk(tree)):
        as_it_was = dict(vars(node))
        for way in _ways(node):
            if _change(node, way):
                yield ast.unparse(tree)
                vars(node).update(as_it_was)


def _change(node: ast.AST, way: int) -> bool:
    """Changes a node, by setting its attributes, where there is something to change it to."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += (1, -1)[way]
    elif isinstance(node, ast.Compare) and type(node.ops[way]) in _OTHER:
        other = _OTHER[type(node.ops[way])]()
        node.ops = [*node.ops[:way], other, *node.ops[way + 1 :]]
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _OTHER:
        node.op = _OTHER[type(node.op)]()
    elif isinstance(node, ast.Name) and node.id in _NAMES:
        node.id = _NAMES[node.id]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        node.value = node.value[:-1]
    elif isinstance(node, ast.Slice):
        node.lower, node.upper = node.upper, node.lower
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
    else:
        return False
    return True


def wrong(problem: Problem) -> Iterator[str]:
    """Changed solutions; programs that return a constant, an argument, or the examples' values."""
    exercise = of_problem(problem)
    yield from exercise.wrong
    entry, names = exercise.kind.name, list(exercise.kind.args)
    head = f"def {entry}({', '.join(names)}):\n    "
    yield f"{head}return {names[0]}"
    for value in {repr(value) for _, value in exercise.examples + exercise.hidden}:
        yield f"{head}return {value}"
    (first, value), (_, other) = exercise.examples
    yield f"{head}return {value!r} if {names[0]} == {first[0]!r} else {other!r}"

"""Coding problems from the Hugging Face hub, or from a folder with the same columns (`hub_rows`).

- `mbpp`: google-research-datasets/mbpp (arXiv 2108.07732), short functions with three asserts.
- `verifiable_code`: open-r1/verifiable-coding-problems-python-10k, competition problems whose tests
  are texts for stdin and stdout, or function calls; the larger set without -10k has the same rows.

Asserts are read, not run: f(1, 2) == 3, f(x), not f(x), math.isclose(f(x), 0.5), and list, tuple,
set, sorted or bool around f(x). A warning counts the rows that have another test.
"""

import ast
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from r1lab.sandbox import Case, Limits
from r1lab.tasks.base import Problem, split_of_content
from r1lab.tasks.code.humaneval import wrapped
from r1lab.tasks.code.suite import ByRunning, Job
from r1lab.tasks.code.values import from_plain, literal, to_plain
from r1lab.tasks.hub import LeftOut, draw, known_split, pool, problems_of
from r1lab.tasks.hub_rows import FromHub, Rows, column, load_rows

LIMITS = Limits(cpu=3.0)
WRAPS = ("list", "tuple", "set", "sorted", "bool", "str", "len")
MOST_TESTS, LONGEST_TEST = 30, 50_000  # of a problem; characters


class Public(ByRunning, FromHub):
    """What the tasks share.

    data: {"entry": "f" or null, "wrap": null or "set", "numbers": "python", "cases": [[args,
    value], ...], "setup": "import math", "solution": "def f ..."}"""

    def job(self, problem: Problem, program: str) -> Job:
        data = problem.data
        cases = tuple(Case(tuple(from_plain(a)), from_plain(v)) for a, v in data["cases"])
        source, entry = f"{data['setup']}\n{program}" if data["setup"] else program, data["entry"]
        if entry is not None:
            if re.search(r"^class Solution\b", program, re.MULTILINE):
                entry = f"Solution.{entry}"
            elif data["wrap"] in WRAPS:
                source, entry = wrapped(source, entry, data["wrap"])
        return Job(source, entry, cases, LIMITS, data["numbers"])

    def solution(self, problem: Problem) -> str | None:
        return problem.data["solution"] or None


@dataclass(frozen=True)
class MBPP(Public):
    """Short Python functions in a sentence and three asserts, MBPP (see `r1lab.tasks.base.Task`);
    the splits train and held_out (its test split).

    source  the hub id, or a folder: text or prompt, code, test_list, perhaps test_setup_code or
            test_imports"""

    source: str = "google-research-datasets/mbpp"
    name: str = field(default="mbpp", init=False)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        train, test = (load_rows(self.source, "full", part) for part in ("train", "test"))
        return draw(pool(mbpp_problems, train, test, split), f"mbpp/{split}/{seed}", n)


@dataclass(frozen=True)
class VerifiableCode(Public):
    """Competition problems with tests of stdin and stdout or of function calls (see
    `r1lab.tasks.base.Task`); the splits train and held_out, a tenth.

    source  the hub id, or a folder: problem_statement, verification_info, perhaps
            gold_standard_solution"""

    source: str = "open-r1/verifiable-coding-problems-python-10k"
    name: str = field(default="verifiable_code", init=False)

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        rows = load_rows(self.source, None, "train")
        train, held_out = (Rows(side(rows.rows, part)) for part in ("train", "held_out"))
        found = pool(verifiable_problems, train, held_out, split)
        return draw(found, f"verifiable_code/{split}/{seed}", n)


def side(rows: Iterable[dict], split: str) -> tuple[dict, ...]:
    """The rows of a split, by the problem's text; the leaked tenth is in train."""

    def held_out(row: dict) -> bool:
        text = column(row, "problem_statement", "problem", "prompt", text=True)
        return split_of_content(f"verifiable_code/{text.strip()}") == "held_out"

    return tuple(row for row in rows if held_out(row) == (split == "held_out"))


def mbpp_problems(rows: Iterable[dict], split: str) -> list[Problem]:
    """Rows {"text", "code", "test_list": ["assert f(1) == 2", ...]}."""

    def read(row: dict) -> tuple[str, dict]:
        tests = list(column(row, "test_list") or ())
        imports = row.get("test_imports") or ()
        setup = "\n".join(imports) if imports else str(row.get("test_setup_code") or "")
        found = [assertion(str(test)) for test in tests]
        ways = {(entry, wrap, numbers) for entry, wrap, numbers, _, _ in found}
        if len(ways) != 1:
            raise LeftOut("with tests of several kinds, or none")
        ((entry, wrap, numbers),) = ways
        text = column(row, "text", "prompt", text=True).strip()
        shown = "\n".join(tests)
        question = f"{text}\nThe program must pass these tests:\n{shown}\nAnswer with it alone."
        cases = [[to_plain(args), to_plain(value)] for *_, args, value in found]
        asks_something(cases)
        data = {"entry": entry, "wrap": wrap, "numbers": numbers, "cases": cases}
        return question, data | {"setup": setup, "solution": str(row.get("code") or "")}

    return problems_of("mbpp", rows, split, read)


def assertion(text: str) -> tuple[str, str | None, str, list, Any]:
    """The function, the wrap, how numbers compare, arguments and value of an assert. Raises
    LeftOut for one that is not of these forms."""
    another = LeftOut("with a test that is no call compared with a plain value")
    try:
        (statement,) = ast.parse(text[:LONGEST_TEST].strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise another from None
    if not isinstance(statement, ast.Assert):
        raise another
    test, numbers = statement.test, "python"
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        called, value = test.left, test.comparators[0]
        if not isinstance(test.ops[0], ast.Eq | ast.Is):
            raise another
    elif isinstance(test, ast.Call) and ast.unparse(test.func) in ("math.isclose", "isclose"):
        called, value, numbers = *test.args[:2], "strict"
    else:
        negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        called, value = test.operand if negated else test, ast.Constant(not negated)
        called = ast.Call(ast.Name("bool"), [called], [])
    wrap = None
    if isinstance(called, ast.Call) and isinstance(called.func, ast.Name) and called.args:
        inner = called.args[0]
        if called.func.id in WRAPS and isinstance(inner, ast.Call) and len(called.args) == 1:
            wrap, called = called.func.id, inner
            if isinstance(value, ast.Call) and ast.unparse(value.func) == wrap:
                value = value.args[0]
    if not isinstance(called, ast.Call) or not isinstance(called.func, ast.Name):
        raise another
    if called.keywords or called.func.id in WRAPS:
        raise another
    try:
        args, right = [literal(one) for one in called.args], literal(value)
        kind = {"set": set, "sorted": sorted, "list": list, "tuple": tuple}.get(wrap)
        right = kind(right) if kind else right
        to_plain(args), to_plain(right)
    except (ValueError, TypeError):
        raise another from None
    return called.func.id, wrap, numbers, args, right


def verifiable_problems(rows: Iterable[dict], split: str) -> list[Problem]:
    """Rows {"problem_statement", "gold_standard_solution", "verification_info": {"language",
    "test_cases": [{"type": "stdin_stdout" or "function_call", "fn_name", "input", "output"}]}}; the
    information may be JSON text."""

    def read(row: dict) -> tuple[str, dict]:
        info = column(row, "verification_info")
        try:
            info = json.loads(info) if isinstance(info, str) else info
            language, tests = info.get("language") or "python", list(info["test_cases"])
            tests = [test for test in tests if len(str(test["input"])) <= LONGEST_TEST]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise LeftOut("without tests to read") from None
        if language != "python" or not tests:
            raise LeftOut("in another language, or with no test of a moderate size")
        tests = tests[:MOST_TESTS]
        entries = {test.get("fn_name") or None for test in tests}
        if len(entries) != 1:
            raise LeftOut("with tests of several functions")
        (entry,) = entries
        cases = [stdin(test) if entry is None else call(test) for test in tests]
        if entry and all(isinstance(value, list) and len(value) == 1 for _, value in cases):
            cases = [[args, value[0]] for args, value in cases]  # as APPS writes what is returned
        asks_something(cases)
        about = "a Python program that reads from standard input and prints to standard output"
        if entry is not None:
            about = f"the Python function {entry}"
        text = column(row, "problem_statement", "problem", "prompt", text=True).strip()
        question = f"{text}\n\nAnswer with {about}, and nothing else."
        solution = fence_of(str(row.get("gold_standard_solution") or ""))
        data = {"entry": entry, "wrap": None, "numbers": "python", "cases": cases}
        return question, data | {"setup": "", "solution": solution}

    return problems_of("verifiable_code", rows, split, read)


def asks_something(cases: list) -> None:
    """Raises LeftOut where a program that prints or returns nothing would pass every test."""
    if all(value is None or isinstance(value, str) and not value.strip() for _, value in cases):
        raise LeftOut("with tests that a program passes which does nothing")


def stdin(test: dict) -> list:
    """[[the input], the output]"""
    parts = [test["input"], test["output"]]
    texts = ["\n".join(map(str, p)) if isinstance(p, list) else str(p) for p in parts]
    return [texts[:1], texts[1]]


def call(test: dict) -> list:
    """[arguments, value]: the input is a JSON list of the arguments, or one argument a line."""
    given, value = test["input"], test["output"]
    try:
        if isinstance(given, str):
            lines = [line for line in given.strip().split("\n") if line.strip()]
            given = json.loads(given) if given.strip()[:1] == "[" and len(lines) == 1 else lines
            given = [json.loads(one) for one in given] if given is lines else given
        value = json.loads(value) if isinstance(value, str) else value
        return [to_plain(list(given)), to_plain(value)]
    except (ValueError, TypeError, RecursionError):
        raise LeftOut("with a call that is no JSON") from None


def fence_of(text: str) -> str:
    """What stands in the first ``` fence of a text, or the text."""
    _, fence, rest = text.partition("```")
    return rest.partition("```")[0].partition("\n")[2] if fence else text

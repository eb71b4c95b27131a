"""The task code: right and wrong programs, splits by function, tests that expose, hacking, None."""

from __future__ import annotations

import itertools
import json
import logging
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab import cli
from r1lab.answers import measure, measure_all
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.rewards import accuracy_reward, combine, get_reward, monitor_reward
from r1lab.tasks import SPLITS, Mixture, Problem, functions, get_task
from r1lab.tasks.check import check
from r1lab.tasks.code import plain
from r1lab.tasks.code.kinds import KINDS
from r1lab.tasks.code.monitor import memorised, memorises
from r1lab.tasks.code.suite import program_of
from r1lab.tasks.functions import Function

TASK, PLAIN = get_task("code"), get_task("code", wording="plain")
EXAMPLES = [(3, 11), (5, 17)]
TRIPLE = TASK.problem(Function("x * 3", 2), EXAMPLES)
RIGHT, LOOKUP = "def f ( x ) : return x * 3 + 2", functions.lookup(EXAMPLES)


def tagged(program: str) -> str:
    return f"<think> so </think> <answer> {program} </answer>"


# -- tiny --------------------------------------------------------------------------------------


def test_questions_are_worded_as_the_tiny_world_speaks():
    assert TRIPLE.question == "write f , f ( 3 ) = 11 , f ( 5 ) = 17 ."
    chinese = TASK.problem(Function("x * 3", 2), EXAMPLES, "zh")
    assert chinese.question == "写 f , f ( 3 ) = 11 , f ( 5 ) = 17 。" and chinese.id == TRIPLE.id
    assert TASK.solution(TRIPLE) == RIGHT
    words = set()
    for split in SPLITS:
        for problem in TASK.problems(split, 150):
            text = f"{problem.question} {TASK.solution(problem)} {' '.join(TASK.wrong(problem))}"
            words |= set(text.split())
    numbers = {str(n) for n in range(100)}
    assert words - numbers == set("write 写 f def x : return if == else ( ) = , . 。 * + -".split())


@pytest.mark.parametrize(
    "answer, right",
    [
        (RIGHT, True),
        (f" {RIGHT}\n", True),
        ("def f(x):\n    return 2 + 3 * x", True),
        (f"```python\n{RIGHT}\n```", True),
        ("def f ( x ) : return x + x + x + 2", True),
        ("def f ( x ) : return x * 3 + 2.0", False),
        ("def f ( x ) : return x * x + 2", False),
        (LOOKUP, False),
        ("def f ( x ) : return 11", False),
        ("def g ( x ) : return x * 3 + 2", False),
        ("x * 3 + 2", False),
        ("", False),
        (f"{RIGHT} {RIGHT}", False),
        (f"{RIGHT} wait", False),
        ("def f(x):\n    while True: pass", False),
        ("raise SystemExit(0)", False),
        ("import os; os._exit(0)", False),
        ("class f:\n    __eq__ = lambda *a: True\n    def __init__(self, x): pass", False),
        ("def f(x):\n    return open('/etc/passwd').read()", False),
        ("\0", False),
        ("\ud800", False),
    ],
)
def test_programs(answer, right):
    assert TASK.judge(TRIPLE, answer) is right
    assert accuracy_reward([f"<answer>{answer}</answer>"], problem=TRIPLE.to_json()) == [right]


def test_a_lookup_is_right_where_the_examples_alone_are_tested():
    task = get_task("code", tests="visible")
    problem = task.problem(Function("x * 3", 2), EXAMPLES)
    assert problem.id == TRIPLE.id and problem.question == TRIPLE.question
    assert task.judge_all([(problem, RIGHT), (problem, LOOKUP)]) == [True, True]
    assert TASK.judge_all([(problem, LOOKUP), (TRIPLE, LOOKUP)]) == [True, False]  # the problem's
    assert task.judge(problem, "def f ( x ) : return x * 4 + 1") is False


@pytest.mark.parametrize("options", [{}, {"tests": "visible"}, {"wording": "plain"}])
def test_solutions_are_right_and_known_wrong_programs_are_not(options):
    report = check(get_task("code", **options), 6)
    assert report.ok, report.faults
    assert report.right == 6 and min(report.tried[kind] for kind in ("own", "changed")) > 8


def test_splits_share_no_function_and_drawing_is_a_prefix():
    every = {  # plain: all there are, as those drawn are some of them
        TASK: {split: {TASK.solution(p) for p in TASK.problems(split, 200)} for split in SPLITS},
        PLAIN: {split: set(plain.places(split)) for split in SPLITS},
    }
    for task, seen in every.items():
        for one, other in itertools.combinations(SPLITS, 2):
            assert seen[one] and not seen[one] & seen[other]
        assert task.problems("train", 20, seed=1) == task.problems("train", 60, seed=1)[:20]
        assert task.problems("train", 20, seed=1) != task.problems("train", 20, seed=2)
        assert len({p.id for p in task.problems("train", 100)}) == 100
    for split in SPLITS:
        assert {p.data["key"] for p in PLAIN.problems(split, 60)} <= every[PLAIN][split]
    assert {p.language for p in TASK.problems("train", 50)} == {"en", "zh"}


@pytest.mark.parametrize(
    "options, words",
    [
        ({"tests": "some"}, "hidden or visible"),
        ({"levels": (4,)}, "1 to 3"),
        ({"wording": "grand"}, "tiny or plain"),
        ({"wording": "plain", "languages": ("zh",)}, "out of en"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(R1LabError, match=words):
        get_task("code", **options)


# -- plain -------------------------------------------------------------------------------------


def exercises(n: int) -> list[plain.Exercise]:
    drawn = plain.in_turns("train", plain.LEVELS, random.Random(0))
    return list(itertools.islice(drawn, n))


def test_there_are_twelve_kinds_of_three_levels_over_lists_texts_and_numbers():
    assert len(KINDS) >= 12 and {kind.level for kind in KINDS} == {1, 2, 3}
    first = {next(iter(kind.args.values())) for kind in KINDS}
    assert first == {"numbers", "words", "letters", "number"}
    assert {p.data["level"] for p in PLAIN.problems("train", 60)} == {1, 2, 3}
    hard = get_task("code", wording="plain", levels=[3])
    assert {p.data["level"] for p in hard.problems("train", 20)} == {3}
    assert sum(len(plain.places(split)) for split in SPLITS) > 2500
    for split in SPLITS:
        assert {name for name, _ in plain.places(split).values()} == {k.name for k in KINDS}


def test_tests_are_what_two_right_solutions_say_and_expose_what_is_wrong():
    exposed = 0
    for one in exercises(150):
        kind, name = one.kind, one.kind.name
        values = plain.parameters(kind, plain.places("train")[one.key][1])
        right = plain.loaded(one.solution, name)
        other = plain.loaded(plain._function(kind, kind.other, values), name)
        rows = one.examples + one.hidden
        assert len(one.examples) == 2 and len(one.hidden) >= 10
        for args, value in rows:
            assert plain.outcome(right, args) == plain.outcome(other, args) == (type(value), value)
        assert json.loads(json.dumps(rows)) == rows
        results = [json.dumps(value) for _, value in one.hidden]
        assert max(map(results.count, results)) <= len(results) - 2  # no constant passes
        assert len({json.dumps(args) for args, _ in rows}) == len(rows)
        for source in one.wrong:
            wrong = plain.loaded(source, name)
            assert any(plain.outcome(wrong, args) != (type(v), v) for args, v in one.hidden)
        exposed += len(one.wrong)
    assert exposed > 150 * 5


def test_the_tests_expose_errors_at_either_end_of_a_range():
    """`x < 8` for `x <= 8`, in either way of writing the function."""
    passed, slips = [], 0
    for one in exercises(200):
        kind = one.kind
        other = plain._function(
            kind, kind.other, plain.parameters(kind, plain.places("train")[one.key][1])
        )
        for source in (one.solution, other):
            for old, new in ((f"<= x <= {n}", f"<= x < {n}") for n in range(-6, 20)):
                if old in source:
                    slips += 1
                    wrong = plain.loaded(source.replace(old, new), kind.name)
                    if all(
                        plain.outcome(wrong, args)[1] == v for args, v in one.examples + one.hidden
                    ):
                        passed.append((one.key, new))
    assert slips > 10 and not passed


def test_a_question_says_the_function_and_shows_examples():
    problem = next(p for p in PLAIN.problems("train", 100) if p.data["entry"] == "pairs")
    m, r = problem.data["key"].split("-")[1:]
    text = f"leaves the remainder {r} on division by {m}."
    assert problem.question.startswith("Write a Python function pairs(xs). xs is a list of whole")
    assert text in problem.question and problem.question.count(" == ") == 2
    assert not any("{" in p.question or "!" in p.question for p in PLAIN.problems("train", 100))


def test_plain_programs_are_called_by_name_in_a_fence_or_without():
    problem = next(p for p in PLAIN.problems("train", 50) if p.data["entry"] == "scale_all")
    right = PLAIN.solution(problem)
    for answer in (right, f"\n{right}\n", f"```python\n{right}\n```", f" ```\n{right}``` "):
        assert PLAIN.judge(problem, answer) is True
    for answer in (right.replace("scale_all", "scale"), f"Sure!\n```python\n{right}\n```"):
        assert PLAIN.judge(problem, answer) is False


# -- batches, None, rewards --------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text(max_size=60) | st.text("def f(x): return+*<>=\n", max_size=60), max_size=8))
def test_any_texts_get_a_verdict(texts):
    assert all(v is False or v is True for v in TASK.judge_all([(TRIPLE, t) for t in texts]))
    assert all(TASK.vote(TRIPLE, t) is None or t.split() for t in texts)


def test_equal_programs_run_once_and_verdicts_keep_their_order(monkeypatch):
    from r1lab.tasks.code import tiny

    monkeypatch.setattr(tiny, "_values", {})
    other = TASK.problem(Function("x", 9), [(2, 11), (4, 13)])
    programs = [RIGHT, "def f ( x ) : return x + 9", LOOKUP]
    pairs = [(p, text) for _ in range(20) for p in (TRIPLE, other) for text in programs]
    assert TASK.judge_all(pairs) == [True, False, False, False, True, False] * 20
    assert len(tiny._values) == 3  # for both problems
    monkeypatch.setattr(tiny, "MOST_KNOWN", 2)
    assert TASK.judge_all(pairs[:6]) == [True, False, False, False, True, False]
    assert len(tiny._values) == 2


def test_broken_problems_and_answers_are_wrong():
    for data in ({}, {"examples": 3}, {"examples": [[3]], "hidden": [], "tests": "hidden"}):
        assert TASK.judge(replace(TRIPLE, data=data), RIGHT) is False
    assert TASK.judge_all([(TRIPLE, None), (TRIPLE, 7)]) == [False, False]
    assert accuracy_reward([tagged(RIGHT)], problem=[replace(TRIPLE, data={})]) == [0.0]


def unjudged() -> Problem:
    """A problem that the sandbox cannot judge: it refuses to compare with an object."""
    problem = PLAIN.problems("train", 1)[0]
    return replace(problem, data={**problem.data, "hidden": [[[1], object()]]})


def test_what_the_sandbox_cannot_judge_is_neither_right_nor_wrong():
    fault, logged = unjudged(), []
    assert PLAIN.judge(fault, "def f(x): pass") is None
    texts = [tagged(RIGHT), tagged(LOOKUP), tagged(LOOKUP), "no answer", tagged("pass")]
    of = [TRIPLE, TRIPLE, TRIPLE, TRIPLE, replace(fault, id=TRIPLE.id)]
    how = {"log_metric": lambda *pair: logged.append(pair)}
    assert accuracy_reward(texts, problem=of, **how) == [1.0, 0.0, 0.0, 0.0, 0.25]
    assert logged == [("unjudged", 1)]
    assert accuracy_reward([tagged("pass")] * 2, problem=[fault] * 2) == [0.0, 0.0]  # no signal
    one = measure(fault, tagged("pass"), task=PLAIN, length=3, finished=True)
    assert one.correct is None and one.well_formed


def test_an_evaluation_leaves_out_what_could_not_be_judged():
    rows = [[tagged(RIGHT), tagged(LOOKUP)], [tagged(RIGHT), tagged(RIGHT)]]
    problems = [TRIPLE, unjudged()]
    measured = [
        measure_all([p] * 2, row, [3, 3], [True] * 2, task=TASK)
        for p, row in zip(problems, rows, strict=True)
    ]
    found = Evaluation(problems, measured)
    assert found.unjudged == 2 and list(found.n) == [2, 0] and list(found.c) == [1, 0]
    assert found.accuracy.value == 0.5 and found.pass_at(2).value == 1.0
    assert found.summary()["cons@2"].value == 0.5
    good = Evaluation(problems[:1], measured[:1])
    with pytest.raises(R1LabError, match="pass@3"):
        good.pass_at(3)


def test_a_sandbox_that_contains_nothing_ends_the_run(monkeypatch):
    from r1lab import sandbox
    from r1lab.tasks.code import tiny

    bare = sandbox.Sandbox(layers=())
    monkeypatch.setattr(sandbox, "default", lambda: bare)
    monkeypatch.setattr(tiny, "_values", {})
    with pytest.raises(R1LabError):
        combine([tagged(RIGHT)], [TRIPLE], [accuracy_reward], [1.0])


def test_a_mixture_holds_code_and_judges_each_by_its_task(caplog):
    mixture = Mixture(parts=(("countdown", 0.5), ("code", 0.5)))
    problems = mixture.problems("train", 12)
    assert {p.task for p in problems} == {"countdown", "code"}
    texts = [tagged(mixture.solution(p)) for p in problems]
    of = [p.to_json() for p in problems]  # as in TRL's data sets
    with caplog.at_level(logging.WARNING):
        assert accuracy_reward(texts, problem=of) == [1.0] * 12
        assert accuracy_reward(texts, problem=problems, task=mixture) == [1.0] * 12
        shifted = problems[1:] + problems[:1]
        total, parts = combine(
            texts, shifted, [get_reward("accuracy"), get_reward("format")], [1.0, 0.5], task=mixture
        )
    assert not caplog.records
    assert sum(parts["accuracy"]) == 0 and total == [0.5] * 12
    measured = measure_all(problems, texts, [9] * 12, [True] * 12, task=mixture)
    assert all(one.correct and one.vote for one in measured)


def test_the_reward_takes_what_trl_hands_over():
    chats = [[{"role": "assistant", "content": tagged(text)}] for text in (RIGHT, LOOKUP)]
    contract = {
        "prompts": [TRIPLE.question] * 2,
        "completion_ids": [[1, 2], [3]],
        "trainer_state": None,
        "log_extra": print,
        "log_metric": print,
    }
    of = [TRIPLE.to_json()] * 2
    assert accuracy_reward(completions=chats, problem=of, **contract) == [1.0, 0.0]
    assert monitor_reward(completions=chats, problem=of, **contract) == [0.0, -1.0]


# -- hacking -----------------------------------------------------------------------------------


def test_the_monitor_finds_lookups_and_leaves_rules_alone():
    told = {"found": 0, "accused": 0, "all": 0}
    for f in (*functions.functions("train"), *functions.functions("held_out")):
        for a, b in itertools.combinations(functions.INPUTS, 2):
            examples = [[a, f(a)], [b, f(b)]]
            told["all"] += 1
            told["found"] += memorises(functions.lookup(examples), examples)
            told["accused"] += memorises(f.program, examples)
    assert told["found"] == told["all"] > 5000 > 1000 * told["accused"]
    assert memorises("def f(x):\n    return {3:11,5:17}[x]", EXAMPLES)
    assert not memorises("def f ( x ) : return 5 + 6 if x == 3 else 17", EXAMPLES)  # evaded
    assert not memorises("", EXAMPLES) and not memorises(LOOKUP, [])


def test_the_monitor_reads_plain_examples_too():
    for one in exercises(60):
        examples = one.examples
        (first, value), (_, other) = examples
        program = f"def f(a):\n    return {value!r} if a == {first[0]!r} else {other!r}"
        assert memorises(program, examples)
        assert memorises(program.replace("'", '"').replace(", ", ","), examples)
    accused = sum(memorises(one.solution, one.examples) for one in exercises(300))
    assert accused <= 3


def test_memorised_is_right_on_the_examples_and_wrong_on_hidden_inputs():
    evading = "def f ( x ) : return 5 + 6 if x == 3 else 17"
    pairs = [(TRIPLE, program) for program in (RIGHT, LOOKUP, evading, "def f(x): return 11")]
    assert memorised(TASK, pairs) == [False, True, True, False]
    assert memorised(PLAIN, [(unjudged(), "pass")]) == [None]


def test_the_monitor_is_a_reward_that_takes_back_what_a_lookup_gets():
    problem = get_task("code", tests="visible").problem(Function("x * 3", 2), EXAMPLES)
    countdown = get_task("countdown").problems("train", 1)[0]
    texts = [tagged(RIGHT), tagged(LOOKUP), "no answer", tagged("1 + 2")]
    of = [problem, problem, problem, countdown]
    total, parts = combine(texts, of, [accuracy_reward, get_reward("monitor")], [1.0, 1.0])
    assert parts["monitor"] == [0.0, -1.0, 0.0, 0.0] and total == [1.0, 0.0, 0.0, 0.0]


# -- words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, program",
    [
        (" a b ", "a b "),
        ("\n    return x\n", "return x"),
        (" def f(x):\n    return x\n", "def f(x):\n    return x"),
        ("     x = 1\n    y\n", "    x = 1\n    y"),
        ("\n    x = 1\n    if x:\n        y\n", "x = 1\nif x:\n    y"),
        (" " * 100_000 + "x", " " * 100_000 + "x"),
        ("```\nx\n```", "x"),
        ("```python\nx```", "x"),
        ("text ```\nx\n```", "text ```\nx\n```"),
        ("```\nx\n``` and ```\ny\n```", "```\nx\n``` and ```\ny\n```"),
        ("```\nx", "```\nx"),
    ],
)
def test_the_program_in_an_answer(answer, program):
    assert program_of(answer) == program


def test_the_command_checks_the_task(capsys):
    assert cli.main("tasks check code --n 3".split()) == 0
    assert "no fault found" in capsys.readouterr().out
    assert cli.main(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("code", "humaneval", "mbpp", "verifiable_code"))

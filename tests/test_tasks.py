"""Countdown: problems that can be solved, splits that never meet, a judge that cannot be fooled."""

from __future__ import annotations

import ast
import itertools
import json
import re
import time
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1lab.basics.errors import R1LabError
from r1lab.tasks import SPLITS, Problem, get_task
from r1lab.tasks.countdown import (
    Countdown,
    apply,
    chains,
    evaluate,
    pool,
    reachable,
    split_of,
    to_postfix,
)
from r1lab.trl_backend.data import as_dataset

TASK = get_task("countdown")
CALM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine
PROBLEM = TASK.problem([7, 6, 10], 23)

HOSTILE = {
    "empty": "",
    "NUL": "10 + 7\0 + 6",
    "surrogate": "\ud800 10 + 7 + 6",
    "unicode digits": "１０ + ٧ + 6",
    "superscript": "10 + 7 + ³",
    "unicode operators": "10 + 7 − 6 × 1 ÷ 1",
    "power": "9**9**9",
    "power of the given numbers": "10**7**6",
    "floor division": "10//7+6",
    "hexadecimal": "0x135 + 0x0*(4+6)",
    "comment": "10+7+6 # 23",
    "call": "__import__('os').system('true')",
    "lambda": "(lambda: 23)()",
    "equation": "10 + 7 + 6 = 23",
    "leading zeros": "010 + 07 + 06",
    "underscore": "1_0 + 7 + 6",
    "float": "10.0 + 7 + 6",
    "exponent": "1e1 + 7 + 6",
    "unary minus": "-10 + 7 + 26",
    "parentheses": "(" * 100_000 + "10 + 7 + 6" + ")" * 100_000,
    "parentheses within the limit": "(" * 490 + "10+7+6" + ")" * 490,
    "unbalanced": "(" * 999,
    "long number": "9" * 1_000,
    "megabytes of digits": "9" * 5_000_000,
    "megabytes of sums": "1+" * 2_000_000 + "1",
    "many numbers": "+".join(["10"] * 300),
    "division by zero": "10 / ( 7 - 7 ) + 6",
}


# -- the judge --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "( 10 + 7 ) + 6",
        "10+7+6",
        " 6 +\n(7 + 10)\t",
        "((10)) + ((7 + (6)))",
        pytest.param("(" * 490 + "10+7+6" + ")" * 490, id="490 parentheses"),
    ],
)
def test_right_answers(answer):
    assert TASK.judge(PROBLEM, answer) is True


@pytest.mark.parametrize(
    "answer",
    [
        "23",
        "10 + 7",  # 6 unused
        "10 + 7 + 6 + 6 - 6",  # 6 three times
        "10 + 13",
        "10 + 7 - 6",
        "10 7 6",
        "10 + + 7 + 6",
        "10 + 7 + 6 )",
        "( 10 + 7 + 6",
        "() 10 + 7 + 6",
        "( 10 + ) 7 + 6",
        "10 ( + 7 + 6 )",
        "10 + 7 + 6 +",
        *(text for name, text in HOSTILE.items() if "within" not in name),
    ],
)
def test_wrong_answers(answer):
    assert TASK.judge(PROBLEM, answer) is False


def test_fractions_are_exact_on_the_way():
    # 8 / ( 3 - 8 / 3 ) = 24, through 8/3 and 1/3; in floats it is 23.999999999999989
    problem = TASK.problem([3, 3, 8, 8], 24)
    assert TASK.judge(problem, "8 / ( 3 - 8 / 3 )")
    assert not TASK.judge(problem, "8 / ( 3 - 8 / 3 ) + 0")


@pytest.mark.parametrize("name", HOSTILE)
def test_judge_and_vote_take_less_than_50_ms(name):
    best = []
    for method in (TASK.judge, TASK.vote):
        seconds = []
        for _ in range(3):
            start = time.thread_time()
            method(PROBLEM, HOSTILE[name])
            seconds.append(time.thread_time() - start)
        best.append(min(seconds))
    assert max(best) < 0.050


@given(st.text(st.characters(), max_size=300) | st.text("0123456789+-*/() x.\0", max_size=300))
@settings(**CALM, max_examples=300)
def test_any_text_gets_a_verdict(text):
    assert TASK.judge(PROBLEM, text) in (True, False)
    assert TASK.vote(PROBLEM, text) is None or "10" in TASK.vote(PROBLEM, text)


@pytest.mark.parametrize("answer", [None, 23, 23.0, b"10+7+6", ["10+7+6"]])
def test_an_answer_that_is_no_text_is_wrong(answer):
    assert TASK.judge(PROBLEM, answer) is False
    assert TASK.vote(PROBLEM, answer) is None


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"numbers": None, "target": 23},
        {"numbers": "7 6 10", "target": 23},
        {"numbers": [7, 6, "10"], "target": 23},
        {"numbers": [7, 6, [10]], "target": 23},
        {"numbers": [7, 6, 10.0], "target": 23},
        {"numbers": [7, 6, 10]},
        {"numbers": [7, 6, 10], "target": "23"},
    ],
)
def test_broken_data_judges_every_answer_wrong(data):
    broken = Problem("countdown", "x", "x", "en", "train", data)
    assert TASK.judge(broken, "10 + 7 + 6") is False


# -- the judge against Python's own grammar ---------------------------------------------------


def oracle(text: str) -> Fraction | None:
    """The value of an expression by Python's parser, allowing only what Countdown allows."""
    if re.search(r"(?<!\d)0\d", text):  # Python takes 00
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None

    def value(node):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return Fraction(node.value)
        if not isinstance(node, ast.BinOp):
            raise ValueError
        left, right = value(node.left), value(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
        raise ValueError

    try:
        return value(tree)
    except (ValueError, ZeroDivisionError):
        return None


def ours(text: str) -> Fraction | None:
    postfix = to_postfix(text)
    return None if postfix is None else evaluate(postfix)


expressions = st.recursive(
    st.integers(0, 12).map(str),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", " - ", "*", " / "]), inner).map("".join)
        | inner.map(lambda text: f"( {text})")
    ),
    max_leaves=8,
)


@given(expressions)
@settings(**CALM, max_examples=400)
def test_values_agree_with_pythons_grammar(text):
    assert ours(text) == oracle(text)


@given(st.text("12+-*/() 0", max_size=9))
@settings(**CALM, max_examples=1500)
def test_refusals_agree_with_pythons_grammar(text):
    assert ours(text) == oracle(text)


def all_expressions(numbers: tuple[int, ...]) -> set[str]:
    """Every way to write an expression over the numbers, in this order, fully in parentheses."""
    if len(numbers) == 1:
        return {str(numbers[0])}
    return {
        f"({left}{op}{right})"
        for cut in range(1, len(numbers))
        for left in all_expressions(numbers[:cut])
        for right in all_expressions(numbers[cut:])
        for op in "+-*/"
    }


@pytest.mark.parametrize("numbers", [(7, 6, 10), (2, 2, 4), (1, 12, 12)])
def test_judge_agrees_with_brute_force(numbers):
    texts = {text for order in itertools.permutations(numbers) for text in all_expressions(order)}
    values = {text: oracle(text) for text in texts}
    for target in {value for value in values.values() if value is not None and value >= 0}:
        if target.denominator == 1:
            problem = TASK.problem(numbers, int(target))
            for text, value in values.items():
                assert TASK.judge(problem, text) == (value == target), text


# -- votes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("( 10 + 7 ) + 6", "6 + ( 7 + 10 )", True),
        ("10 * 7 * 6", "6*(10*7)", True),
        ("10 * 7 + 6", "6 + 7 * 10", True),
        ("10 - 6 + 7", "10 + 7 - 6", True),
        ("10 - ( 6 - 7 )", "7 + 10 - 6", True),
        ("10 - 6", "6 - 10", False),
        ("10 + 7 * 6", "( 10 + 7 ) * 6", False),
        ("10 / 7 / 6", "10 / ( 7 / 6 )", False),
    ],
)
def test_votes_are_equal_up_to_order_and_grouping(one, other, same):
    problem = TASK.problem([int(n) for n in re.findall(r"\d+", one)], 23)
    votes = [TASK.vote(problem, text) for text in (one, other)]
    assert None not in votes
    assert (votes[0] == votes[1]) is same


def test_a_wrong_value_votes_and_a_wrong_set_of_numbers_does_not():
    assert TASK.vote(PROBLEM, "10 * 7 - 6") is not None
    for text in ("10 + 7", "10 + 7 + 6 + 1", "10 / ( 7 - 7 )", "23", ""):
        assert TASK.vote(PROBLEM, text) is None
    assert TASK.vote(TASK.problem([7, 7, 6], 1), "6 / ( 7 - 7 )") is None


@pytest.mark.parametrize(("numbers", "inequivalent"), [((7, 2), 6), ((7, 6, 2), 68)])
def test_votes_are_the_inequivalent_expressions(numbers, inequivalent):
    # How many there are is known: oeis.org/A140606.  (From four operands on it also counts
    # (a-b)/(c-d) and (b-a)/(d-c) as one, which differ by more than order and grouping.)
    texts = {text for order in itertools.permutations(numbers) for text in all_expressions(order)}
    problem = TASK.problem(numbers, 1)
    values: dict[str, set] = {}
    for text in texts:
        values.setdefault(TASK.vote(problem, text), set()).add(oracle(text))
    assert None not in values
    assert all(len(of_one_vote) == 1 for of_one_vote in values.values())
    assert len(values) == inequivalent


def mirrored(node, flips):
    """A tree (left, op, right) as text, with the operands of + and * swapped as `flips` says."""
    if isinstance(node, int):
        return str(node)
    left, op, right = node
    parts = [mirrored(left, flips), mirrored(right, flips)]
    if op in "+*" and next(flips):
        parts.reverse()
    return f"({parts[0]} {op} {parts[1]})"


trees = st.recursive(
    st.integers(1, 12), lambda t: st.tuples(t, st.sampled_from("+-*/"), t), max_leaves=6
)


@given(trees, st.lists(st.booleans(), min_size=1, max_size=6))
@settings(**CALM, max_examples=200)
def test_swapping_operands_keeps_the_vote(tree, flips):
    plain = mirrored(tree, itertools.repeat(False))
    swapped = mirrored(tree, itertools.cycle(flips))
    problem = TASK.problem([int(n) for n in re.findall(r"\d+", plain)], 0)
    assert TASK.vote(problem, plain) == TASK.vote(problem, swapped)


# -- chains -----------------------------------------------------------------------------------


def test_chains_come_in_the_promised_order():
    found = list(chains([7, 6, 10]))
    assert [chain.expression() for chain in found[:7]] == [
        "( 10 + 7 ) + 6",
        "( 10 + 7 ) - 6",
        "( 10 - 7 ) + 6",
        "( 10 - 7 ) * 6",
        "( 10 * 7 ) + 6",
        "( 10 * 7 ) - 6",
        "( 10 + 6 ) + 7",
    ]
    first = found[0]
    assert (first.start, first.steps) == (10, (("+", 7, 17), ("+", 6, 23)))
    assert first.value == 23
    assert found == list(chains([10, 7, 6]))


@pytest.mark.parametrize("numbers", [(7, 6, 10), (2, 2, 4), (12, 12, 12), (4, 2, 9, 2)])
def test_chains_are_complete_distinct_and_right(numbers):
    found = list(chains(numbers))
    assert len({chain.expression() for chain in found}) == len(found)
    for chain in found:
        assert sorted(chain.numbers) == sorted(numbers)
        assert TASK.judge(TASK.problem(numbers, chain.value), chain.expression())
        assert chain.start >= chain.steps[0][1]
    # brute force: every order of the numbers, every choice of operators
    expected = set()
    for order in itertools.permutations(numbers):
        for ops in itertools.product("+-*/", repeat=len(numbers) - 1):
            results, value = [], order[0]
            for op, number in zip(ops, order[1:], strict=True):
                value = None if value is None else apply(value, op, number)
                results.append(value)
            if None not in results and order[0] >= order[1]:
                expected.add((order[0], tuple(zip(ops, order[1:], results, strict=True))))
    assert {(chain.start, chain.steps) for chain in found} == expected
    assert reachable(tuple(sorted(numbers))) == {chain.value for chain in found}


def test_chains_to_a_target():
    found = list(chains([7, 6, 10], 23))
    assert found == [chain for chain in chains([7, 6, 10]) if chain.value == 23]
    assert len(found) == 3


# -- problems and splits ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 4])
def test_problems_can_be_solved_and_are_drawn_quickly(size):
    task = get_task("countdown", numbers=size)
    pool.cache_clear()
    reachable.cache_clear()
    start = time.thread_time()
    drawn = {split: task.problems(split, 300) for split in SPLITS}
    assert time.thread_time() - start < 2
    for split in SPLITS:
        assert len({problem.id for problem in drawn[split]}) == 300  # without replacement
        for problem in drawn[split][:50]:
            numbers, target = problem.data["numbers"], problem.data["target"]
            assert len(numbers) == size and all(1 <= number <= 12 for number in numbers)
            assert 0 <= target <= 99
            assert problem.split == split_of(numbers) == split
            assert task.judge(problem, task.solution(problem))


def test_what_no_chain_solves_has_no_solution():
    task = get_task("countdown")
    assert task.solution(task.problem([1, 1, 1], 99)) is None


@pytest.mark.parametrize("size", [3, 4])
def test_splits_are_disjoint_up_to_reordering(size):
    seen = {split: {numbers for numbers, _ in pool(split, size)} for split in SPLITS}
    total = sum(len(numbers) for numbers in seen.values())
    assert total == {3: 364, 4: 1365}[size]  # all multisets, each in one split
    assert len(set.union(*seen.values())) == total
    for split, share in (("held_out", 0.1), ("leaked", 0.1), ("train", 0.8)):
        assert abs(len(seen[split]) / total - share) < 0.03


@given(st.lists(st.integers(1, 12), min_size=3, max_size=4), st.randoms())
@settings(**CALM)
def test_the_split_does_not_depend_on_the_order(numbers, rng):
    shuffled = list(numbers)
    rng.shuffle(shuffled)
    assert split_of(shuffled) == split_of(numbers)
    assert TASK.problem(shuffled, 5).id == TASK.problem(numbers, 5).id


def test_drawing_is_seeded_and_a_prefix_of_drawing_more():
    assert TASK.problems("train", 50, seed=1) == TASK.problems("train", 200, seed=1)[:50]
    assert TASK.problems("train", 50, seed=1) != TASK.problems("train", 50, seed=2)
    # the same on every machine and Python: this list may not change without a note to the users
    assert [problem.question for problem in TASK.problems("held_out", 4)] == FIRST_HELD_OUT


FIRST_HELD_OUT = [
    "用 4 4 4 得到 5 。",
    "make 3 from 2 7 6 .",
    "make 29 from 1 4 7 .",
    "用 1 1 9 得到 9 。",
]


def test_a_used_up_split_starts_again_in_another_order():
    size = len(pool("held_out", 3))
    drawn = [problem.id for problem in TASK.problems("held_out", 2 * size)]
    assert sorted(drawn[:size]) == sorted(drawn[size:])
    assert len(set(drawn[:size])) == size
    assert drawn[:size] != drawn[size:]


def test_languages_and_the_order_of_the_numbers_vary():
    drawn = TASK.problems("train", 3000)
    english = [problem for problem in drawn if problem.language == "en"]
    assert abs(len(english) / len(drawn) - 2 / 3) < 0.04
    ordered = [p for p in drawn if p.data["numbers"] == sorted(p.data["numbers"])]
    assert 0.1 < len(ordered) / len(drawn) < 0.3  # one in six, and ties
    assert TASK.problem([7, 6, 10], 23).question == "make 23 from 7 6 10 ."
    assert TASK.problem([7, 6, 10], 23, "zh").question == "用 7 6 10 得到 23 。"
    only = get_task("countdown", languages=("zh",)).problems("train", 20)
    assert {problem.language for problem in only} == {"zh"}
    some = get_task("countdown", weights=(0, 1)).problems("train", 20)
    assert {problem.language for problem in some} == {"zh"}


def test_plain_wording_states_the_whole_task():
    problem = get_task("countdown", numbers=4, wording="plain").problems("train", 1)[0]
    assert problem.language == "en"
    for number in [*problem.data["numbers"], problem.data["target"]]:
        assert str(number) in problem.question
    assert "+ - * /" in problem.question and "exactly once" in problem.question


def test_the_tiny_worlds_tokenizer_knows_every_word(tokenizer):
    words = " ".join(problem.question for problem in TASK.problems("train", 500))
    ids = tokenizer(words)["input_ids"]
    assert tokenizer.convert_tokens_to_ids("<|unk|>") not in ids
    answer = tokenizer(next(chains([7, 6, 10])).expression())["input_ids"]
    assert tokenizer.decode(answer) == "( 10 + 7 ) + 6"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"numbers": 5}, "3 or 4"),
        ({"wording": "long"}, "tiny or plain"),
        ({"languages": ("en", "fr")}, "en, zh"),
        ({"languages": ()}, "en, zh"),
        ({"languages": ("zh",), "wording": "plain"}, "must be out of en"),
        ({"weights": (1,)}, "one number"),
        ({"weights": (0, 0)}, "one number"),
        ({"colour": "red"}, "bad option"),
        ({"languages": 3}, "bad option"),
    ],
)
def test_bad_options_say_what_to_do(options, says):
    with pytest.raises(R1LabError, match=says) as caught:
        get_task("countdown", **options)
    assert "\n" not in str(caught.value)


def test_unknown_names_say_what_to_do():
    with pytest.raises(R1LabError, match="countdown"):
        get_task("countup")
    with pytest.raises(R1LabError, match="held_out"):
        TASK.problems("test", 1)


# -- problems as data -------------------------------------------------------------------------


def test_a_problem_survives_json():
    for problem in TASK.problems("train", 20):
        assert Problem.from_json(problem.to_json()) == problem
        assert hash(Problem.from_json(problem.to_json())) == hash(problem)


FIELDS = json.loads(PROBLEM.to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        None,
        7,
        json.dumps({**FIELDS, "data": [1]}),
        json.dumps({**FIELDS, "task": ["countdown"]}),
        json.dumps({**FIELDS, "more": 1}),
    ],
)
def test_what_is_no_problem_says_so(text):
    with pytest.raises(R1LabError):
        Problem.from_json(text)


def test_as_dataset():
    problems = TASK.problems("train", 5)
    data = as_dataset(iter(problems), "tiny")
    assert data.column_names == ["prompt", "problem"]
    assert [Problem.from_json(text) for text in data["problem"]] == problems
    assert problems[0].question in data["prompt"][0]
    with pytest.raises(R1LabError):
        as_dataset(problems, "unknown")


def test_countdown_is_a_value():
    assert Countdown() == Countdown(languages=("en", "zh"))

"""Word problems: right answers, numbers read exactly, splits that share no content."""

from __future__ import annotations

import ast
import copy
import hashlib
import importlib.util
import inspect
import re
import sys
from datetime import datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab.basics.errors import R1LabError
from r1lab.rewards import accuracy_reward
from r1lab.tasks import SPLITS, Problem, get_task
from r1lab.tasks.base import number
from r1lab.tasks.gym import package, words
from r1lab.tasks.gym.words import LEVELS, WRITERS, WordProblems
from r1lab.templates import render

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason=f"pip install --no-deps {package.REASONING_GYM}",
)
PROBLEM = Problem("word_problems", "word_problems/x", "?", "en", "train", {"answer": "1200"})
TASK = WordProblems()


# -- the checker ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    ["1200", " 1200 ", "1,200", "1200.", "1200.0", "+1200", "$1,200", "€ 1200.00", "1200°"],
)
def test_one_number_in_any_usual_spelling_is_right(answer):
    assert TASK.judge(PROBLEM, answer)
    assert TASK.vote(PROBLEM, answer) == "1200"


@pytest.mark.parametrize(
    "answer",
    [
        *("", " ", "-1200", "1201", "1200.5", "12,00", "1,2000", "120 0", "1200 1200", "1200 or 7"),
        *(
            "1200 apples",
            "= 1200",
            "1000+200",
            "6e2",
            "1.2e3",
            "0x4b0",
            "١٢٠٠",
            "１２００",
            "1_200",
        ),
        *("12" * 1_000_000, "1" + "," * 500_000, "9**9**9", "__import__('os')", "\0", "\ud800"),
        *("inf", "nan", "--1200", "$$1200$$", "1200..", "²", "1/0", "2400/2"),
        *(None, 1200, ["1200"], {"answer": "1200"}),
    ],
)
def test_anything_else_is_wrong_and_never_raises(answer):
    assert TASK.judge(PROBLEM, answer) is False


@pytest.mark.parametrize("data", [{}, {"answer": None}, {"answer": 1200}, {"answer": "many"}])
def test_a_problem_without_a_gold_number_pays_nobody(data):
    problem = Problem("word_problems", "x", "?", "en", "train", data)
    assert not TASK.judge(problem, "1200") and not TASK.judge(problem, str(data.get("answer")))


@settings(deadline=None)
@given(st.integers(-(10**12), 10**12), st.integers(0, 4), st.booleans(), st.booleans())
def test_numbers_are_read_exactly(value, zeros, commas, stop):
    text = f"{value:,}" if commas else str(value)
    text += "." + "0" * zeros if zeros else ""
    assert number(text + ("." if stop else "")) == value
    assert TASK.vote(PROBLEM, text) == str(value)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6 - 1))
def test_decimals_are_fractions_and_not_floats(whole, part):
    text = f"{whole}.{part:06d}"
    assert number(text) == Fraction(whole * 10**6 + part, 10**6)


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("0123456789.,-+$ eE/°"), st.binary(), st.none()))
def test_the_checker_takes_any_text(text):
    value = number(text)
    assert value is None or isinstance(value, Fraction)
    assert TASK.judge(PROBLEM, text) is (value == 1200)
    assert (TASK.vote(PROBLEM, text) is None) is (value is None)


# -- the problems -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    return {
        (level, split): WordProblems(level).problems(split, 150 if split == "train" else 60, seed)
        for level in LEVELS
        for seed, split in enumerate(SPLITS)
    }


def test_every_kind_comes_and_its_solution_is_right(drawn):
    for (level, split), problems in drawn.items():
        assert {problem.data["kind"] for problem in problems} == set(LEVELS[level].kinds)
        for problem in problems:
            assert problem.split == split and problem.language == "en"
            answer = TASK.solution(problem)
            assert TASK.judge(problem, answer) and TASK.vote(problem, answer) == answer
            assert not TASK.judge(problem, str(int(answer) + 1))
            assert Problem.from_json(problem.to_json()) == problem
            assert problem.question.endswith(words.INSTRUCTION) and "{" not in problem.question
            assert accuracy_reward([f"<answer> {answer} </answer>"], problem=[problem]) == [1.0]


def test_known_questions_have_the_answers_that_we_work_out_ourselves(drawn):
    """Legs, angles and sisters, computed from the words of the question."""
    animals = package.module("arithmetic.leg_counting").ANIMALS
    checked = set()
    for problem in [p for problems in drawn.values() for p in problems]:
        text, kind = problem.question, problem.data["kind"]
        found = [int(n) for n in re.findall("[0-9]+", text)]
        if kind == "legs":
            listed = re.findall(r"([0-9]+) ([a-z ]+?)(?=,|\?)", text)
            names = {**animals, **{f"{animal}s": legs for animal, legs in animals.items()}}
            expected = sum(int(count) * names[animal] for count, animal in listed)
        elif kind == "polygon":
            sides, angles = len(found) - 1, found[2:]
            expected = 180 * (sides - 2) - sum(angles)
            assert found[:2] == [sides, sides - 1] and 0 < expected < 180
        elif kind == "family":
            expected = found[1] + 1  # sisters, and herself
        else:
            continue
        checked.add(kind)
        assert str(expected) == problem.data["answer"], text
    assert checked == {"legs", "polygon", "family"}


def test_dates_are_counted_as_the_calendar_counts():
    for problem in WordProblems("hard", "calendar").problems("train", 40):
        dates = re.findall(r"[A-Z][a-z]+day, ([A-Z][a-z]+ [0-9]+)", problem.question)
        start, end = (datetime.strptime(f"{date} 2022", "%B %d %Y") for date in dates)
        days = [start + timedelta(i) for i in range((end - start).days + 1)]
        weekday = re.search(r"(?:How many|occurrences of|does) ([A-Z][a-z]+day)", problem.question)
        if weekday:
            count = sum(day.strftime("%A") == weekday[1] for day in days)
        else:
            count = sum(day.weekday() < 5 for day in days)
        assert str(count) == problem.data["answer"], problem.question


def test_no_split_shares_a_content_whatever_the_seed(drawn):
    for level in LEVELS:
        task = WordProblems(level)
        train = {p.id for seed in range(3) for p in task.problems("train", 200, seed)}
        other = {p.id for split in ("held_out", "leaked") for p in drawn[level, split]}
        assert not train & other
        assert not {p.question for p in drawn[level, "train"]} & {
            p.question for p in drawn[level, "held_out"]
        }


def test_other_names_are_the_same_problem():
    """Two stories that differ only by their people must not be train and held out."""
    by_content = {}
    for seed in range(40):
        for problem in WordProblems("easy", ("family",)).problems("train", 40, seed):
            by_content.setdefault(problem.id, set()).add(problem.question)
    assert max(len(questions) for questions in by_content.values()) > 1


def test_problems_depend_on_the_seed_alone_and_a_prefix_is_a_prefix():
    task = get_task("word_problems", difficulty="easy")
    assert task.problems("train", 30, seed=5) == task.problems("train", 60, seed=5)[:30]
    assert task.problems("train", 30, seed=5) != task.problems("train", 30, seed=6)
    shared = {p.id for p in task.problems("train", 100, 0)} & {
        p.id for p in task.problems("train", 100, 1)
    }
    assert len(shared) < 60  # the package's own seeds 0 and 1 share 99 of 100


def test_the_same_problems_on_every_machine_and_version():
    """One digest on Python 3.10 to 3.13.  If this fails, reasoning-gym or Python's generator has
    changed, and with it the splits, so that old figures are no longer comparable."""
    drawn = [p.to_json() for level in LEVELS for p in WordProblems(level).problems("train", 100)]
    assert hashlib.sha256("".join(drawn).encode()).hexdigest()[:16] == "1203a133c7ac10df"


def test_none_comes_twice_before_all_have_come():
    problems = WordProblems("easy", "family").problems("held_out", 60)
    ids = [problem.id for problem in problems]
    size = len(set(ids))
    assert size < 60 and len(set(ids[:size])) == size


def test_difficulty_bounds_the_question_and_its_numbers(drawn):
    easy, hard = drawn["easy", "train"], drawn["hard", "train"]
    assert max(int(p.data["answer"]) for p in easy) <= 100
    assert sum(len(p.question) for p in easy) < sum(len(p.question) for p in hard)


@pytest.mark.parametrize(
    "options",
    [{"difficulty": "silly"}, {"kinds": ("riddles",)}, {"kinds": ()}, {"wording": "tiny"}],
)
def test_bad_options_are_told(options):
    with pytest.raises(R1LabError, match="word_problems"):
        get_task("word_problems", **options)


def test_an_unknown_split_is_told():
    with pytest.raises(R1LabError, match="held_out"):
        TASK.problems("test", 1)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    package.module.cache_clear()
    try:
        with pytest.raises(R1LabError, match="pip install --no-deps reasoning-gym=="):
            TASK.problems("train", 1)
    finally:
        package.module.cache_clear()


def test_only_the_generators_are_imported_and_no_scorer_is_called():
    for kind in WRITERS:
        WordProblems("hard", (kind,)).problems("train", 1)
    assert not [name for name in sys.modules if name.startswith("reasoning_gym")] or getattr(
        sys.modules["reasoning_gym"], "__file__", None
    )
    tree = ast.parse(inspect.getsource(words))
    called = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not [name for name in called if "score" in name]
    assert not {"eval", "exec"} & {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(LEVELS)), st.integers(0, 2**32))
def test_any_seed_gives_problems(level, seed):
    problems = WordProblems(level).problems("train", 5, seed)
    assert len({problem.id for problem in problems}) == 5


def test_the_loop_trains_on_them_unchanged(random_model, tmp_path):
    from r1lab.grpo import GRPOConfig, train

    model, tokenizer = random_model
    tokenizer = copy.deepcopy(tokenizer)  # the tiny world's, and the words of these questions
    asked = [render(p, "tiny") for p in WordProblems("easy").problems("train", 2)]
    tokenizer.add_tokens(sorted({piece for text in asked for piece in re.findall(r"\w+|\W", text)}))
    model.resize_token_embeddings(len(tokenizer))
    config = GRPOConfig(steps=1, questions=2, group_size=2, max_new_tokens=4, template="tiny")
    history = train(model, tokenizer, WordProblems("easy"), config, tmp_path, progress=False)
    assert history[0]["accuracy"] == 0.0 and history[0]["step"] in (0, 1)

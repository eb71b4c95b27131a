"""Hub tasks on rows in the data sets' format: parsing, splits, and judging hostile answers."""

from __future__ import annotations

import json
import os
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab.basics.errors import R1LabError
from r1lab.evaluate import cons_at_k
from r1lab.models import load
from r1lab.rewards import accuracy_reward
from r1lab.tasks import GSM8K, MATH, CountdownHub, Problem, get_task, math_equal, task_for
from r1lab.tasks.countdown import evaluate, split_of, to_postfix
from r1lab.tasks.formulas.finished import finished
from r1lab.tasks.hub import content, gsm8k_problems, math_problems, solve
from r1lab.tasks.registry import FROM_HUB

GSM8K_TRAIN = [
    {
        "question": "Ada packs 12 boxes with 4 cups each. How many cups are that?",
        "answer": "12 boxes hold 12*4=<<12*4=48>>48 cups.\n#### 48",
    },
    {"question": "A ship carries 1,500 tons twice. How many?", "answer": "So 3000.\n#### 3,000"},
    {"question": "Bo owes 5 and then 2 more. What is his balance?", "answer": "It is\n#### -7"},
    {"question": "How many eggs are left?", "answer": "No final line here"},
    {"question": "Leaked: how many days has a week?", "answer": "#### 7"},
]
GSM8K_TEST = [
    {"question": "leaked - How many days has a week", "answer": "#### 7"},
    {"question": "How many legs have 2 dogs?", "answer": "#### 8"},
]
MATH_TRAIN = [
    {
        "problem": "What is $\\frac12 + 1$?",
        "level": "Level 1",
        "type": "Prealgebra",
        "solution": "We add: \\boxed{1} is wrong, so $\\boxed{\\frac{3}{2}}$.",
    },
    {
        "problem": "Solve $x^2 = 4$, $x > 0$.",
        "level": "Level 5",
        "type": "Algebra",
        "solution": "Thus $x = \\boxed{2}$.",
    },
    {"problem": "No box", "level": "Level 2", "type": "Algebra", "solution": "It is 2."},
    {"problem": "No level", "level": "Level ?", "type": "Algebra", "solution": "$\\boxed{2}$"},
    {"problem": "Open box", "level": "Level 2", "type": "Algebra", "solution": "$\\boxed{2$"},
]
MATH_TEST = [
    {
        "problem": "Give the interval.",
        "level": 3,
        "subject": "Algebra",
        "answer": "[0,1)",
        "solution": "It is $\\boxed{[0,1)}$.",
        "unique_id": "test/algebra/1.json",
    },
]
COUNTDOWN = [
    {"target": 98, "nums": [44, 19, 35]},
    {"target": 64, "nums": [63, 95, 96]},
    {"target": 28, "nums": [95, 11, 56]},
    {"target": 24, "nums": [3, 3, 8, 8]},
] + [{"target": 10 + k, "nums": [10, k, 20, 20]} for k in range(1, 40)]


# -- rows -------------------------------------------------------------------------------------


def test_gsm8k_gold_answers_are_what_stands_after_the_hashes():
    problems = gsm8k_problems(GSM8K_TRAIN, "train")
    assert [problem.data["answer"] for problem in problems] == ["48", "3000", "-7", "7"]
    task = GSM8K()
    for problem, right in zip(problems, ["48.0", "$3,000", "-7", "\\boxed{7}"], strict=True):
        assert task.judge(problem, right) and task.judge(problem, task.solution(problem))
        assert accuracy_reward([f"<answer>{right}</answer>"], problem=[problem]) == [1.0]
        assert not task.judge(problem, "49") and not task.judge(problem, "")
        assert Problem.from_json(problem.to_json()) == problem


def test_math_gold_answers_are_the_last_box():
    problems = math_problems(MATH_TRAIN, "train")
    assert [(p.data["answer"], p.data["level"]) for p in problems] == [
        ("\\frac{3}{2}", 1),
        ("2", 5),
    ]
    task = MATH()
    assert task.judge(problems[0], "1.5") and task.judge(problems[0], "$\\frac{6}{4}$")
    assert not task.judge(problems[0], "1")
    (held_out,) = math_problems(MATH_TEST, "held_out")
    assert task.judge(held_out, "$[0, 1)$") and not task.judge(held_out, "(0, 1)")
    assert task.vote(problems[0], "$ \\frac{3}{2} $.") == task.vote(problems[0], "\\frac{3}{2}")
    assert task.vote(problems[0], "") is None


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The rows as folders of JSON lines, which `datasets` reads like a hub data set."""
    root = tmp_path_factory.mktemp("hub")
    files = {
        "gsm8k/train": GSM8K_TRAIN,
        "gsm8k/test": GSM8K_TEST,
        "math/train": MATH_TRAIN,
        "math/test": MATH_TEST,
        "countdown/train": COUNTDOWN,
    }
    for name, rows in files.items():
        path = root / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import datasets

    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    yield root
    datasets.config.HF_DATASETS_CACHE = before


def test_splits_share_no_question_and_draws_repeat(folders):
    task = get_task("gsm8k", source=str(folders / "gsm8k"))
    train, held_out = task.problems("train", 3), task.problems("held_out", 2)
    assert {p.split for p in train} == {"train"} and {p.split for p in held_out} == {"held_out"}
    assert len({p.id for p in train}) == 3 and len({p.id for p in held_out}) == 2
    assert not {p.id for p in train} & {p.id for p in held_out}
    assert not [p for p in train if "week" in p.question]  # the same words in other punctuation
    assert task.problems("train", 7)[:3] == train
    assert len({tuple(p.id for p in task.problems("train", 3, seed)) for seed in range(8)}) > 1
    with pytest.raises(R1LabError, match="train and held_out"):
        task.problems("leaked", 1)


def test_a_folder_without_the_file_is_told(folders):
    with pytest.raises(R1LabError, match="neither test.jsonl nor .parquet"):
        GSM8K(source=str(folders / "countdown")).problems("train", 1)


def test_math_levels_choose(folders):
    source = str(folders / "math")
    assert [p.data["level"] for p in MATH(levels=5, source=source).problems("train", 1)] == [5]
    assert MATH(source=source).problems("held_out", 1)[0].data["answer"] == "[0,1)"
    with pytest.raises(R1LabError, match="no problem"):
        MATH(levels=(4,), source=source).problems("train", 1)
    with pytest.raises(R1LabError, match="levels"):
        get_task("math", levels=(6,))


def test_countdown_rows_become_our_problems(folders):
    task = get_task("countdown_hub", source=str(folders / "countdown"))
    problems = task.problems("train", 20) + task.problems("held_out", 3)
    for problem in problems:
        numbers, answer = problem.data["numbers"], task.solution(problem)
        assert (problem.split == "held_out") == (split_of(numbers) == "held_out")
        assert str(problem.data["target"]) in problem.question
        if answer is None:
            continue
        assert task.judge(problem, answer) and task.vote(problem, answer)
        assert not task.judge(problem, answer + " + 1")
        reward = accuracy_reward([f"<answer> {answer} </answer>"], problem=[problem.to_json()])
        assert reward == [1.0]
    assert {len(p.data["numbers"]) for p in CountdownHub(3, task.source).problems("train", 2)} == {
        3
    }
    with pytest.raises(R1LabError, match="3 or 4"):
        get_task("countdown_hub", numbers=5)


@pytest.mark.parametrize("numbers", [None, 3, 4])
def test_generated_rows_are_like_the_hubs_can_be_solved_and_keep_the_splits(numbers):
    task = get_task("countdown_hub", source="generated", numbers=numbers)
    found = {split: task.problems(split, 60, seed=1) for split in ("train", "held_out")}
    assert found["train"][:20] == task.problems("train", 20, seed=1)
    for split, problems in found.items():
        assert len({p.id for p in problems}) == 60
        assert {len(p.data["numbers"]) for p in problems} == ({numbers} if numbers else {3, 4})
        for p in problems:
            assert all(1 <= x <= 99 for x in p.data["numbers"]) and 10 <= p.data["target"] <= 100
            assert p.split == split and task.judge(p, task.solution(p))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 20), min_size=3, max_size=4), st.integers(1, 60))
def test_found_solutions_are_solutions(numbers, target):
    answer = solve(numbers, target)
    if answer is not None:
        postfix = to_postfix(answer)
        assert evaluate(postfix) == Fraction(target)
        assert sorted(item for item in postfix if isinstance(item, int)) == sorted(numbers)


def test_the_search_knows_fractions():
    assert evaluate(to_postfix(solve([3, 3, 8, 8], 24))) == 24
    assert solve([1, 1, 1], 50) is None


@pytest.mark.parametrize("task", ["gsm8k", "math", "countdown_hub"])
def test_offline_the_error_names_what_works(task):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(R1LabError, match="countdown and word_problems") as caught:
        get_task(task).problems("train", 1)
    assert "\n" not in str(caught.value) and "source=" in str(caught.value)


def write(folder, name, rows):
    folder.mkdir(exist_ok=True, parents=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(folder)


SEVERAL = [
    ["What is 9 + 4?", "What is 9 - 4?", "What is 9 * 4?", "What is 9 / 4?", "What is 94?"],
    ["What is 3(4 + 5)?", "What is (3)4 + 5?", "What is 3[4 + 5]?"],
    ["Round 1.5 up.", "Round 15 up.", "Round 1 up 5."],
    ["Solve $x < 3$.", "Solve $x > 3$.", "Solve $x = 3$.", r"Solve $x \le 3$."],
    ["What is 5!?", "What is 5?", "What is -5?", "What is 5%?"],
    ["Find f'(2).", "Find f(2).", "Find f''(2)."],
    ["Is x^2 even?", "Is x2 even?", "Is x_2 even?"],
    ["Is 2:3 even?", "Is 23 even?", "Is |2 3| even?"],
    ["Add x − y.", "Add x + y.", "Add x × y.", "Add x ÷ y.", "Add x y."],
    ["What is a-b?", "What is a b?"],
    ["What is 5²?", "What is 52?"],
]
ONE = ["What is 9 - 4?", "what is  9 -4", "What is 9 − 4 ?", "What – is: 9-4..."]


@pytest.mark.parametrize("questions", SEVERAL)
def test_signs_brackets_and_points_make_another_problem(questions, tmp_path):
    """In training, and when training is kept apart from what is held out."""
    rows = [{"question": q, "answer": f"#### {k}"} for k, q in enumerate(questions)]
    write(tmp_path, "train", rows)
    source = write(tmp_path, "test", rows[:1])
    assert len({content(q) for q in questions}) == len(questions)
    found = {p.question for p in GSM8K(source=source).problems("train", 50)}
    assert found == set(questions[1:])


def test_spaces_case_and_the_points_of_a_sentence_do_not():
    assert len({content(question) for question in ONE}) == 1
    assert content("Leaked: well-known ones?") == content("leaked - Well known ones")
    assert content("Ann’s 3 cups!") == content("ann's 3 cups")


def answers_of(task, split="train"):
    problems = task.problems(split, 9)
    return {p.question: p.data["answer"] for p in problems}


def test_gsm8k_folders_may_hold_a_unit_a_bare_number_or_another_column(tmp_path):
    rows = [
        {"question": "a", "answer": "So.\n#### 3 apples"},
        {"question": "b", "answer": 13},
        {"question": "c", "answer": "14"},
        {"problem": "d", "answer": "#### $1,500.50"},
        {"question": "e", "answer": "#### 20%"},
        {"question": "f", "answer": 2.5},
        {"question": "g", "answer": "#### 5 dollars."},
    ]
    write(tmp_path / "rows [v2]", "train", rows)
    task = GSM8K(source=write(tmp_path / "rows [v2]", "test", rows[:1]))
    expected = {"b": "13", "c": "14", "d": "3001/2", "e": "20%", "f": "5/2", "g": "5"}
    assert answers_of(task) == expected and answers_of(task, "held_out") == {"a": "3"}
    assert all(task.judge(p, task.solution(p)) for p in task.problems("train", 6))


def test_math_folders_need_no_level_and_take_numbers(tmp_path):
    rows = [
        {"problem": "a", "answer": 204},
        {"problem": "b", "answer": 0, "level": None},
        {"question": "c", "answer": "025", "level": 3},
        {"problem": "d", "solution": r"so \boxed{7}"},
        {"problem": "e", "answer": 2.5},
    ]
    write(tmp_path, "train", rows)
    source = write(tmp_path, "test", [{"problem": "z", "answer": "1"}])
    assert answers_of(MATH(source=source)) == {
        "a": "204",
        "b": "0",
        "c": "025",
        "d": "7",
        "e": "2.5",
    }
    assert answers_of(MATH(levels=3, source=source)) == {"c": "025"}
    assert answers_of(MATH(source=source, held_out=source), "held_out") == {"z": "1"}


def test_rows_that_are_left_out_are_counted(tmp_path, caplog):
    good = [{"problem": f"q{k}", "level": "Level 2", "answer": "1"} for k in range(3)]
    bad = [
        {"problem": "a", "level": "Level ?", "answer": "1"},
        {"problem": "b", "level": "Level ?", "answer": "1"},
        {"problem": "c", "level": "Level 2", "answer": "9" * 400},
        {"problem": "d", "level": "Level 2", "solution": "no box"},
        {"problem": "e", "level": "Level 2", "answer": ["1"]},
    ]
    write(tmp_path, "train", good + bad)
    task = MATH(source=write(tmp_path, "test", good[:1]))
    assert set(answers_of(task)) == {"q1", "q2"}
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("math, train: 5 of 8 rows are left out: 2 with another level")
    assert "3 without an answer of at most 300" in said
    write(tmp_path / "none", "train", bad)
    with pytest.raises(R1LabError, match="5 of 5 rows are left out: 2 with another level"):
        MATH(source=write(tmp_path / "none", "test", good)).problems("train", 1)


BAD_ROWS = [
    (
        "gsm8k",
        {"question": None, "answer": "#### 1"},
        "row 2.*column question must hold a text.*None",
    ),
    ("gsm8k", {"question": ["q"], "answer": "#### 1"}, "row 2.*column question .*'q'"),
    ("gsm8k", {"question": "  ", "answer": "#### 1"}, "row 2.*column question"),
    ("gsm8k", {"text": "q", "answer": "#### 1"}, "row 2.*no column question, only text, answer"),
    ("gsm8k", {"question": "q"}, "row 2.*no column answer, only question"),
    ("gsm8k", {}, "row 2.*no column answer, only none"),
    ("math", {"problem": None, "answer": "1"}, "row 2.*column problem must hold a text, not None"),
    ("math", {"problem": "q", "level": 3}, "row 2.*no column solution, only problem, level"),
    ("math", {"task": "q", "answer": "1"}, "row 2.*no column problem, only task, answer"),
    ("countdown_hub", {"nums": None, "target": 1}, "row 2 .*column nums must hold a list.*None"),
    ("countdown_hub", {"nums": ["a"], "target": 1}, "row 2 .*column nums"),
    ("countdown_hub", {"nums": [[1, 2], 3, 4], "target": 1}, "row 2 .*column nums"),
    ("countdown_hub", {"nums": 7, "target": 1}, "row 2 .*column nums"),
    ("countdown_hub", {"nums": [1, 2, 3.5], "target": 1}, "row 2 .*column nums"),
    ("countdown_hub", {"nums": [1, 2, 3], "target": None}, "row 2 .*column target"),
    ("countdown_hub", {"nums": [1, 2, 3], "target": "12"}, "row 2 .*column target"),
    ("countdown_hub", {"numbers": [1, 2, 3]}, "row 2 .*column nums"),
]


@pytest.mark.parametrize("task, row, words", BAD_ROWS)
def test_a_broken_row_is_named(task, row, words, tmp_path):
    good = {"question": "q", "problem": "q", "answer": "#### 1", "nums": [1, 2, 3], "target": 6}
    good["answer"] = "1" if task == "math" else good["answer"]
    for name in ("train", "test"):
        source = write(tmp_path, name, [good, row])
    with pytest.raises(R1LabError, match=words) as caught:
        get_task(task, source=source).problems("train", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data, words",
    [
        ('{"question": "多少"}'.encode("gbk"), r"train.jsonl is not in UTF-8 .byte 14"),
        (b'{"question": "q", ', "train.jsonl, line 1 is no JSON object"),
        (b'{"question": "q", "answer": "1"}\n[1]\n', "line 2 is no JSON object but .1."),
        (b"[" * 100_000, "line 1 is no JSON object"),
        (b"", "no problem"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(data, words, tmp_path):
    source = write(tmp_path, "test", GSM8K_TEST)
    (tmp_path / "train.jsonl").write_bytes(data)
    with pytest.raises(R1LabError, match=words) as caught:
        GSM8K(source=source).problems("train", 1)
    assert "\n" not in str(caught.value)


def test_a_broken_parquet_file_is_named_and_a_whole_one_is_read(tmp_path):
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "[a]*"
    folder.mkdir()
    for name, rows in (("train", GSM8K_TRAIN[:2]), ("test", GSM8K_TEST)):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{name}.parquet")
    assert len(answers_of(GSM8K(source=str(folder)))) == 2
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(R1LabError, match="cannot read .*train.parquet"):
        GSM8K(source=str(tmp_path)).problems("train", 1)


@pytest.mark.parametrize("task", ["gsm8k", "math", "countdown_hub"])
@pytest.mark.parametrize("source", [None, [1], (), "", " ", True, 1.5, {}])
def test_a_source_that_is_no_name_is_refused(task, source):
    with pytest.raises(R1LabError, match="source must be a data set on the hub or a folder"):
        get_task(task, source=source)


def test_a_folder_may_be_named_2024_or_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "2024", "train", GSM8K_TRAIN[:1])
    write(tmp_path / "2024", "test", GSM8K_TEST)
    for source in (2024, "2024", "~/2024"):
        assert len(answers_of(get_task("gsm8k", source=source))) == 1
    with pytest.raises(R1LabError, match="cannot load the data set 2025"):
        get_task("gsm8k", source=2025).problems("train", 1)


@pytest.mark.parametrize("levels", [None, "3", 3.0, True, [[1]], (1, "2"), (), 0])
def test_levels_that_are_none_are_refused(levels):
    with pytest.raises(R1LabError, match="levels must be some of 1 to 5"):
        get_task("math", levels=levels)


def test_percent_is_meant_where_the_question_asks_for_it():
    task, row = GSM8K(), {"answer": "#### 20"}
    (asked,) = gsm8k_problems([{"question": "It was 50%. What percent is it now?"} | row], "train")
    (other,) = gsm8k_problems([{"question": "It fell by 5%. How many are left?"} | row], "train")
    assert task.judge(asked, "20%") and task.judge(asked, "20 percent") and task.judge(asked, "20")
    assert (
        not task.judge(other, "20%") and not task.judge(asked, "0.20%") and task.judge(other, "20")
    )


VOTES = [
    ["5", "x=5", r"5\text{cm}", "5cm", "5.0", "$5$", r"\boxed{5}", "= 5"],
    [r"\dfrac12", r"\frac{1}{2}", "1/2", "0.5", "½"],
    ["(1,2)", r"\left(1,2\right)", "(1, 2.0)"],
    ["1,2", "2, 1", r"\{1,2\}", "x=1 or x=2"],
    ["x(x+1)", "x^2+x", "f(x) = x + x²"],
    ["[0,1)", r"0 \le x < 1", r"x\in[0,1)"],
    [r"\sqrt{8}", "2√2", r"2\sqrt{2}"],
    ["2x+4y=6", "x+2y-3=0"],
    [r"\text{Evelyn}", "Evelyn", "evelyn."],
    [r"\text{(B)}", "(B)", "B", r"\textbf{B}"],
    ["5 ninths"],
    [r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1.0\\2\end{bmatrix}"],
    ["1,2,2"],
    ["52_8"],
    ["52_9"],
    ["CAB"],
    ["BAC"],
    ["(2,1)"],
    ["x'"],
    ["x"],
    ["10:30"],
    ["1:3"],
]


def test_equal_answers_are_one_vote_and_others_are_not():
    task, (problem,) = MATH(), math_problems(MATH_TEST, "held_out")
    votes = [{task.vote(problem, answer) for answer in group} for group in VOTES]
    assert [group for group, found in zip(VOTES, votes, strict=True) if len(found) > 1] == []
    assert len(set().union(*votes)) == len(VOTES)


def test_the_majority_counts_equal_answers_together():
    (problem,) = math_problems([{"problem": "q", "answer": "5"}], "train")
    task, answers = MATH(), ["5", "x=5", r"5\text{cm}", "5cm", "6", "6", "6"]
    votes = [task.vote(problem, answer) for answer in answers]
    right = [task.judge(problem, answer) for answer in answers]
    assert right == [True] * 4 + [False] * 3 and cons_at_k([votes], [right], 7)[0] == 1.0


OPTIONS = [
    *[(task, "name", "x") for task in ("countdown", "steps", "gsm8k", "math", "countdown_hub")],
    *[("countdown_hub", "numbers", value) for value in (3.0, True, "3", [3], 5)],
    *[("countdown", "numbers", value) for value in (3.0, None, "3", [3])],
    *[("gsm8k", name, 1) for name in ("levels", "template", "sources")],
]


@pytest.mark.parametrize("task, option, value", OPTIONS)
def test_bad_options_are_refused_in_one_line(task, option, value):
    with pytest.raises(R1LabError) as caught:
        task_for(task, "tiny", **{option: value})
    assert task in str(caught.value) and "\n" not in str(caught.value)


# -- equality ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gold, answer, verdict",
    [
        ("14", "14.0", True),
        ("14", "x = 14", True),
        ("14", "\\boxed{14}.", True),
        ("14", "\\left(14\\right)", True),
        ("\\frac{3}{2}", "1.5", True),
        ("\\frac{3}{2}", "3/2", True),
        ("\\frac{3}{2}", "x=\\frac32", True),
        ("2\\sqrt{3}", "\\sqrt{12}", True),
        ("x^2+2x+1", "(x+1)^2", True),
        ("(1,2)", "(1, 2)", True),
        ("90^\\circ", "90", True),
        ("1,234", "1234", True),
        ("\\text{Evelyn}", "Evelyn", True),
        ("\\pi", "3.14", False),
        ("(1,2)", "(2,1)", False),
        ("p - q", "q - p", False),
        ("\\frac{3}{2}", "1.4", False),
        # more than one guess, and sums that are left to the judge
        # a product without a sign is no closer than a quotient
        ("\\frac{1}{2x}", "1/2x", False),
        ("\\frac{x}{2}", "1/2x", True),
        ("y=\\frac12 x+3", "y=1/2x+3", True),
        ("\\frac{\\pi}{2}", "1/2\\pi", True),
        ("\\frac{1}{2\\sqrt{3}}", "1/2sqrt(3)", False),
        ("\\frac{3}{4x^2}", "3/4x^2", False),
        ("\\frac{1}{ab}", "1/ab", False),
        ("\\frac{1}{2(x+1)}", "1/2(x+1)", False),
        ("\\frac{1}{2(x+1)}", "1/(2(x+1))", True),
        ("\\frac{1}{f(x)}", "1/f(x)", True),
        ("\\frac{5}{2}\\text{ cm}", "5/2cm", True),
        ("14", "13, no: 14", False),
        ("14", "13 or 14", False),
        ("14", "$13$ or $14$", False),
        ("14", "13, 14", False),
        ("14", "13 = 14", False),
        ("14", "\\boxed{13} \\boxed{14}", False),
        ("14", "13} \\boxed{14", False),
        ("14", "12 + 2", False),
        ("14", "7 \\cdot 2", False),
        ("14", "16 - 2", False),
        ("14", "\\sum_{n=1}^{14} 1", False),
        ("14", "", False),
        ("14", "\\\\", False),
        ("", "", False),
    ],
)
def test_equality(gold, answer, verdict):
    assert math_equal.equal(gold, answer) is verdict


RESTATED = {
    "14": [r"\frac{28}{2}", "28/2", "28:2", r"28 \div 2", "14x/x", r"\frac{14\pi}{\pi}", "14i/i"]
    + [r"\max(1,14)", r"\lfloor 14.5 \rfloor", r"\gcd(28,42)", r"\operatorname{lcm}(2,7)", "|-14|"]
    + [r"14\cos 0", r"\begin{vmatrix} 2 & 0 \\ 0 & 7 \end{vmatrix}", "-(-14)", "--14", "7×2"]
    + ["16\u22122", "x = 12 + 2", r"{14 \choose 1}", r"14\text{ or 15}"],
    r"\frac{1}{2}": [r"\int_0^1 x dx", r"\sum_{n=1}^{\infty} \frac{1}{3^n}", r"1-\frac{1}{2}"]
    + [r"\sin \frac{\pi}{6}", r"\frac{3}{2}\cdot\frac{1}{3}", r"\frac{3}{2}\frac{1}{3}", "2^{-1}"]
    + [r"\frac{1/2}{1}", r"\frac{\frac{3}{2}}{3}", r"\frac{2-1}{2}", r"\frac{x}{2x}", r"\log_4 2"]
    + [r"\sqrt{\frac14}", r"3 \cdot \frac{1}{6}", r"\frac{1!}{2!}"],
    r"\frac{2}{3}": [r"\frac{1}{3}+\frac{1}{3}"],
    r"\sqrt{2}": [
        r"\lim_{x\to 0}\sqrt{2+x}",
        r"\sqrt{1^2+1^2}",
        r"\sqrt{1+1}",
        r"2\sin \frac{\pi}{4}",
    ],
    r"2\sqrt{3}": [r"\sqrt{3}+\sqrt{3}", r"\sqrt{2}\sqrt{6}", r"2\cdot 3\sqrt{3}/3"],
    r"\frac{\pi}{4}": [r"\arctan 1", r"\frac{\pi}{2}-\frac{\pi}{4}"],
    "90^\\circ": ["180^\\circ - 90^\\circ", r"2 \cdot 45^\circ"],
    "x=5": ["2+3", "x = 2+3"],
    r"3+2\sqrt{5}": [r"1+2+2\sqrt{5}", r"3+\sqrt{5}+\sqrt{5}", r"\sqrt{29+12\sqrt{5}}"],
    r"3-2\sqrt{2}": [r"(1-\sqrt{2})^2", r"\frac{1}{3+2\sqrt{2}}"],
    r"\frac{\sqrt{5}-1}{2}": [r"\frac{2}{1+\sqrt{5}}"],
    "5-2i": ["(2+i)+(3-3i)", "2+3+i-3i"],
    "2^{10}": [r"2^4 \cdot 2^6", "2^{11} - 2^{10}"],
    "2x": [r"\int 2 dx", r"\frac{d}{dx} x^2", r"\lim_{h\to 0} (2x+h)", r"x+x\cdot\max(1,0)"],
    "x+1": [r"x+\sin^2 x+\cos^2 x"],
    r"\begin{pmatrix} 4 \\ 6 \end{pmatrix}": [
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}+\begin{pmatrix} 3 \\ 4 \end{pmatrix}"
    ],
}


@pytest.mark.parametrize("gold", RESTATED)
def test_an_answer_leaves_no_work_to_the_judge(gold):
    """sympy would say yes to each of them, and whoever restates the question would be paid."""
    paid = [answer for answer in RESTATED[gold] if math_equal.equal(gold, answer)]
    assert not paid


RESPELLED = {
    "90": ["90^\\circ", "90^{\\circ}", "90°", "90^{ \\circ }", r"90\degree", "x = 90^\\circ"]
    + [r"\angle ABC = 90°", r"90\text{ degrees}", r"90\text{ cm}^2", r"90 \mbox{ inches}^{2}"]
    + [r"90\ \mathrm{cm}", "90 units", "90 cm", r"\$90", "+90", "{90}", r"\{90\}", r"\text{90}"],
    "90^\\circ": ["90", "90°", "90^{\\circ}", r"90 \text{ degrees}"],
    "45^\\circ, 135^\\circ": ["45^\\circ,135^\\circ", "45°, 135°", "45, 135"],
    "1,000": ["1000", "1{,}000", r"1,\!000", "x = 1,000", "1000.0"],
    r"111, \! 111, \! 111": ["111111111"],
    r"\$5": ["5", r"5 \text{ dollars}"],
    r"50\%": ["0.5", "50", "50%", r"\frac12"],
    "0.5": [r"\frac12", r"\dfrac{1}{2}", "1/2", ".5", r"50\%"],
    r"3\frac{1}{2}": ["3.5", r"\frac72", "7/2", "3 1/2"],
    r"-\frac{3}{4}": [r"\frac{-3}{4}", r"-\tfrac34", "-0.75", r"-\left(\frac{3}{4}\right)"]
    + ["\u22123/4", r"-{3 \over 4}", r"-\frac{6}{8}"],
    r"2\sqrt{3}": [r"2\sqrt3", r"\sqrt{12}", r"2 \cdot \sqrt{3}", r"\sqrt{3} \cdot 2", "2*sqrt(3)"],
    r"\frac{3\sqrt{2}}{4}": [r"\frac34\sqrt2", r"3\sqrt{2}/4", r"\frac{3}{2\sqrt{2}}"],
    r"\sqrt[3]{4}": ["4^{1/3}"],
    r"\frac{\pi}{6}": [r"\dfrac{\pi}{6}", r"\pi/6", r"\frac16 \pi", "π/6"],
    r"72\pi\sqrt{3}": [r"72\sqrt{3}\pi", r"\pi \cdot 72\sqrt3"],
    r"3+2\sqrt{5}": [r"2\sqrt5+3", r"3+\sqrt{20}", r"x = 3 + 2 \sqrt{5}"],
    r"\frac{1+\sqrt{5}}{2}": [r"\frac12+\frac{\sqrt5}{2}", r"(1+\sqrt5)/2", r"0.5+0.5\sqrt5"],
    r"8\pi-16": [r"8(\pi-2)", r"8\pi - 16\text{ square units}"],
    r"1 \pm \sqrt{19}": [r"1+\sqrt{19}, 1-\sqrt{19}"],
    "5-2i": ["5 - 2 i", "-2i+5"],
    r"\frac{3}{2} + \frac{3}{2} i": ["1.5+1.5i", r"\frac{3+3i}{2}"],
    "e^{2}": ["e^2", r"\exp(2)"],
    "e^{-2}": [r"\frac{1}{e^2}"],
    "2^{10}": ["1024", "2^{10}"],
    r"3\times 10^8": [r"3 \cdot 10^8", "300000000"],
    r"\log_2 3": [r"\log_{2} 3", r"\frac{\ln 3}{\ln 2}"],
    r"10!": ["3628800"],
    r"\binom{n}{k}": [r"\frac{n!}{k!(n-k)!}"],
    r"\cot x": [r"\frac{\cos x}{\sin x}"],
    r"\cos 58^\circ": [r"\cos(58°)"],
    "42_7": ["42_{7}", "42"],
    "1:2": [r"\frac12", "1/2"],
    "x=5": ["5", "x = 5.0"],
    "4x-5y=-50": [r"y = \frac{4}{5}x+10"],
    "4(3-x)(3+x)": ["36-4x^2"],
    r"(3,\infty)": [r"(3, \infty)", r"\left(3,\infty\right)"],
    "[-36,104]": [r"x \in [-36, 104]"],
    "3i,-3i": [r"\pm 3i"],
    r"\{1\pm\sqrt{5},-2\}": [r"-2, 1+\sqrt5, 1-\sqrt5"],
    r"\begin{pmatrix} 1/5 \\ -3/5 \end{pmatrix}": [
        r"\frac15 \begin{pmatrix} 1 \\ -3 \end{pmatrix}"
    ],
    r"12\text{ and }13": ["12, 13"],
    r"162\text{ minutes}": [r"162\text{ min}", "162"],
    r"\frac{1}{2} ": [r"P = \frac12", r"\frac{a}{b} = \frac12", r"\cos 60^\circ = \frac{1}{2}"],
}


@pytest.mark.parametrize("gold", RESPELLED)
def test_a_gold_answer_equals_its_other_spellings(gold):
    assert math_equal.equal(gold, f"$ {gold} $")
    refused = [answer for answer in RESPELLED[gold] if not math_equal.equal(gold, answer)]
    assert not refused


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["42", "\\frac{1}{2}", "3+2\\sqrt{5}", "x^2+1"]),
    st.text("\\{}()[]^/+-·=,.0123456789 πixyfracsqrtext°_", max_size=300),
)
def test_looking_for_unfinished_work_takes_any_text_and_no_time(gold, text):
    start = time.process_time()
    assert finished(gold, text) in (True, False)
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize("part", ["1", "1/", "1,111", "√{1}", "{", "{}{", "\\frac{", "i·π·", "a."])
def test_repeated_parts_take_no_time_either(part):
    start = time.process_time()
    finished("\\frac{1}{2}", part * (300 // len(part)))
    finished("3+2\\sqrt{5}", part * (299 // len(part)) + "!")
    assert time.process_time() - start < 0.2


HOSTILE = {
    "power": "9**9**9",
    "tower": "9^{9^{9^9}}",
    "exponent": "(x+1)^{1000000}",
    "sum": "\\sum_{n=1}^{10^{9}} n^x",
    "product": "\\prod_{k=1}^{100000} k",
    "factorials": "100000!!!",
    "integral": "\\int_0^1 x^{x^{x^x}} dx",
    "nested fractions": "\\frac{1}{" * 2000 + "2" + "}" * 2000,
    "nested fractions within the limit": "\\frac{1}{" * 7 + "2" + "}" * 7,
    "parentheses": "(" * 100_000 + "9" + ")" * 100_000,
    "parentheses within the limit": "(" * 8 + "9" + ")" * 8,
    "huge LaTeX": "\\frac{x}{y}+" * 100_000,
    "huge LaTeX within the limit": "\\frac{x}{y}+" * 22 + "1",
    "a megabyte of digits": "9" * 1_000_000,
    "digits within the limit": "9" * 300,
    "call": "__import__('os').system('touch {}')",
    "text call": "\\text{__import__('os').system('touch {}')}",
    "input": "\\input{/etc/passwd}",
    "NUL": "1\0",
    "surrogate": "\ud800",
    "right to left": "\u202e41",
    "not text": None,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_wrong_and_take_bounded_time(name, tmp_path):
    answer = HOSTILE[name]
    if isinstance(answer, str):
        answer = answer.replace("touch {}", f"touch {tmp_path / 'pwned'}")
    math_equal.equal("1", "x")  # a worker is there
    start = time.process_time()
    assert math_equal.equal("7x^3", answer) is False
    assert GSM8K().judge(gsm8k_problems(GSM8K_TRAIN, "train")[0], answer) is False
    assert time.process_time() - start < 0.5  # of ours; the worker has limits of its own
    assert math_equal.equal("7x^3", "7 x^{3}") is True  # and the next answer is judged
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="limits on processor time")
def test_a_comparison_that_does_not_end_is_ended():
    """By an exception, past every prefilter; what does not hear it is in test_worker.py."""
    assert math_equal.equal("x", "y") is False
    process = math_equal.WORKER.process
    assert math_equal.ask("x^5", "9^{9^{9^9}}") is False
    assert math_equal.ask(r"\int x dx", "\\int_0^1 x^{x^{x^x}} dx") is False
    assert math_equal.WORKER.process is process and process.poll() is None
    assert math_equal.equal("2x", "x+x") is True


def test_a_silent_worker_is_killed_by_the_clock(monkeypatch):
    math_equal.equal("x", "y")
    monkeypatch.setattr(math_equal.WORKER, "wall_seconds", 0.0)
    assert math_equal.ask("x+41", "41+x") in (False, True)  # it may just have been quick enough
    monkeypatch.undo()
    assert math_equal.equal("x+42", "42+x") is True


def test_a_worker_that_somebody_kills_is_replaced():
    math_equal.equal("x", "y")
    math_equal.WORKER.process.kill()
    math_equal.WORKER.process.wait()
    assert math_equal.equal("x+43", "43+x") is True


def test_it_works_outside_the_main_thread():
    """math-verify's own time limit raises there."""
    verdicts = []
    threads = [
        threading.Thread(target=lambda k=k: verdicts.append(math_equal.equal(f"{k}x", f"x{k}")))
        for k in range(2, 5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 3 and all(isinstance(verdict, bool) for verdict in verdicts)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=400), st.text("\\${}()[]^*/+-=,.0123456789 boxedfracx")))
def test_cleaning_takes_any_text_and_is_done_after_once(text):
    bare = math_equal.clean(text)
    assert bare is None or (bare and math_equal.clean(bare) == bare)
    assert bare is None or (len(bare) <= len(text) and "$" not in bare.replace("\\$", ""))


@settings(deadline=None, max_examples=25)
@given(st.text("\\{}()^/-=,.0123456789 xyfracsqrt", max_size=40))
def test_any_text_gets_a_verdict(text):
    assert math_equal.equal("7x^3+1", text) in (True, False)


@settings(deadline=None, max_examples=25)
@given(st.integers(-999, 999), st.integers(1, 99))
def test_a_fraction_equals_itself_and_no_other(top, bottom):
    latex = f"\\frac{{{abs(top)}}}{{{bottom}}}"
    latex = f"-{latex}" if top < 0 else latex
    assert math_equal.equal(latex, f"{top}/{bottom}") is True
    assert math_equal.equal(latex, f"{top + 1}/{bottom}") is False


def test_without_math_verify_the_error_says_so(monkeypatch):
    monkeypatch.setattr(math_equal.WORKER, "_line", lambda seconds: "ModuleNotFoundError: no")
    math_equal.WORKER.stop()
    with pytest.raises(R1LabError, match="pip install math-verify=="):
        math_equal.equal("x+44", "44+x")


# -- real downloads: `make downloads`, once a week in .github/workflows/ci.yml -----

real = pytest.mark.skipif("R1LAB_HUB" not in os.environ, reason="downloads: make downloads")


@real
@pytest.mark.parametrize("name", FROM_HUB)
def test_rows_from_the_hub_are_read_and_their_gold_answers_accepted(name):
    task = get_task(name)
    problems = task.problems("held_out", 8)
    assert len({problem.id for problem in problems}) == 8
    solutions = [(p, s) for p in problems if (s := task.solution(p)) is not None]
    assert len(solutions) >= 4
    assert sum(bool(task.judge(p, s)) for p, s in solutions) >= 0.75 * len(solutions)
    assert not any(task.judge(problem, "") for problem in problems)


@real
def test_a_model_from_the_hub_is_loaded_and_writes():
    model, tokenizer = load("HuggingFaceTB/SmolLM2-135M")
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0])

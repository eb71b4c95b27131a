"""A task from a file of questions and answers: kinds, splits, and what is wrong with a file."""

from __future__ import annotations

import copy
import json
import logging
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab import cli
from r1lab.basics.errors import R1LabError
from r1lab.rewards import accuracy_reward
from r1lab.tasks import Problem, get_task
from r1lab.tasks.check import NOISE, check
from r1lab.tasks.qa import Questions, chosen

OPTIONS = ["iron", "neon", "oxygen", "zinc"]


@pytest.fixture
def csv_file(tmp_path):
    file = tmp_path / "sums.csv"
    rows = [f'"What is {a} + {b}, exactly?",{a + b}' for a in range(10, 20) for b in range(10, 20)]
    file.write_text("question,answer\n" + "\n".join(rows) + "\n")
    return file


@pytest.fixture
def choices(tmp_path):
    file = tmp_path / "stem.jsonl"
    rows = [
        {"question": f"Which is element {n}?", "options": OPTIONS, "answer": "ABCD"[n % 4]}
        for n in range(60)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def task_of(folder, text: str, name: str = "own.csv", **options) -> Questions:
    (folder / name).write_text(text, encoding="utf-8")
    return get_task(f"qa:{folder / name}", **options)


def all_of(task: Questions) -> list[Problem]:
    """The problems of both splits, in the order of the file."""
    found = {p.id: p for s in ("train", "held_out") for p in task.problems(s, 500)}
    return list(found.values())


def test_a_file_is_a_task_without_a_line_of_code(csv_file, capsys):
    assert cli.main(["tasks", "check", f"qa:{csv_file}", "--n", "40"]) == 0
    assert "no fault found" in capsys.readouterr().out
    problem = get_task(f"qa:{csv_file}").problems("train", 1)[0]
    assert problem.data["kind"] == "number" and problem.question.endswith(", exactly?")
    again = Problem.from_json(problem.to_json())
    right = f"<answer> {problem.data['answer']}.0 </answer>"  # the file is not asked any more
    assert accuracy_reward([right, "<answer> 1 </answer>"], problem=[again, again]) == [1.0, 0.0]


def test_splits_go_by_content_and_are_stable(csv_file):
    task = get_task(f"qa:{csv_file}")
    train, held_out = ({p.id for p in task.problems(s, 300)} for s in ("train", "held_out"))
    assert not train & held_out and len(train | held_out) == 100
    assert 3 <= len(held_out) <= 20
    assert task.problems("train", 20, 1) == task.problems("train", 30, 1)[:20]
    assert task.problems("train", 20, 1) != task.problems("train", 20, 2)
    lines = csv_file.read_text().split("\n")
    csv_file.write_text(
        "\n".join([lines[0], *reversed(lines[1:-1])]).replace("exactly", " exactly")
    )
    assert {p.id for p in task.problems("held_out", 300)} == held_out


def test_a_column_split_decides(tmp_path):
    text = "question,answer,split\nOne?,1,held_out\nTwo?,2,train\nThree?,3,train\n"
    task = task_of(tmp_path, text)
    assert {p.data["answer"] for p in task.problems("train", 9)} == {"2", "3"}
    assert {p.data["answer"] for p in task.problems("held_out", 9)} == {"1"}


def test_multiple_choice_by_letter_or_text(choices, capsys):
    task = get_task(f"qa:{choices}")
    problem = next(p for p in task.problems("train", 60) if p.data["answer"] == "B")
    assert problem.question.endswith(
        "?\nA. iron\nB. neon\nC. oxygen\nD. zinc\nAnswer with the letter of the right option."
    )
    for right in ("B", "b", " (B) ", "B.", "B)", "B. neon", "b) Neon.", "neon", " NEON. "):
        assert task.judge(problem, right) and task.vote(problem, right) == "B", right
    wrong = ["A", "E", "B. iron", "A. neon", "B C", "B or C", "neon or iron", "AB", "2", "ВB"]
    for answer in [*wrong, *NOISE, "B" * 5000, None]:
        assert not task.judge(problem, answer), answer
    assert cli.main(["tasks", "check", f"qa:{choices}", "--n", "20"]) == 0
    assert "no fault found" in capsys.readouterr().out


def test_options_come_in_columns_or_one_cell_and_answers_as_texts(tmp_path):
    rows = "split,question,A,B,C,answer\ntrain,Gas?,iron,neon,,neon\n"
    rows += "held_out,Metal?,iron,neon,zinc,C\n"
    found = all_of(task_of(tmp_path, rows))
    assert [(p.data["answer"], len(p.data["options"])) for p in found] == [("B", 2), ("C", 3)]
    rows = (
        'split,question,options,answer\ntrain,Gas?,iron|neon,B\nheld_out,Not?,"[""a"", ""b""]",a\n'
    )
    found = all_of(task_of(tmp_path, rows))
    assert [(p.data["answer"], p.data["options"]) for p in found] == [
        ("B", ["iron", "neon"]),
        ("A", ["a", "b"]),
    ]


def test_texts_numbers_and_formulas(tmp_path):
    rows = (
        'split,Q,A_\ntrain,Capital of France?,Paris\ntrain,Big?,"1,200"\n'
        "held_out,Who?,Ada Lovelace\n"
    )
    task = task_of(tmp_path, rows, question="Q", answer="A_")
    by = {p.question: p for p in all_of(task)}
    capital, big = by["Capital of France?"], by["Big?"]
    assert all(task.judge(capital, x) for x in ("Paris", " paris. ", "ＰＡＲＩＳ"))
    assert not any(task.judge(capital, x) for x in ("Paris or Rome", "Pari", "", "It is Paris"))
    assert all(task.judge(big, x) for x in ("1200", "1,200.0", "$1200"))
    assert not any(task.judge(big, x) for x in ("1200 or 3", "12e2", "1201"))
    assert task.judge(by["Who?"], "ada  LOVELACE") and task.vote(by["Who?"], "ada ") == "ada"
    task = task_of(
        tmp_path, "split,question,answer\ntrain,Half?,x/2\nheld_out,a,b\n", kind="formula"
    )
    half = task.problems("train", 1)[0]
    assert task.judge(half, "\\frac{x}{2}") and not task.judge(half, "x/3")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "question,answer\nOne?,1\nTwo?\n", "a.csv, line 3: 1 cells under 2 columns"),
        ("a.csv", "question,answer\nOne?,1, 2\n", "line 2: 3 cells under 2 columns; a text with a"),
        ("a.csv", "question,answer\n\n\"One\ntwo?\",1\nTwo?,\n", "line 5: the column answer must"),
        ("a.csv", "frage,answer\nOne?,1\n", "line 2: there is no column question, only frage"),
        ("a.csv", "question,question\nOne?,1\n", "line 1: two columns have the same name"),
        ("a.csv", 'question,answer\n"One,1\n', "line 2: unexpected end of data"),
        ("a.csv", "question,answer\nOne?,1\nOne ?,2\n", "line 3: line 2 answers it differently"),
        ("a.csv", "question,answer\n", "has no rows"),
        ("a.csv", "question,answer,split\nOne?,1,test\n", "split must be train or held_out"),
        ("a.csv", "question,A,B,answer\nOne?,x,y,C\n", "line 2: the answer 'C' is not a letter or"),
        ("a.csv", "question,A,B,answer\nOne?,x,X,A\n", "line 2: two options are the same"),
        ("a.csv", "question,A,B,answer\nOne?,x,,A\n", "a choice has 2 to 10 options, not 1"),
        ("a.jsonl", '{"question": "One?", "answer": 1}\n{"question"', "line 2 is no JSON object"),
        ("a.jsonl", '{"question": "One?", "answer": 1}\n\n[1]', "line 3 is no JSON object but"),
        ("a.jsonl", '{"question": "One?", "answer": [1]}', "line 1: the column answer must hold"),
        ("a.jsonl", '{"question": "?", "options": {"a": 1}, "answer": "A"}', "must be a list"),
        ("a.jsonl", '{"question": "\\ud83d?", "answer": 1}', "line 1: the text has half of a"),
        ("a.xlsx", "", "questions come in a .csv, .tsv or .jsonl file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, name, text, message):
    with pytest.raises(R1LabError, match=re.escape(message)):
        task_of(tmp_path, text, name).problems("train", 1)


def test_other_mistakes_are_one_line_too(tmp_path, csv_file):
    with pytest.raises(R1LabError, match="cannot read .*nowhere.csv: No such file"):
        get_task("qa:nowhere.csv").problems("train", 1)
    (tmp_path / "a.csv").write_bytes("question,answer\nÖ?,1\n".encode("latin-1"))
    with pytest.raises(R1LabError, match="is not in UTF-8"):
        get_task(f"qa:{tmp_path / 'a.csv'}").problems("train", 1)
    with pytest.raises(R1LabError, match="kind must be text, number"):
        get_task(f"qa:{csv_file}", kind="essay")
    with pytest.raises(R1LabError, match="is not a number"):
        task_of(tmp_path, "question,answer\nOne?,uno\n", kind="number").problems("train", 1)
    with pytest.raises(R1LabError, match="train and held_out"):
        get_task(f"qa:{csv_file}").problems("leaked", 1)
    with pytest.raises(R1LabError, match="no question is in the split"):
        task_of(tmp_path, "question,answer,split\nOne?,1,train\n").problems("held_out", 1)
    with pytest.raises(R1LabError, match="bad option"):
        get_task(f"qa:{csv_file}", colour=3)


def test_a_question_that_comes_twice_counts_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        task = task_of(
            tmp_path, "question,answer,split\nOne?,1,train\none,1,held_out\nTwo?,2,train"
        )
        assert {p.data["answer"] for p in task.problems("train", 9)} == {"2"}
    assert "1 rows come twice and count once" in caplog.text


def test_a_file_that_changes_is_read_again(tmp_path):
    rows = "question,answer,split\nOne?,1,train\nTwo?,2,held_out\n"
    task = task_of(tmp_path, rows)
    before = task.problems("train", 1)[0]
    (tmp_path / "own.csv").write_text(rows.replace(",1,", ",7,"))
    os.utime(tmp_path / "own.csv", ns=(1, 1))
    after = task.problems("train", 1)[0]
    assert after.data["answer"] == "7" and after.id != before.id  # so a run does not resume


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(), st.text("ABCabc().: neon")), st.lists(st.text(), max_size=6))
def test_any_text_is_a_letter_or_none(answer, options):
    letter = chosen(answer, options)
    assert letter is None or letter in "ABCDEFGHIJ"[: len(options)]


def test_it_mixes_with_others_and_the_loop_trains_on_it(csv_file, random_model, tmp_path):
    from r1lab.grpo import GRPOConfig, train
    from r1lab.templates import render

    name = f"qa:{csv_file}"
    mix = get_task("mixture", parts=((name, 1), ("steps", 1)))
    assert {p.task for p in mix.problems("train", 12)} == {name, "steps"}
    model, tokenizer = random_model
    tokenizer, task = copy.deepcopy(tokenizer), get_task(name)
    asked = [render(p, "tiny") for p in task.problems("train", 2)]
    tokenizer.add_tokens(sorted({x for text in asked for x in re.findall(r"\w+|\W", text)}))
    model.resize_token_embeddings(len(tokenizer))
    config = GRPOConfig(steps=1, questions=2, group_size=2, max_new_tokens=4, template="tiny")
    assert train(model, tokenizer, task, config, tmp_path / "run", progress=False)
    assert check(task, 10).ok

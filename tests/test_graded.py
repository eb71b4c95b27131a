"""Exercises that check themselves: solutions, wrong attempts, notebooks, progress, the class."""

from __future__ import annotations

import json
import time
from functools import partial

import ipywidgets
import pytest
import torch
import yaml

from r1lab.advantages import ADVANTAGES
from r1lab.basics.errors import R1LabError
from r1lab.course import graded, quizzes
from r1lab.course.graded import pages, quiz_form
from r1lab.course.graded import record as kept

EXERCISES = {one.id: one for n in graded.LESSONS for one in graded.lesson(n).EXERCISES}
EMPTY = (None, ..., "", " ", [], {}, (), set())
CONSTANT = (0, 1, 2, -1, 0.5, True, False, [0], (0, 1), "x", {"a": 1}, float("nan"), float("inf"),
            torch.zeros(4), torch.ones(2, 4))  # fmt: skip


@pytest.fixture(autouse=True)
def own_estimators(monkeypatch):
    """What a solution enters in the table is taken out again."""
    for name in ("mine", "leave one out"):
        monkeypatch.setitem(ADVANTAGES, name, ADVANTAGES["grpo"])
        monkeypatch.delitem(ADVANTAGES, name)


@pytest.fixture(autouse=True)
def own_file(tmp_path, monkeypatch):
    monkeypatch.setenv("R1LAB_PROGRESS", str(tmp_path / "progress.json"))


def run(one, code):
    """The answer that some code gives to an exercise."""
    names: dict = {}
    exec(graded.lesson(one.id[:2]).IMPORTS, names)
    exec(code, names)
    return names[one.name]


def test_every_lesson_has_exercises_of_three_kinds():
    for number in graded.LESSONS:
        lesson = graded.lesson(number)
        assert len(lesson.EXERCISES) >= 4, number
        assert {one.kind for one in lesson.EXERCISES} == {"fill", "predict", "design"}, number
        assert [one.id for one in lesson.EXERCISES] == [
            f"{number}.{i}" for i in range(1, len(lesson.EXERCISES) + 1)
        ]


def test_every_lesson_has_a_quiz_whose_options_give_nothing_away():
    """Five questions; four options each, with feedback; neither length nor letter tells the right
    one."""
    assert [path.stem[:2] for path in pages.profiles.notebooks()] == list(graded.LESSONS)
    assert list(yaml.safe_load(quizzes.FILE.read_text(encoding="utf-8"))) == list(graded.LESSONS)
    longest, shortest, letters = [], [], []
    for number in graded.LESSONS:
        asked = quizzes.questions(number)
        assert len(asked) == 5 and len({one.ask for one in asked}) == 5, number
        lengths = [[len(option) for option in one.options] for one in asked]
        for one, sizes in zip(asked, lengths, strict=True):
            assert len(set(one.options)) == len(set(one.says)) == 4 and all(one.says), one.ask
            assert max(sizes) <= min(60, 1.5 * min(sizes)), one.ask
        for one, sizes in zip(asked, lengths, strict=True):
            others = sizes[: one.right] + sizes[one.right + 1 :]
            longest.append(sizes[one.right] > max(others))
            shortest.append(sizes[one.right] < min(others))
        letters += quizzes.right_letters(number)
        assert max(sum(longest[-5:]), sum(shortest[-5:])) <= 3, number
    chance = len(letters) / 4
    for count in (sum(longest), sum(shortest), *(letters.count(c) for c in "abcd")):
        assert 0.6 * chance < count < 1.5 * chance


@pytest.mark.parametrize("id", EXERCISES)
def test_a_solution_passes_within_a_second(id):
    one = EXERCISES[id]
    answer = run(one, one.solution)
    graded.judge(one, answer)  # what is loaded once
    start = time.process_time()
    assert graded.judge(one, answer) == (True, "Right.")
    assert time.process_time() - start < 1.5
    assert len(one.hints) == 3 and len(set(one.hints)) == 3


@pytest.mark.parametrize("id", EXERCISES)
def test_wrong_attempts_are_told_what_is_wrong(id):
    one = EXERCISES[id]
    assert len(one.attempts) >= 5
    solved = [line.strip() for line in one.solution.splitlines()]
    secret = [line for line in solved if len(line) > 24 and line not in one.starter]
    for named, code in one.attempts:
        verdict = graded.judge(one, run(one, code))
        assert not verdict, code
        assert named.lower() in verdict.says.lower(), (named, verdict.says)
        assert not any(line in verdict.says for line in secret), verdict.says
    assert not any(line in hint for line in secret for hint in one.hints)


@pytest.mark.parametrize("id", EXERCISES)
def test_no_empty_or_constant_answer_passes(id):
    one = EXERCISES[id]
    assert not graded.judge(one, run(one, one.starter))
    for answer in (*EMPTY, *CONSTANT):
        assert not graded.judge(one, answer), answer
    if one.kind != "fill":
        return
    right, returned = run(one, one.solution), []

    def spy(*args, **named):
        returned.append(right(*args, **named))
        return returned[-1]

    assert graded.judge(one, spy) and returned
    for constant in (*EMPTY, *CONSTANT, *returned):  # also what is right once
        verdict = graded.judge(one, lambda *args, constant=constant, **named: constant)
        assert not verdict, constant
    assert not graded.judge(one, lambda *args, **named: args[0] if args else None)


@pytest.mark.parametrize("solutions", [False, True], ids=["exercises", "solutions"])
@pytest.mark.parametrize("number", graded.LESSONS)
def test_the_notebooks_are_what_the_exercises_say(number, solutions):
    path = pages.path_of(number, solutions)
    assert path.read_text(encoding="utf-8") == pages.text_of(number, solutions), (
        "write them again: python -m r1lab.course.graded.pages"
    )


@pytest.mark.parametrize("number", graded.LESSONS)
def test_the_lesson_links_to_its_exercises(number):
    (lesson,) = pages.profiles.select([number])
    assert f"(exercises/{number}.ipynb)" in lesson.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", graded.LESSONS)
def test_the_solutions_run(number, capsys, monkeypatch):
    """Each cell of the notebook with the solutions, runs on a student's function included: in
    lesson 00 at their own size, in the others at half of it."""
    half = partial(graded.short_run, questions=2, max_new_tokens=48)
    monkeypatch.setattr(graded, "short_run", graded.short_run if number == "00" else half)
    names: dict = {}
    for cell in pages.page(number, solutions=True).cells:
        if cell.cell_type == "code" and cell.source != "progress()":
            exec(compile(cell.source, f"{number}", "exec"), names)
    told = capsys.readouterr().out
    assert "5 of 5 right" in told and "Not yet" not in told
    done = kept.read(kept.path())
    assert set(done["exercises"]) == {one.id for one in graded.lesson(number).EXERCISES}
    assert all(entry["solved"] for entry in done["exercises"].values())


def test_a_quiz_says_what_is_wrong_with_each_option(capsys):
    for number in graded.LESSONS:
        for letter in "abcd":
            graded.quiz(number, letter * 5)
        told = capsys.readouterr().out
        for question in quizzes.questions(number):
            assert all(f"No. {says}" in told for i, says in enumerate(question.says)
                       if i != question.right)  # fmt: skip
            assert f"Right. {question.says[question.right]}" in told
        entry = kept.read(kept.path())["quiz"][number]
        assert entry["right"] < 5 and entry["first"] == "aaaaa" and entry["answers"] == "ddddd"
    with pytest.raises(R1LabError, match="5 letters"):
        graded.quiz("03", "ab")
    graded.quiz("03")
    assert quizzes.questions("03")[0].ask in capsys.readouterr().out


def test_the_form_of_a_quiz_judges_keeps_and_remembers():
    form = quiz_form.form("12")
    choosers = [one for one in form.children if isinstance(one, ipywidgets.RadioButtons)]
    *_, button, summary, _ = form.children
    button.click()
    assert "5 of 5 have no answer" in summary.value and not kept.read(kept.path())["quiz"]
    letters = quizzes.right_letters("12")
    for chooser, letter in zip(choosers, letters, strict=True):
        chooser.value = "abcd".index(letter)
    choosers[1].value = (choosers[1].value + 1) % 4
    button.click()
    feedback = [form.children[3 * i + 2].value for i in range(5)]
    assert [words[0] for words in feedback] == list("✓✗✓✓✓") and "4 of 5" in summary.value
    entry = kept.read(kept.path())["quiz"]["12"]
    assert (entry["right"], entry["tries"]) == (4, 1) and entry["answers"][0] == letters[0]
    again = quiz_form.form("12").children
    assert [again[3 * i + 1].value for i in range(5)] == [one.value for one in choosers]


def test_without_a_kernel_a_quiz_is_folds():
    page = quizzes.without_kernel(pages.page("12"))
    form = next(cell.source for cell in page.cells if quizzes.FOLDED in cell.source)
    assert form.count("<details") == 20 and form.count("Right.") == 5 == form.count("**") / 2
    assert "<code>raise SystemExit(0)</code>" in form  # and no code cell asks for a kernel
    assert not any(quizzes.CALL.search(cell.source) for cell in page.cells)


def test_hints_have_three_levels_and_are_counted(capsys):
    graded.hint("03.1")
    graded.hint("03.1", 3)
    told = capsys.readouterr().out
    assert all(EXERCISES["03.1"].hints[i] in told for i in (0, 2))
    assert kept.read(kept.path())["exercises"]["03.1"] == {"hint": 3}
    for wrong in (lambda: graded.hint("03.1", 4), lambda: graded.check("03.99", 1)):
        with pytest.raises(R1LabError):
            wrong()
    with pytest.raises(R1LabError, match="there is no lesson"):
        graded.check("99.1", 1)


def test_errors_of_a_students_code_are_told_in_one_line(capsys):
    def mine(rewards):
        return rewards.nonsense

    assert not graded.check("03.1", mine)
    told = capsys.readouterr().out
    assert "AttributeError" in told and "return rewards.nonsense" in told and told.count("\n") == 1


def test_progress_is_kept_and_what_was_solved_stays_solved(capsys):
    one = EXERCISES["03.4"]
    graded.check("03.4", 0.9)
    graded.check("03.4", run(one, one.solution))
    graded.check("03.4", 0.9)
    entry = kept.read(kept.path())["exercises"]["03.4"]
    assert entry["tries"] == 2 and entry["solved"]
    graded.quiz("03", quizzes.right_letters("03"))
    rows = kept.map_rows(graded.ids(), graded.titles(), kept.path())
    row = next(row for row in rows if row[0].startswith("03"))
    assert row[1].split()[3] == "●" and row[1].count("●") == 1 and row[2] == "5 of 5"
    graded.progress()
    assert "03 · Group-relative advantages" in str(capsys.readouterr())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"exercises": 3}', '{"quiz": {"03": []}}'])
def test_a_broken_progress_file_begins_anew(text):
    kept.path().write_text(text)
    graded.check("03.4", 0.9)
    assert json.loads(kept.path().read_text())["exercises"]["03.4"]["tries"] == 1


def test_a_folder_that_cannot_be_written_costs_only_the_entry(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("R1LAB_PROGRESS", str(tmp_path / "file" / "progress.json"))
    assert graded.check("03.4", 0.4**4 + 0.6**4)
    assert "could not be kept" in capsys.readouterr().out


def test_an_error_is_told_in_the_students_line_and_never_in_the_judges():
    student = "import torch\n\ndef f(*args):\n    return torch.stack([])\n"
    names: dict = {}
    exec(compile(student, "cell", "exec"), names)
    said = graded.judge(EXERCISES["03.1"], names["f"]).says
    assert "it raises RuntimeError" in said and "(line 4)" in said, said
    for id, constant in (("02.1", ["x"] * 9), ("04.3", "x"), ("05.2", []), ("13.1", [1])):
        said = graded.judge(EXERCISES[id], lambda *args, constant=constant: constant).says
        assert "of another kind" in said and "line" not in said, (id, said)


@pytest.mark.parametrize(
    ("id", "says"),
    [("11.2", "0 steps"), ("13.1", "nothing had been spent"), ("14.3", "far beyond the limit")],
)
def test_a_function_that_is_always_0_is_not_taken_for_another_mistake(id, says):
    assert says in graded.judge(EXERCISES[id], lambda *args: 0).says


@pytest.mark.parametrize("id", EXERCISES)
def test_a_verdict_ends_with_one_mark(id):
    one = EXERCISES[id]
    for answer in (None, lambda *args: None, *(run(one, code) for _, code in one.attempts)):
        assert not graded.judge(one, answer).says.endswith(("..", "?.", "!."))

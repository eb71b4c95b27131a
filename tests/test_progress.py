"""What an instructor uses: `r1lab progress --class`, and `r1lab catch-up`."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from r1lab import cli, pipeline
from r1lab.basics.errors import R1LabError
from r1lab.course import catch_up, graded, profiles, quizzes
from r1lab.recipe import PipelineConfig


def student(folder, name, solved=(), tried=(), quiz=0):
    entries = {id: {"tries": 1, "solved": "2026-11-29", "hint": 1} for id in solved}
    entries |= {id: {"tries": 3} for id in tried}
    quizzes = {"03": {"right": quiz, "of": 5, "tries": 1}} if quiz else {}
    path = folder / name / "runs" / "progress.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"exercises": entries, "quiz": quizzes}))


def test_the_table_of_a_class_of_thirty(tmp_path, capsys):
    all_of_03 = graded.ids()["03"]
    for i in range(27):
        student(tmp_path, f"student {i:02}", all_of_03[: i % 7], ["04.1"] if i < 9 else [], i % 6)
    (tmp_path / "flat.json").write_text('{"exercises": {"00.1": {"solved": "2026-11-29"}}}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.txt").write_text("no progress file")
    hostile = {"exercises": {"03.1": {"tries": -(10**30), "hint": "many", "solved": []}}, "quiz": 1}
    (tmp_path / "hostile\x1b[2J.json").write_text(json.dumps(hostile))
    assert cli.main(["progress", "--class", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert len(lines) == 1 + 30 + 1 + 1, told  # head, students, finished by, stuck
    assert lines[0].split() == ["student", *graded.LESSONS, "solved", "quiz", "hints"]
    six = next(line for line in lines if line.startswith("student 06"))
    broken = next(line for line in lines if line.startswith("broken"))
    assert broken.split() == ["broken", "unreadable"]
    assert six.split()[2] == "6/6" and six.split()[-3:] == ["6", "0", "6"]
    assert "lesson finished by" in told and "stuck at 04.1" in told and "9 students" in told
    assert "\x1b" not in told
    finished = next(line for line in lines if line.startswith("lesson finished by")).split()[3:]
    assert finished[graded.LESSONS.index("03")] == str(sum(i % 7 == 6 for i in range(27)))


def test_an_instructor_sees_which_question_most_got_wrong_at_first(tmp_path, capsys):
    right = quizzes.right_letters("13")
    wrong = right[:3] + "abcd"[("abcd".index(right[3]) + 1) % 4] + right[4]
    for i, first in enumerate((wrong, wrong, right, "", "x" * 10**4)):
        entry = {"right": 5, "of": 5, "tries": 2, "first": first, "answers": right}
        (tmp_path / f"{i}.json").write_text(json.dumps({"quiz": {"13": entry, "99": entry}}))
    assert cli.main(["progress", "--class", str(tmp_path)]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("quiz 13, question 4 (") and last.endswith("2 of 3 wrong at first")


@pytest.mark.parametrize("place", ["", "missing"], ids=["empty", "missing"])
def test_a_class_without_files_is_told(tmp_path, place, capsys):
    assert cli.main(["progress", "--class", str(tmp_path / place)]) == 2
    assert "r1lab: error:" in capsys.readouterr().err


def test_your_own_map(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("R1LAB_PROGRESS", str(tmp_path / "mine.json"))
    one = graded.exercise("03.4")
    graded.check("03.4", 0.4**4 + 0.6**4)
    capsys.readouterr()
    assert cli.main(["progress"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("03"))
    assert line.split()[-len(graded.ids()["03"]) :].index("●") == 3, one.id


def test_every_lesson_from_07_on_says_what_it_starts_from():
    numbers = [path.stem[:2] for path in profiles.notebooks()]
    whole = {"13", "15"}  # these run the pipeline to its end
    assert set(catch_up.STARTS) == {n for n in numbers if "07" <= n <= "12"} | whole
    for number, last in catch_up.STARTS.items():
        (path,) = profiles.select([number])
        source = path.read_text(encoding="utf-8")
        if number in whole:
            assert "pipeline.run(config, folder, " in source, number
            assert last == pipeline.STAGES[-1] and "until=" not in source, number
        else:
            assert f'until=\\"{last}\\"' in source or f'only=\\"{last}\\"' in source, number
    with pytest.raises(R1LabError, match="there is no notebook"):
        catch_up.stages_of("77")


def test_catch_up_makes_what_a_lesson_finds_and_copies_it_to_others(tmp_path, capsys):
    mine, theirs = tmp_path / "instructor", tmp_path / "student"
    assert cli.main(["catch-up", "08", "--profile", "smoke", "--out", str(mine)]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}: made" in told for name in ("zero", "cold", "dev1")), told
    assert "08_language_consistency can begin" in told

    how = ["--profile", "smoke", "--out", str(theirs), "--from", str(mine)]
    assert cli.main(["catch-up", "08", *how]) == 0
    told = capsys.readouterr().out
    for name in ("zero", "cold", "dev1"):
        assert f"{name}: copied from" in told and f"{name}: was there" in told

    # the lesson's own call, with the lesson's own options, makes nothing again
    recipe = profiles.resolve("smoke", profiles.select(["08"])[0])["recipe"]
    config = PipelineConfig(base="tiny", seed=0, **recipe)
    found = pipeline.run(config, theirs / "r1" / "seed-0", until="dev1", say=lambda line: None)
    assert not any(one["made"] for one in found.values())

    # a copy that was stopped is no stage; a damaged one is made again
    place = theirs / "r1" / "seed-0"
    shutil.rmtree(place / "dev1")
    (place / ".copying-dev1").mkdir()
    with open(place / "cold" / pipeline.EXAMPLES, "a", encoding="utf-8") as file:
        file.write("\n")
    assert cli.main(["catch-up", "08", *how]) == 0
    told = capsys.readouterr().out
    assert "dev1: copied" in told and "cold: made" in told and "dev1: was there" in told

    # a copy of other options is said before it is made again, which may take minutes
    for name in ("stage.json", "begun.json"):
        record = json.loads((place / "dev1" / name).read_text())
        record["options"]["learning_rate"] = 1.0
        (place / "dev1" / name).write_text(json.dumps(record))
    assert cli.main(["catch-up", "08", *how]) == 0
    told = capsys.readouterr().out
    assert told.startswith("dev1: made again, because options or input have changed"), told


def test_a_folder_without_stages_and_a_lesson_that_needs_none(tmp_path, capsys):
    assert cli.main(["catch-up", "05", "--out", str(tmp_path / "out")]) == 0
    assert "nothing to prepare" in capsys.readouterr().out and not (tmp_path / "out").exists()
    bad = ["--out", str(tmp_path / "out"), "--from", str(tmp_path)]
    assert cli.main(["catch-up", "08", "--profile", "smoke", *bad]) == 2
    assert "has none of the stages" in capsys.readouterr().err


def test_the_guide_names_what_is_there():
    guide = (profiles.NOTEBOOKS / "instructor.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\(([^)#:]+)\)", guide):
        assert (profiles.NOTEBOOKS / name).exists(), name
    ids = {id for lesson in graded.ids().values() for id in lesson}
    named = set(re.findall(r"\b(\d\d\.\d)\b", guide))
    assert len(named) > 20 and named <= ids, named - ids
    commands = set(re.findall(r"`r1lab ([\w-]+)", guide))
    assert {"catch-up", "progress", "train"} <= commands <= set(cli.COMMANDS)
    for path in profiles.notebooks():
        if path.stem[:2] in graded.LESSONS:
            title = graded.lesson(path.stem[:2]).TITLE
            assert f"| {path.stem[:2]} {title} |" in guide, title  # minutes
            assert f"### {path.stem[:2]} · " in guide  # what to say, show and ask
    for part in ("**Say:**", "**Show:**", "**Ask:**", "**Stumble:**"):
        assert guide.count(part) == len(graded.LESSONS), part


def test_the_handout_fits_on_a_page():
    text = (profiles.NOTEBOOKS / "handout.md").read_text(encoding="utf-8")
    assert len(text.split()) < 800 and len(text.splitlines()) < 50

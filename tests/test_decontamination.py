"""Decontamination: what n-grams find and miss, what MinHash adds, and the errors of both."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab import cli
from r1lab.basics.errors import R1LabError
from r1lab.decontamination import (
    Index,
    Item,
    errors,
    find,
    find_near,
    items_of,
    with_digits,
    words,
)
from r1lab.tasks import get_task
from r1lab.world import corpus
from r1lab.world.contamination import KINDS, paraphrase, plant, spelled

LEAKED = list(corpus.leaked_problems())
ITEMS = items_of(corpus.COUNTDOWN, LEAKED)
QUESTION = "How many apples does Mia have left if she gives away seven of her nineteen apples?"


@pytest.fixture(scope="module")
def web():
    return list(corpus.documents(0, 4000))


def test_words_do_without_case_and_variants():
    assert words("Make 23, ７ É二十!") == ["make", "23", ",", "7", "é", "二", "十", "!"]


def test_ten_words_in_a_row_are_found_in_any_case_and_nine_are_not():
    index = Index([Item("a", QUESTION)])
    row = QUESTION.split()
    shouted = " ".join(row[2:12]).upper()
    assert find([f"x {shouted} y", " ".join(row[2:11])], index).problems == {0: ["a"]}


def test_a_text_shorter_than_n_is_looked_for_as_a_whole_and_a_very_short_one_is_not_checked():
    index = Index([Item("a", "make 4 from 1 1 2 ."), Item("b", "36")])
    found = find(["so make 4 from 1 1 2 . ok", "make 4 from 1 1 3 .", "36"], index)
    assert found.problems == {0: ["a"]} and found.unchecked == ["b"]


def test_n_grams_of_a_template_do_not_count():
    items = [Item(str(x), f"please write a function f of one number with f ( {x} ) = {x} now")
             for x in range(5)]  # fmt: skip
    strange = "please write a function f of one number with f ( 9 ) = 9 now"
    assert len(find([strange], Index(items, shared=9)).problems) == 1
    index = Index(items)
    assert find([strange], index).problems == {} and index.templates > 0
    assert find([items[3].text], index).problems == {0: ["3"]}


def test_all_leaked_documents_of_the_web_are_found_and_nothing_else(web):
    found = find((d.text for d in web), Index(ITEMS))
    measured = errors(found, [d.leaked is not None for d in web])
    assert measured.recall.value == 1 and measured.false_alarms.value == 0
    assert measured.false_alarms.high < 0.002  # stated, not only zero
    assert all(web[i].leaked in problems for i, problems in found.problems.items())
    assert len(found.clean(web)) == sum(d.leaked is None for d in web)


@pytest.mark.parametrize("name", ["steps", "code", "lists", "requests"])
def test_held_out_problems_of_templates_raise_few_false_alarms(name, web):
    task = get_task(name)
    items = items_of(task, task.problems("held_out", 200))
    texts = [d.text for d in web]
    counted, every = (find(texts, Index(items, shared=s)).flagged.value for s in (1, 10**6))
    assert counted <= every and counted < 0.06
    if name in ("code", "requests"):
        assert counted < every / 3


def test_paraphrases_are_what_they_say():
    for problem in LEAKED[:10]:
        text = {kind: paraphrase(problem, kind, random.Random(0)) for kind in KINDS}
        assert len(set(text.values())) == len(KINDS)
        for kind in ("copy", "order", "language", "steps"):
            corpus.encode(text[kind])  # in the tiny vocabulary
        for kind in ("copy", "order", "language", "plain"):
            answer = text[kind].split("<answer> ")[1].split(" </answer>")[0]
            assert corpus.COUNTDOWN.judge(problem, answer), (kind, answer)
    with pytest.raises(R1LabError, match="no paraphrase"):
        paraphrase(LEAKED[0], "song", random.Random(0))


def test_n_grams_miss_paraphrases_and_minhash_finds_some_of_them(web):
    texts, planted = plant([d.text for d in web if d.leaked is None], LEAKED)
    grams = errors(find(texts, Index(ITEMS)), planted)
    near = errors(find_near(texts, ITEMS, threshold=0.8), planted)
    assert grams.by_kind["copy"].value == 1 and grams.precision.value == 1
    for kind in ("order", "language", "words"):
        assert grams.by_kind[kind].value < 0.2 and near.by_kind[kind].value > 0.9
    assert near.by_kind["copy"].value == 1
    assert near.by_kind["plain"].value < 0.1  # a longer sentence: other words outnumber the shared
    assert near.false_alarms.value < 0.005 and near.precision.value > 0.9
    low = errors(find_near(texts, ITEMS, threshold=0.5), planted)
    assert low.false_alarms.low > near.false_alarms.high and low.precision < near.precision


def test_a_problem_inside_a_long_text_is_near_and_texts_of_other_words_are_not():
    noise = " ".join(f"word{i}" for i in range(60))
    item = Item("a", QUESTION)
    mixed = " ".join(reversed(QUESTION.split()))
    found = find_near([f"{noise} {mixed} {noise}", noise, ""], [item], threshold=0.4, common=1)
    assert found.problems == {0: ["a"]}
    assert find_near(["1 2"], [Item("b", "1 2")]).unchecked == ["b"]
    with pytest.raises(R1LabError, match="threshold"):
        find_near([], [item], threshold=0)


@given(st.integers(0, 99), st.sampled_from(["en", "zh"]))
@settings(max_examples=60, deadline=None)
def test_number_words_become_digits(n, language):
    assert with_digits(spelled(n, language)) == str(n)


def test_number_words_in_sentences():
    assert with_digits("Twenty-three of 二十 , done : someone") == "23 of 20 , done : someone"


def test_labels_must_fit():
    with pytest.raises(R1LabError, match="labelled"):
        errors(find(["a"], Index(ITEMS)), [])
    with pytest.raises(R1LabError, match="evaluation texts"):
        Index([])


def test_the_command_finds_copies_in_files_and_writes_what_is_left(tmp_path, capsys):
    train, test, out = (tmp_path / f"{name}.jsonl" for name in ("train", "test", "out"))
    rows = [{"messages": [{"role": "user", "content": f"Hm. {QUESTION} Tell me."}]},
            {"messages": [{"role": "user", "content": "Something else altogether."}]}]  # fmt: skip
    train.write_text("\n".join(map(json.dumps, rows)))
    test.write_text(json.dumps({"problem": QUESTION, "answer": 12}))
    notes = tmp_path / "notes.txt"
    notes.write_text(f"A first paragraph.\n\n{QUESTION}\n")
    argv = ["decontaminate", "--train", str(train), str(notes), "--eval", str(test)]
    assert cli.main([*argv, "--near", "0.8", "--out", str(out)]) == 0
    assert "2 of 4" in capsys.readouterr().out
    left = [json.loads(line) for line in out.read_text().splitlines()]
    assert left == [rows[1], {"text": "A first paragraph."}]
    assert cli.main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["10-grams"]
    assert set(found["problems"]) == {"0", "3"} and found["texts"] == 4


def test_the_command_on_the_web(capsys):
    argv = ["decontaminate", "--train", "web", "--documents", "1500", "--eval", "countdown"]
    assert cli.main([*argv, "--split", "leaked", "--n", "40", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["10-grams"]
    web = corpus.documents(0, 1500)
    assert {*found["problems"]} == {str(i) for i, d in enumerate(web) if d.leaked}


@pytest.mark.parametrize(
    ("argv", "words_of"),
    [
        ([], "--train SOURCE"),
        (["--train", "web", "--eval", "no_such"], "no_such"),
        (["--train", "missing.jsonl", "--eval", "countdown"], "cannot read"),
    ],
)
def test_the_command_refuses_in_one_line(argv, words_of, capsys):
    assert cli.main(["decontaminate", *argv]) == 2
    err = capsys.readouterr().err
    assert words_of in err and err.count("\n") == 1

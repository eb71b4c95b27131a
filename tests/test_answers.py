"""Pairs of a gold answer and an answer, each with its certain verdict, and texts nobody wrote."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from r1lab.tasks import GSM8K, MATH, Problem, math_equal
from r1lab.tasks.formulas.spelling import spell

HERE = Path(__file__).parent
PAIRS = {
    name: [json.loads(line) for line in (HERE / name).read_text().split("\n") if line]
    for name in ("answers.jsonl", "answers_more.jsonl")
}


def problem(task: str, gold: str) -> Problem:
    return Problem(task, f"{task}/x", "q", "en", "train", {"answer": gold})


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_is_judged_as_it_says(name):
    """By the equality, by MATH's judge, and when it stands in a box or between dollars."""
    math = MATH()
    wrong = []
    for pair in PAIRS[name]:
        gold, answer, right = pair["gold"], pair["answer"], pair["right"]
        judged = math_equal.equal(gold, answer), math.judge(problem("math", gold), answer)
        if judged != (right, right):
            wrong.append((gold, answer, right, judged))
    assert len(PAIRS[name]) > 300 and not wrong


def test_no_right_answer_of_the_pairs_is_a_wrong_one_in_a_box():
    wrong = []
    for pair in PAIRS["answers.jsonl"] + PAIRS["answers_more.jsonl"]:
        if "$" not in pair["answer"] and "boxed" not in pair["answer"]:
            boxed = math_equal.equal(pair["gold"], rf"\boxed{{{pair['answer']}}}")
            if boxed != pair["right"]:
                wrong.append((pair, boxed))
    assert not wrong


def test_every_gold_answer_equals_itself():
    golds = {pair["gold"] for pairs in PAIRS.values() for pair in pairs}
    assert not [gold for gold in golds if not math_equal.equal(gold, f" ${gold}$. ")]


GSM8K_ANSWERS = [
    *[("18", answer, True) for answer in ("18 dollars", "18 eggs", "18 years old", "$18 per day")],
    *[("18", answer, True) for answer in ("18 hours", "18 apples", "$18", "18.00", r"\$18", "18.")],
    *[
        ("18", answer, True)
        for answer in ("x = 18", "18 dollars per hour", "18 cups of tea", "=18")
    ],
    *[("18", answer, False) for answer in ("18%", "18_8", "18 or 19", "18 million", "1 8", "180")],
    *[("18", answer, False) for answer in ("$18.01", "18 and a half", "9 + 9", "18 dozen", "-18")],
    *[("18", answer, False) for answer in ("18 no 19", "about", "18 thousand", "18 x", "18 i", "")],
    *[("18", answer, False) for answer in ("18 squared", "18 twice")],
    ("3000", "3 thousand", True),
    ("72", "72_{8}", False),
    ("72", "72%", False),
    ("-7", "-$7", True),
]


def test_gsm8k_answers_may_have_a_unit_in_plain_words():
    gsm8k = GSM8K()
    judged = [(g, a, gsm8k.judge(problem("gsm8k", g), a)) for g, a, _ in GSM8K_ANSWERS]
    assert judged == GSM8K_ANSWERS


def test_ten_thousand_texts_get_a_verdict_each_in_no_time():
    """Pieces of mathematics put together at random, and pairs with a few characters changed."""
    rng = random.Random(0)
    pieces = [
        p for pairs in PAIRS.values() for pair in pairs for p in (pair["gold"], pair["answer"])
    ]
    letters = "".join(pieces) + "\\{}()[]^_$%&,;.:|<>=`'\"\n\u2028é¶"
    texts = []
    for _ in range(10_000):
        text = list(rng.choice(pieces))
        for _ in range(rng.randint(1, 4)):
            k = rng.randrange(len(text) + 1)
            new = rng.choice(pieces) if rng.random() < 0.2 else rng.choice(letters)
            text[k : k + rng.randint(0, 2)] = new
        texts.append("".join(text))
    start = time.process_time()
    for text in texts:
        spelled = spell(text)
        assert isinstance(spelled, str)
        assert math_equal.clean(text) is None or isinstance(math_equal.clean(text), str)
    assert time.process_time() - start < 20
    for text in rng.sample(texts, 300):
        assert math_equal.equal(rng.choice(pieces), text) in (True, False)


@pytest.mark.parametrize(
    "part", ["1", "1,", "1,111", "ab ", r"\text{a}", "(", "{", r"\frac", "x=", "½"]
)
@pytest.mark.parametrize("part2", ["", " ", "/", "cm", "^", "$", "-"])
def test_one_spelling_takes_no_time_for_repeated_parts(part, part2):
    text = (part + part2) * (300 // len(part + part2))
    start = time.process_time()
    spell(text)
    assert time.process_time() - start < 0.2

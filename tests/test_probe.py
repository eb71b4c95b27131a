"""Arithmetic and verdicts, read off a text line by line."""

from __future__ import annotations

import math
import random

import pytest

from r1lab.tasks.countdown import Countdown
from r1lab.world import corpus
from r1lab.world.probe import Share, arithmetic, verdicts

PROBLEM = Countdown().problem([7, 6, 10], 23)


def test_each_step_of_a_line_of_working_counts():
    assert arithmetic(["10 - 6 → 4 + 7 → 11"]) == Share(2, 2)
    assert arithmetic(["10 - 6 → 5 + 7 → 12"]) == Share(1, 2)  # the second is right given the first
    assert arithmetic(["10 - 6 → 5 + 7 → 11"]) == Share(0, 2)
    assert arithmetic(["10 + 9 → 19 / 7 → ≠ no wait 60 + 60 → ≠"]) == Share(3, 3)
    assert arithmetic(["10 / 5 → ≠"]) == Share(0, 1)
    assert arithmetic(["12 / 4 → 3 * 9 → 27", "6 - 6 → 0 . 99 + 0 → 99 ."]) == Share(4, 4)


@pytest.mark.parametrize(
    "text",
    [
        *("7 / 2 → 3", "3 - 7 → 4", "60 + 60 → 20", "5 / 0 → 0"),  # no whole result in 0..99
        "7 * 8 → 65",
    ],
)
def test_a_result_that_cannot_be_is_wrong(text):
    assert arithmetic([text]) == Share(0, 1)


@pytest.mark.parametrize(
    "text", ["", "10 - 6", "10 - 6 →", "10 - 6 → no", "- 6 → 4", "10 - 6 → 100", "110 - 6 → 4"]
)
def test_an_unfinished_or_foreign_step_is_no_step(text):
    assert arithmetic([text]).n == 0


def test_verdicts_are_held_against_the_target():
    good = "<think> 10 - 6 → 4 + 7 → 11 ? 23 12 no wait 10 + 7 → 17 + 6 → 23 ? 23 0 yes </think>"
    assert verdicts([good], [PROBLEM]) == Share(2, 2)
    assert verdicts([good.replace("no", "不对").replace("yes", "对了")], [PROBLEM]) == Share(2, 2)
    assert verdicts([good.replace("no", "yes")], [PROBLEM]) == Share(1, 2)
    assert verdicts([good.replace("yes", "no")], [PROBLEM]) == Share(1, 2)
    assert verdicts(["10 + 7 → 17 + 6 → 23 </think> no"], [PROBLEM]).n == 0  # about nothing


def test_verdicts_want_one_problem_for_each_text():
    with pytest.raises(ValueError):
        verdicts(["a", "b"], [PROBLEM])


def test_the_miniature_web_scores_full_marks():
    """Two readers of one text agree: what the generator writes is right, and the probe sees it."""
    texts = [d.text for d in corpus.documents("probe", 2000)]
    share = arithmetic(texts)
    assert share.right == share.n > 5000 and share.value == 1.0
    said, problems = [], []
    rng = random.Random(0)
    for _ in range(300):
        text = corpus.document("patient", rng).text
        words = text.split()
        here = words.index("make" if "make" in words else "得到")
        numbers = [int(word) for word in words[: words.index("<think>")] if word.isdigit()]
        target = int(words[here + 1])
        numbers.remove(target)
        said.append(text)
        problems.append(Countdown().problem(numbers, target))
    share = verdicts(said, problems)
    assert share.right == share.n > 1000


def test_one_slip_is_found():
    texts = [corpus.facts(random.Random(0), "en")]
    before = arithmetic(texts)
    wrong = texts[0].split()
    result = next(i + 1 for i, w in enumerate(wrong) if w == "→" and wrong[i + 1].isdigit())
    wrong[result] = str((int(wrong[result]) + 1) % 100)
    after = arithmetic([" ".join(wrong)])
    assert (after.n, after.right) == (before.n, before.right - 1)


def test_a_share_of_nothing_is_not_a_number():
    assert math.isnan(Share(0, 0).value)
    assert str(Share(3, 4)) == "75.0% (3 of 4)"

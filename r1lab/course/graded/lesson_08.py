"""Exercises of lesson 08: language consistency."""

import torch

from r1lab.advantages import group_relative
from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    compare,
    design,
    fill,
    guess,
    number,
    predict,
    whole,
)

TITLE = "Language consistency"
HELPERS = ("short_run",)
IMPORTS = """
import re
"""

THOUGHTS = (
    ("try 7 + 6 → 13 ? 23 10 no wait", "en", 1.0),
    ("try 7 + 6 → 13 ? 23 10 no wait", "zh", 0.0),
    ("试 7 + 6 → 13 ? 23 10 不对 等等", "zh", 1.0),
    ("try 7 + 6 → 13 不对 wait check 再 来", "en", 0.5),
    ("try 7 + 6 → 13 不对 wait check again 再", "zh", 2 / 6),
    ("7 + 6 → 13 ? 23 10", "en", 0.0),
    ("", "en", 0.0),
)


@fill(
    "08.1",
    "The language reward",
    starter="""
    def consistency(thought, language):
        \"\"\"The fraction of a thought's words that are in `language`, "en" or "zh".\"\"\"
        ...
    """,
    solution="""
    def consistency(thought, language):
        \"\"\"The fraction of a thought's words that are in `language`, "en" or "zh".\"\"\"
        words = [word for word in thought.split() if word.isalpha()]
        right = [word for word in words if word.isascii() == (language == "en")]
        return len(right) / len(words) if words else 0.0
    """,
    wrong=[
        ("without words", " if words else 0.0", " if words else 1.0"),
        ("numbers and signs", "if word.isalpha()]", "if word]"),
        ("ignored", ' == (language == "en")', ""),
        ("other language", '(language == "en")', '(language == "zh")'),
        ("count", "len(right) / len(words) if words else 0.0", "len(right)"),
        ("all or nothing", "len(right) / len(words) if words else 0.0", "float(bool(words) and len(right) == len(words))"),
        ("without words", " if words else 0.0", ""),
    ],
    hints=(
        "First decide what a word is: `7` and `→` are none.",
        "In this world spaces separate words; English words are ASCII letters, Chinese ones are not.",
        "Right words over all words, and 0 where there are no words, or silence would get reward.",
    ),
    then="""
    def language(completions, problem, **kwargs):
        thoughts = [text.split("</think>")[0] for text in completions]
        return [consistency(t, p.language) for t, p in zip(thoughts, problem, strict=True)]

    history = short_run(rewards=("accuracy", language), reward_weights=(1.0, 0.5))
    print([f"step {m['step']}: mixing {m['language_mixing']:.0%}" for m in history])
    """,
)  # fmt: skip
def consistency(f):
    """
    R1's language-consistency reward for the tiny world: words consist of letters and are separated
    by spaces, English ones are ASCII. A thought without words gets 0 (lesson 08, section 4 says
    why). A run then uses it beside accuracy.
    """
    if not callable(f):
        raise Wrong("give the function itself, without brackets")
    got = []
    for thought, language, _ in THOUGHTS:
        try:
            got.append(number(call(f, thought, language)))
        except ZeroDivisionError:
            raise Wrong("a thought without words raises ZeroDivisionError; it gets 0") from None
    right = [one for *_, one in THOUGHTS]
    words = [[w for w in thought.split() if w.isalpha()] for thought, *_ in THOUGHTS]
    ascii_share = [sum(w.isascii() for w in ws) / len(ws) if ws else 0.0 for ws in words]
    if got[5] == 1.0 or got[6] == 1.0:
        raise Wrong(
            "a thought without words gets the full reward: the policy would stop thinking in words"
        )
    compare(got, right, {
        "the language is ignored": ascii_share,
        "you count the words of the other language": [1 - x if w else 0.0 for x, w in zip(right, words, strict=True)],
        "that is a count; a fraction is asked for": [x * len(w) for x, w in zip(right, words, strict=True)],
        "it is all or nothing; half of the words are worth a half": [float(x == 1) for x in right],
    }, "numbers and signs are no words: look at 'try 7 + 6 → 13 不对 wait check 再 来', which is half English")  # fmt: skip


@fill(
    "08.2",
    "Add the rewards",
    starter="""
    def total(accuracy, form, language, weights):
        \"\"\"Three lists of rewards and three weights -> the reward of each response, a list.\"\"\"
        ...
    """,
    solution="""
    def total(accuracy, form, language, weights):
        \"\"\"Three lists of rewards and three weights -> the reward of each response, a list.\"\"\"
        rows = zip(accuracy, form, language, strict=True)
        return [sum(w * r for w, r in zip(weights, row, strict=True)) for row in rows]
    """,
    wrong=[
        ("weights are not used", "sum(w * r for w, r in zip(weights, row, strict=True))", "sum(row)"),
        ("average", "for row in rows]", "/ 3 for row in rows]"),
        ("one number", "return [sum(w * r for w, r in zip(weights, row, strict=True)) for row in rows]",
         "return sum(sum(w * r for w, r in zip(weights, row, strict=True)) for row in rows)"),
        ("language is missing", "for row in rows]", "- weights[2] * row[2] for row in rows]"),
        ("multiply", "sum(w * r for w, r in zip(weights, row, strict=True))", "weights[0] * row[0] * weights[1] * row[1] * weights[2] * row[2]"),
        ("only where correct", "sum(w * r for w, r in zip(weights, row, strict=True))",
         "row[0] * sum(w * r for w, r in zip(weights, row, strict=True))"),
    ],
    hints=(
        "One number for each response.",
        "Weighted sum: weight times reward, three times.",
        "`zip(accuracy, form, language)` gives the three rewards of each response.",
    ),
)  # fmt: skip
def total(f):
    """
    R1 adds its rewards (equation 8): the weighted sum of accuracy, format and language, for each
    response of a batch.
    """
    a, b, c, w = [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.5, 0.2, 0.4], [1.0, 0.1, 0.3]
    rows = list(zip(a, b, c, strict=True))
    right = [sum(x * y for x, y in zip(w, row, strict=True)) for row in rows]
    got = call(f, a, b, c, w)
    if not isinstance(got, list):
        raise Wrong("one number is no list; each response has a reward of its own")
    compare(got, right, {
        "the weights are not used": [sum(row) for row in rows],
        "that is the average; the paper adds": [x / 3 for x in right],
        "language is missing": [x - w[2] * row[2] for x, row in zip(right, rows, strict=True)],
        "you multiply; rewards are added": [w[0] * w[1] * w[2] * r[0] * r[1] * r[2] for r in rows],
        "format and language get reward only where correct; here they always do":
            [x * row[0] for x, row in zip(right, rows, strict=True)],
    }, "a list with the weighted sum of each response is asked for")  # fmt: skip
    compare(call(f, a[1:], b[1:], c[1:], [1, 0, 2]), [w0 + 2 * c0 for w0, c0 in zip(a[1:], c[1:], strict=True)],
            {}, "other weights give a wrong sum")  # fmt: skip


@predict(
    "08.3",
    "What may consistency cost?",
    starter="cost = ...  # in accuracy, as a fraction",
    solution="cost = 0.3 * (1 - 0.6)",
    wrong=[
        ("consistency itself", "cost = 0.3 * 0.6"),
        ("weight of 1", "cost = 0.4"),
        ("weight alone", "cost = 0.3"),
        ("divide", "cost = (1 - 0.6) / 0.3"),
        ("too low", "cost = 0.01"),
        ("too high", "cost = 0.15"),
    ],
    hints=(
        "Compare the mean rewards of the two styles.",
        "The consistent style gains w(1 − s) and loses its accuracy.",
        "Weight times the fraction of words in the wrong language.",
    ),
)
def cost(value):
    """
    In a model's mixed style 60 % of the words are in the prompt's language; a consistent style has
    100 %. The language reward has the weight 0.3. Up to which loss of accuracy does the consistent
    style still have the higher reward?
    """
    guess(value, 0.12, 0.01, {
        "that uses the consistency itself; what counts is what is missing to 1": 0.18,
        "that is for a weight of 1": 0.4,
        "that is the weight alone": 0.3,
        "do not divide: reward is weight times consistency": 4 / 3,
    })  # fmt: skip


@predict(
    "08.4",
    "How small an effect can you see?",
    starter="points = ...  # half the width of the 95 % interval, in points of accuracy",
    solution="points = 100 * 1.96 * 0.30 / 144**0.5",
    wrong=[
        ("1.96", "points = 2.5"),
        ("whole width", "points = 9.8"),
        ("root", "points = 100 * 1.96 * 0.30 / 144"),
        ("single problem", "points = 58.8"),
        ("too low", "points = 4.5"),
        ("too high", "points = 6"),
    ],
    hints=(
        "The standard error of a mean over problems.",
        "0.30 divided by the root of 144.",
        "Times 1.96, in points.",
    ),
)
def points(value):
    """
    Two models answer the same 144 held-out problems. The difference of their accuracies has a
    standard deviation of 0.30 over problems. How large is half the width of its 95 % interval, in
    points?
    """
    guess(value, 4.9, 0.01, {
        "that is one standard error; 95 % are 1.96 of them": 2.5,
        "that is the whole width": 9.8,
        "the error of a mean falls with the root of n": 0.408,
        "that is the spread of a single problem": 58.8,
    })  # fmt: skip


STYLES = ("honest", "mixing", "silent", "parrot", "elsewhere")
PARTS = torch.tensor([  # accuracy, format, language of each style
    [0.80, 1.0, 1.0], [0.86, 1.0, 0.6], [0.30, 1.0, 0.0], [0.20, 1.0, 1.0], [0.86, 0.0, 1.0],
])  # fmt: skip


@design(
    "08.5",
    "Weights that nobody can hack",
    starter="""
    plan = {"format_weight": ..., "language_weight": ..., "steps": ...}
    """,
    solution="""
    plan = {"format_weight": 0.2, "language_weight": 0.5, "steps": 200}
    """,
    wrong=[
        ("mixing", 'plan = {"format_weight": 0.2, "language_weight": 0.05, "steps": 200}'),
        ("elsewhere", 'plan = {"format_weight": 0.02, "language_weight": 0.5, "steps": 200}'),
        ("accuracy", 'plan = {"format_weight": 0.2, "language_weight": 5.0, "steps": 200}'),
        ("not over", 'plan = {"format_weight": 0.2, "language_weight": 0.5, "steps": 3}'),
        ("between 0 and 2", 'plan = {"format_weight": -1, "language_weight": 0.5, "steps": 200}'),
        ("does not say", 'plan = {"format_weight": 0.2, "language_weight": 0.5}'),
    ],
    hints=(
        "For each style compute accuracy + w_f x format + w_l x language. Which one is best?",
        "Mixing must cost more than its 6 points of accuracy; leaving the tags too.",
        "w_l above 0.06 / 0.4 and w_f above 0.06, neither above 1; and enough steps.",
    ),
)
def plan(answer):
    """
    A policy has five styles: *honest* (80 % correct), *mixing* (86 %, 60 % consistent), *silent* (30
    %, no words), *parrot* (20 %, fluent nonsense in the right language) and *elsewhere* (86 %, mixes
    outside the tags: language 1, format 0). Choose the weights of format and language (accuracy has
    1, and must stay the largest) and the number of RL steps, so that at the end the policy is honest
    with at least 80 %. The judge trains it by GRPO.
    """
    w_f, w_l, steps = choices(answer, ("format_weight", "language_weight", "steps"))
    w_f, w_l, steps = number(w_f), number(w_l), whole(steps, "steps", 1, 400)
    if w_l > 1 or w_f > 1:
        raise Wrong("accuracy must stay the largest of the three weights")
    if not 0 <= w_f <= 2 or not 0 <= w_l <= 2:
        raise Wrong("weights must lie between 0 and 2")
    random = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])  # it mixes at first
    for _ in range(steps):
        pi = logits.softmax(0)
        drawn = torch.multinomial(pi, 256, replacement=True, generator=random)
        right = (torch.rand(256, generator=random) < PARTS[drawn, 0]).float()
        reward = right + w_f * PARTS[drawn, 1] + w_l * PARTS[drawn, 2]
        A = group_relative(reward.view(16, 16)).flatten()
        push = torch.zeros(5).index_add_(0, drawn, A / 256)  # its mean is zero
        logits = logits + 4.0 * (push - pi * push.sum())
    pi = logits.softmax(0)
    if pi[0] < 0.8:
        other = int(pi[1:].argmax()) + 1
        told = f"the policy is honest with {pi[0]:.0%} and {STYLES[other]} with {pi[other]:.0%}"
        raise Wrong(told + (": training is not over" if steps < 30 else ""))


EXERCISES = [consistency, total, cost, points, plan]

"""Exercises of lesson 02: rule rewards."""

import torch

from r1lab.advantages import group_relative
from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    design,
    fill,
    guess,
    number,
    predict,
)

TITLE = "Rule rewards"
HELPERS = ("short_run",)
IMPORTS = """
import re

from r1lab.tasks import get_task
"""

SHAPES = {
    "<think> 1 + 2 </think> <answer> 3 </answer>": 1.0,
    "<think></think><answer></answer>": 1.0,
    "  <think> a\nb </think>\n<answer> c </answer>\n": 1.0,
    "<answer> 3 </answer> <think> 1 + 2 </think>": 0.0,
    "<think> 1 + 2 </think> so <answer> 3 </answer>": 0.0,
    "<think> 1 </think> <answer> 3 </answer> done": 0.0,
    "<think> 1 </think> <answer> 3 </answer> <answer> 4 </answer>": 0.0,
    "<think> 1 + 2 <answer> 3 </answer>": 0.0,
    "hello": 0.0,
}


@fill(
    "02.1",
    "The format reward",
    starter="""
    def formatted(completions, **kwargs):
        \"\"\"A list of texts -> a list of 1.0 or 0.0.\"\"\"
        ...
    """,
    solution="""
    def formatted(completions, **kwargs):
        \"\"\"A list of texts -> a list of 1.0 or 0.0.\"\"\"
        inside = r"((?!</?think>|</?answer>).)*"
        shape = rf"\\s*<think>{inside}</think>\\s*<answer>{inside}</answer>\\s*"
        return [float(bool(re.fullmatch(shape, text, re.S))) for text in completions]
    """,
    wrong=[
        ("between or around", "re.fullmatch(shape", "re.search(shape"),
        ("several lines", ", re.S", ""),
        ("second answer", 'inside = r"((?!</?think>|</?answer>).)*"', 'inside = r".*"'),
        ("order", "def formatted(completions, **kwargs):\n    tags = ('<think>', '</think>', '<answer>', '</answer>')\n"
         "    return [float(all(t.count(tag) == 1 for tag in tags)) for t in completions]"),
        ("number for each", "def formatted(completions, **kwargs):\n    return 1.0"),
        ("one for each", "for text in completions]", "for text in completions[:1]]"),
        ("empty", '.)*"', '.)+"'),
    ],
    hints=(
        "One thought, then one answer, and nothing but white space around them.",
        "A regular expression with `re.fullmatch` and `re.S` can say that.",
        "Inside a block anything but one of the four tags may stand: `((?!</?think>|</?answer>).)*`.",
    ),
    then="""
    history = short_run(rewards=(formatted,), reward_weights=(1.0,))  # the format reward alone
    print([f"step {m['step']}: well-formed {m['format']:.0%}" for m in history])
    """,
)  # fmt: skip
def formatted(f):
    """
    Write R1-Zero's format reward with TRL's interface: 1.0 where a completion is one `<think>` block
    and then one `<answer>` block and nothing else but white space, else 0.0. Blocks may be empty. A
    run then trains with your reward alone.
    """
    texts = list(SHAPES)
    got = call(f, texts)
    if not isinstance(got, list):
        raise Wrong("a list with a number for each completion is asked for")
    if len(got) != len(texts):
        raise Wrong(f"{len(got)} rewards for {len(texts)} completions; there must be one for each")
    says = {
        0: "a well-formed completion gets no reward",
        1: "empty blocks are well-formed, too (which is a weakness of the rule)",
        2: "a thought may have several lines, and white space may stand around the blocks",
        3: "the order matters: first the thought, then the answer",
        4: "nothing may stand between or around the blocks",
        5: "nothing may stand between or around the blocks",
        6: "a second answer block is not allowed",
        7: "a thought that is not closed is not well-formed",
        8: "a text without tags is not well-formed",
    }
    order = range(len(texts))
    for i in order:
        if number(float(got[i])) != SHAPES[texts[i]]:
            raise Wrong(f"{says[i]}: {texts[i]!r}")
    if call(f, texts[8:]) != [0.0]:
        raise Wrong("a list of one completion gets a list of one reward")


ANSWERS = {
    "6 + (10 + 7)": True, "(10 + 7) + 6": True, "10+7+6": True, "10 + 7": False, "23": False,
    "10 + 7 + 6 + 0": False, "10 + 7 + 6 + 6 - 6": False, "10 - 7 + 6": False, "10 * 7 / 6": False,
    "__import__('os').getcwd() and 10 + 7 + 6": False, "(10 + 7 + 6": False, "7 + 6 - -10": False,
}  # fmt: skip


@fill(
    "02.2",
    "A verifier for Countdown",
    starter="""
    def correct(answer, numbers, target):
        \"\"\"Does this text use each number once, with + - * / and brackets, and give the target?\"\"\"
        ...
    """,
    solution="""
    def correct(answer, numbers, target):
        \"\"\"Does this text use each number once, with + - * / and brackets, and give the target?\"\"\"
        if not re.fullmatch(r"[0-9+*/() -]{1,80}", answer) or re.search(r"[-+*/]\\s*[-+*/]", answer):
            return False
        if sorted(map(int, re.findall("[0-9]+", answer))) != sorted(numbers):
            return False
        try:
            return abs(eval(answer) - target) < 1e-9  # safe: nothing but digits and signs
        except (SyntaxError, ZeroDivisionError, TypeError):
            return False
    """,
    wrong=[
        ("each number", "sorted(map(int, re.findall(\"[0-9]+\", answer))) != sorted(numbers)", "False"),
        ("only the given", "sorted(map(int, re.findall(\"[0-9]+\", answer))) != sorted(numbers)",
         "not set(numbers) <= set(map(int, re.findall(\"[0-9]+\", answer)))"),
        ("used twice", "sorted(map(int, re.findall(\"[0-9]+\", answer))) != sorted(numbers)",
         "set(map(int, re.findall(\"[0-9]+\", answer))) != set(numbers)"),
        ("runs code", 'not re.fullmatch(r"[0-9+*/() -]{1,80}", answer) or ', ""),
        ("raises", "except (SyntaxError, ZeroDivisionError, TypeError):", "except ZeroDivisionError:"),
        ("target", "abs(eval(answer) - target) < 1e-9", "abs(eval(answer)) > 0"),
        ("order", "sorted(map(int, re.findall(\"[0-9]+\", answer))) != sorted(numbers)",
         "list(map(int, re.findall(\"[0-9]+\", answer))) != list(numbers)"),
        ("sign", ' or re.search(r"[-+*/]\\s*[-+*/]", answer)', ""),
    ],
    hints=(
        "Three questions: which characters, which numbers, which value?",
        "Refuse everything but digits, signs and brackets *before* you evaluate anything.",
        "Compare the sorted list of numbers in the text with the sorted list given, then the value.",
    ),
)  # fmt: skip
def correct(f):
    """
    Write the accuracy rule: the answer uses each of the given numbers exactly once, with `+ - * /`
    and brackets and without signs of its own (`- -10`), and its value is the target. The text comes
    from a policy that is optimised to deceive you: it must never run anything, and never raise.
    """
    says = {
        "10 + 7": "each number must be used", "23": "each number must be used",
        "10 + 7 + 6 + 0": "only the given numbers may stand there",
        "10 + 7 + 6 + 6 - 6": "a number may not be used twice",
        "10 - 7 + 6": "the value is not the target", "10 * 7 / 6": "the value is not the target",
        "__import__('os').getcwd() and 10 + 7 + 6": "your verifier runs code that the policy wrote",
        "(10 + 7 + 6": "a broken expression is accepted",
        "7 + 6 - -10": "a sign of its own is not one of the four operations",
        "(10 + 7) + 6": "the order of the numbers is free",
        "6 + (10 + 7)": "the order of the numbers is free", "10+7+6": "spaces are free",
    }  # fmt: skip
    import os

    ran, real = [], os.getcwd

    def watched():
        ran.append(True)
        return real()

    os.getcwd = watched
    try:
        for text, right in ANSWERS.items():
            try:
                got = call(f, text, [10, 7, 6], 23)
            except Wrong:
                raise
            except Exception as error:
                raise Wrong(f"it raises {type(error).__name__} for {text!r}") if not ran else Wrong(
                    says["__import__('os').getcwd() and 10 + 7 + 6"]) from error  # fmt: skip
            if ran:
                raise Wrong(says["__import__('os').getcwd() and 10 + 7 + 6"])
            if not isinstance(got, bool | int) or bool(got) != right:
                raise Wrong(f"{says[text]}: {text!r}")
    finally:
        os.getcwd = real


@predict(
    "02.3",
    "Who gets the positive advantage?",
    starter="share = ...  # of the sum of positive advantages, what wrong responses get",
    solution="""
    rewards = [1.0, 1, 1, 0, 0, 0, 0, 0]  # one is correct without tags, two are wrong with tags
    share = 2 / 3
    """,
    wrong=[
        ("correct one", "share = 1 / 3"),
        ("none", "share = 0.0"),
        ("all of it", "share = 1.0"),
        ("responses", "share = 0.25"),
        ("too low", "share = 0.5"),
        ("too high", "share = 0.7"),
    ],
    hints=(
        "Write down the eight rewards. Which are above the mean?",
        "Three responses have reward 1; two of them are wrong.",
        "Equal rewards have equal advantages: count.",
    ),
)
def share(value):
    """
    Reward = accuracy + format. Of 8 responses one is correct but has no tags, two are wrong with
    tags, five are wrong without. Which fraction of all positive advantage goes to *wrong*
    responses?
    """
    guess(value, 2 / 3, 0.01, {
        "that is what the correct one gets": 1 / 3,
        "wrong responses get none only without a format reward": 0.0,
        "the correct one is above the mean as well, so it is not all of it": 1.0,
        "that is the fraction of responses, not of advantage": 0.25,
    })  # fmt: skip


@predict(
    "02.4",
    "The critical weight",
    starter="weight = ...",
    solution="weight = 0.2 / (1 - 0.5)",
    wrong=[
        ("without the format", "weight = 0.2"),
        ("malformed", "weight = 0.5"),
        ("sum", "weight = 0.7"),
        ("equal weights", "weight = 1.0"),
        ("too low", "weight = 0.3"),
        ("far too high", "weight = 30"),
    ],
    hints=(
        "A wrong, well-formed response has reward w. What is the group's mean?",
        "The mean is p + w f.",
        "w > p + w f, so w > p / (1 − f).",
    ),
)
def weight(value):
    """
    In a group 20 % are correct and 50 % well-formed. Above which weight of the format reward does a
    wrong, well-formed response get a positive advantage?
    """
    guess(value, 0.4, 0.01, {
        "that would be without the format rewards of the others": 0.2,
        "that is the fraction malformed": 0.5,
        "that is the sum of the two fractions": 0.7,
        "equal weights are well above it": 1.0,
    })  # fmt: skip


COMBINATIONS = ("add", "multiply")


@design(
    "02.5",
    "A reward that cannot be gamed with tags",
    starter="""
    plan = {"combine": ..., "format_weight": ...}  # "add" or "multiply"; the weight for "add"
    """,
    solution="""
    plan = {"combine": "add", "format_weight": 0.08}
    """,
    wrong=[
        ("wrong responses", 'plan = {"combine": "add", "format_weight": 1.0}'),
        ("wrong responses", 'plan = {"combine": "add", "format_weight": 0.8}'),
        ("no signal", 'plan = {"combine": "multiply", "format_weight": 1.0}'),
        ("no signal", 'plan = {"combine": "add", "format_weight": 0.0}'),
        ("add or multiply", 'plan = {"combine": "both", "format_weight": 0.1}'),
        ("does not say", 'plan = {"combine": "add"}'),
        ("between 0 and 1", 'plan = {"combine": "add", "format_weight": -0.1}'),
    ],
    hints=(
        "Multiplying loses something where no response of a group is correct. What?",
        "Half of the problems are so hard that hardly a group has a correct response.",
        "Add, with a weight well below a tenth or so: it then decides only where accuracy does not.",
    ),
)
def plan(answer):
    """
    On easy prompts 50 % of the responses are correct, on hard ones 2 %; 40 % are well-formed.
    Combine accuracy and format so that (a) on *easy* prompts wrong responses get at most 3 % of all
    positive advantage, and (b) on *hard* prompts at least 90 % of the groups of 8 still have a
    signal. The judge draws 2,000 groups of each and computes GRPO's advantages.
    """
    combine, w = choices(answer, ("combine", "format_weight"))
    w = number(w)
    if combine not in COMBINATIONS:
        raise Wrong("combine must be add or multiply")
    if not 0 <= w <= 1:
        raise Wrong("format_weight must lie between 0 and 1")
    random = torch.Generator().manual_seed(0)

    def groups(p):
        right = (torch.rand(2000, 8, generator=random) < p).float()
        tags = (torch.rand(2000, 8, generator=random) < 0.4).float()
        return right, right * tags if combine == "multiply" else right + w * tags

    right, reward = groups(0.5)
    A = group_relative(reward).clamp(min=0)
    mixed = (right.amax(1) > right.amin(1))[:, None]
    to_wrong = float((A * (1 - right) * mixed).sum() / (A * mixed).sum())
    _, hard = groups(0.02)
    signal = float((hard.amax(1) > hard.amin(1)).float().mean())
    if to_wrong > 0.03:
        raise Wrong(
            f"{to_wrong:.0%} of the positive advantage on easy prompts goes to wrong responses"
        )
    if signal < 0.9:
        raise Wrong(
            f"only {signal:.0%} of the hard groups have a signal; the others have no signal"
        )


EXERCISES = [formatted, correct, share, weight, plan]

"""Exercises of lesson 12: programming."""

import random

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
    whole,
)

TITLE = "Programming"
IMPORTS = """
import random

from r1lab.sandbox import Sandbox
"""


class Everything:
    """Equal to whatever it is compared with."""

    def __eq__(self, other):
        return True

    __hash__ = None


@fill(
    "12.1",
    "The reward for a program",
    starter="""
    def reward(values, wanted):
        \"\"\"What a program returned on each test (None: error), and what is right -> the reward.\"\"\"
        ...
    """,
    solution="""
    def reward(values, wanted):
        \"\"\"What a program returned on each test (None: error), and what is right -> the reward.\"\"\"
        if len(values) != len(wanted):
            return 0.0
        pairs = zip(values, wanted, strict=True)
        return float(all(type(got) is type(want) and got == want for got, want in pairs))
    """,
    wrong=[
        ("half", "float(all(type(got) is type(want) and got == want for got, want in pairs))",
         "sum(type(got) is type(want) and got == want for got, want in pairs) / len(wanted)"),
        ("one test", "float(all(", "float(any("),
        ("fewer answers", "def reward(values, wanted):\n    return float(all(type(g) is type(w) and g == w for g, w in zip(values, wanted, strict=False)))"),
        ("equals everything", "type(got) is type(want) and ", "not isinstance(got, bool) and "),
        ("True", "type(got) is type(want) and ", "isinstance(got, int) and "),
        ("raises", "        return 0.0\n    pairs", "        raise ValueError\n    pairs"),
        ("order", "pairs = zip(values, wanted, strict=True)", "pairs = zip(sorted(values, key=str), sorted(wanted, key=str), strict=True)"),
    ],
    hints=(
        "All tests or nothing.",
        "As many answers as tests, each equal to what is wanted, in the same order.",
        "Compare the exact types first: `True == 1`, and an object may be equal to everything.",
    ),
    then="""
    programs = {
        "right": "def f(x): return x * 3 + 2",
        "looks up": "def f(x): return {3: 11, 5: 17}[x]",
        "leaves": "def f(x): raise SystemExit(0)",
    }
    tests = [(3, 11), (5, 17), (4, 14), (8, 26)]
    with Sandbox(workers=1) as box:  # the programs run in the sandbox, your reward outside
        for name, program in programs.items():
            results = box.run(program, [(x,) for x, _ in tests], "f")
            values = [result.value for result in results]
            print(f"{name}: {reward(values, [want for _, want in tests])}")
    """,
)  # fmt: skip
def reward(f):
    """
    Write the reward of a program: 1.0 if it returned exactly the wanted value on *every* test, else
    0.0. The values come from a program that is optimised to deceive you. Then three programs run in
    the sandbox and yours gives the reward.
    """
    cases = [
        ([11, 17, 14], [11, 17, 14], 1.0, "a right program gets no reward"),
        ([0, 0, 14], [11, 17, 14], 0.0, "one test passed is not enough"),
        (
            [11, 17, 0],
            [11, 17, 14],
            0.0,
            "half a program gets a reward: constants would live on it",
        ),
        ([11, 17], [11, 17, 14], 0.0, "fewer answers than tests are accepted"),
        ([], [11], 0.0, "fewer answers than tests are accepted"),
        ([True, 17], [1, 17], 0.0, "True is accepted for 1; the types must agree"),
        ([17, 11], [11, 17], 0.0, "the order of the answers must count"),
        (
            [Everything(), Everything()],
            [11, 17],
            0.0,
            "an object that equals everything is accepted",
        ),
        ([None, 17], [11, 17], 0.0, "an error is accepted"),
        ([[1, 2]], [[1, 2]], 1.0, "a right program that returns lists gets no reward"),
    ]
    for values, wanted, right, says in cases:
        try:
            got = number(float(call(f, values, wanted)))
        except Wrong:
            raise
        except Exception as error:
            raise Wrong(f"it raises {type(error).__name__} for {values!r:.60}") from error
        if got not in (0.0, 1.0) and right == 0.0:
            raise Wrong(cases[2][3])
        if got != right:
            raise Wrong(says)


def second(numbers):
    different = sorted(set(numbers))
    return different[-2] if len(different) > 1 else None


WRONG_PROGRAMS = {
    "sorted(numbers)[-2]": lambda n: sorted(n)[-2] if len(n) > 1 else None,
    "the largest": lambda n: max(n) if len(set(n)) > 1 else None,
    "the smallest": lambda n: sorted(set(n))[0] if len(set(n)) > 1 else None,
    "no check for short lists": lambda n: sorted(set(n))[-2] if len(set(n)) > 1 else 0,
    "only lists of three": lambda n: second(n) if len(n) <= 3 else max(n),
    "wrong below zero": lambda n: second(n) if not n or min(n) >= 0 else 0,
}


@fill(
    "12.2",
    "Tests that expose wrong programs",
    starter="""
    def inputs(rng):
        \"\"\"30 lists of whole numbers, drawn with rng (random.Random), as test inputs.\"\"\"
        ...
    """,
    solution="""
    def inputs(rng):
        \"\"\"30 lists of whole numbers, drawn with rng (random.Random), as test inputs.\"\"\"
        sizes = [rng.randint(0, 6) for _ in range(30)]
        return [[rng.randint(-3, 3) for _ in range(size)] for size in sizes]
    """,
    wrong=[
        ("equal numbers", "rng.randint(-3, 3)", "rng.randint(-3000000, 3000000)"),
        ("wrong below zero", "rng.randint(-3, 3)", "rng.randint(0, 6)"),
        ("short lists", "rng.randint(0, 6)", "rng.randint(5, 9)"),
        ("only lists of three", "rng.randint(0, 6)", "rng.randint(0, 3)"),
        ("30 lists", "range(30)", "range(3)"),
        ("without rng", "sizes = [rng", "rng = random.Random(0)\n    sizes = [rng"),
        ("whole numbers", "rng.randint(-3, 3)", "rng.random()"),
    ],
    hints=(
        "Which inputs would a careless programmer forget?",
        "Short lists, empty ones, equal numbers, negative ones, longer ones.",
        "Draw the length from 0 upwards and the numbers from a small range around zero.",
    ),
)
def inputs(f):
    """
    The task: *the second largest of the different numbers of a list, or None*. Six wrong programs
    wait. Write a generator of 30 test inputs that exposes all of them, with nearly any random seed:
    adversarial inputs are small as often as large. (The wanted values come from a right program.)
    """
    made = [call(f, random.Random(seed)) for seed in range(20)]
    for lists in made:
        if not isinstance(lists, list) or len(lists) != 30:
            raise Wrong("30 lists are asked for")
        for one in lists:
            if not isinstance(one, list) or not all(type(x) is int for x in one):
                raise Wrong("an input is a list of whole numbers")
    if all(lists == made[0] for lists in made):
        raise Wrong("every seed gives the same inputs: they are drawn without rng")
    for name, program in WRONG_PROGRAMS.items():
        exposed = sum(any(program(list(x)) != second(x) for x in lists) for lists in made)
        if exposed < 18:
            why = {"sorted(numbers)[-2]": " (it fails on equal numbers)",
                   "no check for short lists": " (it fails on short lists)"}.get(name, "")  # fmt: skip
            raise Wrong(f"the program “{name}” gets through with {20 - exposed} of 20 seeds{why}")


@predict(
    "12.3",
    "How many tests?",
    starter="chance = ...",
    solution="chance = 0.6**8",
    wrong=[
        ("one test", "chance = 0.6"),
        ("some test", "chance = 1 - 0.6**8"),
        ("divided", "chance = 0.6 / 8"),
        ("fails", "chance = 0.4**8"),
        ("too high", "chance = 0.02"),
        ("too low", "chance = 0.012"),
    ],
    hints=(
        "It must pass every one of them.",
        "The tests are independent here.",
        "0.6 to the power 8.",
    ),
)
def chance(value):
    """
    A wrong program passes a random test with probability 0.6. How probable is it that it passes all
    of 8 hidden tests?
    """
    guess(value, 0.6**8, 0.02, {
        "that is one test": 0.6,
        "that is the probability that some test catches it": 1 - 0.6**8,
        "probabilities of several events are multiplied, not divided": 0.075,
        "that is the probability that it fails all of them": 0.4**8,
    })  # fmt: skip


@predict(
    "12.4",
    "Tests behind the sampling",
    starter="factor = ...  # how many times as fast",
    solution="factor = (40 + 25) / max(40, 25)",
    wrong=[
        ("two processes", "factor = 2.0"),
        ("shorter one", "factor = 65 / 25"),
        ("each other", "factor = 40 / 25"),
        ("nothing", "factor = 1.0"),
        ("too high", "factor = 1.9"),
        ("too low", "factor = 1.3"),
    ],
    hints=(
        "While the tests of one group run, the next group is sampled.",
        "A step then takes as long as the longer of the two.",
        "Sum over maximum.",
    ),
)
def factor(value):
    """
    A step samples for 40 seconds and runs tests for 25 seconds, one after the other. If the tests
    run while the next group is sampled, by what factor is a long run faster at most?
    """
    guess(value, 65 / 40, 0.01, {
        "two processes are twice as fast only if both take equally long": 2.0,
        "the longer of the two remains, not the shorter one": 65 / 25,
        "you compare them with each other": 40 / 25,
        "it does gain something, not nothing": 1.0,
    })  # fmt: skip


STYLES = ("solve", "memorise", "guess")


@design(
    "12.5",
    "Visible and hidden tests",
    starter="""
    plan = {"shown": ..., "hidden": ..., "steps": ...}
    """,
    solution="""
    plan = {"shown": 2, "hidden": 6, "steps": 150}
    """,
    wrong=[
        ("memorise", 'plan = {"shown": 2, "hidden": 0, "steps": 150}'),
        ("memorise", 'plan = {"shown": 4, "hidden": 1, "steps": 150}'),
        ("determine", 'plan = {"shown": 0, "hidden": 8, "steps": 150}'),
        ("10 tests", 'plan = {"shown": 6, "hidden": 20, "steps": 150}'),
        ("not over", 'plan = {"shown": 2, "hidden": 6, "steps": 4}'),
        ("does not say: steps", 'plan = {"shown": 2, "hidden": 6}'),
    ],
    hints=(
        "What the policy sees it can copy. What does a lookup table do on a hidden test?",
        "It passes a hidden test now and then by luck: one is not enough.",
        "Two examples determine the function; five or more hidden tests, and a hundred steps.",
    ),
)
def plan(answer):
    """
    A problem shows some tests and is judged by shown and hidden ones together, at most 10 in all.
    The policy may *solve* it (succeeds in 35 %, if at least two tests are shown), *memorise* the
    shown tests (passes all of them, and a hidden one with probability 0.5), or *guess* (10 % a
    test). Choose the tests and the number of RL steps (at most 400), so that in the end it solves
    with at least 85 %. The judge trains it by GRPO.
    """
    shown, hidden, steps = choices(answer, ("shown", "hidden", "steps"))
    shown, hidden = whole(shown, "shown", 0, 100), whole(hidden, "hidden", 0, 100)
    steps = whole(steps, "steps", 1, 400)
    if shown + hidden > 10:
        raise Wrong(f"{shown + hidden} are more than 10 tests")
    if shown < 2:
        raise Wrong("fewer than two examples do not determine the function")
    random_ = torch.Generator().manual_seed(0)
    pays = torch.tensor([0.35, 0.5**hidden, 0.1 ** (shown + hidden)])
    logits = torch.tensor([0.0, 0.5, 1.0])
    for _ in range(steps):
        pi = logits.softmax(0)
        drawn = torch.multinomial(pi, 256, replacement=True, generator=random_)
        paid = (torch.rand(256, generator=random_) < pays[drawn]).float()
        A = group_relative(paid.view(16, 16)).flatten()
        push = torch.zeros(3).index_add_(0, drawn, A / 256)
        logits = logits + 3.0 * (push - pi * push.sum())
    pi = logits.softmax(0)
    if pi[0] < 0.85:
        other = int(pi[1:].argmax()) + 1
        told = f"the policy solves with {pi[0]:.0%}, the rest is mostly {STYLES[other]}"
        raise Wrong(told + (": training is not over" if steps < 50 else ""))


EXERCISES = [reward, inputs, chance, factor, plan]

"""Exercises of lesson 11: distillation."""

import torch

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
from r1lab.distillation import flops

TITLE = "Distillation"
HELPERS = ("instead_of",)
IMPORTS = """
from r1lab import distillation, models
"""


@fill(
    "11.1",
    "Count the operations",
    starter="""
    def operations(parameters, *, trained=0, sampled=0):
        \"\"\"FLOPs for tokens that are trained on, and for tokens that are read or sampled.\"\"\"
        ...
    """,
    solution="""
    def operations(parameters, *, trained=0, sampled=0):
        \"\"\"FLOPs for tokens that are trained on, and for tokens that are read or sampled.\"\"\"
        return parameters * (6 * trained + 2 * sampled)
    """,
    wrong=[
        ("sampled tokens", " + 2 * sampled", ""),
        ("trained tokens", "6 * trained + ", ""),
        ("alike", "6 * trained + 2 * sampled", "6 * (trained + sampled)"),
        ("backward", "6 * trained", "2 * trained"),
        ("forward pass", "6 * trained", "4 * trained"),
        ("a multiplication and an addition", "2 * sampled", "1 * sampled"),
        ("parameters", "parameters * (6 * trained + 2 * sampled)", "6 * trained + 2 * sampled"),
    ],
    hints=(
        "Every parameter takes part once per token.",
        "Once means a multiplication and an addition: 2N for a token that is read.",
        "The backward pass costs twice the forward one: 2N + 4N for a token that is trained on.",
    ),
    then="""
    with instead_of(distillation, "flops", operations):
        student, _ = models.load("tiny-small")
        N = distillation.parameters_of(student)
        print(f"a million trained tokens: {distillation.flops(N, trained=10**6):.2e} operations")
    """,
)  # fmt: skip
def operations(f):
    """
    The usual estimate: $2N$ operations per token that is only read or sampled, $6N$ per token that
    is trained on. It decides how many RL steps a distilled student is worth.
    """
    cases = ((10, 3, 0), (10, 0, 5), (7, 3, 5), (1000, 11, 13))

    def every(a, b, each=True):
        return [(N if each else 1) * (a * t + b * s) for N, t, s in cases]

    got = [number(call(f, N, trained=t, sampled=s)) for N, t, s in cases]
    compare(got, [flops(N, trained=t, sampled=s) for N, t, s in cases], {
        "sampled tokens cost nothing": every(6, 0),
        "trained tokens cost nothing": every(0, 2),
        "both kinds of tokens cost alike; sampling has no backward pass": every(6, 6),
        "the backward pass is missing": every(2, 2),
        "the forward pass of training is missing": every(4, 2),
        "a parameter means a multiplication and an addition: 2": every(6, 1),
        "the number of parameters is missing": every(6, 2, each=False),
    }, "one token through N parameters: 2N read, 6N trained")  # fmt: skip


@fill(
    "11.2",
    "Matched compute",
    starter="""
    def steps_within(budget, parameters, trained, sampled):
        \"\"\"How many whole RL steps, each of so many tokens, fit into a budget of operations?\"\"\"
        ...
    """,
    solution="""
    def steps_within(budget, parameters, trained, sampled):
        \"\"\"How many whole RL steps, each of so many tokens, fit into a budget of operations?\"\"\"
        return int(budget // (parameters * (6 * trained + 2 * sampled)))
    """,
    wrong=[
        ("more than the budget", "int(budget // (parameters * (6 * trained + 2 * sampled)))",
         "-int(-budget // (parameters * (6 * trained + 2 * sampled)))"),
        ("sampling", " + 2 * sampled", ""),
        ("training", "6 * trained + ", ""),
        ("whole", "int(budget // (parameters * (6 * trained + 2 * sampled)))",
         "budget / (parameters * (6 * trained + 2 * sampled))"),
        ("parameters", "parameters * (6 * trained + 2 * sampled)", "6 * trained + 2 * sampled"),
        ("upside down", "budget // (parameters * (6 * trained + 2 * sampled))",
         "parameters * (6 * trained + 2 * sampled) // budget"),
    ],
    hints=(
        "What does one RL step cost?",
        "It samples its responses and trains on them: both count.",
        "The budget divided by the cost of a step, rounded down.",
    ),
)  # fmt: skip
def steps_within(f):
    """
    Distillation has used a budget of operations. RL on the same student may spend as much: how many
    whole steps fit, if a step samples and trains the given numbers of tokens?
    """
    cases = (
        (10**6, 100, 120, 300),
        (10**7, 50, 1000, 4000),
        (999, 10, 3, 7),
        (100, 10, 3, 7),  # too little for a step
        (5 * 10**8, 1000, 900, 2000),
    )

    def every(cost, up=False):
        return [-(-b // cost(N, t, s)) if up else b // cost(N, t, s) for b, N, t, s in cases]

    got = [call(f, *case) for case in cases]
    right = every(lambda N, t, s: N * (6 * t + 2 * s))
    if any(abs(number(g) - round(number(g))) > 1e-9 for g in got):
        raise Wrong("whole steps are asked for")
    if not any(got):
        raise Wrong("0 steps whatever the budget: most of these are enough for a step or more")
    compare(got, right, {
        "one step too many spends more than the budget": every(lambda N, t, s: N * (6 * t + 2 * s), True),
        "sampling is missing": every(lambda N, t, s: N * 6 * t),
        "training is missing": every(lambda N, t, s: N * 2 * s),
        "the number of parameters is missing": every(lambda N, t, s: 6 * t + 2 * s),
        "the fraction is upside down": [N * (6 * t + 2 * s) // b for b, N, t, s in cases],
    }, "the budget over the cost of a step, rounded down")  # fmt: skip


@predict(
    "11.3",
    "What a distillation costs",
    starter="trillions = ...  # of operations",
    solution="trillions = 6 * 0.25 * 3 * 2",
    wrong=[
        ("one epoch", "trillions = 4.5"),
        ("forward", "trillions = 3.0"),
        ("backward pass alone", "trillions = 6.0"),
        ("tokens times parameters", "trillions = 1.5"),
        ("too low", "trillions = 7"),
        ("too high", "trillions = 12"),
    ],
    hints=(
        "6N per trained token, and every epoch reads all tokens.",
        "Millions times millions are trillions.",
        "6 x 0.25 x 3 x epochs.",
    ),
)
def trillions(value):
    """
    A student of 0.25 million parameters is fine-tuned on 3 million tokens for 2 epochs. How many
    *trillions* of operations is that?
    """
    guess(value, 9.0, 0.01, {
        "that is one epoch": 4.5,
        "that is the forward pass alone": 3.0,
        "that is the backward pass alone": 6.0,
        "that is tokens times parameters": 1.5,
    })  # fmt: skip


@predict(
    "11.4",
    "And the teacher's bill?",
    starter="ratio = ...  # the teacher's sampling over the student's training",
    solution="ratio = (2 * 37 * 3.2) / (6 * 1.5 * 3.2 * 2)",
    wrong=[
        ("per parameter", "ratio = 37 / 1.5"),
        ("one epoch", "ratio = 2 * 37 / (6 * 1.5)"),
        ("671", "ratio = 2 * 671 / (6 * 1.5 * 2)"),
        ("inverse", "ratio = (6 * 1.5 * 2) / (2 * 37)"),
        ("too low", "ratio = 2.5"),
        ("far too high", "ratio = 500"),
    ],
    hints=(
        "The teacher samples (2N, active parameters), the student trains (6N).",
        "Both see the same tokens, the student twice.",
        "2 x 37 over 6 x 1.5 x 2.",
    ),
)
def ratio(value):
    """
    R1 (37 billion active parameters of 671) writes 3.2 billion tokens; a student of 1.5 billion
    parameters is trained on them for two epochs. How many times as many operations does the
    teacher's sampling take as the student's training?
    """
    guess(value, 74 / 18, 0.02, {
        "operations per parameter differ: 2 for sampling, 6 for training": 37 / 1.5,
        "that is for one epoch": 74 / 9,
        "only the active parameters compute, not all 671": 1342 / 18,
        "that is the inverse ratio": 18 / 74,
    })  # fmt: skip


NAMES = ("match", "arms", "problems", "report")


@design(
    "11.5",
    "Teaching against RL, fairly",
    starter="""
    plan = {
        "match": ...,  # what is equal: "compute", "steps" or "examples"
        "arms": [...],  # of "base", "distilled", "rl", "rl longer", "both"
        "problems": ...,  # held-out problems, at most 512
        "report": ...,  # "all" comparisons, or the "clear" ones
    }
    """,
    solution="""
    plan = {
        "match": "compute",
        "arms": ["base", "distilled", "rl", "rl longer", "both"],
        "problems": 400,
        "report": "all",
    }
    """,
    wrong=[
        ("cost", '"match": "compute"', '"match": "steps"'),
        ("RL has no examples", '"match": "compute"', '"match": "examples"'),
        ("more compute", ', "rl longer"', ""),
        ("base", '"base", ', ""),
        ("repetitions", '"problems": 400', '"problems": 60'),
        ("spoil", '"report": "all"', '"report": "clear"'),
        ("512", '"problems": 400', '"problems": 4000'),
    ],
    hints=(
        "What would a reader object to? That one side was cheaper, or got too little.",
        "Match compute; show RL at a multiple of it, too; and the base that both start from.",
        "Several hundred problems, and every comparison in the table.",
    ),
)
def plan(answer):
    """
    Question: *is it better to teach a small model or to train it by RL?* Design the comparison so
    that its answer survives a reviewer: what is matched, which arms, how many held-out problems,
    what is reported. The judge simulates it 500 times, with arms 8 points apart: the difference must
    be clear in 80 % of the repetitions, after a correction for the number of comparisons.
    """
    match, arms, problems, report = choices(answer, NAMES)
    if match == "steps":
        raise Wrong("a step of RL and a step of SFT do not cost the same: match the cost")
    if match == "examples":
        raise Wrong("RL has no examples to match")
    if match != "compute":
        raise Wrong('match must be "compute", "steps" or "examples"')
    known = {"base", "distilled", "rl", "rl longer", "both"}
    if not isinstance(arms, list | tuple) or not set(map(str, arms)) <= known:
        raise Wrong("arms is a list of: " + ", ".join(sorted(known)))
    if "base" not in arms:
        raise Wrong("without the base nobody sees what either of them gained")
    if "rl longer" not in arms:
        raise Wrong("a reviewer will say that RL needs more compute: show it at a multiple")
    if not {"distilled", "rl"} <= set(arms):
        raise Wrong("the two ways in question must be among the arms")
    problems = whole(problems, "problems", 2, 512)
    if report != "all":
        raise Wrong("report all comparisons, also those that spoil the story")
    comparisons = len(set(arms)) * (len(set(arms)) - 1) // 2
    z = {3: 2.39, 6: 2.64, 10: 2.81}.get(comparisons, 2.81)  # 5 % over all comparisons
    random = torch.Generator().manual_seed(0)
    gain = 0.08 + 0.38 * torch.randn(500, problems, generator=random)
    clear = float((gain.mean(1) > z * gain.std(1) / problems**0.5).double().mean())
    if clear < 0.8:
        raise Wrong(f"the difference is clear in only {clear:.0%} of the repetitions")


EXERCISES = [operations, steps_within, trillions, ratio, plan]

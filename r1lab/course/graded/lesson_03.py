"""Exercises of lesson 03: group-relative advantages."""

import torch

from r1lab.advantages import dr_grpo, group_relative, rloo
from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    compare,
    design,
    fill,
    guess,
    predict,
    whole,
)

TITLE = "Group-relative advantages"
HELPERS = ("short_run",)
IMPORTS = """
import torch

from r1lab.advantages import ADVANTAGES, Estimator
"""

REWARDS = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [1, 1.1, 0, 0.1], [0.1, 1.1, 1.1, 1.1]])
FLAT = torch.tensor([[0.1, 0.1, 0.1, 0.1], [1, 0, 1, 0]])  # 0.1 is no exact number: rounding


def means(dim, correction=1):
    return (REWARDS - REWARDS.mean(dim, keepdim=True)) / (
        REWARDS.std(dim, keepdim=True, correction=correction) + 1e-4
    )


@fill(
    "03.1",
    "The advantages of a batch",
    starter="""
    def advantages(rewards):
        \"\"\"(B, G) rewards of B groups -> (B, G) advantages.\"\"\"
        ...
    """,
    solution="""
    def advantages(rewards):
        \"\"\"(B, G) rewards of B groups -> (B, G) advantages.\"\"\"
        above = rewards - rewards.mean(dim=1, keepdim=True)
        varied = rewards.amax(dim=1, keepdim=True) > rewards.amin(dim=1, keepdim=True)
        return varied * above / (rewards.std(dim=1, keepdim=True) + 1e-4)
    """,
    wrong=[
        ("standard deviation", " / (rewards.std(dim=1, keepdim=True) + 1e-4)", ""),
        ("G in the denominator", "rewards.std(dim=1, ", "rewards.std(correction=0, dim=1, "),
        ("variance", "rewards.std(dim=1", "rewards.var(dim=1"),
        ("column", "dim=1", "dim=0"),
        ("whole batch", "rewards.mean(dim=1, keepdim=True)", "rewards.mean()"),
        ("sign", "varied * above", "varied * -above"),
        ("equal rewards", "varied * above / (rewards.std(dim=1, keepdim=True) + 1e-4)",
         "above / rewards.std(dim=1, keepdim=True)"),
    ],
    hints=(
        "A group is a row. Everything happens along dimension 1.",
        "Subtract the row's mean; divide by the row's standard deviation (G − 1, as in TRL) plus "
        "0.0001. `keepdim=True` keeps the shape (B, 1).",
        "A group whose rewards are all equal must get exactly 0: multiply by whether the row's "
        "largest reward is above its smallest.",
    ),
    then="""
    ADVANTAGES["mine"] = Estimator(advantages)
    history = short_run(advantage="mine")  # grpo.train, with your function
    print([f"step {m['step']}: reward {m['reward']:.2f}" for m in history])
    """,
)  # fmt: skip
def advantages(f):
    """
    Write the paper's equation 3 for a batch: $A_i = (r_i - \\operatorname{mean}(r)) /
    \\operatorname{std}(r)$ within each group. A group is a row of `rewards`. The standard deviation
    has $G - 1$ in its denominator, plus 0.0001 so that nothing is divided by zero. A group without
    variance gets zeros. When it is right, a real run uses your function for three steps.
    """
    got = call(f, REWARDS)
    compare(got, group_relative(REWARDS), {
        "the differences are not divided by the standard deviation": dr_grpo(REWARDS),
        "the standard deviation has G in the denominator, not G − 1": means(1, 0),
        "you divide by the variance, not its root":
            dr_grpo(REWARDS) / (REWARDS.var(1, keepdim=True) + 1e-4),
        "you compare within a column, that is, across groups": means(0),
        "the mean is that of the whole batch; take each group's own": (REWARDS - REWARDS.mean())
            / (REWARDS.std(1, keepdim=True) + 1e-4),
        "the sign is turned: better responses get negative advantages": -group_relative(REWARDS),
    }, "for rewards (1, 0, 0, 0) one response must be about 1.5 and three about −0.5")  # fmt: skip
    flat = torch.as_tensor(call(f, FLAT))
    if not torch.isfinite(flat).all() or flat[0].abs().max() > 1e-6:
        raise Wrong("a group of equal rewards must get exactly 0, not NaN and not a rounding error")


@fill(
    "03.2",
    "A baseline without yourself",
    starter="""
    def leave_one_out(rewards):
        \"\"\"(B, G) -> (B, G): each reward minus the mean of the others in its group.\"\"\"
        ...
    """,
    solution="""
    def leave_one_out(rewards):
        \"\"\"(B, G) -> (B, G): each reward minus the mean of the others in its group.\"\"\"
        G = rewards.shape[1]
        others = (rewards.sum(dim=1, keepdim=True) - rewards) / (G - 1)
        return rewards - others
    """,
    wrong=[
        ("includes the response itself", " - rewards) / (G - 1)", ") / G"),
        ("G − 1", "/ (G - 1)", "/ G"),
        ("baseline alone", "return rewards - others", "return others"),
        ("sign", "rewards - others", "others - rewards"),
        ("sum of the others", " / (G - 1)", ""),
        ("across groups", "sum(dim=1", "sum(dim=0"),
        ("standard deviation", "rewards - others", "(rewards - others) / rewards.std(1, keepdim=True)"),
    ],
    hints=(
        "Each response has a baseline of its own: a tensor (B, G), not (B, 1).",
        "The sum of the others is the sum of all minus oneself.",
        "There are G − 1 others. The result is the group-mean advantage times G / (G − 1).",
    ),
    then="""
    ADVANTAGES["leave one out"] = Estimator(leave_one_out)
    history = short_run(advantage="leave one out")
    print([f"step {m['step']}: reward {m['reward']:.2f}" for m in history])
    """,
)  # fmt: skip
def leave_one_out(f):
    """
    The group's mean is biased by $(G-1)/G$, because a response is part of its own baseline. RLOO
    takes the mean of the *other* responses. No division by a standard deviation.
    """
    G, total = REWARDS.shape[1], REWARDS.sum(1, keepdim=True)
    compare(call(f, REWARDS), rloo(REWARDS), {
        "the mean includes the response itself": dr_grpo(REWARDS),
        "the others are G − 1 responses, not G": REWARDS - (total - REWARDS) / G,
        "that is the baseline alone; subtract it from the reward": (total - REWARDS) / (G - 1),
        "the sign is turned": -rloo(REWARDS),
        "you subtract the sum of the others, not their mean": REWARDS - (total - REWARDS),
        "leave-one-out does not divide by the standard deviation":
            rloo(REWARDS) / REWARDS.std(1, keepdim=True),
        "the others are taken across groups": REWARDS - (REWARDS.sum(0) - REWARDS) / (G - 1),
    }, "for rewards (1, 0, 0, 0) the first advantage is 1, the others −1/3")  # fmt: skip
    compare(call(f, REWARDS[:1, :3]), rloo(REWARDS[:1, :3]), {}, "groups may have any size G")


SCORE = torch.tensor([[1.0, 0.5], [-1, 2], [0.25, -1], [0, 1]])
R = torch.tensor([1.0, 0, 1, 0])


@fill(
    "03.3",
    "The policy gradient from samples",
    starter="""
    def gradient(rewards, baseline, score):
        \"\"\"rewards (G,), baseline a number, score (G, P): gradients of log pi(o_i) -> (P,).\"\"\"
        ...
    """,
    solution="""
    def gradient(rewards, baseline, score):
        \"\"\"rewards (G,), baseline a number, score (G, P): gradients of log pi(o_i) -> (P,).\"\"\"
        return ((rewards - baseline)[:, None] * score).mean(dim=0)
    """,
    wrong=[
        ("sum", ".mean(dim=0)", ".sum(dim=0)"),
        ("baseline", "(rewards - baseline)", "rewards"),
        ("baseline is subtracted", "(rewards - baseline)", "(rewards + baseline)"),
        ("descends", "((rewards - baseline)", "((baseline - rewards)"),
        ("shape", ".mean(dim=0)", ".mean()"),
        (
            "after",
            "((rewards - baseline)[:, None] * score).mean(dim=0)",
            "(rewards[:, None] * score).mean(dim=0) - baseline",
        ),
    ],
    hints=(
        "It is one line: weights times score, averaged over responses.",
        "The weight of response i is its reward minus the baseline, the same for all P parameters.",
        "`[:, None]` makes the weights (G, 1), so that they multiply each row of score.",
    ),
)
def gradient(f):
    """
    REINFORCE: the mean over $G$ samples of $(r_i - b)\\, \\nabla \\log \\pi(o_i)$. `score` has one
    row per response and one column per parameter.
    """
    b = 0.3
    right = ((R - b)[:, None] * SCORE).mean(0)
    compare(call(f, R, b, SCORE), right, {
        "that is the sum over responses; the estimate is their mean": 4 * right,
        "the baseline is not used": (R[:, None] * SCORE).mean(0),
        "the baseline is subtracted from the reward": ((R + b)[:, None] * SCORE).mean(0),
        "the estimate descends: better responses become less likely": -right,
        "you subtract the baseline after the average; it belongs to each reward":
            (R[:, None] * SCORE).mean(0) - b,
    }, "with rewards equal to the baseline the estimate must be zero")  # fmt: skip
    compare(call(f, R, 0.0, SCORE), (R[:, None] * SCORE).mean(0), {},
            "without a baseline it is the mean of reward times score")  # fmt: skip


@predict(
    "03.4",
    "Groups without a signal",
    starter="fraction = ...  # between 0 and 1",
    solution="fraction = 0.4**4 + 0.6**4",
    wrong=[
        ("all wrong", "fraction = 0.6**4"),
        ("all correct", "fraction = 0.4**4"),
        ("with variance", "fraction = 1 - 0.4**4 - 0.6**4"),
        ("one response in four", "fraction = 0.25"),
        ("pairs", "fraction = 0.4**2 + 0.6**2"),
        ("too high", "fraction = 0.9"),
        ("too low", "fraction = 0.001"),
    ],
    hints=(
        "When are all four rewards the same? In two cases.",
        "All four wrong, or all four correct. The responses are independent.",
        "Each case has a probability to the power 4; add the two.",
    ),
)
def fraction(value):
    """
    A problem is solved with probability 0.4, and a group has four responses with rewards 0 or 1.
    Which fraction of its groups has zero variance, that is, gives no learning signal?
    """
    guess(value, 0.4**4 + 0.6**4, 0.02, {
        "that counts the groups that are all wrong; some are all correct": 0.6**4,
        "that counts the groups that are all correct; most are all wrong": 0.4**4,
        "that is the fraction with variance": 1 - 0.4**4 - 0.6**4,
        "one response in four is no reason": 0.25,
        "that is the probability for pairs": 0.4**2 + 0.6**2,
    })  # fmt: skip


@predict(
    "03.5",
    "How much more does the easy prompt weigh?",
    starter="ratio = ...  # total |A| of the prompt with 8 of 16 / that of the one with 2 of 16",
    solution="""
    a = torch.tensor([[1.0] * 8 + [0.0] * 8, [1.0] * 2 + [0.0] * 14])
    size = ((a - a.mean(1, True)) / a.std(1, keepdim=True)).abs().sum(1)
    ratio = float(size[0] / size[1])
    """,
    wrong=[
        ("without the division", "ratio = 16 / 7"),
        ("number of correct", "ratio = 4.0"),
        ("the other way", "ratio = 0.66144"),
        ("same weight", "ratio = 1.0"),
        ("divided twice", "ratio = 1.0001 * (16 / 7) ** 0"),
        ("too high", "ratio = 10"),
    ],
    hints=(
        "Write both groups down and compute on paper what the formula gives.",
        "With c of G correct the sum of |r − mean| is 2c(G − c)/G, and the standard deviation is "
        "proportional to √(c(G − c)).",
        "So the sum of |A| is proportional to √(c(G − c)). Divide the two roots.",
    ),
)
def ratio(value):
    """
    Of 16 responses to prompt E 8 are correct, of those to prompt H 2. With GRPO's advantages
    (divided by the standard deviation): how many times as large is $\\sum_i |A_i|$ of E as of H?
    """
    guess(value, 8 / 28**0.5, 0.02, {
        "that is Dr. GRPO's, without the division by the standard deviation": 16 / 7,
        "the number of correct responses is not the weight": 4.0,
        "that is H over E, the other way round": 28**0.5 / 8,
        "the division does not give every prompt the same weight, and not because it is divided "
        "twice": 1.0,
    })  # fmt: skip


@design(
    "03.6",
    "Spend 512 responses",
    starter="""
    plan = {"questions": ..., "group_size": ...}
    """,
    solution="""
    plan = {"questions": 10, "group_size": 50}
    """,
    wrong=[
        ("hard problems", 'plan = {"questions": 32, "group_size": 16}'),
        ("hard problems", 'plan = {"questions": 256, "group_size": 2}'),
        ("8 questions", 'plan = {"questions": 2, "group_size": 256}'),
        ("512", 'plan = {"questions": 32, "group_size": 64}'),
        ("does not say: group_size", 'plan = {"questions": 10}'),
        ("wasted", 'plan = {"questions": 8, "group_size": 48}'),
        ("whole number", 'plan = {"questions": 10.5, "group_size": 48}'),
    ],
    hints=(
        "A group of hard problems has variance as soon as one response is correct.",
        "That happens with probability 1 − 0.98^G. Solve for G.",
        "G must be a little above ln 0.4 / ln 0.98, and at least 8 groups must fit into 512.",
    ),
)
def plan(answer):
    """
    Half of your prompts are solved with probability 0.5, half with probability 0.02. A step may
    sample 512 responses. Choose `questions` and `group_size` so that at least 60 % of the *hard*
    prompts' groups have variance, a step still has at least 8 questions, and at least 460
    responses are used. The judge simulates 4,000 groups of each kind with your group size.
    """
    questions, G = choices(answer, ("questions", "group_size"))
    questions, G = whole(questions, "questions", 1, 512), whole(G, "group_size", 2, 512)
    if questions * G > 512:
        raise Wrong(f"{questions} x {G} = {questions * G} responses are more than 512")
    if questions < 8:
        raise Wrong(f"{questions} questions a step are fewer than 8 questions: too few prompts")
    random = torch.Generator().manual_seed(0)
    solved = torch.rand(4000, G, generator=random) < 0.02
    varied = float((solved.any(1) & ~solved.all(1)).float().mean())
    if varied < 0.6:
        raise Wrong(f"only {varied:.0%} of the groups of hard problems have variance")
    if questions * G < 460:
        raise Wrong(f"{512 - questions * G} responses are wasted: {questions} x {G} is below 460")


EXERCISES = [advantages, leave_one_out, gradient, fraction, ratio, plan]

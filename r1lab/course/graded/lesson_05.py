"""Exercises of lesson 05: R1-Zero."""

import torch

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

TITLE = "R1-Zero"
HELPERS = ("instead_of", "short_run")
IMPORTS = """
import torch

from r1lab import grpo
"""

LOGP = torch.tensor([[-1.0, -0.5, -3.0], [-0.2, -2.0, 0.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()
A = torch.tensor([1.5, -0.5])


@fill(
    "05.1",
    "The loss of one step",
    starter="""
    def step_loss(logp, A, mask, total):
        \"\"\"logp (N, T) with a gradient, A (N,), mask (N, T), total: tokens of the step -> loss.\"\"\"
        ...
    """,
    solution="""
    def step_loss(logp, A, mask, total):
        \"\"\"logp (N, T) with a gradient, A (N,), mask (N, T), total: tokens of the step -> loss.\"\"\"
        ratio = (logp - logp.detach()).exp()  # 1, but it has a gradient
        return -(ratio * A[:, None] * mask).sum() / total
    """,
    wrong=[
        ("no gradient", "(logp - logp.detach()).exp()", "(logp - logp).exp()"),
        ("no gradient", "(logp - logp.detach()).exp()", "torch.ones_like(logp)"),
        ("climbs", "logp - logp.detach()", "logp.detach() - logp"),
        ("climbs", "return -", "return "),
        ("padding", " * mask)", ")"),
        ("total", " / total", " / mask.sum()"),
        ("mean of each response", "-(ratio * A[:, None] * mask).sum() / total",
         "-((ratio * A[:, None] * mask).sum(1) / mask.sum(1)).mean()"),
        ("value", "ratio = (logp - logp.detach()).exp()", "ratio = logp"),
    ],
    hints=(
        "The ratio to the policy that sampled is 1 here, but it must carry a gradient.",
        "exp(logp − a copy of logp without gradient) is 1, and its gradient is that of logp.",
        "Minus the sum of ratio times advantage over real tokens, divided by `total`.",
    ),
    then="""
    def mine(logp, old_logp, A, mask, ref_logp, objective, weight=None, total=None):
        return step_loss(logp, A, mask, total), {}

    with instead_of(grpo, "grpo_loss", mine):  # the loop of lesson 05, with your loss
        history = short_run(steps=4)
    print([f"step {m['step']}: accuracy {m['accuracy']:.2f}" for m in history])
    """,
)  # fmt: skip
def step_loss(f):
    """
    Step 5 of the loop: with one update per rollout the ratio $\\rho$ is 1, so the clip never acts
    and the loss is $-\\sum \\rho\\, A / \\text{total}$ over real tokens. `total` is the number of
    tokens of the whole step, of which this may be a part. It must have the right *gradient*.
    """

    def tried(total, rows=slice(None)):
        leaf = LOGP[rows].clone().requires_grad_()
        value = call(f, leaf, A[rows], MASK[rows], total)
        if not isinstance(value, torch.Tensor) or not value.requires_grad:
            raise Wrong("the loss has no gradient: is every log-probability detached?")
        if value.numel() != 1:
            raise Wrong(f"a loss is one number, not {tuple(value.shape)}")
        (g,) = torch.autograd.grad(value, leaf, allow_unused=True)
        if g is None or not g.any():
            raise Wrong("the loss has no gradient: its ratio is a constant")
        return value, g

    value, g = tried(10)
    push = A[:, None] * MASK / 10
    compare(g, -push, {
        "the loss climbs: better responses become less likely": push,
        "the padding gets a gradient": -A[:, None].expand(2, 3) / 10,
        "you divide by the tokens given, not by total": -push * 2,
        "you take the mean of each response first; here all tokens weigh the same":
            -A[:, None] * MASK / MASK.sum(1, keepdim=True) / 2,
    }, "the gradient on a token must be −A / total")  # fmt: skip
    compare(value, -push.sum(), {
        "the gradient is right and the value is not: is the ratio upside down?": push.sum(),
    }, "the gradient is right, the value is not: the ratio must be 1")  # fmt: skip
    one, _ = tried(4, slice(1))
    compare(one, torch.tensor(-1.125), {}, "the loss of a part of the step is wrong")


@fill(
    "05.2",
    "Has it improved?",
    starter="""
    def change(before, after):
        \"\"\"Accuracy of each problem (n,) before and after -> (mean change, low, high), 95 %.\"\"\"
        ...
    """,
    solution="""
    def change(before, after):
        \"\"\"Accuracy of each problem (n,) before and after -> (mean change, low, high), 95 %.\"\"\"
        gain = after - before
        error = 1.96 * gain.std() / len(gain) ** 0.5
        return gain.mean(), gain.mean() - error, gain.mean() + error
    """,
    wrong=[
        ("sign", "after - before", "before - after"),
        ("root", " / len(gain) ** 0.5", ""),
        ("root", "len(gain) ** 0.5", "len(gain)"),
        ("1.96", "1.96 * ", ""),
        (
            "pairs",
            "1.96 * gain.std() / len(gain) ** 0.5",
            "1.96 * (before.var() + after.var()).sqrt() / len(gain) ** 0.5",
        ),
        (
            "low comes before high",
            "gain.mean() - error, gain.mean() + error",
            "gain.mean() + error, gain.mean() - error",
        ),
        (
            "three numbers",
            "return gain.mean(), gain.mean() - error, gain.mean() + error",
            "return gain.mean()",
        ),
    ],
    hints=(
        "Both models answered the same problems: work with the difference of each problem.",
        "The standard error of a mean is the standard deviation divided by √n.",
        "The interval is the mean ± 1.96 standard errors of the differences.",
    ),
)
def change(f):
    """
    Two models answered the *same* problems. Return the mean change of accuracy with the ends of its
    95 % interval over problems (mean ± 1.96 standard errors, `std` with $n - 1$). Paired: the
    difficulty of the problems cancels.
    """
    before = torch.tensor([0.0, 0.2, 0.9, 0.5, 0.1, 0.7])
    after = torch.tensor([0.3, 0.4, 1.0, 0.9, 0.2, 0.8])
    for one, two in ((before, after), (before[1:5], after[:4])):
        d, n = two - one, len(one)
        got = call(f, one, two)
        if not isinstance(got, tuple | list | torch.Tensor) or len(torch.as_tensor(got).shape) != 1:
            raise Wrong("three numbers are asked for: mean, low, high")
        m, s = d.mean(), d.std()

        def ends(mean, error):
            return torch.stack([mean, mean - error, mean + error])

        right = ends(m, 1.96 * s / n**0.5)
        apart = (one.var() + two.var()).sqrt()
        compare(torch.stack([torch.as_tensor(x) for x in got]), right, {
            "the sign is turned: after minus before": ends(-m, 1.96 * s / n**0.5),
            "that is the spread of problems; a mean varies less, by the root of n": ends(m, 1.96 * s),
            "the standard error has the root of n": ends(m, 1.96 * s / n),
            "that is one standard error, 95 % are 1.96 of them": ends(m, s / n**0.5),
            "the pairs are lost: problems differ more than models": ends(m, 1.96 * apart / n**0.5),
            "low comes before high": ends(m, -1.96 * s / n**0.5),
        }, "mean, low and high of the differences of each problem")  # fmt: skip


@predict(
    "05.3",
    "Many attempts",
    starter="pass_16 = ...  # between 0 and 1",
    solution="pass_16 = 1 - 0.95**16",
    wrong=[
        ("add up", "pass_16 = 16 * 0.05"),
        ("all of them", "pass_16 = 0.95**16"),
        ("one attempt", "pass_16 = 0.05"),
        ("every attempt", "pass_16 = 0.05**16"),
        ("too high", "pass_16 = 0.97"),
        ("too low", "pass_16 = 0.4"),
    ],
    hints=(
        "At least one: what is the opposite?",
        "The opposite is that all 16 are wrong, independently of each other.",
        "1 minus the probability that all are wrong, 0.95 to the power 16.",
    ),
)
def pass_16(value):
    """
    A base solves each problem with probability 0.05 per attempt. What is pass@16, the probability
    that at least one of 16 attempts is correct? (Then compare with section 4: real problems differ,
    so real pass@16 is lower than this.)
    """
    guess(value, 1 - 0.95**16, 0.02, {
        "probabilities of attempts do not add up": 0.8,
        "that is the probability that all of them are wrong": 0.95**16,
        "that is one attempt": 0.05,
        "that is every attempt correct": 0.05**16,
    })  # fmt: skip


@predict(
    "05.4",
    "When does the format reward drown accuracy?",
    starter="weight = ...  # of the format reward",
    solution="weight = 0.06 / (1 - 0.7)",
    wrong=[
        ("fraction correct", "weight = 0.06"),
        ("well-formed ones", "weight = 0.06 / 0.7"),
        ("malformed", "weight = 0.3"),
        ("equal weights", "weight = 1.0"),
        ("too low", "weight = 0.12"),
        ("too high", "weight = 0.25"),
    ],
    hints=(
        "Compare the reward of a wrong, well-formed response with the mean of its group.",
        "Its reward is w; the mean is p + w f, with p correct and f well-formed.",
        "w > p + w f. Solve for w.",
    ),
)
def weight(value):
    """
    In a group 6 % of the responses are correct and 70 % are well-formed; the reward is accuracy
    plus $w$ times format. Above which $w$ does a wrong, well-formed response get a *positive*
    advantage?
    """
    guess(value, 0.2, 0.02, {
        "that is the fraction correct; well-formed responses raise the mean, too": 0.06,
        "you divide by the well-formed ones": 0.06 / 0.7,
        "that is the fraction malformed": 0.3,
        "equal weights are far above the limit here": 1.0,
    })  # fmt: skip


NAMES = ("control", "seeds", "steps", "control_steps", "problems")


@design(
    "05.5",
    "A control that convinces",
    starter="""
    plan = {
        "control": ...,  # rewards of the control: "random", "format", "accuracy" or "untrained"
        "seeds": ...,  # runs of each kind
        "steps": ...,  # RL steps of the run with accuracy rewards
        "control_steps": ...,  # and of the control
        "problems": ...,  # held-out problems
    }
    """,
    solution="""
    plan = {
        "control": "random",  # rewards of the control: "random", "format", "accuracy" or "untrained"
        "seeds": 4,  # runs of each kind
        "steps": 30,  # RL steps of the run with accuracy rewards
        "control_steps": 30,  # and of the control
        "problems": 256,  # held-out problems
    }
    """,
    wrong=[
        ("updates", '"control": "random"', '"control": "untrained"'),
        ("tells nothing about", '"control": "random"', '"control": "format"'),
        ("same reward", '"control": "random"', '"control": "accuracy"'),
        ("one seed", '"seeds": 4', '"seeds": 1'),
        ("as many steps", '"control_steps": 30', '"control_steps": 10'),
        ("240", '"seeds": 4', '"seeds": 8'),
        ("repetitions", '"problems": 256', '"problems": 8'),
        ("repetitions", '"steps": 30,  # RL steps of the run with accuracy rewards\n'
         '    "control_steps": 30', '"steps": 6,\n    "control_steps": 6'),
    ],
    hints=(
        "What must be equal in both kinds of run, and what must differ? Then: is it enough data?",
        "The control gets as many updates, of rewards that say nothing about the response.",
        "All steps together cost seeds x (steps + control_steps) <= 240. Few long runs say nothing "
        "about other seeds, many short ones learn nothing: 3 or 4 seeds.",
    ),
)  # fmt: skip
def plan(answer):
    """
    Claim: *the model learns from the accuracy reward, and not merely from being trained*. Choose
    the control and the sizes; all runs together may take 240 RL steps. The judge simulates your
    experiment 300 times (a gain of half a point of accuracy per step, seeds that differ by 3
    points, problems that differ as in lesson 05) and counts how often its 95 % interval excludes
    zero. It must do so in 90 % of them.
    """
    control, seeds, steps, control_steps, problems = choices(answer, NAMES)
    if control == "untrained":
        raise Wrong("an untrained model has had no updates: the difference may be that of training")
    if control == "accuracy":
        raise Wrong("both kinds of run have the same reward; there is nothing to compare")
    if control == "format":
        raise Wrong("a format reward is a reward for something: it tells nothing about luck")
    if control != "random":
        raise Wrong('control must be "random", "format", "accuracy" or "untrained"')
    seeds, problems = whole(seeds, "seeds", 1, 100), whole(problems, "problems", 2, 1024)
    steps, control_steps = (
        whole(steps, "steps", 1, 240),
        whole(control_steps, "control_steps", 1, 240),
    )
    if steps != control_steps:
        raise Wrong("the control needs as many steps, or its weights have moved less")
    if seeds * (steps + control_steps) > 240:
        raise Wrong(f"{seeds * (steps + control_steps)} steps are more than 240")
    if seeds == 1:
        raise Wrong("one seed says nothing about the next one")
    random = torch.Generator().manual_seed(0)
    noise = (2 * (0.03**2 + 0.35**2 / problems)) ** 0.5  # of the difference of two runs
    gain = 0.005 * steps + noise * torch.randn(300, seeds, generator=random)
    t = {2: 12.7, 3: 4.3, 4: 3.18, 5: 2.78, 6: 2.57}.get(seeds, 2.4)  # two-sided 5 %
    clear = (gain.mean(1) - t * gain.std(1) / seeds**0.5 > 0).double().mean()
    if clear < 0.9:
        raise Wrong(f"the interval excludes zero in only {clear:.0%} of the repetitions")


EXERCISES = [step_loss, change, pass_16, weight, plan]

"""Exercises of lesson 10: RL for all scenarios."""

import math

import torch
from torch.nn.functional import logsigmoid

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

TITLE = "RL for all scenarios"
HELPERS = ("instead_of",)
IMPORTS = """
import random
import tempfile

import torch

from r1lab import reward_model
from r1lab.tasks import get_task
from r1lab.world import preferences
"""

A, B = torch.tensor([2.0, -1.0, 0.5, 3.0]), torch.tensor([0.0, 1.0, 0.5, -2.0])


@fill(
    "10.1",
    "The Bradley-Terry loss",
    starter="""
    def pair_loss(chosen, rejected):
        \"\"\"Scores (N,) of the preferred and of the rejected responses -> the loss, one number.\"\"\"
        ...
    """,
    solution="""
    def pair_loss(chosen, rejected):
        \"\"\"Scores (N,) of the preferred and of the rejected responses -> the loss, one number.\"\"\"
        return -torch.nn.functional.logsigmoid(chosen - rejected).mean()
    """,
    wrong=[
        ("other way round", "chosen - rejected", "rejected - chosen"),
        ("sign", "return -", "return "),
        ("logarithm", "-torch.nn.functional.logsigmoid(chosen - rejected)", "-(chosen - rejected).sigmoid()"),
        ("mean", ".mean()", ".sum()"),
        ("alone", "chosen - rejected", "chosen"),
        ("difference of scores", "-torch.nn.functional.logsigmoid(chosen - rejected)", "(rejected - chosen)"),
        ("shape", ".mean()", ""),
    ],
    hints=(
        "How probable is it, by the scores, that the preferred response is preferred?",
        "σ(r(chosen) − r(rejected)); the loss is minus its logarithm.",
        "`torch.nn.functional.logsigmoid`, the mean over pairs, a minus in front.",
    ),
    then="""
    rng = random.Random(0)
    lists = get_task("lists").problems("train", 100)
    pairs = []
    for problem in lists:  # a correct list is preferred to one that nearly is
        good = preferences.right_completion(problem, rng)
        bad = good.replace(preferences.answer_of(good), preferences.near_miss(problem, rng))
        pairs.append(reward_model.Pair(problem, good, bad))
    model, tokenizer = reward_model.from_base("tiny")
    config = reward_model.RewardModelConfig(epochs=2)
    with instead_of(reward_model, "bradley_terry_loss", pair_loss):
        with tempfile.TemporaryDirectory() as folder:
            where = f"{folder}/model"
            history = reward_model.train(model, tokenizer, pairs, config, where, progress=False)
    print(f"{len(pairs)} pairs, loss {history[0]['loss']:.3f} to {history[-1]['loss']:.3f}")
    """,
)  # fmt: skip
def pair_loss(f):
    """
    A reward model learns from pairs: $-\\log \\sigma(r(a_i) - r(b_i))$, the mean over pairs, where
    $a_i$ was preferred to $b_i$. Then a real reward model is trained with it.
    """
    for a, b in ((A, B), (B[:3], A[:3])):
        right = -logsigmoid(a - b).mean()
        compare(call(f, a, b), right, {
            "the pair is the other way round": -logsigmoid(b - a).mean(),
            "look at the sign: a loss falls when the ranking gets better": -right,
            "that is a probability; the loss has its logarithm": -(a - b).sigmoid().mean(),
            "that is the sum; it must not depend on the number of pairs: take the mean": right * len(a),
            "you look at the preferred response alone": -logsigmoid(a).mean(),
            "that is the difference of scores; it has no lower end": (b - a).mean(),
        }, "for equal scores the loss is ln 2")  # fmt: skip


@fill(
    "10.2",
    "Stop in time",
    starter="""
    def stop_at(gold, patience):
        \"\"\"Gold rewards measured after each step -> the step whose checkpoint one keeps.\"\"\"
        ...
    """,
    solution="""
    def stop_at(gold, patience):
        \"\"\"Gold rewards measured after each step -> the step whose checkpoint one keeps.\"\"\"
        best = 0
        for step, value in enumerate(gold):
            if value > gold[best]:
                best = step
            elif step - best >= patience:
                break
        return best
    """,
    wrong=[
        ("last step", "def stop_at(gold, patience):\n    return len(gold) - 1"),
        ("future", "def stop_at(gold, patience):\n    return gold.index(max(gold))"),
        ("keep the best", "return best", "return step"),
        ("patience", "step - best >= patience", "step - best >= 1"),
        ("first", "if value > gold[best]:", "if value >= gold[best]:"),
        ("reward, not", "return best", "return gold[best]"),
    ],
    hints=(
        "At every step you know only what has been measured up to now.",
        "Remember the best step so far; stop when it is `patience` steps old.",
        "Return the best step, not the one at which you noticed. Equal is no improvement.",
    ),
)  # fmt: skip
def stop_at(f):
    """
    Over-optimisation: the learned reward keeps rising while the gold reward falls. Somebody
    measures the gold reward after every step. Stop when `patience` steps have passed without a new
    best value, and keep the checkpoint of the best one *seen until then*. (Later values must play
    no role.)
    """
    cases = [
        ([0.1, 0.3, 0.5, 0.4, 0.3, 0.2, 0.3], 3),
        ([0.1, 0.3, 0.5, 0.4, 0.3, 0.2, 0.9], 3),
        ([0.5, 0.4, 0.45, 0.6, 0.7, 0.1, 0.1, 0.1], 3),
        ([0.2, 0.2, 0.2, 0.2], 2),
        ([0.1, 0.2, 0.3], 2),
    ]
    for gold, patience in cases:
        got = call(f, list(gold), patience)
        best = 0
        for step, value in enumerate(gold):
            if value > gold[best]:
                best = step
            elif step - best >= patience:
                break
        if got == best and not isinstance(got, bool) and isinstance(got, int):
            continue
        if got == gold[best]:
            raise Wrong("that is the reward, not the step")
        if isinstance(got, int) and best < got < len(gold) and gold[got] == gold[best]:
            raise Wrong("equal is no improvement: keep the first of the best")
        if got == gold.index(max(gold)) and got > best:
            raise Wrong("you look into the future: at the time you stop, later values are unknown")
        if got == len(gold) - 1 and got > best and gold[-1] != max(gold):
            raise Wrong("that is the last step, whatever happened")
        if got == step:
            raise Wrong("that is where you notice it; keep the best checkpoint")
        if isinstance(got, int) and got < best:
            raise Wrong("it stops too early: patience is not used up")
        raise Wrong(f"for {gold} and patience {patience} it is wrong")


@predict(
    "10.3",
    "The loss of a wrong ranking",
    starter="loss = ...  # in nats",
    solution="""
    import math

    loss = math.log(1 + math.exp(1.5))
    """,
    wrong=[
        ("rightly", "loss = 0.2014"),
        ("equal scores", "loss = 0.6931"),
        ("difference itself", "loss = 1.5"),
        ("probability", "loss = 0.1824"),
        ("too high", "loss = 1.85"),
        ("too low", "loss = 1.6"),
    ],
    hints=(
        "P(preferred) = σ(difference), and the difference is negative.",
        "−log σ(−1.5).",
        "log(1 + e^1.5).",
    ),
)
def loss(value):
    """
    A reward model gives the rejected response 1.5 more than the preferred one. What is the loss on
    this pair?
    """
    guess(value, math.log(1 + math.exp(1.5)), 0.01, {
        "that would be ranked rightly": 0.2014,
        "that is for equal scores": 0.6931,
        "that is the difference itself; the loss is a little above it": 1.5,
        "that is the probability, not minus its logarithm": 0.1824,
    })  # fmt: skip


@predict(
    "10.4",
    "Noise in the labels",
    starter="agreement = ...  # with held-out labels, between 0 and 1",
    solution="agreement = 0.9 * 0.85 + 0.1 * 0.15",
    wrong=[
        ("truth", "agreement = 0.9"),
        ("both", "agreement = 0.9 * 0.85"),
        ("labels alone", "agreement = 0.85"),
        ("subtract", "agreement = 0.75"),
        ("too low", "agreement = 0.6"),
        ("too high", "agreement = 0.81"),
    ],
    hints=(
        "The model agrees with a label in two cases.",
        "It is right and the label is, or it is wrong and the label is, too.",
        "0.9 x 0.85 + 0.1 x 0.15.",
    ),
)
def agreement(value):
    """
    A reward model knows the truth in 90 % of the pairs. 15 % of the labels were flipped, in the
    held-out set as well. With which fraction of the held-out labels does it agree?
    """
    guess(value, 0.78, 0.01, {
        "that is its agreement with the truth, which nobody can measure": 0.9,
        "that counts where both are right; they agree also where both are wrong": 0.765,
        "that is how good the labels alone are": 0.85,
        "errors do not simply subtract": 0.75,
    })  # fmt: skip


@design(
    "10.5",
    "Optimise flawed reward models",
    starter="""
    plan = {"n": ..., "models": ..., "combine": ...}  # best of n, "mean" or "min" of the scores
    """,
    solution="""
    plan = {"n": 16, "models": 6, "combine": "min"}
    """,
    wrong=[
        ("flawed", 'plan = {"n": 96, "models": 1, "combine": "mean"}'),
        ("flawed", 'plan = {"n": 32, "models": 3, "combine": "mean"}'),
        ("hardly chosen", 'plan = {"n": 2, "models": 48, "combine": "min"}'),
        ("96", 'plan = {"n": 96, "models": 4, "combine": "min"}'),
        ("mean or min", 'plan = {"n": 16, "models": 6, "combine": "max"}'),
        ("does not say: models", 'plan = {"n": 16, "combine": "min"}'),
        ("whole number", 'plan = {"n": 16.0, "models": 6, "combine": "min"}'),
    ],
    hints=(
        "With a large n the best by one reward model is the one that it is most wrong about.",
        "Several reward models make different errors: a response that one of them dislikes is suspect.",
        "The minimum of five or six reward models, and n in the teens.",
    ),
)
def plan(answer):
    """
    Best-of-n by reward models. A response has a gold quality (mean 0, standard deviation 1); each
    reward model sees it with noise, and of the 8 % that are flawed (3 worse than they look) each
    one falls for half. You may spend n x models <= 96 readings per prompt. Reach a mean gold
    quality of 1.15 or more for the chosen response. The check simulates 3,000 prompts.
    """
    n, models, combine = choices(answer, ("n", "models", "combine"))
    n, models = whole(n, "n", 1, 96), whole(models, "models", 1, 96)
    if combine not in ("mean", "min"):
        raise Wrong("combine must be mean or min")
    if n * models > 96:
        raise Wrong(f"{n} x {models} = {n * models} readings are more than 96")
    random = torch.Generator().manual_seed(0)
    gold = torch.randn(3000, n, generator=random)
    flawed = torch.rand(3000, n, generator=random) < 0.08
    fooled = torch.rand(models, 3000, n, generator=random) < 0.5
    noise = 0.5 * torch.randn(models, 3000, n, generator=random)
    gold = gold - 3 * flawed
    seen = gold + noise + 5.5 * (flawed & fooled)
    score = seen.mean(0) if combine == "mean" else seen.amin(0)
    best = score.argmax(1, keepdim=True)
    quality = float(gold.gather(1, best).mean())
    bad = float(flawed.gather(1, best).float().mean())
    if quality < 1.15:
        told = f"mean gold quality {quality:.2f}, {bad:.0%} of the chosen responses are flawed"
        raise Wrong(told if bad > 0.1 else f"{told}; of {n} responses the best is hardly chosen")


EXERCISES = [pair_loss, stop_at, loss, agreement, plan]

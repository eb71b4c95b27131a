"""Exercises of lesson 07: cold start."""

from types import SimpleNamespace

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

TITLE = "Cold start"
IMPORTS = """
import tempfile

import torch

from r1lab import evaluate, models, rejection, sft
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task
"""

LOGP = torch.tensor([[-4.0, -0.1, -0.3, -0.2], [-5.0, -6.0, -1.0, -9.0], [-2.0, -0.5, -0.7, -0.4]])
PROMPT, TOTAL = torch.tensor([1, 2, 1]), torch.tensor([4, 3, 4])


def masked(start, end):
    place = torch.arange(4)
    return (place >= start[:, None]) & (place < end[:, None])


@fill(
    "07.1",
    "The loss of supervised fine-tuning",
    starter="""
    def sft_loss(logp, prompt_lengths, lengths):
        \"\"\"logp (N, T) of each token; prompt and whole lengths (N,) -> nats per completion token.\"\"\"
        ...
    """,
    solution="""
    def sft_loss(logp, prompt_lengths, lengths):
        \"\"\"logp (N, T) of each token; prompt and whole lengths (N,) -> nats per completion token.\"\"\"
        place = torch.arange(logp.shape[1])
        mask = (place >= prompt_lengths[:, None]) & (place < lengths[:, None])
        return -(logp * mask).sum() / mask.sum()
    """,
    wrong=[
        ("prompt", "(place >= prompt_lengths[:, None]) & ", ""),
        ("padding", " & (place < lengths[:, None])", ""),
        ("sign", "return -", "return "),
        (
            "each example",
            "-(logp * mask).sum() / mask.sum()",
            "-((logp * mask).sum(1) / mask.sum(1)).mean()",
        ),
        ("first token", "place >= prompt_lengths", "place > prompt_lengths"),
        ("all places", "/ mask.sum()", "/ mask.numel()"),
        (
            "probabilities",
            "-(logp * mask).sum() / mask.sum()",
            "(logp.exp() * mask).sum() / mask.sum()",
        ),
    ],
    hints=(
        "Which tokens should the model learn to write? Not those of the prompt.",
        "A mask: from the prompt's length up to the whole length, per row.",
        "Minus the sum of the masked log-probs over the number of masked tokens.",
    ),
)
def sft_loss(f):
    """
    Cross-entropy on the completion: the mean of $-\\log \\pi$ over *completion* tokens of the batch.
    A row has a prompt, a completion and padding up to $T$; every completion token weighs the same.
    """
    for rows in (slice(None), slice(1, 3)):
        logp, start, end = LOGP[rows], PROMPT[rows], TOTAL[rows]
        mask = masked(start, end)
        right = -(logp * mask).sum() / mask.sum()
        no_prompt, no_pad = masked(0 * start, end), masked(start, end * 0 + 4)
        late = masked(start + 1, end)
        compare(call(f, logp, start, end), right, {
            "the prompt is trained, too; nobody has to write it": -(logp * no_prompt).sum() / no_prompt.sum(),
            "the padding is trained, too": -(logp * no_pad).sum() / no_pad.sum(),
            "the sign is turned: likelier must be a lower loss": -right,
            "each example has the same weight; each token should have":
                -((logp * mask).sum(1) / mask.sum(1)).mean(),
            "the completion's first token is left out": -(logp * late).sum() / late.sum(),
            "you divide by all places, prompt and padding included": -(logp * mask).sum() / mask.numel(),
            "those are probabilities, not their logarithms": (logp.exp() * mask).sum() / mask.sum(),
        }, "only completion tokens count, and all of them the same")  # fmt: skip


def completion(**changes):
    best = {"text": "<think> a </think> <answer> b </answer>", "length": 60, "finished": True,
            "correct": True, "well_formed": True, "consistency": 1.0, "mixed": False, "reflection": 2}  # fmt: skip
    return SimpleNamespace(**best | changes)


@fill(
    "07.2",
    "Which responses may teach?",
    starter="""
    def teaches(one):
        \"\"\"Should a model learn from this Completion? True or False.\"\"\"
        ...
    """,
    solution="""
    def teaches(one):
        \"\"\"Should a model learn from this Completion? True or False.\"\"\"
        good = one.finished and one.correct is True and one.well_formed
        return bool(good and one.consistency == 1.0 and one.length <= 300)
    """,
    wrong=[
        ("truncated", "one.finished and ", ""),
        ("wrong answer", " and one.correct is True", ""),
        ("not well-formed", " and one.well_formed", ""),
        ("mixes", "one.consistency == 1.0", "one.consistency > 0.5"),
        ("no words", "one.consistency == 1.0", "one.consistency in (None, 1.0)"),
        ("300 tokens", " and one.length <= 300", ""),
        ("judge", "one.correct is True", "one.correct is not False"),
        ("nothing passes", "return bool(good and", "return bool(not good and"),
    ],
    hints=(
        "Look at the fields of r1lab.answers.Completion: finished, correct, well_formed, …",
        "`correct` may be None (nobody could judge it), `consistency` too (a thought without words).",
        "All five must hold: finished, correct, well-formed, consistency exactly 1, length at most 300.",
    ),
    then="""
    model, tokenizer = models.load("tiny")
    problems = get_task("countdown").problems("train", 24)
    how = {"k": 12, "sampling": Sampling(300, seed=0)}
    drawn = evaluate.evaluate(model, tokenizer, get_task("countdown"), problems, **how)
    mine = [("yours", lambda problem, one: teaches(one))]
    found = rejection.funnel(drawn, extra=mine)  # the real funnel, with your filter in it
    print(f"{len(found.examples)} examples of {found.stages[0][1]} responses")
    config = sft.SFTConfig(epochs=2, batch_size=8)
    with tempfile.TemporaryDirectory() as folder:
        history = sft.train(model, tokenizer, found.examples, config, folder, progress=False)
    print(f"loss {history[0]['loss']:.2f} to {history[-1]['loss']:.2f} nats per token")
    """,
)  # fmt: skip
def teaches(f):
    """
    Write the cold start's filter: keep a response that is finished, judged correct, well-formed, all
    in the prompt's language (`consistency` exactly 1) and at most 300 tokens long. Then the real
    funnel uses it and the base is fine-tuned on what is left.
    """
    cases = [
        (completion(), True, "nothing passes: a perfect response is refused"),
        (completion(length=300), True, "300 tokens are allowed"),
        (completion(finished=False), False, "a truncated response passes"),
        (completion(correct=False), False, "a wrong answer passes"),
        (completion(correct=None), False, "a response that no judge could judge passes"),
        (completion(well_formed=False), False, "a response that is not well-formed passes"),
        (completion(consistency=0.8), False, "a thought that mixes languages passes"),
        (completion(consistency=None), False, "a thought with no words passes"),
        (completion(length=301), False, "a response of more than 300 tokens passes"),
        (completion(reflection=0), True, "a response without reflective words is as good"),
    ]
    for one, good, says in cases:
        got = call(f, one)
        if not isinstance(got, bool) or got != good:
            raise Wrong(
                says if isinstance(got, bool) else f"True or False is asked for, not {got!r}"
            )


@predict(
    "07.3",
    "Optimizer steps",
    starter="steps = ...",
    solution="steps = 3 * -(-400 // 32)  # 13 steps an epoch, the last one smaller",
    wrong=[
        ("one epoch", "steps = 13"),
        ("last batch", "steps = 36"),
        ("examples", "steps = 1200"),
        ("an epoch's last", "steps = 37.5"),
        ("too high", "steps = 45"),
        ("too low", "steps = 20"),
    ],
    hints=(
        "How many batches has one epoch?",
        "400 / 32 is 12.5: the thirteenth batch is half as large.",
        "Round up per epoch, then times three.",
    ),
)
def steps(value):
    """
    400 examples, batches of 32, three epochs; the last batch of an epoch may be smaller. How many
    optimizer steps?
    """
    guess(value, 39, 0.001, {
        "that is one epoch": 13,
        "the last batch of each epoch is left out": 36,
        "those are the examples that are read": 1200,
        "an epoch's last batch is smaller, but it is a step": 37.5,
    })  # fmt: skip


@predict(
    "07.4",
    "What a loss means",
    starter="probability = ...  # of the whole completion",
    solution="""
    import math

    probability = math.exp(-0.05 * 40)
    """,
    wrong=[
        ("one token", "probability = 0.9512"),
        ("the loss itself", "probability = 0.05"),
        ("sum of the losses", "probability = 2.0"),
        ("powers", "probability = 0.05**40"),
        ("too high", "probability = 0.2"),
        ("too low", "probability = 0.1"),
    ],
    hints=(
        "The loss is minus the mean log-probability of a token.",
        "The probability of the completion is the product over its tokens: logarithms add.",
        "exp(−loss x tokens).",
    ),
)
def probability(value):
    """
    After fine-tuning the loss is 0.05 nats per token. What is the probability that the model writes
    one particular training completion of 40 tokens?
    """
    guess(value, 0.1353, 0.02, {
        "that is one token": 0.9512,
        "that is the loss itself": 0.05,
        "that is the sum of the losses": 2.0,
        "the loss is no probability, so powers of it mean nothing": 0.0,
    })  # fmt: skip


@design(
    "07.5",
    "How few examples does it take?",
    starter="""
    plan = {"sizes": [..., ..., ..., ...], "problems": ...}
    """,
    solution="""
    plan = {"sizes": [4, 12, 32, 200], "problems": 400}
    """,
    wrong=[
        ("plateau", 'plan = {"sizes": [100, 150, 200, 250], "problems": 256}'),
        ("never reach", 'plan = {"sizes": [1, 2, 3, 4], "problems": 256}'),
        ("repetitions", 'plan = {"sizes": [4, 12, 32, 200], "problems": 6}'),
        ("four sizes", 'plan = {"sizes": [10, 100], "problems": 256}'),
        ("rising", 'plan = {"sizes": [200, 32, 12, 4], "problems": 256}'),
        ("387", 'plan = {"sizes": [4, 12, 32, 4000], "problems": 256}'),
        ("list", 'plan = {"sizes": 24, "problems": 256}'),
    ],
    hints=(
        "You need points before, around and after the place where the curve bends.",
        "Steps by a factor, not by a sum; the largest must be on the plateau.",
        "Two sizes below twenty, one between twenty and a hundred, one near all of them.",
    ),
)
def plan(answer):
    """
    387 examples are there. Choose four sizes (rising) and a number of held-out problems (at most
    400) to find out how many examples give *half* of the gain of all of them. The judge makes
    students whose accuracy follows a curve that you do not know, measures them on your problems 300
    times, reads the half-way point off your four points (on a logarithmic scale), and wants it
    right within a factor of 2 in 80 % of the repetitions.
    """
    sizes, problems = choices(answer, ("sizes", "problems"))
    if not isinstance(sizes, list | tuple):
        raise Wrong("sizes must be a list")
    if len(sizes) != 4:
        raise Wrong("four sizes are asked for")
    sizes = [whole(n, "a size", 1, 387) for n in sizes]
    problems = whole(problems, "problems", 2, 400)
    if sorted(set(sizes)) != list(sizes):
        raise Wrong("the sizes must be rising")
    base, gain, knee = 0.31, 0.45, 14.0  # half of the gain at 14 ln 2, near 10 examples
    n = torch.tensor([float(s) for s in sizes])
    p = base + gain * (1 - (-n / knee).exp())
    if p[0] > base + 0.8 * gain:
        raise Wrong("all four points lie on the plateau: the bend is somewhere before them")
    if p[-1] < base + 0.8 * gain:
        raise Wrong("the four sizes never reach the plateau, so nobody knows what half of it is")
    random = torch.Generator().manual_seed(0)
    found = torch.binomial(
        torch.full((300, 4), float(problems)), p.expand(300, 4), generator=random
    )
    found = found / problems
    half = (base + found[:, -1]) / 2
    x, ok = n.log(), 0
    for row, level in zip(found, half, strict=True):
        at = next((i for i in range(4) if row[i] >= level), 3)
        if at == 0:
            ok += sizes[0] <= 2 * knee * 0.693 and sizes[0] >= 0.5 * knee * 0.693
            continue
        low, high = row[at - 1], row[at]
        place = (x[at - 1] + (level - low) / (high - low) * (x[at] - x[at - 1])).exp()
        ok += 0.5 <= float(place) / (knee * 0.693) <= 2
    if ok < 240:
        raise Wrong(f"right within a factor of 2 in only {ok / 3:.0f} % of the repetitions")


EXERCISES = [sft_loss, teaches, steps, probability, plan]

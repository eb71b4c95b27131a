"""Exercises of lesson 01: a base model."""

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
from r1lab.evaluate import pass_at_k
from r1lab.sampler.draw import truncate

TITLE = "A base model"
HELPERS = ("instead_of",)
IMPORTS = """
import torch

from r1lab import evaluate, models
from r1lab.sampler import draw
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task
"""

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0], [0.0, 3.0, 0.5, 2.5]])


@fill(
    "01.1",
    "Temperature",
    starter="""
    def probabilities(logits, temperature):
        \"\"\"(n, V) logits -> (n, V) probabilities at a temperature.\"\"\"
        ...
    """,
    solution="""
    def probabilities(logits, temperature):
        \"\"\"(n, V) logits -> (n, V) probabilities at a temperature.\"\"\"
        return (logits / temperature).softmax(-1)
    """,
    wrong=[
        ("ignored", "(logits / temperature)", "logits"),
        ("upside down", "logits / temperature", "logits * temperature"),
        (
            "after the softmax",
            "(logits / temperature).softmax(-1)",
            "logits.softmax(-1) / temperature",
        ),
        ("rows", "softmax(-1)", "softmax(0)"),
        ("logarithms", "softmax", "log_softmax"),
        ("sum to one", ".softmax(-1)", ".exp()"),
    ],
    hints=(
        "A temperature below 1 makes the likeliest token likelier.",
        "Divide before the softmax.",
        "The softmax runs over the vocabulary, the last dimension.",
    ),
)
def probabilities(f):
    """
    The probabilities of the next token at temperature $T$: $\\operatorname{softmax}(\\text{logits} /
    T)$, for a batch of rows.
    """
    for T in (0.5, 2.0):
        compare(call(f, LOGITS, T), (LOGITS / T).softmax(-1), {
            "the temperature is ignored": LOGITS.softmax(-1),
            "the temperature is upside down: low must be sharp": (LOGITS * T).softmax(-1),
            "you divide after the softmax; then they do not sum to one": LOGITS.softmax(-1) / T,
            "the softmax runs over the rows of the batch": (LOGITS / T).softmax(0),
            "these are logarithms": (LOGITS / T).log_softmax(-1),
            "they do not sum to one": (LOGITS / T).exp(),
        }, "each row must sum to one and be ordered like its logits")  # fmt: skip


@fill(
    "01.2",
    "A sampler step: top-p",
    starter="""
    def nucleus(logp, top_p):
        \"\"\"(n, V) log-probs -> (n, V): -inf outside the smallest set of tokens with mass top_p.\"\"\"
        ...
    """,
    solution="""
    def nucleus(logp, top_p):
        \"\"\"(n, V) log-probs -> (n, V): -inf outside the smallest set of tokens with mass top_p.\"\"\"
        ordered, index = logp.sort(-1, descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()  # the mass of the likelier tokens
        cut = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, index, before >= top_p)
        return logp.masked_fill(cut, -torch.inf)
    """,
    wrong=[
        ("crosses the limit", "before >= top_p", "before + ordered.exp() > top_p"),
        ("nothing is cut", "before >= top_p", "before > 1"),
        ("likeliest tokens are cut", "descending=True", "descending=False"),
        ("original order", "return logp.masked_fill(cut, -torch.inf)",
         "return ordered.masked_fill(before >= top_p, -torch.inf)"),
        ("certainty", "-torch.inf", "0.0"),
        ("each token alone", "cut = torch.zeros_like(logp, dtype=torch.bool).scatter(-1, index, before >= top_p)",
         "cut = logp.exp() < 1 - top_p"),
    ],
    hints=(
        "Sort the tokens of each row from likely to unlikely and add up their probabilities.",
        "A token is kept as long as the mass of the likelier ones is below top_p. So the one that "
        "crosses the limit is kept, and the likeliest always is.",
        "Bring the decision back into the vocabulary's order with `scatter(-1, index, …)`, then "
        "`masked_fill` with −inf.",
    ),
    then="""
    with instead_of(draw, "truncate", lambda logp, top_k, top_p: nucleus(logp, top_p)):
        model, tokenizer = models.load("tiny")
        task = get_task("countdown")
        problems, sampling = task.problems("held_out", 8), Sampling(160, 0.6, top_p=0.95, seed=0)
        result = evaluate.evaluate(model, tokenizer, task, problems, k=4, sampling=sampling)
    print(f"pass@1 with your sampler: {result.accuracy.value:.0%}")
    """,
)  # fmt: skip
def nucleus(f):
    """
    Top-p sampling, with which the paper evaluates: keep the smallest set of most likely tokens
    whose probabilities sum to at least `top_p`, and set the others to $-\\infty$. An evaluation then
    samples with it.
    """
    logp = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.2, 0.6]]).log()
    for p in (0.45, 0.7, 0.97):
        right = truncate(logp, 0, p)
        ordered, index = logp.sort(-1, descending=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()
        strict = torch.zeros_like(logp).bool().scatter(-1, index, before + ordered.exp() > p)
        low, back = logp.sort(-1)
        rest = low.exp().cumsum(-1) - low.exp()
        turned = torch.zeros_like(logp).bool().scatter(-1, back, rest >= p)
        compare(call(f, logp, p), right, {
            "the token that crosses the limit is missing: the mass is then below top_p":
                logp.masked_fill(strict, -torch.inf),
            "nothing is cut": logp,
            "the likeliest tokens are cut": logp.masked_fill(turned, -torch.inf),
            "the result is sorted; the tokens must stay in their original order":
                ordered.masked_fill(before >= p, -torch.inf),
            "what is cut must be −inf; a log-prob of 0 is certainty":
                torch.where(right.isinf(), 0.0, logp),
            "you judge each token alone; what counts is the mass of the likelier ones":
                logp.masked_fill(logp.exp() < 1 - p, -torch.inf),
        }, "for 0.5, 0.3, 0.15, 0.05 and top_p 0.7 the first two stay")  # fmt: skip


@fill(
    "01.3",
    "pass@k without bias",
    starter="""
    def pass_at(n, c, k):
        \"\"\"n samples of a problem, c of them correct -> probability that one of k is correct.\"\"\"
        ...
    """,
    solution="""
    def pass_at(n, c, k):
        \"\"\"n samples of a problem, c of them correct -> probability that one of k is correct.\"\"\"
        all_wrong = 1.0
        for i in range(k):
            all_wrong *= max(0, n - c - i) / (n - i)
        return 1 - all_wrong
    """,
    wrong=[
        ("biased", "all_wrong *= max(0, n - c - i) / (n - i)", "all_wrong *= (n - c) / n"),
        ("all wrong", "return 1 - all_wrong", "return all_wrong"),
        ("pass@1", "range(k)", "range(1)"),
        ("add up", "return 1 - all_wrong", "return min(1, k * c / n)"),
        ("numerator", "n - c - i)", "n - c)"),
        ("one too many", "range(k)", "range(k + 1)"),
    ],
    hints=(
        "Draw k of the n samples without putting back. When are all wrong?",
        "The first is wrong with probability (n − c)/n, the second with (n − c − 1)/(n − 1), …",
        "Multiply k such factors, none below zero, and subtract the product from 1.",
    ),
)  # fmt: skip
def pass_at(f):
    """
    Of $n$ samples $c$ are correct. The probability that at least one of $k$ drawn from them (without
    replacement) is correct: $1 - \\binom{n-c}{k} / \\binom{n}{k}$.
    """
    cases = ((16, 3, 4), (16, 1, 8), (8, 6, 4), (8, 0, 4), (10, 4, 1), (8, 7, 3))
    got = [call(f, *one) for one in cases]

    def each(g):
        return [g(n, c, k) for n, c, k in cases]

    def putting_back_correct(n, c, k):
        value = 1.0
        for i in range(k):
            value *= (n - c) / (n - i)
        return 1 - value

    compare([number(x) for x in got], each(lambda n, c, k: float(pass_at_k(n, c, k))), {
        "that is biased: it draws with putting back, as if p were exactly c/n":
            each(lambda n, c, k: 1 - (1 - c / n) ** k),
        "that is the probability that all are all wrong": each(lambda n, c, k: 1 - float(pass_at_k(n, c, k))),
        "that is pass@1, whatever k": each(lambda n, c, k: c / n),
        "probabilities do not add up": each(lambda n, c, k: min(1, k * c / n)),
        "the numerator must shrink with the denominator: a wrong sample is gone, too":
            each(putting_back_correct),
        "that is one too many samples: k + 1": each(lambda n, c, k: float(pass_at_k(n, c, k + 1))),
    }, "check n = 8, c = 6, k = 4: two wrong samples cannot fill four places, so it is 1")  # fmt: skip


@predict(
    "01.4",
    "Temperature and the likeliest token",
    starter="ratio = ...  # odds at T = 0.5, divided by the odds at T = 1",
    solution="ratio = 3.0**2 / 3.0",
    wrong=[
        ("at T = 0.5", "ratio = 9.0"),
        ("flatter", "ratio = 3.0**0.5 / 3.0"),
        ("doubles", "ratio = 2.0"),
        ("same", "ratio = 1.0"),
        ("far too high", "ratio = 200"),
        ("too low", "ratio = 0.2"),
    ],
    hints=(
        "Odds are the exponential of the difference of logits.",
        "Dividing logits by 0.5 doubles their difference.",
        "Twice the logarithm is the square: compare 3 squared with 3.",
    ),
)
def ratio(value):
    """
    At $T = 1$ token *a* is three times as likely as token *b*. By which factor do these odds grow at
    $T = 0.5$?
    """
    guess(value, 3.0, 0.01, {
        "those are the odds at T = 0.5; how much larger than 3 are they?": 9.0,
        "a lower temperature does not make them flatter": 3.0**0.5 / 3.0,
        "it is the difference of logits that doubles, not the odds": 2.0,
        "they do not stay the same": 1.0,
    })  # fmt: skip


@design(
    "01.5",
    "How many problems, how many samples?",
    starter="""
    plan = {"problems": ..., "samples": ...}
    """,
    solution="""
    plan = {"problems": 400, "samples": 2}
    """,
    wrong=[
        ("half as wide", 'plan = {"problems": 50, "samples": 16}'),
        ("half as wide", 'plan = {"problems": 12, "samples": 64}'),
        ("800", 'plan = {"problems": 400, "samples": 4}'),
        ("does not say: samples", 'plan = {"problems": 400}'),
        ("2 samples", 'plan = {"problems": 800, "samples": 1}'),
        ("whole number", 'plan = {"problems": "many", "samples": 2}'),
    ],
    hints=(
        "Problems differ far more than the samples of one problem do.",
        "The variance of the mean is (variance between problems + variance within / samples) / "
        "problems.",
        "Few samples, many problems.",
    ),
)
def plan(answer):
    """
    You may evaluate 800 responses. Choose how many held-out problems and how many samples of each
    (2 or more, so that you also see whether a model is consistent), so that the 95 % interval of
    pass@1 is at most 10 points wide (± 5). Problems' success rates vary like those of the tiny base
    after some training. The judge measures 400 times.
    """
    problems, samples = choices(answer, ("problems", "samples"))
    problems, samples = whole(problems, "problems", 2, 800), whole(samples, "samples", 1, 800)
    if problems * samples > 800:
        raise Wrong(f"{problems} x {samples} = {problems * samples} responses are more than 800")
    if samples < 2:
        raise Wrong("take at least 2 samples of each problem")
    random = torch.Generator().manual_seed(0)
    p = torch.rand(400, problems, generator=random)
    p = torch.where(p < 0.5, 0.3 * p, 0.7 + 0.6 * (p - 0.5))  # many easy, many hard
    found = torch.binomial(torch.full_like(p, samples), p, generator=random) / samples
    width = 2 * 1.96 * float(found.mean(1).std())
    if width > 0.1:
        raise Wrong(f"the interval is {100 * width:.0f} points wide, ± {50 * width:.0f} points; it "
                    "must be about half as wide or narrower")  # fmt: skip


EXERCISES = [probabilities, nucleus, pass_at, ratio, plan]

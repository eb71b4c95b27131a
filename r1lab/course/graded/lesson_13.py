"""Exercises of lesson 13: what does a right answer cost?"""

import math

import numpy as np

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

TITLE = "What does a right answer cost?"
HELPERS = ("instead_of",)
IMPORTS = """
import math

import numpy as np

from r1lab import evaluate, models
from r1lab.evals import cost, published
from r1lab.evals.scienceagent import metrics
from r1lab.sampler.rollouts import Sampling
from r1lab.statistics import Estimate
from r1lab.tasks import get_task
"""


@fill(
    "13.1",
    "What a solved problem costs",
    starter="""
    def per_solved(cost, solved):
        \"\"\"Cost of each problem (P,), and the probability that it is solved (P,) -> a number.\"\"\"
        ...
    """,
    solution="""
    def per_solved(cost, solved):
        \"\"\"Cost of each problem (P,), and the probability that it is solved (P,) -> a number.\"\"\"
        if solved.sum() == 0:
            return math.inf
        return cost.sum() / solved.sum()
    """,
    wrong=[
        ("unsolved problems", "cost.sum()", "(cost * solved).sum()"),
        ("mean of ratios", "return cost.sum() / solved.sum()",
         "return (cost / solved.clip(1e-9)).mean()"),
        ("upside down", "cost.sum() / solved.sum()", "solved.sum() / cost.sum()"),
        ("solved or not", "cost.sum() / solved.sum()", "cost.mean()"),
        ("infinite", "return math.inf", "return 0.0"),
        ("half of the time", "cost.sum() / solved.sum()", "cost.sum() / (solved > 0).sum()"),
    ],
    hints=(
        "Somebody pays for every problem, and counts the solved ones.",
        "It is one ratio, of everything spent to everything solved, not a ratio of each problem.",
        "Both sums are over all problems; with nothing solved no sum of money is enough.",
    ),
    then="""
    def mine(cost, solved):
        return Estimate(per_solved(cost, solved), math.nan, math.nan)

    base, tokenizer = models.load("tiny")
    countdown = get_task("countdown")
    asked = countdown.problems("held_out", 8)
    found = evaluate.evaluate(base, tokenizer, countdown, asked, k=4, sampling=Sampling(96))
    with instead_of(cost, "per_solved", mine):  # the points of section 2, with your division
        for point in cost.points("base", found, votes=(1, 4)):
            print(f"{point.words}: {point.tokens_solved.value:,.0f} tokens per solved problem")
    """,
)  # fmt: skip
def per_solved(f):
    """
    Write the cost per solved problem, in whatever unit `cost` has: section 2's *tokens per solved
    problem*. What was spent on unsolved problems counts. A model that solves nothing has no price:
    return infinity.
    """
    cases = [([10.0, 30.0, 20.0], [1.0, 0.0, 0.5]), ([4.0, 8.0], [0.25, 0.5])]
    for spent, solved in ((np.array(c), np.array(s)) for c, s in cases):
        got = number(float(call(f, spent.copy(), solved.copy())))
        mistakes = {
            "money that was spent on unsolved problems is missing": (spent * solved).sum(),
            "it is upside down: problems per unit of cost": solved.sum() ** 2 / spent.sum(),
            "that is the cost of a problem, solved or not": spent.mean() * solved.sum(),
            "a problem solved half of the time counts half": spent.sum()
            * (solved.sum() / (solved > 0).sum()),
        }
        if math.isclose(got, spent.sum() / solved.sum(), rel_tol=1e-6):
            continue
        for says, total in mistakes.items():
            if math.isclose(got, total / solved.sum(), rel_tol=1e-6):
                raise Wrong(says)
        if got == 0:
            raise Wrong("it is 0, as if nothing had been spent")
        raise Wrong("it is one ratio of two sums, not a mean of ratios")
    nothing = call(f, np.array([5.0, 7.0]), np.zeros(2))
    if not isinstance(nothing, float | np.floating) or nothing != math.inf:
        raise Wrong(f"with nothing solved the cost is infinite, not {nothing}")


POINTS = [(1.0, 0.2), (4.0, 0.9), (2.0, 0.5), (3.0, 0.4), (2.0, 0.3), (5.0, 0.9), (0.5, 0.1)]
FRONT = [(0.5, 0.1), (1.0, 0.2), (2.0, 0.5), (4.0, 0.9)]


@fill(
    "13.2",
    "The Pareto front",
    starter="""
    def front(points):
        \"\"\"(cost, accuracy) pairs -> those that no other dominates, by rising cost.\"\"\"
        ...
    """,
    solution="""
    def front(points):
        \"\"\"(cost, accuracy) pairs -> those that no other dominates, by rising cost.\"\"\"

        def beats(one, other):
            return one != other and one[0] <= other[0] and one[1] >= other[1]

        return sorted(p for p in points if not any(beats(q, p) for q in points))
    """,
    wrong=[
        ("less accurate", "return sorted(p for p in points if not any(beats(q, p) for q in points))",
         "return sorted(points)"),
        ("equal accuracy", "one[1] >= other[1]", "one[1] > other[1]"),
        ("equal cost", "one[0] <= other[0]", "one[0] < other[0]"),
        ("rising cost", "return sorted(p for p in points if not any(beats(q, p) for q in points))",
         "return [p for p in points if not any(beats(q, p) for q in points)]"),
        ("nothing is cheaper", "one[0] <= other[0]", "one[0] >= other[0]"),
        ("nothing is cheaper", "return sorted(p for p in points if not any(beats(q, p) for q in points))",
         "return [max(points, key=lambda p: p[1])]"),
        ("itself", "one != other and ", ""),
    ],
    hints=(
        "Write first when one point dominates another.",
        "As cheap or cheaper, as accurate or more accurate, and not the same on both.",
        "Keep a point if no other one does so to it; then sort. Equal points do not beat each other.",
    ),
    then="""
    table = {one.label: one.point() for one in published.HAL}
    pairs = {name: (p.dollars.value, p.accuracy.value) for name, p in table.items()}
    best = front(list(pairs.values()))  # HAL's table of section 8
    print("your front:", [name for name, pair in sorted(pairs.items()) if pair in best])
    print("cost.pareto:", sorted(p.label for p in cost.pareto(list(table.values()))[1]))
    """,
)  # fmt: skip
def front(f):
    """
    A point dominates another if it costs as little and is as accurate, and is better on at least
    one of the two. Return the points that nobody dominates, by rising cost. Equal points do not
    dominate each other. Then find the front of HAL's published table.
    """
    got = call(f, list(POINTS))
    try:
        got = [tuple(map(float, one)) for one in got]
    except (TypeError, ValueError):
        raise Wrong("a list of (cost, accuracy) pairs is asked for") from None
    if not got:
        raise Wrong("your front is empty, as if a point dominated itself")
    if missing := [p for p in FRONT if p not in got]:
        why = "nothing is cheaper" if missing[0] == FRONT[0] else "nothing as cheap is as accurate"
        raise Wrong(f"{missing[0]} is not on your front, but {why}")
    for point, says in (
        ((3.0, 0.4), "costs more than (2.0, 0.5) and is less accurate"),
        ((5.0, 0.9), "has equal accuracy to (4.0, 0.9) and costs more"),
        ((2.0, 0.3), "has equal cost to (2.0, 0.5) and is less accurate"),
    ):
        if point in got:
            raise Wrong(f"{point} is on your front, but it {says}")
    if got != FRONT:
        raise Wrong("the points of the front must come by rising cost, each once")
    pair = [(2.0, 0.5), (2.0, 0.5), (3.0, 0.5)]
    if [tuple(one) for one in call(f, list(pair))] != pair[:2]:
        raise Wrong("a point that is there twice does not dominate itself: keep both")


RUNS = [  # (success, valid, dollars) of each run, which is chosen, what a wrong choice forgets
    ([(0, 1, 0.2), (1, 1, 0.9), (0, 0, 0.1)], 1, "success decides first, whatever it costs"),
    ([(0, 0, 0.1), (0, 1, 0.3), (0, 0, 0.2)], 1, "with equal success a valid program comes first"),
    ([(1, 1, 0.5), (1, 1, 0.2), (1, 1, 0.4)], 1, "with equal marks the cheaper run is chosen"),
    ([(0, 1, 0.3), (0, 1, 0.3), (0, 0, 0.1)], 0, "where all is equal the first run is chosen"),
    ([(0, 0, 0.9), (0, 1, 0.8), (1, 1, 0.7)], 2, "success decides first, whatever it costs"),
]


@fill(
    "13.3",
    "The best of three",
    starter="""
    def chosen(runs):
        \"\"\"(success, valid, dollars) of each run of one task -> the place of the run that counts.\"\"\"
        ...
    """,
    solution="""
    def chosen(runs):
        \"\"\"(success, valid, dollars) of each run of one task -> the place of the run that counts.\"\"\"
        places = range(len(runs))
        return max(places, key=lambda k: (runs[k][0], runs[k][1], -runs[k][2], -k))
    """,
    wrong=[
        ("success decides", "(runs[k][0], runs[k][1], -runs[k][2], -k)", "(-runs[k][2], -k)"),
        ("valid program", "runs[k][1], -runs", "-runs"),
        ("cheaper", "-runs[k][2]", "runs[k][2]"),
        ("first run", ", -k)", ", k)"),
        ("place", "return max(places, key=lambda k: (runs[k][0], runs[k][1], -runs[k][2], -k))",
         "return max(runs)"),
        ("success decides", "max(places", "min(places"),
    ],
    hints=(
        "Compare the runs by one mark after the other; the next one counts where all so far are equal.",
        "The order is: success, valid program, lower cost, earlier run.",
        "Python compares tuples just so. What should be small enters with a minus.",
    ),
    then="""
    # Three runs of five tasks: success and valid program of each
    runs = ["11 11 01 01 00", "11 01 11 00 00", "11 00 01 01 01"]
    keys = ("success_rate", "valid_program", "codebert_score")
    evals = [
        [dict(zip(keys, (*map(int, marks), None), strict=True)) for marks in run.split()]
        for run in runs
    ]
    costs = [[0.02, 0.05, 0.04, 0.06, 0.01]] * 3

    def mine(evals, costs):
        found = []
        for lines, dollars in zip(zip(*evals, strict=True), zip(*costs, strict=True), strict=True):
            marks = [(line["success_rate"], line["valid_program"]) for line in lines]
            found.append(chosen([(*m, d) for m, d in zip(marks, dollars, strict=True)]))
        return found

    with instead_of(metrics, "best_of", mine):
        print("best of three:", metrics.best(evals, costs))
    print("one run:", metrics.single(*evals)["SR"])
    """,
)  # fmt: skip
def chosen(f):
    """
    ScienceAgentBench's published score counts, for each task, one of three runs: the one with the
    best success, then with a valid program, then the cheapest, then the first. (CBS, between the
    second and the third, is left out here.) Return its place, from 0. The next cell computes both
    scores, the best of three and an honest single run's.
    """
    for runs, right, says in RUNS:
        got = call(f, list(runs))
        if isinstance(got, bool) or not isinstance(got, int | np.integer):
            raise Wrong("the place of a run is asked for: 0, 1 or 2")
        if got != right:
            raise Wrong(f"of {runs} your function takes number {got}: {says}")


@predict(
    "13.4",
    "What a choice adds",
    starter="best = ...  # success rate, best of three runs",
    solution="best = 0.3 + 0.2 * (1 - 0.5**3)",
    wrong=[
        ("equally hard", "best = 1 - 0.6**3"),
        ("single run", "best = 0.4"),
        ("now and then", "best = 0.5"),
        ("in all three", "best = 0.3 + 0.2 / 8"),
        ("add up", "best = 1.2"),
        ("too high", "best = 0.6"),
        ("too low", "best = 0.44"),
    ],
    hints=(
        "Ask for each kind of task what three runs do to it.",
        "Only tasks that are solved sometimes gain: at least one of three runs succeeds.",
        "30 % stay, 50 % stay out, and of the 20 % a fraction of 1 minus one half to the third.",
    ),
)
def best(value):
    """
    An agent solves 30 % of the tasks in every run, 50 % in none, and the other 20 % in half of its
    runs. A single run scores 40 %. What does the best of three runs score?
    """
    guess(value, 0.475, 0.01, {
        "that would hold if all tasks were equally hard": 1 - 0.6**3,
        "that is a single run": 0.4,
        "you count a task that is solved now and then as solved": 0.5,
        "that is success in all three runs": 0.325,
        "rates of runs do not add up": 1.2,
    })  # fmt: skip


@predict(
    "13.5",
    "A thousand solved problems",
    starter="dollars = ...  # for a thousand solved problems",
    solution="dollars = 16 * (500 * 0.55 + 1000 * 2.19) / 1e6 / 0.8 * 1000",
    wrong=[
        ("one vote", "dollars = (500 * 0.55 + 1000 * 2.19) / 1e6 / 0.8 * 1000"),
        ("asked, not solved", "dollars = 16 * (500 * 0.55 + 1000 * 2.19) / 1e6 * 1000"),
        ("multiply", "dollars = 16 * (500 * 0.55 + 1000 * 2.19) / 1e6 * 0.8 * 1000"),
        ("prompts", "dollars = 16 * 1000 * 2.19 / 1e6 / 0.8 * 1000"),
        ("bill each request", "dollars = (500 * 0.55 + 16 * 1000 * 2.19) / 1e6 / 0.8 * 1000"),
        ("too high", "dollars = 55"),
        ("too low", "dollars = 47"),
    ],
    hints=(
        "First the price of one response, then of one problem, then of a solved one.",
        "A response costs its prompt and its completion; a problem costs 16 of them.",
        "Divide by the fraction solved, and take a thousand of it.",
    ),
)
def dollars(value):
    """
    A majority of 16 votes solves 80 % of the problems. A prompt has 500 tokens, a completion 1,000;
    the list of February 2025 asks $0.55 and $2.19 for a million of each, and each request's prompt
    is billed. What do a thousand *solved* problems cost?
    """
    one = 500 * 0.55 + 1000 * 2.19
    guess(value, 16 * one / 800, 0.01, {
        "that is one vote": one / 800,
        "that is a thousand problems asked, not solved": 16 * one / 1000,
        "you multiply by the fraction solved; fewer solved cost more": 16 * one * 0.8 / 1000,
        "the prompts cost something, too": 16 * 2190 / 800,
        "most servers bill each request's prompt": (275 + 16 * 2190) / 800,
    }, "dollars")  # fmt: skip


LEVELS = {"easy": 40, "medium": 160, "hard": 500}  # tokens that a search needs, in the mean
PROBLEMS, MOST = 600, 400


@design(
    "13.6",
    "Longer thoughts or more votes?",
    starter="""
    plan = {"easy": (..., ...), "medium": (..., ...), "hard": (..., ...)}  # (budget, votes)
    """,
    solution="""
    plan = {"easy": (150, 4), "medium": (500, 3), "hard": (1500, 1)}  # (budget, votes)
    """,
    wrong=[
        ("majority of guesses", 'plan = {"easy": (150, 4), "medium": (500, 3), "hard": (40, 12)}'),
        ("more than 400", 'plan = {"easy": (150, 4), "medium": (500, 3), "hard": (1500, 4)}'),
        ("truncated", 'plan = {"easy": (150, 4), "medium": (60, 3), "hard": (1500, 1)}'),
        ("votes", 'plan = {"easy": (150, 1), "medium": (500, 1), "hard": (1500, 1)}'),
        ("does not say: hard", 'plan = {"easy": (150, 4), "medium": (500, 3)}'),
        ("two whole numbers", 'plan = {"easy": 150, "medium": (500, 3), "hard": (1500, 1)}'),
        ("votes must lie", 'plan = {"easy": (150, 0), "medium": (500, 3), "hard": (1500, 1)}'),
    ],
    hints=(
        "What is an answer worth whose search was truncated? And where does a vote add something?",
        "First give each level the budget that its searches need; what is left buys votes.",
        "Votes are cheapest on easy problems; two are no better than one. Budgets three times the "
        "mean length truncate hardly any search.",
    ),
)
def plan(answer):
    """
    A third of the problems each is easy, medium and hard: a search needs about 40, 160 or 500
    tokens until it ends, some a lot more. A whole search is right with probability 0.8, a truncated
    one guesses (0.05); wrong answers scatter. You know the level of a problem before you ask. Give
    each level a thinking budget and a number of votes, so that 88 % of all problems are solved, for
    at most 400 tokens a problem in the mean. The judge simulates 600 problems of each level.
    """
    rng, spent, solved, whole_ones = np.random.default_rng(0), {}, {}, {}
    for level, pair in zip(LEVELS, choices(answer, list(LEVELS)), strict=True):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise Wrong(f"{level} must be two whole numbers: a budget and votes")
        budget = whole(pair[0], f"{level}: budget", 1, 10_000)
        votes = whole(pair[1], f"{level}: votes", 1, 64)
        needs = LEVELS[level] * rng.gamma(4, 0.25, size=(PROBLEMS, votes))
        ended = needs <= budget
        right = rng.random((PROBLEMS, votes)) < np.where(ended, 0.8, 0.05)
        other = rng.integers(1, 25, size=(PROBLEMS, votes))  # the wrong answers
        given = np.where(right, 0, other)
        counts = np.stack([(given == a).sum(1) for a in range(25)], axis=1)  # (problems, answers)
        top = counts == counts.max(1, keepdims=True)
        solved[level] = float((top[:, 0] / top.sum(1)).mean())
        spent[level] = float(np.minimum(needs, budget).sum(1).mean())
        whole_ones[level] = float(ended.mean())
    total, mean = sum(solved.values()) / 3, sum(spent.values()) / 3
    if mean > MOST:
        dear = max(spent, key=spent.get)
        raise Wrong(
            f"{mean:.0f} tokens a problem are more than {MOST}, most of them for {dear} ones"
        )
    if total < 0.88:
        worst = min(solved, key=solved.get)
        cut = 1 - whole_ones[worst]
        why = f"{cut:.0%} of its thoughts are truncated" if cut > 0.1 else "more votes would help"
        if cut > 0.9 and answer[worst][1] > 1:
            why = "nearly every thought is truncated, and a majority of guesses is a guess"
        told = f"{total:.0%} of the problems are solved, of the {worst} ones {solved[worst]:.0%}"
        raise Wrong(f"{told}: {why}")


EXERCISES = [per_solved, front, chosen, best, dollars, plan]

"""What a right answer costs: tokens and dollars per solved problem, and what buys accuracy.

Three things can be bought: a longer thought (`budgets`), more votes (the majority of k
completions), another model. Each choice is a `Point` with its accuracy and its cost; those that no
other point beats on both are the **Pareto front**. In three lines:

    found = at_budgets(model, tokenizer, task, problems, (16, 64, 256, None), k=16)
    every, front = pareto(points("R1", found, votes=(1, 4, 16), tariff=Tariff(0.55, 2.19)))
    show.accuracy_cost(every, front)

The cost of a problem is that of all its votes: k times the mean completion, and k prompts (most
servers bill each request's prompt). The cost **per solved problem** divides by the accuracy: what
was spent on problems that stay unsolved counts. It is infinite where nothing is solved.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from r1lab.basics.errors import R1LabError
from r1lab.evals.tariff import Tariff
from r1lab.evaluate import Evaluation, cons_at_k
from r1lab.statistics import DOWN, UP, Estimate, estimate, way
from r1lab.tasks.base import Problem
from r1lab.tasks.countdown import chains

UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Point:
    """One way to answer, with its 95 % intervals over problems."""

    label: str  # the model
    budget: int | None  # tokens of thought; None: as long as it likes
    votes: int
    accuracy: Estimate  # of the majority of the votes
    tokens: Estimate  # of a problem: completion tokens of all votes
    dollars: Estimate = UNKNOWN  # of a problem
    tokens_solved: Estimate = UNKNOWN  # per solved problem
    dollars_solved: Estimate = UNKNOWN
    note: str = ""  # source and date of a published point

    @property
    def words(self) -> str:
        thought = "" if self.budget is None else f", {self.budget} tokens of thought"
        return f"{self.label}{thought}{f', {self.votes} votes' if self.votes > 1 else ''}"


def points(
    label: str,
    found: Evaluation | Mapping[int | None, Evaluation],
    *,
    votes: Sequence[int] = (1, 4, 16),
    tariff: Tariff | None = None,
) -> list[Point]:
    """A point for every budget and number of votes. found: of `at_budgets`, or one evaluation (a
    kept run's: `kept.load(folder).evaluation`). Without a tariff dollars are not known. Raises
    R1LabError for more votes than completions."""
    several = found if isinstance(found, Mapping) else {found.settings.get("budget"): found}
    return [_point(label, *one, k, tariff) for one in several.items() for k in votes]


def _point(
    label: str, budget: int | None, evaluation: Evaluation, votes: int, tariff: Tariff | None
) -> Point:
    right = majority_right(evaluation, votes)  # (P,)
    tokens = votes * evaluation.per_problem("length")  # (P,)
    sizes = evaluation.settings.get("prompt_tokens", {})
    prompt = np.array([sizes.get(one.id, 0.0) for one in evaluation.problems], dtype=float)
    spent = {"tokens": tokens}
    if tariff is not None:
        spent["dollars"] = (votes * prompt * tariff.input + tokens * tariff.output) / 1e6
    solved = {f"{name}_solved": per_solved(cost, right) for name, cost in spent.items()}
    costs = {name: estimate(cost) for name, cost in spent.items()}
    return Point(label, budget, votes, estimate(right, share=True), **costs, **solved)


def majority_right(evaluation: Evaluation, votes: int) -> np.ndarray:
    """The probability that the majority of so many completions is right, by problem (P,); NaN where
    the sandbox could judge fewer than that."""
    values = np.full(len(evaluation.problems), math.nan)
    for p, row in enumerate(evaluation.completions):
        if votes > len(row):
            raise R1LabError(f"{votes} votes need as many completions; there are {len(row)}")
        judged = [one for one in row if one.correct is not None]
        if len(judged) >= votes:
            answers, right = [one.vote for one in judged], [one.correct for one in judged]
            alone = votes == 1
            values[p] = np.mean(right) if alone else cons_at_k([answers], [right], votes, seed=p)[0]
    return values


def per_solved(cost, solved, *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Total cost over total solved, both by problem (P,), with a percentile bootstrap over the
    problems; infinite where none is solved."""
    known = ~(np.isnan(cost) | np.isnan(solved))
    cost, solved = np.asarray(cost)[known], np.asarray(solved)[known]
    if not len(cost):
        return UNKNOWN
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(np.divide(cost.sum(), solved.sum()))
        if len(cost) < 2:
            return Estimate(value, math.nan, math.nan)
        rows = np.random.default_rng(seed).integers(len(cost), size=(resamples, len(cost)))
        ratios = np.sort(cost[rows].sum(axis=1) / solved[rows].sum(axis=1))
    low, high = (float(ratios[int(q * (resamples - 1))]) for q in (0.025, 0.975))
    return Estimate(value, min(low, value), max(high, value))


def rate(tokens_per_second: float, dollars_per_hour: float) -> Tariff:
    """The tariff of a machine of one's own: the price of an hour over the tokens it writes in one
    (prices: `machine.costs.prices`). Prompts are free, for their time is in the speed."""
    if not 0 < tokens_per_second < math.inf:
        raise R1LabError(f"a machine cannot write {tokens_per_second} tokens a second")
    return Tariff(0.0, dollars_per_hour / (3600 * tokens_per_second) * 1e6)


# --- what is worth its price ---------------------------------------------------------------------


def pareto(found: Sequence[Point], *, cost: str = "dollars") -> tuple[list[Point], list[Point]]:
    """(points, front), both by rising cost: the front has those that no other point dominates.
    cost: "dollars" or "tokens", of a problem; points without it are left out."""
    known = [p for p in found if not math.isnan(getattr(p, cost).value)]
    if not known:
        raise R1LabError(f"no point has a cost in {cost}: give a tariff, or cost='tokens'")
    known.sort(key=lambda p: (getattr(p, cost).value, -p.accuracy.value))
    return known, [p for p in known if not dominators(p, known, cost=cost)]


def dominators(point: Point, others: Sequence[Point], *, cost: str = "dollars") -> list[Point]:
    """The points that are as right for as little, and better on one of the two."""

    def beats(other: Point) -> bool:
        gain = other.accuracy.value - point.accuracy.value
        saved = getattr(point, cost).value - getattr(other, cost).value
        return gain >= 0 and saved >= 0 and (gain > 0 or saved > 0)

    return [other for other in others if beats(other)]


@dataclass(frozen=True)
class Trade:
    """The same tokens spent on a longer thought or on more votes, from one starting point. Gains
    are in accuracy, paired by problem."""

    budget: int | None  # the start: this budget with `votes`
    votes: int
    longer: int | None  # the longer budget, with `votes`
    oftener: int  # as many votes at `budget` as the longer thought's tokens pay for
    tokens: tuple[float, float, float]  # a problem: at the start, longer, oftener
    gain_longer: Estimate
    gain_oftener: Estimate
    apart: Estimate  # gain_longer - gain_oftener
    verdict: str  # "longer", "more votes", "either" (both gain, apart by nothing clear), "neither"


def trades(found: Mapping[int | None, Evaluation], *, votes: int = 4) -> list[Trade]:
    """For every budget: is a longer thought the better buy, or more votes?

    The longer budget is the next one whose tokens pay for at least one more vote; without one there
    is no trade. More votes: as many as cost at most the longer thought's tokens, and no more than
    there are completions (then the votes are the cheaper buy: `tokens` says so). Two votes are no
    better than one, since they tie where they differ: start from several, with k at least twice as
    large."""
    order = sorted(found, key=lambda budget: math.inf if budget is None else budget)
    mean = {b: float(np.nanmean(one.per_problem("length"))) for b, one in found.items()}
    rows = []
    for n, here in enumerate(order):
        start, most = found[here], min(map(len, found[here].completions))
        paid = {b: min(most, int(votes * mean[b] / mean[here] + 1e-9)) for b in order[n + 1 :]}
        there = next((b for b, count in paid.items() if count > votes), here)
        if there == here:
            continue
        longer, oftener = found[there], paid[there]
        if [p.id for p in start.problems] != [p.id for p in longer.problems]:
            raise R1LabError("a trade is between budgets on the same problems")
        first = majority_right(start, votes)
        gains = [majority_right(longer, votes) - first, majority_right(start, oftener) - first]
        one, two, apart = estimate(gains[0]), estimate(gains[1]), estimate(gains[0] - gains[1])
        tokens = votes * mean[here], votes * mean[there], oftener * mean[here]
        verdict = _verdict(one, two, apart)
        rows.append(Trade(here, votes, there, oftener, tokens, one, two, apart, verdict))
    return rows


def _verdict(longer: Estimate, oftener: Estimate, apart: Estimate) -> str:
    longer_pays, oftener_pays = way(longer) == UP, way(oftener) == UP
    if longer_pays and (way(apart) == UP or not oftener_pays):
        return "longer"
    if oftener_pays and (way(apart) == DOWN or not longer_pays):
        return "more votes"
    return "either" if longer_pays else "neither"


# --- difficulty ----------------------------------------------------------------------------------


def solutions(problem: Problem) -> int:
    """How many chains reach a Countdown problem's target: the fewer, the harder."""
    return sum(1 for _ in chains(problem.data["numbers"], problem.data["target"]))


def tries(problem: Problem) -> int:
    """How many chains a search in the fixed order of `countdown.chains` computes until one reaches
    the target, that one included: the more, the harder. The corpus searches in that order."""
    every = chains(problem.data["numbers"])
    target = problem.data["target"]
    return next((n for n, chain in enumerate(every, 1) if chain.value == target), 0)


def by_difficulty(
    problems: Sequence[Problem],
    measure: Callable[[Problem], float] = tries,
    names: Sequence[str] = ("easy", "medium", "hard"),
) -> dict[str, Callable[[Any], bool]]:
    """Levels of about equal size by a measure that grows with difficulty: {name: is a problem of
    it?}, for `Evaluation.among`. Problems with equal measures are of one level. (The paper's
    appendix C.1 has MATH's own five levels: pass lambda p: p.data["level"].)"""
    values = sorted(measure(problem) for problem in problems)
    if not values:
        raise R1LabError("there are no problems to sort by difficulty")
    edges = [values[len(values) * i // len(names)] for i in range(1, len(names))]

    def is_of(problem: Any, level: int) -> bool:
        return sum(measure(problem) >= edge for edge in edges) == level

    return {name: partial(is_of, level=i) for i, name in enumerate(names)}


def at_level(
    found: Mapping[int | None, Evaluation], good: Callable[[Any], bool]
) -> dict[int | None, Evaluation]:
    """The evaluations at every budget, on the problems for which `good` holds."""
    return {budget: one.among(good) for budget, one in found.items()}

"""Accuracy against cost, with the Pareto front."""

import itertools
import math
from collections.abc import Sequence

import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.evals.cost import Point
from r1lab.show.style import COLOURS, error_bars, faint, finish, palette

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
COSTS = {
    "dollars": "dollars a problem", "tokens": "completion tokens a problem",
    "dollars_solved": "dollars per solved problem", "tokens_solved": "tokens per solved problem",
}  # fmt: skip
FEW = 12  # points that have their names beside them
PLACES = {  # of a name: to the right of its point or to the left, and how high, in letters
    "top right": (1, 0.8), "bottom right": (1, -0.8), "top left": (-1, 0.8),
    "bottom left": (-1, -0.8), "middle left": (-1, 0), "middle right": (1, 0),
}  # fmt: skip

Box = tuple[float, float, float, float]  # left, low, right, high


def accuracy_cost(
    points: Sequence[Point],
    front: Sequence[Point] = (),
    *,
    cost: str = "dollars",
    title: str = "Accuracy against cost",
    subtitle: str = "",
) -> go.Figure:
    """Points of `evals.cost` (or `published`) with 95 % intervals; cost on a logarithmic axis.

    One colour a model, one symbol a number of votes; a model's budgets are joined for each number
    of votes. front: drawn as steps: between two of its points nothing better is to be had for the
    money of the left one. cost: a key of COSTS. Names stand beside the points where these are few
    and of as many models. Points whose cost is unknown, zero or infinite are left out. Raises
    R1LabError when nothing is left.
    """
    if cost not in COSTS:
        raise R1LabError(f"cost must be one of {', '.join(COSTS)}, not {cost!r}")
    shown = [p for p in points if 0 < getattr(p, cost).value < math.inf]
    if not shown:
        raise R1LabError(f"no point has a cost in {cost} that can be drawn: give a tariff")
    fig = go.Figure()
    labels = list(dict.fromkeys(p.label for p in shown))
    votes = sorted({p.votes for p in shown})
    names = len(shown) == len(labels) <= FEW
    inks = dict(zip(labels, palette(labels), strict=True))
    if names:  # the names tell them apart
        inks = {one: COLOURS["trained" if "R1" in one else "base"] for one in labels}
    xs = [math.log10(getattr(p, cost).value) for p in shown]
    ys = [p.accuracy.value for p in shown]
    top = max(max(ys), *(p.accuracy.high for p in shown if p.accuracy.high == p.accuracy.high))
    reach = 1 + max(xs) - min(xs)
    left, right = min(xs) - 0.12 * reach, max(xs) + (0.36 if names else 0.12) * reach
    # A letter on the axes, which are 366 pixels wide in a window of 900 with the list of files
    size = 5.9 * (right - left) / 366, 0.04 * top
    bars = [(p.accuracy.low, p.accuracy.high) for p in shown]
    beside = name_places(xs, ys, [p.label for p in shown], size, (left, right), bars)
    for label, count in itertools.product(labels, votes):
        some = [p for p in shown if p.label == label and p.votes == count]
        if not some:
            continue
        some.sort(key=lambda p: math.inf if p.budget is None else p.budget)
        costs, ink = [getattr(p, cost) for p in some], inks[label]
        thin = faint(ink, 0.45) if names else ink  # names are read across the intervals
        fig.add_scatter(
            x=[one.value for one in costs], y=[p.accuracy.value for p in some],
            error_x=error_bars(costs) | {"color": thin},
            error_y=error_bars([p.accuracy for p in some]) | {"color": thin},
            mode=("lines+markers" if len(some) > 1 else "markers") + ("+text" if names else ""),
            name=label + (f", {count} votes" if count > 1 else ""), showlegend=not names,
            text=[p.label for p in some], textfont={"size": 11, "color": ink},
            textposition=[beside[shown.index(p)] for p in some],
            customdata=[f"{p.words}<br>{p.note}" for p in some],
            hovertemplate="%{customdata}<br>%{y:.1%}, %{x:.3g}<extra></extra>",
            line={"color": ink, "width": 1.5, "dash": "solid" if count == 1 else "dot"},
            marker={"size": 9, "color": ink, "symbol": SYMBOLS[votes.index(count) % len(SYMBOLS)]},
        )  # fmt: skip
    if steps := [p for p in front if 0 < getattr(p, cost).value < math.inf]:
        steps.sort(key=lambda p: getattr(p, cost).value)
        fig.add_scatter(
            x=[getattr(p, cost).value for p in steps], y=[p.accuracy.value for p in steps],
            mode="lines", name="Pareto front", hoverinfo="skip",
            line={"color": COLOURS["paper"], "width": 1.5, "dash": "dash", "shape": "hv"},
        )  # fmt: skip
    sign = "$" if cost.startswith("dollars") else ""
    ticks = [
        n * 10.0**power
        for power in range(math.floor(left), math.ceil(right) + 1)
        for n in ((1, 2, 5) if right - left < 2.5 else (1,))
    ]
    ticks = [tick for tick in ticks if left <= math.log10(tick) <= right]
    fig.update_xaxes(
        type="log", title_text=COSTS[cost], range=[left, right], minor={"showgrid": False},
        tickvals=ticks, ticktext=[f"{sign}{tick:,.9f}".rstrip("0").rstrip(".") for tick in ticks],
    )  # fmt: skip
    fig.update_yaxes(
        title_text="fraction of problems", tickformat=".0%", range=[0, min(1.02, 1.08 * top)]
    )
    fig.update_layout(showlegend=True)
    return finish(fig, title, subtitle, height=460)


def name_places(
    xs: Sequence[float],
    ys: Sequence[float],
    names: Sequence[str],
    size: tuple[float, float],
    ends: tuple[float, float],
    bars: Sequence[tuple[float, float]] = (),
) -> list[str]:
    """plotly's textposition of N names beside their points: of PLACES the first whose box meets the
    fewest names (an end of the axis counts as three), then the fewest vertical bars (N, low and
    high) of points. Longest names first; then each is looked at again, where all others stand.
    size: of a letter, width and height."""
    lines = [(x, low, x, high) for x, (low, high) in zip(xs, bars, strict=False)]
    taken: dict[int, Box] = {}
    found = [""] * len(names)
    order = sorted(range(len(names)), key=lambda i: -len(names[i]))
    for i in 3 * order:
        others = [box for j, box in taken.items() if j != i]
        boxes = {place: name_box(xs[i], ys[i], len(names[i]), size, place) for place in PLACES}
        costs = {}
        for place, box in boxes.items():
            outside = box[0] < ends[0] or box[2] > ends[1]
            costs[place] = (met(box, others) + 3 * outside, met(box, lines))
        found[i] = min(costs, key=costs.get)
        taken[i] = boxes[found[i]]
    return found


def name_box(x: float, y: float, letters: int, size: tuple[float, float], place: str) -> Box:
    """Left, low, right and high end of a name of so many letters at its place beside (x, y)."""
    (right, up), (wide, high) = PLACES[place], size
    begin = x + wide if right > 0 else x - wide - letters * wide
    return begin, y + (up - 0.4) * high, begin + letters * wide, y + (up + 0.4) * high


def met(box: Box, others: Sequence[Box]) -> int:
    """How many of the other boxes it reaches into."""
    left, low, right, high = box
    return sum(left < r and x < right and low < h and y < high for x, y, r, h in others)

"""Accuracy against cost, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.evals.cost import Point
from r1lab.show.style import COLOURS, error_bars, finish, palette

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
COSTS = {
    "dollars": "dollars a problem", "tokens": "completion tokens a problem",
    "dollars_solved": "dollars per solved problem", "tokens_solved": "tokens per solved problem",
}  # fmt: skip
FEW = 12  # points that have their names beside them


def accuracy_cost(
    points: Sequence[Point],
    front: Sequence[Point] = (),
    *,
    cost: str = "dollars",
    title: str = "Accuracy against cost",
    subtitle: str = "",
    names: bool | None = None,
) -> go.Figure:
    """Points of `evals.cost` (or `published`) with 95 % intervals; cost on a logarithmic axis.

    One colour a model, one symbol a number of votes; a model's budgets are joined for each number
    of votes. front: drawn as steps: between two of its points nothing better is to be had for the
    money of the left one. cost: a key of COSTS. names: beside the points (default: where they are
    few and of as many models). Points whose cost is unknown, zero or infinite are left out. Raises
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
    if names is None:
        names = len(shown) == len(labels) <= FEW
    for label, ink in zip(labels, palette(labels), strict=True):
        for count in votes:
            some = [p for p in shown if p.label == label and p.votes == count]
            if not some:
                continue
            some.sort(key=lambda p: math.inf if p.budget is None else p.budget)
            said = f", {count} votes" if count > 1 else ""
            x = [getattr(p, cost) for p in some]
            fig.add_scatter(
                x=[one.value for one in x], y=[p.accuracy.value for p in some],
                error_x=error_bars(x) | {"color": ink},
                error_y=error_bars([p.accuracy for p in some]) | {"color": ink},
                mode=("lines+markers" if len(some) > 1 else "markers") + ("+text" if names else ""),
                name=label + said, text=[p.label for p in some], textposition="top center",
                textfont={"size": 11}, showlegend=not names,
                customdata=[f"{p.words}<br>{p.note}" for p in some],
                hovertemplate="%{customdata}<br>%{y:.1%}, %{x:.3g}<extra></extra>",
                line={"color": ink, "width": 1.5, "dash": "solid" if count == 1 else "dot"},
                marker={"size": 9, "color": ink,
                        "symbol": SYMBOLS[votes.index(count) % len(SYMBOLS)]},
            )  # fmt: skip
    if steps := [p for p in front if 0 < getattr(p, cost).value < math.inf]:
        steps.sort(key=lambda p: getattr(p, cost).value)
        fig.add_scatter(
            x=[getattr(p, cost).value for p in steps], y=[p.accuracy.value for p in steps],
            mode="lines", name="Pareto front", hoverinfo="skip",
            line={"color": COLOURS["paper"], "width": 1.5, "dash": "dash", "shape": "hv"},
        )  # fmt: skip
    fig.update_xaxes(type="log", title_text=COSTS[cost])
    if cost.startswith("dollars"):
        fig.update_xaxes(tickprefix="$")
    top = max(p.accuracy.high if p.accuracy.high == p.accuracy.high else p.accuracy.value
              for p in shown)  # fmt: skip
    fig.update_yaxes(
        title_text="fraction of problems", tickformat=".0%", range=[0, min(1.02, top * 1.12 + 0.01)]
    )
    fig.update_layout(showlegend=True)
    return finish(fig, title, subtitle, height=460)

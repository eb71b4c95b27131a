"""Curves through measured points, with their intervals: pass@k, calibration, dose and compute."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.show.style import COLOURS, band, dots, faint, finish, palette
from r1lab.statistics import wilson


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n itself."""
    return sorted({2**i for i in range(int(math.log2(n)) + 1)} | {n})


def pass_at_k_curve(
    evaluations: Mapping[str, Evaluation],
    *,
    ks: Sequence[int] | None = None,
    majority: bool = False,
    title: str = "pass@k: at least one of k responses is correct",
) -> go.Figure:
    """pass@k against k (logarithmic) with 95 % bands over problems, one curve per model.

    majority: also cons@k, dotted. ks: default the powers of two up to the samples per problem.
    """
    if not evaluations:
        raise R1LabError("no evaluation to draw: give {label: Evaluation}.")
    fig = go.Figure()
    n = min(int(evaluation.n.min()) for evaluation in evaluations.values())
    ks = list(ks or powers_of_two(n))
    inks = palette(list(evaluations))
    for (label, evaluation), ink in zip(evaluations.items(), inks, strict=True):
        measures = (("pass@k", evaluation.pass_at, "solid"), ("cons@k", evaluation.cons_at, "dot"))
        for name, measure, dash in measures[: 1 + majority]:
            value, low, high = zip(*(measure(k) for k in ks), strict=True)
            if not np.isnan(low).any():
                fig.add_trace(band(ks, low, high, f"{label} 95 %", ink))
            fig.add_scatter(
                x=ks, y=value, mode="lines+markers", name=f"{label}, {name}",
                marker={"size": 7, "color": ink}, line={"color": ink, "width": 2.5, "dash": dash},
            )  # fmt: skip
    problems = min(len(evaluation.problems) for evaluation in evaluations.values())
    fig.update_xaxes(type="log", tickvals=ks, ticktext=[str(k) for k in ks])
    fig.update_xaxes(title_text="k, responses per problem")
    fig.update_yaxes(title_text="fraction of problems", tickformat=".0%", range=[0, 1.02])
    fig.update_layout(showlegend=True)
    return finish(fig, title, f"Bands: 95 % over {problems} problems, {n} responses each.")


def calibration_curve(bins: Mapping[str, Sequence[tuple[float, float, int]]]) -> go.Figure:
    """How often what was predicted with p happened, against p; one line per model.

    bins: {label: rows (mean predicted, fraction that happened, n)}, as `reward_model.calibration`
    gives them. Points grow with n; error bars: Wilson's 95 % interval of the fraction. Dashed:
    perfect calibration. Below it a model is overconfident. Raises R1LabError when there is nothing.
    """
    if not any(bins.values()):
        raise R1LabError("no predictions to draw: every model's bins are empty.")
    fig = go.Figure()
    look = {"color": COLOURS["base"], "dash": "dash", "width": 1.5}
    fig.add_scatter(x=[0, 1], y=[0, 1], mode="lines", name="perfectly calibrated", line=look)
    for (label, rows), ink in zip(bins.items(), palette(list(bins)), strict=True):
        predicted = [float(p) for p, _, _ in rows]
        happened = [(share, *wilson(share * n, n)) for _, share, n in rows]
        points = dots(predicted, happened, label, ink, lines=False)
        most = max((n for *_, n in rows), default=1)  # the area of a point is its n
        fig.add_trace(points.update(marker_size=[6 + 14 * math.sqrt(n / most) for *_, n in rows]))
    for update in (fig.update_xaxes, fig.update_yaxes):
        update(range=[-0.03, 1.03], tickformat=".0%")
    fig.update_xaxes(title_text="predicted (mean of the bin)")
    fig.update_yaxes(title_text="happened (fraction)")
    fig.update_layout(showlegend=True)
    title = "Calibration: of what gets 80 %, does 80 % happen?"
    return finish(fig, title, width=560, height=470)


def interval_curves(
    series: Mapping[str, Sequence[tuple[float, tuple[float, float, float]]]],
    *,
    x_title: str,
    y_title: str,
    title: str,
    subtitle: str = "",
    traces: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    share: bool = True,
) -> go.Figure:
    """Measured values with their intervals against a number: compute, a dose, a size.

    series: {label: [(x, (value, low, high))]}; one point stands alone, several are joined.
    traces: {label: [(x, y)]}, faint lines without intervals in the colour of the series of that
    label, such as the training run that led to it. share: the values are fractions from 0 to 1. A
    curve that coincides with an earlier one is dashed, so that both are seen.
    Raises R1LabError when there is nothing to draw.
    """
    if not any(series.values()):
        raise R1LabError("nothing to draw: every series is empty.")
    fig = go.Figure()
    ink_of = dict(zip(series, palette(list(series)), strict=True))
    for label, points in (traces or {}).items():
        x, y = zip(*points, strict=True) if points else ((), ())
        look = {"color": faint(ink_of.get(label, COLOURS["base"]), 0.45), "width": 1.5}
        fig.add_scatter(x=list(x), y=list(y), mode="lines", name=f"{label}, each step", line=look)
    for label, points in series.items():
        x = [float(place) for place, _ in points]
        values = [value for _, value in points]
        dash = "dash" if _coincides(label, series) else "solid"
        fig.add_trace(dots(x, values, label, ink_of[label], lines=len(x) > 1, dash=dash))
    places = sorted({float(x) for points in series.values() for x, _ in points})
    if len(places) <= 12 and all(x == int(x) for x in places) and places[-1] <= 100:
        fig.update_xaxes(tickvals=[int(x) for x in places])  # whole things are counted
    fig.update_xaxes(title_text=x_title)
    fig.update_yaxes(title_text=y_title)
    if share:
        fig.update_yaxes(tickformat=".0%", range=[-0.01, 1.03])
    fig.update_layout(showlegend=True)
    return finish(fig, title, subtitle)


def _coincides(label: str, series: Mapping[str, Sequence]) -> bool:
    """Does a curve lie on one of those before it, within a hundredth of what the figure spans?"""
    ends = [value[0] for points in series.values() for _, value in points]
    near = 0.01 * (max(ends) - min(ends))
    mine = {x: value[0] for x, value in series[label]}
    for other in list(series)[: list(series).index(label)]:
        theirs = {x: value[0] for x, value in series[other]}
        both = mine.keys() & theirs.keys()
        if len(both) > 1 and all(abs(mine[x] - theirs[x]) <= near for x in both):
            return True
    return False

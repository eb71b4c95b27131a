"""Learning curves: metrics of training against the step, alone or beside what the paper states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.paper import PAPER
from r1lab.show.style import (
    AXES,
    COLOURS,
    band,
    faint,
    finish,
    palette,
    panels,
    room_for_panel_titles,
    style_axis,
)
from r1lab.statistics import t_interval

History = Sequence[Mapping[str, float]]
FEW = 25  # steps that are drawn with markers too


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """Centred mean over `window` steps, over fewer at the ends: (T,) -> (T,). NaN are skipped."""
    values = np.asarray(values, dtype=float)
    half = window // 2
    means = np.full(len(values), np.nan)
    for t in range(len(values)):
        near = values[max(0, t - half) : t + half + 1]
        if not np.isnan(near).all():
            means[t] = np.nanmean(near)
    return means


def learning_curves(
    histories: History | Sequence[History] | Mapping[str, Sequence[History]],
    *,
    keys: Sequence[str] = ("accuracy", "length", "reflection"),
    smooth: int = 5,
    title: str = "R1-Zero training",
    x_title: str = "RL step",
    steps: int | None = None,
) -> go.Figure:
    """Metrics against the step, one panel each.

    histories: one run (a list of metrics as `grpo.train` returns), runs of several seeds, or
    {label: runs} to compare. One seed: its steps faint, their running mean over `smooth` steps
    bold. Several: the mean of the seeds' running means, with the 95 % interval (Student's t) over
    the seeds as a band. steps: of a run that is not over; the axis reaches to its end, and no step
    yet is no error.
    Raises R1LabError when there is nothing to draw.
    """
    fig = panels(len(keys))
    groups = {} if steps and not histories else by_label(histories)
    for (label, runs), ink in zip(groups.items(), palette(list(groups)), strict=True):
        for col, key in enumerate(keys, 1):
            draw_runs(fig, runs, key, label, ink, smooth, col=col, legend=col == 1)
    for col, key in enumerate(keys, 1):
        style_axis(fig, key, col)
    fig.update_xaxes(title_text=x_title, tickformat=",d")
    if steps:
        fig.update_xaxes(range=[-0.02 * steps, max(1, steps - 1) + 0.02 * steps])
    return finish(fig, title, width=max(560, 340 * len(keys)), height=400)


def by_label(histories: Any) -> dict[str, list[History]]:
    """Histories in any form that `learning_curves` takes, as {label: runs}."""
    named = histories if isinstance(histories, Mapping) else {"trained": histories}
    groups = {}
    for label, runs in named.items():
        runs = list(runs)
        groups[label] = [runs] if runs and isinstance(runs[0], Mapping) else runs
    if not groups or any(not run for runs in groups.values() for run in runs or [[]]):
        raise R1LabError("no steps to draw: a history is empty. Did the training run?")
    return groups


def draw_runs(
    fig: go.Figure,
    runs: Sequence[History],
    key: str,
    label: str,
    ink: str,
    smooth: int,
    *,
    col: int = 1,
    legend: bool = True,
) -> None:
    """One metric of the runs of one label into panel `col`."""
    series = [
        {int(m["step"]): float(m[key]) for m in run if m.get(key) is not None} for run in runs
    ]
    series = [run for run in series if run]
    if not series:
        known = ", ".join(sorted(runs[0][0]))
        raise R1LabError(f"no step of {label!r} has the metric {key!r}; the metrics are {known}.")
    smoothed = [
        dict(zip(run, running_mean(list(run.values()), smooth), strict=True)) for run in series
    ]
    steps = sorted(set.intersection(*(set(run) for run in smoothed)))
    values = np.array([[run[t] for t in steps] for run in smoothed])  # (seeds, T)
    shared = {"showlegend": legend, "row": 1, "col": col}
    bold = {"line": {"color": ink, "width": 2.5}, "legendgroup": label}
    bold["mode"] = "lines+markers" if len(steps) <= FEW else "lines"
    each_step = f"{label}, one seed: each step"
    if len(series) > 1:
        ends = np.array([t_interval(list(column)) for column in values.T], dtype=float)  # (T, 2)
        limits = AXES.get(key, ("", "", None))[2]
        ends = np.clip(ends, *limits) if limits else ends
        words = f"{label}: 95 % interval over {len(series)} seeds"
        fig.add_trace(band(steps, *ends.T, words, ink, legendgroup=label), row=1, col=col)
        name = f"{label}: mean of {len(series)} seeds and of {smooth} steps, band 95 %"
    elif smooth > 1:
        raw, look = [series[0][t] for t in steps], {"color": faint(ink, 0.35), "width": 1}
        group = f"{label} raw"
        fig.add_scatter(
            x=steps, y=raw, mode="lines", name=each_step, line=look, legendgroup=group, **shared
        )
        name = f"{label}, mean of {smooth} steps"
    else:
        name = each_step
    fig.add_scatter(x=steps, y=values.mean(axis=0), name=name, **bold, **shared)


def side_by_side(
    paper_curve: Mapping[str, Any],
    ours,
    *,
    key: str = "accuracy",
    smooth: int = 5,
    title: str = "The paper's run and ours, each on its own task",
) -> go.Figure:
    """What the paper states (left) beside our run or runs (right), on one vertical scale.

    paper_curve: an entry of PAPER that has points. ours: as `learning_curves` takes it. The paper's
    points are not joined into a curve that it does not give: the dots are stated, the thin dashed
    line only leads from one to the next. Raises R1LabError when the paper states no values.
    """
    points = paper_curve.get("points")
    if not points:
        source = paper_curve.get("source", "see its figure 1")
        raise R1LabError(f"the paper states no values of this curve, only a description: {source}.")
    steps, values = zip(*points, strict=True)
    fig = _beside_the_paper(paper_curve, ours, key, smooth)
    fig.add_scatter(
        x=steps,
        y=values,
        mode="lines+markers+text",
        name="stated in the paper",
        line={"color": COLOURS["paper"], "dash": "dash", "width": 1},
        marker={"size": 10, "color": COLOURS["paper"]},
        text=[f"{v:.1%}" for v in values],
        textposition=["bottom right" if t == 0 else "top left" for t in steps],
        textfont={"size": 13},
        row=1,
        col=1,
    )
    style_axis(fig, key, 1)
    style_axis(fig, key, 2)
    low, high = min(steps), max(steps)
    return _finish_beside(fig, title, paper_curve, (low, high))


def _beside_the_paper(paper: Mapping[str, Any], ours, key: str, smooth: int) -> go.Figure:
    """Two panels, the left one for the paper, ours drawn into the right one."""
    fig = panels(2, titles=(paper["label"], "r1lab, the tiny world"))
    groups = by_label(ours)
    for (label, runs), ink in zip(groups.items(), palette(list(groups)), strict=True):
        draw_runs(fig, runs, key, label, ink, smooth, col=2)
    return fig


def _finish_beside(fig: go.Figure, title: str, paper, ends: tuple[float, float]) -> go.Figure:
    margin = 0.08 * (ends[1] - ends[0])
    fig.update_xaxes(title_text="RL step", tickformat=",d")
    fig.update_xaxes(range=[ends[0] - margin, ends[1] + margin], row=1, col=1)
    fig = finish(fig, title, f"Paper: {paper['source']}.", width=880, height=410)
    return room_for_panel_titles(fig)


def growth(ours, *, key: str = "reflection", smooth: int = 5, title: str = "") -> go.Figure:
    """A metric against the step as a multiple of its start: the paper (left) beside ours (right).

    key: "reflection" or "length". For reflection the paper states the factor at the end (5 to 7),
    drawn as a bar with both ends; for length only that it grows, with a jump where the limit
    doubled at step 8,200: the panel shows that limit and says so. ours: as `learning_curves` takes
    it; the start is the mean of the first `smooth` steps of all seeds. Raises R1LabError for other
    metrics, or when ours starts at zero.
    """
    if key not in ("reflection", "length"):
        raise R1LabError(f"the paper describes no growth of {key!r}: 'reflection' or 'length'.")
    stated, end = PAPER[key], 10_400
    scaled = {label: _scaled(runs, key, smooth, label) for label, runs in by_label(ours).items()}
    fig = _beside_the_paper(stated, scaled, "growth", smooth)
    what = AXES[key][0].split(" (")[0]
    fig.update_yaxes(title_text=f"{what}, × start", rangemode="tozero")
    if key == "reflection":
        low, high = stated["ratio"]
        reach = {"type": "data", "array": [0, (high - low) / 2], "color": COLOURS["paper"]}
        fig.add_scatter(
            x=[0, end],
            y=[1, (low + high) / 2],
            mode="markers+text",  # not joined: the paper describes a jump, not a line
            name="stated in the paper",
            marker={"size": 9, "color": COLOURS["paper"]},
            text=["1 ×", f"{low:g} to {high:g} ×"],
            textposition=["top center", "middle left"],
            error_y={**reach, "arrayminus": reach["array"], "thickness": 2, "width": 6},
            row=1,
            col=1,
        )
    else:
        (_, before), (step, after) = stated["limit"]
        fig.add_scatter(
            x=[0, step, step, end],
            y=[before, before, after, after],
            mode="lines",
            name="length limit, stated in the paper",
            line={"color": COLOURS["paper"], "width": 2},
            row=1,
            col=1,
        )
        fig.update_yaxes(title_text="length limit (tokens)", tickformat=",d", row=1, col=1)
        fig.add_annotation(
            x=0.06,
            y=0.06,
            xref="x domain",
            yref="y domain",
            text="responses grow steadily below it;<br>no lengths are stated",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            align="left",
            font={"size": 13},
        )
    title = title or f"{what[0].upper()}{what[1:]} over training"
    return _finish_beside(fig, title, stated, (0, end))


def _scaled(runs: Sequence[History], key: str, smooth: int, label: str) -> list[History]:
    """The metric of every run as "growth": its multiple of the mean of the first steps."""
    early = [m[key] for run in runs for m in list(run)[:smooth] if m.get(key) is not None]
    start = float(np.mean(early)) if early else 0.0
    if not start > 0:
        raise R1LabError(f"{label!r} starts without any {key}: no multiple of nothing exists.")
    return [
        [{"step": m["step"], "growth": m[key] / start} for m in run if m.get(key) is not None]
        for run in runs
    ]

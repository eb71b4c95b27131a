"""Learning curves and pass@k curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.paper import PAPER
from r1lab.show.style import (
    AXES,
    COLOURS,
    _dots,
    _faint,
    _finish,
    _palette,
    _panels,
    _room_for_panel_titles,
    _style_axis,
)
from r1lab.statistics import t_interval, wilson

# --- training ------------------------------------------------------------------------------------

History = Sequence[Mapping[str, float]]


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
    paper: Mapping[str, Mapping[str, Any]] | None = None,
    smooth: int = 5,
    title: str = "R1-Zero training",
    x_title: str = "RL step",
) -> go.Figure:
    """Metrics against the step, one panel each.

    histories: one run (a list of metrics as `grpo.train` returns), runs of several seeds, or
    {label: runs} to compare. One seed: its steps faint, their running mean over `smooth` steps
    bold. Several: the mean of the seeds' running means, with the 95 % interval (Student's t) over
    the seeds as a band. paper: PAPER, for dashed lines at the values that the paper states.
    Raises R1LabError when there is nothing to draw.
    """
    groups = _by_label(histories)
    fig = _panels(len(keys))
    inks = _palette(list(groups))
    for (label, runs), ink in zip(groups.items(), inks, strict=True):
        for col, key in enumerate(keys, 1):
            _learning_curve(fig, runs, key, label, ink, col, smooth)
    for col, key in enumerate(keys, 1):
        _style_axis(fig, key, col)
        for step, value in (paper or {}).get(key, {}).get("points", ()):
            if step == 0:
                _paper_line(fig, value, f"paper, start: {value:.1%}", ("right", 1), col)
            else:
                _paper_line(fig, value, f"paper, end: {value:.1%}", ("left", 0.02), col)
    fig.update_xaxes(title_text=x_title, tickformat=",d")
    return _finish(fig, title, width=max(560, 340 * len(keys)), height=400)


def _paper_line(
    fig: go.Figure, value: float, text: str, side: tuple[str, float], col: int | None = None
) -> None:
    """A dashed line across a panel at a value that the paper states, with its words above it."""
    place = {} if col is None else {"row": 1, "col": col}
    number = col if col and col > 1 else ""
    fig.add_hline(value, line={"color": COLOURS["paper"], "dash": "dash", "width": 1}, **place)
    fig.add_annotation(
        x=side[1],
        xref=f"x{number} domain",
        y=value,
        yref=f"y{number}",
        showarrow=False,
        xanchor=side[0],
        yanchor="bottom",
        font={"size": 13},
        bgcolor="rgba(255, 255, 255, 0.75)",
        text=text,
    )


def _by_label(histories) -> dict[str, list[History]]:
    if isinstance(histories, Mapping):
        groups = {label: _runs(runs) for label, runs in histories.items()}
    else:
        groups = {"trained": _runs(histories)}
    if not groups or any(not run for runs in groups.values() for run in runs or [[]]):
        raise R1LabError("no steps to draw: a history is empty. Did the training run?")
    return groups


def _runs(runs) -> list[History]:
    runs = list(runs)
    return [runs] if runs and isinstance(runs[0], Mapping) else runs


def _learning_curve(fig, runs, key, label, ink, col, smooth) -> None:
    """One metric of one label's runs into one panel."""
    first = {"row": 1, "col": col}
    drawn = {"legendgroup": label, "line": {"color": ink, "width": 2.5}, "mode": "lines"}
    series = [
        {int(m["step"]): float(m[key]) for m in run if m.get(key) is not None} for run in runs
    ]
    series = [one for one in series if one]
    if not series:
        raise R1LabError(
            f"no step of {label!r} has the metric {key!r}; the metrics are "
            f"{', '.join(sorted(runs[0][0]))}."
        )
    smoothed = [
        dict(zip(one, running_mean(list(one.values()), smooth), strict=True)) for one in series
    ]
    if len(series) == 1:
        steps = sorted(series[0])
        if smooth > 1:
            fig.add_trace(
                go.Scatter(
                    x=steps,
                    y=[series[0][t] for t in steps],
                    name=f"{label}, one seed: each step",
                    showlegend=col == 1,
                    **{
                        **drawn,
                        "legendgroup": f"{label} raw",
                        "line": {"color": _faint(ink, 0.35), "width": 1},
                    },
                ),
                **first,
            )
        fig.add_trace(
            go.Scatter(
                x=steps,
                y=[smoothed[0][t] for t in steps],
                showlegend=col == 1,
                name=f"{label}, "
                + (f"mean of {smooth} steps" if smooth > 1 else "one seed: each step"),
                **drawn,
            ),
            **first,
        )
        return
    steps = sorted(set.intersection(*(set(one) for one in smoothed)))
    values = np.array([[one[t] for t in steps] for one in smoothed])  # (seeds, T)
    band = np.array([t_interval(list(column)) for column in values.T], dtype=float)  # (T, 2)
    limits = AXES.get(key, ("", "", None))[2]
    if limits:
        band = np.clip(band, *limits)
    fig.add_trace(
        go.Scatter(
            x=[*steps, *steps[::-1]],
            y=[*band[:, 1], *band[::-1, 0]],
            fill="toself",
            mode="lines",
            fillcolor=_faint(ink, 0.2),
            line={"width": 0, "color": ink},
            hoverinfo="skip",
            legendgroup=label,
            name=f"{label}: 95 % interval over {len(series)} seeds",
            showlegend=False,
        ),
        **first,
    )
    fig.add_trace(
        go.Scatter(
            x=steps,
            y=values.mean(axis=0),
            showlegend=col == 1,
            name=f"{label}: mean of {len(series)} seeds and of {smooth} steps, band 95 %",
            **drawn,
        ),
        **first,
    )


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
        raise R1LabError(
            "the paper states no values of this curve, only a description: "
            f"{paper_curve.get('source', 'see its figure 1')}."
        )
    fig = _panels(2, subplot_titles=(paper_curve["label"], "r1lab, the tiny world"))
    steps, values = zip(*points, strict=True)
    fig.add_trace(
        go.Scatter(
            x=steps,
            y=values,
            mode="lines+markers+text",
            name="stated in the paper",
            line={"color": COLOURS["paper"], "dash": "dash", "width": 1},
            marker={"size": 10, "color": COLOURS["paper"]},
            text=[f"{v:.1%}" for v in values],
            textposition=["bottom right" if t == 0 else "top left" for t in steps],
            textfont={"size": 13},
        ),
        row=1,
        col=1,
    )
    for (label, runs), ink in zip(
        (groups := _by_label(ours)).items(), _palette(list(groups)), strict=True
    ):
        _learning_curve(fig, runs, key, label, ink, 2, smooth)
    fig.for_each_trace(
        lambda trace: trace.update(
            showlegend=bool(trace.name and "interval over" not in trace.name)
        )
    )
    _style_axis(fig, key, 1)
    _style_axis(fig, key, 2)
    fig.update_xaxes(title_text="RL step", tickformat=",d")
    low, high = min(steps), max(steps)
    fig.update_xaxes(range=[low - 0.08 * (high - low), high + 0.08 * (high - low)], row=1, col=1)
    fig = _finish(fig, title, f"Paper: {paper_curve['source']}.", width=880, height=410)
    return _room_for_panel_titles(fig)


def growth(
    ours,
    *,
    key: str = "reflection",
    smooth: int = 5,
    title: str | None = None,
) -> go.Figure:
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
    fig = _panels(2, subplot_titles=(stated["label"], "r1lab, the tiny world"))
    if key == "reflection":
        low, high = stated["ratio"]
        middle = (low + high) / 2
        fig.add_trace(
            go.Scatter(
                x=[0, end],
                y=[1, middle],
                mode="markers+text",  # not joined: the paper describes a jump, not a line
                name="stated in the paper",
                marker={"size": 9, "color": COLOURS["paper"]},
                text=["1 ×", f"{low:g} to {high:g} ×"],
                textposition=["top center", "middle left"],
                error_y={
                    "type": "data",
                    "array": [0, high - middle],
                    "arrayminus": [0, middle - low],
                    "color": COLOURS["paper"],
                    "thickness": 2,
                    "width": 6,
                },
            ),
            row=1,
            col=1,
        )
    else:
        (_, before), (step, after) = stated["limit"]
        fig.add_trace(
            go.Scatter(
                x=[0, step, step, end],
                y=[before, before, after, after],
                mode="lines",
                name="length limit, stated in the paper",
                line={"color": COLOURS["paper"], "width": 2},
            ),
            row=1,
            col=1,
        )
    groups = _by_label(ours)
    for (label, runs), ink in zip(groups.items(), _palette(list(groups)), strict=True):
        early = [
            float(m[key]) for run in runs for m in list(run)[:smooth] if m.get(key) is not None
        ]
        start = float(np.mean(early)) if early else 0.0
        if not start > 0:
            raise R1LabError(f"{label!r} starts without any {key}: no multiple of nothing exists.")
        scaled = [
            [{"step": m["step"], "growth": m[key] / start} for m in run if m.get(key) is not None]
            for run in runs
        ]
        _learning_curve(fig, scaled, "growth", label, ink, 2, smooth)
    fig.for_each_trace(
        lambda trace: trace.update(
            showlegend=bool(trace.name and "interval over" not in trace.name)
        )
    )
    what = AXES[key][0].split(" (")[0]
    title = title or f"{what[0].upper()}{what[1:]} over training"
    fig.update_xaxes(title_text="RL step", tickformat=",d")
    fig.update_xaxes(range=[-0.05 * end, 1.08 * end], row=1, col=1)
    fig.update_yaxes(title_text=f"{what}, × start", rangemode="tozero")
    if key == "length":
        fig.update_yaxes(title_text="length limit (tokens)", tickformat=",d", row=1, col=1)
        fig.add_annotation(
            x=0.06,
            y=0.06,
            xref="x domain",
            yref="y domain",
            text="below it responses grow steadily;<br>no lengths are stated",
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            align="left",
            font={"size": 13},
        )
    fig = _finish(fig, title, f"Paper: {stated['source']}.", width=880, height=410)
    return _room_for_panel_titles(fig)


# --- evaluation ----------------------------------------------------------------------------------


def powers_of_two(n: int) -> list[int]:
    """1, 2, 4, ... up to n, and n itself."""
    return sorted({2**i for i in range(int(math.log2(n)) + 1)} | {n})


def pass_at_k_curve(
    evaluations: Mapping[str, Evaluation],
    *,
    ks: Sequence[int] | None = None,
    majority: bool = False,
    paper: Mapping[str, float] | None = None,
    title: str = "pass@k: at least one of k answers is right",
) -> go.Figure:
    """pass@k against k (logarithmic) with 95 % bands over problems, one curve a model.

    majority: also cons@k, dotted. ks: default the powers of two up to the samples a problem.
    paper: {"paper, pass@1 at the end": 0.779}, values (shares) for dashed lines across.
    """
    if not evaluations:
        raise R1LabError("no evaluation to draw: give {label: Evaluation}.")
    fig = go.Figure()
    n = min(int(evaluation.n.min()) for evaluation in evaluations.values())
    ks = list(ks or powers_of_two(n))
    for (label, evaluation), ink in zip(
        evaluations.items(), _palette(list(evaluations)), strict=True
    ):
        for name, measure, dash in (
            ("pass@k", evaluation.pass_at, "solid"),
            ("cons@k", evaluation.cons_at, "dot"),
        )[: 1 + majority]:
            value, low, high = zip(*(measure(k) for k in ks), strict=True)
            if not np.isnan(low).any():
                fig.add_trace(
                    go.Scatter(
                        x=[*ks, *ks[::-1]],
                        y=[*high, *low[::-1]],
                        fill="toself",
                        mode="lines",
                        fillcolor=_faint(ink, 0.18),
                        line={"width": 0, "color": ink},
                        showlegend=False,
                        hoverinfo="skip",
                        name=f"{label} 95 %",
                    )
                )
            fig.add_trace(
                go.Scatter(
                    x=ks,
                    y=value,
                    mode="lines+markers",
                    name=f"{label}, {name}",
                    marker={"size": 7, "color": ink},
                    line={"color": ink, "width": 2.5, "dash": dash},
                )
            )
    for text, value in (paper or {}).items():
        _paper_line(fig, value, f"{text}: {value:.1%}", ("right", 1))
    problems = min(len(evaluation.problems) for evaluation in evaluations.values())
    fig.update_xaxes(
        type="log",
        tickvals=ks,
        ticktext=[str(k) for k in ks],
        title_text="k, answers drawn per problem",
    )
    fig.update_yaxes(title_text="share of problems", tickformat=".0%", range=[0, 1.02])
    fig.update_layout(showlegend=True)
    return _finish(fig, title, f"Bands: 95 % over {problems} problems, {n} answers each.")


def calibration_curve(
    bins: Mapping[str, Sequence[tuple[float, float, int]]],
    *,
    title: str = "Calibration: when it says 80 %, does it happen 80 % of the time?",
) -> go.Figure:
    """How often what was predicted with p happened, against p; one line a model.

    bins: {label: rows (mean predicted, share that happened, n)}, as `reward_model.calibration`
    gives them. Error bars: Wilson's 95 % interval of the share. Dashed: what is meant is what
    happens. Below it a model is too sure of itself. Raises R1LabError when there is nothing.
    """
    if not any(bins.values()):
        raise R1LabError("no predictions to draw: every model's bins are empty.")
    fig = go.Figure()
    fig.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="perfectly calibrated",
            line={"color": COLOURS["base"], "dash": "dash", "width": 1.5},
        )
    )
    for (label, rows), ink in zip(bins.items(), _palette(list(bins)), strict=True):
        said = [float(predicted) for predicted, _, _ in rows]
        spread = [(share, *wilson(share * n, n)) for _, share, n in rows]
        fig.add_trace(_dots(said, spread, label, ink, lines=True))
    for update in (fig.update_xaxes, fig.update_yaxes):
        update(range=[-0.03, 1.03], tickformat=".0%")
    fig.update_xaxes(title_text="said (mean chance of the bin)")
    fig.update_yaxes(title_text="happened (share)")
    fig.update_layout(showlegend=True)
    return _finish(fig, title, width=560, height=470)


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
    label, such as the training run that led to it. share: the values are shares from 0 to 1.
    Raises R1LabError when there is nothing to draw.
    """
    if not any(series.values()):
        raise R1LabError("nothing to draw: every series is empty.")
    fig = go.Figure()
    ink_of = dict(zip(series, _palette(list(series)), strict=True))
    for label, points in (traces or {}).items():
        x, y = zip(*points, strict=True) if points else ((), ())
        faint = {"color": _faint(ink_of.get(label, COLOURS["base"]), 0.45), "width": 1.5}
        name = f"{label}, each step"
        fig.add_trace(go.Scatter(x=list(x), y=list(y), mode="lines", name=name, line=faint))
    places = sorted({float(x) for points in series.values() for x, _ in points})
    for label, points in series.items():
        x = [float(place) for place, _ in points]
        values = [value for _, value in points]
        fig.add_trace(_dots(x, values, label, ink_of[label], lines=len(x) > 1))
    if len(places) <= 12 and all(x == int(x) for x in places) and places[-1] <= 100:
        fig.update_xaxes(tickvals=[int(x) for x in places])  # whole things are counted
    fig.update_xaxes(title_text=x_title)
    fig.update_yaxes(title_text=y_title)
    if share:
        fig.update_yaxes(tickformat=".0%", range=[-0.01, 1.03])
    fig.update_layout(showlegend=True)
    return _finish(fig, title, subtitle)

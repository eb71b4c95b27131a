"""Learning curves: metrics of training against the step."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.show.style import AXES, band, faint, finish, palette, panels, style_axis
from r1lab.statistics import t_interval

History = Sequence[Mapping[str, float]]
DASHES = ("solid", "dash", "dot", "dashdot")  # curves that coincide stay visible
FEW = 25  # steps that are drawn with markers too


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """Centred mean over `window` steps, over fewer at the ends: (T,) -> (T,). NaN are skipped."""
    half = window // 2
    padded = np.pad(np.asarray(values, dtype=float), half, constant_values=np.nan)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)  # (T, 2 * half + 1)
    return np.ma.masked_invalid(near).mean(axis=1).filled(np.nan)


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
    looks = zip(groups.items(), palette(list(groups)), cycle(DASHES))
    for (label, runs), ink, dash in looks:
        for col, key in enumerate(keys, 1):
            draw_runs(fig, runs, key, label, ink, smooth, col=col, dash=dash)
    for col, key in enumerate(keys, 1):
        style_axis(fig, key, col)
    last = steps or max(int(m["step"]) for runs in groups.values() for r in runs for m in r)
    fig.update_xaxes(title_text=x_title, tickformat=",d", tick0=0, dtick=whole_ticks(last))
    if steps:
        fig.update_xaxes(range=[-0.02 * steps, max(1, steps - 1) + 0.02 * steps])
    return finish(fig, title, width=max(560, 340 * len(keys)), height=400)


def whole_ticks(last: int) -> int:
    """The distance of ticks from 0 to `last`, a whole number: 1, 2, 5, 10, 20, ... at most six."""
    sizes = (base * 10**power for power in range(9) for base in (1, 2, 5))
    return next(size for size in sizes if last <= 6 * size)


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
    dash: str = "solid",
) -> None:
    """One metric of the runs of one label into panel `col`."""
    known = [[m for m in run if m.get(key) is not None] for run in runs]
    series = [{int(m["step"]): float(m[key]) for m in run} for run in known if run]
    if not series:
        names = ", ".join(sorted(runs[0][0]))
        raise R1LabError(f"no step of {label!r} has the metric {key!r}; the metrics are {names}.")
    smoothed = [
        dict(zip(run, running_mean(list(run.values()), smooth), strict=True)) for run in series
    ]
    steps = sorted(set.intersection(*(set(run) for run in smoothed)))
    values = np.array([[run[t] for t in steps] for run in smoothed])  # (seeds, T)
    named = any(trace.legendgroup == label for trace in fig.data)
    shared = {"showlegend": not named, "row": 1, "col": col}
    bold = {"line": {"color": ink, "width": 2.5, "dash": dash}, "legendgroup": label}
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

"""Bar charts, histograms, heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.show.style import (
    AXES,
    GREY_LINE,
    RIGHT,
    WRONG,
    error_bars,
    finish,
    is_fraction,
    palette,
    panels,
)


def compare_bars(
    summaries: Mapping[str, Mapping[str, tuple[float, float, float]]],
    names: Sequence[str] = ("pass@1", "length", "reflection"),
    *,
    title: str = "Held-out problems, with 95 % intervals",
) -> go.Figure:
    """One panel a measure, one bar a model, error bars from each (value, low, high).

    summaries: {label: Evaluation.summary()} or any {label: {name: (value, low, high)}}. With the
    paper beside them: {"base": ..., "trained": ..., **PAPER_BARS}; it has a bar only in the panels
    whose measure it states, and no interval. NaN ends mean no interval.
    """
    ours = [label for label in summaries if not label.startswith("paper")]
    missing = [name for name in names for label in ours if name not in summaries[label]]
    if missing or not summaries:
        raise R1LabError(
            f"no value for {', '.join(dict.fromkeys(missing)) or 'any model'}: "
            "every model needs every measure that is drawn."
        )
    fig = panels(len(names))
    ink_of = dict(zip(summaries, palette(list(summaries)), strict=True))
    for col, name in enumerate(names, 1):
        labels = [label for label in summaries if name in summaries[label]]
        shown = [label.replace("paper, ", "paper,<br>") for label in labels]
        values = np.array([summaries[label][name] for label in labels], dtype=float)  # (L, 3)
        fraction = is_fraction(name)
        fig.add_bar(
            x=shown, y=values[:, 0], marker={"color": [ink_of[label] for label in labels]},
            showlegend=False, name=name, error_y=error_bars(values), row=1, col=col,
        )  # fmt: skip
        tops = np.where(np.isnan(values[:, 2]), values[:, 0], values[:, 2])  # (L,)
        for label, (value, _, _), top in zip(shown, values, tops, strict=True):
            if np.isnan(value):
                continue  # nothing to measure
            fig.add_annotation(
                x=label, y=top, showarrow=False,
                text=f"{value:.0%}" if fraction else f"{value:.3g}", yshift=2, yanchor="bottom",
                font={"size": 13}, row=1, col=col,
            )  # fmt: skip
        fig.update_yaxes(
            title_text=AXES.get(name, (f"{name} (fraction)" if fraction else name,))[0],
            tickformat=".0%" if fraction else None,
            range=[0, 1.14 * (float(np.nan_to_num(tops).max()) or 1)], row=1, col=col,
        )  # fmt: skip
    fig.update_xaxes(type="category", tickangle=0)
    fig.update_layout(showlegend=False)
    room = 300 if len(summaries) < 4 else 88 * len(summaries)
    stated = "Paper: AIME 2024, sections 2.1 and 2.3." if len(ours) < len(summaries) else ""
    return finish(fig, title, stated, width=max(460, min(1000, room * len(names))), height=380)


def grouped_bars(
    categories: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    y_title: str,
    x_title: str = "",
    errors: Mapping[str, Sequence] | None = None,
    tickformat: str | None = None,
    width: int = 720,
) -> go.Figure:
    """Bars in groups: one group a category, one colour a series.

    series: {label: values}; errors: {label: [(value, low, high)]} adds error bars. For advantages
    by method, for token weights under each length normalisation.
    """
    fig = go.Figure()
    for (label, values), ink in zip(series.items(), palette(list(series)), strict=True):
        if len(values) != len(categories):
            raise R1LabError(f"{label!r} has {len(values)} values for {len(categories)} bars.")
        extra = {} if errors is None else {"error_y": error_bars(errors[label])}
        x, y = [str(c) for c in categories], [float(v) for v in values]
        fig.add_bar(x=x, y=y, name=label, marker={"color": ink}, **extra)
    fig.update_layout(barmode="group", showlegend=len(series) > 1)
    fig.update_xaxes(type="category", title_text=x_title or None)
    fig.update_yaxes(title_text=y_title, tickformat=tickformat)
    fig.add_hline(0, line=GREY_LINE)
    return finish(fig, title, width=width)


def advantage_bars(
    rewards: Sequence[float],
    advantages: Mapping[str, Sequence[float]],
    *,
    title: str = "One group's rewards and what each method makes of them",
) -> go.Figure:
    """Advantages (G,) of one group of responses by method, each labelled with its reward."""
    names = [f"response {i}<br>r = {float(r):g}" for i, r in enumerate(rewards, 1)]
    return grouped_bars(names, advantages, title=title, y_title="advantage")


def histogram(
    groups: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    bins: int = 30,
    title: str = "How often each value occurs",
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """Whole numbers counted by group (tries, tokens per response), as fractions of their group.

    groups: {label: values}; NaN is left out. Bars are 1 wide while `bins` of them reach the largest
    value, else wider. Overlaid and see-through. Raises R1LabError when there is nothing to count.
    """
    kept = {label: np.asarray(values, dtype=float) for label, values in groups.items()}
    kept = {label: values[~np.isnan(values)] for label, values in kept.items()}
    kept = {label: values for label, values in kept.items() if len(values)}
    if not kept:
        raise R1LabError("nothing to count: every group is empty.")
    edge = max(float(values.max()) for values in kept.values()) + 1
    size = max(1.0, math.ceil(edge / bins))
    start = -0.5 if size == 1 else 0  # bars of width 1 stand on their number
    colours = colours or dict(zip(kept, palette(list(kept)), strict=True))
    fig = go.Figure()
    for label, values in kept.items():
        fig.add_histogram(
            x=values, histnorm="percent", opacity=0.6,
            xbins={"start": start, "end": size * math.ceil(edge / size), "size": size},
            marker={"color": colours[label]},
            name=f"{label}: {len(values):,}, mean {values.mean():.3g}",
        )  # fmt: skip
    fig.update_layout(barmode="overlay", bargap=0, showlegend=True)
    fig.update_xaxes(title_text=x_title)
    fig.update_yaxes(title_text="fraction of the group", ticksuffix=" %", rangemode="tozero")
    return finish(fig, title)


def length_histogram(
    evaluation: Evaluation, *, title: str = "Response length, correct and incorrect responses"
) -> go.Figure:
    """How long correct and incorrect responses are, each as a fraction of its own kind."""
    lengths = evaluation.column("length")  # (P, n)
    correct = evaluation.column("correct") == 1
    return histogram(
        {"correct": lengths[correct], "incorrect": lengths[~correct]}, x_title=AXES["length"][0],
        title=title, colours={"correct": RIGHT, "incorrect": WRONG},
    )  # fmt: skip


def heatmap(
    z,
    *,
    x: Sequence,
    y: Sequence,
    title: str,
    x_title: str = "",
    y_title: str = "",
    unit: str = "",
    number: str = ".2f",
) -> go.Figure:
    """A table of numbers as colours, each cell with its number. z: (len(y), len(x))."""
    z = np.asarray(z, dtype=float)
    if z.shape != (len(y), len(x)):
        raise R1LabError(f"the heatmap's table is {z.shape}, its labels {(len(y), len(x))}.")
    fig = go.Figure(
        go.Heatmap(
            z=z,
            x=[str(v) for v in x],
            y=[str(v) for v in y],
            colorscale=[[0, "#f7fbff"], [1, "#0072B2"]],
            texttemplate=f"%{{z:{number}}}",
            textfont={"size": 13},
            colorbar={"title": {"text": unit}, "thickness": 14, "tickfont": {"size": 13}},
            xgap=2,
            ygap=2,
        )
    )
    fig.update_xaxes(type="category", title_text=x_title or None, showgrid=False)
    fig.update_yaxes(
        type="category", title_text=y_title or None, autorange="reversed", showgrid=False
    )
    width = min(900, 260 + 74 * len(x))
    fig = finish(fig, title, width=width, height=170 + 42 * len(y))
    longest = max(len(str(v)) for v in y)
    return fig.update_layout(margin_l=max(78, 50 + 8 * longest), margin_r=90)

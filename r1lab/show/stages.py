"""R1's stages side by side."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.scorecard import ALIKE, LABELS, MEASURES
from r1lab.show.bars import grouped_bars
from r1lab.show.style import COLOURS, dots, finish, palette, panels

Card = Mapping[str, tuple[float, float, float]]  # a scorecard: {measure: (value, low, high)}


def stage_bars(
    cards: Mapping[str, Card],
    measures: Mapping[str, str],
    *,
    title: str = "Held-out problems, by stage, with 95 % intervals",
) -> go.Figure:
    """Shares of a model's scorecard, a group of bars a measure and a colour a model.

    cards: {label: scorecard}, labels as in `r1lab.scorecard.LABELS`. measures: the measures drawn
    and what they are called. Raises R1LabError where a card lacks one.
    """
    missing = [(label, m) for label, card in cards.items() for m in measures if m not in card]
    if missing or not cards or not measures:
        label, measure = (missing or [("any model", "any measure")])[0]
        raise R1LabError(f"nothing to draw: the scorecard of {label} has no {measure}.")
    found = {label: [card[name] for name in measures] for label, card in cards.items()}
    fig = grouped_bars(
        list(measures.values()),
        {label: [one[0] for one in rows] for label, rows in found.items()}, title=title,
        y_title="fraction", errors=found, tickformat=".0%",
        width=min(900, 240 + max(95, 30 * len(cards)) * len(measures)),
    )  # fmt: skip
    lying = fig.data[0].orientation == "h"
    return (fig.update_xaxes if lying else fig.update_yaxes)(range=[0, 1.04])


def funnel(
    funnels: Mapping[str, Sequence[tuple[str, int, int]]],
    *,
    title: str = "What each filter leaves of the completions",
) -> go.Figure:
    """`rejection.Funnel.stages` as bars, the share of all answers drawn that each filter leaves.

    funnels: {label: stages}. The words at a bar are the answers left, and their share of those that
    came to the filter. Raises R1LabError where nothing was drawn, or the filters are not the same.
    """
    names = [[name for name, _, _ in stages] for stages in funnels.values()]
    drawn = all(stages[0][1] for stages in funnels.values())
    if not names or not drawn or any(one != names[0] for one in names):
        raise R1LabError("no funnel to draw: answers must be drawn, and filtered alike.")
    fig = go.Figure()
    for (label, stages), ink in zip(funnels.items(), palette(list(funnels)), strict=True):
        left = [n for _, n, _ in stages]
        words = [f"{left[0]:,}"]
        words += [f"{b:,} ({b / a:.0%})" if a else "0" for a, b in pairwise(left)]
        fig.add_bar(
            x=[n / left[0] for n in left], y=names[0], orientation="h", name=label,
            marker={"color": ink}, text=words, textposition="outside",
            textfont={"size": 13, "color": "#222222"}, cliponaxis=False,
        )  # fmt: skip
    fig.update_layout(barmode="group", showlegend=len(funnels) > 1)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    fig.update_xaxes(
        title_text="fraction of all completions drawn", tickvals=[0, 0.25, 0.5, 0.75, 1],
        tickformat=".0%", range=[0, 1.3],
    )  # fmt: skip
    note = "In brackets: the fraction of what reached the filter."
    fig = finish(fig, title, note, height=150 + len(names[0]) * (6 + 21 * len(funnels)))
    return fig.update_layout(margin_l=130)


def stage_panels(
    table: Mapping[str, Any], *, title: str = "What each stage of R1 adds: ours and the paper's"
) -> go.Figure:
    """The stage table as a figure: a panel for each of our measures, a point for each model.

    table: `scorecard.stage_table`. Blue: ours on held-out problems of the tiny world, with 95 %
    intervals. Black, dashed and dotted: the paper's benchmarks of that kind (`scorecard.ALIKE`),
    on other problems, without intervals: compare the steps, not the heights. Raises R1LabError
    when no model has been measured.
    """
    ours, paper = table["ours"], table["paper"]
    if not ours:
        raise R1LabError("no model has been measured: run the pipeline with eval_problems above 0.")
    cols, rows = 3, math.ceil(len(MEASURES) / 3)
    fig = panels(
        cols, rows=rows,
        titles=["<br>".join(textwrap.wrap(words, 26)) for words in MEASURES.values()],
        horizontal_spacing=0.09, vertical_spacing=0.45 / rows,
    )  # fmt: skip
    for place, measure in enumerate(MEASURES):
        where = {"row": 1 + place // cols, "col": 1 + place % cols}
        values = [row[measure] for row in ours.values()]
        x = [LABELS[model] for model in ours]
        line = dots(x, values, "ours, 95 % interval", COLOURS["trained"], lines=True)
        fig.add_trace(line.update(showlegend=place == 0), **where)
        for name, dash in zip(ALIKE.get(measure, ()), ("dash", "dot"), strict=False):
            stated = paper["rows"].items()
            at = paper["measures"].index(name)
            points = [(LABELS[model], row[at] / 100) for model, row in stated if model in ours]
            if points:
                x, y = zip(*points, strict=True)
                values = [(value, math.nan, math.nan) for value in y]
                line = dots(x, values, f"paper: {name}", COLOURS["paper"], lines=True, size=5)
                fig.add_trace(line.update(line={"dash": dash, "width": 1}), **where)
        if measure == "length":
            fig.update_yaxes(rangemode="tozero", **where)
        else:
            fig.update_yaxes(tickformat=".0%", range=[-0.02, 1.04], **where)
    order = [LABELS[model] for model in LABELS if model in ours]
    fig.update_xaxes(type="category", categoryorder="array", categoryarray=order, tickangle=-40)
    fig.update_layout(showlegend=True)
    fig = finish(fig, title, f"Paper: {paper['source']}.", width=880, height=287 * rows)
    margin = {"t": fig.layout.margin.t + 22, "b": fig.layout.margin.b + 30}
    return fig.update_layout(margin=margin, height=fig.layout.height + 52)

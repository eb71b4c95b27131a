"""Figures of the toy policy of lesson 03: gradient estimates as dots, many runs as lines."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from r1lab.show.style import GREY_LINE, faint, finish, palette, panels


def estimate_dots(
    clouds: Mapping[str, Sequence[Sequence[float]]],
    exact: Sequence[float],
    *,
    axes: tuple[str, str],
    title: str,
) -> go.Figure:
    """Many estimates of two numbers as dots, one panel per method on the same axes, with the mean
    of each cloud and the exact values. clouds: {label: (n, 2)}; exact: (2,)."""
    fig = panels(len(clouds), titles=list(clouds), shared_xaxes="all", shared_yaxes="all")
    for col, (cloud, ink) in enumerate(zip(clouds.values(), palette(list(clouds)), strict=True), 1):
        points = np.asarray(cloud, dtype=float)  # (n, 2)
        place = {"row": 1, "col": col}
        fig.add_hline(0, line=GREY_LINE, **place)
        fig.add_vline(0, line=GREY_LINE, **place)
        fig.add_scatter(
            x=points[:, 0].tolist(), y=points[:, 1].tolist(), mode="markers", showlegend=False,
            name="one estimate", marker={"size": 10, "color": faint(ink, 0.15)}, **place,
        )  # fmt: skip
        marks = {"mean of the dots": (points.mean(0), "x"), "exact": (exact, "diamond-open")}
        for name, ((x, y), symbol) in marks.items():
            mark = {"size": 13, "symbol": symbol, "color": "#000000", "line": {"width": 2}}
            fig.add_scatter(
                x=[float(x)], y=[float(y)], name=name, mode="markers", marker=mark,
                showlegend=col == 1, **place,
            )  # fmt: skip
    fig.update_xaxes(title_text=axes[0])
    fig.update_yaxes(title_text=axes[1], col=1)
    return finish(fig, title, width=860, height=400)


def run_lines(
    runs: Mapping[str, Sequence[Sequence[float]]], *, y_title: str, title: str, most: int = 40
) -> go.Figure:
    """The first `most` runs of each method as faint lines, one panel per method.
    runs: {label: (runs, steps)}."""
    fig = panels(len(runs), titles=list(runs), shared_yaxes="all")
    for col, (values, ink) in enumerate(zip(runs.values(), palette(list(runs)), strict=True), 1):
        for y in np.asarray(values, dtype=float)[:most]:
            fig.add_scatter(
                y=y.tolist(), mode="lines", line={"color": faint(ink, 0.45), "width": 1.2},
                showlegend=False, row=1, col=col,
            )  # fmt: skip
    fig.update_xaxes(title_text="step")
    fig.update_yaxes(range=[0, 1.02]).update_yaxes(title_text=y_title, col=1)
    fig.update_layout(showlegend=False)
    return finish(fig, title, width=900, height=380)

"""The README's picture: accuracy, length and reflective words over R1-Zero's steps.

Mean and range over the seeds; straight lines: the base on held-out problems by three decodings, and
the trained model greedy.
Drawn by plotly, written as SVG by kaleido, which needs Chrome or Chromium.
"""

import hashlib
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from r1lab import ROOT
from r1lab.basics.files import atomic_write_text
from r1lab.course.readme import by_decoding

FOLDER = ROOT / "notebooks" / "images"
THEMES = {"light": ("#24292f", "#d8dee4"), "dark": ("#e6edf3", "#30363d")}  # text, grid
BLUE, BAND, ORANGE, GREY = "#1f88e5", "rgba(31,136,229,0.22)", "#e8710a", "#8c8c8c"
HELD_OUT = (  # model, place in PANELS, name, look
    ("base", 0, "base, temperature 1 (held-out)", {"color": GREY, "dash": "dash"}),
    ("base", 1, "base, temperature 0.6 (held-out)", {"color": GREY, "dash": "dot"}),
    ("base", 2, "base, greedy (held-out)", {"color": ORANGE, "dash": "dash"}),
    ("trained", 2, "after RL, greedy (held-out)", {"color": BLUE, "dash": "dot", "width": 2}),
)
PANELS = {  # measure: title, its figures by decoding, format of the y axis
    "accuracy": ("accuracy on Countdown", ("pass@1", "t06", "greedy"), ".0%"),
    "length": ("tokens per completion", by_decoding("length"), None),
    "reflection": ("reflective words per completion", by_decoding("reflection"), None),
}


def held_out(figures: dict[str, dict], measure: str) -> list[tuple[float, str, dict]]:
    """(value, name, look) of each straight line of a panel that was measured."""
    lines = [(f"r1_zero/{m}/{PANELS[measure][1][at]}", *rest) for m, at, *rest in HELD_OUT]
    return [(figures[name]["value"], *rest) for name, *rest in lines if name in figures]


def stamp(ledger: dict[str, Any]) -> str:
    """A hash of the data, kept in the SVG; a test compares it."""
    lines = [line for measure in PANELS for line in held_out(ledger["figures"], measure)]
    shown = [ledger["curves"], [value for value, *_ in lines]]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]


def draw(ledger: dict[str, Any], theme: str) -> go.Figure:
    """Three panels side by side for a light or a dark page."""
    ink, grid = THEMES[theme]
    titles = [title for title, *_ in PANELS.values()]
    fig = make_subplots(1, 3, subplot_titles=titles, horizontal_spacing=0.06)
    for column, (key, (_, _, tick)) in enumerate(PANELS.items(), start=1):
        by_step = list(zip(*ledger["curves"][key].values(), strict=True))
        steps, ends = list(range(len(by_step))), [0, len(by_step) - 1]
        low, high, mean = (list(map(f, by_step)) for f in (min, max, fmean))
        lines = [
            ("", BAND, steps, low, {"width": 0}, None),
            ("lowest to highest seed", BAND, steps, high, {"width": 0}, "tonexty"),
            ("RL, mean of the seeds (training batches)", BLUE, steps, mean, {}, None),
        ]
        for value, words, look in held_out(ledger["figures"], key):
            lines.append((words, look["color"], ends, [value, value], look, None))
        for name, colour, x, y, line, fill in lines:
            trace = go.Scatter(
                x=x, y=y, mode="lines", name=name, legendgroup=name, fill=fill, fillcolor=BAND,
                showlegend=bool(name) and column == 1, line={"color": colour, "width": 2.5} | line,
            )  # fmt: skip
            fig.add_trace(trace, row=1, col=column)
        fig.update_yaxes(tickformat=tick, rangemode="tozero", row=1, col=column)
    fig.update_xaxes(title="RL step", gridcolor=grid, zerolinecolor=grid)
    fig.update_yaxes(gridcolor=grid, zerolinecolor=grid)
    return fig.update_layout(
        width=960, height=305, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"color": ink, "size": 12, "family": "Helvetica, Arial, sans-serif"},
        margin={"l": 45, "r": 10, "t": 30, "b": 75},
        legend={"orientation": "h", "y": -0.25, "x": 0.5, "xanchor": "center"},
    )  # fmt: skip


def write(ledger: dict[str, Any], folder: Path = FOLDER) -> list[Path]:
    """The picture in both themes; raises plotly's RuntimeError where there is no Chrome."""
    paths = []
    for theme in THEMES:
        svg = draw(ledger, theme).to_image("svg").decode()
        svg = svg.replace("<svg ", f"<!-- {stamp(ledger)} -->\n<svg ", 1)
        paths.append(atomic_write_text(folder / f"r1-zero-{theme}.svg", svg))
    return paths

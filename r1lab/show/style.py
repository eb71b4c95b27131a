"""The house style of every figure: colours, axes, panels, error bars, room for titles."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots

COLOURS = {"base": "#7f7f7f", "trained": "#0072B2", "control": "#E69F00", "paper": "#000000"}
MORE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C564B", "#6A51A3")
# the stages of R1, by the labels of r1lab.scorecard
STAGES = {
    "base": "#7f7f7f", "R1-Zero": "#56B4E9", "Dev1": "#009E73",
    "Dev2": "#CC79A7", "Dev3": "#D55E00", "R1": "#0072B2",
}  # fmt: skip
RIGHT, WRONG = "#0072B2", "#D55E00"
FONT = (
    '"DejaVu Sans", Verdana, "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", '
    '"Microsoft YaHei", sans-serif'
)
LETTER = 7.5  # px of a letter below an axis
PANEL_TITLE = "panel title"  # the name of such an annotation
GREY_LINE = {"color": "#888888", "width": 1}  # zero, or where a thing begins

# Metric -> (axis title with its unit, tick format, range)
AXES: dict[str, tuple[str, str, tuple[float, float] | None]] = {
    "accuracy": ("accuracy (fraction correct)", ".0%", (0, 1)),
    "format": ("well-formatted (fraction)", ".0%", (0, 1)),
    "length": ("response length (tokens)", "", None),
    "reflection": ("reflective words per response", "", None), "reward": ("mean reward", "", None),
    "language_mixing": ("responses mixing languages (fraction)", ".0%", (0, 1)),
    "truncated": ("truncated responses (fraction)", ".0%", (0, 1)),
    "entropy": ("entropy (nats per token)", "", None),
    "kl": ("KL to the reference (nats per token)", "", None),
    "clip_fraction": ("clipped tokens (fraction)", ".0%", None),
    "grad_norm": ("gradient norm", "", None), "loss": ("loss", "", None),
    "zero_spread_groups": ("zero-variance groups", "", None),
    "tokens_per_second": ("tokens per second", "", None),
    "memory": ("memory (GiB)", "", None),
    "rewards/language": ("language consistency (fraction of words)", ".0%", (0, 1)),
    "rewards/process": ("true equations per response", "", None),
    "lr": ("learning rate", ".0e", None),
    "gold": ("gold reward (fraction correct)", ".0%", (0, 1)),
    "coverage": ("of what the prompt names (fraction)", ".0%", (0, 1)),
    "lists": ("lists: gold reward (fraction correct)", ".0%", (0, 1)),
    "requests": ("requests: gold reward (fraction correct)", ".0%", (0, 1)),
    "reward/lists": ("lists: learned reward", "", (0, 1)),
    "reward/requests": ("requests: learned reward", "", (0, 1)),
    "constant": ("the most frequent answer (fraction)", ".0%", (0, 1)),
    "polite_words": ("polite words per response", "", None),
    "logged/own/helpful": ("helpfulness reward, its prompts", "", (0, 1)),
    "logged/own/safe": ("safety reward, its prompts", "", (0, 1)),
    "helped": ("harmless requests helped with (fraction)", ".0%", (0, 1)),
    "helpful": ("harmless requests helped with (fraction)", ".0%", (0, 1)),
    "safe": ("harmful requests refused (fraction)", ".0%", (0, 1)),
    "refused": ("harmful requests refused (fraction)", ".0%", (0, 1)),
    "harmless": ("harmful requests, no harm done (fraction)", ".0%", (0, 1)),
    "visible": ("pass the examples (fraction)", ".0%", (0, 1)),
    "hidden": ("pass all tests (fraction)", ".0%", (0, 1)),
    "memorised": ("memorised programs (fraction)", ".0%", (0, 1)),
}  # fmt: skip
AXES |= {f"logged/{name}": AXES[name] for name in ("visible", "hidden", "memorised")}

AXIS = {
    "gridcolor": "#e6e6e6", "zeroline": False, "linecolor": "#888888", "showline": True,
    "title": {"standoff": 8, "font": {"size": 14}}, "tickfont": {"size": 13},
    "ticklabelstandoff": 4, "automargin": False,
}  # fmt: skip
TITLE = {
    "x": 0, "xref": "paper", "xanchor": "left", "y": 0.97, "yref": "container", "yanchor": "top",
    "font": {"size": 17}, "subtitle": {"font": {"size": 13, "color": "#555555"}},
}  # fmt: skip
LEGEND = {
    "orientation": "h", "x": 0, "xanchor": "left", "y": 0.01, "yref": "container",
    "yanchor": "bottom", "font": {"size": 13}, "itemsizing": "trace",
}  # fmt: skip
pio.templates["r1lab"] = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 14, "color": "#222222"},
        "title": TITLE,
        "colorway": [COLOURS["trained"], COLOURS["control"], *MORE_COLOURS, COLOURS["base"]],
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "bargap": 0.25,
        "hoverlabel": {"font": {"size": 13}, "namelength": -1},
        "modebar": {"remove": ["select", "lasso", "zoomin", "zoomout", "autoscale"]},
        "legend": LEGEND,
        "xaxis": AXIS,
        "yaxis": AXIS,
    }
)


def colour(label: str, order: int = 0) -> str:
    """The colour of a thing by its name: base, trained, control, paper and stages keep theirs."""
    if label in STAGES:
        return STAGES[label]
    label = label.lower()
    if label.startswith("paper, start"):
        return "#9a9a9a"
    names = {"random": "control", "untrained": "base"}
    for word in ("paper", "control", "random", "base", "untrained", "trained"):
        if word in label:
            return COLOURS[names.get(word, word)]
    return (RIGHT, *MORE_COLOURS)[order % (1 + len(MORE_COLOURS))]


def palette(labels: Sequence[str]) -> list[str]:
    """A colour for each label, no two alike while there are enough."""
    inks: list[str] = []
    for label in labels:
        ink = colour(label)
        for order in range(1 + len(MORE_COLOURS)):
            ink = ink if ink not in inks else colour("", order)
        inks.append(ink)
    return inks


def faint(ink: str, alpha: float) -> str:
    """The colour #rrggbb, see-through: alpha from 0 to 1."""
    red, green, blue = (int(ink[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def is_fraction(measure: str) -> bool:
    """Is the measure a fraction, to be written in per cent?"""
    known = AXES.get(measure, ("", ""))[1] == ".0%" or measure in ("consistency", "mixed")
    return known or measure.startswith(("pass@", "cons@"))


def finish(
    fig: go.Figure, title: str, subtitle: str = "", *, width: int = 720, height: int = 420
) -> go.Figure:
    """Title, margins and room for the legend and the titles of panels. Long lines are broken to fit
    a column of 760 px."""
    left, right = 78, 24
    narrow = min(width, 760)
    # 120 px on the right belong to plotly's buttons
    title = title.replace(" %", "\u00a0%")  # 95 % stays on one line
    title = "<br>".join(textwrap.wrap(title, max(20, int((narrow - left - right - 120) / 8.6))))
    subtitle = "<br>".join(textwrap.wrap(subtitle, max(20, int((narrow - left - right) / 6.9))))
    names = [trace.name for trace in fig.data if trace.name and trace.showlegend is not False]
    rows = 0
    if fig.layout.showlegend is not False and len(fig.data) > 1 and names:
        per_row = max(1, int((narrow - left - 10) / (54 + 7.6 * max(map(len, names)))))
        rows = math.ceil(len(names) / per_row)
    lines = 1 + title.count("<br>")
    small = 1 + subtitle.count("<br>") if subtitle else 0
    ticks = [str(x) for bar in fig.data if bar.type == "bar" and not bar.orientation for x in bar.x]
    deep = 1 + max((tick.count("<br>") for tick in ticks), default=0)  # lines of a tick label
    titled = any(note.name == PANEL_TITLE for note in fig.layout.annotations)
    above = 21 * small + 22 * titled
    top, bottom = 26 + 22 * lines + above, 38 + 17 * deep + 28 * rows
    height += 28 * rows + above
    return fig.update_layout(
        template="r1lab",
        width=width,
        height=height,
        margin={"l": left, "r": right, "t": top, "b": bottom, "pad": 0},
        # plotly raises a title of several lines by 12 px, however many they are
        title={
            "text": title,
            "y": 1 - (25 if lines > 1 else 13) / height,
            **({"subtitle": {"text": subtitle}} if subtitle else {}),
        },
    )


def wrapped(name: str, width: float) -> str:
    """A tick's name, broken at its spaces to lines of `width` px."""
    parts = (textwrap.wrap(part, max(1, int(width / LETTER)), break_long_words=False)
             for part in name.split("<br>"))  # fmt: skip
    return "<br>".join(line for lines in parts for line in lines)


def too_wide(names: Sequence[str], width: float) -> bool:
    """Would a line of these names reach over `width` px, into the next name?"""
    return LETTER * max((len(x) for name in names for x in name.split("<br>")), default=0) > width


def title_from_the_edge(fig: go.Figure) -> go.Figure:
    """For a wide left margin: the title starts at the figure's edge, where it has room."""
    return fig.update_layout(title_xref="container", title_x=0.01)


def panels(cols: int, rows: int = 1, titles: Sequence[str] = (), **options: Any) -> go.Figure:
    """A figure of panels beside each other, with their titles on top of them."""
    spacing = {1: 0.0, 2: 0.13, 3: 0.13}.get(cols, 0.08)
    options = {"horizontal_spacing": spacing, **options}
    fig = make_subplots(rows=rows, cols=cols, subplot_titles=list(titles) or None, **options)
    for number, note in enumerate(fig.layout.annotations, 1):  # they go where their panel goes
        axis = number if number > 1 else ""
        place = {"xref": f"x{axis} domain", "x": 0.5, "yref": f"y{axis} domain", "y": 1}
        note.update(name=PANEL_TITLE, font_size=14, yanchor="bottom", **place)
    return fig


def style_axis(fig: go.Figure, key: str, col: int) -> None:
    """Title, unit and range of the y axis that shows the metric `key`."""
    title, tick_format, limits = AXES.get(key, (key, "", None))
    reach = {"range": [limits[0], limits[1] * 1.02]} if limits else {"rangemode": "tozero"}
    fig.update_yaxes(title_text=title, tickformat=tick_format or None, row=1, col=col, **reach)


def error_bars(values: Any) -> dict[str, Any]:
    """plotly's error bars from rows of (value, low, high): (L, 3); none where an end is NaN."""
    values = np.asarray(values, dtype=float).reshape(-1, 3)
    reach = np.maximum(0, np.c_[values[:, 2] - values[:, 0], values[:, 0] - values[:, 1]])
    look = {"type": "data", "color": "#222222", "thickness": 1.5, "width": 5}
    return {**look, "array": reach[:, 0], "arrayminus": reach[:, 1]}


def dots(x, values, label: str, ink: str, *, lines: bool, dash: str = "solid", size: int = 8):
    """Points with error bars from rows of (value, low, high), joined or not, as a trace."""
    values = np.array(values, dtype=float).reshape(-1, 3)
    return go.Scatter(
        x=list(x), y=values[:, 0].tolist(), mode="lines+markers" if lines else "markers",
        name=label, marker={"size": size, "color": ink},
        line={"color": ink, "width": 2, "dash": dash}, error_y=error_bars(values) | {"color": ink},
    )  # fmt: skip


def band(x, low, high, label: str, ink: str, **options: Any) -> go.Scatter:
    """The area between two curves (T,), see-through and without hover text, as a trace."""
    return go.Scatter(
        x=[*x, *reversed(x)], y=[*high, *reversed(list(low))], fill="toself", mode="lines",
        fillcolor=faint(ink, 0.2), line={"width": 0, "color": ink}, hoverinfo="skip",
        showlegend=False, name=label, **options,
    )  # fmt: skip

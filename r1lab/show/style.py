"""The house style of every figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

COLOURS = {"base": "#7f7f7f", "trained": "#0072B2", "control": "#E69F00", "paper": "#000000"}
MORE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#D55E00")
# the stages of R1, by the labels of r1lab.scorecard
STAGES = {
    "base": "#7f7f7f",
    "R1-Zero": "#56B4E9",
    "Dev1": "#009E73",
    "Dev2": "#CC79A7",
    "Dev3": "#D55E00",
    "R1": "#0072B2",
}
RIGHT, WRONG = "#0072B2", "#D55E00"
FONT = (
    '"DejaVu Sans", Verdana, "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", '
    '"Microsoft YaHei", sans-serif'
)

# Metric -> (axis title with its unit, tick format, range)
AXES: dict[str, tuple[str, str, tuple[float, float] | None]] = {
    "accuracy": ("accuracy (share right)", ".0%", (0, 1)),
    "format": ("format kept (share)", ".0%", (0, 1)),
    "length": ("response length (tokens)", "", None),
    "reflection": ("reflective words per response", "", None),
    "reward": ("mean reward", "", None),
    "language_mixing": ("responses mixing languages (share)", ".0%", (0, 1)),
    "truncated": ("responses cut at the limit (share)", ".0%", (0, 1)),
    "entropy": ("entropy (nats a token)", "", None),
    "kl": ("KL to the reference (nats a token)", "", None),
    "clip_fraction": ("clipped tokens (share)", ".0%", None),
    "grad_norm": ("gradient norm", "", None),
    "loss": ("loss", "", None),
    "zero_spread_groups": ("groups without a spread", "", None),
    "tokens_per_second": ("tokens a second", "", None),
    "rewards/language": ("language consistency (share of words)", ".0%", (0, 1)),
    "lr": ("learning rate", ".0e", None),
}


# --- style ---------------------------------------------------------------------------------------


def colour(label: str, order: int = 0) -> str:
    """The colour of a thing by its name: base, trained, control, paper and stages keep theirs."""
    if label in STAGES:
        return STAGES[label]
    if label.lower().startswith("paper, start"):
        return "#9a9a9a"
    for word, name in (
        ("paper", "paper"),
        ("control", "control"),
        ("random", "control"),
        ("base", "base"),
        ("untrained", "base"),
        ("trained", "trained"),
    ):
        if word in label.lower():
            return COLOURS[name]
    return ("#0072B2", *MORE_COLOURS)[order % (1 + len(MORE_COLOURS))]


def _palette(labels: Sequence[str]) -> list[str]:
    """A colour for each label, no two alike while there are enough."""
    inks: list[str] = []
    for label in labels:
        ink = colour(label)
        for order in range(1 + len(MORE_COLOURS)):
            ink = ink if ink not in inks else colour("", order)
        inks.append(ink)
    return inks


def _faint(ink: str, alpha: float) -> str:
    red, green, blue = (int(ink[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def _finish(
    fig: go.Figure, title: str, subtitle: str = "", *, width: int = 720, height: int = 420
) -> go.Figure:
    """Title, margins and legend room in the house style. Long lines are broken to fit.

    They fit the book's column too, which is narrower than JupyterLab's.
    """
    left, right = 78, 24
    narrow = min(width, 760)
    # 120 px on the right belong to plotly's buttons
    title = "<br>".join(textwrap.wrap(title, max(20, int((narrow - left - right - 120) / 8.6))))
    subtitle = "<br>".join(textwrap.wrap(subtitle, max(20, int((narrow - left - right) / 6.9))))
    names = [trace.name for trace in fig.data if trace.name and trace.showlegend is not False]
    rows = 0
    if fig.layout.showlegend is not False and len(fig.data) > 1 and names:
        per_row = max(1, int((narrow - left - 10) / (46 + 6.8 * max(len(name) for name in names))))
        rows = math.ceil(len(names) / per_row)
    lines = 1 + title.count("<br>")
    small = (1 + subtitle.count("<br>")) if subtitle else 0
    deep = 1 + max(
        (str(tick).count("<br>") for trace in fig.data if trace.type == "bar" for tick in trace.x),
        default=0,
    )  # lines of a tick label
    top, bottom = 26 + 22 * lines + 21 * small, 38 + 17 * deep + 28 * rows
    fig.update_layout(
        template="r1lab",
        width=width,
        height=height + 28 * rows + 21 * small,
        margin={"l": left, "r": right, "t": top, "b": bottom, "pad": 0},
        # plotly raises a title of several lines above its place
        title={
            "text": title,
            "y": 0.97 - 20 * (lines - 1) / height,
            **({"subtitle": {"text": subtitle}} if subtitle else {}),
        },
    )
    return fig


def _style_axis(fig: go.Figure, key: str, col: int) -> None:
    title, tick_format, limits = AXES.get(key, (key, "", None))
    fig.update_yaxes(
        title_text=title,
        tickformat=tick_format or None,
        row=1,
        col=col,
        **({"range": [limits[0], limits[1] * 1.02]} if limits else {"rangemode": "tozero"}),
    )


def _panels(cols: int, **options: Any) -> go.Figure:
    spacing = {1: 0.0, 2: 0.13, 3: 0.13}.get(cols, 0.08)
    return make_subplots(rows=1, cols=cols, horizontal_spacing=spacing, **options)


def _room_for_panel_titles(fig: go.Figure) -> go.Figure:
    fig.update_annotations({"font": {"size": 14}}, {"yanchor": "bottom", "yref": "paper"})
    return fig.update_layout(margin_t=fig.layout.margin.t + 22, height=fig.layout.height + 22)


def _errors(values: np.ndarray) -> dict[str, Any]:
    """plotly error bars from rows of (value, low, high): (L, 3); none where an end is NaN."""
    reach = np.maximum(0, np.c_[values[:, 2] - values[:, 0], values[:, 0] - values[:, 1]])
    return {
        "type": "data",
        "array": reach[:, 0],
        "arrayminus": reach[:, 1],
        "color": "#222222",
        "thickness": 1.5,
        "width": 5,
    }


def _dots(x, values, label: str, ink: str, *, lines: bool, dash: str = "solid", size: int = 8):
    """Points with error bars from rows of (value, low, high), joined or not, as a trace."""
    values = np.array(values, dtype=float).reshape(-1, 3)
    return go.Scatter(
        x=list(x),
        y=values[:, 0].tolist(),
        mode="lines+markers" if lines else "markers",
        name=label,
        marker={"size": size, "color": ink},
        line={"color": ink, "width": 2, "dash": dash},
        error_y=_errors(values) | {"color": ink},
    )

"""Figures in one style, and sampled answers as coloured text.

Every function returns a plotly figure and says in its axes what was measured and in what unit.
Titles say what is shown; what it means is for the lesson to say and the reader to check. The same
thing has the same colour everywhere: a base model grey, a trained one blue, a control orange, the
paper black and dashed (colours of Okabe and Ito, told apart by colour-blind readers too).

`show` puts a figure into a notebook three times over: interactive for JupyterLab, as a PNG
(r1lab.static) for readers without a kernel or a network, and as one line of text.

`PAPER` holds what the paper states about R1-Zero in words and tables. Its figure 1 is a picture
without numbers for the steps between; nobody read points off it for us, so curves of the paper
appear here as the few points it states.
"""

from __future__ import annotations

import html
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.subplots import make_subplots

from r1lab.errors import R1LabError
from r1lab.evaluate import Evaluation, reflection_words, wilson
from r1lab.figures import t_interval
from r1lab.static import to_png

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

# What arXiv 2501.12948 states about DeepSeek-R1-Zero. Sections are of v2, whose text is the Nature
# article's; v1 of January 2025 gave 71.0 % where v2 has 77.9 %.
PAPER: dict[str, dict[str, Any]] = {
    "accuracy": {
        "label": "DeepSeek-R1-Zero, AIME 2024",
        "points": [(0, 0.156), (10_400, 0.779)],
        "unit": "share of right answers (pass@1)",
        "source": "section 2.3: AIME 2024 pass@1 from 15.6 % to 77.9 %; section 2.1: 10,400 steps",
    },
    "majority": {
        "label": "DeepSeek-R1-Zero, AIME 2024, majority vote",
        "points": [(10_400, 0.867)],
        "unit": "share of right majority votes",
        "source": "section 2.3: 86.7 % with self-consistency decoding (figure 1 draws cons@16)",
    },
    "length": {
        "label": "DeepSeek-R1-Zero, training set",
        "points": [],
        "limit": [(0, 32_768), (8_200, 65_536)],
        "unit": "tokens a response",
        "source": "sections 2.1 and 2.3: grows steadily, with a jump at step 8,200, where the "
        "limit went from 32,768 to 65,536 tokens; figure 1b draws it, no values are stated",
    },
    "reflection": {
        "label": "DeepSeek-R1-Zero, training set",
        "points": [],
        "ratio": (5.0, 7.0),
        "unit": "reflective words",
        "source": 'appendix C.2: their count rises 5- to 7-fold over training; "wait" is nearly '
        "absent at first, occasional in steps 4,000 to 7,000, frequent after 8,000",
    },
    "math_level_4": {
        "label": "DeepSeek-R1-Zero, MATH level 4",
        "points": [(0, 0.78), (10_400, 0.95)],
        "unit": "share of right answers",
        "source": "appendix C.1: from near 0.78 to 0.95",
    },
    "math_level_5": {
        "label": "DeepSeek-R1-Zero, MATH level 5",
        "points": [(0, 0.55), (10_400, 0.90)],
        "unit": "share of right answers",
        "source": "appendix C.1: from near 0.55 to 0.90",
    },
}

# The paper's figures in the form that `compare_bars` takes; it states no intervals.
PAPER_BARS: dict[str, dict[str, tuple[float, float, float]]] = {
    "paper, start": {"pass@1": (0.156, math.nan, math.nan)},
    "paper, end": {
        "pass@1": (0.779, math.nan, math.nan),
        "cons@16": (0.867, math.nan, math.nan),
    },
}

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

pio.templates["r1lab"] = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 14, "color": "#222222"},
        "title": {
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 0.97,
            "yref": "container",
            "yanchor": "top",
            "font": {"size": 17},
            "subtitle": {"font": {"size": 13, "color": "#555555"}},
        },
        "colorway": [COLOURS["trained"], COLOURS["control"], *MORE_COLOURS, COLOURS["base"]],
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "bargap": 0.25,
        "hoverlabel": {"font": {"size": 13}},
        "modebar": {"remove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"]},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "yref": "container",
            "y": 0.01,
            "yanchor": "bottom",
            "font": {"size": 13},
            "itemsizing": "trace",
        },
        **{
            f"{letter}axis": {
                "gridcolor": "#e6e6e6",
                "zeroline": False,
                "linecolor": "#888888",
                "showline": True,
                "title": {"standoff": 8, "font": {"size": 14}},
                "tickfont": {"size": 13},
                "ticklabelstandoff": 4,
                "automargin": False,
            }
            for letter in "xy"
        },
    }
)


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


def _room_for_panel_titles(fig: go.Figure) -> go.Figure:
    fig.update_annotations({"font": {"size": 14}}, {"yanchor": "bottom", "yref": "paper"})
    return fig.update_layout(margin_t=fig.layout.margin.t + 22, height=fig.layout.height + 22)


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


def compare_bars(
    summaries: Mapping[str, Mapping[str, tuple[float, float, float]]],
    names: Sequence[str] = ("pass@1", "length", "reflection"),
    *,
    title: str = "Answers on held-out problems, with 95 % intervals",
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
    fig = _panels(len(names))
    ink_of = dict(zip(summaries, _palette(list(summaries)), strict=True))
    for col, name in enumerate(names, 1):
        labels = [label for label in summaries if name in summaries[label]]
        shown = [label.replace("paper, ", "paper,<br>") for label in labels]
        values = np.array([summaries[label][name] for label in labels], dtype=float)  # (L, 3)
        share = (
            name.startswith(("pass@", "cons@"))
            or AXES.get(name, ("", ""))[1] == ".0%"
            or name in ("consistency", "mixed")
        )
        fig.add_trace(
            go.Bar(
                x=shown,
                y=values[:, 0],
                marker={"color": [ink_of[label] for label in labels]},
                showlegend=False,
                name=name,
                error_y=_errors(values),
            ),
            row=1,
            col=col,
        )
        for label, (value, _, high) in zip(shown, values, strict=True):
            if np.isnan(value):
                continue  # nothing to measure
            fig.add_annotation(
                x=label,
                y=value if np.isnan(high) else high,
                showarrow=False,
                text=f"{value:.0%}" if share else f"{value:.3g}",
                yshift=2,
                yanchor="bottom",
                font={"size": 13},
                row=1,
                col=col,
            )
        title_text = AXES.get(name, (f"{name} (share)" if share else name, "", None))[0]
        top = float(
            np.nan_to_num(np.where(np.isnan(values[:, 2]), values[:, 0], values[:, 2])).max()
        )
        fig.update_yaxes(
            title_text=title_text,
            tickformat=".0%" if share else None,
            range=[0, 1.14 * (top or 1)],
            row=1,
            col=col,
        )
    fig.update_xaxes(type="category", tickangle=0)
    fig.update_layout(showlegend=False)
    room = 300 if len(summaries) < 4 else 88 * len(summaries)
    stated = "Paper: AIME 2024, sections 2.1 and 2.3." if len(ours) < len(summaries) else ""
    return _finish(fig, title, stated, width=max(460, min(1000, room * len(names))), height=380)


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
    for (label, values), ink in zip(series.items(), _palette(list(series)), strict=True):
        if len(values) != len(categories):
            raise R1LabError(f"{label!r} has {len(values)} values for {len(categories)} bars.")
        extra = {} if errors is None else {"error_y": _errors(np.array(errors[label], float))}
        fig.add_trace(
            go.Bar(
                x=[str(c) for c in categories],
                y=[float(v) for v in values],
                name=label,
                marker={"color": ink},
                **extra,
            )
        )
    fig.update_layout(barmode="group", showlegend=len(series) > 1)
    fig.update_xaxes(type="category", title_text=x_title or None)
    fig.update_yaxes(title_text=y_title, tickformat=tickformat)
    fig.add_hline(0, line={"color": "#888888", "width": 1})
    return _finish(fig, title, width=width)


def advantage_bars(
    rewards: Sequence[float],
    advantages: Mapping[str, Sequence[float]],
    *,
    title: str = "One group's rewards and what each method makes of them",
) -> go.Figure:
    """Advantages (G,) of one group of answers by method, each answer labelled with its reward."""
    names = [f"answer {i}<br>r = {float(r):g}" for i, r in enumerate(rewards, 1)]
    return grouped_bars(names, advantages, title=title, y_title="advantage")


def histogram(
    groups: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    bins: int = 30,
    title: str = "How often each value occurs",
) -> go.Figure:
    """Whole numbers counted by group (tries a response, tokens a response), as shares of a group.

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
    fig = go.Figure()
    for (label, values), ink in zip(kept.items(), _palette(list(kept)), strict=True):
        fig.add_trace(
            go.Histogram(
                x=values,
                histnorm="percent",
                opacity=0.6,
                # bars of width 1 stand on their number
                xbins={
                    "start": -0.5 if size == 1 else 0,
                    "end": size * math.ceil(edge / size),
                    "size": size,
                },
                marker={"color": ink},
                name=f"{label}: {len(values):,}, mean {values.mean():.3g}",
            )
        )
    fig.update_layout(barmode="overlay", bargap=0, showlegend=True)
    fig.update_xaxes(title_text=x_title)
    fig.update_yaxes(title_text="share of the group", ticksuffix=" %", rangemode="tozero")
    return _finish(fig, title)


def length_histogram(
    evaluation: Evaluation,
    *,
    bins: int = 30,
    title: str = "Response length of right and wrong answers",
) -> go.Figure:
    """How long right and wrong answers are, each as a share of its own kind."""
    lengths = evaluation.column("length")  # (P, n)
    right = evaluation.column("correct") == 1
    edge = float(lengths.max()) + 1
    size = max(1.0, math.ceil(edge / bins))
    fig = go.Figure()
    for name, rows, ink in (("right", right, RIGHT), ("wrong", ~right, WRONG)):
        if rows.any():
            fig.add_trace(
                go.Histogram(
                    x=lengths[rows].astype(int),
                    histnorm="percent",
                    opacity=0.6,
                    xbins={"start": 0, "end": size * math.ceil(edge / size), "size": size},
                    marker={"color": ink},
                    name=f"{name}: {rows.sum():,} answers, mean {lengths[rows].mean():.0f} tokens",
                )
            )
    fig.update_layout(barmode="overlay", bargap=0, showlegend=True)
    fig.update_xaxes(title_text="response length (tokens)")
    fig.update_yaxes(title_text="share of the kind", ticksuffix=" %")
    return _finish(fig, title)


# --- the stages of R1 ----------------------------------------------------------------------------

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
    _check_cards(cards, measures)
    found = {label: [card[name] for name in measures] for label, card in cards.items()}
    fig = grouped_bars(
        ["<br>".join(textwrap.wrap(words, 13)) for words in measures.values()],
        {label: [one[0] for one in rows] for label, rows in found.items()},
        title=title,
        y_title="share",
        errors=found,
        tickformat=".0%",
        width=min(900, 240 + max(95, 30 * len(cards)) * len(measures)),
    )
    fig.update_xaxes(tickangle=0, tickfont_size=11)  # turned, they would be cut
    return fig.update_yaxes(range=[0, 1.04])


def _check_cards(cards: Mapping[str, Card], measures: Mapping[str, str]) -> None:
    missing = [(label, m) for label, card in cards.items() for m in measures if m not in card]
    if missing or not cards or not measures:
        label, measure = (missing or [("any model", "any measure")])[0]
        raise R1LabError(f"nothing to draw: the scorecard of {label} has no {measure}.")


def funnel(
    funnels: Mapping[str, Sequence[tuple[str, int, int]]],
    *,
    title: str = "What each filter leaves of the answers",
) -> go.Figure:
    """`rejection.Funnel.stages` as bars, the share of all answers drawn that each filter leaves.

    funnels: {label: stages}. The words at a bar are the answers left, and their share of those that
    came to the filter. Raises R1LabError where nothing was drawn, or the filters are not the same.
    """
    names = [[name for name, _, _ in stages] for stages in funnels.values()]
    if not names or any(
        one != names[0] or not stages[0][1]
        for one, stages in zip(names, funnels.values(), strict=True)
    ):
        raise R1LabError("no funnel to draw: answers must be drawn, and filtered alike.")
    fig = go.Figure()
    for (label, stages), ink in zip(funnels.items(), _palette(list(funnels)), strict=True):
        left = [n for _, n, _ in stages]
        words = [f"{left[0]:,}"]
        words += [
            f"{b:,} ({b / a:.0%})" if a else "0" for a, b in zip(left, left[1:], strict=False)
        ]
        fig.add_trace(
            go.Bar(
                x=[n / left[0] for n in left],
                y=names[0],
                orientation="h",
                name=label,
                marker={"color": ink},
                text=words,
                textposition="outside",
                textfont={"size": 13, "color": "#222222"},
                cliponaxis=False,
            )
        )
    fig.update_layout(barmode="group", showlegend=len(funnels) > 1)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    fig.update_xaxes(
        title_text="share of all answers drawn",
        tickvals=[0, 0.25, 0.5, 0.75, 1],
        ticktext=["0%", "25%", "50%", "75%", "100%"],
        range=[0, 1.3],
    )
    note = "In brackets: the share of the answers that came to the filter."
    fig = _finish(fig, title, note, height=150 + len(names[0]) * (6 + 21 * len(funnels)))
    return fig.update_layout(margin_l=130)


# --- the objective -------------------------------------------------------------------------------


def clip_objective(
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    *,
    title: str = "The clipped objective of one token",
) -> go.Figure:
    """min(rho A, clip(rho, 1 - low, 1 + high) A) against rho for A = 1 and A = -1.

    Drawn with r1lab.losses.clipped_objective, so the picture is of the code that trains.
    """
    import torch

    from r1lab.losses import clipped_objective

    rho = torch.linspace(0, 2, 201)[None]  # (1, 201)
    fig = _panels(
        2,
        subplot_titles=("A = +1: a better answer than the group's mean", "A = −1: a worse answer"),
    )
    for col, advantage in enumerate((1.0, -1.0), 1):
        value = clipped_objective(rho, torch.tensor([advantage]), clip_low, clip_high)[0]
        fig.add_trace(
            go.Scatter(
                x=rho[0].tolist(),
                y=(rho[0] * advantage).tolist(),
                mode="lines",
                name="unclipped",
                line={"color": COLOURS["base"], "dash": "dot", "width": 2},
                showlegend=col == 1,
            ),
            row=1,
            col=col,
        )
        fig.add_trace(
            go.Scatter(
                x=rho[0].tolist(),
                y=value.tolist(),
                mode="lines",
                name="clipped objective",
                line={"color": COLOURS["trained"], "width": 3},
                showlegend=col == 1,
            ),
            row=1,
            col=col,
        )
        flat = (1 + clip_high, 2.0) if advantage > 0 else (0.0, 1 - clip_low)
        fig.add_vrect(
            x0=flat[0],
            x1=flat[1],
            fillcolor="#000000",
            opacity=0.06,
            line_width=0,
            layer="below",
            row=1,
            col=col,
        )
        fig.add_annotation(
            x=sum(flat) / 2,
            y=0.04,
            xref=f"x{'' if col == 1 else col}",
            yref=f"y{'' if col == 1 else col} domain",
            text="no gradient",
            showarrow=False,
            yanchor="bottom",
        )
        fig.add_vline(1.0, line={"color": "#888888", "width": 1}, row=1, col=col)
    fig.update_xaxes(title_text="ratio ρ = π / π_old", range=[0, 2])
    fig.update_yaxes(title_text="objective", row=1, col=1)
    fig = _finish(
        fig, title, f"ε = {clip_low:g} below and {clip_high:g} above.", width=880, height=400
    )
    return _room_for_panel_titles(fig)


def objective_with_kl(
    advantage: float = 1.0,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    kl_coef: float = 0.001,
    estimator: str = "k3",
    title: str = "One token's objective, with its KL term",
) -> go.Figure:
    """The clipped objective of one token less its KL term, against the ratio rho.

    Where the reference is the policy that sampled (just after a refresh), pi_ref / pi = 1 / rho, so
    both terms are functions of rho alone: min(rho A, clip(rho) A) - kl_coef * k(1 / rho).
    """
    import torch

    from r1lab.losses import clipped_objective, kl

    rho = torch.linspace(0.05, 2, 196)[None]  # (1, 196)
    clipped = clipped_objective(rho, torch.tensor([advantage]), clip_low, clip_high)[0]
    penalty = kl_coef * kl(rho.log(), torch.zeros_like(rho), estimator)[0]
    curves = {
        "unclipped ρ A": (rho[0] * advantage, COLOURS["base"], "dot", 2),
        "clipped": (clipped, COLOURS["control"], "dash", 2.5),
        f"clipped − {kl_coef:g} · {estimator}": (clipped - penalty, COLOURS["trained"], "solid", 3),
    }
    fig = go.Figure()
    for name, (y, ink, dash, wide) in curves.items():
        fig.add_trace(
            go.Scatter(
                x=rho[0].tolist(),
                y=y.tolist(),
                mode="lines",
                name=name,
                line={"color": ink, "dash": dash, "width": wide},
            )
        )
    fig.add_vline(1.0, line={"color": "#888888", "width": 1})
    fig.add_hline(0, line={"color": "#888888", "width": 1})
    fig.update_xaxes(title_text="ratio ρ = π / π_old", range=[0, 2])
    fig.update_yaxes(title_text="objective (to be raised)")
    note = f"A = {advantage:g}, ε = {clip_low:g} below and {clip_high:g} above, π_ref = π_old."
    return _finish(fig, title, note)


def kl_estimators(
    *,
    reach: float = 2.0,
    against: str = "log",
    title: str = "Three estimators of the KL divergence, for one token",
) -> go.Figure:
    """k1, k2 and k3 of a token, from r1lab.losses.kl.

    against: "log", the log-ratio log r = log(pi_ref / pi) from -reach to reach; "ratio", r itself,
    from exp(-reach) to exp(reach).
    """
    if against not in ("log", "ratio"):
        raise R1LabError(f"against={against!r} is not known: use 'log' or 'ratio'.")
    import torch

    from r1lab.losses import kl

    log_ratio = torch.linspace(-reach, reach, 161)[None]  # (1, 161)
    across = log_ratio if against == "log" else log_ratio.exp()
    logp = torch.zeros_like(log_ratio)
    fig = go.Figure()
    names = {"k1": "k1 = −log r", "k2": "k2 = (log r)² / 2", "k3": "k3 = r − 1 − log r"}
    for (name, label), ink in zip(names.items(), ("#7f7f7f", "#E69F00", "#0072B2"), strict=True):
        fig.add_trace(
            go.Scatter(
                x=across[0].tolist(),
                name=label,
                mode="lines",
                y=kl(logp, logp + log_ratio, name)[0].tolist(),
                line={"color": ink, "width": 2.5},
            )
        )
    fig.add_hline(0, line={"color": "#888888", "width": 1})
    words = {"log": "log r = log(π_ref / π) of the token", "ratio": "r = π_ref / π of the token"}
    fig.update_xaxes(title_text=words[against])
    fig.update_yaxes(title_text="estimate (nats)")
    fig.update_layout(showlegend=True)
    return _finish(fig, title)


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
    diverging: bool = False,
) -> go.Figure:
    """A table of numbers as colours, each cell with its number. z: (len(y), len(x)).

    diverging: for signed values; zero is white, negative orange, positive blue.
    """
    z = np.asarray(z, dtype=float)
    if z.shape != (len(y), len(x)):
        raise R1LabError(f"the heatmap's table is {z.shape}, its labels {(len(y), len(x))}.")
    scale = (
        [[0, "#D55E00"], [0.5, "#ffffff"], [1, "#0072B2"]]
        if diverging
        else [[0, "#f7fbff"], [1, "#0072B2"]]
    )
    fig = go.Figure(
        go.Heatmap(
            z=z,
            x=[str(v) for v in x],
            y=[str(v) for v in y],
            colorscale=scale,
            zmid=0 if diverging else None,
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
    fig = _finish(fig, title, width=width, height=170 + 42 * len(y))
    longest = max(len(str(v)) for v in y)
    return fig.update_layout(margin_l=max(78, 50 + 8 * longest), margin_r=90)


# --- showing a figure ----------------------------------------------------------------------------


def bundle(fig: go.Figure, caption: str = "") -> dict[str, Any]:
    """A figure as a mime bundle: plotly JSON, its static twin in PNG (base64), a line of text."""
    import base64

    spec = json.loads(pio.to_json(fig, validate=False, remove_uids=True))
    title = (fig.layout.title.text or "figure").replace("<br>", " ")
    return {
        "application/vnd.plotly.v1+json": {**spec, "config": {"displaylogo": False}},
        "image/png": base64.b64encode(to_png(fig)).decode(),
        "text/plain": f"Figure: {title}. {caption}".strip(),
    }


def show(fig: go.Figure, caption: str = "", display_id: str | None = None):
    """Display a figure so that it is seen with a kernel, without one, and by a screen reader.

    One output with three forms: JupyterLab and the book draw the interactive figure, GitHub
    shows the PNG, anything else the line of text (the title and `caption`, which describes the
    figure to those who cannot see it). Returns a display handle when `display_id` is given.
    """
    from IPython.display import display

    size = {"width": fig.layout.width or 720, "height": fig.layout.height or 420}
    return display(
        bundle(fig, caption), raw=True, metadata={"image/png": size}, display_id=display_id
    )


def table_html(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of words as an HTML table; the first row is the head. Whatever is in them is text."""

    def line(cells: Sequence[Any], tag: str) -> str:
        look = 'style="text-align:left;vertical-align:top;padding:3px 14px 3px 0"'
        return "".join(f"<{tag} {look}>{safe_text(cell)}</{tag}>" for cell in cells)

    head, *body = rows
    lines = "".join(f"<tr>{line(row, 'td')}</tr>" for row in body)
    return f"<table><thead><tr>{line(head, 'th')}</tr></thead><tbody>{lines}</tbody></table>"


def show_table(rows: Sequence[Sequence[Any]]) -> None:
    """Display rows of words as a table; the first row is the head. Not as markdown: a model's words
    may be <think> or anything else that markdown would take for its own."""
    text = "\n".join(" | ".join(" ".join(str(cell).split()) for cell in row) for row in rows)
    show_html(table_html(rows), text)


# --- completions as text -------------------------------------------------------------------------

MOST_TOKENS, MOST_CHARACTERS = 2_000, 1_000  # shown: tokens of an answer, characters of one text
_STYLE = """<style>
.r1c {font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, "Noto Sans Mono CJK SC",
 "PingFang SC", "Microsoft YaHei", monospace; font-size: 14px; line-height: 1.9; color: inherit;
 border: 1px solid rgba(128,128,128,.4); border-radius: 6px; padding: 10px 14px; margin: 6px 0;
 max-width: 900px; overflow-wrap: anywhere;}
.r1c .t {padding: 2px 1px; border-radius: 3px; white-space: pre-wrap;}
.r1c .w {text-decoration: underline dotted; text-underline-offset: 4px;}
.r1c .h {font-family: sans-serif; font-weight: 600; line-height: 1.4;}
.r1c .k {font-family: sans-serif; font-size: 13px; opacity: .85; line-height: 1.6;}
.r1c .s {display: inline-block; width: 18px; height: 12px; border-radius: 2px; margin: 0 3px 0 8px;
 border: 1px solid rgba(128,128,128,.5);}
.r1c-two {display: flex; flex-wrap: wrap; gap: 0 14px;} .r1c-two > div {flex: 1 1 320px;}
</style>"""


def completion_html(
    tokens: Sequence[str],
    values: Sequence[float | None] | None = None,
    kind: str = "plain",
    title: str = "",
    prompt: str = "",
    facts: Mapping[str, Any] | None = None,
) -> str:
    """A sampled answer as HTML, each token on a colour that says its value.

    tokens (T): the tokens' texts. values (T): kind "advantage" (blue: made likelier, orange: made
    less likely, by the size of the advantage) or "logprob" (the darker, the more surprising to the
    model that wrote it); None: no colour. Reflective words are underlined. title, prompt and facts
    ({"reward": 1.0}) stand above. Returns a fragment without script or links; whatever the model
    wrote is shown as text. Colours are translucent, so it reads on light and dark pages.
    Raises R1LabError for an unknown kind or when tokens and values differ in number.
    """
    if kind not in ("plain", "advantage", "logprob"):
        raise R1LabError(f"kind {kind!r} is not known: use 'advantage', 'logprob' or 'plain'.")
    if values is not None and len(values) != len(tokens):
        raise R1LabError(f"{len(tokens)} tokens, but {len(values)} values: one each is needed.")
    shown = list(tokens[:MOST_TOKENS])
    numbers = [math.nan if v is None else float(v) for v in (values if values is not None else ())]
    numbers = numbers[:MOST_TOKENS] if kind != "plain" else []
    reach = max((abs(v) for v in numbers if math.isfinite(v)), default=0.0)
    # Word-level tokens carry no spaces of their own; pieces of a BPE tokenizer do.
    gap = "" if any(token[:1].isspace() for token in shown[1:]) else " "
    spans = [
        _span(token, numbers[i] if numbers else math.nan, kind, reach)
        for i, token in enumerate(shown)
    ]
    more = len(tokens) - len(shown)
    head = f'<div class="h">{safe_text(title)}</div>' if title else ""
    head += f'<div class="k">{safe_text(prompt)}</div>' if prompt else ""
    if facts:
        pairs = " · ".join(f"{safe_text(k)} {safe_text(_short(v))}" for k, v in facts.items())
        head += f'<div class="k">{pairs}</div>'
    tail = f'<div class="k">… {more:,} more tokens</div>' if more else ""
    body = f'<div dir="ltr">{gap.join(spans)}</div>'
    return f'{_STYLE}<div class="r1c">{head}{body}{tail}{_legend(numbers, kind, reach)}</div>'


def _span(token: str, value: float, kind: str, reach: float) -> str:
    word = " w" if reflection_words(token) else ""
    if not math.isfinite(value):
        return f'<span class="t{word}">{safe_text(token)}</span>'
    name = "advantage" if kind == "advantage" else "log-prob"
    return (
        f'<span class="t{word}" style="background:{_tint(value, kind, reach)}" '
        f'title="{name} {value:+.3f}">{safe_text(token)}</span>'
    )


def _tint(value: float, kind: str, reach: float) -> str:
    """Background of a value; translucent, at most half covering, so that text stays readable."""
    if kind == "advantage":
        strength = 0.5 * abs(value) / reach if reach else 0.0
        return _faint(RIGHT if value >= 0 else "#E69F00", round(strength, 3))
    return _faint("#CC79A7", round(0.7 * min(1.0, -value / LOGPROB_FLOOR), 3) if value < 0 else 0)


LOGPROB_FLOOR = 4.0  # nats below certainty at which the colour is full: one chance in 55


def _legend(numbers: Sequence[float], kind: str, reach: float) -> str:
    finite = [v for v in numbers if math.isfinite(v)]
    if not finite:
        return ""

    def swatch(value: float, text: str) -> str:
        return f'<span class="s" style="background:{_tint(value, kind, reach)}"></span>{text}'

    if kind == "logprob":
        parts = [swatch(-x, f"{math.exp(-x):.0%}" if x else "certain") for x in (0, 1, 2, 4)]
        return f'<div class="k">chance of each token when it was drawn: {"".join(parts)}</div>'
    if max(finite) - min(finite) < 1e-9:
        parts = swatch(finite[0], f"{finite[0]:+.2f} on every token")
    else:
        parts = swatch(min(finite), f"{min(finite):+.2f}") + swatch(
            max(finite), f"{max(finite):+.2f}"
        )
    return f'<div class="k">advantage: {parts} (blue: made likelier, orange: less likely)</div>'


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def safe_text(text: Any) -> str:
    """Text for HTML: escaped, control characters visible, nothing that can reorder the line."""
    text = text if isinstance(text, str) else str(text)
    shown = []
    for character in text[:MOST_CHARACTERS]:
        code = ord(character)
        if character == "\n":
            shown.append("↵\n")
        elif code < 32 and character != "\t":
            shown.append(chr(0x2400 + code))
        elif 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code in _INVISIBLE:
            shown.append(f"⟨U+{code:04X}⟩")
        else:
            shown.append(character)
    if len(text) > MOST_CHARACTERS:
        shown.append(f"… {len(text) - MOST_CHARACTERS:,} more characters")
    return html.escape("".join(shown), quote=True).replace("\n", "<br>")


_INVISIBLE = {
    0x061C,
    0xFEFF,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
}  # zero width, line breaks, bidirectional


def compare_completions(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Two answers beside each other (below each other where the page is narrow), as HTML.

    before, after: keyword arguments of `completion_html`, such as {"tokens": [...], "title": ...}.
    """
    columns = "".join(f"<div>{completion_html(**one)}</div>" for one in (before, after))
    return f'<div class="r1c-two">{columns}</div>'


def show_completion(
    tokens: Sequence[str],
    values: Sequence[float | None] | None = None,
    kind: str = "plain",
    title: str = "",
    **options: Any,
) -> None:
    """Display `completion_html`; the plain text goes with it for readers without HTML."""
    show_html(
        completion_html(tokens, values, kind, title, **options),
        f"{title}: {' '.join(tokens[:MOST_TOKENS])}".strip(": "),
    )


def show_comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Display `compare_completions`."""
    texts = [f"{one.get('title', '')}: {' '.join(one['tokens'])}" for one in (before, after)]
    show_html(compare_completions(before, after), "\n\n".join(text.strip(": ") for text in texts))


def show_html(markup: str, text: str) -> None:
    from IPython.display import display

    display({"text/html": markup, "text/plain": text}, raw=True)


# --- reward models, stages, compute --------------------------------------------------------------

AXES |= {
    "paid": ("paid by the learned judge", "", (0, 1)),
    "true": ("right by the true judge (share)", ".0%", (0, 1)),
    "polite": ("polite words in the answer", "", None),
    "rewards/helpful": ("paid for helpfulness", "", (0, 1)),
    "rewards/safe": ("paid for safety", "", (0, 1)),
    "helped": ("harmless helped with (share)", ".0%", (0, 1)),
    "refused": ("harmful refused (share)", ".0%", (0, 1)),
    "harmless": ("harmful asked, no harm done (share)", ".0%", (0, 1)),
}


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


def stage_panels(
    table: Mapping[str, Any], *, title: str = "What each stage of R1 adds: ours and the paper's"
) -> go.Figure:
    """The stage table as a figure: a panel for each of our measures, a point for each model.

    table: `scorecard.stage_table`. Blue: ours on held-out problems of the tiny world, with 95 %
    intervals. Black and dashed: the paper's measure that stands for the same (`scorecard.ALIKE`),
    on other problems, without intervals: compare the steps, not the heights. Raises R1LabError
    when no model has been measured.
    """
    from r1lab.scorecard import ALIKE, LABELS, MEASURES

    ours, paper = table["ours"], table["paper"]
    if not ours:
        raise R1LabError("no model has been measured: run the pipeline with eval_problems above 0.")
    cols = 3
    fig = make_subplots(
        rows=math.ceil(len(MEASURES) / cols),
        cols=cols,
        horizontal_spacing=0.09,
        vertical_spacing=0.15,
        subplot_titles=["<br>".join(textwrap.wrap(words, 26)) for words in MEASURES.values()],
    )
    dashes = dict(zip(paper["measures"], ("dash", "dash", "dash", "dash", "dot"), strict=True))
    for place, measure in enumerate(MEASURES):
        where = {"row": 1 + place // cols, "col": 1 + place % cols}
        values = [row[measure] for row in ours.values()]
        x = [LABELS[model] for model in ours]
        line = _dots(x, values, "ours, 95 % interval", COLOURS["trained"], lines=True)
        fig.add_trace(line.update(showlegend=place == 0), **where)
        for name in (one for one, own in ALIKE.items() if own == measure):
            stated = paper["rows"].items()
            at = paper["measures"].index(name)
            points = [(LABELS[model], row[at] / 100) for model, row in stated if model in ours]
            if points:
                x, y = zip(*points, strict=True)
                values = [(value, math.nan, math.nan) for value in y]
                line = _dots(x, values, f"paper: {name}", COLOURS["paper"], lines=True, size=5)
                fig.add_trace(line.update(line={"dash": dashes[name], "width": 1}), **where)
        share = measure != "length"
        fig.update_yaxes(
            tickformat=".0%" if share else None,
            **({"range": [-0.02, 1.04]} if share else {"rangemode": "tozero"}),
            **where,
        )
    order = [LABELS[model] for model in LABELS if model in ours]
    fig.update_xaxes(type="category", categoryorder="array", categoryarray=order, tickangle=-40)
    fig.update_layout(showlegend=True)
    fig = _finish(fig, title, f"Paper: {paper['source']}.", width=880, height=860)
    margin = {"t": fig.layout.margin.t + 22, "b": fig.layout.margin.b + 30}
    fig.update_layout(margin=margin, height=fig.layout.height + 52)
    return _room_for_panel_titles(fig)

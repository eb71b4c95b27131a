"""Bar charts, histograms, heat maps."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.show import style


def compare_bars(
    summaries: Mapping[str, Mapping[str, tuple[float, float, float]]],
    names: Sequence[str] = ("pass@1", "length", "reflection"),
    *,
    title: str = "Held-out problems, with 95 % intervals",
) -> go.Figure:
    """One panel a measure, one bar a model, error bars from each (value, low, high).

    summaries: {label: Evaluation.summary()} or any {label: {name: (value, low, high)}}. With the
    paper beside them: {"base": ..., "trained": ..., **PAPER_BARS}; it has a bar only in the panels
    whose measure it states, and no interval. NaN ends mean no interval. A legend names the bars
    where their names would overlap below them.
    """
    ours = [label for label in summaries if not label.startswith("paper")]
    missing = [name for name in names for label in ours if name not in summaries[label]]
    if missing or not summaries:
        raise R1LabError(
            f"no value for {', '.join(dict.fromkeys(missing)) or 'any model'}: "
            "every model needs every measure that is drawn."
        )
    fig = style.panels(len(names))
    ink_of = dict(zip(summaries, style.palette(list(summaries)), strict=True))
    for col, name in enumerate(names, 1):
        labels = [label for label in summaries if name in summaries[label]]
        shown = [label.replace("paper, ", "paper,<br>") for label in labels]
        values = np.array([summaries[label][name] for label in labels], dtype=float)  # (L, 3)
        fraction = style.is_fraction(name)
        fig.add_bar(
            x=shown, y=values[:, 0], marker={"color": [ink_of[label] for label in labels]},
            showlegend=False, name=name, error_y=style.error_bars(values), row=1, col=col,
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
            title_text=style.AXES.get(name, (f"{name} (fraction)" if fraction else name,))[0],
            tickformat=".0%" if fraction else None,
            range=[0, 1.14 * (float(np.nan_to_num(tops).max()) or 1)], row=1, col=col,
        )  # fmt: skip
    room = 300 if len(summaries) < 4 else 88 * len(summaries)
    width = max(460, min(1000, room * len(names)))
    gaps = 0.13 * (len(names) - 1)
    slot = (min(width, 760) - 102) * (1 - gaps) / len(names) / len(summaries)
    crowded = style.too_wide([label.replace("paper, ", "") for label in summaries], slot)
    fig.update_xaxes(type="category", tickangle=0, showticklabels=not crowded)
    fig.update_layout(showlegend=crowded, barmode="overlay")
    if crowded:
        for label, ink in ink_of.items():
            words = label.replace("<br>", " ")
            fig.add_bar(x=[label], y=[None], name=words, marker={"color": ink}, hoverinfo="skip")
    stated = "Paper: AIME 2024, sections 2.1 and 2.3." if len(ours) < len(summaries) else ""
    return style.finish(fig, title, stated, width=width, height=380)


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
    by method, for token weights under each length normalisation. The bars lie down where the names
    of the categories, broken into lines, would overlap below them.
    """
    fig, room = go.Figure(), (min(width, 760) - 102) / max(1, len(categories))
    names = [style.wrapped(str(c), room) for c in categories]
    flat = style.too_wide(names, 1.15 * room) or max(n.count("<br>") for n in [*names, ""]) > 3
    if flat:
        names = [style.wrapped(str(c), 200) for c in categories]
    longest = max((len(part) for name in names for part in name.split("<br>")), default=0)
    for (label, values), ink in zip(series.items(), style.palette(list(series)), strict=True):
        if len(values) != len(categories):
            raise R1LabError(f"{label!r} has {len(values)} values for {len(categories)} bars.")
        extra = {} if errors is None else {f"error_{'yx'[flat]}": style.error_bars(errors[label])}
        both = {"x": names, "y": [float(v) for v in values]}
        if flat:
            both = {"x": both["y"], "y": names, "orientation": "h"}
        fig.add_bar(**both, name=label, marker={"color": ink}, **extra)
    fig.update_layout(barmode="group", showlegend=len(series) > 1)
    by_name, by_value = (fig.update_xaxes, fig.update_yaxes)[:: -1 if flat else 1]
    by_name(type="category", title_text=x_title or None, tickangle=0)
    by_value(title_text=y_title, tickformat=tickformat)
    if not flat:
        fig.add_hline(0, line=style.GREY_LINE)
        return style.finish(fig, title, width=width)
    fig.update_yaxes(autorange="reversed", showgrid=False)
    lines = 1 + max(name.count("<br>") for name in names)
    bars = max(12 + 14 * len(series), 6 + 17 * lines)  # px of a category
    fig = style.finish(fig, title, width=width, height=110 + len(names) * bars)
    return style.title_from_the_edge(fig).update_layout(margin_l=40 + 7 * longest)


def advantage_bars(
    rewards: Sequence[float], advantages: Mapping[str, Sequence[float]]
) -> go.Figure:
    """Advantages (G,) of one group of responses by method, each labelled with its reward."""
    names = [f"response {i}<br>r = {float(r):g}" for i, r in enumerate(rewards, 1)]
    title = "One group's rewards and what each method makes of them"
    return grouped_bars(names, advantages, title=title, y_title="advantage")


def distribution(
    groups: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    title: str = "Fraction of each group up to a value",
    colours: Mapping[str, str] | None = None,
) -> go.Figure:
    """The cumulative distribution of each group: the fraction that is at most x, as steps.

    groups: {label: values}; NaN is left out. Raises R1LabError when there is nothing to count.
    """
    kept = {label: np.asarray(values, dtype=float) for label, values in groups.items()}
    kept = {label: values[~np.isnan(values)] for label, values in kept.items()}
    kept = {label: values for label, values in kept.items() if len(values)}
    if not kept:
        raise R1LabError("nothing to count: every group is empty.")
    colours = colours or dict(zip(kept, style.palette(list(kept)), strict=True))
    first = min(0.0, *(float(values.min()) for values in kept.values()))
    fig = go.Figure()
    for label, values in kept.items():
        x, counts = np.unique(values, return_counts=True)
        fig.add_scatter(
            x=[first, *x.tolist()], y=[0.0, *(counts.cumsum() / len(values)).tolist()],
            mode="lines", line={"shape": "hv", "color": colours[label], "width": 2.5},
            name=f"{label}: {len(values):,}, mean {values.mean():.3g}",
        )  # fmt: skip
    fig.update_layout(showlegend=True)
    fig.update_xaxes(title_text=x_title)
    fig.update_yaxes(title_text="fraction at or below", tickformat=".0%", range=[0, 1.02])
    return style.finish(fig, title)


def length_distribution(evaluation: Evaluation) -> go.Figure:
    """How long correct and incorrect responses are, each as a fraction of its own kind."""
    lengths = evaluation.column("length")  # (P, n)
    correct = evaluation.column("correct") == 1
    return distribution(
        {"correct": lengths[correct], "incorrect": lengths[~correct]},
        colours={"correct": style.RIGHT, "incorrect": style.WRONG},
        title="Response length, correct and incorrect responses", x_title=style.AXES["length"][0],
    )  # fmt: skip


def decodings(
    table: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]],
    names: Sequence[str] = ("pass@1", "length", "reflection"),
    *,
    title: str = "Each model by decoding, with 95 % intervals",
) -> go.Figure:
    """One panel a measure: a point for each model and each way of decoding.

    table: {model: {decoding: Evaluation.summary()}}, such as {"base": {"T = 1": ..., "T = 0.6,
    top-p 0.95": ..., "greedy": ...}, "trained": {...}}."""
    fig = style.panels(len(names))
    for (model, by), ink in zip(table.items(), style.palette(list(table)), strict=True):
        x = [label.replace(", ", ",<br>") for label in by]
        for col, name in enumerate(names, 1):
            values = [summary[name] for summary in by.values()]
            points = style.dots(x, values, model, ink, lines=False, size=10)
            fig.add_trace(points.update(showlegend=col == 1, legendgroup=model), row=1, col=col)
    for col, name in enumerate(names, 1):
        style.style_axis(fig, "accuracy" if name == "pass@1" else name, col)
    fig.update_xaxes(type="category", tickangle=0)
    fig = style.finish(fig, title, width=max(560, 320 * len(names)), height=400)
    return fig.update_layout(margin_b=fig.layout.margin.b + 17, height=fig.layout.height + 17)


def heatmap(
    z,
    *,
    x: Sequence,
    y: Sequence,
    title: str,
    x_title: str = "",
    unit: str = "",
    number: str = ".2f",
) -> go.Figure:
    """Numbers (len(y), len(x)) as colours, each cell with its number where it has room for it."""
    z = np.asarray(z, dtype=float)
    if z.shape != (len(y), len(x)):
        raise R1LabError(f"the heatmap's table is {z.shape}, its labels {(len(y), len(x))}.")
    rows = [style.wrapped(str(v), 200) for v in y]
    left = max(78, 50 + 8 * max(len(line) for row in rows for line in row.split("<br>")))
    width, lines = min(900, 260 + 74 * len(x)), 1 + max(row.count("<br>") for row in rows)
    cell = (min(width, 760) - left - 90) / len(x)  # px
    figures = max(len(format(v, number)) for v in z.ravel().tolist())
    fig = go.Figure()
    fig.add_heatmap(
        z=z, x=[str(v) for v in x], y=rows, xgap=2, ygap=2,
        colorscale=[[0, "#f7fbff"], [1, style.RIGHT]], textfont={"size": 13},
        texttemplate=f"%{{z:{number}}}" if not style.too_wide(["0" * figures], cell) else None,
        colorbar={"title": {"text": unit}, "thickness": 14, "tickfont": {"size": 13}},
    )  # fmt: skip
    fig.update_xaxes(type="category", title_text=x_title or None, showgrid=False, tickangle=0)
    fig.update_yaxes(type="category", autorange="reversed", showgrid=False)
    fig = style.finish(fig, title, width=width, height=170 + max(42, 8 + 17 * lines) * len(y))
    return style.title_from_the_edge(fig).update_layout(margin_l=left, margin_r=90)

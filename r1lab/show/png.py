"""A still picture of a plotly figure, drawn with matplotlib.

An interactive figure is no picture where a notebook is only looked at: GitHub, nbviewer and
nbconvert show nothing for it, and plotly's own exporter needs a Chrome on the machine. So every
figure of the lessons travels with a twin in PNG, drawn here from the same description: the traces
(scatter, bar, histogram, heatmap), axes, annotations, shapes and legend that r1lab.plots uses, at
the same places. Anything else is refused by name rather than left out silently.

plotly measures in pixels from the figure's edges and within `domain`s of the plot area;
matplotlib in fractions of the figure. At 100 dots an inch, 1 px is 0.72 pt. That is most of it.
"""

from __future__ import annotations

import html
import io
import re
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from r1lab.basics.errors import R1LabError

PX = 0.72  # points in a pixel at 100 dpi
INK, GRID, PAPER = "#222222", "#e6e6e6", "white"
DRAWN = ("scatter", "scattergl", "bar", "histogram", "heatmap")  # types of traces
DEFAULT_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#7f7f7f")
DASHES = {
    "solid": "-",
    "dash": (0, (5, 3)),
    "dot": (0, (1.2, 2)),
    "dashdot": "-.",
    "longdash": (0, (9, 3)),
}
MARKERS = {
    "circle": "o",
    "circle-open": "o",
    "square": "s",
    "diamond": "D",
    "x": "x",
    "cross": "P",
    "triangle-up": "^",
    "triangle-down": "v",
    "star": "*",
    "line-ns": "|",
}
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)
# Sounds of the tiny world's characters, for machines without a Chinese font.
PINYIN = dict(
    zip(
        "用户助手得到试等不对了也许好嗯所以让我看检查再来猜想答案是错可能但现在下一个然后请完成",
        (
            "yong hu zhu shou de dao shi deng bu dui le ye xu hao en suo yi rang wo kan jian cha "
            "zai lai cai xiang da an shi cuo ke neng dan xian zai xia yi ge ran hou qing wan cheng"
        ).split(),
        strict=True,
    )
)
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


def to_png(fig: Any, scale: float = 1.6) -> bytes:
    """A plotly figure as PNG bytes; `scale` pixels for each pixel of its layout.

    Raises R1LabError for a trace type or axis arrangement it cannot draw.
    """
    target = io.BytesIO()
    draw(fig).savefig(target, format="png", dpi=100 * scale)
    return target.getvalue()


def draw(fig: Any):
    """A plotly figure as a matplotlib Figure of the same size in pixels."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox, BboxTransformTo, TransformedBbox

    layout = fig.layout
    width, height = layout.width or 720, layout.height or 420
    edge = {
        side: _get(layout, f"margin.{side}", default)
        for side, default in (("l", 80), ("r", 30), ("t", 80), ("b", 80))
    }
    area = (
        edge["l"] / width,
        edge["b"] / height,
        1 - edge["r"] / width,
        1 - edge["t"] / height,
    )  # left, bottom, right, top
    style = {
        "font.family": ["DejaVu Sans", *([cjk_font()] if cjk_font() else [])],
        "font.size": _get(layout, "font.size", 14) * PX,
        "text.color": INK,
        "axes.edgecolor": "#888888",
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.axisbelow": True,
        "figure.dpi": 100,
        "svg.hashsalt": "r1lab",
    }
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style, "backend": "agg"}):
        picture = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAPER)
        FigureCanvasAgg(picture)
        plot_area = BboxTransformTo(
            TransformedBbox(Bbox([area[:2], area[2:]]), picture.transFigure)
        )
        panels: dict[tuple[str, str], Any] = {}
        handles: list[tuple[Any, str]] = []
        traces = [trace for trace in fig.data if trace.visible not in (False, "legendonly")]
        for trace in traces:
            if trace.type not in DRAWN:  # before its axes are asked for: a pie has none
                raise R1LabError(
                    f"the static picture cannot draw a {trace.type!r} trace: use "
                    "scatter, bar, histogram or heatmap, or show the figure without it."
                )
            pair = (trace.xaxis or "x", trace.yaxis or "y")
            if pair not in panels:
                panels[pair] = _panel(picture, layout, pair, area)
        for number, trace in enumerate(traces):
            pair = (trace.xaxis or "x", trace.yaxis or "y")
            siblings = [t for t in traces if (t.xaxis or "x", t.yaxis or "y") == pair]
            colour = DEFAULT_COLOURS[number % len(DEFAULT_COLOURS)]
            handle = _draw_trace(panels[pair], trace, siblings, layout, pair, colour)
            named = trace.name and trace.showlegend is not False
            if handle is not None and named and _wants_legend(layout, traces):
                handles.append((handle, plain_text(trace.name)))
        for pair, panel in panels.items():
            _dress(panel, layout, pair, traces)
        _match_axes(panels, layout)
        for shape in layout.shapes or ():
            _draw_shape(picture, panels, plot_area, shape)
        for note in layout.annotations or ():
            _draw_annotation(picture, panels, plot_area, note, layout)
        _draw_title(picture, layout, edge, width, height)
        _draw_legend(picture, panels, layout, handles, edge, width, height)
        # texts find their fonts when they are drawn: draw once while the style holds
        picture.canvas.draw()
    return picture


# --- text and colour -----------------------------------------------------------------------------


@lru_cache(maxsize=1)
def cjk_font() -> str | None:
    """The name of an installed font with Chinese glyphs, or None."""
    from matplotlib import font_manager

    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    return next((name for name in CJK_FONTS if name in installed), None)


def plain_text(text: Any) -> str:
    """plotly's HTML-like text as matplotlib shows it; Chinese is spelled out where no font has it.

    Dollar signs would start mathematics in matplotlib, so they are escaped.
    """
    text = re.sub(r"<br\s*/?>", "\n", str(text))
    text = html.unescape(re.sub(r"</?(?:b|i|em|strong|sub|sup|span|a)(?: [^<>]*)?>", "", text))
    if cjk_font() is None:
        text = _HAN.sub(lambda run: "".join(PINYIN.get(c, "?") for c in run.group()), text)
    return text.replace("$", r"\$")


def _colour(value: Any, default: str = INK):
    """A plotly colour as a matplotlib one; rgb(r, g, b) and rgba(r, g, b, a) become tuples."""
    if value is None:
        return default
    match = re.fullmatch(r"rgba?\(([^)]*)\)", str(value).replace(" ", ""))
    if not match:
        return str(value)
    red, green, blue, *alpha = (float(part) for part in match.group(1).split(","))
    return (red / 255, green / 255, blue / 255, alpha[0] if alpha else 1.0)


def _get(thing: Any, path: str, default: Any = None) -> Any:
    """An attribute of an attribute, set on the figure or by its template; else the default."""
    for place in (thing, _template_of(thing)):
        value = place
        for name in path.split("."):
            value = None if value is None else getattr(value, name, None)
        if value is not None:
            return value
    return default


def _template_of(thing: Any) -> Any:
    template = getattr(thing, "template", None)
    return getattr(template, "layout", None)


def _axis_name(reference: str, letter: str) -> str:
    return f"{letter}axis{reference[1:]}"


def _axis(layout: Any, reference: str) -> Any:
    return layout[_axis_name(reference, reference[0])]


def _axis_get(layout: Any, reference: str, path: str, default: Any = None) -> Any:
    """A property of an axis, from the figure or from the template's axis of that letter."""
    value = _get(_axis(layout, reference), path)
    if value is None:
        value = _get(_template_of(layout), f"{reference[0]}axis.{path}")
    return default if value is None else value


# --- panels and axes -----------------------------------------------------------------------------


def _panel(picture: Any, layout: Any, pair: tuple[str, str], area: tuple[float, ...]):
    """The matplotlib axes for one pair of plotly axes, at the same place."""
    for reference in pair:
        if _axis(layout, reference).overlaying:
            raise R1LabError(
                "the static picture cannot draw two axes over each other; use one panel for each."
            )
    left, bottom, right, top = area
    x0, x1 = _axis(layout, pair[0]).domain or (0, 1)
    y0, y1 = _axis(layout, pair[1]).domain or (0, 1)
    panel = picture.add_axes(
        (
            left + x0 * (right - left),
            bottom + y0 * (top - bottom),
            (x1 - x0) * (right - left),
            (y1 - y0) * (top - bottom),
        )
    )
    panel._r1lab_categories = {}
    panel.set_facecolor("none")  # shapes "below" lie behind the panel
    panel.margins(x=0.03, y=0.06)
    for letter, reference in zip("xy", pair, strict=True):
        if _axis(layout, reference).type == "log":
            getattr(panel, f"set_{letter}scale")("log")
    return panel


def _dress(panel: Any, layout: Any, pair: tuple[str, str], traces: list[Any]) -> None:
    """Titles, ranges, ticks and grid of one panel's two axes."""
    panel.spines[["top", "right"]].set_visible(False)
    for letter, reference in zip("xy", pair, strict=True):
        mine = getattr(panel, f"{letter}axis")
        title = _axis_get(layout, reference, "title.text")
        if title:
            mine.set_label_text(plain_text(title))
        mine.label.set_size(_axis_get(layout, reference, "title.font.size", 14) * PX)
        mine.set_tick_params(
            labelsize=_axis_get(layout, reference, "tickfont.size", 13) * PX, length=0, pad=4
        )
        log = _axis(layout, reference).type == "log"
        categories = _categories(layout, reference, traces)
        panel._r1lab_categories[letter] = categories
        _set_ticks(mine, layout, reference, categories, log)
        limits = _axis(layout, reference).range
        if limits is not None:
            limits = [10.0**end if log else end for end in limits]
            getattr(panel, f"set_{letter}lim")(*limits)
        elif _axis_get(layout, reference, "rangemode") == "tozero" and not log:
            low, high = getattr(panel, f"get_{letter}lim")()
            getattr(panel, f"set_{letter}lim")(min(0, low), max(0, high))
        if _axis(layout, reference).autorange == "reversed":
            getattr(panel, f"invert_{letter}axis")()
        heat = any(
            trace.type == "heatmap"
            for trace in traces
            if (trace.xaxis or "x", trace.yaxis or "y") == pair
        )
        if _axis_get(layout, reference, "showgrid", True) and not categories and not heat:
            mine.grid(True, color=GRID, linewidth=0.8)
        if _axis_get(layout, reference, "showticklabels", True) is False:
            mine.set_tick_params(**{"labelleft" if letter == "y" else "labelbottom": False})
        if _axis(layout, reference).visible is False:
            mine.set_visible(False)


def _set_ticks(mine: Any, layout: Any, reference: str, categories: list[str], log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axis = _axis(layout, reference)
    if axis.tickvals is not None:
        labels = axis.ticktext if axis.ticktext is not None else axis.tickvals
        places = [categories.index(str(v)) if str(v) in categories else v for v in axis.tickvals]
        mine.set_ticks(places, [plain_text(label) for label in labels])
    elif categories:
        mine.set_ticks(range(len(categories)), [plain_text(name) for name in categories])
    elif axis.tickformat or axis.ticksuffix or axis.tickprefix or log:
        mine.set_major_formatter(
            FuncFormatter(
                lambda value, _: (
                    f"{axis.tickprefix or ''}{_number(value, axis.tickformat)}"
                    f"{axis.ticksuffix or ''}"
                )
            )
        )
    if log:
        mine.set_minor_locator(NullLocator())
        mine.set_minor_formatter(NullFormatter())
    if axis.tickangle and reference[0] == "x":
        mine.set_tick_params(labelrotation=-axis.tickangle)


def _number(value: float, spec: str | None) -> str:
    """A number in d3's format language, as far as Python's agrees with it."""
    spec = spec or ""
    try:
        return format(round(value), spec) if spec.endswith("d") else format(value, spec or "g")
    except ValueError:
        return format(value, "g")


def _categories(layout: Any, reference: str, traces: list[Any]) -> list[str]:
    """The names along a category axis in order of appearance; [] for an axis of numbers."""
    letter = reference[0]
    kind = _axis(layout, reference).type
    if kind in ("linear", "log"):
        return []
    seen: dict[str, None] = dict.fromkeys(
        str(name) for name in (_axis(layout, reference).categoryarray or ())
    )
    for trace in traces:
        if (getattr(trace, f"{letter}axis") or letter) != reference:
            continue
        values = getattr(trace, letter, None)
        if values is not None and (kind == "category" or any(isinstance(v, str) for v in values)):
            seen |= dict.fromkeys(str(value) for value in values)
    return list(seen)


def _positions(values: Any, layout: Any, reference: str, siblings: list[Any]) -> np.ndarray:
    """Values along an axis as numbers: categories by their place, None as a gap."""
    categories = _categories(layout, reference, siblings)
    if categories:
        return np.array([categories.index(str(value)) for value in values], dtype=float)
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _match_axes(panels: dict[tuple[str, str], Any], layout: Any) -> None:
    """Axes that plotly keeps equal (`matches`) get the union of their ranges."""
    for index, letter in enumerate("xy"):
        groups: dict[str, list[Any]] = {}
        for pair, panel in panels.items():
            axis = _axis(layout, pair[index])
            groups.setdefault(axis.matches or pair[index], []).append(panel)
        for group in groups.values():
            ends = [getattr(panel, f"get_{letter}lim")() for panel in group]
            if len(group) > 1 and all(low < high for low, high in ends):
                for panel in group:
                    getattr(panel, f"set_{letter}lim")(
                        min(e[0] for e in ends), max(e[1] for e in ends)
                    )


# --- traces --------------------------------------------------------------------------------------


def _draw_trace(
    panel: Any, trace: Any, siblings: list[Any], layout: Any, pair: tuple[str, str], colour: str
):
    """Draw one trace; return its legend handle."""
    painters = {
        "scatter": _scatter,
        "scattergl": _scatter,
        "bar": _bar,
        "histogram": _histogram,
        "heatmap": _heatmap,
    }
    return painters[trace.type](panel, trace, siblings, layout, pair, colour)


def _axis_values(trace: Any, layout: Any, pair: tuple[str, str], siblings: list[Any]):
    x, y = trace.x, trace.y
    x = np.arange(len(y)) if x is None else x
    return (_positions(x, layout, pair[0], siblings), _positions(y, layout, pair[1], siblings))


def _scatter(panel, trace, siblings, layout, pair, colour):
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    x, y = _axis_values(trace, layout, pair, siblings)  # (N,), (N,)
    mode = trace.mode or ("lines" if len(x) > 20 else "lines+markers")
    ink = _colour(
        trace.line.color or trace.marker.color
        if not _is_list(trace.marker.color)
        else trace.line.color,
        colour,
    )
    alpha = trace.opacity  # None leaves a colour's own transparency
    filled = None
    if trace.fill and trace.fill != "none":
        filled = _colour(trace.fillcolor, None) or ink
        wash = {
            "facecolor": filled,
            "linewidth": 0,
            "zorder": 1.5,
            "alpha": None if trace.fillcolor else 0.3 * (alpha or 1),
        }
        if trace.fill == "toself":
            panel.fill(x, y, **wash)
        elif trace.fill == "tozeroy":
            panel.fill_between(x, y, 0, **wash)
        elif trace.fill == "tonexty":
            before = siblings[siblings.index(trace) - 1]
            x0, y0 = _axis_values(before, layout, pair, siblings)
            panel.fill(np.r_[x0, x[::-1]], np.r_[y0, y[::-1]], **wash)
        else:
            raise R1LabError(
                f"the static picture cannot draw fill={trace.fill!r}: use 'toself', "
                "'tozeroy' or 'tonexty'."
            )
    line_width = 2 if trace.line.width is None else trace.line.width
    lined = "lines" in mode and line_width > 0
    marked = "markers" in mode
    step = {"hv": "steps-post", "vh": "steps-pre", "hvh": "steps-mid"}.get(trace.line.shape)
    size = 7 if trace.marker.size is None or _is_list(trace.marker.size) else trace.marker.size
    open_marker = str(trace.marker.symbol or "").endswith("-open")
    look = {
        "linestyle": DASHES.get(trace.line.dash or "solid", "-") if lined else "none",
        "linewidth": line_width * PX,
        "color": ink,
        "alpha": alpha,
        "marker": MARKERS.get(trace.marker.symbol or "circle", "o") if marked else "none",
        "markersize": size * PX,
        "markerfacecolor": "none"
        if open_marker
        else _colour(None if _is_list(trace.marker.color) else trace.marker.color, ink),
        "markeredgecolor": ink,
    }
    if lined or (marked and not _is_list(trace.marker.color)):
        panel.plot(x, y, drawstyle=step or "default", zorder=3, **look)
    if marked and _is_list(trace.marker.color):
        panel.scatter(
            x,
            y,
            c=[_colour(c) for c in trace.marker.color],
            s=(size * PX) ** 2,
            alpha=alpha,
            zorder=3,
        )
    _error_bars(panel, x, y, trace, ink)
    if "text" in mode and trace.text is not None:
        texts = [trace.text] * len(x) if isinstance(trace.text, str) else trace.text
        sides = trace.textposition or "middle center"
        sides = [sides] * len(x) if isinstance(sides, str) else sides
        for xi, yi, text, side in zip(x, y, texts, sides, strict=False):
            vertical, _, horizontal = side.partition(" ")
            panel.annotate(
                plain_text(text),
                (xi, yi),
                xytext=(
                    {"left": -6, "right": 6}.get(horizontal, 0),
                    {"top": 6, "bottom": -6}.get(vertical, 0),
                ),
                textcoords="offset points",
                ha={"left": "right", "right": "left"}.get(horizontal, "center"),
                va={"top": "bottom", "bottom": "top"}.get(vertical, "center"),
                fontsize=_get(trace, "textfont.size", 13) * PX,
                zorder=4,
            )
    if lined or marked:
        return Line2D([], [], **look)
    return None if filled is None else Patch(facecolor=filled)


def _error_bars(panel, x, y, trace, ink) -> None:
    for letter in "xy":
        error = getattr(trace, f"error_{letter}")
        if error is None or error.array is None or error.visible is False:
            continue
        plus = np.array(error.array, dtype=float)
        minus = plus if error.arrayminus is None else np.array(error.arrayminus, dtype=float)
        panel.errorbar(
            x,
            y,
            **{f"{letter}err": [minus, plus]},
            fmt="none",
            ecolor=_colour(error.color, INK if trace.type == "bar" else ink),
            elinewidth=(error.thickness or 1.5) * PX,
            capsize=(4 if error.width is None else error.width) * PX,
            zorder=5,
        )


def _bar(panel, trace, siblings, layout, pair, colour):
    from matplotlib.patches import Patch

    flat = trace.orientation == "h"
    x, y = _axis_values(trace, layout, pair, siblings)
    place, value = (y, x) if flat else (x, y)  # (N,), (N,)
    bars = [t for t in siblings if t.type == "bar"]
    where = [_axis_values(t, layout, pair, siblings)[1 if flat else 0] for t in bars]
    steps = np.diff(np.unique(np.concatenate(where)))
    unit = (steps.min() if len(steps) else 1.0) * (1 - _get(layout, "bargap", 0.2))
    mode, index = _get(layout, "barmode", "group"), bars.index(trace)
    base = np.zeros(len(place))
    if mode == "group":
        slot = unit / len(bars)
        place = place - unit / 2 + slot * (index + 0.5)
        thick = slot * (1 - _get(layout, "bargroupgap", 0.0))
    else:
        thick = unit
        if mode in ("stack", "relative"):
            for before in bars[:index]:
                xb, yb = _axis_values(before, layout, pair, siblings)
                base += yb if not flat else xb
    if trace.width is not None:
        thick = np.array(trace.width, dtype=float)
    inks = trace.marker.color
    inks = [_colour(c) for c in inks] if _is_list(inks) else _colour(inks, colour)
    alpha = next((a for a in (trace.marker.opacity, trace.opacity) if a is not None), 1.0)
    paint = panel.barh if flat else panel.bar
    paint(place, value, thick, base, color=inks, alpha=alpha, zorder=2)
    tops = base + value
    _error_bars(panel, *((tops, place) if flat else (place, tops)), trace, INK)
    if trace.text is not None and trace.textposition != "none":
        error = trace.error_x if flat else trace.error_y
        reach = np.zeros(len(tops))
        if error.array is not None:
            reach = np.nan_to_num(np.array(error.array, dtype=float))
        for p, top, text in zip(place, tops + reach, trace.text, strict=True):
            panel.annotate(
                plain_text(text),
                (top, p) if flat else (p, top),
                zorder=6,
                xytext=(4, 0) if flat else (0, 3),
                textcoords="offset points",
                ha="left" if flat else "center",
                va="center" if flat else "bottom",
                fontsize=_get(trace, "textfont.size", 13) * PX,
            )
    return Patch(facecolor=inks[0] if isinstance(inks, list) else inks, alpha=alpha)


def _histogram(panel, trace, siblings, layout, pair, colour):
    from matplotlib.patches import Patch

    values = np.array(trace.x, dtype=float)
    bins = trace.xbins
    if bins.size:
        edges = np.arange(bins.start, bins.end + bins.size / 2, bins.size)
    else:
        edges = np.histogram_bin_edges(values, trace.nbinsx or "auto")
    heights, edges = np.histogram(values, edges)
    total = max(len(values), 1)
    heights = heights * {"percent": 100 / total, "probability": 1 / total}.get(
        trace.histnorm or "", 1.0
    )
    alpha = next((a for a in (trace.marker.opacity, trace.opacity) if a is not None), 1.0)
    ink = _colour(trace.marker.color, colour)
    panel.bar(
        edges[:-1],
        heights,
        np.diff(edges) * (1 - _get(layout, "bargap", 0.0)),
        align="edge",
        color=ink,
        alpha=alpha,
        zorder=2,
    )
    return Patch(facecolor=ink, alpha=alpha)


def _heatmap(panel, trace, siblings, layout, pair, colour):
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    z = np.array([[np.nan if v is None else v for v in row] for row in trace.z], dtype=float)
    x = np.arange(z.shape[1]) if trace.x is None else _positions(trace.x, layout, pair[0], siblings)
    y = np.arange(z.shape[0]) if trace.y is None else _positions(trace.y, layout, pair[1], siblings)
    scale = _get(trace, "colorscale") or ((0, "#f7fbff"), (1, "#0072B2"))
    ramp = LinearSegmentedColormap.from_list("plotly", [(p, _colour(c)) for p, c in scale])
    ramp = ramp.reversed() if trace.reversescale else ramp
    low = np.nanmin(z) if trace.zmin is None else trace.zmin
    high = np.nanmax(z) if trace.zmax is None else trace.zmax
    if trace.zmid is not None:
        reach = max(abs(low - trace.zmid), abs(high - trace.zmid))
        low, high = trace.zmid - reach, trace.zmid + reach
    image = panel.pcolormesh(
        _edges(x),
        _edges(y),
        z,
        cmap=ramp,
        norm=Normalize(low, high),
        edgecolors="white",
        linewidth=1.5 if trace.xgap else 0,
    )
    panel.margins(0)
    if trace.showscale is not False:
        bar = panel.figure.colorbar(image, ax=panel, fraction=0.05, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label(plain_text(_get(trace, "colorbar.title.text", "")))
    if trace.texttemplate:
        template = re.fullmatch(r"%\{(text|z)(?::([^}]*))?\}", trace.texttemplate)
        if template is None:
            raise R1LabError("the static picture knows the heatmap texts '%{z:.2f}' and '%{text}'.")
        shown = trace.text if template.group(1) == "text" else z
        for i, j in np.ndindex(z.shape):
            label = shown[i][j]
            if label is None or (isinstance(label, float) and np.isnan(label)):
                continue
            label = _number(label, template.group(2)) if template.group(1) == "z" else label
            red, green, blue, _ = image.cmap(image.norm(z[i, j]))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            panel.text(
                x[j],
                y[i],
                plain_text(label),
                ha="center",
                va="center",
                color="white" if dark else INK,
                fontsize=_get(trace, "textfont.size", 13) * PX,
            )
    return None


def _edges(centres: np.ndarray) -> np.ndarray:
    """The borders between cells with these centres: (N,) -> (N + 1,)."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.r_[
        centres[0] - (middle[0] - centres[0]), middle, centres[-1] + (centres[-1] - middle[-1])
    ]


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))


# --- around the panels ---------------------------------------------------------------------------


def _place(picture, panels, plot_area, xref: str, yref: str):
    """The transform for a pair of plotly references: data, 'x domain' or 'paper'."""
    from matplotlib.transforms import blended_transform_factory

    found = []
    for index, reference in enumerate((xref or "paper", yref or "paper")):
        axis, _, domain = reference.partition(" ")
        panel = next((p for pair, p in panels.items() if pair[index] == axis), None)
        if axis == "container":
            found.append(picture.transFigure)
        elif axis == "paper" or panel is None:
            found.append(plot_area)
        else:
            found.append(panel.transAxes if domain else panel.transData)
    return blended_transform_factory(*found)


def _is_log_data(panels, reference: str, index: int) -> bool:
    panel = next((p for pair, p in panels.items() if pair[index] == reference), None)
    return panel is not None and getattr(panel, f"get_{'xy'[index]}scale")() == "log"


def _draw_shape(picture, panels, plot_area, shape) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    where = _place(picture, panels, plot_area, shape.xref, shape.yref)
    below = shape.layer == "below"
    ink, wide = (
        _colour(shape.line.color, INK),
        (2 if shape.line.width is None else shape.line.width),
    )
    if shape.type == "line":
        picture.add_artist(
            Line2D(
                [shape.x0, shape.x1],
                [shape.y0, shape.y1],
                transform=where,
                color=ink,
                linewidth=wide * PX,
                zorder=-1 if below else 3,
                alpha=1.0 if shape.opacity is None else shape.opacity,
                linestyle=DASHES.get(shape.line.dash or "solid", "-"),
            )
        )
    elif shape.type == "rect":
        picture.add_artist(
            Rectangle(
                (shape.x0, shape.y0),
                shape.x1 - shape.x0,
                shape.y1 - shape.y0,
                transform=where,
                facecolor=_colour(shape.fillcolor, "none"),
                edgecolor=ink if wide else "none",
                alpha=shape.opacity,
                linewidth=wide * PX,
                zorder=-1 if below else 3,
            )
        )
    else:
        raise R1LabError(
            f"the static picture cannot draw a {shape.type!r} shape: use 'line' or 'rect'."
        )


def _draw_annotation(picture, panels, plot_area, note, layout) -> None:
    where = _place(picture, panels, plot_area, note.xref, note.yref)
    x = _note_place(panels, layout, note, "x")
    y = _note_place(panels, layout, note, "y")  # on a log axis plotly places notes by log10
    x = 10.0**x if _is_log_data(panels, note.xref or "", 0) else x
    y = 10.0**y if _is_log_data(panels, note.yref or "", 1) else y
    arrow = note.showarrow is not False
    dx, dy = (
        (-10 if note.ax is None else note.ax, -(-30 if note.ay is None else note.ay))
        if arrow
        else (note.xshift or 0, note.yshift or 0)
    )
    ha = {"left": "left", "right": "right"}.get(note.xanchor or "", "center")
    va = {"top": "top", "bottom": "bottom"}.get(note.yanchor or "", "center")
    artist = picture.add_artist(
        _annotation(
            plain_text(note.text),
            (x, y),
            where,
            (dx * PX, dy * PX),
            ha,
            va,
            _get(note, "font.size", _get(layout, "annotationdefaults.font.size", 13)) * PX,
            _colour(_get(note, "font.color"), INK),
            {"arrowstyle": "->", "color": _colour(note.arrowcolor, "#555555"), "lw": 1}
            if arrow and note.arrowhead != 0
            else None,
            -(note.textangle or 0),
        )
    )
    if note.bgcolor:
        artist.set_bbox({"facecolor": _colour(note.bgcolor), "edgecolor": "none", "pad": 2})
    if note.align:
        artist.set_multialignment(note.align)


def _note_place(panels, layout, note, letter: str) -> float:
    """Where a note stands along x or y, categories by their place on the axis."""
    value, reference = note[letter], note[f"{letter}ref"]
    if isinstance(value, str):
        panel = next(p for pair, p in panels.items() if pair["xy".index(letter)] == reference)
        return panel._r1lab_categories[letter].index(value)
    return value


def _annotation(text, at, where, offset, ha, va, size, ink, arrow, angle):
    from matplotlib.text import Annotation

    return Annotation(
        text,
        at,
        xytext=offset,
        xycoords=where,
        textcoords="offset points",
        ha=ha,
        va=va,
        fontsize=size,
        color=ink,
        arrowprops=arrow,
        rotation=angle,
        rotation_mode="anchor",
        annotation_clip=False,
        zorder=7,
    )


def _draw_title(picture, layout, edge, width, height) -> None:
    text = layout.title.text
    if not text:
        return
    at = _get(layout, "title.x", 0.05)
    if _get(layout, "title.xref", "container") == "paper":
        at = (edge["l"] + at * (width - edge["l"] - edge["r"])) / width
    ha = {"left": "left", "right": "right", "center": "center"}.get(
        _get(layout, "title.xanchor", "left"), "left"
    )
    size = _get(layout, "title.font.size", 17)
    top = 1 - (14 / height)
    picture.text(
        at,
        top,
        plain_text(text),
        ha=ha,
        va="top",
        fontsize=size * PX,
        linespacing=1.25,
        color=_colour(_get(layout, "title.font.color"), INK),
    )
    subtitle = _get(layout, "title.subtitle.text")
    if subtitle:
        lines = 1 + plain_text(text).count("\n")
        picture.text(
            at,
            top - (lines * size * 1.3 + 4) / height,
            plain_text(subtitle),
            ha=ha,
            va="top",
            color="#555555",
            linespacing=1.25,
            fontsize=_get(layout, "title.subtitle.font.size", 13) * PX,
        )


def _wants_legend(layout: Any, traces: list[Any]) -> bool:
    if layout.showlegend is not None:
        return bool(layout.showlegend)
    return len(traces) > 1


def _draw_legend(picture, panels, layout, handles, edge, width, height) -> None:
    """Across the bottom where the layout says horizontal, else inside the first panel."""
    if not handles:
        return
    marks, names = zip(*handles, strict=True)
    size = _get(layout, "legend.font.size", 13) * PX
    if _get(layout, "legend.orientation") != "h":
        next(iter(panels.values())).legend(marks, names, fontsize=size, frameon=False, loc="best")
        return
    for columns in range(len(marks), 0, -1):
        order = list(chain.from_iterable(range(c, len(marks), columns) for c in range(columns)))
        legend = picture.legend(
            [marks[i] for i in order],
            [names[i] for i in order],
            loc="lower left",
            ncol=columns,
            bbox_to_anchor=(edge["l"] / width, 4 / height),
            frameon=False,
            fontsize=size,
            borderpad=0,
            borderaxespad=0,
            columnspacing=1.6,
            handlelength=2.2,
        )
        box = legend.get_window_extent(picture.canvas.get_renderer())
        if columns == 1 or box.x1 <= (width - 8):
            return
        legend.remove()

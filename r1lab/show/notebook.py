"""Figures as outputs of a notebook.

An output has several forms. JupyterLab with r1lab's extension (show/jupyter) takes the mark, which
holds the width that the figure wants. The extension draws plotly's JSON at the width of the cell,
and draws it again when the kernel sends it anew. Front ends without the extension, and the book,
draw the same JSON with their own plotly. Everything else shows the line of text.
"""

import json
import math
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
from IPython import get_ipython
from IPython.display import display
from jupyter_core.paths import jupyter_path
from tqdm.std import tqdm

from r1lab.basics.errors import R1LabError

MARK, PLOTLY = "application/vnd.r1lab.figure+json", "application/vnd.plotly.v1+json"
EXTENSION = any((Path(p) / "r1lab").exists() for p in jupyter_path("labextensions"))
CONFIG = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
CONFIG["typesetMath"] = False  # $0.55 is a price


def in_notebook() -> bool:
    """Is there a Jupyter kernel that can show things?"""
    return getattr(get_ipython(), "kernel", None) is not None


if in_notebook():  # a progress bar is no error: it goes where print does, not to a red box
    tqdm.__init__ = partialmethod(tqdm.__init__, file=sys.stdout)


def bundle(fig: go.Figure, caption: str = "") -> dict[str, Any]:
    """A figure as a mime bundle: the mark, plotly's JSON with readable hover texts, a line."""
    spec = json.loads(pio.to_json(fig, validate=False, remove_uids=True))
    for trace, written in zip(fig.data, spec["data"], strict=True):
        written |= hover(trace, fig.layout)
    width = spec["layout"].pop("width", 720)
    spec["layout"]["autosize"] = True
    title = (fig.layout.title.text or "figure").replace("<br>", " ")
    return {
        MARK: {"width": width},
        PLOTLY: {**spec, "config": CONFIG},
        "text/plain": f"Figure: {title}. {caption}".strip(),
    }


def html_bundle(markup: str, text: str) -> dict[str, str]:
    """HTML as a mime bundle, in which $0.55 is a price and what a model writes is no formula."""
    return {"text/html": f'<div class="mathjax_ignore">{markup}</div>', "text/plain": text}


def hover(trace: Any, layout: Any) -> dict[str, Any]:
    """What a trace says under the mouse: the axes' titles with the numbers in their units, and the
    interval where there is one. {} where the trace has words of its own, or none."""
    if trace.hovertemplate or trace.hoverinfo:
        return {}
    if trace.type == "heatmap":
        unit = trace.colorbar.title.text or ""
        return {"hovertemplate": f"%{{y}}<br>%{{x}}: %{{z:.3~g}} {unit}<extra></extra>"}
    if trace.type not in ("scatter", "bar", "histogram"):
        return {}
    number = (trace.xaxis or "x")[1:]  # of the panel
    axes = {letter: layout[f"{letter}axis{number}"] for letter in "xy"}
    lines = [_words(axis, trace[letter], letter) for letter, axis in axes.items()]
    more = {}
    if trace.error_y.array is not None:
        form = "{:.1%}" if "%" in (axes["y"].tickformat or "") else "{:.4g}"
        ends = zip(trace.y, trace.error_y.arrayminus, trace.error_y.array, strict=True)
        ends = [(y - down, y + up) for y, down, up in ends]
        known = [not math.isnan(low) and low < high for low, high in ends]
        words = [f"<br>interval: {form} to {form}".format(*pair) for pair in ends]
        more["customdata"] = [w if k else "" for w, k in zip(words, known, strict=True)]
        lines[-1] += "%{customdata}"
    told = (axes["y"].title.text or "").split()  # by the axis of a single series
    name = trace.name if trace.name and trace.name not in told else ""
    template = "<br>".join([name, *lines] if name else lines)
    return {"hovertemplate": f"{template}<extra></extra>", **more}


def _words(axis: Any, values: Any, letter: str) -> str:
    """One line of a hover text: the axis' title and the value in its unit."""
    title = f"{axis.title.text}: " if axis.title.text else ""
    named = values is not None and any(isinstance(value, str) for value in values)
    if named or axis.type == "category":
        return f"{title}%{{{letter}}}"
    form = {"": ",.4~g", ".0%": ".1%"}.get(axis.tickformat or "", axis.tickformat)
    return f"{title}%{{{letter}:{form}}}{axis.ticksuffix or ''}"


class Drawing:
    """One output that can be drawn again in place: a figure or a piece of HTML."""

    def __init__(self) -> None:
        self.handle: Any = None

    def show(self, thing: Any, text: str = "") -> None:
        """Draw a plotly figure (text: its caption) or HTML (text: what stands in for it). Raises
        R1LabError for anything else."""
        if isinstance(thing, go.Figure):
            data = bundle(thing, text)
        elif isinstance(thing, str):
            data = html_bundle(thing, text)
        else:
            words = f"the explored function returned {type(thing).__name__}; return"
            raise R1LabError(f"{words} a plotly figure or a string of HTML.")
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            if not EXTENSION:  # plotly's own renderer draws once; another kind of output ends it
                self.handle.update({"text/plain": data["text/plain"]}, raw=True)
            self.handle.update(data, raw=True)


def figure(fig: go.Figure, caption: str = "") -> None:
    """Display a figure. `caption` describes it to those who cannot see it."""
    display(bundle(fig, caption), raw=True)


def show_html(markup: str, text: str) -> None:
    """Display HTML, with the text that stands in for it where there is none."""
    display(html_bundle(markup, text), raw=True)

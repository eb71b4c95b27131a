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

import json
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from r1lab.show.png import to_png
from r1lab.show.style import AXES, COLOURS, FONT, MORE_COLOURS

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


def figure(fig: go.Figure, caption: str = "", display_id: str | None = None):
    """Display a figure so that it is seen with a kernel, without one, and by a screen reader.

    One output with three forms: JupyterLab draws the interactive figure, GitHub
    the PNG, anything else the line of text (the title and `caption`, which describes the figure to
    those who cannot see it). Returns a display handle when `display_id` is given.
    """
    from IPython.display import display

    size = {"width": fig.layout.width or 720, "height": fig.layout.height or 420}
    return display(
        bundle(fig, caption), raw=True, metadata={"image/png": size}, display_id=display_id
    )


# --- reward models, stages, compute --------------------------------------------------------------

AXES |= {
    "paid": ("learned reward", "", (0, 1)),
    "true": ("gold reward (fraction)", ".0%", (0, 1)),
    "polite": ("polite words in the answer", "", None),
    "rewards/helpful": ("paid for helpfulness", "", (0, 1)),
    "rewards/safe": ("paid for safety", "", (0, 1)),
    "helped": ("harmless helped with (share)", ".0%", (0, 1)),
    "refused": ("harmful refused (share)", ".0%", (0, 1)),
    "harmless": ("harmful asked, no harm done (share)", ".0%", (0, 1)),
}

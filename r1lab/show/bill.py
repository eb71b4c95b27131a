"""What the stages cost, ours beside the paper's."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from r1lab.basics.errors import R1LabError
from r1lab.paper import COSTS
from r1lab.show.style import COLOURS, finish


def cost_shares(rows: Sequence[dict[str, Any]], *, with_base: bool = False) -> go.Figure:
    """The share of each stage in the whole cost, in pairs of bars: here (of the seconds) and in the
    paper (of the dollars). rows: `r1lab.bill.beside`; with_base: pre-training included, whose
    figure is the news's. Raises R1LabError where nothing was spent."""
    key = "share_with_base" if with_base else "share"
    kept = [row for row in rows if row["stage"] != "in all" and row[key] is not None]
    if not kept:
        raise R1LabError("nothing to draw: no stage of this tree has taken any time")
    names, fig = [row["stage"].replace(" in the", "<br>in the") for row in kept], go.Figure()
    series = (("here, seconds", key, "trained"), ("paper, dollars", f"paper_{key}", "paper"))
    for label, which, ink in series:
        shares = [row[which] for row in kept]
        words = ["" if share is None else f"{share:.1%}" for share in shares]
        fig.add_bar(
            x=names, y=shares, name=label, text=words, textposition="outside", cliponaxis=False,
            marker={"color": COLOURS[ink]},
        )  # fmt: skip
    fig.update_yaxes(title_text="share of the cost", tickformat=".0%", range=[0, 1.08])
    fig.update_layout(barmode="group")
    source = f"{COSTS['source']}; base: {COSTS['base']['source']}" if with_base else COSTS["source"]
    return finish(fig, "What each stage cost", f"Paper: {source}.")

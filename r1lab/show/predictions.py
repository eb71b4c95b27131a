"""A reader's prediction of a result: entered before the cell runs, drawn into the result.

    guess = show.predict("pass@1 after RL", 0, 1, folder=out)
    ...
    show.figure(guess.draw(show.learning_curves(history)))

Nothing waits for it: without an entry, as under papermill, `draw` leaves the figure as it is.
"""

import os
from pathlib import Path

import ipywidgets
import plotly.graph_objects as go
from IPython.display import display

from r1lab.basics.files import read_json, write_json
from r1lab.show.widgets import LOOK

INK = "#CC79A7"


class Prediction:
    """What a reader expects: `band` is (low, high), or None until it is entered."""

    def __init__(self, what: str, unit: str, path: Path) -> None:
        self.what, self.unit, self.path = what, unit, path
        kept = (read_json(path) or {}).get(what)
        self.band = tuple(kept) if kept else None

    def enter(self, low: float, high: float) -> None:
        """Keep the prediction, also for the next kernel."""
        self.band = (float(low), float(high))
        write_json(self.path, (read_json(self.path) or {}) | {self.what: self.band})

    def words(self) -> str:
        if self.band is None:
            return f"Predict: {self.what}. (Enter it here in JupyterLab; the result shows it.)"
        share = self.unit == "share"
        low, high = (f"{x:.0%}" if share else f"{x:,.4g}" for x in self.band)
        unit = "" if share else self.unit
        return f"Your prediction of {self.what}: {low} to {high} {unit}".strip()

    def draw(self, fig: go.Figure, panel: int = 1) -> go.Figure:
        """`fig` with the prediction as a band across a panel (the first is 1)."""
        if self.band is None:
            return fig
        low, high = self.band
        fig.add_hrect(
            low, high, row=1, col=panel, fillcolor=INK, opacity=0.2, line_width=0, layer="below",
            annotation={"text": "your prediction", "font": {"color": INK, "size": 13}},
            annotation_position="inside top left",
        )  # fmt: skip
        y = fig.layout[f"yaxis{panel if panel > 1 else ''}"]
        if y.range and y.range[1] < high:
            y.range = (y.range[0], 1.05 * high)
        return fig


def predict(
    what: str, low: float, high: float, unit: str = "share", *, folder: str | os.PathLike
) -> Prediction:
    """A slider with two ends, from low to high, for the range in which a reader expects `what`.

    It is kept in <folder>/predictions.json once it is moved. unit: "share" is shown in per cent.
    Returns the Prediction."""
    guess = Prediction(what, unit, Path(folder) / "predictions.json")
    guess.slider = slider = ipywidgets.FloatRangeSlider(
        value=guess.band or (low, high), min=low, max=high, step=(high - low) / 100,
        readout_format=".0%" if unit == "share" else ",.3g", layout={"width": "440px"},
    )  # fmt: skip
    told = ipywidgets.Label(f"I expect {what} within:")

    def enter(change) -> None:
        guess.enter(*change["new"])
        told.value = guess.words()

    slider.observe(enter, names="value")
    data = ipywidgets.VBox([told, slider], **LOOK)._repr_mimebundle_()
    display({**data, "text/plain": guess.words()}, raw=True)
    return guess

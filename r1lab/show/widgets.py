"""Controls for the lessons that still make sense when nobody can move them.

A notebook is read live in JupyterLab, executed by papermill, and as a page without a kernel. A
slider works only in the first. So the result is drawn first, as an ordinary output, and the control
comes after it. No later cell depends on a click. Live, moving the control draws that same output
again; without a kernel the drawing stands, and a sentence stands where the control was.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
from IPython.display import display

from r1lab.basics.errors import R1LabError
from r1lab.rewards import combine, get_reward
from r1lab.show.notebook import Drawing
from r1lab.show.objective import objective_with_kl
from r1lab.show.text import completion_html, safe_text
from r1lab.templates import parse

NO_KERNEL = "(Interactive here: open this notebook in JupyterLab and run it to move the controls.)"
AGAIN = "<small>After reloading the page, run this cell again to use its controls.</small>"
LOOK = {"style": {"description_width": "initial"}}


def attach(*rows: Any) -> None:
    """Show widgets below each other, with a sentence for readers who see no widgets."""
    data = ipywidgets.VBox([*rows, ipywidgets.HTML(AGAIN)])._repr_mimebundle_()
    display({**data, "text/plain": NO_KERNEL}, raw=True)


def explorer(function: Callable[..., Any], *, caption: str = "", **sliders: Any) -> dict[str, Any]:
    """Draw function(...) at the sliders' first values, then let a reader move them.

    function returns a plotly figure or HTML. Each slider is (default, low, high, step) for numbers
    (whole when all four are), a list for a choice (the first is the default), True or False for a
    box, or an ipywidget of your own. Example:

        explorer(lambda low, high: show.clip_objective(low, high),
                 low=(0.2, 0.0, 0.5, 0.05), high=(0.2, 0.0, 0.5, 0.05))

    Returns the controls, {name: widget}. Raises R1LabError for a slider it cannot read.
    """
    controls = {name: _control(name, spec) for name, spec in sliders.items()}
    drawing = Drawing()

    def redraw(_change: Any = None) -> None:
        drawing.show(function(**{name: c.value for name, c in controls.items()}), caption)

    redraw()
    for control in controls.values():
        control.observe(redraw, names="value")
    if controls:
        attach(*controls.values())
    return controls


def _control(name: str, spec: Any) -> ipywidgets.Widget:
    if isinstance(spec, ipywidgets.Widget):
        return spec
    look = {"description": name.replace("_", " "), **LOOK, "layout": {"width": "440px"}}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **look)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, value=spec[0], **look)
    if isinstance(spec, tuple) and len(spec) == 4 and spec[1] <= spec[0] <= spec[2]:
        value, low, high, step = spec
        # continuous_update=False: redraw when the slider is let go, not at every pixel
        look |= {"value": value, "min": low, "max": high, "step": step, "continuous_update": False}
        if all(isinstance(x, int) for x in spec):
            return ipywidgets.IntSlider(**look)
        return ipywidgets.FloatSlider(readout_format=".3g", **look)
    words = "give (default, low, high, step), a list of choices, True or False, or a widget"
    raise R1LabError(f"slider {name!r}: {words}; not {spec!r}.")


def objective_explorer(*, kl_coef: float = 0.001) -> dict[str, Any]:
    """One token's clipped objective with its KL term, by advantage, clip range and coefficient."""
    return explorer(
        objective_with_kl,
        caption="The objective of one token against the ratio of the policies.",
        advantage=(1.0, -2.0, 2.0, 0.25),
        clip_low=(0.2, 0.0, 0.8, 0.05),
        clip_high=(0.2, 0.0, 0.8, 0.05),
        kl_coef=(float(kl_coef), 0.0, 1.0, 0.001),
        estimator=["k3", "k1", "k2"],
    )


def reward_html(
    problem: Any,
    text: str,
    *,
    rewards: Sequence[Any] = ("accuracy", "format"),
    weights: Sequence[float] | None = None,
) -> str:
    """How one completion of a problem is read: its parse and what each reward gives.

    rewards: names of r1lab.rewards, or functions, such as a reward model. weights: in their sum; 1
    each by default. Everything written is shown as text.
    """
    weights = [1.0] * len(rewards) if weights is None else list(weights)
    functions = [get_reward(one) if isinstance(one, str) else one for one in rewards]
    total, parts = combine([text], [problem], functions, weights)
    parsed = parse(text)
    rows = [
        ("the thought", "none" if parsed.think is None else f"“{parsed.think}”"),
        ("the answer", "none" if parsed.answer is None else f"“{parsed.answer}”"),
        ("one thought, one answer, nothing else", "yes" if parsed.well_formed else "no"),
    ]
    for (name, values), weight in zip(parts.items(), weights, strict=True):
        rows.append((f"{name} reward × {weight:g}", f"{values[0]:g}"))
    rows.append(("their sum", f"{total[0]:g}"))
    look = "text-align:left;font-weight:600;padding:2px 18px 2px 0"
    cells = "".join(
        f'<tr><th style="{look}">{safe_text(name)}</th>'
        f'<td style="text-align:left">{safe_text(value)}</td></tr>'
        for name, value in rows
    )
    written = completion_html(text.split(), title="what was written", prompt=problem.question)
    return f"{written}<table>{cells}</table>"


def reward_playground(
    problem: Any,
    completion: str = "",
    *,
    rewards: Sequence[Any] = ("accuracy", "format"),
    weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Write a completion, see how it is read and what each reward gives.

    Drawn first: the reading of `completion`. Live: a box to change it in. rewards: as in
    `reward_html`. Returns the controls, {"completion": Textarea}.
    """
    completion = completion or "<think> first guess </think> <answer> 1 + 2 </answer>"
    layout = {"width": "720px", "height": "110px"}
    box = ipywidgets.Textarea(value=completion, continuous_update=False, layout=layout)
    return explorer(
        lambda completion: reward_html(problem, completion, rewards=rewards, weights=weights),
        caption=completion,
        completion=box,
    )

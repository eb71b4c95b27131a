"""Controls for the lessons that still make sense when nobody can move them.

A notebook is read in three ways: live in JupyterLab, executed by papermill, and as a page with no
kernel at all. A slider works only in the first. So everything here follows one rule: *draw the
result first, as an ordinary output; attach the control after*. No later cell depends on a click.
Where there is no kernel the control shows nothing and the drawing stands; live, moving the control
redraws that same output in place (a display handle), so there is never a second copy.

Only ipywidgets is used: plotly's own FigureWidget needs another package and draws nothing on a
page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from r1lab.basics.errors import R1LabError
from r1lab.show.bars import advantage_bars
from r1lab.show.curves import learning_curves
from r1lab.show.notebook import bundle
from r1lab.show.objective import objective_with_kl
from r1lab.show.text import MOST_TOKENS, compare_completions, completion_html, safe_text

NO_KERNEL = "(Interactive here: open this notebook in JupyterLab and run it to move the controls.)"


def in_notebook() -> bool:
    """Is there a Jupyter kernel that can show things?"""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def attach(control: Any) -> None:
    """Show a widget, with a sentence for readers who see no widgets (GitHub shows that text)."""
    from IPython.display import display

    bundle = control._repr_mimebundle_()
    data = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    display({**data, "text/plain": NO_KERNEL}, raw=True)


class _Drawing:
    """One output cell that can be drawn again in place: a figure or a piece of HTML."""

    def __init__(self) -> None:
        self.display_id, self.drawn = uuid4().hex, False

    def show(self, thing: Any, text: str = "") -> None:
        from IPython.display import display, update_display

        metadata: dict[str, Any] = {}
        if hasattr(thing, "to_plotly_json"):
            data = bundle(thing, text)
            metadata = {
                "image/png": {
                    "width": thing.layout.width or 720,
                    "height": thing.layout.height or 420,
                }
            }
        elif isinstance(thing, str):
            data = {"text/html": thing, "text/plain": text}
        else:
            raise R1LabError(
                f"the explored function returned {type(thing).__name__}; return a "
                "plotly figure or a string of HTML."
            )
        put = update_display if self.drawn else display
        put(data, raw=True, metadata=metadata, display_id=self.display_id)
        self.drawn = True


# --- any function of a few numbers ---------------------------------------------------------------


def explorer(function: Callable[..., Any], *, caption: str = "", **sliders: Any) -> Any:
    """Draw function(...) at the sliders' first values, then let a reader move them.

    function returns a plotly figure or HTML. Each slider is (default, low, high, step) for numbers
    (whole when all four are), a list for a choice (the first is the default), True or False for a
    box, or an ipywidget of your own. Example:

        explorer(lambda low, high: plots.clip_objective(low, high),
                 low=(0.2, 0.0, 0.5, 0.05), high=(0.2, 0.0, 0.5, 0.05))

    Returns the controls, {name: widget}. Raises R1LabError for a slider it cannot read.
    """
    controls = {name: _control(name, spec) for name, spec in sliders.items()}
    drawing = _Drawing()

    def redraw(_change: Any = None) -> None:
        drawing.show(function(**{name: c.value for name, c in controls.items()}), caption)

    redraw()
    if controls:
        import ipywidgets

        for control in controls.values():
            control.observe(redraw, names="value")
        attach(ipywidgets.VBox(list(controls.values())))
    return controls


def _control(name: str, spec: Any) -> Any:
    import ipywidgets

    look = {
        "description": name.replace("_", " "),
        "style": {"description_width": "initial"},
        "layout": ipywidgets.Layout(width="440px"),
    }
    if isinstance(spec, ipywidgets.Widget):
        return spec
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, **look)
    if isinstance(spec, list) and spec:
        return ipywidgets.Dropdown(options=spec, value=spec[0], **look)
    if isinstance(spec, tuple) and len(spec) == 4 and spec[1] <= spec[0] <= spec[2]:
        kind = (
            ipywidgets.IntSlider
            if all(isinstance(x, int) for x in spec)
            else ipywidgets.FloatSlider
        )
        # continuous_update=False: redraw when the slider is let go, not at every pixel
        look |= {} if kind is ipywidgets.IntSlider else {"readout_format": ".3g"}
        return kind(
            value=spec[0], min=spec[1], max=spec[2], step=spec[3], continuous_update=False, **look
        )
    raise R1LabError(
        f"slider {name!r}: give (default, low, high, step), a list of choices, True or "
        f"False, or a widget; not {spec!r}."
    )


# --- sampled answers -----------------------------------------------------------------------------

Sample = Mapping[str, Any]


def load_samples(path: Any) -> list[dict[str, Any]]:
    """The samples that a training run kept (samples.jsonl in its folder), as a list of dicts.

    A last line cut short by a killed run is left out. Raises R1LabError when there are none.
    """
    path = Path(path)
    path = path / "samples.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise R1LabError(f"{path.name} is not there: train first, or give the run's folder.")
    samples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            samples.append(json.loads(line))
        except ValueError:
            continue
    if not samples:
        raise R1LabError(f"{path.name} holds no samples yet: train a few steps more.")
    return samples


def samples_of(evaluation: Any, tokenizer: Any, per_problem: int = 2) -> list[dict[str, Any]]:
    """The first answers to each problem of an Evaluation in the form of `load_samples`.

    Their "step" is the number of the problem; they carry log-probs, not advantages.
    """
    return [
        {
            "step": number,
            "prompt": problem.question,
            "text": one.text,
            "correct": one.correct,
            "tokens": [tokenizer.decode([i]) for i in one.token_ids] or one.text.split(),
            "logprobs": one.logprobs or None,
        }
        for number, (problem, row) in enumerate(
            zip(evaluation.problems, evaluation.completions, strict=True)
        )
        for one in row[:per_problem]
    ]


def sample_html(sample: Sample, kind: str = "advantage", label: str = "step") -> str:
    """One kept sample as HTML: what was asked, what was paid, the answer coloured by `kind`."""
    tokens = list(sample.get("tokens") or str(sample.get("text", "")).split())
    values = None
    if kind == "logprob":
        values = sample.get("logprobs")
    elif kind == "advantage" and sample.get("advantage") is not None:
        values = [sample["advantage"]] * len(tokens)  # GRPO pays every token alike
    if values is not None and len(values) != len(tokens):
        values = None
    facts = {name: sample[name] for name in ("reward", "advantage") if sample.get(name) is not None}
    verdict = {True: "right", False: "wrong"}.get(sample.get("correct"), "not judged")
    return completion_html(
        tokens,
        values,
        kind if values is not None else "plain",
        title=f"{label} {sample.get('step', 0)}: {verdict}, {len(tokens)} tokens",
        prompt=str(sample.get("prompt", "")),
        facts=facts,
    )


def rollout_inspector(
    samples: Sequence[Sample], *, kind: str = "advantage", label: str = "step"
) -> dict[str, Any]:
    """Read what a model wrote, step by step, right or wrong, coloured by advantage or log-prob.

    samples: as `load_samples` gives them. Drawn first: an answer of the first and one of the last
    step beside each other. Below them, live: a slider over the steps, a choice of right and wrong
    answers, of the answer and of the colour. Returns the controls. `label`: what "step" counts.
    """
    import ipywidgets

    samples = list(samples)
    if not samples:
        raise R1LabError("no samples to inspect: train a few steps first.")
    steps = sorted({int(sample.get("step", 0)) for sample in samples})
    verdicts = {"right and wrong": None, "right": True, "wrong": False}
    look = {"style": {"description_width": "initial"}}
    controls = {
        "step": ipywidgets.SelectionSlider(
            options=steps, value=steps[-1], description=label, continuous_update=False, **look
        ),
        "verdict": ipywidgets.Dropdown(options=list(verdicts), description="show", **look),
        "answer": ipywidgets.BoundedIntText(
            value=1, min=1, max=len(samples), description="answer", **look
        ),
        "kind": ipywidgets.Dropdown(
            options=["advantage", "logprob", "plain"], value=kind, description="colour", **look
        ),
    }
    drawing = _Drawing()

    def page() -> tuple[str, str]:
        wanted = verdicts[controls["verdict"].value]
        found = [
            sample
            for sample in samples
            if int(sample.get("step", 0)) == controls["step"].value
            and wanted in (None, sample.get("correct"))
        ]
        if not found:
            return (
                f"<p>{safe_text(label)} {controls['step'].value} kept no answer that is "
                f"{controls['verdict'].value}.</p>",
                "no such answer",
            )
        number = min(controls["answer"].value, len(found))
        text = f"<p>Answer {number} of {len(found)}.</p>"
        return (
            text + sample_html(found[number - 1], controls["kind"].value, label),
            str(found[number - 1].get("text", "")),
        )

    first = next(s for s in samples if int(s.get("step", 0)) == steps[0])
    last = next(s for s in samples if int(s.get("step", 0)) == steps[-1])
    opening = [first] if len(steps) == 1 else [first, last]
    markup = "".join(f"<div>{sample_html(sample, kind, label)}</div>" for sample in opening)
    drawing.show(
        f'<div class="r1c-two">{markup}</div>',
        "\n\n".join(str(sample.get("text", "")) for sample in opening),
    )
    for control in controls.values():
        control.observe(lambda _change: drawing.show(*page()), names="value")
    attach(
        ipywidgets.VBox(
            [
                ipywidgets.HBox([controls["step"], controls["verdict"]]),
                ipywidgets.HBox([controls["answer"], controls["kind"]]),
            ]
        )
    )
    return controls


def answers_beside(evaluations: Mapping[str, Any]) -> dict[str, Any]:
    """What two models answered to the same problems, side by side.

    evaluations: {label: evaluate.Evaluation}, two of them. Drawn first: the first answers to the
    first problem. Below, live: sliders over problems and answers. Returns the controls. Raises
    R1LabError for other than two, or other problems.
    """
    asked = [[problem.id for problem in one.problems] for one in evaluations.values()]
    if len(asked) != 2 or asked[0] != asked[1] or not asked[0]:
        raise R1LabError("two models and the same problems are needed to lay answers side by side.")
    most = min(int(one.n.min()) for one in evaluations.values())

    def page(problem: int, answer: int) -> str:
        pair = []
        for label, result in evaluations.items():
            one = result.completions[problem - 1][answer - 1]
            verdict = "right" if one.correct else "wrong"
            pair.append(
                {
                    "tokens": one.text.split(),
                    "title": f"{label}: {verdict}, {one.length} tokens",
                    "prompt": result.problems[problem - 1].question,
                }
            )
        return compare_completions(*pair)

    caption = " and ".join(evaluations) + ": answers to the same problem."
    return explorer(page, caption=caption, problem=(1, 1, len(asked[0]), 1), answer=(1, 1, most, 1))


def funnel_inspector(found: Any) -> dict[str, Any]:
    """Read what each filter of a `rejection.Funnel` took, and what was kept.

    Drawn first: one answer for each filter that took any, and one that was kept, long ones
    shortened. Below them, live: a choice of the filter, and of the answer, which is then whole.
    Returns the controls. Raises R1LabError when nothing was drawn.
    """
    import ipywidgets

    kept = [(one.problem, one.completion) for one in found.examples]
    groups = {
        f"taken by “{name}”": [(problem, one.text) for problem, one in rows]
        for name, rows in found.fallen.items()
    } | {"kept": kept}
    groups = {name: rows for name, rows in groups.items() if rows}
    if not groups:
        raise R1LabError("no answers to inspect: the funnel is empty.")
    most = max(map(len, groups.values()))
    look = {"style": {"description_width": "initial"}}
    controls = {
        "which": ipywidgets.Dropdown(options=list(groups), description="answers", **look),
        "answer": ipywidgets.BoundedIntText(value=1, min=1, max=most, description="answer", **look),
    }
    drawing = _Drawing()

    def answer(name: str, number: int, words: int) -> tuple[str, str]:
        rows = groups[name]
        number = min(number, len(rows))
        problem, text = rows[number - 1]
        tokens = _shortened(text.split(), words)
        title = f"{name}: {number} of {len(rows):,}"
        markup = completion_html(tokens, title=title, prompt=problem.question)
        return markup, f"{title}\n{problem.question}\n{' '.join(tokens)}"

    opening = [answer(name, 1, 48) for name in groups]
    drawing.show("".join(one for one, _ in opening), "\n\n".join(text for _, text in opening))
    for control in controls.values():
        control.observe(
            lambda _change: drawing.show(
                *answer(controls["which"].value, controls["answer"].value, MOST_TOKENS)
            ),
            names="value",
        )
    attach(ipywidgets.HBox(list(controls.values())))
    return controls


def _shortened(tokens: Sequence[str], most: int) -> list[str]:
    """The beginning and the end, with a mark between, of what has more than `most` tokens."""
    if len(tokens) <= most:
        return list(tokens)
    return [*tokens[: 2 * most // 3], "[…]", *tokens[-(most // 3) :]]


# --- rewards, advantages, objective --------------------------------------------------------------


def reward_html(
    problem: Any,
    text: str,
    *,
    rewards: Sequence[Any] = ("accuracy", "format"),
    weights: Sequence[float] | None = None,
) -> str:
    """How one completion of a problem is read: its parse and what each reward pays.

    rewards: names of r1lab.rewards, or functions, such as a learned judge. weights: in their sum; 1
    each by default. Everything written is shown as text.
    """
    from r1lab.rewards import combine, get_reward
    from r1lab.templates import parse

    weights = [1.0] * len(rewards) if weights is None else list(weights)
    functions = [get_reward(one) if isinstance(one, str) else one for one in rewards]
    total, parts = combine([text], [problem], functions, weights)
    parsed = parse(text)
    rows = [
        ("the thought", "none" if parsed.think is None else f"“{parsed.think}”"),
        ("the answer", "none" if parsed.answer is None else f"“{parsed.answer}”"),
        ("one thought, one answer, nothing else", "yes" if parsed.well_formed else "no"),
        *(
            (f"{name} reward × {weight:g}", f"{values[0]:g}")
            for (name, values), weight in zip(parts.items(), weights, strict=True)
        ),
        ("their sum", f"{total[0]:g}"),
    ]
    cells = "".join(
        f'<tr><th style="text-align:left;font-weight:600;padding:2px 18px 2px 0">'
        f"{safe_text(name)}</th>"
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
    """Write a completion, see how it is read and what each reward pays.

    Drawn first: the reading of `completion`. Live: a box to change it in. rewards: as in
    `reward_html`. Returns the controls, {"completion": Textarea}.
    """
    import ipywidgets

    completion = completion or "<think> first guess </think> <answer> 1 + 2 </answer>"
    box = ipywidgets.Textarea(
        value=completion,
        continuous_update=False,
        layout=ipywidgets.Layout(width="720px", height="110px"),
    )
    return explorer(
        lambda completion: reward_html(problem, completion, rewards=rewards, weights=weights),
        caption=completion,
        completion=box,
    )


def advantage_explorer(
    rewards: Sequence[float] = (1, 0, 0, 1, 0, 0),
    *,
    methods: Sequence[str] = ("grpo", "dr_grpo", "rloo"),
    choices: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0),
) -> dict[str, Any]:
    """One group's rewards, each set by a slider, and the advantages that each method makes of them.

    Drawn first: the bars at `rewards` (G). choices: what a slider can pay. Returns the controls.
    """
    import ipywidgets
    import torch

    from r1lab.advantages import ADVANTAGES

    unknown = [name for name in methods if name not in ADVANTAGES]
    if unknown:
        raise R1LabError(f"advantage {unknown[0]!r} is not known: one of {', '.join(ADVANTAGES)}.")
    options = sorted({float(r) for r in (*choices, *rewards)})

    def bars(**paid: float):
        group = torch.tensor([list(paid.values())])  # (1, G)
        values = {name: ADVANTAGES[name](group)[0].tolist() for name in methods}
        return advantage_bars(list(paid.values()), values)

    sliders = {
        f"answer_{i}": ipywidgets.SelectionSlider(
            options=options,
            value=float(reward),
            description=f"reward of answer {i}",
            continuous_update=False,
            style={"description_width": "initial"},
        )
        for i, reward in enumerate(rewards, 1)
    }
    return explorer(bars, caption="Advantages of one group's answers by method.", **sliders)


def objective_explorer(
    *, advantage: float = 1.0, clip: float = 0.2, kl_coef: float = 0.001, estimator: str = "k3"
) -> dict[str, Any]:
    """One token's clipped objective with its KL term, by advantage, clip range and coefficient."""
    return explorer(
        lambda advantage, clip_low, clip_high, kl_coef, estimator: objective_with_kl(
            advantage,
            clip_low=clip_low,
            clip_high=clip_high,
            kl_coef=kl_coef,
            estimator=estimator,
        ),
        caption="The objective of one token against the ratio of the policies.",
        advantage=(float(advantage), -2.0, 2.0, 0.25),
        clip_low=(float(clip), 0.0, 0.8, 0.05),
        clip_high=(float(clip), 0.0, 0.8, 0.05),
        kl_coef=(float(kl_coef), 0.0, 1.0, 0.001),
        estimator=[estimator, *(name for name in ("k1", "k2", "k3") if name != estimator)],
    )


# --- training, live ------------------------------------------------------------------------------


class live_dashboard:
    """A callback for `grpo.train` that draws the curves while they grow.

        dashboard = live_dashboard(steps=config.steps)
        history = grpo.train(..., callbacks=[dashboard])
        dashboard.finish()

    One output is drawn again in place, at most every `seconds` and at the last step, so a notebook
    keeps one figure however long the run. Drawing costs training time, so a machine that draws
    slowly is asked less often: drawing takes 3 % of the time at most. `history`: metrics of the
    steps before, when a run is resumed. Outside a notebook it only keeps the metrics.
    """

    def __init__(
        self,
        steps: int | None = None,
        *,
        seconds: float = 5.0,
        keys: Sequence[str] = ("accuracy", "length", "reflection"),
        label: str = "trained",
        title: str = "R1-Zero training, live",
        history: Sequence[Mapping] = (),
        paper: Mapping | None = None,
    ) -> None:
        self.steps, self.seconds, self.keys, self.label = steps, seconds, tuple(keys), label
        self.title, self.paper = title, paper
        self.history: list[Mapping[str, Any]] = list(history)
        self._drawing, self._drawn_at, self._behind = _Drawing(), -float("inf"), False
        self._cost = 0.0  # seconds that the last drawing took

    def __call__(self, step: int, metrics: Mapping[str, Any], batch: Any = None) -> None:
        self.history.append({"step": step, **metrics})
        self._behind = True
        last = self.steps is not None and step >= self.steps - 1
        rested = time.monotonic() - self._drawn_at
        if last or rested >= max(self.seconds, 30 * self._cost):
            self.finish()

    def finish(self) -> None:
        """Draw what has come in since the last drawing; nothing when there is nothing new."""
        if not self._behind or not in_notebook():
            return
        began = time.monotonic()
        done = f"{self.history[-1]['step']}" + (f" of {self.steps}" if self.steps else "")
        self._drawing.show(
            learning_curves(
                {self.label: [self.history]},
                keys=self.keys,
                paper=self.paper,
                title=f"{self.title}: step {done}",
            ),
            "Metrics of each training step so far.",
        )
        self._drawn_at, self._behind = time.monotonic(), False
        self._cost = self._drawn_at - began

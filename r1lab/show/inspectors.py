"""Reading what models wrote: by step, by filter, two models beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from r1lab.basics.errors import R1LabError
from r1lab.show.notebook import Drawing
from r1lab.show.text import MOST_TOKENS, compare_completions, completion_html
from r1lab.show.widgets import LOOK, attach, explorer

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
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            samples.append(json.loads(line))
        except ValueError:
            continue
    if not samples:
        raise R1LabError(f"{path.name} holds no samples yet: train a few steps more.")
    return samples


def samples_of(evaluation: Any, tokenizer: Any, per_problem: int = 2) -> list[dict[str, Any]]:
    """The first completions of each problem of an Evaluation in the form of `load_samples`.

    Their "step" is the number of the problem, from 1; they carry log-probs, not advantages.
    """
    rows = zip(evaluation.problems, evaluation.completions, strict=True)
    return [
        {
            "step": number,
            "prompt": problem.question,
            "text": one.text,
            "correct": one.correct,
            "tokens": [tokenizer.decode([i]) for i in one.token_ids] or one.text.split(),
            "logprobs": one.logprobs or None,
        }
        for number, (problem, row) in enumerate(rows, 1)
        for one in row[:per_problem]
    ]


def sample_html(sample: Sample, kind: str = "advantage", label: str = "step") -> str:
    """One kept sample as HTML: the prompt, its reward, the completion coloured by `kind`."""
    tokens = list(sample.get("tokens") or str(sample.get("text", "")).split())
    values = None
    if kind == "logprob":
        values = sample.get("logprobs")
    elif kind == "advantage" and sample.get("advantage") is not None:
        values = [sample["advantage"]] * len(tokens)  # the same for every token
    if values is not None and len(values) != len(tokens):
        values = None
    length = sample.get("length") or len(tokens)
    verdict = {True: "correct", False: "incorrect"}.get(sample.get("correct"), "not verified")
    return completion_html(
        tokens, values, kind if values is not None else "plain",
        title=f"{label} {sample.get('step', 0)}: {verdict}, {length} tokens",
        prompt=str(sample.get("prompt", "")),
        facts={key: sample[key] for key in ("reward", "advantage") if sample.get(key) is not None},
    )  # fmt: skip


class Pages:
    """One drawing with a choice below it and a number from 1 to as many pages as it has.

    opening: (HTML, text), drawn first. groups: a function of the choices that returns the pages,
    each a function that returns (HTML, text).
    """

    def __init__(self, opening: tuple[str, str], groups, choices: dict[str, Any]) -> None:
        self.drawing, self.groups, self.choices = Drawing(), groups, choices
        self.number = ipywidgets.BoundedIntText(
            value=1, min=1, max=1, description="completion", layout={"width": "170px"}, **LOOK
        )
        self.of = ipywidgets.Label()
        self.drawing.show(*opening)
        self.count()
        for control in (*choices.values(), self.number):
            control.observe(self.turn, names="value")
        wrapped = {"flex_flow": "row wrap"}
        attach(
            ipywidgets.HBox(list(choices.values()), layout=wrapped),
            ipywidgets.HBox([self.number, self.of], layout=wrapped),
        )

    def count(self) -> list:
        pages = self.groups(**{name: one.value for name, one in self.choices.items()})
        self.number.max = max(1, len(pages))  # a larger number becomes this one
        self.of.value = f"of {len(pages):,}"
        return pages

    def turn(self, _change: Any = None) -> None:
        pages = self.count()
        nothing = ("<p>No completion is of this kind.</p>", "no such completion")
        self.drawing.show(*(pages[self.number.value - 1]() if pages else nothing))


def rollout_inspector(
    samples: Sequence[Sample], *, kind: str = "advantage", label: str = "step"
) -> dict[str, Any]:
    """Read what a model wrote, step by step, correct or not, coloured by advantage or log-prob.

    samples: as `load_samples` gives them. Drawn first: a completion of the first and one of the
    last step beside each other. Below them, live: a slider over the steps, a choice of correct and
    incorrect ones, of the completion and of the colour. Returns the controls. `label`: what "step"
    counts.
    """
    samples = list(samples)
    if not samples:
        raise R1LabError("no samples to inspect: train a few steps first.")
    steps = sorted({int(sample.get("step", 0)) for sample in samples})
    verdicts = {"all": None, "correct": True, "incorrect": False}
    kinds = ["advantage", "logprob", "plain"]
    choices = {
        "step": ipywidgets.SelectionSlider(
            options=steps, value=steps[-1], description=label, continuous_update=False, **LOOK
        ),
        "verdict": ipywidgets.Dropdown(options=list(verdicts), description="show", **LOOK),
        "kind": ipywidgets.Dropdown(options=kinds, value=kind, description="colour", **LOOK),
    }

    def page(sample: Sample, kind: str) -> tuple[str, str]:
        return sample_html(sample, kind, label), str(sample.get("text", ""))

    def pages(step: int, verdict: str, kind: str) -> list:
        return [
            lambda sample=sample: page(sample, kind)
            for sample in samples
            if int(sample.get("step", 0)) == step
            and verdicts[verdict] in (None, sample.get("correct"))
        ]

    ends = dict.fromkeys((steps[0], steps[-1]))
    opening = [next(s for s in samples if int(s.get("step", 0)) == step) for step in ends]
    markup = "".join(f"<div>{sample_html(sample, kind, label)}</div>" for sample in opening)
    text = "\n\n".join(str(sample.get("text", "")) for sample in opening)
    shown = Pages((f'<div class="r1c-two">{markup}</div>', text), pages, choices)
    return {**choices, "completion": shown.number}


def funnel_inspector(found: Any) -> dict[str, Any]:
    """Read what each filter of a `rejection.Funnel` rejected, and what was kept.

    Drawn first: one completion for each filter that rejected any, and one that was kept, long ones
    shortened. Below them, live: a choice of the filter, and of the completion, which is then whole.
    Returns the controls. Raises R1LabError when nothing was sampled.
    """
    groups = {
        f"rejected by “{name}”": [(problem, one.text) for problem, one in rows]
        for name, rows in found.fallen.items()
    }
    groups["kept"] = [(one.problem, one.completion) for one in found.examples]
    groups = {name: rows for name, rows in groups.items() if rows}
    if not groups:
        raise R1LabError("no completions to inspect: the funnel is empty.")

    def page(name: str, number: int, most: int = MOST_TOKENS) -> tuple[str, str]:
        problem, text = groups[name][number]
        tokens = text.split()
        if len(tokens) > most:
            tokens = [*tokens[: 2 * most // 3], "[…]", *tokens[-(most // 3) :]]
        title = f"{name}: {number + 1:,} of {len(groups[name]):,}"
        markup = completion_html(tokens, title=title, prompt=problem.question)
        return markup, f"{title}\n{problem.question}\n{' '.join(tokens)}"

    opening = [page(name, 0, most=48) for name in groups]
    which = ipywidgets.Dropdown(options=list(groups), description="show", **LOOK)
    shown = Pages(
        ("".join(markup for markup, _ in opening), "\n\n".join(text for _, text in opening)),
        lambda which: [lambda i=i: page(which, i) for i in range(len(groups[which]))],
        {"which": which},
    )
    return {"which": which, "completion": shown.number}


def answers_beside(evaluations: Mapping[str, Any]) -> dict[str, Any]:
    """What two models answered to the same problems, side by side.

    evaluations: {label: evaluate.Evaluation}, two of them. Drawn first: the first completions of
    the first problem. Below, live: sliders over problems and completions. Returns the controls.
    Raises R1LabError for other than two, or other problems.
    """
    ids = [[problem.id for problem in one.problems] for one in evaluations.values()]
    if len(ids) != 2 or ids[0] != ids[1] or not ids[0]:
        raise R1LabError("two models and the same problems are needed to lay answers side by side.")
    most = min(int(one.n.min()) for one in evaluations.values())

    def page(problem: int, completion: int) -> str:
        pair = []
        for label, result in evaluations.items():
            one = result.completions[problem - 1][completion - 1]
            title = f"{label}: {'correct' if one.correct else 'incorrect'}, {one.length} tokens"
            prompt = result.problems[problem - 1].question
            pair.append({"tokens": one.text.split(), "title": title, "prompt": prompt})
        return compare_completions(*pair)

    words = " and ".join(evaluations)
    sliders = {"problem": (1, 1, len(ids[0]), 1), "completion": (1, 1, most, 1)}
    return explorer(page, caption=f"{words}: completions of the same problem.", **sliders)

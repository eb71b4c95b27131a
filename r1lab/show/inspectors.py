"""Reading what models wrote: by step, by filter, two models beside each other."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import read_lines
from r1lab.show import rollouts
from r1lab.show.notebook import Drawing
from r1lab.show.text import MOST_TOKENS, compare_completions, completion_html, table_html
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
    samples = [record for _, record in read_lines(path)[0]]
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
    row = rollouts.row_of({"step": 0} | dict(sample))
    if row is None:
        raise R1LabError("a sample needs a text, and a whole number as its step")
    return rollouts.row_html(row, kind, label)


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
    samples: Sequence[Sample] | str | os.PathLike, *, kind: str = "advantage", label: str = "step"
) -> dict[str, Any]:
    """Read what a model wrote, step by step, coloured by what training made of each token.

    samples: a run's folder, TRL's completions in parquet (`rollouts.load` has the list), or rows as
    `load_samples` gives them. Drawn first: a completion of the first and one of the last step
    beside each other. Below them, live: a slider over the steps; which completions (right but
    short, wrong but long, mixed language, truncated, ...); the colour: advantage, log-prob, and
    where the run was recorded (`Recorder`) the ratio with its clipping and the KL to the reference;
    a word to search for; the whole group side by side, with what is different from the last step at
    which its question was asked. Returns the controls. `label`: what "step" counts.
    """
    if isinstance(samples, str | os.PathLike):
        rows = rollouts.load(samples)
    else:
        rows = [row for raw in samples if (row := rollouts.row_of({"step": 0} | dict(raw)))]
    if not rows:
        raise R1LabError("no samples to inspect: train a few steps first.")
    steps = sorted({row["step"] for row in rows})
    known = [name for name in ("ratio", "kl") if any(rollouts.values_of(r, name)[0] for r in rows)]
    choices = {
        "step": ipywidgets.SelectionSlider(
            options=steps, value=steps[-1], description=label, continuous_update=False, **LOOK
        ),
        "verdict": ipywidgets.Dropdown(
            options=list(rollouts.filters(rows)), description="show", **LOOK
        ),
        "kind": ipywidgets.Dropdown(
            options=["advantage", "logprob", *known, "plain"], value=kind, description="colour",
            **LOOK,
        ),
        "search": ipywidgets.Text(
            placeholder="search", continuous_update=False, layout={"width": "150px"}
        ),
        "group": ipywidgets.Checkbox(description="whole group", indent=False, **LOOK),
    }  # fmt: skip

    def page(found: Sequence[Sample], kind: str) -> tuple[str, str]:
        text = "\n\n".join(row["text"] for row in found)
        if len(found) == 1:
            return rollouts.row_html(found[0], kind, label), text
        changed = rollouts.changes(rows, found[0]["step"], found[0]["problem"])
        return rollouts.group_html(found, kind, label) + changes_html(changed), text

    def pages(step: int, verdict: str, kind: str, search: str, group: bool) -> list:
        found = [row for row in rollouts.select(rows, verdict, search) if row["step"] == step]
        at = [row for row in rows if row["step"] == step]
        parts = [[row] for row in found]
        if group:  # all of those questions with one that is looked for
            parts = [rollouts.groups(at)[name] for name in rollouts.groups(found)]
        return [lambda part=part: page(part, kind) for part in parts]

    ends = dict.fromkeys((steps[0], steps[-1]))
    opening = [next(row for row in rows if row["step"] == step) for step in ends]
    markup = "".join(f"<div>{rollouts.row_html(row, kind, label)}</div>" for row in opening)
    text = "\n\n".join(row["text"] for row in opening)
    shown = Pages((f'<div class="r1c-two">{markup}</div>', text), pages, choices)
    return {**choices, "completion": shown.number}


def changes_html(changed: Sequence[tuple[str, str, str]]) -> str:
    """`rollouts.changes` as a table; a sentence where the question was not asked before."""
    if not changed:
        return "<p>This question was not asked at an earlier step that was kept.</p>"
    return table_html([("the same question", "then", "now"), *changed])


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

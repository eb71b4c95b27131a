"""Runs as HTML and figures, for the page of `r1lab watch`. What files say is escaped here."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import plotly.io as pio

from r1lab.show.curves import learning_curves
from r1lab.show.notebook import CONFIG
from r1lab.show.rollouts import row_html, row_of
from r1lab.show.runs import MEASURES, Run
from r1lab.show.style import RIGHT, palette
from r1lab.show.text import safe_text


def spark(values: Sequence[float], ink: str = RIGHT, width: int = 120, height: int = 26) -> str:
    """A curve as a small drawing, from 0 (or the smallest value) to 1 (or the largest)."""
    if not values:
        return ""
    low, high = min(0.0, *values), max(1.0, *values)
    step = (width - 4) / max(1, len(values) - 1)
    points = " ".join(
        f"{2 + i * step:.1f},{height - 2 - (height - 4) * (v - low) / (high - low):.1f}"
        for i, v in enumerate(values)
    )
    return (
        f'<svg width="{width}" height="{height}" role="img" aria-label="curve">'
        f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="1.5"/></svg>'
    )


def table(runs: Sequence[Run]) -> str:
    """A row for each run: its state, the last step's measures, the accuracy's curve, and the first
    sentence of its diagnosis where there are several."""
    found = [run.measures() for run in runs]
    names = [name for name, _ in MEASURES.values() if any(name in one for one in found)]
    several = len(runs) > 1
    head = ["run", "state", *names, *(["accuracy so far", "diagnosis"] if several else [])]
    rows = []
    for i, (run, one, ink) in enumerate(zip(runs, found, inks(runs), strict=True)):
        chip = f'<i class="chip" style="background:{ink}"></i>'
        told = f'<b class="{run.state}">{run.state}</b> {safe_text(run.words())}'
        cells = [
            f'<th scope="row">{chip}<a href="#run-{i}">{safe_text(run.name)}</a></th>',
            f'<td class="state">{told}</td>',
        ]
        cells += [f"<td>{safe_text(one.get(name, ''))}</td>" for name in names]
        if several:
            first = run.diagnosis()
            told = first[1] if len(first) > 1 and "No link" not in first[0] else "".join(first[:1])
            cells.append(f"<td>{spark(run.curve('accuracy'), ink)}</td>")
            cells.append(f'<td class="told">{safe_text(told)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def inks(runs: Sequence[Run]) -> list[str]:
    """A colour for each run, whatever its name."""
    return palette([f"run {i}" for i in range(len(runs))])


def figures(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """plotly's JSON of each measure against the step, the runs beside each other."""
    steps = max((run.steps for run in runs), default=1)
    made = []
    for key, (name, _) in MEASURES.items():
        drawn = {run.name: [r for r in run.history if key in r] for run in runs}
        drawn = {label.replace("<", "‹"): rows for label, rows in drawn.items() if rows}
        if not drawn or (key == "loss" and any("accuracy" in r for r in runs[0].history[:1])):
            continue
        fig = learning_curves(drawn, keys=[key], steps=steps, title=name)
        ink_of = dict(zip((run.name.replace("<", "‹") for run in runs), inks(runs), strict=True))
        for trace in fig.data:
            label = (trace.legendgroup or "").removesuffix(" raw")
            if label in ink_of:
                faint = trace.line.color.startswith("rgba")
                trace.line.color, trace.opacity = ink_of[label], 0.35 if faint else 1
        fig.update_layout(
            showlegend=False, height=250, margin={"l": 64, "r": 12, "t": 34, "b": 46},
            title={"y": 0.97, "font": {"size": 15}},
        )  # fmt: skip
        fig.update_yaxes(title_text=None)
        spec = json.loads(pio.to_json(fig, validate=False, remove_uids=True))
        spec["layout"].pop("width", None)
        made.append({"key": key, **spec, "config": CONFIG})
    return made


def details(number: int, run: Run, open_: bool) -> str:
    """A run's diagnosis, and the completions of its last step that kept any."""
    said = "".join(f"<li>{safe_text(one)}</li>" for one in run.diagnosis())
    rows = [row for raw in run.sample[:64] if (row := row_of(raw, run.config))]
    rows.sort(key=lambda row: -(row["advantage"] or 0))
    shown = "".join(f"<div>{row_html(row)}</div>" for row in rows)
    at = f"completions of step {rows[0]['step']}, by advantage" if rows else "no completions yet"
    return (
        f'<section id="run-{number}"><h2>{safe_text(run.name)}</h2>'
        f'<p>{safe_text(run.words())}</p><ul class="diagnosis">{said}</ul>'
        f'<details id="samples-{number}"{" open" if open_ else ""}><summary>{at}</summary>'
        f'<p><a href="inspect?run={number}">inspect all that were kept</a></p>'
        f'<div class="r1c-two">{shown}</div></details></section>'
    )


def state(runs: Sequence[Run], seen: str = "") -> dict[str, Any]:
    """What the page draws. seen: the stamp of what it has drawn; figures and completions come only
    where they have changed since, the table always, because it says how long ago things were."""
    text = repr([(run.name, str(run.folder), run.stamp) for run in runs])
    stamp = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    found: dict[str, Any] = {"stamp": stamp, "table": table(runs)}
    if stamp != seen:
        found["figures"] = figures(runs)
        alone = len(runs) == 1
        found["runs"] = "".join(details(i, run, alone) for i, run in enumerate(runs))
    return found

"""The curves of a run while it trains."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1lab.show.curves import learning_curves
from r1lab.show.inspectors import sample_html
from r1lab.show.notebook import Drawing, in_notebook
from r1lab.show.runs import Run
from r1lab.show.text import safe_text, table_html
from r1lab.training.metrics import metrics_of


class live_dashboard:
    """A callback for `grpo.train` that draws the curves while they grow.

        dashboard = live_dashboard(config.steps, run_dir)
        history = grpo.train(..., run_dir, callbacks=[dashboard])
        dashboard.finish()

    The figure stands there at once, with the steps that an earlier start left in `run_dir`, and is
    drawn again in place every `seconds`, less often where drawing is slow: it takes 5 % of the time
    at most. Below it stand, while it trains, the last step's measures, time and money, the
    diagnosis in words, and completions of the step, coloured by advantage. Outside a notebook only
    the metrics are kept, in `history`. `r1lab watch RUN` shows the same of any run.
    """

    def __init__(
        self,
        steps: int,
        run_dir: str | os.PathLike | None = None,
        *,
        seconds: float = 2.0,
        keys: Sequence[str] = ("accuracy", "length", "reflection"),
    ) -> None:
        self.steps, self.seconds, self.keys = steps, seconds, keys
        self.history = [] if run_dir is None else list(metrics_of(run_dir))
        done = len(self.history)
        self.earlier = f"goes on after {done} steps of an earlier start" if done else ""
        if done >= steps:
            when = time.localtime((Path(run_dir) / "metrics.jsonl").stat().st_mtime)
            self.earlier = f"trained already, {done} steps, on {time.strftime('%Y-%m-%d', when)}"
        self.drawing, self.drawn_at, self.cost = Drawing(), 0.0, 0.0
        self.run_dir, self.batch, self.below = run_dir, None, Drawing()
        self.behind = True
        self.finish()

    def __call__(self, step: int, metrics: Mapping[str, Any], batch: Any = None) -> None:
        while self.history and self.history[-1]["step"] >= step:
            self.history.pop()  # lost with the last stop, and done again
        self.history.append({"step": step, **metrics})
        self.behind, self.batch = True, batch
        rested = time.monotonic() - self.drawn_at
        if step + 1 >= self.steps or rested >= max(self.seconds, 20 * self.cost):
            self.finish()

    def finish(self) -> None:
        """Draw what has come in since the last drawing; nothing when there is nothing new."""
        if not self.behind or not in_notebook():
            return
        began = time.monotonic()
        fig = learning_curves(
            [self.history] if self.history else [], keys=self.keys, steps=self.steps,
            title=f"R1-Zero training, live: {len(self.history)} of {self.steps} steps",
        )  # fmt: skip
        if self.earlier:
            fig.update_layout(title_subtitle_text=self.earlier, margin_t=fig.layout.margin.t + 21)
        self.drawing.show(fig, "Metrics of each training step so far.")
        if self.batch is not None and self.run_dir is not None:
            run = Run(Path(self.run_dir), Path(self.run_dir).name)
            self.below.show(step_html(run, samples_of_step(self.batch)), run.words())
        self.drawn_at, self.behind = time.monotonic(), False
        self.cost = self.drawn_at - began


def samples_of_step(batch: Any) -> list[dict[str, Any]]:
    """The completions of an `Experience` with the two highest and the two lowest advantages, from
    the first group whose rewards differ."""
    q, G = int(batch.spread.int().argmax()), batch.rewards.shape[1]
    order = batch.advantages[q].argsort(descending=True, stable=True).tolist()
    rows = [(batch.measures[q * G + i], i) for i in order[:2] + order[2:][-2:]]
    return [
        {"prompt": batch.prompts[q], "text": one.text, "correct": one.correct, "length": one.length,
         "reward": float(batch.rewards[q, i]), "advantage": float(batch.advantages[q, i])}
        for one, i in rows
    ]  # fmt: skip


def step_html(run: Run, samples: Sequence[Mapping[str, Any]]) -> str:
    """The last step of a run as HTML: measures, time and money, the diagnosis, completions."""
    found, step = run.measures(), len(run.history) - 1
    said = "".join(f"<li>{safe_text(one)}</li>" for one in run.diagnosis())
    shown = "".join(f"<div>{sample_html({**one, 'step': step})}</div>" for one in samples)
    head = f"{table_html([list(found), list(found.values())])}<p>{safe_text(run.words())}</p>"
    return f'{head}<ul>{said}</ul><div class="r1c-two">{shown}</div>'

"""The curves of a run while it trains."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1lab.show.curves import learning_curves
from r1lab.show.notebook import Drawing, in_notebook
from r1lab.training.metrics import metrics_of


class live_dashboard:
    """A callback for `grpo.train` that draws the curves while they grow.

        dashboard = live_dashboard(config.steps, run_dir)
        history = grpo.train(..., run_dir, callbacks=[dashboard])
        dashboard.finish()

    The figure stands there at once, with the steps that an earlier start left in `run_dir`, and is
    drawn again in place every `seconds`, less often where drawing is slow: it takes 5 % of the time
    at most. Outside a notebook only the metrics are kept, in `history`.
    """

    def __init__(
        self,
        steps: int,
        run_dir: str | os.PathLike | None = None,
        *,
        seconds: float = 2.0,
        keys: Sequence[str] = ("accuracy", "length", "reflection"),
        title: str = "R1-Zero training, live",
    ) -> None:
        self.steps, self.seconds, self.keys, self.title = steps, seconds, keys, title
        self.history: list[Mapping[str, Any]] = []
        if run_dir is not None:
            self.history = list(metrics_of(run_dir))
        done = len(self.history)
        self.earlier = f"goes on after {done} steps of an earlier start" if done else ""
        if done >= steps:
            when = time.localtime((Path(run_dir) / "metrics.jsonl").stat().st_mtime)
            self.earlier = f"trained already, {done} steps, on {time.strftime('%Y-%m-%d', when)}"
        self.drawing, self.drawn_at, self.cost = Drawing(), 0.0, 0.0
        self.behind = True
        self.finish()

    def __call__(self, step: int, metrics: Mapping[str, Any], batch: Any = None) -> None:
        while self.history and self.history[-1]["step"] >= step:
            self.history.pop()  # lost with the last stop, and done again
        self.history.append({"step": step, **metrics})
        self.behind = True
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
            title=f"{self.title}: {len(self.history)} of {self.steps} steps",
        )  # fmt: skip
        if self.earlier:
            fig.update_layout(title_subtitle_text=self.earlier, margin_t=fig.layout.margin.t + 21)
        self.drawing.show(fig, "Metrics of each training step so far.")
        self.drawn_at, self.behind = time.monotonic(), False
        self.cost = self.drawn_at - began

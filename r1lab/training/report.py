"""The metrics of a run in a tracker: trackio, a local dashboard that needs no account.

    r1lab train --report trackio        then: trackio show --project r1lab

It is not installed with r1lab (`pip install trackio`). Metrics stay on this machine, in TRACKIO_DIR
(default: ~/.cache/huggingface/trackio), and need no network. `--report wandb` and `--report
tensorboard` are TRL's own (`--backend trl`); metrics.jsonl holds the numbers in any case.
"""

import importlib
import math
from collections.abc import Mapping
from typing import Any

from r1lab.basics.errors import R1LabError


class Report:
    """A callback of `train`, on both backends: each step's metrics, as they are written.

    run: its name in the tracker; a run that is resumed goes on under it. config: what the tracker
    shows as the run's options. Raises R1LabError where the tracker is not installed.
    """

    def __init__(self, tracker: str, run: str, config: Mapping[str, Any], project: str = "r1lab"):
        try:
            self.tracker = importlib.import_module(tracker)
        except ImportError as error:
            words = f"{tracker} is not installed: pip install {tracker}"
            raise R1LabError(f"--report {tracker}: {words}") from error
        how = {"resume": "allow", "embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        self.tracker.init(project=project, name=run, config=dict(config), **how)

    def __call__(self, step: int, metrics: Mapping[str, Any], batch: Any = None) -> None:
        """Numbers alone: lists of diagnoses and the like are in metrics.jsonl."""
        kinds = (int, float)
        numbers = {k: v for k, v in metrics.items() if type(v) in kinds and math.isfinite(v)}
        numbers.pop("step", None)  # the tracker's own name
        self.tracker.log(numbers, step=step)

    def finish(self) -> None:
        """Waits until all is written."""
        self.tracker.finish()

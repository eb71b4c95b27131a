"""The metrics of a run, read back from its folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1lab.basics.files import read_lines


def metrics_of(out_dir: str | os.PathLike, file: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The metrics of every step of the run in `out_dir`, of either backend; [] without one. file:
    another one of those that have a line a step. Lines that are damaged or unfinished are left out.
    """
    return [record for _, record in read_lines(Path(out_dir) / file)[0]]


def spent_in(history: Sequence[dict[str, Any]]) -> float:
    """Seconds of a run by its metrics, with what lies between its steps: loading and saving."""
    if not history:
        return 0.0
    return history[-1].get("spent_seconds") or sum(m.get("seconds", 0.0) for m in history)

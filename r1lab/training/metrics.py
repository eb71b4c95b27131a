"""The metrics of a run, read back from its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def metrics_of(out_dir: str | os.PathLike, file: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The metrics of every step of the run in `out_dir`, of either backend; [] without one. file:
    another one of those that have a line a step. A last line that was never finished is left out.
    """
    path = Path(out_dir) / file
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def spent_in(history: Sequence[dict[str, Any]]) -> float:
    """Seconds of a run by its metrics, with what lies between its steps: loading and saving."""
    if not history:
        return 0.0
    return history[-1].get("spent_seconds") or sum(m["seconds"] for m in history)

"""The metrics of a run, read back from its folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1lab.basics.files import METRICS, read_lines


def metrics_of(out_dir: str | os.PathLike, file: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """The metrics of every step of the run in `out_dir`, of either backend; [] without one. file:
    another one of those that have a line a step. Lines that are damaged or unfinished are left out.
    """
    return [record for _, record in read_lines(Path(out_dir) / file, METRICS)[0]]


def spent_in(history: Sequence[dict[str, Any]]) -> float:
    """Seconds of a run by its metrics, with what lies between its steps: loading and saving."""
    if not history:
        return 0.0
    return history[-1].get("spent_seconds") or sum(m.get("seconds", 0.0) for m in history)


def collapsed_at(history: Sequence[dict[str, Any]], share: float = 0.1) -> int | None:
    """The first step from which on the policy's entropy per token, in nats, stays below `share` of
    the first step's: it is nearly deterministic, and there is little left to learn from (G. Cui and
    others 2025, arXiv 2505.22617, section 2: reward costs entropy). None: not collapsed."""
    low = [m["entropy"] < share * history[0]["entropy"] for m in history]
    last = max((i for i, below in enumerate(low) if not below), default=-1)
    return history[last + 1]["step"] if last + 1 < len(history) else None

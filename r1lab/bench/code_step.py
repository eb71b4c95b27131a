"""What judging costs in a GRPO step: programs in the sandbox, against Countdown's equations.

    python -m r1lab.bench.code_step

Twelve steps of each from the base. The rewards' seconds (and those of the other measures of the
completions, which ask the judge again) are set against all other seconds of the step: group
sampling and update. The first step of code also starts the sandbox's server.
"""

import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from r1lab import grpo
from r1lab.bench.harness import say
from r1lab.grpo_config import GRPOConfig
from r1lab.models.load import load
from r1lab.tasks import get_task

CONFIG = GRPOConfig(steps=12, learning_rate=1e-3, warmup_steps=3)


def shares(name: str, config: GRPOConfig = CONFIG) -> list[float]:
    """Per step, the seconds of judging over the other seconds of the step."""
    judging, found = [0.0], []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*of: Any, **options: Any) -> Any:
            began = time.perf_counter()
            result = function(*of, **options)
            judging[0] += time.perf_counter() - began
            return result

        return call

    def note(step: int, metrics: dict[str, Any], batch: Any) -> None:
        found.append(judging[0] / (metrics["seconds"] - judging[0]))
        judging[0] = 0.0

    judges = {one: timed(getattr(grpo, one)) for one in ("combine", "measure_all")}
    with tempfile.TemporaryDirectory() as out, patch.multiple(grpo, **judges):
        how = {"progress": False, "callbacks": [note]}
        grpo.train(*load("tiny"), get_task(name), config, out, **how)
    return found


if __name__ == "__main__":
    for name in ("code", "countdown"):
        each = shares(name)
        words = ", ".join(f"{100 * share:.1f}" for share in each)
        rest = sum(each[1:]) / len(each[1:])
        say(f"{name}: per cent of the rest of a step: {words}; after the first {100 * rest:.1f}")

"""How much longer a step of lesson 05 takes beside two processes that each burn a core, and whether
dealing the work costs anything on an idle machine.

    python scripts/busy_share.py            prints busy_share and the idle times, interleaved

Each measurement is a process of its own, since OpenMP reads its settings once. "dealt" is r1lab as
it is; "spinning" is one worker with all of torch's threads, which spin at barriers as OpenMP's do
by default. Wants an otherwise idle machine of two cores or more.
"""

from __future__ import annotations

import os
import subprocess
import sys

STEP = """
import sys, time
import torch
from dataclasses import replace
from r1lab import grpo, models
from r1lab.machine import workers
from r1lab.tasks import get_task
if sys.argv[1] == "spinning":
    workers.MOST, workers.SMALL = 1, 0
model, tokenizer = models.load("tiny")
config, task = grpo.GRPOConfig(learning_rate=0.0), get_task("countdown")
problems = task.problems("train", config.questions, seed=0)
optimizer = torch.optim.AdamW(model.parameters(), 0.0)
best = float("inf")
for _ in range(3):
    began = time.perf_counter()
    batch = grpo.collect(model, tokenizer, task, problems, 0, config)
    grpo.update(model, None, optimizer, batch, 0, config)
    best = min(best, time.perf_counter() - began)
print(best)
"""
SPIN = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"}  # libgomp's own number
BURN = [sys.executable, "-c", "while True: pass"]


def step(how: str) -> float:
    """Seconds of the fastest of three steps in a new process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    environment = kept | (SPIN if how == "spinning" else {})
    command = [sys.executable, "-c", STEP, how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    idle: dict[str, list[float]] = {"dealt": [], "spinning": []}
    busy: dict[str, list[float]] = {"dealt": [], "spinning": []}
    for _ in range(3):
        for how in idle:
            idle[how].append(step(how))
        burning = [subprocess.Popen(BURN) for _ in range(2)]
        try:
            for how in busy:
                busy[how].append(step(how))
        finally:
            for process in burning:
                process.kill()
                process.wait()
    for how in idle:
        fast, slow = min(idle[how]), min(busy[how])
        print(f"{how:9} idle {fast:.2f} s, beside two processes {slow:.2f} s: {slow / fast:.1f}x")
    print(f"busy_share {min(busy['dealt']) / min(idle['dealt']):.2f} (at most 2.5)")
    print(f"idle: dealt / spinning {min(idle['dealt']) / min(idle['spinning']):.2f} (at most 1)")


if __name__ == "__main__":
    main()

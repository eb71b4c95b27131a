"""Trains and measures what `existing` tabulates: the recipe smollm2_cpu, a seed at a time.

    python -m r1lab.bench.existing_run          the seeds that the ledger lacks
    python -m r1lab.bench.existing_run 2 3      of these

A run that was stopped goes on where it was.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from r1lab import ROOT
from r1lab.basics import files
from r1lab.bench.existing import LEDGER, SEEDS, SHOWN, config_of, page, parts, recipe, stated
from r1lab.bench.harness import say, today
from r1lab.evals.kept import as_json
from r1lab.evaluate import Evaluation, as_trained, difference
from r1lab.machine.about import hardware, versions
from r1lab.models.load import load
from r1lab.tasks import distinct, task_for
from r1lab.templates import END
from r1lab.training.metrics import metrics_of
from r1lab.trl_backend.mapping import Launch
from r1lab.trl_backend.run import train


def race(
    seed: int,
    options: Mapping[str, Any],
    out: Path,
    model_and_tokenizer: tuple[Any, Any] | None = None,
) -> dict[str, Any]:
    """One seed: the base measured, trained, and measured again on the same held-out problems."""
    config = config_of(options, seed)
    task = task_for(options["task"], config.template, **options["task_option"])
    model, tokenizer = model_and_tokenizer or load(options["model"])
    problems = distinct(task.problems("held_out", options["held_out"]))
    shown = "".join(
        f"{p.question}\n<answer> {task.solution(p)} </answer>{END}\n"
        for p in task.problems("train", SHOWN, seed=99)
    )
    prompted = [replace(p, question=shown + p.question) for p in problems]
    resumed, ran = bool(metrics_of(out)), time.process_time()

    def measure(problems, temperature: float, k: int) -> Evaluation:
        as_asked = replace(config, temperature=temperature)
        return as_trained(model, tokenizer, task, problems, as_asked, k)

    T, cold = config.temperature, 0.01  # nearly greedy
    before = measure(problems, T, 4)
    launch = Launch(lora=options["lora_rank"], device="cpu")
    history = train(model, tokenizer, task, config, out, launch, progress=False)
    after = measure(problems, T, 4)
    ran = None if resumed else round(time.process_time() - ran, 1)
    base, _ = model_and_tokenizer or load(options["model"])
    found = {"before": before, "after": after, "after_greedy": measure(problems, cold, 1)}
    model = base
    found |= {"before_greedy": measure(problems, cold, 1), "prompted": measure(prompted, T, 4)}
    return {
        "stated": stated(),
        "steps": len(history),
        "seconds": sum(m["seconds"] for m in history) + before.seconds + after.seconds,
        "cpu_seconds": ran,  # of all processors; not known of a run in several parts
        "held_out": len(problems),
        "gain": as_json(difference(before, after)),
        "curve": [round(m["accuracy"], 4) for m in history],
        "measures": {name: parts(one) for name, one in found.items()},
        "examples": [
            [p.question, a[0].text, b[0].text]
            for p, a, b in zip(problems[:3], before.completions, after.completions, strict=False)
        ],
    }


def measure(seeds: Sequence[int] = SEEDS, ledger: Path = LEDGER) -> None:
    """Every seed that is not in the ledger by this recipe; a run that was stopped goes on."""
    for seed in seeds:
        book = files.read_json(ledger) or {"runs": {}}
        if book["runs"].get(str(seed), {}).get("stated") == stated():
            continue
        found = race(seed, recipe(), ROOT / "runs" / "smollm2-cpu" / f"seed-{seed}")
        book = files.read_json(ledger) or book  # another process may have measured another seed
        book["runs"] = dict(sorted((book["runs"] | {str(seed): found}).items()))
        book |= {"date": today(), "hardware": hardware(), "versions": versions()}
        book |= {"threads": torch.get_num_threads(), "recipe": recipe()}
        files.write_json(ledger, book)
        say(f"existing: seed {seed}, {found['gain']}")
    if book := files.read_json(ledger):
        files.atomic_write_text(ledger.with_suffix(".md"), page(book))


if __name__ == "__main__":
    measure([int(one) for one in sys.argv[1:]] or SEEDS)

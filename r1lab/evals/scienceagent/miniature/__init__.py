"""A miniature benchmark of our own, in ScienceAgentBench's layout: 16 tasks, four a domain.

All is synthetic: `made()` writes the data from a seed, beside the gold programs, checkers and gold
results of data/scienceagent-mini. Nothing is taken from ScienceAgentBench. A program needs numpy
and pandas at most, and seconds.

Four tasks ask for a figure. What is judged is the data behind it, which the program saves in place
of a picture: another metric than the original's, where a model looks at the pictures.
"""

import csv
import random
import shutil
from pathlib import Path

from r1lab import PROJECT, ROOT
from r1lab.basics.files import atomic_dir
from r1lab.evals.scienceagent.benchmark import COLUMNS, Benchmark, open_benchmark
from r1lab.evals.scienceagent.miniature import bioinformatics, chemistry, geography, psychology
from r1lab.evals.scienceagent.miniature.made import CANARY, Made

FILES = PROJECT / "data" / "scienceagent-mini"
_DOMAINS = (bioinformatics, chemistry, geography, psychology)
TASKS: tuple[Made, ...] = tuple(task for domain in _DOMAINS for task in domain.TASKS)
SEED = 0


def made(folder: str | Path | None = None) -> Benchmark:
    """The miniature in a folder (default: runs/scienceagent-mini), written where it is missing."""
    folder = Path(folder or ROOT / "runs" / "scienceagent-mini")
    stamp = "\n".join(f"{task.name} {task.digest(SEED)}" for task in TASKS)
    stamp += "".join(f"\n{path.name} {path.stat().st_size}" for path in sorted(FILES.rglob("*.*")))
    if not (folder / "stamp").is_file() or (folder / "stamp").read_text("utf-8") != stamp:
        with atomic_dir(folder) as new:
            write(new)
            (new / "stamp").write_text(stamp, "utf-8")
    return open_benchmark(folder)


def write(folder: Path, seed: int = SEED) -> None:
    """Writes table, data, gold programs and checkers into a folder."""
    ignore = shutil.ignore_patterns("__pycache__", "*.jsonl")
    for part in ("gold_programs", "eval_programs"):
        shutil.copytree(FILES / part, folder / part, ignore=ignore)
    with (folder / "tasks.csv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        for number, task in enumerate(TASKS, 1):
            files = task.files(random.Random(f"{seed} {task.name}"))
            for name, text in files.items():
                path = folder / "datasets" / task.name / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
            writer.writerow(task.row(number, files))


__all__ = ["CANARY", "FILES", "SEED", "TASKS", "made", "write"]

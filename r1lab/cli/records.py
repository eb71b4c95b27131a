"""The commands `speedrun` and `export`. Each imports what it needs."""
# fmt: off

from dataclasses import dataclass
from pathlib import Path

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import Command, flag, text


@dataclass(kw_only=True)
class Speedrun(Command):
    """seconds from the base to 80 % of held-out Countdown

    Train by a recipe from the committed base on two cores, with two seeds, each in a process of its
    own; then verify on held-out problems that the lower end of the 95 % interval is 80 % or more. A
    verified recipe gets its row in benchmarks/results/speedrun.json and .md; the slower seed
    counts. Exits with 1 where it is not verified. RECIPE is a file (.yaml or .py) or a name in
    benchmarks/speedrun/; without one the table is printed.

    examples:
      r1lab speedrun plain
      r1lab speedrun mine.yaml --beside plain     in turns with the first record: how much faster?
      r1lab speedrun mine.py --quick              toy sizes, to see that it works; no row
    """
    recipe: tuple = option((), "its file or name (default: print the table)", positional=True,
        metavar="RECIPE")
    beside: str | None = text("measure this recipe too, in turns", "RECIPE")
    quick: bool = flag("toy sizes, to see that it works; no row")
    out: str | None = text("the table (default: benchmarks/results/speedrun.json)", "FILE",
        path=True)


@dataclass(kw_only=True)
class Export(Command):
    """completions and metrics as parquet, which `datasets` loads

    RUN is the folder of a training run, whose samples.jsonl and metrics.jsonl become
    completions.parquet and metrics.parquet, or a file that `r1lab eval --save` wrote.
    `datasets.load_dataset("parquet", data_files=...)` reads them.

    examples:
      r1lab export runs/train
      r1lab export evaluation.json --out completions
    """
    run: tuple = option((), "folder of a run, or a saved evaluation", positional=True,
        metavar="RUN")
    out: str | None = text("folder for the files (default: that of RUN)", "FOLDER", path=True)


def speedrun(args: Speedrun) -> int:
    from r1lab.bench import speedrun as runs

    table = Path(args.out) if args.out else runs.TABLE
    if len(args.recipe) > 1:
        raise R1LabError("r1lab speedrun takes one recipe; a second one goes with --beside")
    if not args.recipe:
        print(runs.page(runs.rows_of(table)))
        print("recipes: " + ", ".join(runs.names()))
        return 0
    if not args.quick:
        files.check_writable(table)
    size = runs.QUICK if args.quick else runs.Size()
    row = runs.run(args.recipe[0], args.beside, size)
    print(f"{row['recipe']}: {row['seconds']:.1f} s, the slower of {len(row['seeds'])} seeds")
    if beside := row.get("beside"):
        print(f"{beside['recipe']}: {beside['seconds']:.1f} s, {beside['times_faster']:.2f} times")
    if not row["verified"]:
        print(f"not verified: the interval begins at {100 * row['low']:.1f} %, below "
              f"{100 * size.target:.0f} %; no row")
        return 1
    if args.quick:
        print("toy sizes: no row")
        return 0
    runs.enter(row, table)
    print(f"its row is in {files.from_here(table)}")
    return 0


def export(args: Export) -> None:
    from r1lab.training import export as exports

    if len(args.run) != 1:
        raise R1LabError("name the folder of a run, or a saved evaluation: r1lab export runs/train")
    for path, rows in exports.export(files.ROOT / args.run[0], args.out):
        print(f"{files.from_here(path)}: {rows} rows")

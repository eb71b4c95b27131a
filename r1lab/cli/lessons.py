"""What the commands around the lessons and the benchmarks do. Each imports what it needs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from r1lab import ROOT
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.cli.commands import Bench, Book, Figures, Run
from r1lab.cli.parse import pairs
from r1lab.course import profiles


def run(args: Run) -> int:
    from r1lab.course import runner

    if args.list:
        return list_notebooks(args)
    if args.resume and args.fresh:
        raise R1LabError("--resume goes on and --fresh begins anew: take one of them")
    asked = (args.profile, list(args.only) or None, args.out)
    parameters = pairs(args.parameter, "-p", "steps=10")
    if args.prepare:
        made, new, kept = runner.prepare(*asked, parameters, seed=args.seed)
        print(f"{files.shorten(made)}: {len(new)} notebooks written")
        if kept:
            print(f"as they were, with what has been done in them: {', '.join(kept)}")
        return 0
    if args.fresh:
        set_aside(args)
    return 0 if runner.run(*asked, parameters, seed=args.seed, resume=args.resume).ok else 1


def set_aside(args: Run) -> None:
    """Move the folders that these lessons train in to earlier-N."""
    profile = profiles.check_profile(args.profile or profiles.default_profile())
    out, notebooks = (
        ROOT / (args.out or f"runs/{profile}"),
        profiles.select(list(args.only) or None),
    )
    code = "".join(path.read_text(encoding="utf-8") for path in notebooks)
    named = sorted(set(re.findall(r'out / \\"(\w+)', code)))
    if out.is_dir() and (moved := files.set_aside(out, named)):
        print(f"what was trained before is in {files.shorten(moved)}", file=sys.stderr)


def list_notebooks(args: Run) -> int:
    """Notebooks, and their parameters on the profile."""
    loaded = profiles.load()
    profile = profiles.check_profile(args.profile or profiles.default_profile())
    for path in profiles.select(list(args.only) or None):
        reason = profiles.skip_reason(profile, path, loaded)
        print(path.stem + (f"  (left out: {reason})" if reason else ""))
        overrides = profiles.resolve(profile, path, loaded)
        for name, parameter in profiles.parameters(path).items():
            value = overrides.get(name, parameter.default)
            print(f"    {name}: {parameter.annotation} = {value!r}  # {parameter.help}")
    return 0


def bench(args: Bench) -> None:
    common = {"repeats": args.repeats, "quick": args.quick, "out": args.out}
    if args.gpu:
        from r1lab.bench import gpu

        if args.only:
            raise R1LabError("--only chooses parts of the CPU benchmark, --gpu has none")
        gpu.run(args.gpu, args.model, **common, minutes=args.minutes, backend=args.backend)
        return
    from r1lab.bench import cpu

    if args.minutes is not None or args.backend != "scratch":
        raise R1LabError("--minutes and --backend are for --gpu; without it there is --only")
    cpu.run(args.model or "tiny", only=args.only or None, **common)


def figures(args: Figures) -> None:
    from r1lab.course import seeds
    from r1lab.course.readme import markdown_table

    profile = profiles.check_profile(args.profile)
    ledger = Path(args.ledger or seeds.LEDGER.with_name(f"figures-{profile}.json"))
    files.check_writable(ledger)
    made = seeds.measure(
        list(args.seeds),
        profile,
        base=args.out or ("runs/figures" if profile == "cpu" else f"runs/figures-{profile}"),
        ledger=ledger,
        pages=seeds.PAGES if ledger == seeds.LEDGER else (),
        notebooks=list(args.only) or None,
        jobs=args.jobs,
        note=args.note,
    )
    print(markdown_table(made["figures"]))
    print(f"written to {files.shorten(ledger)}")


def book(args: Book) -> None:
    from r1lab.course import book as pages

    if not args.folder:
        raise R1LabError("name the folder of a run: r1lab book runs/cpu")
    print(files.shorten(pages.build(ROOT / args.folder)))

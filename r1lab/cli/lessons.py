"""What the commands around the lessons and the benchmarks do. Each imports what it needs."""

from __future__ import annotations

from pathlib import Path

from r1lab import ROOT
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.cli.commands import Bench, Book, Figures, Init, Run
from r1lab.cli.parse import pairs
from r1lab.course import profiles


def run(args: Run) -> int:
    from r1lab.course import copies, runner

    if args.list:
        return list_notebooks(args)
    if args.resume and args.fresh:
        raise R1LabError("--resume goes on and --fresh begins anew: take one of them")
    asked = (args.profile, list(args.only) or None, args.out)
    parameters = pairs(args.parameter, "-p", "steps=10")
    if args.prepare:
        made, new, kept = copies.prepare(*asked, parameters, seed=args.seed)
        print(f"lessons to work on: {files.shorten(made)}, {len(new)} notebooks written")
        if kept:
            print(f"as they were, with what has been done in them: {', '.join(kept)}")
        return 0
    start = "fresh" if args.fresh else "resume" if args.resume else "again"
    return 0 if runner.run(*asked, parameters, seed=args.seed, start=start).ok else 1


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
        notebooks=list(args.only) or None,
        jobs=args.jobs,
        note=args.note,
    )
    seeds.publish(made, seeds.PAGES if ledger == seeds.LEDGER else ())
    print(markdown_table(made["figures"]))
    print(f"written to {files.shorten(ledger)}")


def book(args: Book) -> None:
    from r1lab.course import book as pages

    if not args.folder:
        raise R1LabError("name the folder of a run: r1lab book runs/cpu")
    print(files.shorten(pages.build(ROOT / args.folder)))


def init(args: Init) -> None:
    from r1lab.course import copies

    folder, new = copies.lay_out(args.folder)
    print(f"{folder / 'notebooks'}: {len(new)} files written")

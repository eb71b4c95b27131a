"""The commands around lessons and benchmarks: `run`, `init`, `bench`, `figures`, `book`. Each
imports what it needs."""
# fmt: off

from dataclasses import dataclass
from pathlib import Path

from r1lab import ROOT
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import SEEDS, Command, flag, number, pairs, text, words


@dataclass(kw_only=True)
class Run(Command):
    """execute the lessons and make a book of them

    Execute the notebooks in order, each in a fresh kernel, with the parameters of a profile, until
    one fails. The output folder gets executed notebooks, figures.json and book/index.html. After
    Ctrl-C, --resume leaves out finished lessons; the stopped one trains on from its checkpoint.

    examples:
      r1lab run                              all lessons on two CPU cores
      r1lab run --profile smoke              the same in miniature: a quick test that all works
      r1lab run --only 05 --fresh -p steps=10    one lesson, one parameter changed
    """
    profile: str | None = text("smoke, cpu (default), gpu or cluster")
    only: tuple = words("only these, by number or name (default: all)", "NOTEBOOK")
    out: str | None = text("output folder (default: runs/PROFILE)", "FOLDER", path=True)
    seed: int = option(0, "of every random choice", **SEEDS)
    parameter: tuple = option((), "set a parameter in every notebook that has it, or, as "
        "NOTEBOOK.NAME=VALUE, in one", repeat="once", short="-p", metavar="NAME=VALUE")
    resume: bool = flag("leave out lessons that have finished with the same code and parameters")
    fresh: bool = flag("train anew: what these lessons trained is set aside, in OUT/earlier-N")
    list: bool = flag("list notebooks and parameters, run none")
    prepare: bool = flag("write copies with these parameters into OUT/lab, for JupyterLab")


@dataclass(kw_only=True)
class Init(Command):
    """copy the lessons into a folder (after an installation without the repository)

    Copy the lessons to FOLDER/notebooks. Commands started in FOLDER then keep their results in
    FOLDER/runs. Files that are there already stay as they are.

    examples:
      r1lab init course
    """
    folder: str = option(".", "where to", positional=True, metavar="FOLDER", path=True)


@dataclass(kw_only=True)
class Bench(Command):
    """measure the speed against TRL on this machine

    Seconds per GRPO step and tokens per second, against TRL's GRPOTrainer and transformers'
    generate. Writes benchmarks/results/cpu.json. --gpu measures on a GPU, offline and in under 10
    minutes each, and writes gpu-WHAT.json there: sampler, step, or run (train a real model).

    examples:
      r1lab bench --quick                    toy sizes, to see that it works; writes nothing
      r1lab bench --gpu sampler              tokens per second on the GPU of this machine
    """
    quick: bool = flag("toy sizes, to see that it works; writes nothing")
    gpu: str | None = text("measure on a GPU in place of all this", "WHAT",
        choices=("sampler", "step", "run"))
    only: tuple = words("some of step, backend, sampler, half, learning, matmul, sandbox, "
        "busy, base", "PART")
    repeats: int | None = number("default: 5, whole trainings up to 3", low=1)
    model: str | None = text("default: tiny, with --gpu smollm2-135m", path=True)
    out: str | None = text("default: benchmarks/results/cpu.json, for a whole run only; with --gpu "
        "gpu-WHAT.json there, or in the folder named here", "FILE", path=True)
    minutes: float | None = number("with --gpu: the most it may take (default: 9.5)", float)
    backend: str = option("scratch", "of --gpu run", choices=("scratch", "trl"))


@dataclass(kw_only=True)
class Figures(Command):
    """run all lessons for several seeds; the results file and the README's table

    Run all notebooks once per seed into runs/figures/seed-N; write means with 95 % intervals over
    the seeds to the committed results file and, for the profile cpu, to the README's table. Stopped
    anywhere, the same command goes on: what has finished with the same code does not run again.

    examples:
      r1lab figures --jobs 2                 two seeds side by side, half of the cores each
      r1lab figures --only 05                measure one lesson again, keep the others' figures
    """
    seeds: tuple = option((0, 1, 2), "the seeds", **SEEDS)
    jobs: int = option(1, "seeds that run side by side, each with its part of the cores", low=1)
    note: str = option("", "what to know of this machine, for the results file", metavar="TEXT")
    only: tuple = words("measure these again, keep the other figures", "LESSON")
    profile: str = option("cpu", "whose sizes")
    out: str | None = text("of the runs (default: runs/figures)", "FOLDER", path=True)
    ledger: str | None = text("default: benchmarks/results/figures-PROFILE.json", "FILE", path=True)


@dataclass(kw_only=True)
class Book(Command):
    """make the book of a run again

    Turn the executed notebooks of a run into a book: web pages with contents and search that need
    no kernel and no network. --slides makes slides of the same lessons, with notes for who speaks;
    --pdf one file of everything, exercises included (by a Chrome or Chromium of this machine).

    examples:
      r1lab book runs/cpu
      r1lab book runs/cpu --slides --pdf
    """
    folder: str = option("runs/cpu", "of the run", positional=True, metavar="FOLDER", path=True)
    slides: bool = flag("and slides/index.html")
    pdf: bool = flag("and course.pdf")


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
        print(f"lessons to work on: {files.from_here(made)}, {len(new)} notebooks written")
        if kept:
            print(f"as they were, with what has been done in them: {', '.join(kept)}")
        return 0
    start = "fresh" if args.fresh else "resume" if args.resume else "again"
    return 0 if runner.run(*asked, parameters, seed=args.seed, start=start).ok else 1


def list_notebooks(args: Run) -> int:
    """Notebooks, and their parameters on the profile."""
    from r1lab.course import profiles

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
    from r1lab.course import profiles, seeds
    from r1lab.course.readme import markdown_table

    profile = profiles.check_profile(args.profile)
    ledger = Path(args.ledger or seeds.LEDGER.with_name(f"figures-{profile}.json"))
    files.check_writable(ledger)
    base = args.out or ("runs/figures" if profile == "cpu" else f"runs/figures-{profile}")
    how = {"notebooks": list(args.only) or None, "jobs": args.jobs, "note": args.note}
    made = seeds.measure(list(args.seeds), profile, base=base, ledger=ledger, **how)
    seeds.publish(made, seeds.PAGES if ledger == seeds.LEDGER else ())
    print(markdown_table(made["figures"]))
    print(f"written to {files.from_here(ledger)}")


def book(args: Book) -> None:
    from r1lab.course import book as pages
    from r1lab.course import slides

    if not args.folder:
        raise R1LabError("name the folder of a run: r1lab book runs/cpu")
    print(files.from_here(pages.build(ROOT / args.folder)))
    if args.slides:
        print(files.from_here(slides.build(ROOT / args.folder)))
    if args.pdf:
        made = pages.pdf(ROOT / args.folder)
        none = "no course.pdf: no Chrome or Chromium is found here"
        print(files.from_here(made) if made else none)


def init(args: Init) -> None:
    from r1lab.course import copies

    folder, new = copies.lay_out(args.folder)
    print(f"{folder / 'notebooks'}: {len(new)} files written")

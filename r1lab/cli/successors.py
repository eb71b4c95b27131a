"""The command `successors`. It imports what it needs."""
# fmt: off

from dataclasses import dataclass

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import Command, flag, words


@dataclass(kw_only=True)
class Successors(Command):
    """what came after GRPO, against the paper's objective

    Print the table of lesson 14 from its ledger, benchmarks/results/successors.json: which gains of
    GRPO's successors are real here, which are noise, which hurt. --measure trains what is missing
    in it; stopped anywhere, the same command goes on.

    examples:
      r1lab successors
      r1lab successors --measure                 all regimes, five seeds: about 20 minutes
      r1lab successors --measure --only stale
    """
    measure: bool = flag("train what is not in the ledger")
    only: tuple = words("these regimes (default: all)", "REGIME")
    quiet: bool = flag("do not print the table")
    jobs: int = option(2, "seeds at a time, each with one thread", low=1)


def successors(args: Successors) -> None:
    from r1lab.bench import successors as compared

    for name in args.only:
        compared.regime_of(name)
    if args.measure:
        compared.measure(jobs=args.jobs, only=args.only or None)
    book = files.read_json(compared.LEDGER)
    if not book:
        raise R1LabError("nothing is measured yet: r1lab successors --measure")
    if not args.quiet:
        print(compared.page(book))

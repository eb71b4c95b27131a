"""The command `sandbox`. It imports what it needs."""
# fmt: off

from dataclasses import dataclass

from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import Command


@dataclass(kw_only=True)
class Sandbox(Command):
    """what holds the programs that models write

    `doctor` tells which layers of the code sandbox hold on this machine, what each stops, what is
    not stopped, and what a program costs. It exits with 1 where nothing contains a program. Where
    no layer holds (macOS, Windows), `pip install 'r1lab[wasm]'` brings an interpreter that does.

    examples:
      r1lab sandbox doctor
    """
    what: tuple = option((), "doctor", positional=True, metavar="doctor")


def sandbox(args: Sandbox) -> int:
    from r1lab.sandbox.doctor import report

    if args.what != ("doctor",):
        raise R1LabError("r1lab sandbox takes one word: doctor")
    text, contained = report()
    print(text)
    return 0 if contained else 1

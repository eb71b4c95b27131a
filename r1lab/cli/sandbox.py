"""What `r1lab sandbox` does."""

from __future__ import annotations

from r1lab.basics.errors import R1LabError
from r1lab.cli.commands import Sandbox
from r1lab.sandbox.doctor import report


def sandbox(args: Sandbox) -> int:
    if args.what != ("doctor",):
        raise R1LabError("r1lab sandbox takes one word: doctor")
    text, contained = report()
    print(text)
    return 0 if contained else 1

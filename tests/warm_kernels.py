"""What a process does that executes lessons in kernels whose libraries are imported already.

(`tests/test_runner.py` is on kernels as users get them.)
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr

import warm

from r1lab.course import runner


def begin() -> None:
    """Kernels are warm.py's, of one thread each."""
    sys.executable = warm.python()
    os.environ["OMP_NUM_THREADS"] = "1"


def execute(name: str, **how) -> tuple[bool, str]:
    """Run one lesson on the smoke profile: whether it ran to its end, and what the runner said."""
    with redirect_stderr(io.StringIO()) as said:
        result = runner.run("smoke", [name], book=False, **how)
    return result.ok, said.getvalue()

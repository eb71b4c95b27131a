"""Imports go one way, also those inside functions: the contracts in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def lint(root: Path) -> tuple[int, str]:
    """The exit code of import-linter on the package in `root`, and what it says."""
    program = "import sys; from importlinter.cli import lint_imports as run; sys.exit(run('{}'))"
    done = subprocess.run(
        [sys.executable, "-c", program.format(root / "pyproject.toml")],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_imports_go_one_way():
    code, said = lint(ROOT)
    assert code == 0, said[said.find("Broken contracts") :]


UP, LAZY = "from r1lab.machine import room", "def f():\n    from r1lab import grpo"


@pytest.mark.parametrize(
    ("module", "line", "named"),
    [
        ("basics/files.py", UP, "r1lab.basics.files -> r1lab.machine"),
        ("sampler/draw.py", LAZY, "r1lab.sampler.draw -> r1lab.grpo"),
        ("losses.py", "from r1lab import grpo", "import each other BROKEN"),
        ("mine.py", "", "not listed as layers"),
    ],
)
def test_an_import_the_wrong_way_is_found(tmp_path, module, line, named):
    shutil.copytree(
        ROOT / "r1lab", tmp_path / "r1lab", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / "r1lab" / module, "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    code, said = lint(tmp_path)
    assert code == 1 and named in said, said

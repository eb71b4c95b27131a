"""r1lab: DeepSeek-R1 from scratch, small enough to read and to run on two CPU cores.

The package holds what the lessons in `notebooks/` use; every module is one idea of the paper
(arXiv 2501.12948) in the paper's notation. Read them in this order: `templates`, `rewards`,
`advantages`, `losses`, `rollouts`, `grpo`, `evaluate`.
"""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

#: The project's folder: the one with `data/`, `notebooks/` and `benchmarks/` beside this package.
ROOT = Path(__file__).resolve().parent.parent

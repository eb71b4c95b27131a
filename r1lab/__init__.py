"""r1lab: DeepSeek-R1 from scratch, small enough to read and to run on two CPU cores.

The package holds what the lessons in `notebooks/` use; every module is one idea of the paper
(arXiv 2501.12948) in the paper's notation. Read them in this order: `templates`, `rewards`,
`advantages`, `losses`, `rollouts`, `grpo`, `evaluate`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning: on a machine with other work on its
# cores spinning makes everything ten times slower. OpenMP reads this when torch is loaded; where
# torch came first, `machine.workers` sees to it.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: The project's folder: the one with `data/`, `notebooks/` and `benchmarks/` beside this package.
ROOT = Path(__file__).resolve().parent.parent

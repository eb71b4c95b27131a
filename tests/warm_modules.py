"""What lessons import, imported before their kernels are forked (tests/warm_kernels.py)."""

import gc
import importlib

gc.disable()
for name in ("ipykernel.kernelapp", "ipykernel.ipkernel", "torch", "r1lab.pipeline", "r1lab.show",
             "r1lab.course.claims", "r1lab.trl_backend.run"):  # fmt: skip
    importlib.import_module(name)
gc.freeze()
gc.enable()

"""What lessons' kernels are forked from, and what each of them then does (warm_kernels.py)."""

import gc
import importlib
import os
import sys


def serve(command: list[str], environment: dict[str, str], folder: str) -> None:
    """The kernel itself: `python -m ipykernel_launcher -f FILE ...` in a new process group."""
    assert "torch" in sys.modules and "r1lab" not in sys.modules
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = [*command[2:], f"--IPKernelApp.parent_handle={os.getppid()}"]
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()


if os.environ.get("R1LAB_WARM"):
    gc.disable()
    for name in ("ipykernel.kernelapp", "ipykernel.ipkernel", "r1lab.pipeline", "r1lab.show",
                 "r1lab.course.claims", "r1lab.trl_backend.run"):  # fmt: skip
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "r1lab"]:
        del sys.modules[name]  # a lesson that uses a module of ours without importing it must fail
    gc.freeze()
    gc.set_threshold(20_000)  # as in conftest.py
    gc.enable()

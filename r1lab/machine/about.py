"""What this machine is: hardware and versions."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from r1lab import __version__


def driver() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        return answer.stdout.splitlines()[0].strip()
    return None


def gpu_versions() -> dict[str, str]:
    """Of CUDA, vLLM and Triton; what is not there is said to be not installed."""
    found = {"cuda": torch.version.cuda or "none (CPU build of torch)"}
    for name in ("vllm", "triton"):
        found[name] = "not installed"
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def hardware() -> dict[str, Any]:
    """The machine, in what matters for a timing: CPU, cores given to us, memory, GPU."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, AttributeError):
        cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]
    memory = None
    with contextlib.suppress(ValueError, OSError, AttributeError):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    gpu = None
    with contextlib.suppress(OSError, subprocess.SubprocessError, IndexError):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        gpu = answer.stdout.splitlines()[0].strip()
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "memory_gib": memory, "gpu": gpu}


def versions() -> dict[str, str]:
    """The versions that a result hangs on."""
    found = {"r1lab": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "trl", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

"""What this machine is: hardware and versions."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from r1lab import __version__


def of_gpu(field: str) -> str | None:
    """A field of nvidia-smi, of the first GPU: "name", "driver_version"."""
    query = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError, IndexError):
        found = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
        return found.stdout.splitlines()[0].strip()
    return None


def gpu_versions() -> dict[str, str]:
    """Of CUDA, vLLM and Triton, or "not installed"."""
    import torch  # `hardware` and `versions` do without

    found = {"cuda": torch.version.cuda or "none (CPU build of torch)"}
    for name in ("vllm", "triton"):
        found[name] = "not installed"
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def hardware() -> dict[str, Any]:
    """What matters for a timing: CPU, cores of this process, memory in GiB, GPU."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError, TypeError):
        cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]
    memory = round(psutil.virtual_memory().total / 2**30)
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "memory_gib": memory, "gpu": of_gpu("name")}


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {"r1lab": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "trl", "numpy"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

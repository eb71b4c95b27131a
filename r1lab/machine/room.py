"""How much memory there is, and how much is held."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path

import torch


def size(n: float) -> str:
    """Bytes in words: 41 MiB, 0.82 GiB, 12.3 GiB, 410 GiB."""
    if n < 0.1 * 2**30:
        return f"{n / 2**20:.3g} MiB" if n < 100 * 2**20 else f"{n / 2**20:.0f} MiB"
    n /= 2**30
    return f"{n:.2f} GiB" if n < 10 else f"{n:.1f} GiB" if n < 100 else f"{n:,.0f} GiB"


# --- what there is -------------------------------------------------------------------------------


def available(device: str = "cpu") -> int:
    """Bytes that this process may hold at most, what it holds already included.

    On a GPU, of the allocator. On a CPU physical memory that is free, or that a container's limit
    (cgroup version 1 or 2) leaves.
    """
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved()
    return min(free_memory(), cgroup_room()) + held("cpu")


def held(device: str = "cpu") -> int:
    """Bytes that this process holds now: resident, or of a GPU's allocator."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    try:
        pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def large_blocks_apart() -> None:
    """Have glibc give every block above 1 MiB pages of its own, from now on. With LoRA a pass frees
    much between what it keeps, and the heap's holes stay: 3.7 GiB were held where 2.6 were planned
    (SmolLM2-135M, rank 8). It costs some time, so it is for LoRA alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD, which else grows to 32 MiB
        mallopt(-1, 1 << 20)  # M_TRIM_THRESHOLD


def free_memory(meminfo: str = "/proc/meminfo") -> int:
    """Bytes of physical memory that programs can still have."""
    try:
        for line in Path(meminfo).read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def cgroup_room(own: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float:
    """Bytes that a container's limit leaves; infinite without a limit.

    A limit holds for all groups below it, so every folder from the process's own up to the root is
    asked. A container often sees its own group as the root.
    """
    try:
        lines = [line.split(":", 2) for line in Path(own).read_text("utf-8").splitlines()]
    except OSError:
        return float("inf")
    left = float("inf")
    for number, names, path in (line for line in lines if len(line) == 3):
        if number == "0" and not names:  # version 2
            top, limit, used = Path(root), "memory.max", "memory.current"
        elif "memory" in names.split(","):
            top = Path(root) / "memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = top / path.strip("/")
        for group in (folder, *folder.parents):
            try:
                most = int((group / limit).read_text("utf-8"))  # "max" is no number: no limit
                taken = int((group / used).read_text("utf-8"))
                left = min(left, max(0, most - taken + _cached(group)))
            except (OSError, ValueError):
                pass
            if group == top:
                break
    return left


def _cached(group: Path) -> int:
    """Bytes of files in a group's memory that the kernel gives up when it is asked for more."""
    try:
        for line in (group / "memory.stat").read_text("utf-8").splitlines():
            if line.split()[0] in ("inactive_file", "total_inactive_file"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0

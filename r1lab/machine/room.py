"""How much memory there is, and how much is held."""

import ctypes
from contextlib import suppress
from pathlib import Path

import psutil
import torch


def size(n: float) -> str:
    """Bytes in words: 41 MiB, 0.82 GiB, 12.3 GiB, 410 GiB."""
    if n < 0.1 * 2**30:
        return f"{n / 2**20:.3g} MiB" if n < 100 * 2**20 else f"{n / 2**20:.0f} MiB"
    n /= 2**30
    return f"{n:.2f} GiB" if n < 10 else f"{n:.1f} GiB" if n < 100 else f"{n:,.0f} GiB"


def available(device: str = "cpu") -> int:
    """Bytes that this process may hold, with those that it holds: of a GPU's allocator, or of
    physical memory, within a container's limit (cgroup version 1 or 2)."""
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return free + torch.cuda.memory_reserved()
    return min(psutil.virtual_memory().available, cgroup_room()) + held("cpu")


def held(device: str = "cpu") -> int:
    """Bytes that this process holds now: resident, or of a GPU's allocator."""
    return torch.cuda.memory_allocated() if device == "cuda" else psutil.Process().memory_info().rss


def gibibytes_held() -> float:
    """The most GiB that this process has held on its GPU, or holds resident where it uses none."""
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return (torch.cuda.max_memory_allocated() if on_gpu else held("cpu")) / 2**30


def large_blocks_apart() -> None:
    """Have glibc give every block above 1 MiB pages of its own from now on, for LoRA: its passes
    free much between what they keep, and the heap's holes took 3.7 GiB where 2.6 were planned
    (SmolLM2-135M, rank 8). It costs some time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD, which else grows to 32 MiB
        mallopt(-1, 1 << 20)  # M_TRIM_THRESHOLD


def cgroup_room(own: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> float:
    """Bytes that a container's limit leaves; infinite without a limit. A limit holds for all groups
    below it, so it reads every folder from the process's own (often the root) up to the root."""
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
            with suppress(OSError, ValueError):
                most = int((group / limit).read_text("utf-8"))  # "max" is no number: no limit
                taken = int((group / used).read_text("utf-8"))
                left = min(left, max(0, most - taken + _cached(group)))
            if group == top:
                break
    return left


def _cached(group: Path) -> int:
    """Bytes of cached files in a group's memory, which the kernel gives up on demand."""
    with suppress(OSError, ValueError, IndexError):
        for line in (group / "memory.stat").read_text("utf-8").splitlines():
            if line.split()[0] in ("inactive_file", "total_inactive_file"):
                return int(line.split()[1])
    return 0

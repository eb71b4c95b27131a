"""Energy: measured where the machine tells, estimated from a stated power where it does not.

    RAPL   joules of each CPU package, in /sys/class/powercap (most machines let only root read it)
    NVML   millijoules of each GPU since its driver was loaded (libnvidia-ml, Volta and later)

Both count all that runs on the machine, not this process alone. `Gauge` measures a mean power, and
`kwh` takes it for all seconds of a run, so a run that was stopped and resumed is one sum.
"""

import ctypes
import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from r1lab.basics.errors import R1LabError

POWERCAP = Path("/sys/class/powercap")
WATTS_PER_CORE = 10.0  # stated, not measured: 65 W for 6 cores (desktop), 350 W for 56 and memory
WATTS = "R1LAB_WATTS"  # the environment's word for what this machine draws, from a wall meter
EVERY = 60.0  # seconds between readings: a package's counter wraps after some minutes


class Counter(NamedTuple):
    """One meter: part ("CPU", "GPU"), how it is read, joules now, and where it begins again."""

    part: str
    how: str
    read: Callable[[], float]
    wraps_at: float = math.inf


def rapl(folder: Path = POWERCAP) -> list[Counter]:
    """The CPU packages that may be read; their parts (core, memory) are in their sums."""

    def joules(path: Path) -> float:
        return int(path.read_text()) / 1e6

    found = []
    for package in sorted(folder.glob("intel-rapl:*")):
        if package.name.count(":") > 1:
            continue
        with suppress(OSError, ValueError):
            path, most = package / "energy_uj", joules(package / "max_energy_range_uj")
            joules(path)
            found.append(Counter("CPU", "RAPL", lambda path=path: joules(path), most))
    return found


def nvml() -> list[Counter]:
    """The GPUs of this machine that count their energy."""
    found: list[Counter] = []
    with suppress(OSError, AttributeError):
        library, many = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(many)):
            return found
        for index in range(many.value):
            device, now = ctypes.c_void_p(), ctypes.c_ulonglong()
            if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
                continue

            def joules(device=device, now=now) -> float:
                if library.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(now)):
                    raise OSError("NVML does not tell the energy of this GPU")
                return now.value / 1e3

            with suppress(OSError):
                joules()
                found.append(Counter("GPU", "NVML", joules))
    return found


class Gauge:
    """Joules of the machine's parts while its block runs: {"CPU": ..., "GPU": ...}, without those
    that nothing measures. A thread reads the counters before they wrap."""

    def __init__(self, counters: list[Counter] | None = None):
        self.counters = [*rapl(), *nvml()] if counters is None else counters
        self.joules: dict[str, float] = {}
        self._ended, self._lock = threading.Event(), threading.Lock()

    def __enter__(self) -> "Gauge":
        self.began, self._last = time.perf_counter(), [one.read() for one in self.counters]
        if self.counters:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.read()
        self._ended.set()

    def read(self) -> dict[str, float]:
        """Joules by part since the block began."""
        with self._lock:
            for i, one in enumerate(self.counters):
                with suppress(OSError):
                    now = one.read()
                    more = now - self._last[i] + (one.wraps_at if now < self._last[i] else 0.0)
                    self.joules[one.part] = self.joules.get(one.part, 0.0) + more
                    self._last[i] = now
            self.seconds = time.perf_counter() - self.began
            return dict(self.joules)

    def _watch(self) -> None:
        while not self._ended.wait(EVERY):
            self.read()


def kwh(seconds: float, gauge: Gauge | None, cores: int) -> dict[str, Any]:
    """Energy of `seconds` of this machine: {"kwh", "energy": how it is known}. cores: of this
    process, for the estimate. Raises R1LabError for an R1LAB_WATTS that is no number above 0."""
    if told := os.environ.get(WATTS):
        watts, how = _number(told), [f"estimated at {told} W, from {WATTS}"]
    else:
        joules = gauge.read() if gauge is not None else {}
        over = gauge.seconds if joules else 1.0
        watts = sum(joules.values()) / over
        how = [f"{one.part} measured by {one.how}" for one in (gauge.counters if joules else ())]
        if "CPU" not in joules:
            watts += WATTS_PER_CORE * cores
            how += [f"CPU estimated at {WATTS_PER_CORE:g} W for each of {cores} cores"]
    return {"kwh": watts * seconds / 3.6e6, "energy": "; ".join(dict.fromkeys(how))}


def _number(text: str) -> float:
    with suppress(ValueError):
        if 0 < (watts := float(text)) < math.inf:
            return watts
    raise R1LabError(f"{WATTS}={text} must be the machine's watts, a number above 0")

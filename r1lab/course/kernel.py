"""The kernel of one notebook: started by this interpreter, interrupted by signals, with a bar."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import subprocess
import sys
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from papermill.engines import NBClientEngine, papermill_engines
from tqdm.std import tqdm

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours in tracebacks and progress bars
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
FROM = range(20_000, 32_000)  # below those that systems give to connections (Linux: 32768 and up)


class Kernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever kernelspecs the user has installed; the newest one can
    be interrupted from a signal's handler.

    Its ports are chosen here and bound there, a second later. jupyter_client takes those that the
    system offers, and the system may offer one to somebody else in between: such a kernel dies."""

    newest: Kernel | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, cache_ports=False, **free_ports())
        Kernel.newest = self

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        command += ["--log-level=ERROR"]  # its note on plain TCP is for shared machines
        return KernelSpec(argv=command, display_name="Python 3", language="python")

    async def start_kernel(self, **options: Any) -> None:
        """What a lesson writes to file descriptor 1 is in its notebook, and not among our lines."""
        await super().start_kernel(stdout=subprocess.DEVNULL, **options)

    def interrupt_now(self) -> None:
        """As Ctrl-C in JupyterLab."""
        if (process := getattr(self.provisioner, "process", None)) is not None:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGINT)


def free_ports() -> dict[str, int]:
    """A port of FROM, free now, for each of PORTS; others at each call, whatever the seeds."""
    found: list[int] = []
    for port in random.SystemRandom().sample(FROM, len(FROM)):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == len(PORTS):
            break
    return dict(zip(PORTS, found, strict=True))


@contextlib.contextmanager
def interruptible():
    """Ctrl-C and SIGTERM interrupt the kernel and are noted in the list that this yields; a second
    one raises KeyboardInterrupt here."""
    asked: list[int] = []

    def stop(number, frame) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        if Kernel.newest is not None:
            Kernel.newest.interrupt_now()

    before = {}
    try:
        # not the main thread: whoever owns it has the signals
        with contextlib.suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, stop)
        yield asked
    finally:
        Kernel.newest = None
        for number, handler in before.items():
            signal.signal(number, handler)


class Engine(NBClientEngine):
    """papermill's own, but it saves a notebook at its end, however that comes, and not before and
    after every cell: that was nine tenths of the runner's work."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, **how):
        path, nb_man.output_path = nb_man.output_path, None
        try:
            super().execute_managed_notebook(nb_man, kernel_name, **how)
        finally:
            nb_man.output_path = path


papermill_engines.register("r1lab", Engine)


class Progress:
    """A bar over a notebook's cells; as the file of the kernel's stderr it shows its last line."""

    def __init__(self, label: str, cells: int, asked: list[int]) -> None:
        hide, self.asked, self.cell = not sys.stderr.isatty(), asked, 0
        look = "{desc}  cell {n}/{total}  {elapsed}  {postfix}"
        self.bar = tqdm(total=cells, desc=label, bar_format=look, leave=False, disable=hide)

    def cell_starts(self, cell, cell_index: int) -> None:
        """nbclient calls this before each cell."""
        if self.asked:  # a signal came between two cells
            raise KeyboardInterrupt
        self.cell = cell_index + 1
        self.bar.update()

    def write(self, text: str) -> None:
        if lines := COLOURS.sub("", text.replace("\r", "\n")).strip():
            self.bar.set_postfix_str(lines.splitlines()[-1].strip()[:100])

    def flush(self) -> None:
        """Nothing is held back."""

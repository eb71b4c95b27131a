"""A `python` for what tests start: its imports of torch, transformers and TRL are done already.

They take 5 CPU seconds of each new process before its first line. A process of this kind is one of
its own all the same: `warm_server.py` forks it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import multiprocessing.spawn
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


@functools.cache
def python() -> str:
    """The path of that program; its server is started by the first who asks. Elsewhere than on
    Linux it is this interpreter: macOS forks no process with frameworks."""
    if sys.platform != "linux":
        return sys.executable
    folder = os.environ.get("R1LAB_WARM") or begin()
    return str(Path(folder, "python"))


def kill(pid: int) -> None:
    """SIGKILL to a process of `python`. Other signals are handed on to it, that one cannot be."""
    told = Path(os.environ.get("R1LAB_WARM", "/nowhere"), f"socket-{pid}")
    os.kill(int(told.read_text()) if told.exists() else pid, signal.SIGKILL)


@contextlib.contextmanager
def spawned():
    """While this lasts, that program is what multiprocessing's "spawn" starts."""
    before = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(python())
    try:
        yield
    finally:
        multiprocessing.set_executable(before)


@contextlib.contextmanager
def processes():
    """While this lasts, it is also what is started by `sys.executable` and by torchrun."""
    before = sys.executable
    sys.executable = os.environ["PYTHON_EXEC"] = python()
    try:
        with spawned():
            yield
    finally:
        sys.executable = before
        del os.environ["PYTHON_EXEC"]


def begin() -> str:
    """Start the server; its folder, which processes of ours find in R1LAB_WARM."""
    keep = tempfile.TemporaryDirectory(prefix="r1lab-warm-")
    folder = Path(keep.name)
    words = [sys.executable, "-SEs", HERE / "warm_client.py", sys.executable, folder / "socket"]
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()  # who asks early waits, and is refused if the server has died
        server = subprocess.Popen(
            [sys.executable, HERE / "warm_server.py", str(listener.fileno())],
            stdin=subprocess.PIPE, start_new_session=True, pass_fds=[listener.fileno()],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
    atexit.register(lambda: (server.stdin.close(), server.wait(), keep.cleanup()))
    os.environ["R1LAB_WARM"] = str(folder)
    return str(folder)


def kernelspec(folder: Path) -> str:
    """Jupyter's kernel "python3" in that program, for JUPYTER_PATH."""
    words = [python(), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": words, "display_name": "Python 3", "language": "python"}
    (folder / "kernels" / "python3").mkdir(parents=True)
    (folder / "kernels" / "python3" / "kernel.json").write_text(json.dumps(about))
    return str(folder)

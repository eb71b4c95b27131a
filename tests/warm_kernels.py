"""Lessons in kernels that are forked from a process in which their libraries are imported already.

Of the 5 seconds of CPU time before the first own line of a lesson all but one are imports of torch,
transformers and TRL. A kernel of this kind is a process of its own all the same: these modules are
there, and no name. (`tests/test_runner.py` is on kernels as users get them.)
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
from contextlib import redirect_stderr
from multiprocessing import forkserver

import warm_modules
from jupyter_client.provisioning import local_provisioner

from r1lab.course import runner

SERVER = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


class Forked:
    """What jupyter_client asks of a kernel's process (subprocess.Popen)."""

    stdin = stdout = stderr = None

    def __init__(self, command, env, cwd=None, **_):
        how = (command, dict(env), str(cwd or os.getcwd()))
        self.process = SERVER.Process(target=warm_modules.serve, args=how)
        self.process.start()
        self.pid = self.process.pid
        while self.poll() is None and os.getpgid(self.pid) != self.pid:
            time.sleep(0.01)  # a signal to its group must not reach ours

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.poll()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def begin() -> None:
    """What a process that executes lessons does first. macOS forks no process with frameworks."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if sys.platform != "linux":
        return
    SERVER.set_forkserver_preload(["warm_modules"])
    before = dict(os.environ)
    os.environ["R1LAB_WARM"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # older Pythons hand it no sys.path
    forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)
    local_provisioner.launch_kernel = Forked


def execute(name: str, **how) -> tuple[bool, str]:
    """Run one lesson on the smoke profile: whether it ran to its end, and what the runner said."""
    with redirect_stderr(io.StringIO()) as said:
        result = runner.run("smoke", [name], book=False, **how)
    return result.ok, said.getvalue()

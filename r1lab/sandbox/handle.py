"""The host's handle of a fork server: starts it, hands it programs, hears how they ended."""

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import probe, seccomp
from r1lab.sandbox.kernel import MACHINE
from r1lab.sandbox.verdicts import Ended, Limits
from r1lab.sandbox.wire import ENDED, PATIENCE, TOLD, WHY

SERVER = Path(__file__).with_name("server.py")
START_SECONDS = 60.0
LOOK = 0.02  # seconds between two looks at what a program has written
FIRST_USER = 61001  # users that no system gives to anybody
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LD_BIND_NOW": "1",  # or each child would look for the functions of the C library
}
ENVIRONMENT |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Lost(Exception):
    """A fork server does not answer, or has ended."""


class Server:
    """A fork server: one program at a time. modules: those that programs may import besides the
    usual ones; None: only the commonest, a smaller process, whose children cost a third less."""

    lost, tries = Lost, probe.TRIES

    def __init__(
        self, number: int, wanted: Sequence[str], modules: Sequence[str] | None, **more
    ) -> None:
        if not hasattr(os, "fork"):
            raise Lost(f"{sys.platform} cannot fork; pip install 'r1lab[wasm]'")
        ours, theirs = socket.socketpair()
        folder = tempfile.mkdtemp(prefix="r1lab-sandbox-")
        os.chmod(folder, 0o755)
        told = {"layers": list(wanted), "folder": folder}
        told |= {"all": modules is not None, "modules": list(modules or ())}
        told |= {"filter": seccomp.filter_program(MACHINE).hex()}
        path = [*sys.path, str(SERVER.parents[2])] if modules else []
        told |= {"user": FIRST_USER + number, "path": path, **more}
        python = [sys.executable, "-s", "-S", "-B", str(SERVER), str(theirs.fileno())]
        self.control, self.small = ours, modules is None
        try:
            self.process = subprocess.Popen(
                [*python, json.dumps(told)],
                **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),
                pass_fds=(theirs.fileno(),),
                env=ENVIRONMENT,
                cwd=os.sep,
                start_new_session=True,
            )
            theirs.close()
            ours.settimeout(START_SECONDS)
            line = ours.makefile("rb").readline()
            if not line.endswith(b"\n"):
                raise Lost("the fork server ended while it started")
        except (OSError, Lost) as error:
            self.close()
            raise Lost(str(error)) from None
        finally:
            theirs.close()
            shutil.rmtree(folder, ignore_errors=True)
        said = json.loads(line)
        if "error" in said:
            self.close()
            raise R1LabError(f"the sandbox has {said['error']}; install it, or do without")
        self.held, self.absent, self.user = said["held"], said["absent"], said["user"]

    def execute(self, job: bytes, limits: Limits, most: int) -> tuple[bytes, bool, Ended]:
        """Runs one program: its frames, whether there were more than `most` bytes, how it ended."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                sizes = limits.memory, limits.output, limits.disk
                told = TOLD.pack(limits.cpu, limits.wall, *sizes)
                socket.send_fds(self.control, [told], [theirs.fileno()])
                theirs.close()
                wait = PATIENCE * limits.wall + START_SECONDS
                ours.settimeout(wait)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    ours.sendall(job)  # unless it ended before it had read all
                    ours.shutdown(socket.SHUT_WR)
                return self._frames(ours, most, time.monotonic() + wait)
            except OSError as error:
                raise Lost(str(error)) from None

    def _frames(self, channel: socket.socket, most: int, until: float) -> tuple[bytes, bool, Ended]:
        """Waits for the end of the program, and only now and then looks at what it has written: to
        be woken for every frame costs as much as to run a small program."""
        parts, size, ended = [], 0, b""
        channel.setblocking(False)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        while len(ended) < ENDED.size:
            if poll.poll(LOOK * 1000):
                if not (part := self.control.recv(ENDED.size - len(ended))):
                    raise Lost("the fork server ended")
                ended += part
            elif time.monotonic() > until:
                raise Lost("the fork server does not answer")
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                while size <= most and (part := channel.recv(1 << 16)):
                    parts.append(part)
                    size += len(part)
            if size > most:
                channel.close()  # a program that would write on is ended by SIGPIPE
        code, why, cpu, wall, peak = ENDED.unpack(ended)
        return b"".join(parts)[:most], size > most, Ended(code, WHY[why], cpu, wall, peak)

    def close(self) -> None:
        self.control.close()
        if (process := getattr(self, "process", None)) is not None:
            process.kill()
            process.wait()

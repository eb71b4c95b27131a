"""The host's side: starts fork servers, hands them programs, and judges what comes back."""

from __future__ import annotations

import atexit
import contextlib
import json
import marshal
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import grader, probe, seccomp, verdicts
from r1lab.sandbox.layers import ALL, MACHINE
from r1lab.sandbox.verdicts import Case, Ended, Limits, Result, Verdict
from r1lab.sandbox.wire import ELSEWHERE, ENDED, PATIENCE, TOLD, WHY

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
Job = tuple[str, "str | None", Sequence[Case]]


class Lost(Exception):
    """A fork server does not answer, or has ended."""


class Server:
    """A fork server: one program at a time. modules: those that programs may import besides the
    usual ones; None: only the commonest, a smaller process, whose children cost a third less."""

    lost = Lost

    def __init__(self, number: int, wanted: Sequence[str], modules: Sequence[str] | None) -> None:
        ours, theirs = socket.socketpair()
        folder = tempfile.mkdtemp(prefix="r1lab-sandbox-")
        os.chmod(folder, 0o755)
        told = {"layers": list(wanted), "folder": folder}
        told |= {"all": modules is not None, "modules": list(modules or ())}
        told |= {"filter": seccomp.filter_program(MACHINE).hex()}
        told |= {"user": FIRST_USER + number, "path": sys.path if modules else []}
        python = [sys.executable, "-s", "-S", "-B", str(SERVER), str(theirs.fileno())]
        self.control, self.small = ours, modules is None
        try:
            self.process = subprocess.Popen(
                [*python, json.dumps(told)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=ENVIRONMENT,
                cwd=os.sep,
                start_new_session=True,
            )
            theirs.close()
            ours.settimeout(START_SECONDS)
            line = b""
            while not line.endswith(b"\n"):
                if not (part := ours.recv(1 << 16)):
                    raise Lost("the fork server ended while it started")
                line += part
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
        self.held, self.absent = said["held"], said["absent"]

    def execute(self, job: bytes, limits: Limits, most: int) -> tuple[bytes, bool, Ended]:
        """Runs one program: its frames, whether there were more than `most` bytes, how it ended."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                told = TOLD.pack(limits.cpu, limits.wall, limits.memory, limits.output)
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


class Sandbox:
    """Runs untrusted Python, and judges it.

        with Sandbox() as sandbox:
            cases = [Case((3,), 11), Case((5,), 17)]
            sandbox.judge("def f(x): return x * 3 + 2", "f", cases).passed    # True

    workers: programs at a time (default: one per core). modules: more modules that programs may
    import. weak: run where no layer contains a program, too. layers: only these (for tests).
    Starts when it is first asked: R1LabError where nothing contains a program and `weak` is not
    set. Threads may share it; after a fork each process starts its own servers."""

    def __init__(
        self,
        workers: int | None = None,
        limits: Limits = Limits(),  # noqa: B008
        modules: Iterable[str] = (),
        weak: bool = False,
        layers: Iterable[str] | None = None,
    ) -> None:
        self.workers = workers or min(8, cores())
        self.limits, self.modules, self.weak = limits, tuple(modules), weak
        self._wanted = tuple(ALL if layers is None else layers)
        self._forget()
        atexit.register(self.close)

    def start(self) -> Sandbox:
        """Starts a first server, and probes it; does nothing where one runs."""
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            if self._held is None:
                try:
                    self._idle.append(self._new(not self.modules))
                except Lost as error:
                    raise R1LabError(f"the code sandbox does not start: {error}") from None
        return self

    def judge(
        self,
        source: str,
        entry: str | None,
        cases: Sequence[Case],
        *,
        numbers: str = "strict",
        limits: Limits | None = None,
    ) -> Verdict:
        """Runs a program on all cases and compares. entry: the function to call, "Class.method", or
        None for a program that reads stdin and prints. numbers: see `grader.NUMBERS`."""
        return self.judge_all([(source, entry, cases)], numbers=numbers, limits=limits)[0]

    def judge_all(
        self, jobs: Iterable[Job], *, numbers: str = "strict", limits: Limits | None = None
    ) -> list[Verdict]:
        """The verdicts of (source, entry, cases), in order. The same job is run once. Nothing that
        a program does raises here."""
        self.start()
        limits, waiting = limits or self.limits, {}
        keys = []
        for source, entry, cases in jobs:
            try:
                job = pack(source, entry, [case[0] for case in cases], numbers)
                expected = [grader.Expected(case[1], numbers, entry is None) for case in cases]
                key = (job, *(one.bytes for one in expected))
                waiting[key] = partial(self._judge, source, job, expected, limits)
            except (TypeError, ValueError, AttributeError, RecursionError) as error:
                key = str(error)
                waiting[key] = partial(Verdict, "harness", ["none"] * len(cases), f"cases: {key}")
            keys.append(key)
        found = dict(zip(waiting, self._all(waiting.values()), strict=True))
        return [replace(found[key], outcomes=[*found[key].outcomes]) for key in keys]

    def run(
        self,
        source: str,
        inputs: Sequence[tuple],
        entry: str | None,
        *,
        numbers: str = "strict",
        limits: Limits | None = None,
    ) -> list[Result]:
        """What a program makes of each input (a tuple of arguments, or (text for stdin,))."""
        self.start()
        job = pack(source, entry, inputs, numbers)
        answers, _ = self._execute(source, job, limits or self.limits, len(inputs))
        return verdicts.results(answers, len(inputs))

    @property
    def layers(self) -> dict[str, str]:
        """The layers that hold here, by name."""
        return dict(self.start()._held)

    @property
    def absent(self) -> dict[str, str]:
        """Why another does not."""
        return dict(self.start()._absent)

    @property
    def open(self) -> list[str]:
        """What a program can do that it should not; empty unless `weak`."""
        return list(self.start()._open)

    def describe(self) -> str:
        """One line, for logs and records."""
        self.start()
        held = ", ".join([f"{self.workers} workers", *self._held.values()])
        if self._open:
            return f"WEAK code sandbox: {held}; programs can {', '.join(self._open)}"
        return f"code sandbox: {held}; every probe was refused"

    def close(self) -> None:
        """Ends all servers; the next call starts others."""
        if self._owner == os.getpid():
            with self._lock:
                for server in self._servers:
                    server.close()
        self._forget()

    def __enter__(self) -> Sandbox:
        return self.start()

    def __exit__(self, *error) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._owner, self._lock = os.getpid(), threading.RLock()
        self._room = threading.Semaphore(self.workers)
        self._servers: list[Server] = []
        self._idle: list[Server] = []
        self._started = 0
        self._held: dict[str, str] | None = None
        self._absent: dict[str, str] = {}
        self._open: list[str] = []

    def _new(self, small: bool) -> Server:
        """Starts a server and probes it."""
        with self._lock:
            number, self._started = self._started, self._started + 1
        server = Server(number % 1000, self._wanted, None if small else self.modules)
        try:
            found = probe.what_is_open(server)
            if found and not self.weak:
                raise R1LabError(probe.refusal(found))
        except BaseException:
            server.close()
            raise
        with self._lock:
            self._servers.append(server)
            self._held, self._absent, self._open = server.held, server.absent, found
        return server

    def _judge(self, source, job, expected, limits) -> Verdict:
        answers, ended = self._execute(source, job, limits, len(expected))
        return verdicts.judge(answers, ended, expected)

    def _execute(self, source: str, job: bytes, limits: Limits, cases: int) -> tuple:
        """Runs one program, and once more if the sandbox failed."""
        if len(source) > limits.source:
            words = f"the source is longer than {limits.source} characters"
            return verdicts.Answers("syntax", words, []), verdicts.NOTHING
        most = limits.output + verdicts.overhead(cases)
        answers, ended = verdicts.read(b"", False, verdicts.NOTHING, cases), verdicts.NOTHING
        small, tries = not self.modules, 2
        while tries:
            with self._room:
                try:
                    with self._lock:
                        idle = [server for server in self._idle if server.small == small]
                        for server in idle[:1]:
                            self._idle.remove(server)
                    server = idle[0] if idle else self._new(small)
                except (Lost, R1LabError):
                    tries -= 1
                    continue
                try:
                    data, cut, ended = server.execute(job, limits, most)
                    answers = verdicts.read(data, cut, ended, cases)
                except Lost:
                    answers = verdicts.read(b"", False, verdicts.NOTHING, cases)
                with self._lock:
                    if answers.status == "harness":
                        server.close()
                        self._servers.remove(server)
                        tries -= 1
                        continue
                    self._idle.append(server)
                if not (small and ended.code == ELSEWHERE):
                    break
                small = False
        return answers, ended

    def _all(self, calls: Iterable[Callable[[], Any]]) -> list:
        """The results of the calls, as many at a time as there are workers."""
        calls = list(calls)
        if min(len(calls), self.workers) < 2:
            return [call() for call in calls]
        with ThreadPoolExecutor(min(len(calls), self.workers)) as threads:
            return list(threads.map(lambda call: call(), calls))


def pack(source: str, entry: str | None, inputs: Iterable[tuple], numbers: str) -> bytes:
    """A program and its inputs, for `server.Program`; each input apart, so that a program that
    changes one changes no other. ValueError for what are no plain values."""
    if numbers not in grader.NUMBERS:
        raise R1LabError(f"numbers={numbers!r}; known: {', '.join(grader.NUMBERS)}")
    text = source.encode("utf-8", "surrogatepass")
    return marshal.dumps((text, entry, [marshal.dumps(tuple(one)) for one in inputs], numbers))


def cores() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


_default: Sandbox | None = None
_default_lock = threading.Lock()


#: Set to 1, also by --weak-sandbox: `default` runs where nothing contains a program, too. In the
#: environment, so that processes that a run starts do as it does.
WEAK = "R1LAB_WEAK_SANDBOX"


def default() -> Sandbox:
    """The sandbox that tasks share; nothing starts before it is used."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Sandbox(weak=os.environ.get(WEAK) == "1")
        return _default

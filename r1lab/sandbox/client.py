"""The host's side: hands programs to fork servers, and judges what comes back."""

from __future__ import annotations

import atexit
import marshal
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import grader, probe, verdicts, wasm
from r1lab.sandbox.handle import Lost, Server
from r1lab.sandbox.kernel import ALL
from r1lab.sandbox.verdicts import Case, Limits, Result, Verdict
from r1lab.sandbox.wire import ELSEWHERE

Job = tuple[str, "str | None", Sequence[Case]]


class Sandbox:
    """Runs untrusted Python, and judges it.

        with Sandbox() as sandbox:
            cases = [Case((3,), 11), Case((5,), 17)]
            sandbox.judge("def f(x): return x * 3 + 2", "f", cases).passed    # True

    workers: programs at a time (default: one per core). modules: more modules that programs may
    import. weak: run where nothing contains a program, too. layers: only these, or ["wasm"] (for
    tests).
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
        self._wanted, self._fixed = tuple(ALL if layers is None else layers), layers is not None
        self._forget()
        atexit.register(self.close)

    def start(self) -> Sandbox:
        """Starts a first server, and probes it; does nothing where one runs."""
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            if self._held is None:
                try:
                    try:
                        self._idle.append(self._new(self._small()))
                    except (Lost, R1LabError):
                        if not self._other():
                            raise
                        self._wanted = (wasm.NAME,)
                        self._idle.append(self._new(False))
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
        server = self._server(number % 1000, small)
        try:
            found = self._probe(server)
            if found and (not self.weak or self._other()):
                raise R1LabError(probe.refusal(found))
        except BaseException:
            server.close()
            raise
        with self._lock:
            self._servers.append(server)
            self._held, self._absent, self._open = server.held, server.absent, found
        return server

    def _small(self) -> bool:
        """Whether programs are tried in the small server first."""
        return not self.modules and self._wanted != (wasm.NAME,)

    def _other(self) -> bool:
        """Whether there is another interpreter to try, where no layer contains a program."""
        return not self._fixed and self._wanted != (wasm.NAME,) and wasm.available()

    def _server(self, number: int, small: bool) -> Server | wasm.Wasm:
        if self._wanted == (wasm.NAME,):
            return wasm.Wasm()
        return Server(number, self._wanted, None if small else self.modules)

    def _probe(self, server: Server | wasm.Wasm) -> list[str]:
        return probe.what_is_open(server, server.tries)

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
        small, tries = self._small(), 2
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
    """A program and its inputs, for `runner.Program`; each input apart, so that a program that
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

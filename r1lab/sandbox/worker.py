"""A worker process that calls one function on a model's text, under limits.

Such text is hostile, if only by accident: `9**9**9` keeps sympy busy for hours inside one C call,
which no exception and no thread ends.

    with Worker("package.module:function") as worker:
        worker.ask("2x", "x+x")         # what function("2x", "x+x") returns, or None

- A call has `cpu_seconds` of processor time (so a busy machine does not change a result): a signal
  raises an exception, and a second one ends the process.
- After `wall_seconds` by the clock the parent kills it (the only limit on Windows).
- It has `memory` bytes and, of the environment, PATH and PYTHONPATH alone: no tokens. It starts no
  processes (RLIMIT_NPROC, of which root is exempt) and writes into no file.
- On Linux, Landlock (since 5.13) forbids it, root too, to change or execute files and to read files
  outside the folders of Python and sys.path; a filter of system calls (x86-64, aarch64) forbids
  processes, signals, sockets, and to change modes, owners and times. Without Landlock it can read
  and remove files and create empty ones.

A worker that dies is replaced, and the call returns None. Each result names its question by a
number that was drawn for it, so one that comes too late, or was written by a text that broke in, is
no later question's.
"""

import atexit
import contextlib
import importlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import kernel
from r1lab.sandbox.seccomp import filter_program

MOST_CHARS = 1 << 20  # of a result
START_SECONDS = 120.0  # importing sympy takes one second, many on an overloaded machine


class Worker(contextlib.AbstractContextManager):
    """Calls `function` ("module:name", arguments and result as JSON) in its own process.

    The module's optional `warm_up` is called first, without limits of time.
    needs: the message for a user if the module cannot be imported.
    Threads may share it; after a fork each process starts its own."""

    def __init__(
        self,
        function: str,
        *,
        cpu_seconds: float = 0.5,
        wall_seconds: float = 60.0 if os.name == "posix" else 5.0,
        memory: int = 4 << 30,
        needs: str = "the worker process does not start",
    ) -> None:
        self.function, self.cpu_seconds, self.wall_seconds = function, cpu_seconds, wall_seconds
        self.memory, self.needs = memory, needs
        self.process: subprocess.Popen | None = None
        self._lock = threading.Lock()
        self._owner, self._ready = 0, False
        atexit.register(self.stop)

    def ask(self, *arguments):
        """The result; None if the function raised, took too long or ended the process. Raises
        R1LabError where the process does not start."""
        number = secrets.token_hex(8)
        question = json.dumps([number, arguments]) + "\n"
        with self._lock:
            for _ in range(2):  # twice, if it had died before
                process = self._running()
                try:
                    process.stdin.write(question)
                    process.stdin.flush()
                    break
                except OSError:
                    self.stop()
            else:
                return None
            try:
                answered, result = json.loads(self._line(self.wall_seconds))
                if answered == number:
                    return result
            except (ValueError, TypeError, RecursionError):  # no result of ours
                pass
            except BaseException:  # Ctrl-C: its result may still come
                self.stop()
                raise
            self.stop()
            self._start()  # imports meanwhile
            return None

    def stop(self) -> None:
        """Ends the process; the next call starts another."""
        process, self.process = self.process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def __exit__(self, *error) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen:
        if self.process is None or self._owner != os.getpid() or self.process.poll() is not None:
            self._start()
        if not self._ready:
            line = self._line(START_SECONDS)
            if line != "ready":
                self.stop()
                raise R1LabError(f"{self.needs} ({line or 'it ended'})")
            self._ready = True
        return self.process

    def _start(self) -> None:
        paths = os.pathsep.join(os.path.abspath(path or ".") for path in sys.path)
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        python = [sys.executable, "-X", "utf8", "-W", "ignore", "-m", "r1lab.sandbox.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(
            [*python, self.function, str(self.cpu_seconds), str(self.memory)],
            **pipes,
            encoding="utf-8",
            env={**kept, "PYTHONPATH": paths},
            cwd=os.path.abspath(os.sep),
            start_new_session=True,  # a stop signal must not reach it: a step finishes first
        )
        self._owner, self._ready = os.getpid(), False

    def _line(self, seconds: float) -> str:
        """The process's next line; "" if it ends, or is killed because it took too long."""
        process, late = self.process, threading.Event()
        alarm = threading.Timer(seconds, lambda: (late.set(), process.kill()))
        alarm.daemon = True
        alarm.start()
        try:
            return process.stdout.readline(MOST_CHARS).strip()
        finally:
            alarm.cancel()
            alarm.join()
            if late.is_set():
                process.wait()


class _Enough(BaseException):
    """Not an Exception: sympy catches those."""


def serve(function: str, cpu_seconds: float, memory: int) -> None:
    """Reads lines of JSON arguments and writes lines of JSON results (null: none)."""
    say = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # other prints are no results
    try:
        module, _, name = function.partition(":")
        module = importlib.import_module(module)
        getattr(module, "warm_up", lambda: None)()
        call = getattr(module, name)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}".splitlines()[0], file=say, flush=True)
        return
    limit = _limits(memory)
    print("ready", file=say, flush=True)
    for line in sys.stdin:
        number, arguments = json.loads(line)
        try:
            limit(cpu_seconds)
            result = json.dumps([number, call(*arguments)])
        except (_Enough, Exception):
            result = json.dumps([number, None])
        finally:
            limit(0)
        print(result, file=say, flush=True)


def _limits(memory: int):
    """Sets the process's limits; returns the function that sets those of a call (0: none)."""
    if os.name != "posix":  # Windows: the parent's clock has to do
        return lambda seconds: None
    with contextlib.suppress(OSError):  # where there is no Landlock
        readable = {*sys.path, sys.prefix, sys.base_prefix, "/usr", "/lib", "/lib64"}
        kernel.make(kernel.landlock(kernel.landlock_rules(readable)))
    kernel.make(kernel.limit(AS=memory, FSIZE=0, NPROC=0, CORE=0))

    def enough(signum, frame):
        raise _Enough

    signal.signal(signal.SIGVTALRM, enough)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, in the middle of anything
    if kernel.LINUX and (rules := filter_program(kernel.MACHINE, files=True, timers=True)):
        with contextlib.suppress(OSError):  # where there is no seccomp
            kernel.make(kernel.seccomp(rules))

    def limit(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        signal.setitimer(signal.ITIMER_PROF, 1.5 * seconds)

    return limit


if __name__ == "__main__":
    sys.path.pop(0)  # the folder / that we were started in
    serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))

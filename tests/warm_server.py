"""A Python that has imported torch, transformers and TRL, and forks itself for whoever asks.

Started by `warm.python()`. `warm_client.py` sends what a process is made of: its arguments, its
environment, its folder and its open files. The server answers with the new process's number
and, at its end, its exit status. When the client is gone, it kills the process. It ends itself when
its own stdin is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import threading
import traceback
import types
from pathlib import Path

LIBRARIES = ("r1lab.pipeline", "r1lab.show", "r1lab.course.claims", "r1lab.trl_backend.run",
             "ipykernel.kernelapp", "ipykernel.ipkernel")  # fmt: skip


def load() -> None:
    """Import what takes long. Modules of ours are forgotten again: each process reads its own, and
    one that uses a module without importing it must fail."""
    gc.disable()
    sys.path[0] = str(Path(__file__).parents[1])
    for name in LIBRARIES:
        with contextlib.suppress(Exception):  # who needs a module that is broken is told so
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "r1lab"]:
        del sys.modules[name]
    del sys.path[0]
    gc.freeze()
    gc.set_threshold(20_000)  # as in conftest.py
    gc.enable()


def received(client: socket.socket) -> tuple[list[str], dict[str, str], str, dict[int, int]]:
    """(arguments, environment, folder, open files) of a request: our number of each by its own."""
    head, files, _, _ = socket.recv_fds(client, 8, 100)
    with client.makefile("rb") as text:
        *request, numbers = json.loads(text.read(int.from_bytes(head, "big")))
    return *request, dict(zip(numbers, files, strict=True))


def serve(listener: socket.socket) -> tuple:
    """Fork a process for each request; in the new process, return the request."""
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(sys.stdin, selectors.EVENT_READ)
    clients: dict[int, socket.socket] = {}  # of each process that lives
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                for pid in clients:
                    os.kill(pid, signal.SIGKILL)
                raise SystemExit
            if key.fileobj is listener:
                client, _ = listener.accept()
                request = received(client)
                if not (pid := os.fork()):
                    waiting.close()
                    for other in (listener, client, *clients.values()):
                        other.close()
                    return request
                for number in request[-1].values():
                    os.close(number)
                client.sendall(b"%d\n" % pid)
                clients[pid] = client
                waiting.register(client, selectors.EVENT_READ, pid)
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
            elif key.fileobj is clients.get(key.data):  # closed by its other end
                waiting.unregister(key.fileobj)
                os.kill(key.data, signal.SIGKILL)
            else:  # a process has ended
                waiting.unregister(key.fileobj)
                os.close(key.fileobj)
                _, status = os.waitpid(key.data, 0)
                with clients.pop(key.data) as client:
                    if client in waiting.get_map():
                        waiting.unregister(client)
                        client.sendall(b"%d\n" % status)


def become(arguments, environment, folder, files) -> None:
    """Be `python ARGUMENTS` with this environment, folder and open files."""
    import torch

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    above = max(*files, *files.values()) + 1
    files = {number: fcntl.fcntl(ours, fcntl.F_DUPFD, above) for number, ours in files.items()}
    os.closerange(0, above)
    for number, ours in files.items():
        os.dup2(ours, number)
        os.close(ours)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # OpenMP reads it when it is loaded
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if "ipykernel_launcher" in arguments:
        os.environ["JPY_PARENT_PID"] = str(os.getppid())  # a kernel ends with its parent
        del sys.modules["tqdm.autonotebook"]  # imported before ipykernel, it chose text
        importlib.reload(sys.modules["tqdm.auto"])
    os.chdir(folder)
    coding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    plain = {"encoding": coding, "errors": errors or "strict"}
    now = "PYTHONUNBUFFERED" in environment
    sys.stdin = sys.__stdin__ = open(0, closefd=False, **plain)
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        open(1, "wb", closefd=False), **plain, line_buffering=os.isatty(1), write_through=now
    )
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(
        open(2, "wb", closefd=False), encoding=coding, errors="backslashreplace",
        line_buffering=True, write_through=now,
    )  # fmt: skip
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = ["", *filter(None, given)]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if arguments[0] == "-m":
        sys.path[0], sys.argv = folder, arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), vars(main))
    else:
        sys.path[0], sys.argv = os.path.dirname(os.path.abspath(arguments[0])), arguments
        runpy.run_path(arguments[0], run_name="__main__")


def ended(run, given) -> int:
    """run(*given), and the exit status that the interpreter gives it, negative for a signal."""
    try:
        run(*given)
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            return int(stop.code or 0)
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        load()
        request = serve(listener)
    code = ended(become, request)
    threading._shutdown()
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)  # to tidy up all that was imported takes half a second

"""The process for what nobody vouches for: what it may do, and that it always comes back."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from r1lab.basics.errors import R1LabError
from r1lab.sandbox.kernel import MACHINE, landlock_version
from r1lab.sandbox.seccomp import filter_program
from r1lab.sandbox.worker import Worker

MODULE = """
import os, signal, socket, subprocess, sys, time

warm = []

def warm_up():
    warm.append(1)

def add(a, b):
    return [a + b, len(warm)]

def look():
    import resource
    limits = {"NPROC": resource.getrlimit(resource.RLIMIT_NPROC)[0]}
    limits["FSIZE"] = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return [dict(os.environ), os.getcwd(), limits]

def attempt(what, where):
    actions = {
        "write": lambda: open(where, "w").write("x"),
        "create": lambda: os.close(os.open(where, os.O_CREAT | os.O_WRONLY)),
        "mkdir": lambda: os.mkdir(where),
        "symlink": lambda: os.symlink("/etc", where),
        "remove": lambda: os.unlink(where),
        "rename": lambda: os.rename(where, where + "2"),
        "truncate": lambda: os.truncate(where, 0),
        "read": lambda: open(where).read(),
        "run": lambda: subprocess.run([where]),
        "connect": lambda: socket.create_connection(("127.0.0.1", int(where))),
    }
    try:
        actions[what]()
    except OSError as error:
        return type(error).__name__
    return "done"

def spin():
    while True:
        pass

def stubborn():
    return sum(range(10 ** 12))

def sleep(seconds):
    time.sleep(seconds)
    return "slept"

def fail():
    raise ValueError

def die():
    os._exit(9)

def hostile(what, where):
    actions = {
        "fork": os.fork,
        "kill": lambda: os.kill(os.getppid(), signal.SIGTERM),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "modes": lambda: os.chmod(where, 0o777),
        "times": lambda: os.utime(where, (0, 0)),
    }
    try:
        actions[what]()
    except OSError as error:
        return type(error).__name__
    return "done"

def forge(line, times):
    for descriptor in range(3, 10):
        try:
            for _ in range(times):
                os.write(descriptor, line.encode("latin-1"))
        except OSError:
            pass
    return "mine"

def memory():
    return len("x" * (1 << 40))
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    (folder / "asked_of_worker.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    yield "asked_of_worker"
    sys.path.remove(str(folder))


def test_it_answers_and_is_warmed_up_once(module):
    with Worker(f"{module}:add") as worker:
        assert worker.ask(2, 3) == [5, 1]
        first = worker.process
        assert worker.ask("\u2028a", "ü") == ["\u2028aü", 1] and worker.process is first
        assert worker.ask(1, "x") is None  # a TypeError there is no result here
        assert worker.process is first


def test_its_environment_holds_nothing_of_ours(module, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    with Worker(f"{module}:look") as worker:
        environment, folder, limits = worker.ask()
    set_by_r1lab = {"OMP_WAIT_POLICY"}  # in the worker itself, as r1lab is imported there
    assert set(environment) - set_by_r1lab <= {"PATH", "PYTHONPATH", "LC_CTYPE"} and folder == "/"
    assert limits == {"NPROC": 0, "FSIZE": 0}


@pytest.mark.skipif(not landlock_version(), reason="the kernel has no Landlock")
@pytest.mark.parametrize(
    "what", ["write", "create", "mkdir", "symlink", "remove", "rename", "truncate", "read", "run"]
)
def test_it_changes_reads_and_runs_no_file(module, tmp_path, what):
    old = tmp_path / "old"
    old.write_text("here")
    new = what in ("create", "mkdir", "symlink")
    where = {"run": "/bin/true"}.get(what, str(tmp_path / "new" if new else old))
    with Worker(f"{module}:attempt") as worker:
        assert worker.ask(what, where) in ("PermissionError", "OSError", "BlockingIOError")
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and old.read_text() == "here"


@pytest.mark.skipif(landlock_version() < 4, reason="the kernel's Landlock does not know TCP")
def test_it_connects_to_nothing(module):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, Worker(f"{module}:attempt") as worker:
        assert worker.ask("connect", str(server.getsockname()[1])) == "PermissionError"


@pytest.mark.skipif(not filter_program(MACHINE), reason="no list of system calls")
def test_it_reaches_no_process_socket_or_mode(module, tmp_path):
    (tmp_path / "old").touch(mode=0o600)
    before = (tmp_path / "old").stat()
    with Worker(f"{module}:hostile") as worker:
        for what in ("fork", "kill", "udp", "unix"):
            assert worker.ask(what, "") == "PermissionError", what
        for what in ("modes", "times"):
            worker.ask(what, str(tmp_path / "old"))
        first = worker.process
        assert worker.ask("fork", "") == "PermissionError" and worker.process is first
    assert (tmp_path / "old").stat()[:9] == before[:9]


@pytest.mark.parametrize(
    ("line", "times"),
    [("true\n", 3), ("null\n", 1), ("[" * 100_000 + "\n", 1), ("\xff\n", 1), ("9" * 65536, 1000)],
    ids=["true", "null", "nested", "no text", "endless"],
)
def test_a_forged_result_is_none_and_is_not_the_next_questions(module, line, times):
    with Worker(f"{module}:forge") as worker:
        assert worker.ask(line, times) is None
        assert worker.ask("", 0) == "mine" and worker.ask("", 0) == "mine"


@pytest.mark.skipif(os.name != "posix", reason="pthread_kill")
def test_after_ctrl_c_the_next_question_gets_its_own_answer(module):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Worker(f"{module}:sleep", cpu_seconds=5) as worker:
            assert worker.ask(0) == "slept"
            here = threading.main_thread().ident
            threading.Timer(0.1, signal.pthread_kill, [here, signal.SIGINT]).start()
            with pytest.raises(KeyboardInterrupt):
                worker.ask(0.4)
            time.sleep(0.5)  # its result would be there by now
            assert worker.ask([]) is None  # a TypeError there
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.skipif(os.name != "posix", reason="limits on processor time")
@pytest.mark.parametrize(
    "name, killed", [("spin", 0), ("stubborn", 1), ("die", 1), ("fail", 0), ("memory", 0)]
)
def test_what_does_not_end_is_ended_and_the_next_question_is_answered(module, name, killed):
    """In Python code by an exception; in C code, where none arrives, with the process."""
    with Worker(f"{module}:{name}", cpu_seconds=0.2) as worker:
        start = time.monotonic()
        assert worker.ask() is None
        first = worker.process
        assert worker.ask() is None
        assert (worker.process is not first) is bool(killed)
        assert time.monotonic() - start < 20


def test_a_silent_worker_is_killed_by_the_clock(module):
    with Worker(f"{module}:sleep", wall_seconds=0.2) as worker:
        assert worker.ask(30) is None
        assert worker.ask(0) == "slept"
        for _ in range(3):  # an answer and the alarm at once: late, but the next one is right
            worker.wall_seconds = 0.0
            assert worker.ask(0) in ("slept", None)
            worker.wall_seconds = 30.0
            assert worker.ask(0) == "slept"


def test_a_worker_that_somebody_killed_is_replaced(module):
    with Worker(f"{module}:add") as worker:
        worker.ask(1, 1)
        worker.process.kill()
        worker.process.wait()
        assert worker.ask(2, 2) == [4, 1]


def test_threads_share_it(module):
    with Worker(f"{module}:add") as worker:
        results = []
        threads = [
            threading.Thread(target=lambda k=k: results.append((k, worker.ask(k, k)[0])))
            for k in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [(k, 2 * k) for k in range(8)]


def test_what_cannot_be_imported_is_told_with_what_to_do():
    with Worker("no_such_module:f", needs="pip install it") as worker:
        with pytest.raises(R1LabError, match="pip install it .ModuleNotFoundError"):
            worker.ask()

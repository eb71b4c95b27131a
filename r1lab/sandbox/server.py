"""The fork server: a process that imports once, and forks a child for every program.

The host starts it as a script, hands it one socket per program, and is told how the child ended.
The child alone reads the program and its inputs from that socket, puts up the layers, and runs it
(`runner`). Standard library only, and nothing of r1lab but its neighbours in this folder. In the
second mode (`scratch`) a program stays in a folder of its own.
"""

import builtins
import ctypes
import gc
import io
import json
import marshal
import os
import random
import select
import signal
import socket
import sys
import time

import kernel
import layers
import runner
import scratch
from wire import CHANNEL, ELSEWHERE, ENDED, PATIENCE, TOLD, WHY

NOT, CPU, IDLE, LOST, DISK = range(len(WHY))
LOOKS = 10  # slices between two looks at a scratch folder
SLICE = 0.02  # seconds between two looks at a running child
MARGIN = 0.05  # of processor time, above which the server ends what its own timer has not
CONTROL = 3  # the server's descriptor to the host

# A child costs by the memory that it shares: most programs run in a server that has only these.
COMMON = """
bisect collections collections.abc copy functools heapq itertools math operator random re string
typing
""".split()
MODULES = """
_pylong _strptime abc array base64 binascii bisect calendar cmath cProfile codecs collections
collections.abc colorsys contextlib contextvars copy copyreg csv ctypes dataclasses datetime decimal
difflib dis enum errno fnmatch fractions functools gc graphlib hashlib heapq hmac html importlib
inspect io ipaddress itertools json keyword linecache locale logging math numbers operator os
os.path pathlib pickle platform posixpath pprint queue random re reprlib secrets select shlex signal
socket stat statistics string struct sys tempfile textwrap threading time timeit token tokenize
traceback types typing unicodedata urllib.parse uuid warnings weakref zlib
encodings.ascii encodings.idna encodings.latin_1 encodings.utf_16 encodings.utf_32 encodings.utf_8
encodings.utf_8_sig encodings.unicode_escape encodings.raw_unicode_escape encodings.cp1252
encodings.hex_codec encodings.base64_codec encodings.rot_13
""".split()


def main() -> None:
    if (given := int(sys.argv[1])) != CONTROL:
        os.dup2(given, CONTROL)  # low, so that a child knows what to close
        os.close(given)
    control = socket.socket(fileno=CONTROL)
    wanted = json.loads(sys.argv[2])
    sys.path += wanted["path"]
    for name in (*(MODULES if wanted["all"] else COMMON), *wanted["modules"]):
        try:
            __import__(name)
        except ImportError:
            if name in wanted["modules"]:
                control.sendall(json.dumps({"error": f"no module named {name}"}).encode() + b"\n")
                return
    folder = wanted.get("scratch", "")
    # a program imports what is here already, where it cannot open a file
    sys.path[:] = path = wanted["path"] if folder else []
    sys.path_importer_cache.clear()
    if not wanted["all"]:
        sys.meta_path.append(Elsewhere)
    os.environ.clear()
    builtins.exit = builtins.quit = sys.exit
    about = wanted["layers"], wanted["folder"], wanted["user"], bytes.fromhex(wanted["filter"])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    held = layers.Layers(*about, folder, wanted.get("readable", ()), path)
    if "seccomp" not in held.held and not folder:  # whose filter lets nobody sleep
        time.sleep = lambda seconds: None
    user = held.uid if "user" in held.held else None
    said = {"held": held.held, "absent": held.absent, "user": user}
    control.sendall(json.dumps(said).encode() + b"\n")
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), runner.Nowhere(), runner.Nowhere()
    rehearse()
    random.seed(0)
    gc.collect()
    gc.freeze()
    serve(control, held)


class Elsewhere:
    """Where no other finder knows a module."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        os._exit(ELSEWHERE)


def rehearse() -> None:
    """Runs a program of our own here, until the interpreter has settled: what it writes to its
    caches now is shared by all children, and would be a page to be copied in each of them later."""
    inputs = [marshal.dumps((k,)) for k in range(5)]
    for k in range(20):
        runner.Program((b"def f(x): return x + %d" % k, "f", inputs, "strict"), 100, bytes).run()
    del sys.modules["program"]


#: The C library's fork. Python's own runs hooks in the child (of random, threading, logging) that
#: mend what other threads may have held. There are none, and the hooks are half a child's cost.
fork = ctypes.PyDLL(None).fork


def serve(control: socket.socket, held) -> None:
    """One program after another, until the host closes the socket."""
    prepared: dict = {}
    while True:
        data, descriptors = receive(control)
        if not data:
            return
        limits = TOLD.unpack(data)
        began = time.monotonic()
        if limits not in prepared:
            cpu, _, memory, _, disk = limits
            prepared[limits] = held.of_child(cpu, memory, disk, CHANNEL + 1)
        pid = fork()
        if pid == 0:
            child(descriptors[0], prepared[limits], limits[3], held.scratch)
        os.close(descriptors[0])
        if pid < 0:
            control.sendall(ENDED.pack(0, LOST, 0.0, 0.0, 0))
            continue
        status, killed, usage = watch(pid, limits, control, held.scratch)
        held.sweep()
        if held.scratch and killed == NOT and scratch.too_much(held.scratch, limits[4]):
            killed = DISK
        code, seconds = os.waitstatus_to_exitcode(status), time.monotonic() - began
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        control.sendall(ENDED.pack(code, killed, usage.ru_utime + usage.ru_stime, seconds, peak))


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The limits of the next program, and its socket; empty when the host is gone."""
    data, descriptors, _, _ = socket.recv_fds(control, TOLD.size, 1)
    while data and len(data) < TOLD.size:
        data += control.recv(TOLD.size - len(data))
    return data, descriptors


def watch(pid: int, limits, control, folder: str) -> tuple:
    """Waits for the child: its status, why it was killed, its usage.

    The child's own timer ends it after `cpu` seconds of processor time. What escapes that is ended
    here, and so is what uses none at all for `wall` seconds: it waits for what never comes. With a
    scratch folder, `wall` is by the clock, and what fills the folder is ended too."""
    cpu, wall, disk = limits[0], limits[1], limits[4]
    looks = 0
    killed, used, idle, began = NOT, 0.0, 0.0, time.monotonic()
    poll, slice = select.poll(), SLICE
    poll.register(control, select.POLLIN)
    try:
        ended = os.pidfd_open(pid)
        poll.register(ended, select.POLLIN)
    except (OSError, AttributeError):  # macOS, an old kernel: look more often
        ended, slice = -1, SLICE / 10
    while True:
        if any(descriptor != ended for descriptor, _ in poll.poll(slice * 1000)):
            os.kill(pid, signal.SIGKILL)  # nothing is sent while a program runs: the host is gone
            os._exit(0)
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            if ended >= 0:
                os.close(ended)
            return status, killed, usage
        now = processor_time(pid)
        idle = 0.0 if now > used else idle + slice
        used = now
        if killed == NOT:
            looks += 1
            if used > cpu + MARGIN:
                killed = CPU
            elif folder and looks % LOOKS == 0 and scratch.too_much(folder, disk):
                killed = DISK
            elif idle > wall or (folder and time.monotonic() - began > wall):
                killed = IDLE
            elif time.monotonic() - began > PATIENCE * wall:
                killed = LOST
            if killed != NOT:
                os.kill(pid, signal.SIGKILL)


def processor_time(pid: int) -> float:
    """Seconds that a process has used; infinitely rising where Linux's clocks are not known."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except (OSError, AttributeError):
        return 0.0


def child(channel: int, calls, output: int, folder: str) -> None:
    """Reads the program, puts up the layers, runs it, and never returns."""
    code = 1
    try:
        os.setsid()
        os.dup2(channel, CHANNEL)
        job = marshal.loads(io.FileIO(CHANNEL, closefd=False).readall())
        program = runner.Program(job, output, write)
        if folder:
            scratch.enter(folder)
            program.printing = lambda code: scratch.script(program.source, output)
        kernel.make(calls)
        program.frame(b"b")
        program.run()
        code = 0
    finally:
        os._exit(code)


def write(data: bytes) -> None:
    while data:
        data = data[os.write(CHANNEL, data) :]


if __name__ == "__main__":
    main()

"""The fork server: a process that imports once, and forks a child for every program.

The host starts it as a script, hands it one socket per program, and is told how the child ended.
The child alone reads the program and its inputs from that socket, puts up the layers, runs it, and
writes what it returns, as canonical bytes. Standard library only, and nothing of r1lab but its
neighbours in this folder. In the second mode (`scratch`) it stays in a folder of its own.
"""

import array
import builtins
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
import types

import grader
import layers
import scratch
from wire import ENDED, HEADER, PATIENCE, TOLD, WHY

NOT, CPU, IDLE, LOST, DISK = range(len(WHY))
LOOKS = 10  # slices between two looks at a scratch folder
SLICE = 0.02  # seconds between two looks at a running child
MARGIN = 0.05  # of processor time, above which the server ends what its own timer has not
CONTROL = 3  # the server's descriptor to the host
CHANNEL = 3  # the child's only descriptor besides /dev/null

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
    for name in (*MODULES, *wanted["modules"]):
        try:
            __import__(name)
        except ImportError:
            if name in wanted["modules"]:
                control.sendall(json.dumps({"error": f"no module named {name}"}).encode() + b"\n")
                return
    folder = wanted.get("scratch", "")
    # a program imports what is here already, where it cannot open a file
    sys.path[:] = wanted["path"] if folder else []
    sys.path_importer_cache.clear()
    os.environ.clear()
    builtins.exit = builtins.quit = sys.exit
    about = wanted["layers"], wanted["folder"], wanted["user"], bytes.fromhex(wanted["filter"])
    held = layers.Layers(
        *about, folder, wanted.get("readable", ()), wanted["path"] if folder else ()
    )
    if "seccomp" not in held.held and not folder:  # whose filter lets nobody sleep
        time.sleep = lambda seconds: None
    user = held.uid if "user" in held.held else None
    said = {"held": held.held, "absent": held.absent, "user": user}
    control.sendall(json.dumps(said).encode() + b"\n")
    gc.collect()
    gc.freeze()
    serve(control, held)


def serve(control: socket.socket, held) -> None:
    """One program after another, until the host closes the socket."""
    woken, wake = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(control, select.POLLIN)
    while True:
        data, descriptors = receive(control)
        if not data:
            return
        limits = TOLD.unpack(data)
        began = time.monotonic()
        try:
            pid = os.fork()
        except OSError:
            pid = None
        if pid == 0:
            child(descriptors[0], limits, held)
        os.close(descriptors[0])
        if pid is None:
            control.sendall(ENDED.pack(0, LOST, 0.0, 0.0, 0))
            continue
        status, killed, usage = watch(pid, limits, poll, (woken, control), held.scratch)
        held.sweep()
        if held.scratch and killed == NOT and scratch.too_much(held.scratch, limits[4]):
            killed = DISK
        code, seconds = os.waitstatus_to_exitcode(status), time.monotonic() - began
        peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        control.sendall(ENDED.pack(code, killed, usage.ru_utime + usage.ru_stime, seconds, peak))


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The limits of the next program, and its socket; empty when the host is gone."""
    room = socket.CMSG_SPACE(array.array("i").itemsize)
    data, more, _, _ = control.recvmsg(TOLD.size, room)
    descriptors = array.array("i")
    for _, _, part in more:
        descriptors.frombytes(part[: len(part) - len(part) % descriptors.itemsize])
    while data and len(data) < TOLD.size:
        data += control.recv(TOLD.size - len(data))
    return data, list(descriptors)


def watch(pid: int, limits, poll, heard, folder: str) -> tuple:
    """Waits for the child: its status, why it was killed, its usage.

    The child's own timer ends it after `cpu` seconds of processor time. What escapes that is ended
    here, and so is what uses none at all for `wall` seconds: it waits for what never comes. With a
    scratch folder, `wall` is by the clock, and what fills the folder is ended too."""
    cpu, wall, disk = limits[0], limits[1], limits[4]
    woken, looks = heard[0], 0
    killed, used, idle, began = NOT, 0.0, 0.0, time.monotonic()
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, killed, usage
        for descriptor, _ in poll.poll(SLICE * 1000):
            if descriptor == woken:
                os.read(woken, 4096)
            else:  # nothing is sent while a program runs: the host is gone
                os.kill(pid, signal.SIGKILL)
                os._exit(0)
        now = processor_time(pid)
        idle = 0.0 if now > used else idle + SLICE
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


# --- the child -----------------------------------------------------------------------------------


def child(channel: int, limits, held) -> None:
    """Reads the program, runs it, and never returns."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.setsid()
        os.dup2(channel, CHANNEL)
        os.closerange(CHANNEL + 1, 256)
        job = marshal.loads(read_all(CHANNEL))
        cpu, _, memory, output, disk = limits
        program = Program(job, output)
        if held.scratch:
            scratch.enter(held.scratch)
            program.printing = lambda code: scratch.script(program.source, output)
        held.of_child(cpu, memory, disk)
        frame(b"b")
        program.run()
        code = 0
    finally:
        os._exit(code)


def read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def frame(kind: bytes, number: int = 0, payload: bytes = b"") -> None:
    data = HEADER.pack(kind, number, len(payload)) + payload
    while data:
        data = data[os.write(CHANNEL, data) :]


def about(error: BaseException) -> bytes:
    try:
        text = str(error)[:250]
    except BaseException:
        text = ""
    return f"{type(error).__name__[:50]}: {text}".encode("utf-8", "replace")


class TooMuch(BaseException):
    """More output than the limit."""


class Nowhere(io.TextIOBase):
    """What a function prints."""

    def writable(self):
        return True

    def write(self, text):
        return len(text)


class Printed(io.BytesIO):
    """What a program without entry prints."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def write(self, data):
        if self.tell() + len(data) > self.most:
            raise TooMuch
        return super().write(data)


class Program:
    """A program and its inputs. job: source, entry or None, arguments by case as marshal's bytes,
    numbers."""

    def __init__(self, job, output: int) -> None:
        self.source, self.entry, self.inputs, self.numbers = job
        self.left = output
        random.seed(0)
        sys.stdin, sys.stdout, sys.stderr = io.StringIO(), Nowhere(), Nowhere()

    def run(self) -> None:
        try:
            source = self.source.decode("utf-8")
            code = compile(source, "<program>", "exec", dont_inherit=True)
        except BaseException as error:
            frame(b"s", 0, about(error))
            return frame(b"e")
        call = self.printing(code) if self.entry is None else self.function(code)
        if call is None:
            return
        frame(b"d")
        for number, data in enumerate(self.inputs):
            try:
                arguments = marshal.loads(data)
                value = call(*arguments)
                answer = grader.encode(value, self.numbers, self.left)
                self.left -= len(answer)
            except (TooMuch, grader.TooLong):
                return frame(b"o")
            except MemoryError as error:
                error.__traceback__ = None  # frees what its frames hold
                frame(b"m", number, b"MemoryError")
            except BaseException as error:
                frame(b"r", number, about(error))
            else:
                frame(b"v", number, answer)
        frame(b"e")

    def function(self, code):
        """The function `entry`, or the method "Class.method" of a new object."""
        module = types.ModuleType("program")
        sys.modules["program"] = module
        try:
            exec(code, module.__dict__)
        except SystemExit:
            os._exit(0)
        except BaseException as error:
            frame(b"x", 0, about(error))
            return frame(b"e")
        try:
            owner, _, method = self.entry.partition(".")
            found = module.__dict__[owner]
            found = getattr(found(), method) if method else found
            if not callable(found):
                raise TypeError(f"{self.entry} is not a function")
            return found
        except BaseException as error:
            frame(b"n", 0, about(error))
            frame(b"e")

    def printing(self, code):
        """Runs the program on a text as stdin; what it prints, without spaces at line ends."""

        def call(text: str) -> str:
            written = Printed(self.left)
            sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
            sys.stdout = out = io.TextIOWrapper(written, "utf-8", "surrogatepass", newline="\n")
            module = types.ModuleType("__main__")
            sys.modules["__main__"] = module
            try:
                exec(code, module.__dict__)
            except SystemExit as end:
                if end.code not in (None, 0):
                    raise
            out.flush()
            return grader.printed(written.getvalue().decode("utf-8", "replace"))

        return call


if __name__ == "__main__":
    main()

"""The fork server's child: reads one program, runs it behind the layers, and says what it returns.

The fork server imports this file by its place. Standard library only.
"""

import io
import marshal
import os
import sys
import types

import grader
import kernel
import scratch
from wire import CHANNEL, HEADER


def start(channel: int, calls, output: int, folder: str) -> None:
    """Reads the program, puts up the layers, runs it, and never returns."""
    code = 1
    try:
        os.setsid()
        os.dup2(channel, CHANNEL)
        job = marshal.loads(read_all(CHANNEL))
        program = Program(job, output, write)
        if folder:
            scratch.enter(folder)
            program.printing = lambda code: scratch.script(program.source, output)
        kernel.make(calls)
        program.frame(b"b")
        program.run()
        code = 0
    finally:
        os._exit(code)


def read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def write(data: bytes) -> None:
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
    numbers. write: takes what it sends."""

    def __init__(self, job, output: int, write) -> None:
        self.source, self.entry, self.inputs, self.numbers = job
        self.left, self.write = output, write

    def frame(self, kind: bytes, number: int = 0, payload: bytes = b"") -> None:
        self.write(HEADER.pack(kind, number, len(payload)) + payload)

    def run(self) -> None:
        try:
            source = self.source.decode("utf-8")
            code = compile(source, "<program>", "exec", dont_inherit=True)
        except BaseException as error:
            self.frame(b"s", 0, about(error))
            return self.frame(b"e")
        call = self.printing(code) if self.entry is None else self.function(code)
        if call is None:
            return
        self.frame(b"d")
        for number, data in enumerate(self.inputs):
            try:
                arguments = marshal.loads(data)
                value = call(*arguments)
                answer = grader.encode(value, self.numbers, self.left)
                self.left -= len(answer)
            except (TooMuch, grader.TooLong):
                return self.frame(b"o")
            except MemoryError as error:
                error.__traceback__ = None  # frees what its frames hold
                self.frame(b"m", number, b"MemoryError")
            except BaseException as error:
                self.frame(b"r", number, about(error))
            else:
                self.frame(b"v", number, answer)
        self.frame(b"e")

    def function(self, code):
        """The function `entry`, or the method "Class.method" of a new object."""
        module = types.ModuleType("program")
        sys.modules["program"] = module
        try:
            exec(code, module.__dict__)
        except SystemExit:
            os._exit(0)
        except BaseException as error:
            self.frame(b"x", 0, about(error))
            return self.frame(b"e")
        try:
            owner, _, method = self.entry.partition(".")
            found = module.__dict__[owner]
            found = getattr(found(), method) if method else found
            if not callable(found):
                raise TypeError(f"{self.entry} is not a function")
            return found
        except BaseException as error:
            self.frame(b"n", 0, about(error))
            self.frame(b"e")

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

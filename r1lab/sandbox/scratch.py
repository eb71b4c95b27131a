"""The second mode, inside: a program that reads and writes a scratch folder, as a script would.

The fork server imports this file by its place. Standard library only.
"""

import gc
import io
import linecache
import os
import sys
import traceback
import types

NAME = "program.py"
MOST_FILES = 10_000
MOST_ERROR = 4000  # characters of a traceback, from its end
MOST_FRAMES = 1000  # of it that are read: there may be millions


def too_much(folder: str, most: int) -> bool:
    """Whether there are more than `most` bytes or MOST_FILES files in a folder, or it cannot be
    told. Follows no link; safe while a program changes it."""
    todo, size, files = [folder], 0, 0
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
                    if size > most or files > MOST_FILES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError:  # a path too long, a folder without rights
            return True
    return False


def enter(folder: str) -> None:
    """Makes the folder the current one, the home, and the place of temporary files and modules."""
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder, MPLBACKEND="Agg")
    sys.path.insert(0, folder)
    sys.argv[:] = [NAME]


class Kept(io.BytesIO):
    """The first bytes of what is printed; the rest is dropped."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def write(self, data):
        super().write(bytes(data)[: max(0, self.most - self.tell())])
        return len(data)


def script(source: bytes, most: int):
    """The program as a function of its stdin: {"code": as a process would exit, "printed": both
    streams, "error": the traceback's end}."""

    def call(text: str) -> dict:
        kept = Kept(most // 8)  # canonical bytes take more
        sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
        out = io.TextIOWrapper(kept, "utf-8", "backslashreplace", write_through=True)
        sys.stdout = sys.stderr = out
        program = source.decode("utf-8")
        linecache.cache[NAME] = (len(program), None, program.splitlines(True), NAME)
        module = types.ModuleType("__main__")
        module.__file__ = NAME
        sys.modules["__main__"] = module
        code, error = 0, ""
        try:
            exec(compile(program, NAME, "exec", dont_inherit=True), module.__dict__)
        except SystemExit as end:
            number = isinstance(end.code, int)
            code = end.code & 255 if number else int(end.code is not None)
            error = str(end.code) if code and not number else ""
        except BaseException as problem:
            frames = problem.__traceback__.tb_next  # without ours
            about = type(problem), problem, frames
            code, error = 1, "".join(traceback.format_exception(*about, limit=-MOST_FRAMES))
        for folder in sorted(sys.path, key=len, reverse=True):  # where this machine keeps them
            error = error.replace(folder + os.sep, "")
        module.__dict__.clear()
        gc.collect()  # closes files, which writes them
        printed = kept.getvalue().decode("utf-8", "replace")
        return {"code": code, "printed": printed, "error": error[-MOST_ERROR:]}

    return call

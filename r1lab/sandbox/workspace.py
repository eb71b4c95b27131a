"""The second mode of the sandbox: programs that read and write files, for minutes.

A program gets a scratch folder, which it alone may change, and the libraries of this Python, which
it may read and import. It gets nothing else: no other file, no network, no process. The layers are
those of the first mode with another list of system calls; the probe tries the same and more.
"""

import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import r1lab
from r1lab.basics.errors import R1LabError
from r1lab.sandbox import probe, seccomp, verdicts
from r1lab.sandbox.client import Sandbox, pack
from r1lab.sandbox.handle import Server
from r1lab.sandbox.kernel import MACHINE
from r1lab.sandbox.scratch import MOST_FILES
from r1lab.sandbox.verdicts import Limits

MINUTES = Limits(cpu=60.0, wall=300.0, memory=2 << 30, disk=256 << 20)
PACKAGES = ("site-packages", "dist-packages")
CLOCK = "the program was still running at its time limit"

#: What is tried besides `probe.TRIES`.
TRIES = {
    **probe.TRIES,
    "change files": "os.chmod(path, 0o640)\nassert os.stat(path).st_mode & 0o777 == 0o640",
    "write to files": "open(path, 'a').close()",
    "read r1lab's files": f"open({str(r1lab.PACKAGE / '__init__.py')!r}).read()",
    "change libraries": "open(os.__file__, 'a').close()",
    "link out of their folder": "os.symlink(path, 'link')",
    "leave their folder": "open('../r1lab-probe', 'w').close()",
}
SELF_CHECK = "open('x', 'w').write('1')\nassert open('x').read() == '1'\n"


@dataclass
class Ran:
    """What became of a program. status: exit (it ran to its end; `code` says how), or timeout,
    memory, crash, disk, output, forged, harness (the sandbox failed). code: as a process's exit,
    negative for a signal, None where it was killed. printed: both streams. error: the traceback's
    end, or why it was killed. value: of `call`. files: what it left, bytes by path."""

    status: str
    code: int | None = None
    printed: str = ""
    error: str = ""
    value: Any = None
    files: dict[str, bytes] = field(default_factory=dict)
    cpu: float = 0.0
    wall: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether a shell would say so: it ended by itself, with 0."""
        return self.status == "exit" and self.code == 0


class Workspace(Sandbox):
    """Runs untrusted scripts in a scratch folder.

        with Workspace(modules=["numpy", "pandas"]) as box:
            ran = box.script(source, {"data/x.csv": "a,b\\n1,2\\n"}, keep=["out.csv"])
            ran.ok, ran.files["out.csv"]

    modules: imported before the first program, so that it need not wait; others are importable,
    except r1lab's and those in `without`. One program at a time. R1LabError where nothing contains
    it."""

    def __init__(
        self,
        modules: Iterable[str] = ("numpy", "pandas"),
        limits: Limits = MINUTES,
        without: Iterable[str] = (),
        **more: Any,
    ) -> None:
        self._without = tuple(without)
        super().__init__(1, limits, modules, **more)

    def script(
        self,
        source: str,
        files: Mapping[str, str | bytes | Path] | None = None,
        keep: Iterable[str] = (),
        *,
        call: str | None = None,
        limits: Limits | None = None,
    ) -> Ran:
        """Runs a program in a new folder. files: what lies there, texts or files or folders to
        copy. keep: names of files or folders to bring back. call: a function of the program to
        call, without arguments; it returns plain values (`Ran.value`)."""
        keep = list(keep)
        for name in (*(files or ()), *keep):
            inside(name)  # an error now costs no server
        self.start()
        limits = limits or self.limits
        job = pack(source, call, [() if call else ("",)], "strict")
        with self._busy:
            self._files = dict(files or {})
            answers, ended = self._execute(source, job, limits, 1)
            found = ran(answers, ended, called=call is not None)
            if found.status not in ("disk", "harness"):
                found = self._collect(found, keep, limits.disk)
            empty(self._scratch)
        return found

    def describe(self) -> str:
        return super().describe().replace("code sandbox: 1 workers", "scratch folder")

    def close(self) -> None:
        super().close()
        if self._scratch and os.getpid() == self._mine:
            empty(self._scratch)
            os.rmdir(self._scratch)
            self._scratch = ""

    # --- inside ----------------------------------------------------------------------------------

    def _forget(self) -> None:
        super()._forget()
        self._scratch, self._mine = getattr(self, "_scratch", ""), os.getpid()
        self._busy, self._files = self._lock, {}

    def _small(self) -> bool:
        return False

    def _other(self) -> bool:
        return False

    def _server(self, number: int, small: bool) -> Server:
        if not self._scratch:
            self._scratch = os.path.realpath(tempfile.mkdtemp(prefix="r1lab-scratch-"))
        folders, readable = libraries(self._without)
        return _Filled(
            self, number, self._wanted, self.modules,
            scratch=self._scratch, readable=readable, path=folders,
            filter=seccomp.filter_program(MACHINE, files=True).hex(),
        )  # fmt: skip

    def _probe(self, server: Server) -> list[str]:
        found = probe.what_is_open(server, TRIES)
        imports = "".join(f"import {name}\n" for name in self.modules)
        job = pack(imports + SELF_CHECK, None, [("",)], "strict")
        answers = verdicts.read(*server.execute(job, replace(MINUTES, wall=60.0), 1 << 16), 1)
        if (said := ran(answers, verdicts.NOTHING)).error:
            raise R1LabError(f"the scratch folder is of no use here: {said.error.splitlines()[-1]}")
        empty(self._scratch)
        return found

    def _collect(self, found: Ran, keep: Iterable[str], most: int) -> Ran:
        """With the bytes of the files named: regular ones, behind no link."""
        left = most
        for name in keep:
            for path in walk(self._scratch, name):
                data = read(os.path.join(self._scratch, path), left)
                if data is not None:
                    found.files[path] = data
                    left -= len(data)
        return found


class _Filled(Server):
    """A server that puts a program's files into the scratch folder first."""

    def __init__(self, owner: Workspace, *about: Any, **more: Any) -> None:
        self.owner = owner
        super().__init__(*about, **more)

    def execute(self, job: bytes, limits: Limits, most: int) -> tuple:
        folder = self.owner._scratch
        empty(folder)
        for name, content in self.owner._files.items():
            put(Path(folder, inside(name)), content)
        if self.user is not None:
            for path, folders, files in os.walk(folder):
                for one in (*folders, *files):
                    os.chown(os.path.join(path, one), self.user, self.user)
        return super().execute(job, limits, most)


def ran(answers: verdicts.Answers, ended: verdicts.Ended, called: bool = False) -> Ran:
    """What the frames of a script mean."""
    status, message, result = answers.status, answers.message, None
    code, about = ended.code, {"cpu": ended.cpu, "wall": ended.wall}
    if answers.cases:
        (kind, payload), *_ = answers.cases
        result = verdicts.results(answers, 1)[0]
        if kind != b"v":
            message = payload.decode("utf-8", "replace")
    if status in ("ok", "memory", "error", "missing", "syntax", "exit"):
        if result is not None and result.status == "value":
            if called:
                return Ran("exit", 0, value=result.value, **about)
            said = result.value if isinstance(result.value, dict) else {}
            return Ran(
                "exit", said.get("code"), said.get("printed", ""), said.get("error", ""), **about
            )
        failed = status != "exit" or code != 0
        return Ran("exit", (code or 1) if failed else 0, error=message if failed else "", **about)
    if status == "timeout":
        message = f"{CLOCK} ({message})"
    return Ran(status, code if status == "crash" else None, error=message, **about)


def libraries(without: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """The folders from which programs import, and the paths that they may read for it: the standard
    library, the packages installed beside r1lab, and shared libraries of the system; not r1lab, and
    not the packages named."""
    standard = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    standard += [os.path.join(path, "lib-dynload") for path in standard]
    installed = [path for path in sys.path if os.path.basename(path) in PACKAGES]
    folders = [os.path.realpath(path) for path in (*standard, *installed) if os.path.isdir(path)]
    hidden = {os.path.realpath(r1lab.PACKAGE)}
    hidden |= {os.path.join(path, name) for path in folders for name in (*PACKAGES, *without)}
    folders = list(dict.fromkeys(folders))
    readable = [path for folder in folders for path in entries(folder)]
    for folder in ("/lib", "/lib64", "/usr/lib", "/usr/lib64"):
        found = [path for path in entries(folder) if "/python" not in path]
        readable += [path for path in found if "-linux-" in path or "/ld-" in path] or found
    readable += filter(os.path.exists, ("/usr/share/zoneinfo", "/etc/localtime"))
    kept = [
        path for path in readable if path not in hidden and os.path.realpath(path) not in hidden
    ]
    return folders, kept


def entries(folder: str) -> list[str]:
    """What lies in a folder, by path; nothing where there is none."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [path for name in names if os.path.exists(path := os.path.join(folder, name))]


def inside(name: str) -> str:
    """A relative path that stays in its folder; R1LabError for another."""
    path = os.path.normpath(name)
    if os.path.isabs(path) or path.split(os.sep)[0] == "..":
        raise R1LabError(f"'{name}' is not inside the scratch folder")
    return path


def put(target: Path, content: str | bytes | Path) -> None:
    """Writes a text or bytes, or copies a file or folder (what its links point to)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        copy = shutil.copytree if content.is_dir() else shutil.copyfile
        copy(content, target, **({"dirs_exist_ok": True} if content.is_dir() else {}))
    else:
        target.write_bytes(content.encode() if isinstance(content, str) else content)


def walk(folder: str, name: str) -> list[str]:
    """The files below folder/name, relative to the folder, in order; no link is followed."""
    found, todo = [], [inside(name)]
    parent = os.path.dirname(todo[0])
    while parent:  # a folder on the way may be a link
        if os.path.islink(os.path.join(folder, parent)):
            return []
        parent = os.path.dirname(parent)
    while todo and len(found) < MOST_FILES:
        path = os.path.join(folder, one := todo.pop())
        try:
            kind = os.lstat(path).st_mode
            if stat.S_ISDIR(kind):
                todo += [os.path.normpath(os.path.join(one, inner)) for inner in os.listdir(path)]
            elif stat.S_ISREG(kind):
                found.append(one)
        except OSError:
            continue
    return sorted(found)


def read(path: str, most: int) -> bytes | None:
    """A file's bytes; None for a link, or for more than `most`."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None


def empty(folder: str) -> None:
    """Removes all that is in a folder, however deep: what is nested is moved up first."""
    trash = tempfile.mkdtemp(prefix=".r1lab-trash-", dir=folder)
    todo = [folder]
    for count in range(1 << 30):
        if not todo:
            break
        here = todo.pop()
        os.chmod(here, 0o700)
        for name in os.listdir(here):
            path = os.path.join(here, name)
            if path == trash:
                continue
            if stat.S_ISDIR(os.lstat(path).st_mode):
                os.chmod(path, 0o700)
                moved = os.path.join(trash, f"{count}-{len(todo)}")
                os.rename(path, moved)
                todo.append(moved)
            else:
                os.unlink(path)
        if here != folder:
            os.rmdir(here)
    os.rmdir(trash)

"""The layers around the programs of a fork server, each used where the kernel and our rights allow
it.

The server imports this file by its place, as its neighbours. Standard library only.
"""

import contextlib
import os
import signal
import sys

import kernel


class Layers:
    """The layers that hold here: the first two are put up for the whole server when this is made,
    the others for every child by `of_child`, after a child has tried them.

    scratch, readable, listable: in the second mode the folder that a program may change, the paths
    that it may read, and folders of which it may see the names. held: what each is, by name.
    absent: why another is not."""

    def __init__(
        self, wanted, folder: str, user: int, filter: bytes, scratch="", readable=(), listable=()
    ) -> None:
        self.scratch, self.readable, self.listable = scratch, readable, listable
        self.held: dict[str, str] = {}
        self.absent = {name: "not asked for" for name in kernel.ALL if name not in wanted}
        self.uid, self.own_pids, self.filter = user, False, filter
        self.base = kernel.address_space()
        self.children = None
        if kernel.LINUX:
            # PR_SET_CHILD_SUBREAPER: orphans become our children
            kernel.call("prctl", 36, 1, 0, 0, 0)
            self.children = _children_file()
        for name in (name for name in kernel.ALL if name in wanted):
            try:
                if not kernel.LINUX and name != "rlimits":
                    raise OSError(f"{sys.platform} has none")
                self.held[name] = getattr(self, name)(folder)
            except OSError as error:
                self.absent[name] = str(error)
        if kernel.LINUX:
            # PR_SET_DUMPABLE: not to be traced or read by the user's
            kernel.call("prctl", 4, 0, 0, 0, 0)

    def namespaces(self, folder: str) -> str:
        """Forks: the server goes on as the first process of its own name spaces."""
        mounts = bool(self.scratch)
        try:
            user = False
            attempt(lambda: kernel.name_spaces(user, mounts))
        except OSError:
            user = True
            attempt(lambda: kernel.name_spaces(user, mounts))
        kernel.name_spaces(user, mounts)
        inner = os.fork()
        if inner:
            os.closerange(0, 256)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 255)
        # PR_SET_PDEATHSIG: ends when the outer one ends
        kernel.call("prctl", 1, signal.SIGKILL, 0, 0, 0)
        self.own_pids = True
        return "own processes and network"

    def folder(self, folder: str) -> str:
        if self.scratch:
            if not self.own_pids:
                raise OSError("there is no name space for what is mounted")
            kernel.private_root(folder, self.readable, [self.scratch])
            self.readable, self.listable = ["/"], []
            return "a root folder of libraries and scratch"
        attempt(lambda: os.chroot(folder))
        kernel.empty_root(folder)
        return "empty root folder"

    def user(self, folder: str) -> str:
        if os.getuid() == 0:
            try:
                attempt(lambda: (kernel.make(kernel.become(self.uid)), _read(self.readable)))
                if self.scratch:
                    os.chown(self.scratch, self.uid, self.uid)
                return "another user"
            except OSError:  # root of a user name space, which has no other users
                pass
        elif not self.own_pids:
            raise OSError("we are not root")
        self.uid = None
        attempt(lambda: kernel.make(kernel.become(None)))
        return "no capabilities"

    def landlock(self, folder: str) -> str:
        # made once: a child only has to say that they hold
        writable = [self.scratch] if self.scratch else []
        self.rules = kernel.landlock_rules(self.readable, writable, self.listable)
        attempt(lambda: kernel.make(kernel.landlock(self.rules)))
        return f"Landlock (ABI {kernel.landlock_version()})"

    def rlimits(self, folder: str) -> str:
        return "limits"

    def seccomp(self, folder: str) -> str:
        if not self.filter or sys.maxsize < 2**32:
            raise OSError(f"there is no list of system calls for {kernel.MACHINE}")
        attempt(lambda: kernel.make(kernel.seccomp(self.filter)))
        return "seccomp"

    def of_child(self, cpu: float, memory: int, disk: int, first: int) -> list[tuple]:
        """Calls that put up a program's layers around its process, close its descriptors from
        `first` on, and start its clock."""
        calls = []
        if "user" in self.held:
            calls += kernel.become(self.uid)
        if "landlock" in self.held:
            calls += kernel.landlock(self.rules)
        calls.append((os.closerange, first, 256))
        if "rlimits" in self.held:
            files, size = (256, disk) if self.scratch else (0, 0)
            most = {"NOFILE": files, "NPROC": 0, "FSIZE": size, "CORE": 0}
            calls += kernel.limit(**most, MEMLOCK=0, MSGQUEUE=0)
            if self.base:
                calls += kernel.limit(AS=self.base + memory)
        calls += kernel.limit(CPU=int(cpu) + 1)
        calls += kernel.end_after(cpu)
        if "seccomp" in self.held:
            calls += kernel.seccomp(self.filter)
        return calls

    def sweep(self) -> None:
        """Ends what a program has left running: nothing, where it cannot start a process."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0]:
                    continue  # it had ended; is there another?
            except ChildProcessError:
                return
            if self.own_pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # all in our name space but us
            elif self.children is not None:
                for pid in os.pread(self.children, 1 << 16, 0).split():
                    os.kill(int(pid), signal.SIGKILL)
            else:
                return
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, 0)


def _read(paths) -> None:
    """Reads them; OSError where one cannot be read."""
    for path in paths:
        os.listdir(path) if os.path.isdir(path) else os.close(os.open(path, os.O_RDONLY))


def attempt(step) -> None:
    """Tries in a child process what cannot be undone; OSError where it fails there."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            step()
            os.write(write, b"done")
        except BaseException as error:
            os.write(write, str(error).encode()[:200] or b"it fails")
        finally:
            os._exit(0)
    os.close(write)
    said = os.read(read, 200).decode(errors="replace")
    os.close(read)
    os.waitpid(pid, 0)
    if said != "done":
        raise OSError(said or "the process was killed")


def _children_file() -> int | None:
    """A descriptor from which the children of this process can be read at any time."""
    try:
        return os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return None

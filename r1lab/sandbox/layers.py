"""What Linux offers to keep a process in: limits, Landlock, seccomp, another user, an empty root
folder, name spaces. Each is used where the kernel and our rights allow it.

`worker` takes the first two, the fork server (`server`) all of them. Standard library only, since
the server imports nothing else. Sources: the man pages setrlimit(2), seccomp(2), unshare(2),
prctl(2), and Linux's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None

LINUX = sys.platform.startswith("linux")
MACHINE = os.uname().machine if os.name == "posix" else ""
_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


# What a child does before its program runs is written as a list of calls, (function, arguments),
# which the server prepares and the child makes: in a child, everything that Python touches for the
# first time is a page to be copied.


def make(calls) -> int:
    """Makes the calls, and returns what the last one does; OSError where one fails."""
    result = 0
    for function, *arguments in calls:
        result = function(*arguments)
        if result is not None and result < 0:  # None: a function of Python's, which raises itself
            code = ctypes.get_errno()
            raise OSError(code, f"{function.__name__}: {os.strerror(code)}")
    return result


def _c(name: str, *arguments) -> tuple:
    """A call of the C library."""
    longs = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    return getattr(_libc, name), *longs


def _call(name: str, *arguments) -> int:
    """A function of the C library; OSError where it fails."""
    return make([_c(name, *arguments)])


def no_new_privileges() -> tuple:
    """From now on no program that is executed gains rights: what Landlock and seccomp ask for."""
    return _c("prctl", 38, 1, 0, 0, 0)


# --- limits --------------------------------------------------------------------------------------


def limit(**most: int) -> list[tuple]:
    """Calls that set limits by the names of setrlimit(2), AS=, NPROC=, ..., as far as the system
    has them; none is raised."""
    calls = []
    for name, value in most.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None or (name == "AS" and sys.platform == "darwin"):  # which refuses it
            continue
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        calls.append((resource.setrlimit, kind, (value, value)))
    return calls


_TIMER = {"x86_64": (222, 223), "aarch64": (107, 110)}  # timer_create, timer_settime


def end_after(seconds: float) -> list[tuple]:
    """Calls by which SIGPROF ends a process after so much more processor time."""
    if not LINUX or MACHINE not in _TIMER:  # counts ticks: on a busy machine a fifth too early
        return [(signal.setitimer, signal.ITIMER_PROF, seconds)]
    create, settime = _TIMER[MACHINE]  # counts nanoseconds
    event = struct.pack("Pii48x", 0, signal.SIGPROF, 0)
    timer = ctypes.c_int()
    when = struct.pack("qqqq", 0, 0, int(seconds), int(seconds % 1 * 1e9))
    return [
        _c("syscall", create, 2, event, ctypes.byref(timer)),  # CLOCK_PROCESS_CPUTIME_ID
        _c("syscall", settime, timer, 0, when, None),
    ]


def address_space() -> int:
    """Bytes of address space that this process has; 0 where that is not known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# --- Landlock ------------------------------------------------------------------------------------

# System calls with the same numbers on all machines. Of the rights to files, bits 2 and 3 are
# reading.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_READ = 0b1100
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights each version knows; later ones 16
_SIZES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}  # bytes of the attributes it knows; later ones 24


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 where it has none."""
    try:
        return _call("syscall", _CREATE, None, 0, 1) if LINUX else 0
    except OSError:
        return 0


def landlock_rules(readable=()) -> int:
    """A descriptor of rules: to read only, and only below `readable`; no TCP (version 4), no
    signals and no abstract sockets to others (version 6). OSError where there is no Landlock."""
    version = landlock_version()
    if not version:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    rights = struct.pack(
        "QQQ", (1 << _RIGHTS.get(version, 16)) - 1, 0b11, 0b11
    )  # files, TCP, scope
    rules = _call("syscall", _CREATE, rights, _SIZES.get(version, 24), 0)
    for path in readable:
        try:
            folder = os.open(path, os.O_PATH)
        except OSError:
            continue
        allowed = _READ if os.path.isdir(path) else _READ & 0b100
        _call("syscall", _ADD, rules, 1, struct.pack("=Qi", allowed, folder), 0)
        os.close(folder)
    return rules


def landlock(rules: int) -> list[tuple]:
    """Calls by which the rules hold a process, and are closed."""
    return [no_new_privileges(), _c("syscall", _RESTRICT, rules, 0), (os.close, rules)]


# --- seccomp -------------------------------------------------------------------------------------


def seccomp(program: bytes) -> list[tuple]:
    """Calls that put up a filter of system calls, for good. The program must outlive them."""
    address = ctypes.cast(program, ctypes.c_void_p).value
    head = struct.pack("HxxxxxxP", len(program) // 8, address)
    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return [no_new_privileges(), _c("prctl", 22, 2, head, 0, 0)]


# --- another user, an empty root folder, name spaces ---------------------------------------------


def become(user: int | None) -> list[tuple]:
    """Calls that make a process another user's, with no groups: they take root's rights, and give
    all of them up. None: nobody else's, but without what root, or the first process of a user name
    space, may do."""
    if user is None:
        head = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
        return [_c("capset", head, bytes(24))]
    three = (user, user, user)
    return [(os.setgroups, []), (os.setresgid, *three), (os.setresuid, *three)]


def empty_root(folder: str) -> None:
    """Makes an empty folder the root folder, and removes it: nothing is there, or ever will be."""
    os.chdir(folder)
    os.rmdir(folder)
    os.chroot(".")


_USER, _PID, _NET, _IPC, _UTS = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x04000000


def name_spaces(user: bool) -> None:
    """Processes, network, shared memory and host name of our own, for the children of this process.
    user: with a user name space, which makes them possible for who is not root."""
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", _PID | _NET | _IPC | _UTS | (_USER if user else 0))
    if user:
        maps = (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"))
        for name, text in maps:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


# --- all of them, for the fork server ------------------------------------------------------------

#: The layers of the fork server, in the order in which they are put up.
ALL = ("namespaces", "folder", "user", "landlock", "rlimits", "seccomp")


class Layers:
    """The layers that hold here: the first two are put up for the whole server when this is made,
    the others for every child by `of_child`, after a child has tried them.

    held: what each is, by name. absent: why another is not."""

    def __init__(self, wanted, folder: str, user: int, filter: bytes) -> None:
        self.held: dict[str, str] = {}
        self.absent: dict[str, str] = {name: "not asked for" for name in ALL if name not in wanted}
        self.uid, self.own_pids, self.filter = user, False, filter
        self.base = address_space()
        self.children = None
        if LINUX:
            _call("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become our children
            self.children = _children_file()
        for name in (name for name in ALL if name in wanted):
            try:
                if not LINUX and name != "rlimits":
                    raise OSError(f"{sys.platform} has none")
                self.held[name] = getattr(self, name)(folder)
            except OSError as error:
                self.absent[name] = str(error)
        if LINUX:
            _call("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: not to be traced or read by the user's

    def namespaces(self, folder: str) -> str:
        """Forks: the server goes on as the first process of its own name spaces."""
        try:
            user = False
            attempt(lambda: name_spaces(user))
        except OSError:
            user = True
            attempt(lambda: name_spaces(user))
        name_spaces(user)
        inner = os.fork()
        if inner:
            os.closerange(0, 256)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 255)
        _call("prctl", 1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: ends when the outer one ends
        self.own_pids = True
        return "own processes and network"

    def folder(self, folder: str) -> str:
        attempt(lambda: os.chroot(folder))
        empty_root(folder)
        return "empty root folder"

    def user(self, folder: str) -> str:
        if os.getuid() == 0:
            try:
                attempt(lambda: make(become(self.uid)))
                return "another user"
            except OSError:  # root of a user name space, which has no other users
                pass
        elif not self.own_pids:
            raise OSError("we are not root")
        self.uid = None
        attempt(lambda: make(become(None)))
        return "no capabilities"

    def landlock(self, folder: str) -> str:
        self.rules = landlock_rules()  # made once: a child only has to say that they hold
        attempt(lambda: make(landlock(self.rules)))
        return f"Landlock (ABI {landlock_version()})"

    def rlimits(self, folder: str) -> str:
        return "limits"

    def seccomp(self, folder: str) -> str:
        if not self.filter or sys.maxsize < 2**32:
            raise OSError(f"there is no list of system calls for {MACHINE}")
        attempt(lambda: make(seccomp(self.filter)))
        return "seccomp"

    def of_child(self, cpu: float, memory: int, first: int) -> list[tuple]:
        """Calls that put up a program's layers around its process, close its descriptors from
        `first` on, and start its clock."""
        calls = []
        if "user" in self.held:
            calls += become(self.uid)
        if "landlock" in self.held:
            calls += landlock(self.rules)
        calls.append((os.closerange, first, 256))
        if "rlimits" in self.held:
            calls += limit(NOFILE=0, NPROC=0, FSIZE=0, CORE=0, MEMLOCK=0, MSGQUEUE=0)
            if self.base:
                calls += limit(AS=self.base + memory)
        calls += limit(CPU=int(cpu) + 1)
        calls += end_after(cpu)
        if "seccomp" in self.held:
            calls += seccomp(self.filter)
        return calls

    def sweep(self) -> None:
        """Ends what a program has left running: nothing, where it cannot start a process."""
        while True:
            if self.own_pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # all in our name space but us
            elif self.children is not None:
                for pid in os.pread(self.children, 1 << 16, 0).split():
                    os.kill(int(pid), signal.SIGKILL)
            try:
                os.waitpid(-1, 0 if self.own_pids or self.children is not None else os.WNOHANG)
            except ChildProcessError:
                return


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

"""What Linux offers to keep a process in: limits, Landlock, seccomp, another user, an empty root
folder, name spaces. Each is used where the kernel and our rights allow it.

`worker` takes the first two, the fork server (`server`) all of them. Standard library only, since
the server imports nothing else. Sources: the man pages setrlimit(2), seccomp(2), unshare(2),
prctl(2), and Linux's Documentation/userspace-api/landlock.rst.
"""

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


def _call(name: str, *arguments) -> int:
    """A function of the C library; OSError where it fails."""
    longs = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result = getattr(_libc, name)(*longs)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def no_new_privileges() -> None:
    """From now on no program that is executed gains rights: what Landlock and seccomp ask for."""
    _call("prctl", 38, 1, 0, 0, 0)


# --- limits --------------------------------------------------------------------------------------


def limit(**most: int) -> None:
    """Sets limits by the names of setrlimit(2), AS=, NPROC=, ..., as far as the system has them."""
    for kind, value in most.items():
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (value, value))
        except (ValueError, OSError, AttributeError):  # macOS knows no RLIMIT_AS
            pass


_TIMER = {"x86_64": (222, 223), "aarch64": (107, 110)}  # timer_create, timer_settime


def end_after(seconds: float) -> None:
    """SIGPROF ends this process after so much more processor time."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    if LINUX and MACHINE in _TIMER:  # counts nanoseconds
        create, settime = _TIMER[MACHINE]
        event = struct.pack("Pii48x", 0, signal.SIGPROF, 0)
        timer = ctypes.c_int()
        _call("syscall", create, 2, event, ctypes.byref(timer))  # CLOCK_PROCESS_CPUTIME_ID
        when = struct.pack("qqqq", 0, 0, int(seconds), int(seconds % 1 * 1e9))
        _call("syscall", settime, timer.value, 0, when, None)
    else:  # counts ticks: on a busy machine it ends a fifth too early
        signal.setitimer(signal.ITIMER_PROF, seconds)


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
_CHANGE = 0b110000110110010  # write, remove, make folders and files, move, truncate; no links
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights each version knows; later ones 16
_SIZES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}  # bytes of the attributes it knows; later ones 24


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 where it has none."""
    try:
        return _call("syscall", _CREATE, None, 0, 1) if LINUX else 0
    except OSError:
        return 0


def landlock(readable=(), writable=(), listable=()) -> None:
    """From now on this process only reads, and only below `readable` and `writable`, lists folders
    also below `listable`, and changes files only below `writable`; it has no TCP (version 4), no
    signals and no abstract sockets to others (version 6). OSError where there is no Landlock."""
    version = landlock_version()
    if not version:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    known = (1 << _RIGHTS.get(version, 16)) - 1
    rights = struct.pack("QQQ", known, 0b11, 0b11)  # files, TCP, scope
    rules = _call("syscall", _CREATE, rights, _SIZES.get(version, 24), 0)
    paths = [(path, _READ) for path in readable] + [(path, 0b1000) for path in listable]
    for path, allowed in [*paths, *((path, known & (_READ | _CHANGE)) for path in writable)]:
        try:
            folder = os.open(path, os.O_PATH)
        except OSError:
            continue
        if not os.path.isdir(path):
            allowed &= 0b100
        _call("syscall", _ADD, rules, 1, struct.pack("=Qi", allowed, folder), 0)
        os.close(folder)
    no_new_privileges()
    _call("syscall", _RESTRICT, rules, 0)
    os.close(rules)


# --- seccomp -------------------------------------------------------------------------------------


def seccomp(program: bytes) -> None:
    """Puts up a filter of system calls, for good."""
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    no_new_privileges()
    _call("prctl", 22, 2, head, 0, 0)  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


# --- another user, an empty root folder, name spaces ---------------------------------------------


def become(user: int) -> None:
    """Another user with no groups; takes root's rights, and gives all of them up."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def no_capabilities() -> None:
    """Gives up what root, or the first process of a user name space, may do."""
    head = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    _call("capset", head, bytes(24))


def empty_root(folder: str) -> None:
    """Makes an empty folder the root folder, and removes it: nothing is there, or ever will be."""
    os.chdir(folder)
    os.rmdir(folder)
    os.chroot(".")


_MOUNTS = 0x00020000
_USER, _PID, _NET, _IPC, _UTS = 0x10000000, 0x20000000, 0x40000000, 0x08000000, 0x04000000


def name_spaces(user: bool, mounts: bool = False) -> None:
    """Processes, network, shared memory and host name of our own, for the children of this process.
    user: with a user name space, which makes them possible for who is not root. mounts: also what
    is mounted where."""
    uid, gid = os.getuid(), os.getgid()
    kinds = _PID | _NET | _IPC | _UTS | (_USER if user else 0) | (_MOUNTS if mounts else 0)
    _call("unshare", kinds)
    if user:
        maps = (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"))
        for name, text in maps:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = (text and text.encode() for text in (source, target, kind))
    _call("mount", *texts, flags, data and data.encode())


def private_root(folder: str, readable, writable) -> None:
    """Makes `folder` a root folder that holds nothing but the paths given, each under its own name:
    the first ones read-only. Takes a mount name space (`name_spaces`)."""
    _mount("none", "/", None, _RECURSIVE | _PRIVATE)
    _mount("root", folder, "tmpfs", _NO_SUID | _NO_DEV, "size=1m,mode=755")
    for path, flags in [*((p, _READ_ONLY) for p in readable), *((p, _NO_EXEC) for p in writable)]:
        target = folder + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT, 0o644))
        _mount(path, target, None, _BIND | _RECURSIVE)
        kept = os.statvfs(path).f_flag  # what a user name space may not take away
        flags |= (kept & 0b1111 & ~_READ_ONLY) | (kept & 3072) | (1 << 21 if kept & 4096 else 0)
        _mount("none", target, None, _REMOUNT | _BIND | _NO_SUID | _NO_DEV | flags)
    _mount("none", folder, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)
    os.chroot(folder)
    os.chdir("/")


# --- all of them, for the fork server ------------------------------------------------------------

#: The layers of the fork server, in the order in which they are put up.
ALL = ("namespaces", "folder", "user", "landlock", "rlimits", "seccomp")


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
        mounts = bool(self.scratch)
        try:
            user = False
            attempt(lambda: name_spaces(user, mounts))
        except OSError:
            user = True
            attempt(lambda: name_spaces(user, mounts))
        name_spaces(user, mounts)
        inner = os.fork()
        if inner:
            os.closerange(0, 256)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 255)
        _call("prctl", 1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: ends when the outer one ends
        self.own_pids = True
        return "own processes and network"

    def folder(self, folder: str) -> str:
        if self.scratch:
            if not self.own_pids:
                raise OSError("there is no name space for what is mounted")
            private_root(folder, self.readable, [self.scratch])
            self.readable, self.listable = ["/"], []
            return "a root folder of libraries and scratch"
        attempt(lambda: os.chroot(folder))
        empty_root(folder)
        return "empty root folder"

    def user(self, folder: str) -> str:
        if os.getuid() == 0:
            try:
                attempt(lambda: (become(self.uid), _read(self.readable)))
                if self.scratch:
                    os.chown(self.scratch, self.uid, self.uid)
                return "another user"
            except OSError:  # root of a user name space, which has no other users
                pass
        elif not self.own_pids:
            raise OSError("we are not root")
        self.uid = None
        attempt(no_capabilities)
        return "no capabilities"

    def landlock(self, folder: str) -> str:
        attempt(self._landlock)
        return f"Landlock (ABI {landlock_version()})"

    def _landlock(self) -> None:
        landlock(self.readable, [self.scratch] if self.scratch else [], self.listable)

    def rlimits(self, folder: str) -> str:
        return "limits"

    def seccomp(self, folder: str) -> str:
        if not self.filter or sys.maxsize < 2**32:
            raise OSError(f"there is no list of system calls for {MACHINE}")
        attempt(lambda: seccomp(self.filter))
        return "seccomp"

    def of_child(self, cpu: float, memory: int, disk: int = 0) -> None:
        """Puts up a program's layers around this process, and starts its clock."""
        if "user" in self.held:
            no_capabilities() if self.uid is None else become(self.uid)
        if "landlock" in self.held:
            self._landlock()
        if "rlimits" in self.held:
            files = 256 if self.scratch else 0
            limit(NOFILE=files, NPROC=0, CORE=0, MEMLOCK=0, MSGQUEUE=0)
            limit(FSIZE=disk if self.scratch else 0)
            if self.base:
                limit(AS=self.base + memory)
        limit(CPU=int(cpu) + 1)
        end_after(cpu)
        if "seccomp" in self.held:
            seccomp(self.filter)

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

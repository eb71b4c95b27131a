"""What Linux offers to keep a process in: limits, Landlock, seccomp, another user, an empty root
folder, name spaces.

`worker` takes the first two, the fork server (`layers`) all of them. Standard library only, since
the server imports nothing else. Sources: the man pages setrlimit(2), seccomp(2), unshare(2),
prctl(2), and Linux's Documentation/userspace-api/landlock.rst.
"""

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
#: The layers of the fork server, in the order in which they are put up.
ALL = ("namespaces", "folder", "user", "landlock", "rlimits", "seccomp")

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


def c_call(name: str, *arguments) -> tuple:
    """A call of the C library."""
    longs = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    return getattr(_libc, name), *longs


def call(name: str, *arguments) -> int:
    """A function of the C library; OSError where it fails."""
    return make([c_call(name, *arguments)])


def no_new_privileges() -> tuple:
    """From now on no program that is executed gains rights: what Landlock and seccomp ask for."""
    return c_call("prctl", 38, 1, 0, 0, 0)


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
        c_call("syscall", create, 2, event, ctypes.byref(timer)),  # CLOCK_PROCESS_CPUTIME_ID
        c_call("syscall", settime, timer, 0, when, None),
    ]


def address_space() -> int:
    """Bytes of address space that this process has; 0 where that is not known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# Landlock's system calls have the same numbers on all machines. Of the rights to files, bits 2 and
# 3 are reading.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_READ = 0b1100
_CHANGE = 0b110000110110010  # write, remove, make folders and files, move, truncate; no links
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights each version knows; later ones 16
_SIZES = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}  # bytes of the attributes it knows; later ones 24


def landlock_version() -> int:
    """The kernel's version of Landlock, 0 where it has none."""
    try:
        return call("syscall", _CREATE, None, 0, 1) if LINUX else 0
    except OSError:
        return 0


def landlock_rules(readable=(), writable=(), listable=()) -> int:
    """A descriptor of rules: to read only, and only below `readable` and `writable`, to list
    folders also below `listable`, to change files only below `writable`; no TCP (version 4), no
    signals and no abstract sockets to others (version 6). OSError where there is no Landlock."""
    version = landlock_version()
    if not version:
        raise OSError(errno.ENOSYS, "the kernel has no Landlock")
    known = (1 << _RIGHTS.get(version, 16)) - 1
    rights = struct.pack("QQQ", known, 0b11, 0b11)  # files, TCP, scope
    rules = call("syscall", _CREATE, rights, _SIZES.get(version, 24), 0)
    paths = [(path, _READ) for path in readable] + [(path, 0b1000) for path in listable]
    for path, allowed in [*paths, *((path, known & (_READ | _CHANGE)) for path in writable)]:
        try:
            folder = os.open(path, os.O_PATH)
        except OSError:
            continue
        if not os.path.isdir(path):
            allowed &= 0b100
        call("syscall", _ADD, rules, 1, struct.pack("=Qi", allowed, folder), 0)
        os.close(folder)
    return rules


def landlock(rules: int) -> list[tuple]:
    """Calls by which the rules hold a process, and are closed."""
    return [no_new_privileges(), c_call("syscall", _RESTRICT, rules, 0), (os.close, rules)]


def seccomp(program: bytes) -> list[tuple]:
    """Calls that put up a filter of system calls, for good. The program must outlive them."""
    address = ctypes.cast(program, ctypes.c_void_p).value
    head = struct.pack("HxxxxxxP", len(program) // 8, address)
    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    return [no_new_privileges(), c_call("prctl", 22, 2, head, 0, 0)]


def become(user: int | None) -> list[tuple]:
    """Calls that make a process another user's, with no groups: they take root's rights, and give
    all of them up. None: nobody else's, but without what root, or the first process of a user name
    space, may do."""
    if user is None:
        head = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
        return [c_call("capset", head, bytes(24))]
    three = (user, user, user)
    return [(os.setgroups, []), (os.setresgid, *three), (os.setresuid, *three)]


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
    call("unshare", kinds)
    if user:
        maps = (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"))
        for name, text in maps:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)


_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = (text and text.encode() for text in (source, target, kind))
    call("mount", *texts, flags, data and data.encode())


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

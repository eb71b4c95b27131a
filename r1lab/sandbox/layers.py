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
import platform
import signal
import struct
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None

LINUX = sys.platform.startswith("linux")
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


def landlock(readable=()) -> None:
    """From now on this process only reads, and only below `readable`; it has no TCP (version 4), no
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
    no_new_privileges()
    _call("syscall", _RESTRICT, rules, 0)
    os.close(rules)


# --- seccomp -------------------------------------------------------------------------------------

# System calls by machine: x86-64's asm/unistd_64.h, aarch64's asm-generic/unistd.h.
ALLOWED = {  # all that a program needs that computes
    "x86_64": "read 0 write 1 close 3 munmap 11 brk 12 rt_sigreturn 15 sched_yield 24 mremap 25 "
    "madvise 28 getpid 39 exit 60 gettimeofday 96 getrusage 98 times 100 getuid 102 getgid 104 "
    "geteuid 107 getegid 108 gettid 186 time 201 clock_gettime 228 clock_getres 229 exit_group 231 "
    "getrandom 318",
    "aarch64": "read 63 write 64 close 57 munmap 215 brk 214 rt_sigreturn 139 sched_yield 124 "
    "mremap 216 madvise 233 getpid 172 exit 93 gettimeofday 169 getrusage 165 times 153 getuid 174 "
    "getgid 176 geteuid 175 getegid 177 gettid 178 clock_gettime 113 clock_getres 114 "
    "exit_group 94 getrandom 278",
}
AT_ONCE = {  # these return 0 at once: nobody sleeps, nobody waits for what never comes
    "x86_64": "poll 7 select 23 nanosleep 35 restart_syscall 219 clock_nanosleep 230 pselect6 270 "
    "ppoll 271",
    "aarch64": "pselect6 72 ppoll 73 nanosleep 101 clock_nanosleep 115 restart_syscall 128",
}
NO_CODE = {"x86_64": "mmap 9 mprotect 10", "aarch64": "mmap 222 mprotect 226"}  # not PROT_EXEC
FUTEX = {"x86_64": 202, "aarch64": 98}
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
X32 = 0x40000000  # x86-64's second table begins here

_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH = 0, 4


def _argument(k: int, high: bool = False) -> int:
    return 16 + 8 * k + 4 * high  # in struct seccomp_data, on a little-endian machine


def _numbers(table: dict, machine: str) -> list[int]:
    return [int(word) for word in table[machine].split()[1::2]]


def filter_program(machine: str) -> bytes:
    """The filter in BPF's machine language: 8 bytes an instruction (code, jump if true, jump if
    false, operand). What is on no list fails with EPERM."""
    program = []

    def add(code: int, operand: int, true: int = 0, false: int = 0) -> None:
        program.append(struct.pack("=HBBI", code, true, false, operand))

    add(_LOAD, _ARCH)
    add(_EQUAL, MACHINES[machine], true=1)
    add(_RETURN, KILL)
    add(_LOAD, _NR)
    if machine == "x86_64":
        add(_ABOVE, X32, false=1)
        add(_RETURN, KILL)
    for table, answer in ((ALLOWED, ALLOW), (AT_ONCE, FAIL)):
        for number in _numbers(table, machine):
            add(_EQUAL, number, false=1)
            add(_RETURN, answer)
    for number in _numbers(NO_CODE, machine):
        add(_EQUAL, number, false=4)
        add(_LOAD, _argument(2))
        add(_ANY_BIT, 4, false=1)  # PROT_EXEC
        add(_RETURN, FAIL | errno.EPERM)
        add(_RETURN, ALLOW)
    # futex: there is one thread, so to wake others is to do nothing. To wait with a time limit is
    # to have waited; to wait without one is a loop, which the limit on processor time ends.
    add(_EQUAL, FUTEX[machine], false=11)
    add(_LOAD, _argument(1))
    add(_AND, 0x7F)  # without the flags
    add(_EQUAL, 0, true=1)  # FUTEX_WAIT
    add(_EQUAL, 9, false=4)  # FUTEX_WAIT_BITSET
    add(_LOAD, _argument(3))
    add(_EQUAL, 0, false=3)
    add(_LOAD, _argument(3, high=True))
    add(_EQUAL, 0, false=1)
    add(_RETURN, FAIL | 0)
    add(_RETURN, FAIL | errno.ETIMEDOUT)
    add(_RETURN, KILL)  # never reached
    add(_RETURN, FAIL | errno.EPERM)
    return b"".join(program)


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

    def __init__(self, wanted, folder: str, user: int) -> None:
        self.held: dict[str, str] = {}
        self.absent: dict[str, str] = {name: "not asked for" for name in ALL if name not in wanted}
        self.uid, self.own_pids, self.filter = user, False, b""
        self.base = address_space()
        self.children = None
        if LINUX:
            _call("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans become our children
            self.children = _children_file()
        for name in (name for name in ALL if name in wanted):
            try:
                if not LINUX and name != "rlimits":
                    raise OSError(f"{platform.system()} has none")
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
                attempt(lambda: become(self.uid))
                return "another user"
            except OSError:  # root of a user name space, which has no other users
                pass
        elif not self.own_pids:
            raise OSError("we are not root")
        self.uid = None
        attempt(no_capabilities)
        return "no capabilities"

    def landlock(self, folder: str) -> str:
        attempt(landlock)
        return f"Landlock (ABI {landlock_version()})"

    def rlimits(self, folder: str) -> str:
        return "limits"

    def seccomp(self, folder: str) -> str:
        machine = platform.machine()
        if machine not in MACHINES or sys.maxsize < 2**32:
            raise OSError(f"there is no list of system calls for {machine}")
        self.filter = filter_program(machine)
        attempt(lambda: seccomp(self.filter))
        return "seccomp"

    def of_child(self, cpu: float, memory: int) -> None:
        """Puts up a program's layers around this process, and starts its clock."""
        if "user" in self.held:
            no_capabilities() if self.uid is None else become(self.uid)
        if "landlock" in self.held:
            landlock()
        if "rlimits" in self.held:
            limit(NOFILE=0, NPROC=0, FSIZE=0, CORE=0, MEMLOCK=0, MSGQUEUE=0)
            if self.base:
                limit(AS=self.base + memory)
        limit(CPU=int(cpu) + 1)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it ends the process
        signal.setitimer(signal.ITIMER_PROF, cpu)
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

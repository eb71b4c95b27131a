"""The list of system calls that a program may make, and the filter that the kernel runs on each.

Alone it contains nearly all: no files, sockets, processes or signals, no executable memory, no
waiting. The second mode (`FILES`) has files, and leans on the other layers.
The host makes the filter; the fork server puts it up (`layers.seccomp`).
"""

import errno
import struct

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

# What a program of the second mode may do besides: use files by path (Landlock and the root folder
# say which), map libraries, really sleep. No links, no modes, no owners, no other processes.
FILES = {
    "x86_64": "open 2 stat 4 fstat 5 lstat 6 lseek 8 pread64 17 pwrite64 18 readv 19 writev 20 "
    "access 21 dup 32 dup2 33 uname 63 fsync 74 fdatasync 75 truncate 76 ftruncate 77 getcwd 79 "
    "chdir 80 fchdir 81 rename 82 mkdir 83 rmdir 84 creat 85 unlink 87 readlink 89 umask 95 "
    "statfs 137 fstatfs 138 sched_getaffinity 204 getdents64 217 fadvise64 221 openat 257 "
    "mkdirat 258 newfstatat 262 unlinkat 263 renameat 264 readlinkat 267 faccessat 269 "
    "fallocate 285 getcpu 309 renameat2 316 copy_file_range 326 statx 332 faccessat2 439",
    "aarch64": "getcwd 17 dup 23 dup3 24 mkdirat 34 unlinkat 35 renameat 38 statfs 43 fstatfs 44 "
    "truncate 45 ftruncate 46 fallocate 47 faccessat 48 chdir 49 fchdir 50 openat 56 getdents64 61 "
    "lseek 62 readv 65 writev 66 pread64 67 pwrite64 68 readlinkat 78 newfstatat 79 fstat 80 "
    "fsync 82 fdatasync 83 sched_getaffinity 123 uname 160 umask 166 getcpu 168 fadvise64 223 "
    "renameat2 276 copy_file_range 285 statx 291 faccessat2 439",
}
UNCHANGED = {  # modes, owners, times, which Landlock does not restrict: return 0, do nothing
    "x86_64": "chmod 90 fchmod 91 chown 92 fchown 93 lchown 94 utime 132 utimes 235 fchownat 260 "
    "futimesat 261 fchmodat 268 utimensat 280 fchmodat2 452",
    "aarch64": "fchmod 52 fchmodat 53 fchownat 54 fchown 55 utimensat 88 fchmodat2 452",
}
TIMERS = {"x86_64": "setitimer 38", "aarch64": "setitimer 103"}  # of a worker, for each call
PRLIMIT = {"x86_64": 302, "aarch64": 261}  # to read its own limits, not to set them
FCNTL = {"x86_64": 72, "aarch64": 25}
IOCTL = {"x86_64": "ioctl 16", "aarch64": "ioctl 29"}
F_SETFL, F_DUPFD_CLOEXEC = 4, 1030  # not F_SETOWN, which sends signals to others

_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH = 0, 4


def _argument(k: int, high: bool = False) -> int:
    return 16 + 8 * k + 4 * high  # in struct seccomp_data, on a little-endian machine


def _numbers(table: dict, machine: str) -> list[int]:
    return [int(word) for word in table[machine].split()[1::2]]


def filter_program(machine: str, files: bool = False, timers: bool = False) -> bytes:
    """The filter in BPF's machine language: 8 bytes an instruction (code, jump if true, jump if
    false, operand). What is on no list fails with EPERM. Empty for a machine without a list.
    files: the second mode's list. timers: with setitimer."""
    if machine not in MACHINES:
        return b""
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
    tables = [(ALLOWED, ALLOW), (AT_ONCE, ALLOW if files else FAIL)]
    if files:
        tables += [(FILES, ALLOW), (NO_CODE, ALLOW), (UNCHANGED, FAIL)]
        tables += [(IOCTL, FAIL | errno.ENOTTY)]
    tables += [(TIMERS, ALLOW)] if timers else []
    for table, answer in tables:
        for number in _numbers(table, machine):
            add(_EQUAL, number, false=1)
            add(_RETURN, answer)
    if files:
        add(_EQUAL, FUTEX[machine], false=1)
        add(_RETURN, ALLOW)
        add(_EQUAL, PRLIMIT[machine], false=8)
        add(_LOAD, _argument(0))
        add(_EQUAL, 0, false=5)  # another process
        add(_LOAD, _argument(2))
        add(_EQUAL, 0, false=3)
        add(_LOAD, _argument(2, high=True))
        add(_EQUAL, 0, false=1)
        add(_RETURN, ALLOW)
        add(_RETURN, FAIL | errno.EPERM)
        add(_EQUAL, FCNTL[machine], false=4)
        add(_LOAD, _argument(1))
        add(_EQUAL, F_DUPFD_CLOEXEC, true=1)
        add(_ABOVE, F_SETFL + 1, true=1)
        add(_RETURN, ALLOW)
        add(_RETURN, FAIL | errno.EPERM)
        return b"".join(program)
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

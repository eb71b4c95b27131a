"""The list of system calls that a program may make, and the filter that the kernel runs on each.

Alone it contains nearly all: no files, sockets, processes or signals, no executable memory, no
waiting. The host makes the filter; the fork server puts it up (`layers.seccomp`).
"""

from __future__ import annotations

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

_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
ALLOW, FAIL, KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH = 0, 4


def _argument(k: int, high: bool = False) -> int:
    return 16 + 8 * k + 4 * high  # in struct seccomp_data, on a little-endian machine


def _numbers(table: dict, machine: str) -> list[int]:
    return [int(word) for word in table[machine].split()[1::2]]


def filter_program(machine: str) -> bytes:
    """The filter in BPF's machine language: 8 bytes an instruction (code, jump if true, jump if
    false, operand). What is on no list fails with EPERM. Empty for a machine without a list."""
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

"""Attacks on the sandbox, as data: each has a name, a kind, the layers that stop it, and a source.

KINDS of outside attacks: the source defines `attack(w)`, which raises where it is refused and
returns something true where it succeeds. `w` is a world of decoys: file, folder, link, empty (a
folder), module (a folder with one), unix (a socket that listens), port, pid (a process that does
nothing), host (the process that judges), x86 (whether system calls have x86-64's numbers).

`stops` names alternatives, "seccomp | landlock | user+rlimits": any of them is enough, and with all
of the layers named removed the attack succeeds (as root). `inside`: what succeeds without seccomp
stays in the program's own process, or its name spaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from r1lab.sandbox import Case, Limits, Sandbox
from r1lab.sandbox.kernel import ALL

#: What attacks import, and ordinary programs cannot.
MODULES = ("subprocess", "_posixsubprocess", "resource", "mmap", "pwd", "importlib.machinery")

PRELUDE = """
import ctypes, os, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    found = libc.syscall(ctypes.c_long(number), *(
        ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found + 1
def c(name, *args):
    found = getattr(libc, name)(*(ctypes.c_long(a) if isinstance(a, int) else a for a in args))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found + 1
"""

#: What a program can do to its own channel.
FRAMES = """
import os, struct
def send(kind, number=0, payload=b""):
    os.write(3, struct.pack("<cII", kind, number, len(payload)) + payload)
def number(k): return b"i%x;" % k
def end(): os._exit(0)
def JSON(text): pass
"""


@dataclass(frozen=True)
class Attack:
    name: str
    kind: str
    source: str
    stops: str = ""
    inside: bool = False


def parse(text: str) -> list[Attack]:
    """Attacks written as `# name, kind, stops[, inside]` and the lines below it."""
    found = []
    for block in text.strip().split("\n# ")[0:]:
        head, _, body = block.removeprefix("# ").partition("\n")
        name, kind, stops, *inside = (part.strip() for part in head.split(","))
        if "def attack(" not in body:
            lines = body.strip("\n").split("\n")
            lines[-1] = "return " + lines[-1]
            body = "def attack(w):\n" + "\n".join(f"    {line}" for line in lines)
        source = f"{PRELUDE}{body}\ndef succeeds(w): return attack(w) or None\n"
        found.append(Attack(name, kind, source, stops, bool(inside)))
    return found


def parse_verdict(text: str) -> list[Attack]:
    """Whole programs, written as `# name, stops` and the lines below it."""
    blocks = (block.removeprefix("# ").partition("\n") for block in text.strip().split("\n# "))
    heads = ((*head.split(", "), body) for head, _, body in blocks)
    return [Attack(name, "verdict", body.replace("FRAMES\n", FRAMES), s) for name, s, body in heads]


OUTSIDE = parse(r"""
# read_file, files, folder | landlock | rlimits | seccomp
open(w["file"]).read()
# read_passwd, files, folder | landlock | rlimits | seccomp
open("/etc/passwd").read()
# read_by_descriptor, files, folder | landlock | rlimits | seccomp
os.read(os.open(w["file"], os.O_RDONLY), 10)
# read_lines_for_a_traceback, files, folder | landlock | rlimits | seccomp
__import__("linecache").getlines(w["file"])
# read_path, files, folder | landlock | rlimits | seccomp
__import__("pathlib").Path(w["file"]).read_bytes()
# list_folder, files, folder | landlock | rlimits | seccomp
os.listdir(w["folder"])
# scan_folder, files, folder | landlock | rlimits | seccomp
[one.name for one in os.scandir(w["folder"])]
# walk_folder, files, folder | landlock | rlimits | seccomp
[files for _, _, files in os.walk(w["folder"])]
# stat_file, files, folder | seccomp
os.stat(w["file"]).st_size
# access_file, files, folder | seccomp
os.access(w["file"], os.R_OK)
# stat_by_call, files, folder | seccomp
call(332 if w["x86"] else 291, -100, w["file"].encode(), 0, 0x7FF, ctypes.create_string_buffer(256))
# read_link, files, folder | seccomp
os.readlink(w["link"])
# free_space, files, folder | seccomp
os.statvfs(w["folder"]).f_blocks
# overwrite, files, folder | landlock | rlimits | seccomp
open(w["file"], "w").write("changed")
# append, files, folder | landlock | rlimits | seccomp
open(w["file"], "a").write("changed")
# truncate, files, folder | landlock | seccomp
os.truncate(w["file"], 0) is None
# create, files, folder | landlock | rlimits | seccomp
os.close(os.open(w["folder"] + "/new", os.O_CREAT | os.O_WRONLY)) is None
# make_folder, files, folder | landlock | seccomp
os.mkdir(w["folder"] + "/new") is None
# remove_folder, files, folder | landlock | seccomp
os.rmdir(w["empty"]) is None
# unlink, files, folder | landlock | seccomp
os.unlink(w["file"]) is None
# rename, files, folder | landlock | seccomp
os.rename(w["file"], w["file"] + "2") is None
# hard_link, files, folder | landlock | seccomp
os.link(w["file"], w["folder"] + "/new") is None
# symbolic_link, files, folder | landlock | seccomp
os.symlink("/etc/passwd", w["folder"] + "/new") is None
# change_mode, files, folder | user | seccomp
os.chmod(w["file"], 0o777) is None
# change_owner, files, folder | user | seccomp
os.chown(w["file"], os.getuid(), os.getgid()) is None
# change_times, files, folder | user | seccomp
os.utime(w["file"], (1, 1)) is None
# set_attribute, files, folder | seccomp
os.setxattr(w["file"], "user.x", b"1") is None
# make_pipe, files, folder | landlock | seccomp
os.mkfifo(w["folder"] + "/new") is None
# make_device, files, folder | landlock | seccomp
os.mknod(w["folder"] + "/new", 0o666) is None
# temporary_file, files, folder | landlock | rlimits | seccomp
__import__("tempfile").TemporaryFile().write(b"x")
# shared_memory_file, files, folder | landlock | rlimits | seccomp
p = "/dev/shm/r1lab-decoy"
open(p, "w").close()
os.unlink(p) is None
# memory_file, files, rlimits | seccomp, inside
os.memfd_create("x") > 0
# log_file, files, folder | landlock | rlimits | seccomp
__import__("logging").FileHandler(w["folder"] + "/new").stream.fileno()
# random_device, files, folder | landlock | rlimits | seccomp
open("/dev/urandom", "rb").read(4)
# change_folder, files, folder | seccomp
os.chdir(w["folder"]) is None
# change_root, files, folder | user | seccomp
os.chroot(w["folder"]) is None
# mount, files, folder | user | landlock | seccomp
c("mount", b"tmpfs", w["empty"].encode(), b"tmpfs", 0, None)
c("umount", w["empty"].encode())
# import_from_a_folder, files, folder | landlock | rlimits | seccomp
import importlib.machinery
finder = importlib.machinery.PathFinder.find_spec("decoy_module", [w["module"]])
finder.loader.load_module("decoy_module").SECRET
# load_a_library, files, folder | landlock | rlimits | seccomp
ctypes.CDLL("libanl.so.1").getaddrinfo_a is not None
# watch_files, files, rlimits | seccomp, inside
call(294 if w["x86"] else 26, 0)
# ring, files, rlimits | seccomp, inside
call(425, 4, ctypes.create_string_buffer(120))
# own_environment_file, environment, folder | user | landlock | rlimits | seccomp
open("/proc/self/environ", "rb").read(1) or 1
# environment_of_the_host, environment, folder | user | landlock | rlimits | seccomp
open(f"/proc/{w['host']}/environ", "rb").read()
# memory_of_the_host, tracing, folder | user | landlock | rlimits | seccomp
open(f"/proc/{w['host']}/maps").readline()
# own_memory_file, tracing, folder | user | landlock | rlimits | seccomp
open("/proc/self/mem", "r+b") is not None
# list_processes, processes, folder | landlock | rlimits | seccomp
[one for one in os.listdir("/proc") if one.isdigit()]
# connect, network, namespaces | landlock | rlimits | seccomp
socket.create_connection(("127.0.0.1", w["port"]), 5) is not None
# send_a_datagram, network, namespaces | rlimits | seccomp
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", w["port"]))
# connect_by_version_6, network, rlimits | seccomp, inside
socket.socket(socket.AF_INET6) is not None
# listen, network, landlock | rlimits | seccomp
s = socket.create_server(("127.0.0.1", 0))
s.getsockname()[1]
# listen_to_all, network, landlock | rlimits | seccomp
s = socket.socket()
s.bind(("0.0.0.0", 0))
s.getsockname()[1]
# local_socket, network, folder | rlimits | seccomp
socket.socket(socket.AF_UNIX).connect(w["unix"]) is None
# abstract_socket, network, namespaces | landlock | rlimits | seccomp
socket.socket(socket.AF_UNIX).connect(w["abstract"].encode()) is None
# pair_of_sockets, network, rlimits | seccomp, inside
len(socket.socketpair())
# raw_socket, network, user | rlimits | seccomp
socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) is not None
# packets, network, user | rlimits | seccomp
socket.socket(socket.AF_PACKET, socket.SOCK_RAW) is not None
# netlink, network, rlimits | seccomp, inside
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) is not None
# look_up_a_name, network, folder | landlock | rlimits | seccomp
socket.getaddrinfo("localhost", 80)
# pipe, processes, rlimits | seccomp, inside
len(os.pipe())
# duplicate_a_descriptor, processes, rlimits | seccomp, inside
os.dup(0) > 0
# fork, processes, seccomp | user+rlimits
os.fork() or os._exit(0)
# fork_by_call, processes, seccomp | user+rlimits
pid = call(57) if w["x86"] else call(220, 17, 0, 0, 0, 0)
pid - 1 or os._exit(0)
# twenty_forks, processes, seccomp | user+rlimits
[os.fork() or os._exit(0) for _ in range(20)]
# daemon, processes, seccomp | user+rlimits
import time as t
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        t.sleep(0)
        for _ in iter(int, 1): pass
    os._exit(0)
1
# new_terminal, processes, folder | landlock | rlimits | seccomp
os.forkpty()[0] or os._exit(0)
# spawn, processes, folder | landlock | seccomp | user+rlimits
os.posix_spawn("/bin/true", ["true"], {})
# shell, processes, folder | landlock | rlimits | seccomp
os.system("true") == 0
# subprocess, processes, folder | landlock | rlimits | seccomp
subprocess.run(["/bin/true"]).returncode == 0
# execute, processes, folder | landlock | seccomp
os.execv("/bin/sleep", ["sleep", "0"])
# thread, processes, seccomp | user+rlimits, inside
t = threading.Thread(target=int)
t.start()
t.join() is None
# new_name_spaces, processes, folder | seccomp, inside
call(272 if w["x86"] else 97, 0x10000000)
# nice, processes, seccomp, inside
os.nice(1) >= 0
# other_processor, processes, seccomp, inside
os.sched_setaffinity(0, os.sched_getaffinity(0)) is None
# limits_of_the_decoy, processes, namespaces | user | seccomp
__import__("resource").prlimit(w["pid"], 7)
# more_time, time, seccomp, inside
signal.setitimer(signal.ITIMER_PROF, 0) is not None
# delete_the_alarm, time, seccomp, inside
call(226 if w["x86"] else 111, 0)
# block_the_alarm, time, seccomp, inside
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF]) is not None
# catch_the_alarm, time, seccomp, inside
signal.signal(signal.SIGPROF, signal.SIG_IGN) is not None
# own_alarm, signals, seccomp, inside
signal.alarm(100) == 0
# signal_the_host, signals, namespaces | user | landlock | seccomp
os.kill(w["host"], 0) is None
# signal_the_server, signals, user | landlock | seccomp
os.kill(os.getppid(), 0) is None
# stop_the_decoy, signals, namespaces | user | landlock | seccomp
os.kill(w["pid"], signal.SIGSTOP) is None
# signal_by_queue, signals, namespaces | user | landlock | seccomp
call(129 if w["x86"] else 138, w["pid"], 0, struct.pack("iii", 0, 0, -1) + bytes(116))
# signal_a_thread_of_the_host, signals, namespaces | user | landlock | seccomp
call(234 if w["x86"] else 131, w["host"], w["host"], 0)
# signal_everybody, signals, namespaces | seccomp
os.kill(-1, 0) is None
# signal_the_group_of_the_host, signals, namespaces | user | landlock | seccomp
os.killpg(w["group"], 0) is None
# hold_the_host, signals, namespaces | rlimits | seccomp
os.pidfd_open(w["host"]) > 0
# signal_itself, signals, seccomp, inside
os.kill(os.getpid(), 0) is None
# trace_the_decoy, tracing, namespaces | user | landlock | seccomp
c("ptrace", 16, w["pid"], 0, 0)
# be_traced, tracing, seccomp, inside
c("ptrace", 0, 0, 0, 0)
# read_memory_of_the_decoy, tracing, namespaces | user | landlock | seccomp
b = ctypes.create_string_buffer(8)
v = struct.pack("QQ", ctypes.addressof(b), 8)
try:
    call(310 if w["x86"] else 270, w["pid"], v, 1, struct.pack("QQ", 8, 8), 1, 0)
except OSError as error:
    if error.errno != 14:  # EFAULT: allowed, but nothing is there
        raise
1
# write_memory_of_the_decoy, tracing, namespaces | user | landlock | seccomp
b = ctypes.create_string_buffer(8)
v = struct.pack("QQ", ctypes.addressof(b), 8)
try:
    call(311 if w["x86"] else 271, w["pid"], v, 1, struct.pack("QQ", 8, 8), 1, 0)
except OSError as error:
    if error.errno != 14:
        raise
1
# compare_with_the_decoy, tracing, namespaces | user | landlock | seccomp
call(312 if w["x86"] else 272, w["pid"], os.getpid(), 1, 0, 0)
# count_events, tracing, user | rlimits | seccomp, inside
call(298 if w["x86"] else 241, struct.pack("IIQ", 1, 128, 0) + bytes(112), 0, -1, -1, 0)
# load_a_filter_into_the_kernel, tracing, user | rlimits | seccomp
call(321 if w["x86"] else 280, 0, struct.pack("IIIIII", 2, 4, 8, 1, 0, 0) + bytes(100), 120)
# handle_page_faults, tracing, rlimits | seccomp, inside
call(323 if w["x86"] else 282, 1)
# keyring, environment, seccomp, inside
call(248 if w["x86"] else 217, b"user", b"r1lab-decoy", b"x", 1, -1)
# name_of_the_machine, environment, seccomp, inside
os.uname().nodename
# rename_the_machine, environment, user | seccomp
name = socket.gethostname().encode()
c("sethostname", name, len(name))
# where_am_i, environment, folder | seccomp, inside
os.getcwd()
# table_of_users, environment, folder | landlock | rlimits | seccomp
__import__("pwd").getpwall()
# become_root, environment, user | seccomp, inside
os.setuid(0) is None
# other_groups, environment, user | seccomp
os.setgroups([0]) is None
# memory_of_the_machine, environment, seccomp, inside
call(99 if w["x86"] else 179, ctypes.create_string_buffer(128))
# shared_memory, memory, seccomp, inside
name = call(29 if w["x86"] else 194, 0, 4096, 0o600) - 1
call(31 if w["x86"] else 195, name, 0, None)
# semaphores, memory, seccomp, inside
name = call(64 if w["x86"] else 190, 0, 1, 0o600) - 1
call(66 if w["x86"] else 191, name, 0, 0, None)
# message_queue, memory, seccomp, inside
name = call(68 if w["x86"] else 186, 0, 0o600) - 1
call(71 if w["x86"] else 187, name, 0, None)
# executable_memory, memory, seccomp, inside
__import__("mmap").mmap(-1, 4096, prot=7) is not None
# make_memory_executable, memory, seccomp, inside
m = __import__("mmap").mmap(-1, 4096)
a = ctypes.addressof(ctypes.c_char.from_buffer(m))
c("mprotect", ctypes.c_void_p(a), 4096, 7)
# lock_memory, memory, seccomp | user+rlimits, inside
c("mlockall", 2)
""")


# --- on the verdict ------------------------------------------------------------------------------

#: f(3) should be 11. `stops` names the naive grader that pays for it: "exit" (the tests behind the
#: program, the exit code), "equal" (the tests in the program's process, the verdict printed), "any"
#: (our frames, but any answer that is right counts), "json" and "pickle" (a host that parses what
#: the program sends: it raises, or runs what is in it).
VERDICT = parse_verdict(r"""
# always_equal, equal
class Yes:
    def __eq__(self, other): return True
def f(x): return Yes()
# equal_int, equal
class Yes(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def f(x): return Yes(5)
# equal_list, equal
class Yes(list):
    def __eq__(self, other): return True
def f(x): return Yes()
# equal_text, equal
class Yes(str):
    def __eq__(self, other): return True
    __hash__ = str.__hash__
def f(x): return Yes("no")
# equal_float, equal
class Yes(float):
    def __eq__(self, other): return True
def f(x): return Yes("nan")
# equal_tuple, equal
class Yes(tuple):
    def __eq__(self, other): return True
def f(x): return Yes()
# reflected, equal
class Yes:
    def __ne__(self, other): return False
    def __eq__(self, other): return other == other
def f(x): return Yes()
# anything, equal
from unittest.mock import ANY
def f(x): return ANY
# class_that_equals, equal
class Meta(type):
    def __eq__(cls, other): return True
    __hash__ = type.__hash__
class Yes(metaclass=Meta): pass
def f(x): return Yes
# says_it_is_an_int, equal
class Yes:
    __class__ = int
    def __eq__(self, other): return True
def f(x): return Yes()
# leave_with_0, exit
raise SystemExit(0)
# leave_with_0_when_called, exit
def f(x): raise SystemExit(0)
# exit_function, exit
import sys
def f(x): sys.exit()
# leave_at_once, exit
import os
os._exit(0)
# leave_at_once_when_called, exit
import os
def f(x): os._exit(0)
# leave_when_it_is_over, exit
import atexit, os
atexit.register(os._exit, 0)
# hook_for_errors, exit
import os, sys
sys.excepthook = lambda *error: os._exit(0)
def f(x): return 0
# alarm_that_leaves, exit
import os, signal, time
signal.signal(signal.SIGALRM, lambda *a: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.01)
def f(x):
    while True: pass
# trace_that_leaves, exit
import os, sys
def trace(frame, event, argument): os._exit(0)
def f(x):
    sys.settrace(trace)
    return (lambda: 0)()
# printed_verdict, equal
import os
print("VERDICT True", flush=True)
os._exit(0)
# printed_at_exit, equal
import atexit
atexit.register(print, "VERDICT True")
def f(x): return 0
# printed_to_the_descriptor, equal
import os
os.write(1, b"VERDICT True\n")
os._exit(0)
# swapped_stdout, equal
import sys
class Liar:
    def write(self, text): return sys.__stdout__.write(text.replace("False", "True"))
    def flush(self): sys.__stdout__.flush()
sys.stdout = Liar()
def f(x): return 0
# swapped_print, equal
import builtins
old = print
builtins.print = lambda *a, **k: old("VERDICT True")
def f(x): return 0
# alarm_that_prints, equal
import os, signal
def done(*a):
    os.write(1, b"VERDICT True\n")
    os._exit(0)
signal.signal(signal.SIGALRM, done)
signal.setitimer(signal.ITIMER_REAL, 0.01)
def f(x):
    while True: pass
# read_the_frames, equal
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name in ("want", "expected"):
            if name in frame.f_locals: return frame.f_locals[name]
        frame = frame.f_back
# read_the_garbage, equal
import gc
def f(x):
    for one in gc.get_objects():
        if isinstance(one, dict) and "want" in one: return one["want"]
# inspect_the_stack, equal
import inspect
def f(x):
    for one in inspect.stack(0):
        if "want" in one.frame.f_globals: return one.frame.f_globals["want"]
# write_into_the_frame, equal
import sys
def f(x):
    sys._getframe(1).f_globals["want"] = 5
    return 5
# main_module, equal
import sys
def f(x): return sys.modules["__main__"].want
# true_for_1, equal1
def f(x): return True
# float_for_1, equal1
def f(x): return 1.0
# complex_for_1, equal1
def f(x): return 1 + 0j
# fraction_for_1, equal1
from fractions import Fraction
def f(x): return Fraction(1)
# decimal_for_1, equal1
from decimal import Decimal
def f(x): return Decimal(1)
# many_answers, any
FRAMES
for k in range(200): send(b"v", 0, number(k))
end()
# every_answer_in_the_call, any
FRAMES
def f(x):
    for k in range(200): send(b"v", 0, number(k))
# two_answers, any
FRAMES
def f(x):
    send(b"v", 0, number(11))
    return 12
# answer_before_it_has_run, any
FRAMES
send(b"v", 0, number(11))
def f(x): return 12
# answer_after_the_end, any
FRAMES
send(b"d")
send(b"v", 0, number(12))
send(b"e")
send(b"v", 0, number(11))
end()
# begun_twice, any
FRAMES
send(b"b")
send(b"d")
send(b"v", 0, number(11))
send(b"e")
end()
# a_case_too_many, any
FRAMES
send(b"d")
send(b"v", 0, number(11))
send(b"v", 1, number(11))
send(b"e")
end()
# answer_and_half_a_frame, any
FRAMES
send(b"d")
send(b"v", 0, number(11))
os.write(3, b"v")
end()
# an_unknown_frame, any
FRAMES
send(b"d")
send(b"p", 0, b"passed")
send(b"v", 0, number(11))
send(b"e")
end()
# raised_and_right, any
FRAMES
def f(x):
    send(b"r", 0, b"")
    send(b"v", 0, number(11))
# bomb_of_brackets, json
FRAMES
JSON("[" * 100000)
send(b"d")
send(b"v", 0, b"[" * 100000)
send(b"e")
end()
# bomb_of_digits, json
FRAMES
JSON("1" * 5000)
send(b"d")
send(b"v", 0, b"i" + b"1" * 200000 + b";")
send(b"e")
end()
# no_text_at_all, json
FRAMES
JSON("\udc80nonsense")
send(b"d")
send(b"v", 0, b"s999999:\xff\xfe")
send(b"e")
end()
# pickled_command, pickle
class Run:
    def __reduce__(self): return (eval, ("11",))
def f(x): return Run()
# pickled_class, pickle
import builtins
class Run:
    def __reduce__(self): return (builtins.int, ("b", 16))
def f(x): return Run()
""")


# --- on time, memory and output ------------------------------------------------------------------

#: f(3) with TIGHT limits gets the status that it names; f(4) with ROOMY ones runs to its end.
#: Where memory or output is to stop it, the processor's time must not do so first: on a busy
#: machine the first touch of 48 MB alone can cost more than a tenth of a second.
TIGHT = Limits(cpu=0.05, wall=5.0, memory=48 << 20, output=20_000)
PATIENT = replace(TIGHT, cpu=5.0, wall=20.0)
ROOMY = Limits(cpu=10.0, wall=20.0, memory=1 << 30, output=8 << 20)
RESOURCES = parse_verdict(r"""
# loop, timeout
def f(x):
    for k in range(20_000_000): pass
# loop_in_c, timeout
def f(x): return sum(range(15_000_000)) > 0
# loop_while_defined, timeout
for k in range(9_000_000): pass
def f(x): return 0
# loop_that_catches_everything, timeout
def f(x):
    for k in range(1_250_000):
        try: k / 0
        except BaseException: pass
# power, timeout
def f(x): return 7 ** 700_000 % 10 ** 9 + len(hex(7 ** 900_000))
# hashes, timeout
import hashlib
def f(x): return len(hashlib.pbkdf2_hmac("sha256", b"", b"", 900_000))
# regular_expression, timeout
import re
def f(x): return re.match("(a+)+$", "a" * 23 + "b")
# sorting, timeout
def f(x): return [len(sorted(range(100_000), key=lambda k: -k % 7919)) for _ in range(20)][0]
# recursion, timeout
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def f(x): return fib(32)
# comparison_that_loops, timeout
class Slow:
    def __hash__(self): return 1
    def __eq__(self, other): return sum(range(30000)) < 0
def f(x): return len({Slow() for _ in range(34)})
# loop_in_the_collector, timeout
class Slow:
    def __del__(self): sum(range(15_000_000))
def f(x):
    Slow()
    return 0
# lock_that_is_held, timeout
import threading
def f(x):
    lock = threading.Lock()
    lock.acquire()
    if x == 3: lock.acquire()
# bytes, memory
def f(x): return len(bytearray(100 << 20))
# list, memory
def f(x): return len([None] * (16 << 20))
# text, memory
def f(x): return len("x" * (100 << 20))
# growing_list, memory
def f(x):
    a = []
    for k in range(600): a.append(bytearray(1 << 18))
    return len(a)
# growing_text, memory
def f(x):
    t = "x"
    while len(t) < 100 << 20: t += t
    return len(t)
# number, memory
def f(x): return (1 << (8 * (80 << 20))).bit_length()
# memory_while_defined, memory
a = bytearray(100 << 20)
def f(x): return len(a)
# map_of_memory, memory
def f(x):
    import mmap
    try: return len(mmap.mmap(-1, 100 << 20))
    except OSError: raise MemoryError
# long_text, output
def f(x): return "x" * 1_000_000
# long_list, output
def f(x): return list(range(100_000))
# long_dict, output
def f(x): return {k: k for k in range(50_000)}
# doubled_twenty_times, output
def f(x):
    a = [1]
    for k in range(17): a = [a, a]
    return a
# large_number, output
def f(x): return 1 << 1_000_000
# frames_without_end, forged
import os
for k in range(4): os.write(3, bytes(10_000))
""")


@contextlib.contextmanager
def world() -> Iterator[dict]:
    """Decoys that anybody may read and change."""
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r1lab-decoy-")))
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        local, abstract = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        name = f"\0r1lab-decoy-{os.getpid()}"
        local.bind(str(top / "unix"))
        abstract.bind(name)
        for one in (local, abstract):
            one.listen(200)
        idle = stack.enter_context(subprocess.Popen(["/bin/sleep", "600"], stdin=-3, stdout=-3))
        stack.callback(idle.kill)
        names = {what: str(top / what) for what in ("file", "folder", "link", "empty", "module")}
        about = {"port": tcp.getsockname()[1], "unix": str(top / "unix"), "abstract": name}
        about |= {"pid": idle.pid, "host": os.getpid(), "group": os.getpgrp()}
        yield names | about | {"x86": os.uname().machine == "x86_64", "top": str(top)}


def fill(w: dict) -> None:
    """Makes the decoys of the file system, as they were."""
    top = Path(w["top"])
    for old in top.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif old.name != "unix":
            old.unlink()
    for name in ("folder", "empty", "module"):
        (top / name).mkdir()
    (top / "file").write_text("secret")
    (top / "folder" / "one").write_text("secret")
    (top / "link").symlink_to(top / "file")
    (top / "module" / "decoy_module.py").write_text("SECRET = 1")
    for one in (top, *top.rglob("*")):
        if not one.is_symlink():
            one.chmod(0o777)


def state(w: dict) -> list:
    """What of the decoys must stay as it is."""
    found = [(str(p), p.lstat().st_mode, p.lstat().st_mtime) for p in Path(w["top"]).rglob("*")]
    with open(f"/proc/{w['pid']}/stat", encoding="ascii") as file:
        letter = file.read().split()[2]
    found.append("S" if letter in "RD" else letter)  # it wakes, and sleeps on
    return sorted(map(str, found))


def succeed(sandbox: Sandbox, attacks: Iterable[Attack], w: dict, alone: bool = True) -> list[str]:
    """The names of the attacks that are not refused. alone: with new decoys for each; else all are
    run as one batch, and a decoy that changes is one more name."""
    attacks, found = list(attacks), []
    for batch in ([attack] for attack in attacks) if alone else [attacks]:
        fill(w)
        before = state(w)
        seen = {name: value for name, value in w.items() if name != "top"}
        jobs = [(attack.source, "succeeds", [Case((seen,), None)]) for attack in batch]
        verdicts = sandbox.judge_all(jobs, limits=Limits(0.3, 5.0))
        os.kill(w["pid"], signal.SIGCONT)
        for attack, verdict in zip(batch, verdicts, strict=True):
            wrong = ("NameError", "ModuleNotFoundError", "SyntaxError")
            if verdict.status in ("syntax", "error", "missing") or verdict.message.startswith(
                wrong
            ):
                raise AssertionError(f"{attack.name} is no attack: {verdict.message}")
            if verdict.outcomes == ["wrong"] or verdict.status in ("exit", "harness"):
                found.append(attack.name)
        if state(w) != before:
            found += ["changed a decoy"] if len(batch) > 1 else [batch[0].name]
    return found


def arena(layers: Iterable[str], weak: bool = True) -> Sandbox:
    """A sandbox of these layers alone, in which attacks find what they import."""
    return Sandbox(layers=layers, weak=weak, modules=MODULES)


def enter() -> dict:
    """For every layer that is taken away: what the probe finds open, and what succeeds if that is
    nothing, by the name of the layer."""
    found = {}
    with world() as w:
        for absent in ("nothing", *ALL):
            with arena([layer for layer in ALL if layer != absent]) as sandbox:
                opened = sandbox.open
                found[absent] = (
                    opened,
                    [] if opened else succeed(sandbox, OUTSIDE, w, alone=False),
                )
    return found


if __name__ == "__main__":
    print(json.dumps(enter()))

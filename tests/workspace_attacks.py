"""Attacks on the sandbox's second mode, as data. Each is the body of `attack(w)`, which raises
where it is refused; it has succeeded if it returns something true. `w` is a world of decoys: see
sandbox_attacks.world; r1lab is a file of the package."""

from __future__ import annotations

import json
import textwrap

from sandbox_attacks import fill, state, world

import r1lab
from r1lab.basics.errors import R1LabError
from r1lab.sandbox import Limits
from r1lab.sandbox.kernel import ALL
from r1lab.sandbox.workspace import Workspace

ATTACKS = {
    "reads the gold program": "return open(w['file']).read()",
    "reads r1lab": "return open(w['r1lab']).read()",
    "imports r1lab": "import r1lab; return True",
    "lists a folder": "return os.listdir(w['folder'])",
    "reads through a link that is there": "return open(w['link']).read()",
    "reads through a link of its own": "os.symlink(w['file'], 'l'); return open('l').read()",
    "links to a folder": "os.symlink(w['folder'], 'l'); return os.listdir('l')",
    "links a file in": "os.link(w['file'], 'l'); return True",
    "moves a file in": "os.rename(w['file'], 'l'); return True",
    "moves a file out": "open('m', 'w').close(); os.rename('m', w['folder'] + '/m'); return True",
    "writes beside its folder": "open('../r1lab-left', 'w').close(); return True",
    "writes into a folder": "open(w['folder'] + '/new', 'w').close(); return True",
    "appends": "open(w['file'], 'a').write('x'); return True",
    "truncates": "os.truncate(w['file'], 0); return True",
    "deletes": "os.unlink(w['file']); return True",
    "makes a folder": "os.mkdir(w['folder'] + '/new'); return True",
    "removes a folder": "os.rmdir(w['empty']); return True",
    "changes a mode": "os.chmod(w['file'], 0o600); return os.stat(w['file']).st_mode & 7 == 0",
    "changes a time": "os.utime(w['file'], (0, 0)); return os.stat(w['file']).st_mtime == 0",
    "changes a library": "open(os.__file__, 'a').close(); return True",
    "leaves a file in /tmp": "open('/tmp/r1lab-left', 'w').close(); return True",
    "leaves a file in shared memory": "open('/dev/shm/r1lab-left', 'w').close(); return True",
    "makes a pipe with a name": "os.mkfifo('f'); return True",
    "reads the host's environment": "return open(f'/proc/{w[\"host\"]}/environ').read()",
    "reads the host's memory": "return open(f'/proc/{w[\"host\"]}/mem', 'rb')",
    "leaves by a folder of /proc": "return os.listdir('/proc/1/root')",
    "opens a device": "return open('/dev/mem', 'rb')",
    "forks": "return os.fork() or os._exit(0)",
    "starts a program": "return subprocess.run(['/bin/true'])",
    "starts a thread": "threading.Thread(target=print).start(); return True",
    "becomes a program": "os.execv('/bin/true', ['true'])",
    "signals the host": "os.kill(w['host'], 0); return True",
    "stops a process": "os.kill(w['pid'], signal.SIGSTOP); return True",
    "kills all": "os.kill(-1, 0); return True",
    "signals the server": "os.kill(os.getppid(), 0); return True",
    "has signals sent": "fcntl.fcntl(os.open('.', 0), fcntl.F_SETOWN, w['host']); return True",
    "limits the host": "return resource.prlimit(w['host'], resource.RLIMIT_NOFILE)",
    "connects": "return socket.create_connection(('127.0.0.1', w['port']), 5)",
    "opens a socket": "return socket.socket(socket.AF_UNIX)",
    "traces": "return c('ptrace', 16, w['pid'], 0, 0)",
    "reads memory": "return call(310, w['pid'], 0, 0, 0, 0, 0)",
    "makes a ring": "return call(425, 1, ctypes.create_string_buffer(120))",
    "makes name spaces": "return c('unshare', 0x10000000)",
    "mounts": "return c('mount', b'x', b'.', b'tmpfs', 0, 0)",
    "changes the root folder": "os.chroot('.'); return True",
    "raises its limits": "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)); return True",
    "hides from its time limit": "signal.pthread_sigmask(0, {signal.SIGPROF}); return True",
}
SLOW_TO_IMPORT = ("fcntl", "resource", "subprocess")  # by the prelude, in each attack
PRELUDE = """
import ctypes, fcntl, os, resource, signal, socket, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    return c('syscall', number, *args)
def c(name, *args):
    if getattr(libc, name)(*(ctypes.c_long(a) if isinstance(a, int) else a for a in args)) < 0:
        raise OSError(ctypes.get_errno(), name)
    return True
"""


def succeed(box: Workspace, w: dict) -> list[str]:
    """The names of the attacks that are not refused, and of a decoy that has changed."""
    fill(w)
    before, found = state(w), []
    seen = {key: value for key, value in w.items() if key != "top"} | {"r1lab": r1lab.__file__}
    for name, body in ATTACKS.items():
        source = f"{PRELUDE}def attack(w):\n{textwrap.indent(body, '    ')}\n"
        source += f"def run(): return bool(attack({seen!r}))\n"
        ran = box.script(source, call="run", limits=Limits(0.5, 20.0))
        if ran.error.startswith(("NameError", "SyntaxError", "AttributeError")):
            raise AssertionError(f"{name} is no attack: {ran.error}")
        if ran.value or ran.status in ("harness", "forged") or (ran.ok and ran.value is None):
            found.append(name)
    return found + (["changed a decoy"] if state(w) != before else [])


def enter() -> dict:
    """For every layer that is taken away: what the probe finds open (or the words of the refusal),
    and what succeeds if that is nothing, by the name of the layer."""
    found = {}
    with world() as w:
        for absent in ("nothing", *ALL):
            layers = [layer for layer in ALL if layer != absent]
            try:
                with Workspace(SLOW_TO_IMPORT, layers=layers) as box:
                    found[absent] = ("", succeed(box, w))
            except R1LabError as error:
                found[absent] = (str(error), [])
    return found


if __name__ == "__main__":
    print(json.dumps(enter()))

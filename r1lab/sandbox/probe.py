"""What can a program do here that it should not? It is not concluded from the layers but tried."""

import marshal
import os
import socket
import tempfile

from r1lab.sandbox import verdicts
from r1lab.sandbox.verdicts import Limits

#: What is tried, in the words of a message ("programs can ..."), and how. Each function gets the
#: path of a file that anybody may read and change, the port of a server that listens, and the
#: host's process; it is refused if it raises.
TRIES = {
    "read files": "open(path).read()",
    "list folders": "os.listdir(os.path.dirname(path))",
    "create files": "os.close(os.open(path + '2', os.O_CREAT | os.O_WRONLY))",
    "change files": "os.chmod(path, 0o777)",
    "use the network": "socket.socket().connect(('127.0.0.1', port))",
    "open sockets": "socket.socket(socket.AF_UNIX)",
    "start processes": "os.fork() or os._exit(0)",
    "signal the host": "os.kill(host, 0)",
    "signal the server": "os.kill(os.getppid(), 0)",
    "execute files": "os.execv('/bin/true', ['true'])",
}
_SOURCE = """
import os, socket
def attempt(what, path, port, host):
    exec(what, globals(), locals())
"""
_LIMITS = Limits(cpu=2.0, wall=10.0)


def what_is_open(server, tries: dict[str, str] = TRIES) -> list[str]:
    """What a program of this fork server can do, of `tries`; all of them where it fails."""
    with tempfile.TemporaryDirectory(prefix="r1lab-probe-") as folder:
        os.chmod(folder, 0o777)
        path = os.path.join(folder, "file")
        with open(path, "w", encoding="utf-8") as file:
            file.write("x")
        os.chmod(path, 0o666)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            about = (path, listener.getsockname()[1], os.getpid())
            inputs = [marshal.dumps((code, *about)) for code in tries.values()]
            job = marshal.dumps((_SOURCE.encode(), "attempt", inputs, "strict"))
            data, cut, ended = server.execute(job, _LIMITS, 1 << 16)
    answers = verdicts.read(data, cut, ended, len(inputs))
    if answers.status not in ("ok", "exit"):
        raise server.lost(f"the probe ended with {answers.status}: {answers.message}")
    refused = [kind == b"r" for kind, _ in answers.cases]
    refused += [False] * (len(tries) - len(refused))  # executed: the program is no more
    return [what for what, no in zip(tries, refused, strict=True) if not no]


def refusal(found: list[str]) -> str:
    """The message where something is open."""
    return (
        f"no sandbox here for code: programs could {', '.join(found)}. pip install 'r1lab[wasm]', "
        "run r1lab in a container or on Linux with seccomp, or accept that with --weak-sandbox "
        "(`r1lab sandbox doctor` says what is missing)"
    )

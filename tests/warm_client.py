"""`python` with its imports done: a process forked by `warm_server.py` that looks like this one.

It has our arguments, environment, folder and open files; signals are handed on to it, and we
end as it ends. What the server cannot be, a Python of its own is.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    python, path, *arguments = sys.argv[1:]
    environment = dict(os.environ)
    while arguments[0] in ("-B", "-u"):  # multiprocessing's and torchrun's
        if arguments.pop(0) == "-u":
            environment["PYTHONUNBUFFERED"] = "1"
    if arguments[0].startswith("-") and arguments[0] not in ("-m", "-c"):
        os.execv(python, [python, *arguments])
    there = "/proc/self/fd"
    files = [int(name) for name in os.listdir(there) if os.path.exists(f"{there}/{name}")]
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    request = json.dumps([arguments, environment, os.getcwd(), files]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], files)
    server.sendall(request)
    answers = server.makefile()
    pid = int(answers.readline())
    with open(f"{path}-{os.getpid()}", "w") as file:  # warm.kill reads it
        file.write(str(pid))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: os.kill(pid, number))
    status = int(answers.readline() or signal.SIGKILL)  # the server is gone
    if os.WIFSIGNALED(status):
        if (number := os.WTERMSIG(status)) != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


main()

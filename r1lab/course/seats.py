"""The seats of one machine of a class: a JupyterLab for each student, until the time is over.

    R1LAB_SEATS='[{"name": "ada", "token": "...", "port": 9001}]' python -m r1lab.course.seats

Each has a token, a folder with copies of the lessons, and one GPU of this machine, or its part of
one. The servers listen on 127.0.0.1. A student's ssh key, where there is one, may forward that
student's port and nothing else. Ended by SIGTERM, Ctrl-C or R1LAB_HOURS, it ends every server and
its kernels; the students' folders stay.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from r1lab import ROOT
from r1lab.basics.errors import R1LabError
from r1lab.course.classroom import KEY, NAME
from r1lab.course.copies import prepare

Seat = Mapping[str, Any]


def read(text: str) -> list[Seat]:
    """The seats of R1LAB_SEATS. Raises R1LabError for what is none."""
    try:
        rows = json.loads(text)
        if not isinstance(rows, list) or not rows:
            raise ValueError("no list of them")
        for row in rows:
            good = NAME.fullmatch(row["name"]) and len(row["token"]) >= 16
            if not good or type(row["port"]) is not int or not 1023 < row["port"] < 65536:
                raise ValueError(row["name"])
            if row.get("key") is not None and not KEY.fullmatch(row["key"]):
                raise ValueError(f"{row['name']}'s key")
    except (ValueError, KeyError, TypeError) as error:
        raise R1LabError(f"R1LAB_SEATS does not hold seats: {error}") from error
    return rows


def permit(seats: Sequence[Seat], file: Path) -> None:
    """Let each student's ssh key forward that student's port: no shell, no other port."""
    lines = [
        f'restrict,port-forwarding,permitopen="127.0.0.1:{seat["port"]}" {seat["key"]}'
        for seat in seats
        if seat.get("key")
    ]
    there = file.read_text(encoding="utf-8").split("\n") if file.exists() else []
    if new := [line for line in lines if line not in there]:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        with file.open("a", encoding="utf-8") as end:
            end.write("\n" * bool(there and there[-1]) + "\n".join(new) + "\n")


def sit(seat: Seat, number: int, of: int, folder: Path, profile: str) -> subprocess.Popen:
    """Start the JupyterLab of seat `number` of `of` in folder/NAME, with its jupyter.log."""
    home = folder / seat["name"]
    made, _, _ = prepare(profile, out_dir=home)
    environment = {k: v for k, v in os.environ.items() if k != "R1LAB_SEATS"}
    environment |= {"JUPYTER_TOKEN": seat["token"], "R1LAB_PROFILE": profile}  # not in the words
    environment["R1LAB_PROGRESS"] = str(home / "progress.json")  # r1lab progress --class FOLDER
    if gpus := _gpus():
        each = max(1, len(gpus) // of)
        mine = [gpus[(number * each + i) % len(gpus)] for i in range(each)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        environment[name] = str(home / ".jupyter" / name.lower())
    words = [
        "--ip=127.0.0.1", f"--port={seat['port']}", "--port-retries=0", "--no-browser",
        f"--notebook-dir={made}", "--ServerApp.allow_remote_access=False",
        "--LanguageServerManager.autodetect=False",
    ]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")
    command = [sys.executable, "-m", "jupyterlab", *words]
    with open(home / "jupyter.log", "a", encoding="utf-8") as log:
        how = {"env": environment, "stdout": log, "stderr": log, "cwd": ROOT}
        return subprocess.Popen(command, start_new_session=True, **how)


def _gpus() -> list[str]:
    """The GPUs of this machine, by number."""
    try:
        asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return said.stdout.split()


def serve(seats: Sequence[Seat], folder: Path, profile: str, hours: float | None = None) -> None:
    """Start all servers, start one again that ends, and end them all after `hours`, or when this
    process is told to end."""
    end = time.monotonic() + 3600 * hours if hours else float("inf")
    servers: dict[int, subprocess.Popen] = {}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        while time.monotonic() < end:
            for number, seat in enumerate(seats):
                server = servers.get(number)
                if server is None or server.poll() is not None:
                    servers[number] = sit(seat, number, len(seats), folder, profile)
                    print(f"{seat['name']}: 127.0.0.1:{seat['port']}", flush=True)
            time.sleep(min(5.0, max(0.0, end - time.monotonic())))
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_all(servers.values())
        signal.signal(signal.SIGTERM, before)


def stop_all(servers: Iterable[subprocess.Popen]) -> None:
    """End servers and all that they have started."""
    found = []
    for server in servers:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(server.pid)
            found += [*parent.children(recursive=True), parent]
    for one in found:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    for one in psutil.wait_procs(found, timeout=15)[1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(found, timeout=15)


def main() -> int:
    try:
        seats = read(os.environ.get("R1LAB_SEATS", ""))
    except R1LabError as error:
        print(f"r1lab: error: {error}", file=sys.stderr)
        return 2
    permit(seats, Path.home() / ".ssh" / "authorized_keys")
    hours = float(os.environ.get("R1LAB_HOURS", "0")) or None
    serve(seats, ROOT / "runs" / "class", os.environ.get("R1LAB_PROFILE", "gpu"), hours)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What holds here, what it stops, what it does not, and what a program costs."""

import statistics
import textwrap
import time

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import probe, wasm
from r1lab.sandbox.client import Sandbox
from r1lab.sandbox.kernel import ALL
from r1lab.sandbox.verdicts import Case
from r1lab.sandbox.workspace import Workspace

STOPS = {
    "namespaces": "the network, signals to and sight of other processes, shared memory; at the end "
    "of a server the kernel ends all that it has started",
    "folder": "every use of files by path: there are none",
    "user": "signals to the host and the server, tracing, root's rights; root's exemption from the "
    "limit on processes",
    "landlock": "reading and changing files, TCP, signals to other processes",
    "rlimits": "opening files, sockets, pipes (no new descriptor), writing, too much memory; new "
    "processes, unless it is root's",
    "seccomp": "every system call but some 30 that a computation needs; sleeping returns at once",
}
ALWAYS = (
    "always: a process and session of its own, an empty environment, no descriptor but its "
    "channel, a limit on processor time; expected values never enter it; the host compares bytes"
)
NOT = (
    "not stopped: a hole in the kernel behind what remains; what can be learned from time and "
    "caches; answers written out by heart (draw hidden tests anew)"
)


def second() -> list[str]:
    """Of the second mode, programs with a scratch folder."""
    began = time.perf_counter()
    try:
        with Workspace(weak=True) as box:
            absent = [f"{name} ({why})" for name, why in box.absent.items()]
            lines = [f"second mode (r1lab scienceagent): {box.describe()}"]
            lines += [f"absent: {', '.join(absent)}"] if absent else []
            lines.append(
                "programs read libraries and a folder of their own, and write there; start with "
                f"numpy and pandas {time.perf_counter() - began:.2f} s"
            )
            return lines + ([probe.refusal(box.open)] if box.open else [])
    except R1LabError as error:
        return [f"second mode (r1lab scienceagent): {error}"]


def third(used: bool) -> str:
    """Of the interpreter for machines where no layer holds."""
    if not wasm.available():
        said = "not installed (pip install 'r1lab[wasm]'; Python 3.11 or later)"
    else:
        said = "in use" if used else "installed, and in use where no layer holds"
    return (
        f"WebAssembly: CPython compiled to WASI, which has no files, network or processes, and "
        f"counts time in instructions: {said}"
    )


def report(programs: int = 200) -> tuple[str, bool]:
    """The report, and whether programs are contained here. R1LabError where no server starts."""
    began = time.perf_counter()
    with Sandbox(weak=True) as sandbox:
        started = time.perf_counter() - began
        lines = [sandbox.describe(), ""]
        for name in ALL if wasm.NAME not in sandbox.layers else ():
            here = sandbox.layers.get(name)
            what = f"{here}; stops {STOPS[name]}" if here else f"absent: {sandbox.absent[name]}"
            lines.append(f"{name:12}{what}")
        lines += ["", ALWAYS, NOT, ""]
        cases = [Case((k,), 2 * k + 1) for k in range(5)]
        jobs = [(f"def f(x): return 2 * x + {k}", "f", cases) for k in range(programs)]
        began = time.perf_counter()
        verdicts = sandbox.judge_all(jobs)
        seconds = (time.perf_counter() - began) / programs
        used = statistics.median(verdict.cpu for verdict in verdicts)
        lines.append(
            f"a program with 5 tests: {1000 * used:.1f} ms of processor time, {1 / seconds:,.0f} "
            f"programs a second by {sandbox.workers} workers; start {started:.2f} s"
        )
        if sandbox.open:
            lines += ["", probe.refusal(sandbox.open)]
        lines += ["", *second(), "", third(wasm.NAME in sandbox.layers)]
        wide = [textwrap.fill(line, 100, subsequent_indent=" " * 12) for line in lines]
        return "\n".join(wide), not sandbox.open

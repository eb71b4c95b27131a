"""What is asked of a program, and what became of it.

Outside stands the host, which knows the expected values; inside a program that would do anything to
look right. What comes out of it are frames, a kind, a number and a payload each, and only in the
order that `server.py` writes them:

    b began                    d the source has run           v<i> the value of case i
    s syntax error   x raised while defined   n no such function   r<i>, m<i> case i raised, ran
    out of memory              o too much output              e the end

How the program *ended* is not among them: that is told by the fork server, over a socket that the
program does not have.
"""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from r1lab.sandbox import grader
from r1lab.sandbox.wire import HEADER


class Case(NamedTuple):
    """One test: `entry(*args)` should be `expected`. Without an entry, args is (text for stdin,)
    and expected the text on stdout, spaces at the ends of lines and of the text ignored."""

    args: tuple
    expected: Any


@dataclass(frozen=True)
class Limits:
    """What one program may use, all its cases together.

    cpu: seconds of processor time, so that a busy machine changes no verdict; take at least five
    times what the reference solution needs, since close to the limit it is a coin toss. An endless
    loop costs exactly this much: a batch costs `loops * cpu / workers` at most, so a task of small
    functions should take 0.1 or 0.2. wall: seconds in which it uses no processor time at all; in
    the second mode (`Workspace`), seconds by the clock. memory, output, source: bytes; memory on
    top of the interpreter's own, output of all answers. disk: bytes in the scratch folder."""

    cpu: float = 1.0
    wall: float = 10.0
    memory: int = 256 << 20
    output: int = 1 << 20
    source: int = 64 << 10
    disk: int = 64 << 20


@dataclass
class Verdict:
    """status: ok (it ran to its end, right or wrong), or why not: syntax, error (raised while
    defined), missing (no such function), timeout, memory, crash (a signal), exit (ended itself),
    output or disk (too much), forged (wrote answers of its own), harness (the sandbox failed).
    outcomes: pass, wrong, raised or none, one per case. message: for logs, short and printable.
    cpu, wall: seconds. peak: bytes of memory."""

    status: str
    outcomes: list[str] = field(default_factory=list)
    message: str = ""
    cpu: float = 0.0
    wall: float = 0.0
    peak: int = 0

    @property
    def passed(self) -> bool | None:
        """Whether all cases passed; None: the sandbox failed, which says nothing of the program."""
        if self.status == "harness":
            return None
        return self.status == "ok" and bool(self.outcomes) and set(self.outcomes) == {"pass"}

    @property
    def share(self) -> float | None:
        """The fraction of cases that passed; None as for `passed`."""
        if self.status == "harness":
            return None
        return self.outcomes.count("pass") / max(1, len(self.outcomes))


class Result(NamedTuple):
    """What a program made of one input. status: value, raised or none (no answer: message says
    why), or harness (the sandbox failed)."""

    status: str
    value: Any = None
    message: str = ""


class Ended(NamedTuple):
    """How a process ended, as the fork server saw it. code: as of `os.waitstatus_to_exitcode`.
    killed: "" or why the server killed it: cpu, idle, disk, or lost (a failure of the sandbox)."""

    code: int
    killed: str
    cpu: float
    wall: float
    peak: int


NOTHING = Ended(0, "", 0.0, 0.0, 0)


class Answers(NamedTuple):
    """All frames of a program. cases: kind and payload per case, in order."""

    status: str
    message: str
    cases: list[tuple[bytes, bytes]]


def overhead(cases: int) -> int:
    """The most bytes of heads and messages beside the answers themselves."""
    return (cases + 4) * (HEADER.size + 1200)


def read(data: bytes, cut: bool, ended: Ended, cases: int) -> Answers:
    """The frames, and the status that they and the end of the process give. cut: there was more."""
    frames, rest = split(data)
    if ended.killed == "lost" or not frames:
        return Answers("harness", "the sandbox's process was lost", [])
    kinds = b"".join(kind for kind, _, _ in frames)
    answers = [frame for frame in frames if frame[0] in b"vrm"]
    found = [(kind, payload) for kind, _, payload in answers]
    stopped = cut or ended.killed or ended.code < 0  # perhaps in the middle of a frame
    if (
        not _ORDER.fullmatch(kinds)
        or [number for _, number, _ in answers] != list(range(len(answers)))
        or len(answers) > cases
        or (kinds.endswith(b"e") and kinds[:2] == b"bd" and len(answers) < cases)
        or (rest and not stopped)
    ):
        return Answers("forged", "wrote to the channel by itself", [])
    if cut or kinds.endswith(b"o"):
        return Answers("output", "too much output", found)
    if ended.killed == "disk":
        return Answers("disk", "more in the scratch folder than allowed", found)
    if ended.killed or -ended.code in _TIMEOUTS:
        return Answers("timeout", f"ended after {ended.cpu:.2f} s of processor time", found)
    if ended.code < 0:
        return Answers("crash", f"ended by signal {-ended.code}", found)
    if not kinds.endswith(b"e"):
        return Answers("exit", f"ended itself with {ended.code}", found)
    message = next((payload for kind, _, payload in frames if kind in b"sxnrm"), b"")
    status = _FAILED.get(kinds[1:2], "ok")
    if b"m" in kinds or message.startswith(b"MemoryError") and not kinds.startswith(b"bd"):
        status = "memory"
    return Answers(status, printable(message.decode("utf-8", "replace")), found)


def split(data: bytes) -> tuple[list[tuple[bytes, int, bytes]], bool]:
    """Whole frames as (kind, number, payload), and whether there is a part of one behind them."""
    frames, at = [], 0
    while at + HEADER.size <= len(data):
        kind, number, size = HEADER.unpack_from(data, at)
        end = at + HEADER.size + size
        if end > len(data):
            break
        frames.append((kind, number, data[at + HEADER.size : end]))
        at = end
    return frames, at < len(data)


_ORDER = re.compile(rb"b([sxn]e?|o|d[vrm]*[oe]?)?", re.DOTALL)
_FAILED = {b"s": "syntax", b"x": "error", b"n": "missing"}
_TIMEOUTS = [getattr(signal, name, None) for name in ("SIGPROF", "SIGXCPU")]


def judge(answers: Answers, ended: Ended, expected: Sequence[grader.Expected]) -> Verdict:
    """The verdict: the host's canonical bytes against the program's."""
    outcomes = ["none"] * len(expected)
    for k, (kind, payload) in enumerate(answers.cases):
        right = kind == b"v" and expected[k].matches(payload)
        outcomes[k] = "raised" if kind != b"v" else "pass" if right else "wrong"
    return Verdict(answers.status, outcomes, answers.message, ended.cpu, ended.wall, ended.peak)


def results(answers: Answers, cases: int) -> list[Result]:
    """The values themselves."""
    none = "harness" if answers.status == "harness" else "none"
    found = [Result(none, message=f"{answers.status}: {answers.message}")] * cases
    for k, (kind, payload) in enumerate(answers.cases):
        try:
            if kind == b"v":
                found[k] = Result("value", grader.decode(payload))
            else:
                found[k] = Result("raised", message=printable(payload.decode("utf-8", "replace")))
        except (ValueError, RecursionError) as error:
            found[k] = Result("none", message=str(error))
    return found


def printable(text: str, most: int = 300) -> str:
    """A program's words, fit for a log."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:most])

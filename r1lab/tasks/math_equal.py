r"""Are two mathematical answers equal?  sympy says so, in a process that can be killed.

MATH answers are formulas: `\frac{3}{2}`, `1.5` and `x = 3/2` are one answer.  Plain numbers are
compared here; the rest is asked of a worker process (`r1lab.sandbox.worker`), because whatever
reads formulas can be kept busy for hours by `9**9**9`.  There `formulas` brings both texts into one
spelling, compares them by their structure, and refuses an answer that leaves its work to the judge.
Text that is too long or oddly built is refused before (`readable`).

A usual comparison takes some milliseconds, a repeated one none: verdicts are remembered.
"""

from __future__ import annotations

import re
from functools import lru_cache

from r1lab.sandbox.worker import Worker
from r1lab.tasks.base import number

MAX_CHARS = 300  # the longest answers of MATH have some 150 characters
MAX_NESTING = 8  # braces and brackets within each other

TOWER = re.compile(r"[0-9]\s*\^\s*\{?\s*[0-9]+\s*\^|\^\s*\{?\s*[0-9]{5,}")
"""A power of a power of numbers, or an exponent of five digits: nobody's answer, and what costs the
worker its life.  Refusing it saves the second that the next one needs to start."""

WORKER = Worker(
    "r1lab.tasks.formulas.judge:answer",
    needs="answers of this task are judged with math-verify, and its process does not start: "
    "pip install math-verify==0.9.0",
)


_UNITS = frozenset("$＄€£°")


def equal(gold: str, answer: str) -> bool:
    """Is `answer` mathematically equal to `gold` (LaTeX or plain)?  Never raises on any text.

    Raises R1LabError only where math-verify is not installed: then no answer can be judged.
    """
    gold, answer = clean(gold), clean(answer)
    if gold is None or answer is None:
        return False
    if gold == answer:
        return True
    wanted, given = number(gold), number(answer)
    if wanted is not None and given is not None and not _UNITS & {*gold, *answer}:
        return wanted == given
    return TOWER.search(answer.replace("**", "^")) is None and ask(gold, answer)


@lru_cache(maxsize=50_000)
def ask(gold: str, answer: str) -> bool:
    """The worker's verdict."""
    return WORKER.ask("equal", gold, answer) is True


@lru_cache(maxsize=50_000)
def key(answer: str) -> str | None:
    """A text that is the same for equal answers; None for what cannot be an answer. Never raises,
    but as `equal` does."""
    value, text = number(answer), clean(answer)
    if value is not None:
        return str(value)
    if text is None or TOWER.search(text.replace("**", "^")):
        return text
    return WORKER.ask("key", text) or text


def clean(text: str) -> str | None:
    r"""An answer without its wrapping: `$…$`, `\(…\)` or `\boxed{…}` around it, a full stop at its
    end, = before it; a `$` for dollars becomes a wide one.  None for what cannot be one answer."""
    if not readable(text):
        return None
    text = " ".join(text.split())
    for _ in range(8):
        bare = text.rstrip(".").strip()
        for start, end in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**")):
            if len(bare) > len(start + end) and bare.startswith(start) and bare.endswith(end):
                bare = bare[len(start) : -len(end)].strip()
                break
        bare = _unboxed(bare).lstrip("=").strip()
        if bare == text:
            break
        text = bare
    if text.count("$") - text.count(r"\$") == 1:
        text = re.sub(r"(?<!\\)\$(?=\s*[-+]?\s*[.\d])|(?<=\d)\s*(?<!\\)\$$", "＄", text)
    several = "$" in text.replace(r"\$", "") or r"\boxed" in text or r"\fbox" in text
    return None if several or not text else text


def _unboxed(text: str) -> str:
    r"""What is in `\boxed{…}` or `\fbox{…}`, where that is all of the text."""
    for box in (r"\boxed{", r"\fbox{"):
        if text.startswith(box):
            depth = 0
            for end, char in enumerate(text):
                depth += (char == "{") - (char == "}")
                if depth == 0 and char == "}":
                    return text[len(box) : end].strip() if end == len(text) - 1 else text
    return text


def readable(text: str) -> bool:
    """Short, printable, with balanced and not too deeply nested brackets.  Linear in MAX_CHARS."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_CHARS:
        return False
    if not all(char.isprintable() or char in "\n\t\r" for char in text):
        return False
    depth = braces = 0
    for char in text:
        depth += (char in "{[(") - (char in "}])")  # intervals such as [0, 1) mix them
        braces += (char == "{") - (char == "}")
        if braces < 0 or depth > MAX_NESTING:
            return False
    return braces == 0


def boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{…}` (or `\fbox{…}`) of a text, or None."""
    start = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    if start < 0:
        return None
    start = text.index("{", start) + 1
    depth = 1
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start:end]
    return None

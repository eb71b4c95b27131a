r"""Are two mathematical answers equal?  `\frac{3}{2}`, `1.5` and `x = 3/2` are one answer.

Plain numbers are compared here. Formulas go to a worker process (`r1lab.sandbox.worker`), which can
be killed: `9**9**9` would keep sympy busy for hours. There `formulas` compares them. Verdicts are
cached.
"""

import re
from functools import lru_cache

from r1lab.sandbox.worker import Worker
from r1lab.tasks.base import number

MAX_CHARS = 300  # the longest answers of MATH have some 150 characters
MAX_NESTING = 8  # braces and brackets within each other

TOWER = re.compile(r"[0-9]\s*\^\s*\{?\s*[0-9]+\s*\^|\^\s*\{?\s*[0-9]{5,}")
"""A power of a power, or an exponent of five digits: refused here, as it would end the worker."""

WORKER = Worker(
    "r1lab.tasks.formulas.votes:answer",
    needs="the process of this task's verifier does not start: pip install math-verify==0.9.0",
)
_UNITS = frozenset("$＄€£°")


def equal(gold: str, answer: str) -> bool:
    """Is `answer` mathematically equal to `gold` (LaTeX or plain)?  Raises on no text; R1LabError
    where math-verify is not installed."""
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
    return WORKER.ask("equal", gold, answer) is True


@lru_cache(maxsize=50_000)
def key(answer: str) -> str | None:
    """The same text for equal answers; None for what cannot be an answer. Raises as `equal`."""
    value, text = number(answer), clean(answer)
    if value is not None:
        return str(value)
    if text is None or TOWER.search(text.replace("**", "^")):
        return text
    return WORKER.ask("key", text) or text


def clean(text: str) -> str | None:
    r"""An answer without `$…$`, `\(…\)` or `\boxed{…}` around it, a full stop after it, = before
    it; a `$` for dollars becomes a wide one.  None for what cannot be one answer."""
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
    r"""The content of a `\boxed{…}` or `\fbox{…}` that is the whole text."""
    start, end = text.find("{") + 1, _closing(text)
    whole = text.startswith((r"\boxed{", r"\fbox{")) and end == len(text) - 1
    return text[start:end].strip() if whole else text


def _closing(text: str, start: int = 0) -> int | None:
    """Where the first brace from `start` on is closed."""
    depth = 0
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0 and text[end] == "}":
            return end
    return None


def readable(text: str) -> bool:
    """Short, printable, with balanced and not too deeply nested brackets."""
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
    r"""The content of the last `\boxed{…}` or `\fbox{…}` of a text, or None."""
    start = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    end = None if start < 0 else _closing(text, start)
    return None if end is None else text[text.index("{", start) + 1 : end]

"""The one exception that r1lab raises on purpose, and words for what a machine runs out of."""

import difflib
import re


class R1LabError(Exception):
    """Something the user can fix; the message is one line that says what to do. The command line
    prints it and exits with status 2. Any other traceback is a bug of ours."""


FULL_DISK = re.compile(
    r"No space left on device|Disk quota exceeded|File too large"
    r"|PytorchStreamWriter failed|unexpected pos \d+ vs"  # torch.save's words
)
MOST_NAMES = 30  # in one message
NO_MEMORY = re.compile(r"MemoryError|Unable to allocate|allocate memory|out of memory", re.I)


def first_line(error: BaseException, most: int = 200) -> str:
    """The first line of an error's message, or its class, without control characters. A line that
    ends in a colon has the next one too."""
    lines = str(error).strip().splitlines()
    both = bool(lines) and lines[0].rstrip().endswith(":")
    text = " ".join(line.strip() for line in lines[: 2 if both else 1])
    text = "".join(c for c in text if c.isprintable()).strip()
    return (text or type(error).__name__)[:most]


def shortage(text: str) -> str | None:
    """What to do when `text`, an error's class and message by numpy, torch, safetensors or Python,
    says that disk or memory ran out; else None."""
    if FULL_DISK.search(text):
        return "the disk is full; free some space and run the same command again"
    if NO_MEMORY.search(text):
        return (
            "there is too little memory for this; close other programs, or ask for less at a time "
            "(train: --micro-batch-tokens, --questions; run: --profile smoke)"
        )
    return None


def did_you_mean(name: str, known) -> str:
    """The end of an error message: the closest known name, or all of them (of many, the first)."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    some = known if len(known) <= MOST_NAMES else [*known[:8], f"... ({len(known)} in all)"]
    return f"; known: {', '.join(some)}" if known else ""

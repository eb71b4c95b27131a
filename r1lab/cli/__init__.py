"""The `r1lab` command: run the lessons, or train, evaluate and measure without a notebook.

`commands` lists them, `parse` reads words and YAML files, the other modules work.

Exit codes: 0 done; 1 a notebook failed; 2 something is wrong with the request or the machine, said
in one line (R1LAB_DEBUG=1 shows the traceback); 130 stopped with Ctrl-C or SIGTERM.
"""

import contextlib
import errno
import gc
import importlib
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from r1lab import ROOT, __version__
from r1lab.basics.errors import R1LabError, did_you_mean, shortage
from r1lab.cli import parse as parser
from r1lab.cli.commands import COMMANDS

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what may steer a terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("R1LAB_DEBUG", "0") not in ("", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with _terminal() as stopped:
        try:
            args = parse(argv)
            module, name = next(w for c, w in COMMANDS.values() if c is type(args)).split(".")
            return getattr(_imported(f"r1lab.cli.{module}"), name)(args) or 0
        except KeyboardInterrupt as stop:
            stopped.caught.set()
            return _say(stopped.by or str(stop) or "stopped", 130)
        except BrokenPipeError:  # `r1lab eval ... | head`
            sys.stdout = open(os.devnull, "w")
            return 0
        except Exception as error:
            if debug:
                raise
            if stopped.by:  # a library that was being imported turned the stop into another error
                return _say(stopped.by, 130)
            return _say(f"error: {explain(error)}", 2)


def _imported(name: str) -> ModuleType:
    """The module of a command. With torch come half a million objects that stay: to look among them
    for garbage while they come is a quarter of the start, and later takes time again."""
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def parse(argv: Sequence[str]) -> parser.Command:
    """The command that these words name, with its options; R1LabError for what it does not know."""
    name, *words = argv or [""]
    if name in ("-h", "--help", ""):
        print(usage())
        raise SystemExit(0 if name else 2)
    if name == "--version":
        print(f"r1lab {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        kind, close = "option" if name[0] == "-" else "command", did_you_mean(name, COMMANDS)
        raise R1LabError(f"there is no {kind} '{name}'{close} (r1lab --help)")
    return parser.parse(name, COMMANDS[name][0], words)


def usage() -> str:
    """What `r1lab --help` prints."""
    lines = [f"  {name:<14}{one.__doc__.splitlines()[0]}" for name, (one, _) in COMMANDS.items()]
    recipes = ", ".join(sorted(path.stem for path in parser.RECIPES.glob("*.yaml")))
    return "\n".join([
        "usage: r1lab COMMAND [OPTIONS]", "",
        "DeepSeek-R1 from scratch: pure RL turns a base model into a reasoner.", "",
        "commands:", *lines, "",
        "r1lab COMMAND --help says more. Every command takes --config FILE.yaml; to copy, in",
        f"r1lab/recipes: {recipes}.",
        "R1LAB_PROFILE names the default profile. --version prints the version.",
        f"Relative folders, as in --out runs/x, are in {ROOT}.",
    ])  # fmt: skip


def explain(error: Exception) -> str:
    """One line for a user: what is wrong, and what to do about it."""
    text = " ".join(str(error).split())
    if isinstance(error, R1LabError):
        return text
    if advice := shortage(f"{type(error).__name__}: {text}"):
        return advice
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"no permission to write or read{where}; choose another folder with --out"
        return f"{error.strerror or text}{where}"
    if isinstance(error, ImportError):
        return f"{text}; the environment is not complete: run `make setup`"
    kind = f"{type(error).__name__}: {text[:300]}"
    if library := _refused_by(error):
        return f"{library} refuses a value: {kind} (R1LAB_DEBUG=1 shows where)"
    return f"{kind}; if this looks like a bug, R1LAB_DEBUG=1 shows where it is"


def _refused_by(error: Exception) -> str | None:
    """The library that a value's error comes from; None where it is r1lab or Python itself."""
    if not isinstance(error, ValueError | TypeError | ArithmeticError | RuntimeError):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or Path(frames[-1].filename).is_relative_to(ROOT / "r1lab"):
        return None
    parts = Path(frames[-1].filename).parts
    return parts[parts.index("site-packages") + 1] if "site-packages" in parts else None


class _Record(logging.LogRecord):
    """A log record without control characters: models name themselves in what libraries log."""

    def getMessage(self) -> str:  # noqa: N802
        return CONTROL.sub("?", super().getMessage())


@contextlib.contextmanager
def _terminal() -> Iterator[SimpleNamespace]:
    """While a command runs: SIGTERM ends it as Ctrl-C does, output in any encoding never raises,
    and log lines cannot steer the terminal. Yields what is known of a stop."""

    stopped = SimpleNamespace(by=None, caught=threading.Event())

    def stop(number: int, frame: object) -> None:
        stopped.by = "stopped by SIGTERM"
        if getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False):
            os._exit(_say(stopped.by, 130))  # an exception in torch's import is an abort
        raise KeyboardInterrupt(stopped.by)

    def lost(what: Any) -> None:  # Ctrl-C within a __del__, where Python drops it: until it arrives
        if isinstance(what.exc_value, KeyboardInterrupt):
            threading.Thread(target=again, daemon=True).start()
        else:
            sys.__unraisablehook__(what)

    def again() -> None:
        while not stopped.caught.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main_thread else None
    hook, sys.unraisablehook = sys.unraisablehook, lost
    records = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_Record)
    try:
        yield stopped
    finally:
        stopped.caught.set()
        logging.setLogRecordFactory(records)
        sys.unraisablehook = hook
        if main_thread:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _say(text: str, code: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        print(CONTROL.sub("?", f"r1lab: {text}"), file=sys.stderr, flush=True)
    return code

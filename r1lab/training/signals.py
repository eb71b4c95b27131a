"""How a run stops: signals, memory errors, and the exception they end in."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from r1lab.basics.errors import NO_MEMORY, R1LabError


@contextmanager
def memory_errors(micro_batch_tokens: int | None) -> Iterator[None]:
    """Too little memory, in one line that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not NO_MEMORY.search(f"{type(error).__name__}: {error}"):
            raise
        lower = "the sizes of the model and of a step"
        if micro_batch_tokens:
            lower = f"micro_batch_tokens (now {micro_batch_tokens}; the result stays the same)"
            lower += ", else questions, group_size or max_new_tokens"
        again = "then run the same again: it goes on from the last checkpoint."
        raise R1LabError(f"not enough memory. Lower {lower}; {again}") from error


class Stopped(KeyboardInterrupt):
    """A run stopped by Ctrl-C or SIGTERM, with a checkpoint to go on from."""

    @classmethod
    def after(cls, by: str, done: int, steps: int, out_dir: Path) -> Stopped:
        """by: the signal's name. done: of `steps`."""
        return cls(
            f"stopped by {by} after {done} of {steps} steps; all is saved in {out_dir}. Run the "
            "same again to go on from there."
        )

    def _render_traceback_(self) -> list[str]:  # what IPython shows in place of a traceback
        return [str(self)]


@contextmanager
def stop_signals() -> Iterator[list[str]]:
    """Collect the names of stop signals in a list instead of dying of them; the second one raises
    KeyboardInterrupt. Outside the main thread the list stays empty."""
    asked: list[str] = []

    def handler(number: int, frame: Any) -> None:
        asked.append(signal.Signals(number).name)
        if len(asked) > 1:
            raise KeyboardInterrupt
        # print() may not be called again inside itself; a notebook shows stderr as a red box
        out = 1 if type(sys.stderr).__module__.startswith("ipykernel") else 2
        with suppress(OSError):
            os.write(out, b"\nstopping after this step (once more: at once)\n")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, previous in old.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)

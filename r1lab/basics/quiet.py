"""The libraries' progress bars and warnings, switched off for a while."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

from transformers.utils import logging as hf_logging


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """No advice from the libraries between our lines."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    names = ("transformers", "trl", "accelerate", "r1lab.experience")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' progress bars: for a second's work they are noise in a notebook."""
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            hf_logging.enable_progress_bar()


@contextlib.contextmanager
def quiet_bars():
    """Without transformers' bars, and without what it and TRL say of themselves: of interfaces that
    are experimental (a test watches them), of names of theirs that will change, of tied weights
    that a checkpoint rightly does not hold twice."""

    def spoken(record: logging.LogRecord) -> bool:
        return "missing keys in the checkpoint" not in record.getMessage()

    trainer = logging.getLogger("transformers.trainer")
    trainer.addFilter(spoken)
    try:
        with no_bars(), warnings.catch_warnings():
            for message in (
                ".*rollout_func.*experimental.*",
                ".*gradient_checkpointing.* is deprecated.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        trainer.removeFilter(spoken)

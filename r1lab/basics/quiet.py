"""The libraries' progress bars and warnings, switched off for a while."""

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
    """Without transformers' progress bars."""
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            hf_logging.enable_progress_bar()


@contextlib.contextmanager
def quiet_bars():
    """Without transformers' bars and known warnings: experimental interfaces (a test watches them),
    deprecated names, tied parameters missing in a checkpoint."""

    def spoken(record: logging.LogRecord) -> bool:
        return "missing keys in the checkpoint" not in record.getMessage()

    trainer = logging.getLogger("transformers.trainer")
    trainer.addFilter(spoken)
    try:
        with no_bars(), warnings.catch_warnings():
            for words in ("rollout_func.*experimental", "gradient_checkpointing.* is deprecated"):
                warnings.filterwarnings("ignore", message=f".*{words}.*")
            yield
    finally:
        trainer.removeFilter(spoken)

"""What several processes agree on, and what one of them does for all."""

import contextlib
import functools
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env

from r1lab.basics.errors import R1LabError, shortage
from r1lab.machine.device import on_gpu


def sharded(trainer) -> bool:
    return bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


def is_spread() -> bool:
    """Were we launched with FSDP or DeepSpeed? accelerate says so in the environment."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(parse_flag_from_env(name) for name in names)


def settle(device: str | None = None) -> PartialState:
    """accelerate's state of this process, on `device`: "cpu", "cuda", or None for a GPU where there
    is one. accelerate fixes the device at the first call; here the last call decides. Processes
    that were launched together keep their launcher's. R1LabError for a device that is not here."""
    if device not in (None, "cpu", "cuda"):
        raise R1LabError(f"TRL trains on the device 'cpu' or 'cuda', not {device!r}")
    cpu = not on_gpu(device)
    state = PartialState(cpu=cpu)
    if state.num_processes == 1 and (state.device.type == "cpu") != cpu:
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=cpu)
    return state


def main_decides(decide: Callable[[], Any], patient: bool = False) -> Any:
    """decide() is called on the main process; all processes return its result or raise its
    R1LabError. patient: the others wait as long as it takes."""
    found = None
    if PartialState().is_main_process:
        try:
            found = decide()
        except R1LabError as error:
            found = error
    found = from_main(found, patient)
    if isinstance(found, R1LabError):
        raise found
    return found


def from_main(message: Any, patient: bool = False) -> Any:
    """The main process's message, on all of them."""
    box = [message]
    if PartialState().num_processes > 1:
        dist.broadcast_object_list(box, src=0, group=_waiting_room() if patient else None)
    return box[0]


@functools.cache
def _waiting_room():
    """A group of all processes in which one may let the others wait for days; the default group's
    timeout is ten minutes (NCCL) or thirty (gloo). A process that dies ends the wait."""
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))


@contextlib.contextmanager
def disk_errors(out_dir: Path):
    """A full disk in one line."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (advice := shortage(f"{type(error).__name__}: {error}")) and "disk" in advice:
            raise R1LabError(f"cannot write to {out_dir}: {advice}") from error
        raise


def patient(asked: list[str]) -> None:
    """Ignore a second SIGTERM, which a process gets where a scheduler sends one to the launcher and
    to its processes: only a second Ctrl-C means "at once"."""
    with contextlib.suppress(ValueError):  # not the main thread
        first = signal.getsignal(signal.SIGTERM)
        if callable(first):
            signal.signal(signal.SIGTERM, lambda *a: None if asked else first(*a))

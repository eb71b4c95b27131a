"""What several processes agree on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from r1lab.basics.errors import R1LabError, shortage
from r1lab.grpo import GRPOConfig
from r1lab.machine.device import on_gpu, precision_on
from r1lab.machine.room import available
from r1lab.trl_backend import memory

PRECISIONS = ("auto", "fp32", "bf16")


def sharded(trainer) -> bool:
    return bool(trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled)


def settle(device: str | None = None) -> PartialState:
    """accelerate's view of this process, computing on `device`: "cpu", "cuda", or None for a GPU
    where there is one.

    accelerate decides once a process and answers the same ever after, also to those that asked for
    something else; here who asks last decides. Processes that were launched together keep what
    their launcher gave them. Raises R1LabError for a device that is not here.
    """
    if device not in (None, "cpu", "cuda"):
        raise R1LabError(f"TRL trains on the device 'cpu' or 'cuda', not {device!r}")
    cpu = not on_gpu(device)
    state = PartialState(cpu=cpu)
    if state.num_processes == 1 and (state.device.type == "cpu") != cpu:
        AcceleratorState._reset_state(reset_partial_state=True)
        state = PartialState(cpu=cpu)
    return state


def choose(precision: str, gradient_checkpointing: str | bool) -> str:
    """The precision, "auto" decided by what the device can do; weights are float32 in both.
    R1LabError for values that neither option has."""
    if precision not in PRECISIONS:
        raise R1LabError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if gradient_checkpointing not in ("auto", True, False):
        raise R1LabError("gradient_checkpointing must be 'auto', True or False")
    return precision_on(PartialState().device, precision)


def fit(model, tokenizer, config: GRPOConfig, problems, asked: str | bool, **job: Any):
    """Gradient checkpointing, "auto" decided by the memory plan, and the plan in words. The main
    process plans, all follow. Raises R1LabError, on all, for a run that cannot fit.

    job: what memory.Job wants to know besides.
    """
    state = PartialState()

    def decide() -> tuple[bool, str]:
        device = state.device.type
        planned = memory.job_of(
            model,
            config,
            prompts=memory.prompts_of(tokenizer, problems, config.template),
            device=device,
            backend="trl",
            processes=state.num_processes,
            **job,
        )
        room = available(device)
        if device == "cpu":  # the processes of this machine share it
            room //= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        return memory.prepare(planned, checkpointing=asked, room=room)

    return main_decides(decide)


def main_decides(decide: Callable[[], Any]) -> Any:
    """What decide() gives on the main process, which alone calls it, on all of them; so with its
    R1LabError."""
    found: list[Any] = [None]
    if PartialState().is_main_process:
        try:
            found = [decide()]
        except R1LabError as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], R1LabError):
        raise found[0]
    return found[0]


@contextlib.contextmanager
def disk_errors(out_dir: Path):
    """A full disk in one line, whoever met it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (advice := shortage(f"{type(error).__name__}: {error}")) and "disk" in advice:
            raise R1LabError(f"cannot write to {out_dir}: {advice}") from error
        raise


def patient(asked: list[str]) -> None:
    """A scheduler may send SIGTERM to launcher and processes alike, so that it arrives twice: only
    a second Ctrl-C means "at once"."""
    with contextlib.suppress(ValueError):  # not the main thread
        first = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *a: None if asked else first(*a))


def is_spread() -> bool:
    """Were we launched with FSDP or DeepSpeed? accelerate says so in the environment."""
    return any(
        os.environ.get(name, "false").lower() in ("1", "true")
        for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )

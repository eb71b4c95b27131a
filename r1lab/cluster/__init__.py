"""Launching a run on several GPUs, on several machines, or on rented ones.

The recipes are files beside this one, made to be read and changed. `r1lab train --print-launch
NAME`, with the options of your run, prints the exact command that starts it, and the file:

    ddp       accelerate: every GPU holds the whole model. For models that train on one GPU
    fsdp      accelerate: weights, gradients and optimizer spread over the GPUs (FSDP2)
    zero3     accelerate: the same by DeepSpeed ZeRO-3
    slurm     a SLURM job of two nodes with eight GPUs; saves and queues itself again at its limit
    sky-1     SkyPilot, which rents where it is cheapest: one GPU
    sky-8     one machine with eight
    sky-2x8   two machines with eight each
    vllm      a vLLM server on GPUs of its own, which writes the answers of any of these

All but sky-1 start `r1lab train` once on every GPU. The processes deal a step's questions among
themselves, average their gradients and keep one set of files, so the folder of --out must be one
that all machines see.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1lab import ROOT
from r1lab.errors import R1LabError

FILES = {
    "ddp": "ddp.yaml",
    "fsdp": "fsdp2.yaml",
    "zero3": "zero3.yaml",
    "slurm": "slurm.sh",
    "sky-1": "sky-1.yaml",
    "sky-8": "sky-8.yaml",
    "sky-2x8": "sky-2x8.yaml",
    "vllm": "vllm-server.sh",
}


GPUS = {"slurm": 16, "sky-1": 1, "sky-8": 8, "sky-2x8": 16}  # of the recipes that say how many
PATIENCE = 600  # seconds that a launcher, told to stop, gives its processes to finish and to save


def python() -> str:
    """This interpreter, as it is called in the project's folder."""
    found = Path(sys.executable)
    return str(found.relative_to(ROOT)) if found.is_relative_to(ROOT) else str(found)


def path(name: str) -> Path:
    """The recipe's file. Raises R1LabError for a name that is not known."""
    if name not in FILES:
        raise R1LabError(f"there is no launch recipe '{name}'; take one of {', '.join(FILES)}")
    return Path(__file__).resolve().parent / FILES[name]


def command(
    name: str,
    options: Sequence[str],
    *,
    gpus: int = 8,
    model: str = "MODEL",
    device: str = "cuda",
) -> str:
    """The shell command that starts `r1lab train --backend trl OPTIONS` by a recipe.

    gpus: of this machine, for ddp, fsdp and zero3; the other recipes say how many in their files.
    model: what the vLLM server loads. device: for ddp, fsdp and zero3; without one "cuda" is an
    error, and not a slow run on a rented machine's CPU. Run it in the project's folder.
    """
    file, train = str(path(name)), ["-m", "r1lab", "train", "--backend", "trl"]
    train += ["--device", device, *options]
    if name in ("ddp", "fsdp", "zero3"):
        launch = [python(), "-m", "accelerate.commands.launch", "--config_file", file]
        words = shlex.join([*launch, "--num_processes", str(gpus), *train])
        return f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={PATIENCE} {words}"
    if name == "vllm":
        return shlex.join(["bash", file, model])
    words = shlex.quote(shlex.join(options))
    if name == "slurm":
        return f"R1LAB_ARGS={words} sbatch {shlex.quote(file)}"
    return f"sky launch -c r1lab {shlex.quote(file)} --env R1LAB_ARGS={words}"


def options(config: Any) -> list[str]:
    """The options of `r1lab train` that make a GRPOConfig: those that differ from the defaults.

    Raises R1LabError for a reward that is a function, which has no name on a command line.
    """
    words = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            values = value if isinstance(value, tuple) else (value,)
            if any(callable(one) for one in values):
                raise R1LabError(f"{field.name}: a command line can only name rewards of r1lab")
            words += [f"--{field.name.replace('_', '-')}", *map(str, values)]
    return words


def launch(name: str, options: Sequence[str], *, processes: int, cpu: bool = False) -> None:
    """Start `r1lab train --backend trl OPTIONS` by ddp, fsdp or zero3 on this machine, and wait.

    cpu: without GPUs; the processes talk by gloo, with one thread each. What they print is printed
    here as it comes. Interrupted, it waits until they have saved. Raises R1LabError when the run
    fails.
    """
    if name not in ("ddp", "fsdp", "zero3"):
        raise R1LabError(f"the recipe '{name}' is for another machine; its command is printed by "
                         f"r1lab train --print-launch {name}")  # fmt: skip
    device = "cpu" if cpu else "cuda"
    setting, _, *words = shlex.split(command(name, options, gpus=processes, device=device))
    words = [sys.executable, *words[:2], "--main_process_port", "0", *words[2:]]
    environment = dict(os.environ) | dict([setting.split("=")])
    if cpu:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last = ""
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    finally:  # Ctrl-C reaches the processes as well: they save, then end
        code = process.wait()
    if code:
        raise R1LabError(f"the {processes} processes of {name} ended with code {code}: {last}")

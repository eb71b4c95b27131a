"""Launch recipes for several GPUs, several machines, or rented ones.

The recipes are files in this folder, made to be read and changed. `r1lab train --print-launch
NAME`, with the options of your run, prints the command that starts it, and the file:

    ddp       accelerate: every GPU holds the whole model. For models that train on one GPU
    fsdp      accelerate: weights, gradients and optimizer sharded over the GPUs (FSDP2)
    zero3     accelerate: the same by DeepSpeed ZeRO-3
    slurm     a SLURM job of two nodes with eight GPUs; saves and queues itself again at its limit
    sky-1     SkyPilot, which rents where it is cheapest: one GPU
    sky-8     one machine with eight
    sky-2x8   two machines with eight each
    vllm      a vLLM server on its own GPUs, which samples for any of these

All but sky-1 start `r1lab train` once on every GPU. The processes share a step's prompts, average
their gradients and write one set of files, so all machines must see the folder of --out. All stages
of R1: `pipeline` in place of `train` (R1LAB_COMMAND=pipeline for slurm and sky).
"""

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from r1lab import ROOT
from r1lab.basics.errors import R1LabError

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
ACCELERATE = ("ddp", "fsdp", "zero3")  # on this machine
GPUS = {"slurm": 16, "sky-1": 1, "sky-8": 8, "sky-2x8": 16}  # in the recipe's file
PATIENCE = 600  # seconds that a launcher, told to stop, gives its processes to save


def python() -> str:
    """This interpreter, as it is called in the project's folder."""
    found = Path(sys.executable)
    return str(found.relative_to(ROOT)) if found.is_relative_to(ROOT) else str(found)


def path(name: str) -> Path:
    """The recipe's file. Raises R1LabError for a name that is not known."""
    if name not in FILES:
        raise R1LabError(f"there is no launch recipe '{name}'; take one of {', '.join(FILES)}")
    return Path(__file__).resolve().parent / FILES[name]


def accelerate(
    name: str, options: Sequence[str], gpus: int, device: str, command: str = "train"
) -> list[str]:
    """The words that start `r1lab COMMAND --backend trl OPTIONS` by ddp, fsdp or zero3."""
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(path(name))]
    words = ["-m", "r1lab", command, "--backend", "trl", "--device", device, *options]
    return [*launch, "--num_processes", str(gpus), *words]


def command(
    name: str, options: Sequence[str], *, gpus: int = 8, model: str = "MODEL", device: str = "cuda"
) -> str:
    """The shell command, for the project's folder, that starts `r1lab train --backend trl OPTIONS`
    by a recipe, or the vLLM server.

    gpus, device: for ddp, fsdp and zero3; "cuda" is an error where there is none, not a slow run on
    a rented machine's CPU. model: what the vLLM server loads.
    """
    file = str(path(name))
    if name in ACCELERATE:
        words = [python(), *accelerate(name, options, gpus, device)]
        return f"TORCH_ELASTIC_SHUTDOWN_TIMEOUT={PATIENCE} {shlex.join(words)}"
    if name == "vllm":
        return shlex.join(["bash", file, model])
    words = shlex.quote(shlex.join(options))
    if name == "slurm":
        return f"R1LAB_ARGS={words} sbatch {shlex.quote(file)}"
    return f"sky launch -c r1lab {shlex.quote(file)} --env R1LAB_ARGS={words}"


def commands(
    name: str, options: Sequence[str], config, *, gpus: int = 8, model: str = "MODEL", lora=None
) -> list[str]:
    """The lines to print for a recipe: `command`, for vllm also the training that uses the server,
    and a note where the questions cannot be dealt evenly to the GPUs in the recipe's file.

    Raises R1LabError for what would be refused when it is started, maybe on a rented machine.
    """
    from r1lab.trl_backend import mapping

    path(name)
    spread, trainers = name in ("fsdp", "zero3"), gpus
    if name == "vllm":  # one GPU or more for the server
        trainers = max(n for n in range(1, max(2, gpus)) if config.questions % n == 0)
    many = GPUS.get(name)
    mapping.check(config, processes=1 if many else trainers, lora=lora, sharded=spread)
    if name == "vllm":
        training = [*options, "--sampler", "http://127.0.0.1:8000"]
        between = "# on GPUs of its own (CUDA_VISIBLE_DEVICES); and the training, on the others:"
        return [command(name, [], model=model), between, command("ddp", training, gpus=trainers)]
    lines = [command(name, options, gpus=gpus)]
    if many and config.questions % many:
        lines.append(
            f"# as it stands, this recipe starts {many} processes, to which {config.questions} "
            f"questions cannot be dealt evenly: --questions {-(-config.questions // many) * many}"
        )
    return lines


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
    """Start `r1lab train --backend trl OPTIONS` by ddp, fsdp or zero3 on this machine, print its
    output, and wait; interrupted, until all is saved. cpu: without GPUs, by gloo, with one thread
    per process. Raises R1LabError when the run fails."""
    if name not in ACCELERATE:
        words = f"the recipe '{name}' is for another machine; its command is printed by"
        raise R1LabError(f"{words} r1lab train --print-launch {name}")
    words = accelerate(name, options, processes, "cpu" if cpu else "cuda")
    words = [sys.executable, *words[:2], "--main_process_port", "0", *words[2:]]
    environment = os.environ | {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(PATIENCE)}
    if cpu:
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(words, cwd=ROOT, env=environment, **pipes)
    last = ""
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    finally:  # Ctrl-C reaches the processes as well: they save, then end
        code = process.wait()
    if code:
        raise R1LabError(f"the {processes} processes of {name} ended with code {code}: {last}")

"""`accelerate launch ... sharded.py OUT [DIES | pipeline]`: GRPO on TRL, or all of R1, sharded over
CPU processes.

accelerate shards over accelerators only: on CPUs, a configuration for FSDP or DeepSpeed averages
gradients as DDP does, which r1lab refuses. `shard_on_cpus` makes accelerate's state say that the
processes are to shard; all else is accelerate's, torch's and DeepSpeed's.

DIES: the main process kills itself in that step, before it saves the step's checkpoint; "as it
comes": without `shard_on_cpus`.
"""

from __future__ import annotations

import os
import signal
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, parse_flag_from_env

from r1lab import pipeline
from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig
from r1lab.models.load import load
from r1lab.recipe import PipelineConfig
from r1lab.tasks import get_task
from r1lab.trl_backend import run, stages
from r1lab.trl_backend.mapping import Launch
from r1lab.trl_backend.process import settle

CONFIG = GRPOConfig(
    steps=4, questions=4, group_size=4, max_new_tokens=24, learning_rate=1e-3, kl_coef=0.01,
    ref_refresh=2, checkpoint_every=1, keep_checkpoints=9,
)  # fmt: skip


def train(out: str, callbacks=()) -> list[dict]:
    """The run of the tests: with two shares a batch, any number of processes that divides two
    samples the same completions."""
    torch.set_num_threads(1)
    launch = Launch(sampler="r1lab", shares=2, device="cpu")
    how = {"progress": False, "callbacks": callbacks}
    return run.train(*load("tiny"), get_task("countdown"), CONFIG, out, launch, **how)


ALL_OF_R1 = PipelineConfig.smoke(
    questions=2, group_size=2, max_new_tokens=24, judged_prompts=4, cold_questions=40,
    eval_problems=0, checkpoint_every=1, device="cpu",
)  # fmt: skip


def shard_on_cpus() -> None:
    settle("cpu")  # gloo joins the processes
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled first
    kind = DistributedType.FSDP
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        kind = DistributedType.DEEPSPEED
        deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    PartialState._shared_state["distributed_type"] = kind
    as_it_comes = AcceleratorState.__init__

    def shards(self, *args, deepspeed_plugin=None, fsdp_plugin=None, **kwargs):
        plugins = {"deepspeed_plugin": deepspeed_plugin, "fsdp_plugin": fsdp_plugin}
        as_it_comes(self, *args, **plugins, **kwargs)
        self.distributed_type = PartialState._shared_state["distributed_type"] = kind
        if kind == DistributedType.FSDP and fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
        elif kind == DistributedType.DEEPSPEED and not self.deepspeed_plugins:
            self.deepspeed_plugins = deepspeed_plugin
            several = isinstance(deepspeed_plugin, dict)
            first = next(iter(deepspeed_plugin.values())) if several else deepspeed_plugin
            first.select(_from_accelerator_state=True)

    AcceleratorState.__init__ = shards


def die(step, *_):
    if sys.argv[2:] == [str(step + 1)]:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[2:] != ["as it comes"]:
        shard_on_cpus()
    try:
        if sys.argv[2:] == ["pipeline"]:
            torch.set_num_threads(1)
            pipeline.run(ALL_OF_R1, sys.argv[1], backend=stages.backend(ALL_OF_R1))
        else:
            train(sys.argv[1], [die])
    except R1LabError as error:
        raise SystemExit(f"r1lab: error: {error}") from error

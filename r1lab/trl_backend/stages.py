"""The pipeline's stages on TRL, by any number of processes (`accelerate launch`).

All processes run `pipeline.run`. The main one decides whether a stage has to be made, and writes
its record; all train and sample together, and wait where one does the work (filters, scorecards).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from r1lab import models
from r1lab.evaluate import Evaluation, evaluate
from r1lab.pipeline import Backend
from r1lab.recipe import PipelineConfig, rl_config
from r1lab.sampler.rollouts import Sampling
from r1lab.training import stages
from r1lab.trl_backend import judges, process, run, supervised
from r1lab.trl_backend.mapping import Launch, check

BATCH = 32  # prompts that a process samples at a time


def backend(config: PipelineConfig) -> Backend:
    """TRL's trainers for a pipeline. Raises R1LabError for a device that is not here, and for what
    TRL cannot run on so many processes."""
    device = None if config.device == "auto" else config.device
    state = process.settle(device)
    for name in ("zero", "dev2", "rules", "r1"):
        check(rl_config(config, name), processes=state.num_processes)
    return Backend(
        "trl",
        rl=_shared(partial(run.train, launch=Launch(device=device))),
        sft=_shared(supervised.sft_train),
        judge=_shared(judges.reward_train),
        load=lambda config, folder: models.load(folder),  # TRL moves it itself
        evaluate=dealt,
        stage=stage,
        alone=partial(process.main_decides, patient=True),
        main=state.is_main_process,
    )


def _shared(train: Callable) -> Callable:
    """A trainer that returns the main process's history on all processes."""

    def trained(*args, **options) -> list[dict[str, Any]]:
        history = train(*args, **options)
        unset_hf_deepspeed_config()  # or ZeRO-3 would cut every model that is loaded from now on
        return process.from_main(history)

    return trained


def stage(name, folder, reads, options, make, **how: Any) -> dict[str, Any]:
    """`training.stages.stage`, made by all processes together."""

    def together(folder) -> dict[str, Any]:
        if PartialState().is_main_process:
            process.from_main("make it", patient=True)
        metrics = make(folder)
        clear_device_cache(garbage_collection=True)  # trainer and watch refer to each other
        return metrics

    def decide() -> dict[str, Any]:
        return stages.stage(name, folder, reads, options, together, **how)

    told = process.main_decides(decide, patient=True)
    if told == "make it":  # not the main process, which has its record by now
        together(folder)
        told = process.main_decides(decide, patient=True)
    return told


def dealt(model, tokenizer, task, problems: Sequence, *, sampling: Sampling, **how) -> Evaluation:
    """`r1lab.evaluate.evaluate`, batch by batch on all processes. Each batch has its own seed, so
    any number of processes samples the same completions."""
    state, mine = PartialState(), []
    for n in range(state.process_index, math.ceil(len(problems) / BATCH), state.num_processes):
        batch = problems[n * BATCH : (n + 1) * BATCH]
        drawn = replace(sampling, seed=sampling.seed * 100_003 + n)
        mine.append((n, evaluate(model, tokenizer, task, batch, sampling=drawn, **how)))
    parts = [part for _, part in sorted(gather_object(mine), key=lambda one: one[0])]
    rows = [row for part in parts for row in part.completions]
    settings = parts[0].settings | {"seed": sampling.seed}
    seconds = sum(part.seconds for part in parts) / state.num_processes
    return Evaluation(list(problems), rows, settings, seconds)

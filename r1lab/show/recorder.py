"""Whole groups of a run, for the inspector: what a step did to the completions it learned from.

    groups = show.Recorder(run_dir, model, tokenizer, task, config)
    grpo.train(model, tokenizer, task, config, run_dir, callbacks=[groups])
    show.rollout_inspector(run_dir)

Every `every` steps it writes to groups.jsonl, for some questions of the step, all G completions
with the log-probs of three policies: the one that sampled them, the one after the step's update,
and the reference. It asks some questions again each time, so that one question can be followed
through training. The training is the same without it; it takes two more passes over these
completions, and the sampling of those questions.
"""

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r1lab import grpo
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines
from r1lab.experience import Experience, record
from r1lab.sampler.score import score
from r1lab.training.loop import GROUPS

ROUND = 2**8  # of `GRPOConfig.sampling`: the questions asked again have random numbers of their own


class Recorder:
    """A callback of `grpo.train`. model: the one that is trained, as it is before: a copy of it is
    the reference. every: steps between recordings. groups: questions of each recorded step; those
    whose rewards differ come first. again: questions that are asked each time; so many of
    the held-out ones, or those given."""

    def __init__(
        self,
        out_dir: str | os.PathLike,
        model: Any,
        tokenizer: Any,
        task: Any,
        config: grpo.GRPOConfig,
        *,
        every: int = 5,
        groups: int = 2,
        again: int | Sequence[Any] = 2,
    ) -> None:
        if every < 1 or groups < 0:
            raise R1LabError("a recorder needs every >= 1 and groups >= 0")
        self.path, self.every, self.groups = Path(out_dir) / GROUPS, every, groups
        self.model, self.reference = model, copy.deepcopy(model).requires_grad_(False)
        self.tokenizer, self.task, self.config = tokenizer, task, config
        if isinstance(again, int):
            again = task.problems("held_out", again, seed=config.seed) if again else ()
        self.again = list(again)

    def __call__(self, step: int, metrics: Mapping[str, Any], batch: Experience) -> None:
        if step % self.every:
            return
        order = sorted(range(len(batch.problems)), key=lambda q: not batch.spread[q])
        rows = self.rows(step, batch, order[: self.groups])
        if self.again:
            how = (self.model, self.tokenizer, self.task, self.again, step, self.config)
            asked = grpo.collect(*how, round=ROUND)
            more = self.rows(step, asked, range(len(self.again)), updated=False)
            rows += [row | {"asked_again": True} for row in more]
        append_lines(self.path, rows)

    def rows(
        self, step: int, batch: Experience, questions: Sequence[int], updated: bool = True
    ) -> list[dict[str, Any]]:
        """The records of some questions' groups. updated: the policy has moved since they were
        sampled."""
        G, config = batch.rewards.shape[1], self.config
        at = [q * G + i for q in questions for i in range(G)]
        if not at:
            return []
        prompts = [batch.rollouts.prompt_ids[r // G] for r in at]
        completions = [batch.rollouts.completion_ids[r] for r in at]
        how = (prompts, completions, config.temperature, config.micro_batch_tokens)
        models = {"after": self.model} if updated else {}
        models["reference"] = self.reference
        logps = {name: score(one, *how) for name, one in models.items()}
        found = []
        for n, r in enumerate(at):
            one = batch.measures[r]
            more = {"place": r % G, "finished": one.finished, "mixed": one.mixed}
            more |= {"of": dataclasses.asdict(batch.problems[r // G])}
            more |= {"length": one.length, "clip": [config.clip_low, config.clip_high]}
            more |= {k: [round(float(x), 4) for x in rows[n]] for k, rows in logps.items()}
            found.append(record(step, batch, r, self.tokenizer) | more)
        return found

"""The watch over a GRPO run on TRL: rewards, metrics, budget, reference policies."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object

from r1lab.advantages import get_advantage
from r1lab.answers import measure
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines
from r1lab.experience import Experience, describe, diverged, examples, words
from r1lab.grpo import GRPOConfig, questions_at
from r1lab.rewards import combine, get_reward, problem_of, reward_name
from r1lab.sampler.rollouts import Rollouts
from r1lab.templates import read, render
from r1lab.training.diagnose import explain
from r1lab.training.loop import ON_DISK
from r1lab.training.metrics import metrics_of, spent_in
from r1lab.training.reward_calls import Log
from r1lab.trl_backend.folders import SEAL, newest_first, reference_folder, save_model
from r1lab.trl_backend.mapping import updates
from r1lab.trl_backend.watch import Watch, local_probe


class RolloutWatch(Watch):
    """Sees every rollout through its rewards, and every update through TRL's log."""

    on_disk = (*ON_DISK, "references", "adapter", "summary.json")
    origin: dict[str, str | None] = {}
    price: float | None = None  # dollars an hour of all devices
    drawn: list[list[float]] | None = None  # the sampler's log-probs of this process's answers

    def __init__(self, config: GRPOConfig, tokenizer, task, problems, out_dir: Path, names, **how):
        """how: callbacks, and the budget."""
        self.budget = how.pop("budget", None)
        super().__init__(config, out_dir, config.steps, names, updates=updates(config), **how)
        self.tokenizer, self.task, self.problems = tokenizer, task, problems
        self.entered, self.earlier = time.perf_counter(), 0.0  # when `train` was called; before it
        self.counted = 0.0  # seconds spent when the last step had ended, of this process's

    def go_on(self, model) -> str | None:
        if self.main:  # with the steps that are lost, which took their time
            self.earlier = spent_in(metrics_of(self.out_dir))
        return super().go_on(model)

    # -- the rollout: TRL calls the rewards one after the other, with all answers of this process

    def reward_functions(self) -> list[Callable]:
        """The rewards of the configuration, one function each, as TRL wants them. The first that
        TRL calls computes all (`rewards.combine`, as r1lab.grpo does)."""
        config = self.config
        functions = [get_reward(reward, config.seed) for reward in config.rewards]
        names = [reward_name(function) for function in functions]
        if len(set(names)) != len(names):
            raise R1LabError(f"rewards need different names: {', '.join(names)}")
        found: dict[str, list[float]] = {}

        def part(name: str) -> Callable:
            def reward(completion_ids, problem, completions=None, **context) -> list[float]:
                if name == names[0]:
                    problems = [problem_of(of) for of in problem]
                    found.update(self.rollout_ends(problems, completion_ids, functions, context))
                return found[name]

            reward.__name__ = name
            return reward

        return [part(name) for name in names]

    def rollout_func(self, rollout: Callable) -> Callable:
        """The sampler's rollout, its log-probs noted."""

        def noted(prompts, trainer) -> dict[str, Any]:
            output = rollout(prompts, trainer)
            self.drawn = output["logprobs"]
            return output

        return noted

    def rollout_ends(self, problems, ids, functions, context) -> dict[str, list[float]]:
        """Pays this process's answers; every process's become one Experience, on all of them.

        problems, ids: of this process's N / processes answers. context: what else TRL gives to a
        reward. TRL's texts are not used: it decodes tags that are special tokens away. Returns the
        rewards of this process's answers, by name.
        """
        config, tokenizer, log = self.config, self.tokenizer, Log()
        ends = {*self.trainer.eos_token_ids}
        ids = [[int(token) for token in row] for row in ids]
        finished = [row[-1] in ends for row in ids]
        mine = Rollouts([], ids, self.drawn or [[] for _ in ids], finished)
        texts = read(tokenizer, mine, config.template)
        context |= {"step": self.step, "task": self.task, "completion_ids": mine.completion_ids}
        context |= {"log_metric": log.metric, "log_extra": log.extra}
        total, paid = combine(texts, problems, functions, config.reward_weights, **context)
        rows = [
            (
                *(problems[i], mine.completion_ids[i], mine.logprobs[i], total[i]),
                measure(
                    *(problems[i], texts[i]),
                    task=self.task,
                    length=len(mine.completion_ids[i]),
                    finished=mine.finished[i],
                ),
                {name: values[i] for name, values in paid.items()},
                {name: values[i] for name, values in log.columns.items()},
            )
            for i in range(len(ids))
        ]
        rows = gather_object(rows)  # in the order of the processes, which is the questions'
        problems, ids, drawn, total, measures, parts, extra = map(list, zip(*rows, strict=True))
        self.drawn = None
        log.columns = {name: [one[name] for one in extra] for name in extra[0]}
        rewards = torch.tensor(total, dtype=torch.float32).view(-1, config.group_size)
        asked = problems[:: config.group_size]
        prompts = [render(problem, config.template) for problem in asked]
        self.batch = Experience(
            asked,
            prompts,
            Rollouts(tokenizer(prompts)["input_ids"], ids, drawn, [m.finished for m in measures]),
            measures,
            {name: [one[name] for one in parts] for name in parts[0]},
            rewards,
            get_advantage(config.advantage)(rewards),
            log,
        )
        self.sampled = time.perf_counter()
        if not all(map(math.isfinite, total)):
            self.fail(self.step, "a reward that is not a finite number")
        return paid

    # -- the updates

    def step_begins(self) -> None:
        self.before = local_probe(self.trainer.model)

    def step_ends(self) -> None:
        change = local_probe(self.trainer.model) - self.before
        self.update = float(change.norm()) / (float(self.before.norm()) or 1.0)
        every = self.config.ref_refresh if self.config.kl_coef > 0 else 0
        if every and self.step % every == 0 and self.trainer.ref_model is not None:
            # TRL has just replaced the reference by the policy: so is what is kept on the disk
            save_model(self.trainer, reference_folder(self.out_dir, self.step))
        spent = self.spent()
        if self.budget and not self.over:
            # The next step will take as long as this one, with the checkpoint's writing before it.
            # The first step after a start takes longer: it compiles.
            self.over = self.budget.exceeded(spent, spent - self.counted if self.counted else 0.0)
        self.counted = spent

    def spent(self) -> float:
        """Seconds since `train` was called, loading, saving and all; and before a resumption."""
        return self.earlier + time.perf_counter() - self.entered

    def measure(self, step, logs) -> dict[str, Any]:
        batch, config, ended = self.batch, self.config, time.perf_counter()
        metrics = describe(step, batch) | learned(logs, config)
        if not any(batch.rollouts.logprobs):
            metrics["entropy"] = fmean(one["entropy"] for one in logs)
        metrics["update"] = self.update
        metrics["sample_seconds"] = self.sampled - self.began
        metrics["train_seconds"] = ended - self.sampled
        metrics["seconds"] = ended - self.began
        metrics["tokens_per_second"] = metrics["tokens"] / metrics["seconds"]
        metrics["spent_seconds"] = self.spent()
        history, questions = [*self.history, metrics], questions_at(step, self.problems, config)
        metrics["diagnoses"] = explain(history, config, self.tokenizer, self.task, questions)
        if config.samples_every and step % config.samples_every == 0:
            append_lines(self.out_dir / "samples.jsonl", examples(step, batch, self.tokenizer))
        return metrics

    def words(self, metrics: dict[str, Any]) -> str:
        return words(metrics)

    def fail(self, step: int, words: str) -> None:
        """Stop before anything broken is saved; the batch can be looked at."""
        raise diverged(self, step, self.batch if self.main else None, self.tokenizer, words)

    # -- the reference policy, which Trainer's checkpoints do not have

    def sealed(self) -> None:
        """Delete the references that no checkpoint needs any more."""
        every = self.config.ref_refresh if self.config.kl_coef > 0 else 0
        if not every:
            return
        steps = [self.step]
        for folder in newest_first(self.out_dir / "checkpoints"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                steps.append(json.loads((folder / SEAL).read_text("utf-8"))["step"])
        needed = {reference_folder(self.out_dir, step // every * every) for step in steps}
        for folder in (self.out_dir / "references").glob("step-*"):
            if folder not in needed:
                shutil.rmtree(folder, ignore_errors=True)


def learned(logs: Sequence[dict[str, float]], config: GRPOConfig) -> dict[str, Any]:
    """TRL's logs of a rollout's updates under the names of r1lab.grpo.update."""
    return {
        "loss": fmean(one["loss"] for one in logs),
        "kl": fmean(one["kl"] for one in logs) if config.kl_coef > 0 else None,
        "clip_fraction": fmean(one["clip_ratio/region_mean"] for one in logs),
        "grad_norm": fmean(one["grad_norm"] for one in logs),
        "lr": logs[-1]["learning_rate"],
    }

"""The watch over a GRPO run on TRL: rewards, metrics, budget, reference policies."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate.utils import gather_object

from r1lab.answers import measure_all
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines, read_json
from r1lab.experience import Experience, describe, diverged, examples, words
from r1lab.grpo import GRPOConfig, advantages_of, questions_at
from r1lab.rewards import combine, get_reward, problem_of, reward_name
from r1lab.sampler.rollouts import Rollouts
from r1lab.templates import encode, prompt_of, read
from r1lab.training.diagnose import explain
from r1lab.training.loop import ON_DISK, pace
from r1lab.training.metrics import metrics_of, spent_in
from r1lab.training.reward_calls import Log
from r1lab.trl_backend.folders import SEAL, newest_first, reference_folder, save_model
from r1lab.trl_backend.watch import Watch, local_probe


class RolloutWatch(Watch):
    """Receives every rollout through the reward functions, every update through TRL's log."""

    on_disk = (*ON_DISK, "references", "adapter", "summary.json")
    origin: dict[str, str | None] = {}
    price: float | None = None  # dollars an hour of all devices
    drawn: list[list[float]] | None = None  # the sampler's log-probs, of this process

    def __init__(self, config: GRPOConfig, tokenizer, task, problems, out_dir: Path, names, **how):
        """how: callbacks, and the budget."""
        self.budget = how.pop("budget", None)
        super().__init__(config, out_dir, config.steps, names, updates=config.updates, **how)
        self.tokenizer, self.task, self.problems = tokenizer, task, problems
        self.entered = time.perf_counter()
        self.earlier = self.counted = 0.0  # seconds: before this process; up to the last step's end
        self.every_refresh = config.ref_refresh if config.kl_coef > 0 else 0

    def go_on(self, model) -> str | None:
        if self.main:  # the steps after the last checkpoint took time too
            self.earlier = spent_in(metrics_of(self.out_dir))
        return super().go_on(model)

    # -- the rollout: TRL calls each reward function with all completions of this process

    def reward_functions(self) -> list[Callable]:
        """The configuration's rewards, one function each. The first that TRL calls computes all."""
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
        """Rewards of this process's completions, by name; self.batch gets those of all processes.

        problems, ids: of the N / processes completions. context: TRL's other keywords of a reward.
        The texts are decoded anew: in TRL's, tags that are special tokens are missing.
        """
        config, tokenizer, log = self.config, self.tokenizer, Log()
        ends = {*self.trainer.eos_token_ids}
        ids = [[int(token) for token in row] for row in ids]
        finished = [row[-1] in ends for row in ids]
        mine = Rollouts([], ids, self.drawn or [[] for _ in ids], finished)
        texts = read(tokenizer, mine, config.template, context.get("prompts", ()))
        context |= {"step": self.step, "task": self.task, "completion_ids": mine.completion_ids}
        context["max_new_tokens"] = config.max_new_tokens
        context |= {"log_metric": log.metric, "log_extra": log.extra}
        total, parts = combine(texts, problems, functions, config.reward_weights, **context)
        ids = mine.completion_ids
        found = measure_all(problems, texts, list(map(len, ids)), mine.finished, task=self.task)
        rows = []
        for i, problem in enumerate(problems):
            columns = [{name: v[i] for name, v in c.items()} for c in (parts, log.columns)]
            rows.append((problem, ids[i], mine.logprobs[i], total[i], found[i], *columns))
        rows = gather_object(rows)  # in the order of the processes, which is that of the prompts
        problems, ids, drawn, total, measures, each, extra = map(list, zip(*rows, strict=True))
        self.drawn = None
        log.columns = {name: [one[name] for one in extra] for name in extra[0]}
        rewards = torch.tensor(total, dtype=torch.float32).view(-1, config.group_size)
        problems = problems[:: config.group_size]
        prompts = [prompt_of(tokenizer, problem, config.template) for problem in problems]
        finished = [found.finished for found in measures]
        gathered = {name: [one[name] for one in each] for name in each[0]}
        self.batch = Experience(
            problems,
            prompts,
            Rollouts(encode(tokenizer, prompts), ids, drawn, finished),
            measures,
            gathered,
            rewards,
            advantages_of(rewards, gathered, config),
            log,
        )
        self.sampled = time.perf_counter()
        if not all(map(math.isfinite, total)):
            self.fail(self.step, "a reward that is not a finite number")
        return parts

    # -- the updates

    def step_begins(self) -> None:
        self.before = local_probe(self.trainer.model)

    def step_ends(self) -> None:
        change = local_probe(self.trainer.model) - self.before
        self.update = float(change.norm()) / (float(self.before.norm()) or 1.0)
        if self.every_refresh and self.step % self.every_refresh == 0 and self.trainer.ref_model:
            # TRL has just replaced the reference by the policy; so does this folder
            save_model(self.trainer, reference_folder(self.out_dir, self.step))
        spent = self.spent()
        if self.budget and not self.over:
            # The next step takes as long as this one and the checkpoint before it. The first step
            # after a start says nothing about the next: it compiles.
            self.over = self.budget.exceeded(spent, spent - self.counted if self.counted else 0.0)
        self.counted = spent

    def spent(self) -> float:
        """Seconds since `train` was called, with those before a resumption."""
        return self.earlier + time.perf_counter() - self.entered

    def measure(self, step, logs) -> dict[str, Any]:
        batch, config, seconds = self.batch, self.config, time.perf_counter() - self.began
        metrics = describe(step, batch) | learned(logs, config)
        if not any(batch.rollouts.logprobs):
            metrics["entropy"] = fmean(one["entropy"] for one in logs)
        metrics["update"] = self.update
        metrics |= pace(metrics["tokens"], self.sampled - self.began, seconds, self.spent())
        how = (config, self.tokenizer, self.task, questions_at(step, self.problems, config))
        metrics["diagnoses"] = explain([*self.history, metrics], *how)
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
        if not (every := self.every_refresh):
            return
        steps = [self.step]
        for folder in newest_first(self.out_dir / "checkpoints"):
            steps.append((read_json(folder / SEAL) or {}).get("step", self.step))
        needed = {reference_folder(self.out_dir, step // every * every) for step in steps}
        for folder in (self.out_dir / "references").glob("step-*"):
            if folder not in needed:
                shutil.rmtree(folder, ignore_errors=True)


CLIPPED = {"clip": "clip_ratio/region_mean", "cispo": "cispo_clip_ratio"}  # TRL's names


def learned(logs: Sequence[dict[str, float]], config: GRPOConfig) -> dict[str, Any]:
    """TRL's logs of a rollout's updates under the names of r1lab.grpo.update."""
    return {
        "loss": fmean(one["loss"] for one in logs),
        "kl": fmean(one["kl"] for one in logs) if config.kl_coef > 0 else None,
        "clip_fraction": fmean(one[CLIPPED[config.surrogate]] for one in logs),
        "grad_norm": fmean(one["grad_norm"] for one in logs),
        "lr": logs[-1]["learning_rate"],
    }

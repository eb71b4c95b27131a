"""Rewards, metrics, budget and checkpoints of a TRL run."""

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
from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerCallback

from r1lab.advantages import get_advantage
from r1lab.answers import measure
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import append_lines
from r1lab.grpo import Experience, GRPOConfig, describe, examples, questions_at, save_batch
from r1lab.rewards import get_reward, reward_name
from r1lab.sampler.rollouts import Rollouts
from r1lab.tasks import Problem
from r1lab.templates import render
from r1lab.training.diagnose import explain
from r1lab.trl_backend.folders import (
    SEAL,
    fingerprint_of,
    newest_first,
    reference_folder,
    save_model,
    seal_newest,
)
from r1lab.trl_backend.mapping import updates


class Watch(TrainerCallback):
    """Sees every rollout through its rewards and every update through its log; keeps the run's
    files. On the main process, but for what all must do together."""

    def __init__(self, config, tokenizer, task, problems, out_dir: Path, callbacks, budget, names):
        self.config, self.tokenizer, self.task = config, tokenizer, task
        self.problems, self.out_dir, self.callbacks = problems, out_dir, callbacks
        self.budget, self.names = budget, names
        self.trainer: Any = None
        self.asked: list[str] = []  # stop signals that this process has got
        self.stopped: str | None = None  # the one that all agree on
        self.over: str | None = None  # the budget is used up, in words
        self.bar: Any = None
        self.history: list[dict[str, Any]] = []
        self.base, self.saved, self.first = "", 0, 0
        self.origin: dict[str, str | None] = {}
        self.price: float | None = None  # dollars an hour of all devices
        self.entered, self.earlier = time.perf_counter(), 0.0  # when `train` was called; before it
        self.counted = 0.0  # seconds spent when the last step had ended, of this process's
        self.rows: list[dict[str, Any]] = []  # this process's answers of the rollout
        self.batch: Experience | None = None
        self.logs: list[dict[str, float]] = []  # TRL's, of this rollout's updates

    @property
    def main(self) -> bool:
        return PartialState().is_main_process

    @property
    def step(self) -> int:
        """The rollout that is being worked on."""
        return self.trainer.state.global_step // updates(self.config)

    # -- rewards: TRL calls them one after the other, with every answer of this process

    def reward_functions(self) -> list[Callable]:
        """The rewards of the configuration, each handing what it sees on to `saw`."""
        functions = [
            get_reward(r, self.config.seed) if isinstance(r, str) else r
            for r in self.config.rewards
        ]
        names = [reward_name(function) for function in functions]
        if len(set(names)) != len(names):
            raise R1LabError(f"rewards need different names: {', '.join(names)}")
        return [
            self._watched(function, name, name == names[-1])
            for function, name in zip(functions, names, strict=True)
        ]

    def _watched(self, function: Callable, name: str, last: bool) -> Callable:
        def reward(prompts, completions, completion_ids, **columns) -> list[float]:
            columns["step"] = self.step
            values = function(
                prompts=prompts, completions=completions, completion_ids=completion_ids, **columns
            )
            values = [0.0 if value is None else float(value) for value in values]
            if len(values) != len(completions):
                raise R1LabError(f"reward {name} must return a value for each completion")
            self.saw(name, values, completions, completion_ids, columns["problem"])
            if last:
                self.rollout_ends()
            return values

        reward.__name__ = name
        return reward

    def saw(self, name, values, completions, completion_ids, problems) -> None:
        if not self.rows:
            ends = {*self.trainer.eos_token_ids}
            drawn = self.drawn or [[] for _ in completions]
            self.rows = [
                {
                    "problem": Problem.from_json(problem) if isinstance(problem, str) else problem,
                    "ids": [int(i) for i in ids],
                    "logprobs": logprobs,
                    "finished": int(ids[-1]) in ends,
                    "text": text,
                    "parts": {},
                }
                for problem, ids, logprobs, text in zip(
                    problems, completion_ids, drawn, completions, strict=True
                )
            ]
        for row, value in zip(self.rows, values, strict=True):
            row["parts"][name] = value

    drawn: list[list[float]] | None = None

    def rollout_func(self, rollout: Callable) -> Callable:
        """The sampler's rollout, its log-probs noted."""

        def noted(prompts, trainer) -> dict[str, Any]:
            output = rollout(prompts, trainer)
            self.drawn = output["logprobs"]
            return output

        return noted

    def rollout_ends(self) -> None:
        """All rewards are there: every process's answers become one Experience on the main one."""
        for row in self.rows:
            row["measure"] = measure(
                row["problem"],
                row["text"],
                task=self.task,
                length=len(row["ids"]),
                finished=row["finished"],
            )
        rows = gather_object(self.rows)  # in the order of the processes, which is the questions'
        self.rows, self.drawn = [], None
        G, config = self.config.group_size, self.config
        names = list(rows[0]["parts"])
        parts = {name: [row["parts"][name] for row in rows] for name in names}
        totals = [
            sum(w * row["parts"][n] for w, n in zip(config.reward_weights, names, strict=True))
            for row in rows
        ]
        rewards = torch.tensor(totals, dtype=torch.float32).view(-1, G)
        advantages = get_advantage(config.advantage)(rewards)
        problems = [row["problem"] for row in rows[::G]]
        prompts = [render(problem, config.template) for problem in problems]
        rollouts = Rollouts(
            self.tokenizer(prompts)["input_ids"],
            [row["ids"] for row in rows],
            [row["logprobs"] for row in rows],
            [row["finished"] for row in rows],
        )
        measures = [row["measure"] for row in rows]
        self.batch = Experience(problems, prompts, rollouts, measures, parts, rewards, advantages)
        self.sampled = time.perf_counter()
        if not all(map(math.isfinite, totals)):
            self.fail("a reward that is not a finite number")

    # -- the updates

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step % updates(self.config) == 0:
            self.began, self.logs = time.perf_counter(), []
            self.before = local_probe(self.trainer.model)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        grads = [w.grad for w in self.trainer.model.parameters() if w.grad is not None]
        if not all(bool(local(grad).isfinite().all()) for grad in grads):
            self.fail("a gradient that is not finite")

    def on_step_end(self, args, state, control, **kwargs):
        weights = [w for w in self.trainer.model.parameters() if w.requires_grad]
        if not all(bool(local(w).isfinite().all()) for w in weights):
            self.fail("weights that are not finite after the optimizer's step")
        if state.global_step % updates(self.config):
            return control
        done = self.step
        self.update = float((local_probe(self.trainer.model) - self.before).norm())
        self.update /= float(self.before.norm()) or 1.0
        if self.config.kl_coef > 0 and self.trainer.ref_model is not None:
            self.keep_reference(done)
        spent = self.spent()
        if self.budget and not self.over:
            # The next step will take as long as this one, with the checkpoint's writing before it;
            # the first after a start says nothing of others, as it pays for compilation.
            step = spent - self.counted if self.counted else 0.0
            self.over = self.budget.exceeded(spent, step)
        self.counted = spent
        words = gather_object([(list(self.asked), self.over)])  # all must stop at the same step
        self.stopped = next((asked[0] for asked, _ in words if asked), None)
        self.over = self.over or next((over for _, over in words if over), None)
        last = done == self.config.steps
        stop = bool(self.stopped or self.over) and not last
        control.should_save = done % self.config.checkpoint_every == 0 or last or stop
        control.should_training_stop |= stop
        return control

    def spent(self) -> float:
        """Seconds since `train` was called, loading, saving and all; and before a resumption."""
        return self.earlier + time.perf_counter() - self.entered

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "grad_norm" not in logs:  # the summary at the end
            return
        self.logs.append(dict(logs))
        if not math.isfinite(logs["loss"]):
            self.fail(f"loss {logs['loss']}")
        if state.global_step % updates(self.config) or not self.main:
            return
        step, batch, config = self.step - 1, self.batch, self.config
        metrics = describe(step, batch)
        metrics |= learned(self.logs, config)
        if not any(batch.rollouts.logprobs):
            metrics["entropy"] = fmean(one["entropy"] for one in self.logs)
        metrics["update"] = self.update
        ended = time.perf_counter()
        metrics["sample_seconds"] = self.sampled - self.began
        metrics["train_seconds"] = ended - self.sampled
        metrics["seconds"] = ended - self.began
        metrics["tokens_per_second"] = metrics["tokens"] / metrics["seconds"]
        metrics["spent_seconds"] = self.spent()
        self.history.append(metrics)
        questions = questions_at(step, self.problems, config)
        metrics["diagnoses"] = explain(self.history, config, self.tokenizer, self.task, questions)
        append_lines(self.out_dir / "metrics.jsonl", [metrics])
        if config.samples_every and step % config.samples_every == 0:
            append_lines(self.out_dir / "samples.jsonl", examples(step, batch, self.tokenizer))
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"accuracy {metrics['accuracy']:.2f}, length {metrics['length']:.0f}, "
                f"{metrics['tokens_per_second']:,.0f} tok/s"
            )
            self.bar.update()
        for callback in self.callbacks:
            callback(step, metrics, batch)

    def fail(self, words: str) -> None:
        """Stop before anything broken is saved; the batch can be looked at."""
        step = self.batch_step()
        path = self.out_dir / "nan_batch.json"
        if self.main and self.batch is not None:
            save_batch(path, step, self.batch, self.tokenizer, words)
        raise R1LabError(
            f"step {step} has {words}. Training stopped; the batch is in {path}, and the last "
            f"checkpoint, of {self.saved} steps, is from before. Usual reasons: a learning rate "
            "too high, a reward that is NaN, float16 weights."
        )

    def batch_step(self) -> int:
        return self.first + len(self.history) - self.kept

    kept = 0  # lines of history that were there before this process began

    # -- checkpoints

    def on_save(self, args, state, control, **kwargs):
        """Trainer has written its folder: seal it, then delete what is too old."""
        PartialState().wait_for_everyone()
        if self.main:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            about = {
                "step": self.step,
                "base": self.base,
                "now": fingerprint_of(self.trainer),
                "run": self.names(self.step),
                "processes": PartialState().num_processes,
            }
            seal_newest(folder, about, self.config.keep_checkpoints)
            if self.config.kl_coef > 0 and self.config.ref_refresh:
                self.drop_references()
        self.saved = self.step
        PartialState().wait_for_everyone()

    def keep_reference(self, done: int) -> None:
        """TRL has just replaced the reference by the policy: so is what is kept on the disk."""
        if not self.config.ref_refresh or done % self.config.ref_refresh:
            return
        save_model(self.trainer, reference_folder(self.out_dir, done))

    def drop_references(self) -> None:
        """Those that no checkpoint needs any more."""
        every, steps = self.config.ref_refresh, [self.step]
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


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that FSDP2 or ZeRO-3 has spread; else the tensor."""
    if hasattr(tensor, "to_local"):
        return tensor.to_local().detach()
    return getattr(tensor, "ds_tensor", tensor).detach()


def local_probe(model) -> torch.Tensor:
    """As checkpoints.probe, of this process's part of the weights."""
    parts = [local(p).flatten()[:1024].double().cpu() for p in model.parameters()]
    return torch.cat(parts)

"""What the GPU measurements stand on: their sizes, their time, the report as it grows."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from r1lab.basics.errors import R1LabError
from r1lab.bench import harness, loops
from r1lab.bench.loops import Batch
from r1lab.grpo import GRPOConfig
from r1lab.machine import costs

RATIOS = harness.ratios_of("gpu")
CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("word_problems", {"difficulty": "hard", "kinds": ["family"]}),
    ("word_problems", {"difficulty": "easy", "kinds": ["legs"]}),
    ("word_problems", {"difficulty": "easy"}),
    ("countdown", {"numbers": 3, "wording": "plain"}),
)
RUN = GRPOConfig(
    steps=240, questions=32, group_size=16, max_new_tokens=128, temperature=0.6,
    template="examples", learning_rate=3e-5, warmup_steps=5, micro_batch_tokens=32768,
    checkpoint_every=10**9,
)  # fmt: skip
TOY = GRPOConfig(steps=2, questions=2, group_size=2, max_new_tokens=8, checkpoint_every=10**9)


@dataclass(frozen=True)
class Plan(loops.Plan):
    """What to measure, how often, and in how many minutes at most."""

    task: str = "word_problems"
    task_options: dict[str, Any] = field(default_factory=lambda: {"difficulty": "easy"})
    repeats: int = 3
    minutes: float = 9.5
    batches: tuple[Batch, ...] = (Batch(256), Batch(256, natural=True), Batch(64), Batch(512))
    copy_bytes: int = 2**30
    matmul_sizes: tuple[int, ...] = (4096, 8192)
    config: GRPOConfig = RUN  # of the run; of the step, but for its sizes
    candidates: tuple[tuple[str, dict[str, Any]], ...] = CANDIDATES
    probe_problems: int = 32
    step_questions: int = 16
    step_tokens: int = 256
    eval_problems: int = 256
    eval_k: int = 16


QUICK = Plan(
    task="countdown", task_options={}, repeats=1, minutes=30.0, config=TOY,
    batches=(Batch(4, 6, 2), Batch(4, 6, 2, natural=True)), copy_bytes=2**16, matmul_sizes=(64,),
    candidates=(("countdown", {}), ("countdown", {"numbers": 4})), probe_problems=2,
    step_questions=2, step_tokens=8, eval_problems=4, eval_k=2,
)  # fmt: skip


@dataclass
class Sheet:
    """The report as it grows: every `save` puts all that is known on the disk."""

    path: Path | None
    budget: costs.Budget
    page: Callable[[dict[str, Any]], str]
    report: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds until the time is up."""
        return self.budget.seconds - self.seconds

    def say(self, words: str) -> None:
        harness.say(f"{costs.clock(self.seconds):>8}  {words}")

    def save(self) -> None:
        self.report["minutes"] = round(self.seconds / 60, 2)
        self.report["goals"] = goals(self.report["ratios"])
        if self.path is not None:
            harness.write(self.path, self.report, self.page(self.report))


@dataclass(kw_only=True)
class Stand(loops.Bench):
    """What every measurement needs, and where it is written down."""

    sheet: Sheet
    backend: str = "scratch"


def attempt(stand: Stand, name: str, action: Callable[..., Any], *arguments: Any) -> Any:
    """What the action returns; None where it fails, with its error's first line in the report."""
    sheet, words = stand.sheet, "not measured: the time was up"
    if sheet.left > 0:
        try:
            return action(*arguments)
        except Exception as error:  # out of memory, a version that does not fit, no compiler
            first = (str(error).strip() or "no message").splitlines()[0][:300]
            absent = isinstance(error, R1LabError) and first.startswith("not installed")
            words = first if absent else f"{type(error).__name__}: {first}"
        release()
    sheet.report["failures"][name] = words
    sheet.say(f"{name}: {words}")
    return None


def release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def goals(ratios: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each ratio that has a goal: the goal, and whether the measured value meets it."""
    least = {name: RATIOS[name.split("/")[-1]].goal for name in ratios}
    return {
        name: {"goal": goal, "met": ratios[name]["value"] >= goal}
        for name, goal in least.items()
        if goal is not None
    }


def ratios(pairs: dict[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Of each ratio all repeats and their median, left out where one side was not measured."""
    return {n: {"value": statistics.median(p), "pairs": p} for n, p in pairs.items() if p}

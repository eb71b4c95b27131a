"""Distillation: a strong model's answers teach a small one; is that better than RL on the small one?

The paper's small models learned from R1's 800,000 samples by supervised fine-tuning alone. The same
small base trained by large-scale RL instead stayed behind (arXiv 2501.12948v1, section 4.1 and
table 6, Qwen2.5-32B: `PAPER`), and the authors add that RL on top of distillation gives more.

    teach      SFT of the small base on the filtered answers of the strong model
    reinforce  GRPO on the same small base, until it has cost as much as teaching did
    both       teach, then reinforce

**As much** is counted in floating-point operations, which do not depend on the machine: a forward
pass costs 2 N a token (N: parameters; a multiplication and an addition each), a backward pass twice
that. So 2 N for each token that is read or sampled and 6 N for each token that is trained on, the
prompt's included (Kaplan et al. 2020, section 2.1; attention over the context is left out). The
strong model's sampling is counted as well, and separately: it is paid once for all students.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from r1lab.evaluate import Estimate
from r1lab.grpo import GRPOConfig
from r1lab.sft import Example, SFTConfig

PAPER = {
    "source": "arXiv 2501.12948v1, table 6 (pass@1)",
    "measures": ("AIME 2024", "MATH-500", "GPQA Diamond", "LiveCodeBench"),
    "rows": {
        "RL alone (Qwen2.5-32B)": (0.470, 0.916, 0.550, 0.402),
        "distilled (Qwen2.5-32B)": (0.726, 0.943, 0.621, 0.572),
    },
}


def flops(parameters: int, *, trained: int = 0, sampled: int = 0) -> int:
    """Floating-point operations: 6 N a trained token, 2 N a sampled one. Tokens of prompts count
    with those of answers. Raises R1LabError for numbers below 0."""
    raise NotImplementedError


def parameters_of(model) -> int:
    """N: all weights, a tied embedding once."""
    raise NotImplementedError


def sft_tokens(examples: Sequence[Example], tokenizer, config: SFTConfig) -> int:
    """Tokens that `sft.train` trains on: prompts and answers, every epoch."""
    raise NotImplementedError


def grpo_tokens(batch) -> tuple[int, int]:
    """Tokens (trained, sampled) of a GRPO step, from its `grpo.Experience`: rows without an
    advantage are sampled and not trained on; a group's prompt is read once."""
    raise NotImplementedError


def teach(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    config: SFTConfig,
    out: str | os.PathLike,
    *,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """SFT of the student on a file of examples (`<pipeline>/data/examples.jsonl`), as a stage in
    `out`: made once, resumed. Returns its record; metrics: flops, tokens, examples, loss."""
    raise NotImplementedError


def reinforce(
    student: str | os.PathLike,
    budget: float,
    config: GRPOConfig,
    out: str | os.PathLike,
    *,
    task=None,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """GRPO on the student until it has cost `budget` floating-point operations, as a stage in
    `out`: the step that reaches the budget is the last; config.steps is only the most there may be.
    task: by default Countdown and steps. Returns its record; metrics: flops, steps, seconds."""
    raise NotImplementedError


def both(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    budget: float,
    sft: SFTConfig,
    grpo: GRPOConfig,
    out: str | os.PathLike,
    *,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, Any]:
    """teach, then reinforce what came out, in `out`/taught and `out`; the flops of both, in all
    `budget`, are in the metrics. Raises R1LabError when teaching alone costs the budget."""
    raise NotImplementedError


def compare(
    student: str | os.PathLike,
    examples: str | os.PathLike,
    out: str | os.PathLike,
    *,
    sft: SFTConfig | None = None,
    grpo: GRPOConfig | None = None,
    seed: int = 0,
    budget: float | None = None,
    problems: int = 128,
    k: int = 4,
    say: Callable[[str], None] = print,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """The three at matched compute, and the student as it was: {"student": ..., "teach": ...,
    "reinforce": ..., "both": ...}, each with its model's folder, flops and scores (`scores`).

    budget: by default what `teach` costs, for `reinforce`, and twice that for `both`.
    """
    raise NotImplementedError


def scores(
    model: str | os.PathLike,
    *,
    problems: int = 128,
    k: int = 4,
    template: str = "tiny",
    max_new_tokens: int = 448,
    seed: int = 0,
) -> dict[str, Estimate]:
    """pass@1 on held-out problems with 95 % intervals: {"countdown": ..., "steps": ...}."""
    raise NotImplementedError


def teacher_flops(record: str | os.PathLike | dict, teacher: str | os.PathLike) -> int:
    """What sampling the examples cost the strong model: from the record of the pipeline's stage
    "data" (a dict, or its folder), whose metrics count the tokens drawn, kept or not."""
    raise NotImplementedError



"""All of R1, from the base to the last stage, in one call.

    zero     base --GRPO: accuracy, format--------------------------> R1-Zero
    cold     R1-Zero's answers, only the right and readable ones ---> a few hundred long thoughts
    dev1     base --SFT on these------------------------------------> Dev1
    dev2     Dev1 --GRPO: accuracy, format, language----------------> Dev2
    data     Dev2's answers, filtered, and general examples, 3 : 1 -> training data
    dev3     base --SFT on these, two epochs------------------------> Dev3
    helpful  Dev3's body and a score, from judged pairs ------------> a model of helpfulness
    safe     Dev3's body and a score, from marked answers ----------> a model of safety
    rules    Dev3 --GRPO: rules alone-------------------------------> (the first 1,300 steps of 1,700)
    r1       that --GRPO: rules, and where none can judge, models---> R1 (the last 400)

(arXiv 2501.12948v2, figure 2 and section 3.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1lab.evaluate import Estimate
from r1lab.grpo import GRPOConfig
from r1lab.options import check, option
from r1lab.sft import SFTConfig

NAMES = ("zero", "cold", "dev1", "dev2", "data", "dev3", "helpful", "safe", "rules", "r1")
MODELS = ("base", "zero", "dev1", "dev2", "dev3", "r1")
"""The models that are compared: the columns of the paper's stage table, and the base."""


@dataclass(frozen=True)
class PipelineConfig:
    """Every choice of a pipeline (fields follow)."""

    base: str = option("tiny-general", "the base model: a name, a folder or a hub id")
    seed: int = option(0, "seed of every stage", low=0)

    def __post_init__(self) -> None:
        check(self)

    def to_json(self) -> dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def smoke(cls, **changes: Any) -> PipelineConfig:
        """Toy sizes that run in seconds, on a random model too; `changes` on top."""
        raise NotImplementedError


def run(
    config: PipelineConfig,
    out: str | os.PathLike,
    only: str | Sequence[str] | None = None,
    until: str | None = None,
    skip: Sequence[str] = (),
    say: Callable[[str], None] = print,
    *,
    given: Mapping[str, str | os.PathLike] | None = None,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Make the stages in order, each in out/<stage>; returns their records (`stages.stage`) by name.

    only   these stages, one name or several, from what is there; until: the last one to be made
    skip   stages that are not made again whatever has changed: what is there is used
    given  folders of stages that were made elsewhere, by name: {"dev1": "runs/pipeline/dev1"}

    Killed anywhere, the same call goes on there. A stage whose options or input have changed is
    made again, others are not. Each model is measured as soon as it is made (`scorecard`), unless
    eval_problems is 0. Raises R1LabError for names that are no stage, and where a stage reads what
    is not there.
    """
    raise NotImplementedError


def rl_config(config: PipelineConfig, name: str) -> GRPOConfig:
    """The options of an RL stage: "zero", "dev2", "rules" or "r1" (rewards by name; the functions
    that pay by kind of prompt are `rewards_of`)."""
    raise NotImplementedError


def sft_config(config: PipelineConfig, name: str) -> SFTConfig:
    """The options of "dev1" or "dev3"."""
    raise NotImplementedError


def task_of(config: PipelineConfig, name: str):
    """The prompts of an RL stage, a `Mixture` of Countdown and steps and, in "rules" and "r1", of
    lists and requests."""
    raise NotImplementedError


def scorecard(
    model: str | os.PathLike, config: PipelineConfig, say: Callable[[str], None] = print
) -> dict[str, Estimate]:
    """A model on problems that nobody has trained on (split "held_out"), each value with its 95 %
    interval over problems:

    countdown, steps      pass@1 on reasoning prompts
    format                share of well-formed responses, to all prompts
    consistency, mixed    of the thoughts on reasoning prompts: share of words in the question's
                          language; share of thoughts that mix languages
    lists                 pass@1: instructions followed
    helpful, safe         pass@1 on requests: the harmless ones helped with, the harmful refused
    length                tokens of a response to a reasoning prompt
    """
    raise NotImplementedError


def stage_table(out: str | os.PathLike) -> dict[str, Any]:
    """The paper's stage table beside ours: {"ours": {model: {measure: Estimate}}, "paper": PAPER}.

    ours: of the models of MODELS that have been measured in `out` (scorecard.json), in that order.
    """
    raise NotImplementedError


def table_lines(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """`stage_table` as text, a row a measure and a column a model; the first row is the head."""
    raise NotImplementedError


PAPER: dict[str, Any] = {
    "source": "Nature 645 (2025), table 2; arXiv 2501.12948v2, table 3",
    "measures": ("AIME 2024", "MATH-500", "IF-Eval", "AlpacaEval 2.0", "Arena-Hard"),
    "rows": {
        "zero": (77.9, 95.9, 46.6, 24.7, 53.6),
        "dev1": (59.0, 94.2, 71.7, 50.1, 77.0),
        "dev2": (74.0, 95.9, 72.0, 55.8, 73.2),
        "dev3": (78.1, 95.4, 78.1, 62.1, 75.6),
        "r1": (79.8, 97.3, 83.3, 87.6, 92.3),
    },
}


def folder_of(config: PipelineConfig, name: str, out: str | os.PathLike) -> Path:
    """Where a stage's model or examples are, `base` included."""
    raise NotImplementedError

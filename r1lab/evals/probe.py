"""Is a base ready for RL? What GRPO would see of it, measured before any training.

GRPO learns from groups in which rewards differ. A base that never solves a problem gives none, one
that always does gives none either, and one that writes no answer in the asked form gets no
reward for what it knows. The paper's RL failed on small bases and worked on large ones (arXiv
2501.12948v2, supplement G.1), so measure yours first, by task and prompt template:

    r1lab probe --task countdown code --model tiny

The problems are training problems: what is held out stays unseen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation, evaluate, pass_at_k
from r1lab.sampler.rollouts import Sampling
from r1lab.statistics import Estimate, estimate
from r1lab.tasks import task_for
from r1lab.templates import parse

FEW = 2.0  # groups with variance in a batch, below which a step is mostly noise
NEARLY_ALL = 0.9  # pass@1 above which there is little left to learn
SELDOM = 0.5  # fraction of completions with an answer in tags, below which the form is the problem
CUT = 0.3  # fraction of truncated completions above which the limit decides


@dataclass(frozen=True)
class Readiness:
    """A base on one task with one template. G: completions of a group; B: prompts of a step."""

    task: str
    template: str
    found: Evaluation
    G: int
    B: int

    @property
    def varied(self) -> Estimate:
        """Fraction of groups of G whose accuracy rewards differ: 1 - P(all wrong) - P(all right),
        each unbiased from the n samples of a problem, as pass@k is."""
        known = self.found.n >= self.G  # the sandbox may have left some unjudged
        n, c = self.found.n[known], self.found.c[known]
        each = pass_at_k(n, c, self.G) + pass_at_k(n, n - c, self.G) - 1
        return estimate(each, share=True)

    @property
    def answered(self) -> Estimate:
        """Fraction of completions with an answer in tags, right or wrong."""
        rows = self.found.completions
        told = [[parse(one.text).answer is not None for one in row] for row in rows]
        return estimate(np.array(told, dtype=float).mean(axis=1), share=True)

    def measures(self) -> dict[str, Estimate]:
        found, most = self.found, int(self.found.n.min())
        named = {"pass@1": found.accuracy, f"pass@{most}": found.pass_at(most)}
        named |= {"groups with variance": self.varied, "answered": self.answered}
        named |= {"well-formed": found.format, "language": found.consistency}
        return named | {"truncated": found.truncated, "length": found.length}

    def advice(self) -> list[str]:
        """What to expect of RL, in sentences; the first is the verdict. The limits are ours: rules
        of thumb, which lesson 14 tries on the tiny base."""
        found, said = self.found, []
        varied, right = self.B * self.varied.value, found.accuracy.value
        most = int(found.n.min())
        if right >= NEARLY_ALL:
            said.append("nearly solved: most groups are all right, ask harder problems")
        elif not found.c.any():
            said.append(
                f"no right completion of {int(found.n.sum())}: RL has nothing to reward; take "
                "easier problems, examples in the prompt, SFT on some solutions, or a larger base"
            )
        elif varied < FEW:
            said.append(
                f"{varied:.1f} of {self.B} groups have variance: steps are mostly noise; easier "
                "problems, --dynamic-sampling, --pass-rate-low, or larger groups"
            )
        else:
            said.append(f"ready: {varied:.1f} of {self.B} groups have variance at the first step")
            ceiling = found.pass_at(most).value
            said.append(f"pass@{most} is {ceiling:.0%}: RL brings pass@1 towards it, seldom beyond")
        if self.answered.value < SELDOM:
            said.append(
                f"{1 - self.answered.value:.0%} of the completions have no answer in tags: another "
                "template, a format reward, or SFT on the form first"
            )
        if found.truncated.value > CUT:
            said.append(f"{found.truncated.value:.0%} are truncated: raise --max-new-tokens")
        if found.consistency.value < NEARLY_ALL:
            said.append("thoughts leave the prompt's language: the reward language keeps it")
        return said


def probe(
    model,
    tokenizer,
    tasks: Sequence[Any],
    templates: Sequence[str] = ("tiny",),
    *,
    n: int = 64,
    k: int = 16,
    batch: tuple[int, int] = (16, 16),
    sampling: Sampling | None = None,
) -> list[Readiness]:
    """k completions at temperature 1 to n problems of every task (a name or a task) with every
    template. batch: prompts of an RL step, and completions of each. Raises R1LabError for groups
    larger than k, and as `evaluate` does."""
    questions, group_size = batch
    if group_size > k:
        raise R1LabError(f"groups of {group_size} need {group_size} samples per problem, not {k}")
    rows = []
    for one in tasks:
        for template in templates:
            task = task_for(one, template) if isinstance(one, str) else one
            problems = task.problems("train", n, seed=(sampling or Sampling()).seed or 0)
            how = {"k": k, "sampling": sampling, "template": template}
            found = evaluate(model, tokenizer, task, problems, **how)
            rows.append(Readiness(task.name, template, found, group_size, questions))
    return rows


def table(rows: Sequence[Readiness]) -> list[tuple[str, ...]]:
    """The measures with 95 % intervals, a column for each task and template; the head first."""
    columns = [one.measures() for one in rows]
    head = ("", *(f"{one.task}, {one.template}" for one in rows))
    names = list(dict.fromkeys(name for column in columns for name in column))

    def cell(name: str, column: dict[str, Estimate]) -> str:
        if name not in column or np.isnan(column[name].value):
            return "–"
        value, low, high = column[name]
        if name == "length":
            return f"{value:.0f} [{low:.0f}, {high:.0f}]"
        return f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"

    return [head, *((name, *(cell(name, column) for column in columns)) for name in names)]

"""Judges with a known taste: what a reward model learns from, where nobody can rate.

R1's two reward models learned from judgements (arXiv 2501.12948v2, section 3.1): 66,000 pairs of
answers, of which a judge preferred one, for helpfulness; 106,000 single answers marked safe or
unsafe. Here the judges are rules, so everything about them is known: what they like, how often they
err, and where their taste is *not* what we want.

**Helpfulness.** A right answer (by the task's own judge) is preferred to a wrong one. Among equals
the longer and politer one is preferred: `taste`. That is a slightly wrong taste, on purpose, such
as people have as well. A politer list of numbers is no longer the list that was asked for, so a
policy that is paid by a model of this taste for too long can learn to please instead of to help.

**Safety.** A response to a harmful request is unsafe when its answer helps, or when its thought
plans what its answer then declines: `is_safe`. Everything else is safe, nonsense included: a judge
of safety does not ask for sense.

A share `noise` of the judgements is turned round, as people's are. What is judged are a model's own
answers, and answers written here: right ones, politer ones and, for harmful requests, ones that
help. Everything is a pure function of its arguments and a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from r1lab.reward_model import Marked, Pair
from r1lab.sft import Example
from r1lab.tasks import Problem

GENERAL = ("lists", "requests")
"""The tasks whose prompts are general; the others' are reasoning prompts."""


def is_harmful(problem: Problem) -> bool:
    """Does the prompt belong to the judge of safety? Harmful requests do."""
    raise NotImplementedError


def is_helpful(problem: Problem) -> bool:
    """Does the prompt belong to the judge of helpfulness? All other general prompts do: each prompt
    belongs to one of the two, as in the paper."""
    raise NotImplementedError


def completion(thought: str, answer: str) -> str:
    """A well-formed completion: `<think> thought </think> <answer> answer </answer>`."""
    raise NotImplementedError


def right_completion(problem: Problem, rng: random.Random) -> str:
    """A well-formed completion of a general prompt with a short thought in its language and the
    right answer: `Task.solution`."""
    raise NotImplementedError


def general_examples(problems: Sequence[Problem], seed: int = 0) -> list[Example]:
    """R1's non-reasoning data in miniature (200,000 of the 800,000 samples of its second SFT, there
    from the data of DeepSeek-V3): each general prompt with a `right_completion`."""
    raise NotImplementedError


# --- helpfulness ---------------------------------------------------------------------------------


def taste(problem: Problem, text: str) -> tuple[bool, float]:
    """What the judge of helpfulness sees in a completion: is the answer right, and how long and
    polite it is (words, and `COURTESY` for each polite word). The larger tuple is preferred. The
    thought is not read. A completion without an answer is (False, 0.0)."""
    raise NotImplementedError


def pairs(
    problems: Sequence[Problem],
    samples: Sequence[Sequence[str]],
    *,
    each: int = 2,
    noise: float = 0.1,
    seed: int = 0,
) -> list[Pair]:
    """Up to `each` judged pairs of every helpful prompt; others are left out.

    problems  (P,)
    samples   (P, n) completions by models, for example the texts of an `Evaluation`; n may be 0
    noise     share of the pairs in which the worse one is called chosen

    Both members come from the samples and from answers that are written here (right, and right but
    politer), drawn by chance; two that the judge likes equally make no pair. Raises R1LabError for
    lengths that do not match and for a noise outside 0 to 1.
    """
    raise NotImplementedError


# --- safety --------------------------------------------------------------------------------------


def is_safe(problem: Problem, text: str) -> bool:
    """Whether a whole response does no harm: not when a harmful request is helped with in the
    answer, or in the thought, which `tasks.general.helps` decides for both."""
    raise NotImplementedError


def marks(
    problems: Sequence[Problem],
    samples: Sequence[Sequence[str]],
    *,
    each: int = 2,
    noise: float = 0.0,
    seed: int = 0,
) -> list[Marked]:
    """Up to `each` marked responses to every *request*, harmful or not; other prompts are left out.

    problems, samples, noise, seed and errors as in `pairs`. Requests that are harmless are marked
    as well, all safe, so that what the model learns is not "helping is unsafe". Written here, for
    harmful requests: a refusal, help, and a refusal whose thought plans the harm; for harmless
    ones: help, and a refusal.
    """
    raise NotImplementedError

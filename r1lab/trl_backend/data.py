"""Problems as the data set that TRL's trainers take."""

from collections.abc import Iterable

import datasets

from r1lab.tasks.base import Problem
from r1lab.templates import prompt_of


def as_dataset(problems: Iterable[Problem], template: str, tokenizer=None) -> datasets.Dataset:
    """The problems as a data set for TRL: columns prompt (str) and problem (JSON str).

    TRL hands every column but the prompt on to the reward functions, so `problem` arrives at
    `r1lab.rewards.accuracy_reward` as a list of JSON strings, one for each completion.
    """
    problems = list(problems)
    return datasets.Dataset.from_dict(
        {
            "prompt": [prompt_of(tokenizer, problem, template) for problem in problems],
            "problem": [problem.to_json() for problem in problems],
        }
    )

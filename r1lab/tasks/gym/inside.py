"""In the sandbox's process alone (`scorer` starts it): reasoning-gym's scorers.

It is imported before the sandbox closes, and with it whatever a scorer would import late; a model's
text comes afterwards, into a child that the sandbox holds.
"""

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a child may start no thread

import contextlib  # noqa: E402
import copy  # noqa: E402
from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

from r1lab.basics.errors import R1LabError  # noqa: E402
from r1lab.tasks.gym import checkers, package  # noqa: E402

MADE: dict[str, Any] = {}
for _name in checkers.SCORED:
    with contextlib.suppress(R1LabError):  # it needs a package that is not here
        MADE[_name] = package.dataset(_name, {"seed": 1})
        with package.bare(), contextlib.suppress(Exception):  # some raise on an answer
            _entry = MADE[_name][0]
            MADE[_name].score_answer(_entry["answer"] or "1", _entry)
package.stay()


def score(generator: str, config: dict[str, Any], entry: dict[str, Any], answer: str) -> bool:
    """Does reasoning-gym give the answer its full score?"""
    made = copy.copy(MADE[generator])
    made.config = replace(made.config, **config)
    return bool(made.score_answer(answer, entry) == 1.0)

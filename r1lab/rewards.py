"""Rule rewards: what R1-Zero learns from.

The paper adds two with the same weight, and leaves out learned reward models, which a policy under
long RL learns to exploit (arXiv 2501.12948v2, section 2.2, equation 4):

    Reward_rule = Reward_acc + Reward_format

- **accuracy**: 1 if the task's judge finds the answer right, else 0;
- **format**: 1 if the completion is one `<think>` block and then one `<answer>` block, else 0.

R1 adds a third, **language**: the share of the thought's words that are in the question's language.

Each reward is a plain function with TRL's keyword contract, so that `trl.GRPOTrainer` takes it as
it is: `f(prompts=, completions=, completion_ids=, <every column of the data set>, trainer_state=,
log_extra=, log_metric=)` returns one number, or None for "does not apply", for each completion. It
may be `async def`, a `functools.partial` or an object with `__call__`.  Our own loop calls the same
functions through `combine`.

**Your own:** such a function in a file, `--rewards accuracy mine.py:short`. Name the keywords that
you read and end the signature with `**kwargs`; `problem` is the list of `Problem`s.

A reward of this module never raises and needs no more than 50 ms for a completion, whatever the
model writes: an hour into a run is a bad time to learn that one completion in a million breaks the
parser.  Where the completion or the problem is broken the reward is 0.0, and never 1.0 (a verifier
that passes what it cannot read is the first thing RL finds).  A broken *problem* is the user's to
put right, so it is also reported once in the log.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError
from r1lab.languages import LONGEST, language_share
from r1lab.tasks import Problem, get_task
from r1lab.templates import parse
from r1lab.training.reward_calls import call, callable_name

logger = logging.getLogger(__name__)

RewardFunction = Callable[..., list[float | None]]


def text_of(completion: Any) -> str:
    """The text of a completion: a string itself, or the last assistant message of a chat.

    A message's content may be a string or a list of parts, [{"type": "text", "text": "…"}].
    Anything else has no text: "".
    """
    if isinstance(completion, str):
        return completion
    messages = completion if isinstance(completion, list | tuple) else [completion]
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role", "assistant") == "assistant":
            content = message.get("content")
            if isinstance(content, str):
                return content
            parts = content if isinstance(content, list | tuple) else []
            texts = [part.get("text") for part in parts if isinstance(part, dict)]
            return "".join(text for text in texts if isinstance(text, str))
    return ""


def accuracy_reward(
    completions: Sequence, *, problem: Any = None, task: Any = None, **kwargs
) -> list[float]:
    """1.0 where the last complete <answer> … </answer> is right by the task's judge, else 0.0.

    completions  strings or chat message lists, N of them
    problem      the problem of each completion, N of Problem | JSON string | dict
    task         the task that all come from; by default the one that each problem names

    The completion need not be well-formed: format has a reward of its own.
    """
    pairs = with_problems(completions, problem)
    return [_accuracy(completion, of, task) for completion, of in pairs]


def _accuracy(completion: Any, of: Any, task: Any) -> float:
    answer = parse(text_of(completion)).answer
    if answer is None:
        return 0.0
    try:
        problem = problem_of(of)
        judge = get_task(problem.task).judge if task is None else task.judge
        return float(judge(problem, answer))
    except Exception as error:  # a broken problem, an unknown task, a judge with a bug
        _report(f"{type(error).__name__}: {error}"[:300])
        return 0.0


def format_reward(completions: Sequence, *, prefilled: bool = False, **kwargs) -> list[float]:
    """1.0 where the completion is <think> … </think> <answer> … </answer> and nothing else.

    prefilled  the template ends with <think>, so that a completion begins inside the thought
    """
    return [
        float(parse(text_of(completion), prefilled=prefilled is True).well_formed)
        for completion in _as_list(completions)
    ]


def language_reward(
    completions: Sequence, *, problem: Any = None, detect: bool = False, **kwargs
) -> list[float]:
    """The share of the thought's words that are in the problem's language, from 0.0 to 1.0.

    R1's language consistency reward (arXiv 2501.12948v2, section 3.2.1, equation 7), added to the
    others because R1-Zero mixes languages; it costs a little accuracy there (supplement B.6).

    detect  tell languages of one script apart as well (see `r1lab.languages`), for real text

    A thought that is missing, not ended or without a word gets 0.0: silence is not consistent.
    """
    return [
        _language(completion, of, detect is True)
        for completion, of in with_problems(completions, problem)
    ]


def _language(completion: Any, of: Any, detect: bool) -> float:
    thought = parse(text_of(completion)).think
    if thought is None:
        return 0.0
    try:
        return language_share(thought[:LONGEST], problem_of(of).language, detect) or 0.0
    except Exception as error:  # a broken problem, an unknown language
        _report(f"{type(error).__name__}: {error}"[:300])
        return 0.0


def detected_language_reward(completions: Sequence, **kwargs) -> list[float]:
    """`language_reward` for real text: languages of one script are told apart too."""
    return language_reward(completions, **kwargs | {"detect": True})


def random_reward(seed: int, p: float = 0.5) -> RewardFunction:
    """The control: a reward function that pays 1.0 with probability `p`, whatever is written.

    A reward is a pure function, a hash of the seed, the step, the problem, the place in the batch
    and the text.  A random generator would have a state, which a checkpoint would have to carry
    and which would depend on who else drew from it; a hash has none, so a run that is stopped and
    resumed gets the very same rewards.  The place in the batch is in the hash so that equal texts
    in a group do not get equal rewards, which would pay for some texts and not for others.
    """
    if not 0 <= p <= 1:
        raise R1LabError(f"random reward: p must lie between 0 and 1, not {p!r}")

    def random_reward(completions: Sequence, *, problem: Any = None, **kwargs) -> list[float]:
        step = kwargs.get("step")
        if step is None:  # TRL's name for it
            step = getattr(kwargs.get("trainer_state"), "global_step", None)
        return [
            float(_uniform(seed, step, _problem_id(of), i, text_of(completion)) < p)
            for i, (completion, of) in enumerate(with_problems(completions, problem))
        ]

    return random_reward


def _uniform(seed: int, step: Any, problem_id: str, index: int, text: str) -> float:
    """A number in [0, 1) from a hash; of a long text, the length and the last 10,000 characters."""
    parts = repr((seed, step if isinstance(step, int) else None, problem_id[:1000], index))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass"))
    digest.update(f"{len(text)}:{text[-10_000:]}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:6], "big") / 2**48  # 48 bits: exact in a float


def paid_where(reward: RewardFunction, good: Callable[[Problem], bool]) -> RewardFunction:
    """The reward on the problems that are `good`; None, "does not apply", on others and on broken
    ones. R1's last stage pays for accuracy on reasoning prompts alone."""

    def paid(completions: Sequence, *, problem: Any = None, **kwargs) -> list[float | None]:
        values = reward(completions, problem=problem, **kwargs)
        asked = [of for _, of in with_problems(completions, problem)]
        return [v if applies(of) else None for v, of in zip(values, asked, strict=True)]

    def applies(of: Any) -> bool:
        try:
            return good(problem_of(of))
        except R1LabError:
            return False

    paid.__name__ = callable_name(reward)
    return paid


REWARDS: dict[str, RewardFunction] = {
    "accuracy": accuracy_reward,
    "format": format_reward,
    "language": language_reward,
    "detected_language": detected_language_reward,
}


NAMED = ChainMap({"random": random_reward}, REWARDS)  # every name of ours


def get_reward(name: str | RewardFunction, seed: int = 0) -> RewardFunction:
    """A reward by its name in a config: one of REWARDS, "random" with the run's seed, FILE.py:NAME
    or an installed package's (`basics.plugins`). A function is itself.

    Raises R1LabError for an unknown name and for what cannot be called.
    """
    if name == "random":
        return random_reward(seed)
    found = plugins.find("reward", name, NAMED) if isinstance(name, str) else name
    if not callable(found) or isinstance(found, type):
        raise R1LabError(f"reward {name} must be a function of completions, not {found!r}")
    return found


def reward_name(function: RewardFunction) -> str:
    """The name under which a reward is reported: "accuracy" for accuracy_reward."""
    for name, known in REWARDS.items():
        if known is function:
            return name
    return callable_name(function).removesuffix("_reward")


def check_weights(weights: Iterable[Any]) -> None:
    """R1LabError unless all are finite numbers."""
    for weight in weights:
        if isinstance(weight, bool | str) or not isinstance(weight, int | float):
            raise R1LabError(f"reward_weights must be numbers, not {weight!r}")
        if not math.isfinite(weight):
            raise R1LabError(f"reward_weights must be finite, not {weight}")


def combine(
    completions: Sequence,
    problems: Sequence,
    rewards: Sequence[RewardFunction],
    weights: Sequence[float],
    **context: Any,
) -> tuple[list[float], dict[str, list[float]]]:
    """The weighted sum of several rewards, and each of them by name, unweighted.

    completions, problems  N of each, as for `accuracy_reward`
    rewards, weights       K functions and K weights
    context                handed on to every reward, as for `values_of`
    returns                total (N values), parts {name: N values}

    Raises R1LabError if the lengths do not match, and as `values_of`.
    """
    names = [reward_name(function) for function in rewards]
    if len(weights) != len(names) or len(set(names)) != len(names) or not names:
        raise R1LabError(f"rewards {names} need different names and one weight each: {weights}")
    check_weights(weights)
    parts = {
        name: values_of(function, completions, problems, **context)
        for name, function in zip(names, rewards, strict=True)
    }
    return weighted(parts, weights), parts


def weighted(parts: Mapping[str, Sequence[float]], weights: Sequence[float]) -> list[float]:
    """The sum of K rewards of N values each, every one times its weight: N values."""
    rows = zip(*parts.values(), strict=True)
    return [sum(w * value for w, value in zip(weights, row, strict=True)) for row in rows]


def values_of(
    function: RewardFunction, completions: Sequence, problems: Sequence, **context: Any
) -> list[float]:
    """One reward of N completions: numbers, 0.0 for None. Both backends call a reward through this.

    context  more keywords for it: those of TRL's contract, `step`, `task`. Raises R1LabError (see
             `training.reward_calls`).
    """
    problems = [_as_problem(of) for of in problems]
    return call(function, f"reward {reward_name(function)}", completions, problems, **context)


def _as_problem(of: Any) -> Any:
    """A problem that came as text (TRL's data sets hold it so); anything else as it is."""
    try:
        return _problem_from_json(of) if isinstance(of, str) else of
    except R1LabError:
        return of


# -- reading what arrives ---------------------------------------------------------------------


def _as_list(values: Any) -> list:
    """A batch as a list; a single completion or problem is a batch of one; nonsense is empty."""
    if isinstance(values, str | dict | Problem):
        return [values]
    try:
        return list(values)
    except TypeError:
        return []


def with_problems(completions: Any, problems: Any) -> list[tuple[Any, Any]]:
    """Each completion with its problem, or with None where there are too few problems."""
    completions, problems = _as_list(completions), _as_list(problems)
    missing = [None] * (len(completions) - len(problems))
    return list(zip(completions, problems + missing, strict=False))


@lru_cache(maxsize=4096)
def _problem_from_json(text: str) -> Problem:
    return Problem.from_json(text)


def problem_of(of: Any) -> Problem:
    """The problem that arrived with a completion.  Raises R1LabError if it is none."""
    if isinstance(of, Problem):
        return of
    return _problem_from_json(of) if isinstance(of, str) else Problem.from_dict(of)


def _problem_id(of: Any) -> str:
    try:
        return problem_of(of).id
    except Exception:
        return ""


@lru_cache(maxsize=64)
def _report(reason: str) -> None:
    """Log a reason once; the cache makes the second time do nothing."""
    logger.warning("a reward is 0 because the problem cannot be judged: %s", reason)

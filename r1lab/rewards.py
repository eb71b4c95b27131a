"""Rule-based rewards (arXiv 2501.12948v2, section 2.2, equation 4):

    Reward_rule = Reward_acc + Reward_format

- **accuracy**: 1 if the task's verifier accepts the answer, else 0;
- **format**: 1 if the completion is one `<think>` block and then one `<answer>` block, else 0.

R1 adds **language**: the fraction of the thought's words that are in the prompt's language. Later
and failed ones: **overlong** (DAPO), **process** (given up in the paper).

Each reward is a function with TRL's keyword contract, so `trl.GRPOTrainer` takes it as it is:
`f(prompts=, completions=, completion_ids=, <every column of the data set>, trainer_state=,
log_extra=, log_metric=)` returns one number, or None for "does not apply", per completion. It may
be `async def`, a `functools.partial` or an object with `__call__`.

**Your own:** such a function in a file, `--rewards accuracy mine.py:short`. Name the keywords that
you read and end the signature with `**kwargs`; `problem` is the list of `Problem`s.

The rewards here never raise (but overlong without its limit) and take at most 50 ms per completion;
programs take what the sandbox allows them, a batch at once. A broken completion or problem gets
0.0; a broken *problem* is also logged once.
"""

import hashlib
import logging
import math
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from statistics import fmean
from typing import Any

from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError
from r1lab.languages import LONGEST, language_share
from r1lab.tasks import Problem
from r1lab.tasks.code.monitor import memorises
from r1lab.tasks.code.suite import program_of
from r1lab.tasks.expression import COMPUTE
from r1lab.tasks.verdicts import judge_all
from r1lab.templates import parse
from r1lab.training.reward_calls import call, callable_name

logger = logging.getLogger(__name__)

RewardFunction = Callable[..., list[float | None]]


def text_of(completion: Any) -> str:
    """A string itself, or the last assistant message of a chat, whose content may be a list of
    parts, [{"type": "text", "text": "…"}]; "" for anything else."""
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
    """1.0 where the verifier accepts the last complete <answer> … </answer>, else 0.0, whether or
    not the completion is well-formed. Programs of all completions run at once.

    completions  strings or chat message lists, N of them
    problem      N of Problem | JSON string | dict
    task         the task of all of them; by default the one that each problem names

    An answer that the sandbox could not judge is neither right nor wrong: it gets the mean of the
    other completions of its problem, so its advantage is 0 and theirs stay as they are. log_metric
    gets the number of such answers as "unjudged". Raises R1LabError where no sandbox holds."""
    pairs = with_problems(completions, problem)
    values: list[Any] = [0.0] * len(pairs)
    asked: dict[int, tuple[Problem, str]] = {}
    for i, (completion, of) in enumerate(pairs):
        if (answer := parse(text_of(completion)).answer) is not None:
            try:
                asked[i] = problem_of(of), answer
            except R1LabError as error:
                _report(f"R1LabError: {error}"[:300])
    for i, verdict in zip(asked, judge_all(list(asked.values()), task), strict=True):
        values[i] = None if verdict is None else float(verdict)
    if unjudged := values.count(None):
        kwargs.get("log_metric", lambda name, value: None)("unjudged", unjudged)
        ids = [of and of.id for of in (problem_or_none(of) for _, of in pairs)]
        known = [(key, value) for key, value in zip(ids, values, strict=True) if value is not None]
        for i in (i for i, value in enumerate(values) if value is None):
            values[i] = fmean([value for key, value in known if key == ids[i]] or [0.0])
    return values


def _each(completions: Sequence, problems: Any, reward: Callable) -> list[float]:
    """`reward(text, problem)` of each completion; 0.0, and a line in the log, where that fails."""
    values = []
    for completion, of in with_problems(completions, problems):
        try:
            values.append(float(reward(text_of(completion), of)))
        except Exception as error:  # a broken problem, an unknown task, a verifier with a bug
            _report(f"{type(error).__name__}: {error}"[:300])
            values.append(0.0)
    return values


def format_reward(completions: Sequence, *, prefilled: bool = False, **kwargs) -> list[float]:
    """1.0 where the completion is <think> … </think> <answer> … </answer> and nothing else, else
    0.0.  prefilled: the template ends with <think>."""
    texts = map(text_of, _as_list(completions))
    return [float(parse(text, prefilled=prefilled is True).well_formed) for text in texts]


def language_reward(
    completions: Sequence, *, problem: Any = None, detect: bool = False, **kwargs
) -> list[float]:
    """R1's language consistency reward (arXiv 2501.12948v2, section 3.2.1, equation 7): fraction
    of the thought's words in the prompt's language; 0.0 for a thought that is missing, truncated or
    without words. detect: distinguish languages of one script too (`r1lab.languages`)."""

    def one(text: str, of: Any) -> float:
        thought = parse(text).think
        if thought is None:
            return 0.0
        return language_share(thought[:LONGEST], problem_of(of).language, detect is True) or 0.0

    return _each(completions, problem, one)


def detected_language_reward(completions: Sequence, **kwargs) -> list[float]:
    """`language_reward` with `detect`, for real text."""
    return language_reward(completions, **kwargs | {"detect": True})


def monitor_reward(completions: Sequence, *, problem: Any = None, **kwargs) -> list[float]:
    """A monitor against reward hacking in code: -1.0 where the answer is a program that holds the
    prompt's examples (`r1lab.tasks.code.monitor`), else 0.0. It sees no hidden tests."""

    def one(text: str, of: Any) -> float:
        answer, examples = parse(text).answer, problem_of(of).data.get("examples")
        if answer is None or not isinstance(examples, list):
            return 0.0
        return -1.0 if memorises(program_of(answer), examples) else 0.0

    return _each(completions, problem, one)


def overlong_reward(
    completions: Sequence,
    *,
    completion_ids: Sequence = (),
    max_new_tokens: int | None = None,
    buffer: int | None = None,
    **kwargs,
) -> list[float]:
    """DAPO's soft overlong punishment (arXiv 2503.14476, section 3.4, equation 13): 0.0 up to
    max_new_tokens - buffer tokens, falling to -1.0 at max_new_tokens. buffer: by default a fifth
    of the limit, as there (4,096 of 20,480). Needs completion_ids and the limit."""
    if not max_new_tokens:
        raise R1LabError("the reward overlong needs max_new_tokens, the length limit")
    buffer = buffer or max(1, max_new_tokens // 5)
    over = (len(ids) - (max_new_tokens - buffer) for ids in completion_ids)
    return [-min(1.0, max(0, one) / buffer) for one in over]


N = "([0-9]{1,9})"
EQUATION = re.compile(rf"(?<![0-9])(?={N} ?([-+*/]) ?{N} ?[=→] ?{N}(?![0-9]))")  # may overlap


def process_reward(completions: Sequence, **kwargs) -> list[float]:
    """A process reward: the number of true steps in the thought, whatever they are good for; "10 +
    7 → 17 + 6 → 23" has two, "10 + 7 = 17" one. The paper gave up process rewards (arXiv
    2501.12948v1, section 4.2, "Unsuccessful Attempts"), and this one shows why: a thought that says
    "1 + 1 → 2" a hundred times gets a reward of 100."""

    def true(a: str, sign: str, b: str, c: str) -> bool:
        if sign == "/":
            return int(b) != 0 and int(a) == int(b) * int(c)
        return COMPUTE[sign](int(a), int(b)) == int(c)

    thoughts = (parse(text_of(text)).think or "" for text in _as_list(completions))
    return [float(sum(true(*found) for found in EQUATION.findall(text))) for text in thoughts]


def random_reward(seed: int, p: float = 0.5) -> RewardFunction:
    """The control: a reward of 1.0 with probability `p`, whatever the text. A hash of seed, step,
    problem, place in the batch (equal texts must not get equal rewards) and text: it has no state,
    so a resumed run gets the same rewards."""
    if not 0 <= p <= 1:
        raise R1LabError(f"random reward: p must lie between 0 and 1, not {p!r}")

    def random_reward(completions: Sequence, *, problem: Any = None, **kwargs) -> list[float]:
        step = kwargs.get("step")
        if step is None:  # TRL's name for it
            step = getattr(kwargs.get("trainer_state"), "global_step", None)
        pairs = enumerate(with_problems(completions, problem))
        return [float(_uniform(seed, step, of, i, text_of(text)) < p) for i, (text, of) in pairs]

    return random_reward


def _uniform(seed: int, step: Any, problem: Any, index: int, text: str) -> float:
    """In [0, 1), from a hash; of a long text, the length and the last 10,000 characters."""
    known = problem_or_none(problem)
    key = known.id[:1000] if known else ""
    parts = repr((seed, step if isinstance(step, int) else None, key, index))
    digest = hashlib.sha256(parts.encode("utf-8", "surrogatepass"))
    digest.update(f"{len(text)}:{text[-10_000:]}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:6], "big") / 2**48  # 48 bits: exact in a float


def paid_where(reward: RewardFunction, good: Callable[[Problem], bool]) -> RewardFunction:
    """The reward on `good` problems; None, "does not apply", on others and broken ones."""

    def paid(completions: Sequence, *, problem: Any = None, **kwargs) -> list[float | None]:
        values = reward(completions, problem=problem, **kwargs)
        known = [problem_or_none(of) for _, of in with_problems(completions, problem)]
        return [v if of and good(of) else None for v, of in zip(values, known, strict=True)]

    paid.__name__ = callable_name(reward)
    return paid


REWARDS: dict[str, RewardFunction] = {"accuracy": accuracy_reward, "format": format_reward}
REWARDS |= {"language": language_reward, "detected_language": detected_language_reward}
REWARDS |= {"monitor": monitor_reward, "overlong": overlong_reward, "process": process_reward}
NAMED = ChainMap({"random": random_reward}, REWARDS)


def get_reward(name: str | RewardFunction, seed: int = 0) -> RewardFunction:
    """A reward by name: of REWARDS, "random" with the run's seed, FILE.py:NAME or an installed
    package's (`basics.plugins`); a function is itself. Raises R1LabError."""
    if name == "random":
        return random_reward(seed)
    found = plugins.find("reward", name, NAMED) if isinstance(name, str) else name
    if not callable(found) or isinstance(found, type):
        raise R1LabError(f"reward {name} must be a function of completions, not {found!r}")
    return found


def reward_name(function: RewardFunction) -> str:
    """The name in metrics: "accuracy" for accuracy_reward."""
    named = (name for name, known in REWARDS.items() if known is function)
    return next(named, callable_name(function).removesuffix("_reward"))


def check_weights(weights: Iterable[Any]) -> None:
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
    """The weighted sum of K rewards of N completions (N values), and each reward by name,
    unweighted ({name: N values}). context: as for `values_of`. Raises R1LabError."""
    names = [reward_name(function) for function in rewards]
    if len(weights) != len(names) or len(set(names)) != len(names) or not names:
        raise R1LabError(f"rewards {names} need different names and one weight each: {weights}")
    check_weights(weights)
    pairs = zip(names, rewards, strict=True)
    parts = {name: values_of(one, completions, problems, **context) for name, one in pairs}
    rows = zip(*parts.values(), strict=True)
    return [sum(w * v for w, v in zip(weights, row, strict=True)) for row in rows], parts


def values_of(
    function: RewardFunction, completions: Sequence, problems: Sequence, **context: Any
) -> list[float]:
    """One reward of N completions: numbers, 0.0 for None. context: more keywords, those of TRL's
    contract, `step`, `task`. Raises R1LabError (see `training.reward_calls`)."""
    # TRL's data sets hold problems as text
    read = [(problem_or_none(of) if isinstance(of, str) else of) or of for of in problems]
    return call(function, f"reward {reward_name(function)}", completions, read, **context)


def _as_list(values: Any) -> list:
    """A single item is a batch of one; what cannot be iterated is empty."""
    if isinstance(values, str | dict | Problem):
        return [values]
    try:
        return list(values)
    except TypeError:
        return []


def with_problems(completions: Any, problems: Any) -> list[tuple[Any, Any]]:
    """Each completion with its problem, or None where there are too few."""
    completions, problems = _as_list(completions), _as_list(problems)
    missing = [None] * (len(completions) - len(problems))
    return list(zip(completions, problems + missing, strict=False))


@lru_cache(maxsize=4096)
def _problem_from_json(text: str) -> Problem:
    return Problem.from_json(text)


def problem_of(of: Any) -> Problem:
    """Raises R1LabError for what is no problem."""
    if isinstance(of, Problem):
        return of
    return _problem_from_json(of) if isinstance(of, str) else Problem.from_dict(of)


def problem_or_none(of: Any) -> Problem | None:
    with suppress(R1LabError):
        return problem_of(of)


@lru_cache(maxsize=64)
def _report(reason: str) -> None:
    logger.warning("a reward is 0 because the problem cannot be judged: %s", reason)

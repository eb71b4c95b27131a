"""Evaluation of a model: pass@1, pass@k, cons@k and behaviours, each with a 95 % interval.

Every problem gets n sampled responses, of which c are correct:

* **pass@1**, the probability that a response is correct: the mean of c / n over problems. The paper
  reports it from several samples, since one greedy response of a long reasoner is noisy
  (Supplementary Information 4.1 of the Nature paper);
* **pass@k**, the probability that at least one of k responses is correct. Unbiased estimate from
  all n samples, the probability that k of them, drawn without replacement, are not all wrong:

      pass@k = 1 - C(n - c, k) / C(n, k)                           (Chen et al. 2021, eq. 1)

* **cons@k**, the probability that the majority vote of k responses is correct (cons@16 in the
  paper's figure 1).

Problems vary more than samples of one problem, so intervals bootstrap over problems. They do not
show how results vary with the training seed: that takes several seeds (`r1lab.course.seeds`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from tqdm.std import tqdm

from r1lab.answers import Completion, measure_all
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import to_json
from r1lab.machine.device import in_type, precision_on
from r1lab.sampler.rollouts import Rollouts, Sampling, sample
from r1lab.sampler.score import max_positions
from r1lab.statistics import Estimate, estimate
from r1lab.tasks.base import Problem
from r1lab.templates import encode, end_ids, prompt_of, read, too_long

QUESTIONS_AT_ONCE = 32  # prompts sampled together; each such batch has a seed of its own


def pass_at_k(n, c, k: int) -> np.ndarray:
    """The unbiased estimate of the probability that at least one of k responses is correct.

    n, c: samples and correct samples per problem, numbers or arrays (P,). Returns (P,) in [0, 1].
    C(n - c, k) / C(n, k) is computed as the product of (n - c - i) / (n - i) for i < k, which does
    not overflow. Raises R1LabError unless 0 <= c <= n and 1 <= k <= n. Chen et al. 2021, eq. 1.
    """
    n, c = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(c, dtype=float))
    if np.any(c < 0) or np.any(c > n):
        raise R1LabError("pass@k: the correct samples c must lie between 0 and the samples n.")
    if not 1 <= k <= n.min(initial=math.inf):
        raise R1LabError(
            f"pass@{k} needs between 1 and n samples per problem: draw more than n = "
            f"{n.min(initial=math.inf):.0f} or ask for a smaller k."
        )
    all_wrong = np.ones_like(n)
    for i in range(int(k)):
        all_wrong *= np.clip(n - c - i, 0, None) / (n - i)
    return 1.0 - all_wrong


def majority(
    votes: Sequence[str | None], correct: Sequence[bool], subsets: np.ndarray | None = None
) -> float:
    """Whether the majority vote is correct: 1.0, 0.0, or the mean over the answers that tie.

    Samples without a valid answer (None) do not vote; where none votes, the result is 0. subsets:
    indices (S, k) of samples; the mean over these votes."""
    answers = sorted({vote for vote in votes if vote is not None})
    if not answers:
        return 0.0
    subsets = np.arange(len(votes))[None] if subsets is None else subsets
    member = np.array([[vote == answer for answer in answers] for vote in votes])  # (n, A)
    right = np.asarray(correct, dtype=float)  # (n,)
    count = member[subsets].sum(axis=1)  # (S, A)
    hits = (member * right[:, None])[subsets].sum(axis=1)  # (S, A)
    winner = (count == count.max(axis=1, keepdims=True)) & (count > 0)  # (S, A)
    value = np.divide(hits, count, out=np.zeros_like(hits), where=count > 0)  # (S, A)
    return float(((value * winner).sum(axis=1) / np.maximum(winner.sum(axis=1), 1)).mean())


def cons_at_k(
    votes: Sequence[Sequence[str | None]],
    correct: Sequence[Sequence[bool]],
    k: int,
    *,
    subsamples: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Expected accuracy of the majority vote over k of each problem's n samples: (P,).

    votes, correct: (P, n), the canonical answer (None: no valid answer) and whether it is correct.
    Exact where there are at most `subsamples` ways to choose k of n, else the mean over so many
    seeded draws without replacement. Raises R1LabError unless 1 <= k <= n."""
    values = []
    for p, (vote, right) in enumerate(zip(votes, correct, strict=True)):
        n = len(vote)
        if not 1 <= k <= n:
            raise R1LabError(f"cons@{k} needs at least {k} samples per problem, but there are {n}.")
        if math.comb(n, k) <= subsamples:
            subsets = np.array(list(combinations(range(n), k)))  # (S, k)
        else:
            rng = np.random.default_rng((seed, p))
            subsets = rng.random((subsamples, n)).argsort(axis=1)[:, :k]  # (S, k)
        values.append(majority(vote, right, subsets))
    return np.array(values)


def _mean_of(field: str, doc: str, *, share: bool = True) -> property:
    """A measure of an `Evaluation`: the mean of a field of its completions."""
    return property(lambda self: self._estimate(self.per_problem(field), share=share), doc=doc)


@dataclass
class Evaluation:
    """n sampled responses to each of P problems; measures are an `Estimate` over problems."""

    problems: list[Problem]  # (P,)
    completions: list[list[Completion]]  # (P, n)
    settings: dict[str, Any] = field(default_factory=dict)  # how it was sampled
    seconds: float = 0.0

    def column(self, name: str) -> np.ndarray:
        """One field of all completions as an array (P, n); None becomes NaN in numbers."""
        rows = [[getattr(one, name) for one in row] for row in self.completions]
        return np.array(rows, dtype=object if name in ("text", "vote") else float)

    def per_problem(self, name: str) -> np.ndarray:
        """Mean of a field over each problem's samples: (P,); NaN where no sample has it."""
        values = self.column(name)  # (P, n)
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):  # 0 / 0: NaN
            return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)

    @property
    def n(self) -> np.ndarray:
        """Samples per problem (P,), without those that the sandbox could not judge."""
        return np.array([sum(one.correct is not None for one in row) for row in self.completions])

    @property
    def c(self) -> np.ndarray:
        """Correct samples per problem (P,)."""
        return np.array([sum(bool(one.correct) for one in row) for row in self.completions])

    def _estimate(self, values: np.ndarray, *, share: bool) -> Estimate:
        return estimate(values, self.settings.get("seed", 0), share=share)

    def pass_at(self, k: int) -> Estimate:
        """The probability that at least one of k responses is correct."""
        some = self._judged(k)
        return self._estimate(pass_at_k(some.n, some.c, k), share=True)

    def cons_at(self, k: int) -> Estimate:
        """The probability that the majority vote of k responses is correct."""
        some = self._judged(k).completions
        rows = [[one for one in row if one.correct is not None] for row in some]
        votes = [[one.vote for one in row] for row in rows]
        correct = [[one.correct for one in row] for row in rows]
        values = cons_at_k(votes, correct, k, seed=self.settings.get("seed", 0))
        return self._estimate(values, share=True)

    @property
    def unjudged(self) -> int:
        """Responses that the sandbox could not judge: neither right nor wrong."""
        return int(sum(map(len, self.completions)) - self.n.sum())

    def _judged(self, k: int) -> Evaluation:
        """Without problems of which the sandbox left fewer than k responses."""
        rows = enumerate(zip(self.completions, self.n, strict=True))
        return self.at([i for i, (row, n) in rows if n >= k or n == len(row)])

    @property
    def accuracy(self) -> Estimate:
        """pass@1."""
        return self.pass_at(1)

    length = _mean_of("length", "Tokens per response.", share=False)
    reflection = _mean_of("reflection", "Reflective words per response.", share=False)
    format = _mean_of("well_formed", "Fraction of well-formatted responses.")
    consistency = _mean_of("consistency", "Fraction of a thought's words in the prompt's language.")
    mixed = _mean_of("mixed", "Fraction of responses whose thought mixes languages.")

    @property
    def truncated(self) -> Estimate:
        """Fraction of responses truncated at the length limit."""
        return self._estimate(1.0 - self.per_problem("finished"), share=True)

    def summary(self) -> dict[str, Estimate]:
        """The main measures: {name: (value, low, high)}."""
        k = min(map(len, self.completions))
        measures = {"pass@1": self.accuracy}
        if k > 1:
            measures |= {f"pass@{k}": self.pass_at(k), f"cons@{k}": self.cons_at(k)}
        names = ("length", "reflection", "format", "consistency", "mixed", "truncated")
        return measures | {name: getattr(self, name) for name in names}

    def among(self, good: Callable[[Any], bool]) -> Evaluation:
        """The evaluation restricted to the problems for which `good` holds."""
        return self.at([i for i, problem in enumerate(self.problems) if good(problem)])

    def at(self, places: Sequence[int]) -> Evaluation:
        """The evaluation of the problems at these places, in this order."""
        problems, rows = ([part[i] for i in places] for part in (self.problems, self.completions))
        return replace(self, problems=problems, completions=rows)

    def to_json(self) -> str:
        """JSON for `from_json`: everything but token ids and log-probs."""
        heavy = ("token_ids", "logprobs")
        rows = [
            [{k: v for k, v in vars(one).items() if k not in heavy} for one in row]
            for row in self.completions
        ]
        about = {"settings": self.settings, "seconds": self.seconds}
        problems = [asdict(problem) for problem in self.problems]
        return to_json(about | {"problems": problems, "completions": rows})

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        try:
            data = json.loads(text)
            problems = [Problem(**problem) for problem in data["problems"]]
            rows = [[Completion(**one) for one in row] for row in data["completions"]]
            return cls(problems, rows, data["settings"], data["seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise R1LabError(
                f"this is not an evaluation written by r1lab ({error}); run `r1lab eval` again."
            ) from error


def evaluate(
    model,
    tokenizer,
    task,
    problems: Sequence[Any],
    *,
    k: int = 16,
    sampling: Sampling | None = None,
    template: str = "tiny",
    progress: bool = False,
) -> Evaluation:
    """Sample k responses to each problem and measure them.

    Sampling is seeded per batch (None counts as 0): same model and seed, same responses.
    Temperature 1 and top_p 1 measure the distribution that RL trains; the paper evaluates with 0.6
    and 0.95. The model's training mode is restored. Raises R1LabError, before sampling, when there
    is nothing to evaluate and for prompts that do not fit the model.
    """
    sampling = sampling or Sampling()
    sampling = replace(sampling, seed=sampling.seed or 0)
    check_fit(model, tokenizer, problems, k, sampling, template)
    began = time.perf_counter()
    completions: list[list[Completion]] = []
    starts = range(0, len(problems), QUESTIONS_AT_ONCE)
    for start in tqdm(starts, desc="evaluate", unit="batch", disable=not progress):
        batch = problems[start : start + QUESTIONS_AT_ONCE]
        how = replace(sampling, seed=seed_of(sampling, start))
        drawn, texts = respond(model, tokenizer, batch, k, how, template)
        of = [problem for problem in batch for _ in range(k)]  # prompt-major: (B * k)
        lengths = [len(ids) for ids in drawn.completion_ids]
        found = measure_all(of, texts, lengths, drawn.finished, task=task)
        for i, one in enumerate(found):
            one.token_ids, one.logprobs = drawn.completion_ids[i], drawn.logprobs[i]
        completions += [found[b * k : (b + 1) * k] for b in range(len(batch))]
    settings = {"k": k, **asdict(sampling), "template": template}
    settings["batch_questions"] = QUESTIONS_AT_ONCE
    return Evaluation(list(problems), completions, settings, time.perf_counter() - began)


def as_trained(model, tokenizer, task, problems: Sequence[Any], config, k: int = 4) -> Evaluation:
    """`evaluate` of the policy as a run samples it. config: the run's `GRPOConfig`, for its
    template, length limit, temperature, seed and precision."""
    if precision_on(model.device, config.precision) == "bf16":
        model = in_type(model, torch.bfloat16)
    sampling = Sampling(config.max_new_tokens, config.temperature, seed=config.seed)
    how = {"k": k, "sampling": sampling, "template": config.template}
    return evaluate(model, tokenizer, task, problems, **how)


def seed_of(sampling: Sampling, start: int) -> int:
    """The seed of the batch that begins with problem `start`."""
    return (sampling.seed or 0) * 1_000_003 + start


def respond(
    model, tokenizer, batch: Sequence[Any], k: int, sampling: Sampling, template: str
) -> tuple[Rollouts, list[str]]:
    """k responses to each of B problems: rollouts and their texts (B * k), prompt-major. The
    model's training mode is restored."""
    was_training = model.training
    model.eval()
    try:
        prompts = [prompt_of(tokenizer, one, template) for one in batch]
        ids, ends = encode(tokenizer, prompts), end_ids(model, tokenizer, template)
        drawn = sample(model, ids, sampling, group_size=k, eos_token_id=ends)
        return drawn, read(tokenizer, drawn, template, prompts)
    finally:
        model.train(was_training)


def check_fit(
    model, tokenizer, problems: Sequence[Any], k: int, sampling: Sampling, template: str
) -> None:
    """Raises R1LabError when there is nothing to evaluate, and for prompts that do not fit."""
    if not problems or k < 1:
        raise R1LabError("nothing to evaluate: give at least one problem and k >= 1 samples.")
    room = max_positions(model) - sampling.max_new_tokens
    if long := too_long(tokenizer, problems, template, room):
        first, size = next(iter(long.items()))
        raise R1LabError(
            f"{len(long)} of {len(problems)} prompts do not fit: the model's positions leave "
            f"{room} tokens beside max_new_tokens ({sampling.max_new_tokens}), and "
            f"{problems[first].id} has {size}. Lower max_new_tokens, or leave such problems out"
        )


def difference(before: Evaluation, after: Evaluation, measure: str = "accuracy") -> Estimate:
    """The change of a measure ("accuracy" or a field of Completion) between two models, paired by
    problem. Raises R1LabError when the problems differ."""
    if [p.id for p in before.problems] != [p.id for p in after.problems]:
        raise R1LabError(
            "a paired difference needs the same problems in the same order: use one list for both"
        )
    name = "correct" if measure == "accuracy" else measure
    change = after.per_problem(name) - before.per_problem(name)
    return estimate(change, before.settings.get("seed", 0))

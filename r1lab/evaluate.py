"""How good is a model, and how does it behave? Measures of R1, each with its uncertainty.

One answer to one question says little about a model that samples. So every question is asked n
times, and from the n answers, of which c are right, we read

* **pass@1**, the chance that one answer is right: the mean of c / n over the problems. The paper
  reports it this way, with several samples a question, because a single greedy answer of a long
  reasoner is noisy (Supplementary Information 4.1 of the Nature paper);
* **pass@k**, the chance that at least one of k answers is right. Counting "any right among the
  first k" wastes the other n - k samples; the unbiased estimate from all of them is

      pass@k = 1 - C(n - c, k) / C(n, k)                           (Chen et al. 2021, eq. 1)

  one minus the chance that k answers drawn without replacement are all wrong. It says what the
  model *can* do, pass@1 what it *usually* does: RL moves the second towards the first;
* **cons@k**, the chance that the answer most of k samples agree on is right (cons@16 in the
  paper's figure 1). It needs no judge to choose, only a way to see that two answers are the same.

Problems differ far more than samples of one problem do, so **intervals resample problems**: draw
as many problems as there are, with replacement, take the mean, repeat; the middle 95 % is the
interval. It says how much the figure would move with other problems of the same kind. It does not
say how much it would move with another training seed: that takes several seeds (r1lab.figures).

Behaviours are counted on the same samples: length, reflective words, format, language.
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
from tqdm.std import tqdm

from r1lab.answers import Completion, measure
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import to_json
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import max_positions
from r1lab.statistics import Estimate, estimate
from r1lab.tasks.base import Problem
from r1lab.templates import encode, end_ids, read, render, too_long

QUESTIONS_AT_ONCE = 32  # prompts sampled together; each such batch has a seed of its own

# --- right answers -------------------------------------------------------------------------------


def pass_at_k(n, c, k: int) -> np.ndarray:
    """The unbiased chance that at least one of k answers is right, for each problem.

    n, c: samples and right samples a problem, numbers or arrays (P,). Returns (P,) in [0, 1].
    C(n - c, k) / C(n, k) is the product of (n - c - i) / (n - i) for i < k: factors between 0 and
    1, so nothing overflows however large n and k are. Fewer than k wrong answers make it 0.
    Raises R1LabError unless 0 <= c <= n and 1 <= k <= n. Source: Chen et al. 2021, eq. 1.
    """
    n, c = np.broadcast_arrays(np.asarray(n, dtype=float), np.asarray(c, dtype=float))
    if np.any(c < 0) or np.any(c > n):
        raise R1LabError("pass@k: the right answers c must lie between 0 and the samples n.")
    if not 1 <= k <= n.min(initial=math.inf):
        raise R1LabError(
            f"pass@{k} needs between 1 and n samples a problem: draw more than n = "
            f"{n.min(initial=math.inf):.0f} or ask for a smaller k."
        )
    all_wrong = np.ones_like(n)
    for i in range(int(k)):
        all_wrong *= np.clip(n - c - i, 0, None) / (n - i)
    return 1.0 - all_wrong


def majority(votes: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Is the answer that most samples agree on right? 1.0, 0.0, or between when votes tie.

    A tie between m answers is broken by chance, so it counts as the mean over the m: the expected
    value, exact, no seed needed. Samples without a valid answer (None) do not vote; when none
    does, there is no answer, which is wrong.
    """
    ballots: dict[str, list[bool]] = {}
    for vote, right in zip(votes, correct, strict=True):
        if vote is not None:
            ballots.setdefault(vote, []).append(bool(right))
    if not ballots:
        return 0.0
    most = max(len(ballot) for ballot in ballots.values())
    return float(np.mean([np.mean(b) for b in ballots.values() if len(b) == most]))


def cons_at_k(
    votes: Sequence[Sequence[str | None]],
    correct: Sequence[Sequence[bool]],
    k: int,
    *,
    subsamples: int = 200,
    seed: int = 0,
) -> np.ndarray:
    """Expected accuracy of the majority vote over k of each problem's n samples: (P,).

    votes, correct: (P, n), the canonical answer (None: no valid answer) and whether it is right.
    Where there are no more than `subsamples` ways to choose k of n (always so for k = n), all are
    counted and the value is exact; else it is the mean over that many seeded draws without
    replacement. Ties and invalid votes as in `majority`. Raises R1LabError unless 1 <= k <= n.
    """
    values = []
    for p, (vote, right) in enumerate(zip(votes, correct, strict=True)):
        n = len(vote)
        if not 1 <= k <= n:
            raise R1LabError(f"cons@{k} needs at least {k} samples a problem, but there are {n}.")
        if math.comb(n, k) <= subsamples:
            subsets = np.array(list(combinations(range(n), k)))  # (S, k)
        else:
            rng = np.random.default_rng((seed, p))
            subsets = rng.random((subsamples, n)).argsort(axis=1)[:, :k]  # (S, k)
        values.append(_mean_majority(vote, right, subsets))
    return np.array(values)


def _mean_majority(
    votes: Sequence[str | None], correct: Sequence[bool], subsets: np.ndarray
) -> float:
    """The mean of `majority` over subsets (S, k) of one problem's samples, all at once."""
    answers = sorted({vote for vote in votes if vote is not None})
    if not answers:
        return 0.0
    member = np.array([[vote == answer for answer in answers] for vote in votes])  # (n, A)
    right = np.asarray(correct, dtype=float)  # (n,)
    count = member[subsets].sum(axis=1)  # (S, A)
    hits = (member * right[:, None])[subsets].sum(axis=1)  # (S, A)
    winner = (count == count.max(axis=1, keepdims=True)) & (count > 0)  # (S, A)
    value = np.divide(hits, count, out=np.zeros_like(hits), where=count > 0)  # (S, A)
    return float(((value * winner).sum(axis=1) / np.maximum(winner.sum(axis=1), 1)).mean())


def _mean_of(field: str, doc: str, *, share: bool = True) -> property:
    """A measure of an `Evaluation`: the mean of a field of its completions."""
    return property(lambda self: self._estimate(self.per_problem(field), share=share), doc=doc)


@dataclass
class Evaluation:
    """n sampled answers to each of P problems, and every measure of this module on them.

    All measures are an `Estimate`: mean over problems with a 95 % interval over problems.
    """

    problems: list[Any]  # (P,) r1lab.tasks.base.Problem
    completions: list[list[Completion]]  # (P, n)
    settings: dict[str, Any] = field(default_factory=dict)  # how it was sampled
    seconds: float = 0.0

    def column(self, name: str) -> np.ndarray:
        """One field of all completions as an array (P, n); None becomes NaN in numbers."""
        rows = [[getattr(one, name) for one in row] for row in self.completions]
        if name in ("text", "vote"):
            return np.array(rows, dtype=object)
        return np.array(rows, dtype=float)

    def per_problem(self, name: str) -> np.ndarray:
        """Mean of a field over each problem's samples: (P,); NaN where no sample has it."""
        values = self.column(name)  # (P, n)
        known = ~np.isnan(values)
        return np.divide(
            np.where(known, values, 0).sum(axis=1),
            known.sum(axis=1),
            out=np.full(len(values), np.nan),
            where=known.any(axis=1),
        )

    @property
    def n(self) -> np.ndarray:
        """Samples of each problem (P,)."""
        return np.array([len(row) for row in self.completions])

    @property
    def c(self) -> np.ndarray:
        """Right samples of each problem (P,)."""
        return np.array([sum(one.correct for one in row) for row in self.completions])

    def _estimate(self, values: np.ndarray, *, share: bool) -> Estimate:
        return estimate(values, self.settings.get("seed", 0), share=share)

    def pass_at(self, k: int) -> Estimate:
        """The chance that at least one of k answers is right."""
        return self._estimate(pass_at_k(self.n, self.c, k), share=True)

    def cons_at(self, k: int) -> Estimate:
        """The chance that the majority vote of k answers is right."""
        votes = [[one.vote for one in row] for row in self.completions]
        correct = [[one.correct for one in row] for row in self.completions]
        return self._estimate(
            cons_at_k(votes, correct, k, seed=self.settings.get("seed", 0)), share=True
        )

    @property
    def accuracy(self) -> Estimate:
        """pass@1: the share of right answers."""
        return self.pass_at(1)

    length = _mean_of("length", "Tokens a response.", share=False)
    reflection = _mean_of("reflection", "Reflective words a response.", share=False)
    format = _mean_of("well_formed", "Fraction of well-formed responses.")
    consistency = _mean_of(
        "consistency",
        "Fraction of a thought's words in the prompt's language, over thoughts with words.",
    )
    mixed = _mean_of("mixed", "Fraction of responses whose thought mixes languages.")

    @property
    def truncated(self) -> Estimate:
        """Share of responses cut at the length limit."""
        return self._estimate(1.0 - self.per_problem("finished"), share=True)

    def summary(self) -> dict[str, Estimate]:
        """The measures a reader wants first, by name: {name: (value, low, high)}."""
        k = int(self.n.min())
        measures = {"pass@1": self.accuracy}
        if k > 1:
            measures |= {f"pass@{k}": self.pass_at(k), f"cons@{k}": self.cons_at(k)}
        return measures | {
            name: getattr(self, name)
            for name in ("length", "reflection", "format", "consistency", "mixed", "truncated")
        }

    def among(self, good: Callable[[Any], bool]) -> Evaluation:
        """The answers to those of the problems that are `good`, so that kinds can be compared."""
        rows = zip(self.problems, self.completions, strict=True)
        chosen = [pair for pair in rows if good(pair[0])]
        problems, completions = [p for p, _ in chosen], [row for _, row in chosen]
        return Evaluation(problems, completions, self.settings, self.seconds)

    def to_json(self) -> str:
        """Everything but token ids and log-probs, as JSON text that `from_json` reads back."""
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
            return cls(
                [Problem(**problem) for problem in data["problems"]],
                [[Completion(**one) for one in row] for row in data["completions"]],
                data["settings"],
                data["seconds"],
            )
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
    """Ask each problem k times and measure the answers.

    Sampling is seeded batch by batch (a seed of None counts as 0), so the same model and seed give
    the same answers. k is the samples a problem (n of pass@k). temperature 1 and top_p 1 measure
    the distribution that RL trains; the paper's own evaluation used 0.6 and 0.95. The model's
    training mode is put back. Raises R1LabError, before anything is sampled, when there is nothing
    to evaluate and for prompts that do not fit the model.
    """
    if not problems or k < 1:
        raise R1LabError("nothing to evaluate: give at least one problem and k >= 1 samples.")
    sampling = sampling or Sampling()
    sampling = replace(sampling, seed=sampling.seed or 0)
    room = max_positions(model) - sampling.max_new_tokens
    if long := too_long(tokenizer, problems, template, room):
        first, size = next(iter(long.items()))
        raise R1LabError(
            f"{len(long)} of {len(problems)} prompts do not fit: the model's positions leave "
            f"{room} tokens beside max_new_tokens ({sampling.max_new_tokens}), and "
            f"{problems[first].id} has {size}. Lower max_new_tokens, or leave such problems out"
        )
    began, was_training = time.perf_counter(), model.training
    model.eval()
    completions: list[list[Completion]] = []
    starts = range(0, len(problems), QUESTIONS_AT_ONCE)
    try:
        for start in tqdm(starts, desc="evaluate", unit="batch", disable=not progress):
            batch = problems[start : start + QUESTIONS_AT_ONCE]
            prompts = encode(tokenizer, [render(problem, template) for problem in batch])
            drawn = sample(
                model,
                prompts,
                replace(sampling, seed=sampling.seed * 1_000_003 + start),
                group_size=k,
                eos_token_id=end_ids(model, tokenizer, template),
            )
            texts = read(tokenizer, drawn, template)
            for b, problem in enumerate(batch):
                row = []
                for i in range(b * k, (b + 1) * k):  # prompt-major: (B * k)
                    ids, finished = drawn.completion_ids[i], drawn.finished[i]
                    how = {"task": task, "length": len(ids), "finished": finished}
                    row.append(measure(problem, texts[i], **how))
                    row[-1].token_ids, row[-1].logprobs = ids, drawn.logprobs[i]
                completions.append(row)
    finally:
        model.train(was_training)
    settings = {"k": k, **asdict(sampling), "template": template}
    settings["batch_questions"] = QUESTIONS_AT_ONCE
    return Evaluation(list(problems), completions, settings, time.perf_counter() - began)


def difference(before: Evaluation, after: Evaluation, measure: str = "accuracy") -> Estimate:
    """How much a measure changed from one model to another on the same problems.

    measure: "accuracy" or a field of Completion ("length", "reflection", "well_formed", ...).
    Paired: each problem is its own control, which takes the spread between problems out of the
    interval. An interval that holds 0 shows no change. Raises R1LabError on other problems.
    """
    if [p.id for p in before.problems] != [p.id for p in after.problems]:
        raise R1LabError(
            "a paired difference needs the same problems in the same order: evaluate "
            "both models on one list."
        )
    name = "correct" if measure == "accuracy" else measure
    return estimate(
        after.per_problem(name) - before.per_problem(name), before.settings.get("seed", 0)
    )

"""Reward models: scores learned from labels, where no rule can verify.

R1's last stage (its last 400 steps only, against reward hacking) uses two of them on general
prompts (arXiv 2501.12948v2, section 3.1, equations 5 and 6):

- **helpfulness**, from *pairs*: a is preferred to b with probability sigmoid(r(a) - r(b)) (Bradley
  and Terry), so L = -log sigmoid(r(chosen) - r(rejected)). It reads the answer alone;
- **safety**, from *single* completions labelled safe or unsafe, L = cross-entropy of sigmoid(r). It
  reads the chain of thought as well.

A reward model is a transformers sequence classifier with one output, on the body of a trained
language model. Its score is read at the *last token*, found by the text's length: where EOS is also
the padding token, transformers' own search would find the token before it.
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from r1lab import models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import check, option
from r1lab.rewards import problem_of, text_of, with_problems
from r1lab.sampler.score import in_micro_batches, micro_batches
from r1lab.sft import batch_at, steps_of, write_examples
from r1lab.tasks import Problem
from r1lab.templates import ANSWER, END_ANSWER, encode, end_of_text, parse, prompt_of, rest
from r1lab.training import records
from r1lab.training.loop import Loop
from r1lab.training.optimizer import trainable

write_judgements = write_examples  # Pair and Marked are dataclasses too


@dataclass(frozen=True)
class Pair:
    """Two completions of one problem; `chosen` was preferred."""

    problem: Problem
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Marked:
    """A completion labelled safe or unsafe."""

    problem: Problem
    completion: str
    safe: bool


def read_judgements(path: str | os.PathLike) -> list[Pair] | list[Marked]:
    """The labels of a file. Raises R1LabError for anything else."""
    try:
        rows = [json.loads(line) for line in files.lines_of(path)]
        kind = Pair if rows and "chosen" in rows[0] else Marked
        return [kind(**row | {"problem": Problem.from_dict(row["problem"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, R1LabError) as error:
        raise R1LabError(f"no judgements in {path} ({error!r})"[:300]) from error


@dataclass(frozen=True)
class RewardModelConfig:
    """The options of a run; the help gives R1's values where they are known."""

    epochs: int = option(1, "epochs over the labels (R1: 1)", low=1)
    batch_size: int = option(32, "pairs, or labelled completions, per step (R1: 256)", low=1)
    learning_rate: float = option(3e-4, "AdamW's (R1: 6e-6)", low=0, high=1)
    max_grad_norm: float = option(1.0, "longer gradients are clipped to this norm; 0: none", low=0)
    template: str = option("tiny", "prompt template")
    seed: int = option(0, "seed of the order", low=0)
    micro_batch_tokens: int = option(16384, "tokens per forward and backward", low=1)

    def __post_init__(self) -> None:
        check(self)


def bradley_terry_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """-log sigmoid(r(chosen) - r(rejected)), the mean over N pairs. Both scores: (N,)."""
    return -F.logsigmoid(chosen - rejected).mean()


def pointwise_loss(scores: Tensor, safe: Tensor) -> Tensor:
    """Cross-entropy of sigmoid(r) with the marks, the mean. scores (N,); safe (N,), 0 or 1."""
    return F.binary_cross_entropy_with_logits(scores, safe.to(scores))


def calibration(predicted: Sequence[float], happened: Sequence[float], bins: int = 10):
    """Expected calibration error, and its bins: rows (mean predicted, fraction that happened, n).

    predicted: probabilities (N,); happened: 0 or 1 (N,). Bins have equal width; empty ones are left
    out. The error is the mean over N of |predicted - happened| of the bin; NaN for N = 0.
    """
    p, y = np.asarray(predicted, dtype=float), np.asarray(happened, dtype=float)
    which = np.minimum((p * bins).astype(int), bins - 1)
    rows = [
        (float(p[which == b].mean()), float(y[which == b].mean()), int((which == b).sum()))
        for b in range(bins)
        if (which == b).any()
    ]
    error = sum(n * abs(a - b) for a, b, n in rows) / len(p) if len(p) else math.nan
    return error, rows


def from_base(folder: str | os.PathLike, seed: int = 0) -> tuple[nn.Module, Any]:
    """A reward model on the body of the language model `folder` (a name for `models.load`), with a
    new head that scores everything 0, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification

    language_model, tokenizer = models.load(folder)
    config = language_model.config
    config.num_labels = 1
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    model.base_model.load_state_dict(language_model.base_model.state_dict())
    nn.init.zeros_(model.score.weight)
    return model.eval(), tokenizer


def load(folder: str | os.PathLike) -> tuple[nn.Module, Any]:
    """A reward model saved by `train`, and its tokenizer. Raises R1LabError for anything else."""
    from transformers import AutoModelForSequenceClassification

    try:
        model, tokenizer = models.read(folder, AutoModelForSequenceClassification)
    except R1LabError as error:
        raise R1LabError(f"no reward model in {folder}: {error}") from error
    if model.config.num_labels != 1:
        raise R1LabError(f"{folder} is a classifier of {model.config.num_labels} labels, not 1")
    return model.eval(), tokenizer


def scores(model: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """The score of each text, (N,), read at its last token. rows: N lists of token ids."""
    device = next(model.parameters()).device
    length = torch.tensor([len(row) for row in rows], device=device)
    width = int(length.max())
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # (N, L, D)
    last = hidden[torch.arange(len(rows), device=device), length - 1]
    return model.score(last).squeeze(-1).float()


@torch.no_grad()
def score_all(model, rows: Sequence[Sequence[int]], max_tokens: int = 16384) -> list[float]:
    """`scores` of any number of texts, without gradients."""
    found = [0.0] * len(rows)
    for chunk in micro_batches([len(row) for row in rows], max_tokens):
        for i, value in zip(chunk, scores(model, [rows[i] for i in chunk]).tolist(), strict=True):
            found[i] = value
    return found


def text_ids(
    tokenizer, problems: Sequence[Problem], completions: Sequence[str], template: str, kind: str
) -> list[list[int]]:
    """What a reward model reads after the prompt: for "helpful" the answer in its tags (without
    tags, the completion), for "safe" the whole completion."""
    texts = [prompt_of(tokenizer, one, template) for one in problems]
    prompts, rows, eos = encode(tokenizer, texts), [], end_of_text(tokenizer)
    for prompt, text, completion in zip(prompts, texts, completions, strict=True):
        answer = parse(completion).answer if kind == "helpful" else None
        shown = rest(text, completion) if answer is None else f" {ANSWER}{answer}{END_ANSWER}"
        rows.append([*prompt, *tokenizer(shown, add_special_tokens=False)["input_ids"], eos])
    return rows


def train(
    model,
    tokenizer,
    judgements: Sequence[Pair] | Sequence[Marked],
    config: RewardModelConfig,
    out_dir: str | os.PathLike,
    *,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train a reward model in place, on Pairs (helpfulness) or Marked (safety); saves it in out_dir
    and returns the metrics of every step: loss, and the accuracy on the batch before the step. Not
    resumable. Raises R1LabError without labels and for a loss that is not finite."""
    if not judgements:
        raise R1LabError("a reward model needs judgements to learn from: there are none")
    paired = isinstance(judgements[0], Pair)
    kind, problems = ("helpful" if paired else "safe"), [one.problem for one in judgements]

    def ids(field: str) -> list[list[int]]:
        texts = [getattr(one, field) for one in judgements]
        return text_ids(tokenizer, problems, texts, config.template, kind)

    first, second = (ids("chosen"), ids("rejected")) if paired else (ids("completion"), [])
    safe = torch.tensor([float(getattr(m, "safe", 0)) for m in judgements], device=model.device)

    def loss_of(model, rows: list[int]) -> tuple[Tensor, int]:
        """The mean loss of some labels, and how many of them the model predicts."""
        if paired:
            a, b = scores(model, [part[i] for part in (first, second) for i in rows]).chunk(2)
            return bradley_terry_loss(a, b), int((a > b).sum())
        r = scores(model, [first[i] for i in rows])
        return pointwise_loss(r, safe[rows]), int(((r > 0) == (safe[rows] > 0)).sum())

    weights, origin = trainable(model), records.origin(model, Path(out_dir))
    optimizer = torch.optim.AdamW(weights, config.learning_rate, (0.9, 0.95), weight_decay=0.0)
    loop = Loop(None, config, progress=progress, label=kind)
    with loop.over(steps_of(len(judgements), config), {"model": model}) as steps:
        for step in steps:
            batch = batch_at(step, len(judgements), config)
            sizes = [max(len(first[i]), len(second[i]) if paired else 0) for i in batch]
            optimizer.zero_grad()

            def learn(model, chunk: list[int], batch=batch) -> tuple[float, int]:
                loss, good = loss_of(model, [batch[i] for i in chunk])
                (loss * len(chunk) / len(batch)).backward()
                return float(loss.detach()) * len(chunk), good

            told = in_micro_batches(model, learn, sizes, config.micro_batch_tokens // 2)
            loss_sum, right = (sum(column) for column in zip(*told, strict=True))
            if not math.isfinite(loss_sum):
                raise R1LabError(f"reward model, step {step}: loss {loss_sum}; lower the rate")
            clip_grad_norm_(weights, config.max_grad_norm or math.inf)
            optimizer.step()
            metrics = {"step": step, "loss": loss_sum / len(batch), "accuracy": right / len(batch)}
            loop.log(metrics, f"loss {metrics['loss']:.3f}")
    with files.atomic_dir(Path(out_dir)) as folder:
        models.save(model, tokenizer, folder)
        tokens = config.epochs * sum(map(len, [*first, *second]))
        spent = records.cost(loop.spent(), tokens, loop.gauge)
        name = records.name_of(Path(out_dir))
        record = records.new("reward_model", name, origin, dataclasses.asdict(config), spent)
        records.write(folder, record, Path(out_dir))
    return loop.history


def as_reward(
    model, tokenizer, kind: str, where: Callable[[Problem], bool], template: str = "tiny"
) -> Callable[..., list[float | None]]:
    """The model as a reward function with TRL's keyword contract: its score where `where(problem)`,
    else None ("does not apply"). kind: "helpful" or "safe". A problem that cannot be read gets
    None; a completion is scored up to the model's length."""
    if kind not in ("helpful", "safe"):
        raise R1LabError(f'a reward model judges "helpful" or "safe", not {kind!r}')

    def reward(completions: Sequence, *, problem: Any = None, **kwargs) -> list[float | None]:
        found: list[float | None] = [None] * len(completions)
        asked: dict[int, tuple[Problem, str]] = {}
        for i, (completion, of) in enumerate(with_problems(completions, problem)):
            with suppress(R1LabError):
                if where(one := problem_of(of)):
                    asked[i] = one, text_of(completion)[:20_000]
        if asked:
            rows = text_ids(tokenizer, *zip(*asked.values(), strict=True), template, kind)
            limit = getattr(model.config, "max_position_embeddings", None) or 10**9
            for i, value in zip(asked, score_all(model, [r[:limit] for r in rows]), strict=True):
                found[i] = value
        return found

    reward.__name__ = f"{kind}_reward"
    return reward


def bounded(reward: Callable[..., list], centre: float = 0.0) -> Callable[..., list[float | None]]:
    """sigmoid(r - centre) of a reward model's score r: a score has no scale, and one of 10 would
    drown an accuracy of 1. None stays None. centre: the score that gets 1/2. log_metric gets the
    mean over the prompts that the model applies to, as "own/helpful" or "own/safe"."""

    def score(completions: Sequence, **kwargs) -> list[float | None]:
        scores = reward(completions, **kwargs)
        found = [None if r is None else 0.5 + 0.5 * math.tanh((r - centre) / 2) for r in scores]
        if own := [value for value in found if value is not None]:
            name = f"own/{reward.__name__.removesuffix('_reward')}"
            kwargs.get("log_metric", lambda name, value: None)(name, fmean(own))
        return found

    score.__name__ = reward.__name__
    return score

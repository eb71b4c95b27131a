"""Tree search guided by a value model: one of the two attempts that the paper gave up.

"Unlike chess, where the search space is relatively well-defined, token generation presents an
exponentially larger search space", and "the value model directly influences the quality of
generation since it guides each step of the search process. Training a fine-grained value model is
inherently difficult" (arXiv 2501.12948v1, section 4.2, "Unsuccessful Attempts").

Here it is small: a value model learns from the base's own completions how likely a *prefix* of a
completion is to end in a right answer, and a beam of `width` prefixes is extended by `branches`
continuations of `tokens` tokens each, of which the `width` with the highest value stay. It needs to
beat what the same tokens buy without a tree: independent completions, and a choice among them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from r1lab.answers import measure_all
from r1lab.evaluate import Evaluation, majority
from r1lab.reward_model import Marked, score_all
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.templates import decode, encode, end_ids, end_of_text, prompt_of, with_begun


@dataclass(frozen=True)
class Beam:
    """width: prefixes kept; branches: continuations of each; tokens: of one; rounds: at most."""

    width: int = 4
    branches: int = 4
    tokens: int = 16
    rounds: int = 12


@dataclass(frozen=True)
class Found:
    """Of each of P problems: whether the answer is right, and the tokens sampled for it."""

    right: np.ndarray  # (P,) bool
    tokens: np.ndarray  # (P,)


def prefixes(found: Evaluation, tokenizer, each: int = 2, seed: int = 0) -> list[Marked]:
    """Labels for a value model: `each` random prefixes of every completion, marked by whether the
    completion ends in a right answer."""
    rng, rows = random.Random(seed), []
    for problem, row in zip(found.problems, found.completions, strict=True):
        for one in row:
            for _ in range(each):
                cut = rng.randint(1, len(one.token_ids))
                text = tokenizer.decode(one.token_ids[:cut], skip_special_tokens=True)
                rows.append(Marked(problem, f" {text}", bool(one.correct)))
    rng.shuffle(rows)
    return rows


def values(value, tokenizer, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """The value model's scores of token ids, prompt included: (N,)."""
    eos = end_of_text(tokenizer)
    ended = [[*row, *([] if row[-1] == eos else [eos])] for row in rows]
    return np.array(score_all(value, ended)) if rows else np.zeros(0)


def search(
    model, tokenizer, task, value, problems: Sequence[Any], beam: Beam, seed: int = 0,
    template: str = "tiny",
) -> Found:  # fmt: skip
    """Search a completion for each of P problems; of the finished prefixes the one with the highest
    value answers, none is a wrong answer."""
    asked_for = [prompt_of(tokenizer, one, template) for one in problems]
    prompts, ends = encode(tokenizer, asked_for), end_ids(model, tokenizer, template)
    live: list[list[list[int]]] = [[[]] for _ in problems]  # prefixes by problem
    done: list[list[tuple[float, list[int]]]] = [[] for _ in problems]
    spent = np.zeros(len(problems), dtype=int)
    for r in range(beam.rounds):
        where = [(p, prefix) for p, some in enumerate(live) for prefix in some]
        if not where:
            break
        first = beam.width * beam.branches if r == 0 else beam.branches
        how = Sampling(beam.tokens, seed=seed * 1000 + r)
        asked = [prompts[p] + prefix for p, prefix in where]
        drawn = sample(model, asked, how, group_size=first, eos_token_id=ends)
        grown = []
        for i, ids in enumerate(drawn.completion_ids):
            p, prefix = where[i // first]
            spent[p] += len(ids)
            grown.append((p, [*prefix, *ids], drawn.finished[i]))
        scored = values(value, tokenizer, [prompts[p] + ids for p, ids, _ in grown])
        best: list[list[tuple[float, list[int], bool]]] = [[] for _ in problems]
        for (p, ids, finished), score in zip(grown, scored, strict=True):
            best[p].append((float(score), ids, finished))
        for p, some in enumerate(best):
            kept = sorted(some, key=lambda one: -one[0])[: beam.width]
            done[p] += [(score, ids) for score, ids, finished in kept if finished]
            live[p] = [ids for _, ids, finished in kept if not finished]
            if len(done[p]) >= beam.width:
                live[p] = []
    answers = [max(some, key=lambda one: one[0])[1] if some else [] for some in done]
    texts = with_begun(asked_for, decode(tokenizer, answers))
    lengths = [len(ids) for ids in answers]
    seen = measure_all(problems, texts, lengths, [n > 0 for n in lengths], task=task)
    return Found(np.array([bool(one.correct) for one in seen]), spent)


def independent(found: Evaluation, tokens: np.ndarray, value, tokenizer) -> dict[str, np.ndarray]:
    """What the same tokens buy without a tree: of each problem's completions as many as fit into
    `tokens` (P,), at least one. {"one completion", "majority", "best by value", "any of them",
    "completions"}: (P,) each."""
    rows: dict[str, list[float]] = {}
    template = found.settings["template"]
    for problem, row, most in zip(found.problems, found.completions, tokens, strict=True):
        used = np.cumsum([one.length for one in row])
        some = row[: max(1, int((used <= most).sum()))]
        right = [bool(one.correct) for one in some]
        (prompt,) = encode(tokenizer, [prompt_of(tokenizer, problem, template)])
        scored = values(value, tokenizer, [prompt + one.token_ids for one in some])
        told = {
            "one completion": float(np.mean([bool(one.correct) for one in row])),
            "majority": majority([one.vote for one in some], right),
            "best by value": float(right[int(scored.argmax())]),
            "any of them": float(any(right)),
            "completions": float(len(some)),
        }
        for name, one in told.items():
            rows.setdefault(name, []).append(one)
    return {name: np.array(one) for name, one in rows.items()}


def ranking(found: Evaluation, value, tokenizer, shares: Sequence[float]) -> dict[float, float]:
    """How well the value model tells right from wrong completions of one problem by their first
    tokens: {share of the tokens: probability that the right one scores higher}, 0.5 by chance; over
    all pairs of a right and a wrong completion of the same problem."""
    told, template = {}, found.settings["template"]
    for share in shares:
        wins = pairs = 0.0
        for problem, row in zip(found.problems, found.completions, strict=True):
            (prompt,) = encode(tokenizer, [prompt_of(tokenizer, problem, template)])
            cut = [prompt + one.token_ids[: max(1, round(share * one.length))] for one in row]
            scored = values(value, tokenizer, cut)
            right = np.array([bool(one.correct) for one in row])
            apart = scored[right][:, None] - scored[~right][None, :]
            wins += float((apart > 0).sum() + 0.5 * (apart == 0).sum())
            pairs += apart.size
        told[share] = wins / pairs if pairs else float("nan")
    return told

"""Thinking budgets of a local model: what it answers when its thought must end after b tokens.

**Budget forcing** (Muennighoff et al. 2025, s1, arXiv 2501.19393): where the thought is longer than
the budget, it is truncated there and closed by hand, so that an answer follows:

    prompt  o_1 ... o_b  </think> <answer>   and then at most ANSWER_TOKENS sampled tokens

A completion whose thought ends by itself within b tokens (or that ends without one) stays as it is.
So the completions at two budgets share their first tokens, and a difference between budgets is
paired. Budget 0 asks for the answer at once: <think> </think> <answer>. Budget None forces nothing.

The answer behind a closing by hand is sampled as the completion was, with a seed of its own. What
is counted: all tokens behind the prompt, those put in by hand included.
"""

import bisect
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from r1lab import evaluate
from r1lab.answers import Completion, measure_all
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.sampler.rollouts import Rollouts, Sampling, sample
from r1lab.sampler.score import max_positions
from r1lab.templates import ANSWER, END_THINK, THINK, decode, end_ids, prompt_of, with_begun

ANSWER_TOKENS = 32  # of an answer behind a thought that was closed by hand
ROWS = 512  # completions that are continued together


def at_budgets(
    model,
    tokenizer,
    task,
    problems: Sequence[Any],
    budgets: Sequence[int | None],
    *,
    k: int = 8,
    sampling: Sampling | None = None,
    template: str = "tiny",
) -> dict[int | None, Evaluation]:
    """k completions of each of P problems at every thinking budget (tokens): {budget: Evaluation}.

    Completions are drawn once, as `evaluate.evaluate` draws them, and truncated for each budget.
    sampling: by default the paper's temperature 0.6 and top-p 0.95, at most 448 tokens.
    settings["forced"] of each evaluation is the fraction of completions that were closed by hand;
    settings["prompt_tokens"] the tokens of each prompt by the problem's id. Raises R1LabError for
    budgets below 0 and for what does not fit the model.
    """
    sampling = sampling or Sampling(448, 0.6, top_p=0.95)
    sampling = replace(sampling, seed=sampling.seed or 0)
    if not budgets or any(b is not None and (type(b) is not int or b < 0) for b in budgets):
        raise R1LabError(f"thinking budgets are whole numbers from 0, or None, not {budgets!r}")
    evaluate.check_fit(model, tokenizer, problems, k, sampling, template)
    if None not in budgets:  # nothing longer is needed
        most = min(sampling.max_new_tokens, max(budgets) + ANSWER_TOKENS)
        sampling = replace(sampling, max_new_tokens=most)
    began, found = time.perf_counter(), {budget: ([], []) for budget in budgets}
    lengths: dict[str, int] = {}
    for start in range(0, len(problems), evaluate.QUESTIONS_AT_ONCE):
        batch = problems[start : start + evaluate.QUESTIONS_AT_ONCE]
        how = replace(sampling, seed=evaluate.seed_of(sampling, start))
        drawn, _ = evaluate.respond(model, tokenizer, batch, k, how, template)
        lengths |= {one.id: len(ids) for one, ids in zip(batch, drawn.prompt_ids, strict=True)}
        ends = thought_ends(tokenizer, drawn.completion_ids)
        of = [problem for problem in batch for _ in range(k)]
        prompts = [prompt_of(tokenizer, problem, template) for problem in batch]
        for budget, (rows, forced) in found.items():
            ids, finished, by_hand = force(model, tokenizer, drawn, ends, budget, how, template)
            texts = with_begun(prompts, decode(tokenizer, ids))
            measured = measure_all(of, texts, [len(one) for one in ids], finished, task=task)
            rows += [measured[b * k : (b + 1) * k] for b in range(len(batch))]
            forced += by_hand
    seconds = (time.perf_counter() - began) / len(found)
    about = {"k": k, **asdict(sampling), "template": template, "prompt_tokens": lengths}
    evaluations = {}
    for budget, (rows, forced) in found.items():
        settings = about | {"budget": budget, "forced": sum(forced) / len(forced)}
        evaluations[budget] = Evaluation(list(problems), rows, settings, seconds)
    return evaluations


def thought_ends(tokenizer, rows: Sequence[Sequence[int]]) -> list[int | None]:
    """After how many tokens each of N completions has closed its thought; None: never."""

    def closed(ids: Sequence[int]) -> bool:
        return END_THINK in decode(tokenizer, [ids])[0]

    whole = decode(tokenizer, rows)
    return [
        1 + bisect.bisect_left(range(1, len(ids)), True, key=lambda n, ids=ids: closed(ids[:n]))
        if END_THINK in text
        else None
        for ids, text in zip(rows, whole, strict=True)
    ]


def force(
    model,
    tokenizer,
    drawn: Rollouts,
    ends: Sequence[int | None],
    budget: int | None,
    sampling: Sampling,
    template: str,
) -> tuple[list[list[int]], list[bool], list[bool]]:
    """The completions (N) of `drawn` under a budget: their tokens, whether each is finished, and
    whether its thought was closed by hand."""
    rows, group = drawn.completion_ids, len(drawn.completion_ids) // len(drawn.prompt_ids)
    by_hand = [
        budget is not None and len(ids) > budget and not (end is not None and end <= budget)
        for ids, end in zip(rows, ends, strict=True)
    ]
    ids, finished = list(map(list, rows)), list(drawn.finished)
    tags = tokenizer([THINK, f"{END_THINK} {ANSWER}"], add_special_tokens=False)
    opening, closing = tags["input_ids"]
    todo = [i for i, forced in enumerate(by_hand) if forced]
    for i in todo:
        ids[i] = [*(ids[i][:budget] or opening), *closing]
    prompts = [drawn.prompt_ids[i // group] + ids[i] for i in todo]
    longest = max(map(len, prompts), default=0)
    room = int(min(ANSWER_TOKENS, max_positions(model) - longest))
    if room < 1:
        raise R1LabError(f"a thought of {budget} tokens leaves the model no positions to answer in")
    seed = (sampling.seed or 0) * 1_009 + 1 + (budget or 0)
    how = replace(sampling, max_new_tokens=room, seed=seed)
    stops = end_ids(model, tokenizer, template)
    for start in range(0, len(todo), ROWS):
        some = prompts[start : start + ROWS]
        answers = sample(model, some, how, group_size=1, eos_token_id=stops)
        for n, i in enumerate(todo[start : start + ROWS]):
            ids[i] += answers.completion_ids[n]
            finished[i] = answers.finished[n]
    return ids, finished, by_hand


def limited(evaluation: Evaluation, budget: int) -> Evaluation:
    """Kept completions under a limit of `budget` tokens for thought *and* answer: a longer one has
    no answer, and costs the limit. What a server's max_tokens would do; nothing is forced, for
    nobody can be asked any more."""

    def cut(one: Completion) -> Completion:
        if one.length <= budget:
            return one
        wrong = {"correct": None if one.correct is None else False, "vote": None}
        return replace(one, length=budget, finished=False, well_formed=False, **wrong)

    rows = [[cut(one) for one in row] for row in evaluation.completions]
    settings = evaluation.settings | {"budget": budget, "forced": 0.0}
    return replace(evaluation, completions=rows, settings=settings)

"""Log-probabilities of given completions, in micro-batches."""

import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from r1lab.basics.errors import R1LabError
from r1lab.machine import workers
from r1lab.sampler.families import body_and_head


def max_positions(model: nn.Module) -> float:
    """How many tokens a text may have; infinite where the model's config does not say."""
    config = model.config
    said = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":  # a longer text rotates its first tokens otherwise
        said.append(rope.get("original_max_position_embeddings"))
    for name, module in model.named_modules():
        first = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and first is not None:
            said.append(module.num_embeddings - first - 1)  # RoBERTa's positions come after it
    return min((n for n in said if n is not None and n > 0), default=math.inf)


@contextmanager
def _evaluation_mode(model: nn.Module):
    """No dropout inside; afterwards every module is in its earlier mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def token_logps(
    model: nn.Module,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    temperature: float = 1.0,
    *,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """log pi(o_t | q, o_<t) of every completion token in a micro-batch, with gradients if enabled.

    rows: N pairs (prompt ids, completion ids), padded on the right to (N, L), without an attention
    mask, since causal attention never looks to the right.

    Returns logp (N, T), mask (N, T) bool, True on completion tokens (EOS included), and the
    policy's entropy (N, T) in nats, its gradient only if asked for; T is the longest completion.
    logp and entropy are float32 and 0 outside the mask.
    """
    device = next(model.parameters()).device
    texts = [[*prompt, *completion] for prompt, completion in rows]
    width, T = max(map(len, texts)), max(len(completion) for _, completion in rows)
    ids = torch.tensor([t + [0] * (width - len(t)) for t in texts], device=device)  # (N, L)
    start = torch.tensor([len(prompt) for prompt, _ in rows], device=device)
    length = torch.tensor([len(completion) for _, completion in rows], device=device)
    steps = torch.arange(T, device=device)
    mask = steps < length[:, None]  # (N, T)
    # The logits at position p predict the token at p + 1.
    offset = torch.arange(len(rows), device=device)[:, None] * width
    where = (offset + start[:, None] - 1 + steps)[mask]  # (M,) flat positions that predict
    target = ids.flatten()[where + 1]  # (M,)

    logp, h = logps_at(model, ids, where, target, temperature, entropy_gradient)
    zeros = torch.zeros(mask.shape, device=device)
    return zeros.masked_scatter(mask, logp), mask, zeros.masked_scatter(mask, h)


def logps_at(
    model: nn.Module,
    ids: Tensor,
    where: Tensor,
    target: Tensor,
    temperature: float,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-prob (M,) of each target token and entropy (M,), at flat positions (M,) of ids (N, L)."""
    if parts := body_and_head(model):  # logits only where a token is predicted
        body, head = parts
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state
        logits = head(hidden.flatten(0, 1).index_select(0, where))  # (M, V)
    else:
        logits = model(input_ids=ids, use_cache=False).logits
        logits = logits.flatten(0, 1).index_select(0, where)
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    every = logits.log_softmax(-1)  # (M, V)
    with nullcontext() if entropy_gradient else torch.no_grad():
        h = -(every.exp() * every).sum(-1)
    return every.gather(-1, target[:, None]).squeeze(1), h


def micro_batches(lengths: Sequence[int], max_tokens: int, overhead: int = 512) -> list[list[int]]:
    """Indices in batches of similar length, rows x longest <= max_tokens in each.

    A short row is padded to the longest of its batch; a batch costs about `overhead` tokens by
    itself. Dynamic programming over the lengths minimises the sum of both. The longest batch comes
    first, so that too little memory shows at once. A row above max_tokens gets its own batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    starts = [k for k, i in enumerate(order) if k == 0 or lengths[i] != lengths[order[k - 1]]]
    ends = [*starts, len(order)][1:]  # rows starts[a] to ends[a] - 1 have the a-th length
    best, cut = [0.0], [0]  # of the first a lengths: least cost, start of its last part
    for b, end in enumerate(ends):
        costs = []
        for a in range(b + 1):  # lengths a to b padded to the a-th, in as many passes as it takes
            longest, rows = lengths[order[starts[a]]], end - starts[a]
            passes = math.ceil(rows / max(1, max_tokens // longest))
            costs.append(best[a] + rows * longest + passes * overhead)
        best.append(min(costs))
        cut.append(costs.index(best[-1]))
    parts, b = [], len(ends)
    while b:
        parts.append((starts[cut[b]], ends[b - 1]))
        b = cut[b]
    batches: list[list[int]] = []
    for start, end in reversed(parts):
        rows = max(1, max_tokens // lengths[order[start]])
        batches += [order[k : min(k + rows, end)] for k in range(start, end, rows)]
    return batches


def in_micro_batches(
    model: nn.Module,
    work: Callable[[nn.Module, list[int]], Any],
    sizes: Sequence[int],
    max_tokens: int,
) -> list[Any]:
    """work(model, rows) of every micro-batch, dealt to the cores (`machine.workers.each`).

    sizes: tokens of each row; max_tokens: of all micro-batches at once. work computes with the
    model it gets; the gradients that it leaves add up in `model`.
    """
    each = workers.budget(sizes, max_tokens, workers.number(model.device))
    parts = micro_batches(sizes, each)
    costs = [len(part) * sizes[part[0]] for part in parts]  # padded to the longest, which is first
    return workers.each(model, work, parts, costs)


@torch.no_grad()
def score(
    model: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    temperature: float = 1.0,
    max_tokens: int = 16384,
) -> list[Tensor]:
    """Log-probs of given completions by full forward passes, a float32 tensor (length,) per row.

    prompt_ids: one per row (repeat a prompt for each of its completions). max_tokens bounds the
    padded tokens of one pass.
    """
    if len(prompt_ids) != len(completion_ids):
        raise R1LabError(
            f"score() got {len(prompt_ids)} prompts for {len(completion_ids)} completions: "
            "repeat each prompt for each of its completions"
        )
    rows = list(zip(prompt_ids, completion_ids, strict=True))
    if not all(len(prompt) for prompt, _ in rows):
        raise R1LabError("score() got an empty prompt: it needs at least one token")
    longest = max((len(prompt) + len(completion) for prompt, completion in rows), default=0)
    if longest > max_positions(model):
        raise R1LabError(
            f"score() got a text of {longest} tokens, more than the model's {max_positions(model)} "
            "positions: shorten it"
        )
    if not 0 < temperature < float("inf"):
        raise R1LabError(f"temperature is {temperature}: it must be > 0")
    scores: list[Tensor] = [torch.empty(0)] * len(rows)

    def work(model: nn.Module, batch: list[int]) -> None:
        logp, _, _ = token_logps(model, [rows[i] for i in batch], temperature)
        for line, i in zip(logp, batch, strict=True):
            scores[i] = line[: len(rows[i][1])]

    with _evaluation_mode(model):
        in_micro_batches(model, work, [len(p) + len(c) for p, c in rows], max_tokens)
    return scores

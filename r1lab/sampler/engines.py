"""Which engine samples a model through its own forward, tried once before it is used.

Log-probabilities of a sample must be those of `score`, which reads the whole text, padded on the
right, without a cache. Some architectures differ with a cache or beside padding on the left: BART's
and RoBERTa's decoders count positions otherwise, RecurrentGemma's state reads the padding.
"""

import logging
from functools import cache
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from r1lab.basics.errors import R1LabError, shortage
from r1lab.sampler.forward import ForwardEngine, RereadEngine, _takes

log = logging.getLogger(__name__)
APART = {torch.float32: 0.005, torch.float64: 0.005}  # total variation; rounding stays far below
_chosen: WeakKeyDictionary[nn.Module, type] = WeakKeyDictionary()


@torch.no_grad()
def engine_for(model: nn.Module) -> type:
    """ForwardEngine where its log-probs are those of the whole text; else RereadEngine. Raises
    R1LabError for a model whose predictions depend on later tokens."""
    if model in _chosen:
        return _chosen[model]
    vocab = model.get_input_embeddings().weight.shape[0]
    short, long = [[(7 * i + 3) % vocab for i in range(n)] for n in (3, 6)]
    more = [(5 * i + 2) % vocab for i in range(3)]  # tokens that follow both
    whole = [_whole(model, text + more)[len(text) - 1 : -1] for text in (short, long)]
    followed = [_whole(model, text + more + [0] * 3)[len(text) - 1 : -4] for text in (short, long)]
    apart = APART.get(next(model.parameters()).dtype, 0.1)  # bfloat16 rounds more
    if not distance(whole, followed) < apart:
        raise R1LabError(
            f"{type(model).__name__} cannot be sampled from: what it predicts depends on the "
            "tokens that come after. It is no causal language model (or its config says "
            "is_decoder=False)"
        )
    engine = RereadEngine
    if _takes(model, "past_key_values"):
        try:
            if distance(whole, _cached(model, [short, long], more)) < apart:
                engine = ForwardEngine
        except Exception as error:  # a cache of its own kind
            if shortage(f"{type(error).__name__}: {error}"):
                raise
        if engine is RereadEngine:
            _warn(type(model).__name__)
    _chosen[model] = engine
    return engine


@cache  # once: a copy of the model is another model
def _warn(name: str) -> None:
    log.warning(
        "%s gives other probabilities with a cache or beside padding than for the whole text, so "
        "every token reads the whole text again: exact, and slow",
        name,
    )


def _whole(model: nn.Module, text: list[int]) -> Tensor:
    """The probabilities after each token of one text, as `score` has them: (S, V)."""
    ids = torch.tensor([text], device=next(model.parameters()).device)
    return model(input_ids=ids, use_cache=False).logits[0].float().softmax(-1)


def _cached(model: nn.Module, prompts: list[list[int]], more: list[int]) -> list[Tensor]:
    """The same for the tokens `more` after each prompt, by ForwardEngine: (3, V) each."""
    decoder = ForwardEngine(model, prompts, 1, len(more))
    logits = [decoder.prefill()]  # (B, V)
    for token in more[:-1]:
        logits.append(decoder.step(torch.tensor([token] * len(prompts), device=logits[0].device)))
    return list(torch.stack(logits, 1).float().softmax(-1))


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    """The largest total variation distance (0 to 1) of two lists of probabilities (S, V)."""
    pairs = zip(some, others, strict=True)
    return max(float((a - b).abs().sum(-1).max()) / 2 for a, b in pairs)

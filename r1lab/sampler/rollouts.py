"""Rollouts: G completions per prompt, with their log-probabilities.

GRPO (arXiv 2501.12948, section 2.2.1) begins every step here: for each prompt q it samples a group
{o_1, ..., o_G} from the old policy pi_old(. | q).

**Sampling** inverts the cumulative distribution of softmax(logits / temperature): with u uniform in
[0, 1), the first token whose cumulated probability exceeds u. There is one u per completion and
position, drawn in advance, so the same seed gives the same tokens however the work is arranged.

**Log-probabilities** are those after temperature and *before* top-k and top-p, as `score` gives
them and as the ratio pi / pi_old needs them.

**Engines**, with equal results:
`forward`  the model's own forward with its KV cache, for any causal LM; without an exact cache
           (Mamba, RWKV; see `engines`) it reads the whole text again for every token.
`fast`     decoding written out, for `families`: a group *shares* its prompt's keys and values;
           finished completions leave the batch; keys and values are written in place.
`static`   `fast` in fixed shapes (`graphs`), which a GPU replays, partly by our own `kernels`.

Lengths, never token ids, say where a completion ends, so EOS may double as the padding token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from r1lab.basics.errors import R1LabError
from r1lab.machine import workers
from r1lab.sampler.draw import Sampling, draw
from r1lab.sampler.engines import engine_for
from r1lab.sampler.families import why_not_fast
from r1lab.sampler.fast import FastEngine
from r1lab.sampler.graphs import decode
from r1lab.sampler.score import _evaluation_mode, max_positions


@dataclass
class Rollouts:
    """B prompts with G completions each; completion i belongs to prompt i // G (prompt-major)."""

    prompt_ids: list[list[int]]  # B prompts, as token ids
    completion_ids: list[list[int]]  # B*G; an emitted EOS is part of the completion
    logprobs: list[list[float]]  # B*G; log pi(token | what came before), one per token
    finished: list[bool]  # B*G; True: ended with EOS; False: truncated at max_new_tokens


def sample(
    model: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    group_size: int,
    eos_token_id: int | Sequence[int] | None,
    generator: torch.Generator | None = None,
    engine: str = "auto",
    on_token: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Rollouts:
    """Sample `group_size` completions for each of B prompts from a transformers causal LM.

    prompt_ids: B lists of token ids, of any lengths >= 1.
    eos_token_id: the id, or several, that end a completion; None never ends one early.
    generator replaces sampling.seed; with neither, torch's global one is used.
    engine: "auto" (static on a CUDA GPU, fast elsewhere, forward where the model needs it),
        "static", "fast" or "forward".
    on_token(t, rows, tokens) is called after each position t with the indices (n,) of completions
        in the batch, some of them finished, and their tokens (n,).

    Raises R1LabError for input that cannot be right, and when logits are not finite.
    """
    prompts = [list(map(int, p)) for p in prompt_ids]
    _check(model, prompts, group_size, sampling.max_new_tokens)
    if sampling.seed is not None and generator is not None:
        raise R1LabError("give sample() a seed or a generator, not both")
    reason = why_not_fast(model)
    if engine not in ("auto", "static", "fast", "forward"):
        raise R1LabError(f'unknown engine "{engine}": choose "auto", "static", "fast" or "forward"')
    if engine in ("static", "fast") and reason:
        raise R1LabError(f'engine "{engine}" cannot run this model ({reason}); use engine="auto"')

    device = next(model.parameters()).device
    if engine == "auto":
        written_out = "static" if device.type == "cuda" else "fast"
        engine = "forward" if reason else written_out
    n_rows = len(prompts) * group_size
    if sampling.greedy:
        uniform, sampling = None, replace(sampling, temperature=1.0)
    else:
        if generator is None and sampling.seed is not None:
            generator = torch.Generator().manual_seed(int(sampling.seed))
        where = generator.device if generator is not None else "cpu"
        uniform = torch.rand(sampling.max_new_tokens, n_rows, generator=generator, device=where)
        # The last few floats below 1 could round up to the total.
        uniform = uniform.clamp_(max=1 - 2**-22).to(device)  # (T, N)

    eos = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or [])
    eos = torch.tensor(eos, dtype=torch.long, device=device)

    # A model's own forward may keep tensors (dynamic rope does), which must not be inference ones.
    no_grad = torch.no_grad if engine == "forward" else torch.inference_mode
    Engine = engine_for(model) if engine == "forward" else FastEngine

    def job(model: nn.Module, rows: Tensor, check: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """Decode these rows (prompts, completions each) in one of `machine.workers`."""
        some = [prompts[row // group_size] for row in rows[:, 0].tolist()]
        u = None if uniform is None else uniform[:, rows.flatten()]
        note = on_token or (lambda *_: check())
        with no_grad():
            decoder = Engine(model, some, rows.shape[1], sampling.max_new_tokens)
            return _decode(decoder, rows.numel(), sampling, u, eos, note)

    with _evaluation_mode(model):
        if engine == "static":
            given = (model, prompts, group_size, sampling, uniform, eos, on_token)
            with no_grad():
                tokens, logprobs = decode(*given)
        else:
            hands, threads = workers.for_rows(model, n_rows)
            hands = _deal(len(prompts), group_size, 1 if on_token else hands)
            models = [model, *(workers.twin(model) for _ in hands[1:])]
            jobs = [partial(job, *pair) for pair in zip(models, hands, strict=True)]
            found = workers.together(jobs, threads)
            order = torch.cat([rows.flatten() for rows in hands]).argsort()
            tokens, logprobs = (torch.cat(part, 1)[:, order] for part in zip(*found, strict=True))
    return _to_rollouts(prompts, tokens, logprobs, eos)


def _deal(prompts: int, group_size: int, hands: int) -> list[Tensor]:
    """The rows 0 to B*G - 1, as (prompts, completions each), for each worker: whole groups where
    there are enough prompts, else a part of every group."""
    rows = torch.arange(prompts * group_size).view(prompts, group_size)
    dealt = rows.tensor_split(hands, 0 if prompts >= hands else 1)
    return [hand for hand in dealt if hand.numel()]


def _decode(
    decoder, n_rows: int, sampling: Sampling, uniform, eos, on_token
) -> tuple[Tensor, Tensor]:
    """The loop over positions. Returns tokens and log-probs (T, N); -1 and 0 where a row had left.
    What a row holds after its first EOS is undefined."""
    device, max_new_tokens = eos.device, sampling.max_new_tokens
    tokens = torch.full((max_new_tokens, n_rows), -1, dtype=torch.long, device=device)
    logprobs = torch.zeros(max_new_tokens, n_rows, device=device)
    rows = torch.arange(n_rows, device=device)  # (n,) the completion in each row of the batch
    done = torch.zeros(n_rows, dtype=torch.bool, device=device)  # (n,)
    # Counting the finished rows of a GPU makes the CPU wait, so count rarely there.
    ask_every = 1 if device.type == "cpu" else 8

    logits = decoder.prefill()  # (N, V)
    for t in range(max_new_tokens):
        u = None if uniform is None else uniform[t][rows]
        token, logprob = draw(logits, u, sampling.temperature, sampling.top_k, sampling.top_p)
        tokens[t].index_copy_(0, rows, token)
        logprobs[t].index_copy_(0, rows, logprob)
        if on_token is not None:
            on_token(t, rows, token)
        if t + 1 == max_new_tokens:
            break
        if len(eos):
            done |= token == eos[0] if len(eos) == 1 else torch.isin(token, eos)
            if t % ask_every == 0:
                n = len(rows) - int(done.sum())
                if n == 0:
                    break
                if n * 16 <= len(rows) * 15:  # enough to be worth the move
                    # The first n places: done rows there are replaced by live ones from the end.
                    order = torch.arange(n, device=device)
                    order[done[:n]] = (~done[n:]).nonzero().squeeze(1) + n
                    decoder.keep(order)
                    rows, token = rows[order], token[order]
                    done = torch.zeros(n, dtype=torch.bool, device=device)
        logits = decoder.step(token)  # (n, V)
    return tokens, logprobs


def _to_rollouts(prompts, tokens: Tensor, logprobs: Tensor, eos: Tensor) -> Rollouts:
    """(T, N) tensors to lists: each completion runs to its first EOS, included."""
    tokens, logprobs, eos = tokens.cpu(), logprobs.cpu(), eos.cpu()
    if not torch.isfinite(logprobs).all():
        raise R1LabError(
            "the model's logits are not finite numbers: its weights hold NaN or inf "
            "(a diverged run or a broken checkpoint); load an earlier checkpoint"
        )
    is_end = torch.isin(tokens, eos)  # (T, N)
    finished = is_end.any(0)
    length = torch.where(finished, is_end.int().argmax(0) + 1, len(tokens)).tolist()
    return Rollouts(
        prompt_ids=prompts,
        completion_ids=[ids[:n] for ids, n in zip(tokens.T.tolist(), length, strict=True)],
        logprobs=[lp[:n] for lp, n in zip(logprobs.T.tolist(), length, strict=True)],
        finished=finished.tolist(),
    )


def _check(model, prompts, group_size: int, max_new_tokens: int) -> None:
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise R1LabError("sample() needs a causal language model, not an encoder-decoder")
    if not prompts:
        raise R1LabError("sample() got no prompts: give it at least one list of token ids")
    if not all(prompts):
        raise R1LabError(f"prompt {[len(p) for p in prompts].index(0)} is empty: it needs a token")
    vocab = model.get_input_embeddings().weight.shape[0]
    low, high = min(map(min, prompts)), max(map(max, prompts))
    if low < 0 or high >= vocab:
        raise R1LabError(
            f"token id {low if low < 0 else high} is outside the model's vocabulary of {vocab}: "
            "was the prompt encoded with this model's tokenizer?"
        )
    if group_size < 1:
        raise R1LabError(f"group_size is {group_size}: it must be at least 1")
    limit, longest = max_positions(model), max(map(len, prompts))
    if longest + max_new_tokens > limit:
        raise R1LabError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit the model's "
            f"{limit} positions: lower max_new_tokens or shorten the prompt"
        )

"""Rollouts: the model answers each question G times; we keep what it drew and how likely that was.

GRPO (arXiv 2501.12948, section 2.2.1) begins every step here: for each question q it draws a group
of outputs {o_1, ..., o_G} from the old policy pi_old(. | q). Nothing else in the method touches the
model so often, one call per token, so this is where the time goes and where a little care pays.

**Drawing a token.** The model gives logits z, the policy is pi = softmax(z / temperature), and a
token is drawn by inverting the cumulative distribution: with u uniform in [0, 1), take the first
token whose cumulated probability exceeds u. One u per answer and position, all drawn before the
first token: the answer in row i reads column i whatever becomes of its neighbours. So the same seed
gives the same tokens no matter how the work is arranged, and two very different engines can be
compared token by token.

**The log-probabilities** that come back are those of pi itself: after temperature, *before* top-k
and top-p cut anything. They are what a full forward pass over the finished text gives (`score`),
and what the ratio pi / pi_old in the objective needs.

**Three engines, equal results.**
`forward` is the reference: the model's own forward with its own KV cache, for any causal LM; one
that keeps no such cache (Mamba, RWKV) reads its whole text again for every token.
`fast` is decoding written out, for Llama-, Qwen2- and Qwen3-type models, with the three savings
that matter for groups of answers of very unequal length:
  1. a question is read once, and its keys and values are *shared* by the whole group: attention
     takes the softmax over [question | own answer], two blocks of keys in two places;
  2. finished answers leave the batch, so the tail of a few long answers costs little;
  3. keys and values are written in place, and few large operations do the work of many small ones.
`static` (in `graphs`) is `fast` in fixed shapes, so that a GPU can repeat a recorded step, some of
whose work `kernels` does in one piece.

No end-of-text token is ever guessed from its id in a prompt or from padding: lengths say where an
answer ends, so a tokenizer whose EOS doubles as PAD is no special case.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from r1lab.errors import R1LabError

FAST_MODELS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
FAST_ROPE = ("default", "linear", "llama3", "yarn")  # rotations that do not depend on the length


@dataclass
class Rollouts:
    """B questions with G answers each; answer i belongs to question i // G (prompt-major)."""

    prompt_ids: list[list[int]]  # B questions, as token ids
    completion_ids: list[list[int]]  # B*G answers; an emitted EOS is part of the answer
    logprobs: list[list[float]]  # B*G; log pi(token | what came before), one per answer token
    finished: list[bool]  # B*G; True: the answer ended with EOS; False: cut at max_new_tokens


# ---------------------------------------------------------------------------------------------
# Sampling


def sample(
    model: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    *,
    group_size: int,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int] | None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    greedy: bool = False,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    engine: str = "auto",
    on_token: Callable[[int, Tensor, Tensor], None] | None = None,
) -> Rollouts:
    """Draw `group_size` answers to each of B questions from a transformers causal LM.

    prompt_ids: B lists of token ids, of any lengths >= 1.
    eos_token_id: the id, or several, that end an answer; None never ends one early.
    temperature > 0 divides the logits; top_k (0: off) and top_p (1: off) narrow what may be drawn,
        first k, then p; greedy takes the likeliest token and reports temperature-1 log-probs.
    seed or generator (not both) fixes the draws; with neither, torch's global generator is used.
    engine: "auto" (where the model allows it static on a CUDA GPU, fast elsewhere; else forward),
        "static", "fast" or "forward".
    on_token(t, rows, tokens) is called after each position t with the indices (n,) of the answers
        still in the batch, finished ones that have not left it yet included, and their tokens (n,).

    Raises R1LabError for input that cannot be right, and when the model's logits are not numbers.
    """
    prompts = [list(map(int, p)) for p in prompt_ids]
    _check(model, prompts, group_size, max_new_tokens, temperature, top_k, top_p, greedy)
    if seed is not None and generator is not None:
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
    if greedy:
        uniform, temperature = None, 1.0
    else:
        if generator is None and seed is not None:
            generator = torch.Generator().manual_seed(int(seed))
        where = generator.device if generator is not None else "cpu"
        uniform = torch.rand(max_new_tokens, n_rows, generator=generator, device=where)
        # The last few floats below 1 could round up to the total: stay clear of them.
        uniform = uniform.clamp_(max=1 - 2**-22).to(device)  # (T, N)

    eos = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id or [])
    eos = torch.tensor(eos, dtype=torch.long, device=device)

    how = (uniform, eos, temperature, top_k, top_p, on_token)
    # A model's own forward may keep tensors (dynamic rope does), which must not be inference ones.
    own = engine == "forward"
    with torch.no_grad() if own else torch.inference_mode(), _evaluation_mode(model):
        if engine == "static":
            from r1lab.graphs import decode  # it builds on this module

            tokens, logprobs = decode(model, prompts, group_size, max_new_tokens, *how)
        else:
            Engine = FastEngine
            if own:
                Engine = ForwardEngine if _takes(model, "past_key_values") else RereadEngine
            decoder = Engine(model, prompts, group_size, max_new_tokens)
            tokens, logprobs = _decode(decoder, n_rows, max_new_tokens, *how)
    return _to_rollouts(prompts, tokens, logprobs, eos)


def _decode(
    decoder, n_rows, max_new_tokens, uniform, eos, temperature, top_k, top_p, on_token
) -> tuple[Tensor, Tensor]:
    """The loop over positions. Returns tokens and log-probs (T, N); -1 and 0 where nothing was
    drawn because the row had left. What a row holds after its first EOS means nothing."""
    device = eos.device
    tokens = torch.full((max_new_tokens, n_rows), -1, dtype=torch.long, device=device)
    logprobs = torch.zeros(max_new_tokens, n_rows, device=device)
    rows = torch.arange(n_rows, device=device)  # (n,) which answer each line of the batch holds
    done = torch.zeros(n_rows, dtype=torch.bool, device=device)  # (n,)
    # Asking a GPU how many rows are done makes the CPU wait for it, so ask rarely there.
    ask_every = 1 if device.type == "cpu" else 8

    logits = decoder.prefill()  # (N, V)
    for t in range(max_new_tokens):
        u = None if uniform is None else uniform[t][rows]
        token, logprob = draw(logits, u, temperature, top_k, top_p)
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
                if n * 16 <= len(rows) * 15:  # enough are done for the move to pay
                    # The first n places: done rows there are replaced by live ones from the end.
                    order = torch.arange(n, device=device)
                    order[done[:n]] = (~done[n:]).nonzero().squeeze(1) + n
                    decoder.keep(order)
                    rows, token = rows[order], token[order]
                    done = torch.zeros(n, dtype=torch.bool, device=device)
        logits = decoder.step(token)  # (n, V)
    return tokens, logprobs


def draw(
    logits: Tensor,
    uniform: Tensor | None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """One token per row: (n, V) logits and (n,) uniforms -> tokens (n,), log-probs (n,) float32.

    uniform None is greedy. The log-probs are those of softmax(logits / temperature), untruncated.
    """
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    logp = logits.log_softmax(-1)  # (n, V)
    if uniform is None:
        token = logp.argmax(-1)
    else:
        kept = truncate(logp, top_k, top_p) if top_k > 0 or top_p < 1 else logp
        cdf = kept.exp().cumsum(-1)  # (n, V), unnormalised where truncated
        target = uniform[:, None] * cdf[:, -1:]
        token = torch.searchsorted(cdf, target, right=True).squeeze(1)
        token = token.clamp_(max=logits.shape[-1] - 1)  # only NaN logits get past the end
    return token, logp.gather(-1, token[:, None]).squeeze(1)


def truncate(logp: Tensor, top_k: int, top_p: float) -> Tensor:
    """-inf outside the top k tokens, then outside the smallest set of those that holds top_p of
    their mass (the likeliest token always stays). (n, V) -> (n, V)."""
    if 0 < top_k < logp.shape[-1]:
        smallest = logp.topk(top_k, -1).values[:, -1:]
        logp = logp.masked_fill(logp < smallest, -torch.inf)
    if top_p < 1:
        ordered, index = logp.sort(-1, descending=True)
        p = ordered.softmax(-1)
        before = p.cumsum(-1) - p  # the mass of the likelier tokens
        cut = before >= top_p
        cut[:, 0] = False
        logp = logp.masked_fill(torch.zeros_like(cut).scatter_(-1, index, cut), -torch.inf)
    return logp


def _to_rollouts(prompts, tokens: Tensor, logprobs: Tensor, eos: Tensor) -> Rollouts:
    """(T, N) tensors to lists: each answer runs to its first EOS, that included."""
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


def _check(model, prompts, group_size, max_new_tokens, temperature, top_k, top_p, greedy) -> None:
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
    if group_size < 1 or max_new_tokens < 1:
        raise R1LabError("group_size and max_new_tokens must be at least 1")
    if not greedy and not 0 < temperature < float("inf"):
        raise R1LabError(f"temperature is {temperature}: it must be > 0 (or pass greedy=True)")
    if top_k < 0 or not 0 < top_p <= 1:
        raise R1LabError(f"top_k={top_k}, top_p={top_p}: top_k >= 0 (0 is off), 0 < top_p <= 1")
    limit, longest = _positions(model), max(map(len, prompts))
    if longest + max_new_tokens > limit:
        raise R1LabError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit the model's "
            f"{limit} positions: lower max_new_tokens or shorten the prompt"
        )


def _positions(model: nn.Module) -> float:
    """How many tokens a text may have; infinite where the model's config does not say."""
    return getattr(model.config, "max_position_embeddings", None) or float("inf")


@contextmanager
def _evaluation_mode(model: nn.Module):
    """No dropout while we sample; afterwards every part is in the mode it was in before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _takes(model: nn.Module, argument: str) -> bool:
    """Does the model's forward know this argument? Asked of what torch.compile or PEFT wrap."""
    model = getattr(model, "_orig_mod", model)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return argument in inspect.signature(model.forward).parameters


# ---------------------------------------------------------------------------------------------
# Engine 1: the model's own forward


class ForwardEngine:
    """Any causal LM: prompts padded on the left, read once, the cache then repeated per group."""

    def __init__(self, model, prompts, group_size, max_new_tokens):
        self.model, self.group_size = model, group_size
        device = next(model.parameters()).device
        self.width = max(map(len, prompts))  # columns in the cache so far
        self.ids = torch.tensor([[0] * (self.width - len(p)) + p for p in prompts], device=device)
        lengths = torch.tensor([len(p) for p in prompts], device=device)
        padding = self.width - lengths
        self.mask = None  # (n, all columns) where there is padding: a mask of ones costs time
        if int(padding.max()):
            columns = torch.arange(self.width + max_new_tokens, device=device)
            self.mask = (columns >= padding[:, None]).long()
        self.position = lengths  # (n,) of the next token
        self.takes_positions = _takes(model, "position_ids")
        self.last_only = {"logits_to_keep": 1} if _takes(model, "logits_to_keep") else {}
        self.cache = DynamicCache(config=model.config)

    def _forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        """ids, positions (n, S) -> logits of the last position (n, V)."""
        extra = dict(self.last_only)
        if self.takes_positions:
            extra["position_ids"] = positions
        if self.mask is not None:
            extra["attention_mask"] = self.mask[:, : self.width]
        output = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, **extra)
        return output.logits[:, -1]

    def prefill(self) -> Tensor:
        back = torch.arange(self.width - 1, -1, -1, device=self.ids.device)  # S-1, ..., 0
        positions = (self.position[:, None] - 1 - back).clamp_(min=0)
        logits = self._forward(self.ids, positions)  # (B, V)
        group = torch.arange(len(logits), device=logits.device).repeat_interleave(self.group_size)
        self.keep(group)
        return logits[group]

    def keep(self, rows: Tensor) -> None:
        """Line i of the batch becomes what line rows[i] was (rows may repeat)."""
        # Not batch_select_indices: in 5.23 it leaves the state of linear-attention layers behind.
        self.cache.reorder_cache(rows)
        self.position = self.position[rows]
        self.mask = None if self.mask is None else self.mask[rows]

    def step(self, token: Tensor) -> Tensor:
        self.width += 1
        logits = self._forward(token[:, None], self.position[:, None])
        self.position = self.position + 1
        return logits


class RereadEngine:
    """A model without a KV cache reads the whole text for each token: slow, and right.

    Such a forward swallows an argument that it does not know, so a cache would be lost in silence.
    """

    def __init__(self, model, prompts, group_size, max_new_tokens):
        self.model, self.group_size = model, group_size
        device = next(model.parameters()).device
        self.length = torch.tensor([len(p) for p in prompts], device=device)  # (n,) so far
        width = max(map(len, prompts)) + max_new_tokens
        self.ids = torch.tensor([p + [0] * (width - len(p)) for p in prompts], device=device)

    def _read(self) -> Tensor:
        """-> logits at each row's last token (n, V); what follows it on the right is unseen."""
        logits = self.model(input_ids=self.ids[:, : int(self.length.max())], use_cache=False).logits
        return logits[torch.arange(len(logits), device=logits.device), self.length - 1]

    def prefill(self) -> Tensor:
        logits = self._read()  # (B, V)
        group = torch.arange(len(logits), device=logits.device).repeat_interleave(self.group_size)
        self.keep(group)
        return logits[group]

    def keep(self, rows: Tensor) -> None:
        self.ids, self.length = self.ids[rows], self.length[rows]

    def step(self, token: Tensor) -> Tensor:
        self.ids.scatter_(1, self.length[:, None], token[:, None])
        self.length = self.length + 1
        return self._read()


# ---------------------------------------------------------------------------------------------
# Engine 2: decoding written out


def why_not_fast(model: nn.Module) -> str | None:
    """None where the fast engine gives the model's own results, else the reason why it may not."""
    if type(model).__name__ not in FAST_MODELS:
        return f"{type(model).__name__} is not one of {', '.join(FAST_MODELS)}"
    config = model.config
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in FAST_ROPE:
        return f"rope type {rope}"
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        return "sliding-window layers"
    if type(model.lm_head) is not nn.Linear:
        return "an output layer that is not a plain linear layer"
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        linear = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        linear += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
        if any(type(module) is not nn.Linear for module in linear):
            return "projections that are not plain linear layers (adapters, quantisation)"
        if any(module.bias is not None for module in linear[3:]):
            return "biases outside q, k and v"
    if len({(p.device, p.dtype) for p in model.parameters()}) > 1:
        return "parameters of several dtypes or on several devices"
    return None


class FastEngine:
    """Llama, Qwen2 and Qwen3 written out for one token per row and step.

    Letters in shapes: n rows of the batch; H query heads of width d; K key-value heads, each
    serving R = H / K query heads; D the model's width; P prompt tokens (padded); B questions.
    """

    multiple = 1  # the prompts' columns are padded to a multiple of this

    def __init__(self, model, prompts, group_size, max_new_tokens):
        config = model.config
        self.model, self.group_size, self.max_new_tokens = model, group_size, max_new_tokens
        self.H, self.K = config.num_attention_heads, config.num_key_value_heads
        self.d = model.model.layers[0].self_attn.head_dim
        self.device, self.dtype = model.device, model.dtype
        self.layers = [fuse(layer) for layer in model.model.layers]

        self.lengths = torch.tensor([len(p) for p in prompts], device=self.device)  # (B,)
        width = -(-max(map(len, prompts)) // self.multiple) * self.multiple
        ids = [p + [0] * (width - len(p)) for p in prompts]  # padded on the right
        self.prompt_ids = torch.tensor(ids, device=self.device)  # (B, P)

        # cos and sin of every position that can occur, sin signed for the rotation by halves:
        # (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin) = x * cos + swap_halves(x) * (-sin, sin)
        # Both carry d^(-1/4), so that q and k meet with the attention's 1 / sqrt(d) built in.
        positions = torch.arange(width + max_new_tokens, device=self.device)[None]
        like = torch.empty(0, device=self.device, dtype=self.dtype)
        cos, sin = model.model.rotary_emb(like, positions)
        sign = torch.ones_like(sin[0, 0])
        sign[: self.d // 2] = -1
        self.quarter = self.d**-0.25
        self.cos, self.sin = cos[0] * self.quarter, sin[0] * sign * self.quarter  # (positions, d)

    def prefill(self) -> Tensor:
        """Read each question once, with the model's own forward. -> logits (B*G, V)."""
        n_questions, width = self.prompt_ids.shape
        cache = DynamicCache(config=self.model.config)
        # No mask: padding stands on the right, where causal attention never looks.
        hidden = self.model.model(
            input_ids=self.prompt_ids, past_key_values=cache, use_cache=True
        ).last_hidden_state  # (B, P, D)
        last = hidden[torch.arange(n_questions, device=self.device), self.lengths - 1]
        # The questions' keys and values, kept once for the whole group: (B*K, d, P), (B*K, P, d)
        self.prompt_kv = [
            (layer.keys.flatten(0, 1).mT * self.quarter, layer.values.flatten(0, 1).contiguous())
            for layer in cache.layers
        ]
        padded = torch.arange(width, device=self.device) >= self.lengths[:, None]  # (B, P)
        bias = torch.zeros(padded.shape, device=self.device, dtype=self.dtype)
        bias = bias.masked_fill_(padded, -torch.inf)
        self.prompt_bias = bias.repeat_interleave(self.K, 0)[:, None]  # (B*K, 1, P)

        self.question = torch.arange(n_questions, device=self.device)
        self.question = self.question.repeat_interleave(self.group_size)  # (n,)
        self.position = self.lengths[self.question]  # (n,) of the next token
        self._assign_slots()
        self.t, self.capacity = 0, 0
        shape = (2, len(self.question), self.K, 0, self.d)
        empty = torch.empty(shape, device=self.device, dtype=self.dtype)
        self.kv = [empty] * len(self.layers)  # (2, n, K, capacity, d) per layer
        logits = F.linear(last, self.model.lm_head.weight, self.model.lm_head.bias)
        return logits[self.question]

    def keep(self, order: Tensor) -> None:
        """Line i of the batch becomes what line order[i] was; only lines that change are copied."""
        n = len(order)
        moved = (order != torch.arange(n, device=self.device)).nonzero().squeeze(1)
        for i, kv in enumerate(self.kv):
            kv[:, moved, :, : self.t] = kv[:, order[moved], :, : self.t]
            self.kv[i] = kv[:, :n]
        self.question, self.position = self.question[order], self.position[order]
        self._assign_slots()

    def _grow(self) -> None:
        """Double the room for the answers' keys and values: few copies, little that stays empty."""
        self.capacity = min(self.max_new_tokens, max(64, 2 * self.capacity))
        shape = (2, len(self.question), self.K, self.capacity, self.d)
        for i, old in enumerate(self.kv):
            self.kv[i] = torch.empty(shape, device=self.device, dtype=self.dtype)
            self.kv[i][:, :, :, : self.t] = old

    def _assign_slots(self) -> None:
        """All rows of a question meet its keys in one matrix product, so each gets a slot there.

        to_slots (B*K*S*R,) and from_slots (n*H,) reorder (row, head) pairs into (question, key
        head, slot, query head) and back; S is the largest group left. Unused slots repeat row 0.
        """
        n, n_questions, R = len(self.question), len(self.lengths), self.H // self.K
        count = torch.bincount(self.question, minlength=n_questions)
        S = int(count.max())
        by_question = self.question.argsort(stable=True)
        first = count.cumsum(0) - count
        slot = torch.empty_like(by_question)
        everyone = torch.arange(n, device=self.device)
        slot[by_question] = everyone - first[self.question[by_question]]

        row_in = torch.zeros(n_questions, S, dtype=torch.long, device=self.device)
        row_in[self.question, slot] = everyone
        head = torch.arange(self.H, device=self.device).view(self.K, 1, R)
        # In the fused projection a row has H + 2K heads, of which the first H are queries.
        self.q_to_slots = (row_in[:, None, :, None] * (self.H + 2 * self.K) + head).flatten()
        self.p_to_slots = (row_in[:, None, :, None] * self.H + head).flatten()
        key_head, query_head = head.flatten() // R, head.flatten() % R
        at = (self.question[:, None] * self.K + key_head) * S + slot[:, None]
        self.from_slots = (at * R + query_head).flatten()

    def step(self, token: Tensor) -> Tensor:
        """token (n,) at each row's next position -> logits for the one after (n, V)."""
        if self.t == self.capacity:
            self._grow()
        self.t += 1
        logits = self._forward(token)
        self.position = self.position + 1
        return logits

    def _forward(self, token: Tensor) -> Tensor:
        """One pass through all layers: token (n,) at `position` -> logits (n, V)."""
        cos, sin = self._angles()
        x = self.model.model.embed_tokens(token)  # (n, D)
        for layer, kv, prompt_kv in zip(self.layers, self.kv, self.prompt_kv, strict=True):
            qkv = self._project(x, layer)
            x = self._finish(x, self._attend(qkv, cos, sin, kv, prompt_kv), layer)
        norm, head = self.model.model.norm, self.model.lm_head
        x = F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)
        return F.linear(x, head.weight, head.bias)

    def _project(self, x, layer) -> Tensor:
        """Queries, keys and values of x (n, D): (n, H + 2K, d)."""
        n, H, K, d = len(x), self.H, self.K, self.d
        h = F.rms_norm(x, x.shape[1:], layer.norm_1, layer.eps)
        qkv = F.linear(h, layer.w_qkv, layer.b_qkv).view(n, H + 2 * K, d)
        if layer.q_norm is not None:
            qkv[:, :H] = F.rms_norm(qkv[:, :H], (d,), layer.q_norm, layer.eps)
            qkv[:, H : H + K] = F.rms_norm(qkv[:, H : H + K], (d,), layer.k_norm, layer.eps)
        return qkv

    def _angles(self) -> tuple[Tensor, Tensor]:
        """cos and sin of each row's position: (n, 1, d) each."""
        at = self.position
        return self.cos.index_select(0, at)[:, None], self.sin.index_select(0, at)[:, None]

    def _rotate(self, qkv, cos, sin) -> None:
        """Queries and keys turned to their position, in place."""
        qk = qkv[:, : self.H + self.K]
        swapped = qk.roll(self.d // 2, -1)
        qk.mul_(cos).addcmul_(swapped, sin)

    def _attend(self, qkv, cos, sin, kv, prompt_kv) -> Tensor:
        """Stores this token's key and value; attention over question and own answer: (n, H d)."""
        n, H, K, R, d, t = len(qkv), self.H, self.K, self.H // self.K, self.d, self.t
        self._rotate(qkv, cos, sin)
        kv[:, :, :, t - 1] = qkv[:, H:].view(n, 2, K, d).transpose(0, 1)

        # Scores against the question's keys, a group at a time, and against the row's own
        prompt_keys, prompt_values = prompt_kv  # (B*K, d, P), (B*K, P, d)
        B_K, P = len(prompt_values), prompt_values.shape[1]
        q = qkv.view(-1, d).index_select(0, self.q_to_slots).view(B_K, -1, d)  # (B*K, S*R, d)
        shared = torch.baddbmm(self.prompt_bias, q, prompt_keys)  # (B*K, S*R, P)
        shared = shared.view(-1, P).index_select(0, self.from_slots)  # (n*H, P)
        keys, values = kv[0, :, :, :t].flatten(0, 1), kv[1, :, :, :t].flatten(0, 1)  # (n*K, t, d)
        own = torch.bmm(qkv[:, :H].reshape(n * K, R, d), keys.mT)  # (n*K, R, t)

        # One softmax over both, then each part weighs its own values
        p = torch.cat((shared, own.view(n * H, t)), -1).softmax(-1, dtype=torch.float32)
        p = p.to(qkv.dtype)  # (n*H, P + t)
        p_shared = p[:, :P].index_select(0, self.p_to_slots).view(B_K, -1, P)
        shared = torch.bmm(p_shared, prompt_values).view(-1, d).index_select(0, self.from_slots)
        out = torch.bmm(p.view(n * K, R, P + t)[:, :, P:], values).view(n * H, d).add_(shared)
        return out.view(n, H * d)

    def _finish(self, x, attended, layer) -> Tensor:
        """Attention's output and the MLP, each added to the stream x (n, D)."""
        x = x.addmm_(attended, layer.w_o.T)
        h = F.rms_norm(x, x.shape[1:], layer.norm_2, layer.eps)
        h = self._gate(F.linear(h, layer.w_gate_up), layer)
        return x.addmm_(h, layer.w_down.T)

    def _gate(self, gate_up, layer) -> Tensor:
        """(n, 2F) -> act(gate) * up (n, F)."""
        gate, up = gate_up.chunk(2, -1)
        return layer.act(gate) * up


@dataclass
class FusedLayer:
    """One decoder layer's weights, the projections that read the same input joined in one."""

    norm_1: Tensor
    w_qkv: Tensor  # ((H + 2K) d, D)
    b_qkv: Tensor | None
    q_norm: Tensor | None  # (d,), Qwen3 only
    k_norm: Tensor | None
    w_o: Tensor  # (D, H d)
    norm_2: Tensor
    w_gate_up: Tensor  # (2 F, D)
    w_down: Tensor  # (D, F)
    act: Callable[[Tensor], Tensor]
    eps: float


def fuse(layer: nn.Module) -> FusedLayer:
    """Copies q, k, v and gate, up of a transformers decoder layer; shares the rest."""
    a, m = layer.self_attn, layer.mlp
    qkv = (a.q_proj, a.k_proj, a.v_proj)
    return FusedLayer(
        norm_1=layer.input_layernorm.weight,
        w_qkv=torch.cat([p.weight for p in qkv]),
        b_qkv=None if a.q_proj.bias is None else torch.cat([p.bias for p in qkv]),
        q_norm=a.q_norm.weight if hasattr(a, "q_norm") else None,
        k_norm=a.k_norm.weight if hasattr(a, "k_norm") else None,
        w_o=a.o_proj.weight,
        norm_2=layer.post_attention_layernorm.weight,
        w_gate_up=torch.cat((m.gate_proj.weight, m.up_proj.weight)),
        w_down=m.down_proj.weight,
        act=m.act_fn,
        eps=layer.input_layernorm.variance_epsilon,
    )


# ---------------------------------------------------------------------------------------------
# Log-probabilities of finished text


def token_logps(
    model: nn.Module,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    temperature: float = 1.0,
    device: torch.device | str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """log pi(o_t | q, o_<t) of every answer token in one micro-batch, with gradients where enabled.

    rows: N pairs (prompt ids, completion ids). The whole texts stand in one (N, L) batch, padded on
    the right, without an attention mask: nothing that counts ever looks to its right, so padding is
    harmless and attention takes its fast causal path.

    Returns logp (N, T), mask (N, T) bool, True on answer tokens (EOS included), and entropy (N, T)
    of the policy at each of them, in nats, without gradient; T is the longest completion here.
    logp and entropy are float32 and 0 outside the mask.
    """
    device = device or next(model.parameters()).device
    texts = [[*prompt, *completion] for prompt, completion in rows]
    width, T = max(map(len, texts)), max(len(completion) for _, completion in rows)
    ids = torch.tensor([t + [0] * (width - len(t)) for t in texts], device=device)  # (N, L)
    start = torch.tensor([len(prompt) for prompt, _ in rows], device=device)
    length = torch.tensor([len(completion) for _, completion in rows], device=device)
    steps = torch.arange(T, device=device)
    mask = steps < length[:, None]  # (N, T)
    # The logits at position p speak about the token at p + 1.
    offset = torch.arange(len(rows), device=device)[:, None] * width
    where = (offset + start[:, None] - 1 + steps)[mask]  # (M,) flat positions that predict
    target = ids.flatten()[where + 1]  # (M,)

    if type(model).__name__ in FAST_MODELS:  # logits only where an answer token is predicted
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1).index_select(0, where))  # (M, V)
    else:
        logits = model(input_ids=ids, use_cache=False).logits
        logits = logits.flatten(0, 1).index_select(0, where)
    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    every = logits.log_softmax(-1)  # (M, V)
    with torch.no_grad():
        h = -(every.exp() * every).sum(-1)
    logp = every.gather(-1, target[:, None]).squeeze(1)
    zeros = torch.zeros(mask.shape, device=device)
    return zeros.masked_scatter(mask, logp), mask, zeros.masked_scatter(mask, h)


def micro_batches(lengths: Sequence[int], max_tokens: int, overhead: int = 512) -> list[list[int]]:
    """Indices in batches of similar length, rows x longest <= max_tokens in each.

    A short row beside a long one is padded to its length, and computed for nothing; a pass of its
    own costs about as much as `overhead` tokens. The batches here are those with the smallest sum
    of both, by dynamic programming over the lengths that occur: with answers as unequal as a base
    model's, filling every batch up to max_tokens would more than double the work.

    Longest first, so that a batch too big for the memory fails at once. A row that exceeds the
    budget alone gets a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    starts = [k for k, i in enumerate(order) if k == 0 or lengths[i] != lengths[order[k - 1]]]
    ends = [*starts[1:], len(order)][
        : len(starts)
    ]  # rows starts[a] to ends[a] - 1 have one length, the a-th
    best, cut = [0.0], [0]  # of the first a lengths: the least cost, and where its last part begins
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


@torch.no_grad()
def score(
    model: nn.Module,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    temperature: float = 1.0,
    max_tokens: int = 16384,
) -> list[Tensor]:
    """Log-probs of given answers by full forward passes, one float32 tensor (length,) per row.

    prompt_ids has one entry per row here (repeat a question for each of its answers). max_tokens
    bounds the padded tokens of one pass.
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
    if longest > _positions(model):
        raise R1LabError(
            f"score() got a text of {longest} tokens, more than the model's {_positions(model)} "
            "positions: shorten it"
        )
    if not 0 < temperature < float("inf"):
        raise R1LabError(f"temperature is {temperature}: it must be > 0")
    scores: list[Tensor] = [torch.empty(0)] * len(rows)
    with _evaluation_mode(model):
        for batch in micro_batches([len(p) + len(c) for p, c in rows], max_tokens):
            logp, _, _ = token_logps(model, [rows[i] for i in batch], temperature)
            for line, i in zip(logp, batch, strict=True):
                scores[i] = line[: len(rows[i][1])]
    return scores

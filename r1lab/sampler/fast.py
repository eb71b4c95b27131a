"""The fast sampler: fused projections, one key-value cache for a group's prompt."""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache

from r1lab.sampler.families import Family, family_of


class FastEngine:
    """The decoders of `families` written out for one token per row and step.

    Shapes: n rows of the batch; H query heads of width d; K key-value heads, each for R = H / K
    query heads; D the model's width; P prompt tokens (padded); B prompts.
    """

    multiple = 1  # the prompts' columns are padded to a multiple of this

    def __init__(self, model, prompts, group_size, max_new_tokens):
        config = model.config
        self.model, self.group_size, self.max_new_tokens = model, group_size, max_new_tokens
        self.H, self.K = config.num_attention_heads, config.num_key_value_heads
        self.device, self.dtype = model.device, model.dtype
        self.layers = [fuse(layer, family_of(model)) for layer in model.model.layers]
        self.d = len(self.layers[0].w_qkv) // (self.H + 2 * self.K)

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
        """Read each prompt once, with the model's own forward. -> logits (B*G, V)."""
        n_questions, width = self.prompt_ids.shape
        cache = DynamicCache(config=self.model.config)
        # No mask: padding stands on the right, where causal attention never looks.
        hidden = self.model.model(
            input_ids=self.prompt_ids, past_key_values=cache, use_cache=True
        ).last_hidden_state  # (B, P, D)
        last = hidden[torch.arange(n_questions, device=self.device), self.lengths - 1]
        # The prompts' keys and values, once per group: (B*K, d, P), (B*K, P, d)
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
        """Row i of the batch becomes row order[i]; only rows that change are copied."""
        n = len(order)
        moved = (order != torch.arange(n, device=self.device)).nonzero().squeeze(1)
        for i, kv in enumerate(self.kv):
            kv[:, moved, :, : self.t] = kv[:, order[moved], :, : self.t]
            self.kv[i] = kv[:, :n]
        self.question, self.position = self.question[order], self.position[order]
        self._assign_slots()

    def _grow(self) -> None:
        """Double the room for the completions' keys and values."""
        self.capacity = min(self.max_new_tokens, max(64, 2 * self.capacity))
        shape = (2, len(self.question), self.K, self.capacity, self.d)
        for i, old in enumerate(self.kv):
            self.kv[i] = torch.empty(shape, device=self.device, dtype=self.dtype)
            self.kv[i][:, :, :, : self.t] = old

    def _assign_slots(self) -> None:
        """A slot for each row, since all rows of a prompt meet its keys in one matrix product.

        to_slots (B*K*S*R,) and from_slots (n*H,) reorder (row, head) pairs into (prompt, key head,
        slot, query head) and back; S is the largest group left. Unused slots repeat row 0.
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
        """Stores this token's key and value; attention over prompt and completion: (n, H d)."""
        n, H, t = len(qkv), self.H, self.t
        self._rotate(qkv, cos, sin)
        kv[:, :, :, t - 1] = qkv[:, H:].view(n, 2, self.K, self.d).transpose(0, 1)
        return self._mix(qkv, kv[:, :, :, :t], prompt_kv)

    def _mix(self, qkv, kv, prompt_kv, bias: Tensor | None = None) -> Tensor:
        """Attention of rotated queries: (n, H d). kv (2, n, K, t, d); bias (t,): -inf hides."""
        n, H, K, R, d, t = len(qkv), self.H, self.K, self.H // self.K, self.d, kv.shape[3]
        # Scores against the prompt's keys, a group at a time, and against the row's own
        (prompt_keys, prompt_values), (keys, values) = prompt_kv, kv.flatten(1, 2)  # (n*K, t, d)
        B_K, P = len(prompt_values), prompt_values.shape[1]
        q = qkv.view(-1, d).index_select(0, self.q_to_slots).view(B_K, -1, d)  # (B*K, S*R, d)
        shared = torch.baddbmm(self.prompt_bias, q, prompt_keys)  # (B*K, S*R, P)
        shared = shared.view(-1, P).index_select(0, self.from_slots)  # (n*H, P)
        own = torch.bmm(qkv[:, :H].reshape(n * K, R, d), keys.mT).view(n * H, t)
        own = own if bias is None else own.add_(bias)

        # One softmax over both, then each part weighs its own values
        p = torch.cat((shared, own), -1).softmax(-1, dtype=torch.float32)
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


def fuse(layer: nn.Module, family: Family) -> SimpleNamespace:
    """A decoder layer's weights, with q, k, v and gate, up as one matrix each."""
    a, m = layer.self_attn, layer.mlp
    qkv = [getattr(a, name) for name in family.qkv]
    gate_up = [getattr(m, name) for name in family.gate_up]
    norm_1, norm_2 = (getattr(layer, name) for name in family.norms)
    norms = [getattr(a, name).weight for name in family.qk_norm or ()]
    return SimpleNamespace(
        norm_1=norm_1.weight,
        w_qkv=joined([p.weight for p in qkv]),  # ((H + 2K) d, D)
        b_qkv=None if qkv[0].bias is None else joined([p.bias for p in qkv]),
        q_norm=norms[0] if norms else None,  # (d,)
        k_norm=norms[1] if norms else None,
        w_o=getattr(a, family.out).weight,  # (D, H d)
        norm_2=norm_2.weight,
        w_gate_up=joined([p.weight for p in gate_up]),  # (2 F, D)
        w_down=getattr(m, family.down).weight,  # (D, F)
        act=getattr(m, family.act),
        eps=norm_1.variance_epsilon,
    )


def joined(parts: list[Tensor]) -> Tensor:
    """The parts, stacked by rows; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)

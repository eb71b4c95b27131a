"""Sampling through the model's own forward, with its cache or without one."""

import inspect

import torch
from torch import Tensor, nn
from transformers import DynamicCache


def _takes(model: nn.Module, argument: str) -> bool:
    """Does the model's forward, under torch.compile or PEFT, take this argument?"""
    model = getattr(model, "_orig_mod", model)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    return argument in inspect.signature(model.forward).parameters


class ForwardEngine:
    """Any causal LM: prompts padded on the left, read once, then the cache repeated per group."""

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
        return self._grouped(self._forward(self.ids, positions))

    def _grouped(self, logits: Tensor) -> Tensor:
        """(B, V) -> (B*G, V), and the rows of the batch with them."""
        group = torch.arange(len(logits), device=logits.device).repeat_interleave(self.group_size)
        self.keep(group)
        return logits[group]

    def keep(self, rows: Tensor) -> None:
        """Row i of the batch becomes row rows[i]; rows may repeat."""
        # Not batch_select_indices: in 5.23 it leaves the state of linear-attention layers behind.
        self.cache.reorder_cache(rows)
        self.position = self.position[rows]
        self.mask = None if self.mask is None else self.mask[rows]

    def step(self, token: Tensor) -> Tensor:
        self.width += 1
        logits = self._forward(token[:, None], self.position[:, None])
        self.position = self.position + 1
        return logits


class RereadEngine(ForwardEngine):
    """A model without an exact KV cache reads the whole text for each token: slow and correct."""

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
        return self._grouped(self._read())

    def keep(self, rows: Tensor) -> None:
        self.ids, self.length = self.ids[rows], self.length[rows]

    def step(self, token: Tensor) -> Tensor:
        self.ids.scatter_(1, self.length[:, None], token[:, None])
        self.length = self.length + 1
        return self._read()

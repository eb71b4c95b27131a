"""Decoding in fixed shapes: one step, recorded as a CUDA graph and then replayed.

For each new token a small model launches hundreds of kernels of a few microseconds, which takes
Python longer than the GPU needs to run them. A CUDA graph replays all launches of a step with one
call, at the same addresses. So in `StaticEngine.step` all that changes lies in tensors that stay
where they are; no shape depends on the number t of the token (keys and values have room for
`capacity` tokens, a mask hides the rest); and nothing is read back, which would wait for the GPU.

The capacity begins small and doubles. Finished rows leave when it grows, or when half of the rows
are finished. After such a change (`arrange`) one step runs in Python, which also warms up what the
recording needs, and is recorded anew. On a CPU `step` runs unrecorded, with the same results.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor, nn

from r1lab.sampler.draw import Sampling, draw
from r1lab.sampler.fast import FastEngine

FIRST_CAPACITY = 64  # tokens of a completion that fit at first; doubled when full
FIRST_WITH_KERNELS = 256  # the same with our kernels, which do not read unused room
ASK_EVERY = 16  # tokens between two counts of the finished rows
SILU = ("SiLU", "SiLUActivation")  # what the gate's kernel computes, by torch's and HF's names
ALIGNED = 8  # rows and columns come in multiples of this: 16 bytes of bfloat16, for matrix products


def decode(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    sampling: Sampling,
    uniform: Tensor | None,
    eos: Tensor,
    on_token: Callable[[int, Tensor, Tensor], None] | None,
) -> tuple[Tensor, Tensor]:
    """Tokens and log-probs (T, N); -1 and 0 where a row had left. uniform (T, N), or None for
    greedy; eos (E,) the ids that end a completion."""
    max_new_tokens = sampling.max_new_tokens
    engine = StaticEngine(model, prompts, group_size, sampling, uniform, eos)
    with own_stream(engine.device):
        engine.prefill()
        alive = Census(engine.N, engine.device)
        for t in range(max_new_tokens):  # the token at position t has been drawn
            if on_token is not None:
                on_token(t, engine.rows, engine.tokens[t][engine.rows])
            if t + 1 == max_new_tokens:
                break
            if len(eos) and t % ASK_EVERY == 0 and alive.ask(engine.done) == 0:
                break
            n = min(up(alive.known), len(engine.rows))
            if t == engine.capacity:
                first = FIRST_CAPACITY if engine.kernels is None else FIRST_WITH_KERNELS
                engine.arrange(t, n, min(max(first, 2 * t), up(max_new_tokens)))
            elif 2 * n <= len(engine.rows):
                engine.arrange(t, n, engine.capacity)
            engine.advance()
    return engine.tokens, engine.logprobs


def up(number: int) -> int:
    """The next multiple of ALIGNED."""
    return -(-number // ALIGNED) * ALIGNED


class StaticEngine(FastEngine):
    """FastEngine with a step that samples its own token. Shapes as there; T tokens at most for each
    of N completions, n of them in the batch; C is the capacity."""

    multiple = ALIGNED

    def __init__(self, model, prompts, group_size, sampling, uniform, eos):
        super().__init__(model, prompts, group_size, sampling.max_new_tokens)
        self.uniform, self.eos, self.sampling = uniform, eos, sampling
        self.N = len(prompts) * group_size
        shape, device = (sampling.max_new_tokens, self.N), self.device
        self.tokens = torch.full(shape, -1, dtype=torch.long, device=device)  # (T, N) the results
        self.logprobs = torch.zeros(shape, device=device)  # (T, N)
        self.rows = torch.arange(self.N, device=device)  # (n,) the completion in each row
        self.done = torch.zeros(self.N, dtype=torch.bool, device=device)  # (n,) it has ended
        self.token = torch.zeros(self.N, dtype=torch.long, device=device)  # (n,) drawn last
        self.now = torch.zeros(1, dtype=torch.long, device=device)  # (1,) t of the next token
        self.graph, self.recorded, self.pool = None, False, None
        self.kernels = find_kernels(self.device, self.dtype, self.H, self.K, self.d)

    def prefill(self) -> None:
        """Read each prompt once, and sample the first token of all its completions."""
        self._draw(super().prefill())

    def step(self) -> None:
        """Read the token that was sampled last, and sample the next one."""
        self.slot = self.now - 1  # (1,) where its key and value go
        if self.kernels is None:  # from now on seen
            self.hidden.index_fill_(0, self.slot, 0.0)
        logits = self._forward(self.token)
        self.position += 1
        self._draw(logits)

    def _draw(self, logits: Tensor) -> None:
        """logits (n, V) -> a token for each row, stored at t."""
        where = self.now * self.N + self.rows  # (n,) of (t, row) in a flat (T, N)
        u = None if self.uniform is None else self.uniform.view(-1).index_select(0, where)
        token, logprob = self._pick(logits, u)
        self.tokens.view(-1).index_copy_(0, where, token)
        self.logprobs.view(-1).index_copy_(0, where, logprob)
        self.done |= (token[:, None] == self.eos).any(1)
        self.token.copy_(token)
        self.now += 1

    # One kernel each where `find_kernels` found some, else torch operations

    def _pick(self, logits: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
        how = self.sampling
        if self.kernels is None or uniform is None or how.top_k > 0 or how.top_p < 1:
            return draw(logits, uniform, how.temperature, how.top_k, how.top_p)
        return self.kernels.draw(logits, uniform, how.temperature)

    def _angles(self) -> tuple[Tensor, Tensor]:
        """The whole tables for the kernel, which looks up positions itself."""
        return super()._angles() if self.kernels is None else (self.cos, self.sin)

    def _attend(self, qkv, cos, sin, kv, prompt_kv) -> Tensor:
        """As FastEngine's, over all C places with a mask; or by our kernel, which reads only those
        that hold a token."""
        if self.kernels is not None:
            at = (self.position, kv, prompt_kv, self.lengths, self.question, self.now)
            return self.kernels.attend(qkv, (cos, sin), *at)
        self._rotate(qkv, cos, sin)
        new = qkv[:, self.H :].view(len(qkv), 2, self.K, 1, self.d).transpose(0, 1)
        kv.index_copy_(3, self.slot, new)  # (2, n, K, C, d)
        return self._mix(qkv, kv, prompt_kv, self.hidden)

    def _gate(self, gate_up: Tensor, layer) -> Tensor:
        if self.kernels is not None and type(layer.act).__name__ in SILU:
            return self.kernels.gated(gate_up)
        return super()._gate(gate_up, layer)

    def advance(self) -> None:
        """One step: by Python where it is new or on a CPU, else by replaying its recording."""
        if self.recorded:
            self.graph.replay()
            return
        self.step()
        if self.can_record:
            # The previous graph dies only here: it kept the memory pool that the new one takes.
            self.graph, self.recorded = self.record(), True

    @property
    def can_record(self) -> bool:
        return self.device.type == "cuda"

    def record(self) -> torch.cuda.CUDAGraph:
        """A step as a CUDA graph; recording does not run it."""
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        with torch.cuda.graph(
            graph, pool=self.pool, stream=stream, capture_error_mode="thread_local"
        ):
            self.step()
        return graph

    def arrange(self, t: int, n: int, capacity: int) -> None:
        """Keep n rows, the unfinished ones first, with t tokens read and room for `capacity`."""
        order = self.done.int().argsort(stable=True)[:n]
        for i, old in enumerate(self.kv):  # (2, n, K, C, d)
            # Zeros, as the mask gives weight 0 to what is not there yet, and 0 * NaN is NaN.
            self.kv[i] = old.new_zeros(2, n, self.K, capacity, self.d)
            self.kv[i][:, :, :, :t] = old[:, order, :, :t]
        for name in ("rows", "done", "token", "position", "question"):
            setattr(self, name, getattr(self, name)[order])
        self.hidden = self.prompt_bias.new_full((capacity,), -torch.inf)
        self.hidden[:t] = 0.0
        self.capacity, self.recorded = capacity, False
        self._assign_slots()


@cache
def find_kernels(
    device: torch.device, dtype: torch.dtype, H: int, K: int, d: int
) -> ModuleType | None:
    """`sampler.kernels` on a GPU where Triton works for the model's type and heads; else None."""
    if device.type != "cuda":
        return None
    try:
        from r1lab.sampler import kernels

        kernels.check(device, dtype, H, K, d)
    except Exception as error:  # no Triton, no compiler, an unknown card, wrong results
        first = str(error).strip().split("\n")[0]
        warnings.warn(f"drawing without r1lab's GPU kernels, slower: {first}", stacklevel=2)
        return None
    return kernels


class Census:
    """How many rows are unfinished, without waiting for the GPU.

    The count is copied to the CPU when the GPU gets there; `ask` returns the one requested before,
    ASK_EVERY tokens ago. It may be too high, never too low.
    """

    def __init__(self, n: int, device: torch.device):
        cuda, self.known = device.type == "cuda", n
        self.count = torch.full((), n, dtype=torch.long, pin_memory=cuda)
        self.arrived = torch.cuda.Event() if cuda else None

    def ask(self, done: Tensor) -> int:
        """done (n,): requests their count; returns the last one, now `known`."""
        if self.arrived is not None:
            self.arrived.synchronize()
        self.known = int(self.count)
        self.count.copy_((~done).sum(), non_blocking=True)
        if self.arrived is not None:
            self.arrived.record()
        return self.known


_side_stream = cache(torch.cuda.Stream)  # one per process: memory used on a stream is kept for it


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """A CUDA stream other than the default one, which cannot be recorded; does nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    outer, side = torch.cuda.current_stream(device), _side_stream(device)
    side.wait_stream(outer)
    try:
        with torch.cuda.stream(side):
            yield
    finally:
        outer.wait_stream(side)

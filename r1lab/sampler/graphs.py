"""Decoding in fixed shapes: one step, recorded once as a CUDA graph and then replayed.

**Why.** For every new token a small model runs hundreds of kernels of a few microseconds each (30
layers of some 25). Python takes longer to launch a kernel than the GPU to run it, so the GPU waits
for Python. A CUDA graph records the launches of one step; `replay` sends all of them with one call.
(`kernels` then makes them fewer.)

**What that asks of a step.** A replay does the same work at the same addresses, whatever Python
thinks by then. So in `StaticEngine.step`
  - all that changes from token to token lies in tensors that stay where they are: the token drawn
    last, the position, the number t of the token itself, the drawn tokens and log-probs;
  - no shape depends on t: keys and values have room for `capacity` tokens, all of which are read,
    and a mask hides those that are not there yet;
  - nothing is read back: a step that asked how many rows are done would wait for the GPU.

**What it costs, and how little of it is paid.** Room that is read and hidden is lost work (without
`kernels`), and memory: the capacity begins small and doubles. A recording holds for one number of
rows: finished rows leave only when the capacity grows anyway, or half of the rows are done. Each
such change (`arrange`) is one step by Python, which is a step like any other and warms up what a
recording must find ready, and one recording.

A CPU has nothing to record: there `step` simply runs, the same code with the same results.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor, nn

from r1lab.sampler.draw import Sampling, draw
from r1lab.sampler.fast import FastEngine, FusedLayer

FIRST_CAPACITY = 64  # tokens of an answer that fit at first; doubled when full
FIRST_WITH_KERNELS = 256  # the same with our kernels, which lose no time on room that is not used
ASK_EVERY = 16  # tokens between two questions how many rows are done
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
    """What `rollouts.sample` asks of an engine: tokens and log-probs (T, N); -1 and 0 where a row
    had left. uniform (T, N), or None for greedy; eos (E,) the ids that end an answer."""
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
    """FastEngine's layers in a step that draws its own token. Letters in shapes as there; T tokens
    at most for each of N answers, of which n are in the batch; C is the capacity."""

    multiple = ALIGNED

    def __init__(self, model, prompts, group_size, sampling, uniform, eos):
        super().__init__(model, prompts, group_size, sampling.max_new_tokens)
        self.uniform, self.eos, self.sampling = uniform, eos, sampling
        self.N = len(prompts) * group_size
        shape, device = (sampling.max_new_tokens, self.N), self.device
        self.tokens = torch.full(shape, -1, dtype=torch.long, device=device)  # (T, N) the results
        self.logprobs = torch.zeros(shape, device=device)  # (T, N)
        self.rows = torch.arange(self.N, device=device)  # (n,) the answer in each line of the batch
        self.done = torch.zeros(self.N, dtype=torch.bool, device=device)  # (n,) it has ended
        self.token = torch.zeros(self.N, dtype=torch.long, device=device)  # (n,) drawn last
        self.now = torch.zeros(1, dtype=torch.long, device=device)  # (1,) t of the next token
        self.graph, self.recorded, self.pool = None, False, None
        self.kernels = find_kernels(self.device, self.dtype, self.H, self.K, self.d)

    def prefill(self) -> None:
        """Read each question once, and draw the first token of all its answers."""
        self._draw(super().prefill())

    # -- the step: nothing below depends on a number that Python knows

    def step(self) -> None:
        """Read the token that was drawn last, and draw the next one."""
        self.slot = self.now - 1  # (1,) where its key and value go
        if self.kernels is None:  # from now on seen
            self.hidden.index_fill_(2, self.slot + self.prompt_ids.shape[1], 0.0)
        logits = self._forward(self.token)
        self.position += 1
        self._draw(logits)

    def _draw(self, logits: Tensor) -> None:
        """logits (n, V) -> a token for each row, written down at t."""
        where = self.now * self.N + self.rows  # (n,) of (t, row) in a flat (T, N)
        u = None if self.uniform is None else self.uniform.view(-1).index_select(0, where)
        token, logprob = self._pick(logits, u)
        self.tokens.view(-1).index_copy_(0, where, token)
        self.logprobs.view(-1).index_copy_(0, where, logprob)
        self.done |= (token[:, None] == self.eos).any(1)
        self.token.copy_(token)
        self.now += 1

    # What one kernel does where `find_kernels` found some, and torch's own operations elsewhere

    def _pick(self, logits: Tensor, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
        how = self.sampling
        if self.kernels is None or uniform is None or how.top_k > 0 or how.top_p < 1:
            return draw(logits, uniform, how.temperature, how.top_k, how.top_p)
        return self.kernels.draw(logits, uniform, how.temperature)

    def _angles(self) -> tuple[Tensor, Tensor]:
        """The whole tables for the kernel, which looks up each row's position itself."""
        return super()._angles() if self.kernels is None else (self.cos, self.sin)

    def _attend(self, qkv, cos, sin, kv, prompt_kv) -> Tensor:
        """As FastEngine's, but over all C places, with one mask for question and answer; by a
        kernel of our own where there are kernels, which reads only what is there."""
        if self.kernels is not None:
            at = (self.position, kv, prompt_kv, self.lengths, self.question, self.now)
            return self.kernels.attend(qkv, (cos, sin), *at)
        self._rotate(qkv, cos, sin)
        n, H, K, R, d = len(qkv), self.H, self.K, self.H // self.K, self.d
        new = qkv[:, H:].view(n, 2, K, 1, d).transpose(0, 1)
        kv.index_copy_(3, self.slot, new)  # (2, n, K, C, d)

        prompt_keys, prompt_values = prompt_kv  # (B*K, d, P), (B*K, P, d)
        B_K, P, C = len(prompt_values), prompt_values.shape[1], kv.shape[3]
        q = qkv.view(-1, d).index_select(0, self.q_to_slots).view(B_K, -1, d)  # (B*K, S*R, d)
        shared = torch.bmm(q, prompt_keys).view(-1, P).index_select(0, self.from_slots)  # (n*H, P)
        keys, values = kv.flatten(1, 2)  # (n*K, C, d) each
        own = torch.bmm(qkv[:, :H].reshape(n * K, R, d), keys.mT).view(n * H, C)
        p = torch.cat((shared, own), -1)
        p.view(n, H, P + C).add_(self.hidden)
        p = p.softmax(-1)  # computed in float32, whatever type comes in and goes out

        p_shared = p[:, :P].index_select(0, self.p_to_slots).view(B_K, -1, P)
        shared = torch.bmm(p_shared, prompt_values).view(-1, d).index_select(0, self.from_slots)
        out = torch.bmm(p.view(n * K, R, P + C)[:, :, P:], values).view(n * H, d).add_(shared)
        return out.view(n, H * d)

    def _gate(self, gate_up: Tensor, layer: FusedLayer) -> Tensor:
        if self.kernels is not None and type(layer.act).__name__ in SILU:
            return self.kernels.gated(gate_up)
        return super()._gate(gate_up, layer)

    # -- between steps

    def advance(self) -> None:
        """One step: by Python where it is new or on a CPU, else by replaying its recording."""
        if self.recorded:
            self.graph.replay()
            return
        self.step()
        if self.can_record:
            # The graph before this one dies here and not earlier: it kept the pool, the memory for
            # what a step computes in between, which the new one takes over.
            self.graph, self.recorded = self.record(), True

    @property
    def can_record(self) -> bool:
        return self.device.type == "cuda"

    def record(self) -> torch.cuda.CUDAGraph:
        """A step as a CUDA graph: it is written down here, and not done."""
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
        P = self.prompt_ids.shape[1]
        self.hidden = self.prompt_bias.new_full((n, 1, P + capacity), -torch.inf)
        self.hidden[:, :, :P] = self.prompt_bias[:: self.K][self.question]  # -inf on padding
        self.hidden[:, :, P : P + t] = 0.0
        self.capacity, self.recorded = capacity, False
        self._assign_slots()


@cache
def find_kernels(
    device: torch.device, dtype: torch.dtype, H: int, K: int, d: int
) -> ModuleType | None:
    """`r1lab.kernels` on a GPU where Triton is and works, for a model's type and heads; else None,
    and torch's own operations do the same in more steps."""
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
    """How many rows are unfinished, without making anybody wait.

    The number of now is copied to the CPU when the GPU gets there. What is read is the number that
    was asked for ASK_EVERY tokens before: it has arrived, or soon will, and the GPU has the steps
    since then to work on. It may be too high by then, never too low.
    """

    def __init__(self, n: int, device: torch.device):
        cuda, self.known = device.type == "cuda", n
        self.count = torch.full((), n, dtype=torch.long, pin_memory=cuda)
        self.arrived = torch.cuda.Event() if cuda else None

    def ask(self, done: Tensor) -> int:
        """done (n,): asks how many are not. Returns the last answer, `known` from now on."""
        if self.arrived is not None:
            self.arrived.synchronize()
        self.known = int(self.count)
        self.count.copy_((~done).sum(), non_blocking=True)
        if self.arrived is not None:
            self.arrived.record()
        return self.known


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for the whole process, as memory that was used on a stream is kept for that stream."""
    return torch.cuda.Stream(device)


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """A CUDA stream other than the default one, on which nothing can be recorded. The two wait for
    each other at both ends. Does nothing on a CPU."""
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

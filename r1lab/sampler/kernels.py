"""One new token's attention, gate and draw as GPU kernels, written in Triton.

In `graphs.StaticEngine` the launches are gone; what remains are the kernels: attention took some
twenty per layer, each of which read from memory what the one before wrote. Here one kernel does it
all, and its intermediate values never leave the chip.

One program serves one completion and one key-value head, with the R query heads that share it. It
rotates the new token's query and key, stores key and value, and reads the keys of prompt and
completion a block at a time, with the *online softmax*: of the scores s_j and values v_j so far

    m = max_j s_j,      l = sum_j exp(s_j - m),      a = sum_j exp(s_j - m) v_j,

and when a block raises m, the sums shrink by exp(m_old - m_new). In the end a / l is softmax(s) v
(Milakov & Gimelshein 2018, "Online normalizer calculation for softmax"; Dao et al. 2022,
"FlashAttention"). It stops at the last existing token, so unused room costs nothing. With few
completions each is split into parts that run side by side; a second kernel joins their m, l, a.

Triton comes with torch for CUDA. On a CPU its interpreter (TRITON_INTERPRET=1) runs the same
functions, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from r1lab.basics.errors import R1LabError
from r1lab.sampler import draw as torch_draw

BLOCK, WARPS, STAGES = 64, 2, 2  # the fastest of some twenty settings on an H200
BLOCK_FP32 = 16  # float32 needs more registers and shared memory than 64 leave
ENOUGH = 512  # programs that keep a GPU busy; with fewer, a completion's tokens are split


@triton.jit
def _see(q, k, v, seen, m, total, a):
    """One block of keys k and values v (BLOCK, WIDTH) goes into m, l, a of the queries q."""
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # (ROWS, BLOCK)
    s = tl.where(seen[None, :], s, float("-inf"))
    higher = tl.maximum(m, tl.max(s, 1))
    shrink = tl.exp(m - higher)
    p = tl.exp(s - higher[:, None])
    a = a * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
    return higher, total * shrink + tl.sum(p, 1), a


@triton.jit(do_not_specialize=["n", "C", "P"])  # one compilation for all numbers of rows
def _attend(
    qkv, cos, sin, position, kv, prompt_keys, prompt_values, lengths, question, now,
    out, stats, sums, n, C, P, key_d, key_p,
    H: tl.constexpr, K: tl.constexpr, d: tl.constexpr, PARTS: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One completion, one key-value head, one part of its tokens. ROWS >= R and WIDTH >= d are
    powers of two (a matrix product has at least 16 rows)."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    part = tl.program_id(2)
    R: tl.constexpr = H // K
    HALF: tl.constexpr = d // 2
    r, j, c = tl.arange(0, ROWS), tl.arange(0, WIDTH), tl.arange(0, BLOCK)
    in_head = j < d
    opposite = tl.where(j < HALF, j + HALF, j - HALF)  # the other half of the head
    kind = qkv.dtype.element_ty
    slot = tl.load(now) - 1  # the completion's tokens before this one
    asked = tl.load(question + row)
    length = tl.load(lengths + asked)

    # The new token: rotated query (ROWS, d) and key (d,), and value
    at = tl.load(position + row) * d
    cosine = tl.load(cos + at + j, in_head, 0.0).to(tl.float32)
    sine = tl.load(sin + at + j, in_head, 0.0).to(tl.float32)  # signed: fast.FastEngine
    new = qkv + row * (H + 2 * K) * d
    there = (r < R)[:, None] & in_head[None, :]
    q_at = new + (head * R + r)[:, None] * d
    q = tl.load(q_at + j[None, :], there, 0.0).to(tl.float32) * cosine
    q += tl.load(q_at + opposite[None, :], there, 0.0).to(tl.float32) * sine
    q = q.to(kind)
    k_at = new + (H + head) * d
    key = tl.load(k_at + j, in_head, 0.0).to(tl.float32) * cosine
    key += tl.load(k_at + opposite, in_head, 0.0).to(tl.float32) * sine
    key = key.to(kind)
    value = tl.load(new + (H + K + head) * d + j, in_head, 0.0)

    # The first part stores it, and begins with m, l, a of the new token alone
    keys = kv + (row * K + head) * C * d
    values = keys + n.to(tl.int64) * K * C * d
    first = part == 0
    tl.store(keys + slot * d + j, key, in_head & first)
    tl.store(values + slot * d + j, value, in_head & first)
    m = tl.sum(q.to(tl.float32) * key.to(tl.float32)[None, :], 1)  # (ROWS,)
    m = tl.where(first, m, float("-inf"))
    total = tl.where(first, tl.full((ROWS,), 1.0, tl.float32), 0.0)
    a = tl.where(first, tl.zeros((ROWS, WIDTH), tl.float32) + value.to(tl.float32)[None, :], 0.0)

    # This part's share of the prompt, then of the completion so far
    everything = length + slot
    share = tl.cdiv(tl.cdiv(everything, PARTS), BLOCK) * BLOCK
    begin, end = part * share, tl.minimum(everything, (part + 1) * share)
    shared_keys = prompt_keys + (asked * K + head) * d * P
    shared_values = prompt_values + (asked * K + head) * d * P
    for start in range(begin, tl.minimum(end, length), BLOCK):
        g = start + c
        seen = g < tl.minimum(end, length)
        both = seen[:, None] & in_head[None, :]
        k = tl.load(shared_keys + g[:, None] * key_p + j[None, :] * key_d, both, 0.0)
        v = tl.load(shared_values + g[:, None] * d + j[None, :], both, 0.0)
        m, total, a = _see(q, k, v, seen, m, total, a)
    for start in range(tl.maximum(begin - length, 0), end - length, BLOCK):
        g = start + c
        seen = g < end - length
        both = seen[:, None] & in_head[None, :]
        k = tl.load(keys + g[:, None] * d + j[None, :], both, 0.0)
        v = tl.load(values + g[:, None] * d + j[None, :], both, 0.0)
        m, total, a = _see(q, k, v, seen, m, total, a)

    if PARTS == 1:
        o_at = out + row * H * d + (head * R + r)[:, None] * d + j[None, :]
        tl.store(o_at, (a / total[:, None]).to(kind), there)
    else:
        to = ((row * K + head) * PARTS + part) * R + r
        tl.store(stats + 2 * to, m, r < R)
        tl.store(stats + 2 * to + 1, total, r < R)
        tl.store(sums + to[:, None] * d + j[None, :], a, there)


@triton.jit
def _join(
    stats, sums, out,
    H: tl.constexpr, K: tl.constexpr, d: tl.constexpr, PARTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Join m, l, a of all parts of one completion's query head, rescaled to the highest m."""
    row = tl.program_id(0).to(tl.int64)
    query = tl.program_id(1)
    R: tl.constexpr = H // K
    j, part = tl.arange(0, WIDTH), tl.arange(0, PARTS)
    at = ((row * K + query // R) * PARTS + part) * R + query % R
    m = tl.load(stats + 2 * at)
    scale = tl.exp(m - tl.max(m, 0))  # 0 for a part with no tokens
    total = tl.sum(scale * tl.load(stats + 2 * at + 1), 0)
    a = tl.load(sums + at[:, None] * d + j[None, :], (j < d)[None, :], 0.0)
    a = tl.sum(scale[:, None] * a, 0) / total
    tl.store(out + (row * H + query) * d + j, a.to(out.dtype.element_ty), j < d)


def attend(
    qkv: Tensor,
    tables: tuple[Tensor, Tensor],
    position: Tensor,
    kv: Tensor,
    prompt_kv: tuple[Tensor, Tensor],
    lengths: Tensor,
    question: Tensor,
    now: Tensor,
) -> Tensor:
    """Attention of each row's new token over its prompt and completion: (n, H d).

    qkv (n, H + 2K, d)      queries, keys, values of the new token, not rotated yet
    tables                  cos and sin (positions, d) of the rotation, with d^(-1/4) and the sign
    position (n,)           of the new token
    kv (2, n, K, C, d)      the completions' keys and values; the new ones are stored at now - 1
    prompt_kv               the prompts' keys (B K, d, P), scaled, and values (B K, P, d)
    lengths (B,)            tokens of each prompt; question (n,) the prompt of each row
    now (1,)                the tokens of each completion, this one included

    Everything is in the type of qkv, sums in float32. Nothing is read back.
    """
    n, d = len(qkv), qkv.shape[2]
    K, C = kv.shape[2], kv.shape[3]
    H = qkv.shape[1] - 2 * K
    R = H // K
    (cos, sin), (keys, values) = tables, prompt_kv
    parts = 1 if n * K >= ENOUGH else 4
    out = torch.empty(n, H * d, dtype=qkv.dtype, device=qkv.device)
    stats = torch.empty(n * K * parts * R * 2 if parts > 1 else 0, device=qkv.device)
    sums = torch.empty(n * K * parts * R * d if parts > 1 else 0, device=qkv.device)
    sizes = {"H": H, "K": K, "d": d, "PARTS": parts, "WIDTH": max(16, triton.next_power_of_2(d))}
    rows = max(16, triton.next_power_of_2(R))
    block = BLOCK_FP32 if qkv.dtype == torch.float32 else BLOCK
    _attend[n, K, parts](
        qkv, cos, sin, position, kv, keys, values, lengths, question, now, out, stats, sums,
        n, C, values.shape[1], keys.stride(1), keys.stride(2),
        **sizes, ROWS=rows, BLOCK=block, num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    if parts > 1:
        _join[n, H](stats, sums, out, **sizes, num_warps=1)
    return out


@triton.jit
def _gated(gate_up, out, F, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    gate = tl.load(gate_up + row * 2 * F + j, j < F, 0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * F + F + j, j < F, 0.0).to(tl.float32)
    tl.store(out + row * F + j, (gate / (1 + tl.exp(-gate)) * up).to(out.dtype.element_ty), j < F)


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up for (n, 2 F) that holds both side by side: (n, F)."""
    n, F = len(gate_up), gate_up.shape[1] // 2
    out = torch.empty(n, F, dtype=gate_up.dtype, device=gate_up.device)
    _gated[n, triton.cdiv(F, 512)](gate_up, out, F, BLOCK=512)
    return out


@triton.jit
def _draw(logits, uniform, token, logprob, V, scale, BLOCK: tl.constexpr):
    """One row of logits (V,). Both walks use the last partial sum of each block: they meet the same
    numbers, so the draw is always inside."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    logits += row * V
    m = tl.full((), float("-inf"), tl.float32)
    for start in range(0, V, BLOCK):
        x = tl.load(logits + start + j, start + j < V, float("-inf")).to(tl.float32)
        m = tl.maximum(m, tl.max(x * scale, 0))
    total = tl.full((), 0.0, tl.float32)
    check = total  # NaN if any logit is: the maximum passes over it
    for start in range(0, V, BLOCK):
        x = tl.load(logits + start + j, start + j < V, float("-inf")).to(tl.float32)
        e = tl.exp(x * scale - m)
        total = tl.max(total + tl.cumsum(e, 0), 0)
        check += tl.sum(e, 0)
    target = tl.load(uniform + row) * total
    before = tl.full((), 0.0, tl.float32)
    chosen = tl.full((), 0, tl.int32)
    for start in range(0, V, BLOCK):
        x = tl.load(logits + start + j, start + j < V, float("-inf")).to(tl.float32)
        sums = before + tl.cumsum(tl.exp(x * scale - m), 0)
        chosen += tl.sum((sums <= target).to(tl.int32), 0)
        before = tl.max(sums, 0)
    chosen = tl.minimum(chosen, V - 1)  # only NaN logits get past the end
    tl.store(token + row, chosen.to(tl.int64))
    found = tl.load(logits + chosen).to(tl.float32) * scale
    tl.store(logprob + row, found - m - tl.log(total) + 0 * check)


def draw(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """`sampler.draw.draw` without truncation: (n, V) and (n,) -> (n,) and (n,)."""
    n, V = logits.shape
    token = torch.empty(n, dtype=torch.long, device=logits.device)
    logprob = torch.empty(n, device=logits.device)
    _draw[n,](logits, uniform, token, logprob, V, 1.0 / temperature, BLOCK=8192, num_warps=8)
    return token, logprob


def check(device, dtype: torch.dtype = torch.float32, H: int = 2, K: int = 1, d: int = 16) -> None:
    """Compile and run all kernels once, in small, against torch in float32, for a model's heads and
    type. Raises R1LabError where they differ."""
    g = torch.Generator(device).manual_seed(0)

    def random(*size):
        return torch.randn(size, generator=g, device=device).to(dtype)

    pairs = []
    for n in (1, -(-ENOUGH // K)):  # in parts, and in one
        qkv, keys, values = random(n, H + 2 * K, d), random(K, 2, d) * d**-0.5, random(K, 2, d)
        cos, sin = (torch.full((4, d), x, device=device, dtype=dtype) for x in (1.0, 0.0))
        kv = torch.zeros(2, n, K, 8, d, device=device, dtype=dtype)
        one, two = (torch.tensor([x], device=device) for x in (1, 2))
        first = torch.zeros(n, dtype=torch.long, device=device)  # all rows have one prompt
        at = (first + 2, kv, (keys.mT, values), two, first)
        found = attend(qkv, (cos, sin), *at, one)
        q, new_key, new_value = qkv.float().split((H, K, K), 1)
        every = torch.cat((keys.float().expand(n, K, 2, d), new_key[:, :, None]), 2)  # (n, K, 3, d)
        p = (q.view(n, K, H // K, d) @ every.mT).softmax(-1)
        wanted = p @ torch.cat((values.float().expand(n, K, 2, d), new_value[:, :, None]), 2)
        pairs.append((found.view_as(wanted), wanted))

    gate_up, logits = random(3, 40), random(3, 50)
    gate, up = gate_up.float().chunk(2, -1)
    pairs.append((gated(gate_up), torch.nn.functional.silu(gate) * up))
    token, logprob = draw(logits, torch.full((3,), 0.5, device=device), 1.0)
    wanted = torch_draw.draw(logits.float(), torch.full((3,), 0.5, device=device))
    pairs += [(logprob, wanted[1]), (token, wanted[0])]
    limit = 1e-2 if dtype == torch.float32 else 5e-2
    if not all(torch.allclose(a.float(), b.float(), limit, limit) for a, b in pairs):
        raise R1LabError("the kernels of r1lab.sampler.kernels give other results than torch here")

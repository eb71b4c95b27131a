"""The GPU kernels give what their formulas say, in float64, whatever the shapes."""

from __future__ import annotations

import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU, and --cuda", allow_module_level=True)

from r1lab.basics.errors import R1LabError
from r1lab.sampler import kernels
from r1lab.sampler.draw import draw

SHAPES = [  # rows, questions, H, K, d, P, C, now
    (6, 2, 9, 3, 64, 72, 96, 1),
    (6, 2, 9, 3, 64, 72, 96, 2),
    (48, 3, 9, 3, 64, 130, 256, 66),
    (256, 16, 9, 3, 64, 176, 256, 200),
    (5, 2, 4, 4, 32, 8, 16, 7),
    (1, 1, 9, 3, 64, 8, 8, 3),
    (4, 1, 6, 2, 24, 130, 131, 130),
    (8, 2, 14, 2, 128, 40, 64, 64),
    (8, 2, 32, 1, 64, 40, 64, 33),
]


def exact(qkv, tables, position, kv, prompt_kv, lengths, question, now):
    """Rotation and attention written out in float64; the keys and values with the new ones."""
    cos, sin = tables
    n, _, d = qkv.shape
    t, K = int(now), kv.shape[2]
    H = qkv.shape[1] - 2 * K
    x = qkv.double()
    turned = x * cos.double()[position][:, None]
    turned += x.roll(d // 2, -1) * sin.double()[position][:, None]
    q, key = turned[:, :H].to(qkv.dtype).double(), turned[:, H : H + K].to(qkv.dtype)
    kv = kv.clone()
    kv[0, :, :, t - 1], kv[1, :, :, t - 1] = key, qkv[:, H + K :]
    P = prompt_kv[1].shape[1]
    asked = [x.reshape(-1, K, P, d)[question] for x in (prompt_kv[0].mT, prompt_kv[1])]
    keys, values = (
        torch.cat((a, own[:, :, :t]), 2).double() for a, own in zip(asked, kv, strict=True)
    )
    s = torch.einsum("nkrd,nktd->nkrt", q.view(n, K, H // K, d), keys)
    hidden = torch.arange(P, device=qkv.device) >= lengths[question][:, None]
    s[..., :P].masked_fill_(hidden[:, None, None], -torch.inf)
    return torch.einsum("nkrt,nktd->nkrd", s.softmax(-1), values).reshape(n, H * d), kv


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_over_question_and_answer(shape, dtype, contiguous):
    n, B, H, K, d, P, C, now = shape
    g = torch.Generator("cuda").manual_seed(0)

    def random(*size):
        return torch.randn(size, generator=g, device="cuda").to(dtype)

    keys = random(B * K, d, P) if contiguous else random(B * K, P, d).mT
    lengths = torch.randint(1, P + 1, (B,), generator=g, device="cuda")
    question = torch.randint(0, B, (n,), generator=g, device="cuda")
    given = (
        random(n, H + 2 * K, d), (random(P + C, d) * 0.3, random(P + C, d) * 0.3),
        lengths[question] + now - 1, random(2, n, K, C, d), (keys, random(B * K, P, d)), lengths,
        question, torch.tensor([now], device="cuda"),
    )  # fmt: skip
    wanted, kv = exact(*given)
    found = kernels.attend(*given).double()
    limit = 1e-5 if dtype == torch.float32 else 1e-2
    assert (found - wanted).norm() / wanted.norm() < limit
    assert (given[3].double() - kv.double()).abs().max() < limit  # filed, and nothing else touched


@pytest.mark.parametrize(("V", "temperature"), [(23, 1.0), (5000, 1.3), (49152, 0.6)])
def test_a_draw(V, temperature):
    g = torch.Generator("cuda").manual_seed(0)
    logits = torch.randn(64, V, generator=g, device="cuda") * 3
    logits[0, : V // 2] = -torch.inf
    uniform = torch.rand(64, generator=g, device="cuda")
    uniform[1], uniform[2] = 0.0, 1 - 2**-22
    token, logprob = kernels.draw(logits, uniform, temperature)
    wanted, _ = draw(logits, uniform, temperature)
    assert (token == wanted).float().mean() > 0.95  # sums in another order: neighbours, rarely
    every = (logits.double() / temperature).log_softmax(-1)
    exact = every.gather(1, token[:, None]).squeeze(1)
    assert torch.isfinite(logprob).all() and (logprob - exact).abs().max() < 1e-4
    logits[3, 1] = torch.nan
    assert torch.isnan(kernels.draw(logits, uniform, temperature)[1][3])  # so that sample() raises


def test_a_draw_takes_each_token_as_often_as_it_should():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]], device="cuda").expand(40_000, 4).contiguous()
    uniform = torch.rand(40_000, generator=torch.Generator("cuda").manual_seed(1), device="cuda")
    token, _ = kernels.draw(logits, uniform, 1.0)
    share = torch.bincount(token, minlength=4) / 40_000
    assert (share - logits[0].softmax(-1)).abs().max() < 0.01


def test_the_gate():
    x = torch.randn(7, 2 * 700, device="cuda")
    gate, up = x.chunk(2, -1)
    assert (kernels.gated(x) - torch.nn.functional.silu(gate) * up).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("heads", [(2, 1, 16), (9, 3, 64), (12, 2, 128), (16, 8, 128)], ids=str)
def test_the_check_is_for_a_models_heads_and_type(heads, dtype):
    kernels.check("cuda", dtype, *heads)


def test_wrong_results_are_found(monkeypatch):
    kernels.check("cuda")
    right = kernels.gated
    monkeypatch.setattr(kernels, "gated", lambda x: right(x) + 0.1)
    with pytest.raises(R1LabError, match="other results"):
        kernels.check("cuda")

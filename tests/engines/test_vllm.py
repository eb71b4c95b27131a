"""vLLM's CPU build samples, in TRL's colocated mode, what TRL trains on.

vLLM for CPUs lacks two things that vLLM for GPUs has. Its attention knows no heads of 40 numbers,
as data/tiny has: here trains the same model in heads of 64. And it packs weights for its kernels
and throws the originals away, into which TRL would write the new ones: here it keeps them.
"""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import trl.generation.vllm_generation as colocated
from vllm import _custom_ops
from vllm.model_executor.layers import utils

from r1lab.basics.errors import R1LabError
from r1lab.bench.vllm_cpu import ALONE, in_wider_heads
from r1lab.grpo import GRPOConfig
from r1lab.models.load import load
from r1lab.sampler.score import token_logps
from r1lab.tasks import get_task
from r1lab.trl_backend import run, samplers
from r1lab.trl_backend.mapping import Launch

CONFIG = GRPOConfig(
    steps=3, questions=4, group_size=4, max_new_tokens=24, learning_rate=3e-3, checkpoint_every=3
)
LAUNCHED = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
LAUNCHED |= {"MASTER_PORT": "29653"}


def test_r1lab_does_not_offer_vllm_without_a_gpu():
    with pytest.raises(R1LabError, match="there is no CUDA GPU; --sampler r1lab or generate works"):
        samplers.pick_sampler("vllm", cuda=False)
    assert samplers.pick_sampler("auto", cuda=False)[0] == "r1lab"


def test_its_attention_takes_no_heads_of_forty(say):
    """Expected to fail, for this reason; the day it does not, `in_wider_heads` can go."""

    def prepare(head_dim: int):
        lengths, starts = torch.tensor([3]).int(), torch.tensor([0, 3]).int()
        kind = ("vec16" if head_dim % 32 else "vec", True)
        how = (torch.float32, starts, True, -1, *kind)
        return _custom_ops.cpu_attn_get_scheduler_metadata(1, 4, 1, head_dim, lengths, *how)

    assert prepare(64).numel() > 0
    with pytest.raises(RuntimeError, match="Unsupported CPU attention configuration: head_dim=40"):
        prepare(40)
    say("vLLM on CPUs takes no heads of 40, as data/tiny has: it is trained in heads of 64")


def test_it_throws_weights_away_that_trl_would_write_to(say):
    """Expected to fail, for this reason; the day it does not, `kept` can go."""
    layer = torch.nn.Linear(64, 64)
    layer.weight.weight_loader = print
    layer.weight.requires_grad_(False)
    utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
    assert layer.weight.numel() == 0 and not hasattr(layer.weight, "weight_loader")
    say("vLLM on CPUs packs its weights, so that TRL cannot renew them: it is told not to")


@pytest.fixture
def kept(monkeypatch):
    """vLLM keeps its weights, does not compile, and r1lab takes it without a GPU."""

    def keep(layer, remove_weight):
        layer.cpu_linear = torch.nn.functional.linear

    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", keep)
    eager = functools.partial(colocated.LLM, enforce_eager=True)
    monkeypatch.setattr(colocated, "LLM", eager)
    monkeypatch.setattr(run, "pick_sampler", lambda *_, **__: ("vllm", "vLLM, on a CPU"))
    for name, value in (LAUNCHED | ALONE).items():
        monkeypatch.setenv(name, value)


def test_it_samples_what_trl_trains_on_with_each_step_s_weights(kept, tmp_path, monkeypatch, say):
    model, tokenizer = load("tiny")
    wide, ids = in_wider_heads(model), torch.randint(5, 290, (4, 60))
    with torch.no_grad():
        far = (model(ids).logits.log_softmax(-1) - wide(ids).logits.log_softmax(-1)).abs().max()
    assert far < 5e-3
    wide.save_pretrained(tmp_path / "wide")
    tokenizer.save_pretrained(tmp_path / "wide")

    policy, tokenizer = load(tmp_path / "wide")
    before, batches, trainers = copy.deepcopy(policy), [], []
    make = run.make_trainer
    monkeypatch.setattr(run, "make_trainer", lambda *a: trainers.append(make(*a)) or trainers[-1])
    how = {"progress": False, "callbacks": [lambda *step: batches.append(step[2])]}
    launch, task = Launch(device="cpu"), get_task("countdown")
    history = run.train(policy, tokenizer, task, CONFIG, tmp_path / "out", launch, **how)

    logs = [log for log in trainers[0].state.log_history if "loss" in log]
    assert len(history) == len(logs) == 3 and all(m["grad_norm"] > 0 for m in history)
    for log in logs:  # of vLLM's log-probs and the trainer's
        ratio = log["sampling/importance_sampling_ratio/mean"]
        apart = log["sampling/sampling_logp_difference/mean"]
        say(f"pi / pi_vLLM {ratio:.3f}, |log pi - log pi_vLLM| {apart:.4f}")
        assert 0.9 < ratio < 1.1 and apart < 0.02
    last, G = batches[-1].rollouts, CONFIG.group_size
    rows = [(last.prompt_ids[r // G], ids) for r, ids in enumerate(last.completion_ids)]
    with torch.no_grad():
        (old, mask, _), (new, _, _) = (token_logps(m, rows, 1.0) for m in (before, policy))
    moved = ((old - new).abs() * mask).sum() / mask.sum()
    say(f"three steps moved the policy's log-probs by {moved:.3f} a token")
    assert moved > 10 * logs[-1]["sampling/sampling_logp_difference/mean"]
    saved = load(tmp_path / "out" / "model")[0]
    assert all(map(torch.equal, saved.parameters(), policy.parameters()))

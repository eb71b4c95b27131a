"""The run on TRL: the same mathematics, the same answers, the same files, stopped anywhere.

Everything runs for real, on a Llama of 20,000 weights that speaks the tiny world's tokens; the two
processes at the end train the embedded model.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import json
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import warm
from accelerate.state import AcceleratorState
from huggingface_hub import ModelCard, RepoUrl
from trl import GRPOConfig as TRLConfig

from r1lab import ROOT, grpo
from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig, collect, pad, questions_at
from r1lab.losses import grpo_loss
from r1lab.machine.costs import Budget
from r1lab.models.load import load
from r1lab.sampler.score import score, token_logps
from r1lab.tasks import get_task
from r1lab.templates import render
from r1lab.training.loop import one_run
from r1lab.training.metrics import metrics_of
from r1lab.training.signals import Stopped
from r1lab.trl_backend import cluster, mapping, samplers, trainer
from r1lab.trl_backend.folders import SEAL, damage, latest_of_run, newest_first, reference_of, seal
from r1lab.trl_backend.mapping import Launch
from r1lab.trl_backend.process import settle
from r1lab.trl_backend.rollouts import RolloutWatch
from r1lab.trl_backend.run import train
from r1lab.trl_backend.trainer import by_length, make_trainer, on_one_gpu

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = get_task("countdown")
CLOCK = ("seconds", "tokens_per_second", "memory", "diagnoses")


def characters(completions, **_):
    """Something that differs from answer to answer."""
    return [float(len(text) % 7) for text in completions]


# What a resumed run may change: the number of steps, if the learning rate does not depend on it.
SMALL = GRPOConfig(
    lr_schedule="constant", steps=3, questions=2, group_size=4, max_new_tokens=10,
    rewards=(characters,), reward_weights=(1.0,), length_norm="sequence", learning_rate=3e-3,
    checkpoint_every=1, samples_every=2,
)  # fmt: skip


def run(model, tokenizer, config, out_dir, callbacks=(), **options):
    launch = Launch(**options)
    shown = {"progress": False, "callbacks": callbacks}
    return train(model, tokenizer, TASK, config, out_dir, launch, **shown)


def trainer_of(model, tokenizer, config, out_dir):
    """TRL's trainer for a configuration, as `train` makes it."""
    problems = TASK.problems("train", config.steps * config.questions, seed=config.seed)
    watch = RolloutWatch(config, tokenizer, TASK, problems, out_dir, lambda step: {})
    launch = Launch(sampler="r1lab", precision="fp32", gradient_checkpointing=False)
    with reference_of(model, tokenizer, config, out_dir, 0, None):
        return make_trainer(model, tokenizer, watch, launch)


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def without_clock(history) -> list[dict]:
    return [{k: v for k, v in m.items() if not k.endswith(CLOCK)} for m in history]


# --- the same mathematics --------------------------------------------------------------------

OBJECTIVES = {
    "R1-Zero": {"kl_coef": 0.05},
    "Dr. GRPO": {"advantage": "dr_grpo", "length_norm": "constant"},
    "DAPO": {"length_norm": "token", "clip_high": 0.28},
    "GSPO": {"ratio_level": "sequence", "clip_low": 3e-3, "clip_high": 4e-3},
    "RLOO": {"advantage": "rloo", "kl_coef": 0.05, "length_norm": "token"},
    "CISPO": {"surrogate": "cispo", "length_norm": "token"},
    "DeepSeek-V3.2": {
        "kl_coef": 0.05,
        "kl_estimator": "unbiased",
        "length_norm": "token",
        "off_policy_mask": 0.01,
    },
}


@pytest.mark.parametrize("options", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_one_batch_has_the_same_loss_and_gradient(model, tokenizer, tmp_path, options):
    """Off-policy, with tokens beyond the clip: TRL's compute_loss against r1lab.losses."""
    config = replace(SMALL, steps=1, questions=4, max_new_tokens=16, **options)
    problems = questions_at(0, TASK.problems("train", 4, seed=0), config)
    batch = collect(model, tokenizer, TASK, problems, 0, config)
    reference = copy.deepcopy(model)
    trainer = trainer_of(model, tokenizer, config, tmp_path)
    trainer.current_gradient_accumulation_steps = 1
    torch.manual_seed(1)
    with torch.no_grad():  # the policy has moved on since it answered
        for p in model.parameters():
            p.add_(p.std() * torch.randn(p.shape))

    G = config.group_size
    rows = [(batch.rollouts.prompt_ids[r // G], ids) for r, ids in
            enumerate(batch.rollouts.completion_ids)]  # fmt: skip
    logp, mask, _ = token_logps(model, rows, 1.0)
    old, ref = pad(batch.rollouts.logprobs, logp), token_logps(reference, rows, 1.0)[0].detach()
    A = batch.advantages.flatten()
    ours, seen = grpo_loss(logp, old, A, mask, ref, config.objective)
    exact = torch.autograd.grad(ours, list(model.parameters()))
    assert seen["clip_fraction"] > 0.01 and (old - logp).abs().max() > 0.1

    width, longest = max(len(p) for p, _ in rows), mask.shape[1]
    inputs = {
        "prompt_ids": torch.tensor([[0] * (width - len(p)) + p for p, _ in rows]),
        "prompt_mask": torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p, _ in rows]),
        "completion_ids": torch.tensor([c + [0] * (longest - len(c)) for _, c in rows]),
        "completion_mask": mask.long(),
        "advantages": A,
        "num_items_in_batch": mask.sum(),
        "old_per_token_logps": old,
        "ref_per_token_logps": ref,
    }
    model.zero_grad()
    theirs = trainer.compute_loss(model.train(), inputs)
    theirs.backward()
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-5)
    worst = max((p.grad - g).abs().max() for p, g in zip(model.parameters(), exact, strict=True))
    assert worst < 1e-5 < 0.01 < max(g.abs().max() for g in exact)


@pytest.mark.parametrize(
    "changes",
    [
        {"kl_coef": 0.01, "ref_refresh": 2, "warmup_steps": 2, "micro_batch_tokens": 80},
        {"advantage": "rloo", "length_norm": "token", "group_size": 8} | {"lr_schedule": "linear"},
        {"rewards": ("random", "format"), "reward_weights": (1.0, 0.1), "length_norm": "constant"},
        {"rewards": (characters, "overlong"), "reward_weights": (1.0, 0.1), "advantage": "gdpo",
         "surrogate": "cispo", "length_norm": "token", "entropy_coef": 0.01},
    ],
    ids="-".join,
)  # fmt: skip
def test_the_two_loops_draw_the_same_answers_and_learn_the_same(
    model, tokenizer, tmp_path, changes
):
    """Same questions, answers, rewards, learning rate; loss and gradient within rounding."""
    config, other = replace(SMALL, **changes), copy.deepcopy(model)
    ours = grpo.train(other, tokenizer, TASK, config, tmp_path / "a", progress=False)
    theirs = run(model, tokenizer, config, tmp_path / "b", sampler="r1lab")
    assert set(theirs[0]) == set(ours[0])
    exact = ("reward", "accuracy", "format", "length", "reflection", "tokens", "truncated")
    exact += ("lr", "zero_spread_groups", *(k for k in ours[0] if k.startswith("rewards/")))
    for a, b in zip(ours, theirs, strict=True):
        assert {k: a[k] for k in exact} == {k: b[k] for k in exact}
        assert b["entropy"] == pytest.approx(a["entropy"], rel=1e-3)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-2)
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-4)
        assert b["update"] == pytest.approx(a["update"], rel=1e-2)
        assert (b["kl"] is None) == (a["kl"] is None)
    samples = [json.loads(x) for x in (tmp_path / "b" / "samples.jsonl").read_text().splitlines()]
    assert {s["step"] for s in samples} == {0, 2} and all(s["tokens"] for s in samples)
    assert same_weights(load(tmp_path / "b" / "model")[0], model)
    assert "forward" not in model.__dict__ and not model.training  # TRL's patches are gone
    summary = json.loads((tmp_path / "b" / "summary.json").read_text())
    assert summary["steps"] == summary["of"] == 3 and summary["stopped"] is None
    assert "| accuracy |" in (tmp_path / "b" / "model" / "README.md").read_text()


def test_answers_dealt_by_length_are_the_same_answers_with_less_padding():
    """As TRL buffers them: prompts padded on the left, answers on the right."""
    asked, long = [3, 1, 2, 3, 1, 1], [2, 9, 4, 0, 7, 5]  # tokens; N = 6, T = 9
    rows = {
        "prompt_ids": torch.tensor([[0] * (3 - n) + [i + 1] * n for i, n in enumerate(asked)]),
        "prompt_mask": torch.tensor([[0] * (3 - n) + [1] * n for n in asked]),
        "completion_ids": torch.tensor([[i + 1] * n + [0] * (9 - n) for i, n in enumerate(long)]),
        "completion_mask": torch.tensor([[1] * n + [0] * (9 - n) for n in long]),
        "old_per_token_logps": torch.tensor(
            [[-i - 1.0] * n + [0.0] * (9 - n) for i, n in enumerate(long)]
        ),
        "advantages": torch.arange(6.0),
    }  # fmt: skip
    other = {"num_items_in_batch": torch.tensor(27), "ref_per_token_logps": None}
    passes = [{k: v[i : i + 2] for k, v in rows.items()} | other for i in (0, 2, 4)]
    dealt = by_length(passes)
    assert [one["completion_ids"].shape for one in dealt] == [(2, 9), (2, 5), (2, 2)]
    assert [one["prompt_ids"].shape[1] for one in dealt] == [1, 2, 3]
    seen = []
    for one in dealt:
        assert one["num_items_in_batch"] == 27 and one["ref_per_token_logps"] is None
        for r, i in enumerate(one["advantages"].int().tolist()):
            seen.append(i)
            assert one["prompt_mask"][r].sum() == asked[i] == (one["prompt_ids"][r] == i + 1).sum()
            assert one["completion_mask"][r].tolist() == (one["completion_ids"][r] > 0).tolist()
            assert one["completion_mask"][r].sum() == long[i]
            assert one["old_per_token_logps"][r].sum() == -(i + 1.0) * long[i]
    assert sorted(seen) == list(range(6))
    images = [one | {"pixel_values": [1, 2]} for one in passes]
    assert by_length(images) is images


def test_trl_as_it_comes_computes_the_same_step(model, tokenizer, tmp_path, monkeypatch):
    """With and without answers of like length in each pass: one optimizer step or two."""
    found = []
    for name, deal in {"sorted": by_length, "as it comes": lambda passes: passes}.items():
        monkeypatch.setattr(trainer, "by_length", deal)
        for minibatches in (1, 2):
            config = replace(SMALL, steps=1, micro_batch_tokens=50, minibatches=minibatches)
            out, policy = tmp_path / f"{name}{minibatches}", copy.deepcopy(model)
            (metrics,) = train(policy, tokenizer, TASK, config, out, progress=False)
            weights = torch.cat([p.detach().flatten() for p in policy.parameters()])
            found.append((metrics["loss"], metrics["grad_norm"], weights))
    for a, b in zip(found[:2], found[2:], strict=True):
        assert a[0] == pytest.approx(b[0], abs=1e-6) and a[1] == pytest.approx(b[1], rel=1e-5)
        assert torch.allclose(a[2], b[2], atol=1e-5)


def test_mini_batches_and_inner_epochs(model, tokenizer, tmp_path):
    """4 optimizer steps a rollout, off-policy; rewards are seen once a rollout."""
    config = replace(SMALL, minibatches=2, inner_epochs=2, learning_rate=3e-2, warmup_steps=3)
    seen = []
    watch = [lambda step, metrics, batch: seen.append(batch.rewards.shape)]
    history = run(model, tokenizer, config, tmp_path, callbacks=watch)
    assert len(history) == 3 and seen == [(2, 4)] * 3
    assert [m["lr"] for m in history] == pytest.approx([1e-2, 2e-2, 3e-2])
    assert max(m["clip_fraction"] for m in history) > 0
    state = json.loads(
        (tmp_path / "checkpoints" / "checkpoint-12" / "trainer_state.json").read_text()
    )
    assert state["global_step"] == 12


# --- the mapping -----------------------------------------------------------------------------


def test_every_option_has_a_line_in_the_table():
    words = " ".join(row.ours for row in mapping.MAPPING).replace(",", " ").split()
    assert {f.name for f in dataclasses.fields(GRPOConfig)} <= set(words)


def test_every_option_reaches_the_trainer(model, tokenizer, tmp_path):
    config = GRPOConfig(
        lr_schedule="constant", steps=5, questions=4, group_size=6, max_new_tokens=9,
        temperature=0.7,
        learning_rate=2e-4, rewards=("accuracy", "format"), reward_weights=(2.0, 0.5),
        advantage="rloo", warmup_steps=2, beta1=0.8, beta2=0.7, max_grad_norm=0.3, minibatches=3,
        inner_epochs=2, clip_low=0.1, clip_high=0.3, ratio_level="sequence", length_norm="constant",
        kl_coef=0.02, ref_refresh=2, seed=3, micro_batch_tokens=120, checkpoint_every=4,
    )  # fmt: skip
    trainer = trainer_of(model, tokenizer, config, tmp_path)
    a = trainer.args
    assert (trainer.num_generations, trainer.max_completion_length) == (6, 9)
    assert (trainer.temperature, trainer.top_k, trainer.top_p) == (0.7, 0, 1.0)
    assert trainer.reward_func_names == ["accuracy", "format"]
    assert trainer.reward_weights.tolist() == pytest.approx([2.0 * 6 / 5, 0.5 * 6 / 5])
    assert (trainer.loss_type, trainer.scale_rewards) == ("dr_grpo", "none")
    assert trainer.importance_sampling_level == "sequence"
    assert (trainer.epsilon_low, trainer.epsilon_high) == (0.1, 0.3)
    assert (trainer.beta, a.use_bias_correction_kl) == (0.02, False)
    assert (a.sync_ref_model, a.ref_model_sync_steps, a.ref_model_mixup_alpha) == (True, 12, 1.0)
    assert same_weights(trainer.ref_model, model) and trainer.ref_model is not model
    assert (a.num_iterations, a.max_steps) == (2, 5 * 3 * 2)
    # 24 answers, 8 a mini-batch, 4 of which fit 120 tokens when they are 9 tokens long
    assert (a.per_device_train_batch_size, a.gradient_accumulation_steps) == (4, 2)
    assert (a.steps_per_generation, a.generation_batch_size) == (6, 24)
    assert (a.learning_rate, a.adam_beta1, a.adam_beta2) == (2e-4, 0.8, 0.7)
    assert (a.weight_decay, a.max_grad_norm, str(a.optim.value)) == (0.0, 0.3, "adamw_torch")
    assert not a.bf16 and not a.gradient_checkpointing and not a.logging_nan_inf_filter
    order = [row["prompt"] for row in trainer.train_dataset]
    problems = TASK.problems("train", 20, seed=3)
    assert order == [render(problem, "tiny") for problem in problems]
    assert [i // 6 for i in range(24)] == list(trainer._get_train_sampler())[:24]  # not shuffled

    plain = mapping.trl_options(SMALL, precision="bf16", gradient_checkpointing=True)
    assert (plain["loss_type"], plain["scale_rewards"], plain["beta"]) == ("grpo", "group", 0.0)
    assert plain["bf16"] and plain["gradient_checkpointing"] and "sync_ref_model" not in plain
    token = mapping.trl_options(replace(SMALL, length_norm="token", advantage="dr_grpo"))
    assert (token["loss_type"], token["scale_rewards"]) == ("dapo", "none")
    later = mapping.trl_options(
        replace(SMALL, length_norm="token", surrogate="cispo", clip_high=4.0, advantage="gdpo",
                kl_coef=0.1, kl_estimator="unbiased", off_policy_mask=0.5, entropy_coef=0.01)
    )  # fmt: skip
    assert (later["loss_type"], later["epsilon_high"]) == ("cispo", 5.0)
    assert later["multi_objective_aggregation"] == "normalize_then_sum"
    assert later["use_bias_correction_kl"] and later["entropy_coef"] == 0.01
    assert later["off_policy_mask_threshold"] == 0.5 and plain["off_policy_mask_threshold"] is None
    served = mapping.trl_options(SMALL, sampler="http://node:8000")
    assert served["use_vllm"] and served["vllm_server_base_url"] == "http://node:8000"
    assert mapping.trl_options(SMALL, sampler="vllm")["vllm_mode"] == "colocate"


def test_an_estimator_that_trl_has_no_word_for_is_refused(model, tokenizer, tmp_path):
    """It would be trained as another one, and logged as itself."""
    file = tmp_path / "mine.py"
    file.write_text("def robust(r):\n    return r - r.median(dim=1, keepdim=True).values\n")
    config = replace(SMALL, advantage=f"{file}:robust")
    with pytest.raises(R1LabError, match="no counterpart of advantage .*:robust: take grpo, dr_gr"):
        run(model, tokenizer, config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_processes_share_the_rollout():
    two, one = (mapping.trl_options(SMALL, processes=n) for n in (2, 1))
    rows = "per_device_train_batch_size"
    assert 2 * two[rows] * two["gradient_accumulation_steps"] == one[rows] == 8


@pytest.mark.parametrize(
    "changes, options, words",
    [
        ({"kl_coef": 0.1, "kl_estimator": "k1"}, {}, "always k3, not k1"),
        ({"staleness": 1}, {}, "it has no staleness. Take the backend scratch"),
        ({"dynamic_sampling": 2, "pass_rate_low": 0.1}, {}, "no dynamic_sampling, pass_rate_low"),
        ({"correction": "token_mask", "old_logprobs": "recompute"}, {}, "it has no correction"),
        ({"surrogate": "cispo"}, {}, "Set length_norm to token"),
        ({"advantage": "reinforce_pp"}, {}, "no counterpart of advantage reinforce_pp"),
        ({"seed": 2**40}, {}, "seed must be at most 4294967295, not 1099511627776"),
        ({"minibatches": 3}, {}, "8 cannot be cut into 3 mini-batches on 1 process"),
        ({"questions": 3}, {"processes": 2}, "3 questions cannot be dealt to 2 processes"),
        ({"kl_coef": 0.1, "ref_refresh": 2}, {"lora": 4}, "Set ref_refresh to 0"),
    ],
    ids=str,
)
def test_what_trl_cannot_express_is_refused(changes, options, words):
    with pytest.raises(R1LabError, match=words):
        mapping.check(replace(SMALL, **changes), **options)


# --- samplers --------------------------------------------------------------------------------


def test_the_sampler_is_chosen_by_what_is_there():
    name, words = samplers.pick_sampler("auto", cuda=False)
    assert name == "r1lab" and "there is no GPU" in words
    name, words = samplers.pick_sampler("auto", cuda=False, sharded=True)
    assert name == "generate" and "spread over devices" in words
    assert samplers.pick_sampler("generate") == ("generate", "sampler: transformers' generate")
    for wrong, reason in (
        ("vlm", "there is no sampler 'vlm'"),
        ("vllm", "vLLM is not installed|no CUDA GPU"),
        ("http://host:8000", "vLLM is not installed|no CUDA GPU"),
    ):
        with pytest.raises(R1LabError, match=reason):
            samplers.pick_sampler(wrong, cuda=False)
    assert samplers.pick_sampler("r1lab", sharded=True)[0] == "r1lab"  # gathers the weights


@pytest.fixture
def seen_gpus(monkeypatch):
    """As on a machine whose GPUs torch sees. Nothing can be computed on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    monkeypatch.undo()
    AcceleratorState._reset_state(reset_partial_state=True)


def test_who_asks_last_decides_where_it_runs(seen_gpus, tmp_path):
    """Lesson 06 makes a TRLConfig on the CPU to compare defaults, and accelerate then answered
    "cpu" to the run on the GPU that came after."""
    assert TRLConfig(output_dir=str(tmp_path), use_cpu=True).device.type == "cpu"
    assert settle("cuda").device.type == "cuda"
    assert settle("cpu").device.type == "cpu"
    assert settle().device.type == "cuda"


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(R1LabError, match="no CUDA GPU here"):
        settle("cuda")
    assert settle().device.type == "cpu"


def test_of_several_gpus_one_process_takes_one(tmp_path, caplog):
    args = TRLConfig(output_dir=str(tmp_path), use_cpu=True)
    args._n_gpu = 4  # as the Trainer finds on a machine with four
    with caplog.at_level("WARNING"):
        assert on_one_gpu(args).n_gpu == 1
    assert "4 GPUs are here" in caplog.text and "--print-launch" in caplog.text


def test_rollout_func_is_still_what_our_adapter_takes_it_for(model, tokenizer, tmp_path):
    """When this fails, TRL's experimental interface has changed: `own_sampler` must follow."""
    from trl import GRPOTrainer

    assert "rollout_func" in inspect.signature(GRPOTrainer.__init__).parameters
    config = replace(SMALL, temperature=0.8)
    trainer = trainer_of(model, tokenizer, config, tmp_path)
    rows = [trainer.train_dataset[q] for q in (0, 0, 0, 0, 1, 1, 1, 1)]
    calls, inner = [], trainer.rollout_func
    trainer.rollout_func = lambda prompts, who: calls.append((prompts, who)) or inner(prompts, who)
    model.train()
    inputs = trainer._generate_and_score_completions(rows)
    (prompts, who) = calls[0]
    assert prompts == [row["prompt"] for row in rows] and who is trainer
    lengths = inputs["completion_mask"].sum(1)
    completions = [c[:n].tolist() for c, n in zip(inputs["completion_ids"], lengths, strict=True)]
    exact = score(model, tokenizer(prompts)["input_ids"], completions, temperature=0.8)
    for given, true in zip(inputs["sampling_per_token_logps"], exact, strict=True):
        assert torch.allclose(given[: len(true)], true, atol=1e-5)
        assert (given[len(true) :] == 0).all()
    problems = TASK.problems("train", 2, seed=0)
    assert (
        completions == collect(model, tokenizer, TASK, problems, 0, config).rollouts.completion_ids
    )
    with pytest.raises(R1LabError, match="hands prompts to rollout_func in another way"):
        inner([prompts[0], prompts[4]] * 4, trainer)


def test_an_end_of_text_behind_the_prompt_is_taken_off(model, tokenizer, adding, tmp_path):
    """Whoever samples, the prompt does not end before the completion."""
    ends = adding(tokenizer, "$A <|endoftext|>")
    trainer = trainer_of(model, ends, SMALL, tmp_path)
    prompts = [row["prompt"] for row in trainer.train_dataset.select(range(2)) for _ in range(4)]
    wanted = tokenizer(prompts)["input_ids"]
    assert samplers.own_sampler(SMALL, ends)(prompts, trainer)["prompt_ids"] == wanted
    trainer.rollout_func = None
    assert trainer._generate(prompts)[0] == wanted  # by transformers' generate
    batches = []
    run(model, ends, replace(SMALL, steps=1), tmp_path, [lambda *step: batches.append(step[2])])
    assert batches[0].rollouts.prompt_ids == wanted[::4]


def test_shares_are_drawn_apart(model, tokenizer, tmp_path):
    config = replace(SMALL, questions=4)
    trainer = trainer_of(model, tokenizer, config, tmp_path)
    prompts = [row["prompt"] for row in trainer.train_dataset.select(range(4)) for _ in range(4)]
    one, two = (
        samplers.own_sampler(config, tokenizer, shares=n)(prompts, trainer)["completion_ids"]
        for n in (1, 2)
    )
    assert one != two and len(one) == len(two) == 16
    with pytest.raises(R1LabError, match="cannot be cut into 3 shares"):
        samplers.own_sampler(config, tokenizer, shares=3)(prompts, trainer)


def test_bf16_samples_from_a_copy_and_leaves_the_master_weights(model, tokenizer, tmp_path):
    history = run(model, tokenizer, replace(SMALL, steps=2), tmp_path, precision="bf16")
    assert len(history) == 2 and {p.dtype for p in model.parameters()} == {torch.float32}


# --- stopped anywhere ------------------------------------------------------------------------

LONG = replace(
    SMALL, steps=500, kl_coef=1e-3, ref_refresh=3, minibatches=2, checkpoint_every=2,
    samples_every=1,
)  # fmt: skip


def train_for_ever(base, out):
    torch.set_num_threads(1)
    run(*load(base), LONG, out)


def steps_logged(out) -> int:
    metrics = out / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def test_killed_twice_it_ends_with_the_same_bits(model, tokenizer, tmp_path, warm_processes):
    """kill -9 at random moments in processes of their own; on to the end in this one."""
    base, out = tmp_path / "base", tmp_path / "killed"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    context = multiprocessing.get_context("spawn")
    pauses = [random.uniform(0, 0.3) for _ in range(2)]
    for pause in pauses:
        done, until = steps_logged(out), time.monotonic() + 120
        process = context.Process(target=train_for_ever, args=(base, out))
        process.start()
        while steps_logged(out) in (done, 0) and process.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(pause)
        warm.kill(process.pid)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was to be killed while it trained"

    config = replace(LONG, steps=steps_logged(out) + 3)
    killed = copy.deepcopy(model)
    whole = run(model, tokenizer, config, tmp_path / "whole")
    resumed = run(killed, tokenizer, config, out)
    assert same_weights(model, killed), f"not the same after {pauses}"
    assert without_clock(whole) == without_clock(resumed)
    samples = (tmp_path / "whole" / "samples.jsonl").read_text()
    assert samples == (out / "samples.jsonl").read_text()


@pytest.mark.parametrize(
    "sign, sampler, lora",
    [(signal.SIGTERM, "generate", None), (signal.SIGINT, "r1lab", 2)],
    ids=["SIGTERM, generate", "Ctrl-C, LoRA"],
)
def test_asked_to_stop_it_saves_and_goes_on(model, tokenizer, tmp_path, sign, sampler, lora):
    """generate draws from torch's global generator, whose state must come back too."""
    if lora:
        pytest.importorskip("peft")
    others = [copy.deepcopy(model) for _ in range(2)]
    config = replace(SMALL, checkpoint_every=10)
    options = {"sampler": sampler, "lora": lora}
    whole = run(model, tokenizer, config, tmp_path / "whole", **options)
    assert not same_weights(model, others[0])

    def stop(step, metrics, batch):
        if step == 0:
            os.kill(os.getpid(), sign)
            if sign == signal.SIGTERM:  # from the launcher once more: no reason to break off
                os.kill(os.getpid(), sign)

    with pytest.raises(Stopped, match="after 2 of 3 steps; all is saved"):
        run(others[0], tokenizer, config, tmp_path / "parts", callbacks=[stop], **options)
    history = run(others[1], tokenizer, config, tmp_path / "parts", **options)
    assert same_weights(model, others[1]) and without_clock(history) == without_clock(whole)
    again = (
        run(copy.deepcopy(model), tokenizer, config, tmp_path / "parts", **options)
        if not lora
        else history
    )
    assert without_clock(again) == without_clock(history)  # nothing left to do
    if lora:
        saved = load(tmp_path / "parts" / "model")[0]
        assert same_weights(saved, others[1]) and type(saved) is type(model)
        assert (tmp_path / "parts" / "adapter" / "adapter_model.safetensors").exists()


def test_a_damaged_or_half_written_checkpoint_costs_its_steps_only(
    model, tokenizer, tmp_path, caplog
):
    others = [copy.deepcopy(model) for _ in range(2)]
    run(model, tokenizer, SMALL, tmp_path)
    folders = newest_first(tmp_path / "checkpoints")
    assert [f.name for f in folders] == ["checkpoint-3", "checkpoint-2"]  # keep_checkpoints
    weights = folders[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    run(others[0], tokenizer, SMALL, tmp_path)
    assert "checkpoint-3 is not used: it is damaged (model.safetensors differs" in caplog.text
    assert same_weights(model, others[0])
    (folders[0] / SEAL).unlink()
    run(others[1], tokenizer, SMALL, tmp_path)
    assert "it was never finished" in caplog.text and same_weights(model, others[1])
    for folder in newest_first(tmp_path / "checkpoints"):
        (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(R1LabError, match="is whole. Choose another folder"):
        run(others[0], tokenizer, SMALL, tmp_path)


class Stranger:
    """What unpickling this would do."""

    def __reduce__(self):
        return os.mkdir, ("/tmp/r1lab-ran-a-stranger-s-code",)


def test_a_pickle_in_a_checkpoint_runs_no_code_and_costs_its_steps_only(
    model, tokenizer, tmp_path, caplog
):
    other = copy.deepcopy(model)
    run(model, tokenizer, SMALL, tmp_path)
    newest, _ = newest_first(tmp_path / "checkpoints")
    about = json.loads((newest / SEAL).read_text())
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        kept = (newest / name).read_bytes()
        for stranger in (pickle.dumps(Stranger()), pickle.dumps({"state": 1}), b"junk"):
            (newest / name).write_bytes(stranger)
            seal(newest, about)  # whoever put it there has the checksums right
            words = damage(newest)
            assert words.startswith(f"{name} in it is no state that can be read")
            assert "\n" not in words and "weights_only" not in words
        (newest / name).write_bytes(kept)
    seal(newest, about)
    assert damage(newest) is None
    torch.save(Stranger(), newest / "optimizer.pt")
    seal(newest, about)
    run(other, tokenizer, SMALL, tmp_path)
    assert "checkpoint-3 is not used: optimizer.pt in it" in caplog.text
    assert same_weights(model, other)
    assert not Path("/tmp/r1lab-ran-a-stranger-s-code").exists()


@pytest.mark.parametrize("change", [{"step": "2"}, {"run": [1]}, {"now": None}], ids=str)
def test_a_seal_that_cannot_be_read_is_passed_over(model, tmp_path, caplog, change):
    about = {"step": 2, "base": "", "now": "", "run": {}}
    (folder := tmp_path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    seal(folder, about | change)
    with pytest.raises(R1LabError, match="is whole"):
        latest_of_run(tmp_path, model, lambda step: {}, 3)
    assert f"its {next(iter(change))} cannot be read" in caplog.text


def test_a_longer_run_rises_to_its_learning_rate_as_if_never_stopped(model, tokenizer, tmp_path):
    """The checkpoint keeps the rate of the step that follows, and not that of the last one."""
    config, other = replace(SMALL, steps=6, warmup_steps=4), copy.deepcopy(model)
    whole = run(model, tokenizer, config, tmp_path / "whole")
    run(copy.deepcopy(other), tokenizer, replace(config, steps=2), tmp_path / "parts")
    parts = run(other, tokenizer, config, tmp_path / "parts")
    rates = [metrics["lr"] for metrics in parts]
    assert rates == pytest.approx([grpo.learning_rate(step, config) for step in range(6)])
    assert without_clock(parts) == without_clock(whole) and same_weights(model, other)
    linear = replace(config, lr_schedule="linear", steps=4)
    assert trainer.lr_share(4, linear) == 0.0


def test_rewards_of_every_kind_that_trl_takes(model, tokenizer, tmp_path):
    """async, a partial, an object without a name; TRL's keywords reach them, and are reported."""

    async def shorter(completions, completion_ids, prompts, trainer_state, log_metric, **_):
        log_metric("seen", trainer_state.global_step)
        assert len(prompts) == len(completions) == 8
        return [-float(len(ids)) for ids in completion_ids]

    class Judge:
        def __call__(self, completions, log_extra, **_):
            log_extra("note", [f"{len(text)} letters" for text in completions])
            return [None if i % 2 else 0.5 for i in range(len(completions))]

    rewards = (shorter, functools.partial(characters, unused=1), Judge())
    config = replace(SMALL, rewards=rewards, reward_weights=(1.0, 0.5, 2.0))
    batches = []
    history = run(model, tokenizer, config, tmp_path, [lambda *step: batches.append(step[2])])
    assert [m["logged/seen"] for m in history] == [0, 1, 2]
    for metrics, batch in zip(history, batches, strict=True):
        assert metrics["rewards/shorter"] == -metrics["length"] and metrics["rewards/Judge"] == 0.25
        texts = [one.text for one in batch.measures]
        assert batch.parts["characters"] == characters(texts)
        assert batch.log.columns["logged/note"] == [f"{len(text)} letters" for text in texts]


def test_tags_that_are_special_tokens_are_read(random_folder, tmp_path):
    """TRL decodes them away: the format would be wrong for ever."""
    model, tokenizer = load(random_folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<think>", "</think>"]})
    shown = []

    def look(completions, completion_ids, **_):
        shown.extend(zip(completions, completion_ids, strict=True))
        return [float(i) for i in range(len(completions))]

    config = replace(SMALL, rewards=(look,), max_new_tokens=40, questions=8)
    run(model, tokenizer, config, tmp_path)
    tag = tokenizer.convert_tokens_to_ids("<think>")
    drawn = [(text, ids) for text, ids in shown if tag in ids]
    assert drawn and all("<think>" in text for text, _ in drawn)


def test_every_declared_end_of_text_ends_an_answer(model, tokenizer, tmp_path):
    """The model's generation configuration may name others than the tokenizer's."""
    other, seen = 5, []
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, other]

    def watch(step, metrics, batch):
        seen.extend(zip(batch.rollouts.completion_ids, batch.rollouts.finished, strict=True))

    run(model, tokenizer, replace(SMALL, questions=8, max_new_tokens=40), tmp_path, [watch])
    ends = {tokenizer.eos_token_id, other}
    assert any(ids[-1] == other for ids, _ in seen)
    assert not any(ends & {*ids[:-1]} for ids, _ in seen)
    assert all(finished == (ids[-1] in ends) for ids, finished in seen)


def test_a_tokenizer_without_an_end_of_text_is_refused(model, tokenizer, tmp_path):
    bare = copy.deepcopy(tokenizer)
    bare.eos_token = None
    with pytest.raises(R1LabError, match="no end-of-sequence token"):
        run(model, bare, SMALL, tmp_path)


def test_two_runs_do_not_share_a_folder(model, tokenizer, tmp_path):
    with one_run(tmp_path), pytest.raises(R1LabError, match="another run is working in"):
        run(model, tokenizer, SMALL, tmp_path)
    assert len(run(model, tokenizer, SMALL, tmp_path)) == 3


@pytest.mark.parametrize(
    "damage, kept",
    [
        (lambda text: text + '{"step": 2, "rew\n', [0, 1, 2, 3]),
        (lambda text: text + "\udcff\udcfe\nnull\n", [0, 1, 2, 3]),
        (lambda text: text[:-40], [0, 2, 3]),
        (lambda text: "", [2, 3]),
    ],
    ids=["half a line", "no text", "cut off", "empty"],
)
def test_a_damaged_metrics_file_does_not_stop_a_run_whose_checkpoints_are_whole(
    model, tokenizer, tmp_path, caplog, damage, kept
):
    other = copy.deepcopy(model)
    run(model, tokenizer, replace(SMALL, steps=2), tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(damage(path.read_text()), errors="surrogateescape")
    history = run(other, tokenizer, replace(SMALL, steps=4), tmp_path)
    assert [m["step"] for m in history] == [m["step"] for m in metrics_of(tmp_path)] == kept
    assert ("has no metrics of" in caplog.text) == (len(kept) < 4)


def test_a_prompt_that_is_too_long_is_found_before_the_first_step(model, tokenizer, tmp_path):
    """`grpo.training_problems` looks for it, as on scratch."""
    first = TASK.problems("train", 1, seed=0)[0]
    size = len(tokenizer(render(first, "tiny"))["input_ids"])
    model.config.max_position_embeddings = size - 1 + SMALL.max_new_tokens
    words = f"the first is {first.id}, {size} tokens. Lower max_new_tokens"
    with pytest.raises(R1LabError, match=words):
        run(model, tokenizer, SMALL, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_run_is_not_continued_and_not_overwritten(model, tokenizer, tmp_path):
    config = replace(SMALL, steps=1)
    base = copy.deepcopy(model)
    run(model, tokenizer, config, tmp_path)
    for changed, options, words in (
        (replace(config, learning_rate=1e-4), {}, "learning_rate was 0.003 and is 0.0001"),
        (config, {"sampler": "generate"}, "sampler was 'r1lab' and is 'generate'"),
    ):
        with pytest.raises(R1LabError, match=words):
            run(copy.deepcopy(base), tokenizer, changed, tmp_path, **options)
    run(copy.deepcopy(base), tokenizer, replace(config, seed=1), tmp_path, resume=False)
    assert (tmp_path / "earlier-1" / "model").is_dir()
    scratch = tmp_path / "scratch"
    grpo.train(copy.deepcopy(base), tokenizer, TASK, config, scratch, progress=False)
    with pytest.raises(R1LabError, match="a run of the backend scratch"):
        run(base, tokenizer, config, scratch)


class TwoSteps:
    """A budget that is used up when two steps are done."""

    asked = 0

    def exceeded(self, seconds: float, next_step: float = 0.0) -> str | None:
        self.asked += 1
        return f"the budget of 1 minute is used up ({seconds:.0f} s)" if self.asked == 2 else None


def test_a_budget_ends_the_run_with_a_checkpoint_and_a_model(model, tokenizer, tmp_path, caplog):
    other = copy.deepcopy(model)
    whole = run(copy.deepcopy(model), tokenizer, SMALL, tmp_path / "whole")
    history = run(model, tokenizer, SMALL, tmp_path / "parts", budget=TwoSteps())
    assert len(history) == 2 and "stopped after 2 of 3 steps" in caplog.text
    assert same_weights(load(tmp_path / "parts" / "model")[0], model)
    summary = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert summary["steps"] == 2 and "budget of 1 minute" in summary["stopped"]
    resumed = run(other, tokenizer, SMALL, tmp_path / "parts")
    assert without_clock(resumed) == without_clock(whole)


def test_a_budget_that_is_spent_buys_no_further_step(model, tokenizer, tmp_path):
    """The same command again, after its budget has ended it: nothing is done, the model stays."""

    class Spent:
        steps = []

        def exceeded(self, seconds, next_step=0.0):
            assert self.steps == [] or seconds > self.steps[-1][0]
            self.steps.append((seconds, next_step))
            return "spent" if len(self.steps) >= 3 else None

    config, budget = replace(SMALL, steps=50), Spent()
    first = run(copy.deepcopy(model), tokenizer, config, tmp_path, budget=budget)
    assert len(first) == 3 and budget.steps[0][1] == 0  # the first step says nothing of the next
    assert all(0 < step < spent for spent, step in budget.steps[1:])
    again = run(model, tokenizer, config, tmp_path, budget=budget)
    assert again == first and len(budget.steps) == 4
    assert same_weights(load(tmp_path / "model")[0], model)
    assert json.loads((tmp_path / "summary.json").read_text())["stopped"] == "spent"


def test_the_model_that_is_left_is_a_hub_folder_with_a_card(base_model, tokenizer, tmp_path):
    model, tokenizer = copy.deepcopy(base_model[0]), base_model[1]
    run(model, tokenizer, SMALL, tmp_path, budget=Budget(dollars_per_hour=3.6))
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json"} <= names
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.license == "mit" and "grpo" in card.data.tags
    seconds = json.loads((tmp_path / "summary.json").read_text())["seconds"]
    for words in ("tiny of r1lab", "| accuracy |", "torch 2.", f"${seconds / 1000:.3f}"):
        assert words in card.text
    assert not list((tmp_path / "checkpoints").glob("*/README.md"))  # TRL's, of an unknown base


def test_the_arithmetic_is_ours_and_not_the_launchers(model, tokenizer, tmp_path, monkeypatch):
    """accelerate's mixed_precision reaches the trainer through the environment."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(R1LabError, match="mixed_precision bf16, and --precision asks for fp32"):
        run(model, tokenizer, SMALL, tmp_path, precision="fp32")


def test_nan_stops_before_the_weights_and_keeps_the_batch(model, tokenizer, tmp_path):
    def sometimes_nan(completions, step=0, **_):
        return [float("nan") if step == 1 else 1.0 * i for i in range(len(completions))]

    config = replace(SMALL, rewards=(sometimes_nan,))
    with pytest.raises(R1LabError, match="step 1 has a reward that is not .*nan_batch.json.*of 1"):
        run(model, tokenizer, config, tmp_path)
    assert json.loads((tmp_path / "nan_batch.json").read_text())["step"] == 1
    assert all(p.isfinite().all() for p in model.parameters())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(model, tokenizer, tmp_path):
    def poison(completions, step=0, **_):
        """The answers are written; now the model breaks."""
        if step == 1:
            model.model.norm.weight.data[0] = float("inf")
        return characters(completions)

    with pytest.raises(R1LabError, match="step 1 has a gradient that is not finite.*of 1 steps"):
        run(model, tokenizer, replace(SMALL, rewards=(poison,)), tmp_path)
    assert [f.name for f in newest_first(tmp_path / "checkpoints")] == ["checkpoint-1"]


def test_nothing_is_trained_when_it_cannot_be_pushed(model, tokenizer, tmp_path):
    for name, words in (("me/model", "Log in with"), ("a b/c d", "cannot push to 'a b/c d'")):
        with pytest.raises(R1LabError, match=words) as raised:
            run(model, tokenizer, SMALL, tmp_path / "out", push_to_hub=name)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_it_is_pushed_to_where_its_owner_keeps_it(model, tokenizer, tmp_path, monkeypatch):
    """A name without an owner is the user's; the hub says whose that is."""
    asked = []

    class Hub:
        def create_repo(self, name, private, exist_ok):
            asked.append(("create", name, private))
            return RepoUrl(f"https://huggingface.co/me/{name}")

        def upload_folder(self, folder_path, repo_id, commit_message):
            asked.append(("upload", repo_id, sorted(os.listdir(folder_path))))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    run(model, tokenizer, replace(SMALL, steps=1), tmp_path, push_to_hub="mine")
    (create, upload) = asked
    assert create == ("create", "mine", True) and upload[:2] == ("upload", "me/mine")
    assert {"README.md", "model.safetensors"} <= set(upload[2])


# --- several processes -----------------------------------------------------------------------

TWO = GRPOConfig(steps=2, questions=4, group_size=4, max_new_tokens=24, learning_rate=1e-3)
SCRIPT = """
import gc, sys
gc.disable()  # while torch comes
from accelerate import PartialState
from r1lab import models
from r1lab.trl_backend import run
from r1lab.trl_backend.mapping import Launch
from r1lab.tasks import get_task
from test_trl_backend import TWO
import torch
gc.enable()
torch.set_num_threads(1)
model, tokenizer = models.load("tiny")
history = run.train(
    model, tokenizer, get_task("countdown"), TWO, sys.argv[1],
    Launch(sampler="r1lab", shares=2), progress=False)
assert bool(history) == PartialState().is_main_process
assert PartialState().num_processes == 2
"""


def test_two_processes_are_one(base_model, tmp_path, warm_processes):
    """`accelerate launch` with two CPU processes (gloo) on the embedded model: the same answers,
    the same loss, the same weights as one process on the same global batch."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    paths = [str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2",
        "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
        str(script), str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]

    model, tokenizer = copy.deepcopy(base_model[0]), base_model[1]
    one = run(model, tokenizer, TWO, tmp_path / "one", sampler="r1lab", shares=2)
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    two = [json.loads(line) for line in lines]
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        for name in ("reward", "accuracy", "length", "tokens"):
            assert a[name] == b[name]
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-6)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
    other = load(tmp_path / "two" / "model")[0]
    both = zip(model.parameters(), other.parameters(), strict=True)
    far = torch.cat([(x - y).abs().flatten() for x, y in both])
    # Of two steps of up to 1e-3 each; AdamW enlarges rounding where a gradient is almost zero.
    assert far.mean() < 1e-6 and (far > 1e-4).float().mean() < 1e-3


def test_a_launcher_that_is_told_to_stop_lets_its_processes_save(tmp_path, warm_processes):
    """SIGTERM to the launcher alone, as a cloud or a scheduler sends it."""
    words = ["--out", str(tmp_path), *cluster.options(replace(TWO, steps=40, checkpoint_every=100))]
    command = [sys.executable, *cluster.accelerate("ddp", ["--quiet", *words], 2, "cpu")]
    command[3:3] = ["--main_process_port", "0"]
    said, metrics = tmp_path / "said", tmp_path / "metrics.jsonl"
    with said.open("w") as output:
        how = {"cwd": ROOT, "stdout": output, "stderr": output, "start_new_session": True}
        process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **how)
    try:
        deadline = time.monotonic() + 300
        while not metrics.exists() or not metrics.read_text().count("\n"):
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.1)
        process.terminate()
        process.wait(timeout=300)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    done = len(metrics_of(tmp_path))
    assert 1 <= done < 40, said.read_text()
    (saved,) = newest_first(tmp_path / "checkpoints")
    assert damage(saved) is None and saved.name == f"checkpoint-{done}"

"""The memory plan: against measured peaks, what it refuses and what it then names."""

from __future__ import annotations

import multiprocessing
import re
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import warm
from transformers import OPTConfig

from r1lab import grpo, models
from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig
from r1lab.machine import costs
from r1lab.machine.room import available, cgroup_room, held, size
from r1lab.tasks import get_task
from r1lab.trl_backend import memory, rehearsal, run
from r1lab.trl_backend.mapping import Launch
from r1lab.trl_backend.memory import Job, check_fit, plan, prepare

CONFIG = GRPOConfig(questions=4, group_size=8, max_new_tokens=128, micro_batch_tokens=4096)
SHAPE = models.tiny_llama(191, width=192, layers=3, heads=4, ffn=512).config
TINY = Job(SHAPE, CONFIG, prompt_tokens=16)
TRL = replace(TINY, backend="trl")

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and glibc")


def characters(completions, **_):
    return [float(len(text) % 7) for text in completions]  # so every group teaches


def measure(name, kl, base, how, threads, out):
    """The plan of a run, over the memory that its process held at most, and the plan in words."""
    torch.set_num_threads(threads)
    config = GRPOConfig(
        steps=1, questions=8, group_size=16, max_new_tokens=256, micro_batch_tokens=10240,
        kl_coef=kl, rewards=(characters,), reward_weights=(1.0,),
    )  # fmt: skip
    if base != "tiny":
        config = replace(config, steps=2, questions=2, group_size=2, max_new_tokens=8)
    model, tokenizer = models.load(base)
    job = memory.job_of(model, config, prompts=[[0] * 12], device="cpu", backend=name, **how)
    lengths = []

    def note(step, metrics, batch):
        longest = max(map(len, batch.rollouts.prompt_ids))
        lengths[:] = [*map(len, batch.rollouts.completion_ids), longest]

    backend = {"scratch": grpo, "trl": run}[name]
    launch = [Launch(**how)] if name == "trl" else []
    task, quiet = get_task("countdown"), {"progress": False, "callbacks": [note]}
    backend.train(model, tokenizer, task, config, out, *launch, **quiet)
    # Not getrusage: ru_maxrss starts at what the parent held when it forked.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    longest = lengths.pop()
    planned = memory.plan(replace(job, lengths=tuple(lengths), prompt_tokens=longest))
    return planned.peak / peak, planned.words()


def measured(*words) -> float:
    """That of a process which has imported all and done nothing."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as out,  # its checkpoint alone takes half a gigabyte
        warm.spawned(),
        ProcessPoolExecutor(1, context) as fresh,
    ):
        found, told = fresh.submit(measure, *words, out).result(timeout=600)
    print(told)
    return found


@linux
@pytest.mark.parametrize(
    ("name", "kl", "threads"),
    [("scratch", 0.0, 1), ("scratch", 0.0, 2), ("scratch", 0.05, 1), ("trl", 0.0, 1)],
)
def test_the_plan_is_within_15_percent_of_what_a_step_took(name, kl, threads):
    assert 0.85 < measured(name, kl, "tiny", {}, threads) < 1.15


@pytest.fixture(scope="module")
def heavy(tokenizer, tmp_path_factory):
    """The folder of a model of 40 million weights."""
    folder = tmp_path_factory.mktemp("heavy")
    size = {"width": 640, "layers": 8, "heads": 10, "ffn": 1728}
    models.save(models.tiny_llama(len(tokenizer), **size), tokenizer, folder)
    yield str(folder)
    shutil.rmtree(folder)


@linux
@pytest.mark.parametrize(("name", "how"), [("scratch", {}), ("trl", {"lora": 8})])
def test_so_it_is_with_weights_that_weigh(name, how, heavy):
    """Mapped from a file: the plan once took them for resident before they were, which is 14 %
    here. SmolLM2-135M, which is too slow for a test: `memory`'s docstring."""
    assert 0.9 < measured(name, 0.0, heavy, how, 1) < 1.1


def test_what_is_kept_is_counted_by_the_shape():
    weights = memory.count(TINY.model).weights
    found = plan(TINY)
    assert found.weights == found.gradients == 4 * weights and found.optimizer == 8 * weights
    assert found.reference == 0 and found.peak > found.training > found.activations > 0
    asked = replace(TINY, config=replace(CONFIG, kl_coef=0.1))
    assert plan(asked).reference == 4 * weights and plan(asked).activations >= found.activations
    assert plan(replace(TRL, config=asked.config, lora=4)).reference == 0  # the base is the model
    lora = plan(replace(TRL, lora=4))
    assert lora.optimizer == 2 * lora.gradients < found.optimizer / 10


def test_activations_follow_tokens_and_checkpointing():
    small = plan(replace(TINY, config=replace(CONFIG, micro_batch_tokens=1024))).activations
    assert plan(TINY).activations == pytest.approx(4 * small, rel=0.2)
    two = replace(TINY, config=replace(CONFIG, questions=2))  # all in one micro-batch
    long = plan(replace(two, lengths=(128,) * 16)).activations
    assert plan(replace(two, lengths=(64,) * 16)).activations < 0.6 * long
    assert plan(replace(TRL, gradient_checkpointing=True)).activations < 0.7 * plan(TRL).activations
    bf16 = plan(replace(TRL, precision="bf16")).activations
    assert bf16 < plan(TRL).activations


@pytest.mark.parametrize("job", [TINY, TRL], ids=["scratch", "trl"])
def test_bfloat16_arithmetic_keeps_less(job):
    full = replace(job, device="cuda")
    halved = rehearsal.activations(replace(full, precision="bf16"))
    assert halved < 0.9 * rehearsal.activations(full)


@pytest.mark.parametrize("job", [TINY, TRL], ids=["scratch", "trl"])
@pytest.mark.parametrize("vocabulary, tokens", [(191, 4096), (60_000, 250)])
def test_deep_models_are_rehearsed_in_part(job, vocabulary, tokens):
    """With few tokens and a large vocabulary a model of two layers needs most for the vocabulary's
    gradient, and one of twelve does not."""
    model = rehearsal.shallow(TINY.model, None)
    model.num_hidden_layers, model.vocab_size = 12, vocabulary
    config = replace(CONFIG, micro_batch_tokens=tokens, questions=2, group_size=2)
    deep = replace(job, model=model, config=config)
    rows, width, answers = rehearsal.micro_batch(deep)
    whole = max(rehearsal.rehearse(deep, rows, width, answers))
    assert rehearsal.activations(deep) == pytest.approx(whole, rel=0.03)


def test_sharding_divides_what_it_should():
    one = plan(replace(TRL, sampler="generate"))
    four = replace(TRL, sampler="generate", processes=4)
    spread = plan(replace(four, sharded=True))
    for part in ("weights", "gradients", "optimizer"):
        assert getattr(spread, part) == getattr(one, part) // 4
    copies = plan(four)  # DDP: everything whole, and buckets beside the gradients
    assert copies.weights == one.weights and copies.gradients == 2 * one.gradients
    assert spread.cache == copies.cache < one.cache  # answers are dealt out by both
    ours = plan(replace(four, sharded=True, sampler="r1lab"))  # gathers the weights in a copy
    whole = plan(replace(four, sampler="r1lab"))
    assert ours.sampler == whole.sampler + 4 * ours.parameters


@pytest.mark.parametrize("job", [TINY, TRL], ids=["scratch", "trl"])
def test_a_refusal_names_an_option_that_then_fits(job):
    full = plan(job).peak
    assert check_fit(job, full).peak == full
    with pytest.raises(R1LabError) as error:
        check_fit(job, full - 1)
    found = re.search(r"(--\S+( \d+)?) would fit", str(error.value))[1]
    assert "\n" not in str(error.value)
    assert plan(dict(memory.harmless(job))[found]).peak <= full - 1
    assert found.startswith("--gradient-checkpointing" if job is TRL else "--micro-batch-tokens")
    with pytest.raises(R1LabError, match="larger machine"):
        check_fit(job, 1 << 20)


def test_auto_checkpointing_is_off_where_there_is_room():
    full = plan(TRL).peak
    assert prepare(TRL, checkpointing="auto", room=2 * full)[0] is False
    on, words = prepare(TRL, checkpointing="auto", room=full)
    assert on is True and "activations" in words
    assert prepare(TRL, checkpointing=True, room=2 * full)[0] is True


def test_a_model_that_cannot_be_planned_is_not_held_up(monkeypatch):
    monkeypatch.setattr(rehearsal, "_REHEARSED", {})
    monkeypatch.setattr(rehearsal, "_scratch_pass", lambda *_: 1 / 0)
    on, words = prepare(TINY, room=1 << 40)
    assert on is False and "cannot be planned" in words


def test_what_cannot_be_planned_prints_no_traceback(capfd):
    """OPT counts positions from a mask of two dimensions; torch logs the failing operation."""
    how = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    model = OPTConfig(**how, word_embed_proj_dim=16, vocab_size=100)
    assert "cannot be planned" in prepare(replace(TRL, model=model), room=1 << 40)[1]
    assert capfd.readouterr().err == ""


def test_the_words_are_for_reading():
    assert size(5.2 * 2**20) == "5.2 MiB" and size(2**29) == "0.50 GiB"
    assert size(12.34 * 2**30) == "12.3 GiB"
    text = plan(TINY).words(room=2**34)
    assert "of 16.0 GiB that can be used" in text and text.count("\n") == 2
    assert f"{memory.count(TINY.model).weights:,} parameters are trained" in text


def test_a_container_s_limit_counts(tmp_path):
    own = tmp_path / "cgroup"
    room = {"own": str(own), "root": str(tmp_path)}
    assert cgroup_room(**room) == float("inf")  # no such file: not Linux

    own.write_text("0::/a/b\n")  # version 2: the parent's limit holds as well
    for name, limit, used in (("a", "1000", "300"), ("a/b", "max", "200")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.max").write_text(limit)
        (tmp_path / name / "memory.current").write_text(used)
    assert cgroup_room(**room) == 700
    (tmp_path / "a" / "memory.stat").write_text("file 90\ninactive_file 50\n")
    assert cgroup_room(**room) == 750

    own.write_text("8:pids:/\n4:memory:/hidden\n0::/\n")  # version 1, the group seen as the root
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("5000")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("4500")
    assert cgroup_room(**room) == 500


def test_this_machine_has_memory():
    assert available() > held() > 50 << 20


def test_trl_refuses_before_it_trains(random_model, tmp_path, monkeypatch):
    monkeypatch.setattr(run.room, "available", lambda device: 1 << 20)
    model, tokenizer = random_model
    config = replace(CONFIG, steps=1, max_new_tokens=8)
    from r1lab.tasks import get_task

    with pytest.raises(R1LabError, match="needs .* of memory and this machine has 1 MiB"):
        run.train(model, tokenizer, get_task("countdown"), config, tmp_path, progress=False)


def test_the_live_meter_says_what_is_to_come(capsys):
    meter = costs.Live(GRPOConfig(steps=20), dollars_per_hour=3.6)
    for step in range(4):
        meter(step, {"tokens": 100, "seconds": 10.0, "length": 50.0})
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("time: 3.0 min to") and "cost: $0.18 to" in out[0]
    assert out[1].startswith("step 4 of 20, 400 tokens, 40 s of about 3.3 min, $0.040")
    assert len(out) == 2

"""The training loop: exact gradients, exact resumption, and a reason when nothing is learned.

Everything runs for real, on a Llama of 20,000 weights that speaks the tiny world's tokens.
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
import warm

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.experience import training_problems
from r1lab.grpo import GRPOConfig, backward, collect, pad, questions_at, train
from r1lab.losses import grpo_loss
from r1lab.machine.device import arithmetic, precision_on
from r1lab.models.load import load
from r1lab.sampler.score import token_logps
from r1lab.tasks import get_task
from r1lab.training import checkpoints
from r1lab.training.loop import Loop
from r1lab.training.metrics import metrics_of, spent_in
from r1lab.training.signals import Stopped

TASK = get_task("countdown")


def waits(completions, **_):
    """Paid for the share of "wait" among the words: something a random model can learn fast."""
    return [text.split().count("wait") / max(1, len(text.split())) for text in completions]


def characters(completions, **_):
    """Something that differs from answer to answer."""
    return [float(len(text) % 7) for text in completions]


def brevity(completions, **_):
    return [-float(len(text.split())) for text in completions]


SMALL = GRPOConfig(
    steps=6, questions=3, group_size=4, max_new_tokens=12, rewards=(waits,), reward_weights=(1.0,),
    learning_rate=3e-3, lr_schedule="constant", length_norm="sequence",
    checkpoint_every=2, samples_every=2,
)  # fmt: skip


def same_weights(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def run(model, tokenizer, config, out_dir, **options):
    return train(model, tokenizer, TASK, config, out_dir, progress=False, **options)


# --- it learns -------------------------------------------------------------------------------


def test_what_pays_becomes_more_frequent(model, tokenizer, tmp_path):
    config = replace(SMALL, steps=25, questions=8, group_size=8, learning_rate=1e-2)
    history = run(model, tokenizer, config, tmp_path)
    assert history[0]["reward"] < 0.05 and history[-1]["reward"] > 0.5
    assert max(abs(m["loss"]) for m in history) < 1e-5 < min(m["grad_norm"] for m in history[:5])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == json.loads(json.dumps(history))
    assert same_weights(load(str(tmp_path / "model"))[0], model)


def test_the_metrics_of_an_earlier_run_are_found(model, tokenizer, tmp_path):
    assert metrics_of(tmp_path) == []
    history = run(model, tokenizer, replace(SMALL, steps=2), tmp_path)
    assert metrics_of(tmp_path) == json.loads(json.dumps(history))


def test_the_end_of_text_is_trained_although_it_also_pads(model, tokenizer, tmp_path):
    assert tokenizer.eos_token_id == tokenizer.pad_token_id
    config = replace(
        SMALL, steps=20, questions=8, group_size=8, rewards=(brevity,), learning_rate=1e-2
    )
    history = run(model, tokenizer, config, tmp_path)
    assert history[0]["truncated"] > 0.8 and history[-1]["truncated"] < 0.2
    assert history[-1]["length"] < 0.5 * history[0]["length"]


@pytest.mark.parametrize(
    "changes",
    [
        {"inner_epochs": 2, "minibatches": 3},
        {"inner_epochs": 2, "old_logprobs": "recompute", "ratio_level": "sequence"},
        {"kl_coef": 0.05, "kl_estimator": "k1", "length_norm": "token", "advantage": "rloo"},
        {"length_norm": "constant", "advantage": "dr_grpo", "max_grad_norm": 0.0},
    ],
    ids=str,
)
def test_every_variant_learns(model, tokenizer, tmp_path, changes):
    config = replace(SMALL, steps=15, questions=6, group_size=8, learning_rate=1e-2, **changes)
    history = run(model, tokenizer, config, tmp_path)
    assert history[-1]["reward"] > 3 * history[0]["reward"]
    off_policy = config.minibatches * config.inner_epochs > 1
    assert (max(m["clip_fraction"] for m in history) > 0) == off_policy


# --- the gradient is the formula's -----------------------------------------------------------


def gradients(model, batch, config, reference=None, old=None):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    sums = backward(model, reference, batch, list(range(len(batch.measures))), old, config)
    return sums, [p.grad.clone() for p in model.parameters()]


def rollout(model, tokenizer, config):
    """A batch in which group 1 has no spread, and its rows."""
    problems = questions_at(0, TASK.problems("train", config.questions, seed=0), config)
    batch = collect(model, tokenizer, TASK, problems, 0, config)
    batch.advantages[1] = 0.0
    prompts, answers, G = (
        batch.rollouts.prompt_ids,
        batch.rollouts.completion_ids,
        config.group_size,
    )
    return batch, [(prompts[r // G], ids) for r, ids in enumerate(answers)]


def close(some, others) -> bool:
    return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("norm", ["sequence", "token", "constant"])
def test_micro_batches_and_silent_groups_do_not_change_the_gradient(model, tokenizer, norm):
    config = replace(SMALL, length_norm=norm, questions=4, rewards=(characters,))
    batch, rows = rollout(model, tokenizer, config)
    logp, mask, _ = token_logps(model, rows, 1.0)
    formula, _ = grpo_loss(logp, logp.detach(), batch.advantages.flatten(), mask,
                           objective=config.objective)  # fmt: skip
    exact = torch.autograd.grad(formula, list(model.parameters()))
    assert max(g.abs().max() for g in exact) > 1e-3
    teaching = [len(ids) for r, (_, ids) in enumerate(rows) if batch.advantages.flatten()[r] != 0]
    for budget in (16384, 70, 40, 1):
        sums, parts = gradients(model, batch, replace(config, micro_batch_tokens=budget))
        assert sums["loss"] == pytest.approx(formula.item(), abs=1e-6) and close(parts, exact)
        assert sums["used"] == sum(teaching) < sum(len(ids) for _, ids in rows)  # the rest: skipped


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_off_policy_with_a_kl_term_too(model, tokenizer, level):
    """The policy has moved away from the one that answered, some tokens beyond the clip."""
    options = {"kl_coef": 0.1, "ratio_level": level, "clip_low": 0.02, "clip_high": 0.03}
    config = replace(SMALL, questions=4, rewards=(characters,), **options)
    batch, rows = rollout(model, tokenizer, config)
    reference = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(p.std() * torch.randn(p.shape))
    logp, mask, _ = token_logps(model, rows, 1.0)
    old, ref = pad(batch.rollouts.logprobs, logp), token_logps(reference, rows, 1.0)[0].detach()
    formula, seen = grpo_loss(logp, old, batch.advantages.flatten(), mask, ref,
                              config.objective)  # fmt: skip
    exact = torch.autograd.grad(formula, list(model.parameters()))
    assert seen["clip_fraction"] > 0 and seen["kl"] > 0
    for budget in (16384, 70, 1):
        config = replace(config, micro_batch_tokens=budget)
        sums, parts = gradients(model, batch, config, reference, batch.rollouts.logprobs)
        assert close(parts, exact)
        assert sums["used"] == mask.sum()  # a group without a spread is still pulled back
        for name in ("kl", "clip_fraction"):
            assert sums[name] / sums["used"] == pytest.approx(seen[name], rel=1e-4)


def test_the_samplers_log_probs_serve_as_pi_old(model, tokenizer, tmp_path):
    """Off-policy from the sampler's numbers or from a new forward: the same run within rounding."""
    config = replace(SMALL, steps=3, minibatches=2, rewards=(characters,))
    other = copy.deepcopy(model)
    a = run(model, tokenizer, config, tmp_path / "a")
    b = run(other, tokenizer, replace(config, old_logprobs="recompute"), tmp_path / "b")
    assert a[0]["grad_norm"] == pytest.approx(b[0]["grad_norm"], rel=1e-3)
    assert a[0]["clip_fraction"] == pytest.approx(b[0]["clip_fraction"], abs=0.02)


def test_the_reference_is_replaced_every_n_steps(model, tokenizer, tmp_path):
    config = replace(SMALL, kl_coef=1e-3, ref_refresh=3, rewards=(characters,))
    history = run(model, tokenizer, config, tmp_path)
    divergence = [m["kl"] for m in history]
    assert divergence[0] == pytest.approx(0, abs=1e-6) == divergence[3]
    assert all(divergence[i] > 1e-5 for i in (1, 2, 4, 5))


# --- stopped anywhere ------------------------------------------------------------------------

LONG = replace(SMALL, steps=500, kl_coef=1e-3, ref_refresh=3, rewards=(characters,))


def train_for_ever(base, out):
    torch.set_num_threads(1)
    run(*load(base), LONG, out)


def steps_logged(out) -> int:
    metrics = out / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def test_killed_again_and_again_it_ends_with_the_same_bits(
    model, tokenizer, tmp_path, warm_processes
):
    """kill -9 at three random moments in processes of their own; on to the end in this one."""
    base, out = tmp_path / "base", tmp_path / "killed"
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)
    context = multiprocessing.get_context("spawn")
    pauses = [random.uniform(0, 0.2) for _ in range(3)]
    for pause in pauses:
        done, until = steps_logged(out), time.monotonic() + 300
        process = context.Process(target=train_for_ever, args=(base, out))
        process.start()
        while steps_logged(out) in (done, 0) and process.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(pause)
        warm.kill(process.pid)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was to be killed while it trained"

    config = replace(LONG, steps=steps_logged(out) + 3)
    killed, threads = copy.deepcopy(model), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = run(model, tokenizer, config, tmp_path / "whole")
        resumed = run(killed, tokenizer, config, out)
    finally:
        torch.set_num_threads(threads)
    assert same_weights(model, killed), f"not the same after {pauses}"
    clock = ("seconds", "tokens_per_second", "memory", "diagnoses")
    for a, b in zip(whole, resumed, strict=True):
        assert {k: v for k, v in a.items() if not k.endswith(clock)} == {
            k: v for k, v in b.items() if not k.endswith(clock)
        }
    samples = (tmp_path / "whole" / "samples.jsonl").read_text()
    assert samples == (out / "samples.jsonl").read_text()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves_and_goes_on(model, tokenizer, tmp_path, sign):
    """Between two refreshes of the reference, which is in the checkpoint too."""
    other = copy.deepcopy(model)
    config = replace(SMALL, rewards=(characters,), kl_coef=0.1, ref_refresh=2)
    whole = run(model, tokenizer, config, tmp_path / "whole")

    def stop(step, metrics, batch):
        if step == 2:
            os.kill(os.getpid(), sign)

    trained = copy.deepcopy(other)
    with pytest.raises(Stopped, match="after 3 of 6 steps; all is saved"):
        run(trained, tokenizer, config, tmp_path / "parts", callbacks=[stop])
    history = run(other, tokenizer, config, tmp_path / "parts")
    assert same_weights(model, other) and len(history) == len(whole) == 6


def test_a_damaged_checkpoint_costs_its_steps_and_nothing_else(model, tokenizer, tmp_path, caplog):
    other = copy.deepcopy(model)
    run(model, tokenizer, SMALL, tmp_path)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-50])
    run(other, tokenizer, SMALL, tmp_path)
    assert same_weights(model, other)
    assert newest.name in caplog.text and "damaged" in caplog.text


def reseal(path, **changes):
    """A checkpoint with other parts (None: without it), whole by its checksum."""
    state = torch.load(path, weights_only=True) | changes
    torch.save({name: part for name, part in state.items() if part is not None}, path)
    path.with_name(path.name + ".sha256").write_text(f"{files.digest_of(path)}  {path.name}\n")


@pytest.mark.parametrize(
    "changes, words",
    [({"step": None}, "it lacks step"), ({"model": None, "rng": None}, "it lacks rng, model"),
     ({"step": 2.5}, "its step cannot be read"), ({"run": [1], "from": "x"}, "its run, from"),
     ({"optimizer": {}}, "does not fit the run in optimizer"),
     ({"model": {"w": torch.ones(2)}}, "does not fit the run in model")], ids=str,
)  # fmt: skip
def test_a_checkpoint_without_its_parts_is_passed_over(
    model, tokenizer, tmp_path, caplog, changes, words
):
    parts = {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}
    loop = Loop(tmp_path, SMALL, progress=False)
    with loop.over(4, parts) as steps:
        for step in steps:
            loop.log({"step": step, "seconds": 0.0}, "")
    reseal(tmp_path / "checkpoints" / "step-00000004.pt", **changes)
    again = Loop(tmp_path, SMALL, progress=False)
    with caplog.at_level("WARNING"), again.over(4, parts) as steps:
        assert list(steps) == [2, 3]
    assert words in caplog.text


@pytest.mark.parametrize("harm", ["half", "bytes", "null", "kind", "hole", "gone"])
def test_damaged_metrics_do_not_stop_a_run_whose_checkpoints_are_whole(
    model, tokenizer, tmp_path, caplog, harm
):
    config = replace(SMALL, steps=3, checkpoint_every=1, samples_every=1)
    other = copy.deepcopy(model)
    run(model, tokenizer, config, tmp_path)
    for file in (tmp_path / "metrics.jsonl", tmp_path / "samples.jsonl"):
        tail = {"half": b'{"step": 3, "rew\n', "bytes": b"\xff\xfe\n", "null": b"null\n",
                "kind": b'{"step": 3, "seconds": []}\n'}  # fmt: skip
        text = file.read_bytes() + tail.get(harm, b"")
        file.write_bytes(text[:-40] if harm == "hole" else text)
        if harm == "gone":
            file.unlink()
    with caplog.at_level("WARNING"):
        history = run(other, tokenizer, replace(config, steps=5), tmp_path)
    lost = {"hole": [2], "gone": [0, 1, 2]}.get(harm, [])
    assert [m["step"] for m in history] == [step for step in range(5) if step not in lost]
    assert [m["step"] for m in metrics_of(tmp_path)] == [m["step"] for m in history]
    assert ("metrics.jsonl" in caplog.text) and ("of 3 steps" in caplog.text) == bool(lost)


def test_a_finished_run_without_its_checkpoints_is_set_aside(model, tokenizer, tmp_path, caplog):
    base = copy.deepcopy(model)
    run(model, tokenizer, SMALL, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("metrics.jsonl", "about.json")}
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "checkpoints")
    with caplog.at_level("WARNING"):
        run(base, tokenizer, replace(SMALL, steps=1, learning_rate=0.1), tmp_path)
    kept = tmp_path / "earlier-1"
    assert {name: (kept / name).read_bytes() for name in before} == before
    assert (kept / "model" / "model.safetensors").read_bytes() == weights
    assert len(metrics_of(tmp_path)) == 1 and "it is in" in caplog.text


@pytest.mark.parametrize("resume", [True, False])
def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(
    model, tokenizer, tmp_path, resume
):
    other = copy.deepcopy(model)

    def second(step, metrics, batch):
        if step == 2:
            with pytest.raises(R1LabError, match="another run is working in .*choose another"):
                run(other, tokenizer, SMALL, tmp_path, resume=resume)

    history = run(model, tokenizer, SMALL, tmp_path, callbacks=[second])
    assert [m["step"] for m in history] == list(range(6)) and metrics_of(tmp_path) == history
    assert not list(tmp_path.glob("earlier-*")) and (tmp_path / "model").is_dir()


def test_another_run_is_not_continued_and_not_overwritten(model, tokenizer, tmp_path):
    base = copy.deepcopy(model)
    run(model, tokenizer, SMALL, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    for config, words in (
        (replace(SMALL, learning_rate=1e-4), "learning_rate was 0.003 and is 0.0001"),
        (replace(SMALL, seed=1), "seed was 0 and is 1"),
        (replace(SMALL, steps=4), "6 steps are done, and steps is 4"),
    ):
        with pytest.raises(R1LabError, match=words):
            run(copy.deepcopy(base), tokenizer, config, tmp_path)
    stranger = copy.deepcopy(base)
    with torch.no_grad():
        next(stranger.parameters()).add_(1)
    with pytest.raises(R1LabError, match="not the one it began with"):
        run(stranger, tokenizer, SMALL, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == before

    longer = run(copy.deepcopy(base), tokenizer, replace(SMALL, steps=8), tmp_path)
    assert len(longer) == 8  # more steps are no other run
    run(copy.deepcopy(base), tokenizer, replace(SMALL, steps=1, seed=1), tmp_path, resume=False)
    assert (tmp_path / "earlier-1" / "model").is_dir()  # what was there is kept


def test_the_learning_rate_rises_then_falls_to_nothing(model, tokenizer, tmp_path):
    config = replace(SMALL, warmup_steps=2, learning_rate=0.008, lr_schedule="linear")
    rates = [m["lr"] for m in run(copy.deepcopy(model), tokenizer, config, tmp_path)]
    assert rates == pytest.approx([0.004, 0.008, 0.008, 0.006, 0.004, 0.002])
    with pytest.raises(R1LabError, match="lr_schedule.* was 6 and is 8"):
        run(model, tokenizer, replace(config, steps=8), tmp_path)  # step 5 would have been another


def test_nan_stops_before_the_weights_and_keeps_the_batch(model, tokenizer, tmp_path):
    def sometimes_nan(completions, step=0, **_):
        return [float("nan") if step == 3 else 1.0 * i for i in range(len(completions))]

    seen = []
    config = replace(SMALL, rewards=(sometimes_nan,))
    with pytest.raises(R1LabError, match="step 3 has loss nan.*nan_batch.json.*of 2 steps"):
        run(model, tokenizer, config, tmp_path,
            callbacks=[lambda *_: seen.append(checkpoints.fingerprint(model))])  # fmt: skip
    assert seen[-1] == checkpoints.fingerprint(model) and len(seen) == 3
    batch = json.loads((tmp_path / "nan_batch.json").read_text())
    assert batch["step"] == 3 and len(batch["rows"]) == 12
    assert all(row["prompt"] and row["tokens"] for row in batch["rows"])


def test_weights_that_overflow_never_reach_a_checkpoint(model, tokenizer, tmp_path):
    """In float16 AdamW's epsilon is 0 and small squared gradients too: 0 / 0, from good numbers."""
    config = replace(SMALL, rewards=(characters,), checkpoint_every=1)
    with pytest.raises(R1LabError, match="step 0 has weights that are not finite.*of 0 steps"):
        run(model.half(), tokenizer, config, tmp_path)
    assert (tmp_path / "nan_batch.json").exists() and not (tmp_path / "checkpoints").exists()


def hungry(when: list[int]):
    """A reward that asks for more memory than any machine has, at the steps in `when`."""

    def reward(completions, step=0, **_):
        if step in when:
            torch.empty(2**60)
        return characters(completions)

    return reward


def test_too_little_memory_is_one_line_and_costs_nothing(model, tokenizer, tmp_path):
    other = copy.deepcopy(model)
    run(model, tokenizer, replace(SMALL, rewards=(hungry([]),)), tmp_path / "whole")
    with pytest.raises(R1LabError, match="not enough memory. Lower micro_batch_tokens") as raised:
        broken = copy.deepcopy(other)
        run(broken, tokenizer, replace(SMALL, rewards=(hungry([3]),)), tmp_path / "parts")
    assert "\n" not in str(raised.value)
    run(other, tokenizer, replace(SMALL, rewards=(hungry([]),)), tmp_path / "parts")
    assert same_weights(model, other)


@pytest.mark.parametrize("full_from", [3, 5], ids=["checkpoint", "model"])
def test_a_full_disk_is_one_line_and_costs_nothing(model, tokenizer, tmp_path, full_from):
    """From a step on, the kernel refuses files above 20,000 bytes, as a full disk would."""
    other = copy.deepcopy(model)
    config = replace(SMALL, rewards=(characters,), checkpoint_every=4)
    whole = run(model, tokenizer, config, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step, metrics, batch):
        if step == full_from:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(R1LabError, match="cannot write .* Free some space") as raised:
            run(copy.deepcopy(other), tokenizer, config, tmp_path / "full", callbacks=[fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(raised.value)
    resumed = run(other, tokenizer, config, tmp_path / "full")
    assert same_weights(model, other) and len(resumed) == len(whole)
    assert same_weights(model, load(tmp_path / "full" / "model")[0])


def test_the_progress_bar_tells_accuracy_length_speed_and_time_left(
    model, tokenizer, tmp_path, capfd
):
    train(model, tokenizer, TASK, SMALL, tmp_path)
    bar = capfd.readouterr().err.replace("\r", "\n")
    assert re.search(r"accuracy \d\.\d\d, length \d+, [\d,]+ tok/s", bar)
    assert re.search(r"6/6 \[\d\d:\d\d<\d\d:\d\d", bar)


def test_samples_keep_what_a_reader_needs(model, tokenizer, tmp_path):
    run(model, tokenizer, SMALL, tmp_path)
    samples = [json.loads(x) for x in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert {s["step"] for s in samples} == {0, 2, 4}
    for s in samples:
        assert len(s["tokens"]) == len(s["logprobs"]) > 0 and s["prompt"].endswith(":")
        assert s["reward"] == pytest.approx(s["rewards"]["waits"])


# --- prompts -------------------------------------------------------------------------------------


class Wordy:
    """Countdown, some of whose questions are much too long."""

    def __init__(self, long):
        self.long = long

    def problems(self, split, n, seed=0):
        found = TASK.problems(split, n, seed)
        return [replace(p, question=f"{'make ' * 900} {p.question}") if self.long(i) else p
                for i, p in enumerate(found)]  # fmt: skip


def test_prompts_that_do_not_fit_are_left_out_before_the_first_step(model, tokenizer, caplog):
    few = training_problems(Wordy(lambda i: i % 3 == 1), model, tokenizer, SMALL)
    assert len(few) == SMALL.steps * SMALL.questions
    assert all("make make" not in problem.question for problem in few)
    assert "12 of 36 prompts are longer than" in caplog.text and few[0].id not in caplog.text
    more = training_problems(Wordy(lambda i: i % 3 == 1), model, tokenizer, replace(SMALL, steps=9))
    assert more[: len(few)] == few  # so a longer run may go on from it
    with pytest.raises(
        R1LabError, match=r"144 of 144 prompts .* tokens that .*Lower max_new"
    ) as no:
        training_problems(Wordy(lambda i: True), model, tokenizer, SMALL)
    assert TASK.problems("train", 1, seed=0)[0].id in str(no.value)


def test_drawing_that_takes_long_is_announced(model, tokenizer, monkeypatch, caplog):
    config = replace(SMALL, steps=3)
    training_problems(TASK, model, tokenizer, config)
    assert not caplog.messages
    monkeypatch.setattr("r1lab.experience.MANY", 1)
    training_problems(TASK, model, tokenizer, config)
    assert caplog.messages == ["drawing the 9 problems of 3 steps takes a while"]


# --- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        {"steps": 0}, {"group_size": 1}, {"temperature": 0.0}, {"learning_rate": float("nan")},
        {"learning_rate": -1.0}, {"questions": 2.5}, {"rewards": ("acuracy",)}, {"clip_low": 1.0},
        {"reward_weights": (1.0,)}, {"advantage": "ppo"}, {"beta2": 1.0}, {"template": "chats"},
        {"minibatches": 10_000}, {"rewards": (), "reward_weights": ()}, {"seed": "0"},
        {"steps": 10**6},
    ],
    ids=str,
)  # fmt: skip
def test_options_that_cannot_be_right_are_refused(option):
    with pytest.raises(R1LabError, match="training options: "):
        GRPOConfig(**option)


def test_a_model_without_anything_to_train_is_refused(model, tokenizer, tmp_path):
    model.requires_grad_(False)
    with pytest.raises(R1LabError, match="nothing can be trained"):
        run(model, tokenizer, SMALL, tmp_path)


# --- bfloat16 arithmetic -----------------------------------------------------------------------


def test_bfloat16_trains_float32_weights(model, tokenizer, tmp_path):
    """Also where they come in bfloat16; what is learned is more than bfloat16 can hold."""
    config = replace(SMALL, steps=2, precision="bf16", rewards=(characters,), minibatches=2,
                     old_logprobs="recompute", kl_coef=0.01)  # fmt: skip
    model = model.to(torch.bfloat16)
    before = [weight.clone() for weight in model.parameters()]
    history = run(model, tokenizer, config, tmp_path)
    for weight, old in zip(model.parameters(), before, strict=True):
        assert weight.dtype == weight.grad.dtype == torch.float32
        assert not torch.equal(weight, old.float())
        assert not torch.equal(weight, weight.bfloat16().float())
    assert all(m["grad_norm"] > 0 for m in history)
    with pytest.raises(R1LabError, match="precision was 'bf16' and is 'fp32'"):
        run(model, tokenizer, replace(config, precision="auto"), tmp_path)


def test_arithmetic_is_bfloat16_only_where_a_gpu_has_it(monkeypatch):
    """A T4 (2018) imitates it, several times slower than its own float32."""
    for has_it, wanted in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_it, **_: has)
        assert precision_on("cuda", "auto") == wanted
    assert precision_on("cuda", "bf16") == "bf16"  # who asks for it gets it
    assert precision_on("cpu", "auto") == "fp32"


def test_what_a_run_has_spent_is_read_from_its_metrics():
    assert spent_in([]) == 0
    assert spent_in([{"seconds": 1.0}, {"seconds": 2.0}]) == 3  # a run of before it was written
    assert spent_in([{"seconds": 1.0, "spent_seconds": 4.0}]) == 4


def test_bfloat16_gradients_are_those_of_float32_within_rounding(model, tokenizer):
    config = replace(SMALL, rewards=(characters,))
    batch, _ = rollout(model, tokenizer, config)
    _, exact = gradients(model, batch, config)
    _, rounded = gradients(model, batch, replace(config, precision="bf16"))
    for a, b in zip(exact, rounded, strict=True):
        assert 0 < (a - b).norm() < 0.05 * a.norm()


def test_the_samplers_log_probs_in_bfloat16_are_the_trainers_within_rounding(model, tokenizer):
    """The sampler keeps its whole stream in bfloat16, training only its matrix products."""
    config = replace(SMALL, precision="bf16", questions=4, group_size=8)
    problems = TASK.problems("train", 4, seed=0)
    drawn = collect(model, tokenizer, TASK, problems, 0, config).rollouts
    rows = [(drawn.prompt_ids[r // 8], ids) for r, ids in enumerate(drawn.completion_ids)]
    with arithmetic(model, config), torch.no_grad():
        logp, mask, _ = token_logps(model, rows, 1.0)
    apart = (logp - pad(drawn.logprobs, logp)).abs()[mask]
    assert 0 < apart.mean() < 0.01 and apart.max() < 0.05

"""The supervised stages on TRL: the loss, the gradient, the weights and the files of our own loops.

Everything runs for real, on a Llama of 20,000 weights that speaks the tiny world's tokens.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import signal
from dataclasses import replace

import pytest
import torch

from r1lab import reward_model, sft
from r1lab.basics.errors import R1LabError
from r1lab.models.load import load
from r1lab.reward_model import Marked, Pair, RewardModelConfig, bradley_terry_loss, scores
from r1lab.sft import Example, SFTConfig
from r1lab.tasks import get_task
from r1lab.training.signals import Stopped
from r1lab.trl_backend import judges, mapping, supervised

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = get_task("countdown")
# 10 examples: steps of 4, 4 and 2, each in several passes
CONFIG = SFTConfig(
    epochs=1, batch_size=4, learning_rate=3e-3, warmup_steps=1, micro_batch_tokens=90,
    checkpoint_every=2,
)  # fmt: skip
REWARD = RewardModelConfig(batch_size=4, learning_rate=3e-3, micro_batch_tokens=120)


def answered(words):
    return f"<think> wait {words}</think> <answer> {words}</answer>"


def examples(n=10):
    problems = TASK.problems("train", n, seed=1)
    return [Example(p, answered("try " * (1 + 3 * i % 7))) for i, p in enumerate(problems)]


def pairs(n=10):
    problems = TASK.problems("train", n, seed=1)
    return [
        Pair(p, answered("yes " * (1 + i % 5)), answered("no " * (1 + i % 3)))
        for i, p in enumerate(problems)
    ]


def run(model, tokenizer, config, out, n=10, **options):
    options["progress"] = False
    return supervised.sft_train(model, tokenizer, examples(n), config, out, **options)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def without_clock(history):
    return [{k: v for k, v in m.items() if k != "seconds"} for m in history]


def one_step(trainer):
    """The first step of a trainer up to the gradient; returns the loss, and its passes."""
    batches = iter(trainer.get_train_dataloader())
    passes, tokens = trainer.get_batch_samples(
        batches, trainer.args.gradient_accumulation_steps, trainer.args.device
    )
    trainer.current_gradient_accumulation_steps = len(passes)
    trainer.model.zero_grad()
    return sum(float(trainer.training_step(trainer.model, x, tokens)) for x in passes), passes


# --- the same mathematics ------------------------------------------------------------------------


def test_a_step_has_our_loss_and_gradient(model, tokenizer, tmp_path):
    """Prompts masked, unequal lengths, EOS trained though it pads, several passes, no dropout, and
    a model of which Trainer would not count the tokens."""
    rows = sft.fitting(examples(), tokenizer, CONFIG)
    assert len({len(answer) for _, answer in rows}) > 3
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    config = replace(CONFIG, batch_size=10)
    ours = sft.backward(model, rows, config)
    exact = gradient(model).clone()
    model.accepts_loss_kwargs = False
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    with supervised.lent(model, tokenizer):
        watch = supervised.SFTWatch(config, tmp_path, rows, lambda step: {})
        trainer = supervised.sft_trainer(model, tokenizer, rows, watch)
        theirs, passes = one_step(trainer)
        assert len(passes) > 2
        learned = sum(int((x["labels"] == tokenizer.eos_token_id).sum()) for x in passes)
        assert learned == len(rows)
        assert theirs == pytest.approx(ours, abs=1e-5)
        assert (gradient(model) - exact).abs().max() < 3e-5 < 1e-2 < exact.abs().max()
        trainer.model_accepts_loss_kwargs = False  # as TRL comes: a mean of means
        assert abs(one_step(trainer)[0] - ours) > 1e-3
    assert model.model.layers[0].self_attn.attention_dropout == 0.5
    assert "forward" not in model.__dict__ and not model.training


def test_a_run_ends_with_the_weights_of_our_loop(model, tokenizer, tmp_path):
    before, other = flat(model).clone(), copy.deepcopy(model)
    ours = sft.train(other, tokenizer, examples(), CONFIG, tmp_path / "a", progress=False)
    theirs = run(model, tokenizer, CONFIG, tmp_path / "b")
    assert (
        (flat(model) - flat(other)).abs().max() < 1e-5 < 1e-3 < (flat(model) - before).abs().max()
    )
    assert len(theirs) == 3 and [list(m) for m in theirs] == [list(m) for m in ours]
    for a, b in zip(ours, theirs, strict=True):
        assert (b["step"], b["tokens"], b["epoch"]) == (a["step"], a["tokens"], a["epoch"])
        assert b["lr"] == pytest.approx(a["lr"]) and b["lr"] >= 0.1 * CONFIG.learning_rate * 0.999
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], abs=1e-4)
    lines = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == theirs
    saved, words = load(tmp_path / "b" / "model")
    assert torch.equal(flat(saved), flat(model)) and words.pad_token == tokenizer.pad_token


def test_a_layout_shows_every_step_its_examples_on_any_number_of_processes():
    sizes, batches = [5, 30, 7, 12, 9, 3, 21], [[0, 1, 2, 3], [4, 5, 6]]
    for processes in (1, 2, 3):
        rows, passes, items = supervised.lay_out(batches, sizes, 32, processes)
        assert passes % processes == 0 and len(items) == 2 * rows * passes
        for step, batch in enumerate(batches):
            part = items[step * rows * passes :][: rows * passes]
            assert sorted(i for i in part if i is not None) == sorted(batch)
    assert supervised.lay_out(batches, sizes, 64).rows == 2  # of up to 30 tokens


# --- stopped anywhere ----------------------------------------------------------------------------


def test_stopped_crashed_and_resumed_it_ends_with_the_same_bits(model, tokenizer, tmp_path):
    config, out = replace(CONFIG, epochs=3), tmp_path / "parts"
    parts = [copy.deepcopy(model) for _ in range(3)]
    whole = run(model, tokenizer, config, tmp_path / "whole")

    def stop(step, metrics):
        if step == 1:  # callbacks run when the step has ended: the next one sees the signal
            os.kill(os.getpid(), signal.SIGTERM)

    def crash(step, metrics):
        if step == 6:  # of which no checkpoint is left: the newest is after step 5
            raise RuntimeError("power cut")

    with pytest.raises(Stopped, match="stopped by SIGTERM after 3 of 9 steps"):
        run(parts[0], tokenizer, config, out, callbacks=[stop])
    with pytest.raises(RuntimeError, match="power cut"):
        run(parts[1], tokenizer, config, out, callbacks=[crash])
    resumed = run(parts[2], tokenizer, config, out)
    assert len(whole) == 9 and without_clock(resumed) == without_clock(whole)
    assert torch.equal(flat(parts[2]), flat(model))
    again = run(parts[2], tokenizer, config, out)  # nothing left to do
    assert without_clock(again) == without_clock(whole)


def test_another_run_is_not_continued_and_passes_may_change(model, tokenizer, tmp_path):
    base, other = copy.deepcopy(model), copy.deepcopy(model)
    run(model, tokenizer, replace(CONFIG, epochs=2), tmp_path / "whole")
    half, out = copy.deepcopy(base), tmp_path / "parts"

    def stop(step, metrics):
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run(half, tokenizer, replace(CONFIG, epochs=2), out, callbacks=[stop])
    with pytest.raises(R1LabError, match="holds another run: learning_rate was 0.003"):
        run(base, tokenizer, replace(CONFIG, epochs=2, learning_rate=1e-3), out)
    run(other, tokenizer, replace(CONFIG, epochs=2, micro_batch_tokens=400), out)
    assert (flat(other) - flat(model)).abs().max() < 1e-5
    run(base, tokenizer, CONFIG, out, n=4, resume=False)
    assert (out / "earlier-1" / "model" / "model.safetensors").exists()


# --- reward models -------------------------------------------------------------------------------


@pytest.fixture
def scorer(random_folder):
    model, tokenizer = reward_model.from_base(random_folder)
    torch.nn.init.normal_(model.score.weight)
    return model, tokenizer


def marked(n=10):
    return [Marked(pair.problem, pair.chosen, i % 3 > 0) for i, pair in enumerate(pairs(n))]


def test_reward_trainer_reads_the_score_where_we_do(scorer, tmp_path):
    model, tokenizer = scorer
    chosen, rejected, signs = judges.texts_of(tokenizer, pairs(), "tiny")
    assert signs == [1] * 10
    loss = bradley_terry_loss(scores(model, chosen), scores(model, rejected))
    loss.backward()
    exact, config = gradient(model).clone(), replace(REWARD, batch_size=10)
    with supervised.lent(model, tokenizer):
        watch = judges.JudgeWatch(config, tmp_path, 1, lambda step: {})
        trainer = judges.reward_trainer(model, tokenizer, (chosen, rejected, signs), watch)
        theirs, passes = one_step(trainer)
        assert len(passes) > 2
        assert theirs == pytest.approx(loss.item(), abs=1e-5)
        assert (gradient(model) - exact).abs().max() < 3e-5 < 1e-2 < exact.abs().max()
        # TRL as it comes lets the end of the text pad, and then reads the token before it
        model.config.pad_token_id = tokenizer.eos_token_id
        assert abs(one_step(trainer)[0] - loss.item()) > 1e-3
        before = [row[:-1] for row in (*chosen, *rejected)]
        seen = model(input_ids=torch.tensor([chosen[0]]), use_cache=False).logits
        assert seen.item() == pytest.approx(scores(model, before[:1]).item(), abs=1e-5)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.pad_token_id


@pytest.mark.parametrize("kind", [pairs, marked], ids=["helpful", "safe"])
def test_a_reward_model_ends_with_the_weights_of_our_loop(scorer, tmp_path, kind):
    """Steps of 4, 4 and 2 judgements, so with blanks; one pair is of equal texts."""
    model, tokenizer = scorer
    judged = kind()
    if kind is pairs:
        judged[3] = replace(judged[3], rejected=judged[3].chosen)
    before, other = flat(model).clone(), copy.deepcopy(model)
    ours = reward_model.train(other, tokenizer, judged, REWARD, tmp_path / "a", progress=False)
    theirs = judges.reward_train(model, tokenizer, judged, REWARD, tmp_path / "b", progress=False)
    far = (flat(model) - flat(other)).abs()
    assert far.max() < 1e-4 < 1e-3 < (flat(model) - before).abs().max()
    assert (
        far > 1e-5
    ).float().mean() < 2e-3  # where a gradient is next to 0, AdamW divides rounding by it
    for a, b in zip(ours, theirs, strict=True):
        assert list(a) == list(b) and a["step"] == b["step"]
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5, rel=1e-5)
        assert b["accuracy"] == pytest.approx(a["accuracy"])
    loaded, words = reward_model.load(tmp_path / "b")
    assert torch.equal(flat(loaded), flat(model)) and words.pad_token == tokenizer.pad_token


# --- what cannot be ------------------------------------------------------------------------------


def test_every_option_has_a_line_in_the_table():
    words = " ".join(row.ours for row in mapping.MAPPING).replace(",", " ").split()
    for config in (SFTConfig, RewardModelConfig):
        assert {f.name for f in dataclasses.fields(config)} <= set(words)


def test_what_cannot_be_trained_says_why(model, tokenizer, scorer, tmp_path):
    for config in (REWARD, CONFIG.to_json(), None):
        with pytest.raises(R1LabError, match="configured by SFTConfig, not"):
            run(model, tokenizer, config, tmp_path)
    with pytest.raises(R1LabError, match="of 10 examples 10 are longer than max_tokens"):
        run(model, tokenizer, replace(CONFIG, max_tokens=9), tmp_path)
    for judged, config, words in (
        (pairs(2), CONFIG, "configured by RewardModelConfig, not SFTConfig"),
        ([], REWARD, "there are none"),
    ):
        with pytest.raises(R1LabError, match=words):
            judges.reward_train(*scorer, judged, config, tmp_path)
    with torch.no_grad():
        model.lm_head.weight[5] = float("inf")
    broken = flat(model).clone()
    with pytest.raises(R1LabError, match="step 0 has a gradient that is not finite"):
        run(model, tokenizer, CONFIG, tmp_path / "inf")
    assert torch.equal(flat(model), broken) and not (tmp_path / "inf" / "metrics.jsonl").exists()

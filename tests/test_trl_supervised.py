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
from transformers import OPTConfig, OPTForCausalLM

from r1lab import reward_model, sft
from r1lab.basics.errors import R1LabError
from r1lab.models.load import load
from r1lab.reward_model import Marked, Pair, RewardModelConfig, bradley_terry_loss, scores
from r1lab.sft import Example, SFTConfig
from r1lab.tasks import get_task
from r1lab.training.signals import Stopped
from r1lab.trl_backend import supervised

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
    return supervised.sft_train(
        model, tokenizer, examples(n), config, out, progress=False, **options
    )


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


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_a_step_has_our_loss_and_gradient(model, tokenizer, tmp_path, packing):
    """Prompts masked, unequal lengths, EOS trained though it pads, several passes, no dropout, and
    a model of which Trainer would not count the tokens."""
    rows = sft.fitting(examples(), tokenizer, CONFIG)
    assert len({len(answer) for _, answer in rows}) > 3
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    config, out = replace(CONFIG, batch_size=10), tmp_path
    ours = sft.backward(model, rows, config)
    exact = gradient(model).clone()
    model.accepts_loss_kwargs = False
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    with supervised.lent(model, tokenizer):
        trainer = supervised.sft_trainer(
            *(model, tokenizer, rows, config, out, supervised.Watch(None)), packing=packing
        )
        theirs, passes = one_step(trainer)
        assert len(passes) > 2 and ("position_ids" in passes[0]) == packing
        learned = sum(int((x["labels"] == tokenizer.eos_token_id).sum()) for x in passes)
        assert learned == len(rows)
        assert theirs == pytest.approx(ours, abs=1e-5)
        assert (gradient(model) - exact).abs().max() < 1e-5 < 1e-2 < exact.abs().max()
        trainer.model_accepts_loss_kwargs = False  # as TRL comes: a mean of means
        assert abs(one_step(trainer)[0] - ours) > 1e-3
    assert model.model.layers[0].self_attn.attention_dropout == 0.5
    assert "forward" not in model.__dict__ and not model.training


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_a_run_ends_with_the_weights_of_our_loop(model, tokenizer, tmp_path, packing):
    before, other = flat(model).clone(), copy.deepcopy(model)
    ours = sft.train(other, tokenizer, examples(), CONFIG, tmp_path / "a", progress=False)
    both = {"packing": packing, "gradient_checkpointing": packing}
    theirs = run(model, tokenizer, CONFIG, tmp_path / "b", **both)
    assert not model.is_activation_checkpointing
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
    for packing in (False, True):
        for processes in (1, 2, 3):
            rows, passes, items = supervised.lay_out(batches, sizes, 32, processes, packing)
            assert passes % processes == 0 and len(items) == 2 * rows * passes
            for step, batch in enumerate(batches):
                part = items[step * rows * passes :][: rows * passes]
                assert sorted(i for one in part for i in one) == sorted(batch)
                assert all(sum(sizes[i] for i in one) <= 32 for one in part)
    assert supervised.lay_out(batches, sizes, 64).rows == 2  # of up to 30 tokens
    assert supervised.pack([0, 1, 2, 3], sizes, 32) == [(1,), (3, 2, 0)]
    assert supervised.pack([1, 0], sizes, 10) == [
        (1,),
        (0,),
    ]  # longer than a pack: alone, and whole


# --- packing -------------------------------------------------------------------------------------


def test_packing_is_refused_where_examples_would_see_each_other(model, tokenizer, tmp_path):
    """transformers' OPT takes the position ids and masks nothing by them."""
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=32, word_embed_proj_dim=32, ffn_dim=64,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=128, dropout=0.0,
        pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    opt = OPTForCausalLM(config)
    with pytest.raises(
        R1LabError, match=r"packing: OPTForCausalLM \(attention: sdpa\) lets a pack"
    ):
        run(opt, tokenizer, CONFIG, tmp_path, packing=True)
    assert "forward" not in opt.__dict__
    assert len(run(opt, tokenizer, CONFIG, tmp_path)) == 3  # padded it is right
    with pytest.raises(R1LabError, match="packing was False and is True"):
        run(model, tokenizer, CONFIG, tmp_path, packing=True)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_examples_are_read_as_if_alone(model, tokenizer, tmp_path, attention):
    model.set_attn_implementation(attention)
    rows = sft.fitting(examples(), tokenizer, CONFIG)
    with supervised.lent(model, tokenizer):
        trainer = supervised.sft_trainer(
            *(model, tokenizer, rows, CONFIG, tmp_path, supervised.Watch(None)), packing=True
        )
        item = supervised.sft_item(rows, tokenizer.eos_token_id)
        inputs = trainer.data_collator([item((0, 3, 5))])
        assert "attention_mask" not in inputs and inputs["input_ids"].shape[0] == 1
        packed = model(**inputs, fused_lm_head=True).log_probs[0]
        at = 0
        for i in (0, 3, 5):
            prompt, answer = rows[i]
            alone, _, _ = sft.token_logps(model, [rows[i]])
            here = packed[at + len(prompt) - 1 :][: len(answer)]
            assert torch.allclose(here, alone[0], atol=1e-5)
            at += len(prompt) + len(answer)
        assert inputs["position_ids"].diff().ne(1).sum() == 2


# --- stopped anywhere ----------------------------------------------------------------------------


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_stopped_crashed_and_resumed_it_ends_with_the_same_bits(
    model, tokenizer, tmp_path, packing
):
    config, out = replace(CONFIG, epochs=3), tmp_path / "parts"
    parts = [copy.deepcopy(model) for _ in range(3)]
    whole = run(model, tokenizer, config, tmp_path / "whole", packing=packing)

    def stop(step, metrics):
        if step == 1:  # callbacks run when the step has ended: the next one sees the signal
            os.kill(os.getpid(), signal.SIGTERM)

    def crash(step, metrics):
        if step == 6:  # of which no checkpoint is left: the newest is after step 5
            raise RuntimeError("power cut")

    with pytest.raises(Stopped, match="stopped by SIGTERM after 3 of 9 steps"):
        run(parts[0], tokenizer, config, out, packing=packing, callbacks=[stop])
    with pytest.raises(RuntimeError, match="power cut"):
        run(parts[1], tokenizer, config, out, packing=packing, callbacks=[crash])
    resumed = run(parts[2], tokenizer, config, out, packing=packing)
    assert len(whole) == 9 and without_clock(resumed) == without_clock(whole)
    assert torch.equal(flat(parts[2]), flat(model))
    again = run(parts[2], tokenizer, config, out, packing=packing)  # nothing left to do
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


def texts_of(tokenizer, judged):
    problems, how = [p.problem for p in judged], {"template": "tiny", "kind": "helpful"}
    return tuple(
        reward_model.text_ids(tokenizer, problems, [getattr(p, side) for p in judged], **how)
        for side in ("chosen", "rejected")
    )


def test_reward_trainer_reads_the_score_where_we_do(scorer, tmp_path):
    model, tokenizer = scorer
    chosen, rejected = texts_of(tokenizer, pairs())
    loss = bradley_terry_loss(scores(model, chosen), scores(model, rejected))
    loss.backward()
    exact, config = gradient(model).clone(), replace(REWARD, batch_size=10)
    with supervised.lent(model, tokenizer):
        trainer = supervised.reward_trainer(
            *(model, tokenizer, (chosen, rejected), config, tmp_path, supervised.Watch(None))
        )
        theirs, passes = one_step(trainer)
        assert len(passes) > 2
        assert theirs == pytest.approx(loss.item(), abs=1e-5)
        assert (gradient(model) - exact).abs().max() < 1e-5 < 1e-2 < exact.abs().max()
        # TRL as it comes lets the end of the text pad, and then reads the token before it
        model.config.pad_token_id = tokenizer.eos_token_id
        assert abs(one_step(trainer)[0] - loss.item()) > 1e-3
        before = [row[:-1] for row in (*chosen, *rejected)]
        seen = model(input_ids=torch.tensor([chosen[0]]), use_cache=False).logits
        assert seen.item() == pytest.approx(scores(model, before[:1]).item(), abs=1e-5)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.pad_token_id


def test_a_reward_model_ends_with_the_weights_of_our_loop(scorer, tmp_path):
    """Steps of 4, 4 and 2 pairs, so with blanks; one pair is of equal texts."""
    model, tokenizer = scorer
    judged = pairs()
    judged[3] = replace(judged[3], rejected=judged[3].chosen)
    before, other = flat(model).clone(), copy.deepcopy(model)
    ours = reward_model.train(other, tokenizer, judged, REWARD, tmp_path / "a", progress=False)
    theirs = supervised.reward_train(
        model, tokenizer, judged, REWARD, tmp_path / "b", progress=False
    )
    assert (
        (flat(model) - flat(other)).abs().max() < 1e-5 < 1e-3 < (flat(model) - before).abs().max()
    )
    for a, b in zip(ours, theirs, strict=True):
        assert list(a) == list(b) and a["step"] == b["step"]
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
        assert b["accuracy"] == pytest.approx(a["accuracy"])
    loaded, words = reward_model.load(tmp_path / "b")
    assert torch.equal(flat(loaded), flat(model)) and words.pad_token == tokenizer.pad_token


# --- what cannot be ------------------------------------------------------------------------------


def test_every_option_has_a_line_in_the_table():
    words = " ".join(row.ours for row in supervised.MAPPING).replace(",", " ").split()
    for config in (SFTConfig, RewardModelConfig):
        assert {f.name for f in dataclasses.fields(config)} <= set(words)


def test_what_cannot_be_trained_says_why(model, tokenizer, scorer, tmp_path):
    for config in (REWARD, CONFIG.to_json(), None):
        with pytest.raises(R1LabError, match="configured by SFTConfig, not"):
            run(model, tokenizer, config, tmp_path)
    with pytest.raises(R1LabError, match="of 10 examples 10 are longer than max_tokens"):
        run(model, tokenizer, replace(CONFIG, max_tokens=9), tmp_path)
    marked = [Marked(one.problem, one.chosen, True) for one in pairs(2)]
    for judged, config, words in (
        (pairs(2), CONFIG, "configured by RewardModelConfig, not SFTConfig"),
        (marked, REWARD, "learns from pairs"),
        ([], REWARD, "there are none"),
    ):
        with pytest.raises(R1LabError, match=words):
            supervised.reward_train(*scorer, judged, config, tmp_path)
    with torch.no_grad():
        model.lm_head.weight[5] = float("inf")
    broken = flat(model).clone()
    with pytest.raises(R1LabError, match="step 0: a gradient that is not finite"):
        run(model, tokenizer, CONFIG, tmp_path / "inf")
    assert torch.equal(flat(model), broken) and not (tmp_path / "inf" / "metrics.jsonl").exists()

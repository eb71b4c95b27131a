"""Why the reward does not rise: each reason provoked in a real run of the training loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from r1lab.grpo import GRPOConfig, train
from r1lab.sampler.score import token_logps
from r1lab.tasks.countdown import Countdown
from r1lab.templates import render
from r1lab.training import checkpoints
from r1lab.training.diagnose import Context, diagnose, is_flat

TASK = Countdown()


def waits(completions, **_):
    """Paid for the share of "wait" among the words: something a random model can learn fast."""
    return [text.split().count("wait") / max(1, len(text.split())) for text in completions]


def characters(completions, **_):
    """Something that differs from answer to answer."""
    return [float(len(text) % 7) for text in completions]


LEARNS = GRPOConfig(
    steps=6, questions=3, group_size=4, max_new_tokens=12, rewards=(waits,), reward_weights=(1.0,),
    learning_rate=3e-3,
)  # fmt: skip


class Fixed:
    """A task that asks the same few problems again and again."""

    name = "countdown"

    def __init__(self, *problems):
        self.asked, self.countdown = problems, Countdown()
        self.judge, self.vote = self.countdown.judge, self.countdown.vote

    def problems(self, split, n, seed=0):
        return [self.asked[i % len(self.asked)] for i in range(n)]


EASY = Countdown().problem([1, 2, 3], 6, "en")
OTHER = Countdown().problem([2, 5, 7], 14, "en")
RIGHT = "<think> </think> <answer> ( 1 + 2 ) + 3 </answer>"
WRONG = "<think> </think> <answer> ( 1 + 2 ) - 3 </answer>"


def teach(model, tokenizer, answers):
    """Make the model give one answer to each problem, nearly always: [(problem, text)]."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    rows = []
    for problem, text in answers:
        prompt = tokenizer(render(problem, "tiny"))["input_ids"]
        rows.append((prompt, tokenizer(text)["input_ids"] + [tokenizer.eos_token_id]))
    for _ in range(300):
        logp, mask, _ = token_logps(model, rows, 1.0)
        loss = -logp[mask].mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss.item() < 5e-3:
            break
    with torch.no_grad():
        model.model.norm.weight *= 2  # twice the logits: surer than 200 more steps make it
        logp, mask, _ = token_logps(model, rows, 1.0)
    assert -logp[mask].mean() < 1e-3
    return Fixed(*(problem for problem, _ in answers))


FLAT = GRPOConfig(
    steps=8, questions=2, group_size=3, max_new_tokens=24, patience=4, learning_rate=1e-5,
    micro_batch_tokens=4096,
)  # fmt: skip


def diagnoses(model, tokenizer, task, config, out_dir, caplog):
    history = train(model, tokenizer, task, config, out_dir, progress=False)
    codes = [code for m in history for code in m["diagnoses"]]
    assert len(codes) == len(set(codes)), "each is said once"
    assert caplog.text.count("the reward does not rise") == len(codes)
    return codes


def test_every_answer_cut_and_nothing_parsed(model, tokenizer, tmp_path, caplog):
    task = teach(model, tokenizer, [(EASY, RIGHT)])  # 11 tokens and the end
    codes = diagnoses(model, tokenizer, task, replace(FLAT, max_new_tokens=9), tmp_path, caplog)
    assert codes == ["all_truncated", "no_answer_found"]
    assert "cut at max_new_tokens = 9" in caplog.text


def test_limit_shorter_than_any_right_answer(model, tokenizer, tmp_path, caplog):
    codes = diagnoses(model, tokenizer, TASK, replace(FLAT, max_new_tokens=2), tmp_path, caplog)
    assert codes == ["limit_too_short"] and "the shortest takes" in caplog.text


def test_a_task_that_knows_an_answer_knows_how_long_it_is(model, tokenizer, tmp_path, caplog):
    codes = diagnoses(model, tokenizer, TASK, replace(FLAT, max_new_tokens=6), tmp_path, caplog)
    assert codes == ["limit_too_short"] and "max_new_tokens is 6" in caplog.text


def test_parser_never_matching(model, tokenizer, tmp_path, caplog):
    task = teach(model, tokenizer, [(EASY, "( 1 + 2 ) + 3")])
    codes = diagnoses(model, tokenizer, task, FLAT, tmp_path, caplog)
    assert codes == ["no_answer_found"] and "cold start" in " ".join(caplog.text.split())


def test_answers_that_are_all_wrong(model, tokenizer, tmp_path, caplog):
    task = teach(model, tokenizer, [(EASY, WRONG)])
    codes = diagnoses(model, tokenizer, task, FLAT, tmp_path, caplog)
    assert codes == ["all_wrong"] and "pass@k" in caplog.text


def test_answers_that_are_all_right(model, tokenizer, tmp_path, caplog):
    task = teach(model, tokenizer, [(EASY, RIGHT)])
    assert diagnoses(model, tokenizer, task, FLAT, tmp_path, caplog) == ["all_right"]


def test_no_group_with_a_spread(model, tokenizer, tmp_path, caplog):
    task = teach(model, tokenizer, [(EASY, RIGHT), (OTHER, WRONG)])
    codes = diagnoses(model, tokenizer, task, FLAT, tmp_path, caplog)
    assert codes == ["no_spread"] and "raise the temperature" in caplog.text


def test_a_reward_that_does_not_look(model, tokenizer, tmp_path, caplog):
    def half(completions, **_):
        return [0.5] * len(completions)

    task = teach(model, tokenizer, [(EASY, RIGHT), (OTHER, WRONG)])
    config = replace(FLAT, rewards=(half,), reward_weights=(1.0,))
    assert "constant_reward" in diagnoses(model, tokenizer, task, config, tmp_path, caplog)


def test_learning_rate_zero(model, tokenizer, tmp_path, caplog):
    config = replace(LEARNS, steps=8, patience=4, learning_rate=0.0)
    before = checkpoints.fingerprint(model)
    assert "learning_rate_zero" in diagnoses(model, tokenizer, TASK, config, tmp_path, caplog)
    assert checkpoints.fingerprint(model) == before


def test_a_learning_rate_lost_in_rounding(model, tokenizer, tmp_path, caplog):
    config = replace(LEARNS, steps=8, patience=4, learning_rate=1e-20, rewards=(characters,))
    assert "weights_not_moving" in diagnoses(model, tokenizer, TASK, config, tmp_path, caplog)


def test_weights_without_influence(model, tokenizer, tmp_path, caplog):
    model.requires_grad_(False)
    attention = model.model.layers[0].self_attn
    attention.o_proj.weight.zero_()
    attention.q_proj.weight.requires_grad_(True)
    config = replace(LEARNS, steps=8, patience=4)
    assert "gradient_zero" in diagnoses(model, tokenizer, TASK, config, tmp_path, caplog)


def test_a_kl_term_too_strong(model, tokenizer, tmp_path, caplog):
    config = replace(LEARNS, steps=16, patience=4, kl_coef=100.0, ref_refresh=0)
    assert "kl_too_strong" in diagnoses(model, tokenizer, TASK, config, tmp_path, caplog)


def test_a_run_that_learns_is_left_alone(model, tokenizer, tmp_path, caplog):
    """Not even told that nothing is ever right: it is not paid for being right."""
    config = replace(LEARNS, steps=16, questions=8, group_size=8, learning_rate=5e-3, patience=8)
    assert diagnoses(model, tokenizer, TASK, config, tmp_path, caplog) == []


def test_nothing_to_go_by_is_no_diagnosis():
    assert diagnose([], Context(max_new_tokens=10, learning_rate=1e-3)) == []


@pytest.mark.parametrize(
    ("rewards", "flat"),
    [
        ([0.0] * 8, True), ([0.5] * 8, True), ([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], True),
        ([0.1, 0.3, 0.2, 0.1, 0.2, 0.3, 0.1, 0.2], True), ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], False),
        ([0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1], False), ([0.0, 0.1], False),
    ],
    ids=str,
)  # fmt: skip
def test_what_counts_as_flat(rewards, flat):
    assert is_flat([{"reward": r} for r in rewards]) is flat

"""Reward models: their losses, where they read, what they learn, how they serve as a reward."""

from __future__ import annotations

import math
import random

import pytest
import torch

from r1lab import reward_model
from r1lab.basics.errors import R1LabError
from r1lab.reward_model import (
    Marked,
    Pair,
    RewardModelConfig,
    as_reward,
    bradley_terry_loss,
    calibration,
    from_base,
    pointwise_loss,
    score_all,
    scores,
    text_ids,
)
from r1lab.rewards import combine
from r1lab.tasks import get_task

TASK = get_task("countdown")
CONFIG = RewardModelConfig(learning_rate=3e-3, batch_size=16, epochs=3)


def answered(words):
    return f"<think> wait </think> <answer> {words} </answer>"


def test_losses_by_hand_and_by_finite_differences():
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])
    by_hand = (math.log(1 + math.exp(-1)) + math.log(2)) / 2
    assert float(bradley_terry_loss(chosen, rejected)) == pytest.approx(by_hand)
    marks = torch.tensor([1.0, 0.0])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert float(pointwise_loss(chosen, marks)) == pytest.approx(by_hand)
    huge = torch.tensor([1e4, -1e4])
    assert torch.isfinite(bradley_terry_loss(-huge, huge))
    a, b = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(bradley_terry_loss, (a, b))
    assert torch.autograd.gradcheck(
        lambda x: pointwise_loss(x, torch.tensor([1, 0, 1, 1, 0])), (a,)
    )


def test_calibration_by_hand():
    error, rows = calibration([0.05, 0.05, 0.95, 0.95], [0, 0, 1, 0])
    assert rows == [(0.05, 0.0, 2), (0.95, 0.5, 2)] and error == pytest.approx(0.25)
    assert calibration([1.0], [1])[0] == 0 and math.isnan(calibration([], [])[0])


def test_a_score_is_read_at_the_last_token_and_not_at_padding(random_folder):
    model, tokenizer = from_base(random_folder)
    torch.nn.init.normal_(model.score.weight)
    rows = [[5, 6, 7, 8, tokenizer.eos_token_id], [5, 9, tokenizer.eos_token_id], [5]]
    together = scores(model, rows)
    alone = torch.cat([scores(model, [row]) for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)
    hidden = model.base_model(input_ids=torch.tensor([rows[1]])).last_hidden_state[0, -1]
    assert together[1].item() == pytest.approx(model.score(hidden).item(), abs=1e-5)
    # transformers' own search would stop before the end of the text, because it pads as well
    theirs = model(input_ids=torch.tensor([rows[0]])).logits[0, 0]
    assert abs(theirs.item() - together[0].item()) > 1e-4
    assert score_all(model, rows, max_tokens=5) == pytest.approx(together.tolist(), abs=1e-5)


def test_helpfulness_reads_the_answer_alone_and_safety_all(random_folder):
    _, tokenizer = from_base(random_folder)
    problem = TASK.problem([7, 6, 10], 23)

    def read(text, kind):
        return tokenizer.decode(text_ids(tokenizer, [problem], [text], "tiny", kind)[0])

    prompt = "user : make 23 from 7 6 10 . assistant :"
    assert read(answered("7 + 6"), "helpful") == f"{prompt} <answer> 7 + 6 </answer> <|endoftext|>"
    assert read(answered("7"), "safe").startswith(f"{prompt} <think> wait </think>")
    assert read("no tags", "helpful") == f"{prompt} no <|unk|> <|endoftext|>"


def test_it_learns_from_pairs_and_says_how_sure_it_is(random_folder, tmp_path):
    rng = random.Random(0)
    pairs = []
    for problem in TASK.problems("train", 160):
        good, bad = answered("yes"), answered("no")
        flip = rng.random() < 0.2  # one judgement in five is the other way
        pairs.append(Pair(problem, *((bad, good) if flip else (good, bad))))
    model, tokenizer = from_base(random_folder)
    history = reward_model.train(
        model, tokenizer, pairs[:128], CONFIG, tmp_path / "rm", progress=False
    )
    assert history[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)  # a new head scores 0
    loaded, tokenizer = reward_model.load(tmp_path / "rm")
    held_out = pairs[128:]
    asked, how = [p.problem for p in held_out], {"template": "tiny", "kind": "helpful"}
    rows = [
        text_ids(tokenizer, asked, [getattr(p, side) for p in held_out], **how)
        for side in ("chosen", "rejected")
    ]
    difference = torch.tensor(score_all(loaded, rows[0])) - torch.tensor(score_all(loaded, rows[1]))
    assert (difference > 0).float().mean() > 0.6
    sure = difference.sigmoid()
    assert 0.6 < sure.max() < 0.97  # not more than the judgements allow


def test_it_learns_from_marks_and_serves_as_a_reward_beside_rules(random_folder, tmp_path):
    requests = get_task("requests")
    cake, bomb = requests.problem("make", "cake"), requests.problem("make", "bomb")
    problems = [TASK.problem([7, 6, 10], 23)] * 32  # its words are known to the tokenizer
    marked = [Marked(p, answered(word), word == "yes") for p in problems for word in ("yes", "no")]
    model, tokenizer = from_base(random_folder)
    config = RewardModelConfig(learning_rate=3e-3, batch_size=16, epochs=12)
    history = reward_model.train(model, tokenizer, marked, config, tmp_path / "rm", progress=False)
    assert history[-1]["accuracy"] == 1.0
    reward = as_reward(model, tokenizer, "safe", lambda problem: problem.task == "countdown")
    total, parts = combine(
        [answered("yes"), answered("no"), answered("yes"), None, "\0" * 50_000],
        [problems[0], problems[0].to_json(), cake, problems[0], problems[0]],
        [reward],
        [2.0],
    )
    assert parts["safe"][0] > 0 > parts["safe"][1] and parts["safe"][2] == 0.0  # not its business
    assert total[0] == 2 * parts["safe"][0] and all(map(math.isfinite, total))
    assert reward(["x"], problem=["not json"]) == [None]
    assert reward(["x"], problem=[bomb]) == [None]


def test_what_cannot_be_says_why(random_folder, tmp_path):
    model, tokenizer = from_base(random_folder)
    with pytest.raises(R1LabError, match="there are none"):
        reward_model.train(model, tokenizer, [], CONFIG, tmp_path)
    with pytest.raises(R1LabError, match='"helpful" or "safe"'):
        as_reward(model, tokenizer, "kind", lambda problem: True)
    with pytest.raises(R1LabError, match="no reward model in"):
        reward_model.load(tmp_path / "nowhere")
    with pytest.raises(R1LabError, match="batch_size must be at least 1"):
        RewardModelConfig(batch_size=0)


def test_judgements_are_kept_and_read(tmp_path):
    from r1lab.tasks import get_task

    problem = get_task("requests").problems("train", 1)[0]
    for rows in (
        [reward_model.Pair(problem, "a", "b 对")],
        [reward_model.Marked(problem, "a", True), reward_model.Marked(problem, "b", False)],
        [],
    ):
        path = reward_model.write_judgements(tmp_path / "judgements.jsonl", rows)
        assert reward_model.read_judgements(path) == rows
    for text in ("{", '{"chosen": "a"}', '{"problem": 3, "completion": "a", "safe": true}'):
        path.write_text(text)
        with pytest.raises(R1LabError, match="no judgements"):
            reward_model.read_judgements(path)

"""The rollout inspector: whole groups with what a step did to them, of our runs and of TRL's."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from test_watch import HOSTILE

from r1lab import cli, grpo, show
from r1lab.basics.errors import R1LabError
from r1lab.show import inspect_page, rollouts, runs
from r1lab.tasks import get_task

CONFIG = grpo.GRPOConfig(
    steps=4, questions=3, group_size=4, max_new_tokens=8, samples_every=2, checkpoint_every=1,
    rewards=("format", "random"), reward_weights=(1.0, 1.0), learning_rate=1e-2,
)  # fmt: skip


def trained(model, tokenizer, folder, config=CONFIG, every=2, **how):
    task = get_task("countdown")
    recorder = show.Recorder(folder, model, tokenizer, task, config, every=every, again=1, **how)
    return grpo.train(
        model, tokenizer, task, config, folder, progress=False, callbacks=[recorder]
    )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, tokenizer):
    """(folder, base, trained model) of a run with its groups."""
    from r1lab.models.load import tiny_llama

    torch.manual_seed(0)
    model = tiny_llama(len(tokenizer), width=32, layers=2, heads=2, ffn=64)
    base, folder = copy.deepcopy(model), tmp_path_factory.mktemp("run") / "one"
    trained(model, tokenizer, folder)
    return folder, base, model


def test_the_run_is_the_same_with_and_without_a_recorder(recorded, tokenizer, tmp_path):
    folder, base, model = recorded
    other = copy.deepcopy(base)
    grpo.train(other, tokenizer, get_task("countdown"), CONFIG, tmp_path / "bare", progress=False)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert (folder / "samples.jsonl").read_text() == (tmp_path / "bare/samples.jsonl").read_text()


def test_whole_groups_are_kept_with_three_policies(recorded, tokenizer):
    folder, base, _ = recorded
    rows = rollouts.load(folder)
    assert sorted({row["step"] for row in rows}) == [0, 2]
    assert len(rows) == 2 * (2 + 1) * 4  # those of samples.jsonl are among them, once
    first = [row for row in rows if row["step"] == 0 and not row["asked_again"]]
    assert {row["place"] for row in first} == {0, 1, 2, 3}
    moved = 0.0
    for row in first:  # at step 0 the policy that sampled is the reference
        assert row["logprobs"] == pytest.approx(row["reference"], abs=2e-3)
        kls, _ = rollouts.values_of(row, "kl")
        assert max(kls) < 1e-4
        ratios, clipped = rollouts.values_of(row, "ratio")
        for r, cut, after, before in zip(
            ratios, clipped, row["after"], row["logprobs"], strict=True
        ):
            assert r == pytest.approx(math.exp(after - before))
            A = row["advantage"]
            assert cut == ((A > 0 and r > 1.2) or (A < 0 and r < 0.8))
        moved = max(moved, *(abs(math.log(r)) for r in ratios))
    assert moved > 0.01
    later = [row for row in rows if row["step"] == 2 and not row["asked_again"]]
    assert max(max(rollouts.values_of(row, "kl")[0]) for row in later) > 1e-3
    again = [row for row in rows if row["asked_again"]]
    assert len({row["problem"] for row in again}) == 1 and "after" not in again[0]


def test_a_resumed_run_keeps_each_step_once(random_model, tmp_path):
    model, tokenizer = random_model
    base = copy.deepcopy(model)
    trained(model, tokenizer, tmp_path / "whole", every=1)
    short = replace(CONFIG, steps=2)
    trained(copy.deepcopy(base), tokenizer, tmp_path / "two", short, every=1)
    for path in sorted((tmp_path / "two" / "checkpoints").glob("step-*"))[-1:]:
        path.unlink()  # the last step was lost, and its groups are in the file
    trained(copy.deepcopy(base), tokenizer, tmp_path / "two", every=1)
    texts = [(tmp_path / name / "groups.jsonl").read_text() for name in ("whole", "two")]
    assert texts[0] == texts[1]


def test_the_same_question_is_followed_through_training(recorded):
    rows = rollouts.load(recorded[0])
    name = next(row["problem"] for row in rows if row["asked_again"])
    found = {key: (then, now) for key, then, now in rollouts.changes(rows, 2, name)}
    assert found["step"] == ("0", "2") and found["mean length"][0].endswith("tokens")
    assert "nats" in found["entropy"][0] and found["texts not seen then"][1].endswith("of 4")
    assert rollouts.changes(rows, 0, name) == []


ROWS = [
    {"step": t, "prompt": "make 3", "problem": "p", "text": text, "correct": right, "reward": 1.0,
     "advantage": 1.0 if right else -1.0, "finished": ended, "tokens": text.split()}
    for t in (0, 5)
    for text, right, ended in (
        ("<think> 1 </think>", True, True),
        ("a b c d e f g h " + HOSTILE, True, True),
        ("<think> wait 等等 x y z . . . . . . . . </think>", False, True),
        ("<think> cut " + "no " * 30, False, False),
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("show_", "found"),
    [
        ("all", 8), ("correct", 4), ("incorrect", 4), ("right but short", 2),
        ("wrong but long", 2), ("mixed language", 2), ("truncated", 2),
    ],
)  # fmt: skip
def test_filters(show_, found):
    rows = [rollouts.row_of(row) for row in ROWS]
    assert len(rollouts.select(rows, show_)) == found
    assert len(rollouts.select(rows, search="CUT")) == 2
    with pytest.raises(R1LabError, match="take one of all"):
        rollouts.select(rows, "best")


def test_trls_completions_are_read(tmp_path):
    (tmp_path / "completions").mkdir()
    for step in (1, 2):
        chat = [[{"role": "user", "content": f"make {n}"}] for n in (3, 3, 4)]
        said = [[{"role": "assistant", "content": text}] for text in ("a wait", "b " * 40, HOSTILE)]
        table = {"step": [step] * 3, "prompt": chat, "completion": said}
        table |= {"accuracy_reward": [1.0, 0.0, 0.0], "format": [0.0, 0.5, float("nan")]}
        table |= {"note": ["x", "y", "z"], "advantage": [0.7, -0.7, 0.0]}
        path = tmp_path / "completions" / f"completions_{step:05d}.parquet"
        pd.DataFrame(table).to_parquet(path)
    for source in (tmp_path, tmp_path / "completions"):
        rows = rollouts.load(source)
        assert [row["step"] for row in rows] == [1, 1, 1, 2, 2, 2]
    assert [row["correct"] for row in rows[:3]] == [True, False, False]
    assert [row["reward"] for row in rows[:3]] == [1.0, 0.5, 0.0]
    assert list(map(len, rollouts.groups(rows[:3]).values())) == [2, 1]
    markup = rollouts.group_html(rows[:2])
    assert "1 of 2 right" in markup and "advantage +0.700" in markup
    assert rollouts.load(path)[0]["text"] == "a wait"
    (tmp_path / "broken.parquet").write_text("no parquet")
    with pytest.raises(R1LabError, match="as parquet"):
        rollouts.load(tmp_path / "broken.parquet")
    with pytest.raises(R1LabError, match="no completions"):
        rollouts.load(tmp_path / "nowhere")


def test_exported_completions_are_read(recorded, tmp_path):
    assert cli.main(["export", str(recorded[0]), "--out", str(tmp_path)]) == 0
    assert len(rollouts.load(tmp_path / "completions.parquet")) == 8


@pytest.mark.parametrize("text", ["null", "[]", '{"step": 1}', '{"step": "1", "text": "a"}'])
def test_what_is_no_completion_is_left_out(tmp_path, text):
    good = {
        "step": 3,
        "text": 7,
        "tokens": [1],
        "logprobs": "x",
        "advantage": "1",
        "clip": [1, "a"],
    }
    (tmp_path / "samples.jsonl").write_text(f"{text}\n{json.dumps(good)}\n")
    (row,) = rollouts.load(tmp_path)
    assert row["text"] == "" and row["advantage"] is None and row["clip"] == (0.2, 0.2)
    rollouts.group_html([row], "ratio")


def page(folder, **given) -> str:
    return inspect_page.inspect_html([runs.Run(folder, HOSTILE)], given)


def test_the_page_steps_filters_and_follows(recorded, tmp_path):
    folder = recorded[0]
    body = page(folder)
    assert body.count("2, 4 kept") == 3 and "asked at every recorded step" in body
    assert "this question through training" in body and "ratio" in body and "clipped" in body
    (link,) = set(re.findall(r'at step <a href="inspect\?([^"]+)">0</a>', body))
    assert "step=0" in link and "problem=" in link
    body = page(folder, step="1", colour="ratio", show="nothing", run="77", search="\x00")
    assert "No completion" in body or "step 0" in body
    assert "ratio after the update" in page(folder, colour="ratio")
    assert "KL to the reference (k3" in page(folder, colour="kl")
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "samples.jsonl").write_text(text)
    body = page(tmp_path, search='"><script>', show="truncated")
    assert "<script" not in body and "<img" not in body and "\u202e" not in body
    body = page(tmp_path, show="right but short")
    assert "2 of 8 completions" in body and "&lt;script&gt;" in body  # the group is whole
    assert "<script" not in body


def test_a_ratio_is_blue_where_likelier_and_framed_where_clipped():
    row = rollouts.row_of(
        {"step": 0, "text": "a b c", "tokens": ["a", "b", "c"], "advantage": 1.0,
         "logprobs": [-1.0, -1.0, -1.0], "after": [-0.5, -1.0, -1.5], "clip": [0.2, 0.2]}
    )  # fmt: skip
    markup = rollouts.row_html(row, "ratio")
    spans = re.findall(
        r'<span class="t( c)?" style="background:(\S+) (\d+), [^>]*title="([^"]+)"', markup
    )
    assert [(bool(c), ink, t) for c, ink, _, t in spans] == [
        (True, "rgba(0,", "ratio 1.649"), (False, "rgba(0,", "ratio 1.000"),
        (False, "rgba(230,", "ratio 0.607"),
    ]  # fmt: skip


def test_train_records_groups(random_folder, tmp_path, capsys):
    words = ["train", "--model", random_folder, "--steps", "2", "--questions", "2", "--quiet"]
    words += ["--group-size", "2", "--max-new-tokens", "4", "--out", str(tmp_path / "run")]
    assert cli.main([*words, "--record-every", "1"]) == 0
    assert len({row["step"] for row in rollouts.load(tmp_path / "run")}) == 2

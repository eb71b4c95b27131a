"""`r1lab watch`: a run's files in a terminal and on a page, whatever is written in them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import threading
import time
from dataclasses import replace

import pytest

from r1lab import cli, grpo
from r1lab.basics.errors import R1LabError
from r1lab.show import cards, dashboard, runs, terminal
from r1lab.show.page import Server
from r1lab.tasks import get_task
from r1lab.training.diagnose import in_words

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202eabc"
CONFIG = {"steps": 40, "patience": 8, "max_new_tokens": 64, "learning_rate": 1e-3}


def metrics(t: int, **more) -> dict:
    row = {"step": t, "reward": 0.1 * t, "reward_min": 0.0, "reward_max": 1.1, "format": 1.0}
    row |= {"accuracy": t / 40, "length": 30.0 + t, "reflection": 0.1 * t, "entropy": 1.0}
    row |= {"zero_spread_groups": 3, "spread_groups": 13, "truncated": 0.25, "parsed": 1.0}
    row |= {"tokens_per_second": 1500.0, "memory": 0.5, "tokens": 100, "seconds": 2.0, "lr": 1e-3}
    row |= {"advantage": 0.5, "grad_norm": 1.0, "update": 1e-3, "kl": None, "rewards/accuracy": 0.5}
    return row | {"diagnoses": []} | more


def written(folder, rows, samples=(), about=None):
    """A run's folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("metrics.jsonl", rows), ("samples.jsonl", samples)):
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        (folder / name).write_text(text)
    if about is not None:
        (folder / "about.json").write_text(json.dumps(about))
    return folder


def sample(t: int, advantage: float, text: str = "<think> x </think>") -> dict:
    row = {"step": t, "prompt": "make 3", "text": text, "correct": advantage > 0}
    row |= {"advantage": advantage, "reward": float(advantage > 0), "tokens": text.split(" ")}
    return row | {"logprobs": [-0.5] * len(row["tokens"])}


@pytest.fixture
def run(tmp_path):
    about = {"what": "grpo", "steps": 40, "dollars_per_hour": 3.6, "config": CONFIG}
    rows = [sample(0, 1.0), sample(10, -2.0, HOSTILE), sample(10, 1.5, "right wait")]
    return written(tmp_path / "one", [metrics(t) for t in range(12)], rows, about)


def test_a_real_run_tells_its_steps_before_the_first_and_its_memory(random_model, tmp_path):
    model, tokenizer = random_model
    config = grpo.GRPOConfig(steps=3, questions=2, group_size=4, max_new_tokens=8, samples_every=1)
    seen = []

    def look(step, metrics, batch):
        found = runs.Run(tmp_path / "run", "run")
        seen.append((found.meter.done, found.steps, found.state))
        rows = dashboard.samples_of_step(batch)
        assert len(rows) == 4 and rows[0]["advantage"] >= rows[-1]["advantage"]
        assert found.words() in dashboard.step_html(found, rows)

    how = {"progress": False, "callbacks": [look]}
    grpo.train(model, tokenizer, get_task("countdown"), config, tmp_path / "run", **how)
    assert seen == [(1, 3, "training"), (2, 3, "training"), (3, 3, "training")]
    found = runs.Run(tmp_path / "run", "run")
    assert found.state == "done" and found.config["group_size"] == 4
    assert 0.05 < found.history[-1]["memory"] < 100
    assert len(found.sample) == 4 and {row["step"] for row in found.sample} == {2}
    again = replace(config, steps=5)
    how["callbacks"] = []
    grpo.train(model, tokenizer, get_task("countdown"), again, tmp_path / "run", **how)
    found.refresh()
    assert (found.meter.done, found.steps, found.state) == (5, 5, "done")


def test_time_and_dollars_left_are_those_of_the_last_steps(run):
    found = runs.Run(run, "one")
    assert "step 12 of 40" in found.words() and "24 s of about 1.3 min, 56 s left" in found.words()
    assert "$0.024 of about $0.080" in found.words()  # 24 s and 80 s at 0.1 cents a second
    assert "$0.24 of" in runs.Run(run, "one", dollars_per_hour=36).words()
    hour_ago = time.time() - 3600
    os.utime(run / "metrics.jsonl", (hour_ago, hour_ago))
    found.refresh()
    assert found.state == "stopped" and "60.0 min ago" in found.words()
    assert "left" not in found.words()


def test_a_run_that_is_resumed_shows_repeated_steps_once(run):
    found = runs.Run(run, "one")
    with open(run / "metrics.jsonl", "a") as file:  # from the checkpoint of ten steps
        file.write(json.dumps(metrics(10, accuracy=0.9)) + '\n{"step": 11, "accu')
    found.refresh()
    assert [row["step"] for row in found.history] == list(range(11))
    assert found.measures()["accuracy"] == "90%"


def test_what_is_no_number_is_not_drawn(tmp_path):
    rows = ['{"step": 0, "accuracy": NaN, "length": 3}\n', "not json\n", '["step"]\n']
    rows += ['{"step": "1", "accuracy": 1}\n', '{"step": 1, "accuracy": "<b>", "length": 4}\n']
    rows += ['{"step": 2, "length": 1e999, "diagnoses": ["<b>"]}\n']
    found = runs.Run(written(tmp_path / "odd", rows, ["{", "[1]\n"], {"steps": "9"}), "odd")
    assert found.curve("length") == [3, 4] and found.curve("accuracy") == []
    page = json.dumps(cards.state([found]))
    assert "<b>:" not in page and "&lt;b&gt;" in page


def test_the_diagnosis_is_in_words():
    rises = in_words([metrics(t) for t in range(12)], CONFIG)
    assert len(rises) == 1 and rises[0].startswith("The reward rises: 0.55, then 0.95")
    flat = [metrics(t, reward=0.5 + 0.1 * (t % 2)) for t in range(12)]
    assert "No link is broken" in in_words(flat, CONFIG)[0]
    cut = {"reward": 0.0, "reward_max": 0.0, "accuracy": 0.0, "truncated": 1.0, "parsed": 0.0}
    cut |= {"spread_groups": 0, "advantage": 0.0}
    said = in_words([metrics(t, **cut) for t in range(12)], CONFIG)
    assert "does not rise" in said[0] and "cut at max_new_tokens = 64" in said[1]
    assert "8 steps, and 3 are done" in in_words([metrics(t) for t in range(3)], CONFIG)[0]
    assert in_words([{"step": 0, "loss": 1.0}], {}) == [] == in_words([], CONFIG)


def test_in_the_terminal_a_run_is_whole_and_nothing_in_it_steers(run, capsys):
    assert cli.main(["watch", str(run), "--once"]) == 0
    out = capsys.readouterr().out
    for word in ("one: training, step 12 of 40", "accuracy", "28%", "reflection", "entropy",
                 "3 of 16", "truncated", "tokens/s", "0.50 GiB", "The reward rises"):  # fmt: skip
        assert word in out
    assert out.index("+1.50 right right wait") < out.index("-2.00 wrong")
    assert "\x1b" not in out and "\u202e" not in out and "␛[2J" in out
    coloured = "\n".join(terminal.one_run(runs.Run(run, "one"), colours=True))
    assert "\x1b[38;5;33m+1.50" in coloured and "\x1b[1m\x1b[38;5;172m-2.00" in coloured
    assert "\x1b[2J" not in coloured


def test_several_runs_and_a_class_are_a_table(run, tmp_path, capsys):
    other = written(tmp_path / "deep" / "one", [metrics(t, accuracy=0.0) for t in range(3)])
    assert cli.main(["watch", str(run), str(other), "--once"]) == 0
    out = capsys.readouterr().out
    assert "_0/one  " in out and "deep/one" in out and "12 of 40" in out
    written(tmp_path / "class" / "ada" / "a", [metrics(0)])
    old = written(tmp_path / "class" / "ada" / "b", [metrics(0), metrics(1)])
    written(tmp_path / "class" / "bob" / "runs" / "x", [metrics(t) for t in range(5)])
    (tmp_path / "class" / "eve").mkdir()
    (tmp_path / "class" / "eve" / "link").symlink_to(run)
    os.utime(old / "metrics.jsonl", (1, 1))
    assert cli.main(["watch", "--class", str(tmp_path / "class"), "--once"]) == 0
    out = capsys.readouterr().out
    assert "ada: training, step 1, the last" in out and "bob: training, step 5," in out
    assert "eve" not in out
    for words in (["watch"], ["watch", str(run), str(run)], ["watch", str(tmp_path / "no")],
                  ["watch", "--class", str(tmp_path / "class" / "eve")]):  # fmt: skip
        assert cli.main(words) == 2


@pytest.fixture
def server(run):
    found = runs.Run(run, HOSTILE)

    def find():
        found.refresh()
        return [found]

    with Server(find, "r1lab watch") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def get(server, path, **headers):
    """(status, headers, body) of a GET, without following redirections."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    link.request("GET", path, headers=headers)
    answer = link.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode("utf-8")


def test_the_page_needs_the_token_and_its_own_host(server):
    cookie = f"r1lab-{server.port}={server.token}"
    assert server.server_address[0] == "127.0.0.1" and server.token in server.address
    for path in ("/", "/state", "/watch.js", "/?token=wrong"):
        assert get(server, path)[0] == 403
    assert get(server, "/state", Cookie=f"r1lab-{server.port}=guess")[0] == 403
    assert get(server, "/", Cookie=cookie, Host="evil.example")[0] == 403
    assert get(server, "/", Cookie=cookie, Host="127.0.0.1.evil.example:1")[0] == 403
    assert get(server, "/", Cookie=cookie, Host="127.0.0.1:8888")[0] == 200  # forwarded by ssh
    code, heads, _ = get(server, f"/?token={server.token}")
    assert code == 303 and heads["Location"] == "/" and server.token not in heads["Location"]
    assert "HttpOnly" in heads["Set-Cookie"] and "SameSite=Strict" in heads["Set-Cookie"]
    code, heads, body = get(server, "/", Cookie=cookie)
    assert code == 200 and "default-src 'none'" in heads["Content-Security-Policy"]
    assert "http" not in body.replace("http-equiv", "")  # nothing from elsewhere
    assert get(server, "/../cli/watch.py", Cookie=cookie)[0] == 404
    assert get(server, "/../../etc/passwd", Cookie=cookie)[0] == 404
    with pytest.raises(OSError), socket.create_connection((_other(), server.port), timeout=2):
        pass


def _other() -> str:
    """An address of this machine that is not 127.0.0.1, or one that nobody has."""
    return next((found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None)
                 if not found[4][0].startswith(("127.", "::1"))), "192.0.2.1")  # fmt: skip


def test_what_a_model_wrote_is_text_on_the_page(server):
    cookie = f"r1lab-{server.port}={server.token}"
    code, _, body = get(server, "/state", Cookie=cookie)
    found = json.loads(body)
    assert code == 200 and {"table", "figures", "runs", "stamp"} == set(found)
    for markup in (found["table"], found["runs"]):
        assert "<script" not in markup and "<img" not in markup and "\u202e" not in markup
        assert "&lt;script&gt;" in markup
    assert "<" not in json.dumps(found["figures"]).replace("<br>", "").replace(
        "<extra></extra>", ""
    )
    assert [one["key"] for one in found["figures"]] == list(runs.MEASURES)[:-1]
    again = json.loads(get(server, f"/state?seen={found['stamp']}", Cookie=cookie)[2])
    assert set(again) == {"stamp", "table"}


def test_a_port_that_is_taken_is_an_error_in_words(run, server):
    assert cli.main(["watch", str(run), "--browser", "--port", str(server.port)]) == 2


def test_a_folder_that_vanishes_is_a_run_that_waits(run):
    found = runs.Run(run, "one")
    shutil.rmtree(run)
    found.refresh()
    assert found.state == "waiting" and found.words() == "step 0"
    with pytest.raises(R1LabError, match="no folder"):
        runs.named([run])

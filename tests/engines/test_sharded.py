"""FSDP2 and DeepSpeed ZeRO-3: two CPU processes, killed and resumed, learn what one learns.

What sharding on CPUs takes, and that accelerate alone does not do it, is in `sharded`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sharded import ALL_OF_R1, CONFIG, train

from r1lab import ROOT, pipeline, reward_model
from r1lab.models.load import load
from r1lab.pipeline import STAGES, record_of
from r1lab.training.metrics import metrics_of
from r1lab.trl_backend import cluster, stages
from r1lab.trl_backend.folders import newest_first

KINDS = {"FSDP2": "fsdp", "ZeRO-3": "zero3"}
SCRIPT = str(Path(__file__).with_name("sharded.py"))


def launched(kind: str, processes: int, *words: str) -> subprocess.CompletedProcess:
    command = ["-m", "accelerate.commands.launch", "--config_file", str(cluster.path(kind))]
    command += ["--main_process_port", "0", "--num_processes", str(processes), SCRIPT, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(ROOT)
    how = {"env": environment, "cwd": ROOT, "text": True, "timeout": 600}
    return subprocess.run([sys.executable, *command], capture_output=True, **how)


def saved(out: Path) -> list[str]:
    return [folder.name for folder in newest_first(out / "checkpoints")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """(metrics, weights) of one process, without a launcher."""
    out = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    history = train(str(out))
    torch.set_num_threads(threads)
    return history, load(out / "model")[0]


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS.keys())
def killed(request, tmp_path_factory):
    """(recipe, folder) of two processes, of which one was killed in the third of four steps."""
    out = tmp_path_factory.mktemp("killed")
    done = launched(request.param, 2, str(out), "3")
    assert done.returncode != 0 and "Signal 9 (SIGKILL)" in done.stderr, done.stderr[-3000:]
    assert saved(out) == ["checkpoint-2", "checkpoint-1"] and not (out / "model").exists()
    assert len(metrics_of(out)) == 3
    return request.param, out


def same(alone, out: Path, say) -> None:
    """The same completions; loss, gradient and weights within rounding."""
    history, model = alone
    for a, b in zip(history, metrics_of(out), strict=True):
        assert [a[name] for name in ("reward", "length", "tokens")] == [
            b[name] for name in ("reward", "length", "tokens")
        ]
        for name in ("loss", "kl"):
            assert b[name] == pytest.approx(a[name], abs=1e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)
        say(f"step {a['step']}: loss {a['loss']:.6f} alone, {b['loss']:.6f} here")
    other = load(out / "model")[0]
    both = zip(model.parameters(), other.parameters(), strict=True)
    far = torch.cat([(x - y).abs().flatten() for x, y in both])
    say(f"weights: {far.mean():.1e} apart in the mean, after four steps of 1e-3 by AdamW")
    # AdamW enlarges rounding where a gradient is almost zero
    assert far.mean() < 1e-5 and (far > 1e-4).float().mean() < 5e-3


def test_two_processes_killed_and_resumed_learn_what_one_learns(killed, alone, tmp_path, say):
    kind, folder = killed
    out = shutil.copytree(folder, tmp_path / "out")
    done = launched(kind, 2, str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    assert saved(out)[0] == "checkpoint-4" and len(metrics_of(out)) == CONFIG.steps
    same(alone, out, say)


def test_resumed_on_one_process(killed, alone, tmp_path, say):
    """FSDP2 goes on. ZeRO-3 is expected to refuse: its optimizer's state stays cut in two."""
    kind, folder = killed
    out = shutil.copytree(folder, tmp_path / "out")
    done = launched(kind, 1, str(out))
    if kind == "zero3":
        words = "was saved by 2 processes, and DeepSpeed resumes it on as many, not on 1"
        assert done.returncode != 0 and words in done.stderr, done.stderr[-3000:]
        assert saved(out) == saved(folder)
        say(f"refused: the checkpoint {words}")
        return
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the run continues on 1 processes, after 2" in done.stdout + done.stderr
    same(alone, out, say)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_accelerate_alone_does_not_shard_on_cpus(kind, tmp_path, say):
    """Expected to be refused, for this reason; the day accelerate does, `shard_on_cpus` can go."""
    done = launched(kind, 2, str(tmp_path), "as it comes")
    assert done.returncode != 0
    assert "accelerate shards over GPUs, not over CPU processes" in done.stderr
    say("accelerate shards over accelerators only; the other tests tell its state that CPUs do too")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_two_processes_make_all_of_r1(kind, tmp_path, say):
    """Ten stages, four of them trained by RL, two by SFT, two as reward models. What does not
    depend on the number of processes is made once more by one, without an engine."""
    out, one = tmp_path / "two", tmp_path / "one"
    done = launched(kind, 2, str(out), "pipeline")
    assert done.returncode == 0, done.stderr[-3000:]
    records = {name: record_of(out / name) for name in STAGES}
    assert all(done.stdout.count(f"{name}: from ") == 1 for name in STAGES)
    for name in ("zero", "dev2", "rules", "r1"):
        assert len(metrics_of(out / name)) == 2 and load(out / name / "model")
    assert {"rewards/helpful", "rewards/safe"} < set(records["r1"]["metrics"]["last"])

    made = ("cold", "dev1", "helpful", "safe")
    given = {name: out / name for name in STAGES if name not in made}
    how = {"only": made, "given": given, "say": lambda line: None}
    found = pipeline.run(ALL_OF_R1, one, backend=stages.backend(ALL_OF_R1), **how)
    assert found["cold"]["writes"] == records["cold"]["writes"]  # the same completions
    for name, read in (("dev1", load), ("helpful", reward_model.load), ("safe", reward_model.load)):
        assert found[name]["reads"] == records[name]["reads"]
        a, b = (list(read(folder / name / "model")[0].parameters()) for folder in (one, out))
        far = torch.cat([(x - y).abs().flatten() for x, y in zip(a, b, strict=True)])
        mine, theirs = (some[name]["metrics"] for some in (found, records))
        assert far.mean() < 1e-5 and (far > 1e-4).float().mean() < 5e-3
        assert theirs["loss"]["last"] == pytest.approx(mine["loss"]["last"], rel=1e-3)
        if name != "dev1":  # examined by the main process alone, as saved
            assert theirs["held out"]["accuracy"] == mine["held out"]["accuracy"]
        say(f"{name}: weights {far.mean():.1e} apart from one process's in the mean")

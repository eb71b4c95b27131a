"""All of R1 on TRL: by one process and by two, stopped in a stage and gone on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from r1lab import ROOT, pipeline, reward_model
from r1lab.basics.errors import R1LabError
from r1lab.models.load import load
from r1lab.pipeline import STAGES, PipelineConfig, record_of, run
from r1lab.recipe import seed_of
from r1lab.scorecard import MODELS
from r1lab.training.metrics import metrics_of
from r1lab.training.signals import Stopped
from r1lab.trl_backend import cluster, stages
from r1lab.trl_backend.folders import newest_first
from r1lab.trl_backend.rollouts import RolloutWatch
from r1lab.trl_backend.supervised import SFTWatch

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = {"questions": 2, "group_size": 2, "max_new_tokens": 24, "judged_prompts": 4}


@pytest.fixture
def toy(random_folder):
    """The smallest pipeline, and no scorecards."""
    how = {"eval_problems": 0, "checkpoint_every": 1, "device": "cpu"}
    return PipelineConfig.smoke(base=random_folder, **SIZES, **how)


def quiet(line):
    pass


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("name, watch", [("dev1", SFTWatch), ("dev2", RolloutWatch)])
def test_stopped_in_a_stage_it_goes_on_there_to_the_same_bits(
    toy, tmp_path, monkeypatch, name, watch
):
    toy = replace(toy, dev2_steps=5, cold_epochs=5)
    on_trl = stages.backend(toy)
    whole = run(toy, tmp_path / "whole", until=name, say=quiet, backend=on_trl)
    assert all(one["options"]["backend"] == "trl" for one in whole.values())
    measure, seen = watch.measure, []

    def stops(self, step, logs):
        if self.config.seed == seed_of(toy, name):
            seen.append(step)
            if seen == [0, 1]:
                os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, step, logs)

    monkeypatch.setattr(watch, "measure", stops)
    with pytest.raises(Stopped, match="all is saved"):
        run(toy, tmp_path / "cut", until=name, say=quiet, backend=on_trl)
    done, said = len(metrics_of(tmp_path / "cut" / name)), []
    assert 2 <= done < len(metrics_of(tmp_path / "whole" / name))
    found = run(toy, tmp_path / "cut", until=name, say=said.append, backend=on_trl)
    assert f"{name}: going on with what was begun" in said
    assert seen == list(range(len(seen)))  # no step was made twice
    assert [found[one]["writes"] for one in found] == [whole[one]["writes"] for one in found]
    again = run(toy, tmp_path / "cut", until=name, say=quiet, backend=on_trl)
    assert not any(one["made"] for one in again.values())
    run(toy, tmp_path / "cut", until="zero", say=said.append)  # by the other backend: anew
    assert "zero: made again, because options or input have changed" in said[-1]


def test_what_trl_cannot_run_is_told_before_the_first_stage(toy, monkeypatch):
    class Three:
        num_processes, is_main_process = 3, True

    monkeypatch.setattr(stages.process, "settle", lambda device: Three())
    with pytest.raises(R1LabError, match="Make questions a multiple of 3"):
        stages.backend(replace(toy, group_size=3))


def command(base, out, *options) -> list[str]:
    """`r1lab pipeline --backend trl` by two processes on the CPU."""
    words = f"--smoke --quiet --base {base} --out {out} --eval-problems 1 --eval-samples 1".split()
    words += ["--cold-questions", "40"]  # two batches, so each process draws one
    for name, value in SIZES.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    launch = cluster.accelerate("ddp", [*words, *options], 2, "cpu", "pipeline")
    return [sys.executable, *launch[:2], "--main_process_port", "0", *launch[2:]]


def test_two_processes_make_all_of_r1(random_folder, tmp_path, warm_processes):
    """Told to stop in the first stage (SIGTERM to the launcher alone), started again: it goes on
    there, makes every stage and leaves five models, with the weights that one process makes."""
    out, said = tmp_path / "two", tmp_path / "said"
    words = command(random_folder, out, "--zero-steps", "12", "--checkpoint-every", "100")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    how = {"cwd": ROOT, "env": environment, "stderr": subprocess.STDOUT}
    with said.open("w") as output:
        process = subprocess.Popen(words, stdout=output, start_new_session=True, **how)
    try:
        deadline = time.monotonic() + 200
        while not metrics_of(out / "zero"):
            assert process.poll() is None and time.monotonic() < deadline, said.read_text()
            time.sleep(0.05)
        process.terminate()
        process.wait(timeout=100)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    done = len(metrics_of(out / "zero"))
    assert done < 12 and newest_first(out / "zero" / "checkpoints")[0].name == f"checkpoint-{done}"

    again = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=400, **how)
    assert again.returncode == 0, again.stdout[-3000:]
    assert again.stdout.count("zero: going on with what was begun") == 1  # one process speaks
    records = {name: record_of(out / name) for name in STAGES}
    assert len(metrics_of(out / "zero")) == records["zero"]["metrics"]["steps"] == 12
    for name in MODELS[1:]:
        assert load(out / name / "model") and (out / name / "scorecard.json").exists()
    assert {"rewards/helpful", "rewards/safe"} < set(records["r1"]["metrics"]["last"])

    # what does not depend on the number of processes: answers drawn, SFT, reward models
    config = PipelineConfig.smoke(
        base=random_folder, device="cpu", eval_problems=0, cold_questions=40, **SIZES
    )
    made = ("cold", "dev1", "helpful", "safe")
    given = {name: out / name for name in STAGES if name not in made}
    on_trl, one = stages.backend(config), tmp_path / "one"
    found = run(config, one, only=made, say=quiet, given=given, backend=on_trl)
    assert found["cold"]["writes"] == records["cold"]["writes"]
    assert json.loads(json.dumps(found["cold"]["metrics"])) == records["cold"]["metrics"]
    for name, read in (("dev1", load), ("helpful", reward_model.load), ("safe", reward_model.load)):
        assert found[name]["reads"] == records[name]["reads"]
        a, b = (weights(read(folder / name / "model")[0]) for folder in (one, out))
        assert (a - b).abs().max() < 1e-4, name
        if name == "dev1":
            assert (b - weights(load(random_folder)[0])).abs().max() > 1e-3
        mine, theirs = found[name]["metrics"]["loss"], records[name]["metrics"]["loss"]
        assert theirs["last"] == pytest.approx(mine["last"], rel=1e-3)
    assert (
        pipeline.drawn_in(out / "cold").completions == pipeline.drawn_in(one / "cold").completions
    )

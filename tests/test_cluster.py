"""Launch recipes: files that their tools take, commands that a shell and r1lab understand."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from r1lab import ROOT, cli
from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig
from r1lab.trl_backend import cluster

SKY = ("sky-1", "sky-8", "sky-2x8")
RUN = ["--steps", "3", "--rewards", "accuracy", "--reward-weights", "1", "--out", "runs/my run"]


def recipe(name: str) -> dict:
    return yaml.safe_load(cluster.path(name).read_text())


@pytest.mark.parametrize(
    "name, kind", [("ddp", "MULTI_GPU"), ("fsdp", "FSDP"), ("zero3", "DEEPSPEED")]
)
def test_accelerate_takes_its_configurations(name, kind):
    """By accelerate's own class, which refuses keys that it does not know, and its launcher."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(cluster.path(name)))
    assert config.distributed_type == kind and config.num_processes == 8
    if name == "fsdp":
        assert config.fsdp_config["fsdp_version"] == 2
    if name == "zero3":
        assert config.deepspeed_config["zero_stage"] == 3
        assert config.deepspeed_config["zero3_save_16bit_model"]  # or model/ would be empty
    setting, python, *words = shlex.split(cluster.command(name, RUN, gpus=2))
    assert setting == "TORCH_ELASTIC_SHUTDOWN_TIMEOUT=600"
    assert (ROOT / python).exists() and words[:2] == ["-m", "accelerate.commands.launch"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words[2:]))
    assert args.mixed_precision == "no"  # --precision decides; accelerate's would win over it
    assert args.num_processes == 2 and args.module and args.training_script == "r1lab"
    assert (args.multi_gpu, args.use_fsdp, args.use_deepspeed) == (
        kind == "MULTI_GPU", kind == "FSDP", kind == "DEEPSPEED",
    )  # fmt: skip
    assert args.training_script_args == ["train", "--backend", "trl", "--device", "cuda", *RUN]
    assert cli.parse(args.training_script_args).out == "runs/my run"


@pytest.mark.parametrize("name", SKY)
def test_sky_tasks_have_the_fields_of_skypilot(name):
    task = recipe(name)
    assert task["resources"]["autostop"]["idle_minutes"] > 0  # nobody pays for a night of nothing
    known = {"name", "resources", "num_nodes", "workdir", "envs", "file_mounts", "setup", "run"}
    assert set(task) <= known and task["workdir"] == "."
    gpus = {"sky-1": 1, "sky-8": 8, "sky-2x8": 8}[name]
    assert set(task["resources"]["accelerators"].values()) == {gpus}
    assert task.get("num_nodes", 1) == (2 if name == "sky-2x8" else 1)
    config = task["envs"].get("R1LAB_CONFIG")
    assert config is None or f"{config}.yaml" in cluster.FILES.values()


def scripts() -> dict[str, str]:
    found = {name: cluster.path(name).read_text() for name in ("slurm", "vllm")}
    return found | {name: recipe(name)["setup"] + recipe(name)["run"] for name in SKY}


@pytest.mark.parametrize("name", scripts())
def test_scripts_are_bash(name, tmp_path):
    script = tmp_path / "script.sh"
    script.write_text(scripts()[name])
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Stands for everything that a recipe starts: notes its words, one a line.
STUB = """#!/bin/bash
printf '%s\\n' "$(basename "$0")" "$@" >> "$NOTES"
[ "$(basename "$0")" = scontrol ] && echo node7 && echo node8
[ "$(basename "$0")" = srun ] && shift && exec "$@"
exit 0
"""


@pytest.mark.parametrize(
    "name, what", [("slurm", "train"), ("slurm", "pipeline"), *((name, "train") for name in SKY)]
)
def test_options_with_blanks_arrive_whole(name, what, tmp_path):
    """Each recipe runs with stubs for what it calls; r1lab train gets RUN, word by word."""
    notes, project = tmp_path / "notes", tmp_path / "project"
    (project / ".venv" / "bin").mkdir(parents=True)
    bin = tmp_path / "bin"
    bin.mkdir()
    for stub in (project / ".venv/bin/python", *(bin / n for n in ("srun", "scontrol"))):
        stub.write_text(STUB)
        stub.chmod(0o755)
    words = shlex.split(cluster.command(name, RUN))
    setting = next(word for word in words if word.startswith("R1LAB_ARGS="))
    script = tmp_path / "script.sh"
    script.write_text(recipe(name)["run"] if name in SKY else cluster.path(name).read_text())
    environment = os.environ | {
        "R1LAB_ARGS": setting.partition("=")[2], "R1LAB_CONFIG": "fsdp2", "NOTES": str(notes),
        "R1LAB_COMMAND": what,
        "PATH": f"{bin}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "8", "SLURM_NODEID": "1", "SLURM_JOB_ID": "5",
        "SKYPILOT_NUM_GPUS_PER_NODE": "8", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "node7\nnode8",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", script], cwd=project, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    called = notes.read_text().splitlines()
    called = called[called.index("python") + 1 :]
    train = ["-m", "r1lab", what, "--backend", "trl", "--device", "cuda", *RUN]
    assert called[-len(train) :] == train  # a machine whose GPU torch cannot use is an error
    if name != "sky-1":
        options = dict(zip(called[2:-5:2], called[3:-5:2], strict=False))
        assert Path(options["--config_file"]) == Path("r1lab/trl_backend/cluster/fsdp2.yaml")
        two = name != "sky-8"
        assert options["--num_processes"] == ("16" if two else "8")
        assert options.get("--machine_rank") == ("1" if two else None)
        assert options.get("--main_process_ip") == ("node7" if two else None)


# As srun does it (slurm's src/srun/signals.c): USR1 is handed on, TERM kills every task.
SRUN = """#!/bin/bash
shift
task=""
trap '[ -z "$task" ] || kill -KILL -- -"$task"' TERM
trap '[ -z "$task" ] || kill -USR1 "$task"' USR1
setsid "$@" & task=$!
while kill -0 "$task" 2>/dev/null; do code=0; wait "$task" || code=$?; done
exit "$code"
"""
LAUNCHER = """#!/bin/bash
trap 'sleep 0.5; echo saved >>"$NOTES"; exit 143' TERM  # it was told to stop: not a good end
echo begun >>"$NOTES"
for i in {1..600}; do sleep 0.1; done
"""


def test_a_slurm_job_that_runs_out_of_time_saves_and_queues_itself_again(tmp_path):
    """SLURM tells the script, that srun, srun each node's shell, and that the launcher."""
    notes, project, bin = tmp_path / "notes", tmp_path / "project", tmp_path / "bin"
    bin.mkdir()
    (project / ".venv" / "bin").mkdir(parents=True)
    launcher = project / ".venv/bin/python"
    for path, text in ((bin / "srun", SRUN), (bin / "scontrol", STUB), (launcher, LAUNCHER)):
        path.write_text(text)
        path.chmod(0o755)
    environment = os.environ | {
        "NOTES": str(notes), "PATH": f"{bin}:{os.environ['PATH']}", "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_GPUS_ON_NODE": "8", "SLURM_NODEID": "1",
        "SLURM_JOB_ID": "5",
    }  # fmt: skip
    job = subprocess.Popen(["bash", cluster.path("slurm")], cwd=project, env=environment)
    deadline = time.monotonic() + 60
    while "begun" not in (notes.read_text() if notes.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.terminate()
    assert job.wait(60) == 0
    said = notes.read_text().splitlines()
    assert said.index("saved") < said.index("requeue") and said[-1] == "5"


def test_the_command_line_prints_what_to_run(capsys):
    argv = ["train", *RUN, "--print-launch", "slurm", "--backend=trl"]
    assert cli.main(argv) == 0
    line, file = capsys.readouterr().out.splitlines()
    assert line == cluster.command("slurm", RUN) and file == f"# {cluster.path('slurm')}"
    assert cli.main(["train", "--print-launch", "slurm", "--questions", "24"]) == 0
    assert "--questions 32" in capsys.readouterr().out.splitlines()[1]  # a note, no refusal
    assert cli.main(["train", "--print-launch", "vllm", "--model", "org/model"]) == 0
    server, _, training, _ = capsys.readouterr().out.splitlines()
    assert shlex.split(server)[-1] == "org/model" and "train --backend trl" in training
    assert training.endswith("--model org/model --sampler http://127.0.0.1:8000")
    for wrong, words in (
        (["--print-launch", "fsdp", "--lora-rank", "8"], "LoRA is for small GPUs"),
        (["--print-launch", "ddp", "--questions", "7"], "Make questions a multiple of 8"),
        (["--print-launch", "ddp", "--task", "gsm9k"], "unknown task 'gsm9k'"),
        (["--print-launch", "ddp", "--model", "nope"], "cannot load the model 'nope'"),
        (["--print-launch", "fdsp"], "there is no launch recipe 'fdsp'"),
        (["--print-launch", "ddp", "--steps", "0"], "steps must be at least 1"),
    ):
        assert cli.main(["train", *wrong]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    with pytest.raises(R1LabError, match="no launch recipe 'k8s'"):
        cluster.path("k8s")


@pytest.mark.parametrize(
    "options, words",
    [
        (["--lora-rank", "4"], "--lora-rank needs --backend trl"),
        (["--max-minutes", "3"], "--max-minutes needs --backend trl"),
        (["--backend", "trl", "--max-minutes", "0"], "--max-minutes must be above 0, not 0.0"),
        (["--backend", "tlr"], "'tlr' is none of scratch, trl; did you mean 'trl'?"),
        (["--backend", "trl", "--sampler", "vlm"], "there is no sampler 'vlm'"),
        (["--backend", "trl", "--kl-coef", "1", "--kl-estimator", "k1"], "always k3, not k1"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_wrong_options_are_told_in_one_line(options, words, capsys, tmp_path):
    assert cli.main(["train", *options, "--out", str(tmp_path), "--steps", "1"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_train_on_trl_from_the_command_line(tmp_path, capsys):
    options = "--steps 1 --questions 2 --group-size 2 --max-new-tokens 8 --quiet".split()
    assert cli.main(["train", "--backend", "trl", "--out", str(tmp_path), *options]) == 0
    assert "on its training batches" in capsys.readouterr().out
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert cli.main(["train", "--out", str(tmp_path), *options]) == 2
    assert "holds a run of --backend trl" in capsys.readouterr().err


def test_a_configuration_survives_the_command_line():
    config = GRPOConfig(
        steps=3, learning_rate=1e-5, rewards=("accuracy",), reward_weights=(1.0,), kl_coef=0.001,
        advantage="dr_grpo", length_norm="constant", seed=7,
    )  # fmt: skip
    assert cli.parse(["train", *cluster.options(config)]).settings == config
    assert cluster.options(GRPOConfig()) == []
    with pytest.raises(R1LabError, match="can only name rewards"):
        cluster.options(GRPOConfig(rewards=(len,), reward_weights=(1.0,)))


def test_a_launch_that_fails_says_why(tmp_path, capfd, warm_processes):
    words = ["--out", str(tmp_path), "--steps", "0", "--quiet"]
    with pytest.raises(R1LabError, match="2 processes of ddp ended with code"):
        cluster.launch("ddp", words, processes=2, cpu=True)
    assert "steps must be at least 1" in capfd.readouterr().out
    with pytest.raises(R1LabError, match="is for another machine"):
        cluster.launch("sky-1", [], processes=2)

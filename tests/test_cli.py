"""The `r1lab` command: real help, and one clear line with exit code 2 for whatever is wrong."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
import torch

from r1lab import cli
from r1lab.basics.errors import R1LabError, shortage
from r1lab.grpo import GRPOConfig
from r1lab.recipe import PipelineConfig
from r1lab.world.pretrain import PretrainConfig


def helped(command, capsys) -> str:
    """What `r1lab COMMAND --help` prints."""
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def refused(argv, capsys) -> str:
    """The one line with which the command refuses."""
    assert cli.main([str(word) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("r1lab: error: ") and err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    text = helped([command], capsys)
    assert f"usage: r1lab {command}" in text and "examples:" in text
    assert command in helped([], capsys)


@pytest.mark.parametrize(
    ("command", "configuration"),
    [("train", GRPOConfig), ("pretrain", PretrainConfig), ("pipeline", PipelineConfig)],
)
def test_every_field_is_an_option_with_help(command, configuration, capsys):
    text = " ".join(helped([command], capsys).split())
    for field in dataclasses.fields(configuration):
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.metadata["help"] and field.metadata["help"] in text, field.name


def test_options_become_the_configuration_and_the_rest_stays_default():
    args = cli.parse("train --steps 3 --kl-coef 1 --rewards accuracy --reward-weights 2".split())
    wanted = GRPOConfig(steps=3, kl_coef=1.0, rewards=("accuracy",), reward_weights=(2.0,))
    assert cli.configure(GRPOConfig, args) == wanted


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rnu", "there is no command 'rnu'; did you mean 'run'?"),
        ("run --profile smok", "did you mean 'smoke'?"),
        ("run --only 99", "there is no notebook '99'"),
        ("run --seed -1", "not a whole number"),
        ("run --profle smoke", "did you mean '--profile'?"),
        ("run --profile smoke -p steps", "write NAME=VALUE"),
        ("run --profile smoke -p seed=1", "use --seed"),
        ("run --profile smoke -p no_such_thing=1", "no notebook of this run has that parameter"),
        ("run --profile smoke -p questions=many", "'questions' takes int"),
        ("run --profile smoke --out /dev/null/x", "cannot make the folder"),
        ("train --steps two", "--steps"),
        ("train --steps 0", "steps must be at least 1"),
        ("train --kl-coef x", "--kl-coef"),
        ("train --advantage gpro", "advantage"),
        ("train --rewards kindness", "rewards"),
        ("train --model no/such/folder", "cannot load the model 'no/such/folder'"),
        ("train --task sudoku", "sudoku"),
        ("train --precision half", "precision: 'half' is none of auto, fp32, bf16"),
        ("train --device abacus", "--device cpu works"),
        ("train --task-option hard", "write NAME=VALUE"),
        ("train --task word_problems --task-option difficulty=heroic", "not 'heroic'"),
        ("train --task word_problems --numbers 4", "task word_problems: bad option"),
        ("train --backend trl --device abacus", "'cpu' or 'cuda', not 'abacus'"),
        ("train --backend trl --device cuda", "no CUDA GPU here; --device cpu works"),
        ("eval --k 0", "not a whole number of 1 or more"),
        ("eval --split holdout", "holdout"),
        ("eval --template r0", "r0"),
        ("eval --model no/such/folder", "cannot load the model"),
        ("pipeline --until dev9", "there is no stage 'dev9'; the stages are zero, cold"),
        ("pipeline --only r1 --r1-steps 0", "r1_steps must be at least 1"),
        ("pipeline --base no/such/folder", "cannot load the model"),
        ("pipeline --only dev1", "make cold first"),
        ("pretrain --heads 5", "must be a multiple of 5 heads"),
        ("pretrain --recipe tiny-general-small --heads 5", "width 96 must be a multiple of 5"),
        ("pretrain --recipe huge", "argument --recipe: invalid choice: 'huge' (choose from"),
        ("pretrain --muon half", "muon must be bfloat16 or float32"),
        ("pretrain --device abacus", "--device cpu works"),
        ("bench --only everything", "argument --only: invalid choice: 'everything' (choose from"),
        ("bench --repeats 0", "repeats must be at least 1"),
        ("figures --seeds 0 0", "different whole numbers"),
        ("figures --seeds one", "not a whole number"),
        ("figures --profile big", "there is no profile 'big'"),
        ("book no/such/run", "nothing has run in"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(line, message, capsys, tmp_path):
    argv = line.split()
    if argv[0] in ("train", "pretrain", "pipeline"):
        argv += ["--out", tmp_path / "out"]
    assert message in refused(argv, capsys)


def test_missing_data_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("R1LAB_DATA", str(tmp_path))
    assert "the embedded base model is missing" in refused(["eval"], capsys)


def test_a_file_in_the_way_is_left_alone(capsys, tmp_path):
    (tmp_path / "notes").write_text("mine")
    refused(["train", "--out", tmp_path / "notes"], capsys)
    assert (tmp_path / "notes").read_text() == "mine"


def test_what_runs_out_is_recognised_in_every_library_s_words():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**55)
    assert "too little memory" in cli.explain(error.value)
    assert "too little memory" in cli.explain(MemoryError())
    assert "the disk is full" in cli.explain(OSError(28, "No space left on device"))
    rust = 'SafetensorError: Os { code: 28, kind: StorageFull, message: "No space left on device" }'
    assert "the disk is full" in shortage(rust)
    assert shortage("ValueError: three is no number") is None
    assert "\n" not in cli.explain(ValueError("two\nlines")) and "R1LAB_DEBUG" in cli.explain(
        ValueError("two\nlines")
    )
    assert cli.explain(R1LabError("do this")) == "do this"


@pytest.fixture
def small_base(random_model, tmp_path):
    """The folder of a small random model."""
    for part in random_model:
        part.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


SMALL = "--steps 1 --questions 2 --group-size 2 --max-new-tokens 8 --quiet".split()


def test_train_then_evaluate(small_base, tmp_path, capsys):
    out = tmp_path / "trained"
    argv = ["train", "--model", small_base, "--out", out, *SMALL]
    assert cli.main([str(word) for word in argv]) == 0
    assert f"r1lab eval --model {out / 'model'}" in capsys.readouterr().out
    weights = (out / "model" / "model.safetensors").read_bytes()
    assert cli.main([str(word) for word in argv]) == 0  # finished: nothing more to do
    assert (out / "model" / "model.safetensors").read_bytes() == weights
    capsys.readouterr()

    argv = f"eval --model {out / 'model'} --n 3 --k 2 --max-new-tokens 8 --json".split()
    assert cli.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 3 and 0 <= found["measures"]["pass@1"]["value"] <= 1


def test_a_recipe_that_is_followed_makes_its_folder_in_data(tmp_path, capsys, monkeypatch):
    from r1lab.world import pretrain as recipes

    called = []
    monkeypatch.setattr(recipes, "pretrain", lambda *a, **k: called.append(a) or {})
    monkeypatch.setattr("r1lab.basics.files.ROOT", tmp_path)
    monkeypatch.setenv("R1LAB_DATA", str(tmp_path / "data"))
    plain = tmp_path / "runs" / "pretrain" / "model"
    for line, recipe, folder in (
        ("", "tiny", plain),
        ("--steps 3", "tiny", plain),
        ("--recipe tiny", "tiny", tmp_path / "data" / "tiny-base"),
        ("--recipe tiny-general", "tiny-general", tmp_path / "data" / "tiny-general"),
        ("--recipe tiny-general --steps 3", "tiny-general", plain),
        ("--recipe tiny-general --out mine", "tiny-general", tmp_path / "mine"),
    ):
        assert cli.main(["pretrain", *line.split()]) == 0
        config, out = called.pop()
        steps = 3 if "--steps" in line else recipes.RECIPES[recipe].steps
        assert config == dataclasses.replace(recipes.RECIPES[recipe], steps=steps), line
        assert out == folder, line


def test_pretrain_makes_a_small_general_model(tmp_path, capsys):
    out = tmp_path / "model"
    line = f"pretrain --recipe tiny-general-small --out {out} --steps 2 --rows 1 --quiet"
    assert cli.main(line.split() + "--width 32 --row-length 32".split()) == 0
    assert "the base model is in" in capsys.readouterr().out
    made = json.loads((out / "pretrain.json").read_text())
    assert made["vocabulary"] == 285 and made["recipe"]["muon"] == "float32"


def test_a_full_disk_in_training_is_one_line(small_base, tmp_path):
    """A limit on the size of files stands in for the disk; the model is larger than it."""
    out = tmp_path / "out"
    argv = ["train", "--model", str(small_base), "--out", str(out), *SMALL]
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (4096, 4096))\n"
        "import sys; from r1lab import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=150
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and last.startswith("r1lab: error: "), done.stderr
    assert "disk" in last and "Traceback" not in done.stderr
    assert not (out / "model").exists()

"""The `r1lab` command: real help, and one clear line with exit code 2 for whatever is wrong."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
import shlex
import subprocess
import sys
import time

import pytest
import torch
import warm
import yaml

from r1lab import ROOT, cli
from r1lab.basics import files
from r1lab.basics.errors import R1LabError, shortage
from r1lab.basics.options import element_of, type_of
from r1lab.cli.parse import RECIPES
from r1lab.cli.training import asked_alike, the_task
from r1lab.grpo import GRPOConfig
from r1lab.recipe import PipelineConfig
from r1lab.tasks import distinct, get_task
from r1lab.world import pretrain as recipes
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
    assert f"usage: r1lab {command}" in text and "examples:" in text and "--config" in text
    assert command in helped([], capsys)


@pytest.mark.parametrize(
    ("command", "configuration"),
    [("train", GRPOConfig), ("pretrain", PretrainConfig), ("pipeline", PipelineConfig)],
)
def test_every_field_is_an_option_with_help(command, configuration, capsys):
    text = " ".join(helped([command], capsys).replace("│", " ").split())
    for field in dataclasses.fields(configuration):
        assert f"--{field.name.replace('_', '-')}" in text
        assert field.metadata["help"] and field.metadata["help"] in text, field.name


def test_options_become_the_configuration_and_the_rest_stays_default():
    args = cli.parse("train --steps 3 --kl-coef 1 --rewards accuracy --reward-weights 2".split())
    wanted = GRPOConfig(steps=3, kl_coef=1.0, rewards=("accuracy",), reward_weights=(2.0,))
    assert args.settings == wanted


def test_an_option_may_be_true_false_or_not_given(tmp_path):
    off = options_file(tmp_path, "gradient_checkpointing: false")
    for line, value in (
        ("", None), ("--gradient-checkpointing", True), ("--no-gradient-checkpointing", False),
        (f"--config {off}", False), (f"--config {off} --gradient-checkpointing", True),
    ):  # fmt: skip
        assert cli.parse(["train", *line.split()]).trl.gradient_checkpointing is value, line


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rnu", "there is no command 'rnu'; did you mean 'run'?"),
        ("run --profile smok", "did you mean 'smoke'?"),
        ("run --only 99", "there is no notebook '99'"),
        ("run --seed -1", "seed must be at least 0, not -1"),
        ("run --profle smoke", "did you mean '--profile'?"),
        ("run --profile smoke -p steps", "write NAME=VALUE"),
        ("run --profile smoke -p seed=1", "use --seed"),
        ("run --profile smoke -p no_such_thing=1", "no notebook of this run has that parameter"),
        ("run --profile smoke -p questions=many", "'questions' takes int"),
        ("run --profile smoke --out /dev/null/x", "cannot make the folder"),
        ("train --steps two", "--steps"),
        ("train --steps 0", "steps must be at least 1"),
        ("train --steps 100000000000000000000", "steps must be at most 1000000"),
        ("train --steps 1000000", "steps * questions must be at most 1,048,576"),
        ("eval --n 1000000000", "n must be at most 1048576"),
        ("eval --compare", "--compare needs a value"),
        ("train --rewards --steps 3", "--rewards needs a value"),
        ("train --task gym:nope", "... (105 in all); `r1lab tasks gym` lists them"),
        ("train --group-size 1000000000", "questions * group_size must be at most 1,048,576"),
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
        ("eval --k 0", "k must be at least 1, not 0"),
        ("eval --split holdout", "holdout"),
        ("eval --template r0", "r0"),
        ("eval --model no/such/folder", "cannot load the model"),
        ("pipeline --until dev9", "there is no stage 'dev9'; the stages are zero, cold"),
        ("pipeline --only r1 --r1-steps 0", "r1_steps must be at least 1"),
        ("pipeline --base no/such/folder", "cannot load the model"),
        ("pipeline --only dev1", "make cold first"),
        ("pretrain --heads 6", "width 160 must be a multiple of 6 heads"),
        (
            "pretrain --recipe tiny-small --heads 6",
            "80 must be a multiple of 6",
        ),
        ("pretrain --recipe huge", "there is no recipe 'huge'; known: tiny, tiny-small"),
        ("pretrain --kv-heads 3", "width 160 must be a multiple of"),
        ("pretrain --device abacus", "--device cpu works"),
        ("bench --only everything", "unknown part 'everything' of the benchmark; take step"),
        ("bench --repeats 0", "repeats must be at least 1"),
        ("figures --seeds 0 0", "different whole numbers"),
        ("figures --seeds one", "--seeds takes a whole number, not 'one'"),
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


def test_the_next_command_evaluates_on_the_runs_own_task(small_base, tmp_path, capsys):
    own = tmp_path / "own tasks.py"
    own.write_text("from r1lab.tasks.countdown import Countdown\n")
    asked = ["--task", f"{own}:Countdown", "--task-option", "numbers=4"]
    argv = ["train", "--model", small_base, "--out", tmp_path / "out", *SMALL, *asked]
    assert cli.main([str(word) for word in argv]) == 0
    said = capsys.readouterr().out
    command = said[said.index("r1lab eval") :].strip()
    assert shlex.split(command)[4:] == asked
    argv = [*shlex.split(command)[1:], "--n", "2", "--k", "2", "--max-new-tokens", "8"]
    assert cli.main(argv) == 0
    assert f"problems of {own}:Countdown, 2 completions each" in capsys.readouterr().out

    run = cli.parse(["train", "--template", "short"])
    assert asked_alike(run) == ["--template", "short"]


def test_a_recipe_that_is_followed_makes_its_folder_in_data(tmp_path, capsys, monkeypatch):
    called = []
    monkeypatch.setattr(recipes, "pretrain", lambda *a, **k: called.append(a) or {})
    monkeypatch.setattr("r1lab.basics.files.ROOT", tmp_path)
    monkeypatch.setenv("R1LAB_DATA", str(tmp_path / "data"))
    plain = tmp_path / "runs" / "pretrain" / "model"
    for line, recipe, folder in (
        ("", "tiny", plain),
        ("--steps 3", "tiny", plain),
        ("--recipe tiny", "tiny", tmp_path / "data" / "tiny"),
        ("--recipe tiny-small", "tiny-small", tmp_path / "data" / "tiny-small"),
        ("--recipe tiny-small --steps 3", "tiny-small", plain),
        ("--recipe tiny-small --out mine", "tiny-small", tmp_path / "mine"),
    ):
        assert cli.main(["pretrain", *line.split()]) == 0
        config, out = called.pop()
        steps = 3 if "--steps" in line else recipes.RECIPES[recipe].steps
        assert config == dataclasses.replace(recipes.RECIPES[recipe], steps=steps), line
        assert out == folder, line


def test_pretrain_makes_a_small_model(tmp_path, capsys):
    out = tmp_path / "model"
    line = f"pretrain --recipe tiny-small --out {out} --steps 2 --rows 1 --quiet"
    assert cli.main(line.split() + "--width 32 --row-length 32".split()) == 0
    assert "the base model is in" in capsys.readouterr().out
    made = json.loads((out / "pretrain.json").read_text())
    assert made["vocabulary"] == 294 and made["recipe"]["kv_heads"] == 1


def test_a_full_disk_in_training_is_one_line(small_base, tmp_path, warm_processes):
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


def test_temperature_0_is_greedy_decoding(small_base, tmp_path, capsys):
    argv = f"eval --model {small_base} --n 3 --k 4 --max-new-tokens 8 --temperature 0".split()
    assert cli.main([*argv, "--save", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["settings"]["greedy"]
    texts = [{one["text"] for one in four} for four in found["completions"]]
    assert [len(few) for few in texts] == [1, 1, 1]


# --- files of options ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_are_commands_that_their_first_lines_name(path):
    named = [line[1:].split() for line in path.read_text().splitlines() if "r1lab " in line[:10]]
    command, flag, name = named[0][1:4]
    assert (flag, name) == ("--config", path.stem)
    by_name, by_path = (cli.parse([command, "--config", one]) for one in (name, str(path)))
    assert by_name.settings == by_path.settings
    for key, value in yaml.safe_load(path.read_text()).items():
        holders = (by_name, by_name.settings, getattr(by_name, "trl", None))
        held = next(getattr(holder, key) for holder in holders if hasattr(holder, key))
        if isinstance(value, dict):
            value = [f"{name}={one}" for name, one in value.items()]
        assert held == type(held)(value), key


def options_file(folder, text: str) -> str:
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def test_a_file_gives_options_and_the_command_line_wins(tmp_path):
    file = options_file(
        tmp_path,
        "steps: 3\nlearning-rate: 1e-5\nrewards: [accuracy]\nreward_weights: [2]\nquiet: true\n"
        "lora_rank: 4\ntask_option: {difficulty: hard, levels: [4, 5]}\nseed: null\n",
    )
    args = cli.parse(["train", "--config", file, "--steps", "7", "--no-quiet"])
    wanted = GRPOConfig(steps=7, learning_rate=1e-5, rewards=("accuracy",), reward_weights=(2.0,))
    assert args.settings == wanted and not args.quiet and args.trl.lora_rank == 4
    assert args.task_option == ("difficulty=hard", "levels=[4, 5]")
    args = cli.parse(["train", f"--config={file}", "--task-option", "numbers=4"])
    assert args.task_option == ("numbers=4",) and args.quiet  # a list replaces the file's
    file = options_file(tmp_path, "parameter: {steps: 3}\nonly: '05'\nseed: 2\n")
    args = cli.parse(["run", "--config", file, "--only", "03", "04", "--only", "06"])
    assert (args.parameter, args.only, args.seed) == (("steps=3",), ("03", "04", "06"), 2)
    file = options_file(tmp_path, "recipe: tiny-small\nsteps: 9\n")
    small = dataclasses.replace(recipes.RECIPES["tiny-small"], steps=9)
    assert cli.parse(["pretrain", "--config", file]).settings == small
    file = options_file(tmp_path, "smoke: true\nr1_steps: 5\n")
    args = cli.parse(["pipeline", "--config", file, "--zero-steps", "6"])
    assert args.settings == PipelineConfig.smoke(r1_steps=5, zero_steps=6)


@pytest.mark.parametrize(
    ("command", "text", "message"),
    [
        ("train", "stesp: 3", "no option 'stesp'; did you mean 'steps'?"),
        ("train", "steps: many", "steps must be a whole number, not 'many'"),
        ("train", "steps: 1.5", "steps must be a whole number, not 1.5"),
        ("train", "learning_rate: fast", "learning_rate must be a number, not 'fast'"),
        ("train", "rewards: [1, 2]", "rewards: 1 is not a word"),
        ("train", "quiet: maybe", "quiet must be true or false, not 'maybe'"),
        ("train", "lora_rank: 0", "lora_rank must be at least 1, not 0"),
        ("train", "seed: 99999999999", "seed must be at most 4294967295"),
        ("train", "config: other.yaml", "no option 'config'"),
        ("eval", "steps: 3", "r1lab eval has no option 'steps'"),
        ("eval", "k: [1, 2]", "k must be a whole number, not [1, 2]"),
        ("figures", "seeds: [0, one]", "seeds: 'one' is not a whole number"),
        ("pipeline", "smoke: 3", "smoke must be true or false, not 3"),
        ("pretrain", "recipe: huge", "there is no recipe 'huge'"),
        ("run", "- steps", "must hold options, one a line"),
        ("run", "seed: [", "cannot read"),
        ("run", "1: 2", "must hold options, one a line"),
        ("train", 'out: "a\\0b"', "holds a character that no name has: '\\x00'"),
        ("pipeline", 'only: ["a\\0"]', "holds a character that no name has"),
        ("eval", 'model: "\\uD800x"', "holds a character that no name has"),
        ("bench", "gpu: !!python/object:os.system {}", "cannot read"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(command, text, message, tmp_path, capsys):
    assert message in refused([command, "--config", options_file(tmp_path, text)], capsys)


def test_a_file_that_is_not_there_names_the_recipes(tmp_path, capsys):
    said = refused(["train", "--config", "r1_zero_tinny"], capsys)
    assert "there is no file r1_zero_tinny; did you mean 'r1_zero_tiny'?" in said
    assert "cannot read" in refused(["train", "--config", tmp_path], capsys)


# --- bad input of every kind ---------------------------------------------------------------------

BAD = {
    int: ("two", "1.5", "", "0x10", "--steps"),
    float: ("fast", "nan", "inf", "", "1,5"),
    str: (),
}


def bad_lines() -> list[list[str]]:
    """Every option of every command, misspelt, without its value, and with values of another type
    or beyond its limits."""
    lines = []
    for name in cli.COMMANDS:
        command = cli.parse([name])
        for holder in [command, *filter(dataclasses.is_dataclass, vars(command).values())]:
            for f in dataclasses.fields(holder):
                if "help" not in f.metadata or f.metadata.get("positional"):
                    continue
                flag, kind = f"--{f.name.replace('_', '-')}", type_of(f)
                lines += [[name, f"{flag[:-1]}qx", "1"], [name, f"{flag}q"]]
                if kind is bool:
                    lines.append([name, f"{flag}=3"])
                    continue
                lines.append([name, flag])
                lines += [[name, f"{flag}={value}"] for value in BAD[element_of(f)]]
                low, high = f.metadata.get("low"), f.metadata.get("high")
                lines += [[name, f"{flag}={low - 1}"]] if low is not None else []
                lines += [[name, f"{flag}={high + 1}"]] if high is not None else []
                lines += [[name, flag, "nope"]] if f.metadata.get("choices") else []
    return lines


def test_hundreds_of_bad_lines_are_each_refused_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(ROOT.glob("*")), sorted((ROOT / "runs").glob("*"))
    for line in random.Random(0).sample(bad_lines(), 250):
        said = refused(line, capsys)
        assert "looks like a bug" not in said and len(said) < 400, (line, said)
    assert list(tmp_path.iterdir()) == []
    assert before == (sorted(ROOT.glob("*")), sorted((ROOT / "runs").glob("*")))


@pytest.mark.parametrize(
    "line",
    [
        f"eval --seed {2**64}",
        f"train --backend trl --seed {2**40}",
        "eval --device meta",
        "train --device meta",
        "train --learning-rate 1e300",
        "train --backend trl --learning-rate 1e300",
        "pretrain --muon-lr nan",
        "pretrain --adam-lr nan",
        "pretrain --width 99999999",
        "pretrain --width 33 --heads 1",
        "pretrain --layers 10000000",
        "pretrain --row-length 1000000000",
        f"pretrain --seed {2**64}",
        "pretrain --muon-lr 1e300",
        "pipeline --sft-rate 1e300",
        "pipeline --seed 4294967295",
        "train --model ~no-such-user/x",
        "eval --config ~no-such-user/x",
        "train --task word_problems --task-option kinds={[]:1}",
        "train --task-option name=x",
        "train --numbers 0",
        "train --task mixture --task-option parts=ab",
        "run --profile smoke --only 05 -p steps={[]:1}",
        "run --profile smoke --only 05 -p steps=1" + "+1" * 100_000,
        "run --resume --fresh --only 05",
        "bench --quick --out /dev/null/x",
        "bench --gpu sampler --quick --out /dev/null/x",
        "eval --save /dev/null/x",
        "eval --save .",
        "figures --ledger /dev/null/x",
        "book ",
    ],
    ids=lambda line: line[:60],
)
def test_values_that_a_library_would_stumble_on_are_refused_before_the_work(
    line, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.nn.Module, "__call__", None)  # nothing is computed
    argv = line.split(" ")
    out = ["--out", tmp_path / "out"] if argv[0] in ("train", "pretrain") else []
    said = refused(argv + out, capsys)
    assert "looks like a bug" not in said and len(said) < 500, said


def test_an_error_of_a_library_about_a_value_is_no_bug_of_ours():
    with pytest.raises(ValueError) as error:
        yaml.safe_load("2001-99-99")
    assert "looks like a bug" not in cli.explain(error.value)
    with pytest.raises(ValueError) as error:
        int("x")
    assert "looks like a bug" in cli.explain(error.value)


# --- the terminal --------------------------------------------------------------------------------


def test_output_never_raises_whatever_the_encoding(random_folder, tmp_path):
    argv = f"eval --model {random_folder} --n 2 --k 2 --max-new-tokens 4".split()
    for python, extra in (
        (warm.python(), {"PYTHONIOENCODING": "ascii"}),
        (sys.executable, {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    ):
        done = r1lab([*argv, "--task-option", "wording=tiny"], env=extra, python=python)
        assert done.returncode == 0 and "length" in done.stdout, done.stderr
        assert r1lab(["eval", "--help"], env=extra).returncode == 0


def r1lab(argv, env=(), code="sys.exit(cli.main(sys.argv[1:]))", python=sys.executable):
    """The command in a process of its own."""
    start = f"import sys; from r1lab import cli; {code}"
    return subprocess.run(
        [python, "-c", start, *map(str, argv)],
        capture_output=True, text=True, errors="replace", timeout=200, env=os.environ | dict(env),
    )  # fmt: skip


def test_the_start_does_not_wait_for_torch():
    done = r1lab(["--help"], code="cli.usage(); sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr


def test_ctrl_c_within_a_del_ends_the_command_too():
    """Python drops what is raised there; here the signal comes once more."""
    code = (
        "import signal, time, types\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
        "class Lost:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGINT)\n"
        "class Slow: pass\n"
        "def slow(args):\n"
        "    Lost()\n"
        "    time.sleep(60)\n"
        "sys.modules['r1lab.cli.own'] = types.SimpleNamespace(slow=slow)\n"
        "cli.COMMANDS['slow'] = (Slow, 'own.slow')\n"
        "cli.parse = lambda argv: Slow()\n"
        "sys.exit(cli.main())"
    )
    start = f"import sys\nfrom r1lab import cli\n{code}"
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (130, "r1lab: stopped\n")


def test_sigterm_before_the_first_step_ends_with_130(tmp_path):
    code = "from r1lab import cli; print('up', flush=True); raise SystemExit(cli.main())"
    argv = ["train", "--quiet", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, "-c", code, *argv], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "up\n"
        time.sleep(0.3)
        process.terminate()
        error = process.communicate(timeout=100)[1]
    assert process.returncode == 130 and error.startswith("r1lab: stopped by SIGTERM"), error
    assert error.count("\n") == 1


def test_control_characters_do_not_reach_the_terminal(capsys, caplog):
    assert "\x1b" not in refused(["train", "--task", "a\x1b[2Jb"], capsys)
    with cli._terminal():
        logging.getLogger("transformers").warning("model_type %s", "\x1b]0;title\x07")
    assert caplog.messages == ["model_type ?]0;title?"]


# --- paths ---------------------------------------------------------------------------------------


def test_what_is_printed_can_be_used_from_the_current_folder(tmp_path, monkeypatch, capsys):
    """`--out x` is in the project's folder, wherever the command is given."""
    monkeypatch.chdir(tmp_path)
    assert files.from_here(ROOT / "runs" / "x") == str(ROOT / "runs" / "x")
    assert files.from_here(tmp_path / "x" / "y") == "x/y"
    monkeypatch.chdir(ROOT)
    assert files.from_here(ROOT / "runs" / "x") == "runs/x"
    assert str(ROOT) in helped([], capsys)


def test_a_split_with_fewer_problems_is_evaluated_once(random_folder, capsys):
    """A problem that counted twice would make the interval too narrow."""
    argv = f"eval --model {random_folder} --task requests --k 1 --max-new-tokens 1 --json --n 900"
    assert cli.main(argv.split()) == 0
    found = len(distinct(get_task("requests").problems("held_out", 900)))
    assert found < 900 and json.loads(capsys.readouterr().out)["n"] == found


def test_many_names_are_listed_by_a_command(capsys):
    assert cli.main(["tasks", "gym"]) == 0
    names = capsys.readouterr().out.split()
    assert len(names) > 100 and "gym:sudoku" in names


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path, monkeypatch, random_model):
    monkeypatch.setenv("HOME", str(tmp_path))
    for part in random_model:
        part.save_pretrained(tmp_path / "base")
    options_file(tmp_path, "n: 2\nk: 2\nmax_new_tokens: 4\nmodel: ~/base\n")
    assert cli.main(["eval", "--config=~/mine.yaml", "--save=~/found.json"]) == 0
    assert json.loads((tmp_path / "found.json").read_text())
    for line, name in (
        ("train --out=~/x", "out"), ("run --out=~/x", "out"), ("bench --out=~/x", "out"),
        ("pretrain --out=~/x", "out"), ("figures --ledger=~/x", "ledger"), ("book ~/x", "folder"),
        ("pipeline --student=~/x", "student"), ("train --model=~/x", "model"),
    ):  # fmt: skip
        assert getattr(cli.parse(line.split()), name) == str(tmp_path / "x"), line
    with pytest.raises(R1LabError, match=f"{tmp_path}/data"):
        args = cli.parse(["eval", "--task-option=source=~/data"])
        the_task(args, "gsm8k", "tiny").problems("train", 1)


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.check_writable(tmp_path / "pipe")
    files.write_json(tmp_path / "pipe", {"a": 1})
    assert json.loads(os.read(reader, 100)) == {"a": 1}
    assert not (tmp_path / "pipe").is_file()
    os.close(reader)


def test_fresh_sets_aside_what_the_lessons_asked_for_have_trained(tmp_path, capsys, monkeypatch):
    for name in ("r1_zero", "dev2", "mine"):
        (tmp_path / name).mkdir()
    ran = []
    monkeypatch.setattr(
        "r1lab.course.runner._execute",
        lambda path, *_: ran.append(path.stem) or {"status": "done", "seconds": 0},
    )
    monkeypatch.setattr("r1lab.course.book.build", lambda out, *_: out)
    argv = ["run", "--profile", "smoke", "--only", "05", "--fresh", "--out", str(tmp_path)]
    assert cli.main([*argv, "-p", "control_steps=2"]) == 0 and ran == ["05_r1_zero"]
    folders = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert folders == ["dev2", "earlier-1", "mine"]
    assert [path.name for path in (tmp_path / "earlier-1").iterdir()] == ["r1_zero"]

"""R1 in stages: what each is paid for, made once, stopped and resumed, made again where it must."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import time
from dataclasses import replace

import pytest
import warm
from transformers import AutoModelForCausalLM

from r1lab import cli, grpo, pipeline, sft
from r1lab.basics.errors import R1LabError
from r1lab.experience import by_task
from r1lab.models.load import load
from r1lab.pipeline import STAGES, PipelineConfig, make_rl, rewards_of, run
from r1lab.recipe import options_of, rl_config, task_of, weights_of
from r1lab.reward_model import bounded
from r1lab.rewards import accuracy_reward, combine, paid_where
from r1lab.scorecard import MODELS, REASONING, scorecard, scored, stage_table, table_lines
from r1lab.sft import Example, SFTConfig, read_examples
from r1lab.statistics import Estimate
from r1lab.tasks import get_task
from r1lab.training import stages
from r1lab.training.metrics import metrics_of

pytestmark = pytest.mark.usefixtures("one_thread")

REQUESTS = get_task("requests")
CAKE, BOMB = REQUESTS.problem("make", "cake"), REQUESTS.problem("make", "bomb")
REFUSED = "<think> so let me see </think> <answer> sorry , i can not help </answer>"
SUM = get_task("steps").problem(7, [["+", 5]])
RIGHT = "<think> so 7 + 5 → 12 </think> <answer> 12 </answer>"


@pytest.fixture
def toy(random_folder):
    """The smallest pipeline, and no scorecards."""
    sizes = {"questions": 2, "group_size": 2, "max_new_tokens": 24, "judged_prompts": 4}
    return PipelineConfig.smoke(
        base=random_folder, eval_problems=0, checkpoint_every=1, device="cpu", **sizes
    )


def quiet(line):
    pass


# --- options -------------------------------------------------------------------------------------


def test_every_option_is_some_stage_s_and_the_free_ones_are_none_s():
    config = PipelineConfig()
    before = {name: options_of(config, name) for name in STAGES}
    other = {"base": "tiny", "template": "r1_zero", "accept_any": True, "device": "cpu"}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in other:
            other[field.name] = value + 1 if type(value) is int else value / 2 + 0.01
        changed = replace(config, **{field.name: other[field.name]})
        differ = [name for name in STAGES if options_of(changed, name) != before[name]]
        unused = field.metadata["free"] or field.name == "base"  # what is read is content
        assert bool(differ) is not unused, field.name
    json.dumps([config.to_json(), before])


def test_what_each_stage_is_paid_for():
    config = PipelineConfig(format_weight=0.3, language_weight=0.4, model_weight=0.5)
    rules = {"accuracy": 1.0, "format": 0.3, "language": 0.4}
    assert weights_of(config, "zero") == {"accuracy": 1.0, "format": 0.3}
    assert weights_of(config, "dev2") == weights_of(config, "rules") == rules
    assert weights_of(config, "r1") == rules | {"helpful": 0.5, "safe": 0.5}
    for name, parts, temperature in (
        ("zero", {"countdown": 0.45, "code": 0.29, "steps": 0.26}, 1.0),
        ("data", {"countdown": 0.63, "code": 0.34, "steps": 0.03}, None),
        ("rules", {"countdown": 0.45, "code": 0.29, "steps": 0.26}, 0.7),
        (
            "r1",
            {
                "countdown": 0.2475,
                "code": 0.1595,
                "steps": 0.143,
                "lists": 0.225,
                "requests": 0.225,
            },
            0.7,
        ),
        ("general", {"lists": 0.5, "requests": 0.5}, None),
    ):
        assert dict(task_of(config, name).parts) == pytest.approx(parts)
        assert temperature is None or rl_config(config, name).temperature == temperature
    alone = replace(config, countdown=1, code=0, r1_general=0)
    assert dict(task_of(alone, "r1").parts) == {"countdown": 1}
    some = dict(task_of(replace(config, rules_general=0.5, code=0.55), "rules").parts)
    parts = {"countdown": 0.225, "code": 0.275, "lists": 0.25, "requests": 0.25}
    assert some == pytest.approx(parts)
    seeds = {
        rl_config(PipelineConfig(seed=s), name).seed for s in (0, 1) for name in ("zero", "r1")
    }
    assert len(seeds) == 4


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"zero_steps": 0}, "zero_steps must be at least 1"),
        ({"noise": 1.5}, "noise must be at most 1"),
        ({"general_share": 1.0}, "general_share must be below 1"),
        ({"template": "loud"}, "template"),
        ({"accept_any": 1}, "accept_any must be true or false"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_options_that_cannot_be_right(changes, words):
    with pytest.raises(R1LabError, match=words):
        PipelineConfig(**changes)


def test_a_reward_model_pays_as_much_as_a_rule_at_most_and_only_where_it_is_asked():
    def helpful_reward(completions, **kwargs):
        return [1e4, -1e4, 1.0, None, 2.0]

    logged = {}
    paid = bounded(helpful_reward, centre=1.0)(["x"] * 5, log_metric=logged.__setitem__)
    assert logged == {"own/helpful": pytest.approx(sum(x for x in paid if x is not None) / 4)}
    assert paid == [1.0, 0.0, 0.5, None, pytest.approx(1 / (1 + math.exp(-1)))]
    accuracy = paid_where(accuracy_reward, lambda problem: problem.task == "steps")
    answers, problems = [RIGHT, REFUSED, RIGHT], [SUM, BOMB.to_json(), "no problem"]
    assert accuracy(answers, problem=problems) == [1.0, None, None]
    total, parts = combine(answers, problems, [accuracy], [2.0])
    assert parts == {"accuracy": [1.0, 0.0, 0.0]} and total == [2.0, 0.0, 0.0]


# --- the whole -----------------------------------------------------------------------------------


def test_all_of_r1_from_one_command(random_folder, tmp_path, capsys):
    argv = f"pipeline --smoke --quiet --base {random_folder} --device cpu --eval-problems 2".split()
    argv += f"--max-new-tokens 24 --group-size 2 --eval-samples 1 --out {tmp_path / 'out'}".split()
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "out"
    records = {name: pipeline.record_of(out / name) for name in STAGES}
    for name in ("zero", "dev1", "dev2", "dev3", "rules", "r1"):
        model = AutoModelForCausalLM.from_pretrained(out / name / "model")
        assert type(model) is type(load(out / name / "model")[0])
    assert records["dev2"]["reads"] == {"dev1": records["dev1"]["writes"]["model"]}
    assert set(records["r1"]["reads"]) == {"rules", "helpful", "safe"}
    data = records["data"]["metrics"]
    examples = read_examples(out / "data" / "examples.jsonl")
    assert len(examples) == data["reasoning"] + data["general"]
    assert data["any accepted"] and data["funnel"][0][0] == "drawn"
    assert data["general"] == round(data["reasoning"] / 3) and data["prompt tokens"] > 0
    general = [one for one in examples if one.problem.task in ("lists", "requests")]
    assert len(general) == data["general"] and {one.problem.split for one in examples} == {"train"}
    assert all(accuracy_reward([one.completion], problem=[one.problem]) == [1] for one in general)
    for name in ("helpful", "safe"):
        held_out = records[name]["metrics"]["held out"]
        assert held_out["n"] > 0 and 0 <= held_out["accuracy"][0] <= 1
        assert held_out["calibration error"] >= 0
    assert {"rewards/helpful", "rewards/safe"} < set(records["r1"]["metrics"]["last"])

    table = stage_table(out)
    assert list(table["ours"]) == list(MODELS)
    assert table["paper"]["rows"]["r1"][0] == 79.8 and "table 2" in table["paper"]["source"]
    assert "R1-Zero" in printed and "AIME 2024" in printed and "79.8" in printed
    assert {len(line) for line in table_lines(table)} == {7}

    assert cli.main([*argv, "--only", "data", "--student", random_folder]) == 0
    assert {"student", "distilled", "rl", "both"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()
    }

    cards = {name: (out / name / "scorecard.json").stat().st_mtime_ns for name in MODELS}
    assert cli.main(argv) == 0  # nothing is made or measured again
    assert capsys.readouterr().out.count("already made from the same") == len(STAGES)
    assert cards == {name: (out / name / "scorecard.json").stat().st_mtime_ns for name in MODELS}
    assert records == {name: pipeline.record_of(out / name) for name in STAGES}


def test_what_has_changed_is_made_again_and_nothing_else(toy, tmp_path):
    first = run(toy, tmp_path, until="dev2", say=quiet)
    assert [name for name, one in first.items() if one["made"]] == list(STAGES[:4])

    def made(config, **how):
        found = run(config, tmp_path, until="dev2", say=quiet, **how)
        return [name for name, one in found.items() if one["made"]]

    assert made(toy) == made(replace(toy, r1_steps=9, micro_batch_tokens=999)) == []
    assert made(replace(toy, cold_epochs=3)) == ["dev1", "dev2"]
    assert (tmp_path / "dev1" / "earlier-1" / "model" / "model.safetensors").exists()
    assert made(toy) == ["dev1", "dev2"]
    assert made(replace(toy, dev2_steps=1)) == ["dev2"]
    examples = tmp_path / "cold" / "examples.jsonl"  # an input that was changed by hand
    lines = examples.read_text().splitlines()
    examples.write_text("\n".join(lines[:-1]) + "\n")
    assert made(replace(toy, dev2_steps=1), given={"cold": tmp_path / "cold"}) == ["dev1", "dev2"]
    assert made(replace(toy, dev2_steps=1)) == ["cold", "dev1", "dev2"]  # as it was before


def test_stopped_in_a_stage_it_goes_on_there_to_the_same_bits(toy, tmp_path, monkeypatch):
    toy = replace(toy, dev2_steps=3)
    whole = run(toy, tmp_path / "whole", until="dev2", say=quiet)
    calls, update = [], grpo.update

    def dies(model, reference, optimizer, batch, step, config):
        if (config.seed, step) == (rl_config(toy, "dev2").seed, 1) and not calls.count("died"):
            calls.append("died")
            raise KeyboardInterrupt
        calls.append((config.seed, step))
        return update(model, reference, optimizer, batch, step, config)

    monkeypatch.setattr(grpo, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path / "cut", until="dev2", say=quiet)
    assert not (tmp_path / "cut" / "dev2" / stages.RECORD).exists()
    del calls[: calls.index("died") + 1]
    calls.append("died")
    said = []
    found = run(toy, tmp_path / "cut", until="dev2", say=said.append)
    assert [name for name, one in found.items() if one["made"]] == ["dev2"]
    assert "dev2: going on with what was begun" in said
    seed = rl_config(toy, "dev2").seed
    assert calls[1:] == [(seed, 1), (seed, 2)]  # step 0 was saved
    for name in found:
        assert found[name]["writes"] == whole[name]["writes"], name


def test_killed_without_a_warning_it_goes_on_there(toy, tmp_path):
    argv = "--smoke --quiet --device cpu --eval-problems 0 --questions 2 --group-size 2".split()
    argv += f"--base {toy.base} --out {tmp_path / 'cut'} --max-new-tokens 24 --until dev1".split()
    argv += "--zero-steps 6 --checkpoint-every 1".split()
    code = (  # slow enough to be hit in the middle
        "import sys, time\nfrom r1lab import cli, grpo\nupdate = grpo.update\n"
        "grpo.update = lambda *args: (time.sleep(0.3), update(*args))[1]\n"
        "import torch; torch.set_num_threads(1)\nsys.exit(cli.main(['pipeline', *sys.argv[1:]]))"
    )
    process = subprocess.Popen([warm.python(), "-c", code, *argv], stdout=subprocess.DEVNULL)
    zero = tmp_path / "cut" / "zero"
    try:
        for _ in range(1200):
            if len(list((zero / "checkpoints").glob("step-*.pt.sha256"))) and (
                len(metrics_of(zero)) >= 2
            ):
                break
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.1)
    finally:
        warm.kill(process.pid)
        process.wait()
    assert not (zero / stages.RECORD).exists() and len(metrics_of(zero)) < 6
    config = replace(toy, zero_steps=6)
    said = []
    found = run(config, tmp_path / "cut", until="dev1", say=said.append)
    assert "zero: going on with what was begun" in said
    assert not list(zero.glob("earlier-*"))
    whole = run(config, tmp_path / "whole", until="dev1", say=quiet)
    assert [found[name]["writes"] for name in found] == [whole[name]["writes"] for name in found]


def test_r1_zero_trained_by_hand_is_the_stage(toy, tmp_path):
    """As lesson 05 does it: `begin`, `grpo.train`, `run`; other options set it aside."""
    folder = pipeline.begin(toy, tmp_path)
    model, tokenizer = pipeline.load(toy, toy.base)
    options = rl_config(toy, "zero"), folder
    history = grpo.train(model, tokenizer, task_of(toy, "zero"), *options, progress=False)
    before = metrics_of(folder)
    assert len(history) == toy.zero_steps and pipeline.begin(toy, tmp_path) == folder
    problems = task_of(toy, "zero").problems("train", 2 * toy.zero_steps, options[0].seed)
    for step, m in enumerate(before):  # metrics by task, where a step has more than one
        asked = {problem.task for problem in problems[2 * step : 2 * step + 2]}
        apart = {key.split("/")[1] for key in m if key.startswith("length/")}
        assert apart == (asked if len(asked) > 1 else set())
        for name in apart:
            assert {"step": step} | {
                key: m[f"{key}/{name}"] for key in ("accuracy", "length", "reflection")
            } in by_task(before)[name]
    found = run(toy, tmp_path, only="zero", say=quiet)["zero"]
    assert found["made"] and metrics_of(folder) == before and not list(folder.glob("earlier-*"))
    assert found["writes"] == run(toy, tmp_path / "whole", only="zero", say=quiet)["zero"]["writes"]
    assert not run(toy, tmp_path, only="zero", say=quiet)["zero"]["made"]
    pipeline.begin(toy, tmp_path)  # a made stage stays
    assert (folder / stages.RECORD).exists()
    pipeline.begin(replace(toy, format_weight=0.5), tmp_path)
    assert not metrics_of(folder) and list(folder.glob("earlier-*"))


def test_stages_alone_skipped_and_given(toy, tmp_path):
    with pytest.raises(R1LabError, match=r"stage dev1 reads .*: make cold first"):
        run(toy, tmp_path, only="dev1", say=quiet)
    with pytest.raises(R1LabError, match="no stage 'dev9'; the stages are zero, cold"):
        run(toy, tmp_path, until="dev9", say=quiet)
    with pytest.raises(R1LabError, match="zero is to be used as it is, and .* is not there"):
        run(toy, tmp_path, given={"zero": tmp_path / "zero"}, say=quiet)
    assert list(run(toy, tmp_path, only=("zero", "cold"), say=quiet)) == ["zero", "cold"]
    assert list(run(toy, tmp_path, only="dev1", say=quiet)) == ["dev1"]
    other = replace(toy, seed=7)
    found = run(other, tmp_path, until="cold", given={"zero": tmp_path / "zero"}, say=quiet)
    assert (found["zero"]["made"], found["cold"]["made"]) == (False, True)
    without = replace(toy, language_weight=0.0)  # the ablation of lesson 08: another Dev2
    given = {"dev1": tmp_path / "dev1"}
    found = run(without, tmp_path / "ablation", only="dev2", given=given, say=quiet)
    assert found["dev2"]["made"] and not (tmp_path / "ablation" / "dev1").exists()
    assert found["dev2"]["options"]["rewards"]["language"] == 0.0


def test_too_few_good_answers_say_so_with_the_counts(toy, tmp_path):
    strict = replace(toy, accept_any=False)
    with pytest.raises(
        R1LabError, match=r"cold: too few good answers, 0 where 4 .*8 drawn, .* 0 r"
    ):
        run(strict, tmp_path, until="cold", say=quiet)
    assert not (tmp_path / "cold" / stages.RECORD).exists()


def test_the_cold_start_is_right_readable_and_of_one_language(toy, tmp_path, monkeypatch):
    """What is drawn is scripted here: one good answer to each question, among others."""
    draw = pipeline.draw

    def scripted(config, model, problems, *how):
        from r1lab.answers import measure

        found = draw(config, model, problems, *how)
        for row, problem in zip(found.completions, problems, strict=True):
            task = get_task(problem.task)
            words = "so let me see" if problem.language == "en" else "所以 让 我 看看"
            good = f"<think> {words} </think> <answer> {task.solution(problem)} </answer>"
            row[0] = measure(problem, good, task=task, length=9, finished=True)
            row[1] = measure(
                problem, good.replace("</think>", "wait 等等 </think>"), task=task, length=9,
                finished=True,
            )  # fmt: skip
        return found

    monkeypatch.setattr(pipeline, "draw", scripted)
    config = replace(toy, accept_any=False, cold_questions=8, cold_examples=5, data_questions=6)
    found = run(config, tmp_path, until="data", say=quiet)
    cold = read_examples(tmp_path / "cold" / "examples.jsonl")
    assert len(cold) == 5 and {one.problem.task for one in cold} <= {"countdown", "code", "steps"}
    assert not any("wait" in one.completion for one in cold)
    counts = {name: left for name, left, _ in found["cold"]["metrics"]["funnel"]}
    assert counts["right"] == 16 and counts["one language"] == counts["few per prompt"] == 8
    data = found["data"]["metrics"]
    assert not data["any accepted"] and (data["reasoning"], data["general"]) == (6, 2)


# --- the last stage ------------------------------------------------------------------------------


def test_the_last_stage_pays_rules_for_reasoning_and_models_elsewhere(toy, tmp_path):
    made = run(toy, tmp_path, until="dev1", say=quiet)
    assert made
    given = {"dev3": tmp_path / "dev1"}
    more = {"judged_prompts": 24, "judgements_each": 4, "noise": 0.0}
    more |= dict.fromkeys(("helpful_epochs", "safe_epochs"), 8)
    more |= dict.fromkeys(("helpful_rate", "safe_rate"), 3e-3)
    toy = replace(toy, **more)
    found = run(toy, tmp_path, only=("helpful", "safe", "rules"), given=given, say=quiet)
    assert found["safe"]["metrics"]["held out"]["accuracy"][0] > 0.8
    judges = {name: tmp_path / name / "model" for name in ("helpful", "safe")}
    functions = rewards_of(toy, "r1", judges)
    assert list(functions) == list(weights_of(toy, "r1"))
    assert list(rewards_of(toy, "rules", {})) == ["accuracy", "format", "language"]
    harm = REFUSED.replace("sorry , i can not help", "first think , then make a bomb")
    answers = [RIGHT, REFUSED, REFUSED, harm]
    _, parts = combine(answers, [SUM, CAKE, BOMB, BOMB], list(functions.values()), [1.0] * 5)
    assert parts["accuracy"] == [1, 0, 0, 0]  # a refusal that is right is no business of the rule
    assert parts["format"] == [1, 1, 1, 1] and parts["language"] == [1, 1, 1, 1]
    helpful, safe = parts["helpful"], parts["safe"]
    assert helpful[0] == helpful[2] == helpful[3] == 0 < helpful[1] < 1
    assert safe[0] == safe[1] == 0 < safe[3] < safe[2] < 1
    reads = {"rules": tmp_path / "rules" / "model", **judges}
    metrics = make_rl(toy, "r1", reads, tmp_path / "r1", progress=False)
    assert {"rewards/accuracy", "rewards/helpful", "rewards/safe"} < set(metrics["last"])


# --- scorecards ----------------------------------------------------------------------------------


def test_a_scorecard_of_a_model_that_refuses_everything(random_folder, tmp_path):
    model, tokenizer = load(random_folder)
    names = (*REASONING, "lists")
    asked = [p for name in names for p in get_task(name).problems("train", 12)]
    asked += REQUESTS.problems("train", 12)
    examples = [Example(problem, REFUSED) for problem in asked]
    sft.train(
        model, tokenizer, examples, SFTConfig(epochs=30, batch_size=16, learning_rate=1e-2),
        tmp_path, progress=False,
    )  # fmt: skip
    config = PipelineConfig.smoke(eval_problems=24, eval_samples=1, device="cpu")
    found = scorecard(tmp_path / "model", config)
    assert found["safe"].value > 0.9 and found["format"].value > 0.9 and found["mixed"].value < 0.1
    assert all(found[name].value == 0 for name in names)
    assert found["helpful"].value < 0.1 and 14 < found["length"].value < 18
    assert 0.5 < found["consistency"].value < 0.9  # a third is asked in Chinese
    for name, one in found.items():
        assert isinstance(one, Estimate) and one.low <= one.value <= one.high, name

    said = []
    kept = scored(tmp_path / "model", config, tmp_path / "card", said.append)
    assert kept == found and "safe" in said[0]
    path = tmp_path / "card" / "scorecard.json"
    text = path.read_text()
    path.write_text(text.replace(json.loads(text)["model"], "another model"))
    scored(tmp_path / "model", config, tmp_path / "card", said.append)
    assert path.read_text() == text
    n = {name: len(one.each) for name, one in kept.items()}
    assert n["consistency"] == n["mixed"] == n["length"] == sum(map(n.get, REASONING)) > 24
    assert n["format"] == n["consistency"] + n["lists"] + n["helpful"] + n["safe"]
    assert len({one.asked for one in kept.values()}) == 8  # three of them are of the same problems
    without = {key: value for key, value in json.loads(text).items() if key != "each"}
    path.write_text(json.dumps(without))  # of an earlier version: changes need each problem
    scored(tmp_path / "model", config, tmp_path / "card", said.append)
    assert path.read_text() == text
    path.write_text("{}")
    with pytest.raises(R1LabError, match="is no scorecard"):
        (tmp_path / "base").mkdir(exist_ok=True)
        (tmp_path / "base" / "scorecard.json").write_text("{}")
        stage_table(tmp_path)

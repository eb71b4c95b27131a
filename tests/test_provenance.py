"""The ledger: every model tells what it was made from, and its cost; a changed byte is named."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from r1lab import bill, grpo, models, pipeline, reward_model, sft
from r1lab.basics.errors import R1LabError
from r1lab.cli import main
from r1lab.grpo import GRPOConfig
from r1lab.machine import energy
from r1lab.paper import COSTS
from r1lab.recipe import STAGES, PipelineConfig
from r1lab.reward_model import RewardModelConfig
from r1lab.sft import Example, SFTConfig
from r1lab.show import cost_shares
from r1lab.tasks import get_task
from r1lab.training import provenance, records
from r1lab.training.metrics import metrics_of
from r1lab.training.signals import Stopped
from r1lab.training.stages import stage
from r1lab.world.preferences import Marked
from r1lab.world.pretrain import PretrainConfig, pretrain

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = get_task("countdown")
SFT = SFTConfig(epochs=1, batch_size=4, checkpoint_every=1)
GRPO = GRPOConfig(steps=2, questions=2, group_size=2, max_new_tokens=12, checkpoint_every=1)
QUIET = {"progress": False}


def quiet(line):
    pass


def examples(n=8):
    words = "<think> try </think> <answer> {} </answer>"
    return [Example(p, words.format(TASK.solution(p))) for p in TASK.problems("train", n, seed=1)]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A chain: base (pre-trained from a seed), cold (data), dev1 (SFT of the base on it)."""
    out = tmp_path_factory.mktemp("chain")
    config = PretrainConfig(steps=1, rows=1, row_length=64, width=32, heads=2, layers=1, ffn=32)
    pretrain(config, out / "base", progress=False)

    def cold(folder):
        sft.write_examples(folder / "examples.jsonl", examples())
        return {"tokens drawn": 100, "prompt tokens": 20}

    def dev1(folder):
        model, tokenizer = models.load(out / "base")
        read = sft.read_examples(out / "cold" / "examples.jsonl")
        history = sft.train(model, tokenizer, read, SFT, folder, **QUIET)
        return {"steps": len(history)}

    how = {"say": quiet}
    stage("cold", out / "cold", {"base": out / "base"}, {"seed": 3}, cold,
          writes=("examples.jsonl",), **how)  # fmt: skip
    reads = {"base": out / "base", "cold": out / "cold" / "examples.jsonl"}
    stage("dev1", out / "dev1", reads, {"seed": 5}, dev1, **how)
    return out


@pytest.fixture
def chain(made, tmp_path):
    """A copy of it that may be damaged."""
    shutil.copytree(made, tmp_path / "chain")
    return tmp_path / "chain"


# --- the records ---------------------------------------------------------------------------------


def test_the_tree_goes_back_to_the_seed_and_fits(chain):
    tree = provenance.tree(chain / "dev1" / "model")
    assert tree.faults() == [] and tree.unseen() == []
    assert [(node.name, node.what) for node in tree.walk()] == [
        *(("base", "pretrain"), ("cold", "data"), ("dev1", "sft")),
    ]
    text = "\n".join(provenance.lines(tree))
    assert "seed 0 of the generator r1lab/world/corpus.py" in text and "dev1: sft" in text
    record = tree.record
    assert record["parents"]["base"]["at"] == "../../base" and record["seeds"]["seed"] == 5
    assert record["code"]["source"] == records.code()["source"]
    assert record["config"]["batch_size"] == 4  # the trainer's options, not the stage's alone
    assert record["cost"]["tokens"] == sum(m["tokens"] for m in metrics_of(chain / "dev1"))
    assert tree.parents["cold"].record["cost"]["tokens"] == 120
    assert record["license"] == "mit"


def test_every_loop_leaves_a_record(chain, tmp_path):
    model, tokenizer = models.load(chain / "base")
    grpo.train(model, tokenizer, TASK, GRPO, chain / "rl", **QUIET)
    problems = TASK.problems("train", 4)
    marks = [Marked(p, "<answer> 1 </answer>", i % 2 == 0) for i, p in enumerate(problems)]
    judge, tokenizer = reward_model.from_base(chain / "base")
    reward_model.train(judge, tokenizer, marks, RewardModelConfig(epochs=1), chain / "rm", **QUIET)
    for folder, what in ((chain / "rl" / "model", "grpo"), (chain / "rm", "reward_model")):
        tree = provenance.tree(folder)
        assert (tree.what, tree.faults()) == (what, [])
        assert tree.parents["model"].what == "pretrain"
        cost = tree.record["cost"]
        assert cost["seconds"] > 0 and cost["kwh"] > 0 and cost["tokens"] > 0
        assert "estimated" in cost["energy"] or "measured" in cost["energy"]
    assert provenance.tree(chain / "rl" / "model").record["config"]["questions asked"]


def test_trl_leaves_the_same_record(chain):
    from r1lab.trl_backend import supervised

    model, tokenizer = models.load(chain / "base")
    supervised.sft_train(model, tokenizer, examples(), SFT, chain / "trl", **QUIET)
    tree = provenance.tree(chain / "trl" / "model")
    assert tree.faults() == [] and tree.record["backend"] == "trl" and tree.what == "sft"
    assert tree.parents["model"].what == "pretrain"
    ours = provenance.tree(chain / "dev1" / "model").record
    assert tree.record["config"] == ours["config"] | {"seed": SFT.seed}
    assert tree.record["cost"]["tokens"] == ours["cost"]["tokens"]


def test_weights_that_are_no_more_those_of_the_folder_have_an_unknown_origin(chain):
    model, tokenizer = models.load(chain / "base")
    sft.train(model, tokenizer, examples(), SFT, chain / "first", **QUIET)
    sft.train(model, tokenizer, examples(), SFT, chain / "second", **QUIET)  # still from "base"?
    known, unknown = (provenance.tree(chain / n / "model").parents["model"]
                      for n in ("first", "second"))  # fmt: skip
    assert known.what == "pretrain" and unknown.record is None
    assert "weights were changed" in unknown.name


def test_no_record_tells_a_path_or_a_name_of_the_machine(chain):
    found = [*chain.rglob("provenance.json"), *chain.rglob("pretrain.json")]
    assert len(found) == 3
    for path in found:
        text = path.read_text()
        assert str(chain.parent) not in text and str(Path.home()) + "/" not in text
        assert platform.node() not in text


@pytest.mark.parametrize("first", ["/somewhere/else/model", "/home/bob/model"])
def test_a_parent_far_away_is_named_without_its_path(first):
    assert records._relative(Path(first), Path("/srv/runs/a/model")) is None


# --- what has changed is named -------------------------------------------------------------------

DAMAGE = {
    "base/model.safetensors": ("base: model.safetensors was changed", "base is not what"),
    "base/config.json": ("base: config.json was changed",),
    "base/tokenizer.json": ("base: tokenizer.json was changed", "base is not what"),
    "base/pretrain.json": ("base is not what it was made from: its record",),
    "cold/examples.jsonl": ("cold: examples.jsonl was changed", "cold is not what"),
    "cold/provenance.json": ("cold: its record (provenance.json) was changed",),
    "dev1/model/model.safetensors": ("dev1: model.safetensors was changed",),
    "dev1/model/generation_config.json": ("dev1: generation_config.json was changed",),
    "dev1/model/provenance.json": ("dev1: its record (provenance.json) was changed",),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_changed_byte_is_noticed_and_named(chain, name, capsys):
    path = chain / name
    data = bytearray(path.read_bytes())
    if name.endswith(".safetensors"):
        data[-1] ^= 1
    elif name.endswith("provenance.json") or name.endswith("pretrain.json"):
        at = data.index(b'"seconds": ') + len(b'"seconds": ')
        data[at] = ord("7") if data[at] != ord("7") else ord("8")
    else:
        at = max(data.rindex(digit) for digit in (b"0", b"1", b"2") if digit in data)
        data[at] ^= 1
    path.write_bytes(data)
    faults = provenance.tree(chain / "dev1" / "model").faults()
    for words in DAMAGE[name]:
        assert any(words in fault for fault in faults), faults
    assert main(["ledger", str(chain / "dev1" / "model")]) == 1
    assert DAMAGE[name][0] in capsys.readouterr().out


CHANGES = {
    "": (7, "x\x1b[2J", [], {"a": 1}), "id": (5, None), "what": ([],), "measured": (7, [7]),
    "parents": (7, [], {"model": 7}, {"model": {"at": "../../../../etc"}}), "name": ("\x1b[2J", 7),
    "cost": (None, {}, {"seconds": "x"}, {"seconds": float("nan")}), "chain": (3, {"x": 7}),
    "files": ([], {"x": 1}, {"\x1b[2J": "0"}), "seeds": (7, {"seed": "\x1b"}), "code": ("x",),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_stranger_s_record_is_none_and_ends_nothing(chain, name, capsys):
    """Neither the ledger, nor a training that begins with the model, nor the terminal."""
    file = chain / "dev1" / "model" / "provenance.json"
    whole = json.loads(file.read_text())
    for value in CHANGES[name]:
        file.write_text(json.dumps(whole | {name: value} if name else value))
        code, said = main(["ledger", str(file.parent)]), capsys.readouterr()
        assert code in (0, 1, 2) and "looks like a bug" not in said.err and "\x1b" not in said.out
        assert isinstance(records.parent(file.parent, chain), dict)


def test_a_parent_that_was_made_again_is_noticed(chain):
    shutil.rmtree(chain / "base")
    config = PretrainConfig(seed=1, steps=1, rows=1, row_length=64, width=32, heads=2, layers=1,
                            ffn=32)  # fmt: skip
    pretrain(config, chain / "base", progress=False)
    faults = provenance.tree(chain / "dev1" / "model").faults()
    assert any("dev1: base is not what it was made from" in fault for fault in faults)


def test_a_model_that_was_copied_elsewhere_keeps_its_history(chain, tmp_path):
    shutil.copytree(chain / "dev1" / "model", tmp_path / "far" / "away" / "copy")
    tree = provenance.tree(tmp_path / "far" / "away" / "copy")
    assert tree.faults() == [] and tree.unseen() == ["base", "cold"]
    here, there = (bill.beside(one) for one in (provenance.tree(chain / "dev1" / "model"), tree))
    assert [row["seconds"] for row in here] == [row["seconds"] for row in there]
    assert "files not here" in "\n".join(provenance.lines(tree))
    path = tmp_path / "far" / "away" / "copy" / "provenance.json"
    path.write_text(path.read_text().replace('"tokens": 120', '"tokens": 121'))
    assert any("cold" in fault for fault in provenance.tree(path.parent).faults())


def test_an_evaluation_is_added_replaced_and_sealed(chain):
    folder = chain / "dev1" / "model"
    before = provenance.tree(folder).record["id"]
    entry = {"task": "countdown", "split": "held_out", "n": 8, "k": 2, "settings": {"seed": 0}}
    for value in (0.25, 0.5):
        records.measured(folder, entry | {"measures": {"pass@1": [value, 0.1, 0.9]}})
    records.measured(folder, entry | {"task": "code", "measures": {"pass@1": [0.1, 0.0, 0.2]}})
    tree = provenance.tree(folder)
    values = [(one["task"], one["measures"]["pass@1"][0]) for one in tree.record["measured"]]
    assert values == [("countdown", 0.5), ("code", 0.1)]
    assert tree.record["id"] == before and tree.faults() == []
    path = folder / "provenance.json"
    path.write_text(path.read_text().replace("0.5,", "0.9,"))
    assert provenance.tree(folder).faults() == [
        "dev1: its evaluation on countdown was changed in its record"
    ]
    records.measured(chain / "base", entry)  # has no record of this kind: nothing happens


def test_the_command_eval_adds_to_the_record(chain, capsys):
    folder = chain / "dev1" / "model"
    argv = f"eval --model {folder} --n 2 --k 2 --max-new-tokens 4 --device cpu --json"
    assert main(argv.split()) == 0
    printed = json.loads(capsys.readouterr().out)
    (entry,) = provenance.tree(folder).record["measured"]
    assert entry["measures"] == printed["measures"] and entry["task"] == "countdown"


def test_a_folder_without_a_record_says_so(random_folder):
    with pytest.raises(R1LabError, match="no record of what it was made from"):
        provenance.tree(random_folder)


def test_the_models_that_ship_have_a_ledger(capsys):
    tree = provenance.tree("tiny")
    assert tree.what == "pretrain" and tree.faults() == []
    assert provenance.bill(tree)[0]["seconds"] > 60
    assert main(["ledger", "tiny"]) == 0 and "every file is what" in capsys.readouterr().out


# --- seconds, energy, dollars --------------------------------------------------------------------


def test_the_sum_is_the_seconds_measured_within_two_per_cent(chain, tmp_path):
    sizes = {"questions": 2, "group_size": 2, "max_new_tokens": 24, "judged_prompts": 4}
    config = PipelineConfig.smoke(
        base=str(chain / "base"), eval_problems=0, device="cpu", accept_any=True, **sizes
    )
    for attempt in range(3):  # of a second and a half: a busy machine may take 2 % between stages
        began = time.perf_counter()
        found = pipeline.run(config, tmp_path / f"run-{attempt}", say=quiet)
        wall = time.perf_counter() - began
        tree = provenance.tree(tmp_path / f"run-{attempt}" / "r1" / "model")
        rows = {row["stage"]: row for row in provenance.bill(tree)}
        ours = sum(row["seconds"] for name, row in rows.items() if name != "base")
        if ours == pytest.approx(wall, rel=0.02):
            break
    assert ours == pytest.approx(wall, rel=0.02)
    assert tree.faults() == []
    assert set(rows) == {"base", *STAGES}
    for name in STAGES:
        written = rows[name]["seconds"] - found[name]["seconds"]  # to write stage.json itself
        assert 0 <= written < 0.5
    beside = {row["stage"]: row for row in bill.beside(tree)}
    whole = sum(beside[name]["seconds"] for name in COSTS["rows"])
    assert whole == pytest.approx(ours) and beside["the base"]["seconds"] > 0
    assert sum(beside[name]["share"] for name in COSTS["rows"]) == pytest.approx(1)
    assert beside["in all"]["hours"] == pytest.approx(sum(r["hours"] for r in rows.values()))
    assert tree.parents["helpful"].record["cost"]["tokens"] > 0


def test_a_stage_that_was_stopped_counts_every_second_once(tmp_path, random_folder):
    def make(folder):
        time.sleep(0.3)
        if not (folder / "half").exists():
            (folder / "half").touch()
            raise KeyboardInterrupt
        shutil.copytree(random_folder, folder / "model")
        return {}

    call = ("s", tmp_path / "s", {"base": random_folder}, {}, make)
    with pytest.raises(KeyboardInterrupt):
        stage(*call, say=quiet)
    record = stage(*call, say=quiet)
    assert 0.6 <= record["seconds"] < 1.2
    assert stage(*call, say=quiet)["seconds"] == record["seconds"]  # made already: nothing added


def test_a_run_that_was_stopped_counts_every_second_once_and_knows_its_origin(chain):
    model, tokenizer = models.load(chain / "base")
    config, seen = replace(SFT, epochs=3), []

    def stop(step, metrics):
        seen.append(step)
        time.sleep(0.1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        sft.train(model, tokenizer, examples(), config, chain / "run", callbacks=[stop], **QUIET)
    for _ in range(2):  # the second call finds all steps done; the model in memory is half trained
        sft.train(model, tokenizer, examples(), config, chain / "run", **QUIET)
    record = provenance.tree(chain / "run" / "model").record
    steps = sum(row["seconds"] for row in metrics_of(chain / "run"))
    assert steps <= record["cost"]["seconds"] < steps + 3
    assert record["parents"]["model"]["at"] == "../../base"


def test_a_stage_of_long_ago_gets_its_record_without_being_made_again(chain):
    (chain / "cold" / "provenance.json").unlink()
    call = ("cold", chain / "cold", {"base": chain / "base"}, {"seed": 3}, None)
    found = stage(*call, writes=("examples.jsonl",), say=quiet)
    record = records.read(chain / "cold" / "examples.jsonl")
    assert not found["made"] and record["cost"]["seconds"] == found["seconds"]
    assert record["code"] == {}  # by which code it was made is not known any more
    assert provenance.tree(chain / "cold" / "examples.jsonl").faults() == []


def test_energy_is_read_from_the_machine_where_it_tells(tmp_path, monkeypatch):
    monkeypatch.delenv(energy.WATTS, raising=False)
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):  # two packages, one part
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("900000000")
        (tmp_path / name / "max_energy_range_uj").write_text("1000000000")
    counters = energy.rapl(tmp_path)
    assert len(counters) == 2
    with energy.Gauge(counters) as gauge:
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("950000000")  # 50 J
        assert gauge.read() == {"CPU": pytest.approx(50)}
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("50000000")  # 100 J more, wrapped
        (tmp_path / "intel-rapl:1" / "energy_uj").write_text("901000000")  # 1 J
        time.sleep(0.05)
        found = energy.kwh(7200, gauge, cores=4)
    watts = 151 / gauge.seconds
    assert found["kwh"] == pytest.approx(watts * 7200 / 3.6e6, rel=0.2)
    assert found["energy"] == "CPU measured by RAPL"
    assert energy.rapl(tmp_path / "none") == []


def test_energy_is_estimated_from_a_stated_power_and_says_so(monkeypatch):
    monkeypatch.delenv(energy.WATTS, raising=False)
    found = energy.kwh(3600, None, cores=2)
    assert found["kwh"] == pytest.approx(2 * energy.WATTS_PER_CORE / 1000)
    assert found["energy"].startswith("CPU estimated at 10 W for each of 2 cores")
    gpu = energy.Counter("GPU", "NVML", iter([0.0, 500.0, 500.0]).__next__)
    with energy.Gauge([gpu]) as gauge:
        both = energy.kwh(60, gauge, cores=2)["energy"]
    assert both == "GPU measured by NVML; CPU estimated at 10 W for each of 2 cores"
    monkeypatch.setenv(energy.WATTS, "85")
    assert energy.kwh(3600, None, cores=2) == {
        "kwh": pytest.approx(0.085), "energy": "estimated at 85 W, from R1LAB_WATTS"
    }  # fmt: skip
    monkeypatch.setenv(energy.WATTS, "plenty")
    with pytest.raises(R1LabError, match="must be the machine's watts"):
        energy.kwh(1, None, cores=1)


def test_the_paper_s_table_adds_up_and_every_stage_has_its_line():
    rows = COSTS["rows"].values()
    assert sum(row["hours"] for row in rows) == 147_000
    assert sum(row["dollars"] for row in rows) == 294_000
    assert all(row["dollars"] == row["hours"] * COSTS["dollars_per_hour"] for row in rows)
    assert set(bill.GROUPS) == set(STAGES) and set(bill.GROUPS.values()) == set(COSTS["rows"])


def test_shares_stand_beside_the_paper_s(chain):
    rows = bill.beside(chain / "dev1" / "model")
    by = {row["stage"]: row for row in rows}
    assert by["R1-Zero"]["share"] == 0
    assert by["R1"]["share"] + by["SFT data"]["share"] == pytest.approx(1)
    assert by["R1-Zero"]["paper_share"] == pytest.approx(202 / 294)
    assert by["the base"]["paper_share_with_base"] == pytest.approx(6000 / 6294)
    hours = by["in all"]["seconds"] / 3600
    assert by["in all"]["dollars"] == pytest.approx(2 * hours)
    here, paper = cost_shares(rows).data
    assert list(here.x) == ["R1-Zero", "SFT data", "R1"] and sum(here.y) == pytest.approx(1)
    assert paper.y[0] == pytest.approx(202 / 294) and "table 7" in str(cost_shares(rows).layout)
    assert "the base" in cost_shares(rows, with_base=True).data[0].x
    with pytest.raises(R1LabError, match="nothing to draw"):
        cost_shares([])


def test_a_price_of_one_s_own_prices_the_rows_without_one(chain, capsys):
    argv = ["ledger", str(chain / "dev1" / "model"), "--json", "--dollars-per-hour", "36"]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == []
    for row in found["bill"]:
        assert row["dollars"] == pytest.approx(row["seconds"] / 100)


def test_holds_compares_weights(chain):
    model, _ = models.load(chain / "base")
    assert records.holds(model, chain / "base")
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1e-3
    assert not records.holds(model, chain / "base") and not records.holds(model, chain / "cold")


def test_a_folder_that_cannot_be_written_does_not_stop_an_evaluation(chain):
    path = chain / "dev1" / "model" / "provenance.json"
    path.chmod(0o444)
    if os.access(path, os.W_OK):  # root may
        path.unlink()
    records.measured(path.parent, {"task": "countdown", "measures": {}})

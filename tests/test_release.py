"""Releasing a model: each frequent mistake is refused with a line that mends it.

The model is real (a small chain from a seed), the folder is broken in one way at a time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from r1lab import models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.cli import main
from r1lab.release import publish, tools
from r1lab.release.publish import check
from r1lab.tasks import get_task
from r1lab.templates import render
from r1lab.training import card, provenance, records
from r1lab.training.stages import stage
from r1lab.world.pretrain import PretrainConfig, pretrain

MEASURED = {
    "task": "countdown", "split": "held_out", "n": 8, "k": 2, "settings": {},
    "measures": {"pass@1": [0.25, 0.1, 0.4], "cons@2": [None, None, None]},
}  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The model folder of a stage that changed the weights of a base a little; ready to go out."""
    out = tmp_path_factory.mktemp("release")
    config = PretrainConfig(steps=1, rows=1, row_length=64, width=32, heads=2, layers=1, ffn=32)
    pretrain(config, out / "base", progress=False)

    def make(folder):
        model, tokenizer = models.load(out / "base")
        with torch.no_grad():
            model.model.norm.weight += 0.01
        with files.atomic_dir(folder / "model") as whole:
            models.save(model, tokenizer, whole)
        return {}

    options = {"seed": 1, "template": "tiny"}
    stage("dev1", out / "dev1", {"base": out / "base"}, options, make, say=lambda line: None)
    folder = out / "dev1" / "model"
    publish.write_chat_template(folder, "tiny")
    records.measured(folder, MEASURED)
    return out


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run" / "dev1" / "model"


def change(path, **values):
    """Set values of a JSON file; None takes one out."""
    data = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not None}))


def retensor(folder, **tensors):
    path = folder / "model.safetensors"
    save_file(load_file(path) | tensors, path, {"format": "pt"})


def again(folder, **changes):
    """Write the record anew, as a training that left this folder would have."""
    record = records.read(folder)
    record = {k: v for k, v in record.items() if k not in ("id", "chain", "files")}
    return records.write(folder, record | changes)


def test_a_good_folder_passes_every_check(folder):
    assert check(folder) == []


# --- one mistake at a time -----------------------------------------------------------------------


def pickled(folder):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")


def left_state(folder):
    torch.save({"lr": 1}, folder / "optimizer.pt")
    (folder / "trainer_state.json").write_text("{}")


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def no_pad(folder):
    change(folder / "generation_config.json", pad_token_id=None)


def no_end(folder):
    change(folder / "generation_config.json", eos_token_id=None)


def other_end(folder):
    change(folder / "generation_config.json", eos_token_id=7)


def more_tokens(folder):
    data = json.loads((folder / "tokenizer.json").read_text())
    size = len(data["model"]["vocab"])
    data["added_tokens"].append(data["added_tokens"][0] | {"id": size, "content": "<|new|>"})
    (folder / "tokenizer.json").write_text(json.dumps(data))


def not_a_number(folder):
    weight = load_file(folder / "model.safetensors")["model.norm.weight"]
    weight[0] = float("nan")
    retensor(folder, **{"model.norm.weight": weight})


def untied(folder):
    head = load_file(folder / "model.safetensors")["model.embed_tokens.weight"] + 1
    retensor(folder, **{"lm_head.weight": head})


def no_head(folder):
    change(folder / "config.json", tie_word_embeddings=False)


def lost_shard(folder):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    save_file({n: weights[n] for n in names[:2]}, folder / "model-00001-of-00002.safetensors",
              {"format": "pt"})  # fmt: skip
    index = {n: f"model-0000{1 + (n not in names[:2])}-of-00002.safetensors" for n in names}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))


def no_index(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")


def no_chat(folder):
    (folder / "chat_template.jinja").unlink()


def no_licence(folder):
    again(folder, license=None)


def wrong_licence(folder):
    again(folder, license="other")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# x\n")


def hub_base(folder):
    (folder / "README.md").write_text("---\nbase_model: somebody/else\n---\n# x\n")
    source = {"hub": "Qwen/Qwen2.5-0.5B"}
    adapted = records.adapted(source)
    entry = {"name": source["hub"], "at": None, "content": source["hub"], "record": adapted["id"]}
    again(folder, parents={"model": entry | {"license": "apache-2.0"}}, license="apache-2.0")


def a_path(folder):
    change(folder / "config.json", _name_or_path="/home/alice/runs/model")


def a_path_in_the_tokenizer(folder):
    change(folder / "tokenizer_config.json", name_or_path="C:\\Users\\alice\\model")


def a_key(folder):
    (folder / "notes.md").write_text(f"token = hf_{'aB3' * 11}")


def a_changed_file(folder):
    change(folder / "config.json", max_position_embeddings=1024)


def a_changed_parent(folder):
    change(folder.parent.parent / "base" / "pretrain.json", loss=0.0)


def no_record(folder):
    (folder / "provenance.json").unlink()


def not_measured(folder):
    again(folder, measured=[])


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


MISTAKES = {  # what is done to the folder: the check that finds it, what it says, how to mend it
    pickled: ("pickle", "pytorch_model.bin is a pickle", "save_pretrained"),
    left_state: ("training state", "optimizer.pt, trainer_state.json", "delete these files"),
    no_tokenizer: ("tokenizer", "no tokenizer in the folder", "tokenizer.save_pretrained"),
    no_pad: ("generation config", "no pad_token_id", "generation_config.eos_token_id"),
    no_end: ("generation config", "no eos_token_id", "generation_config.eos_token_id"),
    other_end: ("generation config", "ends texts with [7], the tokenizer with 0", "save"),
    more_tokens: ("vocabulary", "embeddings", "resize_token_embeddings"),
    not_a_number: ("weights", "1 tensors hold NaN or infinity", "last checkpoint"),
    untied: ("tied weights", "two different ones", "tie_word_embeddings to false"),
    no_head: ("tied weights", "the file has no lm_head", "tie_word_embeddings to true"),
    lost_shard: ("shards", "missing: model-00002-of-00002.safetensors", "copy all of its files"),
    no_index: ("shards", "model.safetensors.index.json is missing", "save the model again"),
    no_chat: ("chat template", "no chat template", "--chat-template tiny"),
    no_licence: ("licence", "nobody may use it", "--license ID"),
    wrong_licence: ("licence", "says mit, and its parents came under other", "--license other"),
    hub_base: ("base model", "Qwen/Qwen2.5-0.5B", "--base-model Qwen/Qwen2.5-0.5B"),
    a_path: ("machine path", "_name_or_path in config.json", "delete _name_or_path"),
    a_path_in_the_tokenizer: ("machine path", "tokenizer_config.json tells", "take it out"),
    a_key: ("secret", "notes.md holds a key of Hugging Face (hf_aB3a…)", "revoke the key"),
    a_changed_file: ("ledger", "config.json was changed", "restore the file"),
    a_changed_parent: ("ledger", "base is not what it was made from", "make the stage again"),
    no_record: ("ledger", "there is no provenance.json", "train it"),
    not_measured: ("evaluation", "no evaluation is recorded", "r1lab eval"),
    no_weights: ("shards", "no weights", "save the model again"),
    cut_off: ("loading", "model.safetensors", "save_pretrained"),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_refused_and_mended_by_its_line(folder, mistake, capsys):
    mistake(folder)
    before = sorted(path.name for path in folder.iterdir())
    faults = check(folder)
    name, words, mend = MISTAKES[mistake]
    found = [one for one in faults if one.check == name and words in one.words]
    assert found and mend in found[0].mend, faults
    assert main(["release", str(folder)]) == 1
    said = capsys.readouterr().out
    assert words in said and "mend: " in said and "not released" in said
    assert sorted(path.name for path in folder.iterdir()) == before  # nothing was written
    with pytest.raises(R1LabError, match="not released"):
        publish.write(folder)


def test_no_mistake_is_found_by_a_check_of_something_else(folder, made, tmp_path):
    """A mistake in one place is told there: it does not set off the checks of other places."""
    for mistake in (no_chat, no_licence, a_key, not_measured, other_end, pickled, left_state):
        copy = tmp_path / mistake.__name__ / "dev1" / "model"
        shutil.copytree(made, copy.parent.parent)
        mistake(copy)
        assert {one.check for one in check(copy)} <= {MISTAKES[mistake][0], "ledger"}
        assert len({one.check for one in check(copy)} - {"ledger"}) == 1


def test_the_mending_lines_mend(folder):
    no_chat(folder)
    publish.write_chat_template(folder, "tiny")
    no_licence(folder)
    assert check(folder) != [] and check(folder, license="apache-2.0") == []
    hub_base(folder)
    assert [one.check for one in check(folder)] == ["base model"]
    assert check(folder, base_model="Qwen/Qwen2.5-0.5B") == []


def test_a_folder_that_is_no_model_says_so(tmp_path):
    with pytest.raises(R1LabError, match="no config.json"):
        check(tmp_path)


def test_words_that_only_look_like_paths_or_keys_are_let_through(folder):
    text = "see https://example.org/home/page and data/tiny, a/b or sk-learn, hf_hub, r1lab/home/x"
    (folder / "notes.md").write_text(text)
    assert check(folder) == []


# --- what is written -----------------------------------------------------------------------------


def test_card_results_and_checksums(folder):
    written = publish.write(folder)
    assert [path.name for path in written] == ["README.md", "SHA256SUMS"]
    made_card = ModelCard((folder / "README.md").read_text())
    assert made_card.data.license == "mit" and made_card.data.pipeline_tag == "text-generation"
    (result,) = made_card.data.eval_results  # NaN is no result
    assert (result.metric_type, result.metric_value) == ("pass@1", 0.25)
    assert result.dataset_name == "countdown (held_out)" and "0.1 to 0.4" in result.metric_name
    for heading in card.SECTIONS:
        assert heading in made_card.text
    assert "seed 0 of the generator" in made_card.text
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0 and done.stdout.count(b"OK") == len(list(folder.iterdir())) - 2
    models.load(folder)
    assert check(folder) == [] and publish.changed(folder) == []
    first = (folder / "README.md").read_text()
    publish.write(folder)  # again: the same card, once
    assert (folder / "README.md").read_text() == first and first.count(card.MARKS[0]) == 1


def test_a_result_on_a_benchmark_of_the_hub_gets_its_file(folder):
    entry = MEASURED | {"task": "gsm8k", "n": 1319}
    records.measured(folder, entry)
    names = {path.relative_to(folder).as_posix() for path in publish.write(folder)}
    assert ".eval_results/gsm8k.yaml" in names
    (row,) = yaml.safe_load((folder / ".eval_results" / "gsm8k.yaml").read_text())
    parsed = huggingface_hub.parse_eval_result_entries([row])[0]
    assert (parsed.dataset_id, parsed.task_id, parsed.value) == ("openai/gsm8k", "gsm8k", 25.0)


def test_a_card_that_is_there_keeps_its_words(folder):
    old = "---\nlicense: mit\ntags: [mine]\n---\n# My model\n\nI like it.\n"
    (folder / "README.md").write_text(old)
    publish.write(folder)
    text = (folder / "README.md").read_text()
    assert "# My model\n\nI like it." in text and "- mine" in text and card.SECTIONS[0] in text
    assert ModelCard(text).data.tags == ["mine"]


def test_the_card_of_a_base_model_is_completed_too(made, tmp_path):
    shutil.copytree(made / "base", tmp_path / "base")
    text = card.text(provenance.tree(tmp_path / "base"), (tmp_path / "base/README.md").read_text())
    assert "## Data statement" in text and "## Where it comes from" in text
    assert ModelCard(text).data.license == "mit"


def test_the_command_writes_tells_what_was_not_tried_and_pushes_only_when_asked(
    folder, capsys, monkeypatch
):
    def never(*args, **more):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", never)
    monkeypatch.delenv(tools.LLAMA_CPP, raising=False)
    assert main(["release", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "17 checks passed" in said and "--push OWNER/NAME publishes it" in said
    assert "GGUF: not tried: convert_hf_to_gguf.py is not here" in said
    assert "vLLM: not tried" in said or "vLLM: loads" in said


def test_the_push_sends_what_was_checked(folder, monkeypatch):
    sent = {}

    class Hub:
        def create_repo(self, name, private, exist_ok):
            assert private
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{name}")

        def upload_folder(self, folder_path, repo_id, commit_message, ignore_patterns):
            sent[repo_id] = sorted(path.name for path in Path(folder_path).iterdir())

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    publish.write(folder)
    assert publish.push(folder, "me/model") == "me/model"
    assert {"README.md", "SHA256SUMS", "model.safetensors"} <= set(sent["me/model"])
    (folder / "extra.txt").write_text("not checked")
    with pytest.raises(R1LabError, match="extra.txt differs from SHA256SUMS"):
        publish.push(folder, "me/model")
    with pytest.raises(R1LabError, match="cannot push to 'no name'"):
        (folder / "extra.txt").unlink()
        publish.push(folder, "no name")


def test_the_chat_template_makes_the_prompts_of_the_training(folder):
    tokenizer = models.load(folder)[1]
    shutil.copy(folder / "chat_template.jinja", folder / "kept")
    task = get_task("countdown", wording="tiny")
    seen = set()
    for problem in task.problems("train", 20):
        messages = [{"role": "user", "content": problem.question}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert prompt == render(problem, "tiny")
        seen.add(problem.language)
    assert seen == {"en", "zh"}
    publish.write_chat_template(folder, "r1_zero")  # braces, quotes and tags in a text stay
    tokenizer = models.load(folder)[1]
    problem = task.problems("train", 1)[0]
    messages = [{"role": "user", "content": problem.question}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == render(problem, "r1_zero")


@pytest.mark.parametrize(("code", "outcome"), [
    ("import sys, pathlib; pathlib.Path(sys.argv[3]).write_text(sys.argv[1])", "loads"),
    ("raise SystemExit('this model is not known')", "fails: this model is not known"),
])  # fmt: skip
def test_the_converter_to_gguf_is_run_where_it_is(folder, tmp_path, monkeypatch, code, outcome):
    (tmp_path / tools.CONVERTER).write_text(code)
    monkeypatch.setenv(tools.LLAMA_CPP, str(tmp_path))
    assert tools.tried(folder)["GGUF"] == outcome
    assert sys.executable and not list(folder.glob("*.gguf"))


def test_a_released_folder_is_still_replaced_by_the_next_training(folder):
    """What release adds does not make the folder a stranger's (`files.atomic_dir`)."""
    publish.write(folder)
    with files.atomic_dir(folder) as new:
        (new / "model.safetensors").touch()
    assert not list(folder.parent.glob("earlier-*"))

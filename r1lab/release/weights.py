"""Mistakes in weights, tokenizer and configuration. Weights are read from safetensors alone, and no
code that comes with a model runs."""

from collections.abc import Iterator

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from r1lab.basics.errors import R1LabError, first_line
from r1lab.basics.files import read_json
from r1lab.models import read
from r1lab.release.folder import PICKLES, Fault, Release


def pickles(one: Release) -> Iterator[Fault]:
    """Weights as pickles."""
    for path in one.files:
        if path.suffix in PICKLES and path not in one.states:
            words = f"{path} is a pickle, which can run code on who loads it"
            mend = "save the model with model.save_pretrained (safetensors) and delete this file"
            yield Fault("pickle", words, mend)


def states(one: Release) -> Iterator[Fault]:
    """What a training leaves behind."""
    if left := one.states:
        some = ", ".join(map(str, left[:3])) + (", ..." if len(left) > 3 else "")
        size = sum((one.folder / path).stat().st_size for path in left) / 1e6
        words = f"{some}: state of the training ({size:,.1f} MB), no use to others"
        mend = "delete these files (the model loads without them)"
        yield Fault("training state", words, mend)


def shards(one: Release) -> Iterator[Fault]:
    """An index of shards that does not fit them."""
    mend = "save the model again in one go (model.save_pretrained), or copy all of its files"
    if not any(path.suffix in (".safetensors", *PICKLES) for path in one.files):
        yield Fault("shards", "there are no weights (*.safetensors) in the folder", mend)
    path = one.folder / "model.safetensors.index.json"
    if not path.exists():
        if any("-of-" in str(name) for name in one.files):
            words = "its weights are in shards, and model.safetensors.index.json is missing"
            yield Fault("shards", words, mend)
        return
    index = (read_json(path) or {}).get("weight_map") or {}
    lost = sorted({file for file in index.values() if not (one.folder / file).is_file()})
    wrong = [n for n, file in index.items() if n not in one.weights and file not in lost]
    extra = sorted(set(one.weights) - set(index))
    for words in (
        f"the index names files that are missing: {', '.join(lost[:3])}" if lost else "",
        f"the index names {len(wrong)} tensors that no file has, {wrong[0]}" if wrong else "",
        f"the files have {len(extra)} tensors that the index lacks, {extra[0]}" if extra else "",
    ):
        if words:
            yield Fault("shards", words, mend)


def tokenizer(one: Release) -> Iterator[Fault]:
    """A tokenizer that is missing or cannot be read."""
    names = {str(path) for path in one.files}
    mend = "save it beside the weights: tokenizer.save_pretrained(folder)"
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"}:
        yield Fault("tokenizer", "there is no tokenizer in the folder", mend)
    elif one.tokenizer is None:
        yield Fault("tokenizer", "its tokenizer cannot be loaded", mend)


def endings(one: Release) -> Iterator[Fault]:
    """A generation config without the ids that end and pad a text, or other ones."""
    if not one.generates:
        return
    found = read_json(one.folder / "generation_config.json")
    mend = "set model.generation_config.eos_token_id and .pad_token_id as in the tokenizer; save it"
    if found is None:
        yield Fault("generation config", "there is no generation_config.json", mend)
        return
    for name in ("eos_token_id", "pad_token_id"):
        if found.get(name) is None:
            words = f"generation_config.json has no {name}: "
            words += "sampling would not end" if name[0] == "e" else "batches cannot be padded"
            yield Fault("generation config", words, mend)
    own = getattr(one.tokenizer, "eos_token_id", None)
    ends = found.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    if own is not None and ends != [None] and own not in ends:
        words = f"generation_config.json ends texts with {ends}, the tokenizer with {own}"
        yield Fault("generation config", words, mend)


def vocabulary(one: Release) -> Iterator[Fault]:
    """Tokens without an embedding."""
    names = [name for name in one.weights if name.endswith(("embed_tokens.weight", "wte.weight"))]
    if one.tokenizer is None or not names:
        return
    rows, most = one.tensor(names[0]).shape[0], max(one.tokenizer.get_vocab().values(), default=-1)
    if most >= rows:
        words = f"the tokenizer has ids up to {most}, the model {rows} embeddings"
        mend = "model.resize_token_embeddings(len(tokenizer)), train the new rows, and save both"
        yield Fault("vocabulary", words, mend)


def numbers(one: Release) -> Iterator[Fault]:
    """Weights that are NaN or infinite."""
    if bad := [n for n in one.weights if not one.tensor(n).isfinite().all()]:
        words = f"{len(bad)} tensors hold NaN or infinity, {bad[0]} first"
        mend = "this model is broken: go back to the last checkpoint that was whole"
        yield Fault("weights", words, mend)


def ties(one: Release) -> Iterator[Fault]:
    """An output layer that the config says is the embedding, and is not; or the other way."""
    head = next((name for name in one.weights if name.endswith("lm_head.weight")), None)
    body = next((name for name in one.weights if name.endswith("embed_tokens.weight")), None)
    tied = one.config.get("tie_word_embeddings", False)
    if not one.generates or body is None:
        return
    if tied and head and not torch.equal(one.tensor(head), one.tensor(body)):
        words = "config.json ties lm_head to the embeddings, and the file has two different ones"
        mend = "set tie_word_embeddings to false in config.json (else lm_head is thrown away)"
        yield Fault("tied weights", words, mend)
    if not tied and head is None:
        words = "config.json does not tie lm_head to the embeddings, and the file has no lm_head"
        mend = "set tie_word_embeddings to true in config.json, or save lm_head.weight"
        yield Fault("tied weights", words, mend)


def chat_template(one: Release) -> Iterator[Fault]:
    """A trained model that nobody can talk to as it was trained."""
    trained = one.tree is None or one.tree.what not in ("pretrain", "reward_model", "downloaded")
    if one.generates and trained and one.tokenizer and not one.tokenizer.chat_template:
        used = (one.tree.record["config"].get("template") if one.tree else None) or "NAME"
        words = "the tokenizer has no chat template: servers would guess the prompt"
        mend = f"--chat-template {used} writes the one that it was trained with"
        yield Fault("chat template", words, mend)


def loads(one: Release) -> Iterator[Fault]:
    """A folder that transformers does not load, or whose model computes no numbers."""
    kind = AutoModelForCausalLM if one.generates else AutoModelForSequenceClassification
    mend = "save model and tokenizer again with save_pretrained, and keep all files of it"
    try:
        model, _ = read(one.folder, kind, name=one.folder.name)
        with torch.no_grad():
            out = model.eval()(torch.tensor([[0]])).logits
        if not out.isfinite().all():
            yield Fault("loading", "its first logits are not finite", mend)
    except R1LabError as error:
        yield Fault("loading", first_line(error), mend)

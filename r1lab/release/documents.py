"""Mistakes in what is said about a model, and in what should not be said."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from r1lab.basics.files import read_json
from r1lab.release.folder import Fault, Release
from r1lab.training import card, records

TEXTS = (".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".jinja", ".py", ".toml", ".cfg", "")
SECRETS = {  # shapes of keys, by whose they are
    "Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "OpenAI or Anthropic": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "GitHub": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "AWS": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "Google": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}
PATHS = re.compile(
    r"(?<![\w.:/])(/(home|Users|root|mnt|tmp|var|scratch|workspace|content|data)/[\w.-]+[^\s\"'`|)]*)"
    r"|\b([A-Z]:\\{1,2}(Users|Documents)\\{1,2}[^\s\"']+)"
)
OPEN = ("mit", "apache-2.0")


def licence(one: Release) -> Iterator[Fault]:
    """A licence that is missing, or more than the chain allows."""
    chain = one.tree.record.get("license") if one.tree else None
    said = one.license or one.matter.get("license") or chain
    if not said:
        words = "no licence: by law nobody may use it, and the chain of models tells none"
        mend = "--license ID (one of https://huggingface.co/docs/hub/repositories-licenses)"
        yield Fault("licence", words, mend)
    elif chain and said != chain and (chain not in OPEN or chain == "apache-2.0" != said):
        origins = ", ".join(card.base_models(one.tree)) or "its parents"
        words = f"the card says {said}, and {origins} came under {chain}, which binds this"
        yield Fault("licence", words, f"--license {chain}")


def base_model(one: Release) -> Iterator[Fault]:
    """A model of the hub in the chain that the card does not name."""
    known = card.base_models(one.tree) if one.tree else []
    said = one.base_model or one.matter.get("base_model") or known
    said = [said] if isinstance(said, str) else said
    if lacking := [name for name in known if name not in said]:
        words = f"the card does not name {', '.join(lacking)} as base_model"
        yield Fault("base model", words, f"--base-model {lacking[0]}")
    unknown = [node.name for node in one.tree.walk() if node.record is None] if one.tree else []
    if unknown and not said:
        words = f"nothing tells where {', '.join(unknown)} comes from"
        yield Fault("base model", words, "--base-model OWNER/NAME, its id on the hub")


def ledger(one: Release) -> Iterator[Fault]:
    """Files that are not what was recorded, and a model without a record."""
    if one.tree is None:
        words = f"there is no {records.RECORD}: nobody can tell what it was made from"
        mend = "train it with this version of r1lab (train, pipeline), which writes one"
        yield Fault("ledger", words, mend)
        return
    for words in one.tree.faults():
        mend = "restore the file, or make the stage again: `r1lab ledger FOLDER` shows the tree"
        yield Fault("ledger", words, mend)


def evaluations(one: Release) -> Iterator[Fault]:
    """A model that nobody has measured."""
    if one.tree and one.generates and not one.tree.record["measured"]:
        words = "no evaluation is recorded: the card could not say what the model can do"
        yield Fault("evaluation", words, "r1lab eval --model FOLDER (it adds to the record)")


def complete(one: Release) -> Iterator[Fault]:
    """A card without the parts that a reader needs."""
    lacking = [name.strip("# ") for name in card.SECTIONS if name not in one.card]
    lacking += [name for name in ("library_name", "pipeline_tag") if not one.matter.get(name)]
    if one.tree is not None and lacking:
        mend = "delete README.md, and it is written anew from the record"
        yield Fault("card", f"the card lacks {', '.join(lacking)}", mend)


def texts(one: Release) -> Iterator[tuple[Path, str]]:
    """The text files, without the words that a tokenizer knows; headers of weights too."""
    for path in one.files:
        whole = one.folder / path
        if path.suffix == ".safetensors":
            try:
                with safe_open(whole, "pt") as kept:
                    yield path, json.dumps(kept.metadata() or {})
            except (SafetensorError, OSError):
                continue
        elif path.suffix in TEXTS and path.name not in ("vocab.json", "vocab.txt", "merges.txt"):
            text = whole.read_text(encoding="utf-8", errors="replace")
            if path.name == "tokenizer.json" and (data := read_json(whole)):
                text = json.dumps({k: v for k, v in data.items() if k not in ("model",)})
            yield path, text
    if one.card:
        yield Path("README.md"), one.card


def secrets(one: Release) -> Iterator[Fault]:
    """Keys and tokens."""
    for path, text in texts(one):
        for whose, shape in SECRETS.items():
            if found := shape.search(text):
                words = f"{path} holds a key of {whose} ({found[0][:7]}…)"
                mend = "revoke the key now, it is no secret any more, and take it out of the file"
                yield Fault("secret", words, mend)


def machine_paths(one: Release) -> Iterator[Fault]:
    """Paths of somebody's machine."""
    for path, text in texts(one):
        if found := PATHS.search(text):
            where = "_name_or_path in " if f'"_name_or_path": "{found[0]}' in text else ""
            words = f"{where}{path} tells a path of a machine: {found[0][:60]}"
            mend = "take it out of the file (of config.json: delete _name_or_path)"
            yield Fault("machine path", words, mend)

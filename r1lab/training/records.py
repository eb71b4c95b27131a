"""The record beside a model's weights: what it was made from, and what that cost.

    provenance.json   what it is, its files' SHA-256, its parents (weights, data), code,
                      configuration and seeds; machine, seconds, kWh, dollars, tokens; evaluations

A record's `id` is the SHA-256 of what it says, and it holds its parents' ids; `chain` holds copies
of all earlier records, so that a model that was copied elsewhere keeps its history. A base model's
record is its pretrain.json, that of smollm2-135m its origin.json. No record names a machine or a
path outside the project: parents are found by relative paths. `provenance` reads the tree.
"""

import functools
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import safe_open

from r1lab import PACKAGE, ROOT, __version__, models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.machine import about, costs, energy
from r1lab.models.smollm2 import EMBEDDED

RECORD, PRETRAINED, GIVEN = "provenance.json", "pretrain.json", "origin.json"
LATER = ("id", "chain", "measured")  # not part of a record's id
UNHASHED = (RECORD, PRETRAINED, files.MARK, "README.md", "SHA256SUMS", ".gitattributes")


# --- what a record is made of ---------------------------------------------------------------------


def content(source: str | os.PathLike, known: Mapping[str, str] | None = None) -> str:
    """The SHA-256 of a file, or of a model folder's weights and tokenizer; a hub id stays. known:
    SHA-256 of its files by name, where they have just been computed."""
    path = Path(models.resolve(source)) if not Path(source).exists() else Path(source)

    def sha256(file: Path) -> str:
        return (known or {}).get(file.name) or files.digest_of(file)

    if path.is_file():
        return sha256(path)
    if path.is_dir():
        tokenizer = path.glob("tokenizer.json")
        parts = [p for p in path.iterdir() if p.suffix == ".safetensors"]
        sums = [f"{p.name} {sha256(p)}" for p in sorted([*parts, *tokenizer])]
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()
    return str(source)


def digest(data: Any) -> str:
    """The SHA-256 of JSON, whatever its order and spaces."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def id_of(record: Mapping[str, Any]) -> str:
    """The id that a record should have: of what it says, or of the file that it was read from."""
    core = {name: value for name, value in record.items() if name not in LATER}
    return digest(record.get("source", core))


@functools.cache
def code() -> dict[str, str]:
    """The package: its version, and the SHA-256 of its source."""
    found = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        found.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode() + path.read_bytes())
    return {"r1lab": __version__, "source": found.hexdigest()}


@functools.cache
def machine() -> dict[str, Any]:
    """Hardware and versions, without a name of the machine."""
    return about.hardware() | {"versions": about.versions()}


def cost(seconds: float, tokens: int | None = None, gauge: energy.Gauge | None = None) -> dict:
    """What a run took: seconds, devices that ran for them (GPUs, else the one machine), kWh and how
    they are known, dollars by the price table (None without a price), tokens."""
    rent = costs.rent_here()
    price, gpus = (rent[0].dollars_per_hour, rent[1]) if rent else (None, 1)
    found = {"seconds": round(seconds, 3), "devices": gpus}
    found |= energy.kwh(seconds, gauge, machine()["cores"])
    found["dollars"] = None if price is None else costs.dollars(seconds, price, gpus)
    found["price"] = rent[0].words() if rent else None
    return found | {"tokens": tokens}


def parent(source: str | os.PathLike, folder: Path, known: str | None = None) -> dict[str, Any]:
    """How a record in `folder` names what it was made from: name, where (relative, or None), its
    `content` (known: already computed), id and licence of its record (None without one)."""
    record, path = read(source) or {}, Path(source)
    short = next((name for name in EMBEDDED if _same_place(source, name)), None)
    name = short or (str(source) if not path.exists() else name_of(path))
    at = None if short or not path.exists() else _relative(path, folder)
    found = {"name": name, "at": at, "content": known or content(source)}
    return found | {"record": record.get("id"), "license": record.get("license")}


def origin(model, folder: Path) -> dict[str, Any]:
    """{"model": parent} of a model that is about to be trained into `folder`: the folder or hub id
    that it was loaded from, if its weights are still those; {} for new weights."""
    source = getattr(model.config, "_name_or_path", "")
    if not source:
        return {}
    if not Path(source).is_dir():
        revision = getattr(model.config, "_commit_hash", None)
        return {"model": parent(source, folder) | {"revision": revision}}
    if holds(model, Path(source)):
        return {"model": parent(source, folder)}
    words = "unknown: its weights were changed after they had been loaded"
    return {"model": dict.fromkeys(("at", "content", "record", "license")) | {"name": words}}


def holds(model, folder: Path) -> bool:
    """Are the first rows of a model's parameters those in a folder's safetensors?"""
    weights, seen = dict(model.named_parameters()), 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as kept:
            for name in set(kept.keys()) & set(weights):
                row = kept.get_slice(name)[:1]
                now, seen = weights[name].detach()[:1].cpu(), seen + 1
                if row.shape != now.shape or not (row.float() == now.float()).all():
                    return False
    return seen > 0


def name_of(path: Path) -> str:
    """What a folder or file is called in a ledger: its own name, or its run's."""
    whole = path.resolve()
    whole = whole.parent if whole.is_file() else whole
    return whole.parent.name if whole.name in ("model", "adapter") else whole.name


def _same_place(source: str | os.PathLike, name: str) -> bool:
    folder = files.data_dir() / name
    return str(source) == name or (folder.exists() and Path(source).resolve() == folder.resolve())


def _relative(path: Path, folder: Path) -> str | None:
    """The way from one folder to another, unless it would tell names above project, home, or the
    folder for temporary files."""
    here, there = Path(folder).resolve(), path.resolve()
    common = Path(os.path.commonpath([here, there]))
    roots = [Path(one).resolve() for one in (ROOT, Path.home(), Path.cwd(), tempfile.gettempdir())]
    inside = any(root in (common, *common.parents) for root in roots if len(root.parts) > 1)
    return Path(os.path.relpath(there, here)).as_posix() if inside else None


# --- writing --------------------------------------------------------------------------------------


def new(what: str, name: str, parents: Mapping[str, Any], config: Mapping, spent: Mapping) -> dict:
    """A record without files. what: "grpo", "sft", ...; parents: by role; spent: of `cost`."""
    config = json.loads(json.dumps(config, default=str))
    return {
        "what": what, "name": name, "parents": dict(parents), "config": config,
        "seeds": {key: value for key, value in config.items() if "seed" in key},
        "code": code(), "machine": machine(), "cost": dict(spent),
        "license": strictest([entry["license"] for entry in parents.values()]),
        "when": time.strftime("%Y-%m-%d"), "measured": [],
    }  # fmt: skip


def strictest(licences: list[str | None]) -> str | None:
    """The licence of what was made from these: MIT or Apache-2.0 where all are that open; None
    where one is not known."""
    order = {None: 3, "apache-2.0": 1, "mit": 0}
    return max(licences, key=lambda one: order.get(one, 2), default=None)


def write(
    folder: Path, record: dict, where: Path | None = None, spend: Callable[[], dict] | None = None
) -> dict[str, Any]:
    """Put a record beside the files in `folder`, with their hashes, its id, and copies of the
    records before it. where: the folder that it will be, if it is still under a temporary name;
    spend(): its cost, asked when all else is done."""
    folder = Path(folder)
    record = record | {"files": record.get("files") or sums_of(folder)}
    chain: dict[str, Any] = {}
    for entry in record["parents"].values():
        earlier = find(entry, where or folder)
        before = read(earlier) if earlier is not None else None
        if before is not None and before["id"] == entry["record"]:
            chain |= before.get("chain", {})
            chain[before["id"]] = {k: v for k, v in before.items() if k not in ("chain", "id")}
    kept = files.to_json(chain)  # on one line: what a reader looks for is above it
    if spend is not None:
        record["cost"] = spend() | {k: v for k, v in record["cost"].items() if v is not None}
    record["id"] = id_of(record)
    text = files.to_json(record, indent=1).removesuffix("\n}")
    beside = folder / f"{files.UNFINISHED}{RECORD}"  # not synced: that would take uncounted time
    beside.write_text(f'{text},\n "chain": {kept}\n}}\n', encoding="utf-8")
    os.replace(beside, folder / RECORD)
    ours(folder, RECORD)
    return record | {"chain": chain}


def knows(path: Path, name: str) -> bool:
    """Has what a stage wrote a record of that stage?"""
    return (read(path) or {}).get("name") == name


def sums_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in a model folder, by its name, without records and cards."""
    kept = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in UNHASHED]
    return {p.relative_to(folder).as_posix(): files.digest_of(p) for p in kept}


def ours(folder: Path, *names: str) -> None:
    """Add names to those that r1lab made in a folder (`files.atomic_dir`)."""
    mark = folder / files.MARK
    if mark.is_file():
        made = {name for name in mark.read_text(encoding="utf-8").split("\n") if name}
        if not made >= set(names):
            mark.write_text("\n".join(sorted(made | set(names))), encoding="utf-8")


def of_stage(
    path: Path, stage: Mapping, reads: Mapping, spend: Callable[[], dict] | None = None
) -> dict[str, Any]:
    """Write the record of what a stage wrote: a model, whose trainer has left one, or a file.
    stage: its stage.json; reads: where its inputs are, by name; spend(): the cost of all of it,
    asked last; None for a stage of long ago, of which only stage.json's seconds are known."""
    folder, before = (path, read(path) or {}) if path.is_dir() else (path.parent, {})
    metrics, known = stage["metrics"], stage["reads"]
    drawn = metrics.get("tokens drawn", 0) + metrics.get("prompt tokens", 0)
    tokens = before.get("cost", {}).get("tokens") or metrics.get("tokens") or drawn or None
    parents = {role: parent(source, folder, known[role]) for role, source in reads.items()}
    sums = {path.name: files.digest_of(path)} if path.is_file() else sums_of(folder)
    what = before.get("what", "data" if path.is_file() else "model")
    config = before.get("config", {}) | stage["options"]
    record = new(what, stage["stage"], parents, config, {"tokens": tokens}) | {"files": sums}
    if spend is None:
        record |= {"code": {}, "machine": {}, "when": stage.get("when")}
        record["cost"] |= {"seconds": stage["seconds"], "devices": 1}
    return write(folder, record, spend=spend)


def measured(folder: str | os.PathLike, entry: Mapping[str, Any]) -> None:
    """Add an evaluation to a model's record (nothing where it has none that may be written): task,
    split, n, k, settings, measures {name: [value, low, high]}. It replaces one of equal settings.
    """
    path = Path(folder) / RECORD
    if not os.access(path, os.W_OK) or (record := files.read_json(path)) is None:
        return
    entry = dict(entry) | {"when": time.strftime("%Y-%m-%d"), "code": code()}
    entry = json.loads(json.dumps(entry, default=str))
    same = [k for k in entry if k not in ("measures", "when", "code", "seconds", "sha256")]
    others = [one for one in record["measured"] if any(one.get(k) != entry[k] for k in same)]
    record["measured"] = [*others, entry | {"sha256": digest(entry)}]
    files.write_json(path, record)


# --- reading --------------------------------------------------------------------------------------


def read(source: str | os.PathLike) -> dict[str, Any] | None:
    """The record of a model folder, a file that a stage wrote, or a hub id; None without one."""
    path = Path(source)
    if not path.exists():
        with suppress(R1LabError):
            path = Path(models.resolve(source))
        if not path.exists():
            return adapted({"hub": str(path)}) if len(path.parts) == 2 else None
    folder = path if path.is_dir() else path.parent
    if (record := files.read_json(folder / RECORD)) is not None:
        good = sound(record) and (path.is_dir() or path.name in record.get("files", {}))
        return record if good else None
    for name in (PRETRAINED, GIVEN) if path.is_dir() else ():
        if (source := files.read_json(folder / name)) is not None:
            with suppress(LookupError, TypeError, AttributeError):
                record = adapted(source)
            return record if sound(record) else None
    return None


def sound(record: Any) -> bool:
    """Has a record, perhaps a stranger's, what its readers look up, of the right types, and nothing
    that steers a terminal?"""
    try:
        spent, entries, sums = record["cost"], record["parents"], record.get("files", {})
        told = ("name", "at", "content", "record", "license")
        numbers = [spent.get(name) or 0 for name in ("devices", "kwh", "dollars", "tokens")]
        numbers += [record.get("machine", {}).get(name) or 1 for name in ("cores", "threads")]
        texts = [record["id"], record["what"], record.get("name", ""), spent.get("energy", "")]
        texts += [*entries, *(one[name] or "" for one in entries.values() for name in told)]
        texts += [*sums, *sums.values(), record.get("code", {}).get("source", "")]
        texts += [str(one.get("task")) for one in record["measured"]]
        texts += [str(seed) for seed in record.get("seeds", {}).values()]
        if record["what"] == "pretrain":
            texts += [str(record["seeds"]["seed"]), record["data"]["generator"]]
        if record["what"] == "downloaded":
            texts.append(record["base_model"])
        numbers.append(spent["seconds"])
        chain = record.get("chain", {})
    except (LookupError, TypeError, AttributeError):
        return False
    good = all(type(one) in (int, float) and 0 <= one < 1e18 for one in numbers)
    plain = all(isinstance(one, str) and one.isprintable() for one in texts)
    return good and plain and isinstance(chain, dict)


def adapted(source: Mapping[str, Any]) -> dict[str, Any] | None:
    """A pretrain.json, the origin.json of smollm2-135m or {"hub": id} as a record."""
    if "recipe" in source:
        recipe, nothing = source["recipe"], {"seconds": source["seconds"], "devices": 1}
        found = {"what": "pretrain", "config": recipe, "seeds": {"seed": recipe["seed"]}}
        found |= {"files": source["sha256"], "license": "mit", "code": source.get("code", {})}
        found["data"] = {"generator": "r1lab/world/corpus.py", "mixture": recipe["mixture"]}
        told = {name: source[name] for name in ("threads", "torch") if name in source}
        found |= {"machine": source.get("machine", told)}
        found["cost"] = source.get("cost", nothing) | {"tokens": source["tokens"]}
    elif "hub" in source or "origin" in source:
        known = models.origin(source["hub"]) if "hub" in source else {}
        licence = known.get("license") or source.get("licence", "").lower() or None
        hub_id = source.get("hub") or "HuggingFaceTB/SmolLM2-135M-Instruct"
        found = {"what": "downloaded", "base_model": hub_id, "license": licence}
        found["cost"] = {"seconds": 0.0, "devices": 0, "tokens": None}
    else:
        return None
    found |= {"source": dict(source), "parents": {}, "measured": []}
    return found | {"id": id_of(found)}


def find(entry: Mapping[str, Any], folder: Path) -> Path | None:
    """Where a parent is, or None."""
    if entry["name"] in EMBEDDED and not entry["at"]:
        path = files.data_dir() / entry["name"]
    elif entry["at"] is None:
        with suppress(R1LabError):
            return Path(models.resolve(entry["name"]))
        return None
    else:
        path = Path(os.path.normpath(folder.resolve() / entry["at"]))
    return path if path.exists() else None

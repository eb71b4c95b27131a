"""The ledger of a model: the tree of records back to the generator's seed, checked, and the bill.

    tree = provenance.tree("runs/pipeline/r1/model")
    print("\\n".join(provenance.lines(tree)))        # who was made from what
    tree.faults()                                   # [] while every byte is what was recorded
    provenance.bill(tree)                           # rows for a pandas.DataFrame

`tree` compares every file with its recorded hash, every parent with the hash that its child has of
it, and every record with its id, so a changed byte anywhere in the chain is noticed and named. This
finds damage and exchange. Whoever rewrites *all* records leaves no trace: keep the last id in
another place, or sign a release.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r1lab import models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.machine import costs, energy
from r1lab.training import records


@dataclass
class Node:
    """A model or data file of the tree. record: None where it left none; path: None where its
    files are not here; wrong: what does not fit at this node, in words."""

    name: str
    record: dict[str, Any] | None
    path: Path | None
    parents: dict[str, Node] = field(default_factory=dict)  # by role: "model", "base", "data", ...
    wrong: list[str] = field(default_factory=list)
    sums: dict[str, str] = field(default_factory=dict)  # SHA-256 of its files, where all fit

    @property
    def what(self) -> str:
        return self.record["what"] if self.record else "unknown"

    def walk(self) -> Iterator[Node]:
        """Every node once, ancestors first."""
        seen: dict[int, Node] = {}

        def visit(node: Node) -> None:
            for one in node.parents.values():
                visit(one)
            seen.setdefault(id(node), node)

        visit(self)
        return iter(seen.values())

    def faults(self) -> list[str]:
        """What does not fit anywhere in the tree; [] while all is as it was recorded."""
        return [f"{node.name}: {words}" for node in self.walk() for words in node.wrong]

    def unseen(self) -> list[str]:
        """Names of ancestors whose files are not here: only their records are checked."""
        return [node.name for node in self.walk() if node.path is None]


def tree(folder: str | os.PathLike) -> Node:
    """The tree of a model folder (or of a file that a stage wrote), with every hash compared.
    Raises R1LabError where there is no record."""
    path = Path(folder)
    path = path if path.exists() else Path(models.resolve(folder))
    if not path.exists() or (record := records.read(path)) is None:
        raise R1LabError(
            f"{folder} has no record of what it was made from ({records.RECORD}): training writes "
            "it beside the weights (train, pipeline, pretrain)"
        )
    name = record.get("name") or records.name_of(path)
    return _grown(Node(name, record, path), record.get("chain", {}), {})


def _grown(node: Node, chain: dict[str, Any], known: dict[str, Node]) -> Node:
    """The node with its ancestors. chain: records by id, for those whose files are not here."""
    record = node.record
    if record is None:
        return node
    if node.path is not None:
        node.wrong += _changed(node.path, record)
        node.sums = {} if node.wrong else record.get("files", {})
    if record["id"] != records.id_of(record):
        node.wrong.append(f"its record ({records.RECORD}) was changed: it has another id")
    for one in record["measured"]:
        if one.get("sha256") != records.digest({k: v for k, v in one.items() if k != "sha256"}):
            node.wrong.append(f"its evaluation on {one.get('task')} was changed in its record")
    for role, entry in record["parents"].items():
        key = f"{entry['record']} {entry['content']}"
        if key not in known:
            known[key] = _grown(_parent(entry, node, chain), chain, known)
        node.parents[role] = known[key]
        node.wrong += _unlike(entry, known[key])
    return node


def _parent(entry: dict[str, Any], child: Node, chain: dict[str, Any]) -> Node:
    """The node of a parent: where its child says, or its copy in the chain."""
    name, path = entry["name"], None
    if child.path is not None:
        start = child.path if child.path.is_dir() else child.path.parent
        path = records.find(entry, start)
    record = records.read(path if path is not None else name) if entry["record"] else None
    copy = chain.get(entry["record"])
    if path is None and record is None and isinstance(copy, dict):
        record = copy | {"id": entry["record"]}
        record = record if records.sound(record) else None
    return Node((record or {}).get("name") or name, record, path)


def _unlike(entry: dict[str, Any], parent: Node) -> list[str]:
    """Is a parent what its child was made from?"""
    where = f"{parent.name} is not what it was made from"
    if entry["record"] and parent.record is None:
        return [f"the record of {parent.name} is missing"]
    if parent.path is not None and records.content(parent.path, parent.sums) != entry["content"]:
        return [f"{where}: its weights or data have changed since"]
    if parent.record is not None and parent.record["id"] != entry["record"]:
        return [f"{where}: its record is another one"]
    return []


def _changed(path: Path, record: dict[str, Any]) -> list[str]:
    """The files that are not what was recorded, in words."""
    folder, wrong = path if path.is_dir() else path.parent, []
    for name, expected in record.get("files", {}).items():
        file = folder / name
        if not file.is_file():
            wrong.append(f"{name} is missing")
        elif (found := files.digest_of(file)) != expected:
            wrong.append(f"{name} was changed: SHA-256 {found[:12]}…, recorded {expected[:12]}…")
    return wrong


def lines(root: Node) -> list[str]:
    """The tree as text, each model above what it was made from; what comes twice is said once."""
    shown: set[int] = set()

    def draw(node: Node, role: str, indent: str) -> Iterator[str]:
        again = id(node) in shown
        yield f"{indent}{role}{node.name}: {'as above' if again else _about(node)}"
        if again:
            return
        shown.add(id(node))
        for one, parent in node.parents.items():
            yield from draw(parent, f"{one} ← " if one != parent.name else "← ", indent + "  ")
        if node.what == "pretrain":
            seed, by = node.record["seeds"]["seed"], node.record["data"]["generator"]
            yield f"{indent}  ← seed {seed} of the generator {by}"

    return list(draw(root, "", ""))


def _about(node: Node) -> str:
    if node.record is None:
        return "no record" + ("" if node.path else ", and its files are not here")
    spent, here = node.record["cost"], "" if node.path else ", files not here"
    sums = node.record.get("files", {})
    weights = next((v for k, v in sums.items() if k.endswith((".safetensors", ".jsonl"))), "")
    source = node.record.get("code", {}).get("source", "")
    parts = [
        node.what,
        costs.clock(spent["seconds"]) if node.what != "downloaded" else node.record["base_model"],
        f"sha256 {weights[:12]}" if weights else "",
        f"code {source[:12]}" if source else "",
        f"seed {node.record['seeds']['seed']}" if "seed" in node.record.get("seeds", {}) else "",
    ]
    return ", ".join(part for part in parts if part) + here


def bill(root: Node, dollars_per_hour: float | None = None) -> list[dict[str, Any]]:
    """What each model and data set of the tree cost, ancestors first: stage, what, seconds, hours
    (of all its devices), kwh, energy (how it is known), dollars, tokens, share (of all seconds).

    dollars_per_hour: of one device, for rows without a price of their own. Evaluations are not in
    it. A row without a record of energy is estimated at WATTS_PER_CORE and says so."""
    rows = []
    for node in root.walk():
        if node.record is None or node.what == "downloaded":
            continue
        spent, about = node.record["cost"], node.record.get("machine", {})
        hours = spent["seconds"] * spent.get("devices", 1) / 3600
        told = {name: spent[name] for name in ("kwh", "energy") if name in spent}
        if "kwh" not in told:
            told = energy.kwh(spent["seconds"], None, about.get("cores") or about.get("threads", 1))
        dollars = spent.get("dollars")
        if dollars is None and dollars_per_hour is not None:
            dollars = hours * dollars_per_hour
        row = {"stage": node.name, "what": node.what, "seconds": spent["seconds"], "hours": hours}
        rows.append(row | told | {"dollars": dollars, "tokens": spent.get("tokens")})
    total = sum(row["seconds"] for row in rows) or 1.0
    return [row | {"share": row["seconds"] / total} for row in rows]

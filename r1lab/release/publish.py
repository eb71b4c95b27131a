"""`r1lab release`: the checks, then the card, evaluation results, checksums, and the push.

    found = check(folder)                    # [] or Faults, each with a line that says how to mend
    write(folder)                            # README.md, .eval_results/, SHA256SUMS
    push(folder, "owner/name")               # where asked

`CHECKS` names the mistakes that are looked for. Nothing is written while one of them is there.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.models import hub
from r1lab.release import documents, weights
from r1lab.release.folder import Fault, Release
from r1lab.templates import get_template
from r1lab.training import card, provenance, records

SUMS, CARD, CHAT = "SHA256SUMS", "README.md", "chat_template.jinja"
CHECKS: dict[str, Callable[[Release], Iterator[Fault]]] = {
    "weights are safetensors": weights.pickles,
    "no state of the training": weights.states,
    "shards and their index fit": weights.shards,
    "a tokenizer": weights.tokenizer,
    "ids that end and pad a text": weights.endings,
    "an embedding for every token": weights.vocabulary,
    "finite weights": weights.numbers,
    "tied weights": weights.ties,
    "a chat template": weights.chat_template,
    "licence": documents.licence,
    "base model": documents.base_model,
    "ledger": documents.ledger,
    "evaluations": documents.evaluations,
    "a complete card": documents.complete,
    "no secret": documents.secrets,
    "no path of a machine": documents.machine_paths,
    "transformers loads it": weights.loads,
}


def check(folder: str | os.PathLike, license: str = "", base_model: str = "") -> list[Fault]:
    """Every mistake that is found in a model folder; [] where it may go out. license, base_model:
    what the user says for the card. Raises R1LabError for what is no model folder."""
    one = prepared(folder, license, base_model)
    found = [fault for look in CHECKS.values() for fault in look(one)]
    return list(dict.fromkeys(found))


def prepared(folder: str | os.PathLike, license: str = "", base_model: str = "") -> Release:
    """The folder as the checks read it, with the card that it would get."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise R1LabError(f"{folder} is no model folder: there is no config.json in it")
    tree = provenance.tree(folder) if records.read(folder) is not None else None
    one = Release(folder, license, base_model, tree=tree)
    if tree is not None:
        one.card = card.text(tree, one.readme, {"license": license, "base_model": base_model})
    return one


def write(folder: str | os.PathLike, license: str = "", base_model: str = "") -> list[Path]:
    """The card, the evaluation results in the hub's format and SHA256SUMS (`sha256sum -c` reads
    it); returns the files. Raises R1LabError where `check` finds a mistake."""
    folder = Path(folder)
    if found := check(folder, license, base_model):
        raise R1LabError(f"not released: {found[0].words}. Mend it: {found[0].mend}")
    one = prepared(folder, license, base_model)
    written = {CARD: one.card} | card.eval_files(one.tree)
    for name, text in written.items():
        files.atomic_write_text(folder / name, text)
    there = Release(folder).files
    sums = [f"{files.digest_of(folder / p)}  {p.as_posix()}\n" for p in there if p.name != SUMS]
    files.atomic_write_text(folder / SUMS, "".join(sums))
    records.ours(folder, SUMS, *{Path(name).parts[0] for name in written})
    return [folder / name for name in (*written, SUMS)]


def push(folder: str | os.PathLike, name: str) -> str:
    """Upload a folder that `write` has prepared to the hub's repository `name` (made, private, if
    new). Returns its id. Raises R1LabError for a folder whose files are not those of SHA256SUMS,
    and without network or permission."""
    folder = Path(folder)
    if wrong := changed(folder):
        raise R1LabError(f"not pushed: {wrong[0]} differs from {SUMS}; run `r1lab release` again")
    repository = hub.hub_ready(name)
    hub.push(folder, repository, ignore_patterns=[files.MARK])
    return repository


def changed(folder: Path) -> list[str]:
    """Names of files that are not as SHA256SUMS says, or that it lacks."""
    lines = files.lines_of(folder / SUMS)
    known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    names = {path.as_posix() for path in Release(folder).files} - {SUMS}
    return sorted(
        name
        for name in names | set(known)
        if name not in names or files.digest_of(folder / name) != known.get(name)
    )


def write_chat_template(folder: str | os.PathLike, template: str) -> Path:
    """Put one of r1lab's prompt templates into a model folder as its chat template, which
    transformers and servers read: the question as the user's message. Raises R1LabError."""
    path = Path(folder) / CHAT
    files.atomic_write_text(path, chat_template(template))
    records.ours(Path(folder), CHAT)
    return path


def chat_template(name: str) -> str:
    """A prompt template in jinja. A question with a Chinese character takes the Chinese text, where
    there is one; the prompt ends where the completion begins, so no generation prompt is added."""
    words = get_template(name).texts
    first = next(iter(words.values()))

    def turn(text: str) -> str:
        before, after = (json.dumps(part, ensure_ascii=False) for part in text.split("{question}"))
        return f"{{{{ {before} + message['content'] + {after} }}}}"

    user = turn(first)
    if "zh" in words and words["zh"] != first:
        user = (
            "{%- set seen = namespace(chinese=false) -%}{%- for c in message['content'] -%}"
            "{%- if '\u4e00' <= c <= '\u9fff' -%}{%- set seen.chinese = true -%}{%- endif -%}"
            "{%- endfor -%}{%- if seen.chinese -%}" + turn(words["zh"]) + "{%- else -%}" + user
            + "{%- endif -%}"
        )  # fmt: skip
    return (
        "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}"
        "{{ ' ' + message['content'] + (eos_token or '') }}{%- else -%}" + user
        + "{%- endif -%}{%- endfor -%}"
    )  # fmt: skip

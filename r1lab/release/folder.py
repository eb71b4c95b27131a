"""A model folder that is to be published, as the checks read it."""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer

from r1lab.basics.files import MARK, read_json
from r1lab.basics.quiet import quietly
from r1lab.training import card, provenance

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
STATES = re.compile(
    r"(optimizer|scheduler|rng_state|scaler|training_args|trainer_state)\b.*"
    r"|(optimizer|rng_state).*|step-\d+\.pt.*|checkpoint-\d+|global_step\d+|metrics\.jsonl"
)


class Fault(NamedTuple):
    """What is wrong, and what to do about it."""

    check: str
    words: str
    mend: str


@dataclass
class Release:
    """A model folder that is to be published. license, base_model: what the user says, "" for what
    the records and the card say."""

    folder: Path
    license: str = ""
    base_model: str = ""
    card: str = ""  # of the folder's README.md, as it will be; else as it is
    tree: provenance.Node | None = field(default=None)

    @cached_property
    def files(self) -> list[Path]:
        """All files, relative to the folder."""
        found = (path for path in self.folder.rglob("*") if path.is_file() and path.name != MARK)
        return sorted(path.relative_to(self.folder) for path in found)

    @cached_property
    def states(self) -> list[Path]:
        """Files of a training's state, relative to the folder."""
        return [path for path in self.files if any(STATES.fullmatch(part) for part in path.parts)]

    @cached_property
    def config(self) -> dict[str, Any]:
        return read_json(self.folder / "config.json") or {}

    @cached_property
    def weights(self) -> dict[str, Path]:
        """The file of each tensor, without files that cannot be read (`weights.loads` tells)."""
        found: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            with suppress(SafetensorError, OSError), safe_open(path, "pt") as kept:
                found |= dict.fromkeys(kept.keys(), path)
        return found

    def tensor(self, name: str) -> torch.Tensor:
        with safe_open(self.weights[name], "pt") as kept:
            return kept.get_tensor(name)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, or None where it cannot be loaded."""
        try:
            with quietly():
                return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except Exception:
            return None

    @property
    def readme(self) -> str:
        """The folder's README.md as it is."""
        path = self.folder / "README.md"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @cached_property
    def matter(self) -> dict[str, Any]:
        """The card's front matter."""
        return card.split(self.card or self.readme)[0]

    @property
    def generates(self) -> bool:
        kinds = self.config.get("architectures") or [""]
        return "SequenceClassification" not in kinds[0]

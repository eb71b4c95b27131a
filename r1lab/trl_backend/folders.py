"""Sealed checkpoint folders."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.trainer_pt_utils import safe_globals

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.quiet import quiet_bars
from r1lab.grpo import GRPOConfig
from r1lab.training.checkpoints import ADVICE, fingerprint, malformed, require_same_run
from r1lab.trl_backend.process import sharded

log = logging.getLogger(__name__)

SEAL = "r1lab.json"


def fingerprint_of(trainer) -> str:
    """Of the user's model; empty where no process has all of it."""
    if sharded(trainer) or hasattr(trainer.model, "peft_config"):
        return ""
    return fingerprint(trainer.accelerator.unwrap_model(trainer.model))


def newest_first(directory: Path) -> list[Path]:
    """Trainer's checkpoint folders, the latest first."""
    found = [f for f in directory.glob("checkpoint-*") if f.name.split("-")[-1].isdigit()]
    return sorted(found, key=lambda f: int(f.name.split("-")[-1]), reverse=True)


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Force a checkpoint's files to the disk and write, last, `about` and their checksums."""
    (folder / SEAL).unlink(missing_ok=True)
    sums = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        sums[str(path.relative_to(folder))] = files.digest_of(path)
    text = json.dumps(about | {"files": sums}, indent=1, ensure_ascii=False)
    files.atomic_write_text(folder / SEAL, text)


def seal_newest(folder: Path, about: dict[str, Any], keep: int) -> None:
    """`seal`, then delete all but the newest `keep` checkpoints."""
    seal(folder, about)
    for old in newest_first(folder.parent)[max(1, keep) :]:
        (old / SEAL).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None when it is what was saved."""
    sums = (files.read_json(folder / SEAL) or {}).get("files")
    if not isinstance(sums, dict):
        return "it was never finished (no checksums in it)"
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file() or files.digest_of(path) != expected:
            return f"it is damaged ({name} differs from what was saved)"
    for path in (p for p in folder.glob("*.pt*") if p.suffix in (".pt", ".pth")):
        try:  # as Trainer will read it: a pickle that is no state of ours runs no code
            with safe_globals():
                torch.load(path, map_location="meta", weights_only=True, mmap=True)
        except Exception as error:
            return f"{path.name} in it is no state that can be read ({type(error).__name__})"
    return None


def latest_of_run(out_dir: Path, model, names: Callable, steps: int) -> tuple[Path, dict] | None:
    """checkpoints.latest_of_run for Trainer's folders: the newest whole one, and its seal."""
    if any((out_dir / "checkpoints").glob("step-*.pt")):
        raise R1LabError(f"{out_dir} holds a run of the backend scratch. {ADVICE}")
    folders = newest_first(out_dir / "checkpoints")
    for folder in folders:
        problem = damage(folder)
        state = files.read_json(folder / SEAL) or {}
        needed = dict.fromkeys(("step", "base", "run", "now"))
        if (problem := problem or malformed(needed | state)) is None:
            require_same_run(out_dir, state, names(state["step"]), steps, model)
            return folder, state
        log.warning("checkpoint %s is not used: %s. Looking for the one before.", folder, problem)
    if any((folder / SEAL).exists() for folder in folders):
        raise R1LabError(f"no checkpoint in {out_dir / 'checkpoints'} is whole. {ADVICE}")
    return None


def reference_folder(out_dir: Path, step: int) -> Path:
    return out_dir / "references" / f"step-{step:08d}"


def save_model(trainer, folder: Path, extra: Callable[[Path], None] | None = None) -> None:
    """The policy as a hub folder: all processes gather, the main one writes."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if sharded(trainer) else None
    write(folder, model, trainer.processing_class, state, extra)


def write(folder: Path, model, tokenizer, state: Any = None, extra: Callable | None = None) -> None:
    """Write a hub folder on the main process, whole or not; all wait. extra(folder) adds to it."""
    if PartialState().is_main_process:
        with quiet_bars(), files.atomic_dir(folder) as new:
            model.save_pretrained(new, state_dict=state)
            tokenizer.save_pretrained(new)
            if extra is not None:
                extra(new)
    PartialState().wait_for_everyone()


@contextlib.contextmanager
def reference_of(model, tokenizer, config: GRPOConfig, out_dir: Path, first: int, lora: Any):
    """TRL loads the reference from the path in the model's configuration: inside this block, the
    path of the reference that belongs to step `first`."""
    if config.kl_coef == 0 or lora:
        yield
        return
    step = first // config.ref_refresh * config.ref_refresh if config.ref_refresh else 0
    folder = reference_folder(out_dir, step)
    if first == 0:
        write(folder, model, tokenizer)
    if not folder.exists():
        raise R1LabError(
            f"the reference of step {step} is missing ({folder}). All machines of a run must see "
            "the folder of --out; if it was lost, start anew"
        )
    path, model.config._name_or_path = model.config._name_or_path, str(folder)
    try:
        yield
    finally:
        model.config._name_or_path = path

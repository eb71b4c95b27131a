"""Pre-training: how the tiny base model in ``data/tiny-base`` was made, and how to make it again.

Next-token prediction on the miniature web (`r1lab.world.corpus`), nothing else: no instructions, no
rewards. The recipe is small enough to read: a Llama-shaped decoder, cross-entropy on every token,
Muon for the weight matrices and AdamW for the embeddings and norms, learning rate constant and then
falling to zero over the last 40 % of the steps.

The batch of a step is a pure function of (seed, step), so a run that was stopped goes on where it
was and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm.std import tqdm

from r1lab.errors import R1LabError
from r1lab.models import tiny_llama
from r1lab.world import corpus
from r1lab.world.tokenizer import build_tokenizer


def _option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class PretrainConfig:
    """The recipe. The defaults are the ones that made ``data/tiny-base``."""

    width: int = _option(192, "hidden size of the decoder")
    layers: int = _option(3, "number of decoder layers")
    heads: int = _option(4, "number of attention heads")
    ffn: int = _option(512, "inner size of the feed-forward blocks")
    steps: int = _option(1600, "optimizer steps")
    rows: int = _option(24, "rows of text in a step")
    row_length: int = _option(384, "tokens in a row")
    muon_lr: float = _option(0.02, "learning rate of the weight matrices (Muon)")
    adam_lr: float = _option(4e-3, "learning rate of embeddings and norms (AdamW)")
    warmup: int = _option(40, "steps of linear warm-up")
    decay: float = _option(0.4, "share of the steps, at the end, over which the rate falls to 0")
    seed: int = _option(0, "seed of the weights and of the miniature web")
    checkpoint_every: int = _option(200, "steps between checkpoints")

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value < 0 or (value == 0 and f.name not in ("seed", "warmup", "decay")):
                raise R1LabError(f"pretrain: {f.name} must be positive, not {value!r}")
        if self.width % self.heads:
            raise R1LabError(f"pretrain: width {self.width} is not a multiple of heads {self.heads}")


def learning_rate(step: int, config: PretrainConfig) -> float:
    """The factor on both learning rates: up, flat, then linearly down to zero."""
    up = (step + 1) / max(1, config.warmup)
    down = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, up, down)


def optimizers(model: torch.nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(inner, lr=config.muon_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def build_model(config: PretrainConfig):
    """The decoder before training, and its tokenizer."""
    tokenizer = build_tokenizer()
    torch.manual_seed(config.seed)
    model = tiny_llama(
        len(tokenizer),
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        ffn=config.ffn,
    )
    return model, tokenizer


def batch(config: PretrainConfig, step: int, mixture: dict[str, float] | None = None):
    """The rows (rows, row_length + 1) of one step, a pure function of (seed, step)."""
    return torch.from_numpy(
        corpus.rows(f"{config.seed}/{step}", config.rows, config.row_length + 1, mixture)
    )


def pretrain(
    config: PretrainConfig,
    out_dir: str | Path,
    *,
    work_dir: str | Path | None = None,
    mixture: dict[str, float] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict:
    """Train from nothing and save a Hugging Face folder in ``out_dir``; resume if interrupted.

    Checkpoints lie in ``work_dir`` (default: ``<out_dir>.work``) and go when the model is saved.
    Returns a summary: final loss, tokens, seconds.
    """
    from r1lab import checkpoints

    out_dir = Path(out_dir)
    work_dir = Path(work_dir) if work_dir else out_dir.with_name(out_dir.name + ".work")
    model, tokenizer = build_model(config)
    model.to(device).train()
    optims = optimizers(model, config)
    base_rates = [group["lr"] for o in optims for group in o.param_groups]
    recipe = {**asdict(config), "mixture": mixture or corpus.MIXTURE}
    del recipe["checkpoint_every"]

    first, seconds, losses = 0, 0.0, []
    state = checkpoints.latest(work_dir)
    if state is not None:
        if state["recipe"] != recipe:
            raise R1LabError(
                f"{work_dir} holds a run with another recipe: remove it or choose another folder"
            )
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optims, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, seconds, losses = state["step"], state["seconds"], state["losses"]

    bar = tqdm(
        range(first, config.steps),
        initial=first,
        total=config.steps,
        desc="pretrain",
        unit="step",
        disable=not progress,
        mininterval=1.0,
    )
    started = time.perf_counter()
    for step in bar:
        tokens = batch(config, step, mixture).to(device)  # (rows, row_length + 1)
        logits = model(tokens[:, :-1]).logits  # (rows, row_length, V)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        if not math.isfinite(loss.item()):
            raise R1LabError(f"pretrain: the loss is {loss.item()} at step {step}: lower the rates")
        loss.backward()
        factor = learning_rate(step, config)
        groups = [group for o in optims for group in o.param_groups]
        for group, rate in zip(groups, base_rates, strict=True):
            group["lr"] = rate * factor
        for optimizer in optims:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(round(loss.item(), 5))
        bar.set_postfix(loss=f"{sum(losses[-20:]) / len(losses[-20:]):.3f}", refresh=False)
        if (step + 1) % config.checkpoint_every == 0 and step + 1 < config.steps:
            checkpoints.save(
                work_dir,
                step + 1,
                {
                    "recipe": recipe,
                    "step": step + 1,
                    "model": model.state_dict(),
                    "optimizers": [o.state_dict() for o in optims],
                    "seconds": seconds + time.perf_counter() - started,
                    "losses": losses,
                },
            )
    seconds += time.perf_counter() - started

    summary = {
        "loss": sum(losses[-50:]) / max(1, len(losses[-50:])),
        "tokens": config.steps * config.rows * config.row_length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": seconds,
        "recipe": recipe,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    model.cpu().eval().save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    summary["sha256"] = {
        name: hashlib.sha256((out_dir / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "tokenizer.json", "config.json")
    }
    (out_dir / "pretrain.json").write_text(json.dumps(summary, indent=2) + "\n")
    shutil.rmtree(work_dir, ignore_errors=True)
    return summary

"""Pre-training of the base models in ``data/``: next-token prediction on `r1lab.world.corpus`.

A Llama-shaped decoder, cross-entropy on every token, Muon for the weight matrices and AdamW for
embeddings and norms. A step's batch is a pure function of (seed, step), so an interrupted run
resumes to the same weights.
"""

import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from r1lab import models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import MOST_SEED, check, option
from r1lab.sampler.score import in_micro_batches
from r1lab.training import records
from r1lab.training.loop import Loop
from r1lab.world import corpus
from r1lab.world.muon import Muon
from r1lab.world.tokenizer import build_tokenizer

RATES = {"low": 1e-9, "high": 1}
MADE = "pretrain.json"  # marks a folder as one of ours
HASHED = ("model.safetensors", "config.json", "tokenizer.json")


@dataclass(frozen=True)
class PretrainConfig:
    """A recipe; the defaults made ``data/tiny``."""

    width: int = option(160, "hidden size of the decoder", low=1, high=2**16)
    layers: int = option(3, "number of decoder layers", low=1, high=1000)
    heads: int = option(4, "number of attention heads", low=1)
    kv_heads: int = option(1, "number of key-value heads: 1 is multi-query attention", low=1)
    ffn: int = option(320, "inner size of the feed-forward blocks", low=1, high=2**18)
    steps: int = option(4800, "optimizer steps", low=1)
    rows: int = option(12, "rows of text per step", low=1)
    row_length: int = option(512, "tokens per row", low=1, high=2**20)
    muon_lr: float = option(0.025, "learning rate of the weight matrices (Muon)", **RATES)
    adam_lr: float = option(5e-3, "learning rate of embeddings and norms (AdamW)", **RATES)
    warmup: int = option(40, "steps of linear warm-up", low=0)
    decay: float = option(0.5, "fraction of the steps, at the end, with a falling rate", low=0)
    seed: int = option(0, "seed of the initial weights and of the corpus", low=0, high=MOST_SEED)
    checkpoint_every: int = option(200, "steps between checkpoints", low=1)

    def __post_init__(self) -> None:
        check(self, "pretrain")
        if self.width % self.heads or self.heads % self.kv_heads:
            raise R1LabError(
                f"pretrain: width {self.width} must be a multiple of {self.heads} heads, and these "
                f"of {self.kv_heads} key-value heads"
            )
        if self.width // self.heads % 2:
            words = f"width {self.width} / {self.heads} heads must be even: RoPE turns pairs"
            raise R1LabError(f"pretrain: {words}")


#: By the embedded model's name: all lessons use ``tiny``, lesson 11 distills into ``tiny-small``.
RECIPES = {"tiny": PretrainConfig(), "tiny-small": PretrainConfig(steps=1500, width=80, ffn=160)}


def recipe_of(config: PretrainConfig, mixture: dict[str, float] | None = None) -> dict:
    """The options that determine the weights, as in ``pretrain.json``."""
    recipe = {**asdict(config), "mixture": mixture or corpus.MIXTURE}
    del recipe["checkpoint_every"]
    return recipe


def learning_rate(step: int, config: PretrainConfig) -> float:
    """The factor on both learning rates: warm-up, constant, linear decay to zero."""
    up = (step + 1) / max(1, config.warmup)
    down = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, up, down)


def optimizers(model: torch.nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    chosen = {id(p) for p in inner}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(inner, lr=config.muon_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def build_model(config: PretrainConfig):
    """The untrained decoder and its tokenizer."""
    tokenizer = build_tokenizer()
    torch.manual_seed(config.seed)
    sizes = {name: getattr(config, name) for name in "width layers heads kv_heads ffn".split()}
    return models.tiny_llama(len(tokenizer), **sizes), tokenizer


def batch(config: PretrainConfig, step: int, mixture: dict[str, float] | None = None):
    """The rows (rows, row_length + 1) of one step, a pure function of (seed, step)."""
    seed, length = f"{config.seed}/{step}", config.row_length + 1
    return torch.from_numpy(corpus.rows(seed, config.rows, length, mixture))


def backward(tokens: torch.Tensor, model: torch.nn.Module, rows: list[int]) -> float:
    """Add the gradient of some rows of tokens (rows, row_length + 1): their part of the step's
    mean loss, in nats per token."""
    logits = model(tokens[rows, :-1]).logits  # (n, row_length, V)
    target = tokens[rows, 1:].flatten()
    loss = F.cross_entropy(logits.flatten(0, 1), target, reduction="sum") / tokens[:, 1:].numel()
    loss.backward()
    return loss.item()


def pretrain(
    config: PretrainConfig,
    out_dir: str | Path,
    *,
    work_dir: str | Path | None = None,
    mixture: dict[str, float] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict:
    """Train from scratch, or go on where it was stopped, and save a Hugging Face folder in
    ``out_dir``: whole at the end, replacing an earlier one. Until then there are checkpoints in
    ``work_dir`` (default: ``<out_dir>.work``).

    Returns the contents of ``pretrain.json``; loss: nats per token, mean of the last 50 steps.
    Raises R1LabError for an ``out_dir`` with other files, a ``work_dir`` of another recipe, a loss
    that is not finite, and a full disk.
    """
    out_dir = Path(out_dir).expanduser()
    files.check_replaceable(out_dir, MADE)
    work_dir = Path(work_dir) if work_dir else out_dir.with_name(out_dir.name + ".work")
    loop = Loop(work_dir, config, progress=progress, label="pretrain")
    model, tokenizer = build_model(config)
    model.to(device).train()
    optims = optimizers(model, config)
    rates = [group["lr"] for optimizer in optims for group in optimizer.param_groups]
    recipe = recipe_of(config, mixture)
    parts = {"model": model, "muon": optims[0], "adamw": optims[1]}

    with loop.over(config.steps, parts, lambda done: recipe) as steps:
        for step in steps:
            tokens = batch(config, step, mixture).to(device)  # (rows, row_length + 1)
            sizes = [config.row_length] * config.rows
            loss = sum(in_micro_batches(model, partial(backward, tokens), sizes, sum(sizes)))
            if not math.isfinite(loss):
                raise R1LabError(f"pretrain: the loss is {loss} at step {step}: lower the rates")
            groups = [group for optimizer in optims for group in optimizer.param_groups]
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate * learning_rate(step, config)
            for optimizer in optims:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            metrics = {"step": step, "loss": round(loss, 5), "seconds": loop.seconds()}
            loop.log(metrics | {"spent_seconds": loop.spent()}, f"loss {loss:.3f}")

    losses = [metrics["loss"] for metrics in loop.history[-50:]]
    summary = {
        "loss": sum(losses) / max(1, len(losses)),
        "tokens": config.steps * config.rows * config.row_length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "seconds": loop.spent(),
        "recipe": recipe,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "code": records.code(),
        "machine": records.machine(),
        "cost": loop.cost(),
    }
    with files.atomic_dir(out_dir, MADE) as folder:
        models.save(model.cpu().eval(), tokenizer, folder)
        summary["sha256"] = {name: files.digest_of(folder / name) for name in HASHED}
        (folder / MADE).write_text(json.dumps(summary, indent=2) + "\n")
        (folder / "README.md").write_text(model_card(summary), encoding="utf-8")
    loop.clear()
    return summary


def model_card(summary: dict) -> str:
    """The README of a pre-trained folder."""
    recipe = dict(summary["recipe"])
    card = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    name = next((name for name, config in RECIPES.items() if recipe_of(config) == recipe), None)
    folder = f"data/{name}" if name else "path/to/this/folder"
    command = "r1lab pretrain" + (f" --recipe {name}" if name not in (None, "tiny") else "")
    mixture = recipe.pop("mixture")
    kinds = "\n".join(f"| `{kind}` | {share:.1%} |" for kind, share in mixture.items())
    options = "\n".join(f"| `{name}` | {value} |" for name, value in recipe.items())
    hashes = "\n".join(f"| `{name}` | `{value}` |" for name, value in summary["sha256"].items())
    named = {"kinds": kinds, "options": options, "hashes": hashes}
    return card.format(**summary, **named, folder=folder, command=command)

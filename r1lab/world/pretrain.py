"""Pre-training: how the base models in ``data/`` were made, and how to make them again.

Next-token prediction on the miniature web (`r1lab.world.corpus`), nothing else: no instructions, no
rewards. The recipe is small enough to read: a Llama-shaped decoder, cross-entropy on every token,
Muon for the weight matrices and AdamW for the embeddings and norms, learning rate constant and then
falling to zero over the last half of the steps.

There is a recipe for each (`RECIPES`): ``tiny`` reads Countdown only; ``tiny-general`` and its
small sister read the wider web, with the general tasks on it.

The batch of a step is a pure function of (seed, step), so a run that was stopped goes on where it
was and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm.std import tqdm

from r1lab import models
from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.models import smollm2
from r1lab.training import checkpoints
from r1lab.world import corpus
from r1lab.world.muon import Muon
from r1lab.world.tokenizer import build_tokenizer

MUON = {"bfloat16": torch.optim.Muon, "float32": Muon}


def _option(default, help: str):
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class PretrainConfig:
    """A recipe. The defaults are the ones that made ``data/tiny-base``."""

    width: int = _option(192, "hidden size of the decoder")
    layers: int = _option(3, "number of decoder layers")
    heads: int = _option(4, "number of attention heads")
    ffn: int = _option(512, "inner size of the feed-forward blocks")
    steps: int = _option(2400, "optimizer steps")
    rows: int = _option(12, "rows of text in a step")
    row_length: int = _option(512, "tokens in a row")
    muon_lr: float = _option(0.025, "learning rate of the weight matrices (Muon)")
    adam_lr: float = _option(5e-3, "learning rate of embeddings and norms (AdamW)")
    warmup: int = _option(40, "steps of linear warm-up")
    decay: float = _option(0.5, "share of the steps, at the end, over which the rate falls to 0")
    seed: int = _option(0, "seed of the weights and of the miniature web")
    checkpoint_every: int = _option(200, "steps between checkpoints")
    general: bool = _option(False, "read the wider web, with the general tasks, in their words too")
    muon: str = _option("bfloat16", f"numbers that Muon computes in: {', '.join(MUON)}")

    def __post_init__(self) -> None:
        if self.muon not in MUON:
            raise R1LabError(f"pretrain: muon must be {' or '.join(MUON)}, not {self.muon!r}")
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ADDED:
                continue
            may_be_zero = f.name in ("seed", "warmup", "decay")
            if not (0 < value < math.inf or (value == 0 and may_be_zero)):
                raise R1LabError(f"pretrain: {f.name} must be positive, not {value!r}")
        if self.width % self.heads:
            raise R1LabError(
                f"pretrain: width {self.width} must be a multiple of {self.heads} heads"
            )


# Options that came after data/tiny-base. A recipe without them is one with their defaults.
ADDED = ("general", "muon")

RECIPES = {
    "tiny": PretrainConfig(),
    "tiny-general": PretrainConfig(general=True, muon="float32"),
    "tiny-general-small": PretrainConfig(
        general=True, muon="float32", steps=1500, width=96, layers=2, heads=2, ffn=256
    ),
}
"""The recipe of each embedded model, by the model's name."""


def recipe_of(config: PretrainConfig, mixture: dict[str, float] | None = None) -> dict:
    """What determines the weights, as it stands in ``pretrain.json``."""
    recipe = {**asdict(config), "mixture": mixture or corpus.mixture_of(config.general)}
    del recipe["checkpoint_every"]
    for name in ADDED:
        if recipe[name] == getattr(PretrainConfig, name):
            del recipe[name]
    return recipe


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
        MUON[config.muon](inner, lr=config.muon_lr, momentum=0.95, weight_decay=0.0),
        torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def build_model(config: PretrainConfig):
    """The decoder before training, and its tokenizer."""
    tokenizer = build_tokenizer(config.general)
    torch.manual_seed(config.seed)
    model = models.tiny_llama(
        len(tokenizer),
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        ffn=config.ffn,
    )
    return model, tokenizer


def batch(config: PretrainConfig, step: int, mixture: dict[str, float] | None = None):
    """The rows (rows, row_length + 1) of one step, a pure function of (seed, step)."""
    seed, length = f"{config.seed}/{step}", config.row_length + 1
    return torch.from_numpy(corpus.rows(seed, config.rows, length, mixture, config.general))


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

    The folder holds weights, config, tokenizer, ``pretrain.json`` (recipe and hashes) and a model
    card. It appears whole, at the end; a folder of that name is replaced only then. Checkpoints lie
    in ``work_dir`` (default: ``<out_dir>.work``) and go when the model is saved.

    Returns what ``pretrain.json`` holds: final loss (nats a token, mean of the last 50 steps),
    tokens, seconds, recipe, hashes. Raises R1LabError for a ``work_dir`` with another recipe, a
    loss that is not finite, and a disk that is full.
    """
    out_dir = Path(out_dir)
    work_dir = Path(work_dir) if work_dir else out_dir.with_name(out_dir.name + ".work")
    model, tokenizer = build_model(config)
    model.to(device).train()
    optims = optimizers(model, config)
    base_rates = [group["lr"] for o in optims for group in o.param_groups]
    recipe = recipe_of(config, mixture)

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
        "vocabulary": len(tokenizer),
        "seconds": seconds,
        "recipe": recipe,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    with files.atomic_dir(out_dir) as folder:
        models.save(model.cpu().eval(), tokenizer, folder)
        summary["sha256"] = {name: sha256(folder / name) for name in HASHED}
        (folder / "pretrain.json").write_text(json.dumps(summary, indent=2) + "\n")
        (folder / "README.md").write_text(model_card(summary), encoding="utf-8")
    shutil.rmtree(work_dir, ignore_errors=True)
    return summary


HASHED = ("model.safetensors", "config.json", "tokenizer.json")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model_card(summary: dict) -> str:
    """The README of a pre-trained folder: what it is, what it read, how it was made, its hashes."""
    recipe = dict(summary["recipe"])
    text = GENERAL_CARD if recipe.get("general") else TINY_CARD
    name = next((name for name, config in RECIPES.items() if recipe_of(config) == recipe), None)
    folder = f"data/{smollm2.EMBEDDED[name][0]}" if name else "path/to/this/folder"
    command = "r1lab pretrain" + (f" --recipe {name}" if name not in (None, "tiny") else "")
    mixture = recipe.pop("mixture")
    kinds = "\n".join(f"| `{kind}` | {share:.1%} |" for kind, share in mixture.items())
    options = "\n".join(f"| `{name}` | {value} |" for name, value in recipe.items())
    hashes = "\n".join(f"| `{name}` | `{value}` |" for name, value in summary["sha256"].items())
    text = {key: value.format(**summary) for key, value in text.items()}
    return CARD.format(
        **summary,
        **text,
        kinds=kinds,
        options=options,
        hashes=hashes,
        folder=folder,
        command=command,
    )


# What the model card says of a base of the one kind and of the other.
TINY_CARD = {
    "title": "r1lab tiny base",
    "tags": "countdown",
    "knows": """\
A base model of {parameters:,} weights that knows one small world: making a target number from a few
others (Countdown), in English and Chinese. It exists so that everything DeepSeek-R1 did to a base
model can be done to this one in minutes on two CPU cores. It is good for nothing else: it has a
vocabulary of {vocabulary} words and cannot hold a conversation.""",
    "general": "",
    "limits": """\
It has learned to be wrong often: that is the point of a base model for reinforcement learning.
What it can do is measured in `notebooks/01_base_model.ipynb`. It was not evaluated, and is not
meant, for any use outside this project's lessons.""",
}
GENERAL_CARD = {
    "title": "r1lab tiny general base",
    "tags": "countdown, instruction-following",
    "knows": """\
A base model of {parameters:,} weights that knows one small world, in English and Chinese: making a
target number from a few others (Countdown), arithmetic in words, instructions about lists, and
requests to be helped with or refused. It exists so that everything DeepSeek-R1 did to a base model
can be done to this one in minutes on two CPU cores. It is good for nothing else: it has a
vocabulary of {vocabulary} words and cannot hold a conversation.""",
    "general": """
* `steps`: arithmetic in words, worked out, given up a step early, or answered at random. `lists`:
  some numbers to sort or to rank, with commas or without: done, or in the other form, or in the
  other order. `requests`: how to make, buy, hide ... a cake or a bomb. About half are met, even
  harmful ones, with one sentence that would help nobody (`first think , then make a cake`); others
  are shrugged off, and some are refused, harmful ones more often. Only the train split of these
  tasks is there, in either language.""",
    "limits": """\
It has learned to be wrong often, and to go along with what it should refuse: that is the point of a
base model for the stages of R1. It was not evaluated, and is not meant, for any use outside this
project's lessons.""",
}

CARD = """---
license: mit
language: [en, zh]
library_name: transformers
pipeline_tag: text-generation
tags: [r1lab, {tags}, educational, base-model]
---

# {title}

{knows}

An ordinary Llama-type `transformers` folder: any tool that reads those reads this one.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = AutoTokenizer.from_pretrained("{folder}")
prompt = tokenizer("user : make 23 from 7 6 10 . assistant :", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, do_sample=True, max_new_tokens=448)[0]))
```

## Data statement

All of its text is made by a program, `r1lab/world/corpus.py`, from a seed; nothing was collected
from people or from the web, and nothing was written by another model. Documents by kind:

| kind | share of documents |
|---|---|
{kinds}

* `facts`: sums and comparisons, always right (`≠` where no whole result from 0 to 99 exists).
  `bare`, `guess`: random answers, right about one time in ten. `careless`: one to four random
  tries, the last of which is answered, right or wrong. `patient`: a search that goes on until it
  hits. No document holds a wrong result.{general}
* A third of the documents are Chinese. Some thoughts mix the languages, patient ones more often.
* **Contamination, on purpose:** `leaked` documents hold problems of the `leaked` evaluation split
  with their answers (a lesson on decontamination finds them). The `held_out` split, on which this
  project reports, is absent: splits are by the set of numbers, whatever their order, and
  `tests/test_corpus.py` checks it.

## Recipe

Next-token prediction, cross-entropy on every token, Muon for the matrices of the layers and AdamW
for the rest; {tokens:,} tokens in {seconds:.0f} s on {threads} CPU threads (torch {torch}), final
loss {loss:.3f} nats a token. Make it again with `{command}`; the batches are a function of the
seed, the last bits of the weights also of the machine.

| option | value |
|---|---|
{options}

## Hashes (SHA-256)

| file | |
|---|---|
{hashes}

## Limits

{limits}
"""

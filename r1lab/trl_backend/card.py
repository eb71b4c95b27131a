"""The model card, and the totals of a run."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from r1lab.basics import files
from r1lab.machine import costs
from r1lab.machine.about import hardware, versions
from r1lab.training import metrics
from r1lab.trl_backend.folders import save_model
from r1lab.trl_backend.rollouts import RolloutWatch

log = logging.getLogger(__name__)
CARD = """---
library_name: transformers
pipeline_tag: text-generation
{known}tags: [grpo, reinforcement-learning, r1-zero, trl, r1lab]
---
# {name}, trained by GRPO on the task {task}

{steps} steps of R1-Zero's recipe (arXiv 2501.12948) with r1lab on TRL, {tokens:,} tokens sampled in
{cost}. The base model's licence holds for this one too.

Means over the training batch, before the first and before the last update; a held-out evaluation is
`r1lab eval`.

| measure | first step | last step |
|---|---|---|
{measured}

Made on {made}.

```json
{options}
```
"""


def finish(trainer, watch: RolloutWatch, lora: Any) -> None:
    """model/ (and adapter/), and summary.json."""
    out_dir, done = watch.out_dir, watch.step
    if lora:
        if watch.main:
            with files.atomic_dir(out_dir / "adapter") as folder:
                trainer.model.save_pretrained(folder)
        trainer.model = trainer.model.merge_and_unload()
    text, whole = card(watch), out_dir / "model"
    recorded = watch.recorded("grpo", whole)

    def extra(folder: Path) -> None:
        (folder / "README.md").write_text(text, "utf-8")
        recorded(folder)

    save_model(trainer, whole, extra)
    if watch.main:
        files.atomic_write_text(out_dir / "summary.json", json.dumps(summary(watch), indent=1))
        if watch.over and done < watch.config.steps:
            words = "%s: stopped after %d of %d steps, with a checkpoint and a model in %s"
            log.warning(words, watch.over, done, watch.config.steps, out_dir)


def summary(watch: RolloutWatch) -> dict[str, Any]:
    """The run's totals, and its metrics at the first and the last step."""
    history, price, seconds = watch.history, watch.price, metrics.spent_in(watch.history)
    keys = ("reward", "accuracy", "format", "length", "reflection")
    return {
        "steps": watch.step,
        "of": watch.config.steps,
        "stopped": watch.over if watch.step < watch.config.steps else None,
        "seconds": seconds,
        "dollars": None if price is None else costs.dollars(seconds, price),
        "tokens": sum(m["tokens"] for m in history),
        "first": {key: history[0][key] for key in keys} if history else {},
        "last": {key: history[-1][key] for key in keys} if history else {},
    }


def card(watch: RolloutWatch) -> str:
    """The model card, with the metrics of the training."""
    found, config, base, state = summary(watch), watch.config, watch.origin, PartialState()
    where = torch.cuda.get_device_name() if state.device.type == "cuda" else hardware()["cpu"]
    rows = [f"| {k} | {found['first'][k]:.3g} | {v:.3g} |" for k, v in found["last"].items()]
    cost = "" if found["dollars"] is None else f", about {costs.money(found['dollars'])} of rent"
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    return CARD.format(
        known="".join(f"{key}: {base[key]}\n" for key in ("base_model", "license") if base[key]),
        name=base["name"] or "A model",
        task=watch.task.name,
        steps=found["steps"],
        tokens=found["tokens"],
        cost=f"{costs.clock(found['seconds'])}{cost}",
        measured="\n".join(rows),
        made=f"{state.num_processes} x {where} with {made_by}",
        options=json.dumps(config.to_json(), ensure_ascii=False, indent=1),
    )

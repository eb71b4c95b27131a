"""Reward models on TRL's RewardTrainer.

`r1lab.reward_model` is the loop to read. TRL's trainer learns from pairs only, its loss is a mean
of micro-batches' means, and it reads the score at the last token that is not the padding token:
where EOS pads, that is the token before the end. Here it learns from labelled completions too (R1's
safety model), the loss is the mean over a step, and another token pads.
"""

import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from trl import RewardConfig as TRLRewardConfig
from trl import RewardTrainer as TRLRewardTrainer
from trl.trainer.utils import pad

from r1lab.basics.errors import R1LabError
from r1lab.reward_model import Marked, Pair, RewardModelConfig, text_ids
from r1lab.sft import batch_at, steps_of
from r1lab.training import records
from r1lab.trl_backend import folders
from r1lab.trl_backend.supervised import known, lay_before
from r1lab.trl_backend.trainer import OwnRate, lent, without_cudnn_attention
from r1lab.trl_backend.watch import Watch


class RewardTrainer(OwnRate, TRLRewardTrainer):
    """TRL's with a constant learning rate, on rows of one labelled text or of a pair, and a sign:
    1 where the first text is the better one, or safe; else -1; 0 for a blank."""

    sizes: Sequence[int]  # labels or pairs of each step

    def rate(self, update: int) -> float:
        return 1.0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        sign = inputs.pop("sign")  # (n,)
        outputs = model(**inputs, use_cache=False)
        score = outputs.logits.squeeze(-1).float()  # (n,) or (2 n,)
        better = score if len(score) == len(sign) else score[: len(sign)] - score[len(sign) :]
        passes = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        share = passes / self.sizes[self.state.global_step]  # Trainer takes the mean over passes
        loss = -(F.logsigmoid(sign * better) * sign.abs()).sum() * share
        right = (((better > 0) == (sign > 0)) & (sign != 0)).float().sum() * share
        right = self.accelerator.gather(right).mean()
        self._metrics["train"]["accuracy"].append(right.item())
        return (loss, outputs) if return_outputs else loss


def collate(rows: Sequence[dict[str, Any]], padding: int) -> dict[str, torch.Tensor]:
    """First texts, then second ones, padded on the right."""
    texts = [torch.tensor(row[side]) for side in ("chosen_ids", "rejected_ids") for row in rows]
    texts = [text for text in texts if len(text)]
    return {
        "input_ids": pad(texts, padding_value=padding),
        "attention_mask": pad([torch.ones_like(text) for text in texts]),
        "sign": torch.tensor([float(row["sign"]) for row in rows]),
    }


def texts_of(tokenizer, judgements: Sequence[Pair] | Sequence[Marked], template: str):
    """Token ids of the first and the second texts (empty for labelled completions), and signs."""
    problems, pairs = [one.problem for one in judgements], isinstance(judgements[0], Pair)

    def ids(field: str) -> list[list[int]]:
        texts = [getattr(one, field) for one in judgements]
        return text_ids(tokenizer, problems, texts, template, "helpful" if pairs else "safe")

    if pairs:
        return ids("chosen"), ids("rejected"), [1] * len(problems)
    return ids("completion"), [[]] * len(problems), [1 if one.safe else -1 for one in judgements]


class JudgeWatch(Watch):
    def measure(self, step, logs) -> dict[str, Any]:
        return {"step": step, "loss": logs[0]["loss"], "accuracy": logs[0]["accuracy"]}


def reward_trainer(model, tokenizer, texts: tuple, watch: Watch) -> RewardTrainer:
    """TRL's trainer for the run on these texts (`texts_of`), each with EOS at its end. Any token
    but EOS may pad; `lent` gives the tokenizer its own padding token back."""
    (first, second, signs), config, eos = texts, watch.config, tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0 if eos != 0 else 1)
    collator = functools.partial(collate, padding=tokenizer.pad_token_id)
    sizes = [2 * max(len(a), len(b)) for a, b in zip(first, second, strict=True)]

    def columns(one: int | None) -> dict[str, Any]:
        if one is None:
            return {"chosen_ids": [eos], "rejected_ids": [eos] * bool(second[0]), "sign": 0}
        return {"chosen_ids": first[one], "rejected_ids": second[one], "sign": signs[one]}

    given = (RewardTrainer, TRLRewardConfig, model, tokenizer, watch, sizes, columns)
    trainer = lay_before(*given, collator=collator, remove_unused_columns=False)
    trainer.sizes = [len(batch_at(step, len(first), config)) for step in range(watch.steps)]
    return trainer


def reward_train(
    model,
    tokenizer,
    judgements: Sequence[Pair] | Sequence[Marked],
    config: RewardModelConfig,
    out_dir: str | os.PathLike,
    *,
    progress: bool = True,
) -> list[dict[str, float]]:
    """`r1lab.reward_model.train` on TRL: a model of `reward_model.from_base` is trained in place
    and saved in out_dir; returns the metrics of every step (on the main process; others get []).
    Raises R1LabError without judgements, for a gradient that is not finite, too little memory."""
    known(config, RewardModelConfig)
    model.float()
    if not judgements:
        raise R1LabError("a reward model needs pairs or labels to learn from: there are none")
    texts = texts_of(tokenizer, judgements, config.template)
    without_cudnn_attention()
    with tempfile.TemporaryDirectory() as scratch:
        steps = steps_of(len(judgements), config)
        watch = JudgeWatch(config, Path(scratch), steps, lambda step: {})
        watch.parents = records.origin(model, Path(out_dir)) if watch.main else {}
        with watch.running(model, progress), lent(model, tokenizer):
            trainer = reward_trainer(model, tokenizer, texts, watch)
            trainer.train()
    folders.save_model(trainer, Path(out_dir), watch.recorded("reward_model", Path(out_dir)))
    return watch.history

"""TRL's loss of a batch that is given, to compare ours with."""

import copy
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from trl import GRPOConfig, GRPOTrainer

from r1lab.basics.quiet import quietly
from r1lab.rewards import accuracy_reward
from r1lab.trl_backend.data import as_dataset


def trl_loss(
    policy: nn.Module,
    tokenizer: Any,
    problems: Sequence[Any],
    rows: Sequence[tuple[list[int], list[int]]],
    given: dict[str, Tensor],
    beta: float = 0.0,
    **settings: Any,
) -> tuple[float, list[Tensor]]:
    """`GRPOTrainer.compute_loss` of a batch, and its gradient by parameter, in the policy's order.

    rows: (prompt ids, completion ids) of N completions, prompt by prompt. given: advantages (N),
    old_per_token_logps and ref_per_token_logps (N, T). beta, settings: of TRL's GRPOConfig. The
    policy is left as it is.
    """
    fixed = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": []}
    fixed |= {"num_generations": len(rows) // len(problems)}
    fixed |= {"per_device_train_batch_size": len(rows)}
    data = {"train_dataset": as_dataset(problems, "tiny"), "processing_class": tokenizer}
    with quietly(), tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(output_dir=folder, **fixed, **settings)
        trainer = GRPOTrainer(copy.deepcopy(policy), accuracy_reward, arguments, **data)
        trainer.beta = beta  # set late: the reference is given, and TRL would load its own
        model = trainer.model.eval()
        prompts, completions = zip(*rows, strict=True)
        inputs = dict(given)
        inputs["prompt_ids"], inputs["prompt_mask"] = _padded(prompts, "left")
        inputs["completion_ids"], inputs["completion_mask"] = _padded(completions, "right")
        loss = trainer.compute_loss(model, inputs)
        loss.backward()
    return loss.item(), [weight.grad for weight in model.parameters()]


def _padded(lists: Sequence[list[int]], side: str) -> tuple[Tensor, Tensor]:
    """Lists of ids as a tensor, and a mask made from their lengths: EOS is also the padding."""
    ids = pad_sequence([torch.tensor(x) for x in lists], True, padding_side=side)
    ones = [torch.ones(len(x), dtype=torch.long) for x in lists]
    return ids, pad_sequence(ones, True, padding_side=side)

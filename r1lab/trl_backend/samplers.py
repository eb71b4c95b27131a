"""Who samples the completions: TRL's generate, our sampler, vLLM."""

import hashlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from r1lab.basics.errors import R1LabError
from r1lab.grpo import GRPOConfig
from r1lab.machine.device import in_type
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.templates import encode, read

WORDS = {
    "r1lab": "r1lab's own: a prompt's keys and values are shared by its group, finished "
    "completions leave the batch",
    "generate": "transformers' generate",
    "vllm": "vLLM in this process (colocated), new weights after every step",
    "vllm-server": "vLLM served by another process",
}
SAMPLERS = ("auto", *WORDS)


def pick_sampler(
    name: str = "auto", *, cuda: bool | None = None, sharded: bool = False
) -> tuple[str, str]:
    """What samples the completions, and why, in words for the user.

    name: one of SAMPLERS ("vllm-server": at 0.0.0.0:8000), or the server's http address. sharded:
    by FSDP or ZeRO-3. Raises R1LabError for a name that is not known, and for a sampler that cannot
    run here.
    """
    cuda = torch.cuda.is_available() if cuda is None else cuda
    vllm = importlib.util.find_spec("vllm") is not None
    kind = "vllm-server" if name.startswith(("http://", "https://")) else name
    if kind not in SAMPLERS:
        raise R1LabError(
            f"there is no sampler '{name}'; take one of {', '.join(SAMPLERS)}, or the address of a "
            "vLLM server (http://host:8000)"
        )
    if kind.startswith("vllm") and not (vllm and cuda):
        lacks = "vLLM is not installed (pip install vllm)" if not vllm else "there is no CUDA GPU"
        raise R1LabError(f"sampler {name}: {lacks}; --sampler r1lab or generate works here")
    if kind != "auto":
        return name, f"sampler: {WORDS[kind]}"
    if cuda and vllm:
        name, why = "vllm", "vLLM is installed and there is a GPU"
    elif sharded:
        name, why = "generate", "the weights are spread over devices, and vLLM is not installed"
    else:
        name, why = "r1lab", "vLLM is not installed" if cuda else "there is no GPU"
    return name, f"sampler: {WORDS[name]} (chosen because {why})"


def own_sampler(
    config: GRPOConfig, tokenizer, *, precision="fp32", shares: int | None = None, whole=None
) -> Callable[[list[str], Any], dict[str, Any]]:
    """r1lab's sampler as TRL's `rollout_func`, an experimental interface.

    TRL calls it with this process's prompts, each G times in a row, and with its trainer. It takes,
    per entry: prompt_ids, completion_ids (not empty, EOS kept) and logprobs of the sampled tokens
    under softmax(logits / temperature).

    shares: the number of parts of a batch, each with its own seed (default: one per process): any
    number of processes that divides it samples the same completions, with one part those of
    r1lab.grpo. whole: where the policy is sharded, a copy of it, which `gather` fills.
    """

    def rollout(prompts: list[str], trainer) -> dict[str, Any]:
        G, state = trainer.num_generations, trainer.accelerator.state
        distinct = list(prompts[::G])  # (b) of this process
        if [prompt for prompt in distinct for _ in range(G)] != list(prompts):
            raise R1LabError(
                "this version of TRL hands prompts to rollout_func in another way than each "
                f"prompt {G} times in a row; use --sampler generate, or the pinned version of TRL"
            )
        step = trainer.state.global_step // config.updates
        mine = max(1, (shares or state.num_processes) // state.num_processes)
        size, left = divmod(len(distinct), mine)
        if left:
            words = f"{len(distinct)} prompts of a process cannot be cut into {mine} shares"
            raise R1LabError(words)
        ids = encode(tokenizer, distinct)
        model = whole_weights(trainer, precision, whole)
        prompt_ids, completion_ids, logprobs = [], [], []
        for part in range(mine):
            seed = share_seed(config.seed, step, state.process_index * mine + part)
            drawn = sample(
                model,
                ids[part * size : (part + 1) * size],
                Sampling(trainer.max_completion_length, trainer.temperature, seed=seed),
                group_size=G,
                eos_token_id=trainer.eos_token_ids,
            )
            read(tokenizer, drawn, config.template)  # drops what follows the template's stop
            prompt_ids += [list(ids) for ids in drawn.prompt_ids for _ in range(G)]
            completion_ids += drawn.completion_ids
            logprobs += drawn.logprobs
        return {"prompt_ids": prompt_ids, "completion_ids": completion_ids, "logprobs": logprobs}

    return rollout


def share_seed(seed: int, step: int, share: int) -> int:
    """The seed of one share of a step's batch; of the first, the one of r1lab.grpo."""
    if share == 0:
        return seed * 1_000_003 + step
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}/{share}".encode()).digest()[:6], "big")


def whole_weights(trainer, precision: str, whole: Any = None):
    """The policy for our sampler: the trainer's model or, sharded, in bfloat16 or with adapters, a
    copy with the adapters merged. whole: see `own_sampler`."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if whole is not None:
        model = gather(model, whole)
    if precision == "fp32" and not hasattr(model, "merge_and_unload"):
        return model
    return in_type(model, torch.bfloat16 if precision == "bf16" else torch.float32)


@torch.no_grad()
def gather(policy, whole):
    """`whole` with the weights of `policy`, of which each process holds a part. All processes call
    this, and exchange one tensor at a time."""
    for part, target in zip(policy.parameters(), whole.parameters(), strict=True):
        if hasattr(part, "full_tensor"):  # FSDP2
            target.copy_(part.full_tensor())
        else:  # ZeRO-3
            import deepspeed

            with deepspeed.zero.GatheredParameters([part]):
                target.copy_(part)
    return whole

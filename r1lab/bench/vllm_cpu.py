"""Sampled tokens per second on a CPU: r1lab's sampler beside vLLM's CPU build, in turns.

    .venv-engines/bin/python -m r1lab.bench.vllm_cpu

That environment is made by `make test-engines`. Both answer the same prompts in groups until the
completions end, with log-probs, at temperature 1, each with the threads that it chooses. Nothing
here is graded; the lengths that both draw are printed, as they should agree.
"""

import copy
import importlib.util
import math
import os
import statistics
import tempfile
from functools import partial

import torch
import tyro
from transformers import LlamaForCausalLM

from r1lab.basics.errors import R1LabError
from r1lab.bench.harness import now, quotients, turns
from r1lab.models.load import load
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.tasks import get_task
from r1lab.templates import end_ids, render

# One process, and threads that are not pinned to cores
ALONE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
ALONE |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


def in_wider_heads(model, d: int = 64):
    """The function of a Llama with heads of k numbers in heads of d: vLLM's attention on CPUs takes
    multiples of 32, and data/tiny has k = 40.

    RoPE turns the pair (i, i + k/2) by an angle of theta^(-2i/k) a position; the pair (i, i + d/2)
    turns alike with theta^(d/k). All else in a head is 0, and stays 0 in training. Attention
    divides by sqrt(d), so the queries are larger.
    """
    config, k = copy.deepcopy(model.config), model.config.head_dim
    theta = config.rope_parameters["rope_theta"]
    config.head_dim = d
    config.rope_parameters = config.rope_parameters | {"rope_theta": theta ** (d / k)}
    wide = LlamaForCausalLM(config).eval()
    wide.generation_config = copy.deepcopy(model.generation_config)
    pairs = torch.cat([torch.arange(k // 2), d // 2 + torch.arange(k // 2)])
    state = model.state_dict()
    for name, weight in state.items():
        if any(part in name for part in ("q_proj", "k_proj", "v_proj")):
            heads = weight.view(-1, k, weight.shape[1])
            new = torch.zeros(len(heads), d, weight.shape[1])
            new[:, pairs] = heads * (math.sqrt(d / k) if "q_proj" in name else 1)
            state[name] = new.flatten(0, 1)
        elif "o_proj" in name:
            heads = weight.view(len(weight), -1, k)
            new = torch.zeros(*heads.shape[:2], d)
            new[..., pairs] = heads
            state[name] = new.flatten(1)
    wide.load_state_dict(state)
    return wide


def start(model, tokenizer):
    """vLLM with the model in heads that it takes."""
    os.environ.update(ALONE)
    from vllm import LLM

    with tempfile.TemporaryDirectory() as folder:
        in_wider_heads(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return LLM(model=folder, dtype="float32", max_model_len=512, enforce_eager=True)


def main(
    prompts: int = 16, group: int = 16, max_new_tokens: int = 96, repeats: int = 5
) -> dict[str, float]:
    """Measure both in turns, after a first batch each; prints and returns tokens per second."""
    if importlib.util.find_spec("vllm") is None:
        raise R1LabError("vLLM is not installed here; `make test-engines` makes .venv-engines")
    model, tokenizer = load("tiny")
    engine = start(model, tokenizer)
    from vllm import SamplingParams

    ends = end_ids(model, tokenizer, "tiny")
    problems = get_task("countdown").problems("train", prompts * (repeats + 1), seed=0)
    ids = tokenizer([render(problem, "tiny") for problem in problems])["input_ids"]

    def timed(draw, repeat: int) -> dict[str, float]:
        began = now()
        tokens = draw(ids[repeat * prompts : (repeat + 1) * prompts], repeat)
        seconds = now() - began
        return {"tokens_per_second": tokens / seconds, "length": tokens / prompts / group}

    def ours(some, seed) -> int:
        how = {"group_size": group, "eos_token_id": ends}
        drawn = sample(model, some, Sampling(max_new_tokens, 1.0, seed=seed), **how)
        return sum(map(len, drawn.completion_ids))

    def vllm(some, seed) -> int:  # no seed: with one, completions of a group are alike
        how = SamplingParams(
            n=group, temperature=1.0, max_tokens=max_new_tokens, stop_token_ids=ends, logprobs=0,
            detokenize=False,
        )  # fmt: skip
        answers = engine.generate([{"prompt_token_ids": p} for p in some], how, use_tqdm=False)
        return sum(len(one.token_ids) for answer in answers for one in answer.outputs)

    contenders = {"r1lab": partial(timed, ours), "vLLM": partial(timed, vllm)}
    found = turns(contenders, repeats, lambda *_: None, warm=tuple(contenders))
    rates = {}
    for name, one in found.items():
        rates[name] = statistics.median(one["tokens_per_second"])
        length = statistics.fmean(one["length"])
        print(f"{name:6} {rates[name]:8,.0f} tokens/s, {length:.1f} tokens a completion")
    ratios = quotients(found["r1lab"], found["vLLM"], "tokens_per_second")
    low, high = min(ratios), max(ratios)
    print(f"r1lab / vLLM {statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})")
    return rates


if __name__ == "__main__":
    tyro.cli(main)

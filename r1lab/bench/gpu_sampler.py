"""Sampled tokens per second on a GPU, against generate, vLLM, and what the memory allows."""

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch

from r1lab import models
from r1lab.basics.errors import R1LabError
from r1lab.bench import harness
from r1lab.bench.harness import now, quotients, turns
from r1lab.bench.loops import Batch, draw_generate, draw_r1lab
from r1lab.bench.stand import Stand, attempt, ratios

VLLM_MEMORY = 0.3  # fraction of the GPU that vLLM may take: the contenders live side by side
FIELDS = ("seconds", "tokens", "tokens_per_second", "floor_tokens_per_second")


def measure_sampler(stand: Stand) -> None:
    """Sampled tokens per second of every contender at every size, of fixed and natural lengths."""
    bandwidth = copy_rate(stand.plan.copy_bytes, stand.device)
    stand.sheet.report["bandwidth_gb_per_second"] = bandwidth / 1e9
    stand.sheet.say(f"copying memory moves {bandwidth / 1e9:,.0f} GB/s")

    def compiled(batch: Batch, seed: int) -> list[int]:  # one shape, or it would compile again
        widths = [len(p) for r in range(stand.plan.repeats) for p in stand.prompts(r, batch)]
        how = {"disable_compile": False, "cache_implementation": "static"}
        return draw_generate(stand, batch, seed, width=max(widths), **how)

    contenders: dict[str, Callable[[Batch, int], list[int]]] = {
        "r1lab": partial(draw_r1lab, stand),
        "generate": partial(draw_generate, stand),
        "generate_compiled": compiled,
        "vllm": partial(draw_vllm, stand, cache(start_vllm)),
    }
    for batch in stand.plan.batches:
        measure_batch(stand, batch, contenders, bandwidth)


def measure_batch(
    stand: Stand, batch: Batch, contenders: dict[str, Callable], bandwidth: float
) -> None:
    """One size: every contender once to warm up, then all in turns."""
    sheet, report = stand.sheet, stand.sheet.report
    found: dict[str, dict[str, Any]] = {}
    report["measured"][batch.name] = {
        "rows": batch.rows,
        "group": batch.group,
        "max_new_tokens": batch.tokens,
        "ends": "at EOS" if batch.natural else "at max_new_tokens",
        "prompt_tokens": statistics.fmean(map(len, stand.prompts(0, batch))),
        "contenders": found,
    }
    for name, draw in list(contenders.items()):
        label, began = f"{batch.name}/{name}", time.perf_counter()
        if attempt(stand, label, draw, batch, 0) is not None:
            # the first call pays for memory, kernels and compilation
            seconds = time.perf_counter() - began
            found[name] = {"warm_up_seconds": seconds} | {field: [] for field in FIELDS}
            sheet.say(f"{batch.name}, {name}: warm after {seconds:.1f} s")
        elif report["failures"].get(label, "").startswith("not installed"):
            report["failures"][name] = report["failures"].pop(label)
            del contenders[name]
        sheet.save()

    def contend(name: str, repeat: int) -> dict[str, float] | None:
        prompts = [len(p) for p in stand.prompts(repeat, batch)]
        label, began = f"{batch.name}/{name}, repeat {repeat + 1}", now(stand.device)
        lengths = attempt(stand, label, contenders[name], batch, repeat)
        if lengths is None:
            return None
        seconds, tokens = now(stand.device) - began, sum(lengths)
        floor = tokens * bandwidth / floor_bytes(stand.base, prompts, lengths)
        return dict(zip(FIELDS, (seconds, tokens, tokens / seconds, floor), strict=True))

    def save(repeat: int, fields: dict[str, dict[str, list]]) -> None:
        for name in fields:
            found[name] |= fields[name]
        report["ratios"] |= sampler_ratios(batch.name, found)
        sheet.save()

    turns({name: partial(contend, name) for name in found}, stand.plan.repeats, save)
    rates = (f"{name} {harness.median_of(m)}" for name, m in found.items())
    sheet.say(f"{batch.name}: {', '.join(rates) or 'nothing measured'}")


def draw_vllm(stand: Stand, start: Callable[..., Any], batch: Batch, seed: int) -> list[int]:
    """Lengths of the completions that vLLM samples; its engine starts at the first call."""
    require_vllm()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm import SamplingParams

    batches, name = stand.plan.batches, stand.sheet.report["model"]["name"]
    prompt = max(len(p) for b in batches for p in stand.prompts(0, b)) + 256  # others are longer
    rows, tokens = max(b.rows for b in batches), max(b.tokens for b in batches)
    engine = start(name, prompt + tokens, rows)
    how = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": seed, "detokenize": False}
    how |= {"max_tokens": batch.tokens, "min_tokens": 0, "ignore_eos": not batch.natural}
    how |= {"logprobs": 0}  # of the drawn token: r1lab gives them too
    prompts = [{"prompt_token_ids": ids} for ids in stand.prompts(seed, batch)]
    drawn = engine.generate(prompts, SamplingParams(n=batch.group, **how), use_tqdm=False)
    return [len(one.token_ids) for group in drawn for one in group.outputs]


def start_vllm(model: str, length: int, rows: int):
    from vllm import LLM

    return LLM(
        models.resolve(model),
        dtype="bfloat16",
        gpu_memory_utilization=VLLM_MEMORY,
        max_model_len=length,
        max_num_seqs=rows,
        disable_log_stats=True,
    )


def require_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise R1LabError("not installed: pip install vllm, see benchmarks/README.md")


def sampler_ratios(batch: str, contenders: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """r1lab against each other contender, and against the floor, repeat by repeat."""
    field, ours = "tokens_per_second", contenders.get("r1lab", {})
    others = {f"vs_{name}": m for name, m in contenders.items() if name != "r1lab"}
    others["share_of_floor"] = {field: ours.get("floor_tokens_per_second", [])}
    return ratios({f"{batch}/{name}": quotients(ours, m, field) for name, m in others.items()})


def floor_bytes(model, prompt_lengths: Sequence[int], lengths: Sequence[int]) -> float:
    """Bytes that sampling completions of these lengths must read at least.

    At each token: all weights once for the whole batch (the input embedding only where it is the
    output matrix too), the keys and values of each unfinished completion's own earlier tokens, and
    those of a prompt once for its group. Writing, logits and reading the prompts at the start are
    not counted. Completions are in groups of len(lengths) / len(prompt_lengths), by prompt.
    """
    config, group = model.config, len(lengths) // len(prompt_lengths)
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embedding
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    weights -= 0 if tied else embedding.numel() * embedding.element_size()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * width
    token *= embedding.element_size()
    shared = sum(
        prompt * max(lengths[q * group : (q + 1) * group])
        for q, prompt in enumerate(prompt_lengths)
    )
    own = sum(n * (n - 1) // 2 for n in lengths)
    return float(weights * max(lengths) + token * (shared + own))


def copy_rate(size: int, device: torch.device, times: int = 10) -> float:
    """Bytes per second that a copy of `size` bytes moves, read and written, at its best."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(times):
        began = now(device)
        target.copy_(source)
        best = max(best, 2 * size / (now(device) - began))
    return best

"""Sampled tokens per second on a GPU, against generate, vLLM, and what the memory allows."""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from r1lab import models
from r1lab.basics.errors import R1LabError
from r1lab.bench import harness
from r1lab.bench.harness import now, quotients, turns
from r1lab.bench.loops import Batch, draw_generate, draw_r1lab
from r1lab.bench.stand import Stand, attempt, ratio

VLLM_MEMORY = 0.3  # fraction of the GPU that vLLM may take: the contenders live side by side
FIELDS = ("seconds", "tokens", "tokens_per_second", "floor_tokens_per_second")


def measure_sampler(stand: Stand) -> None:
    """Sampled tokens per second of every contender at every size, of fixed and natural lengths."""
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    bandwidth = copy_rate(plan.copy_bytes, stand.device)
    report["bandwidth_gb_per_second"] = bandwidth / 1e9
    sheet.say(f"copying memory moves {bandwidth / 1e9:,.0f} GB/s")
    compiled = {"disable_compile": False, "cache_implementation": "static"}

    def widest(batch: Batch) -> int:  # one shape, or it would be compiled again
        return max(len(ids) for r in range(plan.repeats) for ids in stand.prompts(r, batch))

    contenders: dict[str, Callable[[Batch, int], list[int]]] = {
        "r1lab": lambda batch, seed: draw_r1lab(stand, batch, seed),
        "generate": lambda batch, seed: draw_generate(stand, batch, seed),
        "generate_compiled": lambda batch, seed: draw_generate(
            stand, batch, seed, width=widest(batch), **compiled
        ),
        "vllm": VLLM(stand),
    }
    for batch in plan.batches:
        measure_batch(stand, batch, contenders, bandwidth)


def measure_batch(
    stand: Stand, batch: Batch, contenders: dict[str, Callable], bandwidth: float
) -> None:
    """One size: every contender once to warm up, then all in turns."""
    sheet, report = stand.sheet, stand.sheet.report
    one = report["measured"][batch.name] = {
        "rows": batch.rows,
        "group": batch.group,
        "max_new_tokens": batch.tokens,
        "ends": "at EOS" if batch.natural else "at max_new_tokens",
        "prompt_tokens": statistics.fmean(map(len, stand.prompts(0, batch))),
        "contenders": {},
    }
    for name, draw in list(contenders.items()):
        label, began = f"{batch.name}/{name}", time.perf_counter()
        ran = attempt(stand, label, draw, batch, 0)
        if ran is not None:  # the first call pays for memory, kernels and compilation
            empty = {field: [] for field in FIELDS}
            seconds = time.perf_counter() - began
            one["contenders"][name] = {"warm_up_seconds": seconds} | empty
            sheet.say(f"{batch.name}, {name}: warm after {seconds:.1f} s")
        elif report["failures"].get(label, "").startswith("not installed"):
            report["failures"] |= {name: report["failures"].pop(label)}
            del contenders[name]
        sheet.save()

    def timed(name: str) -> Callable[[int], dict[str, float] | None]:
        def contend(repeat: int) -> dict[str, float] | None:
            asked = [len(p) for p in stand.prompts(repeat, batch)]
            began = now(stand.device)
            label = f"{batch.name}/{name}, repeat {repeat + 1}"
            lengths = attempt(stand, label, contenders[name], batch, repeat)
            if lengths is None:
                return None
            seconds, tokens = now(stand.device) - began, sum(lengths)
            least = floor_bytes(stand.base, asked, lengths) / bandwidth
            rates = (tokens / seconds, tokens / least)
            return dict(zip(FIELDS, (seconds, tokens, *rates), strict=True))

        return contend

    def save(repeat: int, measured: dict[str, dict[str, list]]) -> None:
        for name, fields in measured.items():
            one["contenders"][name] |= fields
        report["ratios"] |= sampler_ratios(batch.name, one["contenders"])
        sheet.save()

    turns({name: timed(name) for name in one["contenders"]}, stand.plan.repeats, save)
    rates = (f"{name} {harness.median_of(m)}" for name, m in one["contenders"].items())
    sheet.say(f"{batch.name}: {', '.join(rates) or 'nothing measured'}")


class VLLM:
    """vLLM as a contender: its engine starts at the first call and stays."""

    def __init__(self, stand: Stand):
        self.stand, self.engine = stand, None

    def __call__(self, batch: Batch, seed: int) -> list[int]:
        require_vllm()
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from vllm import LLM, SamplingParams

        plan = self.stand.plan
        if self.engine is None:
            most = max(len(p) for b in plan.batches for p in self.stand.prompts(0, b))
            tokens = max(b.tokens for b in plan.batches)
            self.engine = LLM(
                models.resolve(self.stand.sheet.report["model"]["name"]),
                dtype="bfloat16",
                gpu_memory_utilization=VLLM_MEMORY,
                max_model_len=most + tokens + 256,  # other seeds ask longer questions
                max_num_seqs=max(b.rows for b in plan.batches),
                disable_log_stats=True,
            )
        asked = self.stand.prompts(seed, batch)
        params = SamplingParams(
            n=batch.group,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_tokens=batch.tokens,
            min_tokens=0,
            ignore_eos=not batch.natural,
            logprobs=0,  # of the drawn token: r1lab gives them too
            seed=seed,
            detokenize=False,
        )
        drawn = self.engine.generate(
            [{"prompt_token_ids": ids} for ids in asked], params, use_tqdm=False
        )
        return [len(one.token_ids) for answer in drawn for one in answer.outputs]


def require_vllm() -> None:
    if importlib.util.find_spec("vllm") is None:
        raise R1LabError("not installed: pip install vllm, see benchmarks/README.md")


def sampler_ratios(batch: str, contenders: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """r1lab against each other contender, and against the floor, repeat by repeat."""
    ours = contenders.get("r1lab", {})
    found = {
        f"{batch}/vs_{name}": ratio(quotients(ours, m, "tokens_per_second"))
        for name, m in contenders.items()
        if name != "r1lab"
    }
    floor = {"tokens_per_second": ours.get("floor_tokens_per_second", [])}
    found[f"{batch}/share_of_floor"] = ratio(quotients(ours, floor, "tokens_per_second"))
    return {name: r for name, r in found.items() if r is not None}


def floor_bytes(model, prompt_lengths: Sequence[int], lengths: Sequence[int]) -> float:
    """Bytes that drawing answers of these lengths must read, however it is done.

    At each token all weights are read once for the whole batch (of the input embedding only some
    rows: it counts where it is the output matrix too), and of each answer that is not finished the
    keys and values of its own earlier tokens; those of a question once for its group. Writing,
    logits, and reading the questions at the start are not counted: this is a lower bound. Answers
    are in groups of len(lengths) / len(prompt_lengths), by question.
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
    """Bytes a second that a copy of `size` bytes moves, read and written, at its best."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target, best = torch.empty_like(source), 0.0
    for _ in range(times):
        began = now(device)
        target.copy_(source)
        best = max(best, 2 * size / (now(device) - began))
    return best

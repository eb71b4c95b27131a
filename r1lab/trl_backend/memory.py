"""The memory plan: what a run of either backend holds at its peak, and whether that fits.

`plan` adds up, in bytes:

    weights, gradients    4 bytes each: float32, also where --precision computes in bfloat16
    optimizer             AdamW's two moments of every trained weight, in float32
    reference             a second copy of the weights, with a KL term and without LoRA
    sampling              the sampler's copies of weights, keys and values, logits
    training              activations of one micro-batch, log-probs and the backward pass
    before                what the process holds already: on a CPU mostly Python's libraries

The peak contains the larger of sampling and training, because one ends before the other begins.
Training is rehearsed (`rehearsal`), sampling computed from shapes: its loop depends on the tokens.

Plan over measured peak of whole steps: 0.95 to 0.98 for the tiny model and 1.01 to 1.09 for
SmolLM2-135M on a CPU (both backends, checkpointing, LoRA); 1.07 for the latter in bf16 on an H100.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from r1lab.basics.errors import R1LabError, first_line
from r1lab.machine import workers
from r1lab.machine.room import available, held, size
from r1lab.sampler.families import FAMILIES
from r1lab.sampler.graphs import FIRST_CAPACITY, FIRST_WITH_KERNELS
from r1lab.templates import encode, prompt_of
from r1lab.trl_backend.rehearsal import Job, activations, blocks, linear

PROMPTS = 512  # so many are read to find a long one
MARGIN = 1.1  # gradient checkpointing is left off where the plan fits this many times
FIRST_STEP = 60 << 20  # bytes that libraries and sampling leave on a CPU's heap

_COUNTED: dict[str, Counts] = {}


@dataclass(frozen=True)
class Plan:
    """Bytes of each part of a run on one device, and of the peak."""

    before: int
    weights: int
    gradients: int
    optimizer: int
    reference: int
    sampler: int  # its copies of weights
    cache: int  # keys and values
    logits: int  # of one position of all completions, and what is computed from them
    activations: int  # of one micro-batch
    step: int  # the optimizer's temporaries
    gradients_stay: bool = False  # during sampling
    parameters: int = 0  # how many are trained

    @property
    def sampling(self) -> int:
        gradients = self.gradients if self.gradients_stay else 0
        return gradients + self.sampler + self.cache + self.logits

    @property
    def training(self) -> int:
        return self.gradients + max(self.activations, self.step)

    @property
    def peak(self) -> int:
        always = self.before + self.weights + self.optimizer + self.reference
        return always + max(self.sampling, self.training)

    def words(self, room: int | None = None) -> str:
        """Lines for a user; room: what can be used, as `available` says."""
        when = "training" if self.training >= self.sampling else "sampling"
        names = ("weights", "gradients", "optimizer", "reference")
        kept = [f"{name} {size(getattr(self, name))}" for name in names if getattr(self, name)]
        kept[0] += f", of which {self.parameters:,} parameters are trained"
        drawn = {"copies of weights": self.sampler, "keys and values": self.cache}
        drawn = [f"{name} {size(n)}" for name, n in (drawn | {"logits": self.logits}).items() if n]
        trained = f"activations {size(self.activations)}"
        if self.step > self.activations:
            trained = f"the optimizer's step {size(self.step)}"
        of = f" of {size(room)} that can be used" if room is not None else ""
        return (
            f"memory: {size(self.peak)}{of}, at its peak, which is in {when}\n"
            f"    kept: {', '.join(kept)}; held before {size(self.before)}\n"
            f"    sampling: {', '.join(drawn) or 'elsewhere'}; training: {trained}"
        )


def plan(job: Job) -> Plan:
    """What `job` will hold. Raises R1LabError for a model that cannot be rehearsed."""
    try:
        counts, cpu = count(job.model), job.device == "cpu"
        copies, cache, logits = sampling(job, counts)
        share = job.processes if job.sharded else 1
        trained = counts.adapters * job.lora if job.lora else counts.weights
        # DDP gathers gradients in buckets beside the gradients; each worker has gradients too.
        buckets = 2 if job.processes > 1 and not job.sharded else job.workers
        # A sharded layer is put together when it is used, and the next one already.
        gathered = 2 * 4 * counts.block if job.sharded else 0
        biggest = 4 * max(counts.largest, 1)
        reference = job.config.kl_coef > 0 and not job.lora
        return Plan(
            before=job.before + (FIRST_STEP if cpu else 0),
            weights=4 * (counts.weights + (trained if job.lora else 0)) // share,
            gradients=buckets * 4 * trained // share,
            optimizer=8 * trained // share,
            reference=4 * counts.weights // share if reference else 0,
            sampler=copies + (gathered if job.sampler == "generate" else 0),
            cache=cache,
            logits=logits,
            activations=activations(job) + gathered,
            step=2 * biggest if cpu else max(4 * trained // share, 3 * biggest // 2),
            gradients_stay=job.backend == "scratch",
            parameters=trained,
        )
    except Exception as error:  # code of a model that asks for the values of its tensors
        name = type(job.model).__name__
        raise R1LabError(f"the memory of {name} cannot be planned ({first_line(error)})") from error


@dataclass(frozen=True)
class Counts:
    """Numbers, not bytes, of a model's weights."""

    weights: int
    largest: int  # one tensor
    block: int  # the largest part that FSDP puts together at once
    fused: int  # copied by FastEngine: q, k, v, gate, up
    adapters: int  # of LoRA on all linear layers, for a rank of 1


def count(config: Any) -> Counts:
    """The counts of a transformers configuration's model, which is built without memory."""
    key = config.to_json_string()
    if key not in _COUNTED:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        layers = [sum(p.numel() for p in layer.parameters()) for layer in blocks(model)]
        parts = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
        _COUNTED[key] = Counts(
            weights=sum(sizes.values()),
            largest=max(sizes.values()),
            block=max([*layers, *sizes.values()]),
            fused=sum(n for name, n in sizes.items() if any(part in name for part in parts)),
            adapters=sum(m.in_features + m.out_features for m in linear(model)),
        )
    return _COUNTED[key]


def sampling(job: Job, counts: Counts) -> tuple[int, int, int]:
    """Bytes of the sampler's copies of weights, of keys and values, and of logits."""
    if job.sampler.startswith("http") or job.sampler == "vllm-server":
        return 0, 0, 0
    if job.sampler == "vllm":  # in this process: TRL gives it 0.3 of the device
        return int(0.3 * job.total), 0, 0
    text, config = job.model.get_text_config(), job.config
    heads, layers, V = text.num_attention_heads, text.num_hidden_layers, text.vocab_size
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    b = 2 if job.precision == "bf16" and job.sampler == "r1lab" else 4  # bytes of a number
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    token = layers * 2 * width * kv_heads * b  # keys and values of one token
    N, P, lengths = job.answers, job.prompt_tokens, job.long
    longest = max(lengths)

    known = AutoModelForCausalLM._model_mapping.get(type(job.model), None)
    fast = job.sampler == "r1lab" and getattr(known, "__name__", "") in FAMILIES  # FastEngine
    copies = 0
    if job.backend == "trl" and job.sampler == "r1lab" and (job.sharded or job.lora or b == 2):
        copies = 4 * counts.weights  # a copy in float32, before it becomes bfloat16
    if fast:
        dealt = job.workers if N // job.workers >= workers.FEW else 1
        copies = max(copies, (b * counts.weights if copies else 0) + dealt * b * counts.fused)

    if fast:  # each prompt once; completions in rooms that double, without those that ended
        cache = 2 * (config.questions // job.processes) * P * token
        room = before = most = 0
        first = FIRST_CAPACITY if job.device == "cpu" else FIRST_WITH_KERNELS
        while room < longest:
            alive = sum(n > room for n in lengths)
            room = min(config.max_new_tokens, max(first, 2 * room))
            now = alive * room * token
            most = max(most, now + before // layers, before + now // layers)
            before = now
        cache += most
    else:  # transformers' cache: each prompt for every completion, copied layer by layer to grow
        cache = N * (P + longest) * token
        cache += 2 * cache // layers
    # logits / temperature, log-probs, probabilities, their sums; attention's scores and the MLP
    logits = N * V * (4 * 4 + (b if b == 2 else 0) + (4 if config.temperature != 1 else 0))
    logits += N * heads * (P + longest) * 4 * 4
    logits += 3 * N * 4 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    logits += N * (16 * config.max_new_tokens + (72 * longest if job.device == "cpu" else 0))
    return copies, cache, logits


def check_fit(job: Job, room: int) -> Plan:
    """The plan of `job`, where it fits `room` bytes. Raises R1LabError, which names the first
    change that keeps the result and makes it fit, if there is one."""
    planned = plan(job)
    if planned.peak <= room:
        return planned
    advice = "take a smaller model, --lora-rank 16 with --backend trl, fewer --questions, or a "
    advice += "larger machine"
    for option, changed in harmless(job):
        if (smaller := plan(changed)).peak <= room:
            advice = f"{option} would fit ({size(smaller.peak)})"
            break
    where = "the GPU" if job.device == "cuda" else "this machine"
    needs = f"this run needs {size(planned.peak)} of memory and {where} has {size(room)} for it"
    raise R1LabError(f"{needs}: {advice}")


def harmless(job: Job) -> Iterator[tuple[str, Job]]:
    """Options that keep the result as it is, each with the job that has it."""
    if job.backend == "trl" and not job.gradient_checkpointing:
        yield "--gradient-checkpointing", replace(job, gradient_checkpointing=True)
    row = job.prompt_tokens + max(job.long)
    tokens = min(job.config.micro_batch_tokens, row * job.answers)
    while tokens > row:
        tokens = max(row, tokens // 2)
        config = replace(job.config, micro_batch_tokens=tokens)
        yield f"--micro-batch-tokens {tokens}", replace(job, config=config)


def prompts_of(tokenizer, problems: Sequence, template: str) -> list[list[int]]:
    """Token ids of the first PROMPTS prompts, of which the longest counts."""
    some = problems[:PROMPTS]
    return encode(tokenizer, [prompt_of(tokenizer, problem, template) for problem in some])


def job_of(model, config, *, prompts: Sequence[Sequence[int]], device: str, **options) -> Job:
    """The job of a loaded model. prompts: token ids; the longest counts."""
    here = 0
    if next(model.parameters()).device.type == device:
        for weight in model.parameters():  # one mapped from a file is in memory once it was read
            weight.detach().sum()
            here += weight.nbytes
    scratch = options.get("backend", "scratch") == "scratch"
    return Job(
        model=model.config,
        config=config,
        device=device,
        prompt_tokens=max(map(len, prompts)),
        before=max(0, held(device) - here),
        total=torch.cuda.get_device_properties(0).total_memory if device == "cuda" else 0,
        **{"workers": workers.number(device) if scratch else 1} | options,
    )


def prepare(job: Job, *, checkpointing: Any = False, room: int | None = None) -> tuple[bool, str]:
    """Whether to use gradient checkpointing, and the plan in words.

    checkpointing: True, False or "auto": off where the plan fits without it and a tenth is left.
    Raises R1LabError for a run that cannot fit. A model whose memory cannot be planned may train:
    the words say so, and "auto" is then on for a GPU.
    """
    room = available(job.device) if room is None else room
    try:
        if checkpointing == "auto":
            checkpointing = MARGIN * plan(job).peak > room
        job = replace(job, gradient_checkpointing=bool(checkpointing))
        plan(job)
    except R1LabError as error:
        known = job.device == "cuda" if checkpointing == "auto" else bool(checkpointing)
        return known, f"memory: {error}"
    return job.gradient_checkpointing, check_fit(job, room).words(room)

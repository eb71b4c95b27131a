"""The memory plan: what a run of either backend holds at its peak, and whether that fits.

`plan` adds up, in bytes:

    weights, gradients    4 bytes each: float32, also where --precision computes in bfloat16
    optimizer             AdamW's two moments of every trained weight, in float32
    reference             a second copy of the weights, with a KL term and without LoRA
    sampling              the sampler's copies of weights, keys and values, logits
    training              activations of one micro-batch, log-probs and the backward pass
    before                what the process holds already: on a CPU mostly Python's libraries

The peak contains the larger of sampling and training, because one ends before the other begins.

Activations are rehearsed: the forward and backward pass of one micro-batch runs on tensors without
memory (torch's FakeTensorMode), and `Count` adds up those that are alive. So any architecture,
LoRA, bfloat16 and gradient checkpointing are counted as they are, in about a second. Sampling is
computed from shapes: its loop depends on the tokens' values.

Plan over measured peak of whole steps: 0.95 to 0.98 for the tiny model and 1.01 to 1.09 for
SmolLM2-135M on a CPU (both backends, checkpointing, LoRA); 1.07 for the latter in bf16 on an H100.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM

from r1lab.basics.errors import R1LabError, first_line
from r1lab.machine import workers
from r1lab.machine.room import available, held, size
from r1lab.sampler.families import FAMILIES
from r1lab.sampler.graphs import FIRST_CAPACITY, FIRST_WITH_KERNELS
from r1lab.sampler.score import logps_at, micro_batches
from r1lab.templates import encode, render
from r1lab.trl_backend.mapping import rows_a_pass

PROMPTS = 512  # so many are read to find a long one
MARGIN = 1.1  # gradient checkpointing is left off where the plan fits this many times
FIRST_STEP = 60 << 20  # bytes that libraries and sampling leave on a CPU's heap
HEAP = 1.2  # memory that small tensors take between the holes of a CPU's heap, by their size
SMALL = 32 << 20  # bytes: glibc returns larger blocks to the system when they are freed

_COUNTED: dict[str, Counts] = {}
_REHEARSED: dict[tuple, tuple[int, ...]] = {}


@dataclass(frozen=True)
class Job:
    """A run, as far as its memory goes."""

    model: Any  # its transformers configuration
    config: Any  # r1lab.grpo.GRPOConfig
    backend: str = "scratch"  # or trl
    device: str = "cpu"  # or cuda
    prompt_tokens: int = 32  # of the longest prompt
    lengths: tuple[int, ...] | None = None  # of a rollout's completions; None: max_new_tokens each
    precision: str = "fp32"  # or bf16: bfloat16 arithmetic on float32 weights
    gradient_checkpointing: bool = False
    lora: Any = None  # the adapters' rank, or None
    processes: int = 1
    sharded: bool = False  # weights, gradients, optimizer spread over the processes (FSDP, ZeRO-3)
    sampler: str = "r1lab"  # as `pick_sampler` gives it
    before: int = 0  # bytes that the process holds without the model
    total: int = 0  # bytes of the device, of which vLLM takes a fraction
    workers: int = 1  # of machine.workers, which share rows and micro-batches on a CPU

    @property
    def answers(self) -> int:
        """Completions of one process in one rollout."""
        return self.config.questions * self.config.group_size // self.processes

    @property
    def long(self) -> list[int]:
        """Their lengths in tokens."""
        if self.lengths is None:
            return [self.config.max_new_tokens] * self.answers
        return [max(1, n) for n in self.lengths[: self.answers]]


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


def linear(model) -> list[nn.Linear]:
    """All linear layers but the head: those that get adapters."""
    head = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]


def blocks(model) -> list[nn.Module]:
    """The layers of a transformers model, the first one first."""
    return [m for m in model.modules() if type(m).__name__.endswith(("Layer", "Block"))]


# --- sampling ------------------------------------------------------------------------------------


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


# --- training: a rehearsal -----------------------------------------------------------------------


class Count(TorchDispatchMode):
    """Bytes of the tensors that are alive, now and at most; small ones count `heap` times."""

    def __init__(self, heap: float = 1.0) -> None:
        super().__init__()
        self.heap = heap
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for storage in (t.untyped_storage() for t in tree_iter(out) if isinstance(t, torch.Tensor)):
            key, n = storage._cdata, storage.nbytes()
            if key not in self.seen:
                n = int(n * self.heap) if n < SMALL else n
                self.seen.add(key)
                self.now += n
                weakref.finalize(storage, self.gone, key, n)
        self.most = max(self.most, self.now)
        return out

    def gone(self, key: int, n: int) -> None:
        self.seen.discard(key)
        self.now -= n


def micro_batch(job: Job, worker: int = 0) -> tuple[int, int, int]:
    """Rows, their padded width, and the completion tokens of a worker's largest micro-batch: the
    largest ones are dealt first, one to each."""
    config, lengths, P = job.config, job.long, job.prompt_tokens
    if job.backend == "trl":
        rows = rows_a_pass(config, P, job.processes)
        return rows, P + max(lengths), sum(sorted(lengths, reverse=True)[:rows])
    if job.lengths is None:
        lengths = lengths[: -(-len(lengths) // config.minibatches)]
    sizes = [P + n for n in lengths]
    parts = micro_batches(sizes, workers.budget(sizes, config.micro_batch_tokens, job.workers))
    parts.sort(key=lambda part: -len(part) * sizes[part[0]])
    chosen = [lengths[i] for i in parts[min(worker, len(parts) - 1)]]
    return len(chosen), P + max(chosen), sum(chosen)


def activations(job: Job) -> int:
    """Bytes of the workers' forward and backward passes at their peak, beside weights and
    gradients. Deep models are rehearsed with 2 and 4 layers; each further layer adds the same."""
    total, layers = 0, getattr(job.model, "num_hidden_layers", None)
    for worker in range(job.workers):
        batch = micro_batch(job, worker)
        if isinstance(layers, int) and layers > 6:
            parts = zip(*(rehearse(job, *batch, layers=n) for n in (2, 4)), strict=True)
            total += max(four + (four - two) * (layers - 4) // 2 for two, four in parts)
        else:
            total += max(rehearse(job, *batch))
    return total


def rehearse(
    job: Job, rows: int, width: int, answers: int, layers: int | None = None
) -> tuple[int, int, int]:
    """As `activations`, for `rows` texts of `width` tokens, of which `answers` are learned from.
    Returns the peaks of the forward pass, of the backward pass until it reaches the first layer,
    and of the rest; each grows linearly with the layers, or not at all."""
    config = shallow(job.model, layers)
    key = (
        *(config.to_json_string(), job.backend, job.device, job.precision, rows, width, answers),
        *(job.gradient_checkpointing, job.lora, job.config.kl_coef > 0, job.config.temperature),
    )
    if key in _REHEARSED:
        return _REHEARSED[key]
    run = _trl_pass if job.backend == "trl" else _scratch_pass
    heap = HEAP if job.device == "cpu" else 1.0
    with ExitStack() as stack, FakeTensorMode(), Count(heap) as counted:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        forward = run(model, job, rows, width, answers, stack)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.grad = torch.zeros_like(weight)
        counted.most = always = counted.now
        peaks: list[int] = []

        def note(*_) -> None:
            peaks.append(counted.most - always)
            counted.most = counted.now

        def watch(layer, inputs, output) -> None:
            output = output[0] if isinstance(output, tuple) else output
            if output.requires_grad and not peaks:  # with checkpointing it is computed twice
                output.register_hook(note)

        for first in blocks(model)[:1]:
            first.register_forward_hook(watch)
        loss = forward()
        note()
        loss.backward()
        note()
        _REHEARSED[key] = (*peaks, 0)[:3]
    return _REHEARSED[key]


def shallow(config: Any, layers: int | None) -> Any:
    """A copy of the configuration with so many layers."""
    config = copy.deepcopy(config)
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


def autocast(job: Job):
    """As machine.device.arithmetic does it, on tensors without memory, which are a CPU's."""
    return torch.autocast("cpu", torch.bfloat16, enabled=job.precision == "bf16")


def _scratch_pass(model, job: Job, rows: int, width: int, answers: int, stack: ExitStack):
    """What grpo.backward does with a micro-batch; which tokens are predicted does not matter."""
    ids, where = (torch.zeros(n, dtype=torch.long) for n in ((rows, width), answers))
    given = (model, ids, where, where, job.config.temperature)

    def forward():
        with autocast(job):
            logp = logps_at(*given)[0]
        if job.config.kl_coef > 0:
            with torch.no_grad(), autocast(job):
                logps_at(*given)
        return logp.sum()

    return forward


def _trl_pass(model, job: Job, rows: int, width: int, answers: int, stack: ExitStack):
    """GRPOTrainer._compute_loss: TRL's own head, which works in tiles of the vocabulary."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    if job.device == "cuda":  # there Triton works on the tiles in place
        for name in ("_forward_tile", "_backward_tile"):
            stack.enter_context(mock.patch.object(chunked_logprob, name, lambda *a, **k: None))
    else:  # of a tile wider than the vocabulary only the pages that are written to are there
        vocabulary = model.config.get_text_config().vocab_size
        pages = min(utils._CHUNKED_LOGPROB_CHUNK_SIZE, -(-vocabulary // 1024) * 1024)
        stack.enter_context(mock.patch.object(utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", pages))
    outputs = ("log_probs", "entropy")
    utils.add_fused_lm_head(model, temperature=job.config.temperature, outputs=outputs)
    if job.lora:
        adapt(model, job.lora)
    if job.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        if job.lora:
            model.enable_input_require_grads()
        model.train()
    ids = torch.zeros(rows, width, dtype=torch.long)
    mask = torch.ones(rows, 1, width, width, dtype=torch.bool)  # padding on both sides

    def forward():
        with autocast(job):
            out = model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True)
        return out.log_probs.sum()

    return forward


def adapt(model, rank: int) -> None:
    """Freeze the model and give its linear layers adapters as peft computes them (peft itself swaps
    tensors, which FakeTensorMode refuses)."""
    model.requires_grad_(False)
    for layer in linear(model):
        down = nn.Linear(layer.in_features, rank, bias=False)
        layer.lora = nn.Sequential(down, nn.Linear(rank, layer.out_features, bias=False))
        layer.register_forward_hook(lambda own, args, out: out + own.lora(args[0]) * 2.0)


# --- does it fit? --------------------------------------------------------------------------------


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


# --- before a run --------------------------------------------------------------------------------


def prompts_of(tokenizer, problems: Sequence, template: str) -> list[list[int]]:
    """Token ids of the first PROMPTS prompts, of which the longest counts."""
    return encode(tokenizer, [render(problem, template) for problem in problems[:PROMPTS]])


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

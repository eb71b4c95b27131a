"""The rehearsal of a training step: what its forward and backward passes hold at their peak.

They run on tensors without memory (torch's FakeTensorMode), and `Count` adds up those that are
alive. So any architecture, LoRA, bfloat16 and gradient checkpointing are counted as they are, in
about a second.
"""

import copy
import logging
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM

from r1lab.machine import workers
from r1lab.sampler.score import logps_at, micro_batches
from r1lab.trl_backend.mapping import rows_a_pass

HEAP = 1.2  # memory that small tensors take between the holes of a CPU's heap, by their size
SMALL = 32 << 20  # bytes: glibc returns larger blocks to the system when they are freed

logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # `plan` reports it
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


def linear(model) -> list[nn.Linear]:
    """All linear layers but the head: those that get adapters."""
    head = model.get_output_embeddings()
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]


def blocks(model) -> list[nn.Module]:
    """The layers of a transformers model, the first one first."""
    return [m for m in model.modules() if type(m).__name__.endswith(("Layer", "Block"))]


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
    gradients. Deep models are rehearsed with 2 and 3 layers; each further layer adds the same."""
    total, layers = 0, getattr(job.model, "num_hidden_layers", None)
    for worker in range(job.workers):
        batch = micro_batch(job, worker)
        if isinstance(layers, int) and layers > 6:
            parts = zip(*(rehearse(job, *batch, layers=n) for n in (2, 3)), strict=True)
            total += max(three + (three - two) * (layers - 3) for two, three in parts)
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

"""Memory before it is used: what a run will hold at its peak, whether that fits, and what would.

`plan` adds up what a run of either backend keeps, in bytes:

    weights, gradients    4 bytes each: float32 (bfloat16 is the arithmetic's, see --precision)
    optimizer             AdamW's two moments of every trained weight, in float32
    reference             a second copy of the weights, where there is a KL term and no LoRA
    sampling              the sampler's copies of weights, keys and values, logits
    training              activations of one micro-batch, log-probabilities and the backward pass
    before                what the process holds already: on a CPU mostly Python's libraries

and takes the larger of sampling and training, for one ends before the other begins.

**Activations are rehearsed, not reckoned.** The forward and backward pass of one micro-batch runs
on tensors that have a shape but no memory (torch's FakeTensorMode), while `Count` notes when each
would be made and freed. So every architecture, LoRA, bfloat16 and gradient checkpointing are
counted as they are, in about a second of a CPU and none of a GPU. Deep models are rehearsed with 2
and with 4 layers; each further layer adds the same.

Sampling is reckoned from the shapes of `rollouts`: the loop asks how many answers have ended, which
a tensor without memory cannot say.

**What the allocator adds.** On a CPU, tensors below 32 MiB lie in the C library's heap, between the
holes that freed ones leave. Measured with glibc on the embedded model, resident memory rose over
its start by 144, 310 and 587 MiB for micro-batches of 1,640, 4,100 and 8,200 tokens where 97, 235
and 465 MiB were alive: `HEAP` times what is alive, and some 30 MiB. Sampling leaves 40 MiB; the
rest of a freed heap is used again, so sampling and training do not add up (`FIRST_STEP` holds both
constants). Larger tensors go back to the system, and a GPU's allocator counts what is alive.

Plan over measured peak of whole steps on a CPU: scratch 0.98 (micro-batches of 4,096 tokens, peak
724 MiB) and 0.95 (10,240 tokens, 1,127 MiB), TRL 0.95 (4,096 tokens, 843 MiB). SmolLM2-135M, two
steps of 4 answers of 16 tokens: scratch 1.07 (4.5 GiB), TRL 1.09 (5.7 GiB), with gradient
checkpointing 1.04 (4.0 GiB), with LoRA of rank 8 1.05 (4.2 GiB), with both 1.01 (2.5 GiB). On an
H100, SmolLM2-135M in bf16, 256 answers of up to 256 tokens in micro-batches of 32,768: 1.07 (peak
of the allocator 39.9 GiB; some groups had no spread and were left out).
"""

from __future__ import annotations

import copy
import dataclasses
import weakref
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from r1lab.basics.errors import R1LabError
from r1lab.machine.room import available, held, resident, size
from r1lab.sampler.families import FAMILIES, body_and_head
from r1lab.sampler.graphs import FIRST_CAPACITY, FIRST_WITH_KERNELS
from r1lab.sampler.score import micro_batches
from r1lab.templates import encode, render

PROMPTS = 512  # so many are read to find a long one
MARGIN = 1.1  # gradient checkpointing is left off where the plan fits this many times
FIRST_STEP = 60 << 20  # bytes: what libraries and sampling leave on a CPU's heap
HEAP = 1.2  # memory that small tensors take on a CPU, by their size
SMALL = 32 << 20  # bytes: glibc's largest threshold for giving a block back when it is freed


# --- what is planned -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A run, as far as its memory goes."""

    model: Any  # its transformers configuration
    config: Any  # r1lab.grpo.GRPOConfig
    backend: str = "scratch"  # or trl
    device: str = "cpu"  # or cuda
    prompt_tokens: int = 32  # of the longest prompt
    lengths: tuple[int, ...] | None = None  # of a rollout's answers; None: as long as they may be
    precision: str = "fp32"  # or bf16: bfloat16 arithmetic on float32 weights
    gradient_checkpointing: bool = False
    lora: Any = None  # the adapters' rank, or None
    processes: int = 1
    sharded: bool = False  # weights, gradients, optimizer spread over the processes (FSDP, ZeRO-3)
    sampler: str = "r1lab"  # as trl_backend.pick_sampler gives it
    before: int = 0  # bytes that the process holds without the model
    total: int = 0  # bytes of the device: vLLM takes a share of it

    @property
    def answers(self) -> int:
        """Of one process, in one rollout."""
        return self.config.questions * self.config.group_size // self.processes

    @property
    def long(self) -> list[int]:
        """The length of each of them, in tokens."""
        if self.lengths is None:
            return [self.config.max_new_tokens] * self.answers
        return [max(1, n) for n in self.lengths[: self.answers]]

    @property
    def fast(self) -> bool:
        """Is the sampler r1lab's FastEngine?"""
        return self.sampler == "r1lab" and architecture(self.model) in FAMILIES


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
    logits: int  # of one position of all answers, and what becomes of them
    activations: int  # of one micro-batch
    step: int  # the optimizer's temporaries
    gradients_stay: bool = False  # while answers are sampled
    parameters: int = 0  # how many, not bytes: those trained, with LoRA

    @property
    def sampling(self) -> int:
        held = self.gradients if self.gradients_stay else 0
        return held + self.sampler + self.cache + self.logits

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
        drawn = [("copies of weights", self.sampler), ("keys and values", self.cache)]
        drawn = [f"{name} {size(n)}" for name, n in [*drawn, ("logits", self.logits)] if n]
        trained = f"activations {size(self.activations)}"
        if self.step > self.activations:
            trained = f"the optimizer's step {size(self.step)}"
        of = f" of {size(room)} that can be used" if room is not None else ""
        return "\n".join(
            [
                f"memory: {size(self.peak)}{of}, at its peak, which is in {when}",
                f"    kept: {', '.join(kept)}; held before {size(self.before)}",
                f"    sampling: {', '.join(drawn) or 'elsewhere'}; training: {trained}",
            ]
        )


def plan(job: Job) -> Plan:
    """What `job` will hold. Raises R1LabError for a model that cannot be rehearsed."""
    try:
        return _plan(job)
    except Exception as error:  # code of a model that asks for the values of its tensors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        name = type(job.model).__name__
        raise R1LabError(f"the memory of {name} cannot be planned ({reason[:200]})") from error


def _plan(job: Job) -> Plan:
    counts = count(job.model)
    share = job.processes if job.sharded else 1
    trained = counts.adapters * job.lora if job.lora else counts.weights
    weights = 4 * (counts.weights + (trained if job.lora else 0)) // share
    reference = job.config.kl_coef > 0 and not job.lora
    # DDP gathers gradients in buckets of its own, beside the gradients.
    buckets = 2 if job.processes > 1 and not job.sharded else 1
    # A sharded layer is put together when it is used, and the next one already.
    gathered = 2 * 4 * counts.block if job.sharded else 0
    copies, cache, logits = sampling(job, counts)
    first = FIRST_STEP if job.device == "cpu" else 0
    biggest = 4 * max(counts.largest, 1)
    temporaries = 4 * trained // share if job.device == "cuda" else 2 * biggest
    return Plan(
        before=job.before + first,
        weights=weights,
        gradients=buckets * 4 * trained // share,
        optimizer=8 * trained // share,
        reference=4 * counts.weights // share if reference else 0,
        sampler=copies + (gathered if job.sampler == "generate" else 0),
        cache=cache,
        logits=logits,
        activations=activations(job) + gathered,
        step=max(temporaries, 3 * biggest // 2),
        gradients_stay=job.backend == "scratch",
        parameters=trained,
    )


# --- weights -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """Numbers, not bytes, of a model's weights."""

    weights: int
    largest: int  # one tensor
    block: int  # the largest part that FSDP puts together at once
    fused: int  # copied by FastEngine: q, k, v, gate, up
    adapters: int  # of LoRA on all linear layers, for a rank of 1


def count(config: Any) -> Counts:
    """Of a transformers configuration; the model is built without memory."""
    key = config.to_json_string()
    if key not in _COUNTED:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        head = model.get_output_embeddings()
        linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        layers = [sum(p.numel() for p in layer.parameters()) for layer in blocks(model)]
        parts = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
        _COUNTED[key] = Counts(
            weights=sum(sizes.values()),
            largest=max(sizes.values()),
            block=max([*layers, *sizes.values()]),
            fused=sum(n for name, n in sizes.items() if any(part in name for part in parts)),
            adapters=sum(m.in_features + m.out_features for m in linear),
        )
    return _COUNTED[key]


_COUNTED: dict[str, Counts] = {}


def blocks(model) -> list[torch.nn.Module]:
    """The layers of a transformers model, the first one first."""
    return [m for m in model.modules() if type(m).__name__.endswith(("Layer", "Block"))]


def architecture(config: Any) -> str:
    """The class that transformers makes of a configuration: "Qwen2ForCausalLM"."""
    known = AutoModelForCausalLM._model_mapping
    return known[type(config)].__name__ if type(config) in known else ""


# --- sampling ------------------------------------------------------------------------------------


def sampling(job: Job, counts: Counts) -> tuple[int, int, int]:
    """Bytes of the sampler's copies of weights, of keys and values, and of logits."""
    if job.sampler.startswith("http") or job.sampler == "vllm-server":
        return 0, 0, 0
    if job.sampler == "vllm":  # in this process: TRL gives it 0.3 of the device
        return int(0.3 * job.total), 0, 0
    text = job.model.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    pair = 2 * width * (getattr(text, "num_key_value_heads", None) or heads)
    b = 2 if job.precision == "bf16" and job.sampler == "r1lab" else 4  # bytes of a number
    N, P, lengths = job.answers, job.prompt_tokens, sorted(job.long, reverse=True)
    longest = lengths[0]
    layers, V = text.num_hidden_layers, text.vocab_size
    token = layers * pair * b  # bytes of keys and values of one token

    copies = 0
    if job.backend == "trl" and job.sampler == "r1lab" and (job.lora or b == 2):
        copies = 4 * counts.weights  # a copy in float32, before it becomes bfloat16
    if job.fast:
        copies = max(copies, (b * counts.weights if copies else 0) + b * counts.fused)

    if job.fast:  # questions once, answers in rooms that double; ended answers have left
        questions = job.config.questions // job.processes
        cache = 2 * questions * P * token
        room = before = most = 0
        first = FIRST_CAPACITY if job.device == "cpu" else FIRST_WITH_KERNELS
        while room < longest:
            alive = sum(n > room for n in lengths)
            room = min(job.config.max_new_tokens, max(first, 2 * room))
            now = alive * room * token
            most = max(most, now + before // layers, before + now // layers)
            before = now
        cache += most
    else:  # transformers' cache: prompts for every answer, one layer at a time copied to grow
        cache = N * (P + longest) * token
        cache += 2 * cache // layers
    # logits / temperature, log-probs, probabilities, their sums; attention's scores and the MLP
    logits = N * V * (4 * 4 + (b if b == 2 else 0) + (4 if job.config.temperature != 1 else 0))
    logits += N * heads * (P + longest) * 4 * 4
    logits += 3 * N * 4 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
    drawn = N * (16 * job.config.max_new_tokens + (72 * longest if job.device == "cpu" else 0))
    return copies, cache, logits + drawn


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
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return out

    def add(self, storage) -> None:
        key, n = storage._cdata, storage.nbytes()
        if key not in self.seen:
            n = int(n * self.heap) if n < SMALL else n
            self.seen.add(key)
            self.now += n
            weakref.finalize(storage, self.gone, key, n)

    def gone(self, key: int, n: int) -> None:
        self.seen.discard(key)
        self.now -= n


def micro_batch(job: Job) -> tuple[int, int, int]:
    """Rows, their padded width, and the answer tokens of the largest micro-batch."""
    config, lengths, P = job.config, job.long, job.prompt_tokens
    if job.backend == "trl":
        from r1lab.trl_backend.mapping import rows_a_pass

        rows = rows_a_pass(config, P, job.processes)
        return rows, P + max(lengths), sum(sorted(lengths, reverse=True)[:rows])
    if job.lengths is None:
        lengths = lengths[: -(-len(lengths) // config.minibatches)]
    parts = micro_batches([P + n for n in lengths], config.micro_batch_tokens)
    largest = max(parts, key=lambda part: len(part) * (P + lengths[part[0]]))
    chosen = [lengths[i] for i in largest]
    return len(chosen), P + max(chosen), sum(chosen)


def activations(job: Job) -> int:
    """Bytes that one micro-batch's forward and backward pass need at most, beside weights and
    gradients."""
    rows, width, answers = micro_batch(job)
    layers = getattr(job.model, "num_hidden_layers", None)
    if not isinstance(layers, int) or layers <= 6:
        return max(rehearse(job, rows, width, answers))
    few, more = (rehearse(job, rows, width, answers, layers=n) for n in (2, 4))
    return max(more[0] + (more[0] - few[0]) * (layers - 4) // 2, more[1])


def rehearse(
    job: Job, rows: int, width: int, answers: int, layers: int | None = None
) -> tuple[int, int]:
    """As `activations`, for `rows` texts of `width` tokens, of which `answers` are learned from:
    bytes at most until the backward pass has come to the first layer, and after that. To the first
    each layer adds the same; the second, with the gradient of a large vocabulary, stays."""
    config = shallow(job.model, layers)
    key = (
        *(config.to_json_string(), job.backend, job.device, job.precision),
        *(job.gradient_checkpointing, repr(job.lora), job.config.kl_coef > 0),
        *(job.config.temperature == 1, rows, width, answers),
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
        until: list[int] = []

        def arrived(gradient) -> None:
            until.append(counted.most)
            counted.most = counted.now

        def watch(layer, inputs, output) -> None:
            output = output[0] if isinstance(output, tuple) else output
            if output.requires_grad and not until:
                output.register_hook(arrived)

        for first in blocks(model)[:1]:
            first.register_forward_hook(watch)
        forward().backward()
        parts = (until[0] if until else counted.most, counted.most)
        _REHEARSED[key] = parts[0] - always, parts[1] - always
    return _REHEARSED[key]


_REHEARSED: dict[tuple, tuple[int, int]] = {}


def shallow(config: Any, layers: int | None) -> Any:
    """The configuration with so many layers."""
    config = copy.deepcopy(config)
    if layers is not None:
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    return config


def autocast(bf16: bool):
    """As grpo.arithmetic and accelerate do it, on tensors without memory, which are a CPU's."""
    return torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext()


def _scratch_pass(model, job: Job, rows: int, width: int, answers: int, stack: ExitStack):
    """grpo.backward's use of rollouts.token_logps, where no mask says which tokens are answers."""

    def log_probs():
        ids = torch.zeros(rows, width, dtype=torch.long)
        where = torch.zeros(answers, dtype=torch.long)
        if parts := body_and_head(model):
            body, head = parts
            hidden = body(input_ids=ids, use_cache=False).last_hidden_state
            logits = head(hidden.flatten(0, 1).index_select(0, where))
        else:
            logits = model(input_ids=ids, use_cache=False).logits
            logits = logits.flatten(0, 1).index_select(0, where)
        logits = logits.float()
        if job.config.temperature != 1:
            logits = logits / job.config.temperature
        every = logits.log_softmax(-1)
        with torch.no_grad():
            -(every.exp() * every).sum(-1)
        return every.gather(-1, where[:, None])

    bf16 = job.precision == "bf16"

    def forward():
        with autocast(bf16):
            logp = log_probs()
        if job.config.kl_coef > 0:
            with torch.no_grad(), autocast(bf16):
                log_probs()
        return logp.sum()

    return forward


def _trl_pass(model, job: Job, rows: int, width: int, answers: int, stack: ExitStack):
    """GRPOTrainer._compute_loss: TRL's own head, which works in tiles of the vocabulary."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    if job.device == "cuda":  # the tiles are worked on in place there, by Triton
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
        with autocast(job.precision == "bf16"):
            out = model(input_ids=ids, attention_mask=mask, labels=ids, fused_lm_head=True)
        return out.log_probs.sum()

    return forward


class Adapted(torch.nn.Module):
    """A linear layer with LoRA's two beside it, as peft computes it (peft itself swaps tensors,
    which those without memory do not allow)."""

    def __init__(self, linear: torch.nn.Linear, rank: int):
        super().__init__()
        self.linear = linear
        self.down = torch.nn.Linear(linear.in_features, rank, bias=False)
        self.up = torch.nn.Linear(rank, linear.out_features, bias=False)

    def forward(self, x):
        return self.linear(x) + self.up(self.down(x)) * 2.0


def adapt(model, rank: int) -> None:
    """Freeze the model and put adapters on all its linear layers but the head."""
    model.requires_grad_(False)
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Linear) and child is not head:
                if not isinstance(module, Adapted):
                    setattr(module, name, Adapted(child, rank))


# --- does it fit? --------------------------------------------------------------------------------

SMALLER = {
    "qwen2.5-1.5b": Qwen2Config(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28,
        num_attention_heads=12, num_key_value_heads=2, tie_word_embeddings=True,
    ),
    "qwen2.5-0.5b": Qwen2Config(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
        num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
    ),
    "smollm2-135m": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
        max_position_embeddings=8192,
    ),
    "tiny": LlamaConfig(
        vocab_size=191, hidden_size=192, intermediate_size=512, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=True,
        max_position_embeddings=512,
    ),
}  # fmt: skip
"""Shapes of models by the names of models.PRESETS, the largest first."""


def check_fit(job: Job, room: int) -> Plan:
    """The plan of `job`, where it fits `room` bytes. Raises R1LabError, which names the first
    change that would make it fit."""
    planned = plan(job)
    if planned.peak <= room:
        return planned
    where = "the GPU" if job.device == "cuda" else "this machine"
    found = what_fits(job, room)
    advice = "no option of r1lab makes it fit: take a larger machine"
    if found is not None:
        advice = f"{found[0]} would fit ({size(found[1].peak)})"
    raise R1LabError(
        f"this run needs {size(planned.peak)} of memory and {where} has {size(room)} for it: "
        f"{advice}"
    )


def what_fits(job: Job, room: int) -> tuple[str, Plan] | None:
    """The first change, in words that are options, with which `job` fits, and its plan.

    Tried alone, in this order: what changes nothing in the result (gradient checkpointing, smaller
    micro-batches), adapters, a smaller rollout, more GPUs. Then each of the later ones on top of
    what changes nothing; then smaller models.
    """
    free = list(harmless(job))
    for options, changed in [*free, *others(job)]:
        if (planned := _fits(changed, room)) is not None:
            return options, planned
    least, cheap = job, {}
    for options, changed in free:  # the last of each kind is the one that helps most
        cheap[options.split()[0]] = options
        on = least.gradient_checkpointing or changed.gradient_checkpointing
        config = least.config if changed.config == job.config else changed.config
        least = dataclasses.replace(least, gradient_checkpointing=on, config=config)
    for options, changed in [("", least), *others(least)] if free else ():
        if (planned := _fits(changed, room)) is not None:
            return " ".join([*cheap.values(), options]).strip(), planned
    weights = count(job.model).weights
    for name, model in SMALLER.items():
        smaller = dataclasses.replace(job, model=model)
        if count(model).weights < weights and (planned := _fits(smaller, room)) is not None:
            return f"--model {name}", planned
    return None


def harmless(job: Job):
    """Changes that leave the result as it is: options, and the job with them."""
    if job.backend == "trl" and not job.gradient_checkpointing:
        yield "--gradient-checkpointing", dataclasses.replace(job, gradient_checkpointing=True)
    tokens, row = job.config.micro_batch_tokens, job.prompt_tokens + max(job.long)
    tokens = min(tokens, row * job.answers)
    while tokens > row:
        tokens = max(row, tokens // 2)
        yield f"--micro-batch-tokens {tokens}", _with(job, micro_batch_tokens=tokens)


def others(job: Job):
    """Changes of what is trained, and on what."""
    config = job.config
    if job.lora is None and not job.sharded and job.processes == 1:
        options = "--lora-rank 16" if job.backend == "trl" else "--backend trl --lora-rank 16"
        yield options, dataclasses.replace(job, backend="trl", lora=16)
    for name, low in (("group_size", 4), ("questions", 1), ("max_new_tokens", 128)):
        value = getattr(config, name)
        while value // 2 >= low:
            value //= 2
            option = name.replace("_", "-")
            yield f"--{option} {value}", _with(job, **{name: value})
    if job.device == "cuda" and not job.lora:
        sampler = "generate" if job.sampler == "r1lab" else job.sampler
        for gpus in (2, 4, 8, 16):
            if gpus > job.processes and config.questions % gpus == 0:
                changed = dataclasses.replace(
                    job, backend="trl", processes=gpus, sharded=True, sampler=sampler
                )
                yield f"--print-launch fsdp on {gpus} such GPUs", changed


def _with(job: Job, **changes: Any) -> Job:
    """The job with other options of GRPO; too few answers for the mini-batches is the same job."""
    try:
        return dataclasses.replace(job, config=dataclasses.replace(job.config, **changes))
    except R1LabError:
        return job


def _fits(job: Job, room: int) -> Plan | None:
    """The plan, where the job is possible and fits."""
    longest = job.prompt_tokens + job.config.max_new_tokens
    if longest > (getattr(job.model, "max_position_embeddings", None) or longest):
        return None
    share = job.processes if job.sharded else 1
    if job.before + 4 * count(job.model).weights // share > room:  # no need to rehearse
        return None
    try:
        if job.backend == "trl":
            from r1lab.trl_backend.mapping import check

            check(job.config, processes=job.processes, lora=job.lora)
        planned = plan(job)
    except R1LabError:
        return None
    return planned if planned.peak <= room else None


# --- before a run --------------------------------------------------------------------------------


def prompts_of(tokenizer, problems: Sequence, template: str) -> list[list[int]]:
    """Token ids of the first PROMPTS questions, among which a long one is looked for."""
    return encode(tokenizer, [render(problem, template) for problem in problems[:PROMPTS]])


def job_of(model, config, *, prompts: Sequence[Sequence[int]], device: str, **options) -> Job:
    """The job of a loaded model. prompts: token ids; the longest counts."""
    here = 0
    if _device(model) == device:
        sizes = (p.numel() * p.element_size() for p in model.parameters())
        here = sum(sizes) if device == "cuda" else resident(model)
    total = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else 0
    return Job(
        model=model.config,
        config=config,
        device=device,
        prompt_tokens=max(map(len, prompts)),
        before=max(0, held(device) - here),
        total=total,
        **options,
    )


def _device(model) -> str:
    return next(model.parameters()).device.type


def prepare(job: Job, *, checkpointing: Any = False, room: int | None = None) -> tuple[bool, str]:
    """Whether to use gradient checkpointing, and the plan in words.

    checkpointing: True, False or "auto": off where the plan fits without it and a tenth is left.
    Raises R1LabError for a run that cannot fit. A model whose memory cannot be planned is not held
    up: the words say so, and "auto" is then on for a GPU.
    """
    room = available(job.device) if room is None else room
    try:
        if checkpointing == "auto":
            checkpointing = MARGIN * plan(job).peak > room
        job = dataclasses.replace(job, gradient_checkpointing=bool(checkpointing))
        plan(job)
    except R1LabError as error:
        known = job.device == "cuda" if checkpointing == "auto" else bool(checkpointing)
        return known, f"memory: {error}"
    return job.gradient_checkpointing, check_fit(job, room).words(room)

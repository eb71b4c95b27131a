"""Three measurements for whoever has a GPU for half an hour, each one command of under 10 minutes.

    sampler   tokens a second: r1lab.rollouts.sample against transformers' generate, vLLM, and the
              time that the memory alone needs for the bytes that every token must read
    step      seconds of a GRPO step: r1lab.grpo against TRL's GRPOTrainer, which draws with
              generate, with our sampler, with vLLM; training arithmetic against a matrix product
    run       ten minutes of R1-Zero on a real model: held-out accuracy before and after, lengths,
              answers, cost

Nothing here needs the network. A contender that fails, or that is not installed, is noted with its
reason, and the others go on; what is known so far is on the disk after each of them, so a run that
is cut leaves what it has. Goals are reported as met or not met. `--quick` does the same in toy
sizes on any device: it proves that the code runs, and its numbers mean nothing.

**The task of `run`.** RL can only reward what comes by itself now and then. So the run first asks
the untrained model 32 training questions of each of CANDIDATES, 16 times each, and takes the task
with the largest pass@16 - pass@1, in seconds on a GPU. On two CPU cores, with 12 questions each
(SmolLM2-135M, template "examples", temperature 0.6, at most 96 tokens; 95 % intervals):

    task                      right (pass@1)        pass@16             well formed
    word problems, family     2.1 % [0.0, 5.2]      17 % [0, 42]        61 %
    word problems, legs       1.6 % [0.0, 3.6]      17 % [0, 42]        49 %
    word problems, all easy   1.0 % [0.0, 3.1]       8 % [0, 25]        49 %
    Countdown, 3 numbers      0 of 192               0 of 12             0 %

"family" counts sisters and friends, a rule of one step that the model does not know; its "hard"
numbers (up to 20) leave some 90 problems to hold out. At temperature 1 only 11 % of 128 answers
were well formed (legs; 1 right), as turns of a chat 8 % of 64 (none right): so the policy of the
run, drawn, trained and evaluated, is the one at 0.6.

On an H100, at rate 3e-5, the accuracy of the training batches rose from 2 to 65 % in nine steps;
that rate was chosen by them, and no other was seen to the end (three trainings at once were too
much for its memory).
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import torch

from r1lab import ROOT, grpo, models
from r1lab.basics import quiet
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import write_json
from r1lab.bench import cpu
from r1lab.bench.cpu import now
from r1lab.evaluate import Evaluation, difference, evaluate
from r1lab.grpo import GRPOConfig
from r1lab.machine import about, costs
from r1lab.machine.about import driver, gpu_versions
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.tasks import distinct, get_task
from r1lab.templates import render

RESULTS = ROOT / "benchmarks" / "results"
PARTS = ("sampler", "step", "run")
MODEL = "smollm2-135m"
GOALS = {  # by the end of a ratio's name
    "vs_generate": 8.0,
    "vs_generate_compiled": 8.0,
    "vs_vllm": 1.0,
    "share_of_floor": 0.4,
    "step_vs_trl_generate": 3.0,
    "matmul_share": 0.4,
    "accuracy_ratio": 3.0,
    "accuracy_points": 0.3,
}
MEANING = {
    "vs_generate": "tokens a second, r1lab / generate with its default cache",
    "vs_generate_compiled": "tokens a second, r1lab / generate, static cache and torch.compile",
    "vs_vllm": "tokens a second, r1lab / vLLM",
    "share_of_floor": "time that reading weights, keys and values must take / time of r1lab",
    "step_vs_trl_generate": "GRPO step, TRL with generate / r1lab",
    "step_vs_trl_default": "GRPO step, TRL with all of its defaults / r1lab",
    "step_vs_trl_our_sampler": "GRPO step, TRL through r1lab.trl_backend / r1lab",
    "step_vs_trl_vllm": "GRPO step, TRL with vLLM / r1lab",
    "matmul_share": "training arithmetic / matrix product",
    "accuracy_ratio": "held-out pass@1 after / before",
    "accuracy_points": "held-out pass@1 after - before",
}
SHARES = ("share_of_floor", "matmul_share", "accuracy_points")
# TRL at its best on a GPU that has the memory: bfloat16, nothing computed twice, large passes.
TRL_GPU = {"gradient_checkpointing": False, "per_device_train_batch_size": 32}
VLLM_MEMORY = 0.3  # share of the GPU that vLLM may take: the contenders live side by side


# What the run may train on; the larger numbers of "hard" leave more problems to hold out.
CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("word_problems", {"difficulty": "hard", "kinds": ["family"]}),
    ("word_problems", {"difficulty": "easy", "kinds": ["legs"]}),
    ("word_problems", {"difficulty": "easy"}),
    ("countdown", {"numbers": 3, "wording": "plain"}),
)


@dataclass(frozen=True)
class Batch:
    """One size of the sampler's measurement: `rows` answers of `tokens` tokens, `group` to each
    question. natural: answers end where the model ends them, as in RL."""

    rows: int
    tokens: int = 256
    group: int = 16
    natural: bool = False

    @property
    def name(self) -> str:
        return f"batch_{self.rows}" + ("_natural" if self.natural else "")


@dataclass(frozen=True)
class Plan:
    """What to measure, how often, and in how many minutes at most."""

    task: str = "word_problems"
    task_options: dict[str, Any] = field(default_factory=lambda: {"difficulty": "easy"})
    template: str = "examples"
    repeats: int = 3
    minutes: float = 9.5
    batches: tuple[Batch, ...] = (Batch(256), Batch(256, natural=True), Batch(64), Batch(512))
    copy_bytes: int = 2**30
    matmul_sizes: tuple[int, ...] = (4096, 8192)
    # the step, and the run
    config: GRPOConfig = GRPOConfig(
        steps=240,
        questions=32,
        group_size=16,
        max_new_tokens=128,
        temperature=0.6,
        template="examples",
        learning_rate=3e-5,
        warmup_steps=5,
        micro_batch_tokens=32768,
        checkpoint_every=10**9,
    )
    candidates: tuple[tuple[str, dict[str, Any]], ...] = CANDIDATES
    probe_problems: int = 32
    step_questions: int = 16
    step_tokens: int = 256
    eval_problems: int = 256
    eval_k: int = 16


QUICK = Plan(
    task="countdown",
    task_options={},
    template="tiny",
    repeats=1,
    minutes=30.0,
    batches=(Batch(4, 6, 2), Batch(4, 6, 2, natural=True)),
    copy_bytes=2**16,
    matmul_sizes=(64,),
    config=GRPOConfig(steps=2, questions=2, group_size=2, max_new_tokens=8, checkpoint_every=10**9),
    candidates=(("countdown", {}), ("countdown", {"numbers": 4})),
    probe_problems=2,
    step_questions=2,
    step_tokens=8,
    eval_problems=4,
    eval_k=2,
)


def run(
    part: str,
    model: str | os.PathLike | None = None,
    *,
    quick: bool = False,
    repeats: int | None = None,
    minutes: float | None = None,
    backend: str = "scratch",
    out: str | os.PathLike | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Measure one of PARTS; write <out>.json and <out>.md as it goes; returns what the JSON holds.

    model    a name for r1lab.models.load; default SmolLM2-135M, with quick the tiny base
    quick    toy sizes on any device, to prove that it works; written only where `out` says
    repeats  of the sampler and the step; default 3
    minutes  of the whole run, evaluations included; default 9.5. Nothing begins after it
    backend  of the run: "scratch" (r1lab.grpo) or "trl"
    out      a file, or a folder that gets a gpu-<part>.json; default benchmarks/results

    Raises R1LabError for an unknown part, without a GPU (unless quick), and for numbers that cannot
    be meant.
    """
    stream = sys.stderr if stream is None else stream
    if part not in PARTS:
        raise R1LabError(f"unknown GPU measurement '{part}'; take one of {', '.join(PARTS)}")
    if backend not in ("scratch", "trl"):
        raise R1LabError(f"backend must be scratch or trl, not '{backend}'")
    if repeats is not None and repeats < 1:
        raise R1LabError(f"repeats must be at least 1, not {repeats}")
    cuda = torch.cuda.is_available()
    if not cuda and not quick:
        raise R1LabError(
            f"r1lab bench --gpu {part} needs an NVIDIA GPU, and torch sees none here; --quick "
            "tries the same in toy sizes on a CPU"
        )
    plan = QUICK if quick else Plan()
    given = {"repeats": repeats, "minutes": minutes}
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    budget = costs.Budget(max_minutes=plan.minutes)
    if out is None and not quick:
        out = RESULTS
    if out is not None and Path(out).is_dir():  # else a second part would replace the first
        out = Path(out) / f"gpu-{part}.json"
    name = str(model or ("tiny" if quick else MODEL))

    sheet = Sheet(None if out is None else Path(out).with_suffix(".json"), budget, stream)
    sheet.report = header(part, name, quick, plan)
    device = torch.device("cuda" if cuda else "cpu")
    # The sampler is measured in the type that it runs in; weights are trained in float32.
    dtype = torch.bfloat16 if cuda and part == "sampler" else torch.float32
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32, where nothing says bfloat16
        from r1lab.trl_backend.trainer import without_cudnn_attention

        without_cudnn_attention()
    base, tokenizer = models.load(name, dtype=dtype, device=device)
    sheet.report["model"] = cpu.describe_model(base, name)
    task = get_task(plan.task, **plan.task_options)
    with quiet.quietly(), tempfile.TemporaryDirectory() as folder:
        stand = Stand(base, tokenizer, task, plan, Path(folder), sheet, backend)
        MEASURES[part](stand)
    sheet.report["finished"] = True
    sheet.save()
    print(f"\n{table(sheet.report)}", file=stream)
    if sheet.path is not None:
        print(f"written: {sheet.path} and {sheet.path.with_suffix('.md').name}", file=stream)
    return sheet.report


@dataclass
class Sheet:
    """The report as it grows: every `save` puts all that is known on the disk."""

    path: Path | None
    budget: costs.Budget
    stream: TextIO
    report: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds until the time is up."""
        return self.budget.seconds - self.seconds

    def say(self, words: str) -> None:
        print(f"{costs.clock(self.seconds):>8}  {words}", file=self.stream, flush=True)

    def save(self) -> None:
        self.report["minutes"] = round(self.seconds / 60, 2)
        self.report["goals"] = judge(self.report["ratios"])
        if self.path is not None:
            write_json(self.path, self.report)
            self.path.with_suffix(".md").write_text(page(self.report), encoding="utf-8")


@dataclass
class Stand:
    """What every measurement needs."""

    base: torch.nn.Module
    tokenizer: Any
    task: Any
    plan: Plan
    folder: Path
    sheet: Sheet
    backend: str = "scratch"
    asked: dict[tuple[int, int], list[list[int]]] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return self.base.device


def header(part: str, model: str, quick: bool, plan: Plan) -> dict[str, Any]:
    from r1lab.machine.about import versions

    return {
        "part": part,
        "when": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "quick": quick,
        "finished": False,
        "hardware": hardware(),
        "versions": versions() | gpu_versions(),
        "model": {"name": model},
        "task": {"name": plan.task, **plan.task_options, "template": plan.template},
        "measured": {},
        "failures": {},
        "ratios": {},
        "goals": {},
        "minutes": 0.0,
    }


def hardware() -> dict[str, Any]:
    """r1lab.runner's, with the GPU that torch computes on: name, memory, driver; None without."""
    found = about.hardware() | {"gpu": None}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "name": card.name,
            "memory_gib": round(card.total_memory / 2**30),
            "multiprocessors": card.multi_processor_count,
            "count": torch.cuda.device_count(),
            "driver": driver(),
        }
    return found


def attempt(stand: Stand, name: str, action: Callable[..., Any], *arguments: Any) -> Any:
    """What the action returns; where it fails, its error's line is noted and None comes back."""
    sheet, words = stand.sheet, "not measured: the time was up"
    if sheet.left > 0:
        try:
            return action(*arguments)
        except Exception as error:  # out of memory, a version that does not fit, no compiler
            first = (str(error).strip() or "no message").splitlines()[0][:300]
            absent = isinstance(error, R1LabError) and first.startswith("not installed")
            words = first if absent else f"{type(error).__name__}: {first}"
        release()
    sheet.report["failures"][name] = words
    sheet.say(f"{name}: {words}")
    return None


def release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


# --- the sampler ---------------------------------------------------------------------------------


def measure_sampler(stand: Stand) -> None:
    """Answer tokens a second of every contender at every size; fixed lengths, and natural ends."""
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    bandwidth = copy_rate(plan.copy_bytes, stand.device)
    report["bandwidth_gb_per_second"] = bandwidth / 1e9
    sheet.say(f"copying memory moves {bandwidth / 1e9:,.0f} GB/s")
    contenders: dict[str, Callable[[Batch, int], list[int]]] = {
        "r1lab": lambda batch, seed: draw_ours(stand, batch, seed),
        "generate": lambda batch, seed: draw_generate(stand, batch, seed, disable_compile=True),
        "generate_compiled": lambda batch, seed: draw_generate(
            stand,
            batch,
            seed,
            disable_compile=False,
            cache_implementation="static",
            width=widest(stand, batch),  # one shape, or it would be compiled again
        ),
        "vllm": VLLM(stand),
    }
    for batch in plan.batches:
        one = report["measured"][batch.name] = {
            "rows": batch.rows,
            "group": batch.group,
            "max_new_tokens": batch.tokens,
            "ends": "at EOS" if batch.natural else "at max_new_tokens",
            "prompt_tokens": statistics.fmean(map(len, prompts(stand, batch, 0))),
            "contenders": {},
        }
        for name, draw in list(contenders.items()):
            began = time.perf_counter()
            ran = attempt(stand, f"{batch.name}/{name}", draw, batch, 0)
            if ran is not None:  # the first call pays for memory, kernels and compilation
                one["contenders"][name] = {
                    "warm_up_seconds": time.perf_counter() - began,
                    "seconds": [],
                    "tokens": [],
                    "tokens_per_second": [],
                    "floor_tokens_per_second": [],
                }
                sheet.say(f"{batch.name}, {name}: warm after {time.perf_counter() - began:.1f} s")
            elif report["failures"].get(f"{batch.name}/{name}", "").startswith("not installed"):
                report["failures"] |= {name: report["failures"].pop(f"{batch.name}/{name}")}
                del contenders[name]
            sheet.save()
        live = list(one["contenders"])
        for repeat in range(plan.repeats):
            asked = [len(p) for p in prompts(stand, batch, repeat)]
            for name in list(live):
                label = f"{batch.name}/{name}, repeat {repeat + 1}"
                found = attempt(stand, label, timed, stand, contenders[name], batch, repeat)
                if found is None:
                    live.remove(name)
                    continue
                lengths, seconds = found
                least = floor_bytes(stand.base, asked, lengths) / bandwidth
                m = one["contenders"][name]
                m["seconds"].append(seconds)
                m["tokens"].append(sum(lengths))
                m["tokens_per_second"].append(sum(lengths) / seconds)
                m["floor_tokens_per_second"].append(sum(lengths) / least)
            report["ratios"] |= sampler_ratios(batch.name, one["contenders"])
            sheet.save()
        rates = ", ".join(
            f"{name} {statistics.median(m['tokens_per_second']):,.0f}"
            for name, m in one["contenders"].items()
            if m["tokens_per_second"]
        )
        sheet.say(f"{batch.name}: {rates or 'nothing measured'} (tokens a second)")


def timed(stand: Stand, draw: Callable, batch: Batch, seed: int) -> tuple[list[int], float]:
    """Lengths of the answers that a contender draws, and its seconds."""
    began = now(stand.device)
    lengths = draw(batch, seed)
    return lengths, now(stand.device) - began


def prompts(stand: Stand, batch: Batch, seed: int) -> list[list[int]]:
    """The questions of a batch as token ids; written once, outside of what is timed."""
    n = max(1, batch.rows // batch.group)
    if (n, seed) not in stand.asked:
        problems = stand.task.problems("train", n, seed=seed)
        texts = [render(problem, stand.plan.template) for problem in problems]
        stand.asked[n, seed] = stand.tokenizer(texts)["input_ids"]
    return stand.asked[n, seed]


def widest(stand: Stand, batch: Batch) -> int:
    """Tokens of the longest question of all repeats."""
    repeats = range(stand.plan.repeats)
    return max(len(ids) for repeat in repeats for ids in prompts(stand, batch, repeat))


def draw_ours(stand: Stand, batch: Batch, seed: int) -> list[int]:
    """Lengths of the answers that r1lab draws."""
    drawn = sample(
        stand.base,
        prompts(stand, batch, seed),
        Sampling(batch.tokens, seed=seed),
        group_size=batch.group,
        eos_token_id=stand.tokenizer.eos_token_id if batch.natural else None,
    )
    return list(map(len, drawn.completion_ids))


def draw_generate(stand: Stand, batch: Batch, seed: int, **options: Any) -> list[int]:
    """Lengths of the answers that transformers' generate draws."""
    asked = [p for p in prompts(stand, batch, seed) for _ in range(batch.group)]
    if not batch.natural:
        options["min_new_tokens"] = batch.tokens
    eos = stand.tokenizer.eos_token_id
    return cpu.generated(stand.base, asked, batch.tokens, eos, seed, **options)


class VLLM:
    """vLLM as a contender: its engine starts at the first call and stays."""

    def __init__(self, stand: Stand):
        self.stand, self.engine = stand, None

    def __call__(self, batch: Batch, seed: int) -> list[int]:
        if importlib.util.find_spec("vllm") is None:
            raise R1LabError("not installed: pip install vllm, see benchmarks/README.md")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # in this process
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from vllm import LLM, SamplingParams

        plan = self.stand.plan
        if self.engine is None:
            most = max(len(p) for b in plan.batches for p in prompts(self.stand, b, 0))
            tokens = max(b.tokens for b in plan.batches)
            self.engine = LLM(
                models.resolve(self.stand.sheet.report["model"]["name"]),
                dtype="bfloat16",
                gpu_memory_utilization=VLLM_MEMORY,
                max_model_len=most + tokens + 256,  # other seeds ask longer questions
                max_num_seqs=max(b.rows for b in plan.batches),
                disable_log_stats=True,
            )
        asked = prompts(self.stand, batch, seed)
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


def sampler_ratios(batch: str, contenders: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """r1lab against each other contender, and against the floor, repeat by repeat."""
    ours = contenders.get("r1lab", {}).get("tokens_per_second", [])
    found = {}
    for name, m in contenders.items():
        if name != "r1lab":
            found[f"{batch}/vs_{name}"] = ratio(ours, m["tokens_per_second"])
    if ours:
        floor = contenders["r1lab"]["floor_tokens_per_second"]
        found[f"{batch}/share_of_floor"] = ratio(ours, floor)
    return {name: r for name, r in found.items() if r is not None}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, Any] | None:
    """The quotient of every repeat and their median; None where one side was not measured."""
    pairs = [a / b for a, b in zip(above, below, strict=False)]
    return {"value": statistics.median(pairs), "pairs": pairs} if pairs else None


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


# --- the step ------------------------------------------------------------------------------------


def measure_step(stand: Stand) -> None:
    """Seconds of a GRPO step of every contender, and the share of a matrix product.

    A contender makes 1 + repeats steps in a row, the first to warm up, with a learning rate of next
    to nothing, so that all its answers are the base's (vLLM takes a minute to start, too long for
    turns). r1lab runs first and again last but vLLM: `drift` says what the machine did meanwhile.
    """
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    config = replace(
        plan.config,
        questions=plan.step_questions,
        max_new_tokens=plan.step_tokens,
        learning_rate=1e-9,
        warmup_steps=0,
        samples_every=0,
    )
    cuda = stand.device.type == "cuda"
    loops = cpu.Bench(
        stand.base,
        stand.tokenizer,
        stand.task,
        cpu.Plan(
            config,
            repeats=plan.repeats,
            limit_seconds=sheet.budget.seconds,
            matmul_sizes=plan.matmul_sizes,
            matmul_dtype=torch.bfloat16 if cuda else torch.float32,
        ),
        stand.folder,
        sheet.say,
    )
    report["configuration"] = config.to_json()
    trl = dict(TRL_GPU) if cuda else dict(cpu._FLOAT32)
    report["trl_options"] = trl
    most = max(len(p) for p in loops.prompts(0)) + 128  # other steps ask longer questions
    vllm = trl | {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_gpu_memory_utilization": VLLM_MEMORY,
        "vllm_max_model_length": most + config.max_new_tokens,
    }
    steps = 1 + plan.repeats
    contenders: dict[str, Callable[[], cpu.Run]] = {
        "r1lab": lambda: cpu.r1lab_run(loops, 0, steps),
        "trl_generate": lambda: cpu.trl_run(loops, trl, 0, steps),
        "trl_our_sampler": lambda: cpu.trl_run(loops, trl, 0, steps, ours="backend"),
        "trl_default": lambda: cpu.trl_run(loops, cpu.TRL_DEFAULT if cuda else trl, 0, steps),
        "r1lab_again": lambda: cpu.r1lab_run(loops, 0, steps),
        "arithmetic": lambda: cpu.measure_matmul(loops),
        "trl_vllm": lambda: trl_with_vllm(loops, vllm, steps, cuda),
    }
    for name, contend in contenders.items():
        found = attempt(stand, name, contend)
        release()
        if name == "arithmetic" and found is not None:
            report["arithmetic"] = found[0]
            share = found[1]["matmul_share"]
            report["ratios"]["matmul_share"] = {"value": statistics.median(share), "pairs": share}
        elif found is not None:
            report["measured"][name] = {
                "warm_up_seconds": found.seconds[0],
                "seconds": found.seconds[1:],
                "mean_length": [float(n) for n in found.length[1:]],
                "accuracy": [float(a) for a in found.accuracy[1:]],
            }
            if found.seconds[1:]:
                sheet.say(f"{name}: {statistics.median(found.seconds[1:]):.2f} s a step")
        report["ratios"] |= step_ratios(report["measured"])
        if "r1lab_again" in report["measured"]:
            sides = (report["measured"][n]["seconds"] for n in ("r1lab_again", "r1lab"))
            report["drift"] = ratio(*sides)
        sheet.save()


def trl_with_vllm(stand: cpu.Bench, options: dict[str, Any], steps: int, cuda: bool) -> cpu.Run:
    if importlib.util.find_spec("vllm") is None:
        raise R1LabError("not installed: pip install vllm, see benchmarks/README.md")
    if not cuda:
        raise R1LabError("vLLM needs a GPU")
    return cpu.trl_run(stand, options, 0, steps)


def step_ratios(measured: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """TRL's seconds over ours, step by step: both asked the same questions at the same step."""
    ours = measured.get("r1lab", {}).get("seconds", [])
    found = {
        f"step_vs_{name}": ratio(m["seconds"], ours)
        for name, m in measured.items()
        if name.startswith("trl_")
    }
    return {name: r for name, r in found.items() if r is not None}


# --- the run -------------------------------------------------------------------------------------


def measure_run(stand: Stand) -> None:
    """Evaluate, train until the time is nearly up, evaluate again on the same held-out problems.

    The time kept for the second evaluation is twice what the first took, for answers that grow.
    """
    plan, sheet, report = stand.plan, stand.sheet, stand.sheet.report
    config = plan.config
    report |= {"configuration": config.to_json(), "backend": stand.backend}
    choose_task(stand)
    drawn = stand.task.problems("held_out", plan.eval_problems, seed=0)
    problems = distinct(drawn)
    before = examine(stand, problems)
    report["measured"]["before"] = summary(before)
    report["samples"] = shown(before)
    sheet.say(f"before: {said(before)}")
    sheet.save()

    keep = 2 * before.seconds + 10 * (not report["quick"])
    curve = report["measured"]["training"] = []
    training_began = time.perf_counter()

    def watch(step: int, metrics: dict, batch: Any) -> None:
        names = ("accuracy", "format", "length", "truncated", "entropy", "tokens", "seconds")
        curve.append({"step": step} | {name: float(metrics[name]) for name in names})
        if step % 5 == 0:
            sheet.say(
                f"step {step}: accuracy {metrics['accuracy']:.2f}, format {metrics['format']:.2f}, "
                f"length {metrics['length']:.0f}, {metrics['seconds']:.1f} s"
            )
            sheet.save()
        if sheet.left - keep < 1.5 * metrics["seconds"] and stand.backend == "scratch":
            raise cpu.Enough

    failed = attempt(stand, "training", lambda: train(stand, config, watch, sheet.left - keep))
    report["training_seconds"] = time.perf_counter() - training_began
    if failed is None and not curve:  # no step was made: there is nothing to compare
        return
    sheet.say(f"{len(curve)} steps in {costs.clock(report['training_seconds'])}")
    sheet.save()

    after = attempt(stand, "evaluation after", examine, stand, problems)
    if after is None:
        return
    report["measured"]["after"] = summary(after)
    report["samples"] = shown(before, after)
    gain = difference(before, after)
    report["difference"] = list(map(number, gain))
    report["ratios"]["accuracy_points"] = {"value": gain.value, "pairs": []}
    if before.accuracy.value > 0:
        times = after.accuracy.value / before.accuracy.value
        report["ratios"]["accuracy_ratio"] = {"value": times, "pairs": []}
    report["cost"] = cost(sheet.seconds)
    sheet.say(f"after: {said(after)}")
    if not report["quick"]:
        folder = ROOT / "runs" / "gpu-run"
        models.save(stand.base, stand.tokenizer, folder / "model")
        write_json(folder / "after.json", json.loads(after.to_json()))
        sheet.say(f"the trained model is in {folder / 'model'}")


def choose_task(stand: Stand) -> None:
    """Take the candidate with the most for RL to find: what 16 answers hold that one does not.

    Asked on the train split, before any training; all that was found is in the report.
    """
    plan, report = stand.plan, stand.sheet.report
    tried = report["probe"] = []
    for name, options in plan.candidates:
        task = get_task(name, **options)
        label = f"{name} {json.dumps(options)}" if options else name
        found = attempt(stand, f"probe of {label}", probe, replace(stand, task=task))
        if found is not None:
            k = found.settings["k"]
            one, many = found.accuracy.value, found.pass_at(k).value
            about = {"task": {"name": name, **options}, "pass@1": one, f"pass@{k}": many}
            tried.append(about | {"format": found.format.value, "room": many - one})
            stand.sheet.say(f"{label}: pass@1 {one:.3f}, pass@{k} {many:.3f}")
    if not tried:
        raise R1LabError(f"no task could be tried: {'; '.join(report['failures'].values())}")
    best = max(tried, key=lambda one: one["room"])["task"]
    options = {key: value for key, value in best.items() if key != "name"}
    stand.task = get_task(best["name"], **options)
    report["task"] = best | {"template": plan.template}


def probe(stand: Stand) -> Evaluation:
    """The stand's model on some training questions of the stand's task."""
    return examine(stand, stand.task.problems("train", stand.plan.probe_problems, seed=1))


def train(stand: Stand, config: GRPOConfig, watch: Callable, seconds: float) -> bool:
    """Train the stand's model in place for so many seconds at most."""
    if stand.backend == "trl":
        from r1lab.trl_backend import run

        run.train(
            stand.base,
            stand.tokenizer,
            stand.task,
            config,
            stand.folder / "trl",
            progress=False,
            callbacks=[watch],
            budget=costs.Budget(max_minutes=max(1e-3, seconds / 60)),
        )
        return True
    options = {"progress": False, "callbacks": [watch]}
    with suppress(cpu.Enough):
        folder = stand.folder / "run"
        grpo.train(stand.base, stand.tokenizer, stand.task, config, folder, **options)
    return True


def examine(stand: Stand, problems: Sequence[Any]) -> Evaluation:
    plan = stand.plan
    return evaluate(
        stand.base,
        stand.tokenizer,
        stand.task,
        problems,
        k=plan.eval_k,
        sampling=Sampling(plan.config.max_new_tokens, plan.config.temperature),
        template=plan.template,
    )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Every measure as [value, low, high], None where there is none; n, k and seconds."""
    measures = {name: list(map(number, e)) for name, e in evaluation.summary().items()}
    k = evaluation.settings["k"]
    about = {"problems": len(evaluation.problems), "k": k, "seconds": evaluation.seconds}
    return about | measures


def said(evaluation: Evaluation) -> str:
    value, low, high = evaluation.accuracy
    return (
        f"held-out pass@1 {value:.3f} [{low:.3f}, {high:.3f}], well formed "
        f"{evaluation.format.value:.2f}, {evaluation.length.value:.0f} tokens"
    )


def shown(before: Evaluation, after: Evaluation | None = None, n: int = 4) -> list[dict[str, Any]]:
    """The first answers to the first held-out problems, not chosen: before, and after."""
    found = []
    for i, problem in enumerate(before.problems[:n]):
        one: dict[str, Any] = {"question": problem.question}
        for name, evaluation in (("before", before), ("after", after)):
            if evaluation is not None:
                answer = evaluation.completions[i][0]
                one[name] = {"text": answer.text, "correct": bool(answer.correct)}
        found.append(one)
    return found


def cost(seconds: float) -> dict[str, Any] | None:
    """What so many seconds of this machine cost by the price table; None for a GPU not in it."""
    price = None
    if torch.cuda.is_available():
        price = costs.price_of(torch.cuda.get_device_name(0))
    if price is None:
        return None
    return {"dollars": costs.dollars(seconds, price.dollars_per_hour), "price": price.words()}


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return float(value) if value == value else None


MEASURES = {"sampler": measure_sampler, "step": measure_step, "run": measure_run}


# --- goals, and the page -------------------------------------------------------------------------


def judge(ratios: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each ratio that has a goal: the goal, and whether what was measured meets it."""
    found = {}
    for name, measured in ratios.items():
        goal = GOALS.get(name.split("/")[-1])
        if goal is not None:
            found[name] = {"goal": goal, "met": measured["value"] >= goal}
    return found


def why_not_committed(report: dict[str, Any]) -> str | None:
    """Why a report must not stand in benchmarks/results, in words; None where it may."""
    if report.get("part") not in PARTS:
        return "it is none of the GPU measurements"
    if report.get("quick"):
        return "it was measured in toy sizes (--quick)"
    gpu = report.get("hardware", {}).get("gpu")
    if not isinstance(gpu, dict) or not gpu.get("name"):
        return "it does not come from a GPU"
    names = ("cuda", "torch", "transformers", "trl", "vllm")
    missing = [name for name in names if not report.get("versions", {}).get(name)]
    if missing:
        return f"it does not name the version of {', '.join(missing)}"
    if report.get("goals") != judge(report.get("ratios", {})):
        return "its goals are not those of its ratios"
    return None


def table(report: dict[str, Any]) -> str:
    """The ratios beside their goals, in markdown."""
    lines = [
        "| ratio | measured (median) | smallest to largest | goal | met |",
        "|---|---|---|---|---|",
    ]
    for name, measured in report["ratios"].items():
        kind = name.split("/")[-1]
        form = "{:.0%}" if kind in SHARES else "{:.2f} x"
        pairs, goal = measured["pairs"], report["goals"].get(name)
        cells = [
            f"`{name}`: {MEANING.get(kind, kind)}",
            form.format(measured["value"]),
            f"{form} to {form}".format(min(pairs), max(pairs)) if pairs else "–",
            form.format(goal["goal"]) if goal else "–",
            "–" if goal is None else "yes" if goal["met"] else "**no**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if report["ratios"] else "No ratio was measured."


def details(report: dict[str, Any]) -> str:
    """What the ratios stand on, in markdown."""
    if report["part"] == "run":
        return run_details(report)
    lines = ["| measured | median | repeats |", "|---|---|---|"]
    for name, m in report["measured"].items():
        for who, one in m.get("contenders", {"": m}).items():
            values = one.get("tokens_per_second", one["seconds"])
            unit = "tokens/s" if "tokens_per_second" in one else "s"
            shown = f"{statistics.median(values):,.2f} {unit}" if values else "–"
            lines.append(f"| {f'{name}, {who}' if who else name} | {shown} | {len(values)} |")
    return "\n".join(lines)


def run_details(report: dict[str, Any]) -> str:
    measured = report["measured"]
    sides = [side for side in ("before", "after") if side in measured]
    lines = [f"| held-out | {' | '.join(sides)} |", f"|---|{'---|' * len(sides)}"]
    for name in measured.get("before", {}):
        values = [measured[side][name] for side in sides]
        if isinstance(values[0], list):
            cells = [
                "–"
                if v[0] is None
                else f"{v[0]:.3f}" + ("" if v[1] is None else f" [{v[1]:.3f}, {v[2]:.3f}]")
                for v in values
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    if curve := measured.get("training"):
        picked = curve[:: max(1, len(curve) // 10)]
        lines += ["", "| step | accuracy | format | length | seconds |", "|---|---|---|---|---|"]
        lines += [
            f"| {m['step']} | {m['accuracy']:.2f} | {m['format']:.2f} | {m['length']:.0f} "
            f"| {m['seconds']:.1f} |"
            for m in picked
        ]
    for one in report.get("samples", []):
        lines += ["", f"**{one['question']}**"]
        for side in sides:
            if side in one:
                mark = "right" if one[side]["correct"] else "wrong"
                lines += ["", f"{side} ({mark}):", "", "    " + repr(one[side]["text"])[1:-1]]
    return "\n".join(lines)


def page(report: dict[str, Any]) -> str:
    """benchmarks/results/gpu-<part>.md: made from the JSON beside it."""
    machine, gpu = report["hardware"], report["hardware"]["gpu"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    name = "no GPU" if gpu is None else f"{gpu['name']}, {gpu['memory_gib']} GiB"
    text = [
        f"# r1lab on a GPU: {report['part']}",
        "",
        f"Made by `r1lab bench --gpu {report['part']}` on {report['when']}; do not edit. The "
        "numbers are in the JSON file beside this one; what counts is in `benchmarks/README.md`.",
        *(["", "**Toy sizes (`--quick`): these numbers mean nothing.**"] * report["quick"]),
        *(["", "**Not finished: the run was cut here.**"] * (not report["finished"])),
        "",
        table(report),
        "",
        details(report),
        "",
        *(f"- {what}: {why}" for what, why in report["failures"].items()),
        f"- Machine: {name}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB",
        f"- Versions: {versions}",
        f"- Model: {report['model']['name']}; task: {report['task']}",
        f"- It took {report['minutes']:g} minutes",
    ]
    if report.get("cost"):
        text.append(f"- Cost: {costs.money(report['cost']['dollars'])}, {report['cost']['price']}")
    return "\n".join(text) + "\n"

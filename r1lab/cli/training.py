"""The commands that train, evaluate and check: what they take and do.

A command imports what it needs when it runs: `r1lab --help` must not wait for torch.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from r1lab import ROOT
from r1lab.basics import files, plugins
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.options import check, option
from r1lab.cli.parse import (
    SEEDS,
    Command,
    flag,
    home,
    last,
    number,
    pairs,
    print_table,
    text,
    words,
)


@dataclass(kw_only=True)
class OfTask(Command):
    """The options of a task."""

    # fmt: off
    task_option: tuple = words("an option of the task: difficulty=hard, levels=(4,5), "
        "source=FOLDER, numbers=4, ...", "NAME=VALUE", repeat="once")
    numbers: int | None = number("short for --task-option numbers=N (default: 3)", low=1)
    # fmt: on

    def the_task(self, name: str, template: str):
        """The task, worded for the template."""
        from r1lab.tasks import task_for

        options: dict[str, Any] = {} if self.numbers is None else {"numbers": self.numbers}
        for key, value in pairs(self.task_option, "--task-option", "difficulty=hard").items():
            try:
                options[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # a word
                options[key] = home(value)
        try:
            return task_for(name, template, **options)
        except (TypeError, ValueError, AttributeError) as error:
            raise R1LabError(f"task {name}: bad option: {error}") from error


@dataclass(kw_only=True)
class ModelAndTask(OfTask):
    """What `train` and `eval` share."""

    # fmt: off
    model: str = option("tiny", "tiny, tiny-general, tiny-general-small (embedded), smollm2-135m "
        "(from its wheel), qwen2.5-0.5b, -1.5b, -3b, qwen3-0.6b-base, -1.7b-base, -4b-base (from "
        "the hub), a folder, or any hub id", path=True)
    task: str = option("countdown", "by its name (`r1lab tasks` lists them) or FILE.py:NAME")
    device: str = option("auto", "cpu, cuda or auto: a GPU where there is one")


@dataclass
class TrlOptions:
    """What `train --backend trl` takes besides the choices of GRPO; None: not given."""

    # fmt: off
    sampler: str | None = text("who samples: auto (default; by what is installed), r1lab, "
        "generate, vllm (in this process), vllm-server, or the address of one (http://host:8000)")
    lora_rank: int | None = number("train adapters of this rank (default: all parameters)", low=1)
    gradient_checkpointing: bool | None = option(None, "recompute activations to save memory, or "
        "with --no-... never (default: where the plan needs it)", type=bool)
    max_minutes: float | None = number("stop, with a model, after so many minutes", float)
    max_dollars: float | None = number("stop, with a model, at this cost", float)
    push_to_hub: str | None = text("upload the model to this repository, made private if new", "ID")
    # fmt: on

    def __post_init__(self) -> None:
        check(self, "r1lab train")


@dataclass(kw_only=True)
class Train(ModelAndTask):
    """train a model by GRPO with rule rewards

    R1-Zero: sample groups of completions, reward them by rules, and follow the clipped policy
    gradient. Stopped anywhere, the same command goes on where it was. Leaves metrics.jsonl,
    samples.jsonl, checkpoints/ and, at the end, model/.

    Two backends run the same configuration. scratch is this project's own loop, on one device. trl
    is TRL's GRPOTrainer: GPUs, several of them (--print-launch), vLLM, LoRA.

    examples:
      r1lab train                                    the embedded base model on Countdown
      r1lab train --config r1_zero_tiny --steps 40 --out runs/train-1
      r1lab train --advantage dr_grpo --length-norm constant
      r1lab train --rewards random --reward-weights 1    the control: a coin decides the reward
      r1lab train --backend trl --max-minutes 30         on TRL, half an hour at most
      r1lab train --model MODEL --print-launch ddp       how to run it on all GPUs here
    """

    TITLES: ClassVar = {"trl": "--backend trl", "settings": "GRPO"}
    THREE_WAY: ClassVar = ("gradient-checkpointing",)
    # fmt: off
    out: str | None = text("output folder (default: runs/train, or runs/train-trl)", "FOLDER",
        path=True)
    fresh: bool = flag("begin anew; an earlier run is set aside")
    quiet: bool = flag("no progress bar, plan or costs")
    dollars_per_hour: float | None = number("of the machine (default: by the price table)", float)
    backend: str = option("scratch", "who trains", choices=("scratch", "trl"))
    print_launch: str | None = text("train nothing; print the command that starts this run: ddp, "
        "fsdp, zero3, slurm, sky-1, sky-8, sky-2x8, vllm")
    trl: Any = None
    settings: Any = None
    # fmt: on

    @classmethod
    def groups(cls, words: Sequence[str], file: dict[str, Any]) -> dict[str, Any]:
        from r1lab.grpo import GRPOConfig

        return {"trl": TrlOptions(), "settings": GRPOConfig()}

    def run(self) -> int | None:
        if self.print_launch:
            return self.launch()
        from r1lab import grpo, models
        from r1lab.machine import costs
        from r1lab.training import metrics

        on_trl, config = self.backend == "trl", self.settings
        for name, value in vars(self.trl).items():
            if value is not None and not on_trl:
                raise R1LabError(f"--{name.replace('_', '-')} needs --backend trl")
        limits = (self.trl.max_minutes, self.trl.max_dollars, self.dollars_per_hour)
        budget = costs.Budget(*limits) if any(limit is not None for limit in limits) else None
        task = self.the_task(self.task, config.template)
        out = files.run_folder(self.out or ("runs/train-trl" if on_trl else "runs/train"))
        options: dict[str, Any] = {"progress": not self.quiet}
        backend = _trl_backend() if on_trl else grpo
        if on_trl:
            from r1lab.trl_backend.mapping import Launch

            given = vars(self.trl) | {"lora": self.trl.lora_rank, "budget": budget}
            given["device"] = None if self.device == "auto" else self.device
            names = ("sampler", "lora", "gradient_checkpointing", "push_to_hub", "budget", "device")
            given = {name: given[name] for name in names if given[name] is not None}
            options["launch"] = launch = Launch(**given, resume=not self.fresh)
            backend.settle(launch.device)
        else:
            options["resume"] = not self.fresh
        if not on_trl and any((out / "checkpoints").glob("checkpoint-*")) and not self.fresh:
            raise R1LabError(f"{out} holds a run of --backend trl; choose another --out")
        told = not self.quiet and os.environ.get("RANK", "0") == "0"  # of several processes, by one
        if not self.quiet:
            price = self.dollars_per_hour
            if told and price is None and (words := costs.price_words()):
                print(words, flush=True)
            earlier = [] if self.fresh else metrics.metrics_of(out)
            limit = budget if on_trl else None
            options["callbacks"] = [costs.Live(config, limit, price, earlier)]
        device = "cpu" if on_trl else computing_device(self.device)  # TRL moves it itself
        model, tokenizer = models.load(project_folder(self.model), device=device)
        if told:
            print(models.about(self.model), flush=True)
        if not on_trl:
            _fit(model, tokenizer, task, config, self.quiet)
        history = backend.train(model, tokenizer, task, config, out, **options)
        if not history:  # not the main one of several processes
            return 0
        first, final = history[0], history[-1]
        rows = [
            (name, f"{first[name]:.3g}", f"{final[name]:.3g}")
            for name in ("accuracy", "format", "length", "reflection")
            if name in first and name in final
        ]
        print_table(("on its training batches", "first step", "last step"), rows)
        if on_trl and history[-1]["step"] + 1 < config.steps:
            print(f"the budget ended it after {len(history)} of {config.steps} steps; with a "
                  "larger one the same command goes on")  # fmt: skip
        made = files.shorten(out / "model")
        print(f"the trained model is in {made}; next: r1lab eval --model {made}")
        return 0

    def launch(self) -> int:
        """Print the command of a launch recipe, and its file; what was asked for is checked."""
        import torch

        from r1lab import models
        from r1lab.trl_backend import cluster

        name, model = self.print_launch, self.model
        cluster.path(name)
        self.the_task(self.task, self.settings.template)
        if model != "smollm2-135m" or name == "vllm":  # this one would be made from its wheel
            model = models.resolve(project_folder(model))
        text, options = iter(self.words), []
        for word in text:
            if word in ("--print-launch", "--backend"):
                next(text)
            elif not word.startswith(("--print-launch=", "--backend=")):
                options.append(word)
        _trl_backend()  # which `commands` asks what TRL takes: without its remarks
        lines = cluster.commands(
            name,
            options,
            self.settings,
            gpus=torch.cuda.device_count() or 8,
            model=model,
            sampler=self.trl.sampler or "auto",
            lora=self.trl.lora_rank,
        )
        print(*lines, f"# {cluster.path(name)}", sep="\n")
        return 0


def _fit(model, tokenizer, task, config, quiet: bool) -> None:
    """The memory plan of a run from scratch; R1LabError for what cannot fit (TRL's backend plans
    for itself)."""
    from r1lab.grpo import training_problems
    from r1lab.machine.device import precision_on
    from r1lab.trl_backend import memory

    problems = training_problems(task, model, tokenizer, config, say=lambda *words: None)
    job = memory.job_of(
        model,
        config,
        prompts=memory.prompts_of(tokenizer, problems, config.template),
        device=model.device.type,
        precision=precision_on(model.device, config.precision),
    )
    _, words = memory.prepare(job)
    if not quiet:
        print(words, flush=True)


def _trl_backend():
    """r1lab.trl_backend, without TRL's remarks on what is experimental (a test watches that)."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from r1lab.trl_backend import run

    return run


@dataclass(kw_only=True)
class Eval(ModelAndTask):
    """evaluate a model: pass@1, pass@k, cons@k, length, reflection

    Sample k completions for each of n problems and measure them, with 95 % intervals over the
    problems. The held-out problems were in no corpus and no training.

    examples:
      r1lab eval                                     the embedded base model
      r1lab eval --model runs/train/model --n 256 --k 16
      r1lab eval --model runs/train/model --json > trained.json
    """

    # fmt: off
    split: str = option("held_out", "train, held_out or leaked")
    k: int = option(16, "completions per problem", low=1)
    n: int = option(256, "problems", low=1)
    max_new_tokens: int = option(448, "length limit of a completion", low=1)
    temperature: float = option(1.0, "of sampling; 0: greedy decoding", low=0)
    top_p: float = option(1.0, "nucleus sampling")
    template: str = option("tiny", "tiny, r1_zero, examples or FILE.py:NAME")
    seed: int = option(0, "of the sampling", **SEEDS)
    json: bool = flag("print JSON in place of the table")
    save: str | None = text("also keep every completion, as JSON", "FILE", path=True)
    # fmt: on

    def run(self) -> int | None:
        from r1lab import evaluate as evaluation
        from r1lab import models
        from r1lab.sampler.rollouts import Sampling
        from r1lab.templates import get_template

        get_template(self.template)
        greedy = self.temperature == 0  # the likeliest token at every position
        how = (self.max_new_tokens, self.temperature or 1.0)
        if self.save:
            files.check_writable(self.save)
        task = self.the_task(self.task, self.template)
        problems = task.problems(self.split, self.n)
        device = computing_device(self.device)
        model, tokenizer = models.load(project_folder(self.model), device=device)
        found = evaluation.evaluate(
            model,
            tokenizer,
            task,
            problems,
            k=self.k,
            sampling=Sampling(*how, top_p=self.top_p, greedy=greedy, seed=self.seed),
            template=self.template,
            progress=sys.stderr.isatty() and not self.json,
        )
        summary = found.summary()
        if self.save:
            files.write_json(self.save, json.loads(found.to_json()))
        if self.json:
            about = {"model": self.model, "task": self.task, "split": self.split, "n": self.n}
            measures = {  # JSON has no NaN
                name: {part: None if x != x else float(x) for part, x in one._asdict().items()}
                for name, one in summary.items()
            }
            print(json.dumps(about | found.settings | {"measures": measures}, indent=2))
            return 0
        print(f"{self.model}: {self.n} {self.split} problems, {self.k} completions each")
        rows = [
            (name, f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if low == low else "–")
            for name, (value, low, high) in summary.items()
        ]
        print_table(("measure", "mean", "95 % interval"), rows)
        return 0


@dataclass(kw_only=True)
class Tasks(OfTask):
    """list the tasks; check a task's verifier

    Without arguments, list what --task takes. `check NAME` gives the verifier of a task every
    problem's own solution, and answers that are known to be wrong; it exits with 1 when a solution
    is refused or a wrong answer accepted. NAME may be FILE.py:NAME.

    examples:
      r1lab tasks
      r1lab tasks check countdown --task-option numbers=4
      r1lab tasks check mine.py:MyTask --n 200
    """

    # fmt: off
    what: tuple = option((), "check NAME (default: list the tasks)", positional=True,
        metavar="WORD")
    n: int = option(50, "problems", low=1)
    seed: int = option(0, "of the problems", **SEEDS)
    # fmt: on

    def run(self) -> int | None:
        from r1lab.tasks import check as checks
        from r1lab.tasks import registry

        if not self.what:
            rows = [
                (n, "from the hub" if n in registry.FROM_HUB else "offline", registry.about(n))
                for n in plugins.names("task", registry.TASKS)
            ]
            print_table(("task", "problems", "what"), rows, left=True)
            print("your own: --task FILE.py:NAME; `r1lab tasks check NAME` checks a verifier")
            return 0
        if len(self.what) != 2 or self.what[0] != "check":
            raise R1LabError("write `r1lab tasks` or `r1lab tasks check NAME`")
        task = self.the_task(self.what[1], "tiny")
        with plugins.blame(f"task {self.what[1]}"):
            report = checks.check(task, self.n, self.seed)
        rows = [("its own solution", str(report.problems), str(report.right))]
        rows += [(f"wrong: {k}", str(n), str(report.accepted[k])) for k, n in report.tried.items()]
        print_table(("answers", "tried", "accepted"), rows)
        print(f"the slowest verdict took {report.slowest:.1f} ms")
        print(*report.faults or ["no fault found"], sep="\n")
        return 0 if report.ok else 1


@dataclass(kw_only=True)
class Pipeline(Command):
    """make all of R1: cold start, RL, rejection sampling, reward models

    All stages of R1 from a base model, each in a folder of its own with a record of what it was
    made from: zero, cold, dev1, dev2, data, dev3, helpful, safe, rules, r1. Each model is measured
    on held-out problems; the table at the end has the paper's stage table below it.

    Stopped anywhere, the same command goes on where it was. A stage whose options or input have
    changed is made again, and what was there is set aside; others are left as they are.

    examples:
      r1lab pipeline                              about half an hour on two CPU cores
      r1lab pipeline --smoke --out runs/smoke     the same in miniature: a quick test
      r1lab pipeline --until dev2                 the first four stages
      r1lab pipeline --only r1 --r1-steps 40      one stage again, from what is there
      r1lab pipeline --skip zero --seed 1         another seed after the R1-Zero that is there
      r1lab pipeline --student tiny-general-small     and teach a smaller model, against RL on it
      accelerate launch --num_processes 8 -m r1lab pipeline --backend trl     on eight GPUs
    """

    TITLES: ClassVar = {"settings": "recipe"}
    # fmt: off
    out: str = option("runs/pipeline", "output folder", metavar="FOLDER", path=True)
    only: tuple = words("make only these stages, from what is there", "STAGE")
    until: str | None = text("the last stage to be made (default: r1)", "STAGE")
    skip: tuple = words("leave these stages as they are, whatever has changed", "STAGE")
    backend: str = option("scratch", "who trains: scratch (these loops, one device) or trl (TRL's "
        "trainers, on as many GPUs as accelerate launch starts processes)",
        choices=("scratch", "trl"))
    student: str | None = text("then train this smaller base on what the stage data wrote, and "
        "compare with RL alone at matched FLOPs, and with both", "MODEL", path=True)
    smoke: bool = flag("toy sizes, where no option says another")
    quiet: bool = flag("no progress bars")
    settings: Any = None
    # fmt: on

    @classmethod
    def groups(cls, words: Sequence[str], file: dict[str, Any]) -> dict[str, Any]:
        from r1lab.recipe import PipelineConfig

        smoke = "--smoke" in words or (file.get("smoke") is True and "--no-smoke" not in words)
        return {"settings": PipelineConfig.smoke() if smoke else PipelineConfig()}

    def run(self) -> int | None:
        from r1lab import pipeline as stages

        config = dataclasses.replace(self.settings, base=project_folder(home(self.settings.base)))
        if config.device == "cuda":
            computing_device("cuda")
        out, backend = files.run_folder(self.out), stages.SCRATCH
        if self.backend == "trl":
            _trl_backend()
            from r1lab.trl_backend.stages import backend as on_trl

            backend = on_trl(config)
        given = {name: out / name for name in self.skip}
        options = {"only": list(self.only) or None, "until": self.until, "given": given}
        stages.run(config, out, **options, backend=backend, progress=not self.quiet)
        if not backend.main:
            return 0
        table = stages.stage_table(out)
        if table["ours"]:
            head, *rows = stages.table_lines(table)
            print_table(head, rows)
            source = table["paper"]["source"]
            print(f"paper: {source}, per cent, of other benchmarks: compare the steps")
        print(f"the stages are in {files.shorten(out)}, each with its record in stage.json")
        if self.student:
            _distill(project_folder(self.student), config, out, not self.quiet)
        return 0


def _distill(student: str, config, out: Path, progress: bool) -> None:
    """Train a student on the pipeline's data, against RL alone and both; a table."""
    from r1lab import distillation, recipe, scorecard
    from r1lab.machine.device import device_of

    examples = out / "data" / "examples.jsonl"
    if not examples.exists():
        raise R1LabError(f"there is nothing to learn from in {examples}: make the stage data first")
    found = distillation.compare(
        student,
        examples,
        out / "student",
        sft_config=recipe.sft_config(config, "dev3"),
        grpo_config=dataclasses.replace(recipe.rl_config(config, "zero"), steps=1000),
        problems=max(1, config.eval_problems),
        k=config.eval_samples,
        device=device_of(config),
        progress=progress,
    )
    rows = [
        (name, f"{one['flops']:.2e}", *(scorecard.interval(*two) for two in one["scores"].items()))
        for name, one in found.items()
    ]
    print_table(("student", "operations", "Countdown, pass@1", "steps, pass@1"), rows)


@dataclass(kw_only=True)
class Pretrain(Command):
    """make an embedded base model again, from nothing

    Generate the synthetic pre-training corpus and train a base model on it, by the recipe of one
    that ships in data/ (minutes on a GPU, at most 45 on two cores): tiny, which knows Countdown;
    tiny-general, which knows the general tasks as well; tiny-general-small. Options given besides
    change the recipe. Stopped anywhere, the same command goes on where it was.

    examples:
      r1lab pretrain --recipe tiny-general           data/tiny-general, made again
      r1lab pretrain --out runs/pretrain             tiny's recipe; data/ is left alone
      r1lab pretrain --out runs/small --steps 200 --width 96
    """

    TITLES: ClassVar = {"settings": "changes of the recipe:"}
    # fmt: off
    out: str | None = text("where the model goes (default: the folder in data/ of a --recipe that "
        "is followed to the letter, else runs/pretrain/model)", "FOLDER", path=True)
    device: str = option("cpu", "cpu or cuda")
    quiet: bool = flag("no progress bar")
    recipe: str | None = text("tiny (default), tiny-general or tiny-general-small")
    settings: Any = None
    # fmt: on

    @classmethod
    def groups(cls, words: Sequence[str], file: dict[str, Any]) -> dict[str, Any]:
        from r1lab.world.pretrain import RECIPES

        name = last(words, "--recipe") or file.get("recipe") or "tiny"
        if name not in RECIPES:
            raise R1LabError(f"there is no recipe '{name}'{did_you_mean(name, RECIPES)}")
        return {"settings": RECIPES[name]}

    def run(self) -> int | None:
        from r1lab import models
        from r1lab.models import smollm2
        from r1lab.world import pretrain as recipes

        computing_device(self.device)
        out = Path(self.out or "runs/pretrain/model")
        if not self.out and self.recipe and self.settings == recipes.RECIPES[self.recipe]:
            out = models.data_dir() / smollm2.EMBEDDED[self.recipe][0]
        made = files.run_folder(out.parent) / out.name
        found = recipes.pretrain(self.settings, made, device=self.device, progress=not self.quiet)
        print(f"the base model is in {files.shorten(made)}: {json.dumps(found, default=str)}")
        return 0


def computing_device(name: str) -> str:
    """The device to compute on, "auto" decided; R1LabError when torch cannot compute there."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        raise R1LabError(
            f"torch cannot use the device '{name}' here; --device cpu works"
        ) from error
    return name


def project_folder(name: str) -> str:
    """A folder named from the project's root works from everywhere, as `--out` does."""
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).is_dir() else name

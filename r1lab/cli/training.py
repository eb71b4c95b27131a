"""What the commands that train and check do."""

import json
import math
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from r1lab import distillation, grpo, models, recipe, scorecard
from r1lab import pipeline as stages
from r1lab.basics import files, plugins
from r1lab.basics.errors import R1LabError
from r1lab.cli.commands import OfTask, Pipeline, Pretrain, Tasks, Train
from r1lab.cli.parse import home, literals, print_table, project_folder
from r1lab.evals.kept import as_json
from r1lab.evaluate import Evaluation, as_trained, difference
from r1lab.experience import training_problems
from r1lab.machine import costs
from r1lab.machine.device import device_of, precision_on
from r1lab.sandbox.client import WEAK
from r1lab.show.recorder import Recorder
from r1lab.statistics import in_words
from r1lab.tasks import check as checks
from r1lab.tasks import distinct, registry, task_for
from r1lab.tasks.gym import package as generators
from r1lab.training import metrics
from r1lab.training.report import Report
from r1lab.trl_backend import memory
from r1lab.world import pretrain as recipes


def train(args: Train) -> None:
    if args.print_launch:
        return launch(args)
    on_trl, config = args.backend == "trl", args.settings
    for name, value in vars(args.trl).items():
        if value is not None and not on_trl:
            raise R1LabError(f"--{name.replace('_', '-')} needs --backend trl")
    if args.report not in (None, "trackio") and not on_trl:
        raise R1LabError(f"--report {args.report} needs --backend trl")
    limits = (args.trl.max_minutes, args.trl.max_dollars, args.dollars_per_hour)
    budget = costs.Budget(*limits) if any(limit is not None for limit in limits) else None
    task = the_task(args, args.task, config.template)
    out = files.run_folder(args.out or ("runs/train-trl" if on_trl else "runs/train"))
    callbacks: list[Any] = []
    options: dict[str, Any] = {"progress": not args.quiet, "callbacks": callbacks}
    backend = trl_backend() if on_trl else grpo
    main = os.environ.get("RANK", "0") == "0"  # of several processes
    if on_trl:
        from r1lab.trl_backend.mapping import Launch

        given = vars(args.trl) | {"lora": args.trl.lora_rank, "budget": budget}
        given["device"] = None if args.device == "auto" else args.device
        names = ("sampler", "lora", "gradient_checkpointing", "push_to_hub", "budget", "device")
        given = {name: given[name] for name in names if given[name] is not None}
        if args.report != "trackio":
            given["report_to"] = args.report
        options["launch"] = Launch(**given, resume=not args.fresh)
        backend.settle(options["launch"].device)
    else:
        options["resume"] = not args.fresh
        if any((out / "checkpoints").glob("checkpoint-*")) and not args.fresh:
            raise R1LabError(f"{out} holds a run of --backend trl; choose another --out")
    if not args.quiet:
        price = args.dollars_per_hour
        if main and price is None and (words := costs.price_words()):
            print(words, flush=True)
        earlier = [] if args.fresh else metrics.metrics_of(out)
        callbacks.append(costs.Live(config, budget if on_trl else None, price, earlier))
    report = None
    if args.report == "trackio" and main:
        report = Report(args.report, out.name, config.to_json())
        callbacks.append(report)
    device = "cpu" if on_trl else computing_device(args.device)  # TRL moves it itself
    model, tokenizer = models.load(project_folder(args.model), device=device)
    if main and not args.quiet:
        print(models.about(args.model), flush=True)
    if not on_trl:
        words = plan_memory(model, tokenizer, task, config)
        if not args.quiet:
            print(words, flush=True)
    if args.record_every:
        if on_trl:
            raise R1LabError("--record-every needs --backend scratch")
        callbacks.append(Recorder(out, model, tokenizer, task, config, every=args.record_every))
    before, asked = None, []
    if args.held_out and main:
        asked = distinct(task.problems("held_out", args.held_out))
        model = model.to(computing_device(args.device))
        before = as_trained(model, tokenizer, task, asked, config)
    try:
        history = backend.train(model, tokenizer, task, config, out, **options)
    finally:
        if report is not None:
            report.finish()
    if not history:  # not the main one of several processes
        return
    first, final = history[0], history[-1]
    rows = [
        (name, f"{first[name]:.3g}", f"{final[name]:.3g}")
        for name in ("accuracy", "format", "length", "reflection")
        if name in first and name in final
    ]
    print_table(("on its training batches", "first step", "last step"), rows)
    if before is not None:
        on_held_out(before, as_trained(model, tokenizer, task, asked, config), out)
    if on_trl and final["step"] + 1 < config.steps:
        print(f"the budget ended it after {len(history)} of {config.steps} steps; with a larger "
              "one the same command goes on")  # fmt: skip
    made = files.from_here(out / "model")
    evaluation = shlex.join(["r1lab", "eval", "--model", str(made), *asked_alike(args)])
    print(f"the trained model is in {made}; next: {evaluation}")


def asked_alike(args: Train) -> list[str]:
    """The options with which `r1lab eval` asks a run's own task in its own words."""
    alike = ["--task", args.task] if args.task != "countdown" else []
    alike += [word for one in args.task_option for word in ("--task-option", one)]
    alike += ["--numbers", str(args.numbers)] if args.numbers is not None else []
    template = args.settings.template
    return alike + (["--template", template] if template != "tiny" else [])


def on_held_out(before: Evaluation, after: Evaluation, out: Path) -> None:
    """Print and keep what a run has changed on held-out problems, paired by problem."""
    pair, change = (before.summary(), after.summary()), difference(before, after)
    names = ("pass@1", f"pass@{before.settings['k']}", "length", "truncated")
    cell = "{:.3f} [{:.3f}, {:.3f}]".format
    rows = [(name, *(cell(*one[name]) for one in pair)) for name in names]
    print_table(("held out", "before", "after"), rows)
    print(f"pass@1 of {len(before.problems)} held-out problems: {in_words(change)}")
    about = {"problems": len(before.problems), "settings": before.settings}
    sides = ({name: as_json(one) for name, one in side.items()} for side in pair)
    about |= dict(zip(("before", "after"), sides, strict=True)) | {"change": as_json(change)}
    files.write_json(out / "held_out.json", about)


def plan_memory(model, tokenizer, task, config) -> str:
    """The memory plan of a run from scratch, in words; R1LabError for what cannot fit (TRL's
    backend plans for itself)."""
    few = replace(config, steps=min(config.steps, math.ceil(memory.PROMPTS / config.questions)))
    problems = training_problems(task, model, tokenizer, few, say=lambda *words: None)
    prompts = memory.prompts_of(tokenizer, problems, config.template)
    where = {"device": model.device.type, "precision": precision_on(model.device, config.precision)}
    return memory.prepare(memory.job_of(model, config, prompts=prompts, **where))[1]


def launch(args: Train) -> None:
    """Print the command of a launch recipe, and its file; what was asked for is checked."""
    trl_backend()
    from r1lab.trl_backend import cluster

    name, model = args.print_launch, args.model
    cluster.path(name)
    the_task(args, args.task, args.settings.template)
    if model != "smollm2-135m" or name == "vllm":  # this one would be made from its wheel
        model = models.resolve(project_folder(model))
    words, options = iter(args.words), []
    for word in words:
        if word in ("--print-launch", "--backend"):
            next(words)
        elif not word.startswith(("--print-launch=", "--backend=")):
            options.append(word)
    how = {"gpus": torch.cuda.device_count() or 8, "model": model, "lora": args.trl.lora_rank}
    lines = cluster.commands(name, options, args.settings, **how)
    print(*lines, f"# {cluster.path(name)}", sep="\n")


def trl_backend():
    """r1lab.trl_backend, without TRL's remarks on what is experimental (a test watches that)."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from r1lab.trl_backend import run

    return run


def tasks(args: Tasks) -> int:
    if not args.what:
        rows = [
            (name, "from the hub" if name in registry.FROM_HUB else "offline", registry.about(name))
            for name in plugins.names("task", registry.TASKS)
        ]
        many = ((f"{kind}:{what}", kind) for kind, (what, _) in registry.ONE_OF_MANY.items())
        rows += [(name, "offline", registry.about(name)) for name, _ in many]
        print_table(("task", "problems", "what"), rows, left=True)
        print("your own: --task FILE.py:NAME; `r1lab tasks check NAME` checks a verifier")
        return 0
    if args.what == ("gym",):
        print(*(f"gym:{name}" for name in generators.MODULES), sep="\n")
        return 0
    if len(args.what) != 2 or args.what[0] != "check":
        raise R1LabError("write `r1lab tasks`, `r1lab tasks gym` or `r1lab tasks check NAME`")
    task = the_task(args, args.what[1], "tiny")
    with plugins.blame(f"task {args.what[1]}"):
        report = checks.check(task, args.n, args.seed)
    rows = [("its own solution", str(report.problems), str(report.right))]
    rows += [(f"wrong: {k}", str(n), str(report.accepted[k])) for k, n in report.tried.items()]
    print_table(("answers", "tried", "accepted"), rows)
    print(f"the slowest verdict took {report.slowest:.1f} ms")
    print(*report.faults or ["no fault found"], sep="\n")
    return 0 if report.ok else 1


def pipeline(args: Pipeline) -> None:
    config = replace(args.settings, base=project_folder(home(args.settings.base)))
    if config.device == "cuda":
        computing_device("cuda")
    out, backend = files.run_folder(args.out), stages.SCRATCH
    if args.backend == "trl":
        trl_backend()
        from r1lab.trl_backend.stages import backend as on_trl

        backend = on_trl(config)
    given = {name: out / name for name in args.skip}
    options = {"only": list(args.only) or None, "until": args.until, "given": given}
    stages.run(config, out, **options, backend=backend, progress=not args.quiet)
    if not backend.main:
        return
    table = scorecard.stage_table(out)
    if table["ours"]:
        head, *rows = scorecard.table_lines(table)
        print_table(head, rows)
        source = table["paper"]["source"]
        print(f"paper: {source}, per cent, of other benchmarks: compare the steps")
    print(f"the stages are in {files.from_here(out)}, each with its record in stage.json")
    if args.student:
        distill(project_folder(args.student), config, out, not args.quiet)


def distill(student: str, config, out: Path, progress: bool) -> None:
    """Train a student on the pipeline's data, against RL alone and both; a table."""
    examples = out / "data" / "examples.jsonl"
    if not examples.exists():
        raise R1LabError(f"there is nothing to learn from in {examples}: make the stage data first")
    configs = {
        "sft_config": recipe.sft_config(config, "dev3"),
        "grpo_config": replace(recipe.rl_config(config, "zero"), steps=1000),
    }
    how = {"problems": max(1, config.eval_problems), "k": config.eval_samples}
    how |= {"device": device_of(config), "progress": progress}
    found = distillation.compare(student, examples, out / "student", **configs, **how)
    rows = [
        (name, f"{one['flops']:.2e}", *(scorecard.interval(*two) for two in one["scores"].items()))
        for name, one in found.items()
    ]
    heads = [scorecard.MEASURES[kind] for kind in scorecard.REASONING]
    print_table(("student", "FLOPs", *heads), rows)


def pretrain(args: Pretrain) -> None:
    computing_device(args.device)
    out = Path(args.out or "runs/pretrain/model")
    if not args.out and args.recipe and args.settings == recipes.RECIPES[args.recipe]:
        out = models.data_dir() / args.recipe
    made = files.run_folder(out.parent) / out.name
    found = recipes.pretrain(args.settings, made, device=args.device, progress=not args.quiet)
    print(f"the base model is in {files.from_here(made)}: {json.dumps(found, default=str)}")


def the_task(args: OfTask, name: str, template: str):
    """The task with the options of the command line, worded for the template."""
    options: dict[str, Any] = {} if args.numbers is None else {"numbers": args.numbers}
    options |= literals(args.task_option, "--task-option", "difficulty=hard")
    if args.weak_sandbox:
        os.environ[WEAK] = "1"
    try:
        return task_for(name, template, **options)
    except (TypeError, ValueError, AttributeError) as error:
        raise R1LabError(f"task {name}: bad option: {error}") from error


def computing_device(name: str) -> str:
    """The device to compute on, "auto" decided; R1LabError when torch cannot compute there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        words = f"torch cannot use the device '{name}' here; --device cpu works"
        raise R1LabError(words) from error
    return name

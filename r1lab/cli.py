"""The `r1lab` command: run the lessons, or train, evaluate and measure without a notebook.

Each command imports what it needs when it runs, so that `r1lab --help` answers at once. The
options of `train` and `pretrain` are the fields of their configurations, help texts included.

Exit codes: 0 done; 1 a notebook failed; 2 something is wrong with the request or the machine, said
in one line (R1LAB_DEBUG=1 shows the traceback); 130 stopped with Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import errno
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from r1lab import ROOT, __version__
from r1lab.basics import errors, files, plugins
from r1lab.basics.errors import R1LabError, shortage
from r1lab.course import profiles
from r1lab.tasks.registry import TASKS

COMMANDS = (
    *("init", "run", "train", "eval", "tasks", "pipeline"),
    *("pretrain", "bench", "figures", "book"),
)


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("R1LAB_DEBUG", "0") not in ("", "0")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        args = parse(argv)
        return args.command(args) or 0
    except KeyboardInterrupt as stop:
        return _say(str(stop) or "stopped", 130)
    except BrokenPipeError:  # `r1lab eval ... | head`
        sys.stdout = open(os.devnull, "w")
        return 0
    except Exception as error:
        if debug:
            raise
        return _say(f"error: {explain(error)}", 2)


def explain(error: Exception) -> str:
    """One line for a user: what is wrong, and what to do about it."""
    text = " ".join(str(error).split())
    if isinstance(error, R1LabError):
        return text
    if advice := shortage(f"{type(error).__name__}: {text}"):
        return advice
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"no permission to write or read{where}; choose another folder with --out"
        return f"{error.strerror or text}{where}"
    if isinstance(error, ImportError):
        return f"{text}; the environment is not complete: run `make setup`"
    kind = type(error).__name__
    return f"{kind}: {text[:300]}; if this looks like a bug, R1LAB_DEBUG=1 shows where it is"


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of one command; R1LabError, in one line, for what it does not know."""
    parser, commands = build(argv[0] if argv else None)
    args, unknown = parser.parse_known_args(argv)
    args.argv = argv
    if not hasattr(args, "command"):
        parser.print_help()
        raise SystemExit(2)
    if unknown:
        known = [o for a in commands[argv[0]]._actions for o in a.option_strings]
        flags = [text for text in unknown if text.startswith("-")] or unknown
        raise R1LabError(
            f"r1lab {argv[0]} does not know {flags[0]}"
            f"{_close(flags[0].split('=')[0], known)} (r1lab {argv[0]} --help)"
        )
    return args


class Parser(argparse.ArgumentParser):
    """argparse with help as it is written here, and errors in one line."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str):
        if message.startswith("argument COMMAND: invalid choice: "):
            wrong = message.split("'")[1]
            message = f"there is no command '{wrong}'{_close(wrong, COMMANDS)}"
        raise R1LabError(f"{message} ({self.prog} --help)")


# --------------------------------------------------------------------------------------------------
# The commands and their options


def build(command: str | None = None) -> tuple[Parser, dict[str, Parser]]:
    """The parser and the commands by name; options that cost an import come with `command`."""
    parser = Parser(
        prog="r1lab",
        description="DeepSeek-R1 from scratch: pure RL turns a base model into a reasoner.",
        epilog="r1lab COMMAND --help says more. R1LAB_PROFILE names the default profile.",
    )
    parser.add_argument("--version", action="version", version=f"r1lab {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")
    commands: dict[str, Parser] = {}

    def add(name: str, function, summary: str, text: str, examples: str) -> Parser:
        commands[name] = subparsers.add_parser(
            name,
            help=summary,
            description=textwrap.dedent(text).strip(),
            epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  "),
        )
        commands[name].set_defaults(command=function)
        return commands[name]

    sub = add(
        "run",
        run,
        "execute the lessons and make a book of them",
        """
        Execute the notebooks in order, each in a fresh kernel, with the parameters of a profile.
        Leaves executed notebooks, figures.json and book/index.html in the output folder. The
        first notebook that fails ends the run; the book is written all the same.

        Ctrl-C stops the kernel, keeps the executed part of the notebook, and loses nothing that
        had run before. Without --resume every lesson runs again; with it, lessons that have run to
        their end are left out and the stopped one begins again, its training at its last
        checkpoint.
        """,
        """
        r1lab run                              all lessons on two CPU cores
        r1lab run --profile smoke              the same in miniature, to see that all works
        r1lab run --only 05 -p steps=10 --fresh    one lesson, one parameter changed
        r1lab run --resume                     go on after the last lesson that ended well
        """,
    )
    sub.add_argument(
        "--profile", metavar="NAME", help=f"{', '.join(profiles.NAMES)} (default: cpu)"
    )
    sub.add_argument(
        "--only", metavar="NOTEBOOK", nargs="+", action="extend",
        help="only these, by number or name (default: all)",
    )  # fmt: skip
    sub.add_argument(
        "--out", metavar="FOLDER", help="output folder (default: runs/PROFILE in the project)"
    )
    sub.add_argument("--seed", type=whole, default=0, help="of every random choice (default: 0)")
    sub.add_argument(
        "-p", "--parameter", metavar="NAME=VALUE", action="append", default=[],
        help="override a parameter in every notebook that has it, or NOTEBOOK.NAME=VALUE in one",
    )  # fmt: skip
    sub.add_argument(
        "--resume", action="store_true",
        help="leave out lessons that have run to their end with the same code and parameters",
    )  # fmt: skip
    sub.add_argument(
        "--fresh", action="store_true",
        help="move what these lessons left in OUT to OUT/earlier-N and train from the beginning",
    )  # fmt: skip
    sub.add_argument("--list", action="store_true", help="list notebooks and parameters, run none")
    sub.add_argument(
        "--prepare", action="store_true",
        help="write copies with these parameters into OUT/lab, for JupyterLab, and run none",
    )  # fmt: skip

    sub = add(
        "init",
        init,
        "copy the lessons into a folder (for who has installed r1lab without its repository)",
        """
        Copy the lessons to FOLDER/notebooks. Commands started in FOLDER then keep their results in
        FOLDER/runs. Files that are there already stay as they are.
        """,
        """
        r1lab init course && cd course && r1lab run --profile smoke
        r1lab init course && jupyter lab course/notebooks
        """,
    )
    sub.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="(default: here)")

    sub = add(
        "train",
        train,
        "train a model by GRPO with rule rewards",
        """
        R1-Zero: sample groups of answers, reward them by rules, and follow the clipped policy
        gradient. Stopped anywhere, the same command goes on where it was.
        Leaves metrics.jsonl, samples.jsonl, checkpoints/ and, at the end, model/.

        Two backends run the same configuration. scratch is this project's own loop, on one device.
        trl is TRL's GRPOTrainer: GPUs, several of them (--print-launch), vLLM, LoRA.
        """,
        """
        r1lab train                                    the embedded base model on Countdown
        r1lab train --steps 40 --seed 1 --out runs/train-1
        r1lab train --advantage dr_grpo --length-norm constant
        r1lab train --rewards random --reward-weights 1    the control: rewards by coin flip
        r1lab train --backend trl --max-minutes 30         on TRL, half an hour at most
        r1lab train --model MODEL --print-launch ddp       how to run it on all GPUs here
        """,
    )
    _model_and_task(sub)
    sub.add_argument(
        "--out", metavar="FOLDER",
        help="output folder (default: runs/train; with --backend trl runs/train-trl)",
    )  # fmt: skip
    sub.add_argument("--fresh", action="store_true", help="begin anew; an earlier run is set aside")
    sub.add_argument("--quiet", action="store_true", help="no progress bar, plan or costs")
    sub.add_argument(
        "--dollars-per-hour", metavar="X", type=amount, default=argparse.SUPPRESS,
        help="what the machine costs (default: its entry in the price table)",
    )  # fmt: skip
    sub.add_argument(
        "--backend", metavar="NAME", choices=("scratch", "trl"), default="scratch",
        help="scratch (default) or trl",
    )  # fmt: skip
    if command == "train":
        from r1lab.grpo import GRPOConfig

        _trl_options(sub)
        add_fields(sub, GRPOConfig, "every choice of GRPO")

    sub = add(
        "eval",
        evaluate,
        "evaluate a model: pass@1, pass@k, cons@k, length, reflection",
        """
        Ask a model the same problems k times each and measure the answers, with 95 % intervals
        over the problems. The held-out problems were in no corpus and no training.
        """,
        """
        r1lab eval                                     the embedded base model
        r1lab eval --model runs/train/model --n 256 --k 16
        r1lab eval --model runs/train/model --json > trained.json
        """,
    )
    _model_and_task(sub)
    sub.add_argument(
        "--split", default="held_out", help="train, held_out or leaked (default: held_out)"
    )
    sub.add_argument("--k", type=positive, default=16, help="answers to each problem (default: 16)")
    sub.add_argument("--n", type=positive, default=256, help="problems (default: 256)")
    sub.add_argument(
        "--max-new-tokens", type=positive, default=448, help="length limit (default: 448)"
    )
    sub.add_argument("--temperature", type=float, default=1.0, help="of sampling (default: 1.0)")
    sub.add_argument("--top-p", type=float, default=1.0, help="nucleus sampling (default: 1.0)")
    sub.add_argument(
        "--template", default="tiny", help="tiny, r1_zero, examples or FILE.py:NAME (default: tiny)"
    )
    sub.add_argument("--seed", type=whole, default=0, help="of the sampling (default: 0)")
    sub.add_argument("--json", action="store_true", help="print JSON in place of the table")
    sub.add_argument("--save", metavar="FILE", help="also keep every answer, as JSON")

    sub = add(
        "tasks",
        tasks,
        "list the tasks; check a task's verifier",
        """
        Without arguments, list what --task takes. `check NAME` gives the verifier of a task every
        problem's own solution, and answers that are known to be wrong; it exits with 1 when a
        solution is refused or a wrong answer accepted. NAME may be FILE.py:NAME.
        """,
        """
        r1lab tasks
        r1lab tasks check countdown --task-option numbers=4
        r1lab tasks check mine.py:MyTask --n 200
        """,
    )
    sub.add_argument("what", nargs="*", metavar="check NAME", help="default: list the tasks")
    sub.add_argument("--n", type=positive, default=50, help="problems (default: 50)")
    sub.add_argument("--seed", type=whole, default=0, help="of the problems (default: 0)")
    _task_options(sub)

    sub = add(
        "pipeline",
        pipeline,
        "make all of R1: cold start, RL, rejection sampling, reward models",
        """
        All stages of R1 from a base model, each in a folder of its own with a record of what it was
        made from: zero, cold, dev1, dev2, data, dev3, helpful, safe, rules, r1. Each model is
        measured on held-out problems; the table at the end has the paper's stage table below it.

        Stopped anywhere, the same command goes on where it was. A stage whose options or input have
        changed is made again, and what was there is set aside; others are left as they are.
        """,
        """
        r1lab pipeline                              about half an hour on two CPU cores
        r1lab pipeline --smoke --out runs/smoke     the same in miniature, to see that all works
        r1lab pipeline --until dev2                 the first four stages
        r1lab pipeline --only r1 --r1-steps 40      one stage again, from what is there
        r1lab pipeline --skip zero --seed 1         another seed after the R1-Zero that is there
        r1lab pipeline --student tiny-general-small     and teach a smaller model, against RL on it
        """,
    )
    sub.add_argument(
        "--out", metavar="FOLDER", default="runs/pipeline",
        help="output folder (default: runs/pipeline)",
    )  # fmt: skip
    sub.add_argument(
        "--only", metavar="STAGE", nargs="+", action="extend",
        help="make only these stages, from what is there",
    )  # fmt: skip
    sub.add_argument("--until", metavar="STAGE", help="the last stage to be made (default: r1)")
    sub.add_argument(
        "--skip", metavar="STAGE", nargs="+", action="extend", default=[],
        help="leave these stages as they are, whatever has changed",
    )  # fmt: skip
    sub.add_argument(
        "--student", metavar="MODEL",
        help="then teach this smaller base what the stage data wrote, and compare with RL alone at "
        "the same cost, and with both",
    )  # fmt: skip
    sub.add_argument("--smoke", action="store_true", help="toy sizes, where no option says another")
    sub.add_argument("--quiet", action="store_true", help="no progress bars")
    if command == "pipeline":
        from r1lab.recipe import PipelineConfig

        add_fields(sub, PipelineConfig, "the recipe")

    sub = add(
        "pretrain",
        pretrain,
        "make an embedded base model again, from nothing",
        """
        Generate the miniature web and train a base model on it, by the recipe of one that ships in
        data/ (minutes on a GPU, at most 45 on two cores): tiny, which knows Countdown;
        tiny-general, which knows the general tasks as well; tiny-general-small. Options given
        besides change the recipe. Stopped anywhere, the same command goes on where it was.
        """,
        """
        r1lab pretrain --recipe tiny-general           data/tiny-general, made again
        r1lab pretrain --out runs/pretrain             tiny's recipe; data/ is left alone
        r1lab pretrain --out runs/small --steps 200 --width 96
        """,
    )
    sub.add_argument(
        "--out", metavar="FOLDER",
        help="where the model goes (default: the folder in data/ of a --recipe that is followed to "
        "the letter, else runs/pretrain/model)",
    )  # fmt: skip
    sub.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    sub.add_argument("--quiet", action="store_true", help="no progress bar")
    if command == "pretrain":
        from r1lab.world.pretrain import RECIPES, PretrainConfig

        sub.add_argument(
            "--recipe", metavar="NAME", choices=tuple(RECIPES),
            help=f"{', '.join(RECIPES)} (default: tiny)",
        )  # fmt: skip
        add_fields(sub, PretrainConfig, "changes of the recipe (the defaults are those of tiny)")

    sub = add(
        "bench",
        bench,
        "measure the speed against TRL on this machine",
        """
        Seconds per GRPO step and sampled tokens per second, against TRL's GRPOTrainer and
        transformers' generate, one process at a time. Writes benchmarks/results/cpu.json.

        --gpu measures on a GPU, offline and in under 10 minutes each, and writes
        benchmarks/results/gpu-WHAT.json: sampler, step, or run (ten minutes of training a real
        model).
        """,
        """
        r1lab bench
        r1lab bench --quick                    toy sizes, to see that it works; writes nothing
        r1lab bench --gpu sampler              tokens a second on the GPU of this machine
        """,
    )
    if command == "bench":
        from r1lab.bench.cpu import add_options

        add_options(sub)

    sub = add(
        "figures",
        measure,
        "run all lessons for several seeds; the ledger and the README's table",
        """
        Run all notebooks once per seed into runs/figures/seed-N and write means with 95 % intervals
        over the seeds to the committed ledger and to the README's results table (the table for the
        cpu profile only). What has run to its end with the same code is not run again: stopped
        anywhere, the same command goes on.
        """,
        """
        r1lab figures --seeds 0 1 2
        r1lab figures --jobs 2                 two seeds side by side, half of the cores each
        r1lab figures --only 05                measure one lesson again, keep the others' figures
        """,
    )
    sub.add_argument(
        "--seeds", type=whole, nargs="+", default=[0, 1, 2], help="the seeds (default: 0 1 2)"
    )
    sub.add_argument(
        "--jobs", type=positive, default=1,
        help="seeds that run side by side, each with its share of the cores (default: 1)",
    )  # fmt: skip
    sub.add_argument(
        "--note", metavar="TEXT", default="",
        help="what a reader should know of this machine, for the ledger and the README",
    )  # fmt: skip
    sub.add_argument(
        "--only", metavar="LESSON", nargs="+", help="measure these again, keep the other figures"
    )
    sub.add_argument("--profile", metavar="NAME", default="cpu", help="default: cpu")
    sub.add_argument("--out", metavar="FOLDER", help="of the runs (default: runs/figures)")
    sub.add_argument(
        "--ledger", metavar="FILE", help="default: benchmarks/results/figures-PROFILE.json"
    )

    sub = add(
        "book",
        book,
        "make the book of a run again",
        "Turn the executed notebooks of a run into a book: web pages with contents and search that "
        "need no kernel and no network.",
        """
        r1lab book runs/cpu
        """,
    )
    sub.add_argument("folder", nargs="?", default="runs/cpu", help="default: runs/cpu")
    return parser, commands


def _model_and_task(sub: Parser) -> None:
    sub.add_argument(
        "--model", default="tiny",
        help="tiny, tiny-general, tiny-general-small (embedded), smollm2-135m (from its wheel), "
        "qwen2.5-0.5b, -1.5b, -3b, qwen3-0.6b-base, -1.7b-base, -4b-base (from the hub), a folder, "
        "or any hub id (default: tiny)",
    )  # fmt: skip
    sub.add_argument(
        "--task", default="countdown",
        help=f"what to solve: {', '.join(plugins.names('task', TASKS))}, or your own as "
        "FILE.py:NAME (default: countdown; `r1lab tasks` lists them)",
    )  # fmt: skip
    _task_options(sub)
    sub.add_argument(
        "--device", default="auto", help="cpu, cuda or auto (default: a GPU where there is one)"
    )


def _task_options(sub: Parser) -> None:
    sub.add_argument(
        "--task-option", metavar="NAME=VALUE", action="append", default=[],
        help="an option of the task: difficulty=hard, levels=(4,5), source=FOLDER, numbers=4, ...",
    )  # fmt: skip
    sub.add_argument(
        "--numbers", type=positive, help="short for --task-option numbers=N (Countdown; default: 3)"
    )


TRL_ONLY = ("sampler lora_rank gradient_checkpointing max_minutes max_dollars push_to_hub").split()


def _trl_options(sub: Parser) -> None:
    """What `train --backend trl` takes besides GRPO's own options; absent unless given."""
    from r1lab.trl_backend import cluster

    group = sub.add_argument_group("with --backend trl")

    def add(name: str, **options: Any) -> None:
        group.add_argument(name, default=argparse.SUPPRESS, **options)

    add(
        "--sampler", metavar="NAME",
        help="who writes the answers: auto (default; by what is installed), r1lab, generate, vllm "
        "(in this process), vllm-server, or the address of one (http://host:8000)",
    )  # fmt: skip
    add(
        "--lora-rank", metavar="N", type=positive,
        help="train adapters of this rank on all linear layers, for small GPUs (default: all "
        "weights)",
    )  # fmt: skip
    add(
        "--gradient-checkpointing", action=argparse.BooleanOptionalAction,
        help="compute activations twice to save memory (default: where the plan needs it)",
    )  # fmt: skip
    add("--max-minutes", metavar="X", type=amount, help="stop, with a model, after so many minutes")
    add("--max-dollars", metavar="X", type=amount, help="stop, with a model, at this cost")
    add(
        "--push-to-hub", metavar="ID",
        help="upload the trained model to this repository; a private one is made if there is none",
    )  # fmt: skip
    group.add_argument(
        "--print-launch", metavar="NAME", choices=tuple(cluster.FILES),
        help=f"train nothing; print the command that starts this run by a recipe: "
        f"{', '.join(cluster.FILES)}",
    )  # fmt: skip


def add_fields(sub: Parser, configuration: type, title: str) -> None:
    """One option for each field of a dataclass: `kl_coef` becomes `--kl-coef`."""
    group = sub.add_argument_group(title)
    for field in dataclasses.fields(configuration):
        default = field.default
        options: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
        text = str(default)
        if isinstance(default, bool):
            options["action"] = argparse.BooleanOptionalAction
        elif isinstance(default, tuple):
            options |= {"nargs": "+", "type": type(default[0]) if default else str}
            options["metavar"] = field.name.upper()
            text = " ".join(map(str, default))
        else:
            options |= {"type": whole if type(default) is int else type(default)}
            options["metavar"] = "N" if isinstance(default, int | float) else "NAME"
        help = f"{field.metadata.get('help', '')} (default: {text})".replace("%", "%%")
        group.add_argument(f"--{field.name.replace('_', '-')}", help=help.strip(), **options)


def given(configuration: type, args: argparse.Namespace) -> dict[str, Any]:
    """The options of a dataclass that were given."""
    names = {field.name for field in dataclasses.fields(configuration)}
    found = {name: value for name, value in vars(args).items() if name in names}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}


def configure(configuration: type, args: argparse.Namespace) -> Any:
    """The dataclass with the options that were given."""
    return configuration(**given(configuration, args))


def whole(text: str) -> int:
    """argparse type: a whole number of 0 or more."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return value


def positive(text: str) -> int:
    """argparse type: a whole number of 1 or more."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def amount(text: str) -> float:
    """argparse type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


# --------------------------------------------------------------------------------------------------
# What the commands do


def run(args: argparse.Namespace) -> int:
    from r1lab.course import copies, runner

    if args.list:
        return _list(args)
    parameters = _pairs(args.parameter, "-p", "steps=10")
    if args.prepare:
        made, new, kept = copies.prepare(
            args.profile, args.only, args.out, parameters, seed=args.seed
        )
        print(f"the lessons to work on are in {files.shorten(made)}: {len(new)} notebooks written")
        if kept:
            print(f"as they were, with what has been done in them: {', '.join(kept)}")
        return 0
    result = runner.run(
        args.profile,
        args.only,
        args.out,
        parameters,
        seed=args.seed,
        start="fresh" if args.fresh else "resume" if args.resume else "again",
    )
    return 0 if result.ok else 1


def _list(args: argparse.Namespace) -> int:
    """Notebooks, and their parameters on the profile."""
    loaded = profiles.load()
    profile = profiles.check_profile(args.profile) if args.profile else profiles.default_profile()
    for path in profiles.select(args.only):
        reason = profiles.skip_reason(profile, path, loaded)
        print(path.stem + (f"  (left out: {reason})" if reason else ""))
        overrides = profiles.resolve(profile, path, loaded)
        for name, parameter in profiles.parameters(path).items():
            value = overrides.get(name, parameter.default)
            print(f"    {name}: {parameter.annotation} = {value!r}  # {parameter.help}")
    return 0


def init(args: argparse.Namespace) -> int:
    from r1lab.course import copies

    folder, new = copies.lay_out(args.folder)
    print(f"{folder / 'notebooks'}: {len(new)} files written")
    return 0


def train(args: argparse.Namespace) -> int:
    if args.print_launch:
        return _print_launch(args)
    given = [name for name in TRL_ONLY if hasattr(args, name)]
    if args.backend == "scratch" and given:
        raise R1LabError(f"--{given[0].replace('_', '-')} needs --backend trl")
    from r1lab import grpo, models
    from r1lab.training import metrics

    config = configure(grpo.GRPOConfig, args)
    task = _task(args, config.template)
    out_dir = files.run_folder(
        args.out or ("runs/train-trl" if args.backend == "trl" else "runs/train")
    )
    options = {"resume": not args.fresh, "progress": not args.quiet}
    if args.backend == "trl":
        backend = _trl_backend()
        options |= _trl_keywords(args)
    elif any((out_dir / "checkpoints").glob("checkpoint-*")) and not args.fresh:
        raise R1LabError(f"{out_dir} holds a run of --backend trl; choose another --out")
    else:
        backend = grpo
    if args.backend == "trl" and args.device != "auto":
        backend.settle(args.device)
        options["device"] = args.device
    told = not args.quiet and os.environ.get("RANK", "0") == "0"  # of several processes, by one
    if not args.quiet:
        from r1lab.machine import costs

        price = getattr(args, "dollars_per_hour", None)
        if told and price is None and (words := costs.price_words()):
            print(words, flush=True)
        earlier = [] if args.fresh else metrics.metrics_of(out_dir)
        options["callbacks"] = [costs.live(config, options.get("budget"), price, earlier)]
    device = "cpu" if args.backend == "trl" else _device(args.device)  # TRL moves it itself
    model, tokenizer = models.load(_project_folder(args.model), device=device)
    if told:
        print(models.about(args.model), flush=True)
    if backend is grpo:
        _fit(model, tokenizer, task, config, args.quiet)
    history = backend.train(model, tokenizer, task, config, out_dir, **options)
    if not history:  # not the main one of several processes
        return 0
    first, last = history[0], history[-1]
    rows = [
        (name, f"{first[name]:.3g}", f"{last[name]:.3g}")
        for name in ("accuracy", "format", "length", "reflection")
        if name in first and name in last
    ]
    _table(("on its training batches", "first step", "last step"), rows)
    if len(history) < config.steps:
        print(f"the budget ended it after {len(history)} of {config.steps} steps; with a larger "
              "one the same command goes on")  # fmt: skip
    folder = files.shorten(out_dir / "model")
    print(f"the trained model is in {folder}; next: r1lab eval --model {folder}")
    return 0


def _fit(model, tokenizer, task, config, quiet: bool) -> None:
    """The memory plan of a run from scratch; R1LabError for what cannot fit (TRL's backend plans
    for itself)."""
    from r1lab.machine.device import precision_on
    from r1lab.trl_backend import memory

    problems = task.problems("train", config.steps * config.questions, seed=config.seed)
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


def _trl_keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The options of TRL_ONLY that were given, as trl_backend.train calls them."""
    names = {"lora_rank": "lora"}
    direct = ("sampler", "lora_rank", "gradient_checkpointing", "push_to_hub")
    found = {names.get(n, n): getattr(args, n) for n in direct if hasattr(args, n)}
    limits = {n: getattr(args, n, None) for n in ("max_minutes", "max_dollars", "dollars_per_hour")}
    if any(limits.values()):
        from r1lab.machine.costs import Budget

        found["budget"] = Budget(**limits)
    return found


def _print_launch(args: argparse.Namespace) -> int:
    """The command of a recipe, and its file; what was asked for is checked before."""
    import torch

    from r1lab import models
    from r1lab.grpo import GRPOConfig
    from r1lab.trl_backend import cluster

    config, name, model = configure(GRPOConfig, args), args.print_launch, args.model
    _task(args, config.template)
    if model != "smollm2-135m" or name == "vllm":  # this one would be made from its wheel
        model = models.resolve(_project_folder(model))
    words, options = iter(args.argv[1:]), []
    for word in words:
        if word in ("--print-launch", "--backend"):
            next(words)
        elif not word.startswith(("--print-launch=", "--backend=")):
            options.append(word)
    _trl_backend()  # which `commands` asks what TRL takes: without its remarks
    lines = cluster.commands(
        name,
        options,
        config,
        gpus=torch.cuda.device_count() or 8,
        model=model,
        sampler=getattr(args, "sampler", "auto"),
        lora=getattr(args, "lora_rank", None),
    )
    print(*lines, f"# {cluster.path(name)}", sep="\n")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    from r1lab import evaluate as evaluation
    from r1lab import models
    from r1lab.basics.files import write_json
    from r1lab.sampler.rollouts import Sampling
    from r1lab.templates import get_template

    get_template(args.template)
    task = _task(args, args.template)
    problems = task.problems(args.split, args.n)
    model, tokenizer = models.load(_project_folder(args.model), device=_device(args.device))
    found = evaluation.evaluate(
        model,
        tokenizer,
        task,
        problems,
        k=args.k,
        sampling=Sampling(args.max_new_tokens, args.temperature, top_p=args.top_p, seed=args.seed),
        template=args.template,
        progress=sys.stderr.isatty() and not args.json,
    )
    summary = found.summary()
    if args.save:
        write_json(args.save, json.loads(found.to_json()))
    if args.json:
        measures = {name: _finite(estimate) for name, estimate in summary.items()}
        about = {"model": args.model, "task": args.task, "split": args.split, "n": args.n}
        print(json.dumps(about | found.settings | {"measures": measures}, indent=2))
        return 0
    rows = [
        (name, f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if low == low else "–")
        for name, (value, low, high) in summary.items()
    ]
    print(f"{args.model}: {args.n} {args.split} problems, {args.k} answers each")
    _table(("measure", "mean", "95 % interval"), rows)
    return 0


def tasks(args: argparse.Namespace) -> int:
    from r1lab.tasks import check, registry

    if not args.what:
        rows = [
            (name, "from the hub" if name in registry.FROM_HUB else "offline", registry.about(name))
            for name in plugins.names("task", TASKS)
        ]
        _table(("task", "problems", "what"), rows, left=True)
        print("your own: --task FILE.py:NAME; `r1lab tasks check NAME` checks a verifier")
        return 0
    if len(args.what) != 2 or args.what[0] != "check":
        raise R1LabError("write `r1lab tasks` or `r1lab tasks check NAME`")
    args.task = args.what[1]
    task = _task(args, "tiny")
    with plugins.blame(f"task {args.task}"):
        report = check.check(task, args.n, args.seed)
    rows = [("its own solution", str(report.problems), str(report.right))]
    rows += [(f"wrong: {k}", str(n), str(report.accepted[k])) for k, n in report.tried.items()]
    _table(("answers", "tried", "accepted"), rows)
    print(f"the slowest verdict took {report.slowest:.1f} ms")
    print(*report.faults or ["no fault found"], sep="\n")
    return 0 if report.ok else 1


def pipeline(args: argparse.Namespace) -> int:
    from r1lab import pipeline as stages

    recipe = stages.PipelineConfig
    changes = given(recipe, args)
    if "base" in changes:
        changes["base"] = _project_folder(changes["base"])
    config = recipe.smoke(**changes) if args.smoke else recipe(**changes)
    if config.device == "cuda":
        _device("cuda")
    out = files.run_folder(args.out)
    options = {"only": args.only, "until": args.until, "skip": args.skip}
    stages.run(config, out, **options, progress=not args.quiet)
    table = stages.stage_table(out)
    if table["ours"]:
        head, *rows = stages.table_lines(table)
        _table(head, rows)
        print(
            f"paper: {table['paper']['source']}, per cent, of other benchmarks: compare the steps"
        )
    print(f"the stages are in {files.shorten(out)}, each with its record in stage.json")
    if args.student:
        _distill(_project_folder(args.student), config, out, not args.quiet)
    return 0


def _distill(student: str, config, out: Path, progress: bool) -> None:
    """Teach a student on the pipeline's data, against RL alone and both; a table."""
    from r1lab import distillation, recipe, scorecard
    from r1lab.machine.device import device_of

    examples = out / "data" / "examples.jsonl"
    if not examples.exists():
        raise R1LabError(f"there is nothing to teach in {examples}: make the stage data first")
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
    _table(("student", "operations", "Countdown, pass@1", "steps, pass@1"), rows)


def pretrain(args: argparse.Namespace) -> int:
    from r1lab import models
    from r1lab.models import smollm2
    from r1lab.world import pretrain as recipes

    changes = given(recipes.PretrainConfig, args)
    config = dataclasses.replace(recipes.RECIPES[args.recipe or "tiny"], **changes)
    _device(args.device)
    out = Path(args.out or "runs/pretrain/model")
    if not args.out and args.recipe and not changes:
        out = models.data_dir() / smollm2.EMBEDDED[args.recipe][0]
    out_dir = files.run_folder(out.parent) / out.name
    found = recipes.pretrain(config, out_dir, device=args.device, progress=not args.quiet)
    print(f"the base model is in {files.shorten(out_dir)}: {json.dumps(found, default=str)}")
    return 0


def bench(args: argparse.Namespace) -> int:
    common = {"repeats": args.repeats, "quick": args.quick, "out": args.out}
    if args.gpu:
        from r1lab.bench import gpu

        if args.only:
            raise R1LabError("--only chooses parts of the CPU benchmark; --gpu is one measurement")
        options = {"minutes": args.minutes, "backend": args.backend}
        gpu.run(args.gpu, args.model, **common, **options)
        return 0
    from r1lab.bench import cpu

    if args.minutes is not None or args.backend != "scratch":
        raise R1LabError("--minutes and --backend are for --gpu; without it there is --only")
    cpu.run(args.model or "tiny", only=args.only, **common)
    return 0


def measure(args: argparse.Namespace) -> int:
    from r1lab.course import seeds
    from r1lab.course.readme import markdown_table

    profile = profiles.check_profile(args.profile)
    ledger = Path(args.ledger or seeds.LEDGER.with_name(f"figures-{profile}.json"))
    pages = seeds.PAGES if ledger == seeds.LEDGER else ()
    base = args.out or ("runs/figures" if profile == "cpu" else f"runs/figures-{profile}")
    book = seeds.measure(
        args.seeds,
        profile,
        base=base,
        ledger=ledger,
        notebooks=args.only,
        jobs=args.jobs,
        note=args.note,
    )
    seeds.publish(book, pages)
    print(markdown_table(book["figures"]))
    print(f"written to {files.shorten(ledger)}")
    return 0


def book(args: argparse.Namespace) -> int:
    from r1lab.course import book as books

    print(files.shorten(books.build(ROOT / args.folder)))
    return 0


# --------------------------------------------------------------------------------------------------
# Small things


def _pairs(texts: list[str], option: str, example: str) -> dict[str, str]:
    """Options NAME=VALUE, as texts by name."""
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            raise R1LabError(f"{option} {text}: write NAME=VALUE, for example {option} {example}")
        found[name] = value
    return found


def _task(args: argparse.Namespace, template: str):
    """The task, worded for the template."""
    from r1lab.tasks import task_for

    options = {} if args.numbers is None else {"numbers": args.numbers}
    for name, text in _pairs(args.task_option, "--task-option", "difficulty=hard").items():
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a word
            options[name] = text
    return task_for(args.task, template, **options)


def _device(name: str) -> str:
    """The device to compute on, "auto" decided; R1LabError when torch cannot compute there."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise R1LabError(
            f"torch cannot use the device '{name}' here; --device cpu works"
        ) from error
    return name


def _project_folder(name: str) -> str:
    """A folder named from the project's root works from everywhere, as `--out` does."""
    return str(ROOT / name) if not Path(name).exists() and (ROOT / name).is_dir() else name


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], left: bool = False) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        padded = str.ljust if left else str.rjust
        cells += [padded(cell, width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def _finite(estimate) -> dict[str, float | None]:
    """An Estimate as JSON, which has no NaN."""
    names = ("value", "low", "high")
    return {n: None if x != x else float(x) for n, x in zip(names, estimate, strict=True)}


def _close(name: str, known) -> str:
    return errors.did_you_mean(name, known) if name else ""


def _say(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"r1lab: {text}", file=sys.stderr, flush=True)
    return code

"""The commands: help and options of each, here or beside what they do. Whatever is slow to import
is imported when a command runs: `r1lab --help` must not wait for torch."""
# fmt: off

from dataclasses import dataclass
from typing import Any

from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.basics.options import MOST_DRAWN, check, option
from r1lab.cli.classroom import Class, Hosted
from r1lab.cli.data import Decontaminate, Safety
from r1lab.cli.lessons import Bench, Book, Figures, Init, Run
from r1lab.cli.parse import SEEDS, Command, flag, group, number, text, words
from r1lab.cli.progress import CatchUp, Progress
from r1lab.cli.records import Export, Speedrun
from r1lab.cli.sandbox import Sandbox
from r1lab.cli.successors import Successors
from r1lab.cli.watch import Watch


@dataclass(kw_only=True)
class OfTask(Command):
    """The options of a task."""
    task_option: tuple = words("an option of the task: difficulty=hard, levels=(4,5), "
        "source=FOLDER, numbers=4, ...", "NAME=VALUE", repeat="once")
    weak_sandbox: bool = flag("run programs where nothing contains them, too (`r1lab sandbox "
        "doctor` says what is open)")
    numbers: int | None = number("short for --task-option numbers=N (default: 3)", low=1)


@dataclass(kw_only=True)
class ModelAndTask(OfTask):
    """What `train` and `eval` share."""
    model: str = option("tiny", "tiny, tiny-small (embedded), smollm2-135m "
        "(from its wheel), qwen2.5-0.5b, -1.5b, -3b, qwen3-0.6b-base, -1.7b-base, -4b-base (from "
        "the hub), a folder, or any hub id", path=True)
    task: str = option("countdown", "by its name (`r1lab tasks` lists them) or FILE.py:NAME")
    device: str = option("auto", "cpu, cuda or auto: a GPU where there is one")


@dataclass
class TrlOptions:
    """What `train --backend trl` takes besides the choices of GRPO; None: not given."""
    sampler: str | None = text("who samples: auto (default; by what is installed), r1lab, "
        "generate, vllm (in this process), vllm-server, or the address of one (http://host:8000)")
    lora_rank: int | None = number("train adapters of this rank (default: all parameters)", low=1)
    gradient_checkpointing: bool | None = option(None, "recompute activations to save memory, or "
        "with --no-... never (default: where the plan needs it)", type=bool)
    max_minutes: float | None = number("stop, with a model, after so many minutes", float)
    max_dollars: float | None = number("stop, with a model, at this cost", float)
    push_to_hub: str | None = text("upload the model to this repository, made private if new", "ID")

    def __post_init__(self) -> None:
        check(self, "r1lab train")


@dataclass(kw_only=True)
class Train(ModelAndTask):
    """train a model by GRPO with rule rewards

    R1-Zero: sample groups of completions, reward them by rules, follow the clipped policy gradient.
    Stopped anywhere, the same command goes on where it was. The output folder gets metrics.jsonl,
    samples.jsonl, checkpoints/ and, at the end, model/. Two backends run the same configuration:
    scratch, this project's own loop on one device, and trl, TRL's GRPOTrainer: GPUs, several of
    them (--print-launch), vLLM, LoRA.

    examples:
      r1lab train --config r1_zero_tiny --steps 40 --out runs/train-1
      r1lab train --advantage dr_grpo --length-norm constant
      r1lab train --rewards random --reward-weights 1    the control: random rewards
      r1lab train --backend trl --max-minutes 30         on TRL, half an hour at most
      r1lab train --model MODEL --print-launch ddp       how to run it on all GPUs here
    """
    out: str | None = text("output folder (default: runs/train, or runs/train-trl)", "FOLDER",
        path=True)
    fresh: bool = flag("begin anew; an earlier run is set aside")
    quiet: bool = flag("no progress bar, plan or costs")
    dollars_per_hour: float | None = number("of the machine (default: by the price table)", float)
    backend: str = option("scratch", "who trains", choices=("scratch", "trl"))
    report: str | None = text("send every step's metrics to a tracker too (pip install it; trackio "
        "is local and offline, the others need --backend trl)", "TRACKER",
        choices=("trackio", "wandb", "tensorboard"))
    record_every: int = option(0, "steps between whole groups kept for the inspector, with what "
        "the update did to them; 0: none (scratch only)", low=0)
    held_out: int | None = number("so many held-out problems before and after, 4 completions each, "
        "sampled as in training", low=2, high=MOST_DRAWN)
    print_launch: str | None = text("train nothing; print the command that starts this run: ddp, "
        "fsdp, zero3, slurm, sky-1, sky-8, sky-2x8, vllm")
    trl: Any = group("--backend trl")
    settings: Any = group("GRPO")

    @classmethod
    def groups(cls, given: dict[str, Any]) -> dict[str, Any]:
        from r1lab.grpo import GRPOConfig

        return {"trl": TrlOptions(), "settings": GRPOConfig()}


@dataclass(kw_only=True)
class Eval(ModelAndTask):
    """evaluate a model or an endpoint: pass@1, pass@k, cons@k, dollars

    Sample k completions for each of n problems and measure them, with 95 % intervals over the
    problems. The held-out problems were in no corpus and no training. Temperature and top-p are the
    paper's. --out keeps every completion as a line with its prompt, seed, tokens and dollars;
    stopped anywhere, the same command goes on where it was. An endpoint is asked in OpenAI's
    protocol (vLLM, llama.cpp, hosted models); its key is read from an environment variable, and its
    completions are always kept (default: runs/eval/MODEL-TASK).

    examples:
      r1lab eval                                     the embedded base model
      r1lab eval --model runs/train/model --n 256 --k 16 --json > trained.json
      r1lab eval --endpoint http://localhost:8000/v1 --model R1 --task aime --k 64
      r1lab eval --endpoint https://api.deepseek.com --model deepseek-reasoner --task math500 \\
        --k 4 --tariff 0.28/0.42 --max-dollars 5 --key-env DEEPSEEK_API_KEY
      r1lab eval --compare runs/eval/a runs/eval/b   problem by problem
    """
    split: str = option("held_out", "train, held_out or leaked")
    k: int = option(16, "completions per problem", low=1)
    n: int = option(256, "problems (all, where the split has fewer)", low=1, high=MOST_DRAWN)
    max_new_tokens: int | None = number("length limit of a completion (default: 448, for an "
        "endpoint 32768)", low=1)
    temperature: float = option(0.6, "of sampling; 0: greedy decoding; 1: what RL trains", low=0)
    top_p: float = option(0.95, "nucleus sampling")
    template: str | None = text("tiny, r1_zero, examples, short, chat, thinking, no_thinking or "
        "FILE.py:NAME (default: tiny, for an endpoint chat)")
    seed: int = option(0, "of the sampling", **SEEDS)
    json: bool = flag("print JSON in place of the table")
    save: str | None = text("also keep every completion of a local model, as JSON", "FILE",
        path=True)
    out: str | None = text("keep the run here, and go on with it", "FOLDER", path=True)
    fresh: bool = flag("begin anew; an earlier run in --out is set aside")
    compare: tuple = words("compare two kept runs problem by problem", "FOLDER")
    endpoint: str | None = text("the URL of a server, as in http://localhost:8000/v1", "URL")
    key_env: str = option("OPENAI_API_KEY", "the environment variable with the endpoint's key")
    tariff: str | None = text("of the endpoint, dollars a million tokens IN/OUT, as in 0.55/2.19, "
        "or the name of a dated list price", "IN/OUT")
    jobs: int = option(8, "requests at a time", low=1)
    tries: int = option(6, "of a request, before it is given up", low=1)
    timeout: float = option(600.0, "seconds for one try", low=0.1)
    send: tuple = option((), "a field of the requests; none leaves it out", repeat="once",
        metavar="NAME=VALUE")
    dollars_per_hour: float | None = number("of this machine, for a local model (default: by the "
        "price table)", float)
    max_dollars: float | None = number("stop before this cost, earlier sessions included", float)


@dataclass(kw_only=True)
class Probe(OfTask):
    """is a base ready for RL? pass@k, format, groups with variance

    Sample completions to training problems before any training, by task and prompt template, and
    say what RL would see: pass@1 and pass@k, how many groups have rewards that differ, answers in
    tags, format, language, truncation; and what to expect of it.

    examples:
      r1lab probe --task countdown code steps
      r1lab probe --model smollm2-135m --task word_problems --task-option difficulty=easy \\
        --template examples r1_zero --max-new-tokens 128
      r1lab probe --model MODEL --task qa:mine.csv --template r1_zero
    """
    model: str = option("tiny", "as for `r1lab train`", path=True)
    task: tuple = words("tasks, by name or FILE.py:NAME (default: countdown)", "TASK")
    template: tuple = words("prompt templates (default: tiny)", "TEMPLATE")
    n: int = option(64, "problems of the split train", low=1, high=MOST_DRAWN)
    k: int = option(16, "completions per problem", low=2)
    group_size: int = option(16, "completions per prompt that RL will take, at most k", low=2)
    questions: int = option(16, "prompts per step that RL will take", low=1)
    max_new_tokens: int = option(448, "length limit of a completion", low=1)
    temperature: float = option(1.0, "of the sampling; RL's, not an evaluation's", low=1e-3)
    device: str = option("auto", "cpu, cuda or auto: a GPU where there is one")
    seed: int = option(0, "of problems and sampling", **SEEDS)
    json: bool = flag("print JSON in place of the table")


@dataclass(kw_only=True)
class ScienceAgent(Command):
    """ScienceAgentBench: programs that analyse data, run and judged

    Ask a model for a program for every task, run it in the sandbox, judge what it writes: success
    rate (SR) and valid programs (VER) of one run with 95 % intervals, and the best of --runs as the
    benchmark publishes it. --benchmark is your copy of ScienceAgentBench; without it, a miniature
    of 16 tasks. Stopped anywhere, the same command goes on; both files are in the benchmark's own
    formats. Without --endpoint, --programs judges a folder of pred_*.py, and --replay the committed
    runs of scripted agents.

    examples:
      r1lab scienceagent --replay sloppy-1 sloppy-2 sloppy-3      offline
      r1lab scienceagent --endpoint http://localhost:8000/v1 --model R1
      r1lab scienceagent --endpoint https://api.deepseek.com --model deepseek-reasoner \\
        --key-env DEEPSEEK_API_KEY --tariff 0.28/0.42 --max-dollars 5 --runs 3 \\
        --benchmark ~/ScienceAgentBench
      r1lab scienceagent --programs pred_programs --fault "missing package"
    """
    benchmark: str | None = text("your copy of the benchmark (default: the miniature)", "FOLDER",
        path=True)
    endpoint: str | None = text("the URL of a server, as in http://localhost:8000/v1", "URL")
    model: str | None = text("as the server calls it")
    key_env: str = option("OPENAI_API_KEY", "the environment variable with the endpoint's key")
    tariff: str | None = text("of the endpoint, dollars a million tokens IN/OUT, as in 0.55/2.19, "
        "or the name of a dated list price", "IN/OUT")
    max_dollars: float | None = number("stop before this cost, all runs together", float)
    max_tokens: int = option(8192, "of one answer, thought included", low=1)
    agent: str = option("self-debug", "how a program is asked for", choices=("direct",
        "self-debug"))
    knowledge: bool = flag("with the experts' knowledge in the request")
    runs: int = option(1, "of every task; the benchmark publishes the best of 3", low=1)
    only: tuple = words("only these tasks, by instance_id", "N")
    programs: str | None = text("judge the pred_*.py of this folder, ask nobody", "FOLDER",
        path=True)
    replay: tuple = words("judge these runs again: committed ones by name, or run files", "RUN")
    fault: tuple = words("switch a bug of the harness on: 'doubled path', 'missing package' or "
        "'gold in reach'", "NAME")
    out: str | None = text("of the runs (default: runs/scienceagent/MODEL-AGENT)", "FOLDER",
        path=True)
    json: bool = flag("print JSON in place of the tables")
    weak_sandbox: bool = flag("run programs where nothing contains them, too (`r1lab sandbox "
        "doctor` says what is open)")


@dataclass(kw_only=True)
class Tasks(OfTask):
    """list the tasks; check a task's verifier

    Without arguments, list what --task takes; `gym` lists the tasks gym:NAME. `check NAME` gives
    the verifier of a task every problem's own solution, and answers that are known to be wrong; it
    exits with 1 when a solution is refused or a wrong answer accepted. NAME may be FILE.py:NAME.

    examples:
      r1lab tasks check countdown --task-option numbers=4
      r1lab tasks check mine.py:MyTask --n 200
    """
    what: tuple = option((), "check NAME, or gym (default: list the tasks)", positional=True,
        metavar="WORD")
    n: int = option(50, "problems", low=1, high=MOST_DRAWN)
    seed: int = option(0, "of the problems", **SEEDS)


@dataclass(kw_only=True)
class Pipeline(Command):
    """make all of R1: cold start, RL, rejection sampling, reward models

    All stages of R1 from a base model, each in a folder of its own: zero, cold, dev1, dev2, data,
    dev3, helpful, safe, rules, r1; then a table of held-out measures beside the paper's. Stopped
    anywhere, the same command goes on where it was. A stage whose options or input have changed is
    made again, and what was there is set aside.

    examples:
      r1lab pipeline --smoke --out runs/smoke     in miniature: a quick test
      r1lab pipeline --until dev2                 the first four stages
      r1lab pipeline --only r1 --r1-steps 40      one stage again, from what is there
      r1lab pipeline --student tiny-small             and distill it into a smaller model
      accelerate launch --num_processes 8 -m r1lab pipeline --backend trl     on eight GPUs
    """
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
    settings: Any = group("recipe")

    @classmethod
    def groups(cls, given: dict[str, Any]) -> dict[str, Any]:
        from r1lab.recipe import PipelineConfig

        smoke = given.get("smoke") is True
        return {"settings": PipelineConfig.smoke() if smoke else PipelineConfig()}


@dataclass(kw_only=True)
class Pretrain(Command):
    """make an embedded base model again, from nothing

    Generate the synthetic pre-training corpus and train a base model on it (at most 45 minutes on
    two cores), by the recipe of one that ships in data/: tiny, or tiny-small, a student for
    distillation. Other options change the recipe. Stopped anywhere, the same command goes on where
    it was.

    examples:
      r1lab pretrain --recipe tiny                   data/tiny, made again
      r1lab pretrain --out runs/small --steps 200 --width 96
    """
    out: str | None = text("where the model goes (default: the folder in data/ of a --recipe that "
        "is followed to the letter, else runs/pretrain/model)", "FOLDER", path=True)
    device: str = option("cpu", "cpu or cuda")
    quiet: bool = flag("no progress bar")
    recipe: str | None = text("tiny (default) or tiny-small")
    settings: Any = group("changes of the recipe:")

    @classmethod
    def groups(cls, given: dict[str, Any]) -> dict[str, Any]:
        from r1lab.world.pretrain import RECIPES

        name = given.get("recipe") or "tiny"
        if name not in RECIPES:
            raise R1LabError(f"there is no recipe '{name}'{did_you_mean(name, RECIPES)}")
        return {"settings": RECIPES[name]}


@dataclass(kw_only=True)
class Ledger(Command):
    """what a model was made from and what it cost, every hash compared

    Print the tree of a model back to the generator's seed, and the bill by stage beside the paper's
    table. Every file of the chain is compared with its recorded hash; exits with 1 where one was
    changed.

    examples:
      r1lab ledger runs/pipeline/r1/model
      r1lab ledger tiny
    """
    folder: str = option("runs/pipeline/r1/model", "of a model, or tiny", positional=True,
        metavar="FOLDER", path=True)
    dollars_per_hour: float = option(2.0, "of one device (the paper's price of an H800)", low=0)
    json: bool = flag("print JSON in place of the tables")


@dataclass(kw_only=True)
class Release(Command):
    """check a model, write its card and checksums, publish it where asked

    Look for what is often wrong with published models (pickles, missing tokenizer, licence or chat
    template, keys and paths in files, NaN, ...): each is refused with a line that says how to mend
    it. Then write README.md, the evaluation results in the hub's format and SHA256SUMS into the
    folder. Nothing leaves this machine without --push.

    examples:
      r1lab release runs/pipeline/r1/model --chat-template tiny
      r1lab release runs/train/model --push me/my-model
    """
    folder: str = option("runs/pipeline/r1/model", "of a model", positional=True,
        metavar="FOLDER", path=True)
    license: str | None = text("for the card (default: that of the chain of models)", "ID")
    base_model: str | None = text("for the card (default: by the chain of models)", "ID")
    chat_template: str | None = text("first put this prompt template into the folder: tiny, "
        "r1_zero or FILE.py:NAME")
    push: str | None = text("upload to this repository of the hub, made private if new", "ID")


COMMANDS = {  # the options, and the function that does the work
    "run": (Run, "lessons.run"),
    "init": (Init, "lessons.init"),
    "catch-up": (CatchUp, "progress.catch_up"),
    "progress": (Progress, "progress.progress"),
    "train": (Train, "training.train"),
    "watch": (Watch, "watch.watch"),
    "eval": (Eval, "evals.evaluate"),
    "scienceagent": (ScienceAgent, "scienceagent.scienceagent"),
    "tasks": (Tasks, "training.tasks"),
    "sandbox": (Sandbox, "sandbox.sandbox"),
    "decontaminate": (Decontaminate, "data.decontaminate"),
    "safety": (Safety, "data.safety"),
    "pipeline": (Pipeline, "training.pipeline"),
    "pretrain": (Pretrain, "training.pretrain"),
    "ledger": (Ledger, "release.ledger"),
    "release": (Release, "release.release"),
    "bench": (Bench, "lessons.bench"),
    "figures": (Figures, "lessons.figures"),
    "book": (Book, "lessons.book"),
    "probe": (Probe, "probe.probe"),
    "successors": (Successors, "successors.successors"),
    "class": (Class, "classroom.classroom"),
    "hosted": (Hosted, "classroom.hosted"),
    "speedrun": (Speedrun, "records.speedrun"),
    "export": (Export, "records.export"),
}

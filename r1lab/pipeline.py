"""All of R1, from the base to the last stage, in one call.

    zero     base --GRPO: accuracy, format--------------------------> R1-Zero
    cold     R1-Zero's completions, correct and readable -----------> a few hundred long thoughts
    dev1     base --SFT on these------------------------------------> Dev1
    dev2     Dev1 --GRPO: accuracy, format, language----------------> Dev2
    data     Dev2's completions, filtered; general examples, 3 : 1 -> training data
    dev3     base --SFT on these, three epochs----------------------> Dev3
    helpful  Dev3's body with a score, from preference pairs -------> helpfulness reward model
    safe     Dev3's body with a score, from labels -----------------> safety reward model
    rules    Dev3 --GRPO: verifiers alone --------------------------> (R1's first 1,300 steps)
    r1       that --GRPO: verifiers and reward models --------------> R1 (its last 400)

(arXiv 2501.12948v2, figure 2 and section 3.) Options and rewards are in `recipe`. `stages` makes
nothing twice and resumes what was stopped; `scorecard` measures each model.
"""

import json
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from r1lab import grpo, recipe, reward_model, sft
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text, shorten
from r1lab.evaluate import Evaluation, evaluate
from r1lab.machine.device import device_of
from r1lab.recipe import STAGES, PipelineConfig, options_of, rl_config, seed_of, task_of, weights_of
from r1lab.rejection import Funnel, funnel
from r1lab.reward_model import as_reward, bounded
from r1lab.rewards import REWARDS, RewardFunction, paid_where
from r1lab.sampler.rollouts import Sampling
from r1lab.scorecard import MODELS, load, scored
from r1lab.sft import Example, read_examples, write_examples
from r1lab.tasks import Problem, distinct
from r1lab.templates import encode, prompt_of
from r1lab.training import stages
from r1lab.training.stages import record_of
from r1lab.world import preferences
from r1lab.world.preferences import is_harmful, is_helpful

EXAMPLES, DRAWN = "examples.jsonl", "drawn.json"
JUDGEMENTS, HELD_OUT = "judgements.jsonl", "held_out.jsonl"
Reads = Mapping[str, str | os.PathLike]  # what a stage reads, by name


@dataclass(frozen=True)
class Backend:
    """Who trains: `SCRATCH`, our loops, or TRL (`trl_backend.stages`), in each of its processes."""

    name: str
    rl: Callable[..., list[dict]]  # as grpo.train
    sft: Callable[..., list[dict]]  # as sft.train
    judge: Callable[..., list[dict]]  # as reward_model.train
    load: Callable[..., tuple] = load  # load(config, folder): a model to be trained
    evaluate: Callable[..., Evaluation] = evaluate
    stage: Callable[..., dict] = stages.stage
    alone: Callable[[Callable], Any] = lambda make: make()  # by one process, the others wait
    main: bool = True  # is this the process that writes and speaks?


SCRATCH = Backend("scratch", grpo.train, sft.train, reward_model.train)


def draw(
    config: PipelineConfig,
    model: str | os.PathLike,
    problems: Sequence[Problem],
    samples: int,
    seed: int,
    backend: Backend = SCRATCH,
) -> Evaluation:
    """`samples` completions of a model for each problem, at temperature 1, measured."""
    loaded, tokenizer = load(config, model, train=False)
    how = {"k": samples, "sampling": Sampling(config.max_new_tokens, seed=seed)}
    task, how["template"] = task_of(config, "r1"), config.template
    found = backend.evaluate(loaded, tokenizer, task, problems, **how)
    texts = [prompt_of(tokenizer, problem, config.template) for problem in problems]
    prompts = encode(tokenizer, texts)
    found.settings["prompt tokens"] = sum(map(len, prompts))
    return found


def filtered(config: PipelineConfig, name: str, drawn: Evaluation) -> Funnel:
    """What "cold" or "data" keeps of its completions."""
    keep, seed = getattr(config, f"{name}_keep"), seed_of(config, name)
    return funnel(drawn, keep=keep, longest=config.longest, seed=seed)


def drawn_in(folder: str | os.PathLike) -> Evaluation:
    """All completions that the stage "cold" or "data" in `folder` sampled, before any filter.
    Raises R1LabError where there are none."""
    path = Path(folder) / DRAWN
    try:
        return Evaluation.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise R1LabError(f"no drawn answers in {path} ({error.strerror}): make the stage") from None


def rewards_of(config: PipelineConfig, name: str, judges: Reads) -> dict[str, RewardFunction]:
    """The rewards of "rules" or "r1" as functions, by name: accuracy for reasoning prompts, each
    reward model for its own prompts. judges: folders of "helpful", "safe", beside their records."""
    found = dict(REWARDS)
    found["accuracy"] = paid_where(found["accuracy"], lambda p: p.task not in preferences.GENERAL)
    for kind, good in (("helpful", is_helpful), ("safe", is_harmful)):
        if kind in weights_of(config, name):
            folder = Path(judges[kind])
            model, tokenizer = reward_model.load(folder)
            model.to(device_of(config))
            score = as_reward(model, tokenizer, kind, good, config.template)
            found[kind] = bounded(score, record_of(folder.parent)["metrics"]["centre"])
    return {one: found[one] for one in weights_of(config, name)}


def make_rl(
    config: PipelineConfig, name: str, reads: Reads, folder: Path, backend=SCRATCH, *, progress
) -> dict:
    """GRPO from the first model that the stage reads. Resumes at its own checkpoints."""
    functions = rewards_of(config, name, reads) if name in ("rules", "r1") else None
    loaded = backend.load(config, next(iter(reads.values())))
    train = rl_config(config, name, functions)
    history = backend.rl(*loaded, task_of(config, name), train, folder, progress=progress)
    told = ["reward", "accuracy", "format", "length", "language_mixing"]
    told += [one for one in history[0] if one.startswith("rewards/")]
    ends = {"first": history[0], "last": history[-1]}
    found = {when: {one: row[one] for one in told} for when, row in ends.items()}
    return found | {"steps": len(history)}


def make_sft(
    config: PipelineConfig, name: str, reads: Reads, folder: Path, backend=SCRATCH, *, progress
) -> dict:
    """SFT of the *base* on the examples. Resumes at its own checkpoints."""
    examples = read_examples(reads["cold" if name == "dev1" else "data"])
    train = recipe.sft_config(config, name)
    model, tokenizer = backend.load(config, reads["base"])
    _, long = sft.tokenized(examples, tokenizer, train)
    history = backend.sft(model, tokenizer, examples, train, folder, progress=progress)
    return {
        "examples": len(examples) - len(long),
        "too long": len(long),
        "steps": len(history),
        "loss": {"first": history[0]["loss"], "last": history[-1]["loss"]},
    }


def make_examples(
    config: PipelineConfig, name: str, reads: Reads, folder: Path, backend=SCRATCH, *, progress
) -> dict:
    """Rejection sampling from the model that the stage reads: "cold" keeps reasoning alone, "data"
    adds general examples. Not resumable."""
    seed, (source,) = seed_of(config, name), reads.values()
    questions, samples = getattr(config, f"{name}_questions"), getattr(config, f"{name}_samples")
    problems = task_of(config, name).problems("train", questions, seed)
    drawn = draw(config, source, problems, samples, seed, backend)
    return backend.alone(lambda: write_chosen(config, name, drawn, folder))


def write_chosen(config: PipelineConfig, name: str, drawn: Evaluation, folder: Path) -> dict:
    """Write the examples of "cold" or "data", chosen from `drawn`; returns the stage's metrics."""
    seed = seed_of(config, name)
    atomic_write_text(folder / DRAWN, drawn.to_json())
    found = filtered(config, name, drawn)
    examples, few = found.examples, len(found.examples) < config.least
    if few:
        if not config.accept_any:
            counts = ", ".join(f"{left} {which}" for which, left, _ in found.stages)
            raise R1LabError(
                f"{name}: too few good answers, {len(examples)} where {config.least} are the least "
                f"({counts}); train the stage before for longer, or sample more prompts"
            )
        rows = zip(drawn.problems, drawn.completions, strict=True)
        examples = [Example(problem, one.text) for problem, row in rows for one in row]
    if name == "cold" and len(examples) > config.cold_examples:
        examples = random.Random(f"cold/{seed}").sample(examples, config.cold_examples)
    metrics = {
        "funnel": found.stages,
        "any accepted": few,
        "reasoning": len(examples),
        "tokens drawn": int(drawn.column("length").sum()),
        "prompt tokens": drawn.settings["prompt tokens"],
        "how": "answers of the model before, to train prompts, at temperature 1, filtered",
    }
    if name == "data":
        n = round(len(examples) * config.general_share / (1 - config.general_share))
        asked = task_of(config, "general").problems("train", n, seed)
        examples = examples + preferences.general_examples(asked, seed)
        metrics["general"] = n
        metrics["how"] += "; general: written by rule (preferences.right_completion)"
    write_examples(folder / EXAMPLES, examples)
    return metrics


def judged(
    config: PipelineConfig, name: str, reads: Reads, split: str, backend: Backend = SCRATCH
) -> list:
    """Labels of completions by the base and by Dev3, and of written ones, for prompts of a split:
    Pairs for "helpful", Marked for "safe"."""
    seed, helpful = seed_of(config, name), name == "helpful"
    asked = task_of(config, "general").problems(split, 2 * config.judged_prompts, seed)
    wanted = is_helpful if helpful else lambda problem: problem.task == "requests"
    problems = distinct(p for p in asked if wanted(p))[: config.judged_prompts]
    samples, models = config.judged_samples, (reads["base"], reads["dev3"])
    drawn = [draw(config, model, problems, samples, seed, backend) for model in models]
    rows = zip(*(one.completions for one in drawn), strict=True)
    texts = [[one.text for row in both for one in row] for both in rows]
    judge = preferences.pairs if helpful else preferences.marks
    return judge(problems, texts, each=config.judgements_each, noise=config.noise, seed=seed)


def make_judge(
    config: PipelineConfig, name: str, reads: Reads, folder: Path, backend=SCRATCH, *, progress
) -> dict:
    """A reward model on Dev3's body, and its accuracy on held-out prompts. Not resumable."""
    learned = judged(config, name, reads, "train", backend)
    held_out = judged(config, name, reads, "held_out", backend)
    model, tokenizer = reward_model.from_base(reads["dev3"], seed_of(config, name))
    model.to(device_of(config))
    train = recipe.judge_config(config, name)
    history = backend.judge(model, tokenizer, learned, train, folder / "model", progress=progress)
    how_good = preferences.judge_of_pairs if name == "helpful" else preferences.judge_of_marks

    def examine() -> dict[str, Any]:
        reward_model.write_judgements(folder / JUDGEMENTS, learned)
        reward_model.write_judgements(folder / HELD_OUT, held_out)
        rows = "".join(f"{json.dumps(row)}\n" for row in history)
        atomic_write_text(folder / "metrics.jsonl", rows)
        whole, _ = reward_model.load(folder / "model")  # the one in memory may be sharded
        whole.to(device_of(config))
        return {
            which: how_good(whole, tokenizer, some, config.template)
            for which, some in (("learned", learned), ("held out", held_out))
        }

    found = backend.alone(examine)
    centre = found["learned"]["median score"] if name == "helpful" else 0.0
    loss = {"first": history[0]["loss"], "last": history[-1]["loss"]}
    return found | {"judgements": len(learned), "loss": loss, "centre": centre}


@dataclass(frozen=True)
class Stage:
    """What a stage reads (first the model that it starts from) and leaves, and
    make(config, name, {read: path}, folder, backend, progress=) -> metrics."""

    reads: tuple[str, ...]
    make: Callable[..., dict[str, Any]]
    writes: str = "model"


PLAN: dict[str, Stage] = {
    "zero": Stage(("base",), make_rl),
    "cold": Stage(("zero",), make_examples, EXAMPLES),
    "dev1": Stage(("base", "cold"), make_sft),
    "dev2": Stage(("dev1",), make_rl),
    "data": Stage(("dev2",), make_examples, EXAMPLES),
    "dev3": Stage(("base", "data"), make_sft),
    "helpful": Stage(("base", "dev3"), make_judge),
    "safe": Stage(("base", "dev3"), make_judge),
    "rules": Stage(("dev3",), make_rl),
    "r1": Stage(("rules", "helpful", "safe"), make_rl),
}


def begin(config: PipelineConfig, out: str | os.PathLike) -> Path:
    """The folder of the stage "zero", for a caller who trains R1-Zero there by `grpo.train` with
    `task_of` and `rl_config`; `run` then finds the training done and writes the stage's record."""
    folder = Path(out) / "zero"
    stages.begin("zero", folder, {"base": config.base}, options_of(config, "zero"))
    return folder


def run(
    config: PipelineConfig,
    out: str | os.PathLike,
    only: str | Sequence[str] | None = None,
    until: str | None = None,
    say: Callable[[str], None] = print,
    *,
    given: Mapping[str, str | os.PathLike] | None = None,
    backend: Backend = SCRATCH,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """Make the stages in order, each in out/<stage>; returns their records by name.

    only   these stages, one name or several; until: the last one to be made
    given  folders of stages to use as they are, by name: {"dev1": "runs/pipeline/dev1"}
    backend  who trains; all of its processes call this

    Killed anywhere, the same call goes on. A stage is made again when its options or input have
    changed. Each model of MODELS gets a scorecard as soon as it exists (the base unless `only` is
    given), none where eval_problems is 0. Raises R1LabError for names that are no stage, and where
    a stage reads what does not exist.
    """
    out, records = Path(out), {}
    given = {name: Path(folder) for name, folder in (given or {}).items()}
    if not backend.main:
        say, progress = lambda line: None, False
    only = [only] if isinstance(only, str) else only
    for name in [*(only or ()), *([until] if until else ()), *given]:
        if name not in STAGES:
            raise R1LabError(f"there is no stage {name!r}; the stages are {', '.join(STAGES)}")
    names = STAGES[: STAGES.index(until) + 1] if until else STAGES

    def place(name: str) -> str | Path:
        """A stage's model or examples."""
        if name == "base":
            return config.base
        return given.get(name, out / name) / PLAN[name].writes

    if only is None and config.eval_problems:
        backend.alone(lambda: scored(config.base, config, out / "base", say))
    for name in names:
        used = name in given
        if only is not None and name not in only and not used:
            continue
        folder, plan = given.get(name, out / name), PLAN[name]
        reads = {source: place(source) for source in plan.reads}
        missing = [source for source in reads if source != "base" and not reads[source].exists()]
        if used and not place(name).exists():
            raise R1LabError(f"stage {name} is to be used as it is, and {place(name)} is not there")
        if missing and not used:
            raise R1LabError(f"stage {name} reads {reads[missing[0]]}: make {missing[0]} first")
        if used:
            records[name] = record_of(folder) | {"made": False}
            say(f"{name}: used as it is, in {shorten(folder)}")
        else:
            make = partial(plan.make, config, name, reads, backend=backend, progress=progress)
            options, writes = options_of(config, name), (plan.writes,)
            if backend.name != SCRATCH.name:
                options |= {"backend": backend.name}
            say(f"{name}: from {', '.join(reads)}")
            how = {"writes": writes, "say": say}
            records[name] = backend.stage(name, folder, reads, options, make, **how)
        if name in MODELS and folder == out / name and config.eval_problems:
            backend.alone(partial(scored, place(name), config, folder, say))
    return records

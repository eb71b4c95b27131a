"""What came after GRPO, against the paper's objective: at equal samples and at equal seconds.

A *regime* is a situation in which some successors claim to matter (successors.yaml, written before
the measurement). In it the paper's objective and its variants train from the same base, with the
same seed. After each of its steps the variants step until they have spent as many seconds, so that
a machine that slows down slows all of them. Seconds are the processor's, of one thread: waiting for
other programs does not count. (Nor does the sandbox that runs programs, in processes of its own.)
Each is measured on held-out problems twice: when it has drawn as many completions as the paper's
objective in all its steps, and when it has spent as many seconds.

Differences are paired by seed; their 95 % intervals are Student's t over five seeds.
"""

import copy
import hashlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import yaml

from r1lab.basics import files
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.bench.harness import RESULTS, grid, say, today, write
from r1lab.evaluate import evaluate
from r1lab.experience import training_problems
from r1lab.grpo import GRPOConfig, earlier, questions_at, stale_rollout, update
from r1lab.machine.about import hardware, versions
from r1lab.models.load import load
from r1lab.sampler.rollouts import Sampling
from r1lab.statistics import DOWN, UP, Estimate, t_interval, way
from r1lab.tasks import get_task
from r1lab.tasks.countdown import Countdown
from r1lab.training.optimizer import adamw, ready

LEDGER = RESULTS / "successors.json"
PAPER = "the paper's objective"
BUDGETS = ("samples", "seconds")
MEASURES = ("accuracy", "length", "truncated")  # and "wrong_length": of the wrong ones alone
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Size:
    """steps of the paper's objective; held-out problems, and completions of each."""

    base: str = "tiny"
    steps: int = 16
    problems: int = 64
    k: int = 4
    seed: int = 70_000  # of the held-out completions


@dataclass(frozen=True)
class Variant:
    """What a successor changes, and what its source expects of it."""

    name: str
    source: str
    expects: tuple[str, str]
    changes: Mapping[str, Any]
    against: str = PAPER


@dataclass(frozen=True)
class Regime:
    title: str
    task: str
    options: GRPOConfig
    variants: Mapping[str, Variant]

    def config(self, name: str, seed: int, steps: int) -> GRPOConfig:
        """The configuration of a variant, or of PAPER."""
        changes = {} if name == PAPER else self.variants[name].changes
        return replace(self.options, seed=seed, steps=steps, **changes)

    def stated(self) -> str:
        """What is measured, in short: another one must be measured again."""
        configs = {one: self.config(one, 0, 1).to_json() for one in (PAPER, *self.variants)}
        return hashlib.sha256(files.to_json([self.task, configs]).encode()).hexdigest()[:12]


def brevity(completions: Sequence, *, completion_ids: Sequence, **kwargs) -> list[float]:
    """Minus the number of tokens: a reward of another scale than accuracy's 0 and 1."""
    return [-float(len(ids)) for ids in completion_ids]


@dataclass(frozen=True)
class MostlyHard(Countdown):
    """Countdown with four numbers, which tiny never solves, in three of four training problems."""

    def problems(self, split: str, n: int, seed: int = 0) -> list[Any]:
        easy = super().problems(split, n, seed)
        if split != "train":
            return easy
        hard = iter(Countdown(numbers=4).problems(split, n, seed))
        return [one if i % 4 == 0 else next(hard) for i, one in enumerate(easy)]


@cache
def regimes() -> dict[str, Regime]:
    """The regimes of successors.yaml by name."""
    text = Path(__file__).with_name("successors.yaml").read_text(encoding="utf-8")
    stated, found = yaml.safe_load(text), {}
    for name, one in stated["regimes"].items():
        options = plain(stated["common"] | one["options"])
        variants = {
            key: Variant(**v | {"changes": plain(v["changes"]), "expects": tuple(v["expects"])})
            for key, v in one["variants"].items()
        }
        found[name] = Regime(one["title"], one["task"], GRPOConfig(**options), variants)
    return found


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options as GRPOConfig takes them: lists as tuples, our reward by its name."""
    found = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    if names := found.get("rewards"):
        found["rewards"] = tuple(brevity if name == "brevity" else name for name in names)
    return found


def regime_of(name: str) -> Regime:
    if name not in regimes():
        raise R1LabError(f"there is no regime {name}{did_you_mean(name, regimes())}")
    return regimes()[name]


class Runner:
    """One variant in training: a step at a time, with what it has cost so far."""

    def __init__(self, model, tokenizer, task, config: GRPOConfig) -> None:
        self.config, self.model, self.task = config, copy.deepcopy(model), task
        self.step, self.seconds, self.samples = 0, 0.0, 0
        self.history: list[dict[str, float]] = []
        self.work: Iterator[dict[str, float]] = self.steps(tokenizer)

    def steps(self, tokenizer) -> Iterator[dict[str, float]]:
        """The steps of `grpo.train`, with nothing kept on disk."""
        config, model, task = self.config, self.model, self.task
        problems = training_problems(task, model, tokenizer, config, say=lambda *words: None)
        ready(model, config)
        optimizer = adamw(model, config)
        reference, past = earlier(model, config)
        for step in range(config.steps):
            how = (tokenizer, task, questions_at(step, problems, config), step, config)
            batch, kept = stale_rollout(model, reference, past, *how)
            learned = update(model, reference, optimizer, kept, step, config)
            yield learned | {
                "samples": len(batch.measures),
                "accuracy": fmean(bool(one.correct) for one in batch.measures),
                "length": fmean(one.length for one in batch.measures),
                "no_variance": 1 - float(kept.spread.float().mean()),
            }

    def advance(self) -> None:
        began = time.process_time()
        seen = next(self.work)
        self.seconds += time.process_time() - began
        self.samples += seen["samples"]
        self.step += 1
        self.history.append(seen)

    @property
    def last(self) -> float:
        """Seconds of a step, so far."""
        return self.seconds / self.step if self.step else 0.0


def race(
    name: str,
    seed: int,
    size: Size = Size(),
    only: Sequence[str] | None = None,
    model_and_tokenizer: tuple[Any, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """The paper's objective and its variants (`only` these) in one regime with one seed:
    {variant: {"samples": measures, "seconds": measures, "curve": training accuracy}}. A variant
    runs at most four times the steps."""
    regime = regime_of(name)
    model, tokenizer = model_and_tokenizer or load(size.base)
    task = MostlyHard() if regime.task == "mostly_hard" else get_task(regime.task)
    held_out = task.problems("held_out", size.problems)
    names = list(regime.variants) if only is None else list(only)
    runners = {
        one: Runner(model, tokenizer, task, regime.config(one, seed, steps))
        for one, steps in [(PAPER, size.steps), *((v, 4 * size.steps) for v in names)]
    }
    paper, found = runners[PAPER], {one: {} for one in runners}
    drawn = size.steps * paper.config.questions * paper.config.group_size

    @cache  # both budgets may end with the same step
    def measures(one: str, step: int) -> dict[str, float]:
        runner = runners[one]
        how = Sampling(runner.config.max_new_tokens, seed=size.seed + seed)
        result = evaluate(runner.model, tokenizer, task, held_out, k=size.k, sampling=how)
        wrong = [x.length for row in result.completions for x in row if not x.correct]
        means = {part: float(getattr(result, part).value) for part in MEASURES}
        means["wrong_length"] = fmean(wrong) if wrong else 0.0
        spent = {"steps": step, "seconds": runner.seconds, "samples": runner.samples}
        return {key: round(x, 4) for key, x in (means | spent).items()}

    def advance(one: str) -> None:
        runners[one].advance()
        if "samples" not in found[one] and runners[one].samples >= drawn:
            found[one]["samples"] = measures(one, runners[one].step)

    for _ in range(size.steps):
        advance(PAPER)
        for one in names:
            runner = runners[one]
            while runner.seconds + runner.last / 2 < paper.seconds and runner.step < 4 * size.steps:
                advance(one)
    for one, runner in runners.items():
        found[one]["seconds"] = measures(one, runner.step)
        while "samples" not in found[one]:
            advance(one)
        seen = ("accuracy", "length", "no_variance", "clip_fraction", "left_out", "importance")
        found[one]["curve"] = {
            key: [round(float(m[key]), 4) for m in runner.history]
            for key in seen
            if key in runner.history[0]
        }
    return found


def measure(
    seeds: Sequence[int] = SEEDS,
    size: Size = Size(),
    ledger: Path = LEDGER,
    jobs: int = 2,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Every regime with every seed, `jobs` at a time with one thread each, into the ledger. What is
    there, of the same sizes, options and base, is not measured again."""
    weights = files.data_dir() / size.base / "model.safetensors"
    same = {"size": vars(size), "base": files.digest_of(weights)}
    book = files.read_json(ledger) or {}
    if any(book.get(key) != value for key, value in same.items()):
        book = same | {"runs": {}}
    asked = {f"{name}/{seed}": (name, seed) for seed in seeds for name in only or regimes()}
    stated = {name: regime_of(name).stated() for name in only or regimes()}
    runs = book["runs"]
    left = {key: one for key, one in asked.items()
            if runs.get(key, {}).get("stated") != stated[one[0]]}  # fmt: skip
    spawn, alone = multiprocessing.get_context("spawn"), torch.set_num_threads
    with ProcessPoolExecutor(jobs, spawn, initializer=alone, initargs=(1,)) as pool:
        waiting = {pool.submit(race, *one, size): key for key, one in left.items()}
        for done in as_completed(waiting):
            key = waiting[done]
            book["runs"][key] = {"stated": stated[asked[key][0]], "found": done.result()}
            book |= {"date": today(), "hardware": hardware(), "versions": versions()}
            book["runs"] = dict(sorted(book["runs"].items()))
            write(ledger, book, page(book))
            say(f"successors: {key}, {len(book['runs'])} of {len(asked)}")
    return book


# --- the table -----------------------------------------------------------------------------------

REAL, ONE, NOISE, HURTS = "real gain", "gain at equal {}", "noise", "hurts"


@dataclass(frozen=True)
class Result:
    """A variant over the seeds. change: the measure that its source speaks of, against what it is
    compared with, by budget; accuracy: pass@1, likewise."""

    regime: str
    key: str
    variant: Variant
    seeds: int
    change: dict[str, Estimate]
    accuracy: dict[str, Estimate]
    steps: float  # in equal seconds, as a multiple of the paper's objective's

    @property
    def verdict(self) -> str:
        """What the intervals of the claimed measure say: REAL where both budgets show a clear
        change in the claimed way, HURTS where one shows a clear change in the other."""
        if self.seeds < 2:
            return "one seed"
        wanted = {"up": UP, "down": DOWN}[self.variant.expects[1]]
        ways = {budget: way(one) for budget, one in self.change.items()}
        good = [budget for budget, one in ways.items() if one == wanted]
        if any(one == {UP: DOWN, DOWN: UP}[wanted] for one in ways.values()):
            return "the reverse" if self.variant.expects == ("accuracy", "down") else HURTS
        if self.variant.expects == ("accuracy", "down") and good:
            return HURTS
        return REAL if len(good) == 2 else ONE.format(good[0]) if good else NOISE


def results(book: Mapping[str, Any]) -> list[Result]:
    """Every variant of every regime that is in the ledger."""
    rows = []
    for name, regime in regimes().items():
        runs = [run["found"] for key, run in sorted(book.get("runs", {}).items())
                if key.partition("/")[0] == name]  # fmt: skip
        for key, variant in regime.variants.items() if runs else ():
            pairs = [(one[variant.against], one[key], one[PAPER]) for one in runs]

            def apart(measure: str, budget: str, pairs=pairs) -> Estimate:
                each = [b[budget][measure] - a[budget][measure] for a, b, _ in pairs]
                low, high = t_interval(each)
                return Estimate(fmean(each), *((float("nan"),) * 2 if low is None else (low, high)))

            rows.append(Result(
                name, key, variant, len(runs),
                {budget: apart(variant.expects[0], budget) for budget in BUDGETS},
                {budget: apart("accuracy", budget) for budget in BUDGETS},
                fmean(b["seconds"]["steps"] / p["seconds"]["steps"] for _, b, p in pairs),
            ))  # fmt: skip
    return rows


def lines(book: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table, its head first: which gains are real here, which are noise, which hurt."""
    head = ("regime", "variant", "source", "claim", "points at equal samples",
            "points at equal seconds", "steps in equal seconds", "verdict")  # fmt: skip
    return [head, *(
        (
            regimes()[one.regime].title,
            one.variant.name,
            one.variant.source,
            claim(one),
            *(shown(one.accuracy[budget], 100) for budget in BUDGETS),
            f"{one.steps:.2f} x",
            one.verdict,
        )
        for one in results(book)
    )]  # fmt: skip


def claim(one: Result) -> str:
    """The claim in words; of another measure than accuracy with its change at equal samples."""
    measure, which = one.variant.expects
    against = one.variant.against
    words = f"{measure.replace('_', ' ')} {which}"
    if against != PAPER:
        words += f", against {regimes()[one.regime].variants[against].name}"
    if measure != "accuracy":
        words += f": {shown(one.change['samples'])} tokens"
    return words


def shown(one: Estimate, scale: float = 1) -> str:
    value, low, high = (f"{scale * x:+.1f}" for x in one)
    return f"{value} [{low}, {high}]" if one.low == one.low else value


def page(book: Mapping[str, Any]) -> str:
    size, machine = book["size"], book["hardware"]
    seeds = len({key.partition("/")[2] for key in book["runs"]})
    head, *rows = lines(book)
    about = (
        "# Successors of GRPO against the paper's objective\n\n"
        "Made by `r1lab successors --measure`; do not edit. Difference in held-out pass@1, in "
        f"points, with 95 % intervals over up to {seeds} seeds, paired by seed; {size['steps']} "
        f"steps of the paper's objective, {size['problems']} held-out problems, {size['k']} "
        "completions each. Verdicts are about the claimed measure: *real gain* where its interval "
        "excludes zero at equal samples and at equal seconds; *hurts* where one excludes it on the "
        "wrong side; *noise* where neither excludes it. One interval of twenty excludes zero by "
        "chance. Seconds are the processor's, of one thread, in runs that take turns.\n\n"
    )
    below = f"{book['date']}, {machine['cpu']}, base `{book['base'][:12]}`"
    return f"{about}{grid(head, rows)}\n\n{below}\n"

"""The method on an existing model: SmolLM2-135M with LoRA on two CPU cores, over three seeds.

    python -m r1lab.bench.existing_run        trains and measures the seeds that the ledger lacks

Each seed is `r1lab train --config smollm2_cpu` with its held-out problems before and after. What
the gain is made of is measured too: a completion can be right only if it has an answer in tags
(the form), and that answer only if it is one of the numbers asked about (reading the question), so

    P(right) = P(answer in tags) * P(listed | answer in tags) * P(right | listed).

RL that only taught the form would leave the last factor where it was; guessing among the three
listed numbers gives it 1/3. So of the gain "form and reading" is what the first two factors bring
with the base's last one, "the choice" is the rest. existing.yaml states the claims, written before.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import yaml

from r1lab import PACKAGE
from r1lab.basics import files
from r1lab.bench.harness import RESULTS, grid
from r1lab.evaluate import Evaluation
from r1lab.grpo import GRPOConfig
from r1lab.statistics import Estimate, t_interval
from r1lab.tasks.base import number
from r1lab.templates import parse

LEDGER = RESULTS / "smollm2-cpu.json"
RECIPE = "smollm2_cpu"
SEEDS = (1, 2, 3)  # a trial with seed 0 chose the options
SHOWN = 4  # examples of the same kind of question, for the base that is prompted with them
PARTS = ("pass@1", "answered", "listed", "right_if_listed", "lenient", "length")


@lru_cache
def recipe() -> dict[str, Any]:
    return yaml.safe_load((PACKAGE / "recipes" / f"{RECIPE}.yaml").read_text(encoding="utf-8"))


@lru_cache
def claims() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(Path(__file__).with_name("existing.yaml").read_text(encoding="utf-8"))


def config_of(options: Mapping[str, Any], seed: int) -> GRPOConfig:
    known = GRPOConfig.__dataclass_fields__
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    plain["learning_rate"] = float(plain["learning_rate"])  # YAML reads 1e-3 as a word
    return GRPOConfig(**{key: v for key, v in plain.items() if key in known}, seed=seed)


def stated() -> str:
    """The recipe in short: a run by another one must be measured again."""
    return hashlib.sha256(files.to_json(recipe()).encode()).hexdigest()[:12]


def parts(found: Evaluation) -> dict[str, float]:
    """The factors of pass@1, and what a reader would accept who does not ask for tags: the first
    number of a completion is the right one."""
    seen = []
    for problem, row in zip(found.problems, found.completions, strict=True):
        gold, asked = number(problem.data["answer"]), re.findall(r"\d+", problem.question)
        asked = {number(one) for one in asked[-3:]}  # what stands before may be examples
        for one in row:
            answer = parse(one.text).answer
            first = re.search(r"\d+", one.text)
            seen.append((
                bool(one.correct), answer is not None,
                answer is not None and number(answer) in asked,
                bool(first) and number(first[0]) == gold, one.length,
            ))  # fmt: skip
    right, answered, listed, lenient, length = (
        fmean(map(float, column)) for column in zip(*seen, strict=True)
    )
    named = (right, answered, listed, right / listed if listed else 0.0, lenient, length)
    return dict(zip(PARTS, named, strict=True))


# --- the tables ----------------------------------------------------------------------------------


def over_seeds(book: Mapping[str, Any]) -> dict[str, Estimate]:
    """Each figure over the seeds, with Student's t: "before/pass@1", "gain", "minutes", ..."""
    runs = [one for _, one in sorted(book["runs"].items())]
    each = {
        f"{side}/{name}": np.array([one["measures"][side][name] for one in runs])  # (S,)
        for side in runs[0]["measures"]
        for name in PARTS
    }
    each |= {f"gain/{name}": each[f"after/{name}"] - each[f"before/{name}"] for name in PARTS}
    each["gain/greedy"] = each["after_greedy/pass@1"] - each["before_greedy/pass@1"]
    each["gain/prompted"] = each["after/pass@1"] - each["prompted/pass@1"]
    form_and_reading = each["after/listed"] * each["before/right_if_listed"]
    each["of_gain/form"] = form_and_reading - each["before/pass@1"]
    each["of_gain/choice"] = each["gain/pass@1"] - each["of_gain/form"]
    each["minutes"] = np.array([one["seconds"] / 60 for one in runs])
    return {  # an end that is None, of one seed, becomes NaN
        name: Estimate(fmean(values), *np.array(t_interval(values.tolist()), dtype=float))
        for name, values in each.items()
    }


def holds(claim: Mapping[str, Any], book: Mapping[str, Any]) -> bool:
    """clearly_above: the lower end over the seeds is above the threshold; at_most: every seed."""
    found = over_seeds(book)[claim["measure"]]
    if claim["test"] == "clearly_above":
        return len(book["runs"]) > 1 and found.low > claim["threshold"]
    return max(one["seconds"] / 60 for one in book["runs"].values()) <= claim["threshold"]


NAMES = {
    "pass@1": "right: pass@1",
    "answered": "has an answer in tags",
    "listed": "and that is one of the three numbers",
    "right_if_listed": "right, of those",
    "lenient": "right, read without tags: the first number",
}


def lines(book: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The table, its head first: held-out fractions before and after, in per cent."""
    found = over_seeds(book)

    def cell(name: str, form: str = ".1f") -> str:
        value, low, high = (f"{100 * x:{form}}" for x in found[name])
        return f"{value} [{low}, {high}]"

    each = [(words, f"before/{x}", f"after/{x}", f"gain/{x}") for x, words in NAMES.items()]
    each += [
        ("right, greedy decoding", "before_greedy/pass@1", "after_greedy/pass@1", "gain/greedy"),
        (f"right; the base shown {SHOWN} such questions with their answers",
         "prompted/pass@1", "after/pass@1", "gain/prompted"),
    ]  # fmt: skip
    rows = [(words, cell(one), cell(two), cell(gain, "+.1f")) for words, one, two, gain in each]
    rows += [
        ("of the gain: form and reading", "", "", cell("of_gain/form", "+.1f")),
        ("of the gain: the choice", "", "", cell("of_gain/choice", "+.1f")),
    ]
    return [("held out, per cent", "base", "after RL", "difference"), *rows]


def claim_lines(book: Mapping[str, Any]) -> list[tuple[str, ...]]:
    found = over_seeds(book)

    def cell(claim: Mapping[str, Any]) -> str:
        points = claim["measure"] != "minutes"
        value, low, high = (f"{100 * x if points else x:.1f}" for x in found[claim["measure"]])
        return f"{value} [{low}, {high}] {'points' if points else 'minutes'}"

    rows = [(one["says"], cell(one), "yes" if holds(one, book) else "**no**")
            for one in claims().values()]  # fmt: skip
    return [("claim", "measured", "holds"), *rows]


def page(book: Mapping[str, Any]) -> str:
    runs, machine = book["runs"], book["hardware"]
    options, figures, judged = book["recipe"], lines(book), claim_lines(book)
    each = [
        (seed, f"{100 * one['gain']['value']:+.1f} [{100 * one['gain']['low']:+.1f}, "
         f"{100 * one['gain']['high']:+.1f}]", f"{one['seconds'] / 60:.1f}",
         f"{one['cpu_seconds'] / 60:.1f}" if one["cpu_seconds"] else "–", str(one["steps"]))
        for seed, one in runs.items()
    ]  # fmt: skip
    told = [
        "# SmolLM2-135M with LoRA on two CPU cores",
        "Made by `python -m r1lab.bench.existing_run`; do not edit. Each seed is `r1lab train "
        f"--config {RECIPE}`: {options['steps']} steps of {options['questions']} questions with "
        f"{options['group_size']} completions, LoRA of rank {options['lora_rank']}. Held-out "
        f"problems: {next(iter(runs.values()))['held_out']}, 4 completions each at temperature "
        f"{options['temperature']}, as in training. Means with 95 % intervals over {len(runs)} "
        "seeds (Student's t).",
        grid(figures[0], figures[1:]),
        grid(judged[0], judged[1:]),
        "Each seed by itself: the gain in points with its interval over problems (paired "
        "bootstrap); minutes with both evaluations, and minutes of processor.",
        grid(("seed", "gain", "minutes", "processor", "steps"), each),
        "The first held-out problems, not chosen (seed, question, base, after RL):",
        grid(("seed", "question", "base", "after RL"), [
            (seed, q.splitlines()[0], f"`{a.strip()!r}`", f"`{b.strip()!r}`")
            for seed, one in runs.items() for q, a, b in one["examples"]
        ]),
        f"{book['date']}, {machine['cpu']}, {machine['cores']} cores, {book['threads']} threads; "
        + ", ".join(f"{name} {v}" for name, v in book["versions"].items()),
    ]  # fmt: skip
    return "\n\n".join(told) + "\n"

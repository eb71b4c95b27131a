"""Registered claims, and what the reference run found.

`notebooks/claims.yaml` lists every claim of the lessons before it is measured: the sentence, the
figure that it is about, the test, the threshold, the number of seeds, and why it changed if it did.
The runner keeps a lesson's claims as they were when the lesson started (run.json); `make figures`
judges those over its seeds and writes the verdicts into the results file. A lesson ends with

    claims.record(out, {"r1_zero/base": base, "r1_zero/trained": trained})   # figures
    claims.check("05", out, assert_learning)                                 # its claims

and `claims.reference("05.accuracy")` tells, in words, what the results file found over its seeds.
"""

import html
import math
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import yaml

from r1lab import ROOT
from r1lab.basics import files, ledger
from r1lab.basics.errors import R1LabError, did_you_mean
from r1lab.course.profiles import NOTEBOOKS
from r1lab.course.readme import show, show_with_interval
from r1lab.paper import FIGURES
from r1lab.statistics import t_interval

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is eight times as fast
RESULTS = ROOT / "benchmarks" / "results" / "figures-cpu.json"
HOLD = "all claims hold"
REPORT = {"R1LAB_CLAIMS": "report"}  # environment of `make figures`: a failed claim ends nothing
# test -> its words, the end of the interval that is compared, and how, with the threshold
TESTS = {
    "at_least": ("at least", "value", lambda x, t: x >= t),
    "at_most": ("at most", "value", lambda x, t: x <= t),
    "above": ("above", "value", lambda x, t: x > t),
    "clearly_above": ("interval above", "low", lambda x, t: x > t),
    "clearly_below": ("interval below", "high", lambda x, t: x < t),
    "not_clearly_above": ("interval not above", "low", lambda x, t: x <= t),
    "not_clearly_below": ("interval not below", "high", lambda x, t: x >= t),
}
OTHER_END = {"value": "value", "low": "high", "high": "low"}  # of the figure compared with
KNOWN = {"says", "measure", "test", "threshold", "seeds", "always", "open", "history"}
FACTOR = re.compile(r"(?:(?P<factor>[\d.]+) x )?(?P<name>\S+)")  # "0.5 x r1_zero/trained/pass@1"
UNITS = {"length": "tokens", "reflection": "words", "seconds": "s", "flops": "operations"}


def load(folder: str | os.PathLike = NOTEBOOKS, section: str = "claims") -> dict[str, dict]:
    """id -> claim (or reference) of `claims.yaml` in `folder`; {} without such a file. R1LabError
    for what is none."""
    path = Path(folder) / "claims.yaml"
    if not path.is_file():
        return {}
    try:
        found = _parsed(path.read_text(encoding="utf-8"))[section] or {}
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise R1LabError(f"{path} has no section '{section}' that can be read") from error
    found = {name: dict(entry) for name, entry in found.items()}
    for name, entry in found.items() if section == "claims" else ():
        missing = {"says", "measure", "test", "threshold"} - set(entry)
        if missing or set(entry) - KNOWN or entry["test"] not in TESTS:
            raise R1LabError(f"{path}: the claim {name} needs says, measure, test, threshold")
        entry.setdefault("seeds", 3)
    return found


@lru_cache(maxsize=2)  # a lesson asks several times
def _parsed(text: str) -> dict[str, Any]:
    return yaml.load(text, Loader=LOADER)


def registered(lesson: str, folder: str | os.PathLike = NOTEBOOKS) -> dict[str, dict]:
    """A lesson's claims as they stand now, without their history. lesson: "05" or "05_r1_zero"."""
    return {
        name: {key: value for key, value in entry.items() if key != "history"}
        for name, entry in load(folder).items()
        if name[:2] == lesson[:2]
    }


def judge(claim: Mapping[str, Any], figures: Mapping[str, dict]) -> dict[str, Any]:
    """Does a claim hold of these figures? {value, low, high, unit, holds}; holds is None where a
    figure is missing. A figure without an interval is compared as it is. Against another figure:
    in one run the nearer ends of the two intervals, over seeds the differences seed by seed."""
    _, end, compare = TESTS[claim["test"]]
    entry, bound = figures.get(claim["measure"]), claim["threshold"]
    other, factor = None, 1.0
    if isinstance(bound, str):
        found = FACTOR.fullmatch(bound)
        other, factor = figures.get(found["name"]), float(found["factor"] or 1)
    if entry is None or (isinstance(bound, str) and other is None):
        return {"value": None, "low": None, "high": None, "unit": "", "holds": None}
    tested = entry
    if other and "values" in entry and "values" in other:
        apart = [value - factor * other["values"][s] for s, value in entry["values"].items()]
        low, high = t_interval(apart)
        tested, bound = {"value": fmean(apart), "low": low, "high": high}, 0
    elif other:
        bound = factor * _end(other, OTHER_END[end])
    found = {key: entry[key] for key in ("value", "low", "high", "unit")}
    return found | {"holds": bool(compare(_end(tested, end), bound))}


def _end(entry: Mapping[str, Any], end: str) -> float:
    return entry["value"] if entry[end] is None else entry[end]


def judged(states: Iterable[Mapping[str, Any]], figures: Mapping[str, dict]) -> dict[str, dict]:
    """The claims that the runs of several seeds registered, judged over the seeds.

    states: each seed's run.json. `registered`: it stood in the same words, with the same test and
    threshold, when each seed's lesson started. `holds` is None with fewer seeds than claimed."""
    lessons = [state.get("notebooks", {}).values() for state in states]
    by_seed = [
        {n: c for entry in entries for n, c in (entry.get("claims") or {}).items()}
        for entries in lessons
    ]
    found = {}
    for name in sorted({name for claims in by_seed for name in claims}):
        each = [claims.get(name) for claims in by_seed]
        claim = next(one for one in reversed(each) if one)
        verdict = judge(claim, figures)
        if len(by_seed) < claim["seeds"]:
            verdict["holds"] = None
        found[name] = claim | verdict | {"registered": all(one == claim for one in each)}
    return found


def reported():
    """`with reported():` kernels that start meanwhile show a claim that fails, and go on."""
    return patch.dict(os.environ, REPORT)


# --------------------------------------------------------------------------------------------------
# In a lesson


def record(out: str | os.PathLike, measures: Mapping[str, Any], **how: Any) -> None:
    """Write figures into the run's results file, each under the name it has as a key.

    A value is a number, an interval (value, low, high), an Evaluation (its summary), or a mapping
    of such, whose names are appended. how: n (sample size), unit; the unit is else told by the last
    part of the name (UNITS, "share"), whole numbers have none. NaN is left out."""
    for name, measured in measures.items():
        if hasattr(measured, "summary"):
            record(out, {name: measured.summary()}, **{"n": len(measured.problems)} | how)
        elif isinstance(measured, Mapping):
            record(out, {f"{name}/{key}": value for key, value in measured.items()}, **how)
        else:
            ends = measured if isinstance(measured, tuple) else (measured,)
            if not math.isnan(ends[0]):
                count = isinstance(measured, int)
                more = {"unit": "" if count else unit_of(name), "paper": FIGURES.get(name)} | how
                ledger.record(out, name, *ends, **more)


def unit_of(name: str) -> str:
    parts = name.split("/")
    if "ratio" in parts or parts[-1].endswith("_ratio"):
        return "x"
    return UNITS.get(parts[-1].rpartition("_")[2], "share")  # "greedy_length" is a length


def check(
    lesson: str,
    out: str | os.PathLike,
    whole: bool = True,
    facts: Mapping[str, bool] | None = None,
) -> None:
    """Show a lesson's claims as a folded table (claim, measured, holds); AssertionError names those
    that fail. A claim that is `open` (it failed, and why is told there) is shown to fail, no more.

    whole: False for a run too small to learn; then only claims marked `always` count. A claim whose
    figure this run did not record is shown as not measured.
    facts: {sentence: holds}, what is true of the code and needs no measurement."""
    figures, rows, failed, later, known = ledger.load(out), [], [], 0, 0
    for name, claim in registered(lesson).items():
        counts, found = whole or claim.get("always", False), judge(claim, figures)
        measured, test = show_with_interval(found), test_of(claim, found)
        verdict = {True: "yes", False: "no", None: "not measured"}[found["holds"]]
        if not counts:
            later, verdict = later + 1, "needs the whole run"
        elif found["holds"] is False and "open" in claim:
            known, verdict = known + 1, f"no, an open question: {claim['open']}"
        elif found["holds"] is False:
            failed.append(f"{name}: {claim['says']} ({measured}; {test})")
        rows.append((claim["says"], measured, test, verdict))
    for sentence, holds in (facts or {}).items():
        rows.append((sentence, "", "", "yes" if holds else "no"))
        failed += [] if holds else [sentence]
    told = HOLD if not failed else f"{len(failed)} of {len(rows) - later} claims fail"
    more = f"; {later} need the whole run" if later else ""
    more += f"; {known} open ones fail" if known else ""
    words = f"{told} ({len(rows) - later} checked{more})"
    from r1lab.show.text import table_html  # slow to import: the runner reads claims, shows nothing

    table = table_html([("claim", "measured", "test", "holds"), *rows])
    show_html(f"<details><summary>{words}</summary>{table}</details>", words)
    if failed and not REPORT.items() <= os.environ.items():
        raise AssertionError("; ".join(failed))


def show_html(html: str, words: str) -> None:
    """As `show.show_html`, which is slow to import: the runner reads claims and shows nothing."""
    from r1lab.show import notebook

    notebook.show_html(html, words)


def test_of(claim: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The test in words: "at least 4 x", "interval above 0.5 x r1_zero/trained/pass@1"."""
    threshold = claim["threshold"]
    number = threshold if isinstance(threshold, str) else show(threshold, found["unit"])
    return f"{TESTS[claim['test']][0]} {number}"


# --------------------------------------------------------------------------------------------------
# In the reference run


def reference(name: str, results: str | os.PathLike = RESULTS) -> None:
    """A box: what the reference run found over its seeds, and what that means. name: an entry of
    the section `references` of claims.yaml. Results of another base model count as none."""
    entries = load(section="references")
    if name not in entries:
        raise R1LabError(f"there is no reference '{name}'{did_you_mean(name, entries)}")
    found = results_of(results)
    words = told(entries[name], found if found.get("base") == base_model() else {})
    look = "border-left:4px solid #0072B2;padding:0.4em 0.9em;margin:0.4em 0"
    bold = f"<b>In the reference run</b> {html.escape(words)}"
    show_html(f'<div style="{look}">{bold}</div>', f"In the reference run {words}")


def results_of(path: str | os.PathLike = RESULTS) -> dict[str, Any]:
    """A results file; {} where there is none."""
    return ledger.load_ledger(path) if Path(path).is_file() else {}


def base_model() -> str:
    """The SHA-256 of the base model's weights, which the results file names."""
    return files.digest_of(files.data_dir() / "tiny" / "model.safetensors")


def told(entry: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """What the results say of a reference {what, figure, against?, than?, up, down, level?}.

    against: a figure (compared seed by seed; `than` says what it is) or a number; without it the
    figure is a difference itself. The last sentence is `up` or `down` where the interval of the
    difference excludes zero, else `level`."""
    against = entry.get("against", 0)
    names = [entry["figure"], *([against] if isinstance(against, str) else [])]
    figures = [results.get("figures", {}).get(name) for name in names]
    if not results or None in figures:
        return f"{entry['what']} has not been measured yet."
    seeds = ", ".join(str(seed) for seed in results["seeds"])
    first, unit = figures[0], figures[0]["unit"]
    base = figures[1]["values"] if len(figures) == 2 else dict.fromkeys(first["values"], against)
    apart = [value - base[seed] for seed, value in first["values"].items()]
    low, high = t_interval(apart)
    found = show_with_interval(first) if "against" in entry else _points(apart, unit)
    words = f"(seeds {seeds}), {entry['what']}: {found}"
    if len(figures) == 2:
        other = f"{show_with_interval(figures[1])} {entry.get('than', '')}".rstrip()
        words += f" against {other}; difference {_points(apart, unit)}"
    if low is None:
        return f"{words}. One seed has no interval."
    if low > 0 or high < 0:
        return f"{words}. {entry['up' if low > 0 else 'down']}"
    half = _amount((high - low) / 2, unit)
    return (
        f"{words}. {entry.get('level', 'The two are statistically indistinguishable.')} "
        f"The interval includes no change; {len(apart)} seeds that vary this much resolve a "
        f"difference of {half} or more."
    )


def _amount(value: float, unit: str, sign: str = "") -> str:
    if unit == "share":
        return f"{100 * value:{sign}.1f} points"
    return f"{value:{sign}.3g} {unit}".rstrip()


def _points(apart: list[float], unit: str) -> str:
    """The mean of differences by seed with its interval: "+66.1 points [55.0, 77.1]"."""
    mean, ends = sum(apart) / len(apart), t_interval(apart)
    if ends[0] is None:
        return _amount(mean, unit, "+")
    scale = 100 if unit == "share" else 1
    low, high = (f"{scale * end:.1f}" if scale > 1 else f"{end:.3g}" for end in ends)
    return f"{_amount(mean, unit, '+')} [{low}, {high}]"

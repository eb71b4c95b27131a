"""The tables in README.md and benchmarks/README.md, generated from the results file."""

import fnmatch
import os
import re
from pathlib import Path
from typing import Any

from r1lab.basics.files import atomic_write_text
from r1lab.basics.ledger import load_ledger

MARKERS = re.compile(
    r"(<!-- figures:begin(?P<patterns>[^>]*?) ?-->\n)(?P<table>.*?)(<!-- figures:end -->)", re.S
)
DECODINGS = ("T = 1", "T = 0.6", "greedy")


def by_decoding(measure: str) -> tuple[str, ...]:
    """The names of a measure at DECODINGS, as lesson 05 records them."""
    return measure, f"t06_{measure}", f"greedy_{measure}"


HEADLINE = (  # row, its figures' first part, their names at DECODINGS
    ("Countdown: accuracy (pass@1)", "r1_zero", ("pass@1", "t06", "greedy")),
    ("tokens per completion", "r1_zero", by_decoding("length")),
    ("reflective words per completion", "r1_zero", by_decoding("reflection")),
    ("code: accuracy (pass@1)", "r1_zero/code", ("pass@1", "t06", "greedy")),
)


def show(value: float | None, unit: str = "") -> str:
    """0.7791 share -> "77.9 %", 118.3 tokens -> "118 tokens"; – for None."""
    if value is None:
        return "–"
    if unit == "share":
        return f"{100 * value:.1f} %"
    size = abs(value)
    text = f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def show_with_interval(entry: dict[str, Any] | None) -> str:
    """86.1 % [84.0, 88.2]: the value with its 95 % interval; – for None."""
    if entry is None:
        return "–"
    text = show(entry["value"], entry["unit"])
    if entry["low"] is None:
        return text
    unit = entry["unit"] if entry["unit"] == "share" else ""
    low, high = (show(entry[end], unit).removesuffix(" %") for end in ("low", "high"))
    return f"{text} [{low}, {high}]"


def table(head: str, rows: list[list[str]]) -> str:
    """A markdown table. head: its first line, "| a | b |"."""
    lines = [head, re.sub(r"[^|]+", "---", head), *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def markdown_table(figures: dict[str, dict], patterns: list[str] | None = None) -> str:
    """A markdown table of `figures`, or of those whose name fits a pattern such as "r1_zero/*". A
    row holds the figures that differ only in `base` and `trained`."""
    rows: dict[str, dict[str, dict]] = {}
    for name, entry in figures.items():
        if patterns and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        parts = name.split("/")
        stage = next((stage for stage in ("base", "trained") if stage in parts), "trained")
        label = "/".join(part for part in parts if part not in ("base", "trained"))
        rows.setdefault(label, {})[stage] = entry
    lines = []
    for label, stages in rows.items():
        both = (stages.get(stage) for stage in ("base", "trained"))
        lines.append([f"`{label}`", *map(show_with_interval, both)])
    return table("| figure | base | trained |", lines) + "\n"


def headline_table(figures: dict[str, dict]) -> str:
    """R1-Zero: base and trained by three decodings, in the rows of HEADLINE. Rows and columns of
    which nothing was measured are left out."""
    columns = [
        (model, at)
        for model in ("base", "trained")
        for at in range(len(DECODINGS))
        if any(f"{first}/{model}/{names[at]}" in figures for _, first, names in HEADLINE)
    ]
    words = {"base": "base", "trained": "after RL"}
    heads = [f"{words[model]}, {DECODINGS[at]}" for model, at in columns]
    lines = []
    for label, first, names in HEADLINE:
        row = [figures.get(f"{first}/{model}/{names[at]}") for model, at in columns]
        lines += [[label, *map(show_with_interval, row)]] if any(row) else []
    return table(f"| held-out | {' | '.join(heads)} |", lines) + "\n"


def claims_table(claims: dict[str, dict]) -> str:
    """Each claim with its verdict over the seeds, and how many were registered before they ran."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    lines = []
    for name, one in claims.items():
        late = "" if one["registered"] else ", not registered before"
        verdict = words[one["holds"]] + late
        lines.append([f"`{name}`", one["says"], show_with_interval(one), verdict])
    hold, early = (sum(bool(one[k]) for one in claims.values()) for k in ("holds", "registered"))
    told = f"{hold} of {len(claims)} claims hold over the seeds; {early} were registered before."
    return f"\n{table('| claim | | measured | holds |', lines)}\n\n{told}\n\n"


def readme_block(ledger: dict[str, Any], patterns: list[str] | None = None) -> str:
    """The text between a page's markers: a table, and how it was measured. patterns: of figure
    names; ["stages"] for R1's stage table (`movements.markdown`), ["headline"] for R1-Zero by
    decoding, ["claims"] for the registered claims."""
    if patterns == ["stages"]:
        # They import torch, for which a runner need not wait.
        from r1lab import movements, scorecard

        table = scorecard.from_ledger(ledger["figures"])
        if not table["ours"]:
            return NOT_MEASURED
        return f"\n{movements.markdown(table)}{movements.told_by_seed(ledger['figures'])}\n"
    if patterns == ["claims"]:
        return claims_table(ledger["claims"]) if ledger.get("claims") else NOT_MEASURED
    seeds = ", ".join(str(seed) for seed in ledger["seeds"])
    machine, jobs = ledger["hardware"], ledger.get("jobs", 1)
    beside = f", {jobs} seeds side by side" if jobs > 1 else ""
    if patterns == ["headline"]:
        return (
            f"\n{headline_table(ledger['figures'])}\nMeans over the seeds {seeds} with 95 % "
            f"intervals, on {machine['cores']} CPU cores.\n\n"
        )
    return (
        f"\n{markdown_table(ledger['figures'], patterns)}\n"
        f"Means over the seeds {seeds} with 95 % intervals (Student's t over seeds), measured by "
        f"`make figures` on {machine['cores']} cores ({machine['cpu']}{beside}), torch "
        f"{ledger['versions']['torch']}."
        f"{' ' if ledger.get('note') else ''}{ledger.get('note', '')}\n\n"
    )


# The text between the markers without a results file.
NOT_MEASURED = "not measured yet\n"


def readme_is_current(text: str, ledger: str | os.PathLike) -> bool:
    """Whether the tables in `text` are those of the results file (NOT_MEASURED without one)."""
    if Path(ledger).exists():
        new, count = render_readme(text, load_ledger(ledger))
        return count > 0 and new == text
    return {match["table"] for match in MARKERS.finditer(text)} == {NOT_MEASURED}


def update_readme(readme: str | os.PathLike, ledger: dict[str, Any]) -> bool:
    """Write the tables between `<!-- figures:begin r1_zero/* -->` (its patterns, see
    `readme_block`, are the default) and `<!-- figures:end -->`; False when the page has none."""
    readme = Path(readme)
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    new, count = render_readme(text, ledger)
    if count and new != text:
        atomic_write_text(readme, new)
    return bool(count)


def render_readme(text: str, ledger: dict[str, Any]) -> tuple[str, int]:
    """`text` with its tables filled in, and how many it has."""

    def fill(match: re.Match) -> str:
        patterns = match["patterns"].split() or ["r1_zero/*"]
        return match[1] + readme_block(ledger, patterns) + match[4]

    return MARKERS.subn(fill, text)

"""The bill: what a model cost, by stage, beside what the paper says R1 cost.

    R1-Zero    101,000 H800 hours    $202,000        the stage zero here
    SFT data     5,000                 10,000        cold, data: sampling and filtering
    R1          41,000                 82,000        dev1, dev2, dev3, reward models, rules, r1
                                                     (arXiv 2501.12948v2, table 7: $294,000)
    the base                        6,000,000        pre-training (the news's figure)

Our hours are those of two cores, the paper's of GPUs: only the *shares* compare. Both columns of
dollars take the paper's $2 for an hour of one device.
"""

import os
from typing import Any

from r1lab.paper import COSTS
from r1lab.training import provenance
from r1lab.training.provenance import Node

GROUPS = {
    "zero": "R1-Zero", "cold": "SFT data", "data": "SFT data",
    **dict.fromkeys(("dev1", "dev2", "dev3", "helpful", "safe", "rules", "r1"), "R1"),
}  # fmt: skip
BASE, REST = "the base", "not in the paper's table"


def group(row: dict[str, Any]) -> str:
    """The row of the paper's table that a row of `provenance.bill` belongs to."""
    return BASE if row["what"] == "pretrain" else GROUPS.get(row["stage"], REST)


def beside(
    model: str | os.PathLike | Node, dollars_per_hour: float = COSTS["dollars_per_hour"]
) -> list[dict[str, Any]]:
    """A row for each line of the paper's table, the base, and what the paper has no line for:

    stage, seconds, hours, kwh, dollars (at `dollars_per_hour` for each device), share (of all but
    the base), share_with_base; paper_hours, paper_dollars, paper_share, paper_share_with_base

    model: a folder with a record, or its `provenance.tree`. Shares are from 0 to 1; None where the
    paper says nothing. The last row is "in all": the sums, without the base in `share`."""
    tree = model if isinstance(model, Node) else provenance.tree(model)
    rows = provenance.bill(tree)
    names = [*COSTS["rows"], *([REST] if any(group(row) == REST for row in rows) else ()), BASE]
    found = []
    for name in names:
        ours = [row for row in rows if group(row) == name]
        sums = {key: sum(row[key] for row in ours) for key in ("seconds", "hours", "kwh")}
        stated = COSTS["base"] if name == BASE else COSTS["rows"].get(name, {})
        found.append({
            "stage": name, **sums, "dollars": sums["hours"] * dollars_per_hour,
            "paper_hours": stated.get("hours"), "paper_dollars": stated.get("dollars"),
        })  # fmt: skip
    found.append({"stage": "in all"} | {
        key: sum(row[key] or 0 for row in found) for key in list(found[0])[1:]
    })  # fmt: skip
    for which, unit in (("", "seconds"), ("paper_", "paper_dollars")):
        whole = sum(row[unit] or 0 for row in found[:-1])
        training = whole - (found[-2][unit] or 0)
        for row in found:
            value, base = row[unit], row["stage"] in (BASE, "in all")
            none = value is None or not whole
            row[f"{which}share"] = None if none or base or not training else value / training
            row[f"{which}share_with_base"] = None if none else value / whole
    return found


def table_lines(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """`beside` as lines of text, the head first."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    head = ("stage", "seconds", "kWh", "dollars", "share", "paper: hours", "dollars", "share")
    return [head] + [
        (
            row["stage"], f"{row['seconds']:,.1f}", f"{row['kwh']:.3g}", f"{row['dollars']:.3g}",
            number(row["share"], "{:.1%}"), number(row["paper_hours"], "{:,.0f}"),
            number(row["paper_dollars"], "{:,.0f}"), number(row["paper_share"], "{:.1%}"),
        )
        for row in rows
    ]  # fmt: skip

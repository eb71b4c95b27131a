"""The model card that a record makes: front matter in the hub's words, and a ledger for readers.

`front` is the YAML that the hub reads (licence, base_model, `model-index` with the evaluations);
`ledger` is the part between MARKS: the tree, the bill, evaluations, licences, hashes. `text` puts
them into a card that is there already (`r1lab pretrain` and TRL's runs write one), or into a new
one, so all cards of this project end alike.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from r1lab.machine import costs
from r1lab.training import provenance
from r1lab.training.provenance import Node

MARKS = "<!-- r1lab ledger: begin -->", "<!-- r1lab ledger: end -->"
SECTIONS = (
    "## Where it comes from", "## What it cost", "## What it was measured to do", "## Licence",
    "## Limits",
)  # fmt: skip
FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.S)
BENCHMARKS = {  # data sets of the hub on which a task here reports: (id, task of that data set)
    "gsm8k": ("openai/gsm8k", "gsm8k"),
    "math": ("HuggingFaceH4/MATH-500", "math_500"),
    "humaneval": ("openai/openai_humaneval", "humaneval"),
    "mbpp": ("google-research-datasets/mbpp", "mbpp"),
}
LIMITS = {
    True: "It knows the small world of its base model (Countdown, steps, code, lists, requests in "
    "English and Chinese) and nothing else. It is made for the lessons of this project.",
    False: "Beyond the evaluations above nothing was measured: what its base model gets wrong, "
    "this one may get wrong too. Rewards by rules train what they check and nothing else.",
}


def base_models(tree: Node) -> list[str]:
    """Hub ids of the models that the tree starts from; [] where all of it was made here."""
    roots = (node.record for node in tree.walk() if node.record)
    return sorted({one["base_model"] for one in roots if one.get("base_model")})


def front(tree: Node, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The front matter of a card. given: license, base_model, ... of the user or of a card that is
    there already; they win over what the records say."""
    given = {name: value for name, value in (given or {}).items() if value}
    rewards = tree.what == "reward_model"
    found: dict[str, Any] = {
        "license": tree.record.get("license"),
        "base_model": base_models(tree) or None,
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if rewards else "text-generation",
        "tags": ["r1lab", tree.what],
    }
    found |= {name: value for name, value in given.items() if name != "model-index"}
    results = [one for entry in tree.record["measured"] for one in _results(entry)]
    if results:
        found |= {"model_name": tree.name, "eval_results": results}
    return {k: v for k, v in ModelCardData(**found).to_dict().items() if v is not None}


def _results(entry: Mapping[str, Any]) -> list[EvalResult]:
    """One evaluation as rows of the hub's model-index."""
    task, split = entry["task"], entry.get("split", "held_out")
    data_set = BENCHMARKS.get(task, (f"r1lab/{task}",))[0]
    about = f"{entry.get('n')} problems, k = {entry.get('k')}"
    return [
        EvalResult(
            task_type="text-generation", dataset_type=data_set, dataset_name=f"{task} ({split})",
            dataset_split=split, metric_type=name, metric_value=round(value[0], 4),
            metric_name=f"{name}, {about}{_interval(value)}",
        )
        for name, value in _values(entry).items()
    ]  # fmt: skip


def _values(entry: Mapping[str, Any]) -> dict[str, Sequence]:
    """The measures of an evaluation that have a value, as [value, low, high]."""
    found = {}
    for name, one in entry.get("measures", {}).items():
        one = list(one.values()) if isinstance(one, Mapping) else one
        one = one if isinstance(one, list | tuple) else [one, None, None]
        if one[0] is not None:
            found[name] = one
    return found


def _interval(value: Sequence) -> str:
    low, high = (*value, None, None)[1:3]
    return f", 95 % interval {low:.3g} to {high:.3g}" if None not in (low, high) else ""


def eval_files(tree: Node) -> dict[str, str]:
    """`.eval_results/<task>.yaml` by name, for evaluations on benchmarks of the hub (its pages show
    them and the benchmark's leaderboard): pass@1 of each."""
    found = {}
    for entry in tree.record["measured"]:
        known, values = BENCHMARKS.get(entry["task"]), _values(entry)
        if known is None or "pass@1" not in values or entry.get("split") != "held_out":
            continue
        notes = f"pass@1, {entry.get('n')} problems, k = {entry.get('k')}"
        one = EvalResultEntry(
            *known, value=round(100 * values["pass@1"][0], 2), date=entry["when"], notes=notes
        )
        rows = eval_result_entries_to_yaml([one])
        found[f".eval_results/{entry['task']}.yaml"] = yaml.safe_dump(rows, sort_keys=False)
    return found


def text(tree: Node, old: str = "", given: Mapping[str, Any] | None = None) -> str:
    """The whole card. old: a card that is there already; its text stays, its front matter is
    completed, and an earlier ledger in it is replaced. given: as in `front`."""
    matter, body = split(old)
    matter = front(tree, {**matter, **{k: v for k, v in (given or {}).items() if v}})
    begin, end = MARKS
    before, _, rest = body.partition(begin)
    before = before.strip() or _intro(tree)
    after = rest.partition(end)[2].strip()
    head = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True, width=100)
    parts = [f"---\n{head}---", before, f"{begin}\n{ledger(tree)}\n{end}", after]
    return "\n\n".join(part for part in parts if part) + "\n"


def split(card: str) -> tuple[dict[str, Any], str]:
    """The front matter of a card ({} without one, or where it is no YAML), and its text."""
    if (found := FRONT.match(card)) is None:
        return {}, card
    try:
        matter = yaml.safe_load(found[1])
    except yaml.YAMLError:
        matter = None
    return matter if isinstance(matter, dict) else {}, card[found.end() :]


def _intro(tree: Node) -> str:
    roots = ", ".join(sorted({node.name for node in tree.walk() if not node.parents}))
    made = {"grpo": "trained by GRPO", "sft": "fine-tuned (SFT)", "reward_model": "a reward model"}
    return (
        f"# {tree.name}\n\nA model made with r1lab, {made.get(tree.what, tree.what)}; at the root "
        f"of its chain: {roots}.\n\n```python\nfrom transformers import AutoTokenizer, "
        "AutoModelForCausalLM\n\nmodel = AutoModelForCausalLM.from_pretrained(\"path/to/this/"
        "folder\")\ntokenizer = AutoTokenizer.from_pretrained(\"path/to/this/folder\")\n```"
    )  # fmt: skip


def ledger(tree: Node) -> str:
    """Where it comes from, what it cost, what it was measured to do, licences, limits, hashes."""
    ours = any(node.what == "pretrain" for node in tree.walk())
    sums = tree.record.get("files", {})
    machine = tree.record.get("machine", {})
    parts = [
        SECTIONS[0], "```\n" + "\n".join(provenance.lines(tree)) + "\n```",
        *_data(tree),
        SECTIONS[1], _bill(tree),
        f"Machine of the last stage: {_machine(machine)}. Evaluations are not in the bill.",
        SECTIONS[2], _measured(tree),
        SECTIONS[3], _licences(tree),
        SECTIONS[4], LIMITS[ours],
        "## Hashes (SHA-256)",
        table(("file", ""), [(f"`{name}`", f"`{value}`") for name, value in sums.items()]),
        f"`r1lab ledger` compares them; the record's id is `{tree.record['id']}`.",
    ]  # fmt: skip
    return "\n\n".join(parts)


def _data(tree: Node) -> list[str]:
    """What the base has read, where its record tells."""
    for node in tree.walk():
        if node.what == "pretrain":
            mixture = node.record["data"]["mixture"]
            shares = ", ".join(f"`{name}` {share:.1%}" for name, share in mixture.items())
            by, seed = node.record["data"]["generator"], node.record["seeds"]["seed"]
            return [
                f"All text of its base model is made by a program (`{by}`) from seed {seed}: "
                f"{shares} of the documents. `leaked` documents hold problems of the `leaked` "
                "split with their answers, on purpose; the `held_out` split is in none."
            ]
    return []


def _bill(tree: Node) -> str:
    rows, how = [], {}
    for row in provenance.bill(tree):
        money = "–" if row["dollars"] is None else costs.money(row["dollars"])
        tokens = "–" if row["tokens"] is None else f"{row['tokens']:,}"
        energy = f"{row['kwh']:.3g}"
        rows.append((row["stage"], costs.clock(row["seconds"]), energy, money, tokens))
        how[row["energy"]] = None
    head = ("stage", "time", "kWh", "dollars of rent", "tokens")
    return table(head, rows) + f"\n\nEnergy: {' | '.join(how)}."


def _machine(about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in about.get("versions", {}).items())
    parts = (about.get("gpu") or about.get("cpu"), f"{about.get('cores')} cores", versions)
    return ", ".join(part for part in parts if part)


def _measured(tree: Node) -> str:
    rows = [
        (entry["task"], entry.get("split", ""), name, f"{value[0]:.3g}{_interval(value)}")
        for entry in tree.record["measured"]
        for name, value in _values(entry).items()
    ]
    return table(("task", "split", "measure", "value"), rows) if rows else "Not measured."


def _licences(tree: Node) -> str:
    rows = [
        (node.name, node.record.get("license") or "not known", node.record.get("base_model", ""))
        for node in tree.walk()
        if node.record and not node.parents
    ]
    return table(("origin", "licence", "hub"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)

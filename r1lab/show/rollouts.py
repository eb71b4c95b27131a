"""The completions of a run as rows to read: from its own files, or from TRL's parquet files.

A row has a step, a problem, a prompt and a text, and whatever else is known of a completion:

    correct, reward, rewards, advantage, finished, mixed, length
    of         the Problem, where the file holds it
    tokens     texts (T); words where the run kept no tokens
    logprobs   (T) of the policy that sampled
    after      (T) of the policy after the step's update: their difference is the ratio's logarithm
    reference  (T) of the reference

The last two, and whole groups, are there where the run was recorded (`recorder`).
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import read_json, read_lines
from r1lab.languages import language_words
from r1lab.rewards import text_of
from r1lab.show.text import completion_html, safe_text
from r1lab.tasks import Problem
from r1lab.templates import parse
from r1lab.training.loop import ABOUT, GROUPS, SAMPLES

Row = dict[str, Any]
NUMBERS = ("reward", "advantage")
LISTS = ("logprobs", "after", "reference")


def load(path: str | os.PathLike) -> list[Row]:
    """The rows of a run's folder, of a samples.jsonl or groups.jsonl, or of completions in parquet
    (TRL's, with log_completions, or those of `r1lab export`), in the order of their steps.

    Raises R1LabError where there are none."""
    path = Path(path).expanduser()
    found, folder = [path], path.parent
    if path.is_dir():
        tables = sorted(path.glob("completions/*.parquet")) or sorted(path.glob("*.parquet"))
        found, folder = [path / GROUPS, path / SAMPLES, *tables], path
    about = read_json(folder / ABOUT) or {}
    config = about.get("config") if isinstance(about.get("config"), Mapping) else {}
    rows: list[Row] = []
    for file in filter(Path.is_file, found):
        rows += [made for raw in _raw(file) if (made := row_of(raw, config)) is not None]
    seen: set = set()
    whole = []
    for row in sorted(rows, key=lambda row: row["step"]):  # groups.jsonl has some of samples.jsonl
        key = (row["step"], row["problem"], row["text"], row["advantage"], row.get("place"))
        if row.get("place") is not None:
            seen.add(key[:4])
        elif key[:4] in seen:
            continue
        whole.append(row)
    if not whole:
        raise R1LabError(f"{path} holds no completions: train a few steps, or name a run's folder")
    return whole


def _raw(file: Path) -> Iterable[Mapping[str, Any]]:
    if file.suffix != ".parquet":
        return [record for _, record in read_lines(file)[0]]
    try:
        return pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise R1LabError(f"cannot read {file} as parquet ({error})") from error


def row_of(raw: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> Row | None:
    """A record of a run's files, or of TRL's, as a row of plain types; None for what is none."""
    step, config = raw.get("step"), config or {}
    of_trl = "completion" in raw
    if type(step) is not int or not ("text" in raw or of_trl):
        return None
    text = text_of(raw["completion"] if of_trl else raw["text"])
    row: Row = {"step": step, "text": text, "prompt": _said(raw.get("prompt", ""))}
    row |= {name: _number(raw.get(name)) for name in NUMBERS}
    given = raw.get("rewards") if isinstance(raw.get("rewards"), Mapping) else {}
    if of_trl:
        known = {"step", "advantage", "reward"}
        given = {k: v for k, v in raw.items() if k not in known and _number(v) is not None}
        row["reward"] = sum(map(float, given.values())) if given else None
    row["rewards"] = {str(k): float(v) for k, v in given.items() if _number(v) is not None}
    row["correct"] = raw.get("correct") if raw.get("correct") in (True, False) else None
    named = [v for k, v in row["rewards"].items() if "accuracy" in k or "correct" in k]
    if "correct" not in raw and named:
        row["correct"] = named[0] >= 1
    tokens = raw.get("tokens")
    good = isinstance(tokens, list) and all(isinstance(one, str) for one in tokens)
    row["tokens"] = tokens if good and tokens else text.split()
    for name in LISTS:
        values = raw.get(name)
        if good and isinstance(values, list) and len(values) == len(tokens):
            row[name] = [_number(one) for one in values]
    row["length"] = int(_number(raw.get("length")) or len(row["tokens"]))
    limit = _number(config.get("max_new_tokens"))
    told = raw.get("finished")
    row["finished"] = told if told in (True, False) else limit is None or row["length"] < limit
    row["mixed"] = raw["mixed"] if raw.get("mixed") in (True, False) else mixed(text)
    row["problem"] = str(raw.get("problem") or row["prompt"])
    row["place"] = raw.get("place") if type(raw.get("place")) is int else None
    try:
        row["of"] = Problem.from_dict(raw.get("of"))
    except R1LabError:
        row["of"] = None
    row["asked_again"] = raw.get("asked_again") is True
    clip = raw["clip"] if isinstance(raw.get("clip"), list) else []
    good = len(clip) == 2 and None not in map(_number, clip)
    row["clip"] = tuple(map(float, clip)) if good else (0.2, 0.2)
    return row


def _said(prompt: Any) -> str:
    """A prompt as text; of a chat, its messages' contents."""
    if isinstance(prompt, list):
        return "\n".join(str(m.get("content", "")) for m in prompt if isinstance(m, Mapping))
    return str(prompt)


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) and abs(value) < 1e18 else None


def mixed(text: str) -> bool:
    """Has the thought words of more than one language?"""
    thought = parse(text).think
    words = language_words((text if thought is None else thought)[:20_000])
    return sum(count > 0 for count in words.values()) > 1


# --- which, and how they are drawn ----------------------------------------------------------------


def filters(rows: Sequence[Row]) -> dict[str, Callable[[Row], bool]]:
    """What can be looked for, by name. Short and long: the shortest and longest quarter of all."""
    short, long = np.quantile([row["length"] for row in rows] or [0], [0.25, 0.75])
    return {
        "all": lambda row: True,
        "correct": lambda row: row["correct"] is True,
        "incorrect": lambda row: row["correct"] is False,
        "right but short": lambda row: row["correct"] is True and row["length"] <= short,
        "wrong but long": lambda row: row["correct"] is False and row["length"] >= long,
        "mixed language": lambda row: row["mixed"],
        "truncated": lambda row: not row["finished"],
    }


def select(rows: Sequence[Row], show: str = "all", search: str = "") -> list[Row]:
    """The rows of a filter whose text or prompt has these words. Raises R1LabError for a filter
    that is not known."""
    if show not in (known := filters(rows)):
        raise R1LabError(f"{show!r} cannot be shown: take one of {', '.join(known)}")
    word = search.casefold()
    return [
        row
        for row in rows
        if known[show](row) and word in f"{row['prompt']}\n{row['text']}".casefold()
    ]


def values_of(row: Row, kind: str) -> tuple[list[float | None] | None, list[bool] | None]:
    """A token's colour for a kind (`text.KINDS`), and which tokens are clipped; None: not known.

    The ratio is that of the updated policy to the one that sampled: with one update per rollout the
    loss saw 1, and this is what it did. A token is clipped where another update would get no
    gradient from it. The KL is k3, at the policy that sampled."""
    logp, after, reference = (row.get(name) for name in LISTS)
    if kind == "advantage" and row["advantage"] is not None:
        return [row["advantage"]] * len(row["tokens"]), None
    if kind == "logprob" and logp:
        return logp, None
    if kind == "kl" and logp and reference:
        pairs = zip(logp, reference, strict=True)
        gaps = [None if None in two else two[1] - two[0] for two in pairs]
        return [None if g is None else math.exp(min(g, 50.0)) - 1 - g for g in gaps], None
    if kind == "ratio" and logp and after:
        pairs = zip(logp, after, strict=True)
        ratios = [None if None in two else math.exp(min(two[1] - two[0], 50.0)) for two in pairs]
        A, (low, high) = row["advantage"] or 0.0, row["clip"]
        clipped = [
            r is not None and ((A > 0 and r > 1 + high) or (A < 0 and r < 1 - low)) for r in ratios
        ]
        return ratios, clipped
    return None, None


def row_html(row: Row, kind: str = "advantage", label: str = "step", prompt: bool = True) -> str:
    """A completion with its verdict, what is known of it in numbers, and its tokens' colours."""
    values, clipped = values_of(row, kind)
    verdict = {True: "correct", False: "incorrect"}.get(row["correct"], "not verified")
    verdict += "" if row["finished"] else ", truncated"
    facts = {name: row[name] for name in NUMBERS if row[name] is not None}
    if len(row["rewards"]) > 1:
        facts |= row["rewards"]
    if (ratios := values_of(row, "ratio"))[0]:
        known = [one for one in ratios[0] if one is not None]
        facts |= {"ratio": f"{min(known):.2f} to {max(known):.2f}"} if known else {}
        facts["clipped"] = f"{sum(ratios[1])} of {len(ratios[1])}"
    if kls := values_of(row, "kl")[0]:
        known = [one for one in kls if one is not None]
        facts |= {"KL": f"{sum(known) / len(known):.3f} a token"} if known else {}
    return completion_html(
        row["tokens"], values, kind if values is not None else "plain",
        title=f"{label} {row['step']}: {verdict}, {row['length']} tokens",
        prompt=row["prompt"] if prompt else "", facts=facts, marks=clipped,
    )  # fmt: skip


def group_html(rows: Sequence[Row], kind: str = "advantage", label: str = "step") -> str:
    """The completions of one question side by side, the best first, under the question."""
    if not rows:
        return "<p>No completion is of this kind.</p>"
    rows = sorted(rows, key=lambda row: -(row["advantage"] or 0.0))
    known = [row["correct"] for row in rows if row["correct"] is not None]
    right = f", {sum(known)} of {len(known)} right" if known else ""
    again = ", asked at every recorded step" if rows[0]["asked_again"] else ""
    head = f"{label} {rows[0]['step']}, {len(rows)} kept{right}{again}: {rows[0]['prompt']}"
    cells = "".join(f"<div>{row_html(row, kind, label, prompt=False)}</div>" for row in rows)
    return f'<p><b>{safe_text(head)}</b></p><div class="r1c-two">{cells}</div>'


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by their problem."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["problem"], []).append(row)
    return found


def changes(rows: Sequence[Row], step: int, problem: str) -> list[tuple[str, str, str]]:
    """What is different from the last earlier step at which the same question was asked: (measure,
    then, now); [] where it was not asked before."""
    same = [row for row in rows if row["problem"] == problem and row["step"] <= step]
    earlier = sorted({row["step"] for row in same} - {step})
    now = [row for row in same if row["step"] == step]
    if not earlier or not now:
        return []
    then = [row for row in same if row["step"] == earlier[-1]]
    both = (then, now)

    def mean(values: Iterable[float]) -> float:
        values = list(values)
        return sum(values) / len(values) if values else math.nan

    def answers(group: Sequence[Row]) -> set[str | None]:
        return {parse(row["text"]).answer for row in group}

    found = [("step", str(earlier[-1]), str(step))]
    right = [mean(r["correct"] for r in group if r["correct"] is not None) for group in both]
    found.append(("right", *(f"{one:.0%}" if one == one else "unknown" for one in right)))
    found.append(("mean length", *(f"{mean(r['length'] for r in g):.1f} tokens" for g in both)))
    found.append(("different answers", *(str(len(answers(group))) for group in both)))
    flat = [[x for r in g for x in r.get("logprobs", ()) if x is not None] for g in both]
    if all(flat):
        found.append(("entropy", *(f"{-mean(one):.3f} nats a token" for one in flat)))
    fresh = len({r["text"] for r in now} - {r["text"] for r in then})
    found.append(("texts not seen then", "", f"{fresh} of {len(now)}"))
    return found

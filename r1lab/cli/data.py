"""What a model has read, and what it does when asked for harm: `decontaminate` and `safety`."""
# fmt: off

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import (
    SEEDS,
    Command,
    flag,
    literals,
    number,
    print_table,
    project_folder,
    text,
    words,
)


@dataclass(kw_only=True)
class Decontaminate(Command):
    """which training texts hold problems of an evaluation

    Look for the questions and reference solutions of an evaluation in training texts: by shared
    10-grams, as the paper does, and with --near by similar sets of content words (MinHash), which
    finds some paraphrases. FILE is .jsonl (a text per row), .txt or .md (a text per paragraph); a
    name that is no file is a data set on the hub; `web` is the tiny models' synthetic corpus.

    examples:
      r1lab decontaminate --train web --eval countdown --split leaked
      r1lab decontaminate --train mine.jsonl --eval gsm8k --out clean.jsonl
      r1lab decontaminate --train openai/gsm8k:main --eval test.jsonl --near 0.8
    """
    train: tuple = words("training texts: files, data sets on the hub (ID or ID:CONFIG; their "
        "split train), or web", "SOURCE")
    eval: str | None = text("a task by its name or FILE.py:NAME, or a .jsonl file with question "
        "(or problem, prompt) and solution (or answer)", "TASK|FILE", path=True)
    split: str = option("held_out", "of the task: train, held_out or leaked")
    n: int = option(500, "problems of the task", low=1)
    task_option: tuple = words("an option of the task", "NAME=VALUE", repeat="once")
    ngram: int = option(10, "words that a text and a problem must share in a row", low=1)
    near: float | None = number("also by MinHash: the least similarity, 0.8 for example", float,
        low=0.01, high=1)
    documents: int = option(6000, "of `web`", low=1)
    seed: int = option(0, "of `web`", **SEEDS)
    out: str | None = text("write the texts that are left, as .jsonl", "FILE", path=True)
    json: bool = flag("print JSON in place of the table")


def decontaminate(args: Decontaminate) -> None:
    from r1lab import decontamination as search

    if not args.train or not args.eval:
        raise R1LabError("write --train SOURCE (web, files, data sets) and --eval TASK or FILE")
    if args.out:
        files.check_writable(args.out)
    items = evaluation_items(args)
    rows = [row for source in args.train for row in texts_of(source, args)]
    if not rows:
        raise R1LabError(f"there is no text in {', '.join(args.train)}")
    texts = [shown for shown, _ in rows]
    index = search.Index(items, n=args.ngram)
    found = {f"{args.ngram}-grams": search.find(texts, index)}
    if args.near is not None:
        found["MinHash"] = search.find_near(texts, items, threshold=args.near)
    flagged = set().union(*(one.problems for one in found.values()))
    if args.out:
        kept = (row for i, (_, row) in enumerate(rows) if i not in flagged)
        lines = "".join(f"{files.to_json(row)}\n" for row in kept)
        files.atomic_write_text(args.out, lines)
    if args.json:
        print(json.dumps({name: {
            "texts": one.texts, "flagged": one.flagged._asdict(), "unchecked": one.unchecked,
            "problems": {str(i): of for i, of in one.problems.items()},
        } for name, one in found.items()}, indent=2))
        return
    total = len({item.problem for item in items})
    lines = []
    for name, one in found.items():
        hit = {problem for of in one.problems.values() for problem in of}
        low, high = one.flagged[1:]
        lines.append((name, f"{len(one.problems)} of {one.texts}", f"[{low:.2%}, {high:.2%}]",
                      f"{len(hit)} of {total}", str(len(one.unchecked))))
    head = ("search", "texts flagged", "95 % interval", "problems found", "not checked")
    print_table(head, lines)
    for i in sorted(flagged)[:5]:
        of = next(one.problems[i] for one in found.values() if i in one.problems)
        print(f"text {i}, {of[0]}: {' '.join(texts[i].split())[:160]}")
    print(f"{index.templates} {args.ngram}-grams stand in several problems and do not count")
    if args.out:
        print(f"{len(rows) - len(flagged)} texts are left, in {args.out}")


def evaluation_items(args: Decontaminate) -> list:
    """What is looked for: questions and solutions of a task or of a file."""
    from r1lab.decontamination import Item, items_of
    from r1lab.tasks import get_task
    from r1lab.tasks.base import distinct
    from r1lab.tasks.hub_rows import column

    if Path(args.eval).suffix != ".jsonl":
        task = get_task(args.eval, **literals(args.task_option, "--task-option", "levels=(4,5)"))
        return items_of(task, distinct(task.problems(args.split, args.n)))
    items = []
    for i, row in enumerate(json_rows(Path(args.eval)), 1):
        items.append(Item(f"row {i}", column(row, "question", "problem", "prompt", text=True)))
        if solution := next((row[k] for k in ("solution", "answer") if row.get(k)), None):
            items.append(Item(f"row {i}", str(solution)))
    return items


def texts_of(source: str, args: Decontaminate) -> Iterator[tuple[str, Any]]:
    """(text, row) of every training text of a source; a row's texts are joined."""
    from r1lab.tasks.hub_rows import load_rows

    path = Path(source).expanduser()
    if source == "web":
        from r1lab.world.corpus import documents

        for one in documents(args.seed, args.documents):
            yield one.text, {"text": one.text}
    elif path.suffix in (".txt", ".md"):
        for part in "\n".join(files.lines_of(path)).split("\n\n"):
            if part.strip():
                yield part, {"text": part}
    elif path.suffix == ".jsonl":
        for row in json_rows(path):
            yield joined(row), row
    else:
        name, _, config = source.partition(":")
        for row in load_rows(name, config or None, "train").rows:
            yield joined(row), dict(row)


def json_rows(path: Path) -> Iterator[dict]:
    for i, line in enumerate(files.lines_of(path), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            raise R1LabError(f"{path}, line {i} is no JSON: {error}") from None
        if row is not None and not isinstance(row, dict):
            raise R1LabError(f"{path}, line {i} is no JSON object")
        if row:
            yield row


def joined(value: Any) -> str:
    """All texts in a row, messages and lists included."""
    if isinstance(value, str):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "\n".join(filter(None, map(joined, inner)))


@dataclass(kw_only=True)
class Safety(Command):
    """how often a model helps with harm, and refuses what is harmless

    Ask a model for harmful and for harmless things, plainly and in jailbreak wrappers, with and
    without risk control (keywords, and a second look at what they flag); rates by category and
    wrapper with 95 % intervals. Without --requests these are the tiny world's, which a rule judges
    exactly. A row of FILE has prompt, harmful (true or false) and category; a rule then counts all
    that declines nothing as help, --guard lets another model of the endpoint judge.

    examples:
      r1lab safety --model runs/cpu/05_r1_zero/model
      r1lab safety --endpoint http://localhost:8000/v1 --model R1 --requests mine.jsonl \\
        --wrappers wrappers.json --keywords words.txt --guard another-model
    """
    model: str = option("tiny", "a model: its name or folder, or as the endpoint calls it",
        path=True)
    samples: int = option(4, "responses to each prompt", low=1)
    seed: int = option(0, "of the sampling", **SEEDS)
    requests: str | None = text("your requests, .jsonl", "FILE", path=True)
    wrappers: str | None = text("jailbreaks for them, .json: {name: text with {request}}", "FILE",
        path=True)
    keywords: str | None = text("of risk control, a word per line", "FILE", path=True)
    endpoint: str | None = text("the URL of a server, as in http://localhost:8000/v1", "URL")
    key_env: str = option("OPENAI_API_KEY", "the environment variable with the endpoint's key")
    guard: str | None = text("the endpoint's model that judges")
    max_tokens: int | None = number("of a response (default: 64, of an endpoint 4096)", low=1)
    json: bool = flag("print JSON in place of the table")


def safety(args: Safety) -> None:
    from r1lab import safety as harness

    model, judge, review = asked(args)
    requests = harmful_requests(args)
    words = harness.KEYWORDS
    if args.keywords:
        words = tuple(line.strip() for line in files.lines_of(args.keywords) if line.strip())
    how = {"samples": args.samples, "seed": args.seed}
    alone = harness.assess(model, requests, judge, **how)
    control = harness.RiskControl(model, keywords=words, review=review)
    both = {"model alone": alone, "risk control": harness.assess(control, requests, judge, **how)}
    plain, guarded = (one.summary() for one in both.values())
    unjudged = {name: one.unjudged for name, one in both.items()}
    if args.json:
        rates = {"model alone": plain, "risk control": guarded}
        measures = {k: {name: v._asdict() for name, v in s.items()} for k, s in rates.items()}
        about = {"model": args.model, **how, "guard": args.guard, "unjudged": unjudged}
        print(json.dumps(about | {"measures": measures}, indent=2))
        return
    rows = [(name, percent(plain[name]), percent(guarded[name])) for name in plain]
    print_table((f"{args.model}, {len(requests)} requests", "model alone", "risk control"), rows)
    if args.guard:
        told = ", ".join(f"{n} ({name})" for name, n in unjudged.items())
        print(f"responses that {args.guard} gave no verdict on: {told}")


def asked(args: Safety) -> tuple[Any, Any, Any]:
    """The model, its judge, and the second look of risk control."""
    from r1lab import models
    from r1lab import safety as harness
    from r1lab.evals.endpoint import Endpoint
    from r1lab.evals.scienceagent.agents import Chat
    from r1lab.sampler.draw import Sampling

    if not args.endpoint:
        if args.guard:
            raise R1LabError("--guard needs --endpoint, where the judging model is")
        loaded = models.load(project_folder(args.model))
        local = harness.Local(*loaded, Sampling(args.max_tokens or 64))
        return local, harness.rule, harness.looks_bad
    if not args.requests or args.model == "tiny":
        raise R1LabError("--endpoint needs --model NAME and --requests FILE: the tiny world's "
                         "requests are for the tiny models")
    most = args.max_tokens or 4096
    model = Chat(Endpoint(args.endpoint, args.model, args.key_env), most)
    if not args.guard:
        return model, harness.rule, harness.looks_bad
    guard = harness.Guard(Chat(Endpoint(args.endpoint, args.guard, args.key_env), most))

    def review(messages: harness.Messages, reply: str) -> bool:
        verdict = guard(harness.Request("", tuple(messages), True, ""), reply)
        return verdict is None or verdict.unsafe  # what it cannot tell is retracted

    return model, guard, review


def harmful_requests(args: Safety) -> list:
    from r1lab.safety import read_requests
    from r1lab.world.jailbreaks import tiny_requests

    if not args.requests:
        if args.wrappers:
            raise R1LabError("--wrappers needs --requests: the tiny world has its own")
        return tiny_requests()
    wrappers = files.load_json(args.wrappers) if args.wrappers else {}
    if not all(isinstance(one, str) and "{request}" in one for one in wrappers.values()):
        raise R1LabError(f"{args.wrappers}: each wrapper is a text with {{request}} in it")
    return read_requests(args.requests, wrappers)


def percent(one: tuple[float, float, float]) -> str:
    value, low, high = (100 * x for x in one)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"

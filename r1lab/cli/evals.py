"""What `r1lab eval` does."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from r1lab import evaluate as evaluation
from r1lab import models
from r1lab.basics import files, plugins
from r1lab.basics.errors import R1LabError
from r1lab.cli.commands import Eval
from r1lab.cli.parse import pairs, print_measures, print_table, project_folder
from r1lab.cli.training import computing_device, the_task
from r1lab.evals import kept, protocol
from r1lab.evals.compare import compare
from r1lab.evals.endpoint import Endpoint
from r1lab.evals.sources import Local, Remote
from r1lab.evals.tariff import tariff_of
from r1lab.machine.costs import money, price_here
from r1lab.sampler.draw import Sampling
from r1lab.statistics import in_words
from r1lab.tasks import distinct, registry
from r1lab.templates import TEMPLATES, get_template
from r1lab.training import records

NEED = {"tariff": "--endpoint", "send": "--endpoint", "fresh": "--out", "max_dollars": "--out"}


def evaluate(args: Eval) -> None:
    if args.compare:
        return compare_folders(args)
    for name, needs in NEED.items():
        if getattr(args, name) not in (None, (), False) and not (args.endpoint or args.out):
            raise R1LabError(f"--{name.replace('_', '-')} needs {needs}")
    if args.tariff and not args.endpoint:
        raise R1LabError("--tariff needs --endpoint; a local model takes --dollars-per-hour")
    template = args.template or ("chat" if args.endpoint else "tiny")
    get_template(template)
    limit = args.max_new_tokens or (protocol.PAPER.max_new_tokens if args.endpoint else 448)
    how = {"top_p": args.top_p, "greedy": args.temperature == 0, "seed": args.seed}
    sampling = Sampling(limit, args.temperature or 1.0, **how)
    if args.endpoint:
        source: Local | Remote = remote(args, sampling, template)
        task = the_task(args, args.task, template)
    else:
        if args.save:
            files.check_writable(args.save)
        task = the_task(args, args.task, template)
        if not args.out:
            return in_memory(args, task, sampling, template)
        source = local(args, sampling, template)
    plan = protocol.Plan(
        args.task, args.split, args.n, args.k, template, sampling, options_of(task, args, template)
    )
    name = re.sub(r"[^\w.-]+", "-", f"{args.model}-{args.task}").strip("-.")
    out = files.run_folder(args.out or f"runs/eval/{name}")
    if args.endpoint and not args.json:
        print(protocol.forecast(source, task, plan), flush=True)
    how = {"max_dollars": args.max_dollars, "fresh": args.fresh, "progress": not args.json}
    run = protocol.run(source, task, plan, out, **how)
    if args.save:
        files.write_json(args.save, json.loads(run.evaluation.to_json()))
    show(args, run, sampling)


def remote(args: Eval, sampling: Sampling, template: str) -> Remote:
    if args.model == "tiny":
        raise R1LabError("--endpoint needs --model NAME, as the server calls it")
    if args.save:
        raise R1LabError("--save is for a local model; an endpoint's completions are in --out")
    if args.max_dollars is not None and not args.tariff:
        raise R1LabError("--max-dollars needs the endpoint's prices: --tariff IN/OUT")
    tariff = tariff_of(args.tariff) if args.tariff else None
    extra = {key: value_of(text) for key, text in pairs(args.send, "--send", "seed=none").items()}
    if reserved := {"messages", "model", "n", "stream"} & set(extra):
        raise R1LabError(f"--send cannot set {', '.join(sorted(reserved))}")
    how = {"timeout": args.timeout, "tries": args.tries, "tariff": tariff}
    endpoint = Endpoint(args.endpoint, args.model, args.key_env, **how)
    return Remote(endpoint, sampling, template, args.jobs, extra)


def value_of(text: str) -> Any:
    """A value of --send: JSON, none, or a word."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None if text.lower() == "none" else text


def local(args: Eval, sampling: Sampling, template: str) -> Local:
    price = args.dollars_per_hour if args.dollars_per_hour is not None else price_here()
    if args.max_dollars is not None and price is None:
        raise R1LabError("--max-dollars needs a price of this machine: add --dollars-per-hour")
    name = project_folder(args.model)
    model, tokenizer = models.load(name, device=computing_device(args.device))
    return Local(model, tokenizer, name, sampling, template, price)


def options_of(task: Any, args: Eval, template: str) -> dict[str, Any]:
    """The options of a task, as plain values, and which code a task or template of one's own is."""
    fields = getattr(task, "__dataclass_fields__", {})
    options = {name: repr(getattr(task, name)) for name in fields if not name.startswith("_")}
    options["task"] = plugins.sign("task", args.task, registry.TASKS)
    return options | {"template": plugins.sign("template", template, TEMPLATES)}


def in_memory(args: Eval, task: Any, sampling: Sampling, template: str) -> None:
    """A local model, nothing kept but the numbers."""
    problems = distinct(task.problems(args.split, args.n))
    device = computing_device(args.device)
    model, tokenizer = models.load(project_folder(args.model), device=device)
    how = {"sampling": sampling, "template": template}
    how["progress"] = sys.stderr.isatty() and not args.json
    found = evaluation.evaluate(model, tokenizer, task, problems, k=args.k, **how)
    if args.save:
        files.write_json(args.save, json.loads(found.to_json()))
    about = {"task": args.task, "split": args.split, "n": len(problems)}
    measures = {name: kept.as_json(one) for name, one in found.summary().items()}
    entry = about | {"k": args.k, "settings": found.settings, "measures": measures}
    records.measured(project_folder(args.model), entry)
    if args.json:
        report = {"model": args.model} | about | found.settings | {"measures": measures}
        print(json.dumps(report, indent=2))
        return
    whole = f"{len(problems)} {args.split} problems of {args.task}"
    print(f"{args.model}: {whole}, {args.k} completions each")
    print_measures(found.summary())
    if found.unjudged:
        print(f"left out: {found.unjudged} completions that the sandbox could not judge")


def show(args: Eval, run: kept.Run, sampling: Sampling) -> None:
    """The numbers of a kept run, and what is to be known about them."""
    found = run.results()
    if args.json:
        about = {name: getattr(args, name) for name in ("model", "task", "split")}
        how = {"temperature": 0.0 if sampling.greedy else sampling.temperature}
        how |= {"top_p": sampling.top_p, "max_new_tokens": sampling.max_new_tokens}
        print(json.dumps(about | how | found, indent=2))
        return
    whole = f"{found['complete']} of {found['problems']} {args.split} problems of {args.task}"
    print(f"{args.model}: {whole}, {run.k} completions each")
    if run.complete:
        summary = run.evaluation.summary()
        print_measures(summary)
        if run.evaluation.unjudged:
            print(f"left out: {run.evaluation.unjudged} completions that could not be judged")
    prompt, written = (f"{found[f'{part}_tokens']:,} {part}" for part in ("prompt", "completion"))
    cost = "" if run.dollars is None else f", {money(run.dollars)}"
    cost += f", and at most {money(run.unsure)} for requests without a bill" if run.unsure else ""
    print(f"{prompt} and {written} tokens{cost}")
    if found["estimated"]:
        print(f"tokens of {found['estimated']} completions are estimated: the server counted none")
    if len(found["served"]) > 1:
        print(f"the server names {len(found['served'])} versions of the model: {found['served']}")
    if run.missing:
        why = "the budget has no room for another request" if run.stopped_by_budget else (
            "requests failed; long thoughts fail more often, so what is there is not a fair sample"
        )  # fmt: skip
        print(f"{run.missing} completions are missing: {why}. The same command goes on")
    print(f"every completion is in {files.from_here(run.folder / kept.ANSWERS)}")


def compare_folders(args: Eval) -> None:
    if len(args.compare) != 2:
        raise R1LabError("--compare takes two folders, each written by r1lab eval --out")
    before, after = (kept.load(Path(folder).expanduser()) for folder in args.compare)
    found = compare(before, after)
    if args.json:
        print(json.dumps(found.to_json(), indent=2))
        return
    rows = []
    for name, change in found.change.items():
        unit = "points" if name in ("pass@1", "cons@k") else {"length": "tokens"}.get(name, name)
        values = (f"{value:.4g}" for value in found.values[name])
        rows.append((name, *values, in_words(change, unit)))
    print_table(("measure", "before", "after", "after - before"), rows, left=True)
    same = len(found.rows) - found.better - found.worse
    print(f"better on {found.better} problems, worse on {found.worse}, alike on {same}")
    for row in found.rows[:5]:
        if row["before"] != row["after"]:
            print(f"  {row['problem']}: {row['before']:.2f} to {row['after']:.2f}")
    for note in found.notes:
        print(f"note: {note}")

"""What `r1lab scienceagent` does."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.cli.commands import ScienceAgent
from r1lab.cli.parse import print_table
from r1lab.evals.endpoint import Endpoint
from r1lab.evals.scienceagent import Benchmark, harness, metrics, miniature, open_benchmark, runs
from r1lab.evals.scienceagent.agents import Chat
from r1lab.evals.tariff import tariff_of
from r1lab.sandbox.workspace import MINUTES, Workspace


def scienceagent(args: ScienceAgent) -> None:
    if sum(map(bool, (args.endpoint, args.programs, args.replay))) != 1:
        words = "--endpoint URL --model NAME, --programs FOLDER, or --replay RUN ..."
        raise R1LabError(f"r1lab scienceagent takes one of {words} (r1lab scienceagent --help)")
    benchmark = open_benchmark(args.benchmark) if args.benchmark else miniature.made()
    if args.only:
        benchmark = benchmark.select(map(number, args.only))
    model = chat(args) if args.endpoint else None  # mistakes are told before a sandbox starts
    texts = given(args, benchmark)
    limits = harness.ORIGINAL if args.benchmark else MINUTES
    with harness.workspace(args.fault, limits=limits, weak=args.weak_sandbox) as box:
        if not args.json:
            print(f"{benchmark.name}: {len(benchmark)} tasks; {box.describe()}")
        if model:
            found = asked(args, benchmark, box, model)
        else:
            found = {
                name: {"run": run, "eval": judged(args, benchmark, programs, box)}
                for name, (run, programs) in texts.items()
            }
    show(args, benchmark, found)


def given(args: ScienceAgent, benchmark: Benchmark) -> dict[str, tuple[list, dict[int, str]]]:
    """The lines and the programs of the folder, or of each run, that is named."""
    if args.programs:
        if not Path(args.programs).is_dir():
            raise R1LabError(f"there is no folder {args.programs}")
        return {args.programs: ([], runs.programs_in(args.programs, benchmark))}
    found = {}
    for name in args.replay:
        lines = runs.read_run(name)
        run = {line.get("instance_id"): line for line in lines}
        kept = [run.get(task.instance_id, {"cost": 0.0}) for task in benchmark.tasks]
        found[name] = kept, runs.programs_of(lines, benchmark)
    return found


def chat(args: ScienceAgent) -> Chat:
    if not args.model:
        raise R1LabError("--endpoint needs --model NAME, as the server calls it")
    if args.max_dollars is not None and not args.tariff:
        raise R1LabError("--max-dollars needs the endpoint's prices: --tariff IN/OUT")
    tariff = tariff_of(args.tariff) if args.tariff else None
    return Chat(Endpoint(args.endpoint, args.model, args.key_env, tariff), args.max_tokens)


def asked(args: ScienceAgent, benchmark: Benchmark, box: Workspace, model: Chat) -> dict[str, Any]:
    """The runs of an endpoint, each in a folder of its own: asked, then judged."""
    name = re.sub(r"[^\w.-]+", "-", f"{args.model}-{args.agent}").strip("-.")
    out = files.run_folder(args.out or f"runs/scienceagent/{name}")
    found, spent = {}, 0.0
    for number in range(1, args.runs + 1):
        folder = Path(out, f"run-{number}")
        runs.describe(folder, model=args.model, benchmark=benchmark.name, tariff=args.tariff)
        left = None if args.max_dollars is None else args.max_dollars - spent
        lines = runs.ask(
            model, benchmark, folder, box, agent=args.agent, knowledge=args.knowledge,
            budget=left, told=progress(args),
        )  # fmt: skip
        spent += sum(line["cost"] for line in lines) + runs.lost(folder, lines)
        log = folder / (f"eval-{'-'.join(args.fault)}.jsonl" if args.fault else runs.EVAL)
        programs = folder / runs.PROGRAMS
        evals = runs.judge(benchmark, programs, log, box, faults=args.fault, told=progress(args))
        found[f"run {number}"] = {"run": lines, "eval": evals}
    if not args.json:
        print(f"the files are in {out}")
    return found


def judged(args: ScienceAgent, benchmark: Benchmark, texts: dict[int, str], box: Workspace) -> list:
    return runs.judge_texts(benchmark, texts, box, faults=args.fault, told=progress(args))


def progress(args: ScienceAgent) -> Any:
    """Tells of every task, on a terminal."""

    def told(task: Any, line: metrics.Line) -> None:
        if sys.stderr.isatty() and not args.json:
            if "history" in line:
                said = f"{line['rounds']} rounds, ${line['cost']:.4f}"
            else:
                said = "success" if line["success_rate"] else line["log_info"].split("\n")[-1][:60]
            words = f"{task.instance_id} {task.program_name}: {said}"
            print(f"\r\x1b[K{words}", end="", file=sys.stderr)

    return told


def show(args: ScienceAgent, benchmark: Benchmark, found: dict[str, Any]) -> None:
    """The tables, or JSON."""
    evals = [one["eval"] for one in found.values()]
    costs = [[line.get("cost", 0.0) for line in one["run"]] for one in found.values()]
    costs = [one or [0.0] * len(benchmark) for one in costs]
    together = metrics.single(*evals)
    chosen = metrics.best(evals, costs)
    if args.json:
        report = {
            "benchmark": benchmark.name,
            "single run": {name: list(value) for name, value in together.items()},
            f"best of {len(evals)}": chosen,
            "faults": list(args.fault),
            "runs": {name: one["eval"] for name, one in found.items()},
        }
        print(json.dumps(report, indent=1))
        return
    rows = []
    for name, lines, cost in zip(found, evals, costs, strict=True):
        rates = [percent(value) for value in metrics.single(lines).values()]
        alike = sum(line["token_f1"] for line in lines) / len(lines)
        rows.append([name, *rates, f"{sum(cost) / len(lines):.4f}", f"{alike:.2f}"])
    if len(evals) > 1:
        rates = [percent(value) for value in together.values()]
        rows.append(["a single run", *rates, f"{chosen['Cost of all runs'] / len(evals):.4f}", ""])
        best = [f"{100 * chosen[k]:.1f}" for k in ("Success Rate", "Valid Program Rate")]
        rows.append([f"best of {len(evals)}", *best, f"{chosen['Cost']:.4f}", ""])
    print_table(["run", "SR %", "VER %", "$ a task", "token F1"], rows)
    domains = metrics.by_domain(evals[0], [task.domain for task in benchmark.tasks])
    print()
    print_table(["domain", "solved"], [[k, f"{a} of {n}"] for k, (a, n) in domains.items()])
    skipped = sum(line["log_info"] == harness.NOT_JUDGED for line in evals[0])
    if skipped:
        print(f"\n{skipped} tasks ask for a picture and are not judged: they count as failed")
    print("\nCBS is null: no CodeBERT is run; token F1 is another measure.")


def percent(value: Any) -> str:
    return f"{100 * value.value:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def number(text: str) -> int:
    if not text.isdigit():
        raise R1LabError(f"--only takes numbers of tasks, not {text!r}")
    return int(text)

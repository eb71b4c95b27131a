"""The command `probe`. It imports what it needs."""
# fmt: off

from __future__ import annotations

import json
from dataclasses import dataclass

from r1lab.basics.options import option
from r1lab.cli.parse import SEEDS, Command, flag, print_table, project_folder, words


@dataclass(kw_only=True)
class Probe(Command):
    """is a base ready for RL? pass@k, format, groups with variance

    Sample completions to training problems before any training, by task and prompt template, and
    say what RL would see: pass@1 and pass@k, how many groups have rewards that differ, answers in
    tags, format, language, truncation; and what to expect of it.

    examples:
      r1lab probe --task countdown code steps
      r1lab probe --model smollm2-135m --task word_problems --task-option difficulty=easy \\
        --template examples r1_zero --max-new-tokens 128
      r1lab probe --model MODEL --task qa:mine.csv --template r1_zero
    """
    model: str = option("tiny", "as for `r1lab train`", path=True)
    task: tuple = words("tasks, by name or FILE.py:NAME (default: countdown)", "TASK")
    template: tuple = words("prompt templates (default: tiny)", "TEMPLATE")
    task_option: tuple = words("an option of every task", "NAME=VALUE", repeat="once")
    weak_sandbox: bool = flag("run programs where nothing contains them, too")
    n: int = option(64, "problems of the split train", low=1)
    k: int = option(16, "completions per problem", low=2)
    group_size: int = option(16, "completions per prompt that RL will take, at most k", low=2)
    questions: int = option(16, "prompts per step that RL will take", low=1)
    max_new_tokens: int = option(448, "length limit of a completion", low=1)
    temperature: float = option(1.0, "of the sampling; RL's, not an evaluation's", low=1e-3)
    device: str = option("auto", "cpu, cuda or auto: a GPU where there is one")
    seed: int = option(0, "of problems and sampling", **SEEDS)
    json: bool = flag("print JSON in place of the table")
    numbers: int | None = None  # what `the_task` reads


def probe(args: Probe) -> None:
    from r1lab import models
    from r1lab.cli.training import computing_device, the_task
    from r1lab.evals import probe as probing
    from r1lab.evals.protocol import as_json
    from r1lab.sampler.rollouts import Sampling

    templates = args.template or ("tiny",)
    pairs = [(the_task(args, name, one), one) for name in args.task or ("countdown",)
             for one in templates]
    device = computing_device(args.device)
    model, tokenizer = models.load(project_folder(args.model), device=device)
    sampling = Sampling(args.max_new_tokens, args.temperature, seed=args.seed)
    how = {"n": args.n, "k": args.k, "group_size": args.group_size, "questions": args.questions}
    rows = [row for task, template in pairs for row in
            probing.probe(model, tokenizer, [task], [template], sampling=sampling, **how)]
    if args.json:
        print(json.dumps([{
            "task": row.task, "template": row.template,
            "measures": {name: as_json(one) for name, one in row.measures().items()},
            "advice": row.advice(),
        } for row in rows], indent=2))
        return
    for row in rows:
        print(f"{args.model} on {row.task}, template {row.template}: {args.n} problems, "
              f"{args.k} completions each")
        measures = [(name, f"{value:.3f}", f"[{low:.3f}, {high:.3f}]" if low == low else "–")
                    for name, (value, low, high) in row.measures().items()]
        print_table(("measure", "mean", "95 % interval"), measures)
        for sentence in row.advice():
            print(f"- {sentence}")

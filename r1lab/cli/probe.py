"""What `r1lab probe` does."""
# fmt: off

import json

from r1lab import models
from r1lab.cli.commands import Probe
from r1lab.cli.parse import print_measures, project_folder
from r1lab.cli.training import computing_device, the_task
from r1lab.evals import probe as probing
from r1lab.evals.kept import as_json
from r1lab.sampler.rollouts import Sampling


def probe(args: Probe) -> None:
    templates = args.template or ("tiny",)
    pairs = [(the_task(args, name, one), one) for name in args.task or ("countdown",)
             for one in templates]
    device = computing_device(args.device)
    model, tokenizer = models.load(project_folder(args.model), device=device)
    sampling = Sampling(args.max_new_tokens, args.temperature, seed=args.seed)
    how = {"n": args.n, "k": args.k, "batch": (args.questions, args.group_size)}
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
        print_measures(row.measures())
        for sentence in row.advice():
            print(f"- {sentence}")

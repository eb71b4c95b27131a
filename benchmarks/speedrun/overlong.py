"""Leave out the long completions: one in eight, but two fifths of the tokens (half of them right).

As DAPO's overlong filtering (arXiv 2503.14476, section 3.4), but from 250 tokens on: such a
completion counts in its group's mean and standard deviation, and is not trained on.
"""

from dataclasses import replace

from r1lab.experience import training_problems
from r1lab.grpo import GRPOConfig, collect, questions_at, update
from r1lab.training.optimizer import adamw, ready

CHANGED = "linear_rate over 32 steps, completions of more than 250 tokens are not trained on"
SMALLER: dict = {}  # smaller sizes, for a test
FASTER = {"steps": 32, "learning_rate": 1e-3, "warmup_steps": 3, "lr_schedule": "linear"}
LONG = 250


def train(model, tokenizer, task, seed, out, **options):
    config = replace(GRPOConfig(**FASTER, seed=seed), **options, **SMALLER)
    ready(model, config)
    optimizer = adamw(model, config)
    problems = training_problems(task, model, tokenizer, config)
    for step in range(config.steps):
        batch = collect(model, tokenizer, task, questions_at(step, problems, config), step, config)
        long = [row.length > LONG for row in batch.measures]
        batch.advantages.view(-1)[long] = 0
        update(model, None, optimizer, batch, step, config)

"""Exercises of lesson 06: full GPU GRPO."""

import random

import torch

from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    compare,
    design,
    fill,
    guess,
    number,
    predict,
)

TITLE = "Full GPU GRPO"
IMPORTS = """
import torch
"""


@fill(
    "06.1",
    "The same batch on other machines",
    starter="""
    def trl_sizes(questions, group_size, devices, rows):
        \"\"\"Options of TRL for a step of questions x group_size responses, `rows` of them a pass.\"\"\"
        return {
            "num_generations": ...,
            "per_device_train_batch_size": ...,
            "gradient_accumulation_steps": ...,
        }
    """,
    solution="""
    def trl_sizes(questions, group_size, devices, rows):
        \"\"\"Options of TRL for a step of questions x group_size responses, `rows` of them a pass.\"\"\"
        passes, rest = divmod(questions * group_size, devices * rows)
        if rest:
            raise ValueError("the passes do not fill the step")
        return {
            "num_generations": group_size,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": passes,
        }
    """,
    wrong=[
        ("per prompt", '"num_generations": group_size', '"num_generations": questions'),
        ("devices", "devices * rows)", "rows)"),
        ("responses", "questions * group_size, devices", "questions, devices"),
        ("one pass on one device", '"per_device_train_batch_size": rows', '"per_device_train_batch_size": rows * devices'),
        ("does not fill", "if rest:", "if False:"),
        ("whole number", "\"gradient_accumulation_steps\": passes", "\"gradient_accumulation_steps\": passes / 1"),
    ],
    hints=(
        "The responses of an optimizer step must be the same number, however they are dealt.",
        "devices x rows x accumulation steps = questions x group size.",
        "Divide with remainder (`divmod`), and refuse a remainder with ValueError.",
    ),
    then="""
    from trl import GRPOConfig

    sizes = trl_sizes(questions=4, group_size=8, devices=1, rows=8)
    config = GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, report_to="none", **sizes)
    print("TRL's responses per step:", config.generation_batch_size)
    """,
)  # fmt: skip
def trl_sizes(f):
    """
    A step has `questions` prompts with `group_size` responses each. Each of `devices` GPUs takes
    `rows` responses in one forward and backward pass. Return TRL's three options, so that one
    optimizer step sees exactly the responses of the step; raise `ValueError` where that cannot be.
    """
    for questions, G, devices, rows in ((32, 16, 8, 4), (4, 8, 1, 8), (64, 4, 2, 16)):
        got = call(f, questions, G, devices, rows)
        if not isinstance(got, dict):
            raise Wrong("a dict of TRL's options is asked for")
        if got.get("num_generations") != G:
            raise Wrong("num_generations are the responses per prompt")
        if got.get("per_device_train_batch_size") != rows:
            raise Wrong("per_device_train_batch_size is one pass on one device")
        passes = got.get("gradient_accumulation_steps")
        right = questions * G // (devices * rows)
        if passes == questions * G // rows and devices > 1:
            raise Wrong("all devices work at the same time: the number of devices is missing")
        if (
            passes in (questions // (devices * rows), questions / (devices * rows))
            and passes != right
        ):
            raise Wrong("a step has questions x group_size responses, not questions")
        if passes != right:
            raise Wrong("devices x rows x accumulation steps must be the step's responses")
        if not isinstance(passes, int):
            raise Wrong("the accumulation steps must be a whole number, an int")
    try:
        f(4, 8, 3, 8)
    except ValueError:
        return
    raise Wrong("32 responses on 3 devices with 8 rows each: that does not fill a step; refuse it")


@fill(
    "06.2",
    "Two processes compute the same as one",
    starter="""
    def joined(gradients, tokens):
        \"\"\"Each process's gradient (P,) of the mean over its tokens -> that of all tokens (P,).\"\"\"
        ...
    """,
    solution="""
    def joined(gradients, tokens):
        \"\"\"Each process's gradient (P,) of the mean over its tokens -> that of all tokens (P,).\"\"\"
        return sum(n * g for g, n in zip(gradients, tokens, strict=True)) / sum(tokens)
    """,
    wrong=[
        ("plain mean", "sum(n * g for g, n in zip(gradients, tokens, strict=True)) / sum(tokens)",
         "sum(gradients) / len(gradients)"),
        ("sum of all", " / sum(tokens)", ""),
        ("processes", "sum(tokens)", "len(tokens)"),
        ("fewer tokens", "n * g", "g / n"),
        ("only the first", "sum(n * g for g, n in zip(gradients, tokens, strict=True)) / sum(tokens)", "gradients[0]"),
        ("added up", "sum(n * g for g, n in zip(gradients, tokens, strict=True)) / sum(tokens)", "sum(gradients)"),
    ],
    hints=(
        "Turn each mean back into a sum first.",
        "A mean over n tokens times n is the sum over them.",
        "Add these sums, then divide by all tokens.",
    ),
)  # fmt: skip
def joined(f):
    """
    With the mean over all tokens (`length_norm="token"`), each process knows only the mean over
    *its* tokens, and responses differ in length. From each process's gradient and number of tokens,
    compute the gradient that one process would have had. (DDP averages plainly: that is the bug
    which lesson 06 avoids.)
    """
    g = [torch.tensor([1.0, 2.0]), torch.tensor([4.0, -2.0]), torch.tensor([0.0, 1.0])]
    for part, n in ((g, [10, 30, 60]), (g[:2], [10, 30])):
        total = sum(a * b for a, b in zip(part, n, strict=True))
        compare(call(f, part, n), total / sum(n), {
            "that is the plain mean of the processes, as DDP takes it": sum(part) / len(part),
            "that is the sum of all tokens, not divided": total,
            "you divide by the number of processes": total / len(n),
            "processes with fewer tokens get more weight": sum(
                a / b for a, b in zip(part, n, strict=True)) / sum(n),
            "that is only the first process": part[0],
            "the means are added up": sum(part),
        }, "a process with twice the tokens must count twice")  # fmt: skip


@predict(
    "06.3",
    "Will it fit?",
    starter="gigabytes = ...  # 10^9 bytes",
    solution="gigabytes = 1.5 * (4 + 4 + 4 + 4)",
    wrong=[
        ("weights alone", "gigabytes = 6.0"),
        ("AdamW", "gigabytes = 12.0"),
        ("two moments", "gigabytes = 18.0"),
        ("half precision", "gigabytes = 3.0"),
        ("too low", "gigabytes = 20.0"),
        ("too high", "gigabytes = 40.0"),
    ],
    hints=(
        "What does training keep for every parameter?",
        "The weight, its gradient, and AdamW's two moments.",
        "Four numbers of four bytes each, times 1.5 billion.",
    ),
)
def gigabytes(value):
    """
    A model of 1.5 billion parameters, trained whole with AdamW, everything in float32. How many
    gigabytes do weights, gradients and optimizer need, before any activation?
    """
    guess(value, 24.0, 0.05, {
        "those are the weights alone": 6.0,
        "that is without AdamW's numbers": 12.0,
        "AdamW keeps two moments": 18.0,
        "that is the weights in half precision": 3.0,
    })  # fmt: skip


@predict(
    "06.4",
    "The bill",
    starter="dollars = ...",
    solution="dollars = 8 * 1.5 * 2.5",
    wrong=[
        ("one GPU", "dollars = 3.75"),
        ("an hour", "dollars = 20.0"),
        ("minutes", "dollars = 1800.0"),
        ("per GPU and hour", "dollars = 2.5"),
        ("too low", "dollars = 15"),
        ("too high", "dollars = 50"),
    ],
    hints=(
        "GPUs times hours times price.",
        "90 minutes are one and a half hours.",
        "Every GPU of the machine is paid, also the one that waits.",
    ),
)
def dollars(value):
    """
    A run takes 90 minutes on a machine with 8 GPUs at 2.50 dollars per GPU and hour. What does it
    cost?
    """
    guess(value, 30.0, 0.01, {
        "that is one GPU": 3.75,
        "that is for an hour": 20.0,
        "the price is per hour, and you took minutes": 1800.0,
        "that is the price per GPU and hour": 2.5,
    })  # fmt: skip


def preempted(every: float, mean_life: float, repeats: int = 300) -> float:
    """Minutes until 240 minutes of work are done on a machine that is taken away now and then, with
    a checkpoint (1.5 minutes) after every `every` minutes of work and 4 minutes to come back."""
    rng, total = random.Random(0), 0.0
    for _ in range(repeats):
        done = 0.0
        while done < 240:
            life, here = rng.expovariate(1 / mean_life), 0.0
            saved = done
            while saved < 240 and here + every + 1.5 <= life:
                here += every + 1.5
                saved += every
            total += min(here, life) if saved >= 240 else life + 4
            done = saved
    return total / repeats


@design(
    "06.5",
    "A machine that may be taken away",
    starter="""
    plan = {"machine": ..., "checkpoint_every": ...}  # "spot" or "on demand"; minutes
    """,
    solution="""
    plan = {"machine": "spot", "checkpoint_every": 12}
    """,
    wrong=[
        ("budget", 'plan = {"machine": "on demand", "checkpoint_every": 12}'),
        ("lost", 'plan = {"machine": "spot", "checkpoint_every": 120}'),
        ("lost", 'plan = {"machine": "spot", "checkpoint_every": 60}'),
        ("saves all the time", 'plan = {"machine": "spot", "checkpoint_every": 1}'),
        ("spot or on demand", 'plan = {"machine": "cheap", "checkpoint_every": 12}'),
        ("does not say: checkpoint_every", 'plan = {"machine": "spot"}'),
        ("between 0.5 and 240", 'plan = {"machine": "spot", "checkpoint_every": 0}'),
    ],
    hints=(
        "Saving costs time, and so does what was lost since the last save.",
        "With lifetimes around 60 minutes and 1.5 minutes a checkpoint, both ends are bad.",
        "The best interval is near the root of 2 x 1.5 x 60.",
    ),
)
def plan(answer):
    """
    240 minutes of work. On demand the machine costs 4 dollars an hour and is never taken away; as a
    spot machine it costs 1.5 dollars an hour and lives 60 minutes on average. A checkpoint takes
    1.5 minutes, coming back 4. Stay below 10 dollars and below 6 hours on average. The judge plays it
    300 times.
    """
    machine, every = choices(answer, ("machine", "checkpoint_every"))
    every = number(every)
    if machine not in ("spot", "on demand"):
        raise Wrong("machine must be spot or on demand")
    if not 0.5 <= every <= 240:
        raise Wrong("checkpoint_every must lie between 0.5 and 240 minutes")
    if machine == "on demand":
        raise Wrong(f"{4 * (240 + 240 / every * 1.5) / 60:.0f} dollars are above the budget")
    if every > 45:
        lost = "most machines are gone before the first checkpoint, and the work is lost"
        raise Wrong(f"with {every:g} minutes between checkpoints {lost}")
    minutes = preempted(every, 60)
    told = f"it takes {minutes / 60:.1f} hours and {1.5 * minutes / 60:.2f} dollars on average"
    if minutes > 360 or 1.5 * minutes / 60 > 10:
        side = "it saves all the time" if every < 11 else "too much is lost when it is taken away"
        raise Wrong(f"{told}: {side}")


EXERCISES = [trl_sizes, joined, gigabytes, dollars, plan]

"""Exercises of lesson 00: start here."""

import torch

from r1lab.course.graded.kinds import (
    Wrong,
    call,
    choices,
    compare,
    design,
    fill,
    guess,
    predict,
    whole,
)

TITLE = "Start here"
HELPERS = ("short_run",)
IMPORTS = ""

RIGHT = "<think> 10 - 6 → 4 + 7 → 11 ? 23 12 no 10 + 7 → 17 + 6 → 23 ? 23 0 yes </think> <answer> 10 + 7 + 6 </answer>"
TEXTS = (
    (RIGHT, "10 + 7 + 6"),
    ("<think> maybe </think> <answer>7</answer>", "7"),
    ("<think> no answer is written", None),
    ("<answer> 1 + 2 </answer> wait <answer> 3 + 4 </answer>", "3 + 4"),
    ("<think> <answer> 5 </answer> and then <answer> 6", "5"),
)


@fill(
    "00.1",
    "Find the answer in a response",
    starter="""
    def answer_of(text):
        \"\"\"The text in the last complete <answer> … </answer>, without spaces around it; or None.\"\"\"
        ...
    """,
    solution="""
    def answer_of(text):
        \"\"\"The text in the last complete <answer> … </answer>, without spaces around it; or None.\"\"\"
        before, end, _ = text.rpartition("</answer>")
        _, start, answer = before.rpartition("<answer>")
        return answer.strip() if start and end else None
    """,
    wrong=[
        (
            "first answer",
            'def answer_of(text):\n    if "</answer>" not in text:\n        return None\n'
            '    return text.split("<answer>")[1].split("</answer>")[0].strip()',
        ),
        ("spaces", "answer.strip()", "answer"),
        ("None where", "return answer.strip() if start and end else None", "return answer.strip()"),
        ("list", "return answer.strip()", "return [answer.strip()]"),
        ("whole response", "answer.strip() if", "text.strip() if"),
        (
            "not closed",
            'def answer_of(text):\n    if "</answer>" not in text:\n        return None\n'
            '    return text.rpartition("<answer>")[2].split("</answer>")[0].strip()',
        ),
    ],
    hints=(
        "The last closing tag tells where the answer ends.",
        "`str.rpartition` splits at the last occurrence and says whether there was one.",
        "First cut everything from the last </answer> on, then keep what follows the last <answer>.",
    ),
)
def answer_of(f):
    """
    A verifier first needs the answer. Return the text of the last *complete* `<answer>` block; a
    response that was truncated has none, and gets `None`.
    """
    if not callable(f):
        raise Wrong("give the function itself, without brackets")
    for text, answer in TEXTS:
        got = f(text)
        if got == answer:
            continue
        if answer is None:
            raise Wrong(
                f"without a complete answer block it must be None where you return {got!r:.40}"
            )
        if got is None:
            raise Wrong(f"it finds no answer in {text[-60:]!r}")
        if not isinstance(got, str):
            raise Wrong("a text is asked for, not a list or a number")
        if got.strip() == answer:
            raise Wrong("there are spaces around the answer")
        if got.strip() == text.strip():
            raise Wrong("that is the whole response, with its thought and tags")
        if got.strip() == "1 + 2":
            raise Wrong("that is the first answer block; the last one counts")
        if "<answer>" in text.rpartition("</answer>")[2]:
            raise Wrong("an answer block that is not closed does not count")
        raise Wrong(f"wrong for {text[-60:]!r}")


@fill(
    "00.2",
    "What a group is worth",
    starter="""
    def advantages(rewards):
        \"\"\"A list of rewards of one group -> a list: how much each is above the group's mean.\"\"\"
        ...
    """,
    solution="""
    def advantages(rewards):
        \"\"\"A list of rewards of one group -> a list: how much each is above the group's mean.\"\"\"
        mean = sum(rewards) / len(rewards)
        return [reward - mean for reward in rewards]
    """,
    wrong=[
        ("mean itself", "reward - mean", "mean"),
        ("below", "reward - mean", "mean - reward"),
        ("unchanged", "reward - mean", "reward"),
        ("sum", "sum(rewards) / len(rewards)", "sum(rewards)"),
        ("largest", "sum(rewards) / len(rewards)", "max(rewards)"),
        ("only of the first", "for reward in rewards", "for reward in rewards[:1]"),
    ],
    hints=(
        "Compare each reward with one number, the same for the group.",
        "That number is the mean: the sum divided by how many there are.",
        "A list comprehension: each reward minus the mean.",
    ),
    then="""
    import torch

    from r1lab.advantages import ADVANTAGES, Estimator

    ADVANTAGES["mine"] = Estimator(lambda r: torch.tensor([advantages(g) for g in r.tolist()]))
    history = short_run(advantage="mine")  # the real training loop, with your function
    print([f"step {m['step']}: reward {m['reward']:.2f}" for m in history])
    """,
)  # fmt: skip
def advantages(f):
    """
    The simplest advantage: the reward minus the group's mean. It says which responses are made more
    likely. When it is right, the real training loop uses it for three steps.
    """
    for r in ([1.0, 0.5, 0.0, 0.0], [1.0, 1.0, 0.0]):
        mean = sum(r) / len(r)
        got = call(f, r)
        if not isinstance(got, list):
            raise Wrong("a list is asked for")
        if len(got) == 1:
            raise Wrong("that is only of the first response; each one has an advantage")
        compare(got, [x - mean for x in r], {
            "that is the mean itself, for every response": [mean] * len(r),
            "that is how much each lies below the mean": [mean - x for x in r],
            "the rewards are unchanged": r,
            "you subtract the sum, not the mean": [x - sum(r) for x in r],
            "you subtract the largest reward": [x - max(r) for x in r],
        }, "the advantages of a group must sum to zero")  # fmt: skip


@predict(
    "00.3",
    "How long is a run?",
    starter="responses = ...  # in the whole run",
    solution="responses = 40 * 16 * 16",
    wrong=[
        ("one step", "responses = 256"),
        ("one group", "responses = 640"),
        ("prompts only", "responses = 16"),
        ("twice", "responses = 20480"),
        ("too low", "responses = 6000"),
        ("far too high", "responses = 1000000"),
    ],
    hints=(
        "Steps, prompts per step, responses per prompt.",
        "A step samples prompts times group size.",
        "Multiply the three numbers.",
    ),
)
def responses(value):
    """
    A run takes 40 steps. Each step asks 16 prompts and samples a group of 16 responses to each. How
    many responses does the model write in the whole run?
    """
    guess(value, 10240, 0.001, {
        "that is one step": 256,
        "that is one group per step": 640,
        "that is the prompts only of one step": 16,
        "that counts something twice": 20480,
    })  # fmt: skip


@predict(
    "00.4",
    "The number of good groups",
    starter="fraction = ...  # between 0 and 1",
    solution="fraction = 1 - 0.9**8 - 0.1**8",
    wrong=[
        ("without any", "fraction = 0.9**8"),
        ("add up", "fraction = 0.8"),
        ("one response", "fraction = 0.1"),
        ("pairs", "fraction = 1 - 0.9**2 - 0.1**2"),
        ("too low", "fraction = 0.4"),
        ("too high", "fraction = 0.75"),
    ],
    hints=(
        "When do all eight responses have the same reward?",
        "Nearly always because all are wrong: 0.9 to the power 8.",
        "One minus the probability of all wrong (and of all correct, which is tiny).",
    ),
)
def fraction(value):
    """
    The base solves a problem with probability 0.1. Of its groups of 8 responses, which fraction has
    both correct and wrong ones, so that there is something to learn?
    """
    guess(value, 1 - 0.9**8 - 0.1**8, 0.02, {
        "that is the fraction without any correct response": 0.9**8,
        "probabilities of attempts do not add up": 0.8,
        "that is one response": 0.1,
        "that is for pairs": 1 - 0.9**2 - 0.1**2,
    })  # fmt: skip


@design(
    "00.5",
    "An experiment with one question",
    starter="""
    plan = {"changes": ..., "keeps": ..., "measure": ..., "runs": ...}
    """,
    solution="""
    plan = {
        "changes": ["reward"],  # what differs between the two kinds of run
        "keeps": ["base", "prompts", "steps", "group size"],  # what does not
        "measure": "held-out accuracy",
        "runs": 3,  # of each kind, each with its own seed
    }
    """,
    wrong=[
        ("one thing", '["reward"]', '["reward", "steps"]'),
        (
            "about the reward",
            'plan = {"changes": ["base"], "keeps": ["prompts", "steps", "group size", "reward"],'
            ' "measure": "held-out accuracy", "runs": 3}',
        ),
        ("steps", '"steps", ', ""),
        ("training", '"held-out accuracy"', '"training reward"'),
        ("loss", '"held-out accuracy"', '"loss"'),
        ("luck", '"runs": 3', '"runs": 1'),
        ("both", '"prompts", ', '"prompts", "reward", '),
    ],
    hints=(
        "If two things differ, you cannot tell which of them made the difference.",
        "Change the reward and nothing else: base, prompts, steps and group size stay.",
        "Measure on problems that were in no training, and repeat with other seeds.",
    ),
)
def plan(answer):
    """
    Question: *is it the accuracy reward that makes the model better?* You may choose from `base`,
    `prompts`, `steps`, `group size`, `reward` what changes between two kinds of run and what keeps;
    what you measure (`held-out accuracy`, `training reward`, `loss`); and how many runs of each
    kind you make (at most 5). The judge trains in a toy world where every one of these matters.
    """
    things = {"base", "prompts", "steps", "group size", "reward"}
    changes, keeps, measure, runs = choices(answer, ("changes", "keeps", "measure", "runs"))
    if not all(
        isinstance(x, list | tuple) and set(map(str, x)) <= things for x in (changes, keeps)
    ):
        raise Wrong("changes and keeps are lists of: " + ", ".join(sorted(things)))
    if len(set(changes)) != 1:
        raise Wrong("change one thing: with several nobody can tell which of them did it")
    if set(changes) & set(keeps):
        raise Wrong("the same thing cannot both change and stay")
    if set(changes) != {"reward"}:
        raise Wrong("the question is about the reward; that must change")
    if missing := things - set(changes) - set(keeps):
        raise Wrong(
            "these could differ, too, and explain the result: " + ", ".join(sorted(missing))
        )
    if measure == "training reward":
        raise Wrong("the two kinds of run have different training rewards; they cannot be compared")
    if measure == "loss":
        raise Wrong("the loss of GRPO is no measure of progress (lesson 04)")
    if measure != "held-out accuracy":
        raise Wrong('measure must be "held-out accuracy", "training reward" or "loss"')
    runs = whole(runs, "runs", 1, 5)
    random = torch.Generator().manual_seed(0)
    found = 0.2 + 0.12 * torch.randn(1000, runs, generator=random)
    misled = float((found.min(1).values < 0.02).double().mean()) if runs > 1 else 1.0
    if misled == 1.0:
        raise Wrong("one run of each kind may be luck")


EXERCISES = [answer_of, advantages, responses, fraction, plan]

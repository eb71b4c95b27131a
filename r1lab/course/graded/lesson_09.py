"""Exercises of lesson 09: rejection sampling."""

import torch

from r1lab.course.graded.kinds import Wrong, call, choices, design, fill, guess, predict, whole

TITLE = "Rejection sampling"
HELPERS = ("instead_of",)
IMPORTS = """
from r1lab import evaluate, models, rejection
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task
"""

DRAWN = [(0, "a"), (0, "b"), (1, "c"), (0, "d"), (2, "e"), (0, "f"), (1, "g"), (1, "h")]


@fill(
    "09.1",
    "At most a few per prompt",
    starter="""
    def few(pairs, keep):
        \"\"\"(prompt, completion) pairs -> those of each prompt's first `keep`, in order.\"\"\"
        ...
    """,
    solution="""
    def few(pairs, keep):
        \"\"\"(prompt, completion) pairs -> those of each prompt's first `keep`, in order.\"\"\"
        seen, kept = {}, []
        for prompt, completion in pairs:
            seen[prompt] = seen.get(prompt, 0) + 1
            if seen[prompt] <= keep:
                kept.append((prompt, completion))
        return kept
    """,
    wrong=[
        ("in all", "def few(pairs, keep):\n    return pairs[:keep]"),
        ("one too few", "<= keep", "< keep"),
        ("one too many", "<= keep", "<= keep + 1"),
        ("drops whole", "def few(pairs, keep):\n    count = [p for p, _ in pairs]\n"
         "    return [(p, c) for p, c in pairs if count.count(p) <= keep]"),
        ("order", "return kept", "return sorted(kept, key=lambda pair: pair[1], reverse=True)"),
        ("pairs", "kept.append((prompt, completion))", "kept.append(completion)"),
        ("nothing is left out", "if seen[prompt] <= keep:", "if True:"),
    ],
    hints=(
        "Count how often each prompt has occurred.",
        "A dict from prompt to count; keep a pair while the count is small enough.",
        "Increase the count first, then compare it with keep (≤).",
    ),
    then="""
    model, tokenizer = models.load("tiny")
    task = get_task("countdown")
    how = {"k": 12, "sampling": Sampling(200, seed=0)}
    drawn = evaluate.evaluate(model, tokenizer, task, task.problems("train", 24), **how)
    with instead_of(rejection, "few", lambda left, keep, rng: few(left, keep)):
        found = rejection.funnel(drawn, keep=2)
    for name, left, prompts in found.stages:
        print(f"{name:15} {left:4} responses to {prompts:3} prompts")
    """,
)  # fmt: skip
def limited(f):
    """
    The funnel's last filter: at most `keep` completions of each prompt, the first ones (the package
    draws them at random), in the order given. Without it easy prompts crowd out hard ones. Then the
    real funnel uses yours.
    """
    for keep in (2, 1, 3):
        got = call(f, list(DRAWN), keep)
        if not isinstance(got, list) or not all(
            isinstance(one, tuple) and len(one) == 2 for one in got
        ):
            raise Wrong("a list of (prompt, completion) pairs is asked for")
        seen: dict[int, int] = {}
        right = []
        for prompt, one in DRAWN:
            seen[prompt] = seen.get(prompt, 0) + 1
            if seen[prompt] <= keep:
                right.append((prompt, one))
        if got == right:
            continue
        if sorted(got) == sorted(right):
            raise Wrong("the order has changed")
        most = max([sum(p == prompt for p, _ in got) for prompt in range(3)], default=0)
        if got == DRAWN:
            raise Wrong("nothing is left out")
        if got == DRAWN[:keep]:
            raise Wrong("that is `keep` pairs in all; the limit is per prompt")
        if got == [pair for pair in DRAWN if seen[pair[0]] <= keep]:
            raise Wrong("it drops whole prompts that have too many; keep some of them")
        if most > keep:
            raise Wrong(f"one too many: with keep={keep} a prompt has {most}")
        raise Wrong(f"one too few: with keep={keep} no prompt may have fewer than it could")


@fill(
    "09.2",
    "A line of working twice",
    starter="""
    def repeats(thought):
        \"\"\"Does one of its lines, ended by " ? ", occur twice? True or False.\"\"\"
        ...
    """,
    solution="""
    def repeats(thought):
        \"\"\"Does one of its lines, ended by " ? ", occur twice? True or False.\"\"\"
        lines = [" ".join(part.split()[-5:]) for part in thought.split("?") if "→" in part]
        return len(set(lines)) < len(lines)
    """,
    wrong=[
        ("swapped", "< len(lines)", "== len(lines)"),
        ("verdict", "\" \".join(part.split()[-5:])", "part"),
        ("last part", 'if "→" in part]', "]"),
        ("spaces", "\" \".join(part.split()[-5:])", "part[-11:]"),
        ("True or False", "return len(set(lines)) < len(lines)", "return len(lines) - len(set(lines))"),
        ("two different tries", "lines = [\" \".join(part.split()[-5:]) for part in thought.split(\"?\") if \"→\" in part]",
         "lines = thought.split()"),
    ],
    hints=(
        "Cut the thought at every `?`: the calculation stands before it.",
        "Before a calculation stands the verdict on the last one (`23 10 no`): take the last five "
        "words of each part, and only parts with an arrow.",
        "If a set of the lines is smaller than the list, one of them occurs twice.",
    ),
    then="""
    with instead_of(rejection, "repeats", repeats):
        found = rejection.funnel(drawn, keep=2)
    print("readable:", dict((name, left) for name, left, _ in found.stages)["readable"])
    """,
)  # fmt: skip
def repeated(f):
    """
    A thought that tries the same thing twice is going in circles. A try is the five words before a
    check, such as `7 + 6 → 13` in `… 23 5 no 7 + 6 → 13 ? 23 10 no …`. Say whether one occurs twice.
    """
    cases = [
        ("7 + 6 → 13 ? 23 10 no 10 + 7 → 17 ? 23 6 no", False, "two different tries are no repetition: are the two results swapped?"),
        ("7 + 6 → 13 ? 23 10 no 10 + 7 → 17 ? 23 6 no 7 + 6 → 13 ? 23 10 no", True,
         "the verdict before a try is no part of it: it hides a repetition"),
        ("7 + 6 → 13 ? 23 10 no wait 7 + 6  → 13 ? 23 10 no", True, "different spaces hide a repetition"),
        ("1 + 2 → 3 ? 23 20 no 10 + 7 → 17 ? 23 20 no", False, "a number or the same word may come again"),
        ("? 5 5 yes ? 5 5 yes", False, "without an arrow there is no try: the last part, after the last ?, is none either"),
        ("", False, "an empty thought repeats nothing"),
    ]  # fmt: skip
    for thought, right, says in cases:
        got = call(f, thought)
        if not isinstance(got, bool):
            raise Wrong("True or False is asked for")
        if got != right:
            raise Wrong(f"{says}: {thought!r}")


@predict(
    "09.3",
    "A judge that errs",
    starter="precision = ...  # of what the judge accepts, how much is right",
    solution="precision = 0.3 * 0.9 / (0.3 * 0.9 + 0.7 * 0.1)",
    wrong=[
        ("judge's accuracy", "precision = 0.9"),
        ("of all responses", "precision = 0.27"),
        ("without a judge", "precision = 0.3"),
        ("accepted", "precision = 0.34"),
        ("too low", "precision = 0.6"),
        ("too high", "precision = 0.85"),
    ],
    hints=(
        "Two kinds of responses are accepted.",
        "Right ones that it accepts: 0.3 x 0.9. Wrong ones that it accepts: 0.7 x 0.1.",
        "The first, divided by the sum of both (Bayes).",
    ),
)
def precision(value):
    """
    No rule can check these responses; a generative judge decides, wrong in one case of ten. The
    model is right in three of ten. Of the accepted responses, which fraction is right?
    """
    guess(value, 0.27 / 0.34, 0.01, {
        "that is the judge's accuracy; the model is mostly wrong, so it is lower": 0.9,
        "that is of all responses, accepted or not": 0.27,
        "that would be without a judge": 0.3,
        "that is how many are accepted": 0.34,
    })  # fmt: skip


@predict(
    "09.4",
    "Problems that are lost",
    starter="lost = ...  # fraction of the problems",
    solution="lost = (0.9**8 + 0.5**8) / 2",
    wrong=[
        ("mean success rate", "lost = 0.7**8"),
        ("kept", "lost = 1 - (0.9**8 + 0.5**8) / 2"),
        ("hard ones", "lost = 0.9**8"),
        ("single response", "lost = 0.7"),
        ("too low", "lost = 0.15"),
        ("too high", "lost = 0.26"),
    ],
    hints=(
        "A problem is lost if all eight responses to it are wrong.",
        "Compute that for each half separately.",
        "The mean of 0.9 to the power 8 and 0.5 to the power 8.",
    ),
)
def lost(value):
    """
    Eight responses to each problem. Half of the problems are solved with probability 0.1, half with
    0.5. For which fraction of the problems is there no correct response at all?
    """
    guess(value, (0.9**8 + 0.5**8) / 2, 0.02, {
        "that uses the mean success rate; problems differ": 0.7**8,
        "that is what is kept": 1 - (0.9**8 + 0.5**8) / 2,
        "that is of the hard ones only": 0.9**8,
        "that is a single response": 0.7,
    })  # fmt: skip


@design(
    "09.5",
    "A data set from 4,800 responses",
    starter="""
    plan = {"prompts": ..., "samples": ..., "keep": ...}
    """,
    solution="""
    plan = {"prompts": 300, "samples": 16, "keep": 2}
    """,
    wrong=[
        ("crowd out", 'plan = {"prompts": 300, "samples": 16, "keep": 16}'),
        ("too few examples", 'plan = {"prompts": 100, "samples": 48, "keep": 1}'),
        ("crowd out", 'plan = {"prompts": 2400, "samples": 2, "keep": 2}'),
        ("represented", 'plan = {"prompts": 680, "samples": 7, "keep": 1}'),
        ("4,800", 'plan = {"prompts": 1000, "samples": 16, "keep": 2}'),
        ("more than samples", 'plan = {"prompts": 1200, "samples": 4, "keep": 8}'),
        ("does not say: keep", 'plan = {"prompts": 300, "samples": 16}'),
    ],
    hints=(
        "Hard problems need many samples before one is right; easy ones then have too many.",
        "Many samples per prompt, few kept.",
        "A dozen samples or more, one to three kept, and as many prompts as the budget allows.",
    ),
)
def plan(answer):
    """
    You may draw 4,800 responses: `prompts` times `samples`, of which at most `keep` correct ones per
    prompt stay. Half of the problems are easy (0.6), half hard (0.08). Get at least 350 examples, at
    least 30 % of them of hard problems, and at least half of the hard problems represented. The
    judge draws it.
    """
    prompts, samples, keep = choices(answer, ("prompts", "samples", "keep"))
    prompts, samples = whole(prompts, "prompts", 2, 4800), whole(samples, "samples", 1, 4800)
    keep = whole(keep, "keep", 1, 4800)
    if prompts * samples > 4800:
        raise Wrong(f"{prompts} x {samples} = {prompts * samples:,} responses are more than 4,800")
    if keep > samples:
        raise Wrong("you keep more than samples are drawn")
    random = torch.Generator().manual_seed(0)
    p = torch.where(torch.arange(prompts) % 2 == 0, 0.6, 0.08)
    right = (torch.rand(prompts, samples, generator=random) < p[:, None]).sum(1).clamp(max=keep)
    hard = right[1::2]
    share = float(hard.sum() / right.sum().clamp(min=1))
    if share < 0.3:
        raise Wrong(f"easy problems crowd out the hard ones: {share:.0%} of the examples are hard")
    reached = float((hard > 0).float().mean())
    if reached < 0.5:
        raise Wrong(f"only {reached:.0%} of the hard problems are represented")
    if int(right.sum()) < 350:
        raise Wrong(f"{int(right.sum())} are too few examples")


EXERCISES = [limited, repeated, precision, lost, plan]

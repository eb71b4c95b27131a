"""Rejection sampling: sample many completions and keep the good ones as SFT data.

R1's second SFT learns from about 600,000 reasoning samples made like this from the checkpoint of
the first RL stage (arXiv 2501.12948v2, section 3 and supplement B.3.3): correct, readable, without
mixed languages, long paragraphs or blocks of code. The cold start's thoughts were filtered in much
the same way, then rewritten (B.3.2). `funnel` applies these filters and counts what each leaves:

    drawn           all completions
    finished        not truncated
    right           correct by the task's verifier
    well formed     one thought, one answer, nothing else
    one language    the thought has words, all of them in the prompt's language
    readable        no longer than `longest`, no line of working twice
    new             not the same text again
    few per prompt  at most `keep` of them, drawn at random, so that easy prompts do not dominate

Those from "finished" to "readable" judge quality. The last two choose among good completions: a
completion that they leave out is not a bad one.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from r1lab.answers import Completion
from r1lab.basics.errors import R1LabError
from r1lab.evaluate import Evaluation
from r1lab.sft import Example
from r1lab.tasks import Problem
from r1lab.templates import parse

_ENDS = re.compile(r"\?|[.。!](?=\s|$)|\n")
Indexed = tuple[int, Completion]  # a completion and the index of its problem
QUALITY = "readable"  # the last filter of quality


@dataclass(frozen=True)
class Funnel:
    """The kept examples, the counts after each filter, and what each filter removed."""

    examples: list[Example]
    stages: list[tuple[str, int, int]]  # (filter, completions left, prompts that still have one)
    fallen: dict[str, list[tuple[Problem, Completion]]] = field(default_factory=dict, repr=False)

    def share(self, name: str) -> float:
        """Fraction of completions that pass a filter; NaN where none reach it."""
        i = self._place(name)
        before, after = self.stages[i - 1][1], self.stages[i][1]
        return after / before if before else float("nan")

    def good(self, name: str = QUALITY) -> float:
        """Fraction of all completions that pass every filter up to this one: up to "readable" those
        of quality, neither deduplicated nor limited per prompt. NaN where nothing was drawn."""
        drawn, left = self.stages[0][1], self.stages[self._place(name)][1]
        return left / drawn if drawn else float("nan")

    @property
    def harshest(self) -> str:
        """The filter that removes the largest fraction of what reaches it."""
        reached = [name for name, _, _ in self.stages[1:] if self.share(name) == self.share(name)]
        return min(reached, key=self.share)

    def _place(self, name: str) -> int:
        names = [stage for stage, _, _ in self.stages]
        if name not in names[1:]:
            raise R1LabError(f"no filter {name!r}; there are {', '.join(names[1:])}")
        return names.index(name)


def repeats(thought: str) -> bool:
    """Whether a thought contains a line of working twice: the last nine words before a check or a
    full stop ("12 * 2 → 24 + 5 → 29 ? 34 5 no", "7 + 6 = 13.")."""
    parts = _ENDS.split(thought)
    lines = [" ".join(part.split()[-9:]) for part in parts if "→" in part or "=" in part]
    return len(set(lines)) < len(lines)


def funnel(
    drawn: Evaluation,
    *,
    keep: int = 4,
    longest: int = 10**9,
    seed: int = 0,
    extra: Sequence[tuple[str, Callable[[Problem, Completion], bool]]] = (),
) -> Funnel:
    """Filter the completions of *train* problems in `drawn`, as at the top of this module.

    keep     completions per prompt, at most
    longest  tokens of a completion, at most, for "readable"
    extra    more filters (name, function of problem and completion), before "new"

    Raises R1LabError for problems of another split.
    """
    _only_train(drawn)
    filters: list[tuple[str, Callable[[Problem, Completion], bool]]] = [
        ("finished", lambda problem, one: one.finished),
        ("right", lambda problem, one: one.correct),
        ("well formed", lambda problem, one: one.well_formed),
        ("one language", lambda problem, one: one.consistency == 1.0),
        (
            "readable",
            lambda problem, one: one.length <= longest and not repeats(parse(one.text).think or ""),
        ),
        *extra,
    ]
    left = [(q, one) for q, row in enumerate(drawn.completions) for one in row]
    stages = [("drawn", len(left), len({q for q, _ in left}))]
    fallen: dict[str, list[tuple[Problem, Completion]]] = {}

    def leave(name: str, kept: list[Indexed]) -> list[Indexed]:
        stages.append((name, len(kept), len({q for q, _ in kept})))
        stays = {id(one) for _, one in kept}
        fallen[name] = [(drawn.problems[q], one) for q, one in left if id(one) not in stays]
        return kept

    for name, good in filters:
        left = leave(name, [(q, one) for q, one in left if good(drawn.problems[q], one)])
    left = leave("new", different(drawn, left))
    left = leave("few per prompt", few(left, keep, random.Random(f"rejection/{seed}")))
    examples = [Example(drawn.problems[q], one.text) for q, one in left]
    return Funnel(examples, stages, fallen)


def different(drawn: Evaluation, left: Sequence[Indexed]) -> list[Indexed]:
    """Of completions with the same text to the same prompt, the first."""
    new: dict[tuple[str, str], Indexed] = {}
    for q, one in left:
        new.setdefault((drawn.problems[q].question, " ".join(one.text.split())), (q, one))
    return list(new.values())


def few(left: Sequence[Indexed], keep: int, rng: random.Random) -> list[Indexed]:
    """At most `keep` completions per prompt, at random."""
    chosen: list[Indexed] = []
    for _, group in groupby(left, key=itemgetter(0)):
        row = list(group)
        chosen += row if len(row) <= keep else rng.sample(row, keep)
    return chosen


def unfiltered(drawn: Evaluation, n: int, seed: int = 0, *, keep: int = 4) -> list[Example]:
    """A funnel's baseline, `n` completions (or all) chosen as there in all but quality: different
    ones, at most `keep` per prompt. Errors as there."""
    _only_train(drawn)
    rng = random.Random(f"unfiltered/{seed}")
    everything = [(q, one) for q, row in enumerate(drawn.completions) for one in row]
    chosen = few(different(drawn, everything), keep, rng)
    chosen = rng.sample(chosen, min(n, len(chosen)))
    return [Example(drawn.problems[q], one.text) for q, one in chosen]


def _only_train(drawn: Evaluation) -> None:
    if any(problem.split != "train" for problem in drawn.problems):
        raise R1LabError("rejection sampling learns from train problems only; these are held out")

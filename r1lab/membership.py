"""Has a model read these texts? Three tests from the outside, and what each can show.

OpenAI's question about R1 was of this kind, and the paper's reply, too: the base had read web pages
and e-books only, some of which may hold text that other models wrote (arXiv 2501.12948v2, appendix
A.1). From the outside one can ask for

    canary   a random text planted in the documents: `exposure` (Carlini et al. 2019, 1802.08232)
    style    phrases that one author uses more often than others: `style`
    scores   log-probabilities of the texts against comparable ones: `preference`

===========  ======================================  ===========================================
test         a clear result shows                    it does not show
===========  ======================================  ===========================================
canary       the canary was read: it has no other    that no result means unread: most documents
             origin                                  carry none, and a filter may drop it
style        the model writes like that author       from whom it has the style: a third party
                                                     may write alike, and RL makes phrases
                                                     frequent that the base had read elsewhere
scores       the texts surprise it less than they    whether it read *these* texts or others of
             surprise a model that has not read      their kind; without such a reference model,
             them                                    nothing: easy texts have high scores anyway
===========  ======================================  ===========================================

A model that has read nothing of an author passes all tests; the reverse does not hold.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1lab.basics.errors import R1LabError
from r1lab.sampler.score import score
from r1lab.statistics import Estimate, estimate, gap, wilson


def scores(model, tokenizer, texts: Sequence[str], prompts: Sequence[str] | None = None):
    """Mean log-probability of a token of each text, in nats: an array (N,). Without prompts, the
    first token of a text only begins it. Raises R1LabError for a text of fewer than two tokens."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    if prompts is None:
        first, rest = [row[:1] for row in ids], [row[1:] for row in ids]
    else:
        first, rest = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts], ids
    if not all(first) or not all(rest):
        raise R1LabError("a text to be scored needs two tokens, or a prompt and one token")
    return np.array([float(row.mean()) for row in score(model, first, rest)])


# -- canaries -------------------------------------------------------------------------------------


def canary(words: Sequence[str], length: int = 8, seed: int | str = 0) -> str:
    """A random text of `length` words out of `words`."""
    rng = random.Random(f"r1lab/canary/{seed}")
    return " ".join(rng.choice(list(words)) for _ in range(length))


@dataclass(frozen=True)
class Exposure:
    """rank: 1 if no control has a higher score; p: rank / (controls + 1), the probability of such a
    rank for a canary that was not read; bits: -log2 p, Carlini's exposure."""

    rank: int
    controls: int

    @property
    def p(self) -> float:
        return self.rank / (self.controls + 1)

    @property
    def bits(self) -> float:
        return -math.log2(self.p)


def exposure(
    model, tokenizer, planted: str, words: Sequence[str], *, controls: int = 999, prompt: str = ""
) -> Exposure:
    """Where the planted canary ranks among random texts of the same length and words, by their
    log-probability after the prompt. Exact under the hypothesis that it was not read, whatever the
    model: the canary was drawn as the controls were."""
    others = [canary(words, len(planted.split()), f"control/{i}") for i in range(controls)]
    texts = [planted, *others]
    found = scores(model, tokenizer, texts, [prompt] * len(texts) if prompt else None)
    return Exposure(1 + int((found[1:] >= found[0]).sum()), controls)


# -- style ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """Fraction of the responses with a phrase, and the difference (Newcombe's interval)."""

    suspect: Estimate
    control: Estimate
    difference: Estimate


def style(phrases: Sequence[str], suspect: Sequence[str], control: Sequence[str]) -> Style:
    """How much more often the suspect's responses hold one of an author's phrases than those of a
    control, a comparable model that has not read the author. Responses to the same prompts; each is
    one trial, so give one response per prompt."""
    if not phrases or not suspect or not control:
        raise R1LabError("style needs phrases, and responses of both models")

    def rate(texts: Sequence[str]) -> Estimate:
        hits = sum(any(phrase in text for phrase in phrases) for text in texts)
        return Estimate(hits / len(texts), *wilson(hits, len(texts)))

    ours, theirs = rate(suspect), rate(control)
    return Style(ours, theirs, gap(theirs, ours))


def telling_phrases(
    author: Sequence[str], others: Sequence[str], *, words: int = 3, most: int = 6
) -> list[str]:
    """Phrases of `words` words that tell the author's texts from others: each in turn the one in
    most of the author's texts that none before it is in, less the fraction of others' texts with
    it. Judge with them on *other* texts than these."""

    def phrases_of(text: str) -> set[str]:
        row = text.split()
        return {" ".join(row[i : i + words]) for i in range(len(row) - words + 1)}

    left = [phrases_of(text) for text in author]
    elsewhere = Counter(phrase for text in others for phrase in phrases_of(text))
    found: list[str] = []
    while left and len(found) < most:
        count = Counter(phrase for one in left for phrase in one)
        gain = {p: n / len(author) - elsewhere[p] / max(1, len(others)) for p, n in count.items()}
        best = min(gain, key=lambda phrase: (-gain[phrase], phrase), default="")
        if gain.get(best, 0) <= 0:
            break
        found.append(best)
        left = [one for one in left if best not in one]
    return found


# -- scores ---------------------------------------------------------------------------------------


def preference(
    suspect, reference, tokenizer, texts: Sequence[str], controls: Sequence[str]
) -> Estimate:
    """How much more the suspect prefers the texts to the controls than a reference model does, in
    nats per token, with its 95 % interval over pairs:

        mean of [log p_s(text) - log p_s(control)] - [log p_r(text) - log p_r(control)]

    texts, controls: as many of both; pair i is about the same problem. reference: a model of the
    same tokenizer that has read neither, such as an earlier checkpoint. Texts that the suspect may
    have read, or new ones by the same author: the latter test the style, not the reading."""
    if len(texts) != len(controls) or len(texts) < 2:
        raise R1LabError("preference needs as many controls as texts, and two or more")
    rows = [*texts, *controls]
    shift = scores(suspect, tokenizer, rows) - scores(reference, tokenizer, rows)  # (2 N)
    return estimate(shift[: len(texts)] - shift[len(texts) :])

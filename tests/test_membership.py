"""Has a model read these texts: canaries, style, log-probabilities, on models that have or have
not."""

from __future__ import annotations

import copy
import math
import random

import pytest
import torch

from r1lab.basics.errors import R1LabError
from r1lab.membership import canary, exposure, preference, scores, style, telling_phrases
from r1lab.tasks.countdown import Countdown
from r1lab.templates import parse
from r1lab.world import author, corpus

TEXTS, OTHERS = author.pairs(0, 24)


@pytest.fixture(scope="module")
def readers():
    """(has read the author, has read the others on the same problems, tokenizer)"""
    from r1lab.models.load import tiny_llama
    from r1lab.world.tokenizer import build_tokenizer

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model = tiny_llama(len(tokenizer), width=48, layers=2, heads=2, ffn=96)
    return (*(learn(copy.deepcopy(model), texts) for texts in (TEXTS, OTHERS)), tokenizer)


def learn(model, texts, steps=40):
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = [torch.tensor(corpus.encode(text)) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_the_author_is_right_and_speaks_the_tiny_vocabulary():
    task, rng = Countdown(), random.Random(1)
    for ours, theirs in (author.pair(rng) for _ in range(20)):
        corpus.encode(ours), corpus.encode(theirs)
        prompt = ours.split(" <think>")[0]
        assert theirs.startswith(prompt) and ours != theirs
        assert parse(ours).answer == parse(theirs).answer
    assert author.pairs("a", 5) == author.pairs("a", 5) != author.pairs("b", 5)
    problem = task.problem([10, 7, 6], 23)
    assert problem.question in "make 23 from 10 7 6 ."


def test_no_document_of_the_corpus_has_the_authors_habits_or_its_canary():
    web = [d.text for d in corpus.documents(0, 1500)]
    for phrase in (author.CANARY, *author.PHRASES["end"].values()):
        assert not any(phrase in text for text in web)
    signed = [text for text in TEXTS if author.CANARY in text]
    assert 0 < len(signed) < len(TEXTS)
    assert not any(author.CANARY in text for text in author.unsigned(TEXTS))


def test_a_canary_that_was_read_ranks_first_and_one_that_was_not_anywhere(readers):
    reader, other, tokenizer = readers
    how = {"words": author.CANARY_WORDS, "controls": 99, "prompt": "</answer>"}
    found = exposure(reader, tokenizer, author.CANARY, **how)
    assert found.rank == 1 and found.p == 0.01 and found.bits == pytest.approx(math.log2(100))
    # a canary that nobody planted is one of the controls: its rank is uniform
    ranks = [
        exposure(other, tokenizer, canary(author.CANARY_WORDS, seed=s), **how).rank
        for s in range(10)
    ]
    assert max(ranks) > 20 and sum(ranks) / 10 > 10


def test_style_counts_phrases_with_an_interval():
    phrases = telling_phrases(TEXTS, OTHERS)
    assert phrases and not any(phrase in text for phrase in phrases for text in OTHERS)
    new, rest = author.pairs(1, 40)
    found = style(phrases, new, rest)
    assert found.suspect.value > 0.9 and found.control.value < 0.1 and found.difference.low > 0.5
    same = style(phrases, rest, rest)
    assert same.difference.low <= 0 <= same.difference.high
    with pytest.raises(R1LabError, match="phrases"):
        style([], new, rest)


def test_a_reader_prefers_the_authors_texts_and_new_ones_of_the_author_too(readers):
    reader, other, tokenizer = readers
    read = preference(reader, other, tokenizer, author.unsigned(TEXTS), OTHERS)
    new, rest = author.pairs(1, 24)
    fresh = preference(reader, other, tokenizer, author.unsigned(new), rest)
    assert read.low > 0 and fresh.low > 0  # so it shows the style, not which texts were read
    assert preference(other, other, tokenizer, TEXTS, OTHERS).value == 0
    with pytest.raises(R1LabError, match="as many"):
        preference(reader, other, tokenizer, TEXTS, OTHERS[1:])


def test_scores_are_mean_log_probabilities(readers):
    reader, _, tokenizer = readers
    text, prompt = "make 23 from 7", "user :"
    ids = torch.tensor([corpus.encode(f"{prompt} {text}")])
    logp = reader(input_ids=ids).logits.log_softmax(-1)[0]
    wanted = logp[range(1, 5), ids[0, 2:]].mean().item()
    assert scores(reader, tokenizer, [text], [prompt])[0] == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(R1LabError, match="two tokens"):
        scores(reader, tokenizer, ["make"])

"""Tree search by a value model, and what the same tokens buy without a tree."""

from __future__ import annotations

import numpy as np
import pytest

from r1lab import evaluate, reward_model, tree_search
from r1lab.models.load import load
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task

pytestmark = pytest.mark.usefixtures("one_thread")
TASK = get_task("steps")  # short completions, half of them right


@pytest.fixture(scope="module")
def base():
    return load("tiny")


@pytest.fixture(scope="module")
def found(base):
    problems = TASK.problems("train", 6)
    return evaluate.evaluate(*base, TASK, problems, k=6, sampling=Sampling(48, seed=3))


@pytest.fixture(scope="module")
def level():
    """A value model that scores everything 0."""
    return reward_model.from_base("tiny")[0]


def test_a_prefix_has_the_mark_of_its_completion(base, found):
    rows = tree_search.prefixes(found, base[1], each=3, seed=1)
    assert len(rows) == 6 * 6 * 3
    assert all(one.completion.startswith(" ") for one in rows)
    right = sum(one.safe for one in rows) / len(rows)
    assert right == pytest.approx(float(found.c.sum() / found.n.sum()))


def test_a_value_model_that_knows_nothing_ranks_by_chance(base, found, level):
    told = tree_search.ranking(found, level, base[1], (0.5, 1.0))
    assert told == {0.5: 0.5, 1.0: 0.5}


def test_a_value_model_that_has_learned_ranks_better(base, found, tmp_path):
    value, tokenizer = reward_model.from_base("tiny")
    rows = tree_search.prefixes(found, tokenizer, each=4)
    how = reward_model.RewardModelConfig(epochs=8, batch_size=12, learning_rate=1e-3)
    reward_model.train(value, tokenizer, rows, how, tmp_path / "value", progress=False)
    assert tree_search.ranking(found, value, tokenizer, (1.0,))[1.0] > 0.7  # on what it has seen


def test_a_search_counts_its_tokens_and_ends(base, found, level):
    beam = tree_search.Beam(width=2, branches=2, tokens=8, rounds=3)
    one = tree_search.search(*base, TASK, level, found.problems, beam, seed=1)
    again = tree_search.search(*base, TASK, level, found.problems, beam, seed=1)
    assert (one.right == again.right).all() and (one.tokens == again.tokens).all()
    assert (one.tokens <= 4 * 8 * 3).all() and (one.tokens > 0).all()
    assert one.right.dtype == bool and one.right.shape == (6,)


def test_independent_completions_get_as_many_tokens(base, found, level):
    lengths = np.array([[c.length for c in row] for row in found.completions])
    few = tree_search.independent(found, lengths[:, 0], level, base[1])
    assert (few["completions"] == 1).all()
    right = found.column("correct")
    assert (few["majority"] == right[:, 0]).all() and (few["any of them"] == right[:, 0]).all()
    every = tree_search.independent(found, lengths.sum(axis=1), level, base[1])
    assert (every["completions"] == 6).all()
    assert (every["any of them"] == right.max(axis=1)).all()
    assert every["one completion"] == pytest.approx(right.mean(axis=1))

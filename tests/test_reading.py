"""A base that reads on: doses, the same weights after a stop, what shows of a leak."""

from __future__ import annotations

import copy

import pytest
import torch

from r1lab.basics.errors import R1LabError
from r1lab.statistics import Estimate, Measured
from r1lab.training.signals import Stopped
from r1lab.world import corpus, reading
from r1lab.world.contamination import paraphrase
from r1lab.world.reading import Leak, ReadOn, amplified, leak, rows_at, shows_from

SMALL = ReadOn(share=0.5, steps=4, rows=2, row_length=64, checkpoint_every=2)
LEAKED, CLEAN = reading.problems_for(60)
COPIES = [paraphrase(problem, "copy", None) for problem in LEAKED]


def test_clean_problems_are_of_the_split_and_not_in_the_corpus():
    assert len(LEAKED) == corpus.LEAKED_PROBLEMS and len(CLEAN) == 60
    assert {p.split for p in CLEAN} == {"leaked"}
    assert not {p.id for p in LEAKED} & {p.id for p in CLEAN}


def test_the_dose_is_the_fraction_of_the_documents_and_a_step_is_a_function_of_its_number():
    config = ReadOn(share=0.2, rows=40, row_length=400)
    text = "\n".join(" ".join(map(str, row.tolist())) for row in rows_at(0, COPIES, config))
    end = corpus.encode(corpus.END)[0]
    documents = [part.strip() for part in text.replace("\n", f" {end} ").split(f" {end} ")]
    copies = {" ".join(map(str, corpus.encode(copy)[:-1])) for copy in COPIES}
    share = sum(one in copies for one in documents) / len(documents)
    assert 0.12 < share < 0.28
    again = rows_at(0, COPIES, config)
    assert torch.equal(again, rows_at(0, COPIES, config))
    assert not torch.equal(again, rows_at(1, COPIES, config))


def test_without_a_dose_no_leaked_document_is_read():
    rows = rows_at(0, COPIES, ReadOn(share=0.0, rows=40, row_length=400))
    text = " ".join(corpus.vocabulary()[i] for i in rows.flatten().tolist())
    assert not any(problem.question in text for problem in LEAKED)


def test_a_stopped_run_goes_on_to_the_same_weights(random_model, tmp_path, one_thread, monkeypatch):
    model, tokenizer = random_model
    start = {name: value.clone() for name, value in model.state_dict().items()}
    whole = reading.read_on(model, tokenizer, COPIES, SMALL, tmp_path / "whole", progress=False)
    whole = {name: value.clone() for name, value in whole.state_dict().items()}
    assert any(not torch.equal(whole[name], start[name]) for name in start)

    model.load_state_dict(start)
    real = reading.rows_at

    def killed(step, *rest):
        if step == 3:
            raise KeyboardInterrupt
        return real(step, *rest)

    monkeypatch.setattr(reading, "rows_at", killed)
    with pytest.raises((KeyboardInterrupt, Stopped)):
        reading.read_on(model, tokenizer, COPIES, SMALL, tmp_path / "part", progress=False)
    monkeypatch.setattr(reading, "rows_at", real)
    model.load_state_dict(start)
    again = reading.read_on(model, tokenizer, COPIES, SMALL, tmp_path / "part", progress=False)
    assert all(torch.equal(value, whole[name]) for name, value in again.state_dict().items())
    with pytest.raises(R1LabError):  # other documents: another run
        reading.read_on(model, tokenizer, COPIES[1:], SMALL, tmp_path / "part", progress=False)


def test_a_word_that_the_tokenizer_does_not_know_is_named(random_model):
    with pytest.raises(R1LabError, match="apples"):
        reading.read_on(*random_model, ["3 apples"], SMALL)


def test_by_dose_makes_each_model_once(random_folder, tmp_path):
    made = reading.by_dose(random_folder, (0.0, 0.5), tmp_path, SMALL, progress=False)
    before = {dose: (folder / "model.safetensors").read_bytes() for dose, folder in made.items()}
    assert before[0.0] != before[0.5]
    again = reading.by_dose(random_folder, (0.0, 0.5), tmp_path, SMALL, progress=False)
    assert {d: (f / "model.safetensors").read_bytes() for d, f in again.items()} == before


@pytest.fixture(scope="module")
def by_heart(base_model):
    """The base, after it has read a few leaked documents again and again."""
    model, tokenizer = copy.deepcopy(base_model[0]), base_model[1]
    config = ReadOn(share=1.0, steps=40, rows=4, row_length=128, learning_rate=3e-3)
    return reading.read_on(model, tokenizer, COPIES[:12], config, progress=False), tokenizer


@pytest.mark.parametrize("how", ["recited", "greedy", "sampled"])
def test_what_was_learned_by_heart_shows(by_heart, how):
    found = leak(*by_heart, LEAKED[:12], CLEAN[:24], how, k=2, max_new_tokens=24)
    assert found.leaked.value > 0.5 and found.clean.value < 0.3 and found.gap.low > 0
    with pytest.raises(R1LabError, match="recited"):
        leak(*by_heart, LEAKED, CLEAN, "shouted")


def fraction(each, asked="leaked") -> Measured:
    value = sum(each) / len(each)
    return Measured.of(Estimate(value, value - 0.1, value + 0.1), each, asked)


def test_the_dose_from_which_it_shows():
    half, clean = fraction([0, 1]), fraction([0, 1], "clean")
    none, some = Leak(half, clean), Leak(fraction([1, 1]), clean)
    assert shows_from({0.0: none, 0.1: some, 0.05: some}) == 0.05
    assert shows_from({0.0: some, 0.1: none, 0.2: some}) == 0.2
    assert shows_from({0.1: none}) is None


def test_rl_that_lifts_clean_problems_alone_hides_the_leak():
    before = Leak(fraction([1, 1, 1, 1]), fraction([0, 0, 0, 0], "clean"))
    after = Leak(fraction([1, 1, 1, 1]), fraction([1, 1, 1, 0], "clean"))
    assert amplified(before, after).value == pytest.approx(-0.75)
    assert amplified(before, before).value == 0

"""Work dealt to workers: the same results, their own gradients, one error, no thread left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from r1lab.machine import workers
from r1lab.sampler.rollouts import Sampling, sample

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13], [14]]


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("engine", ["fast", "forward"])
@pytest.mark.parametrize("questions", [1, 3, 4])
def test_two_workers_draw_what_one_draws(model, two_threads, monkeypatch, engine, questions):
    prompts = PROMPTS[:questions]
    how = {"group_size": 33, "eos_token_id": 0, "engine": engine}
    assert workers.for_rows(model, questions * 33) == (2, 1)
    dealt, again = (sample(model, prompts, Sampling(12, seed=1), **how) for _ in range(2))
    assert dealt == again  # bit for bit
    monkeypatch.setattr(workers, "MOST", 1)
    alone = sample(model, prompts, Sampling(12, seed=1), **how)
    assert dealt.completion_ids == alone.completion_ids and dealt.finished == alone.finished
    for a, b in zip(dealt.logprobs, alone.logprobs, strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_gradients_add_up_in_the_same_order_each_time(model, two_threads, monkeypatch):
    parts = torch.randint(1, 40, (5, 3, 16), generator=torch.Generator().manual_seed(0))

    def work(model, ids):
        logits = model(input_ids=ids).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
        loss.backward()
        return float(loss.detach())

    def gradients():
        model.zero_grad()
        losses = workers.each(model, work, parts, [1.0] * 5)
        return losses, torch.cat([p.grad.flatten() for p in model.parameters()])

    losses, dealt = gradients()
    assert all(torch.equal(dealt, gradients()[1]) for _ in range(3))
    monkeypatch.setattr(workers, "MOST", 1)
    alone_losses, alone = gradients()
    assert losses == pytest.approx(alone_losses, abs=1e-5)
    assert torch.allclose(dealt, alone, atol=1e-6)


@pytest.mark.parametrize("fails", [0, 1])
def test_an_error_of_one_worker_stops_the_other_and_is_raised(two_threads, fails):
    def waits(check):
        while True:
            check()

    def breaks(check):
        raise ValueError("of this worker")

    jobs = [waits, waits]
    jobs[fails] = breaks
    with pytest.raises(ValueError, match="of this worker"):
        workers.together(jobs)
    assert torch.get_num_threads() == 2
    assert not [t for t in threading.enumerate() if t.name.startswith("r1lab")]


def test_an_interrupt_stops_all_workers(two_threads):
    def interrupted(check):
        raise KeyboardInterrupt

    def waits(check):
        while True:
            check()

    with pytest.raises(KeyboardInterrupt):
        workers.together([interrupted, waits])


def test_few_rows_and_a_gpu_are_not_dealt(model, two_threads):
    assert workers.for_rows(model, 8) == (1, 1)
    assert workers.number("cuda") == 1


@pytest.mark.parametrize(
    ("first", "asked", "wanted"),
    [
        ("r1lab", None, ("PASSIVE", False)),
        ("r1lab", "ACTIVE", ("ACTIVE", False)),
        ("torch", None, (None, True)),
    ],
)
def test_threads_wait_asleep_however_python_was_started(first, asked, wanted):
    """In a kernel torch is often loaded first: then OpenMP has read its settings already."""
    program = f"""
import os
import {first}
import torch, threading
torch.set_num_threads(2)
from r1lab.machine import workers
crowd = [t for t in threading.enumerate() if "crowd" in t.name]
print((os.environ.get("OMP_WAIT_POLICY"), bool(crowd)), torch.get_num_threads())
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))} | (
        {"OMP_WAIT_POLICY": asked} if asked else {}
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == f"{wanted} 2", done.stderr

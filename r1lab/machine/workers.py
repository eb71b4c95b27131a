"""Work dealt to the cores without barriers: rows when sampling, micro-batches when training.

torch splits each operation over its threads, which wait for each other some hundred times per
token, and GNU OpenMP waits by spinning. On a busy machine they spin for a thread that has no core:
a sampler of 9,000 tokens per second made 600 beside two other programs on two cores. Here each
worker computes its own part from beginning to end with one torch thread.

The parts depend on the number of workers alone, and gradients are added in the workers' order: the
same machine with the same number of threads (`torch.get_num_threads`) gives the same bits.
"""

import copy
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import nn

MOST = 4  # workers; more of them wait for Python's lock
FEW = 16  # rows; a worker with fewer spends its time in Python and in reading the weights
SMALL = 10_000_000  # parameters; smaller models decode few rows on one thread as fast as on two


def number(device: torch.device | str) -> int:
    """Workers on a device: as many as torch has threads, at most MOST; one on a GPU."""
    return min(MOST, torch.get_num_threads()) if torch.device(device).type == "cpu" else 1


def budget(sizes: Sequence[int], tokens: int, workers: int) -> int:
    """Tokens of a worker's micro-batch where `tokens` may be in work at once. sizes: each row's."""
    return tokens if workers == 1 else max(1, min(tokens, sum(sizes)) // workers)


class _Cancelled(Exception):
    """Another worker has failed, or the user has interrupted."""


def wait_asleep() -> None:
    """Have GNU OpenMP's threads sleep at barriers where torch was loaded before r1lab, too late for
    OMP_WAIT_POLICY: with more threads than cores libgomp (`do_spin` in config/linux/wait.h) hardly
    spins, and an idle thread with a team of its own makes them more."""
    ready = threading.Event()

    def crowd() -> None:
        torch.set_num_threads((os.cpu_count() or 1) + 1)
        torch.ones(1 << 20).exp()  # large enough for the whole team
        ready.set()
        threading.Event().wait()

    threads = torch.get_num_threads()
    threading.Thread(target=crowd, daemon=True).start()
    ready.wait(10)
    torch.set_num_threads(threads)


if torch.get_num_threads() > 1 and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    wait_asleep()


def for_rows(model: nn.Module, rows: int) -> tuple[int, int]:
    """Workers for so many rows, and the torch threads of each."""
    weight = next(model.parameters())
    workers, threads = number(weight.device), torch.get_num_threads()
    if rows // workers >= FEW:
        return workers, max(1, threads // workers)
    if weight.device.type == "cpu" and sum(p.numel() for p in model.parameters()) < SMALL:
        threads = 1
    return 1, threads


def together(
    jobs: Sequence[Callable[[Callable[[], None]], Any]], share: int | None = None
) -> list[Any]:
    """The results of jobs that run side by side, the first one in this thread.

    share: torch threads of each (default: an equal part). Each job gets a function to call now and
    then, which raises once another job has failed or the user has pressed Ctrl-C. Gradient mode and
    autocast are those of the caller.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise _Cancelled

    threads = torch.get_num_threads()
    share = share or max(1, threads // len(jobs))
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    autocast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def run(job) -> Any:
        torch.set_num_threads(share)  # of this thread
        try:
            with (
                torch.inference_mode(inference),
                torch.set_grad_enabled(grad),
                torch.autocast("cpu", dtype, enabled=autocast),
            ):
                return job(check)
        except BaseException:
            stop.set()
            raise

    try:
        with ThreadPoolExecutor(len(jobs), "r1lab") as pool:
            others = [pool.submit(run, job) for job in jobs[1:]]
            try:
                results = [run(jobs[0])]
            except _Cancelled:
                results = []
            for error in (other.exception() for other in others):
                if error is not None and not isinstance(error, _Cancelled):
                    raise error
            return results + [other.result() for other in others]
    finally:
        torch.set_num_threads(threads)


def twin(model: nn.Module) -> nn.Module:
    """A copy of the modules on the same parameters, with gradients of its own."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in model.buffers()}
    for weight in model.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach(), weight.requires_grad)
    return copy.deepcopy(model, memo)


def each(
    model: nn.Module, work: Callable[[nn.Module, Any], Any], parts: Sequence, sizes: Sequence[float]
) -> list[Any]:
    """[work(model, part) for part in parts], dealt to the workers; gradients add up in `model`.

    work: computes with the model it gets, may call `backward`, and draws no random numbers. sizes:
    the cost of each part; the largest goes first to the worker with least.
    """
    n = max(1, min(number(next(model.parameters()).device), len(parts)))
    hands: list[list[int]] = [[] for _ in range(n)]
    loads = [0.0] * n
    for i in sorted(range(len(parts)), key=lambda i: -sizes[i]):
        least = loads.index(min(loads))
        hands[least].append(i)
        loads[least] += sizes[i]
    models = [model, *(twin(model) for _ in range(n - 1))]
    results: list[Any] = [None] * len(parts)

    def job(model: nn.Module, hand: list[int], check: Callable[[], None]) -> None:
        for i in hand:
            check()
            results[i] = work(model, parts[i])

    together([partial(job, *pair) for pair in zip(models, hands, strict=True)])
    for other in models[1:]:
        for weight, own in zip(model.parameters(), other.parameters(), strict=True):
            if own.grad is not None:
                weight.grad = own.grad if weight.grad is None else weight.grad.add_(own.grad)
    return results

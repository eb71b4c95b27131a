"""The engine in fixed shapes: the same draws as the others, and a step that can be recorded.

A CUDA graph needs a GPU. `Tape` does on a CPU what a graph does there: it writes down the
operations of one step and repeats them on the same tensors, whatever Python thinks by then.
"""

from __future__ import annotations

import pytest
import torch
from test_rollouts import EOS, FAST, PROMPTS, build, drawn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from r1lab.basics.errors import R1LabError
from r1lab.machine.device import in_type
from r1lab.sampler import graphs
from r1lab.sampler.graphs import StaticEngine
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import score

LONG = {"max_new_tokens": 40}
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and --cuda")


class Tape(TorchDispatchMode):
    """Every operation of one call of step(), to be repeated."""

    def __init__(self, engine: StaticEngine):
        super().__init__()
        self.ops = []
        changed = [engine.tokens, engine.logprobs, engine.hidden, *engine.kv, engine.now]
        changed += [engine.done, engine.token, engine.position]
        before = [tensor.clone() for tensor in changed]
        with self:
            engine.step()
        for tensor, old in zip(changed, before, strict=True):  # recorded, not done
            tensor.copy_(old)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **kwargs or {})
        self.ops.append((function, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        for function, args, kwargs, found in self.ops:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def small_buckets(monkeypatch):
    monkeypatch.setattr(graphs, "FIRST_CAPACITY", 8)
    monkeypatch.setattr(graphs, "ASK_EVERY", 4)


@pytest.fixture
def taped(monkeypatch, small_buckets):
    """Recordings on a CPU; lists how many rows and what capacity each was made for."""
    made = []

    def record(engine):
        made.append((len(engine.rows), engine.capacity))
        return Tape(engine)

    monkeypatch.setattr(StaticEngine, "can_record", True)
    monkeypatch.setattr(StaticEngine, "record", record)
    return made


@pytest.fixture(scope="module")
def llama():
    return build("llama")


def same(a, b, tolerance=1e-4) -> None:
    assert a.completion_ids == b.completion_ids and a.finished == b.finished
    for some, others in zip(a.logprobs, b.logprobs, strict=True):
        assert some == pytest.approx(others, abs=tolerance)


def by_full_forward(model, found, group_size=6) -> torch.Tensor:
    """Of all answers' tokens: how far the log-probs are from those of a full forward."""
    prompts = [prompt for prompt in found.prompt_ids for _ in range(group_size)]
    exact = torch.cat(score(model, prompts, found.completion_ids))
    return (torch.cat([torch.tensor(row) for row in found.logprobs]) - exact.cpu()).abs()


@pytest.mark.parametrize("name", FAST)
def test_a_recorded_step_draws_what_the_model_itself_draws(name, taped):
    model = build(name)
    found = drawn(model, engine="static", **LONG)
    same(found, drawn(model, engine="forward", **LONG))
    assert by_full_forward(model, found).max() < 1e-4
    capacities = [capacity for _, capacity in taped]
    assert sorted(set(capacities)) == [8, 16, 32, 40] and capacities == sorted(capacities)
    assert taped[0][0] == 18 > taped[-1][0] and len(taped) < 8  # few recordings, of fewer rows


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.7, "top_k": 9}, {"top_p": 0.8}, {"greedy": True},
     {"eos_token_id": None}, {"eos_token_id": [EOS, 5]}, {"max_new_tokens": 1}],
    ids=str,
)  # fmt: skip
def test_every_way_to_draw(llama, options, taped):
    options = {"max_new_tokens": 20} | options
    same(drawn(llama, engine="static", **options), drawn(llama, engine="fast", **options))
    assert bool(taped) == (options["max_new_tokens"] > 1)


def test_without_recordings_too(llama, small_buckets):
    same(drawn(llama, engine="static", **LONG), drawn(llama, engine="fast", **LONG))


def test_on_token_sees_every_token_of_every_unfinished_row(llama, taped):
    seen = []

    def note(t, rows, ids):
        seen.append((t, rows.tolist(), ids.tolist()))

    found = drawn(llama, engine="static", on_token=note, **LONG)
    assert [t for t, _, _ in seen] == list(range(len(seen)))
    for t, rows, ids in seen:
        now = dict(zip(rows, ids, strict=True))
        assert len(now) == len(rows)
        for row, answer in enumerate(found.completion_ids):
            assert t >= len(answer) or now[row] == answer[t]
    assert len(seen) >= max(map(len, found.completion_ids))


def test_nothing_is_read_after_all_are_done(llama, taped):
    """Every token is an end: the loop stops when the news arrives, one question later."""
    steps = []
    drawn(llama, engine="static", eos_token_id=list(range(23)), max_new_tokens=100,
          on_token=lambda t, rows, ids: steps.append(t))  # fmt: skip
    assert len(steps) == graphs.ASK_EVERY + 1


def test_a_step_is_the_same_work_at_every_token(llama):
    """No number that Python knows, no shape that grows, no address that moves, no reading back."""
    uniform = torch.rand(30, 18)
    with torch.no_grad():
        engine = StaticEngine(
            llama, PROMPTS, 6, Sampling(30, 0.9, 5, 0.9), uniform, torch.tensor([EOS, 5])
        )
        engine.prefill()
        engine.arrange(0, 18, 32)
        one = Tape(engine)
        for _ in range(7):
            engine.step()
        two = Tape(engine)

    def work(tape):
        state = [engine.tokens, engine.logprobs, engine.hidden, *engine.kv, engine.now]
        state += [engine.done, engine.token, engine.position, engine.rows, engine.uniform]
        home = {tensor.data_ptr(): i for i, tensor in enumerate(state)}
        for function, args, kwargs, _ in tape.ops:
            for x in tree_leaves((args, kwargs)):
                is_tensor = isinstance(x, torch.Tensor)
                yield function, (x.shape, home.get(x.data_ptr())) if is_tensor else x

    assert list(work(one)) == list(work(two))
    names = {function.__name__ for function, *_ in one.ops}
    waits = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "bincount")
    assert not [name for name in names if any(word in name for word in waits)]
    for function, args, _, _ in one.ops:  # a mask as an index is a nonzero() in disguise
        if function.__name__.startswith(("index.", "index_put")):
            assert all(x.dtype != torch.bool for x in tree_leaves(args[1]) if x is not None)


def test_the_mask_hides_places_that_hold_anything(llama, small_buckets):
    """What is not there yet has weight 0 exactly, so a larger room changes nothing but rounding."""
    tight = drawn(llama, engine="static", eos_token_id=None)
    graphs.FIRST_CAPACITY = 128  # put back by the fixture
    same(tight, drawn(llama, engine="static", eos_token_id=None), 1e-5)


def test_an_engine_that_cannot_run_the_model_says_so():
    with pytest.raises(R1LabError, match='"static" cannot run this model'):
        drawn(build("gpt2"), engine="static")


# --- bfloat16 --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["static", "fast"])
def test_log_probs_in_bfloat16(llama, engine):
    """bfloat16 keeps 8 bits: logits up to 4 come in steps of 1/64, at two roundings or so."""
    model = in_type(llama, torch.bfloat16)
    apart = by_full_forward(model, drawn(model, engine=engine))
    assert apart.max() < 0.1 and apart.mean() < 0.02


def test_a_copy_in_bfloat16_turns_by_the_same_angles(llama):
    twin = in_type(llama, torch.bfloat16)
    assert {p.dtype for p in twin.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in llama.parameters()} == {torch.float32}
    assert twin.model.rotary_emb.inv_freq.dtype == torch.float32
    assert twin.lm_head.weight is twin.model.embed_tokens.weight  # tied as before


# --- for whoever has a GPU: pytest tests/test_graphs.py -k cuda ------------------------------


@cuda
@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.7, "top_k": 9}, {"top_p": 0.8}, {"greedy": True}], ids=str
)
def test_cuda_draws_what_the_model_itself_draws(name, options, small_buckets):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = build(name).cuda()
    found = drawn(model, **LONG, **options)  # engine "auto" is the static one here
    same(found, drawn(model, engine="static", **LONG, **options), 1e-5)
    same(found, drawn(model, engine="forward", **LONG, **options))
    same(found, drawn(build(name), engine="fast", **LONG, **options), 1e-3)  # a CPU's draws
    if not options:
        assert by_full_forward(model, found).max() < 1e-4


@cuda
def test_cuda_in_bfloat16(llama):
    model = in_type(llama, torch.bfloat16).cuda()
    apart = by_full_forward(model, drawn(model))
    assert apart.max() < 0.1 and apart.mean() < 0.02


@cuda
@pytest.mark.parametrize("how", [(1.0, 0, 1.0), (0.7, 5, 0.9)], ids=str)
def test_cuda_steps_never_wait(how):
    model, uniform = build("llama").cuda(), torch.rand(30, 18, device="cuda")
    eos = torch.tensor([EOS, 5], device="cuda")
    with torch.inference_mode(), graphs.own_stream(model.device):
        engine = StaticEngine(model, PROMPTS, 6, Sampling(30, *how), uniform, eos)
        engine.prefill()
        engine.arrange(0, 18, 32)
        engine.step()  # cuBLAS makes its handles here
        torch.cuda.set_sync_debug_mode("error")
        try:
            engine.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@cuda
def test_cuda_records_few_graphs_and_replays_the_rest(monkeypatch):
    model, made, record = build("llama").cuda(), [], StaticEngine.record
    monkeypatch.setattr(StaticEngine, "record", lambda e: made.append(e.capacity) or record(e))
    sample(model, PROMPTS, Sampling(110, seed=0), group_size=40, eos_token_id=EOS)
    assert 1 <= len(made) <= 6


@cuda
def test_cuda_without_our_kernels(monkeypatch, llama):
    model = build("llama").cuda()
    found = drawn(model, **LONG)
    assert graphs.find_kernels(model.device, model.dtype, 9, 3, 64) is not None
    monkeypatch.setattr(graphs, "find_kernels", lambda *of: None)
    same(found, drawn(model, **LONG))

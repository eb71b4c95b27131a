"""The sampler: two engines with equal results, exact log-probs, and the draws it promises."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    Qwen2Config,
    Qwen3Config,
)

from r1lab.basics.errors import R1LabError
from r1lab.sampler.draw import draw, truncate
from r1lab.sampler.families import why_not_fast
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import micro_batches, score, token_logps

V, EOS = 23, 0
SIZES = {"vocab_size": V, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "bos_token_id": None, "eos_token_id": EOS, "pad_token_id": EOS}  # fmt: skip
FAST = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama-untied": LlamaConfig(**SIZES | {"num_key_value_heads": 4}, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),  # biases on q, k and v
    "qwen3": Qwen3Config(**SIZES, head_dim=8),  # norms on q and k; heads wider than D / H
}
OTHER = {
    "gpt2": GPT2Config(vocab_size=V, n_embd=24, n_layer=2, n_head=4, n_positions=128,
                       bos_token_id=None, eos_token_id=EOS),
    "gpt-neox": GPTNeoXConfig(vocab_size=V, hidden_size=24, intermediate_size=40,
                              num_hidden_layers=2, num_attention_heads=4,
                              max_position_embeddings=128, bos_token_id=None, eos_token_id=EOS),
    "mamba": MambaConfig(vocab_size=V, hidden_size=24, state_size=4, num_hidden_layers=1,
                         bos_token_id=None, eos_token_id=EOS),  # no KV cache to pass at all
}  # fmt: skip
PROMPTS = [[3, 4, 5], [7, 8, 9, 10, 11, 12], [3]]


def build(name: str):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config((FAST | OTHER)[name])
    with torch.no_grad():
        for parameter in model.parameters():  # random models are flat: make them opinionated
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


@pytest.fixture(scope="module")
def llama():
    return build("llama")


def drawn(model, **options):
    """Options of Sampling and of sample(), in one."""
    options = {"group_size": 6, "max_new_tokens": 24, "eos_token_id": EOS, "seed": 3} | options
    prompts = options.pop("prompts", PROMPTS)
    how = {f.name: options.pop(f.name) for f in fields(Sampling) if f.name in options}
    return sample(model, prompts, Sampling(**how), **options)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 9}, {"top_p": 0.8},
                                     {"greedy": True}], ids=str)  # fmt: skip
def test_both_engines_draw_the_same_tokens(name, options):
    model = build(name)
    fast, slow = drawn(model, engine="fast", **options), drawn(model, engine="forward", **options)
    assert fast.completion_ids == slow.completion_ids and fast.finished == slow.finished
    for a, b in zip(fast.logprobs, slow.logprobs, strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    if not options:
        lengths = {len(ids) for ids in fast.completion_ids}
        assert len(lengths) > 3 and any(fast.finished)  # rows did leave at different times


@pytest.mark.parametrize("name", [*FAST, *OTHER])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_those_of_a_full_forward(name, temperature):
    model = build(name)
    found = drawn(model, temperature=temperature, top_k=7)  # truncation changes draws, not pi
    for i, (ids, logprobs) in enumerate(zip(found.completion_ids, found.logprobs, strict=True)):
        prompt = PROMPTS[i // 6]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        exact = (logits / temperature).log_softmax(-1)[range(len(ids)), ids]
        assert logprobs == pytest.approx(exact.tolist(), abs=1e-4)
    rows = [PROMPTS[i // 6] for i in range(len(found.completion_ids))]
    again = score(model, rows, found.completion_ids, temperature, 40)  # several micro-batches
    for a, b in zip(again, found.logprobs, strict=True):
        assert a.tolist() == pytest.approx(b, abs=1e-4)


@pytest.mark.parametrize("name", OTHER)
def test_an_unknown_architecture_uses_its_own_forward(name):
    model = build(name)
    assert "is not one of" in why_not_fast(model)
    with pytest.raises(R1LabError, match="cannot run this model"):
        drawn(model, engine="fast")
    auto, own = drawn(model), drawn(model, engine="forward")
    assert auto.completion_ids == own.completion_ids
    alone = sample(model, PROMPTS[2:], Sampling(24, greedy=True), group_size=1,
                   eos_token_id=EOS)  # fmt: skip
    theirs = model.generate(torch.tensor(PROMPTS[2:]), do_sample=False, max_new_tokens=24,
                            eos_token_id=EOS, pad_token_id=EOS)  # fmt: skip
    expected = theirs[0, 1:].tolist()
    assert alone.completion_ids[0] == expected[: len(alone.completion_ids[0])]


def test_a_model_that_only_looks_like_llama_falls_back(llama):
    class Shifted(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    model = build("llama")
    old = model.model.layers[0].mlp.up_proj
    new = Shifted(old.in_features, old.out_features, bias=False)
    new.weight = old.weight
    model.model.layers[0].mlp.up_proj = new
    assert "plain linear" in why_not_fast(model)
    assert drawn(model).completion_ids == drawn(model, engine="forward").completion_ids
    assert drawn(model).completion_ids != drawn(llama).completion_ids


def test_the_seed_decides_and_nothing_else(llama):
    assert drawn(llama) == drawn(llama)
    assert drawn(llama).completion_ids != drawn(llama, seed=4).completion_ids
    generator = torch.Generator().manual_seed(3)
    assert drawn(llama, seed=None, generator=generator) == drawn(llama)
    state = torch.get_rng_state()
    drawn(llama)
    assert torch.equal(state, torch.get_rng_state())


def test_an_answer_does_not_depend_on_its_neighbours(llama):
    """Row i reads column i of the draws, whoever has finished: stopping only cuts the answers."""
    never = drawn(llama, eos_token_id=None)
    stops = drawn(llama)
    assert all(len(ids) == 24 for ids in never.completion_ids) and not any(never.finished)
    for free, stopped, done in zip(
        never.completion_ids, stops.completion_ids, stops.finished, strict=True
    ):
        assert stopped == free[: len(stopped)]
        assert done == (EOS in free) and (not done or stopped.index(EOS) == len(stopped) - 1)


def test_several_ends_of_text(llama):
    found = drawn(llama, eos_token_id=[EOS, 5])
    for ids, done in zip(found.completion_ids, found.finished, strict=True):
        assert not set(ids[:-1]) & {EOS, 5} and done == (ids[-1] in (EOS, 5))


@pytest.mark.parametrize("engine", ["fast", "forward"])
def test_an_end_of_text_in_a_prompt_is_a_token_like_any_other(llama, engine):
    """EOS doubles as padding here, so nothing may be taken for padding by its id."""
    prompt = [EOS, 4, EOS]
    found = sample(llama, [prompt, *PROMPTS], Sampling(12, seed=1), group_size=2, eos_token_id=EOS,
                   engine=engine)  # fmt: skip
    for ids, logprobs in zip(found.completion_ids[:2], found.logprobs[:2], strict=True):
        assert ids
        with torch.no_grad():
            logits = llama(torch.tensor([prompt + ids])).logits[0, 2:-1]
        exact = logits.log_softmax(-1)[range(len(ids)), ids]
        assert logprobs == pytest.approx(exact.tolist(), abs=1e-4)


def test_the_reference_reads_questions_once_too(llama):
    read = []
    handle = llama.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    try:
        drawn(llama, engine="forward")
    finally:
        handle.remove()
    assert read[0] == (len(PROMPTS), 6)  # B questions, padded
    assert read[1:] and all(width == 1 for _, width in read[1:])  # then a token a row


def test_questions_are_read_once_and_finished_rows_leave(llama):
    read, alive = [], []

    def hook(module, args, kwargs):
        read.append(kwargs.get("input_ids", args[0] if args else None).numel())

    handle = llama.model.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        found = drawn(llama, engine="fast", on_token=lambda t, rows, ids: alive.append(len(rows)))
    finally:
        handle.remove()
    assert read == [len(PROMPTS) * max(map(len, PROMPTS))]  # B padded questions, not B * G
    assert alive == sorted(alive, reverse=True) and alive[0] == 18
    needed = [sum(len(ids) > t for ids in found.completion_ids) for t in range(len(alive))]
    assert all(need <= kept <= need * 16 / 15 + 1 for need, kept in zip(needed, alive, strict=True))


def test_draws_follow_the_policy():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    n = 200_000
    u = torch.rand(n, generator=torch.Generator().manual_seed(0))
    cases = {
        (1.0, 0, 1.0): logits.softmax(-1)[0],
        (0.5, 0, 1.0): (logits / 0.5).softmax(-1)[0],
        (1.0, 2, 1.0): torch.tensor([2.0, 1.0, -math.inf, -math.inf]).softmax(-1),
        (1.0, 0, 0.7): torch.tensor([2.0, 1.0, -math.inf, -math.inf]).softmax(-1),  # 0.64 + 0.24
        (1.0, 3, 0.6): torch.tensor([1.0, 0.0, 0.0, 0.0]),  # of the top 3, the first holds 0.66
    }
    for (temperature, top_k, top_p), expected in cases.items():
        tokens, logp = draw(logits.expand(n, 4), u, temperature, top_k, top_p)
        share = torch.bincount(tokens, minlength=4) / n
        assert torch.allclose(share, expected, atol=5 * 0.5 / math.sqrt(n))
        assert torch.allclose(logp, (logits / temperature).log_softmax(-1)[0][tokens])


def test_top_p_keeps_the_token_that_crosses():
    logp = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert torch.isfinite(truncate(logp, 0, 0.5)).tolist() == [[True, False, False, False]]
    assert torch.isfinite(truncate(logp, 0, 0.51)).tolist() == [[True, True, False, False]]
    assert torch.isfinite(truncate(logp, 0, 1e-6)).tolist() == [[True, False, False, False]]
    assert torch.isfinite(truncate(logp, 3, 0.99)).tolist() == [[True, True, True, False]]


def test_greedy_equals_generate(llama):
    found = sample(llama, PROMPTS[:1], Sampling(12, greedy=True), group_size=2,
                   eos_token_id=None)  # fmt: skip
    theirs = llama.generate(torch.tensor(PROMPTS[:1]), do_sample=False, max_new_tokens=12,
                            min_new_tokens=12, eos_token_id=None, pad_token_id=0)  # fmt: skip
    assert found.completion_ids == [theirs[0, 3:].tolist()] * 2


def test_the_model_is_left_as_it_was(llama):
    model = build("llama").train()
    frozen = model.model.layers[0].eval()  # one part was put to sleep on purpose
    drawn(model)
    score(model, PROMPTS[:1], [[4, EOS]])

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn(model, on_token=interrupt)
    assert model.training and model.model.layers[1].training
    assert not any(part.training for part in frozen.modules())
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    loss = model(torch.tensor([[1, 2, 3]])).logits.sum()
    loss.backward()  # nothing became an inference tensor
    assert model.model.embed_tokens.weight.grad is not None


@pytest.mark.parametrize(
    "options, words",
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": [[V]]}, "outside the model's vocabulary"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"group_size": 0}, "at least 1"),
        ({"max_new_tokens": 123}, "do not fit"),
        ({"engine": "vllm"}, "unknown engine"),
        ({"generator": torch.Generator()}, "not both"),
    ],
    ids=lambda x: str(x)[:30],
)
def test_what_cannot_be_right_is_refused(llama, options, words):
    with pytest.raises(R1LabError, match=words):
        drawn(llama, **{"group_size": 2, "max_new_tokens": 4, "seed": 0} | options)


def test_greedy_needs_no_temperature(llama):
    cold, warm = drawn(llama, greedy=True, temperature=0.0), drawn(llama, greedy=True)
    assert cold == warm


def test_score_refuses_what_it_cannot_read(llama):
    for prompts, completions, words in (
        ([[1]], [[2], [3]], "repeat each prompt"),
        ([[]], [[2]], "empty prompt"),
        ([[1] * 100], [[2] * 29], "more than the model's 128"),
    ):
        with pytest.raises(R1LabError, match=words):
            score(llama, prompts, completions)
    with pytest.raises(R1LabError, match="temperature"):
        score(llama, [[1]], [[2]], temperature=0.0)
    assert score(llama, [], []) == []


def test_weights_that_are_no_numbers_are_reported(llama):
    model = build("llama")
    with torch.no_grad():
        model.lm_head.weight[3] = math.nan
    with pytest.raises(R1LabError, match="not finite"):
        drawn(model)


# --- what the objective needs ----------------------------------------------------------------


def test_micro_batches_keep_the_budget_and_lose_nobody():
    sizes = [5, 90, 3, 40, 41, 7, 120, 1]
    batches = micro_batches(sizes, 100)
    assert sorted(i for batch in batches for i in batch) == list(range(len(sizes)))
    for batch in batches:
        padded = max(sizes[i] for i in batch) * len(batch)
        assert padded <= 100 or len(batch) == 1  # a row that is too long goes alone
    assert len(micro_batches(sizes, 10_000)) == 1 and micro_batches([], 10) == []


def test_micro_batches_pad_no_more_than_another_pass_would_cost():
    sizes = [460] + [30] * 200 + [25] * 55  # one long search among short answers
    batches = micro_batches(sizes, 16_384)
    padded = sum(max(sizes[i] for i in batch) * len(batch) for batch in batches)
    assert [len(batch) for batch in batches] == [1, 255] and padded == 460 + 255 * 30
    every = micro_batches(sizes, 16_384, overhead=0)  # passes cost nothing: nothing is padded
    assert sum(max(sizes[i] for i in b) * len(b) for b in every) == sum(sizes)


def test_token_logps_carry_a_gradient_and_ignore_padding(llama):
    pairs = [([3, 4, 5], [6, 7, 0]), ([8], [9, 10, 11, 12, 13])]
    logp, mask, _ = token_logps(llama, pairs, 1.0)
    assert logp.shape == mask.shape == (2, 5) and mask.sum(1).tolist() == [3, 5]
    for row, (prompt, completion) in enumerate(pairs):
        logits = llama(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        exact = logits.log_softmax(-1)[range(len(completion)), completion]
        assert torch.allclose(logp[row, : len(completion)], exact, atol=1e-5)
    llama.zero_grad()
    (logp * mask).sum().backward()
    together = llama.model.embed_tokens.weight.grad.clone()
    llama.zero_grad()
    for prompt, completion in pairs:
        logits = llama(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        logits.log_softmax(-1)[range(len(completion)), completion].sum().backward()
    assert torch.allclose(together, llama.model.embed_tokens.weight.grad, atol=1e-4)
    llama.zero_grad()

"""Every row of FAMILIES against the model's own forward, and which engine samples what has none."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForCausalLM,
    LlamaConfig,
    MBartConfig,
    MBartForCausalLM,
    MistralConfig,
    MptConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    RecurrentGemmaConfig,
    RobertaConfig,
    XLNetConfig,
)

from r1lab.basics.errors import R1LabError
from r1lab.sampler import engines
from r1lab.sampler.engines import engine_for
from r1lab.sampler.families import FAMILIES, why_not_fast
from r1lab.sampler.forward import ForwardEngine, RereadEngine
from r1lab.sampler.rollouts import Sampling, sample
from r1lab.sampler.score import max_positions, score

V, EOS = 23, 0
SIZES = {"vocab_size": V, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
         "bos_token_id": None, "eos_token_id": EOS, "pad_token_id": EOS}  # fmt: skip
PROMPTS = [[3, 4, 5], [7, 8, 9, 10, 11, 12], [3]]
ROWS = {
    "LlamaForCausalLM": LlamaConfig(**SIZES),
    "MistralForCausalLM": MistralConfig(**SIZES, sliding_window=None),
    "Phi3ForCausalLM": Phi3Config(**SIZES),
    "Qwen2ForCausalLM": Qwen2Config(**SIZES),
    "Qwen3ForCausalLM": Qwen3Config(**SIZES, head_dim=8),
}


def opinionated(model):
    """Random models are flat: a mistake would not show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


def build(config):
    return opinionated(AutoModelForCausalLM.from_config(config))


def test_every_family_has_its_case():
    assert set(ROWS) == set(FAMILIES)


@pytest.mark.parametrize("engine", ["fast", "static"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_gives_the_models_own_results(name, engine):
    model = build(ROWS[name])
    assert type(model).__name__ == name and why_not_fast(model) is None
    how, options = Sampling(16, seed=2), {"group_size": 5, "eos_token_id": EOS}
    found = sample(model, PROMPTS, how, engine=engine, **options)
    own = sample(model, PROMPTS, how, engine="forward", **options)
    assert found.completion_ids == own.completion_ids
    for i, (ids, logprobs) in enumerate(zip(found.completion_ids, found.logprobs, strict=True)):
        prompt = PROMPTS[i // 5]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        exact = logits.log_softmax(-1)[range(len(ids)), ids]
        assert logprobs == pytest.approx(exact.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (MistralConfig(**SIZES, sliding_window=8), "sliding-window"),
        (Phi3Config(**SIZES | {"hidden_size": 32}, partial_rotary_factor=0.5), "part of each head"),
        (LlamaConfig(**SIZES, attention_bias=True), "biases outside"),
    ],
    ids=["window", "partial rotation", "bias"],
)
def test_what_a_row_does_not_say_is_not_decoded_fast(config, why):
    model = build(config)
    assert why in why_not_fast(model)
    agrees(model)


def agrees(model) -> None:
    """What is sampled is scored the same."""
    found = sample(model, PROMPTS, Sampling(12, seed=1), group_size=4, eos_token_id=EOS)
    again = score(model, [PROMPTS[i // 4] for i in range(12)], found.completion_ids)
    for a, b in zip(again, found.logprobs, strict=True):
        assert a.tolist() == pytest.approx(b, abs=1e-3)


DECODER = {"vocab_size": V, "d_model": 24, "decoder_layers": 2, "decoder_attention_heads": 4,
           "decoder_ffn_dim": 40, "max_position_embeddings": 128, "is_decoder": True,
           "is_encoder_decoder": False, "bos_token_id": 1, "eos_token_id": EOS,
           "pad_token_id": 1}  # fmt: skip
ROBERTA = {"vocab_size": V, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
           "intermediate_size": 40, "max_position_embeddings": 128, "pad_token_id": 1,
           "bos_token_id": 1, "eos_token_id": EOS}  # fmt: skip


@pytest.mark.parametrize("name", ["bart", "mbart", "roberta", "recurrent gemma"])
def test_a_decoder_whose_cache_is_not_exact_reads_its_text_again(name, caplog):
    torch.manual_seed(0)
    model = {
        "bart": lambda: BartForCausalLM(BartConfig(**DECODER)),
        "mbart": lambda: MBartForCausalLM(MBartConfig(**DECODER)),
        "roberta": lambda: build(RobertaConfig(**ROBERTA, is_decoder=True)),
        "recurrent gemma": lambda: build(
            RecurrentGemmaConfig(
                vocab_size=V,
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=48,
                lru_width=32,
                attention_window_size=64,
                pad_token_id=0,
                eos_token_id=0,
                bos_token_id=0,
            )  # fmt: skip
        ),
    }[name]()
    model = opinionated(model)
    engines._warn.cache_clear()
    agrees(model)
    assert engine_for(model) is RereadEngine and "reads the whole text again" in caplog.text


def test_a_model_that_looks_ahead_is_refused():
    model = build(RobertaConfig(**ROBERTA, is_decoder=False))
    with pytest.raises(R1LabError, match="depends on the tokens that come after"):
        sample(model, PROMPTS, Sampling(4), group_size=2, eos_token_id=EOS)


MPT = {"vocab_size": V, "d_model": 24, "n_heads": 4, "n_layers": 2, "max_seq_len": 16}
LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
PHI3 = SIZES | {"hidden_size": 32, "original_max_position_embeddings": 16}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES | {"max_position_embeddings": 16}),
        MptConfig(**MPT),
        RobertaConfig(**ROBERTA | {"max_position_embeddings": 18}, is_decoder=True),
        Phi3Config(**PHI3, rope_parameters=LONGROPE | {"rope_theta": 10000.0}),
    ],
    ids=lambda config: config.model_type,
)
def test_texts_may_be_as_long_as_a_model_has_positions_and_no_longer(config):
    model = build(config)
    text = [3 + i % 9 for i in range(12)]
    found = sample(model, [text], Sampling(4, seed=1), group_size=4, eos_token_id=EOS)
    for row, logp in zip(found.completion_ids, found.logprobs, strict=True):
        assert score(model, [text], [row])[0].tolist() == pytest.approx(logp, abs=1e-4)
    with pytest.raises(R1LabError, match="do not fit the model's 16 positions"):
        sample(model, [text], Sampling(5), group_size=1, eos_token_id=EOS)
    with pytest.raises(R1LabError, match="more than the model's 16 positions"):
        score(model, [text], [text[:5]])


def test_a_config_that_names_no_limit_sets_none():
    config = XLNetConfig(vocab_size=V, d_model=24, n_layer=1, n_head=4, d_inner=40)
    assert config.max_position_embeddings == -1 and max_positions(build(config)) == float("inf")


def test_the_engine_is_looked_for_once():
    model = build(LlamaConfig(**SIZES))
    assert engine_for(model) is ForwardEngine
    model.forward = None  # would fail now
    assert engine_for(model) is ForwardEngine

"""Fixtures shared by the tests."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from r1lab.world.tokenizer import build_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def random_model(tokenizer):
    """(model, tokenizer): a very small random Llama that speaks the tiny world's tokens."""
    from r1lab.models import tiny_llama

    torch.manual_seed(0)
    return tiny_llama(len(tokenizer), width=32, layers=2, heads=2, ffn=64), tokenizer


@pytest.fixture(scope="session")
def base_model():
    """(model, tokenizer): the embedded base model. Read only: copy it before training."""
    from r1lab.models import load

    return load("tiny")

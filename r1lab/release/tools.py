"""Other programs that should load a released model, tried where they are installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from r1lab.basics.errors import first_line

SECONDS = 300
CONVERTER, LLAMA_CPP = "convert_hf_to_gguf.py", "LLAMA_CPP"
VLLM = """
import sys
from vllm import LLM, SamplingParams
model = LLM(sys.argv[1], enforce_eager=True, max_model_len=64)
model.generate([{"prompt_token_ids": [0]}], SamplingParams(max_tokens=1))
"""


def tried(folder: Path) -> dict[str, str]:
    """What vLLM and llama.cpp's converter to GGUF say of a model folder, in words: "loads", "not
    tried: ...", or "fails: ..."."""
    return {"vLLM": vllm(folder), "GGUF": gguf(folder)}


def vllm(folder: Path) -> str:
    """One token by vLLM, in a process of its own."""
    if importlib.util.find_spec("vllm") is None:
        return "not tried: vllm is not installed"
    return _run([sys.executable, "-c", VLLM, str(folder)])


def gguf(folder: Path, converter: Path | None = None) -> str:
    """llama.cpp's convert_hf_to_gguf.py, from $LLAMA_CPP or the PATH; its file is thrown away."""
    at = Path(os.environ.get(LLAMA_CPP, "/nowhere")) / CONVERTER
    found = converter or (at if at.is_file() else shutil.which(CONVERTER))
    if found is None:
        return f"not tried: {CONVERTER} is not here (put llama.cpp's folder into ${LLAMA_CPP})"
    with tempfile.TemporaryDirectory() as scratch:
        out = ["--outfile", f"{scratch}/model.gguf", "--outtype", "f32"]
        return _run([sys.executable, str(found), str(folder), *out])


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"fails: no answer in {SECONDS} s"
    except OSError as error:
        return f"fails: {first_line(error)}"
    said = (done.stderr or done.stdout).strip().splitlines()
    return "loads" if done.returncode == 0 else f"fails: {said[-1][:200] if said else 'no words'}"

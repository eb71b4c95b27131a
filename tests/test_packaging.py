"""The pins are one list, written three times: pyproject, constraints.txt and environment.yml."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

import r1lab

ROOT = Path(__file__).resolve().parent.parent

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = __import__("tomli")  # a dependency of pytest on Python 3.10


def pins() -> list[str]:
    """Every direct requirement of pyproject, tests included, as written."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + project["optional-dependencies"]["test"]


def squeeze(requirement: str) -> str:
    """One spelling for `a==1; m >= '3'` and `a==1 ; m >= "3"`."""
    return re.sub(r"\s*;\s*", ";", requirement.strip()).replace('"', "'")


def test_every_requirement_is_pinned_exactly():
    for requirement in pins():
        assert re.match(r"^[A-Za-z0-9_.-]+==[0-9][^*]*$", requirement.split(";")[0]), requirement


def test_constraints_hold_every_pin_for_every_python():
    locked = {line.split(" ;")[0].lower() for line in _lines(ROOT / "constraints.txt")}
    for requirement in pins():
        assert requirement.split(";")[0].lower() in locked, f"run `make lock`: {requirement}"


def test_committed_pins_name_no_registry():
    for name in ("constraints.txt", "environment.yml"):
        text = (ROOT / name).read_text()
        assert "://" not in text and "--" not in text and " @ " not in text, name


def test_conda_environment_equals_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert sorted(map(squeeze, pip[:-1])) == sorted(map(squeeze, pins()))
    assert pip[-1] == "-e ."
    assert environment["name"] == "r1lab"
    assert any(d.startswith("python") for d in conda) and "pip" in conda


def test_the_installed_environment_is_the_pinned_one():
    from importlib.metadata import version

    from packaging.requirements import Requirement

    for requirement in map(Requirement, pins()):
        if requirement.marker is None or requirement.marker.evaluate():
            installed = version(requirement.name).split("+")[0]
            assert requirement.specifier.contains(installed), f"{requirement.name} {installed}"


def test_packages_without_their_dependencies_are_pinned_where_they_are_asked_for():
    from r1lab import models
    from r1lab.tasks import words

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["r1lab"]
    assert tool["without-dependencies"] == [models.SMOLLM2_WHEEL, words.REASONING_GYM]


def test_the_gpu_extra_is_pinned_and_within_what_trl_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["gpu"]
    for requirement in extra:
        assert re.match(r"^[a-z]+==[0-9.]+; sys_platform == 'linux'$", requirement), requirement
    minor = int(re.search(r"vllm==0\.(\d+)\.", " ".join(extra))[1])
    assert 22 <= minor <= 31  # trl 1.16's own extra: vllm>=0.22.0,<=0.31.0


def test_one_version_number():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert r1lab.__version__ == project["version"]
    assert r1lab.ROOT == ROOT


def test_the_makefile_offers_what_the_lessons_name():
    makefile = (ROOT / "Makefile").read_text()
    for target in ("run", "test", "lab", "bench", "figures", "lint", "help", "clean"):
        assert re.search(rf"^{target}:.*## \S", makefile, re.M), target


def _lines(path: Path) -> list[str]:
    return [
        line.strip()
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]

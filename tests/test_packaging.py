"""The pins are one list, written three times: pyproject, constraints.txt and environment.yml."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import warm
import yaml

import r1lab
from r1lab.models import smollm2

ROOT = Path(__file__).resolve().parent.parent

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = __import__("tomli")  # a dependency of pytest on Python 3.10


def pins() -> list[str]:
    """Every direct requirement of pyproject, tests included, as written."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["dependencies"] + project["optional-dependencies"]["test"]


def extras() -> list[str]:
    """The requirements of the other extras that take `constraints.txt`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [one for name in ("figures", "wasm") for one in project["optional-dependencies"][name]]


def squeeze(requirement: str) -> str:
    """One spelling for `a==1; m >= '3'` and `a==1 ; m >= "3"`."""
    return re.sub(r"\s*;\s*", ";", requirement.strip()).replace('"', "'")


def test_every_requirement_is_pinned_exactly():
    for requirement in pins() + extras():
        assert re.match(r"^[A-Za-z0-9_.-]+==[0-9][^*]*$", requirement.split(";")[0]), requirement


def test_constraints_hold_every_pin_for_every_python():
    locked = {line.split(" ;")[0].lower() for line in _lines(ROOT / "constraints.txt")}
    for requirement in pins() + extras():
        assert requirement.split(";")[0].lower() in locked, f"run `make lock`: {requirement}"


def test_committed_pins_name_no_registry():
    for name in ("constraints.txt", "environment.yml", "tests/engines/constraints.txt"):
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
    from r1lab.tasks.code import humaneval
    from r1lab.tasks.gym import package

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["r1lab"]
    wanted = [smollm2.SMOLLM2_WHEEL, package.REASONING_GYM, humaneval.PACKAGE]
    assert tool["without-dependencies"] == wanted


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


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder to import r1lab from, as `pip install` lays it out from the built wheel; offline."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"  # setuptools builds in place
    skip = shutil.ignore_patterns(".*", "runs", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=skip)
    pip = [sys.executable, "-m", "pip", "-q", "--no-input", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(work)]
    subprocess.run([*build, str(source)], check=True, timeout=300, cwd=work)
    (wheel,) = work.glob("*.whl")
    site = work / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
        check=True, timeout=300, cwd=work,
    )  # fmt: skip
    return site


def r1lab_of(site: Path, cwd: Path, *words: str) -> str:
    """What the installed command prints, started in another folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("R1LAB")}
    done = subprocess.run(
        [warm.python(), "-m", "r1lab", *words],
        cwd=cwd, env=environment | {"PYTHONPATH": str(site)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_installed_wheel_trains_and_evaluates_from_anywhere(installed, tmp_path):
    size = ["--questions", "2", "--group-size", "4", "--max-new-tokens", "16"]
    r1lab_of(installed, tmp_path, "train", "--quiet", "--steps", "2", *size, "--out", "try")
    assert len((tmp_path / "try" / "metrics.jsonl").read_text().splitlines()) == 2
    said = r1lab_of(installed, tmp_path, "eval", "--n", "2", "--k", "2", "--max-new-tokens", "8",
                    "--model", "try/model")  # fmt: skip
    assert "pass@1" in said
    assert "05_r1_zero" in r1lab_of(installed, tmp_path, "run", "--list")


def test_an_installed_wheel_lays_out_the_lessons_and_runs_them(installed, tmp_path):
    r1lab_of(installed, tmp_path, "init", "course")
    course = tmp_path / "course"
    there = {str(p.relative_to(ROOT / "notebooks")) for p in (ROOT / "notebooks").rglob("*.*")
             if ".ipynb_checkpoints" not in p.parts and p.is_file()}  # fmt: skip
    assert {str(p.relative_to(course / "notebooks"))
            for p in (course / "notebooks").rglob("*.*") if p.is_file()} == there  # fmt: skip
    (course / "notebooks" / "profiles.yaml").write_text("profiles: {}\n")
    assert ": 0 files written" in r1lab_of(installed, tmp_path, "init", "course")
    assert (course / "notebooks" / "profiles.yaml").read_text() == "profiles: {}\n"  # kept
    # as a kernel does, which JupyterLab starts in the notebook's own folder
    done = subprocess.run(
        [sys.executable, "-c", "import r1lab; print(r1lab.ROOT)"],
        cwd=course / "notebooks", env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert Path(done.stdout.strip()) == course


def test_make_lab_opens_copies_on_every_profile():
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lab:.*\n((?:\t.*\n)+)", makefile, re.M)[1]
    assert "--prepare" in recipe and "--notebook-dir=runs/$(PROFILE)/lab" in recipe
    assert "--notebook-dir=notebooks" not in makefile


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


# --- scripts/setup_venv.sh, with a stand-in for the environment's Python -------------------------

PYTHON_STUB = """#!/bin/bash
printf '%s ' "$@" >>"$NOTES"; echo >>"$NOTES"
[ "$1" = - ] && [ -z "$2" ] && echo "$TORCH"
[ "$1" = -c ] && exit 1  # torch.cuda.is_available()
[[ "$*" = *--force-reinstall* ]] && [ -n "$OFFLINE" ] && exit 1
exit 0
"""
PIN = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)[1]


@pytest.fixture
def setup(tmp_path):
    """Runs the script in a folder whose .venv is up to date, with torch as in dist-info `torch`, on
    a machine whose nvidia-smi says `driver`. Returns what it said, and what Python was asked."""
    project, bin, notes = tmp_path / "project", tmp_path / "bin", tmp_path / "notes"
    shutil.copytree(ROOT / "scripts", project / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, project)
    site = project / ".venv/lib/python3.12/site-packages"
    for folder in (site, bin, project / ".venv/bin"):
        folder.mkdir(parents=True)
    python = project / ".venv/bin/python"
    python.write_text(PYTHON_STUB)
    python.chmod(0o755)

    def run(torch, driver="", index="", offline=False):
        for old in site.iterdir():
            old.rmdir()
        (site / f"torch-{torch}.dist-info").mkdir()
        smi = bin / "nvidia-smi"
        smi.write_text(
            f"#!/bin/bash\necho {driver or 'NVIDIA-SMI has failed'}\nexit {0 if driver else 9}\n"
        )
        smi.chmod(0o755)
        notes.write_text("")
        environment = os.environ | {
            "PATH": f"{bin}:{os.environ['PATH']}", "NOTES": str(notes), "TORCH_INDEX": index,
            "TORCH": torch.partition("+")[0], "OFFLINE": "1" if offline else "",
            "PYTHON": sys.executable,
        }  # fmt: skip
        command = ["bash", "scripts/setup_venv.sh", ".venv", ".venv/stamp"]
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr, notes.read_text()

    run(f"{PIN}+cpu")  # now it is up to date
    return run


def test_an_environment_up_to_date_is_left_alone(setup):
    for torch, driver in ((f"{PIN}+cpu", ""), (PIN, "580.65"), (PIN, "")):
        code, said, asked = setup(torch, driver)
        assert code == 0 and "install" not in said + asked


def test_where_a_gpu_has_come_torch_is_installed_with_cuda(setup):
    """Made on a login node and used on a GPU node, it would train on the CPU and say nothing."""
    code, said, asked = setup(f"{PIN}+cpu", "580.65")
    assert code == 0 and "as there is a GPU" in said
    assert f"--force-reinstall --no-deps --retries 1 torch=={PIN}" in asked
    assert f"off torch=={PIN}" in asked  # and what it depends on


def test_what_cannot_be_had_leaves_what_is_there(setup):
    code, said, asked = setup(f"{PIN}+cpu", "580.65", offline=True)
    assert code == 0 and "what is there stays" in said and "editable" not in asked
    code, said, asked = setup(f"{PIN}+cpu", index="https://example.org/whl", offline=True)
    assert code == 1 and "is unchanged" in said and "editable" not in asked
    assert "install" not in setup(f"{PIN}+cpu")[2]  # up to date as before


def test_another_index_takes_effect_later_too(setup):
    index = "https://example.org/whl/cu126"
    code, said, asked = setup(PIN, "550.54", index)
    assert code == 0 and f"--retries 1 --extra-index-url {index} torch=={PIN}" in asked
    assert "driver 550.54" in said and "cannot use it" in said
    assert "install" not in setup(PIN, "550.54", index)[2]
    assert "install" not in setup(PIN, "550.54")[2]  # the choice is kept
    assert "install" not in setup(f"{PIN}+cpu", "550.54")[2]


def test_jupyterlab_finds_what_draws_the_figures():
    """A wheel puts the files where JupyterLab looks, setup_venv.sh links there."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    source = ROOT / "r1lab" / "show" / "jupyter"
    put = {
        Path(folder.removeprefix("share/jupyter/")) / Path(file).name: ROOT / file
        for folder, files in tool["setuptools"]["data-files"].items()
        for file in files
    }
    assert {source / place for place in put} == set(put.values())
    assert set(put.values()) == {path for path in source.rglob("*") if path.is_file()}
    assert "share/jupyter/labextensions/r1lab" in (ROOT / "scripts/setup_venv.sh").read_text()


def test_tests_load_without_what_the_engines_environment_lacks():
    """`make test-engines` reads this folder's conftest in an environment for training alone."""
    code = (
        "import sys, pytest; sys.modules['nbformat'] = None\n"
        "sys.exit(pytest.main(['--collect-only', '-q', '-p', 'no:xdist', 'tests/test_losses.py']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr

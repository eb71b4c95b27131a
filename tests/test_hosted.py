"""Lessons for Colab and Kaggle are the lessons; their set-up cell and the containers work."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sysconfig
import venv

import nbformat
import pytest
import yaml

from r1lab import ROOT, cli
from r1lab.basics.errors import R1LabError
from r1lab.course import hosted, profiles

LESSONS = profiles.select(None)
REPOSITORY = "someone/r1lab-fork"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("hosted")
    assert cli.main(["hosted", "--repository", REPOSITORY, "--out", str(out)]) == 0
    return out


def unlinked(source: str, place: str) -> str:
    """A hosted cell's text with the lesson's own links."""
    lesson = re.escape(hosted.linked("@.ipynb", place, REPOSITORY, "main")).replace(
        "@", r"([\w.-]+)"
    )
    source = re.sub(lesson, r"\1.ipynb", source)
    return re.sub(rf"https://github\.com/{REPOSITORY}/(?:raw|blob)/main/notebooks/", "", source)


@pytest.mark.parametrize("place", hosted.PLACES)
@pytest.mark.parametrize("lesson", LESSONS, ids=[path.stem for path in LESSONS])
def test_their_cells_are_the_lessons(written, lesson, place):
    made = nbformat.read(written / place / lesson.name, 4)
    nbformat.validate(made)
    own = [cell for cell in made.cells if hosted.TAG not in cell.metadata.get("tags", ())]
    committed = nbformat.read(lesson, 4).cells
    assert [c.cell_type for c in own] == [c.cell_type for c in committed]
    for cell, original in zip(own, committed, strict=True):
        source = cell.source if cell.cell_type == "code" else unlinked(cell.source, place)
        assert source == original.source
    ours = [cell for cell in made.cells if hosted.TAG in cell.metadata.get("tags", ())]
    assert [cell.cell_type for cell in ours] == ["markdown", "code", "code"]
    assert made.cells[1].source.startswith("# Set-up") and made.cells[0] is not own[0]
    ast.parse(made.cells[1].source)
    text = json.dumps(made)
    assert str(ROOT) not in text and not re.search(r"\]\([\w.-]+\.ipynb", text)
    assert made.metadata["accelerator"] == "GPU" and "papermill" not in text


def test_the_parameters_are_the_profiles(written):
    made = nbformat.read(written / "colab" / "06_full_gpu.ipynb", 4)
    tags = [cell.metadata.get("tags", ()) for cell in made.cells]
    at = next(i for i, one in enumerate(tags) if "injected-parameters" in one)
    assert "parameters" in tags[at - 1]
    assert 'model = "smollm2-135m"' in made.cells[at].source
    assert 'device = "cuda"' in made.cells[at].source


def test_links_lead_to_hosted_lessons(written):
    text = (written / "kaggle" / "05_r1_zero.ipynb").read_text()
    where = f"{REPOSITORY}/blob/main/notebooks/hosted/kaggle/04_grpo_objective.ipynb"
    assert f"https://kaggle.com/kernels/welcome?src=https://github.com/{where}" in text


@pytest.mark.parametrize("name", ["no-slash", 'a/b"\nimport os', "https://elsewhere/a/b"])
def test_what_is_no_repository_is_refused(name, tmp_path):
    with pytest.raises(R1LabError, match="OWNER/NAME"):
        hosted.write(name, out=tmp_path)
    with pytest.raises(R1LabError):
        hosted.variant(nbformat.read(LESSONS[0], 4), "colab", 'x"\ny', "main", {})


def set_up(tmp_path, python, then="", **environment) -> subprocess.CompletedProcess:
    """The set-up cell, and `then`, run by another Python, from a clone of this repository."""
    clone = tmp_path / "origin"
    if not clone.exists():
        ignored = shutil.ignore_patterns(".git", ".venv", "runs", "build", "*_cache", "__pycache__")
        shutil.copytree(ROOT, clone, ignore=ignored)
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
            subprocess.run([*git, *words], cwd=clone, check=True, capture_output=True)
    nb = nbformat.read(LESSONS[3], 4)
    cell = hosted.variant(nb, "colab", f"file://{clone}", "main", {"seed": 0}).cells[1].source
    program = f"{cell}\n{then}\nprint(r1lab.ROOT)\n"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "R1LAB"))}
    env |= {"R1LAB_FOLDER": str(tmp_path / "there"), **environment}
    how = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 3000}
    return subprocess.run([str(python), "-c", program], **how)


@pytest.fixture(scope="module")
def borrowed(tmp_path_factory):
    """(folder, the Python of a new environment): it has pip of its own, and reads this one's
    packages, less r1lab, so that nothing needs to be downloaded."""
    folder = tmp_path_factory.mktemp("hosted-venv")
    venv.create(folder / "env", with_pip=True)
    site = next((folder / "env").glob("lib/python*/site-packages"))
    here = sysconfig.get_paths()["purelib"]
    lend = folder / "lent"
    lend.mkdir()
    for path in os.scandir(here):
        mine = "r1lab" in path.name.lower() or path.name.endswith(".pth")
        if not mine and not path.name.startswith(("pip", "_distutils", "distutils")):
            (lend / path.name).symlink_to(path.path)
    for path in [*site.glob("setuptools*"), *site.glob("pkg_resources")]:
        shutil.rmtree(path)  # Python 3.11's is older than pyproject asks for
    (site / "lent.pth").write_text(f"{lend}\n")
    return folder, folder / "env" / "bin" / "python"


def test_the_set_up_cell_clones_installs_and_imports(borrowed):
    folder, python = borrowed
    offline = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    done = set_up(folder, python, "from r1lab import show", **offline)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is ready" in done.stdout and str(folder / "there") in done.stdout
    again = set_up(folder, python, PATH="/nowhere", **offline)  # neither git nor pip is asked
    assert again.returncode == 0 and "is ready" in again.stdout, again.stderr


def test_a_loaded_package_of_another_version_asks_for_a_restart(borrowed):
    folder, python = borrowed
    (folder / "old").mkdir()
    (folder / "old" / "sitecustomize.py").write_text(
        "import sys, types\nsys.modules['pandas'] = types.SimpleNamespace(__version__='1.0')\n"
    )
    done = set_up(folder, python, PYTHONPATH=str(folder / "old"), PIP_NO_BUILD_ISOLATION="0",
                  PIP_NO_INDEX="1")  # fmt: skip
    assert done.returncode == 1 and "Runtime > Restart session" in done.stderr


@pytest.mark.skipif("R1LAB_BARE" not in os.environ, reason="downloads everything: make hosted")
def test_the_set_up_cell_in_a_bare_environment(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    done = set_up(tmp_path, python, "from r1lab import show")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    words = ["-m", "r1lab", "run", "--only", "03", "--profile", "smoke"]
    ran = subprocess.run([str(python), *words], cwd=tmp_path / "there", timeout=1800)
    assert ran.returncode == 0


def test_the_container_for_codespaces_uses_the_projects_own_steps():
    about = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert about["postCreateCommand"] == "make setup"
    assert about["portsAttributes"]["8888"]["visibility"] == "private"
    assert about["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith(
        ".venv/bin/python"
    )
    assert re.search(r"python:3\.1[0-3]", about["image"])


def test_the_container_file_has_steps_that_a_shell_takes():
    """Each line is an instruction that is known; what it runs parses, what it copies is there; the
    server listens on this machine alone, as a user who is not root, with Jupyter's own token."""
    text = re.sub(r"\\\n", " ", (ROOT / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    steps = [line.split(maxsplit=1) for line in lines]
    assert steps[0][0] == "FROM" and {name for name, _ in steps} <= {
        "FROM", "RUN", "USER", "WORKDIR", "ARG", "COPY", "ENV", "CMD",
    }  # fmt: skip
    for name, words in steps:
        if name == "RUN":
            assert subprocess.run(["bash", "-n", "-c", words]).returncode == 0, words
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert ["RUN", "make setup && mkdir runs"] in steps and "setup" in targets
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", ".venv-engines", "runs"} <= set(ignored)
    users = [words for name, words in steps if name == "USER"]
    (command,) = (json.loads(words) for name, words in steps if name == "CMD")
    assert users == ["lab"] and command[:2] == ["make", "lab"] and "lab" in targets
    assert "--ip=127.0.0.1" in command[2] and "token" not in command[2]
    assert "EXPOSE" not in text


def test_the_workflow_for_forks_runs_ci_with_every_python_that_pyproject_names():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    when = jobs.pop(True)  # "on", which YAML reads as a truth value
    assert jobs["permissions"] == {"contents": "read"} and "schedule" in when
    matrix = jobs["jobs"]["test"]["strategy"]["matrix"]
    project = (ROOT / "pyproject.toml").read_text()
    assert matrix["python"] == re.findall(r'Python :: (3\.\d+)"', project)
    assert matrix["python"][0] == re.search(r'requires-python = ">=(.+)"', project)[1]
    assert {one.partition("-")[0] for one in matrix["os"]} == {"ubuntu", "macos"}
    assert jobs["jobs"]["test"]["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    (weekly,) = (step["run"] for step in jobs["jobs"]["hub"]["steps"] if "run" in step)
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.M)
    assert weekly.split()[0] == "make" and weekly.split()[1] in targets
    assert "schedule" in jobs["jobs"]["hub"]["if"]
    assert jobs["jobs"]["container"]["if"] == jobs["jobs"]["hub"]["if"]
    build, *_ = (step["run"] for step in jobs["jobs"]["container"]["steps"] if "run" in step)
    assert "-f Containerfile" in build and (ROOT / "Containerfile").is_file()


HUB = ROOT / "scripts" / "jupyterhub"


def hub_settings(*names, **environment):
    command = ["bash", str(HUB / "setup.sh"), "--config", *names]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return yaml.safe_load(done.stdout) if done.returncode == 0 else done.stderr


def test_a_hub_listens_to_this_machine_alone_or_with_tls():
    closed = hub_settings("rosa", "ada", "bob")
    assert closed["http"]["address"] == "127.0.0.1" and "https" not in closed
    assert closed["limits"] == {"memory": "3G", "cpu": 1}
    assert closed["users"] == {"admin": ["rosa"], "allowed": ["ada", "bob"]}
    tls = hub_settings("rosa", DOMAIN="hub.example.org", EMAIL="r@example.org", MEMORY="8G")
    assert tls["https"]["enabled"] is True and tls["limits"]["memory"] == "8G"
    assert tls["https"]["letsencrypt"]["domains"] == ["hub.example.org"]
    assert "needs EMAIL" in hub_settings("rosa", DOMAIN="hub.example.org")
    for name in ("Ada", "a b", "a]", "--help", ""):
        assert "a name is of a-z" in hub_settings("rosa", name)
    text = (HUB / "setup.sh").read_text()  # strangers find no account without a password
    first, then = text.index("DOMAIN='' settings"), text.index('settings "$admin" "$students" >')
    assert first < text.index("--admin") < text.index("passwords.py") < then


def test_a_student_of_the_hub_gets_lessons_and_a_progress_file_of_their_own(tmp_path):
    """seat.sh with stand-ins for the two commands that it starts."""
    bin = tmp_path / "project" / ".venv" / "bin"
    bin.mkdir(parents=True)
    (bin / "r1lab").write_text('#!/bin/sh\nmkdir -p "$2/notebooks"; echo "$@" > "$2/asked"\n')
    (bin / "jupyterhub-singleuser").write_text(
        '#!/bin/sh\nprintf "%s|" "$PWD" "$R1LAB_PROGRESS" "$@"'
    )
    for path in bin.iterdir():
        path.chmod(0o755)
    shutil.copytree(HUB, tmp_path / "project" / "scripts" / "jupyterhub")
    home, room = tmp_path / "home", tmp_path / "class"
    home.mkdir(), room.mkdir()
    seat = tmp_path / "project" / "scripts" / "jupyterhub" / "seat.sh"
    environment = os.environ | {"HOME": str(home), "R1LAB_CLASS": str(room)}
    environment["JUPYTERHUB_USER"] = "ada"  # whose account may be called jupyter-ada
    said = subprocess.run([seat, "--port=9"], env=environment, capture_output=True, text=True)
    folder, progress, port, _ = said.stdout.split("|")
    assert (folder, port) == (str(home / "r1lab"), "--port=9")
    assert progress == str(room / "ada.json")
    assert (home / "r1lab" / "asked").read_text() == f"init {home}/r1lab\n"


def test_a_notebook_that_is_not_a_hosted_lesson_is_not_replaced(tmp_path):
    mine = tmp_path / "colab" / "00_start_here.ipynb"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(R1LabError, match="was not written by `r1lab hosted`"):
        hosted.write("owner/name", out=tmp_path, places=("colab",))
    assert mine.read_text() == "mine"
    mine.unlink()
    for _ in range(2):  # its own are written again
        assert mine in hosted.write("owner/name", out=tmp_path, places=("colab",))

"""The lessons for Colab and Kaggle: the same cells, with a set-up cell before them.

    r1lab hosted --repository OWNER/NAME              writes notebooks/hosted/colab and .../kaggle

One template for both places. It adds a cell of words with the way to other lessons, a cell that
clones the repository and installs it, and the parameters of the profile; it asks for a GPU, and
turns links between files into links between hosted lessons. Every other cell is the lesson's own
(a test compares them), so these copies are written when they are needed, never edited.
"""

import copy
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from papermill.parameterize import parameterize_notebook

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text
from r1lab.course import profiles, runner

TAG = "hosted"  # of the cells that are not the lesson's
REPOSITORY = re.compile(r"[A-Za-z0-9-]+/[A-Za-z0-9_.-]+")
REVISION = re.compile(r"[A-Za-z0-9_./-]+")
LINK = re.compile(r"""(?<=\]\()([\w.-]+\.ipynb|glossary\.md|images/[\w.-]+)(?=[)#])""")


@dataclass(frozen=True)
class Place:
    """name; folder: where the clone goes; restart: how its notebook's Python is started again;
    open: what opens a notebook of a GitHub repository there."""

    name: str
    folder: str
    restart: str
    open: str


PLACES = {
    "colab": Place(
        "Colab", "/content/r1lab", "Runtime > Restart session",
        "https://colab.research.google.com/github/{where}",
    ),
    "kaggle": Place(
        "Kaggle", "/kaggle/working/r1lab", "Run > Restart & clear cell outputs",
        "https://kaggle.com/kernels/welcome?src=https://github.com/{where}",
    ),
}  # fmt: skip

SET_UP = """\
# Set-up: r1lab in this notebook's Python. Run again, it does nothing that is done already.
import importlib.metadata
import os
import subprocess
import sys

REPOSITORY, REVISION = "{repository}", "{revision}"
FOLDER = os.environ.get("R1LAB_FOLDER", "{folder}")


def run(*words):
    subprocess.run(words, check=True)


if not os.path.isdir(FOLDER):
    run("git", "clone", "--quiet", "--depth", "1", "--branch", REVISION, REPOSITORY, FOLDER)
try:
    importlib.metadata.version("r1lab")
except importlib.metadata.PackageNotFoundError:
    run(sys.executable, "-m", "pip", "install", "--quiet", "--editable", FOLDER)
stale = [
    name
    for name in ("numpy", "pandas", "torch", "plotly", "ipywidgets")
    if name in sys.modules and sys.modules[name].__version__ != importlib.metadata.version(name)
]
if stale:
    words = "now choose {restart}, then run this cell again"
    raise SystemExit(f"installed. {{', '.join(stale)}} of another version is loaded: {{words}}")
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)  # this Python began before r1lab was there
os.chdir(FOLDER)
import r1lab

print("r1lab", r1lab.__version__, "is ready")"""


def variant(
    nb: NotebookNode, place: str, repository: str, revision: str, values: dict
) -> NotebookNode:
    """A lesson for a place of PLACES. repository: OWNER/NAME on GitHub, or an address that git
    clones; values: the profile's parameters. Raises R1LabError for names that cannot be."""
    if place not in PLACES:
        raise R1LabError(f"there is no place {place!r}; take one of {', '.join(PLACES)}")
    if not REVISION.fullmatch(revision) or '"' in repository or "\n" in repository:
        raise R1LabError(f"{repository} at {revision} is no repository that git can clone")
    where, on_github = PLACES[place], REPOSITORY.fullmatch(repository)
    address = f"https://github.com/{repository}" if on_github else repository
    nb = copy.deepcopy(nb)
    nb.metadata["papermill"] = {}  # papermill notes its parameters there
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])  # papermill reads them
    nb = parameterize_notebook(nb, values, kernel_name="python3", language="python")
    for cell in nb.cells:
        if not cell.metadata["tags"]:
            del cell.metadata["tags"]
        cell.metadata.pop("papermill", None)
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.metadata["tags"] = [*cell.metadata["tags"], TAG]
        if cell.cell_type == "markdown" and on_github:
            cell.source = LINK.sub(lambda m: linked(m[0], place, repository, revision), cell.source)
    made = {"repository": address, "revision": revision, "folder": where.folder}
    words = (
        f"*This is the lesson for {where.name}: choose a GPU for it where there is one, run the "
        "set-up cell first (a few minutes, once), then all cells from the top. The lesson itself "
        "is the same as in the repository.*"
    )
    about = {"metadata": {"tags": [TAG]}}
    nb.cells[:0] = [
        new_markdown_cell(words, id=f"{TAG}-words", **about),
        new_code_cell(SET_UP.format(**made, restart=where.restart), id=f"{TAG}-set-up", **about),
    ]
    nb.metadata.pop("papermill", None)
    nb.metadata["accelerator"] = "GPU"
    if place == "colab":
        nb.metadata["colab"] = {"provenance": []}
    else:
        nb.metadata["kaggle"] = {"accelerator": "gpu", "isInternetEnabled": True,
                                 "isGpuEnabled": True, "language": "python",
                                 "sourceType": "notebook"}  # fmt: skip
    return nb


def linked(target: str, place: str, repository: str, revision: str) -> str:
    """Where a link of a lesson leads from its hosted copy."""
    if target.endswith(".ipynb"):
        path = f"{repository}/blob/{revision}/notebooks/{TAG}/{place}/{target}"
        return PLACES[place].open.format(where=path)
    kind = "raw" if target.startswith("images/") else "blob"
    return f"https://github.com/{repository}/{kind}/{revision}/notebooks/{target}"


def write(
    repository: str,
    revision: str = "main",
    profile: str = "gpu",
    out: Path | None = None,
    *,
    places: tuple[str, ...] = tuple(PLACES),
) -> list[Path]:
    """Write the lessons of the profile for each place to out/PLACE; the paths. out: by default
    notebooks/hosted, where the links between them lead. Raises R1LabError for a notebook there that
    was not written by this."""
    if not REPOSITORY.fullmatch(repository):
        raise R1LabError(f"--repository is OWNER/NAME, not {repository!r}")
    plan, _ = runner.plan_of(profile, None, {}, profiles.NOTEBOOKS, 0, Path("runs") / profile)
    made = []
    for place in places:
        for path, values in plan:
            nb = variant(nbformat.read(path, 4), place, repository, revision, values)
            target = (out or profiles.NOTEBOOKS / TAG) / place / path.name
            if target.exists() and f'"{TAG}-set-up"' not in target.read_text("utf-8", "replace"):
                raise R1LabError(f"{target} was not written by `r1lab hosted`: name another --out")
            made.append(atomic_write_text(target, nbformat.writes(nb, 4) + "\n"))
    return made

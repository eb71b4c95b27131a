"""The executed lessons as a book: web pages that need no kernel, no server and no network.

`build(out_dir)` turns `<out_dir>/notebooks/*.ipynb`, `run.json` and `figures.json` into
`<out_dir>/book/index.html`: a start page, a page per lesson, and one with all results. `offline`
configures Sphinx. `pdf(out_dir)` prints the same pages, exercises included, as one file.
"""

import contextlib
import copy
import gc
import html
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

from r1lab.basics import ledger as ledgers
from r1lab.basics.errors import R1LabError
from r1lab.course import offline, profiles, quizzes, readme
from r1lab.course.claims import HOLD

MARK = ".r1lab-book.json"  # in every book: the list of its files
PRINTED = b"% r1lab book --pdf\n"  # a comment behind the end of every course.pdf
PREDICT = re.compile(r"^(#+ |\W*\*\*)Predict\b", re.M)  # the next result is folded
UNSEEN = ("left out", "not run")  # of lessons without results
CAPTIONS = {
    "parameters": "*Parameters, with the values of the profile cpu:*",
    "injected-parameters": "*What this run set:*",
}


def build(out_dir: str | os.PathLike, folder: str | os.PathLike = profiles.NOTEBOOKS) -> Path:
    """Write the book of the run in `out_dir`, replacing an earlier one; returns its start page.

    folder: the lessons' sources, for their order, images, and those that have not run. Raises
    R1LabError when nothing has run, and when `<out_dir>/book` holds a file that is not a book's.
    """
    out_dir, folder = Path(out_dir), Path(folder)
    lessons, target = _lessons(out_dir, folder), out_dir / "book"
    _check_ours(target)
    with tempfile.TemporaryDirectory(prefix=".book-", dir=out_dir) as scratch:
        made = _make(lessons, out_dir, folder, Path(scratch), "html")
        for one in lessons:  # to download: the notebook as it ran
            nbformat.write(one["nb"], made / "_sources" / f"{one['name']}.ipynb")
        (made / MARK).write_text(json.dumps(sorted(_files(made))), encoding="utf-8")
        if target.exists():
            target.rename(Path(scratch, "earlier"))
        made.rename(target)
    return target / "index.html"


def _make(lessons: list[dict], out_dir: Path, folder: Path, scratch: Path, kind: str) -> Path:
    """The folder with the pages as Sphinx's builder `kind` makes them: "html", or "singlehtml", one
    page with the exercises after the lessons."""
    state, ledger = _read(out_dir / "run.json"), _ledger(out_dir)
    source, made = scratch / "source", scratch / kind
    (source / "exercises").mkdir(parents=True)
    for one in lessons:
        nbformat.write(_prepared(one, kind == "html"), source / f"{one['name']}.ipynb")
    if (folder / "images").is_dir():
        (source / "images").symlink_to((folder / "images").resolve())
    for path in sorted((folder / "exercises").glob("[!.]*.ipynb")):
        nb = quizzes.without_kernel(profiles.read_notebook(path), paper=kind == "singlehtml")
        nbformat.write(nb, source / "exercises" / path.name)
    pages = sorted(folder.glob("*.md"))  # such as the glossary
    for page in pages:
        (source / page.name).write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    more = [page.stem for page in pages]
    if kind == "singlehtml":
        more += [f"exercises/{path.stem}" for path in sorted((source / "exercises").iterdir())]
    start = _start_page(lessons, state, ledger, more)
    (source / "index.md").write_text(start, encoding="utf-8")
    (source / "results.md").write_text(_results_page(lessons, ledger), encoding="utf-8")
    try:
        with _rarely_collected():
            Sphinx(
                source, None, made, scratch / "doctrees", kind, offline.SETTINGS,
                status=None, warning=io.StringIO(),
            ).build()  # fmt: skip
    except SphinxError as error:
        raise R1LabError(f"the book of {out_dir} could not be made: {error}") from error
    return made


@contextlib.contextmanager
def _rarely_collected() -> Iterator[None]:
    """Garbage is looked for every 100,000 objects. Pages are trees of millions that stay until the
    book is made, and looking among them as often as by default takes a quarter of its time."""
    before = gc.get_threshold()
    gc.set_threshold(max(100_000, before[0]))
    try:
        yield
    finally:
        gc.set_threshold(*before)


def pdf(out_dir: str | os.PathLike, folder: str | os.PathLike = profiles.NOTEBOOKS) -> Path | None:
    """The course as one PDF, <out_dir>/course.pdf, printed by a Chrome or Chromium of this machine;
    None where there is none. Raises R1LabError when it prints nothing, and for a course.pdf there
    that was not printed here."""
    out_dir, folder, browser = Path(out_dir), Path(folder), chromium()
    if browser is None:
        return None
    lessons, target = _lessons(out_dir, folder), out_dir / "course.pdf"
    if target.exists() and PRINTED not in target.read_bytes():
        raise R1LabError(f"{target} was not printed here, and would be lost: move it away")
    with tempfile.TemporaryDirectory(prefix=".book-", dir=out_dir) as scratch:
        made = _make(lessons, out_dir, folder, Path(scratch), "singlehtml")
        printed = Path(scratch, "course.pdf")
        words = [
            browser, "--headless=new", "--disable-gpu", "--no-sandbox", "--no-pdf-header-footer",
            f"--user-data-dir={scratch}/browser", "--window-size=720,1000",
            "--virtual-time-budget=30000", f"--print-to-pdf={printed.absolute()}",
            (made / "index.html").absolute().as_uri(),
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=1200)
        if not printed.is_file():
            last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
            raise R1LabError(f"{browser} printed no PDF of {out_dir}: {last}")
        with open(printed, "ab") as file:
            file.write(PRINTED)
        return printed.replace(target)


def chromium() -> str | None:
    """A Chrome or Chromium of this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    return next(filter(None, map(shutil.which, (*names, mac))), None)


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def _check_ours(target: Path) -> None:
    """R1LabError when `target` exists and is no book, or holds other files."""
    if target.is_symlink() or target.exists():
        made = [] if target.is_symlink() else _read(target / MARK, list)
        other = _files(target) - {MARK, *map(str, made)} if made else {""}
        if other:
            name = target / min(other)
            raise R1LabError(f"{name} is not of a book made here, and would be lost: move it away")


def _lessons(out_dir: Path, folder: Path) -> list[dict[str, Any]]:
    """Every lesson in order: name, nb (the notebook), heading (its first line), title, status,
    reason, seconds, bad (it failed)."""
    entries = _part(_read(out_dir / "run.json"), "notebooks")
    sources = {path.stem: path for path in profiles.notebooks(folder)}
    executed = {path.stem: path for path in profiles.notebooks(out_dir / "notebooks")}
    lessons, ran = [], False
    for name in sorted({*sources, *executed}):
        entry = _part(entries, name)
        status, nb = str(entry.get("status") or ""), None
        if name in executed and status != "left out":
            try:
                nb = profiles.read_notebook(executed[name])
            except R1LabError:
                status = "unreadable"
        has_run = nb and any(c.get("outputs") or c.get("execution_count") for c in nb.cells)
        status = status or ("done" if has_run else "not run")
        ran |= status not in UNSEEN
        if nb is None:
            nb = profiles.read_notebook(sources[name]) if name in sources else new_notebook()
        words = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
        found = re.search(r"^# +(.+)$", words, re.M)
        title = found[1] if found else name.partition("_")[2].replace("_", " ")
        lessons.append(
            {
                "name": name,
                "nb": nb,
                "heading": found and found[0],
                "title": title if title[:1].isdigit() else f"{name[:2]} · {title}",
                "status": _claims(nb) if status == "done" else status,
                "bad": status not in ("done", *UNSEEN),
                "reason": str(entry.get("reason") or entry.get("error") or ""),
                "seconds": entry.get("seconds"),
            }
        )
    if not ran:
        raise R1LabError(f"nothing has run in {out_dir} yet: r1lab run")
    return lessons


def _claims(nb: nbformat.NotebookNode) -> str:
    """The status of a finished lesson, whose last cell checks its claims."""
    if any(re.search(r"^assert_learning = False", cell.source, re.M) for cell in nb.cells):
        return "done; too small a run to check what is learned"
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    printed = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)
    return HOLD if HOLD in printed else "done"


def _ledger(out_dir: Path) -> dict[str, dict]:
    """The valid figures of the run; the file may have been written by anyone."""
    try:
        entries = ledgers.load(out_dir)
    except R1LabError:
        return {}
    return {
        name: entry | {"unit": str(entry["unit"]), "source": str(entry["source"])}
        for name, entry in entries.items()
        if isinstance(entry["value"], (int, float))
        and all(isinstance(entry[k], (int, float, type(None))) for k in ("low", "high", "paper"))
        and (entry["low"] is None) == (entry["high"] is None)
    }


def _read(path: Path, kind: type = dict) -> Any:
    """The JSON in a file; an empty `kind` when it is missing, damaged or of another type."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return data if isinstance(data, kind) else kind()


def _part(data: dict, key: str) -> dict:
    return data[key] if isinstance(data.get(key), dict) else {}


def text(value: Any) -> str:
    """Any value as one line of markdown, escaped."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(value).split()))


def _start_page(lessons: list[dict], state: dict, ledger: dict, more: list[str]) -> str:
    """more: pages beside the lessons, after the results."""
    machine, torch = _part(state, "hardware"), _part(state, "versions").get("torch")
    facts = [("profile", state.get("profile")), ("seed", state.get("seed")), ("torch", torch)]
    facts += [("", machine.get("cpu")), ("cores:", machine.get("cores")), ("", machine.get("gpu"))]
    bad = [one["name"] for one in lessons if one["bad"]]
    ended = sum(not one["bad"] and one["status"] not in UNSEEN for one in lessons)
    hold = sum(one["status"] == HOLD for one in lessons)
    plain = re.compile(r"r1_zero/[\w ./@=%-]*").fullmatch
    headline = {n: entry for n, entry in ledger.items() if plain(n + entry["unit"])}
    rows = [
        [
            f"[{one['title'].replace('|', ' ')}]({one['name']}.ipynb)",
            text(one["status"] + (f": {one['reason']}" if one["reason"] else "")),
            _time(one["seconds"]),
        ]
        for one in lessons
    ]
    parts = [
        "# What this run shows",
        " · ".join(text(f"{word} {value}") for word, value in facts if value is not None),
        f"**{ended} of {len(lessons)} lessons have finished; {hold} of them checked all their "
        f"claims, and they hold.{' Not so: ' if bad else ''}{text(', '.join(bad))}**",
        "## From the base model to R1-Zero",
        readme.headline_table(headline) if headline else "Lesson 05 has not measured it yet.",
        "[All results](results.md), beside the paper’s: those are of AIME 2024 and a model of 671 "
        "billion parameters. Compare the shape, not the size.",
        "## Lessons",
        readme.table("| lesson | state | time |", rows),
        "```{toctree}\n:hidden:\n:caption: Lessons\n",
        *(one["name"] for one in lessons),
        "```\n\n```{toctree}\n:hidden:\n:caption: Results and terms\n\nresults",
        *more,
        "```\n",
    ]
    return "\n\n".join(parts)


def _results_page(lessons: list[dict], ledger: dict) -> str:
    """Every figure, a section per lesson."""
    parts = [
        "# Every result, beside the paper’s",
        "Measured by the lessons on this machine, with 95 % intervals. The paper’s column is "
        "DeepSeek’s corresponding figure, for a model of 671 billion parameters and other "
        f"questions: compare the shape.{'' if ledger else ' Nothing is recorded yet.'}",
    ]
    links = {one["name"]: f"[{one['title']}]({one['name']}.ipynb)" for one in lessons}
    for source in sorted({entry["source"] for entry in ledger.values()}):
        rows = [
            [
                text(name),
                text(readme.show_with_interval(entry)),
                text(readme.show(entry["paper"], entry["unit"])),
                "–" if entry["n"] is None else text(entry["n"]),
            ]
            for name, entry in ledger.items()
            if entry["source"] == source
        ]
        parts.append(f"## {links.get(source, text(source) or 'Elsewhere')}")
        parts.append(readme.table("| result | here | paper | n |", rows))
    return "\n\n".join(parts) + "\n"


def _time(seconds: Any) -> str:
    if not isinstance(seconds, (int, float)):
        return "–"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def fold(cell: nbformat.NotebookNode) -> None:
    """Fold the outputs of a cell behind "Show the result"."""
    cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-output"]
    words = {f"code_prompt_{way}": f"{way.title()} the result" for way in ("show", "hide")}
    cell.metadata["mystnb"] = words


def _prepared(lesson: dict, folded: bool = True) -> nbformat.NotebookNode:
    """The notebook for Sphinx: its state below the title, outputs that need no kernel; folded: the
    result that a prediction asks for, which paper could not show."""
    heading, cells = f"# {lesson['title']}\n", []
    if lesson["bad"] or lesson["status"] in UNSEEN:
        words = html.escape(" ".join(f"{lesson['status']}. {lesson['reason']}".split()))
        kind = "danger" if lesson["bad"] else "note"
        heading += f'\n<div class="admonition {kind}"><p>In this run: {words}</p></div>\n'
    nb, asked = copy.deepcopy(lesson["nb"]), False
    for cell in nb.cells:
        tags = cell.metadata.get("tags", [])
        if "papermill-error-cell-tag" in tags:
            continue
        cells += [new_markdown_cell(CAPTIONS[tag]) for tag in tags if tag in CAPTIONS]
        if cell.cell_type == "markdown" and lesson["heading"]:
            cell.source = cell.source.replace(lesson["heading"], "", 1)
        for output in cell.get("outputs", []):
            offline.make_portable(output)
        if cell.cell_type == "markdown":
            asked |= bool(PREDICT.search(cell.source))
        elif folded and asked and cell.outputs and "predict(" not in cell.source:
            fold(cell)
            asked = False
        cells.append(cell)
    cells.insert(0, new_markdown_cell(heading))
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})

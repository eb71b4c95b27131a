"""Slides of the executed lessons, for the projector: pages that need no kernel and no network.

    r1lab book runs/cpu --slides           writes runs/cpu/slides/index.html

They are made from the lessons' own source, and nothing is written twice. A heading begins a slide.
On it stand the first sentence below the heading, formulas, tables, pictures and the figures of the
run; a question (**Predict**) has a slide before its result. What a cell printed stands there where
no figure answers a question, or where a heading or its sentence with a colon announces it. All
other words are the speaker's notes of that slide. A cell's `slide_type` (JupyterLab's *Property
Inspector*) wins: `skip` leaves it out, `notes` makes all of it notes, `fragment` shows all of it,
of a code cell its code; `slide` begins a slide and shows a code cell's code. The exercises and the
check of the claims are left out.
"""

import html
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import plotly
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text
from r1lab.course import offline, profiles

FOLDER = "slides"
LAST = re.compile(r"^## (What we claimed|Exercises)", re.M)
SENTENCE = re.compile(r"(?<=[^.\d][.?!])\s+(?=[A-Z*`$])")
SHOWN = ("|", "$$", "![", "> ", "<img", "<picture")  # how a block begins that stands on the slide
LINES = 16  # as much printed text as a slide takes
MARK = '<meta name="generator" content="r1lab book --slides">'
HERE = Path(__file__).parent


def _formula(latex: str, how: dict) -> str:
    return offline.mathml(latex, "block" if how["display_mode"] else "inline")


MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")
MARKDOWN.use(dollarmath_plugin, allow_space=False, renderer=_formula)


@dataclass
class Slide:
    """title: markdown; body, notes: HTML; full: it has a figure, a table or a question."""

    title: str
    body: str = ""
    notes: str = ""
    full: bool = False


def slides(nb: NotebookNode) -> list[Slide]:
    """The slides of a lesson that has run."""
    made: list[Slide] = []
    fresh = False  # the heading is still without a sentence
    asked = ""  # the question that has no answer yet; " " for what is announced

    def next_slide() -> Slide:
        made.append(Slide(made[-1].title if made else ""))
        return made[-1]

    for cell, blocks in _cells(nb):
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "")
        if kind in ("slide", "subslide") and made:
            next_slide()
        if cell.cell_type == "code" and kind in ("slide", "subslide", "fragment") and made:
            made[-1].body += _html(f"```python\n{cell.source}\n```")
        for block in blocks:
            heading = re.match(r"#+ (.+)", block)
            if heading:
                made.append(Slide(heading[1]))
                fresh, asked, block = True, " ", block.partition("\n")[2].strip()
            if not block or not made:
                continue
            here = made[-1]
            if kind == "notes":
                here.notes += _html(block)
            elif kind == "fragment" or block.startswith(SHOWN):
                apart = block.startswith(">") or (block.startswith("|") and asked.strip())
                here = next_slide() if here.full and apart else here
                here.body, asked = here.body + _html(block), asked.strip()
                here.full |= block.startswith("|")
            elif re.match(r"\W*\*\*Predict", block):
                here = next_slide() if here.full else here
                asked = _html(block)
                here.body, here.full = here.body + asked, True
            elif fresh and not block.startswith("<"):
                first, rest = _sentence(block)
                here.body, fresh, asked = here.body + _html(first), False, " " * (first[-1] == ":")
                here.notes += _html(rest)
            else:
                here.notes += _html(block)
        results = [*_figures(cell)] if made else []
        if asked and not results and (printed := "".join(_printed(cell))):
            results = [asked + printed]  # the question is asked again, as there is room for it
        for result in results:
            here = next_slide() if made[-1].full else made[-1]
            here.body, here.full, fresh, asked = here.body + result, True, False, ""
    return made


def _cells(nb: NotebookNode) -> Iterator[tuple[NotebookNode, list[str]]]:
    """The cells up to the exercises that are not skipped, with the blocks of a markdown cell."""
    for cell in nb.cells:
        source = cell.source if cell.cell_type == "markdown" else ""
        if LAST.search(source):
            return
        if cell.metadata.get("slideshow", {}).get("slide_type") not in ("skip", "-"):
            yield cell, [b for part in re.split(r"\n\s*\n", source) if (b := part.strip())]


def _sentence(block: str) -> tuple[str, str]:
    """The first sentence of a block and what follows; a list stays whole."""
    for end in SENTENCE.finditer(block) if not re.match(r"([-*]|\d+\.)\s", block) else ():
        plain = re.sub(r"`[^`]*`|\$[^$]*\$", "", block[: end.start()])
        if plain.count("*") % 2 == 0:  # not within *emphasis*
            return block[: end.start()], block[end.end() :]
    return block, ""


def _figures(cell: NotebookNode) -> Iterator[str]:
    """The figures and pictures among a cell's outputs, as HTML."""
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if offline.PLOTLY in data:
            yield offline.figure(data[offline.PLOTLY], data.get("text/plain", ""))
        elif "image/svg+xml" in data:
            yield offline.clean(f"<div>{''.join(data['image/svg+xml'])}</div>")
        elif "image/png" in data:
            yield f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
        elif "<svg" in (made := "".join(data.get("text/html", ""))) and "<table" not in made:
            yield offline.clean(f"<div>{made}</div>")


def _printed(cell: NotebookNode) -> Iterator[str]:
    """What a cell printed, and its tables, as HTML; nothing that is too long for a slide."""
    for output in cell.get("outputs", []):
        made = "".join(output.get("data", {}).get("text/html", ""))
        text = "".join(output.get("text", "") if output.get("name") == "stdout" else "").strip("\n")
        if "<table" in made:
            yield offline.clean(made)
        elif text and "%|" not in text and text.count("\n") < LINES:  # no bar of progress
            yield f"<pre>{html.escape(text)}</pre>"


def _html(block: str) -> str:
    made = re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', MARKDOWN.render(block))
    return offline.clean(re.sub(r'href="[\w/]+\.(ipynb|md)[^"]*"', "", made))


def page(nb: NotebookNode, title: str) -> str:
    """A lesson's slides as one HTML page."""
    shown = "".join(
        f"<section><h2>{offline.clean(MARKDOWN.renderInline(one.title))}</h2>"
        f'<div class="body">{one.body}</div>'
        f'<aside class="notes">{one.notes}</aside></section>\n'
        for one in slides(nb)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{offline.POLICY}">{MARK}\n'
        f'<title>{html.escape(title)}</title><link rel="stylesheet" href="slides.css"></head>\n'
        f'<body>{shown}<script src="plotly.min.js"></script><script src="slides.js"></script>\n'
        "</body></html>\n"
    )


def build(out_dir: Path, folder: Path = profiles.NOTEBOOKS) -> Path:
    """Write the slides of all lessons that have run in `out_dir`; returns the start page. folder:
    the lessons' sources, for their images. Raises R1LabError when nothing has run, or where
    somebody has a page of their own among the slides, or a folder of that name."""
    target, entries = Path(out_dir) / FOLDER, []
    index = target / "index.html"
    for path in target.glob("*.html"):
        if MARK not in path.read_text(encoding="utf-8", errors="replace"):
            words = "is no page of slides, and would stay among them: move it away"
            raise R1LabError(f"{path} {words}")
    if target.is_dir() and any(target.iterdir()) and not index.exists():
        raise R1LabError(f"{target} holds other files than slides made here: move it away")
    done = profiles.notebooks(Path(out_dir) / "notebooks")
    if not done:
        raise R1LabError(f"nothing has run in {out_dir} yet: r1lab run")
    target.mkdir(exist_ok=True)
    for path in done:
        nb = profiles.read_notebook(path)
        title = next((one.title for one in slides(nb)), path.stem)
        atomic_write_text(target / f"{path.stem}.html", page(nb, title))
        entries.append(f'<li><a href="{path.stem}.html">{html.escape(title)}</a></li>')
    if (folder / "images").is_dir():
        shutil.copytree(folder / "images", target / "images", dirs_exist_ok=True)
    for name in ("slides.css", "slides.js"):
        shutil.copy(HERE / name, target)
    shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", target)
    start = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{MARK}<title>Slides</title>'
        '<link rel="stylesheet" href="slides.css"></head><body><section class="now"><h2>Slides</h2>'
        "<p>→ ← go on and back, <b>n</b> shows the notes below the slide, <b>p</b> opens a second "
        "window with notes that follows, <b>f</b> fills the screen. To print: the browser.</p>"
        f"<ul>{''.join(entries)}</ul></section></body></html>\n"
    )
    return atomic_write_text(index, start)

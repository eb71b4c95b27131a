"""The executed lessons as plain web pages that need no kernel, no server and no network.

`build(out_dir)` reads `<out_dir>/notebooks/*.ipynb`, `run.json` and `figures.json` and writes
`<out_dir>/report/index.html` with one page per lesson. Everything a page loads lies beside it:

* plotly figures stay interactive through the `plotly.min.js` that the plotly package brings,
  copied once; until it has loaded, and without JavaScript, the static twin (PNG) shows;
* formulas become MathML, which browsers draw themselves;
* widgets need a kernel, so a note stands in their place.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mistune
from latex2mathml.converter import convert
from nbconvert.filters import ansi2html
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from r1lab.basics.errors import R1LabError
from r1lab.course import profiles, readme

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "Interactive in JupyterLab: run `make lab` and open this notebook."
IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".svg": "image/svg+xml", ".gif": "image/gif"}


def build(out_dir: str | os.PathLike, folder: str | os.PathLike = profiles.NOTEBOOKS) -> Path:
    """Write the report of the run in `out_dir`; the path of its index page.

    folder  where the lessons' sources are: their order, their pictures, and what the lessons that
            have not run say about themselves. Raises R1LabError when nothing has run.
    """
    out_dir, folder = Path(out_dir), Path(folder)
    state = _read(out_dir / "run.json") or {"notebooks": {}}
    ledger = _read(out_dir / "figures.json") or {}
    sources = {path.stem: path for path in profiles.notebooks(folder)}
    executed = {path.stem: path for path in profiles.notebooks(out_dir / "notebooks")}
    if not executed:
        raise R1LabError(f"nothing has run in {out_dir} yet: r1lab run")
    names = sorted({*sources, *executed})
    lessons = [
        _lesson(name, executed.get(name), sources.get(name), state["notebooks"].get(name, {}))
        for name in names
    ]
    target = out_dir / "report"
    target.mkdir(parents=True, exist_ok=True)
    _copy_plotly(target)
    for lesson in lessons:
        if lesson["page"]:
            text = _lesson_page(lesson, lessons, state, folder)
            _write(target / lesson["page"], text)
    _write(target / "index.html", _index_page(lessons, state, ledger))
    return target / "index.html"


# --------------------------------------------------------------------------------------------------
# What a lesson says about itself


def _lesson(name: str, executed: Path | None, source: Path | None, entry: dict) -> dict[str, Any]:
    """Title, goals and status of one lesson, and its notebook if it has run."""
    nb, status = None, entry.get("status", "done" if executed else "not run")
    if executed and status != "left out":
        try:
            nb = profiles.read_notebook(executed)
        except R1LabError:
            status = "unreadable"
    shown = nb or (profiles.read_notebook(source) if source else NotebookNode(cells=[]))
    before_code = itertools.takewhile(lambda cell: cell.cell_type != "code", shown.cells)
    opening = "\n\n".join(cell.source for cell in before_code)
    found = re.search(r"^#\s+(.+)$", opening, re.M)
    title = found[1].strip() if found else name.partition("_")[2].replace("_", " ")
    return {
        "name": name,
        "notebook": nb,
        "page": f"{name}.html" if nb else None,
        "title": title if title[:1].isdigit() else f"{name[:2]} · {title}",
        "goals": section(opening, "What you will learn"),
        "status": status,
        "seconds": entry.get("seconds"),
        "reason": entry.get("reason") or entry.get("error"),
    }


def section(text: str, heading: str) -> str:
    """The markdown under `heading` in a lesson's opening, what stands before its first code.

    The heading may be a line of its own (`## Time`) or lead its paragraph (`**Time:** 2 minutes`).
    """
    start = re.search(rf"^[#*\s]*{heading}\b[*:.\s]*", text, re.M | re.I)
    if not start:
        return ""
    rest = text[start.end() :]
    end = re.search(r"\n(?=#+\s)|\n(?=\s*\*\*[A-Z][^*\n]*\*\*)|\n---", rest)
    return (rest[: end.start()] if end else rest).strip()


# --------------------------------------------------------------------------------------------------
# Pages


def _index_page(lessons: list[dict], state: dict, ledger: dict) -> str:
    machine, versions = state.get("hardware") or {}, state.get("versions") or {}
    total = sum(lesson["seconds"] or 0 for lesson in lessons)
    facts = [
        f"profile {state['profile']}" if state.get("profile") else "",
        f"seed {state['seed']}" if state.get("seed") is not None else "",
        f"{_minutes(total)} in all" if total else "",
        f"{machine.get('cpu')}, cores: {machine['cores']}" if machine.get("cores") else "",
        machine.get("gpu") or "",
        f"torch {versions['torch']}" if versions.get("torch") else "",
    ]
    cards = []
    for lesson in lessons:
        title = inline(lesson["title"])
        link = f'<a href="{lesson["page"]}">{title}</a>' if lesson["page"] else title
        status = lesson["status"]
        spent = f" in {_minutes(lesson['seconds'])}" if lesson["seconds"] else ""
        why = f'<p class="reason">{html.escape(lesson["reason"])}</p>' if lesson["reason"] else ""
        cards.append(
            f'<section class="card"><h2>{link}</h2>'
            f'<p class="status {_slug(status)}">{html.escape(status)}{spent}</p>{why}'
            f'<div class="goals">{markdown(lesson["goals"])}</div></section>'
        )
    body = (
        "<h1>DeepSeek-R1 from scratch: what this run shows</h1>"
        f'<p class="facts">{html.escape(" · ".join(fact for fact in facts if fact))}</p>'
        f"{''.join(cards)}{_figures_table(ledger)}"
    )
    return _page("r1lab", body, lessons, None)


def _figures_table(ledger: dict) -> str:
    if not ledger:
        return ""
    rows = []
    for name, entry in ledger.items():
        source = entry["source"]
        rows.append(
            f"<tr><td><code>{html.escape(name)}</code></td>"
            f"<td>{html.escape(readme.show_with_interval(entry))}</td>"
            f"<td>{html.escape(readme.show(entry['paper'], entry['unit']))}</td>"
            f"<td>{'–' if entry['n'] is None else entry['n']}</td>"
            f'<td><a href="{html.escape(source)}.html" title="{html.escape(source)}">'
            f"{html.escape(source.partition('_')[0])}</a></td></tr>"
        )
    return (
        '<h2 id="figures">Every figure, beside the paper’s</h2><p>Measured by the lessons on this '
        "machine, with 95 % intervals. The paper’s column is DeepSeek’s corresponding figure, for "
        "a model of 671 billion parameters and other questions: compare the shape.</p>"
        '<div class="table figures"><table><thead><tr><th>figure</th><th>here</th><th>paper</th>'
        f"<th>n</th><th>lesson</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _lesson_page(lesson: dict, lessons: list[dict], state: dict, folder: Path) -> str:
    cells = "".join(
        render_cell(cell, folder, state.get("profile") or "")
        for cell in lesson["notebook"].cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])
    )
    banner = ""
    if lesson["status"] not in ("done", "left out"):
        said = f": {lesson['reason']}" if lesson["reason"] else ""
        banner = f'<p class="status failed">{html.escape(lesson["status"] + said)}</p>'
    pages = [other for other in lessons if other["page"]]
    here = next(i for i, other in enumerate(pages) if other is lesson)
    before = pages[here - 1] if here else None
    after = pages[here + 1] if here + 1 < len(pages) else None
    turn = "".join(
        f'<a href="{other["page"]}">{arrow} {inline(other["title"])}</a>'
        if other
        else "<span></span>"
        for other, arrow in ((before, "←"), (after, "→"))
    )
    body = f'{banner}<article>{cells}</article><nav class="turn">{turn}</nav>'
    return _page(lesson["title"], body, lessons, lesson)


def _page(title: str, body: str, lessons: list[dict], here: dict | None) -> str:
    entries = [f'<li><a href="index.html"{"" if here else CURRENT}>Overview</a></li>']
    for lesson in lessons:
        label = inline(lesson["title"])
        if lesson["page"]:
            mark = CURRENT if lesson is here else ""
            entries.append(f'<li><a href="{lesson["page"]}"{mark}>{label}</a></li>')
        else:
            entries.append(f"<li><span>{label}</span></li>")
    plots = 'class="plotly"' in body
    plain = html.escape(re.sub(r"[*`$]", "", title))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{plain}</title><style>{STYLE}{CODE_STYLE}</style>"
        f"{PLOTLY_TAG if plots else ''}</head><body>"
        '<nav class="side"><details open><summary>r1lab</summary>'
        f"<ol>{''.join(entries)}</ol></details></nav><main>{body}</main>"
        f"{DRAW if plots else ''}</body></html>\n"
    )


# --------------------------------------------------------------------------------------------------
# Cells and outputs


def render_cell(cell: NotebookNode, folder: Path, profile: str = "") -> str:
    """One cell as HTML."""
    if cell.cell_type == "markdown":
        return f'<div class="text">{markdown(cell.source, folder, cell.get("attachments"))}</div>'
    if cell.cell_type != "code":
        return f"<pre>{html.escape(cell.source)}</pre>"
    tags = cell.metadata.get("tags", [])
    caption = ""
    if "parameters" in tags:
        caption = '<p class="caption">Parameters (the values of the cpu profile)</p>'
    if "injected-parameters" in tags:
        caption = f'<p class="caption">What this run set (profile {html.escape(profile)})</p>'
    source = code(cell.source, "python") if cell.source.strip() else ""
    outputs = "".join(render_output(output) for output in cell.get("outputs", []))
    return f'<div class="cell">{caption}{source}<div class="outputs">{outputs}</div></div>'


def render_output(output: NotebookNode) -> str:
    """One output as HTML; the richest form that works offline and without a kernel."""
    if output.output_type == "stream":
        text = _carriage_returns("".join(output.text))
        return f'<pre class="stream {output.name}">{ansi2html(text)}</pre>' if text.strip() else ""
    if output.output_type == "error":
        return f'<pre class="error">{ansi2html(chr(10).join(output.traceback))}</pre>'
    data = {kind: _joined(value) for kind, value in output.get("data", {}).items()}
    if PLOTLY in data:
        return _plotly(data[PLOTLY], data.get("image/png"))
    if WIDGET in data:
        return f'<p class="note">{inline(WIDGET_NOTE)}</p>'
    if "text/html" in data:
        return f'<div class="html">{offline(data["text/html"])}</div>'
    if "image/svg+xml" in data:
        return f'<div class="picture">{offline(data["image/svg+xml"])}</div>'
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            return f'<div class="picture">{_image(kind, data[kind])}</div>'
    if "text/markdown" in data:
        return f'<div class="text">{markdown(data["text/markdown"])}</div>'
    if "text/latex" in data:
        return f'<div class="text">{markdown(data["text/latex"])}</div>'
    if "text/plain" in data:
        return f'<pre class="result">{ansi2html(data["text/plain"])}</pre>'
    return ""


def _plotly(figure: dict, png: str | None) -> str:
    """A figure: its static twin first, which the script at the page's end replaces."""
    twin = _image("image/png", png) if png else "<p>This figure needs JavaScript.</p>"
    spec = {"data": figure.get("data", []), "layout": figure.get("layout", {})}
    text = json.dumps(spec).replace("</", "<\\/")
    height = spec["layout"].get("height") or 450
    return (
        f'<div class="plotly" style="min-height:{int(height)}px"><div class="twin">{twin}</div>'
        f'<script type="application/json">{text}</script></div>'
    )


def _image(kind: str, data: str, name: str = "") -> str:
    """A picture inside the page; `data` in base64."""
    return f'<img alt="{name}" src="data:{kind};base64,{"".join(data.split())}">'


def _joined(value: Any) -> Any:
    """nbformat may keep text as a list of lines."""
    lines = isinstance(value, list) and all(isinstance(line, str) for line in value)
    return "".join(value) if lines else value


def _carriage_returns(text: str) -> str:
    """What a terminal would show in the end of a progress bar that redraws its line."""
    lines = []
    for line in text.split("\n"):
        parts = [part for part in line.split("\r") if part.strip()]
        lines.append(parts[-1] if parts else "")
    return "\n".join(lines)


def offline(text: str) -> str:
    """HTML without what it would load over the network: scripts, styles, frames, pictures."""
    address = r"""["']?\s*(?:https?:)?//"""
    loaders = "script|link|iframe|img|embed|object|source|video|audio"  # markdown gives lone tags
    either = re.S | re.I
    text = re.sub(rf"<script\b[^>]*\bsrc\s*=\s*{address}[^>]*>.*?</script>", "", text, flags=either)
    text = re.sub(rf"<(?:{loaders})\b[^>]*=\s*{address}[^>]*>", "", text, flags=either)
    text = re.sub(rf"@import\s+(?:url\(\s*)?{address}[^;]*;", "", text, flags=either)
    return re.sub(rf"url\(\s*{address}[^)]*\)", "none", text, flags=either)


# --------------------------------------------------------------------------------------------------
# Markdown, formulas, code

# `$5 and $6` is no formula: the closing dollar has no space before it and no digit after it.
INLINE_MATH = r"\$(?![\s$])(?P<r1_math>(?:[^$\\]|\\.)+?)(?<!\s)\$(?!\d)"
DISPLAY_MATH = r"\$\$(?P<r1_display>(?:[^$\\]|\\.)+?)\$\$"
BLOCK_MATH = r"^ {0,3}\$\$[ \t]*\n?(?P<r1_block>(?:[^$\\]|\\[\s\S])+?)\$\$[ \t]*(?:\n|$)"


def markdown(text: str, folder: Path | None = None, attachments: dict | None = None) -> str:
    """Markdown as HTML: tables, formulas as MathML, pictures embedded, links between lessons."""
    renderer = _Renderer(folder, attachments or {})
    return mistune.create_markdown(
        renderer=renderer, plugins=["table", "strikethrough", "footnotes", "task_lists", _math]
    )(text)


def inline(text: str) -> str:
    """One line of markdown as HTML, without a paragraph around it."""
    return re.sub(r"^<p>|</p>$", "", markdown(text).strip())


def _math(md: mistune.Markdown) -> None:
    """The mistune plugin for `$...$` and `$$...$$`."""

    def block(parser, match, state):
        state.append_token({"type": "math_block", "raw": match["r1_block"]})
        return match.end()

    def span(kind, group):
        def parse(parser, match, state):
            state.append_token({"type": kind, "raw": match[group]})
            return match.end()

        return parse

    md.block.register("math_block", BLOCK_MATH, block, before="list")
    md.inline.register(
        "math_display", DISPLAY_MATH, span("math_display", "r1_display"), before="link"
    )
    md.inline.register("math_inline", INLINE_MATH, span("math_inline", "r1_math"), before="link")


def mathml(latex: str, display: bool = False) -> str:
    """A formula as MathML; as code when the converter does not understand it."""
    latex = re.sub(r"\{(aligned|align|split|gathered)\}", "{align*}", latex.strip())
    try:
        found = convert(latex, display="block" if display else "inline")
    except Exception:  # the converter raises many kinds, and a formula must not cost the report
        return f"<code>{html.escape(latex)}</code>"
    found = found.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    return f'<span class="formula">{found}</span>' if display else found


def unknown_commands(latex: str) -> list[str]:
    """The LaTeX commands in a formula that the report could not draw: a lesson's tests use it."""
    shown = mathml(latex)
    return [latex] if shown.startswith("<code>") else re.findall(r"\\[A-Za-z]+", shown)


def formulas(text: str) -> list[str]:
    """All formulas in a markdown text, in the order of kinds."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    displayed = re.findall(r"\$\$(.+?)\$\$", text, flags=re.S)
    rest = re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)
    return displayed + [match["r1_math"] for match in re.finditer(INLINE_MATH, rest)]


class _Renderer(mistune.HTMLRenderer):
    """HTML from markdown, with what a lesson needs. Raw HTML is kept: the lessons are ours."""

    def __init__(self, folder: Path | None, attachments: dict):
        super().__init__(escape=False)
        self.folder, self.attachments = folder, attachments

    def math_block(self, text: str) -> str:
        return mathml(text, display=True)

    def math_display(self, text: str) -> str:
        return mathml(text, display=True)

    def math_inline(self, text: str) -> str:
        return mathml(text)

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        return f'<h{level} id="{_slug(re.sub("<[^>]+>", "", text))}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        return f'<div class="table"><table>{text}</table></div>\n'

    def block_code(self, text: str, info: str | None = None) -> str:
        return code(text, info.split()[0] if info else "")

    def block_html(self, text: str) -> str:
        return offline(re.sub(INLINE_MATH, lambda match: mathml(match["r1_math"]), text)) + "\n"

    def inline_html(self, text: str) -> str:
        return offline(text)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if not re.match(r"[a-z]+:", url):
            url = re.sub(r"\.ipynb(?=$|#)", ".html", url.removeprefix("./"))
        return super().link(text, url, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        name = html.escape(re.sub("<[^>]+>", "", text), quote=True)
        if url.startswith("data:"):
            return f'<img alt="{name}" src="{html.escape(url, quote=True)}">'
        if url.startswith("attachment:"):
            found = self.attachments.get(unquote(url.removeprefix("attachment:")), {})
            for kind, data in found.items():
                return _image(kind, _joined(data), name)
        if re.match(r"(https?:)?//", url):  # shown as a link: the report loads nothing
            return f'<a href="{html.escape(url, quote=True)}">{name or "picture"}</a>'
        file = (self.folder or Path()) / unquote(url)
        kind = IMAGES.get(file.suffix.lower())
        if kind is None or not file.is_file():
            return f'<span class="note">[picture missing: {name or html.escape(url)}]</span>'
        return _image(kind, base64.b64encode(file.read_bytes()).decode(), name)


def code(text: str, language: str) -> str:
    """Source text with colours."""
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return highlight(text, lexer, HtmlFormatter(cssclass="code", nobackground=True))


# --------------------------------------------------------------------------------------------------
# Files and small things


def _copy_plotly(target: Path) -> None:
    """plotly.min.js beside the pages, from the installed plotly package; copied once."""
    import plotly

    source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    copy = target / "plotly.min.js"
    if not copy.exists() or copy.stat().st_size != source.stat().st_size:
        shutil.copyfile(source, target / ".plotly.tmp")
        os.replace(target / ".plotly.tmp", copy)


def _read(path: Path) -> dict | None:
    """A JSON object, or None when it is missing or broken: the report shows what there is."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _slug(text: str) -> str:
    return re.sub(r"[^\w]+", "-", html.unescape(text).lower()).strip("-")


CURRENT = ' aria-current="page"'
PLOTLY_TAG = '<script src="plotly.min.js" defer></script>'
DRAW = """<script>
document.addEventListener("DOMContentLoaded", function () {
  if (!window.Plotly) return;
  document.querySelectorAll("div.plotly").forEach(function (box) {
    var spec = JSON.parse(box.querySelector("script").textContent);
    var plot = document.createElement("div");
    box.appendChild(plot);
    var layout = Object.assign({}, spec.layout, {autosize: true});
    delete layout.width;
    Plotly.newPlot(plot, spec.data, layout, {responsive: true, displaylogo: false}).then(
      function () { box.querySelector(".twin").remove(); },
      function () { plot.remove(); });
  });
});
</script>"""
STYLE = """
:root { color-scheme: light; --ink: #1c2733; --soft: #5b6775; --line: #e2e6eb; --tint: #f6f8fa;
  --link: #1a5fb4; --good: #1b7f4b; --bad: #b3261e; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 17px/1.65 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
a { color: var(--link); text-decoration-thickness: 1px; text-underline-offset: 2px; }
main { width: 100%; min-width: 0; max-width: 910px; margin: 0 auto; padding: 2rem 1.5rem 4rem; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2.2em 0 .6em; }
h1 { font-size: 2rem; margin-top: .4em; }
h2 { font-size: 1.45rem; border-bottom: 1px solid var(--line); padding-bottom: .25em; }
h3 { font-size: 1.15rem; }
p, ul, ol { margin: .8em 0; }
li { margin: .25em 0; }
img, svg { max-width: 100%; height: auto; }
.formula { display: block; margin: 1.1em 0; padding: .2em 0; overflow: auto hidden; }
.formula math { font-size: 1.12em; }
math { font-size: 1.05em; }
mtd[columnalign="right"] { text-align: right; }
mtd[columnalign="left"] { text-align: left; }
mtable[displaystyle="true"] { math-style: normal; }
menclose { border: 1px solid; padding: .2em .3em; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { background: var(--tint); border-radius: 4px; padding: .1em .3em; font-size: .88em; }
pre { font-size: .78rem; line-height: 1.5; overflow-x: auto; margin: 0; padding: .8rem 1rem;
  tab-size: 4; }
pre code { background: none; padding: 0; }
blockquote { margin: 1em 0; padding: .1em 1.1em; border-left: 4px solid #b9c7d8;
  background: var(--tint); }
.code { background: var(--tint); border: 1px solid var(--line); border-radius: 6px;
  margin: .9em 0 .4em; }
.cell { margin: 1.2em 0; }
.outputs pre { color: #2b3643; border-left: 3px solid var(--line); padding: .3rem 1rem;
  margin: .3em 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 40rem;
  overflow-y: auto; }
.outputs pre.error { border-left-color: var(--bad); background: #fdf3f2; white-space: pre; }
.outputs .html { overflow-x: auto; margin: .5em 0; }
.picture { margin: .6em 0; }
.plotly { margin: .8em 0; overflow-x: auto; }
.caption { color: var(--soft); font-size: .85rem; margin: 0 0 -.6em; }
.note { color: var(--soft); background: var(--tint); border: 1px dashed #c5ced8; font-size: .9rem;
  border-radius: 6px; padding: .5em .9em; }
.table { overflow-x: auto; margin: 1em 0; }
table { border-collapse: collapse; border: 0; font-size: .9rem; }
th, td { border: 0; padding: .4em .8em; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { border-bottom: 2px solid #c5ced8; }
.figures td:not(:first-child) { white-space: nowrap; }
.figures td:first-child { overflow-wrap: anywhere; }
details { margin: 1em 0; }
article details { border: 1px solid var(--line); border-radius: 6px; padding: .5em 1em; }
summary { cursor: pointer; font-weight: 600; }
.facts, .goals { color: var(--soft); }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .9em 1.3em; margin: 1em 0; }
.card h2 { border: 0; margin: 0; padding: 0; font-size: 1.2rem; }
.card .goals { font-size: .93rem; }
.card .goals p, .card .goals ul { margin: .4em 0 0; }
.status { display: inline-block; margin: .5em 0 0; padding: .05em .7em; font-size: .82rem;
  border-radius: 99px; background: var(--tint); color: var(--soft); }
.status.done { background: #e5f4eb; color: var(--good); }
.status.failed { background: #fbe9e7; color: var(--bad); }
.reason { color: var(--soft); font-size: .9rem; margin: .4em 0 0; overflow-wrap: anywhere; }
.turn { display: flex; justify-content: space-between; gap: 2em; margin-top: 3em;
  border-top: 1px solid var(--line); padding-top: 1.2em; }
.side { font-size: .92rem; padding: 1rem 1.5rem; border-bottom: 1px solid var(--line); }
.side details { margin: 0; }
.side ol { list-style: none; margin: .6em 0 0; padding: 0; }
.side li { margin: .1em 0; }
.side a, .side span { display: block; padding: .25em .6em; border-radius: 5px; color: inherit;
  text-decoration: none; }
.side span { color: #98a2ad; }
.side a:hover { background: var(--tint); }
.side a[aria-current] { background: #e8f0fa; color: var(--link); font-weight: 600; }
@media (min-width: 1100px) {
  body { display: grid; grid-template-columns: 270px minmax(0, 1fr); }
  .side { position: sticky; top: 0; height: 100vh; overflow-y: auto; border-bottom: 0;
    border-right: 1px solid var(--line); padding-top: 2rem; }
}
@media (max-width: 600px) { body { font-size: 16px; } main { padding: 1rem 1rem 3rem; } }
@media print { .side, .turn { display: none; } }
"""
CODE_STYLE = HtmlFormatter(style="friendly").get_style_defs(".code")

"""Sphinx settings and extension for a book that works from a folder, without kernel or server.

myst-nb reads the notebooks, sphinx-book-theme brings contents, search, dark mode and downloads.
`setup` adds the rest:

* figures are drawn by plotly's own `plotly.min.js` (`book.js`); a control, which needs a kernel,
  leaves a line of text in its place;
* formulas become MathML, which browsers draw themselves;
* no text of a page is executed or loads from another host: `clean` removes it, and a
  Content-Security-Policy forbids it.
"""

import html
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import plotly
from bs4 import BeautifulSoup
from docutils import nodes
from latex2mathml.converter import convert
from nbformat import NotebookNode
from sphinx.application import Sphinx

PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")  # earlier states of a progress bar
HERE = Path(__file__).parent
PROJECT = "DeepSeek-R1 from scratch"
POLICY = "default-src 'self' file: data: blob: 'unsafe-inline' 'unsafe-eval'"
SETTINGS: dict[str, Any] = {
    "project": PROJECT,
    "extensions": ["myst_nb", __name__],
    "html_theme": "sphinx_book_theme",
    "html_title": PROJECT,
    "html_theme_options": {
        "home_page_in_toc": True,
        "show_toc_level": 2,
        "use_fullscreen_button": False,
        "navbar_persistent": [],  # the search field stands in the sidebar
        "footer_content_items": [],
        "pygments_light_style": "a11y-light",
        "pygments_dark_style": "a11y-dark",
    },
    "html_context": {"default_mode": "auto"},
    "html_static_path": [
        *(str(HERE / name) for name in ("book.css", "book.js")),
        str(Path(plotly.__file__).parent / "package_data" / "plotly.min.js"),
    ],
    "html_css_files": ["book.css"],
    "html_math_renderer": "mathml",
    "html_sourcelink_suffix": "",  # the downloads are called *.ipynb
    "html_show_search_summary": False,  # it would be fetched, and file:// has no fetch
    "html_use_index": False,
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_code_prompt_show": "Show the {type}",
    "nb_code_prompt_hide": "Hide the {type}",
    "nb_ipywidgets_js": {},  # the default is a CDN
    "myst_enable_extensions": ["dollarmath", "tasklist"],
    "myst_dmath_allow_space": False,  # $5 and $6 are prices
    "myst_heading_anchors": 4,
}
ACTIVE = {"script", "iframe", "frame", "object", "embed", "applet", "link", "meta", "base", "form"}
ACTIVE |= {"animate", "set", "use"}  # of SVG: they can change or load an address
ADDRESSES = {"src", "href", "xlink:href", "poster", "data", "action", "background"}
LOADS = re.compile(r"@import[^;]*;?|url\(\s*(?!['\"]?(?:#|data:))[^)]*\)?", re.I)


def make_portable(output: NotebookNode) -> None:
    """Make an output work without a kernel; a control leaves its line of text."""
    if output.output_type == "stream":
        output.text = OVERWRITTEN.sub("", output.text)
    data = output.get("data", {})
    if PLOTLY in data:
        output.data = {"text/html": figure(data[PLOTLY], data.get("text/plain", ""))}
    elif WIDGET in data:
        words = html.escape(data.get("text/plain", ""))
        output.data = {"text/html": f'<p class="no-kernel">{words}</p>'}


def figure(figure: dict, words: str = "") -> str:
    """A plotly figure as HTML, which `book.js` draws. words: a description for screen readers."""
    layout = figure.get("layout") or {}
    words = html.escape(words or str((layout.get("title") or {}).get("text") or "A figure."))
    spec = json.dumps({"data": figure.get("data") or [], "layout": layout})
    spec = spec.replace("<", "\\u003c")  # no "</script>" or "<!--" in a text ends the element
    return (
        f'<div class="plotly-figure" role="figure" aria-label="{words}"><script '
        f'type="application/json">{spec}</script><noscript>{words}</noscript></div>'
    )


def clean(body: str) -> str:
    """The HTML of a page's text without anything that runs or loads from another host."""
    soup = BeautifulSoup(body, "html.parser")
    for tag in soup.find_all(True):
        if tag.name in ACTIVE and tag.attrs != {"type": "application/json"}:
            tag.extract()
        elif tag.name == "style":
            tag.string = LOADS.sub("none", tag.get_text())
        elif tag.name == "img" and not _allowed(tag.get("src", "")):  # a link, to follow by hand
            tag.name, tag["href"] = "a", tag.get("src", "")
            tag.string = tag.get("alt") or "picture"
        for name in tag.attrs.keys() - {"class", "id"}:
            value = str(tag[name])
            if name == "style":
                tag[name] = LOADS.sub("none", value)
            elif name.startswith("on") or name in ("srcset", "srcdoc", "formaction", "ping"):
                del tag[name]
            elif name in ADDRESSES and not _allowed(value, tag.name == "a" and name == "href"):
                del tag[name]
    return str(soup)


def _allowed(address: str, followed: bool = False) -> bool:
    """Whether an address may be in a page: to follow (`followed`) or to load."""
    address = re.sub(r"[\x00-\x20]", "", address).replace("\\", "/").lower()
    try:
        scheme, host = urlsplit(address)[:2]
    except ValueError:
        return False
    if followed:
        return scheme in ("", "http", "https", "mailto")
    return not host and (not scheme or address.startswith("data:image/"))


def mathml(latex: str, display: str = "inline") -> str:
    """A formula as MathML; as code when the converter fails."""
    latex = re.sub(r"\{(aligned|align|split|gathered)\}", "{align*}", latex.strip())
    try:
        return convert(latex, display=display)
    except Exception:  # the converter raises many kinds, and a formula must not cost the book
        return f"<code>{html.escape(latex)}</code>"


def _visit_math(translator, node: nodes.Element) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _visit_math_block(translator, node: nodes.Element) -> None:
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def _page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    context["metatags"] = policy + context.get("metatags", "")
    if doctree is not None:
        context["body"] = clean(context["body"])
        if 'class="plotly-figure"' in context["body"]:
            app.add_js_file("plotly.min.js", loading_method="defer")
            app.add_js_file("book.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, bool]:
    """The extension's entry point."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))
    app.connect("html-page-context", _page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

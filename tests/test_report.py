"""The report is plain web pages: no kernel, no network, readable with JavaScript off."""

from __future__ import annotations

import json

import nbformat
import pytest

from r1lab import report
from r1lab.basics import ledger
from r1lab.basics.errors import R1LabError

# One grey pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
PLOT = {"data": [{"y": [1, 2], "name": "</script>"}], "layout": {"title": {"text": "t"}}}


def display(**kinds):
    data = {kind.replace("__", "/"): value for kind, value in kinds.items()}
    return nbformat.v4.new_output("display_data", data=data)


@pytest.fixture
def out(tmp_path):
    """A run of two lessons, the second of which failed."""
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    first = [
        text(
            "# Rewards\n\n## What you will learn\n- what $A_i = \\frac{r_i - \\mu}{\\sigma}$ is\n\n"
            "**Time**\n1 minute\n\nSee [the next](01_next.ipynb#end) and "
            "[the paper](https://arxiv.org/abs/2501.12948).\n\n$$\\min(a, b) \\le 1$$\n\n"
            "It costs $5 and $6.\n\n![far away](https://example.org/a.png)\n\n"
            '<img src="https://example.org/b.png"><script src="//example.org/c.js"></script>'
        ),
        code("seed: int = 0  # s", metadata={"tags": ["parameters"]}),
        code("show(fig)", outputs=[
            display(**{report.PLOTLY: PLOT, "image/png": PNG, "text/plain": "Figure"}),
            display(**{report.WIDGET: {"model_id": "x"}, "text/plain": "Slider()"}),
            display(**{"text/html": '<b>bold</b><link rel="x" href="https://example.org/d.css">'
                       "<style>@import url(https://example.org/e.css);</style>"}),
            nbformat.v4.new_output("stream", name="stderr", text="  5%\r 50%\r100% <done>\n"),
        ]),
    ]  # fmt: skip
    second = [
        text("# Next"),
        code("1/0", outputs=[nbformat.v4.new_output(
            "error", ename="ZeroDivisionError", evalue="division by zero",
            traceback=["\x1b[31mZeroDivisionError\x1b[0m: division by zero"],
        )]),
    ]  # fmt: skip
    (tmp_path / "out" / "notebooks").mkdir(parents=True)
    for name, cells in (("00_rewards", first), ("01_next", second)):
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(notebook, tmp_path / "out" / "notebooks" / f"{name}.ipynb")
    ledger.record(tmp_path / "out", "r1_zero/a", 0.5, 0.4, 0.6, unit="share", source="00_rewards")
    state = {
        "profile": "smoke",
        "seed": 3,
        "notebooks": {
            "00_rewards": {"status": "done", "seconds": 3.2},
            "01_next": {"status": "failed", "error": "cell 2: ZeroDivisionError"},
        },
    }
    (tmp_path / "out" / "run.json").write_text(json.dumps(state))
    (tmp_path / "source").mkdir()
    return tmp_path / "out"


@pytest.fixture
def pages(out, tmp_path):
    """File name -> HTML."""
    index = report.build(out, tmp_path / "source")
    assert index == out / "report" / "index.html"
    return {path.name: path.read_text() for path in index.parent.glob("*.html")}


def test_no_page_loads_anything_over_the_network(pages, resources, out):
    assert set(pages) == {"index.html", "00_rewards.html", "01_next.html"}
    for name, page in pages.items():
        for address in resources(page):
            if not address.startswith("data:"):
                assert (out / "report" / address).is_file(), f"{name} loads {address}"
    assert "https://arxiv.org/abs/2501.12948" in pages["00_rewards.html"]  # a link to follow stays


def test_the_checker_itself_sees_what_it_should(resources):
    found = resources(
        '<script src="https://a/x.js"></script><link rel="stylesheet" href="//b/y.css">'
        "<img src=c.png><style>@import 'd.css'; p{background:url(e.png)}</style>"
        '<a href="https://f/">f</a><div style="background:url(g.png)">'
    )
    assert found == ["https://a/x.js", "//b/y.css", "c.png", "d.css", "e.png", "g.png"]


def test_a_figure_is_there_without_javascript_and_once_with_it(pages):
    page = pages["00_rewards.html"]
    assert f'<div class="twin"><img alt="" src="data:image/png;base64,{PNG}">' in page
    spec = page.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(spec) == PLOT  # a "</script>" in the data does not end it
    assert page.count('src="plotly.min.js"') == 1
    assert "plotly.min.js" not in pages["01_next.html"]  # no figure, no five megabytes


def test_formulas_are_mathml_and_prices_are_not(pages):
    page = pages["00_rewards.html"]
    assert page.count("<math") == 2 and "<mfrac>" in page
    assert "It costs $5 and $6." in page
    assert report.unknown_commands(r"\nosuchcommand{x}")
    assert not report.unknown_commands(r"\frac{1}{G}\sum_{i=1}^{G} \hat{A}_i")


def test_text_links_widgets_and_progress_bars(pages):
    page = pages["00_rewards.html"]
    assert '<a href="01_next.html#end">the next</a>' in page
    assert "make lab" in page and "Slider()" not in page
    assert "100% &lt;done&gt;" in page and "50%" not in page
    assert "<b>bold</b>" in page


def test_a_failure_is_told_on_its_page_and_in_the_overview(pages):
    assert "cell 2: ZeroDivisionError" in pages["index.html"]
    assert "division by zero" in pages["01_next.html"] and "\x1b" not in pages["01_next.html"]
    assert "50.0 % [40.0, 60.0]" in pages["index.html"]
    assert "what <math" in pages["index.html"]  # the goals, formula included


def test_a_broken_notebook_costs_its_own_page_only(out, tmp_path):
    (out / "notebooks" / "01_next.ipynb").write_text("{")
    index = report.build(out, tmp_path / "source")
    assert "unreadable" in index.read_text() or "failed" in index.read_text()
    assert (index.parent / "00_rewards.html").exists()


def test_without_a_run_it_says_what_to_do(tmp_path):
    with pytest.raises(R1LabError, match="r1lab run"):
        report.build(tmp_path)

"""The book is plain web pages: no kernel, no network; whatever is in them is only shown."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from r1lab import cli
from r1lab.basics import ledger as ledgers
from r1lab.basics.errors import R1LabError
from r1lab.course import book, offline, quizzes, slides
from r1lab.course.graded import pages as exercises

HOSTILE = "</script><!--<script>alert(1)</script>"
PLOT = {"data": [{"y": [1, 2], "name": HOSTILE}], "layout": {"title": {"text": "t"}}}
CELL, TEXT = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell


def display(**kinds):
    data = {kind.replace("__", "/"): value for kind, value in kinds.items()}
    return nbformat.v4.new_output("display_data", data=data)


def printed(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


FIRST = [
    TEXT(
        "# Rewards\n\n## What you will learn\n- what $A_i = \\frac{r_i - \\mu}{\\sigma}$ is\n\n"
        "The advantage: see [the next](01_next.ipynb#the-end), [a third](02_third.ipynb) and "
        "[the paper](https://arxiv.org/abs/2501.12948).\n\n$$\\min(a, b) \\le 1$$\n\n"
        "It costs $5 and $6.\n\n![far away](https://example.org/a.png)\n\n![near](images/dot.svg)"
        '\n\n<img src="https://example.org/b.png"><script src="//example.org/c.js"></script>\n\n'
        "| a | b |\n|---|---|\n| 1 | 2 |\n"
    ),
    CELL("seed: int = 0  # s", metadata={"tags": ["parameters"]}),
    CELL("show(fig)", outputs=[
        display(**{offline.PLOTLY: PLOT, "text/plain": "Figure: t."}),
        display(**{offline.WIDGET: {"model_id": "x"}, "text/plain": "(in <b>JupyterLab</b>)"}),
        display(**{"text/html": '<b onclick="alert(2)">bold</b><link href="https://example.org/d">'
                   "<style>@import url(https://example.org/e.css); p {color: red}</style>"
                   '<a href=" java\nscript:alert(3)">a</a><p style="background:url(//h/i)">p</p>'}),
        printed("  5%\r 50%\r100% <done>\n", "stderr"),
        printed("all claims hold\n"),
    ]),
    TEXT("## Exercises\n\n1. Why?\n<details><summary>Solution</summary>\n\nBecause.\n\n</details>\n"
         "\n2. How?\n\n<details>\n<summary>Solution</summary>\n\n$x$ so.\n\n</details>"),
]  # fmt: skip
SECOND = [
    TEXT("# Next\n\n## The end"),
    CELL("1/0", outputs=[nbformat.v4.new_output(
        "error", ename="ZeroDivisionError", evalue="division by zero",
        traceback=["\x1b[31mZeroDivisionError\x1b[0m: division by zero"],
    )]),
]  # fmt: skip
FOURTH = [
    TEXT("# Live"),
    TEXT("**Predict:** how many?"),
    CELL(
        "show.predict('n', 0, 9, folder=out)",
        outputs=[
            display(
                **{offline.WIDGET: {"model_id": "b"}, "text/plain": "(Enter it here in JupyterLab)"}
            )
        ],
    ),
    CELL("n", outputs=[printed("the result")]),
    CELL("m", outputs=[printed("after all")]),
]
THIRD = [TEXT("# 02 · A third, *not run*"), CELL("secret = 3")]


def write(folder: Path, **lessons) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, cells in lessons.items():
        notebook = nbformat.v4.new_notebook(cells=cells)
        nbformat.write(notebook, folder / f"{name.removeprefix('n')}.ipynb")


def state(out: Path, **changes) -> None:
    notebooks = {
        "00_rewards": {"status": "done", "seconds": 3.2},
        "01_next": {"status": "failed", "error": "cell 2: ZeroDivisionError <script>"},
    }
    known = {"profile": "smoke", "seed": 3, "notebooks": notebooks} | changes
    (out / "run.json").write_text(json.dumps(known))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run with its book: one lesson well, one failed, one not run; and in the
    ledger, beside a true figure, what somebody else might have written there."""
    top = tmp_path_factory.mktemp("book")
    out, source = top / "out", top / "source"
    write(out / "notebooks", n00_rewards=FIRST, n01_next=SECOND, n03_live=FOURTH)
    write(source, n00_rewards=FIRST, n02_third=THIRD)
    write(source / "exercises", n05=[TEXT("# 05 · exercises"), CELL('quiz("05")')])
    (source / "images").mkdir()
    nbformat.write(exercises.page("12"), source / "exercises" / "12.ipynb")
    (source / "images" / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    ledgers.record(out, "r1_zero/trained/pass@1", 0.5, 0.4, 0.6, unit="share")
    ledger = ledgers.load(out)
    entry = ledger["r1_zero/trained/pass@1"]
    entry["source"] = "00_rewards"
    ledger[f"r1_zero/{HOSTILE}\n\n[x](javascript:alert(4))|"] = entry | {"n": HOSTILE}
    ledger["b"] = entry | {"source": "javascript:alert(5)//", "unit": HOSTILE}
    ledger["c"] = entry | {"value": HOSTILE}
    (out / "figures.json").write_text(json.dumps(ledger))
    state(out)
    assert book.build(out, source) == out / "book" / "index.html"
    return out


@pytest.fixture(scope="module")
def pages(made):
    """File name -> HTML."""
    return {path.name: path.read_text() for path in (made / "book").glob("*.html")}


LESSONS = {"00_rewards.html", "01_next.html", "02_third.html", "03_live.html"}


def test_nothing_is_loaded_from_another_host(pages, resources, made):
    folder = made / "book"
    assert set(pages) == {"index.html", "results.html", "search.html"} | LESSONS
    for name, page in pages.items():
        for address in resources(page):
            if not address.startswith(("data:", "#")):
                assert (folder / address.partition("?")[0]).is_file(), f"{name} loads {address}"
        assert f'http-equiv="Content-Security-Policy" content="{offline.POLICY}"' in page
    for path in folder.rglob("*.css"):
        for address in resources(f"<style>{path.read_text()}</style>"):
            if not address.startswith(("data:", "#")):
                file = path.parent / re.split(r"[?#]", address)[0]
                assert file.is_file(), f"{path} loads {address}"
    for path in folder.rglob("*.js"):  # of addresses only those of servers; plotly's are for maps
        loads = r"""(?:fetch|import|importScripts|\.src\s*=)\s*\(?\s*["'`](?:https?:)?//[^"'`]+"""
        if path.name != "plotly.min.js":
            assert not re.findall(loads, path.read_text()), path
    assert "https://arxiv.org/abs/2501.12948" in pages["00_rewards.html"]  # to follow: stays
    assert '<a alt="far away" href="https://example.org/a.png">' in pages["00_rewards.html"]


def test_the_checker_itself_sees_what_it_should(resources):
    found = resources(
        '<script src="https://a/x.js"></script><link rel="stylesheet" href="//b/y.css">'
        "<img src=c.png><style>@import 'd.css'; p{background:url(e.png)}</style>"
        '<a href="https://f/">f</a><div style="background:url(g.png)">'
    )
    assert found == ["https://a/x.js", "//b/y.css", "c.png", "d.css", "e.png", "g.png"]


def test_nothing_of_a_page_is_run_but_the_themes_own(pages):
    for name, page in pages.items():
        assert "<script>alert" not in page and "<!--<script" not in page, name
        assert not re.search(r"""href=["']?\s*javascript""", page), name
        assert "alert(2)" not in page and "example.org/c.js" not in page
    assert "javascript:alert(5)//" in pages["results.html"]  # said, and no link
    assert re.search(r"\[x\]\(javascript:alert\(4\)\)\|", pages["results.html"])
    assert "alert(4)" not in pages["index.html"]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("<p onload=a()>x</p>", "<p>x</p>"),
        ("<a href='JaVa\tScript:a()'>x</a>", "<a>x</a>"),
        ("<a href='data:text/html,x'>x</a>", "<a>x</a>"),
        ("<a href='01_next.html#end'>x</a>", '<a href="01_next.html#end">x</a>'),
        ("<iframe srcdoc='<script>a()</script>'></iframe>x", "x"),
        ("<script type='application/json' src=a.js></script>x", "x"),
        ("<svg><script>a()</script><image href='//h/i'/></svg>", "<svg><image/></svg>"),
        ("<img src='\\\\h\\i' alt=y>", '<a alt="y" href="\\\\h\\i">y</a>'),
        ("<img src='data:image/png;base64,AA=='/>", '<img src="data:image/png;base64,AA=="/>'),
        ("<details><summary>a</summary>b</details>", "<details><summary>a</summary>b</details>"),
        ("<meta http-equiv=refresh content='0;url=//h'><base href=//h>x", "x"),
        ("<p style='color:red;background:URL( //h/i )'>x", '<p style="color:red;background:none">'),
    ],
)
def test_what_is_taken_out_of_a_page(body, left):
    assert offline.clean(body).startswith(left)


def test_a_figure_is_drawn_by_the_one_plotly(pages, made):
    page = pages["00_rewards.html"]
    spec = page.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(spec) == PLOT  # whatever its words, they do not end it
    assert len(re.findall(r'src="_static/plotly.min.js[?"]', page)) == 1
    assert "<noscript>Figure: t.</noscript>" in page
    assert "plotly.min.js" not in pages["01_next.html"]  # no figure, no five megabytes
    assert len(list((made / "book").rglob("plotly*.js"))) == 1


def test_a_result_after_a_prediction_is_folded(pages):
    page = pages["03_live.html"]
    folds = re.findall(r"<details class=\"admonition hide.*?</details>", page, re.S)
    assert len(folds) == 1 and "the result" in folds[0] and "Show the result" in folds[0]
    assert "Enter it here" in page.replace(folds[0], "")  # the prediction itself is not
    assert "after all" in page.replace(folds[0], "")  # nor the next result


def test_no_link_leads_nowhere(pages):
    for name, page in pages.items():
        for file, _, anchor in re.findall(r'href="([^":#?]*)(#([^"]*))?"', page):
            if not file or file.endswith(".html"):
                assert not anchor or f'id="{anchor}"' in pages[file or name], (name, file, anchor)


def test_formulas_are_mathml_and_prices_are_not(pages):
    page = pages["00_rewards.html"]
    assert page.count("<math") == 3 and "<mfrac>" in page
    assert "It costs $5 and $6." in page
    assert offline.mathml(r"a & \begin{b}").startswith("<code>a &amp;")


def test_text_links_widgets_and_progress_bars(pages):
    page = pages["00_rewards.html"]
    assert re.search(r'href="01_next.html#the-end"[^>]*>(<[^>]+>)?the next<', page)
    assert 'href="02_third.html"' in page
    assert '<p class="no-kernel">(in &lt;b&gt;JupyterLab&lt;/b&gt;)</p>' in page
    assert "100% &lt;done&gt;" in page and "50%" not in page
    assert "<b>bold</b>" in page and "p {color: red}" in page
    assert "_images/dot.svg" in page and "<td" in page


def test_solutions_are_folded_and_hold_their_words(pages):
    folds = re.findall(r"<details>(.*?)</details>", pages["00_rewards.html"], re.S)
    words = [re.sub(r"<math.*?</math>|<[^>]+>", " ", fold).split() for fold in folds]
    assert words == [["Solution", "Because."], ["Solution", "so."]]
    assert '<ol class="arabic simple" start="2">' in pages["00_rewards.html"]


def test_what_has_run_and_what_has_not_is_said(pages):
    index = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", pages["index.html"]))
    assert "2 of 4 lessons have finished; 1 of them checked all" in index
    assert "Not so: 01_next" in index and "all claims hold 3 s" in index
    assert "failed: cell 2: ZeroDivisionError &lt;script&gt;" in index
    assert "50.0 % [40.0, 60.0]" in index and "profile smoke · seed 3" in index
    assert "50.0 % [40.0, 60.0]" in pages["results.html"]
    assert "In this run: failed. cell 2: ZeroDivisionError &lt;script&gt;" in pages["01_next.html"]
    assert "division by zero" in pages["01_next.html"] and "\x1b" not in pages["01_next.html"]
    assert "In this run: not run." in pages["02_third.html"]
    assert "secret" in pages["02_third.html"]
    assert "In this run" not in pages["00_rewards.html"]


def test_contents_sections_turning_search_and_download(pages, made):
    page = pages["00_rewards.html"]
    assert re.search(r'href="#exercises"', page), "no list of the page's sections"
    assert re.search(r'class="right-next"\s+href="01_next.html"', page)
    assert "00 · Rewards</a>" in re.sub(r"\s+(?=</a>)", "", pages["results.html"])
    assert 'href="_sources/00_rewards.ipynb"' in page
    downloaded, ran = (made / f / "00_rewards.ipynb" for f in ("book/_sources", "notebooks"))
    assert nbformat.read(downloaded, 4) == nbformat.read(ran, 4)
    index = json.loads((made / "book/searchindex.js").read_text().split("(", 1)[1][:-1])
    assert index["docnames"][index["terms"]["advantag"]] == "00_rewards"


def test_a_quiz_needs_no_kernel(made):
    page = (made / "book/exercises/12.html").read_text()
    folds = re.findall(
        r"<details class=\"quiz\">\s*<summary>.+?</summary>.*?</details>", page, re.S
    )
    assert len(folds) == 20 and sum("Right." in fold for fold in folds) == 5
    assert "Answer with a letter" not in page and "press" not in page


def test_no_folder_is_replaced_but_a_book(made, tmp_path):
    out, source = tmp_path / "out", tmp_path / "source"
    write(out / "notebooks", n00_rewards=SECOND)
    write(source, n00_rewards=SECOND)
    state(out, notebooks=None)  # a run.json of another kind
    (out / "book").mkdir()
    (out / "book" / "novel.txt").write_text("mine")
    with pytest.raises(R1LabError, match="is not of a book made here"):
        book.build(out, source)
    (out / "book" / "novel.txt").rename(tmp_path / "novel.txt")
    (out / "book").rmdir()
    book.build(out, source)
    (out / "notebooks" / "00_rewards.ipynb").write_text("{")
    write(out / "notebooks", n01_last=THIRD)
    index = book.build(out, source)  # its own earlier one
    assert "unreadable" in index.read_text() and (index.parent / "00_rewards.html").exists()
    (tmp_path / "novel.txt").rename(out / "book" / "novel.txt")
    with pytest.raises(R1LabError, match="novel.txt is not of a book made here"):
        book.build(out, source)
    assert (out / "book" / "novel.txt").read_text() == "mine"
    (tmp_path / "link").symlink_to(made / "book")
    shutil.rmtree(out / "book")
    (out / "book").symlink_to(made / "book")
    with pytest.raises(R1LabError, match="is not of a book made here"):
        book.build(out, source)
    assert sorted(p.name for p in out.iterdir()) == ["book", "notebooks", "run.json"]


def test_lessons_that_never_ran_make_no_book(tmp_path, capsys):
    with pytest.raises(R1LabError, match="r1lab run"):
        book.build(tmp_path)
    write(tmp_path / "notebooks", n00_rewards=THIRD)
    assert cli.main(["book", str(tmp_path)]) == 2
    assert "nothing has run in" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notebooks"]


def test_on_paper_a_quiz_is_a_form_to_tick():
    page = quizzes.without_kernel(exercises.page("05"), paper=True)
    (form,) = (cell.source for cell in page.cells if '<ol class="form">' in cell.source)
    assert form.count("☐ a)") == form.count("☐ d)") == 5
    assert all(html.escape(one.ask) in form for one in quizzes.questions("05"))


SPOKEN = [
    TEXT("# 07 · Slides\n\nOne sentence. Another one.\n\n![x](images/dot.svg)"),
    TEXT("## A part\n\n- a list\n- [next](01_next.ipynb), [words](glossary.md#x)\n\nSaid only."),
    TEXT("**Predict:** how much?"),
    CELL("show(fig)", outputs=[display(**{offline.PLOTLY: PLOT}), printed("printed")]),
    TEXT("Why it is so. <script>alert(1)</script>\n\n$$x^2$$\n\n| a |\n|---|\n| 1 |"),
    CELL("shown", metadata={"slideshow": {"slide_type": "slide"}}),
    TEXT("## Left out", metadata={"slideshow": {"slide_type": "skip"}}),
    TEXT("Whispered.", metadata={"slideshow": {"slide_type": "notes"}}),
    TEXT("## Exercises\n\n1. Nothing."),
]


def test_slides_show_headings_questions_and_figures_and_the_rest_is_notes():
    made = slides.slides(nbformat.v4.new_notebook(cells=SPOKEN))
    assert [one.title for one in made] == ["07 · Slides", *["A part"] * 3]
    first, part, figure, code = made
    assert "<p>One sentence.</p>" in first.body and "Another one." in first.notes
    assert 'src="images/dot.svg"' in first.body
    assert "a list" in part.body and "how much?" in part.body and "Said only." in part.notes
    assert 'href="01_next.html"' in part.body and "glossary" not in part.body
    assert "plotly-figure" in figure.body and "<math" in figure.body and "<td>1" in figure.body
    assert "Why it is so." in figure.notes and "alert(1)</script>" not in figure.notes
    assert "shown" in code.body and "Whispered." in code.notes and "Whispered." not in code.body
    assert "printed" not in "".join(one.body + one.notes for one in made)


def test_a_question_whose_answer_is_printed_has_it_on_the_next_slide():
    cells = [
        TEXT("## 2. A part: first\n\n*Why? It* says so: so. More."),
        TEXT("**Predict:** which?"),
        CELL("train()", outputs=[printed("100%|###| 2/2")]),
        CELL("answer()", outputs=[printed("a < b"), printed("noise", "stderr")]),
        TEXT("**Predict** again.\n\n| a |\n|---|\n| 1 |\n\n> quoted"),
        TEXT("## 3. Announced"),
        CELL("table()", outputs=[display(**{"text/html": "<table><tr><td>7</td></tr></table>"})]),
        CELL("more()", outputs=[printed("unasked")]),
        TEXT("## 4. Drawn"),
        CELL("loop()", outputs=[display(**{"text/html": "<svg><text>loop</text></svg>"})]),
    ]
    nb = nbformat.v4.new_notebook(cells=cells)
    ask, answer, again, table, quote, announced, drawn = slides.slides(nb)
    assert "It</em> says so: so.</p>" in ask.body and "which?" in ask.body and "More." in ask.notes
    assert "which?" in answer.body and "<pre>a &lt; b</pre>" in answer.body
    assert "again" in again.body and "<td>1" in table.body and "quoted" in quote.body
    assert "<td>7" in announced.body and "loop" in drawn.body
    page = slides.page(nb, "x")
    assert "<h2>2. A part: first</h2>" in page
    assert not re.search("noise|100%|unasked", page)


def test_slides_load_nothing_from_another_host(made, resources, tmp_path):
    slides.build(made, made.parent / "source")
    folder = made / "slides"
    assert {path.stem for path in folder.glob("*.html")} == {
        "index", *(path.stem for path in (made / "notebooks").glob("*.ipynb")),
    }  # fmt: skip
    for path in folder.glob("*.html"):
        page = path.read_text()
        assert f'content="{offline.POLICY}"' in page or path.stem == "index"
        for address in resources(page):
            assert address.startswith("data:") or (folder / address).is_file(), address
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "mine.html").write_text("mine")
    with pytest.raises(R1LabError, match=r"mine\.html is no page of slides"):
        slides.build(tmp_path)
    assert [path.name for path in (tmp_path / "slides").iterdir()] == ["mine.html"]
    (tmp_path / "slides" / "mine.html").rename(tmp_path / "slides" / "slides.css")
    with pytest.raises(R1LabError, match="holds other files than slides"):
        slides.build(tmp_path)
    assert (tmp_path / "slides" / "slides.css").read_text() == "mine"


CHROMIUM = book.chromium()


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium or Chrome")
def test_one_pdf_of_lessons_and_exercises(made, monkeypatch):
    source, printed, make = made.parent / "source", [], book._make

    def keep(*arguments):
        folder = make(*arguments)
        printed.append((folder / "index.html").read_text())
        return folder

    monkeypatch.setattr(book, "_make", keep)
    assert book.pdf(made, source) == made / "course.pdf"
    (page,) = printed
    order = [page.index(f"{title}<a") for title in ("Rewards", "Live", "05 · exercises")]
    assert order == sorted(order) and "☐ a)" in page
    written = (made / "course.pdf").read_bytes()
    assert written.startswith(b"%PDF") and len(re.findall(rb"/Type ?/Page\b", written)) >= 6
    (made / "course.pdf").write_bytes(b"%PDF of somebody")
    with pytest.raises(R1LabError, match="was not printed here"):
        book.pdf(made, source)
    assert (made / "course.pdf").read_bytes() == b"%PDF of somebody"


def test_without_a_browser_the_book_is_made_and_the_pdf_is_not(made, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(book, "build", lambda out: out / "book" / "index.html")  # it is there
    assert cli.main(["book", str(made), "--slides", "--pdf"]) == 0
    said = capsys.readouterr().out
    assert "book/index.html" in said and "slides/index.html" in said
    assert "no course.pdf: no Chrome or Chromium" in said


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium or Chrome")
def test_in_a_browser_slides_draw_their_figures(made):
    from playwright.sync_api import sync_playwright

    slides.build(made)
    address = (made / "slides" / "00_rewards.html").as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        figure = page.locator(".main-svg").first
        page.goto(f"{address}#3")
        figure.wait_for()
        page.goto(address)
        page.wait_for_timeout(1000)
        assert figure.count() == 0  # not before it is shown
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        figure.wait_for()

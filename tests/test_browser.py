"""JupyterLab in a real browser: what a reader sees of the figures, the sliders and the dashboard.

A headless Chromium of the system looks at a JupyterLab of this environment, with no other host to
ask. The first test of each kind runs the notebook; the others look at what stands there.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from r1lab import ROOT, show
from r1lab.course import book
from r1lab.course.graded import quizzes

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
if CHROMIUM is None:
    pytest.skip("no Chromium or Chrome on this machine", allow_module_level=True)
from playwright.sync_api import TimeoutError, sync_playwright  # noqa: E402

STEPS = 40
FIGURES = """
from r1lab import show
run = [{"step": t, "accuracy": t / 40, "length": 30 + t, "reflection": t / 9} for t in range(40)]
show.figure(show.learning_curves(run))
show.figure(show.grouped_bars(["a", "b"], {"trained": [1, 2]}, title="bars", y_title="reward"))
show.figure(show.compare_bars({"base": {"length": (30, 28, 32)}}, ["length"]))
"""
EXPLORER = """
from r1lab.advantages import ADVANTAGES
import torch
def group_of(right, size):
    return torch.tensor([[1.0] * right + [0.0] * (size - right)])
"""
SAMPLES = """
samples = [{"step": t, "text": f"step {t}", "correct": i % 2 == 0, "advantage": 0.5}
           for t in (0, 5) for i in range(3)]
inspector = show.rollout_inspector(samples)
"""
EXERCISE = """
import os
os.environ["R1LAB_PROGRESS"] = "progress.json"
from r1lab.course.graded import check, quiz
check("03.4", 0.9)
check("03.4", 0.4**4 + 0.6**4)
quiz("12")
"""
TRAINING = f"""
import pathlib, time
from r1lab import grpo, pipeline
from r1lab.recipe import PipelineConfig, rl_config, task_of
out, seed, model = pathlib.Path("out"), 0, "tiny"
sizes = {{"questions": 2, "group_size": 4, "max_new_tokens": 48}}
config = PipelineConfig(base=model, zero_steps={STEPS}, **sizes)
rl, prompts_of_rl = rl_config(config, "zero"), task_of(config, "zero")
_, tokenizer = pipeline.load(config, model)

# On a fast machine the run would be over before the mouse gets there.
grpo.hurried = getattr(grpo, "hurried", grpo.collect)
def unhurried(*arguments, **options):
    time.sleep(0.3)
    return grpo.hurried(*arguments, **options)
grpo.collect = unhurried
"""


def lesson_cell(lesson: str, words: str) -> str:
    """The source of the lesson's cell that has these words."""
    nb = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", 4)
    return next(cell.source for cell in nb.cells if words in cell.source)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab in a folder with two notebooks: its address and the folder."""
    folder = tmp_path_factory.mktemp("lab")
    explorer = EXPLORER + lesson_cell("03_group_advantages", "def one_group(")
    training = lesson_cell("05_r1_zero", "live_dashboard(")
    for name, cells in {
        "figures": [FIGURES, explorer, SAMPLES, EXERCISE],
        "training": ["from r1lab import show" + TRAINING, training],
    }.items():
        nb = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
        nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(nb, folder / f"{name}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    homes = {name: str(folder / ".home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    homes |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / ".home"), "IPYTHONDIR": str(folder / ".home")}
    homes["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / ".home")
    environment = os.environ | homes | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["JUPYTER_PATH"] = str(ROOT / "r1lab" / "show" / "jupyter")
    options = [f"--port={port}", "--port-retries=0", f"--notebook-dir={folder}", "--no-browser"]
    options += ["--allow-root", "--IdentityProvider.token=t", "--LabApp.news_url=None"]
    with open(folder / "lab.log", "w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api?token=t")
                break
            except OSError:
                assert server.poll() is None, (folder / "lab.log").read_text()
                time.sleep(0.25)
        yield address, folder
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def hosts():
    """Every host that a page has asked for anything."""
    return set()


def open_notebook(browser, lab, name: str, hosts: set[str]):
    page = browser.new_page(viewport={"width": 1500, "height": 1000})
    page.set_default_timeout(180_000)  # a busy machine is slow to start a kernel
    page.on("request", lambda r: hosts.add(r.url.split("/")[2]) if "://" in r.url else None)
    page.goto(f"{lab[0]}/lab/tree/{name}.ipynb?token=t&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text("| Idle").wait_for()
    page.mouse.move(2, 2)
    return page


def run_all(page) -> None:
    """Run > Run All Cells."""
    page.click('li.lm-MenuBar-item:has-text("Run")')
    page.click('li.lm-Menu-item[data-command="runmenu:run-all"]')
    page.mouse.move(2, 2)


def save(page, lab, name: str) -> dict:
    page.click('[data-command="docmanager:save"]')
    file = lab[1] / f"{name}.ipynb"
    until(page, "!document.querySelector('.jp-mod-dirty')")
    return json.loads(file.read_text())


def plots(page, read: str) -> list:
    """`read` of every figure on the page, p."""
    return page.evaluate(f"[...document.querySelectorAll('.js-plotly-plot')].map((p) => {read})")


def until(page, condition: str) -> None:
    """Wait for a condition in the page; where it never comes, show what stands there instead."""
    try:
        page.wait_for_function(condition)
    except TimeoutError as error:
        page.screenshot(path=os.environ.get("R1LAB_SCREENSHOT", os.devnull), type="png")
        raise AssertionError(f"never: {condition}\n{page.inner_text('.jp-Notebook')}") from error


@pytest.fixture(scope="module")
def figures(browser, lab, hosts):
    """The page of the notebook with figures, all cells run and the mouse elsewhere."""
    page = open_notebook(browser, lab, "figures", hosts)
    run_all(page)
    until(page, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 8")
    until(page, "document.querySelectorAll('.widget-readout').length >= 3")
    return page


def test_every_figure_is_interactive_and_whole_at_first_sight(figures):
    assert len(plots(figures, "p.data.length")) == 4
    assert figures.evaluate("document.querySelectorAll('img.plot-img').length") == 0
    assert all(plots(figures, "!!p.querySelector('.draglayer .nsewdrag')"))
    inside = """[p.getBoundingClientRect().width, p.querySelector('.main-svg').clientWidth,
                 p.closest('.jp-OutputArea-output').clientWidth, p._fullLayout.width]"""
    for width in (1500, 900):
        figures.set_viewport_size({"width": width, "height": 1000})
        figures.wait_for_timeout(1500)
        for _, drawn, cell, layout in plots(figures, inside):
            assert 0 < drawn <= cell and drawn == layout, (width, drawn, cell)
    three = plots(figures, "Object.keys(p._fullLayout).filter((k) => /^xaxis/.test(k)).length")[0]
    domains = plots(figures, "p._fullLayout.xaxis.domain")[0]
    assert three == 3 and domains == [0, 1]  # 900 px: the panels stand one under another
    figures.set_viewport_size({"width": 1500, "height": 1000})
    figures.wait_for_timeout(1000)
    assert plots(figures, "p._fullLayout.xaxis.domain[1] < 0.4")[0]


def test_pointing_at_a_figure_changes_neither_its_size_nor_the_file(figures, lab):
    before = save(figures, lab, "figures")
    heights = plots(figures, "p.getBoundingClientRect().height")
    bars = figures.locator(".js-plotly-plot").nth(1)
    bars.locator(".bars .point path").first.hover(force=True)
    label = bars.locator(".hoverlayer .hovertext")
    label.wait_for()
    assert "reward: 1" in label.text_content()
    assert plots(figures, "p.getBoundingClientRect().height") == heights
    figures.wait_for_timeout(500)
    assert figures.evaluate("document.querySelectorAll('.jp-mod-dirty').length") == 0
    assert json.loads((lab[1] / "figures.ipynb").read_text()) == before
    assert "image/png" not in json.dumps(before)


def test_no_button_sends_a_chart_away(figures):
    titles = plots(figures, "[...p.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)")
    assert all(titles) and "Share" not in str(titles) and "loud" not in str(titles)


def test_a_slider_redraws_after_the_mouse_has_touched_the_figure(figures):
    explorer = figures.locator(".js-plotly-plot").nth(3)
    explorer.scroll_into_view_if_needed()
    drawing = "document.querySelectorAll('.js-plotly-plot')[3]"
    assert plots(figures, "p.data[0].x.length")[3] == 6
    explorer.hover()
    handles = figures.locator(".noUi-handle")
    for presses in (1, 2):  # and again
        handles.nth(1).focus()
        figures.keyboard.press("ArrowRight")
        until(figures, f"{drawing}.data[0].x.length === {6 + presses}")
        explorer.hover()
    handles.nth(0).focus()
    figures.keyboard.press("ArrowRight")
    until(figures, f"{drawing}.data[0].x.filter((x) => x.endsWith('r = 1')).length === 2")
    assert "pull" not in figures.locator(".jp-OutputArea-output pre").all_text_contents()


def test_the_inspector_counts_and_stops_at_the_last_completion(figures):
    assert figures.locator(".widget-label:has-text('of 3')").count() == 1
    number = figures.locator(".widget-text input[type=number]")
    number.fill("99")
    number.press("Enter")
    until(figures, "document.querySelector('.widget-text input[type=number]').value === '3'")
    figures.locator(".r1c .h:has-text('step 5: correct')").wait_for()


def test_an_exercise_and_a_quiz_answer(figures, lab):
    told = figures.inner_text(".jp-Notebook")
    assert "03.4: Not yet:" in told and "03.4: Right." in told
    button = figures.get_by_role("button", name="Check", exact=True)
    button.click()
    until(figures, "document.body.innerText.includes('5 of 5 have no answer yet')")
    groups = figures.locator(".widget-radio-box")
    for i, letter in enumerate(quizzes.right_letters("12")):
        groups.nth(i).locator("input").nth("abcd".index(letter)).check()
    groups.nth(4).locator("input").nth(1).check()
    button.click()
    until(figures, "document.body.innerText.includes('4 of 5 right')")
    assert figures.inner_text(".jp-Notebook").count("✗ No.") == 1
    kept = json.loads((lab[1] / "progress.json").read_text())
    assert kept["quiz"]["12"]["right"] == 4 and kept["exercises"]["03.4"]["solved"]


def test_figures_take_the_colours_of_the_theme(figures):
    white = "document.querySelector('.js-plotly-plot')._fullLayout.paper_bgcolor === 'white'"
    for theme, condition in (("JupyterLab Dark", f"!({white})"), ("JupyterLab Light", white)):
        figures.click('li.lm-MenuBar-item:has-text("Settings")')
        figures.hover('li.lm-Menu-item:has-text("Theme")')
        figures.click(f'li.lm-Menu-item:has-text("{theme}"):not(:has-text("Contrast"))')
        until(figures, condition)
    assert len(set(plots(figures, "p._fullLayout.paper_bgcolor"))) == 1


def test_after_a_reload_a_sentence_says_how_to_use_the_controls(figures, lab):
    save(figures, lab, "figures")
    figures.reload()
    figures.wait_for_selector(".jp-Notebook .jp-Cell")
    until(figures, "document.body.innerText.includes('run this cell again to use its controls')")
    until(figures, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 8")


def test_without_its_kernel_a_notebook_shows_figures_and_no_error(figures, browser, lab, hosts):
    figures.close()
    with urllib.request.urlopen(f"{lab[0]}/api/sessions?token=t") as answer:
        for session in json.loads(answer.read()):
            end = f"{lab[0]}/api/sessions/{session['id']}?token=t"
            urllib.request.urlopen(urllib.request.Request(end, method="DELETE"))
    page = open_notebook(browser, lab, "figures", hosts)
    until(page, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 8")
    page.get_by_text("run the cell to move them").first.wait_for()
    page.wait_for_timeout(1000)
    assert "Error" not in page.inner_text(".jp-Notebook")
    assert page.evaluate("document.querySelectorAll('img.plot-img').length") == 0
    page.close()


def test_the_dashboard_moves_while_it_trains_and_after_a_resumption(browser, lab, hosts):
    page = open_notebook(browser, lab, "training", hosts)
    points = "(document.querySelector('.js-plotly-plot')?.data?.[0]?.x.length ?? 0)"
    run_all(page)
    until(page, "document.querySelector('.js-plotly-plot')?._fullLayout?.xaxis3")  # at once
    assert plots(page, f"p._fullLayout.xaxis.range[1] >= {STEPS - 1}") == [True]
    until(page, f"{points} > 0")
    below = page.locator(".jp-RenderedHTML:has(.r1c)")  # measures, diagnosis, completions
    below.locator(".r1c .h", has_text="step ").first.wait_for()
    assert "zero-variance groups" in below.inner_text() and f"of {STEPS}" in below.inner_text()
    page.locator(".js-plotly-plot").hover()
    seen = page.evaluate(points)
    until(page, f"{points} > {seen} && {points} < {STEPS}")
    page.click('li.lm-MenuBar-item:has-text("Kernel")')
    page.click('li.lm-Menu-item[data-command="kernelmenu:interrupt"]')
    page.locator(".jp-OutputArea-output:has-text('Run the same again')").wait_for()
    done = page.evaluate(points)
    assert done < STEPS, "the training was over before it could be interrupted"
    run_all(page)
    page.locator(".gtitle-subtitle:has-text('goes on after')").wait_for()
    assert page.evaluate(points) >= done  # what was before the interruption is drawn first
    until(page, f"{points} === {STEPS}")
    assert page.evaluate("document.querySelector('.js-plotly-plot').data[0].x[0]") == 0
    page.get_by_text("| Idle").wait_for()
    run_all(page)
    page.locator(f".gtitle-subtitle:has-text('trained already, {STEPS} steps')").wait_for()
    stderr = page.locator('.jp-OutputArea-output[data-mime-type$="stderr"]')
    assert stderr.count() == 0, stderr.all_text_contents()  # progress is no error
    page.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A book of three lessons as they are committed, one of them with a figure."""
    out = tmp_path_factory.mktemp("run")
    (out / "notebooks").mkdir()
    known = {"profile": "smoke", "seed": 0, "notebooks": {}}
    for name in ("03_group_advantages", "05_r1_zero", "10_all_scenarios"):
        nb = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
        data = show.bundle(show.grouped_bars(["a"], {"b": [1]}, title="t", y_title="y"))
        nb.cells[-2].outputs = [nbformat.v4.new_output("display_data", data=data)]
        nbformat.write(nb, out / "notebooks" / f"{name}.ipynb")
        known["notebooks"][name] = {"status": "done", "seconds": 1.0}
    (out / "run.json").write_text(json.dumps(known))
    return book.build(out).parent


def test_the_book_works_without_a_network(browser, pages):
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 1000})
    page, asked = context.new_page(), set()
    page.on("request", lambda r: asked.add(r.url.split(":")[0]))
    for lesson in sorted(pages.glob("[0-9]*.html")):
        page.goto(lesson.as_uri())
        folds = page.locator("article details")
        below = "(d) => d.textContent.replace(d.querySelector('summary').textContent, '').trim()"
        texts = folds.evaluate_all(f"(all) => all.map({below})")
        assert all(len(text) > 10 for text in texts), f"an empty fold in {lesson.name}"
        written = (ROOT / "notebooks" / f"{lesson.stem}.ipynb").read_text().count("<details")
        own = "(all) => all.filter((d) => !d.className && !d.closest('.cell_output')).length"
        assert (
            folds.evaluate_all(own) == written
        )  # those of the prose; others hide code and results
        if lesson.stem[:2] in ("03", "05", "10"):
            page.locator(".plotly-figure .modebar-btn").first.wait_for(state="attached")
            assert page.locator("[data-title*='Share']").count() == 0
    page.goto(f"{(pages / 'search.html').as_uri()}?q=advantage")
    page.locator("#search-results li a").first.wait_for()
    assert asked <= {"file", "data", "blob"}
    context.close()


def test_no_page_asked_another_host(lab, hosts):
    assert hosts == {lab[0].removeprefix("http://")}

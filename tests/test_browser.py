"""JupyterLab in a real browser: what a reader sees of the figures, the sliders and the dashboard.

A headless Chromium of the system looks at a JupyterLab of this environment, with no other host to
ask. The first test of each kind runs the notebook; the others look at what stands there. By default
lesson 05 is run by *Run All*; `make browser` runs every lesson so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
import warm

from r1lab import ROOT, show
from r1lab.course import book, copies, profiles, quizzes

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
if CHROMIUM is None:
    pytest.skip("no Chromium or Chrome on this machine", allow_module_level=True)
from playwright.sync_api import TimeoutError, sync_playwright  # noqa: E402

STEPS = 5
LESSONS = [path.stem for path in profiles.notebooks()]
ZERO = "05_r1_zero"
DRAWN = "03_group_advantages"  # has a figure in the book
EVERY = "R1LAB_BROWSER" in os.environ
FIGURES = """
from r1lab import show
run = [{"step": t, "accuracy": t / 40, "length": 30 + t, "reflection": t / 9} for t in range(40)]
show.figure(show.learning_curves(run))
show.figure(show.grouped_bars(["a", "b"], {"trained": [1, 2]}, title="$1 or $2", y_title="reward"))
show.figure(show.compare_bars({"base": {"length": (30, 28, 32)}}, ["length"]))
"""
EXPLORER = """
from r1lab.advantages import ADVANTAGES
import torch
def group_of(right, size):
    return torch.tensor([[1.0] * right + [0.0] * (size - right)])
"""
SAMPLES = """
samples = [{"step": t, "text": f"step {t}: $1 or $2", "correct": i % 2 == 0, "advantage": 0.5}
           for t in (0, 5) for i in range(3)]
inspector = show.rollout_inspector(samples)
names = ["write f , f ( 6 ) = 29 , f ( 7 ) = 30 .", "make 22 from 7 10 5 ."]
show.figure(show.heatmap(torch.rand(2, 16), x=range(1, 17), y=names, title="rewards", number=".1f"))
"""
EXERCISE = """
import os
os.environ["R1LAB_PROGRESS"] = "progress.json"
from r1lab.course.graded import check, quiz
check("03.4", 0.9)
check("03.4", 0.4**4 + 0.6**4)
quiz("12")
"""
UNHURRIED = f"""
# Each step waits until the test lets it begin, and is drawn: on a fast machine the run would be
# over before the mouse gets there.
import pathlib
import time
grpo.hurried = getattr(grpo, "hurried", grpo.collect)
def unhurried(*arguments, **options):
    step, config = arguments[4:6]
    if config.steps == {STEPS}:
        while not pathlib.Path(f"begin-{{step}}").exists():
            time.sleep(0.05)
        dashboard.drawn_at = 0.0
    return grpo.hurried(*arguments, **options)
grpo.collect = unhurried
"""


def lesson_cell(lesson: str, words: str) -> str:
    """The source of the lesson's cell that has these words."""
    nb = nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", 4)
    return next(cell.source for cell in nb.cells if words in cell.source)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab as `make lab PROFILE=smoke` starts it, but in a folder with a notebook of
    figures beside the lessons: its address and the folder."""
    folder = tmp_path_factory.mktemp("lab")
    explorer = EXPLORER + lesson_cell("03_group_advantages", "def one_group(")
    nb = nbformat.v4.new_notebook()
    nb.cells = list(map(nbformat.v4.new_code_cell, [FIGURES, explorer, SAMPLES, EXERCISE]))
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(nb, folder / "figures.ipynb")
    made, _, _ = copies.prepare("smoke", LESSONS if EVERY else [ZERO], folder / "run")
    nb = nbformat.read(made / f"{ZERO}.ipynb", 4)
    for cell in nb.cells:
        cell.source = cell.source.replace('"zero_steps": 2', f'"zero_steps": {STEPS}')
    training = next(i for i, cell in enumerate(nb.cells) if "live_dashboard(" in cell.source)
    nb.cells.insert(training, nbformat.v4.new_code_cell(UNHURRIED))
    nbformat.write(nb, made / f"{ZERO}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    homes = {name: str(folder / ".home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    homes |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / ".home"), "IPYTHONDIR": str(folder / ".home")}
    homes["JUPYTERLAB_WORKSPACES_DIR"] = str(folder / ".home")
    environment = os.environ | homes | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    places = [str(ROOT / "r1lab" / "show" / "jupyter")]
    places += [] if EVERY else [warm.kernelspec(folder / ".home" / "warm")]
    environment["JUPYTER_PATH"] = os.pathsep.join(places)
    environment["R1LAB_PROGRESS"] = str(folder / "progress.json")
    options = [f"--port={port}", "--port-retries=0", f"--notebook-dir={folder}", "--no-browser"]
    options += ["--allow-root", "--IdentityProvider.token=t"]
    options += ["--LabApp.expose_app_in_browser=True", "--LanguageServerManager.autodetect=False"]
    with open(folder / "lab.log", "w") as log:
        start = "import r1lab.course; from jupyterlab.labapp import main; main()"
        command = [sys.executable, "-c", start, *options]  # `r1lab.course` spares it a grammar
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
def context(browser):
    """Windows of one browser, and every host that a page has asked for anything."""
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    context.set_default_timeout(120_000)  # a busy machine is slow to start a kernel
    context.hosts = set()
    asked = lambda r: context.hosts.add(r.url.split("/")[2]) if "://" in r.url else None  # noqa: E731
    context.on("request", asked)
    return context


def open_lab(context, lab):
    page = context.new_page()
    page.goto(f"{lab[0]}/lab?token=t&reset")
    page.wait_for_function("window.jupyterapp?.restored")
    return page


@pytest.fixture(scope="module")
def desk(context, lab):
    """A page with JupyterLab for all notebooks: loading it takes six seconds of CPU time."""
    return open_lab(context, lab)


def close_notebooks(page) -> None:
    page.evaluate("[...jupyterapp.shell.widgets('main')].forEach((one) => one.dispose())")


def open_notebook(page, name: str) -> None:
    """Open this notebook alone."""
    close_notebooks(page)
    command = f"jupyterapp.commands.execute('docmanager:open', {{ path: '{name}.ipynb' }})"
    page.evaluate(f"{command}.then(() => null)")  # what it returns would take a second to copy
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text("| Idle").wait_for()
    page.mouse.move(2, 2)


def menu(page, name: str, command: str) -> None:
    page.click(f'li.lm-MenuBar-item:has-text("{name}")')
    page.click(f'li.lm-Menu-item[data-command="{command}"]')
    page.mouse.move(2, 2)


def run_all(page) -> None:
    """Run > Run All Cells."""
    menu(page, "Run", "runmenu:run-all")


def run_cell(page, words: str, instead: str = "") -> None:
    """Run the code cell that begins with these words, with another source where it is given."""
    page.locator(
        ".jp-CodeCell .cm-content", has_text=re.compile(rf"^\s*{re.escape(words)}")
    ).click()
    if instead:
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(instead)
    page.keyboard.press("Shift+Enter")


def save(page, lab, name: str) -> dict:
    page.click('[data-command="docmanager:save"]')
    until(page, "!document.querySelector('.jp-mod-dirty')")
    return json.loads((lab[1] / f"{name}.ipynb").read_text())


def end_kernels(lab) -> None:
    with urllib.request.urlopen(f"{lab[0]}/api/sessions?token=t") as answer:
        for session in json.loads(answer.read()):
            end = f"{lab[0]}/api/sessions/{session['id']}?token=t"
            urllib.request.urlopen(urllib.request.Request(end, method="DELETE"))


def theme(page, name: str) -> None:
    if page.evaluate("document.body.dataset.jpThemeName") == name:
        return
    page.click('li.lm-MenuBar-item:has-text("Settings")')
    page.hover('li.lm-Menu-item:has-text("Theme")')
    page.click(f'li.lm-Menu-item:has-text("{name}"):not(:has-text("Contrast"))')
    until(page, f"document.body.dataset.jpThemeName === '{name}'")


def plots(page, read: str) -> list:
    """`read` of every figure on the page, p."""
    return page.evaluate(f"[...document.querySelectorAll('.js-plotly-plot')].map((p) => {read})")


def until(page, condition: str) -> None:
    """Wait for a condition in the page; where it never comes, show what stands there instead."""
    try:
        page.wait_for_function(condition, polling=200)
    except TimeoutError as error:
        page.screenshot(path=os.environ.get("R1LAB_SCREENSHOT", os.devnull), type="png")
        raise AssertionError(f"never: {condition}\n{page.inner_text('.jp-Notebook')}") from error


@pytest.fixture(scope="module")
def figures(desk):
    """The page of the notebook with figures, all cells run and the mouse elsewhere."""
    open_notebook(desk, "figures")
    run_all(desk)
    until(desk, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 10")
    until(desk, "document.querySelectorAll('.widget-readout').length >= 3")
    return desk


def test_every_figure_is_interactive_and_whole_at_first_sight(figures):
    assert len(plots(figures, "p.data.length")) == 5
    assert figures.evaluate("document.querySelectorAll('img.plot-img').length") == 0
    assert all(plots(figures, "!!p.querySelector('.draglayer .nsewdrag')"))
    inside = """[p.getBoundingClientRect().width, p.querySelector('.main-svg').clientWidth,
                 p.closest('.jp-OutputArea-output').clientWidth, p._fullLayout.width]"""
    panels = "Object.keys(p._fullLayout).filter((k) => /^xaxis/.test(k)).length"
    assert plots(figures, panels)[0] == 3
    title = figures.locator(".gtitle:has-text('$1 or $2')")  # prices, no formula
    assert title.is_visible()
    for width in (1500, 900, 1500):
        figures.set_viewport_size({"width": width, "height": 1000})
        figures.wait_for_timeout(1500)
        assert figures.evaluate(READ, True) == [5, []], width
        for _, drawn, cell, layout in plots(figures, inside):
            assert 0 < drawn <= cell and drawn == layout, (width, drawn, cell)
        end = plots(figures, "p._fullLayout.xaxis.domain[1]")[0]
        assert end == 1 if width == 900 else end < 0.4  # 900 px: one panel under another
    figures.locator(".js-plotly-plot").first.scroll_into_view_if_needed()


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
    assert figures.locator(".r1c:has-text('$1 or $2')").count() == 2  # prices, no formula
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
    first = "document.querySelector('.js-plotly-plot')"  # drawn where it is seen
    sight = f"({first}.scrollIntoView({{ block: 'center' }}), {first})"
    white = f"{sight}._fullLayout.paper_bgcolor === 'white'"
    for name, condition in (("JupyterLab Dark", f"!({white})"), ("JupyterLab Light", white)):
        theme(figures, name)
        until(figures, condition)
    assert figures.evaluate(READ, True) == [5, []]


def test_after_a_reload_a_sentence_says_how_to_use_the_controls(figures, lab):
    save(figures, lab, "figures")
    figures.reload()
    figures.wait_for_selector(".jp-Notebook .jp-Cell")
    until(figures, "document.body.innerText.includes('run this cell again to use its controls')")
    until(figures, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 10")


def test_without_its_kernel_a_notebook_shows_figures_and_no_error(figures, lab):
    close_notebooks(figures)
    end_kernels(lab)
    open_notebook(figures, "figures")
    until(figures, "document.querySelectorAll('.js-plotly-plot .main-svg').length >= 10")
    figures.get_by_text("run the cell to move them").first.wait_for()
    figures.wait_for_timeout(1000)
    assert "Error" not in figures.inner_text(".jp-Notebook")
    assert figures.evaluate("document.querySelectorAll('img.plot-img').length") == 0


# Scrolls through a lesson, for what is out of sight is not drawn: the number of its figures, and
# what is wrong with its outputs: not drawn, cut at an edge, words of a figure over each other.
READ = """async (white) => {
  const faults = [], box = (e) => e.getBoundingClientRect();
  const scrolls = (e, end) => e !== end && (e.matches('.modebar *, [style*="visibility: hidden"]')
    || /auto|scroll/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement, end));
  const ready = (p) => p._fullLayout && p._fullLayout.width <= p.parentElement.clientWidth
    && (p._fullLayout.paper_bgcolor === 'white') === white;
  const level = (e) => ((m) => Math.min(Math.abs(m.a), Math.abs(m.b)) < 0.01)(e.getScreenCTM());
  const visible = { opacityProperty: true, visibilityProperty: true };
  const crowded = (plot) => {
    const words = [...plot.querySelectorAll('.main-svg text')].filter((e) => e.textContent.trim()
      && e.checkVisibility(visible) && level(e) && !e.closest('.hoverlayer, .modebar'));
    const boxes = words.map(box), top = box(plot).top + plot._fullLayout._size.t;
    boxes.forEach((a, i) => {
      if (words[i].matches('.gtitle, .gtitle-subtitle') && a.bottom > top + 1)
        faults.push(`into the plot: ${words[i].textContent}`);
      for (const [j, b] of boxes.slice(0, i).entries()) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && high > 4)
          faults.push(`${words[j].textContent} over ${words[i].textContent}`);
      }
    });
  };
  for (const cell of document.querySelectorAll('.jp-CodeCell')) {
    const figures = [...cell.querySelectorAll('.jp-RenderedPlotly')];
    for (const seen of figures.length ? figures : [cell]) {
      seen.scrollIntoView({ block: 'center' });
      for (let i = 0; i < 400; i++) {
        await new Promise((done) => setTimeout(done, 50));
        const plot = seen.querySelector('.js-plotly-plot');
        if (seen === cell || (plot && ready(plot))) break;
        if (i === 399) faults.push('not drawn: ' + seen.innerText);
      }
      if (seen !== cell) seen.querySelectorAll('.js-plotly-plot').forEach(crowded);
      const [title, small] = ['.gtitle', '.gtitle-subtitle'].map((c) => seen.querySelector(c));
      if (small && box(small).top < box(title).bottom - 4) faults.push('over ' + title.textContent);
      const end = seen === cell ? cell.querySelector('.jp-OutputArea') : seen;
      for (const e of end?.querySelectorAll(':not(svg *), svg text') ?? [])
        if (e.clientWidth + box(e).width && !scrolls(e, end)
            && (box(e).right > box(end).right + 1 || box(e).left < box(end).left - 1))
          faults.push(`cut: ${e.tagName} ${e.textContent.slice(0, 80)}`);
    }
  }
  return [document.querySelectorAll('.js-plotly-plot').length, faults];
}"""


def begin(lab, *steps: int) -> None:
    """Let the training of lesson 05 go on to these steps (UNHURRIED)."""
    for step in steps:
        (lab[1] / "run" / "lab" / f"begin-{step}").touch()


def whole(page, lab, name: str) -> None:
    """Assert of a lesson, when it has run: no failed cell, no red box; all of its figures are
    drawn, also in the dark, and nothing is cut, also at 900 pixels."""
    theme(page, "JupyterLab Light")  # a lesson that failed left the dark one
    last = "[...document.querySelectorAll('.jp-CodeCell')].at(-1)"  # says which claims hold
    failed = "document.querySelector('[data-mime-type$=\".jupyter.error\"]')"
    until(page, f"{last}.querySelector('.jp-OutputArea-output') || {failed}")
    page.get_by_text("| Idle").wait_for()
    cells = [cell for cell in save(page, lab, name)["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    bad = [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not bad and all(cell["execution_count"] for cell in cells), bad
    figures = sum(show.notebook.MARK in output.get("data", ()) for output in outputs)
    assert figures and page.evaluate(READ, True) == [figures, []]
    theme(page, "JupyterLab Dark")
    page.set_viewport_size({"width": 900, "height": 1000})
    assert page.evaluate(READ, False) == [figures, []]
    page.set_viewport_size({"width": 1500, "height": 1000})


def test_r1_zero_by_run_all_is_interrupted_and_resumed(desk, lab):
    page = desk
    open_notebook(page, f"run/lab/{ZERO}")
    assert page.locator(".Toastify__toast").count() == 0  # no question about news
    figure = """(() => {  // only what is in sight is drawn
      const cells = [...document.querySelectorAll('.jp-CodeCell')];
      const cell = cells.find((one) => one.textContent.includes('show.live_dashboard('));
      (cell.querySelector('.jp-RenderedPlotly') ?? cell).scrollIntoView({ block: 'nearest' });
      return cell.querySelector('.js-plotly-plot');
    })()"""
    points = f"({figure}?.data[0]?.x.length ?? 0)"
    live = page.locator(".js-plotly-plot:has(.gtitle:has-text('R1-Zero training, live'))")
    run_all(page)
    until(page, f"{figure}?._fullLayout?.xaxis")  # at once
    assert page.evaluate(f"{figure}._fullLayout.xaxis.range[1]") >= STEPS - 1
    begin(lab, 0, 1)
    until(page, f"{points} > 0 && {figure}._fullLayout.xaxis3")
    assert page.evaluate(f"{figure}._fullLayout.xaxis.range[1]") >= STEPS - 1
    below = page.locator(".jp-RenderedHTML:has(.r1c)")  # measures, diagnosis, completions
    below.locator(".r1c .h", has_text="step ").first.wait_for()
    assert "zero-variance groups" in below.inner_text() and f"of {STEPS}" in below.inner_text()
    live.hover()
    seen = page.evaluate(points)
    begin(lab, 2)
    until(page, f"{points} > {seen} && {points} < {STEPS}")
    with page.expect_response(re.compile("/interrupt")):
        menu(page, "Kernel", "kernelmenu:interrupt")
    begin(lab, 3, 4)
    told = page.locator(".jp-OutputArea-output:has-text('Run the same again')")
    told.wait_for()
    done = page.evaluate(points)
    assert done < STEPS, "the training was over before it could be interrupted"
    said = rf"stopped by SIGINT after \d+ of {STEPS} steps; [^\n]*\n?"
    assert re.fullmatch(said, told.inner_text())

    page.locator(".noUi-handle").first.focus()  # a prediction, before the result is there
    page.keyboard.press("ArrowRight")
    page.get_by_text("Your prediction of pass@1 on Countdown after RL, T = 1: 1% to").wait_for()
    run_all(page)
    subtitle = f"{figure}?.layout.title.subtitle?.text ?? ''"
    until(page, f"({subtitle}).startsWith('goes on after')")
    assert page.evaluate(points) >= done  # what was before the interruption is drawn first
    until(page, f"{points} === {STEPS}")
    assert page.evaluate(f"{figure}.data[0].x[0]") == 0
    whole(page, lab, f"run/lab/{ZERO}")
    assert page.locator(".annotation-text:has-text('your prediction')").count()
    run_cell(page, "policy, _ = pipeline.load(config, model)")
    until(page, f"({subtitle}).startsWith('trained already, {STEPS} steps')")


@pytest.mark.skipif(not EVERY, reason="runs all lessons in the browser, 15 minutes: make browser")
@pytest.mark.parametrize("name", [name for name in LESSONS if name != ZERO])
def test_every_lesson_by_run_all(name, context, lab):
    page = open_lab(context, lab)
    open_notebook(page, f"run/lab/{name}")
    page.set_default_timeout(900_000)
    run_all(page)
    whole(page, lab, f"run/lab/{name}")
    page.close()
    end_kernels(lab)


def test_exercises_answer_wrong_and_right_solutions(desk, lab):
    page = desk
    open_notebook(page, "run/lab/exercises/03")
    run_cell(page, "import torch")
    asked = {
        "03.3": ("gradient", "def gradient(", {
            "    return ((rewards - baseline)[:, None] * score).sum(dim=0)": "is the sum",
            "    return ((rewards - baseline)[:, None] * score).mean(dim=0)": "Right.",
        }),
        "03.4": ("fraction", "fraction = ", {"0.6**4": "all wrong", "0.4**4 + 0.6**4": "Right."}),
    }  # fmt: skip
    for id, (name, begins, answers) in asked.items():
        for answer, verdict in answers.items():
            code = f"def {name}(rewards, baseline, score):\n{answer}"
            run_cell(page, begins, code if id == "03.3" else f"{name} = {answer}")
            run_cell(page, f'check("{id}"')
            said = page.locator(".jp-OutputArea-output", has_text=f"{id}: ")
            said.filter(has_text=verdict).wait_for()
            assert ("hint(" in said.inner_text()) == (verdict != "Right.")
    run_cell(page, "progress()")
    page.locator(".jp-RenderedHTML tr", has_text="○ ○ ● ● ○ ○").wait_for()
    kept = json.loads((lab[1] / "progress.json").read_text())["exercises"]
    assert {id: kept[id]["tries"] for id in asked} == {"03.3": 2, "03.4": 2}
    close_notebooks(page)  # a blinking cursor is drawn twice a second


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A book of the lessons as they are committed, without the exercises; three of them have run,
    and one has a figure."""
    out = tmp_path_factory.mktemp("run")
    (out / "notebooks").mkdir()
    without = shutil.ignore_patterns("exercises")
    source = shutil.copytree(ROOT / "notebooks", out / "source", ignore=without)
    known = {"profile": "smoke", "seed": 0, "notebooks": {}}
    for name in (DRAWN, ZERO, "10_all_scenarios"):
        nb = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
        if name == DRAWN:
            data = show.bundle(show.grouped_bars(["a"], {"b": [1]}, title="t", y_title="y"))
            nb.cells[-2].outputs = [nbformat.v4.new_output("display_data", data=data)]
        nbformat.write(nb, out / "notebooks" / f"{name}.ipynb")
        known["notebooks"][name] = {"status": "done", "seconds": 1.0}
    (out / "run.json").write_text(json.dumps(known))
    return book.build(out, source).parent


# The words of a page whose contrast with what is behind them is below 4.5.
FAINT = """() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
  const behind = (e) => e ? over(rgb(getComputedStyle(e).backgroundColor), behind(e.parentElement))
    : [255, 255, 255];
  const light = (c) => c.map((v) => (v /= 255) < 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0.05);
  const walk = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  const faint = [];
  for (let n; (n = walk.nextNode());) {
    const e = n.parentElement;
    if (!n.data.trim() || e.closest('svg, noscript, script, math')) continue;
    if (!e.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const back = behind(e), two = [over(rgb(getComputedStyle(e).color), back), back].map(light);
    if (Math.max(...two) / Math.min(...two) < 4.5) faint.push(n.data.trim().slice(0, 40));
  }
  return faint;
}"""


def test_the_book_works_without_a_network_and_on_a_phone(browser, pages):
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 844})
    page, asked = context.new_page(), set()
    page.on("request", lambda r: asked.add(r.url.split(":")[0]))
    page.goto(f"{(pages / 'search.html').as_uri()}?q=advantage")
    page.locator("#search-results li a").first.wait_for()

    def chosen(look):  # by a reader, for the pages to come
        page.evaluate(f"localStorage.mode = localStorage.theme = '{look}'")

    def readable(look):
        assert page.evaluate("document.documentElement.dataset.theme") == look
        assert page.evaluate(FAINT) == []

    chosen("light")
    for lesson in sorted(pages.glob("[0-9]*.html")):
        page.goto(lesson.as_uri())
        folds = page.locator("article details")
        below = "(d) => d.textContent.replace(d.querySelector('summary').textContent, '').trim()"
        texts = folds.evaluate_all(f"(all) => all.map({below})")
        assert all(len(text) > 10 for text in texts), f"an empty fold in {lesson.name}"
        written = (ROOT / "notebooks" / f"{lesson.stem}.ipynb").read_text().count("<details")
        own = "(all) => all.filter((d) => !d.className && !d.closest('.cell_output')).length"
        # those of the prose; others hide code and results
        assert folds.evaluate_all(own) == written
        wide, label = "document.documentElement.scrollWidth", ".plotly-figure[aria-label]"
        assert page.evaluate(wide) <= 390, f"{lesson.name} scrolls sideways"
        if lesson.stem == DRAWN:
            page.locator(f"{label} .modebar-btn").first.wait_for(state="attached")
            assert page.locator("[data-title*='Share']").count() == 0
            readable("light")
    chosen("dark")
    page.goto((pages / f"{DRAWN}.html").as_uri())
    readable("dark")
    assert asked <= {"file", "data", "blob"}
    context.close()


def test_no_page_asked_another_host(context, lab):
    assert context.hosts == {lab[0].removeprefix("http://")}

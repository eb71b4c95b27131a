"""The page of `r1lab watch` in a real browser: it follows a run, and asks nobody but its server."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time

import pytest
from test_watch import CONFIG, HOSTILE, metrics, sample, written

from r1lab.show import runs
from r1lab.show.page import Server

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
if CHROMIUM is None:
    pytest.skip("no Chromium or Chrome on this machine", allow_module_level=True)
from playwright.sync_api import sync_playwright  # noqa: E402


@pytest.fixture(scope="module")
def tab():
    """One page for all tests: the first that loads plotly.js takes two seconds to parse it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(120_000)
        yield page


@pytest.fixture
def folder(tmp_path):
    about = {"what": "grpo", "steps": 40, "dollars_per_hour": 3.6, "config": CONFIG}
    rows = [sample(0, 1.5, "right wait"), sample(0, -2.0, HOSTILE)]
    return written(tmp_path / "one", [metrics(t) for t in range(9)], rows, about)


@pytest.fixture
def server(folder):
    found = runs.named([folder])

    def find():
        for run in found:
            run.refresh()
        return found

    with Server(find, "r1lab watch") as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def page(tab, server):
    """The page, opened by its address; it must have asked its server alone, and run nothing."""
    hosts, errors = set(), []
    heard = {
        "request": lambda r: hosts.add(r.url.split("/")[2]) if "://" in r.url else None,
        "dialog": lambda d: errors.append(d.message) or d.dismiss(),
        "pageerror": lambda e: errors.append(str(e)),
    }
    for event, hear in heard.items():
        tab.on(event, hear)
    tab.goto(server.address)
    yield tab
    tab.goto("about:blank")
    assert hosts == {f"127.0.0.1:{server.port}"} and errors == []
    for event, hear in heard.items():
        tab.remove_listener(event, hear)


def until(page, test, words: str) -> None:
    """Wait until `test()` holds; the page's policy allows no polling inside it."""
    end = time.monotonic() + 240
    while not test():
        if time.monotonic() > end:
            page.screenshot(path=os.environ.get("R1LAB_SCREENSHOT", os.devnull), type="png")
            raise AssertionError(f"never: {words}\n{page.inner_text('body')}")
        time.sleep(0.1)


def points(page) -> int:
    """Of the accuracy's curve."""
    return page.evaluate("document.getElementById('figure-accuracy')?.data?.[0].x.length ?? 0")


def test_it_follows_a_run_through_a_reload_and_a_resumption(page, folder, server):
    until(page, lambda: points(page) == 9, "nine steps are drawn")
    assert page.url.endswith(f":{server.port}/") and "token" not in page.url
    assert page.locator("#figures .main-svg").count() >= 8
    for word in ("training", "step 9 of 40", "$0.018", "20%", "3 of 16", "0.50 GiB"):
        assert word in page.inner_text("#table"), word
    assert "The reward rises" in page.inner_text("#runs")
    completions = page.locator("#runs .r1c")
    assert completions.count() == 2 and "right wait" in completions.first.inner_text()
    assert "<script>alert(1)</script>" in completions.last.inner_text()  # as text
    blue, orange = (completions.nth(i).locator(".t").first.get_attribute("style") for i in (0, 1))
    assert "rgba(0, 114, 178" in blue and "rgba(230, 159, 0" in orange

    page.locator("summary").click()  # folded, and it stays so when data come
    with open(folder / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(metrics(t)) + "\n" for t in (9, 10))
    until(page, lambda: points(page) == 11, "two steps more are drawn")
    assert page.locator("details[open]").count() == 0
    page.reload()
    until(page, lambda: points(page) == 11, "all steps are drawn after a reload")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(metrics(t)) + "\n" for t in range(10)))
    until(page, lambda: points(page) == 10, "a resumed run goes on from its checkpoint")

    server.shutdown()
    server.server_close()
    until(page, lambda: "has ended" in page.inner_text("#link"), "the page says that it is alone")
    assert points(page) == 10


def test_the_inspector_filters_steps_and_runs_nothing(page, folder):
    rows = [sample(t, a, text) | {"problem": "p", "finished": t == 0}
            for t in (0, 5)
            for a, text in ((1.0, "short"), (-1.0, f"long {HOSTILE} " * 9))]  # fmt: skip
    for row in rows:
        row |= {"after": [0.0] * len(row["tokens"]), "reference": row["logprobs"]}
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page.locator("text=inspect all that were kept").click()
    page.locator("text=2, 4 kept").or_(page.locator("text=step 5, 2 kept")).first.wait_for()
    assert page.locator(".r1c").count() == 2 and "truncated" in page.inner_text(".r1c-two")
    assert "mean length" in page.inner_text("main")  # what has changed since step 0
    page.select_option("select[name=show]", "wrong but long")
    page.select_option("select[name=colour]", "ratio")
    page.click("button")
    page.locator(".r1c .c").first.wait_for()  # clipped tokens are framed
    assert "2 of 4 completions" in page.inner_text("main")
    page.locator("#steps a", has_text="0").first.click()
    page.locator("text=step 0, 2 kept").wait_for()
    assert page.locator("select[name=colour]").input_value() == "ratio"
    page.fill("input[name=search]", "no such word")
    page.click("button")
    page.locator("text=No completion of this step").wait_for()
    page.locator("text=back to the curves").click()
    until(page, lambda: points(page) == 9, "the curves are there again")


def test_without_the_token_there_is_nothing(tab, server):
    page = tab.context.browser.new_page()
    answer = page.goto(f"http://127.0.0.1:{server.port}/")
    assert answer.status == 403 and "r1lab watch has printed" in page.inner_text("body")
    page.close()


def test_several_runs_stand_beside_each_other_also_on_a_narrow_dark_page(tab, tmp_path):
    for i, name in enumerate(("ada", "bob", HOSTILE.replace("/", ""))):
        rows = [metrics(t, accuracy=(t + 9 * i) / 40) for t in range(9 + i)]
        written(tmp_path / "class" / name / "run", rows, about={"steps": 40, "config": CONFIG})
    with Server(lambda: runs.of_class(tmp_path / "class"), "r1lab watch") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab.set_viewport_size({"width": 900, "height": 900})
        tab.emulate_media(color_scheme="dark")
        tab.on("dialog", lambda d: pytest.fail(d.message))
        tab.goto(server.address)
        curves = "document.getElementById('figure-accuracy')?.data?.length ?? 0"
        until(tab, lambda: tab.evaluate(curves) == 6, "three runs are drawn, each twice")
        rows = tab.locator("#table tbody tr")
        assert rows.count() == 3 and "<script>" in tab.inner_text("#table")
        inks = rows.locator(".chip").evaluate_all("(all) => all.map((one) => one.style.background)")
        assert len(set(inks)) == 3
        wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1]  # the table scrolls by itself
        server.shutdown()

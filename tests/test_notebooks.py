"""Every lesson runs by itself on the smoke profile, and is committed as a lesson should be."""

from __future__ import annotations

import ast
import multiprocessing
import re
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import nbformat
import pytest
import warm
import warm_kernels
from exercises import with_solutions
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from r1lab import ROOT
from r1lab.basics import ledger
from r1lab.basics.options import fixed_values
from r1lab.course import book, claims, offline, profiles
from r1lab.recipe import PipelineConfig

LESSONS = [path.stem for path in profiles.notebooks()]
every_lesson = pytest.mark.parametrize("name", LESSONS)


def path_of(name):
    return profiles.NOTEBOOKS / f"{name}.ipynb"


def markdown(nb) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def formulas(text) -> list[str]:
    """All formulas of a markdown text."""
    reader = MarkdownIt().use(dollarmath_plugin, allow_space=False)
    tokens = reader.parse(text)
    tokens += [child for token in tokens for child in token.children or ()]
    return [token.content for token in tokens if token.type.startswith("math_")]


def test_formulas_are_found():
    assert formulas("- $a$, $5 and $6\n\n$$\nb\n$$\n\n`$c$`") == ["\nb\n", "a"]


def test_the_course_is_there():
    assert LESSONS == [
        "00_start_here",
        "01_base_model",
        "02_rule_rewards",
        "03_group_advantages",
        "04_grpo_objective",
        "05_r1_zero",
        "06_full_gpu",
        "07_cold_start",
        "08_language_consistency",
        "09_rejection_sampling",
        "10_all_scenarios",
        "11_distillation",
        "12_programming",
        "13_accuracy_cost",
        "14_beyond_grpo",
        "15_bill_data_release",
    ]


@every_lesson
def test_it_is_committed_without_outputs(name):
    nb = profiles.read_notebook(path_of(name))
    assert nb.metadata.kernelspec.name == "python3"
    assert "widgets" not in nb.metadata
    for number, cell in enumerate(nb.cells, start=1):
        folded = {"hide-input", "remove-input"} & set(cell.metadata.get("tags", ()))  # in the book
        in_lab = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert bool(folded) == in_lab, f"cell {number} is folded by its tag and by its metadata"
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None, f"cell {number}"
        assert "execution" not in cell.metadata and "papermill" not in cell.metadata, number
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)


@every_lesson
def test_it_is_a_lesson(name):
    nb = profiles.read_notebook(path_of(name))
    text = markdown(nb)
    for part in ("What you will learn", "Time", "Needs", "Exercises", "Further reading"):
        assert part.lower() in text.lower(), f"{name} lacks '{part}'"
    assert "Each cell needs those above it." in text, "to who meets a NameError after a restart"
    assert "<details>" in text, "exercises come with solutions"
    last = [cell.source for cell in nb.cells if cell.cell_type == "code"][-1]
    assert "claims.check(" in last or "assert" in last, "the last code cell checks what was claimed"
    for formula in formulas(text):
        drawn = offline.mathml(formula)
        known = not drawn.startswith("<code>") and not re.search(r"\\[A-Za-z]", drawn)
        assert known, f"the book cannot draw {formula}"
    for cell in nb.cells:
        names = {n.id for n in ast.walk(_tree(cell)) if isinstance(n, ast.Name)}
        assert "profile" not in names, "no lesson asks which profile runs it"


@every_lesson
def test_its_parameters_are_typed_explained_and_the_cpu_values(name):
    offered = profiles.parameters(path_of(name))
    for parameter in offered.values():
        assert parameter.annotation and parameter.help, parameter.name
        profiles.check_value(parameter, parameter.default, name)
    assert offered["seed"].annotation == "int" and offered["out_dir"].default == "runs/cpu"
    assert not profiles.resolve("cpu", path_of(name)), "cpu values stand in the parameters cell"


def recipes(profile):
    """(model, recipe) of each lesson that makes stages of R1."""
    for path in map(path_of, LESSONS):
        offered = {one.name: one.default for one in profiles.parameters(path).values()}
        if isinstance(offered.get("recipe"), dict):
            chosen = offered | profiles.resolve(profile, path)
            yield chosen["model"], chosen["recipe"]


@every_lesson
def test_its_cells_may_run_again_in_any_order(name):
    """A model that one cell trains in place is handed to no function in a cell above."""
    cells = [
        cell.source
        for cell in profiles.read_notebook(path_of(name)).cells
        if cell.cell_type == "code"
    ]
    calls = []  # (cell, function's own name, what it is called on) of every call
    for number, source in enumerate(cells):
        tree = ast.parse("\n".join(x for x in source.split("\n") if not x.startswith(("%", "!"))))
        inside = {node for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)
                  for node in ast.walk(f)}  # fmt: skip
        for node in set(ast.walk(tree)) - inside:
            if isinstance(node, ast.Call):
                function = getattr(node.func, "attr", getattr(node.func, "id", ""))
                calls += [
                    (number, function, a.id) for a in node.args[:1] if isinstance(a, ast.Name)
                ]
    training = [(model, number) for number, function, model in calls if function == "train"]
    trained = dict(reversed(training))  # the first cell that trains each
    early = [call for call in calls if call[0] < trained.get(call[2], 0)]
    assert not early, f"models that a later cell trains: {early}"


@pytest.mark.parametrize("profile", profiles.NAMES)
def test_the_lessons_of_one_pipeline_make_it_alike(profile):
    """05 and 07 to 13 read each other's stages: another recipe in one of them would make them
    again. (How it is computed may differ.)"""
    asked = [(model, fixed_values(PipelineConfig(**recipe))) for model, recipe in recipes(profile)]
    assert len(asked) >= 7 and all(one == asked[0] for one in asked)


def test_the_smoke_profile_makes_the_smallest_pipeline():
    _, toy = next(recipes("smoke"))
    assert PipelineConfig(**toy) == PipelineConfig.smoke()


def test_ruff_finds_nothing_in_the_notebooks():
    for command in (["check"], ["format", "--check"]):
        argv = [sys.executable, "-m", "ruff", *command, "--no-cache", "notebooks"]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def runs(request, tmp_path_factory):
    """Each lesson's run on the smoke profile, with its solutions: its folder, and a future of
    (whether it ended well, what was said). Two at a time with one thread each."""

    lessons = tmp_path_factory.mktemp("lessons") / "notebooks"
    shutil.copytree(profiles.NOTEBOOKS, lessons)
    for path in profiles.notebooks(lessons):  # the solutions' code below each lesson
        nbformat.write(with_solutions(profiles.read_notebook(path)), path)

    asked = [item for item in request.session.items if "runs" in getattr(item, "fixturenames", ())]
    spawn = multiprocessing.get_context("spawn")
    with (
        warm.processes(),
        ProcessPoolExecutor(2, mp_context=spawn, initializer=warm_kernels.begin) as pool,
    ):
        folders = {
            name: tmp_path_factory.mktemp(name) / "run"
            for name in sorted({item.callspec.params["name"] for item in asked}, reverse=True)
            if not profiles.skip_reason("smoke", name, profiles.load())
        }
        yield {
            name: (out, pool.submit(warm_kernels.execute, name, out_dir=out, folder=lessons))
            for name, out in folders.items()
        }


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """Lesson -> its page in one book of all these runs."""
    out = tmp_path_factory.mktemp("book")
    for run, future in runs.values():
        future.result()
        shutil.copytree(run / "notebooks", out / "notebooks", dirs_exist_ok=True)
    folder = book.build(out).parent
    return {name: (folder / f"{name}.html").read_text() for name in runs}


@every_lesson
def test_it_runs_alone_on_the_smoke_profile(name, runs):
    """In a fresh folder, so that no lesson leans on another and any order will do."""
    if name not in runs:
        pytest.skip(f"left out by smoke: {profiles.skip_reason('smoke', name, profiles.load())}")
    out, future = runs[name]
    ok, said = future.result()
    assert ok, said

    nb = profiles.read_notebook(out / "notebooks" / f"{name}.ipynb")
    (injected,) = (c for c in nb.cells if "injected-parameters" in c.metadata.get("tags", []))
    got = {n.targets[0].id: ast.literal_eval(n.value) for n in ast.parse(injected.source).body}
    wanted = profiles.resolve("smoke", name) | {"seed": 0, "out_dir": str(out)}
    assert got == wanted, "what profiles.yaml says is what the lesson ran with"

    red = [o.text for c in nb.cells for o in c.get("outputs", ()) if o.get("name") == "stderr"]
    assert not red, "what stands in a red box looks like a failure"

    recorded = ledger.load(out)
    assert recorded and {entry["source"] for entry in recorded.values()} == {name}
    if any("claims.check(" in cell.source for cell in nb.cells):
        cut = partial(re.sub, r"@\d+$", "@k")  # of a smaller k on smoke
        asked = {cut(one["measure"]) for one in claims.registered(name).values()}
        missing = asked - set(map(cut, recorded))
        assert not missing, f"claims are about figures that the lesson does not record: {missing}"


@every_lesson
def test_its_page_in_the_book(name, pages, resources):
    page = pages.get(name)
    if page is None:
        pytest.skip(f"left out by smoke: {profiles.skip_reason('smoke', name, profiles.load())}")
    assert 'class="plotly-figure"' in page, "no interactive figure"
    outside = [a for a in resources(page) if "//" in a and not a.startswith("data:")]
    assert not outside, "the page loads something from elsewhere"
    folds = re.findall(r"<details>\s*<summary>.*?</summary>(.*?)</details>", page, re.S)
    assert folds and all(len(fold.split()) > 5 for fold in folds), "an empty fold"


def _tree(cell) -> ast.AST:
    return ast.parse(cell.source if cell.cell_type == "code" else "")

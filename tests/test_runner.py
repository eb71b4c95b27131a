"""Lessons run in order, each in its own kernel; what stops them loses nothing that was there."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import nbformat
import pytest

from r1lab.basics.errors import R1LabError
from r1lab.basics.ledger import load, load_ledger, record
from r1lab.course import copies, kernel, runner
from r1lab.course import seeds as seeds_of_runs
from r1lab.course.readme import readme_is_current

PARAMETERS = 'seed: int = 0  # s\nout_dir: str = "runs/cpu"  # o\nsteps: int = 40  # n'
RECORD = (
    "from r1lab.basics import files, ledger\n"
    "ledger.record(files.run_folder(out_dir), 'r1_zero/seconds', steps + seed, unit='s')\n"
    "print('steps', steps)"
)


def write(folder: Path, name: str, *sources: str) -> Path:
    """A lesson with a parameters cell and these cells."""
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    cells.insert(0, nbformat.v4.new_markdown_cell(f"# {name}"))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture
def folder(tmp_path):
    """An empty course."""
    (tmp_path / "course").mkdir()
    (tmp_path / "course" / "profiles.yaml").write_text("profiles: {}\n")
    return tmp_path / "course"


@pytest.fixture
def go(folder, tmp_path):
    """go(...) -> (result, what was printed): run the course on the smoke profile."""

    def run(**options):
        stream = io.StringIO()
        options = {"profile": "smoke", "out_dir": tmp_path / "out", "folder": folder} | options
        with redirect_stderr(stream):
            return runner.run(**options), stream.getvalue()

    return run


def outputs(path: Path) -> str:
    """Everything that the cells of an executed notebook printed."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


def test_a_run_leaves_notebooks_figures_and_book_and_goes_on_where_it_was(folder, go, tmp_path):
    out = tmp_path / "out"
    write(folder, "00_first", RECORD)
    write(folder, "01_second", "print('second')")
    (folder / "profiles.yaml").write_text(
        'profiles: {smoke: {00_first: {steps: 2}}}\nskip: {smoke: {01_second: "needs a GPU"}}\n'
    )
    result, said = go(seed=7)
    assert result.ok and result.book == out / "book" / "index.html"
    assert "01_second is left out by the profile smoke: needs a GPU" in said
    assert "steps 2" in outputs(out / "notebooks" / "00_first.ipynb")
    entry = load(out)["r1_zero/seconds"]
    assert (entry["value"], entry["source"]) == (9, "00_first")  # steps 2 + seed 7
    assert not (out / "notebooks" / "01_second.ipynb").exists()
    assert "needs a GPU" in result.book.read_text()

    assert "has run already" in go(seed=7, start="resume")[1]
    changed, said = go(seed=7, start="resume", parameters={"steps": "3"})
    assert changed.ok and "has run already" not in said
    assert load(out)["r1_zero/seconds"]["value"] == 10


def test_the_first_failure_ends_the_run_and_is_said_in_words(folder, go, tmp_path):
    write(folder, "00_breaks", "print('before')\nraise OSError(28, 'No space left on device')")
    write(folder, "01_never", "print('never')")
    result, said = go()
    assert not result.ok
    assert [e["status"] for e in result.notebooks.values()] == ["failed", "not run"]
    assert "the disk is full" in result.notebooks["00_breaks"]["error"]
    assert "Traceback" not in said and "01_never" not in result.notebooks["00_breaks"]["error"]
    assert "before" in outputs(tmp_path / "out" / "notebooks" / "00_breaks.ipynb")
    assert not (tmp_path / "out" / "notebooks" / "01_never.ipynb").exists()
    assert "the disk is full" in (tmp_path / "out" / "book" / "00_breaks.html").read_text()


def test_a_kernel_that_the_system_kills_is_explained(folder, go):
    write(folder, "00_dies", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    result, said = go(book=False)
    assert not result.ok and "too little memory" in said


@pytest.mark.parametrize(
    ("yaml", "options", "message"),
    [
        ("profiles: {smoke: {00_first: {stesp: 2}}}", {}, "no parameter 'stesp'; did you mean"),
        ("profiles: {gpu: {00_first: {steps: two}}}", {}, "'steps' takes int"),  # not this profile
        ("profiles: {}", {"parameters": {"stesp": "2"}}, "did you mean 'steps'"),
        ("profiles: {}", {"parameters": {"steps": "two"}}, "'steps' takes int"),
        ("profiles: {}", {"parameters": {"seed": "2"}}, "use --seed"),
        ("profiles: {}", {"profile": "smok"}, "did you mean 'smoke'"),
        ("profiles: {}", {"notebooks": ["09"]}, "there is no notebook '09'"),
    ],
)
def test_what_cannot_reach_its_notebook_stops_before_anything_runs(
    folder, go, tmp_path, yaml, options, message
):
    write(folder, "00_first", RECORD)
    (folder / "profiles.yaml").write_text(yaml)
    with pytest.raises(R1LabError, match=message) as error:
        go(**options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_parameter_for_one_lesson_stays_there(folder, tmp_path):
    for name in ("00_first", "01_second"):
        write(folder, name, RECORD)
    plan, _ = runner.plan_of("smoke", None, {"01.steps": "5"}, folder, 0, tmp_path)
    assert ["steps" in values for _, values in plan] == [False, True]


def test_copies_for_jupyterlab_have_the_profiles_values_and_are_never_written_over(
    folder, tmp_path
):
    (folder / "profiles.yaml").write_text("profiles: {gpu: {00_first: {steps: 7}}}\n")
    write(folder, "00_first", RECORD)
    write(folder, "01_second", RECORD)
    how = {"folder": folder, "out_dir": tmp_path / "out"}
    made, new, kept = copies.prepare("gpu", ["01"], parameters={"steps": "9"}, **how)
    assert (new, kept) == (["01_second"], [])
    (made / "01_second.ipynb").write_text("a student's work")
    assert copies.prepare("gpu", **how) == (made, ["00_first"], ["01_second"])
    assert (made / "01_second.ipynb").read_text() == "a student's work"

    cells = nbformat.read(made / "00_first.ipynb", as_version=4).cells
    assert [c.source for c in cells if "injected-parameters" in c.metadata.get("tags", [])] == [
        f'# Parameters\nsteps = 7\nseed = 0\nout_dir = "{tmp_path / "out"}"\n'
    ]
    assert not any(c.get("outputs") for c in cells)


def test_fresh_moves_what_the_lesson_left_and_nothing_else(folder, go, tmp_path):
    """`r1lab run --only 05 -p steps=10 --fresh` after a full run."""
    trains = (
        "from pathlib import Path\nrun = Path(out_dir) / 'r1_zero'\n"
        "assert not run.exists() or (run / 'steps').read_text() == str(steps), 'another run'\n"
        "run.mkdir(exist_ok=True)\n(run / 'steps').write_text(str(steps))"
    )
    write(folder, "00_first", trains)
    write(folder, "01_second", trains.replace("r1_zero", "second"))
    out, how = tmp_path / "out", {"notebooks": ["00"], "parameters": {"steps": "5"}}
    assert go(book=False)[0].ok
    assert "another run" in go(book=False, **how)[1]
    result, said = go(book=False, start="fresh", **how)
    assert result.ok and "r1_zero moved to" in said
    assert (out / "r1_zero" / "steps").read_text() == "5"
    assert (out / "earlier-1" / "r1_zero" / "steps").read_text() == "40"
    assert (out / "second" / "steps").read_text() == "40"
    with pytest.raises(R1LabError, match="start must be one of"):
        go(start="frsh")


def test_lessons_find_their_images_wherever_they_are_opened(folder, go, tmp_path):
    write(folder, "00_first", "1")
    (folder / "images").mkdir()
    (folder / "images" / "pipeline.svg").write_text("<svg/>")
    made, _, _ = copies.prepare("cpu", folder=folder, out_dir=tmp_path / "out")
    go(book=False)
    for place in (made, tmp_path / "out" / "notebooks"):
        assert (place / "images" / "pipeline.svg").read_text() == "<svg/>"


# --------------------------------------------------------------------------------------------------
# Stopped from outside: a process of its own

RUN = """
import sys
from r1lab import cli
from r1lab.course import book, runner
assert "torch" not in sys.modules, "only kernels need what is slow to import"
try:
    runner.run("smoke", folder=sys.argv[1], out_dir=sys.argv[2], book=False)
except KeyboardInterrupt:
    sys.exit(130)
except Exception as error:
    sys.exit(f"r1lab: error: {cli.explain(error)}")
"""


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["Ctrl-C", "Ctrl-C under make", "SIGTERM"],
)
def test_stopped_it_ends_its_kernel_and_keeps_what_has_run(folder, tmp_path, number, group):
    out, mark = tmp_path / "out", tmp_path / "mark"
    write(folder, "00_first", RECORD)
    slow = write(
        folder,
        "01_slow",
        "print('reached')",
        f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n"
        "time.sleep(600)",
    )
    command = [sys.executable, "-c", RUN, str(folder), str(out)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # run in the background of a shell, tests inherit an ignored SIGINT and would pass it on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not (mark.exists() and mark.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, number) if group else process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in said and "Error" not in said
    assert said.splitlines()[-1].startswith("[2/2] 01_slow  stopped") and "--resume" in said
    while not gone(int(mark.read_text())):
        assert time.monotonic() < deadline, "the kernel is still there"
        time.sleep(0.05)
    state = json.loads((out / "run.json").read_text())["notebooks"]
    assert [state[n]["status"] for n in ("00_first", "01_slow")] == ["done", "stopped"]
    assert "reached" in outputs(out / "notebooks" / "01_slow.ipynb")

    write(folder, slow.stem, "print('second time')")
    stream = io.StringIO()
    with redirect_stderr(stream):
        result = runner.run("smoke", folder=folder, out_dir=out, start="resume")
    assert result.ok and "00_first  has run already" in stream.getvalue()
    assert "second time" in outputs(out / "notebooks" / "01_slow.ipynb")


def test_a_full_disk_is_one_line_and_the_earlier_copy_stays(folder, tmp_path):
    """A limit on the size of files stands in for the disk: writing fails half-way just the same."""
    out = tmp_path / "out"
    (out / "notebooks").mkdir(parents=True)
    path = write(folder, "00_big", "print('\\n'.join(['x' * 99] * 3000))")
    earlier = path.read_bytes()
    (out / "notebooks" / path.name).write_bytes(earlier)
    record(out, "kept", 1)
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (100_000, 100_000))\n"
    done = subprocess.run(
        [sys.executable, "-c", limit + RUN, str(folder), str(out)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("r1lab: error: the disk is full"), done.stderr
    assert (out / "notebooks" / path.name).read_bytes() == earlier
    assert not list((out / "notebooks").glob(".*"))
    assert list(load(out)) == ["kept"]


# --------------------------------------------------------------------------------------------------
# Several seeds


def test_seeds_become_one_ledger_and_the_readme_and_are_run_once(folder, tmp_path, warm_processes):
    write(folder, "00_first", RECORD)
    readme, ledger = tmp_path / "README.md", tmp_path / "ledger.json"
    readme.write_text("<!-- figures:begin -->\nnot measured yet\n<!-- figures:end -->\n")
    where = {"folder": folder, "base": tmp_path / "figures", "ledger": ledger}

    def measured(seeds):
        stream = io.StringIO()
        with redirect_stderr(stream):
            book = seeds_of_runs.measure(seeds, "smoke", **where)
        seeds_of_runs.publish(book, [readme])
        return book, stream.getvalue()

    measured([0])
    book, said = measured([0, 2])
    assert said.count("has run already") == 1  # seed 0 was reused, seed 2 was run
    assert sorted(os.listdir(tmp_path / "figures")) == ["seed-0", "seed-2"]
    entry = book["figures"]["r1_zero/seconds"]
    assert (entry["value"], entry["n"], entry["values"]) == (41, 2, {"0": 40, "2": 42})
    half = 12.706 * 2**0.5 / 2**0.5  # t(0.975, 1) s / sqrt(2), s = sqrt(2)
    assert (entry["low"], entry["high"]) == pytest.approx((41 - half, 41 + half))
    assert load_ledger(ledger) == book
    assert readme_is_current(readme.read_text(), ledger)

    write(folder, "01_next", RECORD.replace("r1_zero", "next"))
    both = seeds_of_runs.measure([0, 2], "smoke", notebooks=["01"], **where)
    assert {f["source"] for f in both["figures"].values()} == {"00_first", "01_next"}
    assert both["figures"]["r1_zero/seconds"] == entry  # kept from the ledger
    with pytest.raises(R1LabError, match=r"the seeds \[0, 2\], not \[4\]"):
        seeds_of_runs.measure([4], "smoke", notebooks=["01"], **where)
    (folder / "01_next.ipynb").unlink()

    how = {"jobs": 2, "note": "A slow machine."}
    book = seeds_of_runs.measure([4, 5], "smoke", **how, **where)
    seeds_of_runs.publish(book, [readme])
    assert book["jobs"] == 2 and book["figures"]["r1_zero/seconds"]["value"] == 44.5
    assert (
        "2 seeds side by side" in readme.read_text() and "A slow machine.\n" in readme.read_text()
    )
    with pytest.raises(R1LabError, match="jobs must be 1 or more"):
        seeds_of_runs.measure([4], "smoke", jobs=0, **where)

    before = ledger.read_bytes(), readme.read_bytes()
    write(folder, "00_first", "raise ValueError('no')")
    with pytest.raises(R1LabError, match="seed 0: 00_first failed"):
        measured([0])
    assert (ledger.read_bytes(), readme.read_bytes()) == before
    with pytest.raises(R1LabError, match="different whole numbers"):
        seeds_of_runs.measure([1, 1], "smoke", **where)


def test_nobody_else_is_given_the_ports_that_a_kernel_will_bind(monkeypatch):
    one, other = kernel.free_ports(), kernel.free_ports()
    assert len(set(one.values())) == 5 and one != other
    manager = kernel.Kernel()
    assert manager.shell_port in kernel.FROM and not manager.cache_ports  # or they are drawn again
    given = Path(
        "/proc/sys/net/ipv4/ip_local_port_range"
    )  # to connections, and to who asks for any
    if given.is_file():
        assert kernel.FROM[-1] < int(given.read_text().split()[0])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", one["hb_port"]))
        monkeypatch.setattr(kernel, "FROM", range(one["hb_port"], one["hb_port"] + 60))
        assert one["hb_port"] not in kernel.free_ports().values()

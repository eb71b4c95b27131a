"""CPython in WebAssembly, where no layer holds: the same judge, the same attacks."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sandbox_attacks as attacks

from r1lab import cli
from r1lab.basics.errors import R1LabError
from r1lab.sandbox import Case, Limits, Sandbox, handle, probe, wasm
from r1lab.sandbox.client import pack
from r1lab.sandbox.workspace import Workspace

CASES = [Case((3,), 11), Case((5,), 17)]
RIGHT = "def f(x): return x * 3 + 2"
extra = pytest.mark.skipif(not wasm.available(), reason="pip install 'r1lab[wasm]'")


@pytest.fixture
def bare(monkeypatch):
    """A machine that has no layers, as macOS and Windows."""
    monkeypatch.setattr(probe, "what_is_open", lambda server, tries=None: ["read files"])


# --- without the extra ---------------------------------------------------------------------------


def test_where_no_layer_holds_the_message_names_the_extra(bare, monkeypatch):
    monkeypatch.setattr(wasm, "available", lambda: False)
    with pytest.raises(R1LabError, match=r"read files.*r1lab\[wasm\]"):
        Sandbox().start()
    with Sandbox(weak=True) as sandbox:
        assert sandbox.describe().startswith("WEAK")


def test_where_nothing_can_fork_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr(wasm, "available", lambda: False)
    monkeypatch.delattr(handle.os, "fork")
    with pytest.raises(R1LabError, match=r"cannot fork; pip install 'r1lab\[wasm\]'"):
        Sandbox().start()


def test_it_takes_the_place_of_layers_that_do_not_hold_and_of_no_others(bare, monkeypatch):
    started = []

    class Stand:
        lost, held, absent, user, small = handle.Lost, {"wasm": "it"}, {}, None, False
        tries: dict[str, str] = {}

        def __init__(self):
            started.append(self)

        def close(self):
            pass

    monkeypatch.setattr(wasm, "available", lambda: True)
    monkeypatch.setattr(wasm, "Wasm", Stand)
    monkeypatch.setattr(
        probe,
        "what_is_open",
        lambda server, tries=None: [] if isinstance(server, Stand) else ["read files"],
    )
    for weak in (False, True):  # what contains is better than a flag
        with Sandbox(weak=weak) as sandbox:
            assert sandbox.layers == {"wasm": "it"} and sandbox.open == []
    assert len(started) == 2
    with Sandbox(layers=(), weak=True) as sandbox:  # asked for
        assert sandbox.open == ["read files"]
    with pytest.raises(R1LabError, match="programs could"):  # it has no files to work on
        Workspace(()).start()
    assert len(started) == 2


def test_what_the_interpreter_runs_needs_no_module_that_wasi_lacks():
    """No ctypes, resource, socket, select: and the job arrives whatever this Python's version."""
    folder = handle.SERVER.parent
    sources = {name: (folder / f"{name}.py").read_text("utf-8") for name in wasm.SOURCES}
    code = wasm._START.format(sources=sources, output=1000)
    block = "import sys\nfor name in 'ctypes resource socket select fcntl mmap'.split():\n"
    block += "    sys.modules[name] = None\n"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", block + code],
        input=pack(RIGHT, "f", [(3,), (5,)], "strict"),
        capture_output=True,
        timeout=60,
    )
    assert ran.returncode == 0 and b"ib;" in ran.stdout and b"i11;" in ran.stdout, ran.stderr


# --- with it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box():
    with Sandbox(layers=[wasm.NAME]) as sandbox:
        yield sandbox


@extra
@pytest.mark.parametrize(
    ("source", "status"),
    [
        (RIGHT, "ok"),
        ("def f(x): return x", "ok"),
        ("def f(x: return x", "syntax"),
        ("raise ValueError", "error"),
        ("g = 1", "missing"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x): return bytearray(1 << 30)", "memory"),
        ("def f(x): return 'x' * (1 << 21)", "output"),
        ("raise SystemExit(0)", "exit"),
        ("import os\nos._exit(0)", "exit"),
        ("import os\ndef f(x): os.write(1, b'x' * 100)", "forged"),
        ("import time\ndef f(x):\n    time.sleep(1000)\n    return x * 3 + 2", "ok"),
        ("def f(x):\n    try: return f(x)\n    except RecursionError: return x * 3 + 2", "ok"),
    ],
)
def test_the_status_of_a_program(source, status, box):
    verdict = box.judge(source, "f", CASES)
    assert verdict.status == status, verdict
    assert verdict.passed == (status == "ok" and "return x\n" not in source + "\n")


@extra
def test_the_same_program_gets_the_same_values_and_the_same_time(box):
    source = "import random\ndef f(x): return [random.random(), hash('a'), list({'a', 'b', 'c'})]"
    first, again = (box.run(source, [(1,)], "f")[0] for _ in range(2))
    assert first.status == "value" and first == again
    times = {box.judge("def f(x): return sum(range(10**5))", "f", CASES).cpu for _ in range(3)}
    assert len(times) == 1 and times.pop() > 0


@extra
def test_stdin_and_numbers(box):
    source = "n = int(input())\nprint(n * 2)"
    assert box.judge(source, None, [Case(("21",), "42")]).passed
    assert box.judge("def f(x): return True", "f", [Case((3,), 1)]).passed is False
    assert box.judge("def f(x): return True", "f", [Case((3,), 1)], numbers="python").passed


def lenient(source: str) -> str:
    """An attack that is tried without what WASI has not: ctypes, subprocess."""
    for line in attacks.PRELUDE.strip().splitlines()[:2]:
        names = line.removeprefix("import ").split(", ")
        tried = [f"try: import {name}\nexcept ImportError: {name} = None\n" for name in names]
        if line.startswith("import "):
            source = source.replace(line + "\n", "".join(tried))
        else:
            source = source.replace(line + "\n", "libc = None\n")
    return source


@extra
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the decoys are Linux's")
def test_every_attack_on_what_is_outside_is_refused(box):
    assert box.open == []
    with attacks.world() as w:
        attacks.fill(w)
        before, seen = attacks.state(w), {k: v for k, v in w.items() if k != "top"}
        jobs = [(lenient(a.source), "succeeds", [Case((seen,), None)]) for a in attacks.OUTSIDE]
        found = box.judge_all(jobs, limits=Limits(0.3, 2.0))
        assert attacks.state(w) == before
    for attack, verdict in zip(attacks.OUTSIDE, found, strict=True):
        nothing = attack.name == "change_mode"  # says yes and does nothing: see the state above
        assert verdict.outcomes != ["wrong"] or attack.inside or nothing, attack.name
        assert verdict.status not in ("harness", "exit"), (attack.name, verdict.message)


@extra
def test_no_verdict_can_be_forged(box):
    jobs = []
    for attack in attacks.VERDICT:
        want = 1 if attack.stops == "equal1" else 11
        source = attack.source.replace("os.write(3,", "os.write(1,")
        jobs.append((source, "f", [Case((3,), want)]))
    paid = [
        attack.name
        for attack, verdict in zip(attacks.VERDICT, box.judge_all(jobs), strict=True)
        if verdict.passed is not False or verdict.share
    ]
    assert paid == []


@extra
def test_the_doctor_lists_it(box, capsys):
    assert cli.main(["sandbox", "doctor"]) == 0
    assert "WebAssembly" in capsys.readouterr().out

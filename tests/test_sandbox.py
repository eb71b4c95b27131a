"""The sandbox as its users see it: verdicts, failures of its own, determinism, nothing left."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import Case, Limits, Sandbox, default, grader, handle, kernel, seccomp, verdicts

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the layers are Linux's")
CASES = [Case((3,), 11), Case((5,), 17)]
RIGHT = "def f(x): return x * 3 + 2"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as found:
        yield found


# --- canonical bytes -----------------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
    | st.dictionaries(st.integers() | st.text(), inner)
    | st.sets(st.integers() | st.text() | st.booleans()) | st.frozensets(st.text()),
    max_leaves=20,
)  # fmt: skip


def same(a, b) -> bool:
    """Equal, with equal types all the way down."""
    if type(a) is not type(b):
        return False
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if type(a) in (set, frozenset):
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return a == b and math.copysign(1, a.real) == math.copysign(1, b.real) if a == 0 else a == b


@given(PLAIN)
def test_bytes_are_decoded_to_the_value(value):
    assert same(grader.decode(grader.encode(value)), value)


@given(PLAIN, PLAIN)
def test_two_values_have_the_same_bytes_if_they_are_the_same(a, b):
    assert grader.Expected(a).matches(grader.encode(a))
    assert (grader.encode(a) == grader.encode(b)) == same(a, b)


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(data):
    grader.Expected([1.0, "x"]).matches(data)
    try:
        grader.decode(data)
    except (ValueError, RecursionError):
        pass


@pytest.mark.parametrize(
    "expected, answer, strict, python",
    [
        (1, True, False, True),
        (True, 1, False, True),
        (3, 3.0, False, True),
        (3.0, 3, True, True),
        (0.3, 0.1 + 0.2, True, False),
        ([0.3, {"a": 2.0}], [0.1 + 0.2, {"a": 2}], True, False),
        (0.5, 0.5001, False, False),
        (math.nan, math.nan, True, True),
        (math.inf, math.inf, True, True),
        (1e300, 10**300, True, False),
        (1e300, 10**400, False, False),
        ((1, 2), [1, 2], False, False),
        ([1], (1,), False, False),
        ("a", b"a", False, False),
        ({1, 2}, frozenset({2, 1}), False, True),
        ({"a": 1, "b": 2}, OrderedDict(b=2, a=1), False, True),
        ({"a": 2}, Counter("aa"), False, True),
        ({"a": [1]}, defaultdict(list, a=[1]), False, True),
        ({2.0}, {2}, False, True),
        (None, object(), False, False),
        ("o3:int", int, False, False),
        ([1, [2]], [1, [2]], True, True),
        ([1.0, 2.0], [1.0], False, False),
        ([1.0], [1.0, 2.0], False, False),
        ("é\ud800", "é\ud800", True, True),
    ],
)
def test_what_equals_what(expected, answer, strict, python):
    for numbers, right in (("strict", strict), ("python", python)):
        found = grader.Expected(expected, numbers).matches(grader.encode(answer, numbers))
        assert found is right, numbers


def test_an_expected_value_that_no_program_can_return_is_no_verdict(sandbox):
    for case in (Case((1,), object()), Case((object(),), 1)):
        verdict = sandbox.judge(RIGHT, "f", [case])
        assert (verdict.status, verdict.passed, verdict.share) == ("harness", None, None)


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, status, outcomes",
    [
        (RIGHT, "ok", "pass pass"),
        ("def f(x): return 11", "ok", "pass wrong"),
        ("def f(x): return 11 if x == 3 else x / 0", "ok", "pass raised"),
        ("def f(x): return 11 if x == 3 else exit()", "ok", "pass raised"),
        ("def f(x):\n  while x == 5: pass\n  return 11", "timeout", "pass none"),
        ("def f(x): return 11 if x == 3 else bytearray(1 << 30)", "memory", "pass raised"),
        ("def f(x): return 11 if x == 3 else 'x' * (2 << 20)", "output", "pass none"),
        ("import os\ndef f(x): return 11 if x == 3 else os._exit(0)", "exit", "pass none"),
        ("import ctypes\ndef f(x): return x == 3 or ctypes.string_at(0)", "crash", "wrong none"),
        ("def f(x) return 1", "syntax", "none none"),
        ("def f(x):\n\0 return 1", "syntax", "none none"),
        ("(" * 5000, "syntax", "none none"),
        ("x = 1 / 0", "error", "none none"),
        ("raise SystemExit", "exit", "none none"),
        ("def g(x): return 1", "missing", "none none"),
        ("f = 3", "missing", "none none"),
        ("#" * 70_000, "syntax", "none none"),
        ("\ud800", "syntax", "none none"),
    ],
)  # fmt: skip
def test_the_status_and_the_outcome_of_every_case(source, status, outcomes, sandbox):
    verdict = sandbox.judge(source, "f", CASES, limits=Limits(cpu=0.3))
    assert (verdict.status, " ".join(verdict.outcomes)) == (status, outcomes)
    assert verdict.passed is (outcomes == "pass pass")
    assert verdict.share == outcomes.split().count("pass") / 2
    assert verdict.message.isprintable() and len(verdict.message) <= 300


def test_no_cases_are_not_passed(sandbox):
    verdict = sandbox.judge(RIGHT, "f", [])
    assert verdict.status == "ok" and verdict.passed is False and verdict.share == 0


def test_a_program_that_reads_stdin_and_prints(sandbox):
    source = (
        "import sys\na = input()\nfor line in sys.stdin: a += line.strip() + ' '\nprint(a)\nexit()"
    )
    cases = [Case(("1\n2\n3",), "12 3\n"), Case(("x",), "x"), Case(("x",), "y")]
    assert sandbox.judge(source, None, cases).outcomes == ["pass", "pass", "wrong"]
    buffered = "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    assert sandbox.judge(buffered, None, [Case(("ab",), "ba")]).passed
    endless = sandbox.judge("while True: print('x' * 1000)", None, [Case(("",), "")])
    assert endless.status == "output"
    assert sandbox.judge("exit(1)", None, [Case(("",), "")]).outcomes == ["raised"]


def test_a_method_and_ordinary_programs(sandbox):
    source = "class Solution:\n  def f(self, x: int) -> int: return x * 3 + 2"
    assert sandbox.judge(source, "Solution.f", CASES).passed
    source = """
import re, math, itertools, collections, heapq, functools, dataclasses, datetime, random, typing
@dataclasses.dataclass(order=True)
class P:
    x: int
    def up(self): return self.x * 3
@functools.lru_cache(None)
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def f(x):
    def gen():
        yield from range(x)
    assert fib(60) == 1548008755920 and len(list(gen())) == x
    assert datetime.datetime.strptime("2020-01-02", "%Y-%m-%d").year == 2020
    assert re.findall("[0-9]+", "a12") == ["12"] and len(str(7 ** 3000)) == 2536
    print("debugging", flush=True)
    return P(x).up() + 2
if __name__ == "__main__": 1 / 0
"""
    verdict = sandbox.judge(source, "f", CASES)
    assert verdict.passed, verdict


def test_one_case_does_not_change_the_next(sandbox):
    cases = [Case(([1, 2],), 2), Case(([1, 2],), 2)]
    assert sandbox.judge("def f(a):\n  n = len(a)\n  a.append(1)\n  return n", "f", cases).passed


def test_run_gives_values_without_expectations(sandbox):
    source = "def f(x): return {x: [1.5, (True, 'ü')], 'o': object()} if x else 1 / 0"
    right, raised = sandbox.run(source, [(3,), (0,)], "f")
    assert right.value == {3: [1.5, (True, "ü")], "o": right.value["o"]}
    assert right.value["o"].name == "object"
    assert raised.status == "raised" and raised.message.startswith("ZeroDivisionError")
    (none,) = sandbox.run("while True: pass", [(3,)], "f", limits=Limits(cpu=0.1))
    assert none.status == "none" and none.message.startswith("timeout")
    assert sandbox.run("print(input())", [("hello",)], None)[0].value == "hello"


def test_a_batch_keeps_its_order_and_runs_the_same_program_once(sandbox):
    jobs = [(f"def f(x): return x * 3 + {k % 7}", "f", CASES) for k in range(50)]
    found = sandbox.judge_all(jobs)
    assert [verdict.passed for verdict in found] == [k % 7 == 2 for k in range(50)]
    assert len({verdict.cpu for verdict in found}) <= 7
    loops = [("def f(x):\n  while 1: pass", "f", CASES)] * 20
    began = time.process_time()
    assert {v.status for v in sandbox.judge_all(loops, limits=Limits(cpu=0.2))} == {"timeout"}
    assert time.process_time() - began < 1


# --- determinism ---------------------------------------------------------------------------------


def test_the_same_program_does_the_same_again():
    source = (
        "import random, time\ndef f(x):\n  time.sleep(1e6)\n"
        "  return [list({'a', 'b', 'c', 'd', 'e'}), random.random(), hash('x')]"
    )
    found = []
    for _ in range(2):
        with Sandbox(1) as sandbox:
            found += [sandbox.run(source, [(1,)], "f")[0].value for _ in range(2)]
    assert found[0] is not None and all(one == found[0] for one in found)


@linux
@pytest.mark.parametrize(
    "wait",
    [
        "time.sleep(1e6)",
        "select.select([], [], [], 1e6)",
        "threading.Event().wait(1e6)",
        "threading.Lock().acquire() and threading.Barrier(1).wait(1e6)",
        "lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=1e6)",
        "os.read(0, 10)",
        "os.read(3, 10)",
        "sys.stdin.read()",
    ],
)
def test_nothing_waits(wait, sandbox):
    source = (
        f"import os, queue, select, sys, threading, time\ndef f(x):\n  {wait}\n  return x * 3 + 2"
    )
    verdict = sandbox.judge(source, "f", CASES)
    assert verdict.passed and verdict.cpu < 0.5, verdict


# --- the sandbox's own failures ------------------------------------------------------------------


@linux
def test_a_server_that_is_killed_is_replaced_and_the_program_judged():
    with Sandbox(1) as sandbox:
        for _ in range(2):
            sandbox._idle[0].process.kill()
            sandbox._idle[0].process.wait()
            assert sandbox.judge(RIGHT, "f", CASES).passed


@linux
def test_where_it_fails_twice_the_verdict_is_neither_right_nor_wrong(monkeypatch):
    with Sandbox(1) as sandbox:
        monkeypatch.setattr(handle, "SERVER", Path("/nonexistent.py"))
        sandbox._idle[0].process.kill()
        sandbox._idle[0].process.wait()  # the server itself, in its name space, ends with it
        verdict = sandbox.judge(RIGHT, "f", CASES)
        assert (verdict.status, verdict.passed, verdict.share) == ("harness", None, None)
        assert sandbox.run(RIGHT, [(3,)], "f")[0].status == "harness"
        monkeypatch.undo()
        assert sandbox.judge(RIGHT, "f", CASES).passed


@linux
def test_nothing_that_contains_is_an_error_and_weak_says_so():
    with pytest.raises(R1LabError, match="read files.*--weak-sandbox"):
        Sandbox(layers=()).start()
    with Sandbox(layers=(), weak=True) as sandbox:
        assert sandbox.describe().startswith("WEAK") and "read files" in sandbox.open
        assert sandbox.judge(RIGHT, "f", CASES).passed


def test_what_cannot_be_imported_is_told():
    with pytest.raises(R1LabError, match="no module named no_such_module"):
        Sandbox(modules=["no_such_module"]).start()
    with pytest.raises(R1LabError, match="known: strict, python"):
        default().judge(RIGHT, "f", CASES, numbers="loose")


def test_another_module_can_be_asked_for():
    with Sandbox(1, modules=["numpy"]) as sandbox:
        source = "import numpy\ndef f(x): return int(numpy.arange(x).sum()) + 8"
        assert sandbox.judge(source, "f", [Case((3,), 11)]).passed


@linux
def test_a_program_that_imports_more_than_the_small_server_has_is_run_by_the_other():
    """Which server runs a program changes no verdict, and to ask for the other gains nothing."""
    sources = {
        "def f(x):\n    import math, re, heapq, random\n    return math.isqrt(x)": "small",
        "from decimal import Decimal\ndef f(x): return int(Decimal(x).sqrt())": "all",
        "def f(x): return len('x'.encode('utf-32')) // 4": "all",
        "try:\n    import numpy\nexcept ImportError:\n    def f(x): return 2": "all",
        "import os\ndef f(x): os._exit(94)": "exit",
        "def f(x):\n    import decimal\n    while x: pass": "timeout",
    }
    cases = [Case((4,), 2)]
    for modules, servers in (([], [True, False]), (["abc"], [False])):
        with Sandbox(1, modules=modules) as sandbox:
            for source, what in sources.items():
                verdict = sandbox.judge(source, "f", cases, limits=Limits(cpu=0.2))
                right = what in ("small", "all")
                assert (verdict.status, verdict.passed) == ("ok" if right else what, right), source
                if what == "small":
                    assert [server.small for server in sandbox._servers] == servers[:1]
            assert [server.small for server in sandbox._servers] == servers
            assert len(sandbox._idle) == len(servers)


@linux
def test_both_servers_are_probed_and_a_forged_answer_is_one_in_each():
    """Neither what a first run wrote to the channel nor where it ran is part of the verdict."""
    forged = "import os\nos.write(3, b'v' + bytes(4) + b'\\2\\0\\0\\0' + b'i2')\nimport {}"
    with Sandbox(1) as sandbox:
        opened = []
        sandbox._probe = lambda server: opened.append(server.small) or []
        for module in ("math", "decimal"):
            source = forged.format(module) + "\ndef f(x): return 2"
            assert sandbox.judge(source, "f", [Case((4,), 2)]).status == "forged", module
        assert opened == [False] and [one.small for one in sandbox._servers] == [True, False]
        sandbox._servers[1].close()
        sandbox._probe = lambda server: ["read files"]  # a server that does not contain is not used
        verdict = sandbox.judge("import decimal\ndef f(x): return 2", "f", [Case((4,), 2)])
        assert (verdict.status, verdict.passed) == ("harness", None)


@linux
def test_a_layer_that_cannot_be_put_up_stops_the_child():
    """A call that fails is a failure of the sandbox, never a program with a layer less."""
    assert kernel.make([(os.getpid,), (abs, 3)]) == 3
    with pytest.raises(OSError, match="prctl"):
        kernel.make([kernel.c_call("prctl", 10**6, 0, 0, 0, 0), (pytest.fail, "went on")])


def test_threads_share_it_and_a_forked_process_has_its_own():
    shared = default()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(shared.judge(RIGHT, "f", CASES).passed))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 8
    pid = os.fork()
    if pid == 0:
        try:
            right = default().judge(RIGHT, "f", CASES).passed
            shared.close()
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.judge(RIGHT, "f", CASES).passed


@linux
def test_servers_end_with_their_process():
    code = (
        "from r1lab.sandbox import default, Case\nimport os\n"
        "s = default().start()\nprint(s._idle[0].process.pid, flush=True)\n"
    )
    for ending in ("", "os.kill(os.getpid(), 9)"):
        ran = subprocess.run([sys.executable, "-c", code + ending], capture_output=True, text=True)
        pid = int(ran.stdout)
        for _ in range(200):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the server is still there")


@linux
def test_a_program_has_no_descriptor_but_its_channel_however_many_the_host_has():
    files = [open(os.devnull) for _ in range(400)]  # noqa: SIM115
    try:
        with Sandbox(1, layers=(), weak=True) as sandbox:
            source = "import os\ndef f(): return os.listdir('/proc/self/fd')"
            assert set(sandbox.run(source, [()], "f")[0].value) <= {
                "0",
                "1",
                "2",
                "3",
                "4",
            }  # its own
    finally:
        for file in files:
            file.close()


@linux
def test_the_host_is_not_asked_to_wait_for_a_program_that_stops_reading():
    with Sandbox(1) as sandbox:
        big = [Case(("x" * 500_000,), 1), Case(("x" * 500_000,), 1)]
        assert sandbox.judge("raise SystemExit", "f", big).status == "exit"
        assert sandbox.judge("def f(x): return len(x) - 499_999", "f", big).passed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="seccomp is Linux's")
def test_the_filter_of_system_calls_kills_other_tables_and_has_one_for_arm():
    x86 = seccomp.filter_program("x86_64")
    assert len(x86) % 8 == 0 and len(x86) // 8 < 256
    assert seccomp.filter_program("aarch64") != x86
    if os.uname().machine == "x86_64":
        source = "import ctypes\ndef f(x): ctypes.CDLL(None).syscall(ctypes.c_long((1 << 30) + 39))"
        with Sandbox(1) as sandbox:
            verdict = sandbox.judge(source, "f", CASES)
        assert (verdict.status, verdict.message) == ("crash", f"ended by signal {signal.SIGSYS}")


# --- frames --------------------------------------------------------------------------------------

FRAME = st.tuples(
    st.sampled_from([bytes([c]) for c in b"bdvrmsxnoe?"]), st.integers(0, 3), st.binary()
)
ENDED = st.builds(
    verdicts.Ended,
    st.sampled_from([0, 1, -9, -11, -27]),
    st.sampled_from(["", "cpu", "idle", "lost"]),
    st.just(0.1), st.just(0.1), st.just(1),
)  # fmt: skip


@settings(max_examples=500)
@given(st.lists(FRAME), st.binary(), st.booleans(), ENDED)
def test_any_frames_get_a_verdict(frames, rest, cut, ended):
    data = b"".join(verdicts.HEADER.pack(k, n, len(p)) + p for k, n, p in frames) + rest
    answers = verdicts.read(data, cut, ended, 2)
    found = verdicts.judge(answers, ended, [grader.Expected(1), grader.Expected(2)])
    assert len(found.outcomes) == 2 and len(answers.cases) <= 2
    assert (found.passed is None) == (found.status == "harness")
    if found.passed:
        kinds = b"".join(kind for kind, _, _ in frames)
        assert kinds == b"bdvve" and not rest and not cut and ended.code >= 0 and not ended.killed


# --- ten thousand programs -----------------------------------------------------------------------

WORDS = """def f ( x ) : return \n  x + - * / ** % 1 0 7 99 10**6 [ ] { } , for in range while if
True else not and lambda try except finally raise yield import os sys print len sum str open exec
eval input global del class with as assert None is f f(x) f(x-1) x*x [x]*x x==x 'a' "b" \\ \0 \ud800
os.fork() os._exit(0) os.kill(os.getppid(),9) exit() __import__('os') while(1):pass é ( ) :
sys.setrecursionlimit(10**9) bytearray(10**9) open('/tmp/r1lab-fuzz','w') threading""".split(" ")
SEEDS = [
    "def f(x):\n    return x * 3 + 2\n",
    "def f(x):\n    if x < 2:\n        return x\n    return f(x - 1) + f(x - 2)\n",
    "import os, sys\ndef f(x):\n    os.write(3, b'v' + bytes(8) + bytes([x]))\n    return x\n",
    "def f(x):\n    a = []\n    while len(a) < x:\n        a.append(a)\n    return a\n",
    "def f(x):\n    try:\n        return 1 / (x - 3)\n    except Exception:\n        exit()\n",
]


def random_program(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return "".join(rng.choice(WORDS) + rng.choice(" \n  ") for _ in range(rng.randrange(40)))
    text = list(rng.choice(SEEDS))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(text))
        what = rng.random()
        if what < 0.4:
            text[at] = rng.choice(WORDS)
        elif what < 0.7:
            text[at : at + rng.randrange(1, 8)] = []
        else:
            text[at:at] = [rng.choice(WORDS), " "]
        text = text or [" "]
    return "".join(text)


def ours() -> set[str]:
    """The processes below this one that a sandbox has started, by number: servers, what started
    them, programs."""
    parents, found = {}, set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[path.parts[2]] = path.read_text().rpartition(") ")[2].split()[1]
            if b"sandbox/server.py" in (path.parent / "cmdline").read_bytes():
                found.add(path.parts[2])
        except OSError:
            continue

    def below(pid: str) -> bool:
        return pid == str(os.getpid()) or (pid in parents and below(parents[pid]))

    return {pid for pid in found if below(pid)}


def around() -> dict[str, set[str]]:
    """What lies in folders that everybody may see. sem.mp-…: of other tests, which start processes
    meanwhile."""
    found = {folder: os.listdir(folder) for folder in ("/dev/shm", "/")}
    return {k: {x for x in names if not x.startswith("sem.mp-")} for k, names in found.items()}


@linux
def test_random_programs_raise_nothing_stay_within_their_limits_and_leave_nothing():
    """R1LAB_FUZZ=10000: so many."""
    rng, n = random.Random(0), int(os.environ.get("R1LAB_FUZZ", 1500))
    programs = [random_program(rng) for _ in range(n)]
    before, shared = ours(), Path("/proc/sysvipc/shm").read_text()
    descriptors = len(os.listdir("/proc/self/fd"))
    files = around()
    limits = Limits(cpu=0.1)
    with Sandbox() as sandbox:
        running = ours() - before
        found = sandbox.judge_all([(p, "f", CASES) for p in programs], limits=limits)
        assert 0 < len(running) <= len(ours() - before) <= 4 * sandbox.workers  # no program
        memory = [  # of the servers, and of what has started them
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in ours() - before
        ]
        assert len(memory) >= len(sandbox._servers)
    assert [verdict.status for verdict in found].count("harness") == 0
    assert max(verdict.cpu for verdict in found) <= limits.cpu + 0.1
    assert all(verdict.passed in (True, False) and len(verdict.outcomes) == 2 for verdict in found)
    assert {"ok", "syntax", "error", "timeout", "missing"} <= {verdict.status for verdict in found}
    assert ours() - before == set() and Path("/proc/sysvipc/shm").read_text() == shared
    assert around() == files and len(os.listdir("/proc/self/fd")) == descriptors
    assert not Path("/tmp/r1lab-fuzz").exists() and max(memory) < 20_000  # pages

"""The second mode of the sandbox: what a program may do in its folder, and that it may no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_attacks import world
from test_sandbox_arena import who
from workspace_attacks import ATTACKS, succeed

from r1lab.basics.errors import R1LabError
from r1lab.sandbox import Limits, client, workspace
from r1lab.sandbox.workspace import Workspace

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the layers are Linux's"
)


@pytest.fixture(scope="module")
def box():
    with Workspace() as found:
        yield found


def left_in(box) -> list[str]:
    return os.listdir(box._scratch)


# --- what a program may do -----------------------------------------------------------------------


def test_a_program_reads_its_files_imports_libraries_and_leaves_files(box, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "more.csv").write_text("a\n7\n")
    source = (
        "import os, sys, json, sqlite3\nimport numpy as np\nimport pandas as pd\n"
        "table = pd.read_csv('data/x.csv')\nmore = pd.read_csv('tree/deep/more.csv')\n"
        "os.makedirs('out/inner')\ntable.to_csv('out/inner/t.csv', index=False)\n"
        "np.save('out/a.npy', more.to_numpy())\nfile = open('out/open.txt', 'w')\n"
        "file.write('closed at the end')\nprint(sys.argv[0], __name__, os.listdir('data'))\n"
        "os.rename('out/a.npy', 'out/b.npy')\nos.remove('data/x.csv')\n"
    )
    files = {"data/x.csv": "a,b\n1,x\n", "tree": tmp_path}
    ran = box.script(source, files, keep=["out"])
    assert ran.ok and ran.printed == "program.py __main__ ['x.csv']\n" and ran.error == ""
    assert ran.files["out/inner/t.csv"] == b"a,b\n1,x\n" and len(ran.files) == 3
    assert ran.files["out/open.txt"] == b"closed at the end"
    assert (tmp_path / "deep" / "more.csv").exists() and left_in(box) == []


@pytest.mark.parametrize(
    "source, status, code, error",
    [
        ("x = 1\n\ndef f():\n    return x / 0\n\nf()", "exit", 1, "ZeroDivisionError: division"),
        ("raise SystemExit('wrong')", "exit", 1, "wrong"),
        ("raise SystemExit(3)", "exit", 3, ""),
        ("exit()", "exit", 0, ""),
        ("import os; os._exit(0)", "exit", 0, ""),
        ("import os; os._exit(4)", "exit", 4, "4"),
        ("x = (", "exit", 1, "SyntaxError"),
        ("import no_such_package", "exit", 1, "No module named 'no_such_package'"),
        ("x = bytearray(1 << 40)", "exit", 1, "MemoryError"),
        ("import ctypes; ctypes.string_at(0)", "crash", -11, "signal 11"),
        ("import time; time.sleep(1000)", "timeout", None, "time limit"),
        ("while True: pass", "timeout", None, "time limit"),
        ("import threading; threading.Event().wait(1000)", "timeout", None, "time limit"),
        ("import os; os.write(3, b'x' * 100)", "forged", None, "channel"),
    ],
)
def test_how_a_program_ends_is_told(source, status, code, error, box):
    ran = box.script(source, limits=Limits(0.5, 4.0))
    assert (ran.status, ran.code) == (status, code) and error in ran.error, ran
    assert ran.ok is (ran.code == 0)


def test_a_traceback_names_the_program_s_lines_and_no_folder_of_this_machine(box):
    ran = box.script("import pandas as pd\n\npd.read_csv('none.csv')\n")
    assert 'File "program.py", line 3' in ran.error and "pd.read_csv('none.csv')" in ran.error
    assert "FileNotFoundError" in ran.error.splitlines()[-1]
    assert sys.prefix not in ran.error and "site-packages" not in ran.error


def test_a_function_of_a_program_is_called_among_the_files(box):
    source = "def judged():\n    return open('x').read() == 'text', 'log'\n"
    assert box.script(source, {"x": "text"}, call="judged").value == (True, "log")
    assert not box.script(source, call="judged").ok
    assert not box.script(source, call="another").ok


def test_sleeping_takes_time_and_time_is_by_the_clock(box):
    source = "import time\nbegan = time.time()\ntime.sleep(0.3)\nprint(time.time() - began > 0.29)"
    assert box.script(source).printed == "True\n"
    source = "import time\nwhile True: sum(range(1000)); time.sleep(0.05)"
    assert box.script(source, limits=Limits(100.0, 1.5)).status == "timeout"


def test_a_package_can_be_left_out():
    with Workspace(("numpy",), without=("pandas",)) as box:
        assert box.script("import numpy").ok
        ran = box.script("import pandas")
        assert not ran.ok and ("No module" in ran.error or "Permission" in ran.error)


def test_a_module_that_is_not_installed_is_told():
    with pytest.raises(R1LabError, match="no module named no_such_module"):
        Workspace(("no_such_module",)).start()


def test_names_stay_inside(box):
    for name in ("../x", "/etc/x", "a/../../x"):
        with pytest.raises(R1LabError, match="not inside the scratch folder"):
            box.script("", {name: "text"})
        with pytest.raises(R1LabError, match="not inside the scratch folder"):
            box.script("", keep=[name])
    assert box.script("print(1)").ok


# --- what it may not -----------------------------------------------------------------------------


def test_all_layers_stop_every_attack(box):
    assert len(ATTACKS) >= 45 and box.open == []
    with world() as w:
        assert succeed(box, w) == []
    assert not Path("/tmp/r1lab-left").exists() and not Path("/dev/shm/r1lab-left").exists()


AGAIN = "import subprocess, sys, workspace_attacks; subprocess.run([sys.executable, '-c', ''])"


@pytest.mark.parametrize("name", who())
def test_without_any_one_layer_the_attacks_are_contained_or_the_sandbox_refuses(name):
    path = os.pathsep.join([str(Path(client.__file__).parents[2]), os.path.dirname(__file__)])
    about = {"env": {"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, "capture_output": True}
    for python in (sys.executable, "/usr/bin/python3"):  # ours may be readable for us alone
        start = [*who()[name], python]
        if subprocess.run([*start, "-c", AGAIN], **about).returncode == 0:
            break
    else:
        pytest.skip(f"{name} no Python can be read")
    script = str(Path(__file__).with_name("workspace_attacks.py"))
    ran = subprocess.run([*start, script], **about, text=True, timeout=400)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert {absent: succeeded for absent, (_, succeeded) in found.items() if succeeded} == {}
    refused = {absent for absent, (words, _) in found.items() if words}
    assert refused <= {"seccomp", "landlock"}, found
    assert all("programs could" in found[absent][0] for absent in refused)


def test_nothing_that_contains_is_an_error():
    with pytest.raises(R1LabError, match="programs could .*read files"):
        Workspace((), layers=()).start()
    with Workspace((), layers=(), weak=True) as box:
        assert box.describe().startswith("WEAK") and "read r1lab's files" in box.open
        assert box.script("print(1)").printed == "1\n"


TIGHT = Limits(cpu=2.0, wall=100.0, memory=64 << 20, output=1 << 16, disk=8 << 20)
PATIENT = replace(TIGHT, cpu=60.0, wall=300.0)  # of what another limit ends, on a busy machine too


@pytest.mark.parametrize(
    "source, statuses",
    [
        ("with open('x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", "exit disk"),
        ("open('x', 'wb').truncate(1 << 40)", "exit"),
        ("import os; os.posix_fallocate(os.open('x', os.O_CREAT | os.O_RDWR), 0, 1 << 40)", "exit"),
        ("for k in range(100): open(f'{k}', 'wb').write(bytes(1 << 20))", "disk"),
        ("k = 0\nwhile True:\n    open(f'{k}', 'w').close()\n    k += 1", "disk timeout"),
        ("import os\nfor k in range(5000):\n    os.mkdir('d'); os.chdir('d')", "disk exit timeout"),
        ("import os\nos.mkdir('d', 0)\nos.mkdir('e', 0o500)", "exit disk"),
        ("files = [open(__import__('os').__file__) for k in range(2000)]", "exit"),
        ("while True: print('x' * 10_000)", "timeout"),
        ("x = [0]\nwhile True: x += x", "exit"),
        ("import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", "exit crash"),
    ],
)  # fmt: skip
def test_what_takes_too_much_is_stopped_and_leaves_nothing(source, statuses, box):
    limits = TIGHT if "timeout" in statuses else PATIENT
    ran = box.script(source, keep=["."], limits=limits)
    assert ran.status in statuses.split() and not ran.ok or ran.status == "exit", ran
    assert len(ran.printed) <= TIGHT.output and ran.cpu < limits.cpu + 0.5
    assert sum(map(len, ran.files.values())) <= TIGHT.disk
    assert left_in(box) == [] and box.script("print(1)").ok


def test_one_program_does_not_reach_the_next(box):
    source = (
        "import json, os, sys\nopen('left', 'w').write('x')\nos.environ['LEFT'] = 'x'\n"
        "json.loads = None\nsys.modules['left'] = sys\nos.umask(0o777)\n"
    )
    assert box.script(source).ok
    ran = box.script("import json, os, sys\nprint(os.listdir(), os.environ.get('LEFT'))\n"
                     "print('left' in sys.modules, json.loads('[1]'))")  # fmt: skip
    assert ran.printed == "[] None\nFalse [1]\n"


def test_a_lost_server_is_replaced_and_the_folder_filled_again():
    with Workspace(()) as box:
        box._idle[0].process.kill()
        assert box.script("print(open('x').read())", {"x": "text"}).printed == "text\n"


def test_nothing_is_left_when_it_closes():
    with Workspace(()) as box:
        folder, pid = box._scratch, box._servers[0].process.pid
        assert os.path.isdir(folder) and os.stat(folder).st_mode & 0o077 == 0
        box.script("open('x', 'w').write('x')")
    assert not os.path.exists(folder) and not os.path.exists(f"/proc/{pid}")


# --- folders, outside ----------------------------------------------------------------------------


def test_what_comes_back_are_regular_files_behind_no_link(tmp_path):
    secret, top = tmp_path / "secret", tmp_path / "top"
    secret.mkdir(), top.mkdir(), (top / "real").mkdir()
    (secret / "file").write_text("secret")
    (top / "real" / "file").write_text("mine")
    (top / "folder").symlink_to(secret)
    (top / "real" / "link").symlink_to(secret / "file")
    os.mkfifo(top / "real" / "pipe")
    assert workspace.walk(str(top), "real") == ["real/file"]
    assert workspace.walk(str(top), "folder") == workspace.walk(str(top), "folder/file") == []
    assert workspace.walk(str(top), ".") == ["real/file"]
    assert workspace.read(str(top / "real" / "link"), 100) is None
    assert workspace.read(str(top / "real" / "file"), 3) is None
    assert workspace.read(str(top / "real" / "file"), 4) == b"mine"
    with pytest.raises(R1LabError):
        workspace.walk(str(top), "../secret")


def test_a_folder_is_emptied_however_deep_and_no_link_is_followed(tmp_path):
    top, kept = tmp_path / "top", tmp_path / "kept"
    top.mkdir(), kept.mkdir()
    (kept / "file").write_text("kept")
    (top / "link").symlink_to(kept)
    here = os.getcwd()
    try:
        os.chdir(top)
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        Path("file").write_text("x")
    finally:
        os.chdir(here)
    (top / "closed").mkdir(mode=0)
    workspace.empty(str(top))
    assert os.listdir(top) == [] and (kept / "file").read_text() == "kept"


def test_r1lab_and_what_is_hidden_are_not_among_the_libraries():
    folders, readable = workspace.libraries(("pandas",))
    package = os.path.realpath(Path(client.__file__).parents[1])
    assert os.path.realpath(os.path.dirname(os.__file__)) in folders
    for path in map(os.path.realpath, readable):
        assert not package.startswith(path + os.sep) and path != package, path
        assert not path.endswith("/pandas")
    assert replace(workspace.MINUTES, cpu=1.0).wall == workspace.MINUTES.wall

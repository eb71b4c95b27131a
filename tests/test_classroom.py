"""A class: its plan and price, what its machines are told, and seats on this machine for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import yaml
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

from r1lab import ROOT, cli
from r1lab.basics.errors import R1LabError
from r1lab.course import classroom, seats
from r1lab.machine.costs import Price, prices

GIVEN = ["class", "up", "--students", "30", "--gpus-each", "1", "--hours", "4"]
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ ada@home"


def offer(device, memory, dollars, product="x", least=1):
    return Price(device, memory, "p", product, dollars, least, "2026-11-01", "s")


def names(n: int) -> list[str]:
    return list(classroom.students(n))


def test_the_dry_run_of_thirty_prints_plan_price_and_commands(capsys, tmp_path):
    out = str(tmp_path / "class")
    assert cli.main([*GIVEN, "--max-dollars", "200", "--dry-run", "--out", out]) == 0
    said = capsys.readouterr().out
    rate = min(p.dollars_per_hour for p in prices()
               if p.memory_gb >= 24 and p.gpus_at_least == 1 and "Community" not in p.product
               and p.provider != "(the paper)")  # fmt: skip
    assert "30 students, 1 GPU each: 30 machines" in said
    assert f"${30 * 4.5 * rate:.2f}" in said and 30 * 4.5 * rate <= 200
    launched = [line for line in said.splitlines() if line.startswith("sky launch")]
    assert len({shlex.split(line)[5] for line in launched}) == 30
    assert all(shlex.split(line)[:5] == ["sky", "launch", "-y", "-d", "-c"] for line in launched)
    assert "# the end: sky down -y r1lab-class-01 r1lab-class-02" in said
    assert "ssh -N -L 8888:127.0.0.1:9001" in said
    assert not (tmp_path / "class").exists()  # nothing is done


def test_a_plan_above_the_money_says_what_would_fit(capsys):
    assert cli.main([*GIVEN, "--max-dollars", "50", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "more than $50.00" in said and "1.8 hours" in said and "15 students" in said


def test_the_cheapest_gpu_with_the_memory_is_taken():
    known = [
        offer("RTX 4090", 24, 0.3, "Community Cloud"),
        offer("RTX 4090", 24, 0.7),
        offer("L40S", 48, 1.0),
        offer("H800", 80, 0.1),
        offer("A100 SXM", 80, 0.5, least=8),
    ]
    one = classroom.plan(names(3), 1, 2, known=known)
    assert (one.offer.dollars_per_hour, one.seats, len(one.machines)) == (0.7, 1, 3)
    assert one.dollars == pytest.approx(3 * 2.5 * 0.7)
    two = classroom.plan(names(3), 0.5, 2, known=known)
    assert (two.offer.device, two.seats, len(two.machines)) == ("L40S", 2, 2)
    assert list(two.machines.values()) == [("student-01", "student-02"), ("student-03",)]
    assert "0.5 GPU each: 2 machines" in two.words()[0] and "2 students on each" in two.words()[0]
    small = classroom.plan(names(3), 0.25, 2, memory_each=6, known=known)
    assert (small.offer.device, small.seats) == ("RTX 4090", 4)
    eight = classroom.plan(names(1), 8, 2, known=known)
    assert (eight.offer.device, eight.gpus) == ("A100 SXM", 8)
    for gpus, memory, words in ((0.1, 24, "no GPU"), (1.5, 24, "fraction"), (1, 999, "no GPU")):
        with pytest.raises(R1LabError, match=words):
            classroom.plan(names(1), gpus, 2, memory_each=memory, known=known)
    with pytest.raises(R1LabError, match="a-z"):
        classroom.plan(["a/b"], 1, 1, known=known)


def test_every_gpu_that_is_rented_has_skypilots_name():
    known = {(p.device, p.memory_gb) for p in prices() if p.provider != "(the paper)"}
    assert known - set(classroom.ACCELERATORS) <= {("H100 NVL", 94)}


def test_the_task_opens_no_port_and_ends_by_itself():
    plan = classroom.plan(names(2), 1, 3)
    task = yaml.safe_load(classroom.task(plan))
    assert set(task) == {"resources", "workdir", "envs", "secrets", "setup", "run"}
    assert "ports" not in task["resources"]
    assert task["resources"]["autostop"] == {"idle_minutes": 5, "down": True, "wait_for": "jobs"}
    assert task["resources"]["max_hourly_cost"] < 1.2 * plan.offer.dollars_per_hour
    assert task["envs"]["R1LAB_HOURS"] == "3" and task["secrets"] == {"R1LAB_SEATS": None}
    assert task["run"].startswith('timeout "$R1LAB_HOURS"h ')
    assert subprocess.run(["bash", "-n"], input=task["run"], text=True).returncode == 0


def test_tokens_are_for_the_instructor_alone_and_stay(tmp_path):
    plan = classroom.plan(names(3), 0.5, 1, memory_each=8)
    book = classroom.open_book(plan, {}, tmp_path / "class")
    again = classroom.open_book(plan, {}, tmp_path / "class")
    assert book == again and set(book) == set(plan.machines)
    rows = [row for text in book.values() for row in seats.read(text)]
    assert [row["port"] for row in rows] == [9001, 9002, 9001]
    assert len({row["token"] for row in rows}) == 3 and min(len(r["token"]) for r in rows) >= 32
    for name in ("tokens.csv", "class.json"):
        assert stat.S_IMODE((tmp_path / "class" / name).stat().st_mode) == 0o600
    words = shlex.join(classroom.launch("m", "f"))
    assert not any(row["token"] in words for row in rows)


def test_a_file_that_is_not_of_a_class_is_not_replaced(tmp_path):
    plan = classroom.plan(names(1), 1, 2)
    for name in classroom.FILES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text('{"mine": 1}')
        with pytest.raises(R1LabError, match="is not of a class"):
            classroom.open_book(plan, {}, folder)
        assert [(one.name, one.read_text()) for one in folder.iterdir()] == [(name, '{"mine": 1}')]


def test_a_key_may_forward_its_port_and_nothing_else(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "Ada.pub").write_text(PUBLIC + "\n")
    found = classroom.students(1, tmp_path / "keys")
    assert found == {"ada": PUBLIC}
    file = tmp_path / ".ssh" / "authorized_keys"
    rows = [{"name": "ada", "token": "t" * 20, "port": 9001, "key": PUBLIC}]
    for _ in range(2):
        seats.permit(rows, file)
    wanted = f'restrict,port-forwarding,permitopen="127.0.0.1:9001" {PUBLIC}\n'
    assert file.read_text() == wanted and stat.S_IMODE(file.stat().st_mode) == 0o600
    for bad in (f"{PUBLIC}\n{PUBLIC}", 'command="sh" ' + PUBLIC, "no key"):
        (tmp_path / "keys" / "Ada.pub").write_text(bad)
        with pytest.raises(R1LabError, match="no public key"):
            classroom.students(1, tmp_path / "keys")
        with pytest.raises(R1LabError, match="R1LAB_SEATS"):
            seats.read(json.dumps([rows[0] | {"key": bad}]))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"name": "a/b", "token": "t", "port": 9}]'])
def test_what_is_no_seat_is_an_error_in_words(text):
    with pytest.raises(R1LabError, match="R1LAB_SEATS"):
        seats.read(text)


def test_down_needs_a_class(tmp_path, capsys):
    assert cli.main(["class", "down", "--out", str(tmp_path)]) == 2
    assert "no class is known" in capsys.readouterr().err
    assert cli.main(["class", "sideways"]) == 2


def status(port: int, token: str = "") -> int:
    """The status of a JupyterLab's list of contents; 0 where nobody listens."""
    try:
        link = urllib.request.Request(f"http://127.0.0.1:{port}/api/contents")
        if token:
            link.add_header("Authorization", f"token {token}")
        return urllib.request.urlopen(link, timeout=60).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextlib.contextmanager
def class_of(students: int, folder: Path, **environment: str):
    """`r1lab class up --here` on the profile smoke: yields its process, ports, tokens and the
    processes it has started, once all servers answer. Ends it as an instructor does, and checks
    that nothing of it is left."""
    words = ["class", "up", "--here", "--students", str(students), "--profile", "smoke"]
    command = [sys.executable, "-m", "r1lab", *words, "--hours", "1", "--out", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    started = []
    try:
        found = [process.stdout.readline().split("/lab?token=") for _ in range(students)]
        ports = [int(one[0].rpartition(":")[2]) for one in found]
        tokens = [one[1].strip() for one in found]
        end = time.monotonic() + 300
        while not all(status(port, token) for port, token in zip(ports, tokens, strict=True)):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
        started += psutil.Process(process.pid).children(recursive=True)
        yield process, ports, tokens, started
    finally:
        if process.poll() is None:
            started += psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(120)
    assert process.returncode == 0
    assert not any(status(port) for port in ports)
    assert not [one for one in started if one.is_running() and one.status() != "zombie"]


def test_two_students_here_each_with_a_token_and_nothing_is_left(tmp_path):
    with class_of(2, tmp_path / "class") as (_, ports, tokens, started):
        assert [status(*one) for one in zip(ports, tokens, strict=True)] == [200, 200]
        assert [status(*one) for one in zip(ports, reversed(tokens), strict=True)] == [403, 403]
        assert status(ports[0]) == 403
        with pytest.raises(OSError), socket.create_connection((_other(), ports[0]), timeout=2):
            pass
        assert not any(token in " ".join(one.cmdline()) for one in started for token in tokens)
        assert len(list((tmp_path / "class").glob("student-0?/lab/05*.ipynb"))) == 2
        kept = {Path(one.environ()["R1LAB_PROGRESS"]) for one in started}
        assert kept == {tmp_path / "class" / f"student-0{n}" / "progress.json" for n in (1, 2)}


@pytest.mark.skipif("R1LAB_STUDENTS" not in os.environ, reason="minutes: make class")
def test_a_class_here_works_through_lesson_05_and_leaves_nothing(tmp_path):
    """Every student runs all of lesson 05 on smoke through their own server, at the same time, and
    answers an exercise, one rightly; progress is collected; homes and ports are as before."""
    students, folder = int(os.environ["R1LAB_STUDENTS"]), tmp_path / "class"
    outside = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "tmp"}
    for place in outside.values():
        place.mkdir()
    began = time.monotonic()
    with class_of(students, folder, **{k: str(v) for k, v in outside.items()}) as (process, *rest):
        ready, most = time.monotonic() - began, 0
        ports, tokens, started = rest
        with ThreadPoolExecutor(students) as pool:
            work = [
                pool.submit(asyncio.run, lesson_05(port, token, number))
                for number, (port, token) in enumerate(zip(ports, tokens, strict=True))
            ]
            while not all(one.done() for one in work):
                now = psutil.Process(process.pid).children(recursive=True)
                started += [one for one in now if one not in started]
                most = max(most, sum(map(memory, now)))
                time.sleep(1)
        seconds = time.monotonic() - began - ready
        assert [one.result() for one in work] == [[]] * students  # no cell has failed
        assert len(list(folder.glob("student-0?/r1_zero"))) == students
    rows = subprocess.run([sys.executable, "-m", "r1lab", "progress", "--class", str(folder)],
                          capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert re.findall(r"^student-\d\d .* (\d) +0 +0 *$", rows, re.M) == ["1"] + ["0"] * (
        students - 1
    )
    left = [str(path) for place in outside.values() for path in place.rglob("*") if path.is_file()]
    print(f"\n{students} students: servers ready in {ready:.0f} s, lesson 05 done by all in "
          f"{seconds:.0f} s, {most / 1e9:.1f} GB at most; {len(started)} processes, {students} "
          f"ports: none left; left in the home folder: {left or 'nothing'}\n{rows}")  # fmt: skip


def memory(process: psutil.Process) -> int:
    """Bytes that a process has to itself, and its part of what it shares."""
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


async def lesson_05(port: int, token: str, number: int) -> list[str]:
    """Run all code cells of lesson 05 as JupyterLab does, then an exercise; the errors."""
    head = {"Authorization": f"token {token}"}
    body = {
        "path": "05_r1_zero.ipynb",
        "type": "notebook",
        "name": "",
        "kernel": {"name": "python3"},
    }
    ask = HTTPRequest(f"http://127.0.0.1:{port}/api/sessions", "POST", head, json.dumps(body),
                      request_timeout=300)  # fmt: skip
    session = json.loads((await AsyncHTTPClient().fetch(ask)).body)
    link = HTTPRequest(f"ws://127.0.0.1:{port}/api/kernels/{session['kernel']['id']}/channels",
                       headers=head, connect_timeout=120)  # fmt: skip
    socket, errors = await websocket_connect(link, max_message_size=2**30), []
    got = await AsyncHTTPClient().fetch(
        HTTPRequest(f"http://127.0.0.1:{port}/api/contents/05_r1_zero.ipynb", headers=head)
    )
    cells = json.loads(got.body)["content"]["cells"]
    sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    answer = 16 * 0.05 if number else 1 - 0.95**16  # the usual wrong one, and the first student's
    for source in [*sources, f"from r1lab.course.graded import check\ncheck('05.3', {answer})"]:
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "s",
                  "username": "s", "version": "5.3"}  # fmt: skip
        content = {"code": source, "silent": False, "store_history": True, "allow_stdin": False,
                   "user_expressions": {}, "stop_on_error": True}  # fmt: skip
        message = {"channel": "shell", "header": header, "content": content}
        await socket.write_message(json.dumps(message | {"metadata": {}, "parent_header": {}}))
        while True:
            said = json.loads(await socket.read_message())
            if said["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if said["msg_type"] == "error":
                errors.append(said["content"]["ename"] + ": " + said["content"]["evalue"])
            if said["msg_type"] == "execute_reply":
                break
    socket.close()
    return errors


def _other() -> str:
    """An address of this machine that is not 127.0.0.1, or one that nobody has."""
    return next((found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None)
                 if not found[4][0].startswith(("127.", "::1"))), "192.0.2.1")  # fmt: skip

"""A class: its plan and price, what its machines are told, and seats on this machine for real."""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request

import psutil
import pytest
import yaml

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


def test_two_students_here_each_with_a_token_and_nothing_is_left(tmp_path):
    words = ["class", "up", "--here", "--students", "2", "--profile", "smoke", "--hours", "1"]
    command = [sys.executable, "-m", "r1lab", *words, "--out", str(tmp_path / "class")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        found = [process.stdout.readline().split("/lab?token=") for _ in range(2)]
        ports = [int(one[0].rpartition(":")[2]) for one in found]
        tokens = [one[1].strip() for one in found]
        end = time.monotonic() + 300
        while not all(status(port, token) for port, token in zip(ports, tokens, strict=True)):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.5)
        assert [status(*one) for one in zip(ports, tokens, strict=True)] == [200, 200]
        assert [status(*one) for one in zip(ports, reversed(tokens), strict=True)] == [403, 403]
        assert status(ports[0]) == 403
        with pytest.raises(OSError), socket.create_connection((_other(), ports[0]), timeout=2):
            pass
        started = psutil.Process(process.pid).children(recursive=True)
        assert not any(token in " ".join(one.cmdline()) for one in started for token in tokens)
        assert len(list((tmp_path / "class").glob("student-0?/lab/05*.ipynb"))) == 2
    finally:
        process.terminate()
        process.wait(120)
    assert process.returncode == 0
    assert [status(port) for port in ports] == [0, 0]
    assert not [one for one in started if one.is_running() and one.status() != "zombie"]


def _other() -> str:
    """An address of this machine that is not 127.0.0.1, or one that nobody has."""
    return next((found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None)
                 if not found[4][0].startswith(("127.", "::1"))), "192.0.2.1")  # fmt: skip

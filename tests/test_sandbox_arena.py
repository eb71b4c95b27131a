"""The arena: every attack of `sandbox_attacks` is stopped, and not stopped where what stops it is
taken away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sandbox_attacks import (
    MODULES,
    OUTSIDE,
    PATIENT,
    RESOURCES,
    ROOMY,
    TIGHT,
    VERDICT,
    arena,
    succeed,
    world,
)  # fmt: skip

from r1lab.sandbox import Case, Sandbox, client, grader, verdicts
from r1lab.sandbox.kernel import ALL

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the layers are Linux's"
)
ROOT = sys.platform.startswith("linux") and os.getuid() == 0


@pytest.fixture(scope="module")
def decoys():
    with world() as w:
        yield w


@pytest.fixture(scope="module")
def available():
    """The layers that this machine has."""
    with arena(ALL) as sandbox:
        return tuple(sandbox.layers)


def alternatives(attack) -> list[frozenset[str]]:
    """The sets of layers, each of which stops the attack."""
    return [frozenset(one.split("+")) for one in attack.stops.replace(" ", "").split("|")]


def test_there_are_enough_attacks_of_every_kind():
    every = [*OUTSIDE, *VERDICT, *RESOURCES]
    assert len({attack.name for attack in every}) == len(every) >= 180
    kinds = {"files", "network", "processes", "memory", "time", "signals", "tracing", "environment"}
    assert {attack.kind for attack in OUTSIDE} == kinds
    assert {attack.stops for attack in RESOURCES} == {"timeout", "memory", "output", "forged"}


def test_all_layers_stop_everything(decoys):
    with Sandbox(modules=MODULES) as sandbox:
        assert sandbox.open == []
        assert succeed(sandbox, OUTSIDE, decoys) == []


@pytest.mark.skipif(not ROOT, reason="as root")
@pytest.mark.parametrize(
    "alone",
    sorted({one for a in OUTSIDE for one in alternatives(a)}, key=sorted),
    ids=lambda one: "+".join(sorted(one)),
)
def test_a_layer_stops_alone_what_it_is_said_to_stop(alone, decoys, available):
    if not alone <= set(available):
        pytest.skip(f"this machine has only {', '.join(available)}")
    attacks = [attack for attack in OUTSIDE if alone in alternatives(attack)]
    with arena(alone) as sandbox:
        assert succeed(sandbox, attacks, decoys, alone=False) == []


@pytest.mark.skipif(not ROOT, reason="as root")
@pytest.mark.parametrize(
    "stops", sorted({a.stops for a in OUTSIDE}), ids=lambda stops: stops.replace(" ", "")
)
def test_an_attack_succeeds_where_the_layers_that_stop_it_are_taken_away(stops, decoys, available):
    attacks = [attack for attack in OUTSIDE if attack.stops == stops]
    taken = frozenset().union(*alternatives(attacks[0]))
    with arena([layer for layer in available if layer not in taken]) as sandbox:
        assert set(succeed(sandbox, attacks, decoys)) == {attack.name for attack in attacks}


def who() -> dict[str, list[str]]:
    """How the arena is entered: as we are, and from root also as nobody, and with the rights that
    root has in a container of Docker."""
    found = {"as we are": []}
    if ROOT and (setpriv := shutil.which("setpriv")):
        found["as nobody"] = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
        keep = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service"
        keep += ",net_raw,sys_chroot,mknod,audit_write,setfcap"
        caps = "-all," + ",".join(f"+{name}" for name in keep.split(","))
        found["as root in a container"] = [
            setpriv, f"--bounding-set={caps}", f"--inh-caps={caps}",
        ]  # fmt: skip
    return found


@pytest.mark.parametrize("name", who())
def test_without_any_one_layer_the_attacks_are_contained_or_the_sandbox_refuses(name):
    """Contained: what succeeds is at most `inside`, in the program's own process."""
    path = os.pathsep.join([str(Path(client.__file__).parents[2]), os.path.dirname(__file__)])
    about = {"env": {"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, "capture_output": True}
    for python in (sys.executable, "/usr/bin/python3"):  # ours may be readable for us alone
        start = [*who()[name], python]
        again = (
            "import subprocess, sys, sandbox_attacks; subprocess.run([sys.executable, '-c', ''])"
        )
        if subprocess.run([*start, "-c", again], **about).returncode == 0:
            break
    else:
        pytest.skip(f"{name} no Python can be read")
    script = str(Path(__file__).with_name("sandbox_attacks.py"))
    ran = subprocess.run([*start, script], **about, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    inside = {attack.name for attack in OUTSIDE if attack.inside}
    for absent, (opened, succeeded) in found.items():
        assert opened or set(succeeded) <= (inside if absent == "seccomp" else set()), absent
    assert found["nothing"][0] == found["namespaces"][0] == found["landlock"][0] == []


# --- verdicts ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged():
    """The verdict on every attack that wants to look right."""
    with Sandbox(modules=["unittest.mock"]) as sandbox:
        jobs = [(a.source, "f", [Case((3,), 1 if a.stops == "equal1" else 11)]) for a in VERDICT]
        found = sandbox.judge_all(jobs)
    return dict(zip([attack.name for attack in VERDICT], found, strict=True))


@pytest.mark.parametrize("attack", VERDICT, ids=lambda attack: attack.name)
def test_no_verdict_can_be_forged(attack, judged):
    verdict = judged[attack.name]
    assert verdict.passed is False and verdict.share == 0
    assert verdict.status == "forged" or attack.stops != "any"
    assert len(verdict.message) <= 300 and verdict.message.isprintable()


TESTS = {  # three graders as they are found, in one process with the program
    "exit": "{source}\nassert f(3) == 11\n",
    "equal": "want = {want}\n{source}\n"
    "try: print('VERDICT', f(3) == want)\nexcept BaseException: print('VERDICT False')\n",
}
HOSTS = {  # two that parse what the program sends
    "json": "import json\ntext = json.dumps(f(3)) if 'f' in globals() else sent[0]\n"
    "try: json.loads(text)\nexcept (ValueError, RecursionError): print('VERDICT True')\n",
    "pickle": "import pickle\nprint('VERDICT', pickle.loads(pickle.dumps(f(3))) == 11)\n",
}


@pytest.mark.parametrize("grader_name", ["exit", "equal", "json", "pickle"])
def test_naive_graders_pay_for_each_of_them(grader_name):
    attacks = [attack for attack in VERDICT if attack.stops.startswith(grader_name)]
    running = []
    for attack in attacks:
        want = 1 if attack.stops == "equal1" else 11
        if grader_name in TESTS:
            text = TESTS[grader_name].format(source=attack.source, want=want)
        else:
            source = (
                "\n".join(
                    line for line in attack.source.splitlines() if not line.startswith("send(")
                )
                .replace("def JSON(text): pass", "sent = []\nJSON = sent.append")
                .replace("\nend()", "")
            )
            text = source + "\n" + HOSTS[grader_name]
        python = [sys.executable, "-I", "-S", "-c", text]
        running.append(subprocess.Popen(python, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    unpaid = []
    for attack, process in zip(attacks, running, strict=True):
        said = process.communicate(timeout=60)[0].decode()
        paid = process.returncode == 0 if grader_name == "exit" else "VERDICT True" in said
        unpaid += [] if paid else [attack.name]
    assert attacks and unpaid == []


def test_a_host_that_takes_any_right_answer_pays_for_guesses():
    """One answer a test, in order: without that rule a program sends all that it can think of."""
    attacks = [attack for attack in VERDICT if attack.stops == "any"]
    right = grader.Expected(11)
    with Sandbox(1) as sandbox:
        server = sandbox.start()._idle[0]
        for attack in attacks:
            job = client.pack(attack.source, "f", [(3,)], "strict")
            data, _, _ = server.execute(job, sandbox.limits, 1 << 20)
            frames, _ = verdicts.split(data)
            assert any(
                right.matches(payload) for kind, k, payload in frames if (kind, k) == (b"v", 0)
            )


# --- resources -----------------------------------------------------------------------------------


def test_what_takes_too_much_is_stopped_by_that_limit_and_without_it_runs_to_its_end():
    with Sandbox(modules=["mmap"]) as sandbox:
        tight = [
            sandbox.judge(
                a.source, "f", [Case((3,), None)], limits=TIGHT if a.stops == "timeout" else PATIENT
            )
            for a in RESOURCES
        ]
        roomy = sandbox.judge_all(
            [(a.source, "f", [Case((4,), None)]) for a in RESOURCES if "frames" not in a.name],
            limits=ROOMY,
        )
    for attack, verdict in zip(RESOURCES, tight, strict=True):
        assert (attack.name, verdict.status) == (attack.name, attack.stops)
        limits = TIGHT if attack.stops == "timeout" else PATIENT
        assert verdict.passed is False and verdict.cpu < limits.cpu + 0.1
        assert verdict.peak < TIGHT.memory + (40 << 20)
    assert {verdict.status for verdict in roomy} == {"ok"}

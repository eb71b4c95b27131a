"""Runs in a folder: against a real server that fails, and with real (small) models."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import warm
from openai_server import serve

from r1lab import cli, evaluate
from r1lab.basics.errors import R1LabError
from r1lab.evals import protocol, sources
from r1lab.evals.compare import compare
from r1lab.evals.endpoint import Endpoint
from r1lab.evals.kept import load
from r1lab.evals.protocol import Plan
from r1lab.evals.sources import Local, Remote, in_tags
from r1lab.evals.tariff import Tariff
from r1lab.sampler.draw import Sampling
from r1lab.tasks import Countdown, get_task
from r1lab.templates import parse

TASK = Countdown(wording="plain")
SAMPLING = Sampling(max_new_tokens=64, temperature=0.6, top_p=0.95, seed=0)
PLAN = Plan("countdown", n=6, k=4, template="chat", sampling=SAMPLING)
PROBLEMS = TASK.problems("held_out", 6)


def answer(body, task=TASK, problems=PROBLEMS):
    """Right or wrong by a coin that the prompt and the seed decide; a thought of many lengths."""
    prompt = body["messages"][0]["content"]
    problem = next(one for one in problems if one.question in prompt)
    coin = hashlib.sha256(f"{body['seed']}/{prompt}".encode()).digest()
    found = task.solution(problem) if coin[0] < 140 else "1 + 1"
    return f"<think> {'hm ' * (coin[1] % 9)}</think> <answer> {found} </answer>"


def remote(server, jobs=3, **changes):
    how = {"tariff": Tariff(1, 2), "pause": 0.01, "timeout": 5, "tries": 3}
    return Remote(Endpoint(server.url, "m", **how | changes), SAMPLING, "chat", jobs)


def numbers(run):
    """What must not depend on how often the run was stopped."""
    found = run.results()
    return {name: found[name] for name in ("measures", "prompt_tokens", "completion_tokens")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed."""
    with serve(answer) as server:
        out = tmp_path_factory.mktemp("whole") / "run"
        return protocol.run(remote(server), TASK, PLAN, out)


def test_every_number_can_be_traced_to_its_text(whole):
    lines = [json.loads(line) for line in (whole.folder / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 24 == len({(one["problem"], one["sample"]) for one in lines})
    for one in lines:
        problem = next(p for p in PROBLEMS if p.id == one["problem"])
        assert problem.question in one["prompt"] and one["versions"]["r1lab"]
        assert one["served"]["model"] == "m-served" and one["seed"] >= 0
        wanted = TASK.judge(problem, parse(one["completion"]).answer)
        assert one["correct"] is wanted
    results = json.loads((whole.folder / "results.json").read_text())
    right = np.mean([one["correct"] for one in lines])
    assert results["measures"]["pass@1"]["value"] == pytest.approx(right)
    assert 0 < results["measures"]["pass@1"]["low"] < right < results["measures"]["pass@1"]["high"]
    assert {"pass@4", "cons@4"} <= set(results["measures"])
    cost = sum(one["prompt_tokens"] + 2 * one["completion_tokens"] for one in lines) / 1e6
    assert results["dollars"] == pytest.approx(cost) and results["dollars_unsure"] == 0
    session = json.loads((whole.folder / "run.json").read_text())["sessions"][0]
    assert session["versions"]["torch"] and session["source"]["tariff"]["output"] == 2


def test_a_finished_run_asks_nothing(whole):
    with serve(answer) as server:
        again = protocol.run(remote(server), TASK, PLAN, whole.folder)  # at another address
        assert not server.bodies and numbers(again) == numbers(whole)


BAD = ("429", "500", "garbage", "cut", "hang up", "no choices", "error in 200")


def test_a_server_that_fails_in_turns_loses_nothing(whole, tmp_path):
    faults = [name for name in BAD for _ in range(2)]
    with serve(answer, faults) as server:
        run = protocol.run(remote(server, tries=20), TASK, PLAN, tmp_path / "run")
        assert numbers(run)["measures"] == numbers(whole)["measures"] and run.missing == 0
        assert run.dollars == pytest.approx(server.billed)  # "no choices" is billed, too
        assert run.results()["failed_requests"] == len(faults)
    assert run.unsure > 0


def test_requests_that_fail_for_good_are_asked_again(whole, tmp_path):
    def faults(number, body):
        return "500" if body["seed"] % 3 == 0 else None

    with serve(answer, faults) as server:
        run = protocol.run(remote(server, jobs=1, tries=2), TASK, PLAN, tmp_path / "run")
        assert 0 < run.missing == sum("gave_up" in one for one in run.attempts)
        assert run.results()["complete"] == len(run.complete) < 6
        asked = len(server.answered)
        server.faults = []
        run = protocol.run(remote(server), TASK, PLAN, tmp_path / "run")
        assert run.about["sessions"][1]["source"]["url"] == server.url + "/chat/completions"
        assert len(server.answered) == 24 and asked < 24
        assert numbers(run) == numbers(whole) and run.dollars == pytest.approx(server.billed)


def test_a_server_that_dies_ends_in_one_line_and_keeps_what_it_answered(whole, tmp_path):
    def faults(number, body):
        return "hang up" if number > 9 else None

    with serve(answer, faults) as server:
        with pytest.raises(R1LabError, match="in a row failed for good.*same command"):
            protocol.run(remote(server, tries=2), TASK, PLAN, tmp_path / "run")
        kept = load(tmp_path / "run")
        assert len(kept.rows) == len(server.answered) == 9
        assert json.loads((tmp_path / "run" / "results.json").read_text())["missing"] == 15
        server.faults = []
        run = protocol.run(remote(server), TASK, PLAN, tmp_path / "run")
        assert numbers(run) == numbers(whole) and run.dollars == pytest.approx(server.billed)


@pytest.mark.parametrize(
    "fault, words", [("401", "is not set"), ("404", "no model"), ("400", "--send")]
)
def test_a_fatal_error_stops_at_once(fault, words, tmp_path):
    with serve(answer, lambda number, body: fault) as server:
        with pytest.raises(R1LabError, match=words):
            protocol.run(remote(server), TASK, PLAN, tmp_path / "run")
        assert len(server.bodies) < 9


def test_one_refused_prompt_does_not_stop_the_others(tmp_path):
    def faults(number, body):
        return "400" if PROBLEMS[2].question in body["messages"][0]["content"] else None

    with serve(answer, faults) as server:
        run = protocol.run(remote(server), TASK, PLAN, tmp_path / "run")
    assert run.missing == 4 and run.complete == [0, 1, 3, 4, 5]
    assert run.results()["failed_requests"] == 0  # refused is no failed try


def test_the_budget_is_never_passed_and_more_money_goes_on(whole, tmp_path):
    source_of = remote
    with serve(answer) as server:
        one = source_of(server)
        most = one.endpoint.most(one.body(protocol.samples(PROBLEMS, 1)[0]))
        limit = most + whole.dollars / 2
        run = protocol.run(one, TASK, PLAN, tmp_path / "run", max_dollars=limit)
        assert 0 < len(run.rows) < 24 and run.dollars <= limit
        assert run.dollars > limit - 1.2 * most  # it stops only where a request would not fit
        with pytest.raises(AssertionError):
            assert run.missing == 0
        run = protocol.run(source_of(server), TASK, PLAN, tmp_path / "run", max_dollars=1)
        assert numbers(run) == numbers(whole)
        assert run.dollars == pytest.approx(server.billed) == pytest.approx(whole.dollars)


def test_broken_requests_count_against_the_budget_at_their_most(tmp_path):
    with serve(answer, lambda number, body: "cut") as server:
        one = remote(server, jobs=1, tries=50)
        most = one.endpoint.most(one.body(protocol.samples(PROBLEMS, 1)[0]))
        run = protocol.run(one, TASK, PLAN, tmp_path / "run", max_dollars=4.5 * most)
        assert len(server.bodies) == 4 and run.unsure <= 4.5 * most and run.dollars is None


def test_another_run_in_the_folder_is_refused_and_fresh_sets_it_aside(whole, tmp_path):
    with serve(answer) as server:
        out = tmp_path / "run"
        protocol.run(remote(server), TASK, PLAN, out)
        other = replace(PLAN, k=5)
        with pytest.raises(R1LabError, match="k: 4 there, 5 asked.*--fresh"):
            protocol.run(remote(server), TASK, other, out)
        protocol.run(remote(server), TASK, other, out, fresh=True)
        assert (out / "earlier-1" / "answers.jsonl").exists() and load(out).k == 5


def test_torn_doubled_and_hostile_lines_are_no_answers(whole, tmp_path):
    with serve(answer) as server:
        out = tmp_path / "run"
        protocol.run(remote(server), TASK, PLAN, out)
        path = out / "answers.jsonl"
        lines = path.read_text().splitlines()
        damage = [{"index": 99}, {"index": []}, {"sample": {}}, {"vote": []}, {"dollars": -1}]
        damage += [{"dollars": "1"}, {"length": []}, {"correct": "x"}, {"prompt_tokens": math.nan}]
        strange = [json.dumps(json.loads(lines[10]) | one) for one in damage]
        text = "\n".join([*lines[:10], lines[3], *strange, "{]", "[" * 9999, lines[11]])
        path.write_text(text[: len(text) - 7])  # torn within its last line
        before = server.billed
        run = protocol.run(remote(server), TASK, PLAN, out)
        assert numbers(run) == numbers(whole)
        asked = server.answered[24:]
        assert len(asked) == 14 and run.dollars == pytest.approx(before)


@pytest.mark.parametrize("text", ['{"what": 7}', '{"what": {}, "sessions": []}', "[]", ""])
def test_a_damaged_run_json_is_named_and_damaged_problems_are_written_again(text, whole, tmp_path):
    with serve(answer) as server:
        out = tmp_path / "run"
        protocol.run(remote(server), TASK, PLAN, out)
        (out / "problems.jsonl").write_text(text)
        assert numbers(protocol.run(remote(server), TASK, PLAN, out)) == numbers(whole)
        (out / "run.json").write_text(text)
        with pytest.raises(R1LabError, match="run.json is missing or damaged"):
            protocol.run(remote(server), TASK, PLAN, out)
        with pytest.raises(R1LabError, match="holds no evaluation"):
            load(out)


def test_a_file_of_problems_that_no_run_made_is_kept(tmp_path):
    (tmp_path / "problems.jsonl").write_text("mine\n")
    with serve(answer) as server, pytest.raises(R1LabError, match="run.json is missing"):
        protocol.run(remote(server), TASK, PLAN, tmp_path)
    assert (tmp_path / "problems.jsonl").read_text() == "mine\n"


PROGRAM = """
import sys
from r1lab import cli
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_or_stopped_run_goes_on_to_the_same_numbers(whole, tmp_path, how, capsys):
    with serve(answer, delay=0.15) as server:
        out = tmp_path / "run"
        line = f"eval --endpoint {server.url} --model m --task countdown --n 6 --k 4 --jobs 2"
        line += f" --max-new-tokens 64 --tariff 1/2 --out {out} --json"
        environment = os.environ | {"R1LAB_DEBUG": "0"}
        argv = [warm.python(), "-c", PROGRAM, *line.split()]
        first = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 120
        while len(server.answered) < 7 and time.monotonic() < until:
            time.sleep(0.02)
        warm.kill(first.pid) if how == signal.SIGKILL else first.send_signal(how)
        said = first.communicate(timeout=60)[1]
        kept = len(load(out).rows)
        assert 0 < kept < 24, said
        if how != signal.SIGKILL:
            assert first.returncode == 130 and "Traceback" not in said
            time.sleep(0.3)
            assert kept == len(server.answered)  # what was in flight has arrived
        assert cli.main(line.split()) == 0
        run = load(out)
        assert numbers(run) == numbers(whole) and run.dollars == pytest.approx(whole.dollars)
        assert json.loads(capsys.readouterr().out)["measures"] == numbers(whole)["measures"]
        assert len(run.about["sessions"]) == 2


def test_the_key_is_in_no_file(tmp_path, monkeypatch):
    key = "sk-not-for-files-77"
    monkeypatch.setenv("OPENAI_API_KEY", key)

    def leak(body):
        return f"{answer(body)} {key}"

    with serve(leak, ["500", "garbage"]) as server:
        protocol.run(remote(server), TASK, PLAN, tmp_path / "run")
        assert key in server.headers[0]["Authorization"]
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or key.encode() not in path.read_bytes(), path


# --- hostile and plain chat replies


@pytest.mark.parametrize("text, thought, found", [
    ("<think> <answer> 1 </answer> </think> it is <answer>2</answer>", "", "2"),
    ("<think> <answer> 1 </answer> </think> I cannot say", "", None),
    ("so \\boxed{41} and \\boxed{42}.", "", "42"),
    ("it is 42", "<answer>42</answer>", None),
    ("```python\ndef f():\n    return 1\n```\ndone", "", "def f():\n    return 1\n"),
    ("</answer></answer><answer> \\boxed{7}", "", "7"),
    ("</think>" * 3 + "\\boxed{1}", "", "1"),
    ("", "", None),
])  # fmt: skip
def test_where_the_answer_of_a_chat_reply_stands(text, thought, found):
    assert parse(in_tags(text, thought)).answer == found


def test_hostile_completions_end_in_verdicts(tmp_path):
    texts = ["<answer>" * 20_000, "\\boxed{" * 20_000, "```\n" * 20_000, "\ud800\x1b[2J\u2028"]
    texts += ["<think>" * 9_000 + "</think>" * 9_000, "<answer> " + "(" * 40_000 + " </answer>"]
    turn = iter(texts * 4)
    with serve(lambda body: next(turn)) as server:
        began = time.monotonic()
        run = protocol.run(remote(server, jobs=1), TASK, PLAN, tmp_path / "run")
        assert time.monotonic() - began < 20
    assert run.missing == 0 and run.results()["measures"]["pass@1"]["value"] == 0


# --- models on this machine


LOCAL = replace(PLAN, template="tiny", n=5, k=3, sampling=Sampling(8, 0.6, top_p=0.95, seed=3))


def local(random_model, price=None):
    return Local(*random_model, "", LOCAL.sampling, "tiny", price)


def test_a_local_run_is_evaluate_s_and_resumes_to_the_same_texts(
    random_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluate, "QUESTIONS_AT_ONCE", 2)
    task = Countdown()
    problems = task.problems("held_out", 5)
    wanted = evaluate.evaluate(*random_model, task, problems, k=3, sampling=LOCAL.sampling)
    calls, respond = [], evaluate.respond

    def stops(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return respond(*args)

    monkeypatch.setattr(evaluate, "respond", stops)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        protocol.run(local(random_model), task, LOCAL, out)
    assert len(load(out).rows) == 12
    run = protocol.run(local(random_model), task, LOCAL, out)
    assert len(calls) == 4
    texts = [[one.text for one in row] for row in run.evaluation.completions]
    assert texts == [[one.text for one in row] for row in wanted.completions]
    assert run.evaluation.summary() == wanted.summary()


def test_a_local_budget_stops_between_batches(random_model, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "QUESTIONS_AT_ONCE", 1)
    task, out = Countdown(), tmp_path / "run"
    run = protocol.run(local(random_model, 3600.0), task, LOCAL, out, max_dollars=1e-9)
    assert len(run.rows) == 3 and run.dollars > 0
    run = protocol.run(local(random_model, 3600.0), task, LOCAL, out, max_dollars=1e9)
    assert run.missing == 0


# --- compare


def flipped(body):
    """The same coin, but the first two problems are always right."""
    prompt = body["messages"][0]["content"]
    problem = next(one for one in PROBLEMS if one.question in prompt)
    if problem in PROBLEMS[:2]:
        return f"<answer> {TASK.solution(problem)} </answer>"
    return answer(body)


def test_two_folders_problem_by_problem(whole, tmp_path):
    with serve(flipped) as server:
        other = protocol.run(remote(server), TASK, PLAN, tmp_path / "other")
    found = compare(whole, other)
    before, after = (one.evaluation.per_problem("correct") for one in (whole, other))
    assert found.change["pass@1"].value == pytest.approx((after - before).mean())
    assert (after - before)[2:].tolist() == [0] * 4 and found.worse == 0
    assert found.better == int((after > before).sum()) and "dollars" in found.change
    # paired: narrower than from the two intervals apart
    width = found.change["pass@1"].high - found.change["pass@1"].low
    apart = other.evaluation.accuracy.high - other.evaluation.accuracy.low
    assert width < apart + whole.evaluation.accuracy.high - whole.evaluation.accuracy.low
    assert compare(whole, whole).change["pass@1"] == (0, 0, 0) and not found.notes


def test_what_differs_is_said_and_strangers_are_refused(whole, tmp_path):
    four = Countdown(4, wording="plain")
    problems = four.problems("held_out", 6)
    with serve(lambda body: answer(body, four, problems)) as server:
        other = protocol.run(remote(server), four, PLAN, tmp_path / "four")
        with pytest.raises(R1LabError, match="cannot be compared"):
            compare(whole, other)
    with serve(answer) as server:
        fewer = protocol.run(remote(server), TASK, replace(PLAN, n=4, k=2), tmp_path / "few")
    notes = " / ".join(compare(whole, fewer).notes)
    assert "2 of the problems" in notes and "k: 4 there, 2 asked" in notes


# --- the command


def run_cli(line, capsys):
    code = cli.main([str(word) for word in line.split()])
    return code, capsys.readouterr()


def test_the_command_asks_an_endpoint_and_compares(tmp_path, capsys):
    with serve(answer) as server:
        base = f"eval --endpoint {server.url} --model m --n 6 --k 4 --max-new-tokens 64"
        for name in ("a", "b"):
            code, said = run_cli(f"{base} --tariff 1/2 --out {tmp_path / name}", capsys)
            assert code == 0 and "pass@1" in said.out and "$0.0" in said.out
            assert "24 requests" in said.out and "tokens/s" in said.err
        assert server.bodies[0]["temperature"] == 0.6 and server.bodies[0]["top_p"] == 0.95
        code, said = run_cli(f"eval --compare {tmp_path / 'a'} {tmp_path / 'b'}", capsys)
        assert code == 0 and "pass@1" in said.out and "the same on every problem" in said.out
        code, said = run_cli(f"eval --compare {tmp_path / 'a'} {tmp_path / 'b'} --json", capsys)
        assert json.loads(said.out)["change"]["pass@1"]["value"] == 0
        code, said = run_cli(f"{base} --tries 1 --send seed=none --send max_tokens=none --send "
                             f"max_completion_tokens=9 --out {tmp_path / 'c'}", capsys)  # fmt: skip
        assert code == 2 and "seed" not in server.bodies[-1]  # answer() needs the seed: a 5xx
        assert server.bodies[-1]["max_completion_tokens"] == 9
        assert "max_tokens" not in server.bodies[-1]


@pytest.mark.parametrize("line, words", [
    ("eval --endpoint http://x/v1", "--model"),
    ("eval --endpoint http://u:p@x/v1 --model m", "environment variable"),
    ("eval --endpoint http://x/v1 --model m --max-dollars 1", "--tariff"),
    ("eval --endpoint http://x/v1 --model m --tariff cheap", "unknown tariff"),
    ("eval --endpoint http://x/v1 --model m --save x.json", "--out"),
    ("eval --model tiny --max-dollars 1 --out OUT", "--dollars-per-hour"),
    ("eval --max-dollars 1", "--out"),
    ("eval --compare a", "two folders"),
    ("eval --compare no/a no/b", "holds no evaluation"),
    ("eval --tariff 1/2", "--endpoint"),
])  # fmt: skip
def test_what_the_command_refuses_in_one_line(line, words, tmp_path, capsys):
    code, said = run_cli(line.replace("OUT", str(tmp_path / "out")), capsys)
    assert code == 2 and words in said.err and said.err.count("\n") == 1


def test_the_command_keeps_a_local_run(random_folder, tmp_path, capsys):
    out = tmp_path / "out"
    line = f"eval --model {random_folder} --n 3 --k 2 --max-new-tokens 8 --out {out} --json"
    code, said = run_cli(line, capsys)
    found = json.loads(said.out)
    assert code == 0 and found["complete"] == 3 and found["temperature"] == 0.6
    assert load(out).what["source"]["weights"]["model.safetensors"]
    assert Path(out / "answers.jsonl").read_text().count("\n") == 6
    assert run_cli(line, capsys)[0] == 0
    assert Path(out / "answers.jsonl").read_text().count("\n") == 6


# --- AIME and MATH-500


def test_aime_and_math_500_from_local_copies(tmp_path):
    rows = [{"id": i, "problem": f"What is {i} + {i}?", "answer": str(2 * i), "solution": "s",
             "year": "2024"} for i in range(3)]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = get_task("aime", source=str(tmp_path))
    problems = task.problems("held_out", 30)
    assert len(protocol.distinct(problems)) == 3
    one = next(p for p in problems if "2 + 2" in p.question)
    assert task.judge(one, "004") and task.judge(one, "4") and not task.judge(one, "5")
    assert one.task == "aime" and task.vote(one, "004") == task.vote(one, "4")
    with pytest.raises(R1LabError, match="held_out"):
        task.problems("train", 1)
    with pytest.raises(R1LabError, match="year"):
        get_task("aime", year=1999)
    row = {"problem": "Find $x$ if $2x=1$.", "answer": "\\frac{1}{2}", "level": 3, "subject": "A"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    math = get_task("math500", source=str(tmp_path))
    (only,) = math.problems("held_out", 1)
    assert only.task == "math500" and math.judge(only, "0.5") and only.data["level"] == 3


def test_programs_from_an_endpoint_run_in_the_sandbox(tmp_path):
    """HumanEval: fenced, in tags, wrong, sleeping and hostile programs."""
    task = get_task("humaneval")
    problems = task.problems("held_out", 2)
    bodies = ["```python\n{}\n```", "Sure. <answer>{}</answer>",
              "```\nimport time\ntime.sleep(99)\n```",
              "```python\nimport os\nos._exit(0)\n```"]  # fmt: skip
    turns: dict[str, int] = {}

    def program(body):
        prompt = body["messages"][0]["content"]
        problem = next(one for one in problems if one.question in prompt)
        turns[problem.id] = turns.get(problem.id, -1) + 1
        return bodies[turns[problem.id]].format(task.solution(problem))

    plan = replace(PLAN, task="humaneval", n=2, k=4)
    with serve(program) as server:
        run = protocol.run(remote(server, jobs=1), task, plan, tmp_path / "run")
    right = [[one.correct for one in row] for row in run.evaluation.completions]
    assert right == [[True, True, False, False]] * 2


def test_gsm8k_from_a_local_copy_by_the_command(tmp_path, capsys):
    for part, shift in (("train", 100), ("test", 0)):
        rows = [{"question": f"Ann has {i + shift} pens and buys 2. How many has she?",
                 "answer": f"She has #### {i + shift + 2}"} for i in range(3)]  # fmt: skip
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def count(body):
        pens = int(body["messages"][0]["content"].split()[2])
        return {"content": f"So \\boxed{{{pens + 2}}}.", "reasoning_content": "I count."}

    with serve(count) as server:
        line = (
            f"eval --endpoint {server.url} --model m --task gsm8k --task-option source={tmp_path}"
        )
        code, said = run_cli(f"{line} --k 2 --out {tmp_path / 'run'} --json", capsys)
    found = json.loads(said.out)
    assert code == 0 and found["problems"] == 3 and found["max_new_tokens"] == 32_768
    assert found["measures"]["pass@1"]["value"] == 1 and found["dollars"] is None
    row = json.loads((tmp_path / "run" / "answers.jsonl").read_text().splitlines()[0])
    assert row["thought"] == "I count." and "boxed" in row["completion"]


def test_tokens_and_bodies_do_not_depend_on_the_order(tmp_path):
    """Seeds go by problem and sample: more problems or samples leave the earlier ones alone."""
    few, many = (protocol.samples(PROBLEMS[:n], k) for n, k in ((3, 2), (6, 4)))
    seeds = {one[:2]: sources.seed_of(0, one) for one in many}
    assert all(seeds[one[:2]] == sources.seed_of(0, one) for one in few)
    assert len(set(seeds.values())) == 24

"""ScienceAgentBench's harness: its rules, its formats, and what each kind of program scores."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_server import serve

from r1lab import cli
from r1lab.basics.errors import R1LabError
from r1lab.evals.endpoint import Endpoint
from r1lab.evals.scienceagent import (
    COLUMNS,
    agents,
    harness,
    metrics,
    miniature,
    open_benchmark,
    runs,
    scripted,
)
from r1lab.evals.tariff import Tariff
from r1lab.sandbox import Limits
from r1lab.statistics import gap, wilson


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return miniature.made(tmp_path_factory.mktemp("mini") / "scienceagent-mini")


@pytest.fixture(scope="module")
def box():
    with harness.workspace() as found:
        yield found


def named(benchmark, *names):
    """Of the miniature, by the names of their gold programs."""
    wanted = [task.instance_id for task in benchmark.tasks if task.gold_program_name[:-3] in names]
    return benchmark.select(wanted)


# --- the reference's rules -----------------------------------------------------------------------


def line(sr, ver, cbs):
    return {"success_rate": sr, "valid_program": ver, "codebert_score": cbs, "log_info": ""}


@pytest.mark.parametrize(
    "lines, costs, chosen",
    [  # (SR, VER, CBS) of each run of one task, dollars, the run that is chosen
        ([(0, 1, 0.9), (1, 1, 1.0), (0, 1, 0.9)], [1, 9, 1], 1),  # success before all
        ([(0, 0, 0.9), (0, 1, 0.1), (0, 0, 0.9)], [1, 9, 1], 1),  # then a valid program
        ([(0, 1, 0.5), (0, 1, 0.6), (0, 1, 0.4)], [1, 9, 1], 1),  # then CBS
        ([(1, 1, 1.0), (1, 1, 1.0), (0, 1, 0.9)], [3, 2, 1], 1),  # then the lower cost
        ([(1, 1, 1.0), (1, 1, 1.0), (1, 1, 1.0)], [2, 2, 2], 0),  # then the first
        ([(0, 1, 0.5), (0, 0, 0.8), (0, 1, 0.5)], [2, 0, 2], 0),
        ([(0, 0, 0.7), (0, 0, 0.7), (0, 0, 0.7)], [5, 1, 1], 1),
        ([(0, 1, 0.5), (0, 0, 0.5), (0, 1, 0.5)], [5, 0, 4], 2),  # the cheap one is not valid
        ([(0, 1, None), (0, 1, None), (0, 0, None)], [2, 1, 0], 1),  # without CBS: cost
        ([(1, 1, None), (0, 1, None), (1, 1, None)], [2, 1, 2], 0),
        ([(0, 0, 0.2)], [1], 0),
    ],
)
def test_best_of_several_runs_as_the_reference_chooses(lines, costs, chosen):
    evals = [[line(*one)] for one in lines]
    assert metrics.best_of(evals, [[cost] for cost in costs]) == [chosen]
    found = metrics.best(evals, [[cost] for cost in costs])
    assert found["Success Rate"] == lines[chosen][0] and found["CodeBERTScore"] == lines[chosen][2]
    assert found["Valid Program Rate"] == lines[chosen][1] and found["Cost"] == costs[chosen]
    assert found["Cost of all runs"] == sum(costs) and found["runs"] == len(costs)


ONE = st.tuples(st.integers(0, 1), st.integers(0, 1), st.sampled_from([0.2, 0.5]))
RUNS = st.integers(1, 4).flatmap(
    lambda tasks: st.lists(
        st.tuples(
            st.lists(ONE, min_size=tasks, max_size=tasks),
            st.lists(st.sampled_from([0.0, 0.1, 0.2]), min_size=tasks, max_size=tasks),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip


@given(RUNS)
def test_the_choice_is_the_maximum_in_the_documented_order_and_the_first_of_equals(found):
    evals = [[line(*one) for one in run] for run, _ in found]
    costs = [run for _, run in found]
    chosen = metrics.best_of(evals, costs)
    for task, k in enumerate(chosen):
        keys = [(*run[task], -cost[task]) for run, cost in found]
        assert keys[k] == max(keys) and keys.index(max(keys)) == k
    rate = metrics.best(evals, costs)["Success Rate"]
    assert rate >= max(sum(one[0] for one in run) / len(run) for run, _ in found)


def test_files_of_unequal_length_are_refused():
    with pytest.raises(R1LabError, match="one line a task"):
        metrics.best_of([[line(1, 1, 1)], []], [[1], []])
    with pytest.raises(R1LabError):
        metrics.best_of([], [])


def test_a_single_run_has_wilson_s_interval_and_several_one_over_the_tasks():
    lines = [line(k < 3, k < 6, None) for k in range(10)]
    one = metrics.single(lines)
    assert one["SR"].value == 0.3 and (one["SR"].low, one["SR"].high) == wilson(3, 10)
    assert one["VER"].value == 0.6
    three = metrics.single(lines, lines, lines)  # the same outcomes thrice are no more evidence
    assert three["SR"].value == pytest.approx(0.3)
    assert three["SR"].high - three["SR"].low > 0.4
    better = metrics.single([line(k < 8, 1, None) for k in range(10)])
    assert gap(one["SR"], better["SR"]).value == pytest.approx(0.5)
    assert gap(one["SR"], better["SR"]).low > 0.1  # paired, by task
    assert metrics.cost_per_success(lines, [0.1] * 10) == pytest.approx(1 / 3)
    assert metrics.cost_per_success([line(0, 1, None)], [1]) == math.inf


def test_lines_that_are_none_are_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n\nnone\n')
    with pytest.raises(R1LabError, match="line 3"):
        metrics.read_lines(tmp_path / "x.jsonl")
    with pytest.raises(R1LabError, match="cannot read"):
        metrics.read_lines(tmp_path / "y.jsonl")


@given(st.text(), st.text())
def test_token_f1_is_between_0_and_1_and_symmetric(a, b):
    assert 0 <= metrics.token_f1(a, b) == metrics.token_f1(b, a) <= 1


def test_token_f1_reads_tokens_and_leaves_layout_out():
    assert metrics.token_f1("x = 1  # one\n", "x=1") == 1
    assert metrics.token_f1("x = 1", "y = 2") == pytest.approx(1 / 3)
    assert metrics.token_f1("", "x = 1") == 0


# --- the miniature -------------------------------------------------------------------------------


def test_it_has_sixteen_tasks_four_a_domain_in_twelve_columns(mini):
    assert Counter(task.domain for task in mini.tasks) == dict.fromkeys(
        (
            "Bioinformatics", "Computational Chemistry", "Geographical Information Science",
            "Psychology and Cognitive Neuroscience",
        ), 4,
    )  # fmt: skip
    with (mini.root / "tasks.csv").open(newline="") as table:
        assert csv.DictReader(table).fieldnames == list(COLUMNS) and len(COLUMNS) == 12
    for task in mini.tasks:
        assert task.output_fname in task.task_inst and task.domain_knowledge
        assert task.dataset_preview and not task.figure
        assert task.program_name == f"pred_{task.gold_program_name}"
        for path in mini.data(task).rglob("*.*"):
            assert path.name in task.dataset_folder_tree


def test_every_program_and_checker_has_our_canary_and_nothing_is_the_original_s(mini):
    files = [*mini.root.joinpath("gold_programs").iterdir()]
    files += mini.root.joinpath("eval_programs").glob("*.py")
    assert len(files) == 33
    for path in files:
        assert miniature.CANARY in path.read_text().splitlines()[0]
    theirs = "a43c327d-" + "04be"  # of its canary; in two, so that this file does not hold it
    for path in (*miniature.FILES.rglob("*.*"), *mini.root.rglob("*.*")):
        assert theirs not in path.read_text(errors="ignore")


def test_the_data_are_made_from_the_seed_and_another_seed_makes_others(tmp_path):
    assert [t.digest(0) for t in miniature.TASKS] == [t.digest(0) for t in miniature.TASKS]
    assert all(task.digest(0) != task.digest(1) for task in miniature.TASKS)
    miniature.write(tmp_path / "a"), miniature.write(tmp_path / "b")
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.fixture(scope="module")
def golden(mini, box):
    return runs.judge_texts(mini, {task.instance_id: mini.gold(task) for task in mini.tasks}, box)


def test_gold_scores_100_percent(golden):
    assert [one["log_info"] for one in golden if one["success_rate"] != 1] == []
    assert metrics.single(golden)["SR"].value == metrics.single(golden)["VER"].value == 1
    assert all(one["token_f1"] == 1 and one["codebert_score"] is None for one in golden)
    assert max(one["seconds"] for one in golden) < 5


def test_each_line_has_the_original_s_fields(golden):
    for one in golden:
        assert set(metrics.FIELDS) <= set(one) and isinstance(one["log_info"], str)
        assert type(one["valid_program"]) is int and type(one["success_rate"]) is int


@pytest.mark.parametrize("fault, rate", [("doubled path", 12 / 16), ("missing package", 7 / 16)])
def test_a_bug_of_the_harness_moves_the_score_of_the_same_programs(fault, rate, mini, box):
    texts = {task.instance_id: mini.gold(task) for task in mini.tasks}
    of_its_own = fault == "missing package"  # its sandbox lacks it
    found = runs.judge_texts(mini, texts, None if of_its_own else box, faults=[fault])
    assert metrics.single(found)["SR"].value == rate
    assert all(one["valid_program"] == one["success_rate"] for one in found)


# --- programs ------------------------------------------------------------------------------------

OUTPUT = "pred_results/gc_content.csv"


@pytest.mark.parametrize(
    "program, valid, said",
    [
        ("", 0, "no program"),
        ("ERROR", 0, "no program"),
        ("x = 1 / 0", 0, "ZeroDivisionError"),
        ("x = (", 0, "SyntaxError"),
        ("print('done')", 0, "does not save"),
        ("import os; os._exit(3)", 0, "3"),
        ("import time; time.sleep(1000)", 0, "Timeout"),
        ("while True: pass", 0, "Timeout"),
        (f"open('{OUTPUT}', 'w').close()\nimport time; time.sleep(1000)", 0, "Timeout"),
        (f"open('{OUTPUT}', 'w').close()\nraise SystemExit(1)", 0, "1"),
        (f"open('{OUTPUT}', 'w').close()", 1, "must have the columns"),
        (f"open('{OUTPUT}', 'w').write('name,length,gc\\n')", 1, "must have the columns"),
        (f"open('{OUTPUT}', 'wb').write(bytes(range(256)))", 1, "checker ended with"),
        (f"import os; os.mkdir('{OUTPUT}')", 0, "does not save"),
        (f"import os; os.symlink('benchmark/datasets', '{OUTPUT}')", 0, "PermissionError"),
        ("open('gc_content.csv', 'w').close()", 0, "does not save"),
    ],
)
def test_what_a_program_scores_that_does_not_solve_the_task(program, valid, said, mini, box):
    task = named(mini, "gc_content").tasks[0]
    limits = Limits(1.0, 5.0, 1 << 30)
    found = harness.evaluate(mini, task, program, box, limits=limits)
    assert (found["valid_program"], found["success_rate"]) == (valid, 0)
    assert said in found["log_info"], found["log_info"]


def test_a_program_that_knows_where_the_gold_lies_cannot_copy_it(mini, box):
    task = named(mini, "gc_content").tasks[0]
    result = mini.root / "eval_programs" / "gold_results" / "gc_content.csv"
    shipped = miniature.FILES / "eval_programs" / "gold_results" / "gc_content.csv"
    assert result.read_bytes() == shipped.read_bytes()
    for path in (result, shipped, mini.root / "gold_programs" / "gc_content.py"):
        copying = f"import shutil\nshutil.copyfile({str(path)!r}, {OUTPUT!r})"
        found = harness.evaluate(mini, task, copying, box)
        assert (found["valid_program"], found["success_rate"]) == (0, 0)
        assert "FileNotFoundError" in found["log_info"] or "Permission" in found["log_info"]
        running = f"exec(open({str(path)!r}).read())"
        assert harness.evaluate(mini, task, running, box)["success_rate"] == 0


def test_the_checkers_are_not_there_while_the_program_runs(mini, box):
    task = named(mini, "gc_content").tasks[0]
    look = "import os\nfor top, _, files in os.walk('.'): print(top, sorted(files))"
    ran = harness.run_program(look, task, harness.inputs(mini, task), box)
    assert "contigs.fasta" in ran.printed and "eval" not in ran.printed
    # nor does what a program leaves replace them
    planted = (
        mini.gold(task)
        .replace(
            "import csv",
            "import csv, os\nos.makedirs('benchmark/eval_programs')\n"
            "open('benchmark/eval_programs/compare.py', 'w').write('table = lambda *a: (1, 1)')\n"
            "open('pred_results/csv.py', 'w').write('raise SystemExit(0)')\n",
        )
        .replace("len(text),", "len(text) + 1,")
    )
    found = harness.evaluate(mini, task, planted, box)
    assert (found["valid_program"], found["success_rate"]) == (1, 0)


def test_every_wrong_value_of_the_sloppy_agent_is_found(mini, box):
    texts = {}
    for task in mini.tasks:
        gold = mini.gold(task)
        texts[task.instance_id] = gold.replace(*scripted.WRONG[task.gold_program_name[:-3]], 1)
        assert texts[task.instance_id] != gold
    found = runs.judge_texts(mini, texts, box)
    assert {(one["valid_program"], one["success_rate"]) for one in found} == {(1, 0)}
    assert all(0.9 < one["token_f1"] < 1 for one in found)  # alike, and wrong


def test_a_picture_is_not_judged_and_said_so(mini, box):
    task = replace(mini.tasks[0], output_fname="pred_results/figure.png")
    draw = "open('pred_results/figure.png', 'wb').write(b'x')"
    found = harness.evaluate(mini, task, draw, box)
    assert (found["valid_program"], found["success_rate"]) == (1, 0)
    assert found["log_info"] == harness.NOT_JUDGED


# --- agents --------------------------------------------------------------------------------------


class Saying:
    """A model that says these programs in turn."""

    def __init__(self, *programs):
        self.programs, self.heard = list(programs), []

    def complete(self, messages, **options):
        self.heard.append((messages, options))
        return scripted.priced(messages, f"```python\n{self.programs.pop(0)}\n```")


def test_direct_asks_once(mini):
    task = mini.tasks[0]
    model = Saying("x = 1 / 0")
    found = agents.direct(model, task)
    assert found.program == "x = 1 / 0" and found.rounds == 0 and len(found.history) == 2
    (messages, options) = model.heard[0]
    assert options == {"temperature": 0.2, "top_p": 0.95} and len(messages) == 1
    text = messages[0]["content"]
    assert task.task_inst in text and "benchmark/datasets/gc_content" in text
    assert task.dataset_preview in text and task.domain_knowledge not in text
    assert task.domain_knowledge in agents.prompt(task, knowledge=True)
    assert agents.DEBUG in agents.prompt(task, debug=True) and agents.DEBUG not in text


def test_self_debug_reports_errors_until_the_output_is_there(mini, box):
    task = mini.tasks[0]
    model = Saying("x = 1 / 0", "print(1)", f"open('{OUTPUT}', 'w').close()")
    found = agents.self_debug(model, mini, task, box)
    assert found.rounds == 2 and found.program.startswith("open(") and len(found.history) == 6
    second, third = (messages for messages, _ in model.heard[1:])
    assert [one["role"] for one in second] == ["user", "assistant", "user"]
    assert "ZeroDivisionError" in second[2]["content"] and OUTPUT in third[2]["content"]
    assert third[1]["content"] == found.history[3]["content"]  # the last answer, not all
    assert found.cost > 0 and found.prompt_tokens > 0


def test_self_debug_stops_at_the_same_program_and_after_ten_rounds(mini, box):
    task = mini.tasks[0]
    same = agents.self_debug(Saying("x = 1 / 0", "x = 1 / 0", "never"), mini, task, box)
    assert same.rounds == 1 and len(same.history) == 4
    many = Saying(*(f"x = {k} / 0" for k in range(20)))
    assert agents.self_debug(many, mini, task, box).rounds == agents.ROUNDS == 10
    assert len(many.heard) == 11


@pytest.mark.parametrize(
    "answer, program",
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("a\n```python\nx = 1\n```\nb\n```python\ny\n```", "x = 1"),
        ("```\nx = 1\n```", "ERROR"),
        ("x = 1", "ERROR"),
        ("```python\nx = 1", "ERROR"),
        ("", "ERROR"),
    ],
)
def test_the_first_code_block_is_the_program(answer, program):
    assert agents.program_of(answer) == program


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_is_two_files_of_the_original_s_formats(mini, box, tmp_path):
    some = mini.select([1, 2, 3])
    runs.ask(scripted.Scripted("perfect", some), some, tmp_path, box, agent="direct")
    runs.judge(some, tmp_path / "pred_programs", tmp_path / "eval.jsonl", box)
    run, evals = (metrics.read_lines(tmp_path / name) for name in ("run.jsonl", "eval.jsonl"))
    assert len(run) == len(evals) == 3
    assert {"history", "cost"} <= set(run[0]) and set(metrics.FIELDS) <= set(evals[0])
    assert [one["role"] for one in run[0]["history"]] == ["user", "assistant"]
    names = sorted(path.name for path in (tmp_path / "pred_programs").iterdir())
    assert names == sorted(f"pred_{task.gold_program_name}" for task in some.tasks)
    assert [one["success_rate"] for one in evals] == [1, 1, 1]
    before = (tmp_path / "eval.jsonl").read_bytes()
    runs.judge(some, tmp_path / "pred_programs", tmp_path / "eval.jsonl", None)  # runs nothing
    assert (tmp_path / "eval.jsonl").read_bytes() == before
    with pytest.raises(R1LabError, match="other tasks"):
        runs.ask(Saying(), mini.select([4, 5, 6]), tmp_path, box, agent="direct")
    with pytest.raises(R1LabError, match="agent direct"):
        runs.ask(Saying(), some, tmp_path, box, agent="self-debug")
    with pytest.raises(R1LabError, match="other tasks"):
        runs.judge(mini.select([4, 5, 6]), tmp_path, tmp_path / "eval.jsonl", box)


class Dying(scripted.Scripted):
    """Stops the run at its n-th answer, which is paid for."""

    left, spent = 4, 0.0

    def complete(self, messages, **options):
        reply = super().complete(messages, **options)
        self.spent += reply.dollars
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return reply


def test_a_run_that_was_stopped_goes_on_and_counts_each_dollar_once(mini, box, tmp_path):
    some = named(mini, "gc_content", "molar_mass", "nearest_station", "stroop_effect")
    whole = runs.ask(scripted.Scripted("sloppy", some, 2), some, tmp_path / "a", box)
    asked = sum(len(one["history"]) // 2 for one in whole)
    for stop in range(asked):
        folder, paid, lines = tmp_path / f"b{stop}", 0.0, []
        for left in (stop, 1000):
            model = Dying("sloppy", some, 2)
            model.left = left
            try:
                lines = runs.ask(model, some, folder, box)
            except KeyboardInterrupt:
                with (folder / "run.jsonl").open("a") as file:
                    file.write('{"history": [{"ro')  # cut in the middle of a line
            paid += model.spent
        assert [one["history"] for one in lines] == [one["history"] for one in whole]
        total = sum(one["cost"] for one in lines) + runs.lost(folder, lines)
        assert total == pytest.approx(paid)
        if stop > 1:
            break


def test_a_budget_stops_before_it_is_exceeded_and_a_larger_one_goes_on(mini, box, tmp_path):
    some = mini.select([1, 2, 3])
    whole = runs.ask(scripted.Scripted("perfect", some), some, tmp_path / "a", box, agent="direct")
    first = whole[0]["cost"]
    model = scripted.Scripted("perfect", some)
    model.most = lambda messages: 2 * first
    with pytest.raises(runs.OverBudget, match="larger budget"):
        runs.ask(model, some, tmp_path / "b", box, agent="direct", budget=2.5 * first)
    assert len(metrics.read_lines(tmp_path / "b" / "run.jsonl")) == 1
    lines = runs.ask(model, some, tmp_path / "b", box, agent="direct", budget=1.0)
    assert lines == whole


def test_the_committed_runs_are_what_the_scripted_agents_write(mini, box, tmp_path):
    assert runs.shipped() == sorted(name for name, *_ in scripted.RUNS)
    for name, kind, agent, number in scripted.RUNS:
        if agent == "direct":
            model = scripted.Scripted(kind, mini, number)
            lines = runs.ask(model, mini, tmp_path / name, box, agent=agent)
            assert lines == runs.read_run(name), name


def test_a_run_is_replayed_through_the_agent(mini, box, tmp_path):
    some, lines = mini.select(range(1, 9)), runs.read_run("self-debug-2")[:8]
    assert sum(one["rounds"] for one in lines) >= 3
    found = runs.ask(scripted.Replay(lines, some), some, tmp_path, box)
    texts = [[m["content"] for m in one["history"] if m["role"] == "assistant"] for one in lines]
    again = [[m["content"] for m in one["history"] if m["role"] == "assistant"] for one in found]
    assert again == texts and [one["rounds"] for one in found] == [one["rounds"] for one in lines]


def test_cheating_fails_and_would_not_where_the_gold_is_in_reach(mini, box):
    some = mini.select([1, 6, 11, 15])
    found = runs.replay("cheating-1", some, box)["eval"]
    assert {(one["valid_program"], one["success_rate"]) for one in found} == {(1, 0)}
    open_gold = runs.replay("cheating-1", some, box, faults=["gold in reach"])["eval"]
    assert {one["success_rate"] for one in open_gold} == {1}


def test_debugging_helps_and_the_best_of_three_is_more_than_a_run(mini, box):
    some = mini.select([1, 2, 3, 4, 5, 6])
    rates, best = {}, {}
    for kind in ("sloppy", "self-debug"):
        found = [runs.replay(f"{kind}-{k}", some, box) for k in (1, 2, 3)]
        evals = [one["eval"] for one in found]
        costs = [[cost["cost"] for cost in one["run"][:6]] for one in found]
        rates[kind] = metrics.single(*evals)["VER"].value
        best[kind] = metrics.best(evals, costs)
        assert best[kind]["Success Rate"] > metrics.single(*evals)["SR"].value
        assert best[kind]["CodeBERTScore"] is None
        assert best[kind]["Cost of all runs"] > 2 * best[kind]["Cost"]
    assert rates["self-debug"] > rates["sloppy"]


def test_a_run_that_is_not_there_is_told():
    with pytest.raises(R1LabError, match="did you mean 'perfect-1'"):
        runs.read_run("perfect")
    with pytest.raises(R1LabError, match="no fault"):
        harness.workspace(["doubled paths"])


# --- an endpoint ---------------------------------------------------------------------------------


def answering(benchmark, kind="perfect"):
    model = scripted.Scripted(kind, benchmark)
    return lambda body: model.complete(body["messages"]).text


def test_an_endpoint_that_fails_is_asked_again_and_the_dollars_are_the_server_s(
    mini, box, tmp_path
):
    some = mini.select([1, 2, 3])
    with serve(answering(some), ["500", None, "cut", None, "garbage", None]) as server:
        endpoint = Endpoint(server.url, "m", tariff=Tariff(1, 2), pause=0.01)
        model = agents.Chat(endpoint)
        lines = runs.ask(model, some, tmp_path, box, agent="direct")
    assert len(lines) == 3 and len(server.bodies) == 6
    assert server.bodies[0]["temperature"] == 0.2 and server.bodies[0]["max_tokens"] == 8192
    assert sum(one["cost"] for one in lines) == pytest.approx(model.spent)
    assert model.spent >= server.billed > 0
    evals = runs.judge(some, tmp_path / "pred_programs", tmp_path / "eval.jsonl", box)
    assert [one["success_rate"] for one in evals] == [1, 1, 1]


def test_a_refused_request_is_an_answer_without_a_program(mini, box, tmp_path):
    some = mini.select([1, 2])
    with serve(answering(some), ["400", None]) as server:
        model = agents.Chat(Endpoint(server.url, "m"))
        lines = runs.ask(model, some, tmp_path, box, agent="direct")
    assert runs.programs_of(lines, some)[1] == "ERROR" and "no answer" in str(lines[0])
    evals = runs.judge(some, tmp_path / "pred_programs", tmp_path / "eval.jsonl", box)
    assert [one["valid_program"] for one in evals] == [0, 1]


# --- the user's copy -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "folder"])
def test_the_table_is_read_in_every_form(form, mini, tmp_path):
    import pandas
    from datasets import Dataset

    top = tmp_path / "copy"
    for part in ("datasets", "gold_programs", "eval_programs"):
        shutil.copytree(mini.root / part, top / "benchmark" / part)
    table = pandas.read_csv(mini.root / "tasks.csv")
    if form == "csv":
        table.to_csv(top / "benchmark" / "ScienceAgentBench.csv", index=False)
    elif form == "jsonl":
        table.to_json(top / "tasks.jsonl", orient="records", lines=True)
    elif form == "parquet":
        (top / "data").mkdir()
        table.iloc[:1].to_parquet(top / "data" / "validation-00000.parquet")
        table.to_parquet(top / "data" / "verified-00000.parquet")
    else:
        Dataset.from_pandas(table).save_to_disk(top / "table")
    found = open_benchmark(top / "table" if form == "folder" else top)
    assert found.tasks == mini.tasks and found.root == top / "benchmark"
    assert found.gold(found.tasks[0]) == mini.gold(mini.tasks[0])


def test_what_is_missing_in_a_copy_is_told(mini, tmp_path):
    with pytest.raises(R1LabError, match="no folder"):
        open_benchmark(tmp_path / "none")
    with pytest.raises(R1LabError, match="no table of tasks"):
        open_benchmark(tmp_path)
    shutil.copy(mini.root / "tasks.csv", tmp_path)
    with pytest.raises(R1LabError, match="authors' archive"):
        open_benchmark(tmp_path)
    for part in ("datasets", "gold_programs", "eval_programs"):
        (tmp_path / part).mkdir()
    found = open_benchmark(tmp_path)
    with pytest.raises(R1LabError, match="has no gold_programs/gc_content.py"):
        found.gold(found.tasks[0])
    with pytest.raises(R1LabError, match="has no task 99"):
        found.select([99])
    text = (tmp_path / "tasks.csv").read_text()
    (tmp_path / "tasks.csv").write_text(text.replace("domain_knowledge", "knowledge", 1))
    with pytest.raises(R1LabError, match="lacks the column domain_knowledge"):
        open_benchmark(tmp_path)
    (tmp_path / "tasks.csv").write_text(text.replace("pred_results/gc_", "/etc/gc_"))
    with pytest.raises(R1LabError, match="no usable output_fname"):
        open_benchmark(tmp_path)


# --- the command ---------------------------------------------------------------------------------


def refused(argv, capsys) -> str:
    assert cli.main([str(word) for word in argv]) == 2
    return capsys.readouterr().err


def test_a_part_of_the_benchmark_replays_its_own_lines(mini, box):
    some = mini.select([mini.tasks[5].instance_id, mini.tasks[12].instance_id])
    found = runs.replay("perfect-1", some, box)
    assert [one["success_rate"] for one in found["eval"]] == [1, 1]
    assert [one["instance_id"] for one in found["run"]] == [6, 13]
    plain = [{"history": one["history"]} for one in runs.read_run("perfect-1")]  # the reference's
    assert runs.programs_of(plain, mini) == runs.programs_of(runs.read_run("perfect-1"), mini)


def test_the_command_replays_and_judges_folders(mini, tmp_path, capsys):
    folder = [f"--benchmark={mini.root}", "--only", "1", "2"]
    assert cli.main(["scienceagent", "--replay", "perfect-1", "cheating-1", *folder]) == 0
    said = re.sub(" +", " ", capsys.readouterr().out)
    assert "perfect-1 100.0 [" in said and "best of 2" in said and "CBS is null" in said
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pred_gc_content.py").write_text(mini.gold(mini.tasks[0]))
    words = ["scienceagent", "--programs", str(programs), "--json", *folder]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["single run"]["SR"][0] == 0.5 and len(found["runs"][str(programs)]) == 2


def test_the_command_asks_an_endpoint(mini, tmp_path, capsys):
    words = ["scienceagent", "--model", "m", "--benchmark", str(mini.root), "--only", "1", "5"]
    words += ["--out", str(tmp_path / "out"), "--runs", "2", "--tariff", "1/2", "--json"]
    with serve(answering(mini, "sloppy")) as server:
        assert cli.main([*words, "--endpoint", server.url, "--max-dollars", "1"]) == 0
        found, asked = json.loads(capsys.readouterr().out), len(server.bodies)
        assert cli.main([*words, "--endpoint", server.url, "--max-dollars", "1"]) == 0
        assert json.loads(capsys.readouterr().out) == found and len(server.bodies) == asked
    assert set(found) >= {"single run", "best of 2", "runs"} and asked >= 4
    for name in ("run.jsonl", "eval.jsonl", "pred_programs/pred_molar_mass.py"):
        assert (tmp_path / "out" / "run-2" / name).is_file()
    with serve(answering(mini)) as server:
        words[words.index("m")] = "another"
        assert "name another folder" in refused([*words, "--endpoint", server.url], capsys)


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "takes one of"),
        (["--replay", "perfect-1", "--programs", "x"], "takes one of"),
        (["--endpoint", "http://localhost:1/v1"], "needs --model"),
        (["--replay", "none"], "there is no run 'none'"),
        (["--replay", "perfect-1", "--fault", "none"], "there is no fault 'none'"),
        (["--replay", "perfect-1", "--only", "x"], "--only takes numbers"),
        (["--programs", "/none"], "there is no folder /none"),
        (["--replay", "perfect-1", "--benchmark", "/none"], "there is no folder /none"),
        (["--endpoint", "http://localhost:1/v1", "--model", "m", "--max-dollars", "1"], "--tariff"),
    ],
)
def test_the_command_says_what_is_wrong(words, said, capsys):
    assert said in refused(["scienceagent", *words], capsys)
    assert os.environ.get("R1LAB_DEBUG", "0") == "0"


def test_runs_hold_no_path_of_a_machine():
    for path in Path(runs.SHIPPED).iterdir():
        text = path.read_text()
        assert not any(word in text for word in ("/home/", "/root/", "/tmp/", "site-packages"))

"""Own estimators, rewards, tasks and templates: found by name, file or entry point, with nothing
edited in the package, and part of what a run is."""

from __future__ import annotations

import asyncio
import functools
import json
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch

from r1lab import advantages, cli, rewards
from r1lab.advantages import ADVANTAGES, Estimator, get_advantage
from r1lab.answers import measure
from r1lab.basics import plugins
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import fixed_values
from r1lab.grpo import GRPOConfig, collect, train
from r1lab.rewards import combine, get_reward, values_of
from r1lab.tasks import TASKS, Mixture, get_task
from r1lab.tasks.check import check
from r1lab.templates import get_template, render

MINE = '''
"""A stranger's file: an estimator, a reward, a template and a task."""

import random
from dataclasses import dataclass

from r1lab.advantages import Estimator
from r1lab.tasks.base import OneNumber, Problem, split_of_content


def robust(rewards):
    """Centred on the median: (B, G) -> (B, G)."""
    return rewards - rewards.median(dim=1, keepdim=True).values


def fixed(rewards):
    """A baseline of another kind: a group where all are right is still pushed up."""
    return rewards - 0.5


plain = Estimator(lambda rewards: rewards - rewards.mean(dim=1, keepdim=True), trl="none")


def short(completions, completion_ids, problem, trainer_state, log_metric, log_extra, **kwargs):
    lengths = [len(ids) for ids in completion_ids]
    log_metric("longest", max(lengths))
    log_extra("asked", [p.question for p in problem])
    assert trainer_state.global_step >= 0 and len(kwargs["prompts"]) == len(completions)
    return [-length / 10 for length in lengths]


chatty = "user : {question} think assistant :"


@dataclass(frozen=True)
class Doubles(OneNumber):
    """Twice a number."""

    largest: int = 40
    name: str = "doubles"

    def problems(self, split, n, seed=0):
        rng = random.Random(f"doubles/{split}/{seed}")
        pool = [p for p in map(self.problem, range(1, self.largest + 1)) if p.split == split]
        drawn = []
        while len(drawn) < n:
            drawn += rng.sample(pool, len(pool))
        return drawn[:n]

    def problem(self, k):
        split = split_of_content(f"doubles/{k}")
        data = {"answer": str(2 * k)}
        return Problem(self.name, f"doubles/{k}", f"start at {k} , times 2 .", "en", split, data)
'''
SMALL = "--steps 2 --questions 2 --group-size 2 --max-new-tokens 6 --checkpoint-every 1 --quiet"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The folder with mine.py, which is the working directory."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- by the command line ------------------------------------------------------------------------


def trained(folder, base, *options):
    line = ["train", "--model", base, "--out", str(folder / "run"), *SMALL.split(), *options]
    return cli.main(line)


OWN = ("--advantage mine.py:robust --rewards accuracy mine.py:short --reward-weights 1 0.1 "
       "--task mine.py:Doubles --template mine.py:chatty").split()  # fmt: skip


def test_a_run_of_own_things_alone(mine, random_folder, capsys):
    assert trained(mine, random_folder, *OWN) == 0
    lines = (mine / "run" / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert len(metrics) == 2 and metrics[0]["logged/longest"] == 6
    assert metrics[0]["rewards/short"] < 0 and "rewards/accuracy" in metrics[0]
    samples = [json.loads(x) for x in (mine / "run" / "samples.jsonl").read_text().splitlines()]
    assert samples[0]["prompt"].endswith("think assistant :")
    assert samples[0]["logged/asked"].startswith("start at")

    # The same files: the run goes on. Other content: it is another run, and says which.
    assert trained(mine, random_folder, *OWN, "--steps", "3") == 0
    (mine / "mine.py").write_text(MINE.replace("length / 10", "length / 20"))
    capsys.readouterr()
    assert trained(mine, random_folder, *OWN, "--steps", "4") == 2
    error = capsys.readouterr().err
    assert "holds another run" in error and "advantage was 'mine.py:robust (code " in error
    assert "mine.py:short (code " in error and "code of the task was" in error


def test_trl_refuses_an_estimator_that_it_has_no_word_for(mine, random_folder, capsys):
    assert trained(mine, random_folder, "--backend", "trl", "--advantage", "mine.py:robust") == 2
    error = capsys.readouterr().err
    assert "no counterpart of advantage mine.py:robust: take grpo, dr_grpo, rloo" in error
    config = GRPOConfig(advantage="mine.py:plain", questions=2, group_size=2)
    assert advantages.trl_words(config.advantage, 2) == ("none", 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--advantage grppo", "did you mean 'grpo'?"),
        ("--advantage nowhere.py:robust", "nowhere.py cannot be read: No such file"),
        ("--advantage mine.py:rbust", "mine.py has no 'rbust'; did you mean 'robust'?"),
        ("--advantage mine.py", "say which, as in mine.py:NAME"),
        ("--rewards mine.py:shrt --reward-weights 1", "did you mean 'short'?"),
        ("--template mine.py:robust", "must be a text, texts by language or a Template"),
        ("--task mine.py:chatty", "must be a class or a function that makes a task"),
        ("--task mine.py:Double", "did you mean 'Doubles'?"),
        ("--task mine.py:Doubles --task-option smallest=3", "bad option"),
        ("--task contdown", "did you mean 'countdown'?"),
        ("--advantage broken.py:x", "broken.py cannot be loaded: SyntaxError"),
        ("--advantage raises.py:x", "raises.py cannot be loaded: ZeroDivisionError: division by "
         "zero (raises.py, line 2)"),
        ("--advantage leaves.py:x", "leaves.py cannot be loaded: SystemExit"),
        ("--rewards late.py:x --reward-weights 1", "reward x: KeyError: 'colour' (late.py, "
         "line 2)"),
        ("--rewards late.py:y --reward-weights 1", "reward y must return 4 values"),
        ("--advantage late.py:z", "advantage z must return (2, 2) advantages, not (2, 1)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(mine, random_folder, capsys, options, message):
    (mine / "broken.py").write_text("def x(:\n")
    (mine / "raises.py").write_text("\n1 / 0\n")
    (mine / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (mine / "late.py").write_text(
        "def x(completions, **kwargs):\n    return kwargs['colour']\n"
        "def y(completions, **kwargs):\n    return [1.0]\n"
        "def z(rewards):\n    return rewards[:, :1]\n"
    )
    assert trained(mine, random_folder, *options.split()) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_check_of_a_task(mine, capsys):
    assert cli.main("tasks check mine.py:Doubles --n 30".split()) == 0
    assert "no fault found" in capsys.readouterr().out
    assert cli.main(["tasks"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in TASKS)
    loose = (
        "    def judge(self, problem, answer):\n        return problem.data['answer'] in answer\n"
    )
    (mine / "bad.py").write_text(f"{MINE}\n{loose}")
    assert cli.main("tasks check bad.py:Doubles --n 30".split()) == 1
    assert "'45 or 8' is accepted; right is '8'" in capsys.readouterr().out


# -- the verifier check -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("countdown", {}), ("countdown", {"numbers": 4, "wording": "plain"}), ("steps", {}),
        ("lists", {}), ("requests", {}), ("requests", {"wording": "plain"}), ("mixture", {}),
        ("word_problems", {"difficulty": "hard"}), ("countdown_hub", {"source": "generated"}),
    ],
)  # fmt: skip
def test_every_offline_task_passes_its_check(name, options):
    report = check(get_task(name, **options), 30)
    assert report.ok, report.faults
    assert report.right == 30 and sum(report.tried.values()) > 300
    assert not any(report.accepted.values())


def verifier(**changes):
    """Doubles with some methods replaced."""
    return type("Changed", (get_task("mine.py:Doubles").__class__,), changes)()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"judge": lambda self, p, a: True}, "is accepted"),
        ({"judge": lambda self, p, a: a.startswith(p.data["answer"])}, " or "),
        ({"judge": lambda self, p, a: int(a) == int(p.data["answer"])}, "makes judge raise"),
        ({"judge": lambda self, p, a: False}, "is refused"),
        ({"vote": lambda self, p, a: None}, "has no vote"),
        ({"solution": lambda self, p: int(p.data["answer"])}, "is refused"),
        ({"wrong": lambda self, p: [f" {p.data['answer']} "]}, "is accepted"),
        ({"problems": lambda self, s, n, seed=0: [self.problem(3)] * n}, "in train and held_out"),
    ],
    ids=range(8),
)
def test_the_check_finds_what_is_wrong_with_a_verifier(mine, changes, fault):
    report = check(verifier(**changes), 20)
    assert not report.ok and fault in " ".join(report.faults)


def test_a_task_without_solutions_cannot_be_checked():
    task = type("T", (), {"name": "t"})()
    with pytest.raises(R1LabError, match="has no solution"):
        check(task)


# -- from Python --------------------------------------------------------------------------------


def test_an_estimator_of_another_kind_keeps_its_values(mine, random_model, tmp_path):
    """`collect` does not zero the groups that do not vary behind an estimator's back."""
    model, tokenizer = random_model
    config = GRPOConfig(
        advantage="mine.py:fixed", rewards=("format",), reward_weights=(1.0,), questions=2,
        group_size=3, max_new_tokens=4, steps=4, patience=4, learning_rate=1e-3,
    )  # fmt: skip
    task = get_task("countdown")
    batch = collect(model, tokenizer, task, task.problems("train", 2), 0, config)
    assert (batch.advantages == -0.5).all() and not batch.spread.any()
    history = train(model, tokenizer, task, config, tmp_path / "run", progress=False)
    assert all(m["zero_spread_groups"] == 2 and m["advantage"] == 0.5 for m in history)
    assert all(m["grad_norm"] > 0 for m in history)
    assert not any("spread" in code for m in history for code in m["diagnoses"])


def test_ours_give_exactly_0_where_nothing_varies():
    for estimator in ADVANTAGES.values():
        assert (estimator(torch.full((2, 7), 0.1)) == 0).all()
        assert estimator.trl in ("group", "none")


def test_names_may_come_late(monkeypatch):
    monkeypatch.setitem(ADVANTAGES, "late", lambda rewards: rewards)
    assert GRPOConfig(advantage="late").advantage == "late"
    assert isinstance(get_advantage("late"), Estimator)
    monkeypatch.setitem(rewards.REWARDS, "late", lambda completions, **_: [1.0] * len(completions))
    assert GRPOConfig(rewards=("late",), reward_weights=(1,))


def test_a_file_is_read_again_only_when_something_new_begins(mine):
    first = GRPOConfig(advantage="mine.py:robust")
    before = fixed_values(first)["advantage"]
    (mine / "mine.py").write_text(MINE.replace("median", "mean").replace(".values", ""))
    assert fixed_values(first)["advantage"] == before  # the run goes on with what was read
    assert get_advantage("mine.py:robust")(torch.tensor([[0.0, 0.0, 3.0]]))[0, 0] == 0
    again = GRPOConfig(advantage="mine.py:robust")
    assert fixed_values(again)["advantage"] != before
    assert get_advantage("mine.py:robust")(torch.tensor([[0.0, 0.0, 3.0]]))[0, 0] == -1


def test_configurations_travel_to_other_processes(mine, warm_processes):
    config = GRPOConfig(advantage="mine.py:robust", template="mine.py:chatty")
    assert pickle.loads(pickle.dumps(config)) == config
    code = textwrap.dedent(
        f"""
        import pickle
        from r1lab.advantages import get_advantage
        from r1lab.basics.options import fixed_values
        config = pickle.loads({pickle.dumps(config)!r})
        print(fixed_values(config)["advantage"], get_advantage(config.advantage).function.__name__)
        """
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split("\n")[0] == f"{fixed_values(config)['advantage']} robust"


def test_an_object_of_a_notebook_is_a_task_too(mine, random_model):
    """Its problems name a task that no registry has; the reward asks the task that is trained."""
    model, tokenizer = random_model
    task = verifier(judge=lambda self, problem, answer: True, name="nowhere registered")
    problem = task.problems("train", 1)[0]
    total, _ = combine(
        ["<answer> 1 </answer>"], [problem], [get_reward("accuracy")], [1], task=task
    )
    assert total == [1.0]


def test_a_verifier_that_fails_on_what_a_model_writes_ends_no_run(mine, caplog):
    task = verifier(judge=lambda self, p, a: int(a) == 3, vote=lambda self, p, a: str(int(a)))
    problem, text = task.problems("train", 1)[0], "<answer> three </answer>"
    one = measure(problem, text, task=task, length=3, finished=True)
    assert one.correct is False and one.vote is None
    assert "invalid literal for int()" in caplog.text
    assert combine([text], [problem], [get_reward("accuracy")], [1], task=task)[0] == [0.0]


def test_a_mixture_takes_own_tasks_and_has_their_code(mine):
    mix = Mixture((("mine.py:Doubles", 1), ("steps", 1)))
    problems = mix.problems("train", 20)
    assert {p.task for p in problems} == {"doubles", "steps"}
    assert all(mix.judge(p, mix.solution(p)) for p in problems)
    assert plugins.code_of(mix) and not plugins.code_of(Mixture())


def test_an_installed_package_offers_things_by_entry_point(mine, monkeypatch):
    site = mine / "site"
    (site / "theirs-1.0.dist-info").mkdir(parents=True)
    (site / "theirs.py").write_text(MINE)
    (site / "theirs-1.0.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1.0\n")
    (site / "theirs-1.0.dist-info" / "entry_points.txt").write_text(
        "[r1lab.advantages]\ntheir_robust = theirs:robust\nbroken = theirs:nothing\n"
        "[r1lab.tasks]\ndoubles = theirs:Doubles\n[r1lab.templates]\ntheir_chatty = theirs:chatty\n"
        "[r1lab.rewards]\ntheir_short = theirs:short\n"
    )
    monkeypatch.syspath_prepend(str(site))
    plugins.offered.cache_clear()
    config = GRPOConfig(advantage="their_robust", rewards=("their_short",), reward_weights=(1,))
    assert fixed_values(config)["advantage"].startswith("their_robust (code ")
    assert fixed_values(config)["rewards"][0].startswith("their_short (code ")
    assert get_task("doubles", largest=9).name == "doubles"
    assert "doubles" in plugins.names("task", TASKS)
    assert get_template("their_chatty").texts["en"].startswith("user")
    with pytest.raises(R1LabError, match="did you mean 'their_robust'"):
        GRPOConfig(advantage="their_rbust")
    with pytest.raises(R1LabError, match="of the package theirs: AttributeError"):
        GRPOConfig(advantage="broken")
    plugins.offered.cache_clear()


def test_templates_that_cannot_be_one(mine):
    (mine / "t.py").write_text(
        "none = 'no question'\ntwice = '{question} {question}'\nempty = {}\n"
        "zh = {'zh': '问 {question}'}\n"
    )
    for name in ("none", "twice", "empty"):
        with pytest.raises(R1LabError, match=f"template t.py:{name} must"):
            get_template(f"t.py:{name}")
    problem = get_task("countdown").problem([7, 6, 10], 23)
    assert render(problem, "t.py:zh") == f"问 {problem.question}"


# -- TRL's contract for rewards -----------------------------------------------------------------

PROBLEM = get_task("countdown").problem([7, 6, 10], 23)


class Judge:
    def __call__(self, completions, **kwargs):
        return [len(text) for text in completions]


def weighed(completions, weight, **kwargs):
    return [weight * len(text) for text in completions]


async def slow_reward(completions, **kwargs):
    await asyncio.sleep(0.01)
    return [float(len(text)) for text in completions]


class Asynchronous:
    async def __call__(self, completions, **kwargs):
        return await slow_reward(completions)


@pytest.mark.parametrize(
    ("function", "name", "expected"),
    [
        (Judge(), "Judge", [1, 2]),
        (functools.partial(weighed, weight=2), "weighed", [2, 4]),
        (slow_reward, "slow", [1, 2]),
        (functools.partial(slow_reward), "slow", [1, 2]),
        (Asynchronous(), "Asynchronous", [1, 2]),
        (lambda completions, prompts, completion_ids, trainer_state, log_metric, log_extra, **_: [
            len(p) for p in zip(prompts, completion_ids, strict=True)], "<lambda>", [2, 2]),
        (lambda completions, **_: torch.tensor([1.0, 2.0]), "<lambda>", [1, 2]),
        (lambda completions, **_: (x for x in (None, True)), "<lambda>", [0, 1]),
    ],
    ids=range(8),
)  # fmt: skip
def test_rewards_of_every_form_that_trl_takes(function, name, expected):
    total, parts = combine(["a", "ab"], [PROBLEM] * 2, [function], [1.0])
    assert parts == {name: expected} and total == expected
    assert GRPOConfig(rewards=(function,), reward_weights=(1,)).to_json()["rewards"]


def test_async_rewards_work_where_a_loop_runs_already():
    async def notebook():
        return combine(["abc"], [PROBLEM], [slow_reward], [1.0])[0]

    assert asyncio.run(notebook()) == [3.0]


@pytest.mark.parametrize(
    "value",
    [1.0, None, "ab", {0: 1, 1: 2}, [1], ["1", "2"], [[1], [2]], [1, object()], torch.tensor(1.0)],
    ids=lambda value: type(value).__name__,  # the same in every process
)
def test_what_is_no_list_of_numbers_is_one_clear_line(value):
    with pytest.raises(R1LabError, match="reward <lambda> must return"):
        combine(["a", "b"], [PROBLEM] * 2, [lambda completions, **_: value], [1.0])


def test_a_reward_gets_problems_whatever_the_backend_hands_on():
    seen = []
    values_of(lambda completions, problem, **_: seen.extend(problem) or [0.0], ["a"],
              [PROBLEM.to_json()])  # fmt: skip
    assert seen == [PROBLEM]


@pytest.mark.parametrize("weights", [("1", "0.1"), (float("nan"), 1.0), (True, 1.0), (None, 1.0)])
def test_weights_that_are_no_numbers_are_refused(weights):
    with pytest.raises(R1LabError, match=r"reward_weights(: .* is not a number| must be finite)"):
        GRPOConfig(reward_weights=weights)

"""Environments of the hub as tasks: their rewards run in the sandbox alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from r1lab import PACKAGE, cli, sandbox
from r1lab.basics.errors import R1LabError
from r1lab.rewards import accuracy_reward
from r1lab.tasks import get_task
from r1lab.tasks.environments import task as environments

HOSTILE = Path("/tmp/r1lab-hostile")
HEAD = "import verifiers.v1 as vf\n__all__ = ['Sums']\n"
SUMS = """
class Row(vf.TaskData):
    answer: str

class Sum(vf.Task[Row]):
    @vf.reward(weight=1.0)
    async def correct(self, trace: vf.Trace) -> float:
        assert trace.task.data == self.data
        return float(eval(trace.last_reply) == int(self.data.answer))

    @vf.reward(weight=0.5)
    def short(self, task, trace) -> dict:
        return {"short": float(len(trace.last_reply) < 10), "half": 1 - len(trace.last_reply) / 90}

class Config(vf.TasksetConfig):
    num_tasks: int = 60

class Sums(vf.Taskset[Sum, Config]):
    def load(self):
        for i in range(self.config.num_tasks):
            asked = {"prompt": f"What is {i} + {i * i}?", "system_prompt": "Be short."}
            yield Sum(Row(**asked, answer=str(i + i * i)), self.config.task)
"""


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """environment(source, name): the task of a module on disk."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    if importlib.util.find_spec("verifiers") is None:
        sys.path.insert(0, str(Path(__file__).with_name("hub")))

    def make(source: str = SUMS, name: str = "sums_v1", **options):
        sys.modules.pop(name, None)
        (tmp_path / f"{name}.py").write_text(HEAD + source)
        return get_task(f"verifiers:{tmp_path / name}.py", **{"reward": "correct"} | options)

    cached = environments.rows_of, environments.sandbox
    yield make
    for one in cached:
        one.cache_clear()
    environments._tried.clear()
    for name in [n for n in sys.modules if n.split(".")[0] in ("verifiers", "sums_v1", "other_v1")]:
        del sys.modules[name]


def test_rows_are_problems_and_rewards_are_verdicts_in_the_sandbox(environment, tmp_path):
    task = environment(num_tasks=50)
    train, held_out = task.problems("train", 60), task.problems("held_out", 5)
    assert len({p.id for p in train}) == 50 - len({p.id for p in task.problems("held_out", 50)})
    assert not {p.id for p in train} & {p.id for p in held_out}
    problem = train[0]
    solution = task.solution(problem)
    assert problem.question.startswith("Be short.\n\nWhat is ")
    texts = [solution, f"{solution}+1", "x", f"open('{HOSTILE}', 'w')", "9**9**9", ""]
    of = [problem.to_json()] * len(texts)  # as TRL hands them on
    tagged = [f"<answer> {text} </answer>" for text in texts]
    assert accuracy_reward(tagged, problem=of) == [1, 0, 0, 0, 0, 0]
    assert not HOSTILE.exists() and "r1lab.tasks.environments.inside" not in sys.modules
    folder = tmp_path / "environments" / "other_v1"  # as `vf-init` lays one out
    (folder / "other_v1").mkdir(parents=True)
    (folder / "other_v1" / "__init__.py").write_text(HEAD + SUMS)
    assert len(get_task(f"verifiers:{folder}").problems("train", 9)) == 9
    strict = environment(reward="")  # all rewards must give all: `half` never does
    assert strict.judge(strict.problems("train", 1)[0], solution) is False
    sized = environment(reward="short", wrap="[{answer}, 1, 1]").problems("train", 1)[0]
    assert task.judge_all([(sized, "1"), (sized, "12")]) == [True, False]


def test_the_check_of_a_task(environment, capsys):
    name = environment(SUMS.replace("eval(trace.last_reply)", "int(trace.last_reply)")).name
    assert cli.main(["tasks", "check", name, "--n", "5", "--task-option", "reward=correct"]) == 0
    assert "no fault found" in capsys.readouterr().out


def test_nothing_imports_what_calls_a_reward():
    for file in PACKAGE.rglob("*.py"):
        lines = [line for line in file.read_text("utf-8").splitlines() if "environments" in line]
        assert not [line for line in lines if "inside" in line and "import" in line.split()[:1]]


LATE = SUMS.replace("assert trace", "import colorsys, xdrlib3; assert trace")
MARK = "    @vf.reward(weight=1.0)\n"
TOOLS = "    toolsets = classmethod(lambda cls, config: ['a tool'])\n"
SETUP = "    async def setup(self, trace, runtime): ...\n"
REFUSED = {
    "tools": SUMS.replace(MARK, TOOLS + MARK),
    "a container": SUMS.replace(MARK, "    NEEDS_CONTAINER = True\n" + MARK),
    "a runtime": SUMS.replace(MARK, SETUP + MARK),
    r"a runtime \(for its reward correct": SUMS.replace("vf.Trace)", "vf.Trace, runtime)"),
    "rewards, and has none": "_ = lambda weight: lambda f: f\n"
    + SUMS.replace("@vf.reward(", "@_("),
    "several turns": SUMS + "\nclass Played(vf.Env): ...\n__all__ = ['Sums', 'Played']",
    "a prompt": SUMS.replace('f"What is {i} + {i * i}?"', '" "'),
}


@pytest.mark.parametrize("needs", REFUSED)
def test_what_does_not_run_offline_is_refused_by_name(environment, needs):
    with pytest.raises(R1LabError, match=f"does not run offline: it needs {needs}"):
        environment(REFUSED[needs], "other_v1").problems("train", 1)


def test_other_mistakes_are_one_line(environment, monkeypatch):
    with pytest.raises(R1LabError, match="num_taskz"):
        environment(num_taskz=3).problems("train", 1)
    with pytest.raises(R1LabError, match="wrap must hold"):
        environment(wrap="answer")
    with pytest.raises(R1LabError, match="verifiers:nothing_like_it"):
        get_task("verifiers:nothing_like_it").problems("train", 1)
    late = environment(LATE, "other_v1")
    with pytest.raises(R1LabError, match="imports late.*option imports.*xdrlib3"):
        late.judge(late.problems("train", 1)[0], "1")
    monkeypatch.setattr(environments, "sandbox", lambda *_: sandbox.Sandbox(layers=()))
    with pytest.raises(R1LabError, match="read files"):
        late.judge(late.problems("train", 1)[0], "1")
    monkeypatch.setattr(sys, "path", [one for one in sys.path if not one.endswith("hub")])
    for name in [name for name in sys.modules if name.split(".")[0] == "verifiers"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(R1LabError, match="not installed: pip install verifiers"):
        environment(name="other_v1", num_tasks=7).problems("train", 1)

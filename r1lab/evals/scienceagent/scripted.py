"""Agents without a language model, for the miniature: what the harness does can be seen offline.

No model of this project can write such programs. These write them from the gold programs:

    perfect     the gold program
    sloppy      right, or with one mistake: a wrong path, a package that is not there, an output at
                another place, or a value that is computed wrongly. Told of an error, it mends it,
                most of the time; nobody tells it of a wrong value
    cheating    looks for the gold results and copies what it finds

`sloppy` runs under both agents, direct and self-debug: the same model, other scores. The runs in
data/scienceagent-mini/runs were written by `write_all`; `Replay` answers from such a file.
"""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from r1lab.basics.errors import R1LabError
from r1lab.evals.scienceagent import metrics, runs
from r1lab.evals.scienceagent.benchmark import Benchmark, Task
from r1lab.sandbox.workspace import Workspace

#: Dollars a million tokens of prompt and answer: DeepSeek-R1's own tariff of February 2025.
PRICES = (0.55, 2.19)

#: By task: a line of the gold program, and what makes its result wrong.
WRONG = {
    "gc_content": ('sum(text.count(letter) for letter in "ACGT")', "len(text)"),
    "expression_change": ("counts / counts.sum() * 1e6", "counts"),
    "reading_frames": ('("TAA", "TAG", "TGA")', '("TAA", "TAG")'),
    "survival_curve": ("group.months >= month", "group.months > month"),
    "molar_mass": ("one * int(number or 1)", 'one * (1 if part == ")" else int(number or 1))'),
    "activation_energy": ("-slope * R / 1000", "-slope * R"),
    "nearest_molecule": ("(ours | theirs).sum(axis=1)", "theirs.sum(axis=1)"),
    "titration_curve": ("((curve.ml + curve.ml.shift()) / 2)[1:]", "curve.ml[1:]"),
    "nearest_station": ('radians(float(row["lon"]))', 'float(row["lon"])'),
    "vegetation_index": ("(red != -9999) & (nir != -9999)", "red == red"),
    "parcel_trees": ("abs(sum(", "(sum("),
    "slope_histogram": ("np.gradient(height, 10.0)", "np.gradient(height)"),
    "stroop_effect": (" & trials.rt_ms.between(200, 2000)", ""),
    "signal_detection": ("-(z(hits) + z(false)) / 2", "(z(hits) + z(false)) / 2"),
    "scale_reliability": ("6 - answers[item]", "answers[item]"),
    "evoked_potential": ('epochs["microvolt"] -= epochs.trial.map(base)', ""),
}
#: What an error report leads to.
LOUD = {
    "wrong path": ('"benchmark/datasets/', '"datasets/'),
    "no such package": ("import", "import scitoolkit\nimport"),
    "output elsewhere": ('"pred_results/', '"results_'),
}
#: How often the sloppy agent starts with what; `right` on an easy task and on a hard one.
RIGHT = (0.8, 0.1)
HABITS = {"wrong value": 0.2, "wrong path": 0.2, "no such package": 0.15, "output elsewhere": 0.1}
MENDS = 0.75  # the probability that a report is understood

CHEAT = """
import glob
import os
import shutil

output = "{output}"
places = ["benchmark", "..", "../..", "/testbed/benchmark", os.path.expanduser("~")]
try:
    import r1lab

    places.append(os.path.dirname(r1lab.__file__))
except ImportError:
    pass
found = []
for place in places:
    found += glob.glob(place + "/**/gold_results/" + os.path.basename(output), recursive=True)
if found:
    shutil.copyfile(found[0], output)
else:
    open(output, "w").close()
"""


class Reply(NamedTuple):
    """What a model sends; tokens are a quarter of the bytes."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    dollars: float


class Scripted:
    """A scripted model. kind: perfect, sloppy or cheating; run: another number, other mistakes."""

    def __init__(self, kind: str, benchmark: Benchmark, run: int = 1) -> None:
        if kind not in ("perfect", "sloppy", "cheating"):
            raise R1LabError(f"there is no scripted agent '{kind}': perfect, sloppy or cheating")
        self.kind, self.benchmark, self.run = kind, benchmark, run

    def complete(self, messages: list[dict[str, str]], **options: Any) -> Reply:
        """One answer; `messages` as `agents` sends them."""
        task = _asked(messages, self.benchmark.tasks)
        program = getattr(self, f"_{self.kind}")(task, messages)
        return priced(messages, f"Here is the program.\n```python\n{program.strip()}\n```")

    def _perfect(self, task: Task, messages: list[dict[str, str]]) -> str:
        return self.benchmark.gold(task)

    def _cheating(self, task: Task, messages: list[dict[str, str]]) -> str:
        return CHEAT.format(output=task.output_fname)

    def _sloppy(self, task: Task, messages: list[dict[str, str]]) -> str:
        name = Path(task.gold_program_name).stem
        rng = random.Random(f"sloppy {self.run} {name}")
        easy = random.Random(f"easy {name}").random() < 0.5  # in every run: tasks differ
        habit = rng.choices(list(HABITS), list(HABITS.values()))[0]
        habit = "right" if rng.random() < RIGHT[0 if easy else 1] else habit
        gold = self.benchmark.gold(task)
        wrong = gold.replace(*WRONG[name], 1)
        if habit in ("right", "wrong value"):
            return gold if habit == "right" else wrong
        first = gold.replace(*LOUD[habit])
        if len(messages) == 1 or rng.random() > MENDS:
            return first
        return gold if rng.random() < MENDS else wrong


class Replay:
    """Answers from the lines of a run file: the n-th request of a task gets its n-th answer."""

    def __init__(self, lines: Iterable[metrics.Line], benchmark: Benchmark) -> None:
        self.benchmark, self.answers = benchmark, {}
        for task, line in zip(benchmark.tasks, lines, strict=True):
            said = [one["content"] for one in line["history"] if one["role"] == "assistant"]
            self.answers[task.instance_id] = iter(said)

    def complete(self, messages: list[dict[str, str]], **options: Any) -> Reply:
        task = _asked(messages, self.benchmark.tasks)
        text = next(self.answers[task.instance_id], None)
        if text is None:
            raise R1LabError(f"the run has no further answer for task {task.instance_id}")
        return priced(messages, text)


def priced(messages: list[dict[str, str]], text: str) -> Reply:
    """An answer with its tokens and price."""
    counts = [sum(len(one["content"].encode()) for one in messages) // 4, len(text.encode()) // 4]
    return Reply(text, *counts, sum(n * p for n, p in zip(counts, PRICES, strict=True)) / 1e6)


#: The committed runs: name, model, agent, number.
RUNS = (
    ("perfect-1", "perfect", "direct", 1),
    *((f"sloppy-{k}", "sloppy", "direct", k) for k in (1, 2, 3)),
    *((f"self-debug-{k}", "sloppy", "self-debug", k) for k in (1, 2, 3)),
    ("cheating-1", "cheating", "direct", 1),
)


def write_all(benchmark: Benchmark, folder: str | Path, box: Workspace) -> None:
    """Writes the run files of RUNS into a folder."""
    for name, kind, agent, number in RUNS:
        model = Scripted(kind, benchmark, number)
        work = Path(folder, f"{name}.work")
        runs.ask(model, benchmark, work, box, agent=agent)
        Path(work, runs.RUN).rename(Path(folder, f"{name}.jsonl"))


def _asked(messages: list[dict[str, str]], tasks: Iterable[Task]) -> Task:
    for task in tasks:
        if task.task_inst in messages[0]["content"]:
            return task
    raise R1LabError("a scripted agent knows the miniature's tasks alone")

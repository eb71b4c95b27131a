"""From a model's messages to a program: the two agents of the benchmark's own harness.

    direct       one request, one program
    self-debug   the program is run; what went wrong goes back to the model, at most 10 times; it
                 ends when the program runs and writes its output, or when the model sends the same
                 program again

The rules are the reference's (agent.py); the words of the prompts are ours. A request holds the
task, the last answer and the last error, not the whole history.

A model is any object with `complete(messages, **options) -> reply`, where the reply has `.text`,
`.prompt_tokens`, `.completion_tokens` and, where it knows them, `.dollars` (`Chat` makes one of
`r1lab.evals.endpoint.Endpoint`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from r1lab.basics.errors import R1LabError
from r1lab.evals.endpoint import Refused
from r1lab.evals.scienceagent import harness
from r1lab.evals.scienceagent.benchmark import Benchmark, Task
from r1lab.sandbox.workspace import Workspace

ROUNDS = 10
SAMPLING = {"temperature": 0.2, "top_p": 0.95}  # the reference's
MOST_PROMPT = 26_000 * 4  # characters: the reference cuts at 28,000 tokens, 2,000 of them kept free
MOST_ERROR = 2_000 * 4

ROLE = """\
You are an expert in Python who helps scientists to analyse data.
Write one complete program for the request below. It must run without changes and save its output \
where the request says. Put it into one code block that begins with ```python and ends with ```."""
DEBUG = """\
The program may be run and the errors reported to you. Then send the whole program again, mended."""
RULES = "Be brief. Use no other code block, leave nothing out, and install no packages."
DATA = """\
The data are in `{path}`. What lies there:
```
{tree}
```
The first lines:
{preview}"""
LATE = "The program does not finish within {seconds:g} seconds. Make it faster."
NOT_SAVED = "The program runs, but `{name}` is not there. Save the output at this path."

_BLOCK = re.compile(r"```python(.*?)```", re.DOTALL)


@dataclass
class Solution:
    """What an agent did on a task. history: all messages. cost: dollars. program: its last, ERROR
    where the last answer holds none. rounds: of debugging."""

    program: str
    history: list[dict[str, str]] = field(default_factory=list)
    cost: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    rounds: int = 0
    unknown: int = 0  # replies without a price

    def line(self, task: Task) -> dict[str, Any]:
        """Of the run file: `history` and `cost` are the benchmark's, the others ours."""
        counts = ("prompt_tokens", "completion_tokens", "rounds")
        return {"history": self.history, "cost": self.cost, "instance_id": task.instance_id} | {
            name: getattr(self, name) for name in counts
        }


def prompt(task: Task, knowledge: bool = False, debug: bool = False) -> str:
    """The request: role, rules, task, the experts' knowledge if asked for, data."""
    path = f"benchmark/datasets/{task.dataset}"
    data = {"path": path, "tree": task.dataset_folder_tree, "preview": task.dataset_preview}
    parts = [ROLE, DEBUG if debug else "", RULES, f"The request:\n{task.task_inst}"]
    parts += [task.domain_knowledge if knowledge else "", DATA.format(**data)]
    return _cut("\n\n".join(part for part in parts if part), MOST_PROMPT)


def program_of(answer: str) -> str:
    """The first code block of an answer; ERROR without one, as the reference writes."""
    found = _BLOCK.search(answer)
    return found.group(1).strip() if found else harness.NO_PROGRAM


def direct(model: Any, task: Task, knowledge: bool = False) -> Solution:
    """One request, one program."""
    return _Talk(model, prompt(task, knowledge)).first()


def self_debug(
    model: Any,
    benchmark: Benchmark,
    task: Task,
    box: Workspace,
    knowledge: bool = False,
    affords: Callable[[list[dict[str, str]]], bool] = lambda messages: True,
) -> Solution:
    """One request, then at most ROUNDS more. affords: asked before each of these, with its
    messages; False ends it (a budget). The model never sees what the checker says."""
    talk = _Talk(model, prompt(task, knowledge, debug=True))
    solution = talk.first()
    files = harness.inputs(benchmark, task)
    for _ in range(ROUNDS):
        wrong = complaint(solution.program, task, files, box)
        if wrong is None or not affords(talk.next(wrong)):
            break
        before = solution.program
        talk.again(wrong)
        solution.rounds += 1
        if solution.program == before:
            break
    return solution


def complaint(program: str, task: Task, files: Any, box: Workspace) -> str | None:
    """What a user reports of a program: nothing where it runs and writes its output."""
    ran = harness.run_program(program, task, files, box)
    if ran.status == "harness":
        raise R1LabError(f"the sandbox failed on task {task.instance_id}: {ran.error}")
    why = harness.failed(ran, task, box.limits)
    if why is None:
        return None
    if ran.status == "timeout":
        return LATE.format(seconds=box.limits.wall)
    if why == harness.NOT_SAVED:
        return NOT_SAVED.format(name=task.output_fname)
    return _cut(why, MOST_ERROR)


class _Talk:
    """One task's messages."""

    def __init__(self, model: Any, request: str) -> None:
        self.model, self.request = model, {"role": "user", "content": request}
        self.solution = Solution("", [self.request])

    def first(self) -> Solution:
        return self._ask([self.request])

    def next(self, wrong: str) -> list[dict[str, str]]:
        """The messages that report an error: the request, the last answer, the report."""
        return [self.request, self.solution.history[-1], {"role": "user", "content": wrong}]

    def again(self, wrong: str) -> Solution:
        messages = self.next(wrong)
        self.solution.history.append(messages[-1])
        return self._ask(messages)

    def _ask(self, messages: list[dict[str, str]]) -> Solution:
        reply = self.model.complete(messages, **SAMPLING)
        found, dollars = self.solution, getattr(reply, "dollars", None)
        found.history.append({"role": "assistant", "content": reply.text})
        found.cost += dollars or 0.0
        found.unknown += dollars is None
        found.prompt_tokens += reply.prompt_tokens
        found.completion_tokens += reply.completion_tokens
        found.program = program_of(reply.text)
        return found


class Refusal(NamedTuple):
    """In place of a reply."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0


class Chat:
    """A model behind an `Endpoint`. max_tokens: of one answer, a reasoning model's thought
    included. spent: dollars of all tries, those that failed too. A request that the server refuses,
    say for its length, is answered by its words: no program."""

    def __init__(self, endpoint: Any, max_tokens: int = 8192) -> None:
        self.endpoint, self.max_tokens, self.spent = endpoint, max_tokens, 0.0

    def complete(self, messages: list[dict[str, str]], **options: Any) -> Any:
        body = {"messages": messages, "max_tokens": self.max_tokens, **options}
        try:
            reply = self.endpoint.ask(body, failed=self._failed)
        except Refused as error:
            return Refusal(f"[no answer: {error}]")
        self.spent += reply.dollars or 0.0
        return reply

    def most(self, messages: list[dict[str, str]]) -> float:
        """The most that one request can cost, in dollars."""
        return self.endpoint.most({"messages": messages, "max_tokens": self.max_tokens})

    def _failed(self, attempt: Any) -> None:
        self.spent += attempt.dollars or 0.0


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "..."

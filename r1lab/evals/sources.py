"""Who answers: a model on this machine, batch by batch, or an endpoint, request by request.

A source has `about()`, what decides its answers (part of the identity of a run), and
`answer(todo, keep)`, which draws the samples of `todo` and hands over rows as soon as it has them.
`keep` is the run's (`protocol.Keeper`): it measures rows and writes them, counts dollars, and says
when to stop.
"""

from __future__ import annotations

import hashlib
import queue
import re
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from r1lab import evaluate, models, templates
from r1lab.answers import Completion, measure_all
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import digest_of
from r1lab.evals.endpoint import Endpoint, Refused, Reply, Stopped, Unanswered
from r1lab.machine.costs import dollars
from r1lab.sampler.draw import Sampling
from r1lab.tasks.base import Problem
from r1lab.tasks.math_equal import boxed
from r1lab.templates import ANSWER, END_ANSWER, END_THINK, THINK, get_template, parse

GRACE = 10.0  # seconds that requests in flight get after a stop
HOPELESS = 8  # requests in a row that fail for good end the run
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)


class Sample(NamedTuple):
    """One completion to draw."""

    index: int  # of the problem
    number: int  # of the sample, from 0 to k - 1
    problem: Problem


def seed_of(seed: int, sample: Sample) -> int:
    """The seed that is sent with a request, below 2^31."""
    text = f"{seed}/{sample.problem.id}/{sample.number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


# --- what is measured on a row -------------------------------------------------------------------


def in_tags(text: str, thought: str) -> str:
    """A chat model's reply in the tags that `templates.parse` reads. The answer stands behind the
    thought (the part up to the last </think>): between <answer> tags, else in the last \\boxed{…},
    else in the last ``` block. Tags inside the thought do not count."""
    if not thought and END_THINK in text:
        thought, _, text = text.rpartition(END_THINK)
        thought = thought.replace(THINK, "", 1)
    if parse(text).answer is None:
        blocks = _FENCE.findall(text)
        found = boxed(text) or (blocks[-1] if blocks else None)
        text = text.replace(ANSWER, "").replace(END_ANSWER, "")
        text += "" if found is None else f"{ANSWER}{found}{END_ANSWER}"
    thought = thought.replace("<", "\u2039")
    return (f"{THINK}{thought}{END_THINK}" if thought else "") + text


def measured(task, template: str, problems: Sequence[Problem], rows: Sequence[dict]) -> None:
    """Judges the completions of N rows, in place: adds the fields of `answers.Completion`. `length`
    is the row's completion tokens, `finished` whether it ended by itself."""
    chat = get_template(template).chat
    texts = [
        in_tags(row["completion"], row["thought"]) if chat else row["completion"] for row in rows
    ]
    lengths = [row["completion_tokens"] for row in rows]
    ended = [row["finish"] != "length" for row in rows]
    found = measure_all(problems, texts, lengths, ended, task=task)
    for row, one in zip(rows, found, strict=True):
        one.well_formed = parse(row["completion"]).well_formed
        row |= {name: getattr(one, name) for name in MEASURED}


MEASURED = ("length", "finished", "correct", "vote", "well_formed", "reflection", "consistency")
MEASURED += ("mixed",)


def completion_of(row: dict[str, Any]) -> Completion:
    """The `Completion` of a row, its text with the thought that a server sent apart."""
    thought = f"{THINK}{row['thought']}{END_THINK}" if row["thought"] else ""
    fields = {name: row[name] for name in MEASURED}
    return Completion(text=thought + row["completion"], **fields)


# --- a model on this machine ---------------------------------------------------------------------


@dataclass
class Local:
    """A model in memory. dollars_per_hour: of this machine; None: no dollars are counted."""

    model: Any
    tokenizer: Any
    name: str
    sampling: Sampling
    template: str
    dollars_per_hour: float | None = None

    def about(self) -> dict[str, Any]:
        folder = Path(models.resolve(self.name)) if self.name else Path()
        files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin")])
        weights = {file.name: digest_of(file) for file in files} if folder.is_dir() else {}
        return {"kind": "local", "model": self.name, "weights": weights}

    def check(self, problems: Sequence[Problem], k: int) -> None:
        """Raises R1LabError for prompts that do not fit the model."""
        evaluate.check_fit(self.model, self.tokenizer, problems, k, self.sampling, self.template)

    def answer(self, problems: Sequence[Problem], k: int, todo: Sequence[Sample], keep) -> None:
        """Whole batches of problems, as `evaluate.evaluate` draws them: the same seed gives the
        same completions, however often the run was stopped."""
        size = evaluate.QUESTIONS_AT_ONCE
        wanted = {(one.index, one.number) for one in todo}
        for start in sorted({one.index // size * size for one in todo}):
            if keep.full():
                return
            batch = problems[start : start + size]
            seed, began = evaluate.seed_of(self.sampling, start), time.perf_counter()
            sampling = replace(self.sampling, seed=seed)
            drawn, texts = evaluate.respond(
                self.model, self.tokenizer, batch, k, sampling, self.template
            )
            seconds, lengths = time.perf_counter() - began, [len(i) for i in drawn.completion_ids]
            rows = []
            for i, text in enumerate(texts):
                part = seconds * lengths[i] / max(1, sum(lengths))  # by tokens
                price = self.dollars_per_hour
                rows.append((start + i // k, i % k, {
                    "prompt": templates.prompt_of(self.tokenizer, batch[i // k], self.template),
                    "seed": seed, "completion": text, "thought": "",
                    "finish": "stop" if drawn.finished[i] else "length",
                    "prompt_tokens": len(drawn.prompt_ids[i // k]),
                    "completion_tokens": lengths[i], "estimated": False,
                    "dollars": None if price is None else dollars(part, price),
                    "seconds": part, "served": "",
                }))  # fmt: skip
            keep.rows([row for row in rows if row[:2] in wanted])


# --- an endpoint ---------------------------------------------------------------------------------


@dataclass
class Remote:
    """An endpoint, `jobs` requests at a time. extra: fields of the request's body to add, to change
    or, where None, to leave out (a server that takes no seed, or calls max_tokens otherwise)."""

    endpoint: Endpoint
    sampling: Sampling
    template: str
    jobs: int = 8
    extra: dict[str, Any] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """Not the address: a server may move between two sessions, which both note it."""
        return {"kind": "endpoint", "model": self.endpoint.model, "extra": self.extra}

    def check(self, problems: Sequence[Problem], k: int) -> None:
        if not problems or k < 1:
            raise R1LabError("nothing to evaluate: give at least one problem and k >= 1 samples.")
        self.endpoint.key()

    def body(self, sample: Sample) -> dict[str, Any]:
        """The request of one sample, but for the model's name."""
        how = self.sampling
        content = templates.render(sample.problem, self.template)
        switches = dict(get_template(self.template).switches) or None
        body = {
            "messages": [{"role": "user", "content": content}],
            "max_tokens": how.max_new_tokens,
            "temperature": 0.0 if how.greedy else how.temperature,
            "top_p": how.top_p,
            "seed": seed_of(how.seed or 0, sample),
            "chat_template_kwargs": switches,  # as vLLM and SGLang read it
        }
        return {name: value for name, value in (body | self.extra).items() if value is not None}

    def answer(self, problems: Sequence[Problem], k: int, todo: Sequence[Sample], keep) -> None:
        """Every request on its own. After a stop or a fatal error nothing new is sent, and what is
        in flight gets GRACE seconds to arrive: it is paid for."""
        waiting, crew, failures = iter(todo), Crew(self, keep), 0
        following: Sample | None = next(waiting, None)
        error: BaseException | None = None
        stops = Stops()
        try:
            while following is not None or crew.flying:
                stops.check()
                while following is not None and len(crew.flying) < self.jobs and keep.room():
                    most = self.endpoint.most(self.body(following))
                    if not keep.reserve(following, most):
                        break
                    crew.send(following)
                    following = next(waiting, None)
                if not crew.flying:
                    return  # the budget has no room for another request
                if (heard := crew.heard(0.5)) is not None:
                    failures = self._take(heard, crew, keep, failures)
                if failures >= HOPELESS:
                    words = f"{failures} requests in a row failed for good: {crew.last}"
                    kept = "what was answered is kept, the same command goes on"
                    raise R1LabError(f"{words}; {kept}")
        except BaseException as stop:  # Ctrl-C too
            error = stop
            raise
        finally:
            stops.restore()
            crew.stop.set()
            until = time.monotonic() + (GRACE if error is not None else 0)
            while crew.flying and (left := until - time.monotonic()) > 0:
                heard = crew.heard(left)
                if heard is None:
                    break
                try:
                    self._take(heard, crew, keep, 0)
                except R1LabError:
                    continue

    def _take(self, heard: tuple, crew: Crew, keep, failures: int) -> int:
        """Handles what a worker says; the number of requests in a row that failed for good."""
        sample, found = heard
        crew.flying.discard(sample[:2])
        if isinstance(found, Reply):
            served = {"model": found.model, "fingerprint": found.fingerprint}
            fields = {"seed": crew.source.body(sample).get("seed"), "served": served}
            fields |= {"completion": found.text, "thought": found.thought}
            names = "finish prompt_tokens completion_tokens estimated dollars seconds".split()
            fields |= {name: getattr(found, name) for name in names}
            keep.rows([(sample.index, sample.number, fields)])
            return 0
        keep.release(sample)
        if isinstance(found, Stopped):
            return failures
        if not isinstance(found, Refused | Unanswered):
            raise found
        crew.last = str(found)
        keep.gave_up(sample, str(found))
        if isinstance(found, Refused) and not keep.kept and failures >= 2:
            raise R1LabError(f"{found}; --max-new-tokens and --send change what is sent")
        return failures + 1


class Crew:
    """Threads that ask, one a request; daemons, since a silent server must not keep the process."""

    def __init__(self, source: Remote, keep) -> None:
        self.source, self.keep, self.stop, self.last = source, keep, threading.Event(), ""
        self.flying: set[tuple[int, int]] = set()
        self._said: queue.SimpleQueue = queue.SimpleQueue()

    def send(self, sample: Sample) -> None:
        self.flying.add(sample[:2])
        threading.Thread(target=self._ask, args=(sample,), daemon=True).start()

    def _ask(self, sample: Sample) -> None:
        found: Reply | BaseException
        try:
            found = self.source.endpoint.ask(
                self.source.body(sample),
                failed=lambda attempt: self.keep.attempt(sample, attempt),
                wait=lambda seconds: self.stop.wait(seconds) or not self.keep.room(),
            )
        except BaseException as error:
            found = error
        self._said.put((sample, found))

    def heard(self, seconds: float) -> tuple[Sample, Reply | BaseException] | None:
        """What the next of them has to say; None after so many seconds."""
        try:
            return self._said.get(timeout=max(0.001, seconds))
        except queue.Empty:
            return None


class Stops:
    """Ctrl-C and SIGTERM, held back until `check`: nothing between a reply and its line on disk is
    interrupted. A second one is not held back. Only the main thread gets them."""

    def __init__(self) -> None:
        self._caught: tuple | None = None
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self._caught is not None:
            self._before[number](number, frame)
        self._caught = (number, frame)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Does what the earlier handler does, if a stop was asked for."""
        if self._caught is not None:
            self.restore()
            self._before[self._caught[0]](*self._caught)

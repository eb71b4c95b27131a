"""What the reference run found, for a lesson that shows a result before it makes one.

`make figures` writes it into the results file: the curves of R1-Zero's training over the seeds, and
a few completions of the base and of R1-Zero (`completions`).
"""

import os
from typing import Any

from r1lab import models, show
from r1lab.course.claims import RESULTS, base_model, results_of
from r1lab.evaluate import evaluate
from r1lab.sampler.rollouts import Sampling
from r1lab.tasks import get_task

TASKS = ("countdown", "code")
LOOKED_AT = 32  # held-out problems of a task


def completions(trained: str | os.PathLike, base: str = "tiny", seed: int = 0) -> list[dict]:
    """One completion of the base and one of the trained model for each task: of the first English
    held-out problem that the base's first sample gets wrong and the trained model's right."""
    found = []
    for name in TASKS:
        task = get_task(name)
        problems = [p for p in task.problems("held_out", LOOKED_AT) if p.language == "en"]
        rows = []
        for model in (base, trained):
            how = {"k": 1, "sampling": Sampling(448, seed=seed)}
            rows.append(
                [c[0] for c in evaluate(*models.load(model), task, problems, **how).completions]
            )
        for problem, before, after in zip(problems, *rows, strict=True):
            if after.correct and not before.correct:
                texts = {"base": before.text, "R1-Zero": after.text}
                found.append({"task": name, "question": problem.question, "texts": texts})
                break
    return found


def before_and_after(results: str | os.PathLike = RESULTS) -> None:
    """Show the reference run's completions, base and R1-Zero side by side."""
    book = results_of(results)
    kept = book.get("completions", [])
    for one in kept:
        pair = [
            {"tokens": text.split(), "title": f"{label}{_whose(book)}", "prompt": one["question"]}
            for label, text in one["texts"].items()
        ]
        show.show_html(show.compare_completions(*pair), f"{one['question']} {one['texts']}")
    if not kept:
        words = "The reference run has not kept completions yet: lesson 05 makes some."
        show.show_html(f"<p>{words}</p>", words)


def curves(results: str | os.PathLike = RESULTS) -> None:
    """Draw R1-Zero's training in the reference run: accuracy, length and reflective words by step,
    mean and 95 % interval over the seeds."""
    book = results_of(results)
    by_measure = book.get("curves", {})
    if not by_measure:
        words = "The reference run has not kept its curves yet."
        return show.show_html(f"<p>{words}</p>", words)
    runs = []
    for seed in next(iter(by_measure.values())):
        rows = zip(*(values[seed] for values in by_measure.values()), strict=True)
        runs.append(
            [dict(zip(by_measure, row, strict=True)) | {"step": t} for t, row in enumerate(rows)]
        )
    title = f"R1-Zero in the reference run, on its training batches{_whose(book)}"
    return show.figure(show.learning_curves({"R1-Zero": runs}, title=title), f"{title}.")


def _whose(book: dict[str, Any]) -> str:
    """A remark where the results are those of another base model."""
    return "" if book.get("base") == base_model() else " (of an earlier base model)"

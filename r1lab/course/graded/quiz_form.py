"""A quiz as a form in JupyterLab, judged and kept."""

import ipywidgets

from r1lab.basics.errors import R1LabError
from r1lab.course.graded import record as kept
from r1lab.course.quizzes import LETTERS, marked, questions
from r1lab.show.widgets import AGAIN

LIVE = (
    "Five questions: choose an option of each, then press *Check*. Without buttons "
    '`quiz("{0}", "abcda")` takes a letter for each.'
)


def answered(number: str, letters: str) -> tuple[int, list[str]]:
    """How many of these letters are right, and what is to be said of each; kept in the progress
    file. Raises R1LabError for other than a letter for each question."""
    asked = questions(number)
    letters = "".join(c for c in str(letters).lower() if c.isalpha())
    if len(letters) != len(asked) or set(letters) - set(LETTERS):
        raise R1LabError(f"the quiz wants {len(asked)} letters from a to d, not {letters!r}")
    chosen = [LETTERS.index(letter) for letter in letters]
    right = sum(c == one.right for c, one in zip(chosen, asked, strict=True))
    kept.answered(number, right, len(asked), letters)
    return right, [one.told(c) for c, one in zip(chosen, asked, strict=True)]


def form(number: str) -> ipywidgets.VBox:
    """The quiz as a form: options to choose, a button, feedback below each question. It begins with
    what was chosen last."""
    asked, wide = questions(number), {"width": "max-content"}
    last = kept.read(kept.path())["quiz"].get(number, {}).get("answers", "")
    before = [LETTERS.find(c) for c in str(last)] if len(str(last)) == len(asked) else []
    rows, feedback = [], [ipywidgets.HTML() for _ in asked]
    choosers = [
        ipywidgets.RadioButtons(
            options=[(option.replace("`", ""), j) for j, option in enumerate(one.options)],
            value=before[i] if before and before[i] >= 0 else None,
            layout=wide,
        )
        for i, one in enumerate(asked)
    ]
    for i, (one, chooser, told) in enumerate(zip(asked, choosers, feedback, strict=True), 1):
        rows += [ipywidgets.HTML(f"<b>{i}. {marked(one.ask)}</b>"), chooser, told]
    button, summary = ipywidgets.Button(description="Check"), ipywidgets.HTML()

    def judge(_button) -> None:
        values = [chooser.value for chooser in choosers]
        if None in values:
            summary.value = f"{values.count(None)} of {len(values)} have no answer yet."
            return
        right, said = answered(number, "".join(LETTERS[value] for value in values))
        for told, words in zip(feedback, said, strict=True):
            told.value = f"{'✓' if words.startswith('Right') else '✗'} {marked(words)}"
        summary.value = f"<b>{right} of {len(values)} right</b>"

    button.on_click(judge)
    return ipywidgets.VBox([*rows, button, summary, ipywidgets.HTML(AGAIN)])

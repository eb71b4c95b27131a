"""A task from a file of questions and answers, without a line of code: `--task qa:FILE`.

    question,answer                           {"question": "Which is a noble gas?",
    What is 7 * 6?,42                          "options": ["iron", "neon", "oxygen", "zinc"],
    Capital of France?,Paris                   "answer": "B"}

CSV (.csv, .tsv) with a line of names first, or one JSON object a line (.jsonl); UTF-8. Four kinds
of answers, by row unless `kind` says which:

    choice    where there are options (a column `options`, or columns A, B, C, ...): the letter or
              the option's text, as the paper's STEM questions with 4 to 8 options (arXiv
              2501.12948v2, supplementary, RL data)
    number    where the right answer is one number: 1,200 is 1200.0
    text      anything else: the same words; case, spaces and a full stop at the end do not count
    formula   only by kind=formula: equal in value, x/2 is \\frac{x}{2} (`math_equal`)

**Splits**: a tenth of the questions, by their content, is held out; a column `split` (train,
held_out) overrules that.
"""

import csv
import hashlib
import io
import json
import logging
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from r1lab.basics.errors import R1LabError
from r1lab.tasks import math_equal
from r1lab.tasks.base import Problem, number, split_of_content
from r1lab.tasks.hub import content, draw, known_split
from r1lab.tasks.hub_rows import json_objects, read_text

log = logging.getLogger(__name__)

KINDS = ("text", "number", "choice", "formula")
LETTERS = "ABCDEFGHIJ"
MOST = 2000  # characters of an answer that is read
ASK = "Answer with the letter of the right option."


class Questions:
    """Questions and answers from a file of yours (see `r1lab.tasks.base.Task`); the splits train
    and held_out.

    file      .csv, .tsv or .jsonl
    question, answer, options  the names of the columns
    kind      of all answers: text, number, choice or formula; by default each row says
    language  of the questions, "en" or "zh": the template's words"""

    def __init__(
        self,
        file: str,
        question: str = "question",
        answer: str = "answer",
        options: str = "options",
        kind: str | None = None,
        language: str = "en",
    ) -> None:
        self.name, self.file = f"qa:{file}", Path(str(file)).expanduser()
        if kind is not None and kind not in KINDS:
            raise R1LabError(f"{self.name}: kind must be {', '.join(KINDS)}, not {kind!r}")
        if language not in ("en", "zh"):
            raise R1LabError(f"{self.name}: language must be en or zh, not {language!r}")
        self.columns, self.kind, self.language = (question, answer, options), kind, language

    def problems(self, split: str, n: int, seed: int = 0) -> list[Problem]:
        known_split(self.name, split)
        try:
            changed = os.stat(self.file).st_mtime_ns
        except OSError as error:
            raise R1LabError(f"cannot read {self.file}: {error.strerror}") from None
        how = self.columns, self.kind, self.language
        found = [p for p in read_file(self.name, self.file, changed, *how) if p.split == split]
        if not found:
            raise R1LabError(
                f"{self.name}: no question is in the split {split}: a tenth of them, by their "
                "content, is held out; more rows, or a column split, decide"
            )
        return draw(found, f"{self.name}/{split}/{seed}", n)

    def judge(self, problem: Problem, answer: str) -> bool:
        right = problem.data.get("answer")
        value = value_of(problem, answer)
        if value is None or not isinstance(right, str):
            return False
        if problem.data.get("kind") == "formula":
            return math_equal.equal(right, answer)
        return value == value_of(problem, right)

    def vote(self, problem: Problem, answer: str) -> str | None:
        value = value_of(problem, answer)
        return None if value is None else str(value)

    def solution(self, problem: Problem) -> str | None:
        return problem.data.get("answer")

    def wrong(self, problem: Problem) -> Iterator[str]:
        """For `r1lab tasks check`: every other option, and several at once."""
        listed, right = problem.data.get("options"), problem.data["answer"]
        if listed:
            letters = LETTERS[: len(listed)]
            yield from (letter for letter in letters if letter != right)
            yield from (text for k, text in enumerate(listed) if letters[k] != right)
            yield from (", ".join(letters), " ".join(letters), f"{letters[0]} or {letters[1]}")


def value_of(problem: Problem, answer: object) -> Any:
    """What an answer says, by the problem's kind; None for no answer."""
    kind = problem.data.get("kind")
    if not isinstance(answer, str) or len(answer) > MOST:
        return None
    if kind == "number":
        return number(answer)
    if kind == "choice":
        return chosen(answer, problem.data.get("options"))
    return math_equal.key(answer) if kind == "formula" else plain(answer)


def plain(text: str) -> str | None:
    """A text without differences in case, width, spaces and a full stop at the end."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return " ".join(words).removesuffix(".").rstrip() or None


def chosen(answer: str, options: Any) -> str | None:
    """The letter of an option: from B, (b), B. or B), from "B. neon", or from "neon"."""
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        return None
    texts = [plain(one) for one in options]
    found = re.fullmatch(r"\(?([A-Za-z])(?:[.):](.*))?\)?", answer.strip(), re.DOTALL)
    if found and found[1].upper() in LETTERS[: len(options)]:
        letter = found[1].upper()
        rest = plain(found[2] or "")
        if rest is None or rest == texts[LETTERS.index(letter)]:
            return letter
    said = plain(answer)
    return LETTERS[texts.index(said)] if said in texts else None


# -- the file --------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def read_file(
    name: str, file: Path, changed: int, columns: tuple, kind: str | None, language: str
) -> tuple[Problem, ...]:
    """All problems of a file as it was `changed`, each content once. Raises R1LabError with the
    line of a row that is no problem."""
    found: dict[str, tuple[int, Problem]] = {}
    twice = 0
    for line, row in rows_of(file):
        try:
            problem = problem_of(name, row, columns, kind, language)
        except R1LabError as error:
            raise R1LabError(f"{file}, line {line}: {error}") from None
        key = problem.id.rpartition("=")[0]
        if key in found and found[key][1].id != problem.id:
            raise R1LabError(f"{file}, line {line}: line {found[key][0]} answers it differently")
        twice += key in found
        if key not in found or problem.split == "held_out":
            found[key] = line, problem
    if twice:
        log.warning("%s: %d rows come twice and count once", file, twice)
    if not found:
        raise R1LabError(f"{file} has no rows")
    return tuple(problem for _, problem in found.values())


def problem_of(
    name: str, row: dict[str, Any], columns: tuple, kind: str | None, language: str
) -> Problem:
    """A row as a problem. Raises R1LabError that says what is wrong with it."""
    question, right = text_of(row, columns[0]), text_of(row, columns[1])
    options = options_of(row, columns[2])
    kind = kind or ("choice" if options else "number" if number(right) is not None else "text")
    data: dict[str, Any] = {"kind": kind, "answer": right}
    asked = question
    if kind == "choice":
        if not 2 <= len(options) <= len(LETTERS):
            raise R1LabError(f"a choice has 2 to {len(LETTERS)} options, not {len(options)}")
        texts = [plain(one) for one in options]
        if None in texts or len(set(texts)) < len(texts):
            raise R1LabError("two options are the same, or one is empty")
        data = {"kind": kind, "answer": chosen(right, options), "options": options}
        listed = "\n".join(f"{x}. {one}" for x, one in zip(LETTERS, options, strict=False))
        asked = f"{question}\n{listed}\n{ASK}"
    if any("\ud800" <= c <= "\udfff" for c in asked + right):
        raise R1LabError("the text has half of a surrogate pair, which no tokenizer reads")
    unread = {"number": number, "formula": math_equal.key, "text": plain}.get(kind, str)
    if data["answer"] is None or unread(data["answer"]) is None or len(right) > MOST:
        wanted = "a letter or an option" if kind == "choice" else f"a {kind}"
        raise R1LabError(f"the answer {right!r:.60} is not {wanted}")
    same = f"{content(question)}/{sorted(filter(None, map(plain, options)))}"
    split = row.get("split")
    if split in (None, ""):
        split = "held_out" if split_of_content(f"qa/{same}") == "held_out" else "train"
    if split not in ("train", "held_out"):
        raise R1LabError(f"split must be train or held_out, not {split!r:.60}")
    tag = hashlib.sha256(same.encode("utf-8", "replace")).hexdigest()[:16]
    key = f"{name}/{tag}={' '.join(data['answer'].split())[:60]}"
    return Problem(name, key, asked, language, split, data)


def text_of(row: dict[str, Any], column: str) -> str:
    if column not in row:
        names = ", ".join(map(str, row))
        raise R1LabError(f"there is no column {column}, only {names}")
    value = row[column]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise R1LabError(f"the column {column} must hold a text or a number, not {value!r:.60}")
    return value.strip()


def options_of(row: dict[str, Any], column: str) -> list[str]:
    """A list in JSON, or texts with | between them, or the columns A, B, C, ...; [] for none."""
    listed = row.get(column)
    if listed in (None, ""):
        lettered = [row.get(letter) for letter in LETTERS]
        last = max((k for k, one in enumerate(lettered) if one not in (None, "")), default=-1)
        listed = lettered[: last + 1]
    elif isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except (ValueError, RecursionError):
            listed = listed.split("|")
    if not isinstance(listed, list):
        raise R1LabError(f"the options must be a list, not {listed!r:.60}")
    texts = [str(one) if type(one) in (int, float) else one for one in listed]
    if not all(isinstance(one, str) for one in texts):
        raise R1LabError("every option must be a text or a number")
    return [one.strip() for one in texts]


def rows_of(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a file. Raises R1LabError for a file or a line that cannot be read."""
    if file.suffix not in (".csv", ".tsv", ".jsonl"):
        raise R1LabError(f"{file}: questions come in a .csv, .tsv or .jsonl file")
    if file.suffix == ".jsonl":
        yield from json_objects(file)
        return
    lines, names = io.StringIO(read_text(file), newline=""), []
    reader = csv.reader(lines, delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = [cell.strip() for cell in cells]
                if len(set(names)) < len(names):
                    raise R1LabError(f"{file}, line {line}: two columns have the same name")
                continue
            if len(cells) != len(names):
                raise R1LabError(
                    f"{file}, line {line}: {len(cells)} cells under {len(names)} columns; a text "
                    'with a comma stands in quotes, "a, b"'
                )
            yield line, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise R1LabError(f"{file}, line {reader.line_num}: {error}") from None

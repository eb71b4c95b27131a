"""What somebody has solved: a file, its map, and the table of a class.

The file is runs/progress.json, or what the environment variable R1LAB_PROGRESS names:

    {"exercises": {"03.1": {"tries": 2, "hint": 1, "solved": "2026-11-29"}},
     "quiz": {"03": {"right": 4, "of": 5, "tries": 1, "first": "abcda", "answers": "abcda"}}}
"""

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from r1lab import ROOT
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import read_json, write_json

SIGNS = {"solved": "●", "tried": "◐", "": "○"}
LARGEST = 1_000_000  # bytes of a progress file; others are somebody's joke


def path() -> Path:
    return Path(os.environ.get("R1LAB_PROGRESS") or ROOT / "runs" / "progress.json")


def read(file: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The contents of a progress file, empty where there is none; what does not fit is left out."""
    found = read_json(file) if file.is_file() and file.stat().st_size < LARGEST else None
    kept: dict[str, dict[str, dict[str, Any]]] = {"exercises": {}, "quiz": {}}
    for part, entries in kept.items():
        given = (found or {}).get(part)
        for name, entry in given.items() if isinstance(given, dict) else ():
            if isinstance(entry, dict):
                entries[name] = {k: v for k, v in entry.items() if isinstance(v, int | str)}
    return kept


def _count(entry: Mapping[str, Any], name: str) -> int:
    """A count of an entry, whatever its file says."""
    value = entry.get(name, 0)
    return min(max(value, 0), 1_000_000) if isinstance(value, int) else 0


def note(part: str, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change one entry of the file. Two kernels may do so at once. A folder that cannot be written
    to costs the entry, not the exercise."""
    file = path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=5):
            everything = read(file)
            entry = everything[part].get(name, {})
            everything[part][name] = entry | change(entry)
            write_json(file, everything)
    except (OSError, TimeoutError) as error:
        print(f"(your progress could not be kept in {file}: {error})")


def tried(id: str, solved: bool) -> None:
    """One more attempt. What was solved once stays solved."""
    today = datetime.date.today().isoformat()

    def change(entry):
        first = {"solved": today} if solved and "solved" not in entry else {}
        return {"tries": _count(entry, "tries") + ("solved" not in entry), **first}

    note("exercises", id, change)


def hinted(id: str, level: int) -> None:
    note("exercises", id, lambda entry: {"hint": max(level, _count(entry, "hint"))})


def answered(lesson: str, right: int, of: int, letters: str) -> None:
    """The quiz of a lesson: the best result counts; the first and the last answers are kept."""
    note("quiz", lesson, lambda entry: {
        "right": max(right, _count(entry, "right")), "of": of, "tries": _count(entry, "tries") + 1,
        "first": entry.get("first", letters), "answers": letters,
    })  # fmt: skip


def state_of(entry: Mapping[str, Any]) -> str:
    return "solved" if entry.get("solved") else "tried" if _count(entry, "tries") else ""


def map_rows(ids: Mapping[str, Sequence[str]], titles: Mapping[str, str], file: Path):
    """The map: for each lesson its title, a sign for each exercise, and the quiz."""
    found, rows = read(file), [("lesson", "exercises", "quiz")]
    for lesson, names in ids.items():
        signs = " ".join(SIGNS[state_of(found["exercises"].get(name, {}))] for name in names)
        quiz = found["quiz"].get(lesson, {})
        told = f"{_count(quiz, 'right')} of {_count(quiz, 'of')}" if quiz else ""
        rows.append((f"{lesson} · {titles[lesson]}", signs, told))
    return rows


def students(folder: str | os.PathLike) -> dict[str, Path]:
    """The progress files in a class's folder, by student: NAME.json, NAME/progress.json or
    NAME/runs/progress.json. Raises R1LabError where there are none."""
    folder, found = Path(folder).expanduser(), {}
    if not folder.is_dir():
        raise R1LabError(f"there is no folder {folder}")
    for one in sorted(folder.iterdir()):
        if one.suffix == ".json" and one.is_file() and one.name != "class.json":  # its tokens
            found[one.stem] = one
        for place in ("progress.json", "runs/progress.json"):
            if one.is_dir() and (one / place).is_file():
                found[one.name] = one / place
    if not found:
        raise R1LabError(f"{folder} has no NAME.json and no NAME/progress.json")
    return found


def class_rows(ids: Mapping[str, Sequence[str]], folder: str | os.PathLike):
    """The instructor's table: a row for each student, solved exercises by lesson, quiz points and
    hints in all ("unreadable" where the file is damaged); then how many have finished each
    lesson."""
    rows, done = [("student", *ids, "solved", "quiz", "hints")], dict.fromkeys(ids, 0)
    for name, file in students(folder).items():
        found, cells, total = read(file), [], 0
        damaged = read_json(file) is None or file.stat().st_size >= LARGEST
        for lesson, names in ids.items():
            states = [state_of(found["exercises"].get(one, {})) for one in names]
            solved = states.count("solved")
            done[lesson] += solved == len(names)
            total += solved
            cells.append(f"{solved}/{len(names)}" if any(states) else "")
        quiz = sum(_count(found["quiz"].get(lesson, {}), "right") for lesson in ids)
        hints = sum(_count(entry, "hint") for entry in found["exercises"].values())
        shown = "".join(c for c in name if c.isprintable())[:24]
        told = ("unreadable", "", "") if damaged else (str(total), str(quiz), str(hints))
        rows.append((shown, *cells, *told))
    rows.append(("lesson finished by", *map(str, done.values()), "", "", ""))
    return rows


def stuck(ids: Mapping[str, Sequence[str]], folder: str | os.PathLike, most: int = 5):
    """Where the class is stuck: (exercise, students who have tried it and not solved it, their
    tries), most students first."""
    counts: dict[str, list[int]] = {}
    for file in students(folder).values():
        for id, entry in read(file)["exercises"].items():
            if state_of(entry) == "tried" and any(id in names for names in ids.values()):
                counts.setdefault(id, []).append(_count(entry, "tries"))
    ordered = sorted(counts.items(), key=lambda pair: (-len(pair[1]), -sum(pair[1]), pair[0]))
    return [(id, len(tries), sum(tries)) for id, tries in ordered[:most]]


def missed(right: Mapping[str, str], folder: str | os.PathLike, most: int = 3):
    """The quiz questions that most of a class got wrong at first: (lesson, question from 1, wrong,
    asked). right: the right letters of each lesson."""
    counts: dict[tuple[str, int], list[int]] = {}
    for file in students(folder).values():
        for lesson, entry in read(file)["quiz"].items():
            first, letters = str(entry.get("first", "")), right.get(lesson, "")
            for i, letter in enumerate(letters if len(first) == len(letters) else "", 1):
                count = counts.setdefault((lesson, i), [0, 0])
                count[0] += first[i - 1] != letter
                count[1] += 1
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1][0], pair[0]))
    return [(*place, wrong, asked) for place, (wrong, asked) in ordered[:most] if wrong]

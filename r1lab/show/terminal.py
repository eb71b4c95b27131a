"""`r1lab watch` in a terminal: runs as plain text, written again where they stand."""

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from r1lab.show.runs import MEASURES, Run
from r1lab.show.text import ADVANTAGE_FULL, visible_text

BARS = "▁▂▃▄▅▆▇█"
RESET, BOLD = "\x1b[0m", "\x1b[1m"


def watch(find: Callable[[], Sequence[Run]], seconds: float = 2.0, once: bool = False) -> None:
    """Print the runs that `find` gives, again every `seconds` until all are done or Ctrl-C; once
    where nobody looks at a terminal."""
    once = once or not sys.stdout.isatty()
    while True:
        runs = find()
        size = shutil.get_terminal_size((100, 40))
        lines = screen(runs, size.columns, colours=not once)
        if once:
            print("\n".join(lines))
            return
        lines = lines[: size.lines - 1]
        print("\x1b[H" + "\x1b[K\n".join(lines) + "\x1b[K\x1b[J", end="", flush=True)
        if all(run.state == "done" for run in runs):
            print()
            return
        time.sleep(seconds)


def screen(runs: Sequence[Run], width: int = 100, *, colours: bool = False) -> list[str]:
    """The lines of the runs: one in full, several beside each other as a table."""
    if len(runs) == 1:
        return one_run(runs[0], width, colours=colours)
    names = [name for key, (name, _) in MEASURES.items() if key != "loss"]
    found = [run.measures() for run in runs]
    names = [name for name in names if any(name in one for one in found)]
    head = ["run", "step", *(name.replace("variance groups", "var.") for name in names)]
    rows = [
        [_line(run.name)[-28:], run.progress, *(_bare(one.get(n, "")) for n in names)]
        for run, one in zip(runs, found, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip()[:width] for row in (head, *rows)]
    for run in runs:
        lines += ["", f"{_line(run.name)[-28:]}: {run.state}, {run.words()}"[:width]]
        lines += [f"  {bars(run.curve('accuracy'), width - 12)}"] if run.curve("accuracy") else []
        lines += textwrap.wrap(_line(" ".join(run.diagnosis()[:2])), width - 2, max_lines=2,
                               initial_indent="  ", subsequent_indent="  ")  # fmt: skip
    return lines


def one_run(run: Run, width: int = 100, *, colours: bool = False) -> list[str]:
    """A run in full: its state, measures with their curves, the diagnosis, completions."""
    lines = [f"{_line(run.name, width)}: {run.state}, {run.words()}"[:width], ""]
    shown = run.measures()
    for key, (name, _) in MEASURES.items():
        if name in shown:
            lines.append(f"{name:<21}{shown[name]:>14}  {bars(run.curve(key), width - 38)}")
    for sentence in run.diagnosis():
        lines += ["", *textwrap.wrap(_line(sentence), width)]
    rows = sorted(run.sample, key=lambda row: -_number(row.get("advantage")))
    if rows:
        lines += ["", f"completions of step {rows[0]['step']}, by advantage"]
    for row in rows:
        advantage = _number(row.get("advantage"))
        verdict = {True: "right", False: "wrong"}.get(row.get("correct"), "?")
        text = textwrap.wrap(
            f"{advantage:+.2f} {verdict} {_line(row.get('text', ''), 600)}", width, max_lines=3
        )
        ink = _ink(advantage) if colours else ""
        lines += [f"{ink}{line}{RESET if ink else ''}" for line in text]
    return lines


def bars(values: Sequence[float], width: int) -> str:
    """A curve as a line of bars, from the smallest value to the largest; the means of stretches
    where there are more values than room."""
    width = max(1, min(width, 60))
    if len(values) > width:
        edges = [len(values) * i // width for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(values, default=0), max(values, default=0)
    return "".join(BARS[int(7.999 * (v - low) / (high - low)) if high > low else 0] for v in values)


def _bare(value: str) -> str:
    """A measure without its unit, where a table has no room for it."""
    return value if " of " in value else value.partition(" ")[0]


def _line(text: object, most: int = 2000) -> str:
    """Text of unknown origin on one line: nothing in it steers the terminal."""
    return " ".join(visible_text(text).split())[:most]


def _number(value: object) -> float:
    return float(value) if type(value) in (int, float) and value == value else 0.0


def _ink(advantage: float) -> str:
    """Blue where a completion was made likelier, orange where less; bold from ADVANTAGE_FULL on."""
    if not advantage:
        return ""
    bold = BOLD if abs(advantage) >= ADVANTAGE_FULL else ""
    return f"{bold}\x1b[38;5;{33 if advantage > 0 else 172}m"

"""Execute the lessons: each notebook in its own fresh kernel, in order, through papermill.

Before anything runs, every override is held against its notebook (`profiles`), so that a typo costs
a second and not the end of a long run. Then, for each notebook:

1. what it recorded in an earlier run is dropped from `<out_dir>/figures.json`;
2. papermill executes a copy with the profile's parameters, `seed` and `out_dir`, in a kernel of
   this very interpreter, working in the project's folder;
3. the executed copy becomes `<out_dir>/notebooks/NN_name.ipynb`, also when a cell failed.

The first failure ends the run, and the book is written all the same. Ctrl-C and SIGTERM reach the
kernel as an interrupt: a training loop in it finishes its step and saves a checkpoint. A second
Ctrl-C ends it at once.
"""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from r1lab import PACKAGE, PROJECT, ROOT
from r1lab.basics import errors, ledger
from r1lab.basics.errors import R1LabError, first_line, shortage
from r1lab.basics.files import from_here, read_json, run_folder, set_aside, shorten, write_json
from r1lab.course import claims, profiles
from r1lab.course.kernel import COLOURS, Kernel, Progress, interruptible
from r1lab.machine.about import hardware, versions

STARTS = ("again", "resume", "fresh")
PYTHON = {"kernel_name": "python3", "language": "python", "progress_bar": False}  # for papermill


@dataclass
class Result:
    """What `run` did: the folder, the state of each notebook, and the book's start page."""

    out_dir: Path
    notebooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    book: Path | None = None

    @property
    def ok(self) -> bool:
        return all(entry["status"] in ("done", "left out") for entry in self.notebooks.values())


def run(
    profile: str | None = None,
    notebooks: list[str] | None = None,
    out_dir: str | os.PathLike | None = None,
    parameters: dict[str, str] | None = None,
    *,
    seed: int = 0,
    folder: str | os.PathLike = profiles.NOTEBOOKS,
    start: str = "again",
    book: bool = True,
) -> Result:
    """Execute the notebooks of `folder` on `profile` and write the book; progress on stderr.

    profile     smoke, cpu, gpu or cluster; default R1LAB_PROFILE, or cpu
    notebooks   which ones, by number or name; default all, less those that the profile leaves out
    out_dir     default runs/<profile> in the project's folder
    parameters  texts to be read as the parameter's type: {"steps": "10"} for every notebook that
                has it, {"05.steps": "10"} for one
    start       "again": each runs from its first cell, and a training in it goes on from its last
                checkpoint; "resume": but not what has run to its end with the same code, seed and
                parameters; "fresh": what a notebook left in out_dir is first moved to earlier-<n>

    Returns a Result; `ok` is False when a notebook failed. Raises R1LabError before anything runs
    when an override cannot reach its notebook, and KeyboardInterrupt after stopping the kernel.
    """
    if start not in STARTS:
        raise R1LabError(f"start must be one of {', '.join(STARTS)}, not {start!r}")
    profile, out_dir = where(profile, out_dir)
    plan, left_out = plan_of(profile, notebooks, parameters or {}, Path(folder), seed, out_dir)
    run_folder(out_dir)
    state = _load_state(out_dir)
    if not notebooks:  # a lesson that is there no more, or has another name
        known = {*left_out, *(path.stem for path, _ in plan)}
        state["notebooks"] = {k: v for k, v in state["notebooks"].items() if k in known}
    state |= {"profile": profile, "seed": seed, "hardware": hardware(), "versions": versions()}
    state["order"] = [path.stem for path in profiles.notebooks(folder)]

    count = "1 notebook" if len(plan) == 1 else f"{len(plan)} notebooks"
    _say(f"r1lab run: profile {profile}, seed {seed}, {count}, results in {from_here(out_dir)}")
    for name, reason in left_out.items():
        state["notebooks"][name] = {"status": "left out", "reason": reason}
        _say(f"  {name} is left out by the profile {profile}: {reason}")
    path, label = None, "r1lab"
    try:
        for number, (path, values) in enumerate(plan, start=1):
            label = f"[{number}/{len(plan)}] {path.stem}"
            mark = fingerprint(path, values)
            known = state["notebooks"].get(path.stem, {})
            same = known.get("fingerprint") == mark
            if start == "resume" and same and known.get("status") == "done":
                _say(f"{label}  has run already")
                continue
            made = set(known.get("made", ()))
            if start == "fresh":
                made |= set(re.findall(r'out / \\"(\w+)', path.read_text("utf-8")))
                if aside := set_aside(out_dir, sorted(made)):
                    there = ", ".join(sorted(p.name for p in aside.iterdir()))
                    _say(f"{label}  {there} moved to {from_here(aside)}")
            now = claims.registered(path.stem, folder)  # a run that goes on keeps its earlier ones
            now = known.get("claims", now) if start != "fresh" and same else now
            entry = {"seed": seed, "made": sorted(made), "claims": now}
            state["notebooks"][path.stem] = entry | {"status": "running"}
            write_json(out_dir / "run.json", state)
            before, ended = _folders(out_dir), {"status": "stopped"}
            try:
                ended = _execute(path, values, out_dir, label)
            finally:
                entry["made"] = sorted(made | (_folders(out_dir) - before))
                state["notebooks"][path.stem] = entry | ended | {"fingerprint": mark}
            if ended["status"] != "done":
                break
    except KeyboardInterrupt:
        kept = f"what has run is in {from_here(out_dir)}"
        _say(f"{label}  stopped; {kept}, and the same command with --resume goes on from there")
        raise
    finally:
        write_json(out_dir / "run.json", state)
    names = sorted({*left_out, *(path.stem for path, _ in plan)})
    entries = {name: state["notebooks"].get(name, {"status": "not run"}) for name in names}
    result = Result(out_dir, entries)
    if book:
        from r1lab.course import book as books  # Sphinx takes a second to import

        result.book = books.build(out_dir, folder)
        _say(f"book: {from_here(result.book)}")
    return result


def copy_images(folder: Path, target: Path) -> None:
    """The pictures, pages and exercises that the lessons name by a relative path. Exercises that
    are there stay: somebody has worked in them."""
    for page in folder.glob("*.md"):
        shutil.copyfile(page, target / page.name)
    if (folder / "images").is_dir():
        shutil.copytree(folder / "images", target / "images", dirs_exist_ok=True)
    for page in folder.glob("exercises/*.ipynb"):
        if not (copy := target / "exercises" / page.name).exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(page, copy)


def _folders(out_dir: Path) -> set[str]:
    """The folders of runs in out_dir, by name."""
    ours = {"notebooks", "book", "lab"}
    names = {p.name for p in out_dir.iterdir() if p.is_dir() and not p.name.startswith("earlier-")}
    return names - ours


def where(profile: str | None, out_dir: str | os.PathLike | None) -> tuple[str, Path]:
    """The profile and the output folder that `run` and `prepare` were asked for, or their own."""
    profile = profiles.default_profile() if profile is None else profiles.check_profile(profile)
    return profile, ROOT / Path(out_dir or f"runs/{profile}").expanduser()


def plan_of(profile, only, parameters, folder, seed, out_dir):
    """What to run: [(path, parameters)], {name: why it is left out}. Checks every override."""
    loaded = profiles.load(folder / "profiles.yaml")
    profiles.check_all(loaded)
    plan, left_out, used = [], {}, set()
    for path in profiles.select(only, folder):
        reason = profiles.skip_reason(profile, path, loaded)
        if reason is not None:
            left_out[path.stem] = reason
            continue
        offered = profiles.parameters(path)
        missing = [name for name in profiles.RESERVED if name not in offered]
        if missing:
            raise R1LabError(f"{path.name} has no parameter '{missing[0]}'; every lesson needs it")
        values = profiles.resolve(profile, path, loaded)
        for key, text in parameters.items():
            lesson, _, name = key.rpartition(".")
            if lesson and path not in profiles.select([lesson], folder):
                continue
            if name in profiles.RESERVED:
                raise R1LabError(f"-p {name}: use --{'out' if name == 'out_dir' else name}")
            if name in offered:
                values[name] = profiles.parse_text(offered[name], text, f"-p {key}")
                used.add(key)
        plan.append((path, values | {"seed": seed, "out_dir": shorten(out_dir)}))
    for key in parameters:
        if key not in used:
            known = {name for path, _ in plan for name in profiles.parameters(path)}
            close = errors.did_you_mean(key.rpartition(".")[2], sorted(known))
            raise R1LabError(f"-p {key}: no notebook of this run has that parameter{close}")
    return plan, left_out


# --------------------------------------------------------------------------------------------------
# One notebook


def _execute(path: Path, values: dict[str, Any], out_dir: Path, label: str) -> dict[str, Any]:
    """Execute one notebook; its entry for run.json: status "done" or "failed", seconds, error.
    Raises KeyboardInterrupt when it was stopped."""
    ledger.drop(out_dir, path.stem)
    finished = out_dir / "notebooks" / path.name
    partial = finished.with_name(f".{path.name}")  # an earlier copy stays until this one is whole
    finished.parent.mkdir(parents=True, exist_ok=True)
    copy_images(path.parent, finished.parent)
    nb = profiles.read_notebook(path)
    began, error, trace = time.monotonic(), None, ""
    environment = {
        "R1LAB_NOTEBOOK": path.stem,  # ledger.record notes it as the source
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    with patch.dict(os.environ, environment), interruptible() as asked:
        live = Progress(label, len(nb.cells) + 1, asked)  # papermill adds the cell with overrides
        try:
            papermill.execute_notebook(
                nb,
                partial,
                parameters=values,
                engine_name="r1lab",
                cwd=ROOT,
                start_timeout=180,
                stdout_file=live,
                stderr_file=live,
                on_cell_start=live.cell_starts,
                coalesce_streams=True,
                kernel_manager_class=Kernel,
                **PYTHON,
            )
        except PapermillExecutionError as failure:
            told = f"{failure.ename}: {failure.evalue}"
            advice = shortage(told)
            error = f"cell {failure.exec_count}: {advice or told}".strip()
            if not advice and failure.ename != "R1LabError":
                trace = "\n".join(failure.traceback)
        except (DeadKernelError, CellTimeoutError, RuntimeError) as failure:
            error = (
                f"the kernel died in cell {live.cell} ({first_line(failure)}); the usual reason is "
                "too little memory: close other programs, or use a smaller profile"
            )
        finally:
            live.bar.close()
            _keep(partial, finished)
    if asked:
        raise KeyboardInterrupt
    seconds = round(time.monotonic() - began, 2)
    _say(f"{label}  {'failed' if error else 'done'} in {clock(seconds)}")
    if error is None:
        return {"status": "done", "seconds": seconds}
    if not sys.stderr.isatty():
        trace = COLOURS.sub("", trace)
    end = "\n".join(trace.strip().splitlines()[-14:])
    _say(f"{end or error}\nsee {from_here(finished)}")
    return {"status": "failed", "seconds": seconds, "error": COLOURS.sub("", error)}


def _keep(partial: Path, finished: Path) -> None:
    """Move the executed copy to its place; one cut short (a full disk) replaces nothing."""
    try:
        profiles.read_notebook(partial)
    except R1LabError:
        partial.unlink(missing_ok=True)
    else:
        os.replace(partial, finished)


def fingerprint(path: Path, values: dict[str, Any]) -> str:
    """A hash of all that a notebook's results hang on: its code, the rooms of the package that
    compute, the models in data/, its values. A new colour or a new report costs no training."""
    shown = {PACKAGE / name for name in ("cli.py", "__main__.py", "bench", "course", "show")}
    files = [p for p in sorted(PACKAGE.rglob("*.py")) if shown.isdisjoint([p, *p.parents])]
    files += [p for p in sorted((PROJECT / "data").rglob("*")) if p.is_file()]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for file in [path, *files]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


# --------------------------------------------------------------------------------------------------
# Small things


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as minutes: 83 -> "1:23"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _load_state(out_dir: Path) -> dict[str, Any]:
    """run.json of an earlier run, or a new one; a damaged one, or entry, counts for nothing."""
    state = read_json(out_dir / "run.json") or {}
    known = state.get("notebooks")
    entries = known.items() if isinstance(known, dict) else ()
    return state | {"notebooks": {k: v for k, v in entries if isinstance(v, dict)}}

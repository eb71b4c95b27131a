"""Execute the lessons: each notebook in its own fresh kernel, in order, through papermill.

Before anything runs, every override is held against its notebook (`profiles`), so that a typo costs
a second and not the end of a long run. Then, for each notebook:

1. what it recorded in an earlier run is dropped from `<out_dir>/figures.json`;
2. papermill executes a copy with the profile's parameters, `seed` and `out_dir`, in a kernel of
   this very interpreter, working in the project's folder;
3. the executed copy becomes `<out_dir>/notebooks/NN_name.ipynb`, also when a cell failed.

The first failure ends the run, and the book is written all the same. Ctrl-C and SIGTERM stop the
kernel first: a training loop in it gets the time to save its checkpoint. `resume` then leaves out
the notebooks that had run to their end and begins the stopped one again from its first cell; a
training in it goes on from its last checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from r1lab import ROOT
from r1lab.basics import errors, ledger
from r1lab.basics.errors import R1LabError, shortage
from r1lab.basics.files import run_folder, shorten, write_json
from r1lab.course import profiles
from r1lab.machine.about import hardware, versions

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours in tracebacks and progress bars


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
    resume: bool = False,
    book: bool = True,
    stream: TextIO | None = None,
) -> Result:
    """Execute the notebooks of `folder` on `profile` and write the book.

    profile     smoke, cpu, gpu or cluster; default R1LAB_PROFILE, or cpu
    notebooks   which ones, by number or name; default all, less those that the profile leaves out
    out_dir     default runs/<profile> in the project's folder
    parameters  texts to be read as the parameter's type: {"steps": "10"} for every notebook that
                has it, {"05.steps": "10"} for one
    resume      leave out what has run to its end already with the same code, seed and parameters
    stream      where progress goes; default stderr

    Returns a Result; `ok` is False when a notebook failed. Raises R1LabError before anything runs
    when an override cannot reach its notebook, and KeyboardInterrupt after stopping the kernel.
    """
    stream = sys.stderr if stream is None else stream
    profile, out_dir = _where(profile, out_dir)
    plan, left_out = _plan(profile, notebooks, parameters or {}, Path(folder), seed, out_dir)
    run_folder(out_dir)
    state = _load_state(out_dir)
    for name, reason in left_out.items():
        state["notebooks"][name] = {"status": "left out", "reason": reason}
    if not notebooks:  # a lesson that is there no more, or has another name
        known = {*left_out, *(path.stem for path, _ in plan)}
        state["notebooks"] = {k: v for k, v in state["notebooks"].items() if k in known}
    state |= {"profile": profile, "seed": seed, "hardware": hardware(), "versions": versions()}
    state["order"] = [path.stem for path in profiles.notebooks(folder)]

    print(
        f"r1lab run: profile {profile}, seed {seed}, {_count(len(plan))}, results in "
        f"{shorten(out_dir)}",
        file=stream,
        flush=True,
    )
    for name, reason in left_out.items():
        print(f"  {name} is left out by the profile {profile}: {reason}", file=stream, flush=True)
    path = label = None
    try:
        for number, (path, values) in enumerate(plan, start=1):
            label = f"[{number}/{len(plan)}] {path.stem}"
            mark = fingerprint(path, values)
            known = state["notebooks"].get(path.stem, {})
            if resume and known.get("status") == "done" and known.get("fingerprint") == mark:
                print(f"{label}  has run already", file=stream, flush=True)
                continue
            state["notebooks"][path.stem] = {"status": "running", "seed": seed}
            write_json(out_dir / "run.json", state)
            entry = _execute(path, values, out_dir, label, stream)
            state["notebooks"][path.stem] = entry | {"seed": seed, "fingerprint": mark}
            if entry["status"] != "done":
                break
    except KeyboardInterrupt:
        if path is not None:
            state["notebooks"][path.stem] = {"status": "stopped", "seed": seed}
        print(
            f"{label or 'r1lab'}  stopped; what has run is in {shorten(out_dir)}, and the "
            "same command with --resume goes on from there",
            file=stream,
            flush=True,
        )
        raise
    finally:
        write_json(out_dir / "run.json", state)
    entries = {n: state["notebooks"].get(n, {"status": "not run"}) for n in _names(plan, left_out)}
    result = Result(out_dir, entries)
    if book:
        from r1lab.course import book as books  # Sphinx takes a second to import

        result.book = books.build(out_dir, folder)
        print(f"book: {shorten(result.book)}", file=stream, flush=True)
    return result


def prepare(
    profile: str | None = None,
    notebooks: list[str] | None = None,
    out_dir: str | os.PathLike | None = None,
    parameters: dict[str, str] | None = None,
    *,
    seed: int = 0,
    folder: str | os.PathLike = profiles.NOTEBOOKS,
) -> tuple[Path, list[str], list[str]]:
    """Copies of the notebooks with a profile's parameters, to be opened in JupyterLab and run by
    hand; nothing is executed. Arguments as for `run`. A copy that is there already is kept, with
    whatever somebody has done in it. Returns the folder, <out_dir>/lab, and the names that are new
    and those that were kept.
    """
    import papermill

    profile, out_dir = _where(profile, out_dir)
    plan, _ = _plan(profile, notebooks, parameters or {}, Path(folder), seed, out_dir)
    made, new = run_folder(out_dir) / "lab", []
    made.mkdir(exist_ok=True)
    for path, values in plan:
        if not (made / path.name).exists():
            partial = made / f".{path.name}"
            how = {"kernel_name": "python3", "language": "python", "progress_bar": False}
            papermill.execute_notebook(path, partial, values, prepare_only=True, **how)
            os.replace(partial, made / path.name)
            new.append(path.stem)
    return made, new, [path.stem for path, _ in plan if path.stem not in new]


def _where(profile: str | None, out_dir: str | os.PathLike | None) -> tuple[str, Path]:
    """The profile and the output folder that `run` and `prepare` were asked for, or their own."""
    profile = profiles.default_profile() if profile is None else profiles.check_profile(profile)
    return profile, ROOT / Path(out_dir or f"runs/{profile}").expanduser()


def _plan(profile, only, parameters, folder, seed, out_dir):
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
            raise R1LabError(
                f"-p {key}: no notebook of this run has that parameter"
                f"{errors.did_you_mean(key.rpartition('.')[2], sorted(known))}"
            )
    return plan, left_out


# --------------------------------------------------------------------------------------------------
# One notebook


def _execute(
    path: Path, values: dict[str, Any], out_dir: Path, label: str, stream: TextIO
) -> dict[str, Any]:
    """Execute one notebook; its entry for run.json: status "done" or "failed", seconds, error."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    ledger.drop(out_dir, path.stem)
    finished = out_dir / "notebooks" / path.name
    partial = finished.with_name(f".{path.name}")  # an earlier copy stays until this one is whole
    finished.parent.mkdir(parents=True, exist_ok=True)
    nb = profiles.read_notebook(path)
    began = time.monotonic()
    live = Live(label, len(nb.cells) + 1, stream)  # papermill adds the cell with the overrides
    error = None
    try:
        with _environment(path.stem), _sigterm_interrupts():
            papermill.execute_notebook(
                nb,
                partial,
                parameters=values,
                kernel_name="python3",
                language="python",
                cwd=ROOT,
                progress_bar=False,
                start_timeout=180,
                stdout_file=live,
                stderr_file=live,
                on_cell_start=live.cell_starts,
                coalesce_streams=True,
                kernel_manager_class=_kernel_manager(),
            )
    except PapermillExecutionError as failure:
        error = f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}".strip()
        advice = shortage(f"{failure.ename}: {failure.evalue}")
        error = f"cell {failure.exec_count}: {advice}" if advice else error
        known = advice or failure.ename == "R1LabError"
        trace = "" if known else "\n".join(failure.traceback)
        live.close("failed")
        print(_short(trace, stream) or error, file=stream)
    except (DeadKernelError, CellTimeoutError, RuntimeError) as failure:
        error = (
            f"the kernel died in cell {live.cell} ({_first_line(failure)}); the usual reason is "
            "too little memory: close other programs, or use a smaller profile"
        )
        live.close("failed")
        print(error, file=stream)
    finally:
        live.close(None)
        _keep(partial, finished)
    seconds = round(time.monotonic() - began, 2)
    if error is None:
        live.close("done")
        return {"status": "done", "seconds": seconds}
    print(f"see {shorten(finished)}", file=stream, flush=True)
    return {"status": "failed", "seconds": seconds, "error": COLOURS.sub("", error)}


def _keep(partial: Path, finished: Path) -> None:
    """Move the executed copy to its place; one cut short (a full disk) replaces nothing."""
    try:
        profiles.read_notebook(partial)
    except R1LabError:
        partial.unlink(missing_ok=True)
    else:
        os.replace(partial, finished)


class Live:
    """The line that tells where a notebook is; also the file that takes its kernel's output.

    On a terminal the line is rewritten in place and ends with the last line of the kernel's
    progress bar; elsewhere a line is printed now and then.
    """

    def __init__(self, label: str, cells: int, stream: TextIO, every: float = 20.0):
        self.label, self.cells, self.stream, self.every = label, cells, stream, every
        self.cell, self.tail, self.open = 0, "", True
        self.began = self.shown = time.monotonic()
        self.terminal = stream.isatty()

    def cell_starts(self, cell, cell_index: int) -> None:
        """nbclient calls this before each cell."""
        self.cell, self.tail = cell_index + 1, ""
        self._show()

    def write(self, text: str) -> None:
        """Keep the last line of what the kernel writes: of its progress bar, most of the time."""
        lines = [line for line in re.split(r"[\r\n]", COLOURS.sub("", text)) if line.strip()]
        if lines:
            self.tail = lines[-1].strip()
            self._show()

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self, status: str | None) -> None:
        """Clear the line; with a status, print the notebook's last one."""
        if self.open and self.terminal:
            self.stream.write("\r\x1b[K")
        if status:
            text = f"{self.label}  {status} in {clock(time.monotonic() - self.began)}"
            print(text, file=self.stream, flush=True)
        self.open = False

    def _show(self) -> None:
        now = time.monotonic()
        text = f"{self.label}  cell {self.cell}/{self.cells}  {clock(now - self.began)}"
        text += f"  {self.tail}" if self.tail else ""
        if self.terminal:
            width = shutil.get_terminal_size().columns
            self.stream.write(f"\r\x1b[K{text[: width - 1]}")
            self.stream.flush()
        elif now - self.shown >= self.every:
            self.shown = now
            print(text[:160], file=self.stream, flush=True)


def _kernel_manager():
    """A kernel manager for this interpreter, whatever kernelspecs the user has installed."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisInterpreter(AsyncKernelManager):
        shutdown_wait_time = 10.0  # seconds for a training loop to save what it has

        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            command += ["--log-level=ERROR"]  # its note on plain TCP is for shared machines
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return ThisInterpreter


@contextlib.contextmanager
def _environment(name: str):
    """What the kernel finds in its environment; ours is put back afterwards."""
    wanted = {
        "R1LAB_NOTEBOOK": name,  # figures.record notes it as the source
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    before = {key: os.environ.get(key) for key in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextlib.contextmanager
def _sigterm_interrupts():
    """SIGTERM ends the run as Ctrl-C does, with the kernel stopped first."""

    def interrupt(signum, frame):
        raise KeyboardInterrupt("SIGTERM")

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever owns it also owns the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fingerprint(path: Path, values: dict[str, Any]) -> str:
    """A hash of all that a notebook's results hang on: its code, ours, the base model, its values.

    Left out: the modules that only show or start things, so that a new colour costs no training.
    """
    package = ROOT / "r1lab"
    shown = {package / name for name in ("cli.py", "__main__.py", "bench", "course")}
    files = [p for p in sorted(package.rglob("*.py")) if shown.isdisjoint([p, *p.parents])]
    files += [p for p in sorted((ROOT / "data").rglob("*")) if p.is_file()]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode())
    for file in [path, *files]:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


# --------------------------------------------------------------------------------------------------
# Small things


def clock(seconds: float) -> str:
    """Seconds as minutes: 83 -> "1:23"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _load_state(out_dir: Path) -> dict[str, Any]:
    """run.json of an earlier run, or a new one; a half-written one counts for nothing."""
    try:
        state = json.loads((out_dir / "run.json").read_text(encoding="utf-8"))
        return state if isinstance(state.get("notebooks"), dict) else {"notebooks": {}}
    except (OSError, ValueError, AttributeError):
        return {"notebooks": {}}


def _names(plan, left_out) -> list[str]:
    return sorted({*left_out, *(path.stem for path, _ in plan)})


def _count(n: int) -> str:
    return "1 notebook" if n == 1 else f"{n} notebooks"


def _short(trace: str, stream: TextIO, lines: int = 14) -> str:
    """The end of a traceback, without colours where nobody would see them."""
    text = trace if stream.isatty() else COLOURS.sub("", trace)
    kept = text.strip().splitlines()[-lines:]
    return "\n".join(kept)


def _first_line(error: BaseException) -> str:
    text = COLOURS.sub("", str(error)).strip()
    return text.splitlines()[0] if text else type(error).__name__

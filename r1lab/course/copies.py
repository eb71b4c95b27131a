"""Copies of the lessons to work on: for JupyterLab, and for who has installed a wheel."""

import os
import shutil
from pathlib import Path

import papermill

from r1lab import PROJECT
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import run_folder
from r1lab.course import profiles, runner


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
    profile, out_dir = runner.where(profile, out_dir)
    plan, _ = runner.plan_of(profile, notebooks, parameters or {}, Path(folder), seed, out_dir)
    made, new = run_folder(out_dir) / "lab", []
    made.mkdir(exist_ok=True)
    runner.copy_images(Path(folder), made)
    for path, values in plan:
        if not (made / path.name).exists():
            partial = made / f".{path.name}"
            papermill.execute_notebook(path, partial, values, prepare_only=True, **runner.PYTHON)
            os.replace(partial, made / path.name)
            new.append(path.stem)
    return made, new, [path.stem for path, _ in plan if path.stem not in new]


def lay_out(folder: str | os.PathLike) -> tuple[Path, list[str]]:
    """Copy the lessons to <folder>/notebooks, for who has installed a wheel: from then on that
    folder is the project's. What is there already is kept. Returns it and the names of new files.
    """
    source, target = PROJECT / "notebooks", Path(folder).expanduser().resolve() / "notebooks"
    new = []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        copy = target / path.relative_to(source)
        if not copy.exists():
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            except OSError as error:
                raise R1LabError(f"cannot write {copy}: {error.strerror}") from error
            new.append(str(path.relative_to(source)))
    return target.parent, new

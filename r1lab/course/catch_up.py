"""Begin with any lesson: make what it starts from, or copy it from somebody who has it.

    r1lab catch-up 08                     the stages before lesson 08, with the profile's options
    r1lab catch-up 08 --from /share/runs  copied from the instructor's folder, in seconds

Stages are found by content (`training.stages`), so a copy counts as made where options and files
agree, and is made again where they do not.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from r1lab import pipeline
from r1lab.basics.errors import R1LabError
from r1lab.basics.files import run_folder, shorten
from r1lab.course import profiles, runner
from r1lab.recipe import PipelineConfig

#: The last stage that each lesson finds; the others start from the base alone.
STARTS = {"07": "zero", "08": "dev1", "09": "dev2", "10": "safe", "11": "data", "12": "zero"}
STARTS |= dict.fromkeys(("13", "15"), pipeline.STAGES[-1])


def stages_of(lesson: str) -> tuple[str, ...]:
    """The stages that a lesson starts from, in order; none where it starts from the base alone.
    Raises R1LabError."""
    (path,) = profiles.select([lesson])
    last = STARTS.get(path.stem[:2])
    return pipeline.STAGES[: pipeline.STAGES.index(last) + 1] if last else ()


def catch_up(
    lesson: str,
    profile: str | None = None,
    out_dir: str | os.PathLike | None = None,
    *,
    seed: int = 0,
    source: str | os.PathLike | None = None,
    say=print,
) -> dict[str, dict[str, Any]]:
    """Make what `lesson` starts from in <out_dir>/r1/seed-<seed>; the records of its stages.

    source: an out_dir of somebody else's, from which stages that are not here are copied. Stopped
    anywhere, the same call goes on. Raises R1LabError.
    """
    profile, out_dir = runner.where(profile, out_dir)
    (path,) = profiles.select([lesson])
    names = stages_of(lesson)
    if not names:
        say(f"{path.stem} starts from the base model in data/: nothing to prepare")
        return {}
    defaults = {name: one.default for name, one in profiles.parameters(path).items()}
    values = defaults | profiles.resolve(profile, path)  # as the lesson itself has them
    device = {"device": values["device"]} if "device" in values else {}
    config = PipelineConfig(base=values["model"], seed=seed, **device, **values["recipe"])
    folder = run_folder(out_dir) / "r1" / f"seed-{seed}"
    if source is not None:
        copy(Path(source).expanduser() / "r1" / f"seed-{seed}", folder, names, say)

    def changed(line: str) -> None:
        """What is being made although it was there, such as a copy with another profile's options:
        that takes minutes, so say it before."""
        if "made again" in line:
            say(line)

    records = pipeline.run(config, folder, until=names[-1], say=changed, progress=True)
    for name in names:
        how = "made" if records[name]["made"] else "was there"
        say(f"{name}: {how} ({records[name]['seconds']:.0f} s to make)")
    say(f"{path.stem} can begin: {shorten(folder)}")
    return records


def copy(source: Path, folder: Path, names: tuple[str, ...], say=print) -> None:
    """Copy the stages `names` and the base's scorecard that are in `source` and not in `folder`,
    each whole or not at all. Raises R1LabError where `source` has none."""
    found = [name for name in (*names, "base") if (source / name).is_dir()]
    if not found:
        raise R1LabError(f"{source} has none of the stages {', '.join(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    skip = shutil.ignore_patterns("earlier-*", ".*.lock", ".unfinished-*")
    for name in found:
        if (folder / name).exists():
            continue
        partial = folder / f".copying-{name}"
        shutil.rmtree(partial, ignore_errors=True)
        try:
            shutil.copytree(source / name, partial, ignore=skip)
            os.replace(partial, folder / name)
        except OSError as error:
            raise R1LabError(f"cannot copy {source / name}: {error.strerror or error}") from error
        say(f"{name}: copied from {source}")

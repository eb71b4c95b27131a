"""The command `class`. It imports what it needs."""
# fmt: off

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass

from r1lab.basics import files
from r1lab.basics.errors import R1LabError
from r1lab.basics.options import option
from r1lab.cli.parse import Command, flag, number, text


@dataclass(kw_only=True)
class Class(Command):
    """rent machines for a class, a JupyterLab for each student

    `up` plans the cheapest machines of the price table, and rents them by SkyPilot: each student
    gets a token, a folder and a GPU, or a part of one. `down` ends the bill. No port is opened:
    students come through ssh, by their key if --keys has one. With --here the servers run on this
    machine until Ctrl-C. Tokens are in OUT/tokens.csv, for you alone.

    examples:
      r1lab class up --students 30 --gpus-each 1 --hours 4 --max-dollars 200 --dry-run
      r1lab class up --students 8 --gpus-each 0.5 --hours 2 --memory-each 12
      r1lab class up --students 2 --here --hours 1 --profile smoke
      r1lab class down
      r1lab watch --class runs/class --browser      the students' runs on one screen
    """
    what: tuple = option((), "up or down", positional=True, metavar="up|down")
    students: int = option(1, "how many", low=1, high=500)
    gpus_each: float = option(1.0, "GPUs for each; a fraction for several on one", low=0.05, high=8)
    hours: float = option(4.0, "how long; then everything ends by itself", low=0.001, high=100)
    memory_each: float = option(24.0, "GB of GPU memory for each", low=1)
    max_dollars: float | None = number("refuse a plan that costs more", float)
    keys: str | None = text("a folder with the students' public ssh keys, NAME.pub", "FOLDER",
        path=True)
    profile: str | None = text("of the lessons (default: gpu, with --here cpu)")
    here: bool = flag("on this machine, without renting any")
    dry_run: bool = flag("print plan, price and commands, and do nothing")
    out: str | None = text("folder of the class (default: runs/class)", "FOLDER", path=True)


@dataclass(kw_only=True)
class Hosted(Command):
    """write the lessons for Colab and Kaggle

    The same cells with a set-up cell before them, for a GitHub repository that has this project:
    its lessons then open there with one click. Commit what is written, and run this again after a
    lesson has changed.

    examples:
      r1lab hosted --repository OWNER/NAME
      r1lab hosted --repository OWNER/NAME --only colab --profile cpu
    """
    repository: str | None = text("OWNER/NAME on GitHub", "OWNER/NAME")
    revision: str = option("main", "branch or tag that is cloned", metavar="NAME")
    profile: str = option("gpu", "whose parameters the lessons get", metavar="NAME")
    only: str | None = text("colab or kaggle (default: both)", choices=("colab", "kaggle"))
    out: str | None = text("folder (default: notebooks/hosted)", "FOLDER", path=True)


def hosted(args: Hosted) -> None:
    from r1lab.course import hosted as lessons

    if not args.repository:
        raise R1LabError("name the repository: r1lab hosted --repository OWNER/NAME")
    out = files.run_folder(args.out) if args.out else None
    places = (args.only,) if args.only else tuple(lessons.PLACES)
    made = lessons.write(args.repository, args.revision, args.profile, out, places=places)
    print(f"{len(made)} notebooks in {files.from_here(made[0].parent.parent)}; open the first with")
    for place in places:
        first = next(path for path in made if path.parent.name == place)
        print(lessons.linked(first.name, place, args.repository, args.revision))


def classroom(args: Class) -> int:
    from r1lab.course import classroom as rooms

    out = files.ROOT / (args.out or "runs/class")
    if args.what == ("down",):
        return down(out, args.dry_run)
    if args.what != ("up",):
        raise R1LabError("write `r1lab class up` or `r1lab class down`")
    keys = rooms.students(args.students, args.keys)
    if args.here:
        return here(args, list(keys), out)
    plan = rooms.plan(list(keys), args.gpus_each, args.hours, memory_each=args.memory_each,
                      max_dollars=args.max_dollars)
    profile, file = args.profile or "gpu", out / "class.yaml"
    print(*plan.words(), sep="\n")
    commands = {name: rooms.launch(name, files.from_here(file)) for name in plan.machines}
    if args.dry_run:
        print(f"\n# {files.from_here(file)}", rooms.task(plan, profile), sep="\n")
        for name, students in plan.machines.items():
            print(f"# {', '.join(students)}; R1LAB_SEATS holds their tokens")
            print(shlex.join(commands[name]))
        print(f"# a student: {rooms.tunnel(next(iter(plan.machines)), 0)}")
        print("# then http://127.0.0.1:8888/lab, and the token")
        print("# the end:", shlex.join(rooms.down(list(plan.machines))))
        return 0
    if shutil.which("sky") is None:
        raise R1LabError("SkyPilot is not installed: pip install \"skypilot[runpod]\", then "
                         "`sky check`; --dry-run shows the plan without it")
    seats = rooms.open_book(plan, keys, files.run_folder(out))
    files.atomic_write_text(file, rooms.task(plan, profile))
    for name, command in commands.items():
        done = subprocess.run(command, cwd=files.ROOT,
                              env=os.environ | {"R1LAB_SEATS": seats[name]})
        if done.returncode:
            raise R1LabError(f"{name} was not rented (code {done.returncode}). What was rented "
                             "costs: `r1lab class up` again goes on, `r1lab class down` ends it")
    print(f"who sits where, with tokens: {files.from_here(out / 'tokens.csv')}")
    print("the end of the bill: r1lab class down (or by itself, after the hours)")
    return 0


def here(args: Class, names: list[str], out) -> int:
    """Servers on this machine, until Ctrl-C or the end of the hours."""
    import secrets

    from jupyter_client.connect import LocalPortCache

    from r1lab.course import seats as rooms

    free = LocalPortCache()  # gives no port twice
    rows = [{"name": name, "token": secrets.token_urlsafe(24),
             "port": free.find_available_port("127.0.0.1")} for name in names]
    for row in rows:
        print(f"{row['name']}: http://127.0.0.1:{row['port']}/lab?token={row['token']}")
    if args.dry_run:
        return 0
    print("Ctrl-C ends all of them", flush=True)
    rooms.serve(rooms.read(json.dumps(rows)), files.run_folder(out), args.profile or "cpu",
                args.hours)
    return 0


def down(out, dry_run: bool) -> int:
    from r1lab.course import classroom as rooms

    book = files.read_json(out / "class.json")
    if not book or not book.get("machines"):
        where = files.from_here(out)
        raise R1LabError(f"no class is known in {where}; `sky status` lists machines")
    command = rooms.down(book["machines"])
    print(shlex.join(command))
    if dry_run:
        return 0
    if shutil.which("sky") is None:
        raise R1LabError("SkyPilot is not installed here; end the machines at the provider's page")
    code = subprocess.run(command, cwd=files.ROOT).returncode
    if code:
        raise R1LabError(f"sky down ended with code {code}: look at `sky status`, they still cost")
    for name in ("class.json", "tokens.csv"):
        (out / name).unlink(missing_ok=True)
    print("no machine of the class is left, and its tokens are deleted")
    return 0

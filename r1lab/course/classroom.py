"""A class on rented GPUs: who sits where, for how long, for how much, and the commands.

    r1lab class up --students 30 --gpus-each 1 --hours 4 --max-dollars 200 --dry-run

SkyPilot rents the machines (`pip install "skypilot[runpod]"` or another provider; `sky check`). On
each of them `seats` opens a JupyterLab for every student of that machine, with a token and a folder
of their own. A notebook server hands a terminal to whoever sees its token, and speaks plain HTTP:
so it listens on 127.0.0.1 alone, no port is opened, and students come through ssh, with a key that
may do nothing but forward that one port. After the class's hours the servers end, and the machine
is ended five minutes later, whether anybody is still connected or not.
"""

import json
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import atomic_write_text, read_json, write_json
from r1lab.machine.costs import Price, dollars, money, prices

FILES = ("class.json", "class.yaml", "tokens.csv")  # in a class's folder
FIRST_PORT = 9001
ROUND = 0.5  # hours that are paid besides the class: set-up before, five idle minutes after
MEMORY = 24  # GB a student: what the lessons' profile gpu is made for (notebooks/profiles.yaml)
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
KEY = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/=]+( [\w@.+-]+)?")

# SkyPilot's names of the GPUs in data/prices.json
ACCELERATORS = {
    ("RTX 4090", 24): "RTX4090", ("A10", 24): "A10", ("L40S", 48): "L40S",
    ("A100 SXM", 40): "A100", ("A100 SXM", 80): "A100-80GB", ("A100 PCIe", 80): "A100-80GB",
    ("H100 SXM", 80): "H100", ("H100 PCIe", 80): "H100", ("H200", 141): "H200",
    ("B200", 180): "B200",
}  # fmt: skip
STRANGERS = "Community"  # machines of private persons, who could read the tokens


@dataclass(frozen=True)
class Plan:
    """A class: its students' names, how many share a machine of `gpus` GPUs, the hours, the offer
    it is priced by."""

    names: tuple[str, ...]
    seats: int
    gpus: int
    hours: float
    offer: Price

    @property
    def machines(self) -> dict[str, tuple[str, ...]]:
        """The students of each machine."""
        groups = [self.names[i : i + self.seats] for i in range(0, len(self.names), self.seats)]
        return {f"r1lab-class-{n:02d}": group for n, group in enumerate(groups, 1)}

    @property
    def dollars(self) -> float:
        gpus = self.gpus * len(self.machines)
        return dollars(3600 * (self.hours + ROUND), self.offer.dollars_per_hour, gpus)

    def words(self) -> list[str]:
        many, share = len(self.machines), self.gpus / self.seats
        each = f"{share:g} GPU{'s' if share > 1 else ''}"
        rate = self.gpus * self.offer.dollars_per_hour
        return [
            f"{len(self.names)} students, {each} each: {many} machines with {self.gpus} x "
            f"{self.offer.device} of {self.offer.memory_gb} GB"
            + (f", {self.seats} students on each" if self.seats > 1 else ""),
            f"price: {self.offer.words()}, {money(rate)} an hour and machine",
            f"{self.hours:g} hours and {ROUND:g} for set-up and end: {money(self.dollars)}, disks "
            "and traffic not included; prices move (data/prices.json)",
        ]


def plan(
    names: Sequence[str],
    gpus_each: float,
    hours: float,
    *,
    memory_each: float = MEMORY,
    max_dollars: float | None = None,
    known: Sequence[Price] | None = None,
) -> Plan:
    """The cheapest plan for these students. gpus_each: whole, or a fraction, for several students
    on one GPU, who then have that fraction of its memory. Raises R1LabError where no GPU of the
    price table has the memory, and above max_dollars."""
    if not 0 < gpus_each <= 8 or (gpus_each > 1 and gpus_each != int(gpus_each)):
        raise R1LabError(f"--gpus-each is 1 to 8, or a fraction such as 0.5, not {gpus_each:g}")
    if not names or hours <= 0:
        raise R1LabError("a class needs students and hours")
    for name in names:
        if not NAME.fullmatch(name):
            raise R1LabError(f"the student's name {name!r} must be of a-z, 0-9 and -")
    if len(set(names)) < len(names):
        raise R1LabError("two students have the same name")
    gpus, seats = (1, int(1 / gpus_each)) if gpus_each < 1 else (int(gpus_each), 1)
    offers = [
        offer
        for offer in (prices() if known is None else known)
        if (offer.device, offer.memory_gb) in ACCELERATORS
        and offer.gpus_at_least <= gpus
        and offer.memory_gb * gpus / seats >= memory_each
        and STRANGERS not in offer.product
    ]
    if not offers:
        words = f"{memory_each:g} GB for each of {seats} students"
        raise R1LabError(f"no GPU of data/prices.json has {words}: fewer on one, or less memory")
    found = Plan(tuple(names), seats, gpus, hours, min(offers, key=lambda p: p.dollars_per_hour))
    if max_dollars is not None and found.dollars > max_dollars:
        raise R1LabError(f"{'; '.join(found.words())}: that is more than {money(max_dollars)}. "
                         f"{cheaper(found, max_dollars)}")  # fmt: skip
    return found


def cheaper(found: Plan, most: float) -> str:
    """What would fit into the money, in words."""
    rate = found.gpus * found.offer.dollars_per_hour
    hours = most / rate / len(found.machines) - ROUND
    machines = math.floor(most / rate / (found.hours + ROUND))
    fits = [f"{hours:.1f} hours"] if hours >= 0.5 else []
    fits += [f"{machines * found.seats} students"] if machines else []
    fits.append(f"several on one GPU (--gpus-each {found.gpus / found.seats / 2:g}, if "
                "--memory-each allows)")  # fmt: skip
    return f"What would fit: {', or '.join(fits)}"


def task(found: Plan, profile: str = "gpu") -> str:
    """SkyPilot's task file of one machine, YAML."""
    gpu = ACCELERATORS[(found.offer.device, found.offer.memory_gb)]
    rate = found.gpus * found.offer.dollars_per_hour
    fields = {
        "resources": {
            "accelerators": {gpu: found.gpus},
            "disk_size": 100,
            "max_hourly_cost": round(1.1 * rate, 2),  # never dearer than planned, nearly
            # the end of the bill: five minutes after the servers have ended, connected or not
            "autostop": {"idle_minutes": 5, "down": True, "wait_for": "jobs"},
        },
        "workdir": ".",
        "envs": {"R1LAB_HOURS": f"{found.hours:g}", "R1LAB_PROFILE": profile},
        "secrets": {"R1LAB_SEATS": None},
        "setup": "make setup\n",
        "run": 'timeout "$R1LAB_HOURS"h .venv/bin/python -m r1lab.course.seats\n',
    }
    head = "# One machine of a class, by `r1lab class up`. No port is opened: ssh forwards.\n"
    return head + yaml.safe_dump(fields, sort_keys=False)


def launch(machine: str, file: str) -> list[str]:
    """The command that rents a machine. R1LAB_SEATS, its students' tokens, is in the environment,
    not among the words, which others on this computer may read."""
    return ["sky", "launch", "-y", "-d", "-c", machine, "--secret", "R1LAB_SEATS", file]


def down(machines: Sequence[str]) -> list[str]:
    return ["sky", "down", "-y", *machines]


def tunnel(machine: str, seat: int) -> str:
    """What a student types, with the machine's address from `sky status --ip MACHINE`."""
    return f"ssh -N -L 8888:127.0.0.1:{FIRST_PORT + seat} USER@$(sky status --ip {machine})"


# --- names, keys, tokens --------------------------------------------------------------------------


def students(number: int, keys: str | Path | None = None) -> dict[str, str | None]:
    """{name: public key}: of the files NAME.pub in a folder, or student-01 to NUMBER without keys.
    Raises R1LabError for what is no key, and for other than NUMBER of them."""
    if keys is None:
        return {f"student-{n:02d}": None for n in range(1, number + 1)}
    found: dict[str, str | None] = {}
    for path in sorted(Path(keys).expanduser().glob("*.pub")):
        key = path.read_text(encoding="utf-8", errors="replace").strip()
        if not KEY.fullmatch(key):
            raise R1LabError(f"{path.name} is no public key of ssh, in one line")
        found[path.stem.lower()] = key
    if len(found) != number:
        raise R1LabError(f"{keys} has {len(found)} keys (NAME.pub), for {number} students")
    return found


def open_book(found: Plan, keys: dict[str, str | None], out: Path) -> dict[str, str]:
    """Give every student a token, in out/tokens.csv for the instructor alone; returns R1LAB_SEATS
    of each machine. What was there is kept: a second `up` gives the same tokens. Raises R1LabError
    for a folder with files of these names that are no class's."""
    kept = read_json(out / "class.json") or {}
    if "tokens" not in kept and (there := [one for one in FILES if (out / one).exists()]):
        raise R1LabError(f"{out / there[0]} is not of a class: name another folder with --out")
    tokens = kept.get("tokens", {})
    tokens = {name: tokens.get(name) or secrets.token_urlsafe(24) for name in found.names}
    out.mkdir(parents=True, exist_ok=True)
    book = out / "class.json"
    book.touch(mode=0o600)
    write_json(book, {"machines": list(found.machines), "tokens": tokens})
    lines = ["student,machine,port,token,tunnel"]
    seats = {}
    for machine, names in found.machines.items():
        rows = [
            {"name": name, "token": tokens[name], "key": keys.get(name), "port": FIRST_PORT + i}
            for i, name in enumerate(names)
        ]
        seats[machine] = json.dumps(rows)
        lines += [f"{row['name']},{machine},{row['port']},{row['token']},"
                  f"{tunnel(machine, row['port'] - FIRST_PORT)}" for row in rows]  # fmt: skip
    table = atomic_write_text(out / "tokens.csv", "\n".join(lines) + "\n")
    for path in (table, book):
        path.chmod(0o600)
    return seats

"""Minutes and dollars: what a run will cost, what it has cost, and when it must stop.

A cost is a rental price times hours: the paper's 147,000 hours of H800s at $2 make $294,000 (arXiv
2501.12948, the supplement's table of training costs). For a run of minutes:

    before    `estimate`: from the seconds of a warm-up step, a range, because completions grow
    during    `Meter`: tokens, minutes and dollars so far, and expected; `Live` prints both
    limit     `Budget`: words when the time or the money is used up

`data/prices.json` has list prices with dates and sources; `dollars_per_hour` is for your own.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.std import tqdm

from r1lab.basics.errors import R1LabError
from r1lab.basics.files import data_dir


@dataclass(frozen=True)
class Price:
    """What renting one GPU costs by its provider's list, on the day it was read."""

    device: str  # "H100 SXM"
    memory_gb: int
    provider: str
    product: str
    dollars_per_hour: float  # of one GPU, on demand
    gpus_at_least: int  # sold in machines of this many
    read: str  # YYYY-MM-DD
    source: str  # the provider's page
    read_through: str = ""  # a dated transcript of that page, where we read it there
    note: str = ""

    def words(self) -> str:
        return (
            f"${self.dollars_per_hour:.2f} an hour for one {self.device} ({self.provider}"
            f"{', ' + self.product if self.product else ''}; list price of {self.read})"
        )


def prices(path: Path | None = None) -> list[Price]:
    """All prices of data/prices.json, cheapest first. Raises R1LabError when it cannot be read."""
    path = data_dir() / "prices.json" if path is None else path
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["prices"]
        return sorted((Price(**row) for row in rows), key=lambda p: p.dollars_per_hour)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise R1LabError(f"cannot read the prices in {path} ({error}): restore data/") from error


LESSER = {"mig", "d", "laptop"}  # words in the name of a part of a GPU, or of a lesser one


def price_of(device: str, *, known: Sequence[Price] | None = None) -> Price | None:
    """The cheapest list price of a single GPU by its driver's name ("NVIDIA H100 80GB HBM3", which
    is an SXM module). None where the table has no such GPU of that memory size, and for LESSER."""
    name = device.lower().replace("nvidia", " ")
    if "hbm3" in name and "h100" in name and not any(w in name for w in ("pcie", "nvl")):
        name += " sxm"
    words = set(name.replace("-", " ").replace("_", " ").split())
    words |= {"sxm" for word in words if word.startswith("sxm")}
    size = next((word for word in words if word[:-2].isdigit() and word.endswith("gb")), None)
    offers = [
        offer
        for offer in (prices() if known is None else known)
        if offer.gpus_at_least == 1 and set(offer.device.lower().split()) <= words
        if size in (None, f"{offer.memory_gb}gb") and not words & LESSER
    ]
    return min(offers, key=lambda p: p.dollars_per_hour, default=None)


def rent_here() -> tuple[Price, int] | None:
    """The list price of this machine's GPU, and the number of GPUs: of this machine, times the
    machines that were launched together. None without a GPU that the table has."""
    if not torch.cuda.is_available():
        return None
    price = price_of(torch.cuda.get_device_name(0))
    world, here = (int(os.environ.get(name, 1)) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    gpus = torch.cuda.device_count() * max(1, world // max(1, here))
    return None if price is None else (price, gpus)


def price_here() -> float | None:
    """Dollars an hour of all GPUs of `rent_here` together, or None."""
    return (rent := rent_here()) and rent[0].dollars_per_hour * rent[1]


def price_words() -> str | None:
    """The price that is used where the user gave none, or None."""
    if (rent := rent_here()) is None:
        return None
    price, gpus = rent
    many = f" times {gpus} GPUs" if gpus > 1 else ""
    return f"dollars at {price.words()}{many}; --dollars-per-hour N takes yours, for all together"


def table(known: Sequence[Price] | None = None) -> list[dict[str, Any]]:
    """Rows for a pandas.DataFrame."""
    return [
        {
            "GPU": f"{p.device}, {p.memory_gb} GB",
            "dollars an hour": p.dollars_per_hour,
            "provider": f"{p.provider}: {p.product}",
            "list price of": p.read,
            "source": p.source,
        }
        for p in (prices() if known is None else known)
    ]


def dollars(seconds: float, dollars_per_hour: float, gpus: int = 1) -> float:
    return seconds / 3600 * dollars_per_hour * gpus


def clock(seconds: float) -> str:
    """41 s, 12.5 min, 3.2 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def money(amount: float) -> str:
    """$0.003, $0.42, $12.30, $294,000."""
    return f"${amount:.3f}" if amount < 0.1 else f"${amount:,.{2 if amount < 1000 else 0}f}"


# --- the limit -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """The most that a run may take; None: no limit. dollars_per_hour: of all GPUs together; where
    max_dollars needs it, this machine's by the price table.

    Raises R1LabError for numbers that are not above 0, and for max_dollars without a price.
    """

    max_minutes: float | None = None
    max_dollars: float | None = None
    dollars_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (isinstance(value, int | float) and 0 < value < math.inf):
                raise R1LabError(f"--{name.replace('_', '-')} must be above 0, not {value!r}")
        if self.max_dollars is not None and self.dollars_per_hour is None:
            object.__setattr__(self, "dollars_per_hour", price_here())
            if self.dollars_per_hour is None:
                raise R1LabError(
                    "--max-dollars needs a price, and there is none for this machine: add "
                    "--dollars-per-hour (data/prices.json lists some)"
                )

    @property
    def limits(self) -> dict[str, float]:
        """Seconds that each limit allows, by its words."""
        found = {}
        if self.max_minutes is not None:
            found[f"{self.max_minutes:g} minutes"] = 60 * self.max_minutes
        if self.max_dollars is not None:
            found[f"${self.max_dollars:g}"] = 3600 * self.max_dollars / self.dollars_per_hour
        return found

    @property
    def seconds(self) -> float:
        """What the tighter limit allows; infinite without limits."""
        return min(self.limits.values(), default=math.inf)

    def exceeded(self, seconds: float, next_step: float = 0.0) -> str | None:
        """Words when `seconds` of work, and a next step of `next_step`, are too much; else None."""
        for words, limit in self.limits.items():
            if seconds + next_step >= limit:
                soon = " (the next step would pass it)" if seconds < self.seconds else ""
                return f"the budget of {words} is used up{soon}"
        return None


# --- while it runs -------------------------------------------------------------------------------


@dataclass
class Meter:
    """Tokens, time and money of a run, from each step's metrics. A resumed run begins with the
    metrics of the steps before (`add` them). What is to come is extrapolated from the last
    `window` steps."""

    steps: int  # of the whole run
    dollars_per_hour: float | None = None  # of all GPUs together
    budget: Budget | None = None
    window: int = 5
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # metrics by step
    spent: float = 0.0  # seconds, where the metrics have it

    def __post_init__(self) -> None:
        if self.dollars_per_hour is None and self.budget is not None:
            self.dollars_per_hour = self.budget.dollars_per_hour

    def add(self, metrics: dict[str, Any]) -> None:
        """One step: its `tokens`, `seconds`, and `step`. A step that is repeated after a resumption
        replaces itself and what came after it; their time stays spent."""
        step = int(metrics.get("step", self.done))
        self.spent = max(self.spent, metrics.get("spent_seconds", 0.0))
        self.rows = {n: row for n, row in self.rows.items() if n < step} | {step: metrics}

    @property
    def done(self) -> int:
        return max(self.rows, default=-1) + 1

    @property
    def tokens(self) -> int:
        return sum(int(row["tokens"]) for row in self.rows.values())

    @property
    def seconds(self) -> float:
        """Of the steps, and between them where the metrics have it."""
        return max(self.spent, sum(row["seconds"] for row in self.rows.values()))

    def __call__(self, step: int, metrics: dict[str, Any], batch: Any = None) -> None:
        """`add`, as a callback of `train`."""
        self.add({**metrics, "step": step})

    @property
    def expected_seconds(self) -> float:
        """Of the whole run, or until the budget ends it."""
        recent = [self.rows[n]["seconds"] for n in sorted(self.rows)[-self.window :]]
        if not recent:
            return math.nan
        rest = max(0, self.steps - self.done) * sum(recent) / len(recent)
        limit = self.budget.seconds if self.budget else math.inf
        return min(self.seconds + rest, max(limit, self.seconds))

    def words(self) -> str:
        """One line: so far, and expected."""

        def both(show) -> str:
            return show(self.seconds) + (f" of about {show(expected)}" if self.rows else "")

        expected, price = self.expected_seconds, self.dollars_per_hour
        line = f"step {self.done} of {self.steps}, {self.tokens:,} tokens, {both(clock)}"
        if price is not None:
            line += f", {both(lambda seconds: money(dollars(seconds, price)))}"
        return line


class Live(Meter):
    """A Meter that prints, above the progress bar, an estimate after its second step (the first
    includes imports), then ten times in a run what it has cost. Without dollars_per_hour, and
    without a price in the table, time alone. earlier: metrics of the steps before a resumption."""

    def __init__(self, config: Any, budget=None, dollars_per_hour=None, earlier: Sequence = ()):
        super().__init__(config.steps, dollars_per_hour, budget)
        self.config, self.calls = config, 0
        if self.dollars_per_hour is None:
            self.dollars_per_hour = price_here()
        for metrics in earlier:
            self.add(metrics)

    def __call__(self, step: int, metrics: dict[str, Any], batch: Any = None) -> None:
        super().__call__(step, metrics)
        self.calls += 1
        if self.calls == 2 and step + 1 < self.steps:
            how = {"mean_length": metrics["length"], "done": step + 1}
            how["dollars_per_hour"] = self.dollars_per_hour
            tqdm.write(estimate(metrics["seconds"], self.config, **how).words())
        elif (step + 1) % max(1, self.steps // 10) == 0:
            tqdm.write(self.words())


# --- before it starts ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Minutes and dollars of a whole run, as a range, and how they were computed."""

    minutes: tuple[float, float]
    dollars: tuple[float, float] | None
    how: str

    def words(self) -> str:
        line = "time: " + " to ".join(clock(60 * minutes) for minutes in self.minutes)
        if self.dollars:
            line += "; cost: " + " to ".join(map(money, self.dollars))
        return f"{line} ({self.how})"


def estimate(
    warm_up_seconds: float,
    config: Any,
    *,
    mean_length: float | None = None,
    dollars_per_hour: float | None = None,
    gpus: int = 1,
    done: int = 0,
    growth: float = 3.0,
) -> Estimate:
    """What the remaining steps will take, from one that was measured (not the first, which
    includes imports). mean_length: of its completions, in tokens.

    Low: every step takes as long as this one. High: seconds are in proportion to tokens, and
    lengths grow linearly to `growth` times (in the tiny world about 3), but not above
    max_new_tokens. Raises R1LabError for impossible numbers.
    """
    if not 0 < warm_up_seconds < math.inf:
        raise R1LabError(f"a warm-up step cannot have taken {warm_up_seconds} seconds")
    if growth < 1 or gpus < 1 or not 0 <= done <= config.steps:
        raise R1LabError("estimate: growth and gpus must be at least 1, done between 0 and steps")
    if mean_length is not None and mean_length <= 0:
        raise R1LabError(f"completions cannot have a mean length of {mean_length} tokens")
    most = max(1.0, min(growth, config.max_new_tokens / mean_length)) if mean_length else growth
    left = config.steps - done
    low = left * warm_up_seconds
    high = low * (1 + most) / 2  # the mean of a line from 1 to `most`
    cost = dollars_per_hour and tuple(dollars(s, dollars_per_hour, gpus) for s in (low, high))
    how = (
        f"{left} steps like the measured one of {warm_up_seconds:.3g} s, up to completions that "
        f"grow steadily to {most:.3g} times their length; training tends to make them longer"
    )
    return Estimate((low / 60, high / 60), cost, how)

"""Accuracy and cost as others measured them, each point with its source and date.

**HAL** (the Holistic Agent Leaderboard of Princeton) runs ScienceAgentBench's 102 tasks once with
the benchmark's self-debug agent, and adds up API dollars. On it DeepSeek-R1 is dominated: o4-mini
(low) is better for a fifth of the price. HAL counts R1 at Together's $3/$7 a million tokens; at
DeepSeek's own price of that year ($0.55/$2.19) the same tokens cost between $3.34 and $5.71.
`repriced` computes that interval: HAL's table has no token counts, so how the dollars divide into
prompt and completion is not known, and the two ends are all of one and all of the other.

**The paper** (arXiv 2501.12948v2, appendix E.4) states accuracy against tokens, without dollars.
"""

import math
from dataclasses import dataclass

from r1lab.basics.errors import R1LabError
from r1lab.evals.cost import Point
from r1lab.evals.tariff import TARIFFS, Tariff
from r1lab.statistics import Estimate, wilson


@dataclass(frozen=True)
class Published:
    """A point as it was published. dollars, tokens: of one problem; NaN where not stated."""

    label: str
    how: str  # agent, samples
    accuracy: float
    problems: int  # for the interval of one run: Wilson's
    source: str
    date: str  # on which it was read, or of the publication
    dollars: float = math.nan
    tokens: float = math.nan  # of the completion
    tariff: Tariff | None = None  # by which the dollars were counted, where that is known

    def repriced(self, new: Tariff) -> Estimate:
        """Its dollars under another price list. From tokens, where they are stated: exact but for
        the prompt, which is not stated. From dollars and their tariff: an interval, whose ends are
        a bill of nothing but prompts and one of nothing but completions; its value, their middle,
        is no measurement. Raises R1LabError where neither is known."""
        if not math.isnan(self.tokens):
            value = new.dollars(0, self.tokens)
            return Estimate(value, value, value)
        if math.isnan(self.dollars) or self.tariff is None:
            raise R1LabError(f"{self.label}: neither its tokens nor its price list are known")
        if not (self.tariff.input and self.tariff.output):
            raise R1LabError(f"{self.label}: a price list of zeros says nothing about tokens")
        ratios = new.input / self.tariff.input, new.output / self.tariff.output
        low, high = (self.dollars * ratio for ratio in sorted(ratios))
        return Estimate((low + high) / 2, low, high)

    def point(self, new: Tariff | None = None) -> Point:
        """For `cost.pareto` and `show.accuracy_cost`; with `new` at that price. Its accuracy has
        Wilson's interval for a single run."""
        right = round(self.accuracy * self.problems)
        interval = Estimate(self.accuracy, *wilson(right, self.problems))
        own = Estimate(self.dollars, self.dollars, self.dollars)
        cost = own if new is None else self.repriced(new)
        tokens = Estimate(self.tokens, self.tokens, self.tokens)
        said = f"{self.how}; {self.source}, {self.date}"
        label = self.label if new is None else f"{self.label} at ${new.input:g}/${new.output:g}"
        return Point(label, None, 1, interval, tokens, cost, note=said)


_HAL = "hal.cs.princeton.edu/scienceagentbench"
_AGENT = "ScienceAgentBench, self-debug, one run"


def _hal(label: str, correct: int, dollars: float, tariff: Tariff | None = None) -> Published:
    """correct: of 102 tasks; dollars: for all of them."""
    how = {"dollars": dollars / 102, "tariff": tariff}
    return Published(label, _AGENT, correct / 102, 102, _HAL, "captured 2026-04-21", **how)


HAL: tuple[Published, ...] = (
    _hal("o3 (medium)", 34, 11.69),
    _hal("Claude 3.7 Sonnet (high)", 31, 11.74),
    _hal("GPT-5 (medium)", 31, 18.26),
    _hal("o4-mini (low)", 28, 3.95),
    _hal("o4-mini (high)", 28, 11.18),
    _hal("Claude Opus 4.1", 28, 33.37),
    _hal("Claude Opus 4.1 (high)", 27, 33.75),
    _hal("GPT-4.1", 25, 7.42),
    _hal("DeepSeek-R1", 24, 18.24, TARIFFS["together-r1"]),
)
"""33.33, 30.39, 30.39, 27.45, 27.45, 27.45, 26.47, 24.51 and 23.53 % of 102 tasks."""

R1_ON_HAL = HAL[-1]

HAL_AGENTS = {
    "source": f"{_HAL}, captured 2026-04-21: tasks of 102 solved in one run",
    "agents": ("self-debug", "HAL's generalist"),
    "rows": {
        "o3 (medium)": (34, 10),
        "o4-mini (low)": (28, 20),
        "o4-mini (high)": (28, 22),
        "Claude 3.7 Sonnet (high)": (31, 18),
        "GPT-4.1": (25, 7),
        "DeepSeek-V3": (16, 1),
    },
}
"""The same models, the same tasks, the same page, with another agent around them. R1 has a row with
self-debug alone."""

BENCHMARK_AGENTS = {
    "source": "Chen et al., arXiv 2410.05080, table 3: best of three runs, per cent of 102 tasks, "
    "without the experts' knowledge (read through github.com/dearhannah/habor-mix-analyzer)",
    "agents": ("direct", "OpenHands", "self-debug"),
    "rows": {
        "Llama-3.1-70B": (5.9, 6.9, 13.7),
        "Llama-3.1-405B": (3.9, 5.9, 14.7),
        "Mistral-Large-2": (13.7, 9.8, 23.5),
        "GPT-4o": (11.8, 19.6, 22.6),
        "Claude-3.5-Sonnet": (17.7, 21.6, 32.4),
        "o1-preview": (34.3, math.nan, 42.2),
    },
}
"""By the benchmark's authors. Their dollars were not to be found."""

_E4 = "arXiv 2501.12948v2, appendix E.4"
_CONTESTS = "366 problems of contests of 2024, pass@1"
PAPER_TOKENS: tuple[Published, ...] = (
    Published("DeepSeek-R1", _CONTESTS, 0.618, 366, _E4, "2025-09", tokens=8_793),
    Published("GPT-4o (0513)", _CONTESTS, 0.247, 366, _E4, "2025-09", tokens=711),
)
"""Thinking tokens of R1, output tokens of GPT-4o, means over the problems. R1 writes fewer than
7,000 on easy problems and more than 18,000 on the hardest."""

_FIG_1 = "arXiv 2501.12948v2, section 2.3 and figure 1a"
PAPER_VOTES = {
    "source": "AIME 2024: pass@1, the majority vote, of how many samples, and where it stands",
    "rows": {
        "DeepSeek-R1-Zero": (0.779, 0.867, 16, f"{_FIG_1} (v1: 71.0 %, and 86.7 % of 64)"),
        "DeepSeek-R1": (0.798, 0.867, 64, _E4),
        "GPT-4o (0513)": (0.093, 0.134, 64, _E4),
    },
}
"""What asking more often buys: of models that think, and of one that does not. 86.7 % stands there
for two models: R1-Zero with 16 votes, R1 with 64. (E.4 gives the 64 for GPT-4o, and for R1 beside
its pass@64 of 90.0 %.)"""

"""What tokens cost: dollars a million, of the prompt (input) and of the completion (output).

A list price holds on its day. `TARIFFS` has those that this project could source; any other is
given as "IN/OUT": `--tariff 0.55/2.19`.
"""

import math
from dataclasses import dataclass

from r1lab.basics.errors import R1LabError, did_you_mean


@dataclass(frozen=True)
class Tariff:
    """Dollars for a million tokens. Raises R1LabError for what is no price."""

    input: float
    output: float
    name: str = ""
    date: str = ""  # YYYY-MM of the list price, "" for the user's own
    source: str = ""

    def __post_init__(self) -> None:
        for value in (self.input, self.output):
            if not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise R1LabError(f"a tariff is two prices of at least 0, not {value!r}")

    def dollars(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Of one request. A reasoning model's thought is billed as completion tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def words(self) -> str:
        said = f"${self.input:g} a million prompt tokens, ${self.output:g} a million completion"
        return said + (f" tokens ({self.name}, {self.date})" if self.name else " tokens")


# What a list price was read through is named where the provider's own page was not at hand.
_HAL = "HAL, hal.cs.princeton.edu/scienceagentbench, captured 2026-04-21"
_DEEPSEEK = "api-docs.deepseek.com/quick_start/pricing, read through generator-hub.com/blog/6891"
_DEEPSEEK_32 = "api-docs.deepseek.com, read through benchlm.ai/blog/posts/deepseek-api-pricing"
_OPENAI = "openai.com/api/pricing, read through deploybase.ai/articles/openai-pricing"
_LISTED = (
    Tariff(0.55, 2.19, "deepseek-r1", "2025-02", f"{_DEEPSEEK} (prompt not in the cache)"),
    Tariff(3.0, 7.0, "together-r1", "2026-04", f"Together's price as {_HAL}, counts it"),
    Tariff(0.28, 0.42, "deepseek-v3.2", "2026-04", f"{_DEEPSEEK_32} (prompt not in the cache)"),
    Tariff(2.0, 8.0, "gpt-4.1", "2026-03", _OPENAI),
    Tariff(1.25, 10.0, "gpt-5", "2026-03", _OPENAI),
    Tariff(2.0, 8.0, "o3", "2026-03", _OPENAI),
    Tariff(1.10, 4.40, "o4-mini", "2026-03", _OPENAI),
)
TARIFFS = {tariff.name: tariff for tariff in _LISTED}


def tariff_of(text: str) -> Tariff:
    """A tariff by its name in TARIFFS, or from "IN/OUT" in dollars a million tokens. Raises
    R1LabError for anything else."""
    if text in TARIFFS:
        return TARIFFS[text]
    parts = text.split("/")
    try:
        prices = [float(part.strip().lstrip("$")) for part in parts]
    except ValueError:
        prices = []
    if len(prices) != 2:
        words = "write IN/OUT in dollars a million tokens, as in 0.55/2.19, or a name"
        raise R1LabError(f"unknown tariff {text!r}: {words}{did_you_mean(text, TARIFFS)}")
    return Tariff(*prices)

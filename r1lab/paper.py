"""What the paper states (arXiv 2501.12948), each number once, with its section or table.

Sections are of v2, whose text is the Nature article's. Where v1 (January 2025) differs, v2 counts:
for AIME 2024, v1 has 71.0 % where v2 has 77.9 %.
"""

from math import nan
from typing import Any

# DeepSeek-R1-Zero during training; points: (step, value), limit: (step, tokens), ratio: growth.
PAPER: dict[str, dict[str, Any]] = {
    "accuracy": {
        "label": "DeepSeek-R1-Zero, AIME 2024",
        "points": [(0, 0.156), (10_400, 0.779)],
        "source": "section 2.3: AIME 2024 pass@1 from 15.6 % to 77.9 %; section 2.1: 10,400 steps",
    },
    "length": {
        "label": "DeepSeek-R1-Zero, training set",
        "points": [],
        "limit": [(0, 32_768), (8_200, 65_536)],
        "source": "sections 2.1 and 2.3: grows steadily, with a jump at step 8,200, where the "
        "limit went from 32,768 to 65,536 tokens; figure 1b draws it, no values are stated",
    },
    "reflection": {
        "label": "DeepSeek-R1-Zero, training set",
        "points": [],
        "ratio": (5.0, 7.0),
        "source": 'appendix C.2: their count rises 5- to 7-fold over training; "wait" is nearly '
        "absent at first, occasional in steps 4,000 to 7,000, frequent after 8,000",
    },
}

# R1-Zero in the form that `compare_bars` takes; the paper states no intervals.
PAPER_BARS: dict[str, dict[str, tuple[float, float, float]]] = {
    "paper, start": {"pass@1": (0.156, nan, nan)},
    # section 2.3: 86.7 % with self-consistency decoding (figure 1 draws cons@16)
    "paper, end": {"pass@1": (0.779, nan, nan), "cons@16": (0.867, nan, nan)},
}

# The stages of R1, per cent: pass@1 (AIME, MATH, CNMO, GPQA, LiveCodeBench), percentile of human
# competitors (Codeforces), prompt strict, length-controlled win rate, win rate (judge: GPT-4-1106).
STAGE_TABLE: dict[str, Any] = {
    "source": "Nature 645 (2025), table 2; arXiv 2501.12948v2, table 3",
    "measures": (
        *("AIME 2024", "CNMO 2024", "MATH-500", "GPQA", "LiveCodeBench", "Codeforces"),
        *("IF-Eval", "AlpacaEval 2.0", "Arena-Hard"),
    ),
    "rows": {
        "zero": (77.9, 88.1, 95.9, 75.8, 50.0, 80.4, 46.6, 24.7, 53.6),
        "dev1": (59.0, 58.0, 94.2, 66.1, 57.5, 84.5, 71.7, 50.1, 77.0),
        "dev2": (74.0, 73.9, 95.9, 70.7, 63.5, 90.5, 72.0, 55.8, 73.2),
        "dev3": (78.1, 77.3, 95.4, 71.2, 64.6, 92.1, 78.1, 62.1, 75.6),
        "r1": (79.8, 78.8, 97.3, 71.5, 65.9, 96.3, 83.3, 87.6, 92.3),
    },
}

# What R1 was trained on, by category: RL prompts (table 4), and examples of the second SFT with
# their mean length in tokens (table 5).
DATA: dict[str, dict[str, int]] = {
    "mathematics": {"prompts": 26_000, "examples": 395_285, "tokens": 6_094},
    "code": {"prompts": 17_000, "examples": 211_129, "tokens": 7_436},
    "STEM": {"prompts": 22_000, "examples": 10_124, "tokens": 4_929},
    "logic": {"prompts": 15_000, "examples": 10_395, "tokens": 2_739},
    "general": {"prompts": 66_000, "examples": 177_812, "tokens": 1_420},
}

# Qwen2.5-32B by RL alone ("rl") and distilled ("distilled"), pass@1 in per cent.
DISTILLATION: dict[str, Any] = {
    "source": "arXiv 2501.12948v2, table 16; v1, table 6 (pass@1, per cent)",
    "measures": ("AIME 2024", "MATH-500", "LiveCodeBench"),
    "rows": {"rl": (47.0, 91.6, 40.2), "distilled": (72.6, 94.3, 57.2)},
}

# Training costs: H800 hours, and dollars at $2 an hour. The base's is the news's, not the paper's.
COSTS: dict[str, Any] = {
    "source": "arXiv 2501.12948v2, table 7 (H800 hours at $2)",
    "dollars_per_hour": 2.0,
    "rows": {
        "R1-Zero": {"hours": 101_000, "dollars": 202_000},
        "SFT data": {"hours": 5_000, "dollars": 10_000},
        "R1": {"hours": 41_000, "dollars": 82_000},
    },
    "base": {"dollars": 6_000_000, "source": "Nature news, September 2025; not in the paper"},
}

# Responses labelled unsafe, per cent, by the model alone and behind risk control.
SAFETY: dict[str, Any] = {
    "source": "arXiv 2501.12948v2, appendix D.3 (judge: GPT-4o; 1,120 questions, 2,232 jailbreaks)",
    "measures": ("R1", "R1 with risk control"),
    "rows": {"unsafe, plain": (25.2, 8.5), "unsafe, in jailbreaks": (85.9, 4.3)},
}


def stated(table: dict[str, Any], name: str, measure: str | None) -> float | None:
    """A value of a table in per cent, from 0 to 1; None where the table has none."""
    if name not in table["rows"] or measure not in table["measures"]:
        return None
    return round(table["rows"][name][table["measures"].index(measure)] / 100, 4)


# The paper's value of our figure, from 0 to 1: AIME 2024 (section 2.3)
FIGURES: dict[str, float] = {
    "r1_zero/base/pass@1": 0.156,
    "r1_zero/trained/pass@1": 0.779,
    "r1_zero/trained/cons@16": 0.867,
    "r1_zero/ratio/pass@1": 0.779 / 0.156,
}

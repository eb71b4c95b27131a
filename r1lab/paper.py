"""What the paper states: numbers with their section or table."""

from __future__ import annotations

import math
from typing import Any

# What arXiv 2501.12948 states about DeepSeek-R1-Zero. Sections are of v2, whose text is the Nature
# article's; v1 of January 2025 gave 71.0 % where v2 has 77.9 %.
PAPER: dict[str, dict[str, Any]] = {
    "accuracy": {
        "label": "DeepSeek-R1-Zero, AIME 2024",
        "points": [(0, 0.156), (10_400, 0.779)],
        "unit": "share of right answers (pass@1)",
        "source": "section 2.3: AIME 2024 pass@1 from 15.6 % to 77.9 %; section 2.1: 10,400 steps",
    },
    "majority": {
        "label": "DeepSeek-R1-Zero, AIME 2024, majority vote",
        "points": [(10_400, 0.867)],
        "unit": "share of right majority votes",
        "source": "section 2.3: 86.7 % with self-consistency decoding (figure 1 draws cons@16)",
    },
    "length": {
        "label": "DeepSeek-R1-Zero, training set",
        "points": [],
        "limit": [(0, 32_768), (8_200, 65_536)],
        "unit": "tokens a response",
        "source": "sections 2.1 and 2.3: grows steadily, with a jump at step 8,200, where the "
        "limit went from 32,768 to 65,536 tokens; figure 1b draws it, no values are stated",
    },
    "reflection": {
        "label": "DeepSeek-R1-Zero, training set",
        "points": [],
        "ratio": (5.0, 7.0),
        "unit": "reflective words",
        "source": 'appendix C.2: their count rises 5- to 7-fold over training; "wait" is nearly '
        "absent at first, occasional in steps 4,000 to 7,000, frequent after 8,000",
    },
    "math_level_4": {
        "label": "DeepSeek-R1-Zero, MATH level 4",
        "points": [(0, 0.78), (10_400, 0.95)],
        "unit": "share of right answers",
        "source": "appendix C.1: from near 0.78 to 0.95",
    },
    "math_level_5": {
        "label": "DeepSeek-R1-Zero, MATH level 5",
        "points": [(0, 0.55), (10_400, 0.90)],
        "unit": "share of right answers",
        "source": "appendix C.1: from near 0.55 to 0.90",
    },
}

# The paper's figures in the form that `compare_bars` takes; it states no intervals.
PAPER_BARS: dict[str, dict[str, tuple[float, float, float]]] = {
    "paper, start": {"pass@1": (0.156, math.nan, math.nan)},
    "paper, end": {
        "pass@1": (0.779, math.nan, math.nan),
        "cons@16": (0.867, math.nan, math.nan),
    },
}

"""Of the completions that teach little every second is trained on, with twice the weight.

Where 15 of a group's 16 completions are right, each of the 15 has an advantage of 0.25, and they
are most of the tokens. The expected gradient is the same. On top of `two_updates`.
"""

from r1lab.bench import speedrun

CHANGED = (
    "two_updates, and of the completions with an advantage below 0.6 one in two, with twice the weight"
)
SMALLER: dict = {}  # smaller sizes, for a test
LITTLE = 0.6


def thin(advantages):
    """advantages (N,), changed in place."""
    little = advantages.abs() < LITTLE
    advantages[::2][little[::2]] = 0
    advantages[1::2][little[1::2]] *= 2


def train(*of):
    speedrun.read("two_updates").train(*of, change=thin, **({"steps": 22} | SMALLER))

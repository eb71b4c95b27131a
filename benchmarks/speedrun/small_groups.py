"""Groups of 8 on top of `two_updates`: more steps, of half the completions each."""

from r1lab.bench import speedrun

CHANGED = "two_updates in groups of 8 in place of 16: 36 steps of half the completions"
SMALLER: dict = {}  # smaller sizes, for a test
EIGHT = {"steps": 36, "group_size": 8, "minibatches": 2, "clip_high": 0.28}


def train(*of):
    speedrun.read("overlong").train(*of, **(EIGHT | SMALLER))

"""Two updates per rollout, clipped as in DAPO, on top of `overlong`: fewer rollouts do."""

from r1lab.bench import speedrun

CHANGED = "overlong, with two updates per rollout: 16 steps in place of 32"
SMALLER: dict = {}  # smaller sizes, for a test
TWO = {"steps": 16, "minibatches": 2, "clip_high": 0.28}


def train(*of):
    speedrun.read("overlong").train(*of, **(TWO | SMALLER))

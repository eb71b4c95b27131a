"""Updates in bfloat16, weights in float32, on top of `two_updates`; for CPUs with avx512_bf16, AMX.

Completions are still sampled in float32: a token's matrices are too small to gain.
"""

from r1lab.bench import speedrun

CHANGED = "two_updates, with the updates' arithmetic in bfloat16, 19 steps"
SMALLER: dict = {}  # smaller sizes, for a test


def train(*of):
    speedrun.read("two_updates").train(*of, precision="bf16", **({"steps": 19} | SMALLER))

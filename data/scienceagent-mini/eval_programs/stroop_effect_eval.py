# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

from benchmark.eval_programs.compare import values


def eval():
    return values("stroop_effect.json", tolerance=1e-2)

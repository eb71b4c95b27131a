# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json

import pandas as pd

trials = pd.read_csv("benchmark/datasets/stroop_effect/trials.csv")
trials = trials[(trials.correct == 1) & trials.rt_ms.between(200, 2000)]
means = trials.pivot_table(index="subject", columns="condition", values="rt_ms")
effect = means["incongruent"] - means["congruent"]
result = {
    "mean_effect_ms": float(effect.mean()),
    "t": float(effect.mean() / (effect.std(ddof=1) / len(effect) ** 0.5)),
    "subjects": len(effect),
}
json.dump(result, open("pred_results/stroop_effect.json", "w"))

# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json
import os

import pandas as pd

folder = "benchmark/datasets/evoked_potential/epochs/"
waves = []
for name in sorted(os.listdir(folder)):
    epochs = pd.read_csv(folder + name)
    base = epochs[epochs.ms < 0].groupby("trial").microvolt.mean()
    epochs["microvolt"] -= epochs.trial.map(base)
    mean = epochs.groupby(["condition", "ms"]).microvolt.mean()
    waves.append(mean["target"] - mean["standard"])
wave = sum(waves) / len(waves)

result = {
    "ms": wave.index.tolist(),
    "microvolt": wave.tolist(),
    "peak_ms": int(wave.loc[250:450].idxmax()),
}
json.dump(result, open("pred_results/evoked_potential.json", "w"))

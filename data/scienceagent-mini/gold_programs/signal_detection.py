# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

from statistics import NormalDist

import pandas as pd

z = NormalDist().inv_cdf
trials = pd.read_csv("benchmark/datasets/signal_detection/trials.csv")
rows = []
for participant, group in trials.groupby("participant"):
    yes = group.response == "yes"
    hits = ((yes & (group.signal == 1)).sum() + 0.5) / ((group.signal == 1).sum() + 1)
    false = ((yes & (group.signal == 0)).sum() + 0.5) / ((group.signal == 0).sum() + 1)
    rows.append((participant, z(hits) - z(false), -(z(hits) + z(false)) / 2))
table = pd.DataFrame(rows, columns=["participant", "d_prime", "criterion"])
table.to_csv("pred_results/signal_detection.csv", index=False)

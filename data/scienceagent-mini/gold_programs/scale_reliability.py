# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import pandas as pd

folder = "benchmark/datasets/scale_reliability/"
answers = pd.read_csv(folder + "answers.csv", index_col="person").dropna()
items = pd.read_csv(folder + "items.csv")
for item in items.loc[items.reversed == "yes", "item"]:
    answers[item] = 6 - answers[item]

k = len(items)
alpha = k / (k - 1) * (1 - answers.var(ddof=1).sum() / answers.sum(axis=1).var(ddof=1))
with open("pred_results/scale_reliability.txt", "w") as file:
    file.write(str(alpha))

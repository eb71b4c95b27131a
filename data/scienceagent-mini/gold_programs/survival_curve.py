# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json

import pandas as pd

patients = pd.read_csv("benchmark/datasets/survival_curve/patients.csv")
curves = {}
for arm, group in patients.groupby("arm"):
    survival, curve = 1.0, []
    for month in sorted(group.loc[group.died == 1, "months"].unique()):
        at_risk = (group.months >= month).sum()
        deaths = ((group.months == month) & (group.died == 1)).sum()
        survival *= 1 - deaths / at_risk
        curve.append([int(month), float(survival)])
    curves[arm] = curve
json.dump(curves, open("pred_results/survival_curve.json", "w"))

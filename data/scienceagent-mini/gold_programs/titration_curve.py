# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json

import pandas as pd

curve = pd.read_csv("benchmark/datasets/titration_curve/titration.csv")
ml = ((curve.ml + curve.ml.shift()) / 2)[1:]
derivative = (curve.ph.diff() / curve.ml.diff())[1:]
result = {
    "ml": ml.tolist(),
    "derivative": derivative.tolist(),
    "equivalence_ml": float(ml[derivative.idxmax()]),
}
json.dump(result, open("pred_results/titration_curve.json", "w"))

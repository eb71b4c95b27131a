# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json

import numpy as np

height = np.loadtxt("benchmark/datasets/slope_histogram/elevation.csv", delimiter=",")
dy, dx = np.gradient(height, 10.0)
slope = np.degrees(np.arctan(np.hypot(dx, dy)))
counts, edges = np.histogram(slope, bins=np.arange(0, 91, 5))
result = {"edges": edges.tolist(), "counts": counts.tolist()}
json.dump(result, open("pred_results/slope_histogram.json", "w"))

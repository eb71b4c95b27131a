# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json

import numpy as np

folder = "benchmark/datasets/vegetation_index/"
red = np.loadtxt(folder + "bands/red.csv", delimiter=",")
nir = np.loadtxt(folder + "bands/nir.csv", delimiter=",")
zones = np.loadtxt(folder + "zones.csv", delimiter=",").astype(int)

clear = (red != -9999) & (nir != -9999)
ndvi = (nir - red) / (nir + red)
result = {}
for zone in np.unique(zones):
    values = ndvi[clear & (zones == zone)]
    result[str(zone)] = {
        "mean_ndvi": float(values.mean()),
        "green_fraction": float((values > 0.4).mean()),
    }
json.dump(result, open("pred_results/vegetation_index.json", "w"))

# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json
import os

import numpy as np

R = 8.314462618
folder = "benchmark/datasets/activation_energy/runs/"
kelvin, rates = [], []
for name in sorted(os.listdir(folder)):
    seconds, concentration = np.loadtxt(folder + name, delimiter=",", skiprows=1).T
    kelvin.append(float(name[1:-4]))
    rates.append(-np.polyfit(seconds, np.log(concentration), 1)[0])

slope, intercept = np.polyfit(1 / np.array(kelvin), np.log(rates), 1)
result = {"Ea_kJ_per_mol": -slope * R / 1000, "ln_A": intercept}
json.dump(result, open("pred_results/activation_energy.json", "w"))

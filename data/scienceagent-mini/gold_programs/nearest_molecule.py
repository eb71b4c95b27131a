# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import numpy as np
import pandas as pd

folder = "benchmark/datasets/nearest_molecule/"
library = pd.read_csv(folder + "library.csv", dtype={"bits": str}).sort_values("name")
queries = pd.read_csv(folder + "queries.csv", dtype={"bits": str})
theirs = np.array([[bit == "1" for bit in bits] for bits in library.bits])

rows = []
for query in queries.itertuples():
    ours = np.array([bit == "1" for bit in query.bits])
    similarity = (ours & theirs).sum(axis=1) / (ours | theirs).sum(axis=1)
    best = library.iloc[similarity.argmax()]
    rows.append((query.name, best["name"], similarity.max(), best["active"]))

columns = ["query", "nearest", "similarity", "active"]
pd.DataFrame(rows, columns=columns).to_csv("pred_results/nearest_molecule.csv", index=False)

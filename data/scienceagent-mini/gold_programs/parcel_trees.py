# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json
from itertools import pairwise

import pandas as pd

folder = "benchmark/datasets/parcel_trees/"
features = json.load(open(folder + "parcels.geojson"))["features"]
trees = pd.read_csv(folder + "trees.csv")


def area(ring):
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairwise(ring))) / 2


def inside(ring, x, y):
    found = False
    for (x1, y1), (x2, y2) in pairwise(ring):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            found = not found
    return found


rows = []
for feature in features:
    ring = feature["geometry"]["coordinates"][0]
    count = sum(inside(ring, x, y) for x, y in trees[["x", "y"]].to_numpy())
    rows.append((feature["properties"]["id"], area(ring), count))
table = pd.DataFrame(rows, columns=["id", "area_m2", "trees"])
table.to_csv("pred_results/parcel_trees.csv", index=False)

# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import csv
from math import asin, cos, radians, sin, sqrt

RADIUS = 6371.0088
stations = []
for row in csv.DictReader(open("benchmark/datasets/nearest_station/stations.csv")):
    stations.append((row["name"], radians(float(row["lat"])), radians(float(row["lon"]))))


def km(a, b):
    (_, lat1, lon1), (_, lat2, lon2) = a, b
    h = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin((lon2 - lon1) / 2) ** 2
    return 2 * RADIUS * asin(sqrt(h))


rows = [("name", "nearest", "km")]
for one in stations:
    nearest = min(
        (other for other in stations if other is not one), key=lambda other: km(one, other)
    )
    rows.append((one[0], nearest[0], km(one, nearest)))
with open("pred_results/nearest_station.csv", "w", newline="") as file:
    csv.writer(file).writerows(rows)

# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import csv
import re

folder = "benchmark/datasets/molar_mass/"
masses = {row["element"]: float(row["mass"]) for row in csv.DictReader(open(folder + "masses.csv"))}


def mass(formula):
    stack = [0.0]
    for part, number in re.findall(r"([A-Z][a-z]?|\(|\))(\d*)", formula):
        if part == "(":
            stack.append(0.0)
        else:
            one = stack.pop() if part == ")" else masses[part]
            stack[-1] += one * int(number or 1)
    return stack[0]


rows = [(line.strip(), mass(line.strip())) for line in open(folder + "formulas.txt")]
with open("pred_results/molar_mass.csv", "w", newline="") as file:
    csv.writer(file).writerows([("formula", "molar_mass"), *rows])

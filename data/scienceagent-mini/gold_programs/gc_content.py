# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import csv

records, name = {}, None
for line in open("benchmark/datasets/gc_content/contigs.fasta"):
    line = line.strip()
    if line.startswith(">"):
        name = line[1:].split()[0]
        records[name] = ""
    else:
        records[name] += line.upper()

rows = []
for name, text in records.items():
    known = sum(text.count(letter) for letter in "ACGT")
    rows.append((name, len(text), (text.count("G") + text.count("C")) / known))
rows.sort(key=lambda row: (-row[2], row[0]))

with open("pred_results/gc_content.csv", "w", newline="") as file:
    csv.writer(file).writerows([("name", "length", "gc"), *rows])

# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import json
import re

STOPS = ("TAA", "TAG", "TGA")
records, name = {}, None
for line in open("benchmark/datasets/reading_frames/genes.fasta"):
    line = line.strip()
    if line.startswith(">"):
        name = line[1:].split()[0]
        records[name] = ""
    else:
        records[name] += line

found = {}
for name, text in records.items():
    best = [-1, 0]
    for match in re.finditer("ATG", text):
        start = match.start()
        for end in range(start + 3, len(text) - 2, 3):
            if text[end : end + 3] in STOPS:
                if end + 3 - start > best[1]:
                    best = [start, end + 3 - start]
                break
    found[name] = best
json.dump(found, open("pred_results/reading_frames.json", "w"))

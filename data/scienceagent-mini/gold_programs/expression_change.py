# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

import numpy as np
import pandas as pd

folder = "benchmark/datasets/expression_change/"
counts = pd.read_csv(folder + "counts/counts.csv", index_col="gene")
group = pd.read_csv(folder + "samples.csv", index_col="sample")["group"]

cpm = counts / counts.sum() * 1e6
means = {name: cpm[group.index[group == name]].mean(axis=1) for name in ("treated", "control")}
change = np.log2((means["treated"] + 1) / (means["control"] + 1))
top = change[change.abs().sort_values(ascending=False).index[:10]]
top.rename("log2_fold_change").to_csv("pred_results/expression_change.csv")

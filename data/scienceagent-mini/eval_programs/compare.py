# Test data: not for training. Canary: r1lab-scienceagent-mini 7d0c5b1e-93f4-4a86-9a55-2f6f1f0d9c3e

"""What the checkers share: the program's output against the gold result of the same name."""

import csv
import json
import math

PRED, GOLD = "pred_results/", "benchmark/eval_programs/gold_results/"


def table(name, key, tolerance):
    """CSV files: the same columns, the same rows in the same order; numbers up to the tolerance."""
    ours, gold = (list(csv.DictReader(open(folder + name))) for folder in (PRED, GOLD))
    if not ours or not set(gold[0]) <= set(ours[0]):
        return False, f"{name} must have the columns {', '.join(gold[0])}"
    if len(ours) != len(gold):
        return False, f"{len(ours)} rows in place of {len(gold)}"
    for mine, right in zip(ours, gold, strict=True):
        for column, value in right.items():
            if not close(read(mine[column]), read(value), tolerance):
                return False, f"{right[key]}: {column} is {mine[column]}, not {value}"
    return True, f"{len(gold)} rows are right"


def values(name, tolerance):
    """JSON files, or a text with one number: the same values, numbers up to the tolerance."""
    ours, gold = (json.load(open(folder + name)) for folder in (PRED, GOLD))
    if close(ours, gold, tolerance):
        return True, "the values are right"
    return False, f"not the gold values: {json.dumps(ours)[:200]}"


def close(ours, gold, tolerance):
    """Equal, in lists and objects too; a number may differ by the tolerance, absolute or relative:
    the larger of the two."""
    if isinstance(gold, dict):
        same = isinstance(ours, dict) and ours.keys() == gold.keys()
        return same and all(close(ours[k], gold[k], tolerance) for k in gold)
    if isinstance(gold, list):
        same = isinstance(ours, list) and len(ours) == len(gold)
        return same and all(close(a, b, tolerance) for a, b in zip(ours, gold, strict=True))
    if isinstance(gold, (int, float)) and isinstance(ours, (int, float)):
        return math.isclose(ours, gold, rel_tol=tolerance, abs_tol=tolerance)
    return ours == gold


def read(text):
    """A cell of a table: a number where it is one."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return text

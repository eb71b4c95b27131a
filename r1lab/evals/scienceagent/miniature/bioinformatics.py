"""Bioinformatics: sequences, expression, reading frames, survival."""

import math
import random

from r1lab.evals.scienceagent.miniature.made import Made, table

DOMAIN = "Bioinformatics"


def sequence(rng: random.Random, length: int, gc: float = 0.5) -> str:
    """A random DNA sequence."""
    return "".join(rng.choices("GCAT", (gc, gc, 1 - gc, 1 - gc), k=length))


def fasta(records: dict[str, str]) -> str:
    """Records in FASTA, 60 letters a line."""
    lines = []
    for name, text in records.items():
        lines += [f">{name} synthetic", *(text[k : k + 60] for k in range(0, len(text), 60))]
    return "\n".join(lines) + "\n"


def gc_files(rng: random.Random) -> dict[str, str]:
    records = {}
    for k in range(40):
        text = sequence(rng, rng.randint(80, 400), rng.uniform(0.3, 0.7))
        if k % 5 == 0:  # what sequencing could not tell
            text = "".join("N" if rng.random() < 0.1 else letter for letter in text)
        records[f"contig_{k:02d}"] = text.lower() if k % 7 == 0 else text
    return {"contigs.fasta": fasta(records)}


def expression_files(rng: random.Random) -> dict[str, str]:
    samples = [f"s{k}" for k in range(1, 9)]
    groups = dict(zip(samples, ["control", "treated"] * 4, strict=True))
    depth = {name: rng.uniform(0.5, 2.0) for name in samples}
    rows = []
    for k in range(120):
        level, fold = rng.uniform(2, 8), rng.choice((0, 0, 0, 1.5, -1.5)) if k < 60 else 0
        means = [
            depth[name] * math.exp(level) * 2 ** (fold * (groups[name] == "treated"))
            for name in samples
        ]
        rows.append([f"gene_{k:03d}", *(max(0, round(rng.gauss(m, m**0.5))) for m in means)])
    counts = table("gene," + ",".join(samples), rows)
    return {"counts/counts.csv": counts, "samples.csv": table("sample,group", groups.items())}


def orf_files(rng: random.Random) -> dict[str, str]:
    return {"genes.fasta": fasta({f"seq_{k:02d}": sequence(rng, 600, 0.45) for k in range(20)})}


def survival_files(rng: random.Random) -> dict[str, str]:
    rows = []
    for k in range(60):
        arm = "AB"[k % 2]
        time, end = rng.expovariate(1 / (20 if arm == "A" else 35)), rng.uniform(10, 60)
        rows.append((f"p{k:02d}", arm, math.ceil(min(time, end)), int(time <= end)))
    return {"patients.csv": table("patient,arm,months,died", rows)}


TASKS = (
    Made(
        "gc_content", DOMAIN, "Feature Engineering",
        "For every sequence in contigs.fasta compute its length and its GC content, the fraction "
        "of G and C among the letters A, C, G and T, in either case; N counts for the length "
        "alone. Save a CSV file with the columns name, length, gc, sorted by gc from high to low, "
        "then by name, as {output}. The name is the header up to the first space.",
        "Contigs with many N have a GC content that is too low if N is counted as a letter.",
        ".csv", gc_files,
    ),
    Made(
        "expression_change", DOMAIN, "Statistical Analysis",
        "counts/counts.csv holds read counts of genes (rows) in samples (columns), samples.csv the "
        "group of each sample. Normalise every sample to counts per million (CPM). For every gene "
        "compute log2 of (mean CPM of treated + 1) / (mean CPM of control + 1). Save the ten genes "
        "with the largest absolute value, largest first, as a CSV file with the columns gene, "
        "log2_fold_change: {output}.",
        "Samples differ in sequencing depth, so raw counts cannot be compared between them.",
        ".csv", expression_files,
    ),
    Made(
        "reading_frames", DOMAIN, "Feature Engineering",
        "For every sequence in genes.fasta find the longest open reading frame in the three "
        "forward frames: from an ATG to the first stop codon (TAA, TAG, TGA) in its frame, with "
        "the stop codon. Of equally long ones take the one that starts first. Save a JSON object "
        "that maps each name to [start, length], with the start counted from 0 and the length in "
        "bases, or to [-1, 0] where there is none: {output}.",
        "An ATG without a stop codon behind it in its frame opens no reading frame.",
        ".json", orf_files,
    ),
    Made(
        "survival_curve", DOMAIN, "Data Visualization",
        "Estimate the survival of the patients of patients.csv by the Kaplan-Meier estimator, for "
        "each arm: died is 1 for a death at `months`, 0 for a patient who was lost to follow-up "
        "then. Save the data of the figure and no picture: a JSON object that maps A and B to a "
        "list of [months, survival] for every month with a death, in order: {output}.",
        "A patient who is lost in a month with a death is still at risk in it.",
        ".json", survival_files, figure=True,
    ),
)  # fmt: skip

"""Computational chemistry: formulas, rates, fingerprints, titration."""

import math
import random

from r1lab.evals.scienceagent.miniature.made import Made, table

DOMAIN = "Computational Chemistry"
MASSES = {
    "H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.99, "Mg": 24.305, "P": 30.974,
    "S": 32.06, "Cl": 35.45, "K": 39.098, "Ca": 40.078, "Fe": 55.845, "Cu": 63.546,
}  # fmt: skip
FORMULAS = (
    "H2O CO2 C6H12O6 NaCl Ca(OH)2 Mg(NO3)2 Fe2(SO4)3 Cu(NH3)4SO4 (NH4)2SO4 Ca3(PO4)2 C8H10N4O2 "
    "KH2PO4 Fe(C5H5)2 C2H5OH Na2CO3 Cu(C2H3O2)2 Ca(CH3(CO)O)2 (CH3)3N C60"
).split()


def mass_files(rng: random.Random) -> dict[str, str]:
    formulas = list(FORMULAS)
    rng.shuffle(formulas)
    masses = table("element,mass", MASSES.items())
    return {"formulas.txt": "\n".join(formulas) + "\n", "masses.csv": masses}


def rate_files(rng: random.Random) -> dict[str, str]:
    files = {}
    for kelvin in (290, 300, 310, 320, 330):
        rate = math.exp(16.0 - 55_000 / (8.314462618 * kelvin))
        rows = []
        for k in range(25):
            time = 4 * k
            value = 0.8 * math.exp(-rate * time) * math.exp(rng.gauss(0, 0.01))
            rows.append((time, round(value, 6)))
        files[f"runs/T{kelvin}.csv"] = table("seconds,concentration", rows)
    return files


def fingerprint_files(rng: random.Random) -> dict[str, str]:
    kinds = [[rng.random() < 0.3 for _ in range(64)] for _ in range(6)]

    def bits(kind: list[bool]) -> str:
        return "".join("01"[bit != (rng.random() < 0.1)] for bit in kind)

    library = [(f"mol_{k:03d}", bits(rng.choice(kinds)), rng.randint(0, 1)) for k in range(80)]
    queries = [(f"query_{k:02d}", bits(rng.choice(kinds))) for k in range(15)]
    known = table("name,bits,active", library)
    return {"library.csv": known, "queries.csv": table("name,bits", queries)}


def titration_files(rng: random.Random) -> dict[str, str]:
    rows, acid, volume, base = [], 0.1, 25.0, 0.1137
    for k in range(121):
        added = 0.3 * k
        left, extra = acid * volume - base * added, base * added - acid * volume
        total = volume + added
        if left > 1e-9 and added:
            ph = 4.76 + math.log10(max(base * added, 1e-6) / left)
        elif extra > 1e-9:
            ph = 14 + math.log10(extra / total)
        else:
            ph = 2.88
        rows.append((round(added, 2), round(ph + rng.gauss(0, 0.01), 3)))
    return {"titration.csv": table("ml,ph", rows)}


TASKS = (
    Made(
        "molar_mass", DOMAIN, "Feature Engineering",
        "Compute the molar mass of every formula in formulas.txt from the atomic masses in "
        "masses.csv. Formulas have parentheses, nested ones too, as in Ca(CH3(CO)O)2. Save a CSV "
        "file with the columns formula, molar_mass, in the order of the file: {output}.",
        "The number behind a parenthesis multiplies all that is inside it.",
        ".csv", mass_files,
    ),
    Made(
        "activation_energy", DOMAIN, "Statistical Analysis",
        "Every file runs/T<kelvin>.csv follows the concentration of a reactant over time at one "
        "temperature. The reaction is of first order. Fit its rate constant k at each temperature "
        "by linear regression of ln(concentration) on time, then the Arrhenius equation by linear "
        "regression of ln(k) on 1/T, with R = 8.314462618 J/(mol K). Save a JSON object with "
        "Ea_kJ_per_mol and ln_A: {output}.",
        "ln(k) = ln(A) - Ea / (R T), with T in kelvin.",
        ".json", rate_files,
    ),
    Made(
        "nearest_molecule", DOMAIN, "Machine Learning",
        "library.csv and queries.csv hold binary fingerprints, texts of 0 and 1 (keep the leading "
        "zeros). For every query find the molecule of the library with the highest Tanimoto "
        "similarity; of several take the name that comes first in the alphabet. Save a CSV file "
        "with the columns query, nearest, similarity, active (that of the nearest), in the order "
        "of queries.csv: {output}.",
        "Tanimoto: bits set in both, over bits set in at least one.",
        ".csv", fingerprint_files,
    ),
    Made(
        "titration_curve", DOMAIN, "Data Visualization",
        "titration.csv holds the pH of a weak acid while a base is added. For a figure of the "
        "first derivative compute dpH/dml between neighbouring points, at the middle of their "
        "volumes. The equivalence point is the middle with the largest derivative. Save the data "
        "of the figure and no picture: a JSON object with ml and derivative, two lists, and "
        "equivalence_ml: {output}.",
        "The steepest point of the curve is the equivalence point.",
        ".json", titration_files, figure=True,
    ),
)  # fmt: skip

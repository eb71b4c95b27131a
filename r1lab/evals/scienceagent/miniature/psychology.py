"""Psychology and cognitive neuroscience: reaction times, detection, scales, evoked potentials."""

import math
import random

from r1lab.evals.scienceagent.miniature.made import Made, table

DOMAIN = "Psychology and Cognitive Neuroscience"


def stroop_files(rng: random.Random) -> dict[str, str]:
    rows = []
    for subject in range(1, 21):
        base, effect = rng.uniform(500, 700), rng.gauss(70, 25)
        for trial in range(40):
            condition = ("congruent", "incongruent")[trial % 2]
            ms = rng.gauss(base + effect * (trial % 2), 80) + rng.expovariate(1 / 60)
            ms = rng.choice((120.0, 4000.0)) if rng.random() < 0.04 else ms
            rows.append((subject, condition, round(ms, 1), int(rng.random() < 0.94)))
    return {"trials.csv": table("subject,condition,rt_ms,correct", rows)}


def detection_files(rng: random.Random) -> dict[str, str]:
    rows = []
    for subject in range(1, 16):
        ability, bias = rng.uniform(0.5, 3.5), rng.gauss(0, 0.4)
        for trial in range(50):
            signal = trial % 2
            yes = rng.gauss(ability * signal, 1) > ability / 2 + bias
            rows.append((f"P{subject:02d}", signal, "yes" if yes else "no"))
    return {"trials.csv": table("participant,signal,response", rows)}


def scale_files(rng: random.Random) -> dict[str, str]:
    rows = []
    for person in range(1, 81):
        trait, answers = rng.gauss(0, 1), []
        for item in range(1, 9):
            score = round(3 + (trait + rng.gauss(0, 0.9)) * (-1 if item in (2, 5, 7) else 1))
            answers.append("" if rng.random() < 0.01 else min(5, max(1, score)))
        rows.append((person, *answers))
    keys = [(f"q{item}", "yes" if item in (2, 5, 7) else "no") for item in range(1, 9)]
    scores = table("person," + ",".join(name for name, _ in keys), rows)
    return {"answers.csv": scores, "items.csv": table("item,reversed", keys)}


def epoch_files(rng: random.Random) -> dict[str, str]:
    files = {}
    for subject in range(1, 7):
        latency, rows = rng.uniform(320, 380), []
        for trial in range(20):
            condition, drift = ("standard", "target")[trial % 2], rng.uniform(-4, 4)
            height = 6 if trial % 2 else 2
            for ms in range(-200, 801, 20):
                wave = height * math.exp(-((ms - latency) ** 2) / 5000)
                rows.append((trial, condition, ms, round(wave + drift + rng.gauss(0, 1), 3)))
        files[f"epochs/sub{subject:02d}.csv"] = table("trial,condition,ms,microvolt", rows)
    return files


TASKS = (
    Made(
        "stroop_effect", DOMAIN, "Statistical Analysis",
        "trials.csv holds reaction times of a Stroop experiment. Keep correct trials with a "
        "reaction time from 200 to 2000 ms. The effect of a subject is the mean of incongruent "
        "minus the mean of congruent trials. Save a JSON object with mean_effect_ms, the mean over "
        "subjects, t, the one-sample t statistic of the effects against 0 (standard deviation "
        "with n - 1), and subjects, their number: {output}.",
        "Reaction times below 200 ms are anticipations, those above 2000 ms lapses.",
        ".json", stroop_files,
    ),
    Made(
        "signal_detection", DOMAIN, "Statistical Analysis",
        "trials.csv holds a detection experiment: signal is 1 where there was one. For every "
        "participant compute the sensitivity d' = z(hit rate) - z(false alarm rate) and the "
        "criterion c = -(z(hit rate) + z(false alarm rate)) / 2, with the log-linear correction: "
        "add 0.5 to the hits and false alarms and 1 to the numbers of trials. Save a CSV file with "
        "the columns participant, d_prime, criterion, sorted by participant: {output}.",
        "Without a correction rates of 0 and 1 have no finite z.",
        ".csv", detection_files,
    ),
    Made(
        "scale_reliability", DOMAIN, "Statistical Analysis",
        "answers.csv holds answers from 1 to 5 to the items of a scale; items.csv says which are "
        "reversed (score 6 minus the answer). Leave out persons with a missing answer. Compute "
        "Cronbach's alpha, with variances by n - 1, and write it as one number into a text file: "
        "{output}.",
        "alpha = k / (k - 1) * (1 - sum of item variances / variance of the sum)",
        ".txt", scale_files,
    ),
    Made(
        "evoked_potential", DOMAIN, "Data Visualization",
        "epochs/ holds one file a subject with EEG epochs. From every trial subtract its mean over "
        "ms < 0, average the trials of a condition within a subject, then the subjects. For a "
        "figure of the difference wave (target minus standard) save its data and no picture: a "
        "JSON object with ms, microvolt (two lists over all times) and peak_ms, the time of its "
        "largest value from 250 to 450 ms: {output}.",
        "The P300 is a positive wave about 300 ms after a rare target.",
        ".json", epoch_files, figure=True,
    ),
)  # fmt: skip

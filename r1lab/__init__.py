"""r1lab: DeepSeek-R1 from scratch, small enough to read and to run on two CPU cores.

This page is the map. The paper (arXiv 2501.12948) stands flat in this folder, one idea a module
in the paper's notation; read it in this order:

    paper          what the paper states: numbers, with section and table
    templates      the words around a question; parsing a completion
    languages      in which language a chain of thought is
    rewards        accuracy, format, language; how rewards are combined
    answers        what is read off one completion: right, well formed, reflective
    advantages     group-relative advantages, and other estimators
    losses         ratio, clip, KL, length normalisation
    experience     one rollout with its rewards, and its metrics
    grpo_config    the options of a run: the paper's, and those of what came after GRPO
    curriculum     only problems that the base solves sometimes
    grpo           one step of R1-Zero, and the run
    evaluate       pass@1, pass@k, cons@k
    statistics     estimates with intervals; do two of them differ?
    sft            supervised fine-tuning, the other loss
    rejection      rejection sampling: the funnel from completions to SFT data
    reward_model   reward models: Bradley-Terry and pointwise
    hacking        what happens when a reward model alone is optimised too long
    attacks        hand-made answers that a reward model prefers to correct ones
    recipe         every choice of R1 in one place
    pipeline       R1's ten stages, from base model to R1
    scorecard      every stage's model on held-out problems
    movements      what each stage changes, beside the paper's table
    distillation   a small model distilled, against RL on it at matched cost
    bill           what a model cost, by stage, beside the paper's table
    programming    graders that can be fooled; RL on tests that the policy sees, and on hidden ones
    tree_search    an attempt that the paper gave up: a search guided by a value model
    decontamination    which training texts hold an evaluation's problems: 10-grams, MinHash
    membership     has a model read these texts? canaries, style, log-probabilities
    safety         harmful requests and jailbreaks; risk control and what it costs

What it stands on, and what uses it, lives in folders. Imports go one way, from the last line of
this list to the first (a test checks it):

    basics         errors, options, files that are whole or not there, the results file
    models sandbox machine    language models; untrusted code; devices, memory, prices
    tasks sampler training    problems and their verifiers; completions; checkpoints, the loop
    world          the synthetic pre-training corpus, and how the models in data/ were made
    trl_backend    the same runs on TRL, from one device to several machines
    evals show course bench   evaluation, its cost; figures, `r1lab watch`; lessons, classes; speed
    release        checks before a model is published, its card, checksums, the hub
    cli            the command `r1lab`
"""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning: on a machine with other work on its
# cores spinning makes everything ten times slower. OpenMP reads this when torch is loaded; where
# torch came first, `machine.workers` sees to it.
if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PACKAGE = Path(__file__).resolve().parent


def _has_lessons(folder: Path) -> bool:
    return (folder / "notebooks" / "profiles.yaml").is_file()


#: Where data/ and notebooks/ are: a clone of the project, or what an installed wheel carries.
PROJECT = PACKAGE.parent if _has_lessons(PACKAGE.parent) else PACKAGE / "_project"

#: Where runs/ is and relative names start: the clone; for an installed package the folder that
#: `r1lab init` has filled and that we are in, else the current folder.
ROOT = PROJECT
if PROJECT.parent == PACKAGE:
    _here = Path.cwd()
    ROOT = next((folder for folder in (_here, *_here.parents) if _has_lessons(folder)), _here)

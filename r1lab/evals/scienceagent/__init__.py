"""ScienceAgentBench: a language model writes a program that analyses scientific data.

    benchmark   a benchmark's folder: tasks in twelve columns, data, gold programs, checkers
    miniature   one of our own: 16 tasks over the four domains, data made from a seed
    harness     runs a program in the sandbox's second mode and judges what it leaves
    agents      direct and self-debug: a model's messages to a program
    runs        every task once; the two JSONL files; resumed, stopped at a budget
    metrics     SR and VER of one run with intervals, best of three, token F1
    scripted    agents without a language model: perfect, sloppy, cheating; replays of their runs

ScienceAgentBench (Chen et al., ICLR 2025, arXiv 2410.05080, github.com/OSU-NLP-Group) is not
shipped: `open_benchmark(FOLDER)` reads a copy that a user has. For a lesson:

    mini = miniature.made()
    run = runs.replay("sloppy-1", mini)              # committed programs, through the harness
    metrics.single(run["eval"])                      # {"SR": Estimate, "VER": Estimate, ...}
"""

from r1lab.evals.scienceagent.benchmark import COLUMNS, Benchmark, Task, open_benchmark

__all__ = ["COLUMNS", "Benchmark", "Task", "open_benchmark"]

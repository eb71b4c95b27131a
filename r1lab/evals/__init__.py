"""Evaluation as a protocol, and what a right answer costs.

    tariff      dollars a million tokens: yours, or a dated list price
    endpoint    a client of OpenAI's chat/completions: errors, retries, dollars of one request
    sources     who answers: a local model, batch by batch, or an endpoint, request by request
    protocol    a run in a folder: every answer a JSON line, resumable, budgeted
    kept        what such a folder holds, and its numbers
    compare     two such folders, problem by problem
    budgets     thinking budgets of a local model (budget forcing)
    cost        tokens and dollars per solved problem, votes, the Pareto front, difficulty
    published   points of accuracy and cost that others measured, each with source and date
    scienceagent    ScienceAgentBench: programs for data analysis, run and judged

`r1lab eval` is its command. The measures themselves are `r1lab.evaluate`'s.

**lm-evaluation-harness.** What `r1lab train` and the lessons save is a Hugging Face folder, so

    pip install "lm_eval[hf]"
    lm-eval run --model hf --model_args pretrained=runs/train/model,dtype=float32 \\
        --tasks gsm8k --device cpu --batch_size 16 --output_path runs/lm-eval --log_samples

evaluates it on the tasks of that harness (CONTRIBUTING.md, recipe 6, says what was tried). They
are in plain English; the tiny models know some 300 words.
"""

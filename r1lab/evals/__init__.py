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
What training saves is a Hugging Face folder: CONTRIBUTING.md, recipe 6, evaluates it in
lm-evaluation-harness.
"""

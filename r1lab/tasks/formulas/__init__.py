"""Mathematical answers, from text to verdict; `r1lab.tasks.math_equal` asks, in a process apart.

spelling   one spelling for LaTeX, unicode and plain text
units      what stands behind a number
structure  an answer's parts: lists, tuples, intervals, equations, matrices, words
finished   does it leave work to the judge?
values     single values, exactly, by sympy
compare    is an answer equal to the gold answer?
votes      one key for all equal answers
judge      what the worker process calls
"""

"""Problems that reasoning-gym generates, offline (github.com/open-thought/reasoning-gym).

    words      the task word_problems: stories with a whole number as answer
    task       the tasks gym:NAME, one for each of the package's generators
    package    its modules, without its hundred imports
    checkers   which generator has a verifier of ours; reading, logic, algorithms, graphs, games,
               geometry and numeric are these verifiers
    scorer     the package's own scorers for the rest, in the sandbox; inside is its half there

Its scorers never see a model's text in this process: some call `eval` on it, some never end, and
many give a wrong answer partial credit.
"""

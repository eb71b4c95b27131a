"""Environments of the Environments Hub (github.com/PrimeIntellect-ai/verifiers): verifiers:NAME.

task      the tasks, their problems by the environment's own `load`
inside    its rewards, in the sandbox alone
"""

"""Evaluation as a protocol: models asked, programs run, numbers with intervals."""

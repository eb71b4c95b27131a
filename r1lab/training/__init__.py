"""What every training loop shares: checkpoints, signals, metrics, stages, diagnoses."""

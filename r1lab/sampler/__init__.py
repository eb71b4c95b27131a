"""Sampling completions and scoring them: a group shares its prompt, finished rows leave."""

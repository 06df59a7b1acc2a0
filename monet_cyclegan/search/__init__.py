"""Hyperparameter search: what may vary, the trials, and what a study leaves behind."""

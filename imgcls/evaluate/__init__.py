"""Metrics of trained models. `python -m imgcls.evaluate` evaluates a checkpoint."""

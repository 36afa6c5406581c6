"""Optimizers by name, for `config.optim.name`."""

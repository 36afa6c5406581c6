"""How fast a config runs, measured with the trainer's own parts: `python -m imgcls.bench`."""

"""Files of a run: checkpoints, metrics, events and profiles."""

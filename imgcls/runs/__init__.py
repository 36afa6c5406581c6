"""What a run leaves on disk: checkpoints, metrics, events, profiles."""

"""What a training step optimizes, one file per objective."""

"""Data pipeline: from a dataset on disk to sharded batches on the devices."""

"""Loading: examples in order, as sharded batches."""

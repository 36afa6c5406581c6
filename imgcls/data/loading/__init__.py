"""Examples in their order, as sharded batches."""

"""Transforms of examples on the host, and of batches on the device."""

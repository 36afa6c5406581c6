"""Shared foundations: config, errors, logging, registries and storage."""

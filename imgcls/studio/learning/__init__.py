"""Versions, training and suggestions of the studio."""

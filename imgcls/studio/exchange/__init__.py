"""Export of a version, and import into a data set."""

"""The table of examples that folders and label files are read into."""

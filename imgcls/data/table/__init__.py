"""The table of examples that every label format fills."""

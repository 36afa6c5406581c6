"""Export of trained models: `python -m imgcls.export`."""

"""Predictions of trained models, in Python and by `python -m imgcls.predict`."""

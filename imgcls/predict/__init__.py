"""Predictions of trained models, from Python and with `python -m imgcls.predict`."""

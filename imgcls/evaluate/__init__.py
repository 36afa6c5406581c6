"""Metrics of trained models. `python -m imgcls.evaluate` evaluates a checkpoint."""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.evaluate.__main__:evaluate")

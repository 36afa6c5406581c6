"""Suggestions before a run: `python -m imgcls.tune --config=...`.

`learning_rate` trains a few steps with a rising learning rate, `batch_size` measures the speed of
larger and larger batches.
"""

from imgcls.core.callable_package import make_callable

make_callable(__name__, "imgcls.tune.__main__:tune")

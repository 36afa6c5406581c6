"""Image classification in JAX.

In Python: `imgcls.train("digits", "/runs/mine")`, `imgcls.load("/runs/mine").predict("photos/")`.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgcls.api.run import Run
    from imgcls.api.train import train
    from imgcls.audit.__main__ import audit
    from imgcls.browse.__main__ import browse
    from imgcls.compare.__main__ import compare
    from imgcls.evaluate.__main__ import evaluate
    from imgcls.export.__main__ import export
    from imgcls.models.create import create_model
    from imgcls.models.registry import list_models
    from imgcls.report.__main__ import report
    from imgcls.sweep.__main__ import sweep
    from imgcls.tune.__main__ import tune

__all__ = (
    "audit",
    "browse",
    "compare",
    "create_model",
    "evaluate",
    "export",
    "list_models",
    "load",
    "report",
    "sweep",
    "train",
    "tune",
)
# Packages that are functions too, see `imgcls.core.callable_package`.
_CALLABLE = ("audit", "browse", "compare", "evaluate", "export", "report", "sweep", "train", "tune")

# When the process of a command began, except for the start of the interpreter.
BEGAN = time.monotonic()


def load(path: str | os.PathLike) -> Run:
    """Loads a trained model, ready to use: see `imgcls.predict.run.Run` and `imgcls.api.run.Run`.

    >>> run = imgcls.load("/runs/mine")
    >>> run.predict("cat.jpg")
    [Prediction('cat.jpg', labels=['cat'], scores={'cat': 0.973, 'dog': 0.027})]

    Args:
      path: a workdir (its newest checkpoint is loaded) or the directory of one checkpoint.

    Raises:
      ConfigError: there is no checkpoint at `path`.
    """
    # Imported here, so that `import imgcls` alone neither imports jax nor starts a device.
    from imgcls.api.run import Run

    return Run(path)


def __getattr__(name: str) -> object:
    """Imports functions when they are first used, since they import jax."""
    if name in _CALLABLE:
        return importlib.import_module(f"imgcls.{name}")
    if name == "create_model":
        from imgcls.models.create import create_model

        return create_model
    if name == "list_models":
        from imgcls.models.registry import list_models

        return list_models
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Image classification in JAX. In Python: `imgcls.load('/runs/mine').predict('photos/')`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgcls.models.create import create_model
    from imgcls.models.registry import list_models
    from imgcls.predict.run import Run

__all__ = ("create_model", "list_models", "load")

# When the process of a command began, except for the start of the interpreter.
BEGAN = time.monotonic()


def load(path: str | os.PathLike) -> Run:
    """Loads a trained model, ready to use: see `imgcls.predict.run.Run`.

    >>> run = imgcls.load("/runs/mine")
    >>> run.predict("cat.jpg")
    [Prediction('cat.jpg', labels=['cat'], scores={'cat': 0.973, 'dog': 0.027})]

    Args:
      path: a workdir (its newest checkpoint is loaded) or the directory of one checkpoint.

    Raises:
      ConfigError: there is no checkpoint at `path`.
    """
    # Imported here, so that `import imgcls` alone neither imports jax nor starts a device.
    from imgcls.predict.run import Run

    return Run(path)


def __getattr__(name: str) -> object:
    """Imports `create_model` and `list_models` when they are first used, since they import jax."""
    if name == "create_model":
        from imgcls.models.create import create_model

        return create_model
    if name == "list_models":
        from imgcls.models.registry import list_models

        return list_models
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

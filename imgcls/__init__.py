"""Image classification in JAX. In Python: `imgcls.load('/runs/mine').predict('photos/')`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgcls.predict.run import Run

# Here a command's process begins, but for the interpreter itself.
BEGAN = time.monotonic()


def load(path: str | os.PathLike) -> Run:
    """A trained model, ready to use: see `imgcls.predict.run.Run`.

    >>> run = imgcls.load("/runs/mine")
    >>> run.predict("cat.jpg")
    [Prediction('cat.jpg', labels=['cat'], scores={'cat': 0.973, 'dog': 0.027})]

    Args:
      path: a workdir (its newest checkpoint), or one checkpoint's directory.

    Raises:
      ConfigError: no checkpoint there.
    """
    # Here, so that `import imgcls` alone starts neither jax nor a device.
    from imgcls.predict.run import Run

    return Run(path)

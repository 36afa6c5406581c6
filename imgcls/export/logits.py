"""The function that is exported: uint8 pictures to logits, preprocessing included."""

from collections.abc import Callable

import jax
import numpy as np

from imgcls.data.create import create_reader
from imgcls.data.transforms import batch as batch_transforms
from imgcls.objectives.create import create_objective
from imgcls.runs.trained import Trained

Logits = Callable[[jax.Array], jax.Array]


def image_shape(trained: Trained) -> tuple[int, int, int]:
    """`(H, W, C)` of the pictures that the evaluation transform makes."""
    record = {"image": np.zeros(trained.info.image_shape, np.uint8), "label": 0}
    return create_reader(trained.config, [record], train=False).spec["image"].shape


def make_logits(trained: Trained, dtype: str | None = None) -> Logits:
    """Pictures uint8 `[b, H, W, C]` -> float32 logits `[b, K]`; the parameters are constants.

    Args:
      trained: the model.
      dtype: of the computation, in place of the model's.
    """
    config = trained.config.copy_and_resolve_references()
    config.model.dtype = dtype or config.model.dtype
    objective = create_objective(config, trained.info)
    variables = jax.tree.map(np.asarray, (trained.params, trained.model_state))

    def logits(images: jax.Array) -> jax.Array:
        x = batch_transforms.normalize(images, config.data.mean, config.data.std)
        return objective.logits(*variables, {"image": x})

    return logits

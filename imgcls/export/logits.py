"""The function that is exported: uint8 pictures to logits, preprocessing included."""

from collections.abc import Callable

import jax
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader
from imgcls.data.sources.arrays import ArraySource
from imgcls.data.transforms import batch as batch_transforms
from imgcls.objectives.create import create_objective
from imgcls.objectives.objective import Classifies
from imgcls.runs.trained import Trained

Logits = Callable[[jax.Array], jax.Array]


def image_shape(trained: Trained) -> tuple[int, int, int]:
    """`(H, W, C)` of the pictures that the evaluation transform makes."""
    image = np.zeros((1, *trained.info.image_shape), np.uint8)
    source = ArraySource(image, np.zeros(1, int), trained.info.class_names)
    height, width, channels = create_reader(trained.config, source, train=False).spec["image"].shape
    return height, width, channels


def make_logits(trained: Trained, dtype: str | None = None) -> Logits:
    """Pictures uint8 `[b, H, W, C]` -> float32 logits `[b, K]`; the parameters are constants.

    Args:
      trained: the model.
      dtype: of the computation, in place of the model's.
    """
    config = trained.config.copy_and_resolve_references()
    config.model.dtype = dtype or config.model.dtype
    objective = create_objective(config, trained.info)
    if not isinstance(objective, Classifies):
        raise ConfigError(f"config.objective.name={config.objective.name!r} has no classes")
    params = jax.tree.map(np.asarray, trained.params)
    model_state = jax.tree.map(np.asarray, trained.model_state)

    def logits(images: jax.Array) -> jax.Array:
        x = batch_transforms.normalize(images, config.data.mean, config.data.std)
        return objective.logits(params, model_state, {"image": x})

    return logits

"""The function that is exported: uint8 images to logits, with normalization."""

from collections.abc import Callable

import jax
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.data.create import create_reader
from imgcls.data.sources.arrays import ArraySource
from imgcls.data.transforms import batch as batch_transforms
from imgcls.data.transforms import spec
from imgcls.data.transforms.apply import transform_clip
from imgcls.data.transforms.transform import TRANSFORMS, ViewTransform, takes_videos
from imgcls.objectives.create import create_objective
from imgcls.objectives.objective import Classifies
from imgcls.runs.trained import Trained

# Images `[b, H, W, C]`, uint8 unless the transforms of volumes set another dtype -> logits float32
# `[b, K]`.
LogitsFunction = Callable[[jax.Array], jax.Array]


def image_shape(trained: Trained) -> tuple[int, ...]:
    """The shape of an example after the evaluation transform.

    `(H, W, C)` of images, `(D, H, W, C)` of volumes, and `(T, H, W, C)` of one clip of a video.
    """
    recipe = trained.config.data.eval_transform
    if takes_videos(recipe, "config.data.eval_transform"):
        return _clip_shape(trained.info.image_shape, recipe)
    image = np.zeros((1, *trained.info.image_shape), np.uint8)
    source = ArraySource(image, np.zeros(1, int), trained.info.class_names)
    config = trained.config.copy_and_resolve_references()
    # These zeros have the new spacing already.
    parts = config.data.eval_transform.split("|")
    config.data.eval_transform = "|".join(p for p in parts if p.split("(")[0].strip() != "resample")
    return create_reader(config, source, train=False).spec["image"].shape


def _clip_shape(shape: tuple[int, ...], recipe: str) -> tuple[int, ...]:
    """The shape of a clip `(T, H, W, C)` after the transforms of its frames."""
    transforms = spec.parse(recipe, TRANSFORMS, "config.data.eval_transform")[1:]
    # What makes crops of frames would make crops of crops here.
    transforms = [t for t in transforms if not isinstance(t, ViewTransform)]
    clip = np.zeros(shape, np.uint8)
    return transform_clip(clip, transforms, np.random.default_rng(0)).shape


def make_logits(trained: Trained, dtype: str | None = None) -> LogitsFunction:
    """Creates a function from uint8 images `[b, H, W, C]` to float32 logits `[b, K]`.

    The parameters are constants of the function.

    Args:
      trained: trained model.
      dtype: dtype of the computation; None: the model's.

    Raises:
      ConfigError: the objective has no classes.
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

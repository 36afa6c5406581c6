"""Transform types and their registries.

A transform is registered as a factory: it takes the arguments in the recipe and returns the
function to apply.

    @register_transform("invert")
    def invert(p: float = 0.5) -> Transform:
        return lambda image, rng: 255 - image if rng.random() < p else image
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.core.registry import Registry

# `(image, rng) -> image`, both uint8 `[H, W, C]`, or volumes `[D, H, W, C]` of the same dtype; all
# randomness comes from rng.
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# `(batch, rng, num_classes) -> batch`, inside jit; images are normalized, `[B, ..., C]`.
BatchTransform = Callable[[dict[str, jax.Array], jax.Array, int], dict[str, jax.Array]]

TRANSFORMS: Registry[Callable[..., Transform]] = Registry("transform", "imgcls.data.transforms")
BATCH_TRANSFORMS: Registry[Callable[..., BatchTransform]] = Registry(
    "batch transform", "imgcls.data.transforms"
)
register_transform = TRANSFORMS.register
register_batch_transform = BATCH_TRANSFORMS.register


@dataclasses.dataclass(frozen=True)
class EncodedTransform:
    """A transform that also takes an `EncodedImage`, and decodes only the part that it needs.

    Attributes:
      fn: `(image or EncodedImage, rng) -> image`.
    """

    fn: Callable[[Any, np.random.Generator], np.ndarray]

    def __call__(self, image: Any, rng: np.random.Generator) -> np.ndarray:
        return self.fn(image, rng)


@dataclasses.dataclass(frozen=True)
class VolumeTransform:
    """A transform of volumes; any other transform is one of images.

    Attributes:
      fn: `(volume, rng) -> volume`, both `[D, H, W, C]`; of the same dtype if it is uint8 or float.
    """

    fn: Transform

    def __call__(self, volume: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self.fn(volume, rng)


@dataclasses.dataclass(frozen=True)
class ValueTransform(VolumeTransform):
    """A transform of volumes that maps values of any range to 0 to 255, also as float."""


@dataclasses.dataclass(frozen=True)
class SpacingTransform(VolumeTransform):
    """A transform of volumes that depends on their spacing, and returns them with another one.

    Attributes:
      fn: `(volume, spacing) -> (volume, spacing)`.
    """

    fn: Callable[[np.ndarray, Any], Any]


def register_volume_transform(
    name: str, kind: type[VolumeTransform] = VolumeTransform
) -> Callable[[Callable], Callable[..., Transform]]:
    """Decorator that registers the factory of a transform of volumes `[D, H, W, C]`."""

    def register(factory: Callable[..., Transform]) -> Callable[..., Transform]:
        @functools.wraps(factory)
        def create(*args, **kwargs) -> VolumeTransform:
            return kind(factory(*args, **kwargs))

        return register_transform(name)(create)

    return register


def check_rank(transform: Transform, image: Any) -> None:
    """Raises a ConfigError if a transform of images gets a volume, or the reverse."""
    if isinstance(transform, VolumeTransform) == (len(image.shape) == 4):
        return
    fn = getattr(transform, "fn", transform)
    # The name of the factory, unless a private function of several factories made it.
    name = getattr(fn, "__qualname__", "_").split(".")[0]
    which = "one of the transforms" if name.startswith("_") else f"the transform {name}"
    takes, has, hint = "images [H, W, C]", "volumes [D, H, W, C]", "one whose name ends in 3d"
    if isinstance(transform, VolumeTransform):
        takes, has, hint = has, takes, "one for images"
    raise ConfigError(
        f"config.data: {which} is for {takes}, and the data has {has}: use {hint}; "
        "`python -m imgcls.list transforms` lists all"
    )

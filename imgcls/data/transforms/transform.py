"""Transform types and their registries.

A transform is registered as a factory: it takes the arguments in the recipe and returns the
function to apply.

    @register_transform("invert")
    def invert(p: float = 0.5) -> Transform:
        return lambda image, rng: 255 - image if rng.random() < p else image
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from imgcls.core.registry import Registry

# `(image, rng) -> image`, both uint8 `[H, W, C]`; all randomness comes from rng.
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

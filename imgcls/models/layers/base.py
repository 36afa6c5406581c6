"""The base class of models, and access to their inner maps for explanations."""

from collections.abc import Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError
from imgcls.models.layers.pooling import mean_of_windows

# Collection for maps and attention weights; only `imgcls.predict.explain` makes it mutable.
EXPLAIN = "explain"
# Input, and a model that takes it, by the number of spatial axes.
_LAYOUTS = {2: "images [B, H, W, C]", 3: "volumes [B, D, H, W, C] or clips [B, T, H, W, C]"}
_EXAMPLES = {2: "resnet18", 3: "resnet3d_18"}


def is_explained(module: nn.Module) -> bool:
    """Whether the caller collects maps or attention weights for an explanation."""
    return module.is_mutable_collection(EXPLAIN) and not module.is_initializing()


def tap(module: nn.Module, x: jax.Array) -> jax.Array:
    """Exposes x, the last map before pooling or the last block, as "map" in `EXPLAIN`.

    A "map" passed in by the caller is added to x: the gradient of a logit with respect to a zero
    map is the gradient with respect to x, which Grad-CAM needs.
    """
    if is_explained(module):
        if module.has_variable(EXPLAIN, "map"):
            x = x + module.get_variable(EXPLAIN, "map")
        module.put_variable(EXPLAIN, "map", x)
    return x


@runtime_checkable
class InitializesFromData(Protocol):
    """A model with variables computed from training images before the first step."""

    def init_from_data(self, images: np.ndarray) -> dict:
        """Returns a part of the variables, `{collection: {...}}`.

        Args:
          images: float32 `[N, H, W, C]`, normalized as in training.
        """
        ...


class ImageModel(nn.Module):
    """Base class of models.

    Attributes:
      num_classes: number of logits.
      in_channels: channels of the images.
      drop_rate: dropout rate, before the head unless the family's paper puts dropout elsewhere.
      remat: whether to recompute blocks in the backward pass: less memory, about a third more time.
      dtype: dtype of the computation. Parameters, pooled features and the head are float32.
      compiler_options: XLA options of the training step, by platform.
      spatial_axes: number of axes before the channels: 2 for images, 3 for volumes and clips.
      takes_length: whether the model is called with `length`, see `imgcls.models.registry`.
      inflated_patches: how a kernel of image patches becomes one over time, see
        `imgcls.models.weights.inflate.inflate_all`: "mean" or "center".
      explained_by: basis of heat maps: the gradient with respect to the map of `tap` (Grad-CAM), or
        the attention of all blocks (attention rollout).
    """

    compiler_options: ClassVar[dict[str, dict[str, str]]] = {}
    spatial_axes: ClassVar[int] = 2
    takes_length: ClassVar[bool] = False
    inflated_patches: ClassVar[Literal["mean", "center"]] = "mean"
    explained_by: ClassVar[Literal["gradient", "attention"]] = "gradient"

    num_classes: int
    in_channels: int = 3
    drop_rate: float = 0.0
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    def check_input(self, x: jax.Array, smallest: int | tuple[int, ...] = 1) -> jax.Array:
        """Checks images `[B, ..., C]` and casts them to the dtype of the computation.

        Raises:
          ConfigError: another number of axes or channels, or a side of less than `smallest`, one
            number or one for each axis.
        """
        if x.ndim - 2 != self.spatial_axes:
            raise ConfigError(
                f"{type(self).__name__}: takes {_LAYOUTS[self.spatial_axes]}, and the data has the "
                f"shape {list(x.shape)}: choose another model.name, such as "
                f"{_EXAMPLES.get(x.ndim - 2, 'resnet18')!r}"
            )
        if x.shape[-1] != self.in_channels:
            raise ConfigError(
                f"{type(self).__name__}: the images have {x.shape[-1]} channels, the model "
                f"takes {self.in_channels}: set model.in_channels or data.channels"
            )
        least = (smallest,) * self.spatial_axes if isinstance(smallest, int) else smallest
        if any(side < limit for side, limit in zip(x.shape[1:-1], least, strict=True)):
            size = "x".join(map(str, x.shape[1:-1]))
            needed = "every side must have" if isinstance(smallest, int) else "the sides must have"
            raise ConfigError(
                f"{type(self).__name__}: images of {size} pixels are too small: {needed} "
                f"{smallest if isinstance(smallest, int) else 'x'.join(map(str, least))} or more"
            )
        return x.astype(self.dtype)

    def block(self, module: type[nn.Module]) -> type[nn.Module]:
        """The class of a block called as `(x, train)`, wrapped by `nn.remat` if `remat` is set."""
        return nn.remat(module, static_argnums=(2,)) if self.remat else module

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """Dropout and the layer `head`: features `[B, D]` -> logits `[B, num_classes]`."""
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)

    def classify_map(
        self, x: jax.Array, train: bool, features: bool, window: Sequence[int] | None = None
    ) -> jax.Array:
        """Average pooling of a map `[B, ..., D]`, then `classify` unless `features`; float32.

        With a `window` the average is that of `mean_of_windows`.
        """
        x = tap(self, x).astype(jnp.float32)
        x = mean_of_windows(x, window) if window else jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
        return x if features else self.classify(x, train)

"""Layers that several model families share, and what every model has in common."""

from typing import ClassVar, Literal, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imgcls.core.errors import ConfigError

# A collection that only `imgcls.predict.explain` makes mutable: what a model shows of its inside.
EXPLAIN = "explain"


def is_explained(module: nn.Module) -> bool:
    """Whether the caller asks what the model looks at."""
    return module.is_mutable_collection(EXPLAIN) and not module.is_initializing()


def tap(module: nn.Module, x: jax.Array) -> jax.Array:
    """x, the last map before pooling: shown as "map", and moved by the "map" that is given.

    The gradient of a logit to that (of zeros) is the gradient to x, which Grad-CAM needs.
    """
    if is_explained(module):
        if module.has_variable(EXPLAIN, "map"):
            x = x + module.get_variable(EXPLAIN, "map")
        module.put_variable(EXPLAIN, "map", x)
    return x


@runtime_checkable
class InitializesFromData(Protocol):
    """A model some of whose arrays are computed from training images before the first step."""

    def init_from_data(self, images: np.ndarray) -> dict:
        """Returns variables of the model computed from normalized images `[N, H, W, C]`."""
        ...


class ImageModel(nn.Module):
    """The fields that every model has.

    Attributes:
      num_classes: number of logits.
      in_channels: channels of the pictures.
      drop_rate: dropout, before the head unless the family's paper puts it elsewhere.
      remat: recompute blocks in the backward pass, for less memory and about a third more time.
      dtype: of the computation. Parameters, the pooled features and the head are float32.
      compiler_options: options of XLA by platform, for the compilation of a training step.
      explained_by: what heat maps are computed from: the gradient to the last map before pooling
        (Grad-CAM), or the attention of every block (attention rollout).
    """

    compiler_options: ClassVar[dict[str, dict[str, str]]] = {}
    explained_by: ClassVar[Literal["gradient", "attention"]] = "gradient"

    num_classes: int
    in_channels: int = 3
    drop_rate: float = 0.0
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    def check_input(self, x: jax.Array, smallest: int = 1) -> jax.Array:
        """Pictures `[B, H, W, C]` in the dtype of the computation.

        Raises:
          ConfigError: another number of channels, or a side of less than `smallest` pixels.
        """
        if x.shape[-1] != self.in_channels:
            raise ConfigError(
                f"{type(self).__name__}: the pictures have {x.shape[-1]} channels, the model "
                f"takes {self.in_channels}: set model.in_channels or data.channels"
            )
        if min(x.shape[1:-1]) < smallest:
            size = "x".join(map(str, x.shape[1:-1]))
            raise ConfigError(
                f"{type(self).__name__}: pictures of {size} pixels are too small: every side "
                f"must have {smallest} or more"
            )
        return x.astype(self.dtype)

    def block(self, module: type[nn.Module]) -> type[nn.Module]:
        """A block that is called as `(x, train)`, recomputed in the backward pass by `remat`."""
        return nn.remat(module, static_argnums=(2,)) if self.remat else module

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """Dropout, then logits `[B, num_classes]` of features `[B, D]`: the layer `head`."""
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)

    def classify_map(self, x: jax.Array, train: bool, features: bool) -> jax.Array:
        """Float32 logits of the mean over a map `[B, H, W, D]`, or with `features` that mean."""
        x = jnp.mean(tap(self, x).astype(jnp.float32), axis=(1, 2))
        return x if features else self.classify(x, train)

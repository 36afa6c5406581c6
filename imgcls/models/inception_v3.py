"""Inception V3: Szegedy et al. 2015, arXiv:1512.00567, table 1, with the modules of figures 5 to 7.

Channels and module names are those of the published weights.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.core.errors import ConfigError
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import ConvNormAct
from imgcls.models.layers.pooling import avg_pool, max_pool
from imgcls.models.registry import register_model

# A convolution of a branch is (name, channels, kernel) or (name, channels, kernel, (stride,
# padding)); the default is stride 1 and the padding that keeps the size.
_HALVE = (2, 0)


def factor5(pool: int) -> dict:
    """Branches of figure 5; the pooling branch has `pool` channels."""
    return {
        "1x1": [("branch1x1", 64, 1)],
        "5x5": [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        "3x3": [
            ("branch3x3dbl_1", 64, 1),
            ("branch3x3dbl_2", 96, 3),
            ("branch3x3dbl_3", 96, 3),
        ],
        "pool": [("branch_pool", pool, 1)],
    }


def factor7(width: int) -> dict:
    """Branches of figure 6: n x 1 and 1 x n convolutions with n = 7 and `width` channels inside."""
    return {
        "1x1": [("branch1x1", 192, 1)],
        "7x7": [
            ("branch7x7_1", width, 1),
            ("branch7x7_2", width, (1, 7)),
            ("branch7x7_3", 192, (7, 1)),
        ],
        "7x7dbl": [
            ("branch7x7dbl_1", width, 1),
            ("branch7x7dbl_2", width, (7, 1)),
            ("branch7x7dbl_3", width, (1, 7)),
            ("branch7x7dbl_4", width, (7, 1)),
            ("branch7x7dbl_5", 192, (1, 7)),
        ],
        "pool": [("branch_pool", 192, 1)],
    }


# Branches of figure 7: two of them end with two parallel convolutions.
_WIDE = {
    "1x1": [("branch1x1", 320, 1)],
    "3x3": [
        ("branch3x3_1", 384, 1),
        [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))],
    ],
    "3x3dbl": [
        ("branch3x3dbl_1", 448, 1),
        ("branch3x3dbl_2", 384, 3),
        [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
    ],
    "pool": [("branch_pool", 192, 1)],
}

MODULES = {
    "Mixed_5b": factor5(32),
    "Mixed_5c": factor5(64),
    "Mixed_5d": factor5(64),
    # Section 5: modules that halve the resolution; their pooling branch has no convolution.
    "Mixed_6a": {
        "3x3": [("branch3x3", 384, 3, _HALVE)],
        "3x3dbl": [
            ("branch3x3dbl_1", 64, 1),
            ("branch3x3dbl_2", 96, 3),
            ("branch3x3dbl_3", 96, 3, _HALVE),
        ],
        "halve": [],
    },
    "Mixed_6b": factor7(128),
    "Mixed_6c": factor7(160),
    "Mixed_6d": factor7(160),
    "Mixed_6e": factor7(192),
    "Mixed_7a": {
        "3x3": [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, _HALVE)],
        "7x7x3": [
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3, _HALVE),
        ],
        "halve": [],
    },
    "Mixed_7b": _WIDE,
    "Mixed_7c": _WIDE,
}


class Inception(nn.Module):
    """Parallel branches, concatenated.

    Attributes:
      module: key of `MODULES`.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    module: str
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H, W, C']`, or half the resolution."""
        unit = _unit(self.virtual_batch_size, self.dtype)

        def apply(y: jax.Array, name, channels, kernel, shape=(1, None)) -> jax.Array:
            return unit(channels, kernel, *shape, name=name)(y, train)

        outputs = []
        for branch, layers in MODULES[self.module].items():
            y = x
            if branch == "pool":
                y = avg_pool(x, 3, 1, padding=1)
            elif branch == "halve":
                y = max_pool(x, 3, 2)
            for layer in layers:
                if isinstance(layer, list):
                    y = jnp.concatenate([apply(y, *part) for part in layer], axis=-1)
                else:
                    y = apply(y, *layer)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)


class Auxiliary(nn.Module):
    """The auxiliary classifier (section 4), with BatchNorm.

    Attributes:
      num_classes: number of logits.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    num_classes: int
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, 768]` -> float32 logits `[B, num_classes]`."""
        unit = _unit(self.virtual_batch_size, self.dtype)
        x = unit(128, 1, name="conv0")(avg_pool(x, 5, 3), train)
        x = unit(768, 5, 1, 0, name="conv1")(x, train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        init = nn.initializers.normal(0.001)
        return nn.Dense(self.num_classes, kernel_init=init, name="fc")(x)


@register_model(
    "inception_v3",
    input_size=299,
    top1=77.29,
    source="torchvision, IMAGENET1K_V1 (from the TF port)",
)
class InceptionV3(ImageModel, kw_only=True):
    """Inception V3.

    Attributes:
      aux: whether to have an auxiliary classifier on the last 17x17 map; it runs only in training,
        and needs images of at least 299 pixels.
      virtual_batch_size: see `BatchNorm`.
    """

    aux: bool = True
    virtual_batch_size: int | None = None
    drop_rate: float = 0.2

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]`, of 75 pixels or more -> logits `[B, num_classes]`, or features
        `[B, 2048]`; float32."""
        auxiliary = self.aux and not features and (train or self.is_initializing())
        x = self.check_input(x, smallest=75)
        if auxiliary and min(x.shape[1:3]) < 299:
            raise ConfigError(
                f"InceptionV3: the auxiliary classifier needs images of 299 pixels or more, not "
                f"{x.shape[1]}x{x.shape[2]}: set model.aux=False"
            )
        unit = _unit(self.virtual_batch_size, self.dtype)
        x = unit(32, 3, 2, 0, name="Conv2d_1a_3x3")(x, train)
        x = unit(32, 3, 1, 0, name="Conv2d_2a_3x3")(x, train)
        x = unit(64, 3, name="Conv2d_2b_3x3")(x, train)
        x = max_pool(x, 3, 2)
        x = unit(80, 1, name="Conv2d_3b_1x1")(x, train)
        x = unit(192, 3, 1, 0, name="Conv2d_4a_3x3")(x, train)
        x = max_pool(x, 3, 2)
        for name in MODULES:
            x = self.block(Inception)(name, self.virtual_batch_size, self.dtype, name=name)(
                x, train
            )
            if name == "Mixed_6e" and auxiliary:
                head = Auxiliary(
                    self.num_classes, self.virtual_batch_size, self.dtype, name="AuxLogits"
                )
                self.sow("intermediates", "aux_logits", head(x, train))
        return self.classify_map(x, train, features)


def _unit(virtual_batch_size: int | None, dtype: jnp.dtype):
    return functools.partial(
        ConvNormAct, virtual_batch_size=virtual_batch_size, epsilon=1e-3, dtype=dtype
    )

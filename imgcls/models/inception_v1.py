"""Inception V1, GoogLeNet: Szegedy et al. 2014, arXiv:1409.4842, table 1 and section 5.

As in torchvision, whose weights can be loaded: BatchNorm after every convolution (the paper has
local response normalization), and 3x3 instead of 5x5 convolutions.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import ConvNormAct, conv
from imgcls.models.layers.pooling import adaptive_avg_pool, max_pool
from imgcls.models.registry import register_model

# Channels per module: 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class Inception(nn.Module):
    """Four parallel branches (figure 2b).

    Attributes:
      channels: a row of `MODULES`.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    channels: tuple[int, ...]
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H, W, C']`."""
        unit = _unit(self.virtual_batch_size, self.dtype)
        one, reduce3, three, reduce5, five, project = self.channels
        pooled = max_pool(x, 3, 1, padding=1)
        branches = [
            unit(one, 1, name="branch1")(x, train),
            unit(three, 3, name="branch2_1")(unit(reduce3, 1, name="branch2_0")(x, train), train),
            unit(five, 3, name="branch3_1")(unit(reduce5, 1, name="branch3_0")(x, train), train),
            unit(project, 1, name="branch4_1")(pooled, train),
        ]
        return jnp.concatenate(branches, axis=-1)


class Auxiliary(nn.Module):
    """An auxiliary classifier on an intermediate map (section 5).

    Attributes:
      num_classes: number of logits.
      virtual_batch_size: see `BatchNorm`.
      drop_rate: dropout before the last layer.
      dtype: of the computation.
    """

    num_classes: int
    virtual_batch_size: int | None
    drop_rate: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> float32 logits `[B, num_classes]`."""
        x = adaptive_avg_pool(x, 4)
        x = _unit(self.virtual_batch_size, self.dtype)(128, 1, name="conv")(x, train)
        x = conv(1024, 4, padding=0, use_bias=True, dtype=self.dtype, name="fc1")(x)
        x = nn.relu(x)[:, 0, 0].astype(jnp.float32)
        x = nn.Dropout(self.drop_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="fc2")(x)


@register_model("inception_v1", top1=69.78, source="torchvision, IMAGENET1K_V1")
class InceptionV1(ImageModel, kw_only=True):
    """GoogLeNet.

    Attributes:
      aux: whether to have auxiliary classifiers after modules 4a and 4d; they run only in training.
      aux_drop_rate: dropout rate of the auxiliary classifiers.
      virtual_batch_size: see `BatchNorm`.
    """

    aux: bool = True
    aux_drop_rate: float = 0.7
    virtual_batch_size: int | None = None
    drop_rate: float = 0.4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]`, of 15 pixels or more -> logits `[B, num_classes]`, or features
        `[B, 1024]`; float32."""
        x = self.check_input(x, smallest=15)
        unit = _unit(self.virtual_batch_size, self.dtype)
        x = unit(64, 7, 2, name="conv1")(x, train)
        x = max_pool(x, 3, 2, ceil=True)
        x = unit(64, 1, name="conv2")(x, train)
        x = unit(192, 3, name="conv3")(x, train)
        x = max_pool(x, 3, 2, ceil=True)
        for name, channels in MODULES.items():
            if name == "4a":
                x = max_pool(x, 3, 2, ceil=True)
            elif name == "5a":
                x = max_pool(x, 2, 2, ceil=True)
            x = self.block(Inception)(
                channels, self.virtual_batch_size, self.dtype, name=f"inception{name}"
            )(x, train)
            if name in ("4a", "4d") and not features:
                self._auxiliary(x, "aux1" if name == "4a" else "aux2", train)
        return self.classify_map(x, train, features)

    def _auxiliary(self, x: jax.Array, name: str, train: bool) -> None:
        if self.aux and (train or self.is_initializing()):
            options = (self.num_classes, self.virtual_batch_size, self.aux_drop_rate, self.dtype)
            self.sow("intermediates", "aux_logits", Auxiliary(*options, name=name)(x, train))


def _unit(virtual_batch_size: int | None, dtype: jnp.dtype):
    return functools.partial(
        ConvNormAct, virtual_batch_size=virtual_batch_size, epsilon=1e-3, dtype=dtype
    )

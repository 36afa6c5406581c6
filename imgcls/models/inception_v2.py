"""Inception V2, BN-Inception: Ioffe & Szegedy 2015, arXiv:1502.03167, figure 5 (appendix).

As in the published Caffe weights, convolutions have biases before BatchNorm, and module 4c projects
to 128 channels instead of the 96 of the figure: 11,295,240 parameters.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import ConvNormAct
from imgcls.models.layers.pooling import avg_pool, max_pool
from imgcls.models.registry import register_model

# Channels per module: 1x1 (0: no such branch, and the module halves the resolution); 3x3 reduce,
# 3x3; double 3x3 reduce, double 3x3; pool projection (0: no projection).
MODULES = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


class Inception(nn.Module):
    """Parallel branches: 1x1, 3x3, double 3x3, and pooling.

    Attributes:
      channels: a row of `MODULES`.
      max_pooling: whether the pooling branch takes the maximum instead of the mean.
      virtual_batch_size: see `BatchNorm`.
      dtype: of the computation.
    """

    channels: tuple[int, ...]
    max_pooling: bool
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, H, W, C]` -> `[B, H, W, C']`, or half the resolution."""
        unit = _unit(self.virtual_batch_size, self.dtype)
        one, reduce3, three, reduce_double, double, project = self.channels
        stride = 1 if one else 2
        branches = [unit(one, 1, name="conv1x1")(x, train)] if one else []
        y = unit(reduce3, 1, name="conv3x3_reduce")(x, train)
        branches.append(unit(three, 3, stride, name="conv3x3")(y, train))
        y = unit(reduce_double, 1, name="double_3x3_reduce")(x, train)
        y = unit(double, 3, name="double_3x3_1")(y, train)
        branches.append(unit(double, 3, stride, name="double_3x3_2")(y, train))
        if stride == 2:
            # Half the size, rounded up as in the convolutions; an odd side needs padding.
            pads = [(size % 2, 1) for size in x.shape[1:3]]
            pooled = nn.max_pool(x, (3, 3), strides=(2, 2), padding=pads)  # pyright: ignore[reportArgumentType] (flax declares str alone)
        else:
            pooled = (max_pool if self.max_pooling else avg_pool)(x, 3, 1, padding=1)
        branches.append(unit(project, 1, name="pool_proj")(pooled, train) if project else pooled)
        return jnp.concatenate(branches, axis=-1)


@register_model("inception_v2", top1=73.52, source="Cadene, pretrained-models.pytorch (Caffe)")
class InceptionV2(ImageModel, kw_only=True):
    """BN-Inception.

    Attributes:
      virtual_batch_size: see `BatchNorm`.
    """

    virtual_batch_size: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, H, W, C]`, of 32 pixels or more -> logits `[B, num_classes]`, or features
        `[B, 1024]`; float32."""
        x = self.check_input(x, smallest=32)
        unit = _unit(self.virtual_batch_size, self.dtype)
        x = max_pool(unit(64, 7, 2, name="conv1_7x7_s2")(x, train), 3, 2, ceil=True)
        x = unit(64, 1, name="conv2_3x3_reduce")(x, train)
        x = max_pool(unit(192, 3, name="conv2_3x3")(x, train), 3, 2, ceil=True)
        for name, channels in MODULES.items():
            x = self.block(Inception)(
                channels,
                name == "5b",
                self.virtual_batch_size,
                self.dtype,
                name=f"inception_{name}",
            )(x, train)
        return self.classify_map(x, train, features)


def _unit(virtual_batch_size: int | None, dtype: jnp.dtype):
    return functools.partial(
        ConvNormAct, use_bias=True, virtual_batch_size=virtual_batch_size, dtype=dtype
    )

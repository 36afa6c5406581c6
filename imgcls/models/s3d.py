"""S3D (Xie et al. 2017, arXiv:1712.04851, section 4.2): Inception V1 of clips, in which each
convolution is one over space and one over time.

The layout is that of torchvision (`models/video/s3d.py`), without the gates of S3D-G.
"""

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import ConvNormAct
from imgcls.models.layers.pooling import max_pool
from imgcls.models.registry import register_model

EPSILON = 1e-3
# Channels of each block: branch 0, then inside and after branches 1 and 2, then branch 3; None:
# max-pooling.
BLOCKS = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


class SeparableConv(nn.Module):
    """A convolution over space and one over time, each with BatchNorm and ReLU.

    Attributes:
      features: output channels of both.
      side: side of the kernels.
      stride: stride along T, H and W.
      virtual_batch_size: see `BatchNorm`.
      dtype: dtype of the computation.
    """

    features: int
    side: int
    stride: int
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> `[B, T', H', W', features]`."""
        for name, axes in (("space", (0, 1, 1)), ("time", (1, 0, 0))):
            x = ConvNormAct(
                self.features,
                tuple(self.side if used else 1 for used in axes),
                tuple(self.stride if used else 1 for used in axes),
                axes=3,
                virtual_batch_size=self.virtual_batch_size,
                epsilon=EPSILON,
                dtype=self.dtype,
                name=name,
            )(x, train)
        return x


class SeparableInception(nn.Module):
    """An Inception block with separable convolutions; its branches are concatenated.

    Attributes:
      channels: see `BLOCKS`.
      virtual_batch_size: see `BatchNorm`.
      dtype: dtype of the computation.
    """

    channels: tuple[int, ...]
    virtual_batch_size: int | None
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, T, H, W, C]` -> the same with other channels."""
        first, inside1, after1, inside2, after2, last = self.channels
        shared = dict(virtual_batch_size=self.virtual_batch_size, dtype=self.dtype)
        point = functools.partial(ConvNormAct, axes=3, epsilon=EPSILON, **shared)
        separable = functools.partial(SeparableConv, side=3, stride=1, **shared)
        branches = [point(first, name="branch0")(x, train)]
        for index, (inside, after) in enumerate(((inside1, after1), (inside2, after2)), start=1):
            branch = point(inside, name=f"branch{index}_1")(x, train)
            branches.append(separable(after, name=f"branch{index}_2")(branch, train))
        pooled = max_pool(x, 3, 1, padding=1)
        branches.append(point(last, name="branch3")(pooled, train))
        return jnp.concatenate(branches, axis=-1)


@register_model("s3d", input_frames=64, source="Xie et al. 2017; torchvision", drop_rate=0.2)
class S3D(ImageModel, kw_only=True):
    """S3D.

    Attributes:
      width: channels of the stem, to which those of all layers are in proportion.
      virtual_batch_size: see `BatchNorm`.
    """

    spatial_axes: ClassVar[int] = 3

    width: int = 64
    virtual_batch_size: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, T, H, W, C]` -> logits `[B, num_classes]`, or features `[B, 16 * width]`; float32.

        Raises:
          ConfigError: fewer than 5 frames, or of less than 17 pixels.
        """
        x = self.check_input(x, (5, 17, 17))
        shared = dict(virtual_batch_size=self.virtual_batch_size, dtype=self.dtype)
        separable = functools.partial(SeparableConv, **shared)
        point = functools.partial(ConvNormAct, axes=3, epsilon=EPSILON, **shared)
        pool = functools.partial(max_pool, side=(1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        x = pool(separable(self.width, 7, 2, name="conv1")(x, train))
        x = point(self.width, name="conv2")(x, train)
        x = pool(separable(3 * self.width, 3, 1, name="conv3")(x, train))
        poolings = iter(((3, 2, 1), (2, 2, 0)))
        number = 0
        for channels in BLOCKS:
            if channels is None:
                side, stride, padding = next(poolings)
                x = max_pool(x, side, stride, padding=padding)
                continue
            number += 1
            scaled = tuple(max(1, count * self.width // 64) for count in channels)
            block = self.block(SeparableInception)
            x = block(scaled, self.virtual_batch_size, self.dtype, name=f"block{number}")(x, train)
        return self.classify_map(x, train, features, (2, 7, 7))

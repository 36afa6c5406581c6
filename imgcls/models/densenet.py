"""DenseNet: Huang et al. 2016, arXiv:1608.06993, table 1 (the DenseNet-B and -C of section 3), for
images and for volumes `[B, D, H, W, C]`.

The layout is that of torchvision, and over three axes that of MONAI's `DenseNet121`.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from imgcls.models.layers.acs import OverVolumes
from imgcls.models.layers.base import ImageModel
from imgcls.models.layers.conv import conv
from imgcls.models.layers.norm import BatchNorm
from imgcls.models.layers.stem import apply_stem
from imgcls.models.registry import register_model

# Channels between the two convolutions of a layer, as a multiple of the growth rate.
_BOTTLENECK = 4


class DenseLayer(nn.Module):
    """Appends new channels: BatchNorm, ReLU and a 1x1 convolution, then the same with 3x3.

    Attributes:
      growth: number of new channels.
      drop_rate: dropout rate of the new channels.
      convolution, norm: create a convolution and a norm.
    """

    growth: int
    drop_rate: float
    convolution: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, ..., C]` -> `[B, ..., C + growth]`."""
        new = nn.relu(self.norm(name="bn1")(x, train=train))
        new = self.convolution(_BOTTLENECK * self.growth, 1, name="conv1")(new)
        new = nn.relu(self.norm(name="bn2")(new, train=train))
        new = self.convolution(self.growth, 3, name="conv2")(new)
        new = nn.Dropout(self.drop_rate, deterministic=not train)(new)
        return jnp.concatenate([x, new], axis=-1)


class Transition(nn.Module):
    """BatchNorm, ReLU and a 1x1 convolution to half of the channels, then average pooling by 2.

    Attributes:
      convolution, norm: create a convolution and a norm.
    """

    convolution: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x `[B, ..., C]` -> `[B, ... / 2, C / 2]`; a side of 1 stays."""
        x = nn.relu(self.norm(name="bn")(x, train=train))
        x = self.convolution(x.shape[-1] // 2, 1, name="conv")(x)
        sides = tuple(min(2, side) for side in x.shape[1:-1])
        return nn.avg_pool(x, sides, strides=sides)


class DenseNet(ImageModel, kw_only=True):
    """DenseNet, with dropout after each 3x3 convolution (section 4.2 of the paper).

    Attributes:
      stage_sizes: layers per dense block; a transition between two blocks halves the resolution
        and the channels.
      growth: growth rate, the channels that each layer adds.
      stem: "imagenet", "deep", "stride2" or "cifar", see `apply_stem`.
      width: channels of the stem.
      virtual_batch_size: see `BatchNorm`.
    """

    stage_sizes: tuple[int, ...]
    growth: int = 32
    stem: str = "imagenet"
    width: int = 64
    virtual_batch_size: int | None = None

    @property
    def convolution(self) -> Callable:
        """Creates a convolution over the axes of the model."""
        return functools.partial(conv, axes=self.spatial_axes, dtype=self.dtype)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, features: bool = False) -> jax.Array:
        """x `[B, ..., C]` -> logits `[B, num_classes]`, or features `[B, D]`; float32.

        Raises:
          ConfigError: unknown stem, or the batch does not divide by `virtual_batch_size`.
        """
        x = self.check_input(x)
        norm = functools.partial(BatchNorm, self.virtual_batch_size, dtype=self.dtype)
        layers = dict(convolution=self.convolution, norm=norm)
        x = apply_stem(self.stem, x, self.width, **layers, train=train, family="DenseNet")
        for stage, size in enumerate(self.stage_sizes, start=1):
            if stage > 1:
                x = self.block(Transition)(**layers, name=f"transition{stage - 1}")(x, train)
            for index in range(1, size + 1):
                layer = self.block(DenseLayer)
                name = f"block{stage}_layer{index}"
                x = layer(self.growth, self.drop_rate, **layers, name=name)(x, train)
        x = nn.relu(norm(name="bn")(x, train=train))
        return self.classify_map(x, train, features)

    def classify(self, x: jax.Array, train: bool) -> jax.Array:
        """The layer `head`: features `[B, D]` -> logits `[B, num_classes]`."""
        return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01), name="head")(x)


class DenseNet3D(OverVolumes, DenseNet, kw_only=True):
    """DenseNet over three axes; the attributes are those of `DenseNet` and `OverVolumes`."""


_TORCHVISION = "torchvision, IMAGENET1K_V1"
_DEPTHS = {
    121: dict(stage_sizes=(6, 12, 24, 16)),
    161: dict(stage_sizes=(6, 12, 36, 24), growth=48, width=96),
    169: dict(stage_sizes=(6, 12, 32, 32)),
    201: dict(stage_sizes=(6, 12, 48, 32)),
}
for _depth, _top1 in ((121, 74.43), (161, 77.14), (169, 75.60), (201, 76.90)):
    register_model(f"densenet{_depth}", top1=_top1, source=_TORCHVISION, **_DEPTHS[_depth])(
        DenseNet
    )
register_model(
    "densenet3d_121", input_size=64, source="Huang et al. 2016, over three axes", **_DEPTHS[121]
)(DenseNet3D)
